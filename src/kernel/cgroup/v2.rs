//! Parts that only version 2 needs.

use super::OWN_SCOPE;
use super::dir::Dir;
use crate::error::{Errno, Error, Kind, Result};
use crate::plan::cgroup::{CgroupPlan, HierarchyPlan, Version};
use crate::sys::{self, file};
use std::os::fd::AsRawFd;

/// Enables the controllers of `h` in every ancestor, so far as that is possible, and all that a limit needs. When
/// they are enabled already this reads one file.
pub(super) fn enable(d: &Dir, h: &HierarchyPlan) -> Result<()> {
    if h.enable.is_empty() || d.path.len() <= h.mount_point.len() {
        return Ok(());
    }
    let have = controllers(d)?;
    let missing: Vec<&str> =
        h.enable.iter().map(String::as_str).filter(|c| !have.iter().any(|h| h == c)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut failures: Vec<(&str, Dir, Errno)> = Vec::new();
    let ends = d.path.match_indices('/').map(|(i, _)| i).filter(|i| *i >= h.mount_point.len());
    for end in ends {
        let above = Dir::new(Version::V2, Vec::new(), d.path[..end].to_owned());
        let wanted: Vec<String> = missing.iter().map(|c| format!("+{c}")).collect();
        if above.write("cgroup.subtree_control", &wanted.join(" ")).is_ok() {
            continue;
        }
        // One of them spoils it for all; those that can be enabled shall be.
        for c in &missing {
            if let Err(e) = above.write("cgroup.subtree_control", &format!("+{c}")) {
                failures.push((c, Dir::new(Version::V2, Vec::new(), above.path.clone()), e));
            }
        }
    }
    let required = h.required();
    if required.is_empty() || failures.is_empty() {
        return Ok(());
    }
    let have = controllers(d)?;
    match required.iter().find(|(c, _)| !have.iter().any(|h| h == c)) {
        None => Ok(()),
        Some((c, property)) => Err(not_enabled(c, property, &failures)),
    }
}

fn controllers(d: &Dir) -> Result<Vec<String>> {
    let text = d.value("cgroup.controllers").map_err(|e| d.error("reading", "cgroup.controllers", e))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn not_enabled(controller: &str, property: &str, failures: &[(&str, Dir, Errno)]) -> Error {
    // The first that lacks it for its children is where it ends; writing to those above was useless, and not needed.
    let lacks = |d: &Dir| {
        d.value("cgroup.subtree_control").is_ok_and(|have| !have.split(' ').any(|c| c == controller))
    };
    let mut own = failures.iter().filter(|(c, ..)| *c == controller);
    let last = failures.iter().rfind(|(c, ..)| *c == controller);
    let Some((_, above, errno)) = own.find(|(_, d, _)| lacks(d)).or(last) else {
        let what = format!("controller {controller:?} is not available in the container's cgroup");
        return Error::new(Kind::Unsupported, what).property(property.to_owned());
    };
    let e = Error::sys(
        format!("enabling controller {controller:?} in {:?}", above.file("cgroup.subtree_control")),
        *errno,
    )
    .kind_is(Kind::Unsupported)
    .property(property.to_owned());
    match errno.0 {
        libc::EBUSY | libc::EOPNOTSUPP => e.hint(format!(
            "{:?} has processes of its own (cgroups(7), no internal processes): move them to a cgroup below it, or \
             set linux.cgroupsPath to another place",
            above.path
        )),
        libc::EACCES | libc::EPERM | libc::EROFS => {
            e.hint(format!(
                "the {controller} controller is not delegated to this user; systemd does that with \
                 \"Delegate=cpu cpuset io memory pids\" under [Service] in \
                 /etc/systemd/system/user@.service.d/delegate.conf"
            ))
        }
        libc::ENOENT => e.hint(format!("the cgroup above {:?} does not have the controller", above.path)),
        _ => e,
    }
}

/// Whether `cgroup.freeze` of the cgroup itself is set. A kernel before 5.2 has no freezer.
pub(super) fn is_frozen(d: &Dir) -> Result<bool> {
    match d.value("cgroup.freeze") {
        Ok(v) => Ok(v == "1"),
        Err(Errno(libc::ENOENT | libc::ENODEV)) => Ok(false),
        Err(e) => Err(d.error("reading", "cgroup.freeze", e)),
    }
}

/// Makes `uid` the owner of the cgroup and of the files that the kernel lists for that, so far as they exist
/// (config-linux.md, "Cgroup ownership").
pub(super) fn delegate(d: &Dir, uid: u32) -> Result<()> {
    let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
    let list = list.unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads".to_owned());
    let chown = |path: String| -> Result<()> {
        let c = super::dir::c_string(path.clone()).map_err(|e| Error::sys("making a path", e))?;
        match file::lchownat(d.fd.as_ref().map_or(sys::CWD, AsRawFd::as_raw_fd), &c, uid, u32::MAX) {
            Err(Errno(libc::ENOENT)) => Ok(()),
            r => r.map_err(|e| {
                Error::sys(format!("making user {uid} the owner of {path:?}"), e)
                    .property("process.user of config.json")
            }),
        }
    };
    chown(d.path.clone())?;
    list.lines().map(str::trim).filter(|l| !l.is_empty() && !l.contains('/')).try_for_each(|l| {
        // A version 2 handle has a descriptor only in the process that made it.
        chown(if d.fd.is_some() { l.to_owned() } else { d.file(l) })
    })
}

/// See [`super::Cgroup::after_failed_join`].
pub(super) fn after_failed_join(d: &Dir, plan: &CgroupPlan, errno: Errno) -> Result<()> {
    let kind = d.value("cgroup.type").unwrap_or_default();
    let failed = || Error::sys(format!("starting a process in cgroup {:?}", d.path), errno);
    match (errno.0, kind.as_str()) {
        (libc::EOPNOTSUPP, "domain invalid") => {
            let h = plan.hierarchies.iter().find(|h| h.dir == d.path);
            // Of the controllers only these work on threads (cgroups(7)).
            let threaded = ["cpu", "cpuset", "perf_event", "pids"];
            let domain = h.and_then(|h| h.required().into_iter().find(|(c, _)| !threaded.contains(c)));
            if let Some((c, property)) = domain {
                let what = format!("cannot enter cgroupv2 {:?} with domain controllers -- it is in an invalid state", d.path);
                return Err(Error::new(Kind::State, what)
                    .property(property.to_owned())
                    .hint(format!("a cgroup above it is threaded, so that {c} cannot be limited; set linux.cgroupsPath")));
            }
            d.write("cgroup.type", "threaded").map_err(|e| d.error("writing \"threaded\" to", "cgroup.type", e))
        }
        (libc::EBUSY, _) => Err(failed().hint("its children have controllers, so that it may have no processes of its own")),
        (libc::EACCES, _) => Err(failed().hint(format!(
            "moving a process requires write access to cgroup.procs of the cgroup above both the old and the new one; \
             start orun in the cgroups of this user, for example with {OWN_SCOPE}"
        ))),
        (libc::EAGAIN, _) => Err(failed().hint("pids.max of the cgroup or of one above it is reached")),
        _ => Err(failed()),
    }
}
