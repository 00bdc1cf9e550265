//! Everything that the core can decide. Closed: what is not here is never done.

use super::checks::{Checks, HookKind, ProbeKind};
use super::desired::Change;
use super::exit::{ExitClass, StopCause};
use super::ids::{Key, ReplicaKey, Revision, WorkloadId};
use super::model::Restart;
use super::progress::Rollout;
use super::publication::{Name, Route};
use super::runs::Seen;
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
        /// Number of the workload.
        workload: WorkloadId,
        /// Index of the slot.
        slot: u32,
        /// Serial number of the replica.
        serial: u64,
        /// Number of the revision.
        revision: Revision,
        /// `Workload::restarts` of the slot.
        restarts: u32,
        /// Names of its containers, in the order of the template.
        containers: Vec<String>,
        /// Of each container; of those without an entry, Main.
        #[serde(default)]
        roles: Vec<Role>,
    },
    /// Nothing of a stopped replica is left.
    DropReplica {
        /// Number of the workload.
        workload: WorkloadId,
        /// Index of the slot.
        slot: u32,
        /// Serial number of the replica.
        serial: u64,
    },
    /// The slot is no longer desired; its history is dropped.
    DropSlot {
        /// Number of the workload.
        workload: WorkloadId,
        /// Index of the slot.
        slot: u32,
    },
    /// The workload is gone for good.
    DropWorkload {
        /// Number of the workload.
        workload: WorkloadId,
    },
    /// Something was decided about a scheduled time of a CronJob.
    NoteRun {
        /// Number of the workload.
        workload: WorkloadId,
        /// Which time, and what.
        seen: Seen,
    },
    /// A replica shall go, by `deadline`; or its deadline comes forward.
    StopReplica {
        /// Number of the workload.
        workload: WorkloadId,
        /// Index of the slot.
        slot: u32,
        /// Serial number of the replica.
        serial: u64,
        /// Why.
        cause: StopCause,
        /// When SIGKILL follows.
        deadline: Time,
        /// Kill without preStop and stop signal.
        now: bool,
    },
    /// An instance shall go, by `deadline`; or its deadline comes forward.
    Stop {
        /// The instance.
        key: Key,
        /// Why.
        cause: StopCause,
        /// When SIGKILL follows.
        deadline: Time,
        /// Kill without preStop and stop signal.
        now: bool,
    },
    /// The preStop hook is not waited for any longer.
    AbandonHook {
        /// The instance.
        key: Key,
    },
    /// A replica has run for as long as it may: none of its containers is started again.
    Expire {
        /// The replica.
        replica: ReplicaKey,
    },
    /// A replica is one of this revision from now on, as it runs.
    Adopt {
        /// Number of the workload.
        workload: WorkloadId,
        /// Index of the slot.
        slot: u32,
        /// Serial number of the replica.
        serial: u64,
        /// The one that it has from now on.
        revision: Revision,
    },
    /// A hook that only waits begins, and is over.
    Sleep {
        /// The instance.
        key: Key,
        /// Which one.
        kind: HookKind,
    },
    /// A hook that only waits is over.
    Slept {
        /// The instance.
        key: Key,
        /// Which one.
        kind: HookKind,
    },
    /// A probe has had as many results alike as it demands.
    Judge {
        /// The instance.
        key: Key,
        /// Which one.
        kind: ProbeKind,
        /// It succeeded, or failed.
        ok: bool,
    },
    /// How far a rollout is.
    Advance {
        /// Number of the workload.
        workload: WorkloadId,
        /// The state from now on.
        rollout: Rollout,
    },
    /// Consequence of the exit of an instance.
    Settle {
        /// The instance.
        key: Key,
        /// How it exited.
        class: ExitClass,
        /// When it is started again, and what the next delay depends on.
        restart: Restart,
    },

    // Effects.
    /// Make the sandbox of a replica, before its first container is prepared. Answers: `SandboxMade`, `SandboxFailed`.
    MakeSandbox {
        /// The replica.
        replica: ReplicaKey,
        /// Number of the revision.
        revision: Revision,
        /// Indices of the containers that start over in it.
        again: Vec<u32>,
    },
    /// Remove the sandbox of a replica, of which no container is left. Answer: `SandboxGone`.
    RemoveSandbox {
        /// The replica.
        replica: ReplicaKey,
    },
    /// Create the container, up to the state `created`. Answers: `Prepared`, `StartFailed`.
    Prepare {
        /// The instance.
        key: Key,
        /// Number of the revision.
        revision: Revision,
        /// The new value of `Observed::start_credit`.
        credit: u64,
    },
    /// Let the created container run its program (`start`). Answers: `Started`, `StartFailed`.
    Release {
        /// The instance.
        key: Key,
        /// Its hooks and probes.
        #[serde(default, skip_serializing_if = "Checks::is_empty")]
        checks: Checks,
    },
    /// Send the stop signal to init through its pidfd, then SIGCONT; a frozen cgroup is thawed first.
    /// Answer: `Signalled`; then `Exited` when it dies of it.
    Signal {
        /// The instance.
        key: Key,
        /// Or [`super::spec::SIGNAL_OF_IMAGE`].
        signal: i32,
    },
    /// SIGKILL every process of the cgroup until none is left; also an instance that is still being created, and its
    /// hooks. Answers: `Exited` (or `StartFailed` when it was being created) and `CgroupEmpty`.
    KillCgroup {
        /// The instance.
        key: Key,
    },
    /// Run a hook. Answer: `HookDone`. One that runs longer than the container dies with it.
    RunHook {
        /// The instance.
        key: Key,
        /// Which hook.
        #[serde(default)]
        kind: HookKind,
    },
    /// Carry out a probe. Answer: `Probed`, not much later than its timeout.
    Probe {
        /// The instance.
        key: Key,
        /// Which one.
        kind: ProbeKind,
        /// Number of the probe within the instance.
        n: u32,
        /// Whether its failure counts.
        counts: bool,
    },
    /// Give a container that exists the limits of `revision`. Answer: `Updated`.
    Update {
        /// The instance.
        key: Key,
        /// The one whose limits it gets.
        revision: Revision,
    },
    /// Remove what is left of a dead instance: cgroup, mounts, state directory. Answer: `Removed`.
    Remove {
        /// The instance.
        key: Key,
    },
    /// Have the proxy use this map of ports and names, and none before it. Answer: `Published`; it is asked for again without one.
    Publish {
        /// Number of the map; each is greater than the one before.
        generation: u64,
        /// Ports, and the replicas behind each.
        map: Vec<Route>,
        /// Names of Services, and their addresses.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<Name>,
    },
    /// Make a change of the desired state durable, then apply it to `Desired`. It is asked for again until it is applied.
    /// Not recorded in the runtime journal.
    Persist {
        /// The change.
        change: Change,
    },
}

/// Something that people want to know, with the reasons that Kubernetes has for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// When it happened.
    pub at: Time,
    /// Number of the workload; 0: it is about the daemon.
    pub workload: WorkloadId,
    /// Name of the workload; empty when it is no longer known.
    pub workload_name: String,
    /// Index of the slot, where it is about one.
    pub slot: Option<u32>,
    /// Name of the container.
    pub container: Option<String>,
    /// Number of the instance, where it is about one.
    pub instance: Option<u64>,
    /// How much it matters.
    pub severity: Severity,
    /// Why, in one word.
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
    /// Something expected.
    Normal,
    /// Something that may need attention.
    Warning,
}

/// Kubernetes' reasons of events, and a few of our own after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A container was created.
    Created,
    /// Its program was started.
    Started,
    /// Its image is being pulled.
    Pulling,
    /// Its image was pulled.
    Pulled,
    /// It is being stopped.
    Killing,
    /// It failed and is started again after a delay.
    BackOff,
    /// A probe failed.
    Unhealthy,
    /// It failed, or could not be created or started.
    Failed,
    /// A process was killed for lack of memory.
    OOMKilling,
    /// It ran for as long as it may.
    DeadlineExceeded,
    /// The preStop hook failed.
    FailedPreStopHook,
    /// The postStart hook failed.
    FailedPostStartHook,
    /// The remains of a container cannot be removed.
    FailedKillPod,
    /// The namespaces of a replica cannot be made.
    FailedCreatePodSandBox,
    /// The namespaces of a replica are gone; it starts over.
    SandboxChanged,
    /// A replica was made.
    SuccessfulCreate,
    /// A replica is gone.
    SuccessfulDelete,
    /// It exited successfully.
    Completed,
    /// It exited because it was stopped.
    Exited,
    /// It restarted too often and is given up.
    RestartLimit,
    /// The keeper died.
    KeeperLost,
    /// The keeper does not answer.
    KeeperSilent,
    /// Its output cannot be written.
    LogDiskFull,
    /// Its output can be written again.
    LogDiskRecovered,
    /// It was running when the supervisor started, and continues.
    Adopted,
    /// A process that belongs to no workload was killed.
    StrayKilled,
    /// The supervisor was started again.
    Recovered,
    /// It has its new limits.
    ResizeCompleted,
    /// It could not get its new limits.
    FailedResize,
    /// A scheduled time passed without a job.
    MissSchedule,
    /// More than a hundred scheduled times passed without a job.
    TooManyMissedTimes,
    /// An earlier job runs, so none is made.
    JobAlreadyActive,
    /// A job cannot be made.
    FailedCreate,
    /// All replicas have the current revision and are available.
    RolloutComplete,
    /// A rollout failed.
    RolloutFailed,
    /// A rollout made no progress for too long.
    ProgressDeadlineExceeded,
    /// The host goes down: everything is stopped.
    Draining,
    /// Replicas that a drain stopped run again.
    DrainUndone,
    /// A part of the network of pods does not work.
    NetworkDegraded,
    /// The proxy has not confirmed a map of ports for long.
    PublishSlow,
    /// A published port is used by another program.
    PortTaken,
    /// Connections wait for a ready replica.
    ConnectionsHeld,
    /// Connections were refused, since no replica was ready.
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
