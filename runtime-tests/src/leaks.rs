//! The snapshot before a case, and what may exist after it.

use crate::check::{Done, fail};
use crate::command::poll;
use crate::{cgroup, proc};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long remains of a container may take to vanish: the kernel frees namespaces and cgroups asynchronously.
const SETTLE: Duration = Duration::from_secs(5);

/// What can be left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    mounts: Vec<proc::Mount>,
    files: BTreeSet<PathBuf>,
    hostname: String,
}

/// Where names of network namespaces and of temporary files of runtimes appear.
const WATCHED: [&str; 4] = ["/run", "/run/netns", "/var/run/netns", "/dev/shm"];

/// CRIU's cache of the kernel's features, which survives its call.
const CACHE_OF_CRIU: &str = "/run/criu.kdat";

impl Snapshot {
    /// The current state.
    pub fn take() -> Snapshot {
        let files = WATCHED.iter().flat_map(|dir| list(Path::new(dir))).collect();
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut mounts = proc::mounts("self");
        // CRIU, called by another case, takes the options of this one off for a moment. A case of its own looks at them.
        mounts.iter_mut().filter(|m| m.fstype == "cgroup2").for_each(|m| m.super_options.clear());
        Snapshot { mounts, files, hostname }
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|p| p != Path::new(CACHE_OF_CRIU)).collect()
}

/// Whose traces are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Traces<'a> {
    /// The runtime's `--root`.
    pub root: &'a Path,
    /// What every container id and cgroup of the case has in its name.
    pub marker: &'a str,
    /// Processes that the case itself has started and still needs.
    pub own: &'a [i32],
}

/// Demands that nothing is left but what `before` shows. Remains get a moment to vanish.
pub fn check(before: &Snapshot, traces: Traces<'_>) -> Done {
    let left = || {
        let found = find(before, traces);
        found.is_empty().then_some(())
    };
    if poll("nothing to be left", SETTLE, left).is_ok() {
        return Ok(());
    }
    fail(format!("left behind: {}", find(before, traces).join("; ")))
}

fn find(before: &Snapshot, traces: Traces<'_>) -> Vec<String> {
    let mut left = Vec::new();
    let me = std::process::id() as i32;
    for p in proc::descendants(me) {
        if !traces.own.contains(&p.pid) {
            left.push(format!("process {} ({}, {})", p.pid, p.name, p.state));
        }
    }
    for dir in cgroup::dirs_with(traces.marker) {
        left.push(format!("cgroup {}", dir.display()));
    }
    let now = Snapshot::take();
    for m in &now.mounts {
        if !before.mounts.contains(m) {
            left.push(format!("mount of {} on {} ({:?})", m.fstype, m.target, m.propagation));
        }
    }
    for m in &before.mounts {
        if !now.mounts.iter().any(|n| n.id == m.id) {
            left.push(format!("the mount on {} is gone", m.target));
        }
    }
    for file in now.files.difference(&before.files) {
        left.push(format!("file {}", file.display()));
    }
    for entry in list(traces.root) {
        if entry.to_string_lossy().contains(traces.marker) {
            left.push(format!("state {}", entry.display()));
        }
    }
    if now.hostname != before.hostname {
        left.push(format!("host name {:?}", now.hostname.trim()));
    }
    left
}
