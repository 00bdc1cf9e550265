//! The cgroups that those of containers are in. With an empty path containers have no cgroups, and stay in that of the supervisor.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::cgroup::{self, Cgroup};
use crate::log;
use crate::plan::cgroup as plan;
use crate::supervisor::core::ids::ReplicaKey;
use crate::sys::file;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for the processes of an unowned cgroup to die.
const DEATH: Duration = Duration::from_secs(5);
/// How often a parent's lock is tried, 20 ms apart: what a killed supervisor was about to make a container of has it for a moment.
const TRIES: u32 = 100;

/// The directory of the cgroup `parent`, an absolute path, in each hierarchy, with the names that the hierarchy has in a
/// container's record.
fn directories(parent: &str) -> Vec<(PathBuf, Vec<String>)> {
    if parent.is_empty() {
        return Vec::new();
    }
    let Ok(facts) = cgroup::probe() else { return Vec::new() };
    let v1 = facts.v1.iter().map(|h| (h.mount_point.as_str(), h.controllers.clone()));
    let v2 = facts.v2.iter().map(|h| (h.mount_point.as_str(), vec![String::new()]));
    let below = parent.trim_start_matches('/');
    v1.chain(v2).map(|(mount, names)| (Path::new(mount).join(below), names)).collect()
}

/// The path of the cgroup `name` in `parent`.
pub fn below(parent: &str, name: &str) -> String {
    if parent.is_empty() { String::new() } else { format!("{parent}/{name}") }
}

/// Removes the cgroup `parent`, an absolute path, and those above it in every hierarchy, as far as they are empty.
pub fn remove_parents(parent: &str) {
    let levels = Path::new(parent).ancestors().filter(|p| p.parent().is_some()).count();
    for (dir, _) in directories(parent) {
        for cgroup in dir.ancestors().take(levels) {
            // One that others use stays, and so do those above it.
            if std::fs::remove_dir(cgroup).is_err() {
                break;
            }
        }
    }
}

/// Makes `parent` this supervisor's own: the lock, or None when another supervisor has it or no cgroup can be made.
pub fn lock_parent(parent: &str) -> Option<File> {
    let (dir, _) = directories(parent).pop()?;
    std::fs::create_dir_all(&dir).ok()?;
    let lock = File::open(&dir).ok()?;
    for _ in 0..TRIES {
        match file::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => return Some(lock),
            Err(Errno(libc::EWOULDBLOCK)) => std::thread::sleep(Duration::from_millis(20)),
            Err(_) => return None,
        }
    }
    None
}

/// Removes the cgroup `name` in `parent`, in which no other is left, from all hierarchies.
///
/// # Errors
/// Something is in it.
pub fn remove(parent: &str, name: &str) -> Result<()> {
    for (dir, _) in directories(parent) {
        let cgroup = dir.join(name);
        match std::fs::remove_dir(&cgroup) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::sys(format!("removing the cgroup {cgroup:?}"), e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The processes of the cgroup `path`, in whichever hierarchy they are.
pub fn processes(path: &str) -> Vec<i32> {
    let lists =
        directories(path).into_iter().map(|(dir, _)| std::fs::read_to_string(dir.join("cgroup.procs")));
    let lists = lists.flatten().map(|text| text.lines().filter_map(|pid| pid.parse().ok()).collect());
    lists.max_by_key(Vec::len).unwrap_or_default()
}

/// Makes the cgroup `path`, for cgroups of containers, with `limits`, a `linux.resources` of the runtime specification.
///
/// # Errors
/// A value that the kernel refuses, with file and property.
pub fn limit(path: &str, limits: &serde_json::Value) -> Result<()> {
    if path.is_empty() {
        log::warn("the limits of a pod are ignored: containers have no cgroups");
        return Ok(());
    }
    let fail = |text: String| Error::new(Kind::Config, format!("the limits of the pod: {text}"));
    let limits = serde_json::from_value(limits.clone()).map_err(|e| fail(e.to_string()))?;
    let facts = cgroup::probe()?;
    let compiled = plan::compile("pod", path, Some(&limits), &facts, &plan::Options::default());
    let mut plan =
        compiled.map_err(|all| fail(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    // Devices are the containers' matter.
    plan.device_filter = None;
    for h in &mut plan.hierarchies {
        h.writes.retain(|w| !w.file.starts_with("devices."));
    }
    Cgroup::create(&plan)?.apply(&plan)
}

/// The names of the cgroups in `parent`, of all hierarchies.
pub fn children(parent: &str) -> BTreeSet<String> {
    let entries =
        directories(parent).into_iter().flat_map(|(dir, _)| std::fs::read_dir(dir).into_iter().flatten());
    let dirs = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    dirs.filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// The replica whose pod has a cgroup of this name.
pub fn replica_of(name: &str) -> Option<ReplicaKey> {
    name.rmatch_indices('.').nth(2).and_then(|(at, _)| name[at + 1..].parse().ok())
}

/// The cgroups of containers in `parent`, also those in the cgroups of pods, as paths below it.
pub fn containers(parent: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in children(parent) {
        if replica_of(&name).is_some() {
            found.extend(children(&below(parent, &name)).iter().map(|below| format!("{name}/{below}")));
        }
        found.insert(name);
    }
    found
}

/// Kills what is in the cgroup `name` in `parent` and removes it; how many processes that were.
///
/// # Errors
/// They cannot be killed, or do not die.
pub fn end(parent: &str, name: &str) -> Result<usize> {
    let mut paths = BTreeMap::new();
    for (dir, names) in directories(parent) {
        let path = dir.join(name).to_string_lossy().into_owned();
        paths.extend(names.into_iter().map(|n| (n, path.clone())));
    }
    let cgroup = Cgroup::open(&paths, None)?;
    let processes = cgroup.pids_recursive()?.len();
    cgroup.kill_all(libc::SIGKILL)?;
    cgroup
        .delete(DEATH)
        .map_err(|e: Error| e.context(format!("killing the processes in cgroup {parent}/{name}")))?;
    Ok(processes)
}
