//! `kill`: a signal for the first process of a container, or for all of them.

use super::Runtime;
use super::container::Container;
use super::process::Process;
use crate::error::{Error, Kind, Result};
use crate::state::lifecycle::{Operation, Status};

/// Sends `signal` to the first process of the container `id`; with `all`, to every process of its cgroup.
///
/// SIGKILL for a container without a pid namespace of its own is always for all: its other processes would not exit
/// with the first, and can still be reached when it is gone. With `all` a stopped container is not an error, so that its last processes can be reached.
///
/// # Errors
/// [`Kind::NotFound`], `container does not exist`; [`Kind::State`], `container not running`.
pub fn kill(runtime: &Runtime, id: &str, signal: i32, all: bool) -> Result<()> {
    let (container, pidfd) = Container::open_with_init(runtime, id)?;
    let has_cgroup = !container.record.cgroup.hierarchies.is_empty();
    let to_all = has_cgroup && (all || (signal == libc::SIGKILL && !container.record.own_pid_namespace));
    // Without a pid namespace the others may survive when the first process has exited.
    let orphaned = to_all
        && !all
        && container.status == Status::Stopped
        && !container.cgroup()?.pids_recursive()?.is_empty();
    if container.status == Status::Creating || !(all || orphaned) {
        container.check(Operation::Kill)?;
    }
    if to_all {
        return container.cgroup()?.kill_all(signal);
    }
    let process = match (pidfd, container.record.init) {
        (Some(pidfd), Some(init)) => Some(Process::of(pidfd, init.pid)),
        (_, init) => init.map(Process::open).transpose()?.flatten(),
    };
    let Some(process) = process else {
        return if all { Ok(()) } else { Err(not_running(id)) };
    };
    if !process.signal(signal)? && !all {
        return Err(not_running(id));
    }
    if signal == libc::SIGKILL && container.status == Status::Paused {
        // A frozen process of cgroup version 1 does not even die; that of version 2 does, and need not be thawed.
        container.cgroup()?.thaw()?;
    }
    Ok(())
}

fn not_running(id: &str) -> Error {
    Error::new(Kind::State, format!("container not running: {id} is stopped"))
}
