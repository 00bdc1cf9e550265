//! Inputs of every handler: access to the supervisor's state and to its changes, and the lookup of objects.

use hyper::StatusCode;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

use crate::api::respond::Problem;
use crate::api::types::{Changed, WorkloadObject};
use crate::api::view;
use crate::supervisor::core::refusal::Refusal;
use crate::supervisor::shell::handle::{ChangeError, ChangeRequest, Handle, View};

/// Between two looks at the supervisor's state, in the long run: a flood of requests waits here, and not in the
/// supervisor's own loop.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How far looks may be ahead of that.
const LOOK_BURST: Duration = Duration::from_millis(200);

/// Inputs of handlers.
pub struct Api {
    pub handle: Handle,
    /// When the next look is due.
    next_look: Cell<Instant>,
    pub clock: Clock,
}

/// The wall clock of answers. It is read again for each answer, and would differ by a millisecond each time; an object that
/// does not change shall not seem to.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    /// Smaller differences are ignored, milliseconds.
    const JITTER: u64 = 100;

    /// The view, with the time of the previous answer.
    pub fn steady<'v>(&self, v: &View<'v>) -> View<'v> {
        let before = self.0.load(Ordering::Relaxed);
        let epoch_ms = if before.abs_diff(v.epoch_ms) <= Self::JITTER { before } else { v.epoch_ms };
        self.0.store(epoch_ms, Ordering::Relaxed);
        View { epoch_ms, ..*v }
    }
}

impl Api {
    pub fn new(handle: Handle) -> Api {
        Api { handle, next_look: Cell::new(Instant::now()), clock: Clock::default() }
    }

    /// Looks at the supervisor's state.
    ///
    /// # Errors
    /// The supervisor is shutting down.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&View) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.pace().await;
        let clock = self.clock.clone();
        Ok(self.handle.look(move |v| look(&clock.steady(v))).await?)
    }

    /// Makes a change durable and has it acted on.
    ///
    /// # Errors
    /// It was refused, or cannot be written.
    pub async fn change(&self, change: ChangeRequest) -> Result<Changed, Problem> {
        self.pace().await;
        let accepted = self.handle.change(change).await?;
        let revision = accepted.revision;
        let (generation, kind) = (accepted.generation, accepted.kind);
        Ok(Changed { uid: accepted.workload.0, generation, revision, kind })
    }

    /// Waits until the next look is due.
    pub async fn pace(&self) {
        let now = Instant::now();
        let due = self.next_look.get().max(now.checked_sub(LOOK_BURST).unwrap_or(now));
        self.next_look.set(due + LOOK_INTERVAL);
        tokio::time::sleep_until(due).await;
    }
}

/// The workload of that name.
pub async fn object(api: &Api, name: &str) -> Result<Option<WorkloadObject>, Problem> {
    let name = name.to_owned();
    let find = move |v: &View| v.desired.by_name(&name).map(|(id, w)| view::workload(v, id, w));
    api.look(find).await
}

/// The problem with a workload or replica that is not there.
pub fn missing(what: &str, name: &str) -> Problem {
    match what {
        "workload" => Problem::from(ChangeError::Refused(Refusal::NotFound)),
        _ => Problem::hinted(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("no such {what}: {name:?}"),
            "`orund get replicas` lists them",
        ),
    }
}
