//! `delete`: everything a container holds goes away (runtime.md, "Delete").

use std::time::Duration;

use super::Runtime;
use super::container::{self, Container, LOCK_WAIT, cgroup_of, status};
use super::process::Process;
use crate::error::{Error, Kind, Result};
use crate::kernel::{hooks, rdt};
use crate::log;
use crate::state::id::ContainerId;
use crate::state::lifecycle::{self, Operation, Phase};
use crate::state::model::{ProcessId, Record};
use crate::state::store::ContainerDir;

/// How long a killed process, or its cgroup, may take to go away.
const DEATH: Duration = Duration::from_secs(10);
/// How long a forced delete waits at first for another command on the same container.
const PATIENCE: Duration = Duration::from_secs(3);

/// Deletes the container `id`. With `force` it is killed first, whatever it does, and one that does not exist is not an
/// error.
///
/// # Errors
/// [`Kind::NotFound`], `container does not exist`; [`Kind::State`], `cannot delete container ID that is not
/// stopped`; what could not be removed. The record stays until everything else is gone, so that another attempt can
/// be made.
pub fn delete(runtime: &Runtime, id: &str, force: bool) -> Result<()> {
    let id = ContainerId::new(id)?;
    let Some(mut entry) = runtime.store.find(&id)? else {
        // open() has the words for it.
        return if force { Ok(()) } else { runtime.store.open(&id).map(drop) };
    };
    if force {
        take_over(&mut entry)?;
    } else if !entry.try_lock(Duration::ZERO)? {
        // Another command is at work. If it creates the container there is no use in waiting.
        if let Some(record) = entry.find_record()? {
            lifecycle::check(Operation::Delete, status(&record)?, &id)?;
        }
        entry.lock(LOCK_WAIT)?;
    }
    let record = match entry.find_record() {
        Ok(Some(record)) => record,
        // Its maker was killed before anything was made, or another command has deleted it by now.
        Ok(None) => return entry.remove(),
        Err(e) if force && e.kind() != Kind::Unsupported => {
            log::warn(e);
            log::warn(format!(
                "the processes and cgroups of container {id}, if any, are unknown and are not removed"
            ));
            return entry.remove();
        }
        Err(e) => return Err(e),
    };
    let status = status(&record)?;
    if !force {
        lifecycle::check(Operation::Delete, status, &id)?;
    }
    destroy(Container { entry, record, status })
}

/// Kills what runs of the container and removes what it holds. Hold its lock.
///
/// # Errors
/// Something that does not go away; the record then stays.
pub(super) fn destroy(container: Container) -> Result<()> {
    let Container { entry, record, .. } = container;
    end_processes(&record)?;
    remove_cgroup(&record)?;
    forget(entry, &record)
}

/// Removes what a container without processes and cgroups still holds, its record at the end, and then runs its
/// poststop hooks (runtime.md, "Lifecycle", steps 12 and 13).
///
/// # Errors
/// Something that cannot be removed; the record then stays, and no hook has run.
pub(super) fn forget(entry: ContainerDir, record: &Record) -> Result<()> {
    if let Some(rdt) = &record.intel_rdt {
        rdt::remove(&rdt.remove)?;
    }
    entry.remove()?;
    let document = container::hook_document(record, "stopped", 0);
    for (i, hook) in record.poststop.iter().enumerate() {
        // A failing one is a warning, and the others run all the same.
        if let Err(e) = hooks::run("poststop", i, hook, &record.bundle, &document) {
            log::warn(e);
        }
    }
    Ok(())
}

/// Kills the first process, and with it all of its pid namespace, and waits until it has exited.
fn end_processes(record: &Record) -> Result<()> {
    let Some(process) = record.init.map(Process::open).transpose()?.flatten() else { return Ok(()) };
    process.signal(libc::SIGKILL)?;
    let cgroup = cgroup_of(record)?;
    if cgroup.is_some() {
        // Also wakes a frozen container, and reaches processes outside of its pid namespace.
        cgroup.kill_all(libc::SIGKILL)?;
    }
    if process.wait(Some(DEATH))? {
        return Ok(());
    }
    let pid = process.pid();
    let what =
        format!("waiting for process {pid} of container {} to end after SIGKILL ({DEATH:?})", record.id);
    Err(Error::new(Kind::Timeout, what).hint(format!("/proc/{pid}/stack shows where it waits in the kernel")))
}

fn remove_cgroup(record: &Record) -> Result<()> {
    let cgroup = cgroup_of(record)?;
    if !cgroup.is_some() {
        return Ok(());
    }
    if cgroup.delete_empty() {
        return Ok(());
    }
    if record.init.is_some() {
        cgroup.kill_all(libc::SIGKILL)?;
        return cgroup.delete(DEATH);
    }
    // The maker was killed early. A process that it left ends by itself; others in there are not the container's:
    // a cgroup that was not empty is refused, but only after the record has been written.
    match cgroup.delete(PATIENCE) {
        Err(e) if e.kind() == Kind::Timeout => {
            log::warn(e.context("keeping a cgroup with processes that may not belong to the container"));
            Ok(())
        }
        r => r,
    }
}

/// Locks the container against the will of a command that is at work on it: kills its first process, so that the
/// command fails, and if that is of no use, the process that creates it.
fn take_over(entry: &mut ContainerDir) -> Result<()> {
    if entry.try_lock(Duration::ZERO)? {
        return Ok(());
    }
    let record = entry.find_record().ok().flatten();
    kill(record.as_ref().and_then(|r| r.init))?;
    if entry.try_lock(PATIENCE)? {
        return Ok(());
    }
    // Read again: the process may have been made in the meantime.
    if let Some(record) = entry.find_record().ok().flatten()
        && record.phase == Phase::Creating
    {
        kill(Some(record.creator))?;
    }
    entry.lock(LOCK_WAIT)
}

fn kill(id: Option<ProcessId>) -> Result<()> {
    match id.map(Process::open).transpose()?.flatten() {
        Some(process) => process.signal(libc::SIGKILL).map(drop),
        None => Ok(()),
    }
}
