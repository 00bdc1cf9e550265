//! A container as a verb meets it: its record, and its status at this moment.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Runtime;
use crate::error::{Error, Kind, Result};
use crate::kernel::cgroup::Cgroup;
use crate::kernel::hooks;
use crate::plan::hooks as hook_state;
use crate::state::id::ContainerId;
use crate::state::lifecycle::{self, Observed, Operation, Phase, Status};
use crate::state::model::{Hierarchy, ProcessId, Record};
use crate::state::store::ContainerDir;
use crate::sys::wait;

/// How long a verb waits for another one that works on the same container.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(10);

/// An existing container.
#[derive(Debug)]
pub struct Container {
    pub entry: ContainerDir,
    pub record: Record,
    /// As it was when the container was opened.
    pub status: Status,
}

impl Container {
    /// Opens the container `id` to look at it.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a bad id, [`Kind::NotFound`] for one that does not exist.
    pub fn open(runtime: &Runtime, id: &str) -> Result<Container> {
        let entry = runtime.store.open(&ContainerId::new(id)?)?;
        let record = entry.record()?;
        let status = status(&record)?;
        Ok(Container { entry, record, status })
    }

    /// As [`Container::open`], with a descriptor of the first process where that exists and has not exited. It is opened
    /// before the process is found to be the recorded one, so that it can be no other.
    ///
    /// # Errors
    /// As of [`Container::open`].
    pub fn open_with_init(runtime: &Runtime, id: &str) -> Result<(Container, Option<OwnedFd>)> {
        let entry = runtime.store.open(&ContainerId::new(id)?)?;
        let record = entry.record()?;
        let pidfd = record.init.and_then(|init| wait::pidfd_open(init.pid).ok());
        let status = status(&record)?;
        let pidfd = pidfd.filter(|_| matches!(status, Status::Created | Status::Running | Status::Paused));
        Ok((Container { entry, record, status }, pidfd))
    }

    /// Opens the container `id` to change it: no other verb that changes it runs until this is dropped.
    ///
    /// # Errors
    /// As [`Container::open`], and [`Kind::Timeout`] when another verb does not finish.
    pub fn open_locked(runtime: &Runtime, id: &str) -> Result<Container> {
        let mut entry = runtime.store.open(&ContainerId::new(id)?)?;
        entry.lock(LOCK_WAIT)?;
        let record = entry.record()?;
        let status = status(&record)?;
        Ok(Container { entry, record, status })
    }

    /// Whether `operation` may be done to a container of this status.
    ///
    /// # Errors
    /// [`Kind::State`].
    pub fn check(&self, operation: Operation) -> Result<()> {
        lifecycle::check(operation, self.status, self.entry.id())
    }

    /// The container's cgroups; none when it stays in those of its creator.
    ///
    /// # Errors
    /// When the record names what cannot be a cgroup.
    pub fn cgroup(&self) -> Result<Cgroup> {
        cgroup_of(&self.record)
    }

    /// The container's first process.
    ///
    /// # Errors
    /// [`Kind::State`], `container not running`, when the record names none.
    pub fn init(&self) -> Result<ProcessId> {
        self.record.init.ok_or_else(|| {
            let id = self.entry.id();
            Error::new(Kind::State, format!("container not running: {id} has no process yet"))
        })
    }
}

/// The status that follows from `record`, /proc and the cgroup.
///
/// # Errors
/// When /proc or the cgroup cannot be read.
pub fn status(record: &Record) -> Result<Status> {
    let init_alive = record.init.map(ProcessId::is_alive).transpose()?;
    let creator_alive = record.phase == Phase::Creating && record.creator.is_alive()?;
    let frozen = record.phase != Phase::Creating && init_alive == Some(true) && is_frozen(record)?;
    Ok(lifecycle::status(record.phase, Observed { init_alive, creator_alive, frozen }))
}

/// Asks the one cgroup that freezes; see [`Cgroup::is_frozen`].
fn is_frozen(record: &Record) -> Result<bool> {
    let all = &record.cgroup.hierarchies;
    let freezer = all.iter().find(|h| h.controllers.iter().any(|c| c == "freezer"));
    match freezer.or_else(|| all.iter().find(|h| h.controllers.is_empty())) {
        Some(h) => Cgroup::of_hierarchies(std::iter::once(parts(h)), None)?.is_frozen(),
        None => Ok(false),
    }
}

/// The cgroups that the record names. No system call is made.
///
/// # Errors
/// When the record names what cannot be a cgroup.
pub fn cgroup_of(record: &Record) -> Result<Cgroup> {
    Cgroup::of_hierarchies(record.cgroup.hierarchies.iter().map(parts), record.cgroup.unit.as_deref())
}

fn parts(h: &Hierarchy) -> (&[String], String) {
    // Mostly it is text, and that is the quicker way.
    let dir = h.dir.to_str().map_or_else(|| h.dir.to_string_lossy().into_owned(), str::to_owned);
    (&h.controllers, dir)
}

/// An id for a container that was not given one: the bundle's name, and what makes it unique.
pub fn made_up_id(bundle: &std::path::Path) -> String {
    let name = std::path::absolute(bundle)
        .ok()
        .and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()));
    let plain: String = name
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_+-.".contains(*c))
        .take(40)
        .collect();
    let plain = plain.trim_start_matches('.');
    let name = if plain.is_empty() { "orun" } else { plain };
    format!("{name}-{}-{:x}", std::process::id(), crate::sys::time::monotonic_ms())
}

/// The state document for hooks of a recorded container.
pub(super) fn hook_document(record: &Record, status: &str, pid: i32) -> Vec<u8> {
    let parts = hook_state::state_document(&record.annotations, &record.id, &record.bundle, status);
    hooks::document(&parts, pid)
}
