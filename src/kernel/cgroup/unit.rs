//! The cgroups of a container that are those of a unit of systemd: systemd makes them around the process, and orun fills in
//! what systemd has no property for.

use super::dir::Dir;
use super::make::{self, CreatedDirs};
use super::{Cgroup, SubCgroups, probe, systemd};
use crate::error::{Errno, Error, Kind, Result};
use crate::log;
use crate::plan::cgroup::systemd::{Property, Unit};
use crate::plan::cgroup::{CgroupPlan, Version};
use std::sync::atomic::{AtomicBool, Ordering};

/// A unit.
#[derive(Debug)]
pub(super) struct Handle {
    name: String,
    /// It belongs to this container. Before the start, a unit of this name may belong to another one.
    ours: AtomicBool,
}

impl Handle {
    /// The unit in a container's record.
    pub fn of_record(name: &str) -> Handle {
        Handle { name: name.to_owned(), ours: AtomicBool::new(true) }
    }

    pub fn set(&self, properties: &[Property]) -> Result<()> {
        systemd::set(&self.name, properties)
    }

    /// Ends the unit, whose cgroups are gone. Should systemd not answer, it ends by itself: no process is in it.
    pub fn end(&self) {
        if let Err(e) = systemd::end(&self.name) {
            log::warn(e);
        }
    }
}

/// The cgroups of `plan`, none of which exists yet. Makes no system call.
pub(super) fn planned(plan: &CgroupPlan, unit: &Unit) -> Cgroup {
    let dir =
        |h: &crate::plan::cgroup::HierarchyPlan| Dir::new(h.version, h.controllers.clone(), h.dir.clone());
    // systemd has its own device filter on the cgroup and keeps it; orun's is attached in addition, as on a new one.
    let dirs = plan.hierarchies.iter().map(|h| Dir { fresh: true, ..dir(h) });
    let unit = Handle { name: unit.name.clone(), ours: AtomicBool::new(false) };
    Cgroup { dirs: dirs.collect(), left_out: Vec::new(), unit: Some(unit) }
}

impl Cgroup {
    /// Whether its directories may be those of another container.
    pub(super) fn is_foreign(&self) -> bool {
        self.unit.as_ref().is_some_and(|u| !u.ours.load(Ordering::Relaxed))
    }

    /// Has systemd start the unit of `plan` around the process `pid`, which waits for that, and makes the cgroups that
    /// systemd does not make.
    ///
    /// # Errors
    /// systemd's reason; a unit of that name that has processes; a controller that a limit needs and that cannot be
    /// enabled.
    pub fn start_unit(&self, plan: &CgroupPlan, pid: i32) -> Result<()> {
        let (Some(handle), Some(unit)) = (&self.unit, &plan.unit) else { return Ok(()) };
        // The process would stop on its way in, and be waited for until the deadline.
        self.dirs.iter().try_for_each(make::refuse_frozen)?;
        systemd::start(unit, pid, || self.holders())?;
        handle.ours.store(true, Ordering::Relaxed);
        let mut made = CreatedDirs::default();
        for (h, d) in plan.hierarchies.iter().zip(&self.dirs) {
            make::beside_systemd(h, &mut made)?;
            make::ready(d, h)?;
            if h.version == Version::V1 || !unit.is_scope() {
                d.attach(pid)?;
            }
        }
        // They go with the container.
        made.0.clear();
        self.check_place(pid, &unit.name)
    }

    /// systemd has put the process where the plan says, and not where an annotation or an older unit does.
    fn check_place(&self, pid: i32, unit: &str) -> Result<()> {
        let Some(d) = self.v2() else { return Ok(()) };
        let file = format!("/proc/{pid}/cgroup");
        let text = std::fs::read_to_string(&file).map_err(|e| Error::sys(format!("reading {file:?}"), e))?;
        match probe::own_path(&text, "") {
            Some(path) if !self.is_pure_v2() || d.path.ends_with(path) => Ok(()),
            other => {
                let what = format!(
                    "systemd has put unit `{unit}` into {:?} and not into {:?}",
                    other.unwrap_or_default(),
                    d.path
                );
                Err(Error::new(Kind::System, what).hint("check the annotation org.systemd.property.Slice"))
            }
        }
    }

    /// The number of processes in the cgroups.
    fn holders(&self) -> Result<usize> {
        let mut n = 0;
        for d in &self.dirs {
            match d.pids_recursive() {
                Ok(pids) => n = n.max(pids.len()),
                Err(Errno(libc::ENOENT | libc::ENODEV)) => {}
                Err(e) => return Err(d.error("reading", "cgroup.procs", e)),
            }
        }
        Ok(n)
    }

    /// Moves process `pid` of the caller's into the cgroups, or into the sub-cgroups `sub`: by itself where that is
    /// allowed, by systemd where it is not. A cgroup that may have no processes of its own, as that of a container that
    /// runs systemd, is passed over for the one of process `init`.
    ///
    /// # Errors
    /// As [`Cgroup::attach`]; systemd's reason.
    pub fn attach_by_any(&self, pid: i32, sub: &SubCgroups, init: i32) -> Result<()> {
        let refused = match self.attach(pid, sub) {
            Err(e) if matches!(e.errno(), Some(Errno(libc::EACCES | libc::EPERM | libc::EBUSY))) => e,
            r => return r,
        };
        let (Some(unit), true) = (&self.unit, self.is_pure_v2()) else { return Err(refused) };
        let asked = sub.get("").map_or("", String::as_str).trim_matches('/');
        let inner = self.below(init).filter(|i| asked.is_empty() && !i.is_empty());
        match systemd::attach(&unit.name, asked, pid) {
            Err(e) => match inner {
                Some(i) => systemd::attach(&unit.name, &i, pid),
                None => Err(e),
            },
            done => done,
        }
    }

    /// The cgroup of process `pid` below the container's own.
    fn below(&self, pid: i32) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let unit = format!("/{}/", self.unit.as_ref()?.name);
        probe::own_path(&text, "")?.split_once(&unit).map(|(_, rest)| rest.to_owned())
    }
}
