//! Observations and decisions. Changed only by events (`observe.rs`), so replaying the events gives the same state.
//!
//! ```text
//! Observed ─ workloads ─ slots 0..N-1 ─ replicas (one; two while a replacement overlaps) ─ containers ─ instances
//! ```
//! An instance is one run of a container: one cgroup, one init process. A container has at most one instance that may
//! run its program, besides at most one spare that waits in `created`, and dead ones that are not yet removed.

use super::checks::{Health, Hook};
use super::exit::{Exit, ExitClass, StopCause, WaitStatus};
use super::ids::{Revision, WorkloadId};
use super::progress::Rollout;
use super::publication::Endpoints;
use super::runs::Seen;
use super::spec::{ImageFacts, Role};
use super::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// How many past exits a slot remembers of each container.
pub const EXITS_KEPT: usize = 5;

/// Everything that was seen of this boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// By number; with those that are being deleted.
    pub workloads: BTreeMap<WorkloadId, ReplicaSlots>,
    /// The last number given to an instance; unique in one boot, so a cgroup's name is never used again.
    pub last_instance: u64,
    /// The last number given to a replica.
    pub last_replica: u64,
    /// Microseconds of `CLOCK_BOOTTIME`: when all past starts are paid for, at the rate that the configuration allows.
    pub start_credit: u64,
    /// The keeper died: containers that die now are reaped by init.
    pub keeper_lost: bool,
    /// See [`super::event::Event::Draining`].
    #[serde(default)]
    pub draining: bool,
    /// The wall clock of the host. None: nobody has looked at it in this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// The map of published ports, and what of it the proxy uses.
    #[serde(default)]
    pub endpoints: Endpoints,
}

/// The wall clock of the host, which schedules are read by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// What to add to a [`Time`] for milliseconds since 1970.
    pub offset: i64,
    /// The time zone of the host, as a name of the tz database. None: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// The slots of one workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplicaSlots {
    /// By index, from 0.
    pub slots: BTreeMap<u32, Slot>,
    /// When the first of its replicas that have not exited for good was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Time>,
    /// How far the current revision is.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// Of a CronJob: the last scheduled time that something was decided about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Seen>,
}

/// A stable place for one replica. Its history outlives the replicas in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Oldest first.
    pub replicas: Vec<Replica>,
    /// By name of the container.
    pub history: BTreeMap<String, History>,
}

/// History of a container in a slot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// How often its program was started.
    pub starts: u64,
    /// The last [`EXITS_KEPT`], oldest first.
    pub exits: VecDeque<ExitRecord>,
}

/// One end of an instance, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Number of the instance.
    pub instance: u64,
    /// When it exited.
    pub at: Time,
    /// When its program was started; `None`: never.
    pub started: Option<Time>,
    /// How it exited.
    pub class: ExitClass,
    /// The wait status (wait(2)), if it was observed.
    pub status: Option<WaitStatus>,
    /// Of a start that failed.
    pub error: Option<String>,
    /// Its termination message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One set of containers of one revision in a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Unique in one boot.
    pub serial: u64,
    /// Number of the revision that it is made from.
    pub revision: Revision,
    /// The value of `Workload::restarts` for the slot when it was made.
    pub restarts: u32,
    /// When it was made.
    pub created: Time,
    /// Set once; the replica only goes down from then on.
    pub stop: Option<ReplicaStop>,
    /// In the order of the template.
    pub containers: Vec<Container>,
    /// None: its containers share nothing.
    #[serde(default)]
    pub sandbox: Option<Box<Sandbox>>,
    /// A main container was released, so all init containers have exited successfully.
    #[serde(default)]
    pub initialized: bool,
    /// It has run for as long as it may.
    #[serde(default)]
    pub expired: bool,
}

/// Namespaces and a cgroup that the containers of a replica share. They outlive the containers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Where it is.
    pub state: SandboxState,
    /// How often one was made for this replica.
    pub made: u32,
    /// How often in a row it could not be made, and why the last time.
    pub failures: u32,
    /// Why it could not be made the last time.
    pub error: Option<String>,
    /// In the network of pods.
    #[serde(default)]
    pub address: Option<String>,
}

/// Where a sandbox is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SandboxState {
    /// There is none.
    #[default]
    No,
    /// It is being made.
    Making,
    /// It is complete, and containers may join.
    Ready,
    /// It could not be made then, and nothing is left of it.
    Failed(Time),
    /// It is gone, or a part of it, while containers are in it.
    Lost,
    /// None: being removed; else that failed then.
    Removing(Option<Time>),
}

/// A replica that shall go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStop {
    /// Why.
    pub cause: StopCause,
    /// When it was decided.
    pub at: Time,
    /// Absolute; only decreases.
    pub deadline: Time,
    /// Kill without preStop and stop signal.
    pub now: bool,
}

/// A container of a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Name in the template.
    pub name: String,
    /// When it runs.
    #[serde(default)]
    pub role: Role,
    /// In the order in which they were prepared.
    pub instances: Vec<Instance>,
    /// Consequence of the next exit.
    pub restart: Restart,
    /// How often its program was started.
    #[serde(default)]
    pub starts: u32,
}

/// When the container is started next, and what the next delay depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// When it is started.
    pub next: Next,
    /// Failures since the sequence began.
    pub failures: u32,
    /// Clean exits since the sequence began.
    pub cleans: u32,
    /// Restarts that count towards the template's limit.
    pub recent: VecDeque<Time>,
    /// Failures that count against the limits of a job.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub counted: u32,
    /// The rule of a job by which the last failure is that of the whole job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails_job: Option<u32>,
    /// A spare died by itself; none is made before this.
    pub spare_after: Option<Time>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Next step when no instance lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Next {
    /// Start: it never ran, or nothing was lost by what happened.
    #[default]
    Now,
    /// Not before this time.
    At(Time),
    /// It exited successfully, or its policy is Never.
    Done {
        /// Its last exit was a failure.
        failed: bool,
    },
    /// It restarted too often.
    GivenUp,
}

/// Where an instance is. Only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The runtime is creating it.
    Preparing,
    /// `created` in the words of the runtime specification: all is ready, the program does not run.
    Prepared,
    /// Starting its program.
    Starting,
    /// The program runs.
    Running,
    /// Init is reaped and the cgroup is empty.
    Dead,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Unique in one boot.
    pub id: u64,
    /// Where it is.
    pub phase: Phase,
    /// The revision whose limits it has. None: not known.
    #[serde(default)]
    pub revision: Option<Revision>,
    /// It is being given the limits of `revision`.
    #[serde(default)]
    pub updating: bool,
    /// Set by `Prepared`.
    pub process: Option<Process>,
    /// When the runtime began to create it.
    pub prepared: Time,
    /// When its program was started.
    pub started: Option<Time>,
    /// Since when it does all that it must. None: it does not.
    pub ready: Option<Time>,
    /// Facts from its image, set by `Prepared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Box<ImageFacts>>,
    /// None: it has neither postStart nor probes.
    #[serde(default)]
    pub health: Option<Box<Health>>,
    /// Set when it shall go.
    pub stop: Option<Stop>,
    /// Set when init was reaped.
    pub exit: Option<Exit>,
    /// Set when no process of the cgroup is left.
    pub empty: bool,
    /// SIGKILLs of the whole cgroup: how many, and when the last one was sent.
    pub kills: u32,
    /// When the last of them was sent.
    pub killed: Option<Time>,
    /// The exit has been entered in the history and the restart was decided.
    pub settled: bool,
    /// How far its removal is.
    pub removal: Removal,
    /// Why its output cannot be written at present.
    #[serde(default)]
    pub logs_blocked: Option<String>,
    /// See [`ExitRecord::message`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_words: Option<String>,
}

/// How far the removal of a dead instance is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Removal {
    /// It has not begun.
    #[default]
    No,
    /// The shell is removing it.
    Asked,
    /// It failed then, and will be tried again.
    Failed(Time),
}

/// Identity of an init process within one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// In the supervisor's pid namespace.
    pub pid: i32,
    /// Inode of its pidfd where pidfs has one (Linux 6.9), else 0.
    pub pidfd_inode: u64,
    /// Field 22 of /proc/PID/stat.
    pub start_time: u64,
}

/// An instance that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Why.
    pub cause: StopCause,
    /// When it was decided.
    pub at: Time,
    /// Only decreases.
    pub deadline: Time,
    /// Kill without preStop and stop signal.
    pub now: bool,
    /// The preStop hook.
    pub hook: Hook,
    /// When the stop signal was decided.
    pub signalled: Option<Time>,
    /// The signal was really sent.
    pub delivered: bool,
}

impl Restart {
    /// The instant before which the container is not started; None when it is not started again.
    pub fn due(&self) -> Option<Time> {
        match self.next {
            Next::Now => Some(Time(0)),
            Next::At(t) => Some(t),
            Next::Done { .. } | Next::GivenUp => None,
        }
    }
}
