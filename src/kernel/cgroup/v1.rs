//! What is particular to version 1.

use super::dir::Dir;
use crate::error::{Errno, Error, Result};
use crate::plan::cgroup::HierarchyPlan;

/// A cpuset takes no process before it has CPUs and memory nodes, and a new one has none: copies those of the
/// parent, which may have to get them from its own parent first (cpuset(7)).
pub(super) fn inherit_cpuset(d: &Dir, h: &HierarchyPlan) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if h.before_join.iter().any(|w| w.file == file) {
            continue;
        }
        if !d.fresh && !is_empty(d, file)? {
            continue;
        }
        let value = cpuset(parent(d), file, &h.mount_point)?;
        set(d, file, &value)?;
    }
    Ok(())
}

fn parent(d: &Dir) -> Dir {
    let end = d.path.rfind('/').unwrap_or(0);
    Dir::new(d.version, d.controllers.clone(), d.path[..end].to_owned())
}

fn is_empty(d: &Dir, file: &str) -> Result<bool> {
    let text = d.read(file).map_err(|e| d.error("reading", file, e))?;
    Ok(text.trim().is_empty())
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
fn cpuset(d: Dir, file: &str, mount_point: &str) -> Result<String> {
    let text = d.read(file).map_err(|e| d.error("reading", file, e))?;
    let value = text.trim();
    if !value.is_empty() || d.path.len() <= mount_point.len() {
        return Ok(value.to_owned());
    }
    let value = cpuset(parent(&d), file, mount_point)?;
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
