//! Parts that only version 1 needs.

use super::dir::Dir;
use super::write;
use crate::error::{Errno, Error, Result};
use crate::plan::cgroup::{HierarchyPlan, Write};

/// A cpuset takes no process before it has CPUs and memory nodes, and a new one has none: writes what the
/// configuration says, or what the parent has. Either way the parent must have some, which it may have to get from
/// its own parent first (cpuset(7)).
pub(super) fn cpuset(d: &Dir, h: &HierarchyPlan) -> Result<()> {
    let (own, others): (Vec<Write>, Vec<Write>) =
        h.before_join.iter().cloned().partition(|w| FILES.contains(&w.file.as_ref()));
    for file in FILES {
        let asked = own.iter().find(|w| w.file == file);
        if let Some(w) = asked {
            let one = std::slice::from_ref(w);
            match write::write_all(d, one) {
                // So the kernel says that the parent is empty.
                Err(e) if e.errno() == Some(Errno(libc::EACCES)) => {
                    inherit(parent(d), file, &h.mount_point)?;
                    write::write_all(d, one)?;
                }
                r => r?,
            }
        } else if d.fresh || is_empty(d, file)? {
            let value = inherit(parent(d), file, &h.mount_point)?;
            set(d, file, &value)?;
        }
    }
    write::write_all(d, &others)
}

const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

fn parent(d: &Dir) -> Dir {
    let end = d.path.rfind('/').unwrap_or(0);
    Dir::new(d.version, d.controllers.clone(), d.path[..end].to_owned())
}

fn is_empty(d: &Dir, file: &str) -> Result<bool> {
    Ok(d.value(file).map_err(|e| d.error("reading", file, e))?.is_empty())
}

fn set(d: &Dir, file: &str, value: &str) -> Result<()> {
    d.write(file, value).map_err(|e| {
        let e = d.error(&format!("writing {value:?} to"), file, e);
        if e.errno() == Some(Errno(libc::EINVAL)) {
            e.hint("another cgroup may have cpuset.cpu_exclusive")
        } else {
            e
        }
    })
}

/// The value of an ancestor, which gets it from the one above if it has none.
fn inherit(d: Dir, file: &str, mount_point: &str) -> Result<String> {
    let value = d.value(file).map_err(|e| d.error("reading", file, e))?;
    if !value.is_empty() || d.path.len() <= mount_point.len() {
        return Ok(value);
    }
    let value = inherit(parent(&d), file, mount_point)?;
    set(&d, file, &value)?;
    Ok(value)
}

/// The state of a freezer cgroup (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freezer {
    Thawed,
    Freezing,
    Frozen,
}

pub(super) fn freezer(d: &Dir) -> Result<Freezer> {
    let text = d.value("freezer.state").map_err(|e| d.error("reading", "freezer.state", e))?;
    match text.as_str() {
        "THAWED" => Ok(Freezer::Thawed),
        "FREEZING" => Ok(Freezer::Freezing),
        "FROZEN" => Ok(Freezer::Frozen),
        other => Err(Error::new(
            crate::error::Kind::System,
            format!("unknown state {other:?} in {:?}", d.file("freezer.state")),
        )),
    }
}

/// Whether the cgroup itself is frozen, and not only one above it.
pub(super) fn is_frozen(d: &Dir) -> Result<bool> {
    if freezer(d)? == Freezer::Thawed {
        return Ok(false);
    }
    let own = d.value("freezer.self_freezing").map_err(|e| d.error("reading", "freezer.self_freezing", e))?;
    Ok(own == "1")
}

/// The numbers of a list such as `0-3,7`.
pub(super) fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// The name of a huge page size in file names, from KiB: `2MB`.
pub(super) fn page_size(kb: u64) -> String {
    match kb {
        n if n >= 1 << 20 => format!("{}GB", n >> 20),
        n if n >= 1 << 10 => format!("{}MB", n >> 10),
        n => format!("{n}KB"),
    }
}
