//! A container as a verb meets it: its record, and its status at this moment.

use std::time::Duration;

use super::Runtime;
use crate::error::{Error, Kind, Result};
use crate::kernel;
use crate::state::id::ContainerId;
use crate::state::lifecycle::{self, Observed, Operation, Phase, Status};
use crate::state::model::{Cgroup, ProcessId, Record};
use crate::state::store::Entry;

/// How long a verb waits for another one that works on the same container.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// An existing container.
#[derive(Debug)]
pub struct Container {
    pub entry: Entry,
    pub record: Record,
    /// As it was when the container was opened.
    pub status: Status,
}

impl Container {
    /// Opens the container `id` to look at it.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a bad id, [`Kind::NotFound`] for one that is not there.
    pub fn open(runtime: &Runtime, id: &str) -> Result<Container> {
        let entry = runtime.store.open(&ContainerId::new(id)?)?;
        let record = entry.record()?;
        let status = status(&record)?;
        Ok(Container { entry, record, status })
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

/// The status that follows from `record` and from what /proc and the cgroup tell.
///
/// # Errors
/// When /proc or the cgroup cannot be read.
pub fn status(record: &Record) -> Result<Status> {
    let init_alive = record.init.map(ProcessId::is_alive).transpose()?;
    let creator_alive = record.phase == Phase::Creating && record.creator.is_alive()?;
    let frozen = record.phase != Phase::Creating && init_alive == Some(true) && is_frozen(&record.cgroup)?;
    Ok(lifecycle::status(record.phase, Observed { init_alive, creator_alive, frozen }))
}

/// Whether the processes of the cgroup are frozen (cgroups(7)); not, when the kernel has no freezer there.
fn is_frozen(cgroup: &Cgroup) -> Result<bool> {
    let v1 = cgroup.hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == "freezer"));
    let v2 = cgroup.hierarchies.iter().find(|h| h.controllers.is_empty());
    let (file, frozen) = match (v1, v2) {
        (Some(h), _) => (h.dir.join("freezer.state"), "FROZEN"),
        (None, Some(h)) => (h.dir.join("cgroup.events"), "frozen 1"),
        (None, None) => return Ok(false),
    };
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text.lines().any(|l| l == frozen)),
        // The cgroup went away with the container, or there is no freezer (Linux 5.2 brought that of version 2).
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
        Err(e) => Err(Error::sys(format!("reading {file:?}"), e)),
    }
}

/// The kernel's side of a recorded cgroup.
///
/// # Errors
/// The record names a path that is none.
pub fn cgroup_of(record: &Record) -> Result<kernel::cgroup::Cgroup> {
    let mut paths = std::collections::BTreeMap::new();
    for h in &record.cgroup.hierarchies {
        let dir = h.dir.to_string_lossy().into_owned();
        if h.controllers.is_empty() {
            paths.insert(String::new(), dir.clone());
        }
        paths.extend(h.controllers.iter().map(|c| (c.clone(), dir.clone())));
    }
    kernel::cgroup::Cgroup::open(&paths)
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
