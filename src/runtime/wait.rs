//! `wait`: until the first process of a container has exited.

use std::time::Duration;

use super::Runtime;
use super::container::Container;
use super::process::Process;
use crate::error::{Error, Kind, Result};
use crate::state::lifecycle::Status;

/// How long the parent of a container's first process may take to reap it.
const REAPING: Duration = Duration::from_secs(2);

/// Waits until the first process of the container `id` has exited, however long that takes, and returns its exit
/// code, 128 + N after signal N. `None` when that is unknown: it had exited before, its parent does not reap it, or
/// the kernel is older than 6.15.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such container; [`Kind::State`] while it is being created.
pub fn wait(runtime: &Runtime, id: &str) -> Result<Option<i32>> {
    let container = Container::open(runtime, id)?;
    if container.status == Status::Creating {
        return Err(Error::new(Kind::State, format!("container not running: {id} is creating")));
    }
    let Some(process) = container.record.init.map(Process::open).transpose()?.flatten() else {
        return Ok(None);
    };
    process.wait(None)?;
    process.exit_code(REAPING)
}
