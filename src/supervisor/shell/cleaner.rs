//! A separate process that stops the replicas of `orund run` after it was killed.

use super::{cgroups, names, pods, settings};
use crate::error::{Error, Result};
use crate::log;
use crate::network::{self, Network};
use crate::runtime::delete;
use crate::sys::{prctl, signalfd};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The file below `run` with the name of the bridge, for the cleaner.
pub const BRIDGE: &str = "bridge";

/// The purpose of the bridge called `bridge`.
pub fn bridge_of_run(bridge: String) -> network::NetworkSettings {
    let owner = format!("orund run {bridge}");
    network::NetworkSettings { bridge, owner, ..network::NetworkSettings::default() }
}

/// The process, as `orund run` sees it. It ends, without doing anything, when this is dropped after everything was removed.
pub struct Cleaner(Child);

impl Cleaner {
    /// Starts it: for the containers recorded in `run` whose cgroups are below `cgroup_parent`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(run: &Path, cgroup_parent: &str) -> Result<Cleaner> {
        // In a process group of its own the signals of a terminal do not reach it, and it keeps no reader waiting.
        let mut command = Command::new(super::program());
        command.arg("cleaner").arg(run).arg(cgroup_parent).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| Error::sys("starting the process that cleans up", e))?;
        Ok(Cleaner(child))
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It cannot fail: it is a child and was not waited for.
        let _ = self.0.wait();
    }
}

/// Waits for the end of standard input, which `orund run` has the other end of, and ends what is left then.
///
/// # Errors
/// Signals cannot be taken over.
pub fn run(run: &Path, cgroup_parent: &str) -> Result<()> {
    let _ = prctl::set_name(c"orund-cleaner");
    let _signals = signalfd::take_all().map_err(|e| Error::sys("taking over signals", e))?;
    // Whatever ends it is the end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    if !run.exists() {
        return Ok(());
    }
    let rt = settings::runtime(settings::containers(run), cgroup_parent);
    for id in rt.store.ids().unwrap_or_default() {
        if let Err(e) = delete::delete(&rt, id.as_str(), true) {
            log::warn(e);
        }
    }
    let all = cgroups::containers(cgroup_parent);
    for path in all.iter().filter(|p| names::key_of(p.rsplit('/').next().unwrap_or_default()).is_some()) {
        if let Err(e) = cgroups::end(cgroup_parent, path) {
            log::warn(e);
        }
    }
    for pod in all.iter().filter(|p| !p.contains('/')) {
        if let Err(e) = pods::end_init(cgroup_parent, pod) {
            log::warn(e);
        }
        // Others stay: they are not empty.
        let _ = cgroups::remove(cgroup_parent, pod);
    }
    cgroups::remove_parents(cgroup_parent);
    if let Ok(bridge) = std::fs::read_to_string(run.join(BRIDGE))
        && let Err(e) = Network::open(bridge_of_run(bridge)).and_then(|network| network.end())
    {
        log::warn(e);
    }
    std::fs::remove_dir_all(run).map_err(|e| Error::sys(format!("removing {run:?}"), e))
}
