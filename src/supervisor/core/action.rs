//! Everything that the core can decide. Closed: what is not here is never done.

use super::desired::{Change, Revision, WorkloadId};
use super::endpoints::Route;
use super::health::{Checks, HookKind, ProbeKind};
use super::model::{ExitClass, Key, ReplicaKey, Restart, StopCause};
use super::names::Name;
use super::rollout::Rollout;
use super::spec::Role;
use super::time::Time;
use serde::{Deserialize, Serialize};

/// A decision. Each is recorded as [`super::event::Event::Decided`] before it is done, except `Persist`.
///
/// *Notes* have no effect outside: recording them is all. *Effects* are done by the world, which answers each with an
/// event. An effect may be repeated after a crash, so each must be idempotent by its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase")]
pub enum Action {
    // Notes.
    /// A replica comes into being.
    AddReplica {
        workload: WorkloadId,
        slot: u32,
        serial: u64,
        revision: Revision,
        restarts: u32,
        containers: Vec<String>,
        /// Of each container; of those without an entry, Main.
        #[serde(default)]
        roles: Vec<Role>,
    },
    /// Nothing of a stopped replica is left.
    DropReplica {
        workload: WorkloadId,
        slot: u32,
        serial: u64,
    },
    /// The slot is no longer desired; its history is dropped.
    DropSlot {
        workload: WorkloadId,
        slot: u32,
    },
    /// The workload is gone for good.
    DropWorkload {
        workload: WorkloadId,
    },
    /// A replica shall go, by `deadline`; or its deadline comes forward.
    StopReplica {
        workload: WorkloadId,
        slot: u32,
        serial: u64,
        cause: StopCause,
        deadline: Time,
        now: bool,
    },
    /// An instance shall go, by `deadline`; or its deadline comes forward.
    Stop {
        key: Key,
        cause: StopCause,
        deadline: Time,
        now: bool,
    },
    /// The preStop hook is not waited for any longer.
    AbandonHook {
        key: Key,
    },
    /// A replica has run for as long as it may: none of its containers is started again.
    Expire {
        replica: ReplicaKey,
    },
    /// A replica is one of this revision from now on, as it runs.
    Adopt {
        workload: WorkloadId,
        slot: u32,
        serial: u64,
        revision: Revision,
    },
    /// A hook that only waits begins, and is over.
    Sleep {
        key: Key,
        kind: HookKind,
    },
    Slept {
        key: Key,
        kind: HookKind,
    },
    /// A probe has had as many results alike as it demands.
    Judge {
        key: Key,
        kind: ProbeKind,
        ok: bool,
    },
    /// How far a rollout is.
    Advance {
        workload: WorkloadId,
        rollout: Rollout,
    },
    /// What follows from the end of an instance.
    Settle {
        key: Key,
        class: ExitClass,
        restart: Restart,
    },

    // Effects.
    /// Make the sandbox of a replica, before its first container is prepared. `again`: the containers that start over in
    /// it. Answers: `SandboxMade`, `SandboxFailed`.
    MakeSandbox {
        replica: ReplicaKey,
        revision: Revision,
        again: Vec<u32>,
    },
    /// Remove the sandbox of a replica, of which no container is left. Answer: `SandboxGone`.
    RemoveSandbox {
        replica: ReplicaKey,
    },
    /// Create the container, up to the state `created`. Answers: `Prepared`, `StartFailed`. `credit`: the new value of
    /// `Observed::start_credit`.
    Prepare {
        key: Key,
        revision: Revision,
        credit: u64,
    },
    /// Let the created container run its program (`start`). Answers: `Started`, `StartFailed`.
    Release {
        key: Key,
        /// What it must do besides run.
        #[serde(default, skip_serializing_if = "Checks::is_empty")]
        checks: Checks,
    },
    /// Send the stop signal to init through its pidfd, then SIGCONT; a frozen cgroup is thawed first.
    /// Answer: `Signalled`; then `Exited` when it dies of it.
    Signal {
        key: Key,
        /// Or [`super::spec::SIGNAL_OF_IMAGE`].
        signal: i32,
    },
    /// SIGKILL every process of the cgroup until none is left; also an instance that is still being created, and its
    /// hooks. Answers: `Exited` (or `StartFailed` when it was being created) and `CgroupEmpty`.
    KillCgroup {
        key: Key,
    },
    /// Run a hook. Answer: `HookDone`. One that runs longer than the container dies with it.
    RunHook {
        key: Key,
        #[serde(default)]
        kind: HookKind,
    },
    /// Carry out probe number `n`. Answer: `Probed`, not much later than its timeout. `counts`: whether its failure does.
    Probe {
        key: Key,
        kind: ProbeKind,
        n: u32,
        counts: bool,
    },
    /// Give a container that exists the limits of `revision`. Answer: `Updated`.
    Update {
        key: Key,
        revision: Revision,
    },
    /// Remove what is left of a dead instance: cgroup, mounts, state directory. Answer: `Removed`.
    Remove {
        key: Key,
    },
    /// Have the proxy use this map of ports and names, and none before it. Answer: `Published`; it is asked for again without one.
    Publish {
        generation: u64,
        map: Vec<Route>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<Name>,
    },
    /// Make a change of the desired state durable, then apply it to `Desired`. It is asked for again until it is applied.
    /// Not recorded in the runtime journal.
    Persist {
        change: Change,
    },
}

/// Something that people want to know, with the reasons that Kubernetes has for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    pub at: Time,
    pub workload: WorkloadId,
    /// Name of the workload; empty when it is not known any more.
    pub workload_name: String,
    pub slot: Option<u32>,
    /// Name of the container.
    pub container: Option<String>,
    pub instance: Option<u64>,
    pub severity: Severity,
    pub reason: Reason,
    /// One line.
    pub message: String,
}

impl Notice {
    /// A warning that is about no workload.
    pub fn of_the_daemon(at: Time, reason: Reason, message: String) -> Notice {
        Notice {
            at,
            workload: WorkloadId(0),
            workload_name: String::new(),
            slot: None,
            container: None,
            instance: None,
            severity: Severity::Warning,
            reason,
            message,
        }
    }
}

/// Kubernetes' types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    Normal,
    Warning,
}

/// Kubernetes' reasons of events, and a few of our own after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    Created,
    Started,
    Pulling,
    Pulled,
    Killing,
    BackOff,
    Unhealthy,
    Failed,
    OOMKilling,
    DeadlineExceeded,
    FailedPreStopHook,
    FailedPostStartHook,
    FailedKillPod,
    FailedCreatePodSandBox,
    SandboxChanged,
    SuccessfulCreate,
    SuccessfulDelete,
    Completed,
    Exited,
    RestartLimit,
    KeeperLost,
    KeeperSilent,
    LogDiskFull,
    LogDiskRecovered,
    Adopted,
    StrayKilled,
    Recovered,
    ResizeCompleted,
    FailedResize,
    RolloutComplete,
    RolloutFailed,
    ProgressDeadlineExceeded,
    Draining,
    DrainUndone,
    NetworkDegraded,
    PublishSlow,
    PortTaken,
    ConnectionsHeld,
    ConnectionsRefused,
}

impl Action {
    /// Whether the world has something to do.
    pub fn is_effect(&self) -> bool {
        use Action::{
            KillCgroup, MakeSandbox, Prepare, Probe, Publish, Release, Remove, RemoveSandbox, RunHook,
            Signal, Update,
        };
        matches!(
            self,
            MakeSandbox { .. }
                | Publish { .. }
                | RemoveSandbox { .. }
                | Prepare { .. }
                | Release { .. }
                | Signal { .. }
                | KillCgroup { .. }
                | RunHook { .. }
                | Probe { .. }
                | Update { .. }
                | Remove { .. }
        )
    }

    /// The replica whose sandbox it is about, if it is about one.
    pub fn sandbox(&self) -> Option<ReplicaKey> {
        match self {
            Action::MakeSandbox { replica, .. } | Action::RemoveSandbox { replica } => Some(*replica),
            _ => None,
        }
    }

    /// The instance that it is about, if it is about one.
    pub fn key(&self) -> Option<Key> {
        use Action::{
            AbandonHook, Judge, KillCgroup, Prepare, Probe, Release, Remove, RunHook, Settle, Signal, Sleep,
            Slept, Stop, Update,
        };
        match self {
            Stop { key, .. }
            | AbandonHook { key }
            | Settle { key, .. }
            | Prepare { key, .. }
            | Release { key, .. }
            | Sleep { key, .. }
            | Slept { key, .. }
            | Judge { key, .. }
            | Probe { key, .. }
            | Signal { key, .. }
            | KillCgroup { key }
            | RunHook { key, .. }
            | Update { key, .. }
            | Remove { key } => Some(*key),
            _ => None,
        }
    }
}
