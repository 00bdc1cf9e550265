//! Removes the cgroups of a container.

use super::Cgroup;
use super::dir::{Dir, rmdir};
use super::freeze::wait_event;
use super::unit::Handle;
use crate::error::{Errno, Error, Kind, Result};
use crate::plan::cgroup::Version;
use std::time::{Duration, Instant};

impl Cgroup {
    /// Removes the cgroups when nothing is in them; whether they are gone. This is the usual end of a container, at
    /// one system call a hierarchy.
    pub fn delete_empty(&self) -> bool {
        if self.is_foreign() {
            return true;
        }
        let gone = |d: &Dir| matches!(rmdir(&d.path), Ok(()) | Err(Errno(libc::ENOENT | libc::ENODEV)));
        let all = self.dirs.iter().all(gone);
        if all {
            self.unit.iter().for_each(Handle::end);
        }
        all
    }

    /// Removes the cgroups and those below them. A process that was killed keeps its cgroup busy until it is dead;
    /// that is waited for, `timeout` in all. Cgroups that are gone already are fine.
    ///
    /// # Errors
    /// [`Kind::Timeout`] with the processes that are still there; a system call. The other hierarchies are cleaned
    /// up all the same.
    pub fn delete(&self, timeout: Duration) -> Result<()> {
        if self.is_foreign() {
            return Ok(());
        }
        let end = Instant::now() + timeout;
        let mut result = Ok(());
        for d in &self.dirs {
            let r = remove(d, end, timeout);
            if result.is_ok() {
                result = r;
            }
        }
        if result.is_ok() {
            self.unit.iter().for_each(Handle::end);
        }
        result
    }
}

fn remove(d: &Dir, end: Instant, timeout: Duration) -> Result<()> {
    let mut pause = Duration::from_micros(500);
    loop {
        match rmdir(&d.path) {
            Ok(()) | Err(Errno(libc::ENOENT | libc::ENODEV)) => return Ok(()),
            Err(Errno(libc::EBUSY)) => {}
            // A read-only mount says so even of what is not there.
            Err(Errno(libc::EROFS)) if !std::path::Path::new(&d.path).exists() => return Ok(()),
            Err(e) => return Err(Error::sys(format!("removing cgroup {:?}", d.path), e)),
        }
        let children = match d.children() {
            Err(Errno(libc::ENOENT | libc::ENODEV)) => return Ok(()),
            r => r.map_err(|e| Error::sys(format!("listing cgroup {:?}", d.path), e))?,
        };
        for name in &children {
            remove(&d.child(name), end, timeout)?;
        }
        if !children.is_empty() {
            continue;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(busy(d, timeout));
        }
        match d.version {
            // A moment more than "empty" is needed at times, so the pause stays.
            Version::V2 if wait_event(d, "populated", 0, left).is_ok() => std::thread::sleep(pause.min(left)),
            _ => std::thread::sleep(pause.min(left)),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn busy(d: &Dir, timeout: Duration) -> Error {
    let name = |pid: &i32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid} ({})", comm.trim())
    };
    let pids = d.pids().unwrap_or_default();
    let mut list: Vec<String> = pids.iter().take(5).map(name).collect();
    if pids.len() > list.len() {
        list.push("...".to_owned());
    }
    let what = format!(
        "cgroup {:?} is still busy after {} ms, with {} process(es): {}",
        d.path,
        timeout.as_millis(),
        pids.len(),
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    );
    Error::new(Kind::Timeout, what).hint("kill them, or look for one in an uninterruptible system call")
}
