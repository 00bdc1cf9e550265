//! `pause` and `resume`: the freezer (cgroups(7)).

use super::Runtime;
use super::container::Container;
use crate::error::Result;
use crate::state::lifecycle::Operation;
use std::time::Duration;

/// How long the processes may take to freeze.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Freezes all processes of the container `id`.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State), `container not running`, unless it is created or running; a cgroup that cannot be frozen is
/// thawed again.
pub fn pause(runtime: &Runtime, id: &str) -> Result<()> {
    let container = Container::open(runtime, id)?;
    container.check(Operation::Pause)?;
    container.cgroup()?.freeze(TIMEOUT)
}

/// Resumes the processes of the container `id`.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State), `container not paused`.
pub fn resume(runtime: &Runtime, id: &str) -> Result<()> {
    let container = Container::open(runtime, id)?;
    container.check(Operation::Resume)?;
    container.cgroup()?.thaw()
}
