//! The control groups of a container: makes them, fills them in, watches them, empties them, removes them.

mod bpf;
mod dir;
mod events;
mod freeze;
mod kill;
mod make;
mod probe;
mod remove;
mod stats;
pub mod systemd;
mod unit;
mod v1;
mod v2;
mod write;

pub use events::{OomEvent, OomWatch};
pub use probe::probe;
pub use stats::{Stats, Usage};

use crate::error::{Errno, Error, Kind, Result};
use crate::plan::cgroup::{CgroupPlan, Update, Version};
use crate::sys::fd;
use dir::Dir;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

/// The cgroups of one container, one for each hierarchy that it is in; none when it stays in those of its creator.
#[derive(Debug)]
pub struct Cgroup {
    dirs: Vec<Dir>,
    /// Hierarchies that a missing permission keeps the container out of.
    pub left_out: Vec<String>,
    /// The unit of systemd that the cgroups are of.
    unit: Option<unit::Handle>,
}

/// How an ordinary user gets a cgroup of its own from systemd.
pub const OWN_SCOPE: &str = "\"systemd-run --user --scope -p Delegate=yes orun ...\"";

/// The sub-cgroups that `exec --cgroup` names: controller to path below the container's cgroup. The empty name
/// stands for every hierarchy.
pub type SubCgroups = BTreeMap<String, String>;

/// Descriptors for a new process to enter the cgroups by itself.
#[derive(Debug, Default)]
pub struct JoinFds {
    /// The version 2 cgroup, for `CLONE_INTO_CGROUP` (clone3(2), Linux 5.7).
    pub into: Option<OwnedFd>,
    /// `cgroup.procs` of each version 1 cgroup, where the process writes `0`.
    pub procs: Vec<OwnedFd>,
}

impl Drop for JoinFds {
    fn drop(&mut self) {
        // They were opened one after the other, so that one call closes them all.
        let procs = std::mem::take(&mut self.procs);
        let (Some(first), Some(last)) = (procs.first(), procs.last()) else { return };
        let (first, last) = (first.as_raw_fd(), last.as_raw_fd());
        let adjacent = procs.iter().zip(first..).all(|(fd, n)| fd.as_raw_fd() == n);
        if adjacent && fd::close_range(first as u32, last as u32).is_ok() {
            for fd in procs {
                let _ = fd.into_raw_fd();
            }
        }
    }
}

fn open_procs(d: &Dir) -> Result<OwnedFd> {
    d.open("cgroup.procs", libc::O_WRONLY).map_err(|e| cannot_join(d, e))
}

/// A path of a container's record must be absolute and must not lead up.
fn check_recorded(path: &str) -> Result<()> {
    let dots = path.as_bytes().windows(2).any(|pair| pair == b"..");
    if !path.starts_with('/') || (dots && path.split('/').any(|p| p == "..")) {
        let what = format!("{path:?} in the container's record is not a valid cgroup path");
        return Err(Error::new(Kind::Config, what));
    }
    Ok(())
}

/// The words are those that callers of runc look for.
fn cannot_join(d: &Dir, e: Errno) -> Error {
    Error::sys(format!("adding pid of the new process to cgroup {:?}", d.path), e)
}

impl Cgroup {
    /// Makes the directories of `plan` and what a process needs there before it can join. Nothing is left behind
    /// after an error.
    ///
    /// # Errors
    /// The cgroup has processes or is frozen; a controller that a limit needs cannot be enabled; a system call.
    pub fn create(plan: &CgroupPlan) -> Result<Cgroup> {
        match &plan.unit {
            Some(unit) => Ok(unit::planned(plan, unit)),
            None => make::create(plan),
        }
    }

    /// The cgroups of a container's record, as [`Cgroup::paths`] gave them. Makes no system call.
    ///
    /// # Errors
    /// A path that is not absolute or has `..` in it.
    pub fn open(paths: &BTreeMap<String, String>, unit: Option<&str>) -> Result<Cgroup> {
        let mut dirs: Vec<Dir> = Vec::new();
        for (controller, path) in paths {
            check_recorded(path)?;
            if controller.is_empty() {
                dirs.push(Dir::new(Version::V2, Vec::new(), path.clone()));
            } else if let Some(d) = dirs.iter_mut().find(|d| d.path == *path && d.version == Version::V1) {
                d.controllers.push(controller.clone());
            } else {
                dirs.push(Dir::new(Version::V1, vec![controller.clone()], path.clone()));
            }
        }
        Ok(Cgroup { dirs, left_out: Vec::new(), unit: unit.map(unit::Handle::of_record) })
    }

    /// As [`Cgroup::open`], from the controllers (version 2: none) and the directory of each hierarchy.
    ///
    /// # Errors
    /// As of [`Cgroup::open`].
    pub fn of_hierarchies<'a>(
        hierarchies: impl Iterator<Item = (&'a [String], String)>,
        unit: Option<&str>,
    ) -> Result<Cgroup> {
        let mut dirs = Vec::with_capacity(hierarchies.size_hint().0);
        for (controllers, path) in hierarchies {
            check_recorded(&path)?;
            let version = if controllers.is_empty() { Version::V2 } else { Version::V1 };
            dirs.push(Dir::new(version, controllers.to_vec(), path));
        }
        Ok(Cgroup { dirs, left_out: Vec::new(), unit: unit.map(unit::Handle::of_record) })
    }

    /// Controller (or `name=...`) to directory; the version 2 hierarchy is the empty name.
    pub fn paths(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for d in &self.dirs {
            if d.version == Version::V2 {
                out.insert(String::new(), d.path.clone());
            }
            out.extend(d.controllers.iter().map(|c| (c.clone(), d.path.clone())));
        }
        out
    }

    /// Whether the container has a cgroup of its own on record. One of its directories may still be gone.
    pub fn is_some(&self) -> bool {
        !self.dirs.is_empty()
    }

    /// Writes the limits, the device rules and the owner of `plan`.
    ///
    /// # Errors
    /// A value that the kernel refuses, with file, value and property.
    pub fn apply(&self, plan: &CgroupPlan) -> Result<()> {
        if let (Some(check), Some(d)) = (&plan.memory_check, self.v2()) {
            write::check_memory(d, check)?;
        }
        for h in &plan.hierarchies {
            if let Some(d) = self.dirs.iter().find(|d| d.path == h.dir) {
                write::write_all(d, &h.writes)?;
            }
        }
        let Some(d) = self.v2() else { return Ok(()) };
        if let Some(filter) = &plan.device_filter {
            bpf::apply(d, filter)?;
        }
        plan.owner.map_or(Ok(()), |uid| v2::delegate(d, uid))
    }

    /// Writes new limits.
    ///
    /// # Errors
    /// As [`Cgroup::apply`]; also when the container has no cgroup for a limit.
    pub fn update(&self, update: &Update) -> Result<()> {
        if let (Some(check), Some(d)) = (&update.memory_check, self.v2()) {
            write::check_memory(d, check)?;
        }
        if let Some(unit) = &self.unit {
            unit.set(&update.properties)?;
        }
        for (controller, writes) in &update.writes {
            match self.dir(controller) {
                Some(d) => write::write_all(d, writes)?,
                None => {
                    let name = if controller.is_empty() { "any" } else { controller };
                    let what = format!("cannot set {name} limit: container could not join or create cgroup");
                    return Err(Error::new(Kind::State, what).property(writes[0].property.clone()));
                }
            }
        }
        Ok(())
    }

    /// The version 2 cgroup, for `CLONE_INTO_CGROUP` (clone3(2), Linux 5.7); there is one on version 2 and on hybrid
    /// hosts. Only after [`Cgroup::create`].
    pub fn dir_fd_v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2().and_then(|d| d.fd.as_ref()).map(AsFd::as_fd)
    }

    /// `cgroup.procs` of every version 1 cgroup, opened for writing: the first process of the container writes `0`
    /// to each. The version 2 cgroup is entered by [`Cgroup::dir_fd_v2`].
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn procs_fds(&self) -> Result<JoinFds> {
        if self.unit.is_some() {
            // The parent has the process moved.
            return Ok(JoinFds::default());
        }
        let v1 = self.dirs.iter().filter(|d| d.version == Version::V1);
        Ok(JoinFds { into: None, procs: v1.map(open_procs).collect::<Result<_>>()? })
    }

    /// The descriptors for a further process of the container, as a child of it or in the sub-cgroups `sub`. On
    /// version 2 the cgroup of process `init` is taken when the container's own is gone, because a container may
    /// move its processes.
    ///
    /// # Errors
    /// A sub-cgroup that is not below the container's, that is missing, or of an unknown controller.
    pub fn join(&self, sub: &SubCgroups, init: Option<i32>) -> Result<JoinFds> {
        let mut fds = JoinFds::default();
        for d in self.targets(sub)? {
            if d.version == Version::V1 {
                fds.procs.push(open_procs(&d)?);
                continue;
            }
            let fd = d.open_self().or_else(|e| match init {
                Some(pid) if sub.is_empty() => self.of_process(pid).map_err(|_| e),
                _ => Err(e),
            });
            fds.into = Some(fd.map_err(|e| cannot_join(&d, e))?);
        }
        Ok(fds)
    }

    /// The directory of the version 2 cgroup that process `pid` is in, to join it there: the kernel answers EBUSY
    /// for a cgroup whose children have controllers, such as that of a container that runs systemd.
    ///
    /// # Errors
    /// The process is gone, or its cgroup is not below the mount that the container's own is below.
    pub fn of_process(&self, pid: i32) -> Result<OwnedFd, Errno> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let path = probe::own_path(&text, "").ok_or(Errno(libc::ENOENT))?;
        let own = self.v2().ok_or(Errno(libc::ENOENT))?;
        let mount = if own.path.starts_with("/sys/fs/cgroup/unified/") {
            "/sys/fs/cgroup/unified"
        } else {
            "/sys/fs/cgroup"
        };
        Dir::new(Version::V2, Vec::new(), format!("{mount}{path}")).open_self()
    }

    /// Moves process `pid` into every cgroup, or into the sub-cgroups `sub`.
    ///
    /// # Errors
    /// As [`Cgroup::join`]; the process is gone.
    pub fn attach(&self, pid: i32, sub: &SubCgroups) -> Result<()> {
        self.targets(sub)?.iter().try_for_each(|d| d.attach(pid))
    }

    /// Why a process could not be cloned into the version 2 cgroup, and whether to try again: a cgroup below
    /// processes is made threaded as long as no limit forbids that.
    ///
    /// # Errors
    /// The explanation, when another try would fail too.
    pub fn after_failed_join(&self, plan: &CgroupPlan, errno: Errno) -> Result<()> {
        match self.v2() {
            Some(d) => v2::after_failed_join(d, plan, errno),
            None => Err(Error::sys("starting the container's first process", errno)),
        }
    }

    /// Where a process goes: this cgroup or the ones below it that `sub` names.
    fn targets(&self, sub: &SubCgroups) -> Result<Vec<Dir>> {
        let known = |c: &String| c.is_empty() || self.dir(c).is_some();
        if let Some(c) = sub.keys().find(|c| !known(c)) {
            return Err(Error::new(Kind::Usage, format!("unknown controller {c} in --cgroup")));
        }
        let mut out = Vec::new();
        for d in &self.dirs {
            let own = d.controllers.iter().find_map(|c| sub.get(c)).or_else(|| sub.get(""));
            let mut path = d.path.clone();
            for part in own.into_iter().flat_map(|p| p.split('/')).filter(|p| !p.is_empty() && *p != ".") {
                if part == ".." {
                    let what = format!("bad sub cgroup path: {}", own.map_or("", |p| p));
                    return Err(
                        Error::new(Kind::Usage, what).hint("the path is below the container's cgroup")
                    );
                }
                path.push('/');
                path.push_str(part);
            }
            out.push(Dir::new(d.version, d.controllers.clone(), path));
        }
        Ok(out)
    }

    /// The cgroup of a controller; the empty name is version 2.
    fn dir(&self, controller: &str) -> Option<&Dir> {
        if controller.is_empty() {
            return self.v2();
        }
        self.dirs.iter().find(|d| d.has(controller))
    }

    fn v2(&self) -> Option<&Dir> {
        self.dirs.iter().find(|d| d.version == Version::V2)
    }

    /// Whether version 2 does everything.
    fn is_pure_v2(&self) -> bool {
        self.dirs.iter().all(|d| d.version == Version::V2)
    }

    /// Without the hierarchies of version 1 that are not needed while the container runs: the rest shows processes
    /// and of lack of memory, freezes and kills. For callers with many of them.
    #[must_use]
    pub fn essential(mut self) -> Cgroup {
        let asked = |d: &Dir| {
            d.version == Version::V2 || ["devices", "freezer", "memory"].iter().any(|name| d.has(name))
        };
        if self.dirs.iter().any(asked) {
            self.dirs.retain(asked);
            self.dirs.shrink_to_fit();
        }
        self.left_out = Vec::new();
        self
    }

    /// The cgroup that is asked about processes.
    fn main(&self) -> Option<&Dir> {
        let names = ["devices", "pids", "freezer", "memory"];
        names.iter().find_map(|n| self.dir(n)).or(self.dirs.first())
    }

    /// Whether a cgroup of the container exists.
    pub fn exists(&self) -> bool {
        self.main().is_some_and(|d| std::path::Path::new(&d.path).is_dir())
    }

    /// The processes of the container, without those of cgroups below its own. None when the cgroup is gone.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.list(Dir::pids)
    }

    /// The processes of the container, with those of cgroups below its own. None when the cgroup is gone.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn pids_recursive(&self) -> Result<Vec<i32>> {
        self.list(Dir::pids_recursive)
    }

    fn list(&self, list: impl Fn(&Dir) -> Result<Vec<i32>, Errno>) -> Result<Vec<i32>> {
        let Some(d) = self.main() else { return Ok(Vec::new()) };
        match list(d) {
            Err(Errno(libc::ENOENT | libc::ENODEV)) => Ok(Vec::new()),
            r => r.map_err(|e| d.error("reading", "cgroup.procs", e)),
        }
    }
}
