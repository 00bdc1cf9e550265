//! Writes limits, and explains why the kernel refused one.

use super::dir::Dir;
use crate::error::{Errno, Error, Kind, Result};
use crate::plan::cgroup::{MemoryCheck, Version, Write};
use crate::sys::{SysResult, fd};
use std::os::fd::{AsRawFd, OwnedFd};

/// The file that was written last: consecutive values for one file need it opened once.
type Last<'a> = Option<(&'a str, OwnedFd)>;

/// Writes everything in order. A value that does not fit to those that are still to come is written again at the end,
/// as long as that gets any further.
pub(super) fn write_all(d: &Dir, writes: &[Write]) -> Result<()> {
    let mut again: Vec<(&Write, Errno)> = Vec::new();
    let mut last: Last = None;
    for w in writes {
        match write_value(d, w, &mut last) {
            Ok(()) => {}
            Err(e @ Errno(libc::EINVAL)) if w.retry => again.push((w, e)),
            Err(e) => return Err(explain(d, w, e)),
        }
    }
    loop {
        let before = again.len();
        let mut left = Vec::new();
        for (w, _) in again {
            if let Err(e) = write_value(d, w, &mut last) {
                left.push((w, e));
            }
        }
        match left.first() {
            None => return Ok(()),
            Some((w, e)) if left.len() == before => return Err(explain(d, w, *e)),
            Some(_) => again = left,
        }
    }
}

fn write_value<'a>(d: &Dir, w: &'a Write, last: &mut Last<'a>) -> SysResult<()> {
    let mut file = w.file.as_ref();
    let mut value = &w.value;
    let mut result = put(d, file, value, last);
    if let (Err(Errno(libc::ENOENT)), Some((other, text))) = (result, &w.instead) {
        (file, value) = (other.as_ref(), text);
        result = put(d, file, value, last);
    }
    match result {
        Err(Errno(libc::ENOENT)) if w.optional => Ok(()),
        Err(Errno(libc::EPERM | libc::EACCES | libc::EROFS)) if w.best_effort => Ok(()),
        r => r,
    }
}

fn put<'a>(d: &Dir, file: &'a str, value: &str, last: &mut Last<'a>) -> SysResult<()> {
    if last.as_ref().is_none_or(|(have, _)| *have != file) {
        *last = None;
        *last = Some((file, d.open(file, libc::O_WRONLY)?));
    }
    let fd = last.as_ref().map_or(-1, |(_, fd)| fd.as_raw_fd());
    fd::write_all(fd, value.as_bytes())
}

fn explain(d: &Dir, w: &Write, errno: Errno) -> Error {
    let property = w.property.clone();
    if w.file == "memory.limit_in_bytes" && errno.0 == libc::EBUSY {
        let number = |file| d.value(file).unwrap_or_else(|_| "unknown".to_owned());
        let (usage, peak) = (number("memory.usage_in_bytes"), number("memory.max_usage_in_bytes"));
        let what =
            format!("unable to set memory limit to {} (current usage: {usage}, peak usage: {peak})", w.value);
        return Error::sys(what, errno).property(property);
    }
    let e = d.error(&format!("writing {:?} to", w.value), &w.file, errno).property(property);
    match hint(d, w, errno) {
        Some(h) => e.hint(h),
        None => e,
    }
}

fn hint(d: &Dir, w: &Write, errno: Errno) -> Option<String> {
    let controller = w.file.split('.').next().unwrap_or_default();
    Some(match errno.0 {
        libc::ENOENT if w.file.contains("swap") || w.file.contains("memsw") => {
            "the kernel does not count swap (swapaccount=1 on its command line)".to_owned()
        }
        libc::ENOENT if w.file.contains("weight") => {
            "no I/O scheduler with weights is in use (BFQ, or iocost for io.weight)".to_owned()
        }
        libc::ENOENT => match (d.version, d.value("cgroup.controllers")) {
            (Version::V2, Ok(have)) if !have.split(' ').any(|c| c == controller) => {
                format!("controller {controller:?} is not enabled in the container's cgroup (it has: {have})")
            }
            _ => "this kernel has no such file".to_owned(),
        },
        libc::EPERM if w.file.starts_with("devices.") => {
            "the parent cgroup does not allow this device, so its children cannot either".to_owned()
        }
        libc::EACCES | libc::EPERM | libc::EROFS => "the file is not delegated to this user".to_owned(),
        libc::ENODEV if matches!(controller, "io" | "blkio") => {
            "there is no such block device, or it is a partition".to_owned()
        }
        libc::EINVAL if w.file == "memory.use_hierarchy" => {
            "since Linux 5.11 accounting is always hierarchical".to_owned()
        }
        libc::EINVAL if controller == "cpuset" => {
            "a cpuset must be a subset of that of the parent cgroup".to_owned()
        }
        libc::EINVAL if w.file.contains("cfs") || w.file.contains("cpu.max") => {
            "the bandwidth must not exceed that of the parent cgroup, nor the burst the quota".to_owned()
        }
        libc::EINVAL if matches!(w.file.as_ref(), "cpu.weight" | "cpu.shares") => {
            "an idle cgroup (cpu.idle) has no weight".to_owned()
        }
        _ => return None,
    })
}

/// `memory.checkBeforeUpdate`: refuses a limit that is not above the usage. What cannot be read is not checked.
pub(super) fn check_memory(d: &Dir, check: &MemoryCheck) -> Result<()> {
    let Ok(usage) = d.number("memory.current") else { return Ok(()) };
    for (what, limit) in [("memory+swap", check.swap), ("memory", check.limit)] {
        if let Some(limit) = limit.filter(|l| *l <= usage) {
            let text = format!("rejecting {what} limit {limit} <= usage {usage}");
            return Err(Error::new(Kind::State, text).property("linux.resources.memory.checkBeforeUpdate"));
        }
    }
    Ok(())
}
