//! How others in the process talk to the supervisor's loop: requests with answers, and what happens as a stream.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::publish::Publisher;
use super::streams::Attached;
use crate::runtime::Runtime;
use crate::supervisor::core::action::Notice;
use crate::supervisor::core::controller::Controller;
use crate::supervisor::core::desired::{Change, Desired};
use crate::supervisor::core::ids::WorkloadId;
use crate::supervisor::core::model::Observed;
use crate::supervisor::core::refusal::Refusal;
use crate::supervisor::core::revision::Stamp;
use crate::supervisor::core::spec::{PodTemplate, Strategy};
use crate::supervisor::core::time::{Millis, Time};
use crate::workload::kept::{KeptKind, KeptObject};

/// Requests that wait for the loop at most; a caller beyond that waits for room.
pub const BACKLOG: usize = 256;

/// A change to a workload or a kept object that is known by its name.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeRequest {
    /// Create it, or change it.
    Apply(Box<Apply>),
    /// See [`Change::Keep`]; the text is the cause.
    Keep(Box<KeptObject>, String),
    Discard {
        kind: KeptKind,
        name: String,
    },
    /// All of these, of different objects, or none.
    All(Vec<ChangeRequest>),
    Scale {
        name: String,
        replicas: u32,
    },
    /// Replace the replica of `slot`, or all of them, one after the other.
    Restart {
        name: String,
        slot: Option<u32>,
    },
    /// Go back to the revision of that number, or to the one before the current one.
    Undo {
        name: String,
        to: Option<u32>,
    },
    /// Make a job of a CronJob, with the name `job`.
    Spawn {
        name: String,
        job: String,
    },
    Pause {
        name: String,
        paused: bool,
    },
    Stop {
        name: String,
        stopped: bool,
    },
    /// `grace` overrides the template's; a further one can only shorten. Zero kills at once.
    Delete {
        name: String,
        grace: Option<Millis>,
    },
}

/// See [`Change::Apply`].
#[derive(Debug, Clone, PartialEq)]
pub struct Apply {
    pub name: String,
    pub replicas: u32,
    pub strategy: Strategy,
    pub controller: Controller,
    pub paused: Option<bool>,
    pub template: PodTemplate,
    pub source: serde_json::Value,
    /// The cause, as text.
    pub cause: String,
}

/// A change that was made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// 0, as the others: the change was not about one workload.
    pub workload: WorkloadId,
    /// `Workload::generation` after it.
    pub generation: u64,
    /// The number of the revision that was applied last.
    pub revision: u32,
    /// The kind of the workload in its file: `deployment`; empty without one.
    pub kind: String,
}

/// Why a change was not accepted; nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeError {
    Refused(Refusal),
    /// It could not be written: the reason, in words.
    NotDurable(String),
    /// The supervisor is shutting down.
    Ending,
}

/// The current state.
pub struct View<'a> {
    pub desired: &'a Desired,
    pub observed: &'a Observed,
    /// `CLOCK_BOOTTIME`, in the core's units.
    pub now: Time,
    /// Offset from a [`Time`] to milliseconds since 1970, by the current wall clock.
    pub epoch_ms: i64,
    /// The last notices, oldest first.
    pub notices: &'a std::collections::VecDeque<Arc<Notice>>,
    /// None in the foreground.
    pub publisher: Option<&'a Publisher>,
}

/// A message to the loop.
pub enum Request {
    Change(ChangeRequest, oneshot::Sender<Result<Accepted, ChangeError>>),
    /// Whether a change would be accepted.
    Check(ChangeRequest, oneshot::Sender<Result<(), ChangeError>>),
    /// Drain the host, or undo that; answered when it is recorded.
    Drain(bool, oneshot::Sender<()>),
    /// Attach a client to the container that the runtime calls so; None: it does not run.
    Attach(String, oneshot::Sender<Option<Attached>>),
    /// That client has left.
    EndInput(String),
    /// Runs in the loop; it should only copy what it needs.
    Look(Box<dyn FnOnce(&View) + Send>),
}

/// The sending end. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) notices: broadcast::Sender<Arc<Notice>>,
    pub(super) turns: watch::Receiver<u64>,
    pub(super) runtime: Runtime,
    pub(super) log_dir: PathBuf,
    pub(super) places: Vec<PathBuf>,
}

impl Handle {
    /// Makes a change durable and has it acted on.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn change(&self, change: ChangeRequest) -> Result<Accepted, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Change(change, reply)).await.map_err(|_| ChangeError::Ending)?;
        answer.await.unwrap_or(Err(ChangeError::Ending))
    }

    /// Whether a change would be accepted.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn check(&self, change: ChangeRequest) -> Result<(), ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Check(change, reply)).await.map_err(|_| ChangeError::Ending)?;
        answer.await.unwrap_or(Err(ChangeError::Ending))
    }

    /// Has everything stopped and nothing started, until the next boot; or takes that back.
    ///
    /// # Errors
    /// [`Denied::Ending`].
    pub async fn drain(&self, on: bool) -> Result<(), ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Drain(on, reply)).await.map_err(|_| ChangeError::Ending)?;
        answer.await.map_err(|_| ChangeError::Ending)
    }

    /// Attaches a client to the container that the runtime calls `id`. None: it does not run.
    ///
    /// # Errors
    /// [`Denied::Ending`].
    pub async fn attach(&self, id: String) -> Result<Option<Attached>, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Attach(id, reply)).await.map_err(|_| ChangeError::Ending)?;
        answer.await.map_err(|_| ChangeError::Ending)
    }

    /// A client that [`Attached::ends_input`] has left the container.
    pub async fn end_input(&self, id: String) {
        // A supervisor that is shutting down closes it anyway.
        let _ = self.requests.send(Request::EndInput(id)).await;
    }

    /// Looks at the state: `look` runs in the loop, so it should only copy what it needs.
    ///
    /// # Errors
    /// [`Denied::Ending`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&View) -> T + Send + 'static,
    ) -> Result<T, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Look(Box::new(move |view| {
            // The requester may have disconnected.
            let _ = reply.send(look(view));
        }));
        self.requests.send(request).await.map_err(|_| ChangeError::Ending)?;
        answer.await.map_err(|_| ChangeError::Ending)
    }

    /// The notices from now on. [`View::notices`] has the earlier ones; compare by `Arc::ptr_eq` to join them.
    pub fn notices(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    /// Changes whenever something may have changed that [`Handle::look`] shows.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turns.clone()
    }

    /// The runtime that holds the containers, to enter them or to read their figures by [`Target::id`].
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The directories that the supervisor writes to.
    pub fn places(&self) -> &[PathBuf] {
        &self.places
    }

    /// Where the log files of one container of one replica are, for `shell::logs`.
    pub fn log_dir(&self, workload: &str, slot: u32, container: &str) -> PathBuf {
        super::logs::directory(&self.log_dir, workload, slot, container)
    }
}

impl View<'_> {}

impl ChangeRequest {
    /// The [`Change`] of this request, at `wall` milliseconds since 1970.
    pub(super) fn change(&self, desired: &Desired, wall: i64) -> Result<Change, Refusal> {
        let workload = |name: &str| desired.by_name(name).map(|(id, _)| id).ok_or(Refusal::NotFound);
        let stamp = |cause: String| Stamp { at: wall, cause };
        Ok(match self.clone() {
            ChangeRequest::Apply(a) => Change::Apply {
                name: a.name,
                replicas: a.replicas,
                strategy: a.strategy,
                controller: a.controller,
                paused: a.paused,
                template: Box::new(a.template),
                source: a.source,
                stamp: stamp(a.cause),
            },
            ChangeRequest::Keep(object, cause) => Change::Keep { object, stamp: stamp(cause) },
            ChangeRequest::Discard { kind, name } => Change::Discard { kind, name },
            ChangeRequest::All(changes) => {
                let changes = changes.iter().map(|w| w.change(desired, wall));
                Change::All { changes: changes.collect::<Result<_, _>>()? }
            }
            ChangeRequest::Scale { name, replicas } => Change::Scale { workload: workload(&name)?, replicas },
            ChangeRequest::Restart { name, slot } => Change::Restart {
                workload: workload(&name)?,
                slot,
                stamp: stamp("rollout restart".to_owned()),
            },
            ChangeRequest::Undo { name, to } => {
                let (workload, w) = desired.by_name(&name).ok_or(Refusal::NotFound)?;
                let target = w.undo_target(to).map(|r| w.number(r));
                let cause = target.map(|n| format!("rollout undo to revision {n}")).unwrap_or_default();
                Change::Undo { workload, to, stamp: stamp(cause) }
            }
            ChangeRequest::Spawn { name, job } => Change::Spawn {
                workload: workload(&name)?,
                stamp: stamp(format!("create job --from=cronjob/{name}")),
                name: job,
                scheduled: None,
            },
            ChangeRequest::Pause { name, paused } => Change::Pause { workload: workload(&name)?, paused },
            ChangeRequest::Stop { name, stopped } => Change::Stop { workload: workload(&name)?, stopped },
            ChangeRequest::Delete { name, grace } => Change::Delete { workload: workload(&name)?, grace },
        })
    }

    /// The name of the workload, if it is about one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            ChangeRequest::Apply(a) => Some(&a.name),
            ChangeRequest::Keep(..) | ChangeRequest::Discard { .. } | ChangeRequest::All(_) => None,
            ChangeRequest::Scale { name, .. }
            | ChangeRequest::Restart { name, .. }
            | ChangeRequest::Spawn { name, .. }
            | ChangeRequest::Undo { name, .. }
            | ChangeRequest::Pause { name, .. }
            | ChangeRequest::Stop { name, .. }
            | ChangeRequest::Delete { name, .. } => Some(name),
        }
    }
}
