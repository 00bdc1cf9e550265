//! Makes the directories of a container.

use super::dir::{Dir, mkdir, rmdir};
use super::{Cgroup, OWN_SCOPE, v1, v2, write};
use crate::error::{Errno, Error, Kind, Result};
use crate::plan::cgroup::{CgroupPlan, HierarchyPlan, Version};

/// The property that names the cgroup.
const PATH: &str = "linux.cgroupsPath of config.json";

/// Directories to remove again unless everything goes well, the last one first.
#[derive(Default)]
pub(super) struct CreatedDirs(pub(super) Vec<String>);

impl Drop for CreatedDirs {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // Another container may have moved into a parent meanwhile.
            let _ = rmdir(path);
        }
    }
}

pub(super) fn create(plan: &CgroupPlan) -> Result<Cgroup> {
    let mut made = CreatedDirs::default();
    let mut cgroup =
        Cgroup { dirs: Vec::with_capacity(plan.hierarchies.len()), left_out: Vec::new(), unit: None };
    for h in &plan.hierarchies {
        let before = made.0.len();
        match make_directory(h, &mut made) {
            Ok(d) => cgroup.dirs.push(d),
            // A controller that is missing in a cgroup of the user's own is another matter.
            Err(e) if h.may_stay && is_permission(&e) && e.kind() != Kind::Unsupported => {
                stay_in_parent(h, e)?;
                drop(CreatedDirs(made.0.split_off(before)));
                cgroup.left_out.push(h.dir.clone());
            }
            // In the words that callers of runc look for.
            Err(e) if is_permission(&e) => return Err(e.context("unable to apply cgroup configuration")),
            Err(e) => return Err(e),
        }
    }
    made.0.clear();
    Ok(cgroup)
}

fn is_permission(e: &Error) -> bool {
    matches!(e.errno(), Some(Errno(libc::EACCES | libc::EPERM | libc::EROFS)))
}

/// A container without permission stays where it is, unless something is to be written.
fn stay_in_parent(h: &HierarchyPlan, e: Error) -> Result<()> {
    let Some(w) = h.before_join.iter().chain(&h.writes).find(|w| !w.best_effort) else { return Ok(()) };
    let what = match h.version {
        Version::V1 => {
            format!("cannot set {} limit: container could not join or create cgroup", h.controllers.join(","))
        }
        Version::V2 => {
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups".to_owned()
        }
    };
    Err(e
        .property(w.property.clone())
        .context(what)
        .hint(format!("start orun in a cgroup that is delegated to this user, for example with {OWN_SCOPE}, or leave linux.resources out")))
}

/// Makes one directory and readies it for a process.
fn make_directory(h: &HierarchyPlan, made: &mut CreatedDirs) -> Result<Dir> {
    let mut d = Dir::new(h.version, h.controllers.clone(), h.dir.clone());
    d.fresh = make(&h.mount_point, &h.dir, made)?;
    if h.version == Version::V2 {
        d.fd = Some(d.open_self().map_err(|e| Error::sys(format!("opening {:?}", d.path), e))?);
    }
    if !d.fresh {
        refuse_occupied(&d)?;
    }
    ready(&d, h)?;
    Ok(d)
}

/// Readies a directory for a process.
pub(super) fn ready(d: &Dir, h: &HierarchyPlan) -> Result<()> {
    match h.version {
        Version::V1 if d.has("cpuset") => v1::cpuset(d, h),
        Version::V1 => write::write_all(d, &h.before_join),
        Version::V2 => v2::enable(d, h),
    }
}

/// Makes the directory of a hierarchy that systemd has not made; the directories that are new are noted in `made`.
pub(super) fn beside_systemd(h: &HierarchyPlan, made: &mut CreatedDirs) -> Result<()> {
    make(&h.mount_point, &h.dir, made).map(drop)
}

/// Makes `path` and what is missing above it. Returns whether `path` is new.
fn make(mount_point: &str, path: &str, made: &mut CreatedDirs) -> Result<bool> {
    let mut missing = vec![path];
    while let Some(p) = missing.last() {
        match mkdir(p) {
            Ok(()) => made.0.push((*p).to_owned()),
            Err(Errno(libc::EEXIST)) if missing.len() == 1 => return Ok(false),
            // Created by another process meanwhile.
            Err(Errno(libc::EEXIST)) => {}
            Err(Errno(libc::ENOENT)) => match p.rfind('/') {
                Some(i) if i > mount_point.len() && missing.len() < 4096 => {
                    missing.push(&p[..i]);
                    continue;
                }
                _ => return Err(failed(mount_point, Errno(libc::ENOENT))),
            },
            Err(e) => return Err(failed(p, e)),
        }
        missing.pop();
    }
    Ok(true)
}

fn failed(path: &str, errno: Errno) -> Error {
    let e = Error::sys(format!("making cgroup {path:?}"), errno).property(PATH);
    match errno.0 {
        libc::EACCES | libc::EPERM => e.hint(format!(
            "the cgroup above it is not delegated to this user; start orun in one that is, for example with {OWN_SCOPE}, \
             and leave linux.cgroupsPath out"
        )),
        libc::EROFS => e.hint("the cgroup file system is mounted read-only"),
        libc::EAGAIN => {
            e.hint("a cgroup above it has reached its cgroup.max.depth or cgroup.max.descendants")
        }
        libc::ENOENT => e.hint("the hierarchy is not mounted there"),
        _ => e,
    }
}

/// A cgroup that existed before must have no processes and must not be frozen.
fn refuse_occupied(d: &Dir) -> Result<()> {
    let pids = d.pids_recursive().map_err(|e| d.error("reading", "cgroup.procs", e))?;
    if !pids.is_empty() {
        let what = format!("container's cgroup is not empty: {} process(es) found", pids.len());
        let hint = format!("{:?} belongs to another container or was left by one", d.path);
        return Err(Error::new(Kind::State, what).property(PATH).hint(hint));
    }
    refuse_frozen(d)
}

/// A frozen cgroup stops processes that join it. A missing cgroup is not frozen.
pub(super) fn refuse_frozen(d: &Dir) -> Result<()> {
    let frozen = match d.version {
        Version::V1 if !d.has("freezer") => Ok(false),
        Version::V1 => v1::is_frozen(d),
        Version::V2 => v2::is_frozen(d),
    };
    match frozen {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::new(Kind::State, "container's cgroup unexpectedly frozen")
            .property(PATH)
            .hint(format!("thaw {:?}, or choose another cgroupsPath", d.path))),
        Err(e) if matches!(e.errno(), Some(Errno(libc::ENOENT | libc::ENODEV))) => Ok(()),
        Err(e) => Err(e),
    }
}
