//! Everything that happens to running containers. The shell appends each event to the runtime journal (no fsync) before it
//! gives it to [`super::observe::on_event`]; the desired state changes by [`super::desired::Change`] instead.

use super::action::Action;
use super::checks::{HookKind, ProbeKind};
use super::exit::{StartError, WaitStatus};
use super::ids::{Key, ReplicaKey};
use super::model::{Clock, Process};
use super::publication::Taken;
use super::spec::ImageFacts;
use super::time::Time;
use serde::{Deserialize, Serialize};

/// One record of the runtime journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it happened, on the clock of the boot.
    pub at: Time,
    /// Kind of event.
    pub event: Event,
}

/// Something that happened, or was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
// One is made for each change or decision, and none is kept: a box would only cost an allocation.
#[allow(clippy::large_enum_variant)]
pub enum Event {
    /// An action is about to be done. Recorded before it is done, so a crash never leaves an effect without a record.
    Decided {
        /// The decision.
        action: Action,
    },

    /// Answer to `Prepare`: the container is `created`.
    Prepared {
        /// The instance.
        key: Key,
        /// Its first process.
        process: Process,
        /// None: it has no image, or one that says nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<Box<ImageFacts>>,
    },
    /// Answer to `Release`: the program was executed.
    Started {
        /// The instance.
        key: Key,
    },
    /// Answer to `Prepare` or `Release`: no process of it is left.
    StartFailed {
        /// The instance.
        key: Key,
        /// Why it failed.
        error: StartError,
    },
    /// Init was reaped.
    ///
    /// A shell that knows at once should deliver `CgroupEmpty` in the same batch, before it lets the core decide:
    /// else the core has the whole cgroup killed, since nothing may outlive init.
    Exited {
        /// The instance.
        key: Key,
        /// As wait(2) encodes it; `None`: it was not observed.
        status: Option<WaitStatus>,
        /// The cgroup's counter of OOM kills is above 0.
        oom: bool,
    },
    /// The termination message of a program, before `Exited` or after it.
    LastWords {
        /// The instance.
        key: Key,
        /// The termination message.
        text: String,
    },
    /// No process is left in the cgroup.
    CgroupEmpty {
        /// The instance.
        key: Key,
    },
    /// Answer to `Signal`: it was sent, or the process no longer exists.
    Signalled {
        /// The instance.
        key: Key,
    },
    /// Answer to `RunHook`: it finished, could not be run, or is lost after a restart of the supervisor.
    HookDone {
        /// The instance.
        key: Key,
        /// Which hook.
        #[serde(default)]
        kind: HookKind,
        /// Why it failed; `None`: it did not.
        error: Option<String>,
    },
    /// Answer to `Probe`.
    Probed {
        /// The instance.
        key: Key,
        /// Which probe.
        kind: ProbeKind,
        /// Its number within the instance.
        n: u32,
        /// It succeeded; `None`: it could not run.
        ok: Option<bool>,
        /// Why it failed, or could not run.
        #[serde(default)]
        error: Option<String>,
    },
    /// Answer to `Update`.
    Updated {
        /// The instance.
        key: Key,
        /// Why it failed; `None`: it did not.
        error: Option<String>,
    },
    /// Answer to `Remove`: without an error, nothing of the instance is left on the host.
    Removed {
        /// The instance.
        key: Key,
        /// Why it failed; `None`: it did not.
        error: Option<String>,
    },

    /// After a restart of the supervisor: what was found of an instance that is not removed. One for each, before
    /// anything is decided.
    Found {
        /// The instance.
        key: Key,
        /// Its state.
        found: InspectedState,
    },
    /// A process of the cgroup was killed for lack of memory while init keeps running.
    OomKilled {
        /// The instance.
        key: Key,
    },
    /// The keeper died: exit statuses may be lost from now on.
    KeeperLost,
    /// The host goes down: everything that runs is stopped and nothing is started, until this is taken back or the host
    /// has booted again. The desired state stays as it is.
    Draining {
        /// It begins, or is taken back.
        on: bool,
    },

    /// Answer to `MakeSandbox`.
    SandboxMade {
        /// The replica.
        replica: ReplicaKey,
        /// Its address (IPv4), where it has a network of its own.
        #[serde(default)]
        address: Option<String>,
    },
    /// Answer to `MakeSandbox`: nothing of it is left.
    SandboxFailed {
        /// The replica.
        replica: ReplicaKey,
        /// Why.
        error: String,
    },
    /// Its namespaces cannot be joined any more.
    SandboxLost {
        /// The replica.
        replica: ReplicaKey,
    },
    /// Answer to `RemoveSandbox`: without an error, nothing of it is left.
    SandboxGone {
        /// The replica.
        replica: ReplicaKey,
        /// Why it failed; `None`: it did not.
        error: Option<String>,
    },
    /// After a restart of the supervisor, for each replica whose sandbox is on record.
    SandboxFound {
        /// The replica.
        replica: ReplicaKey,
        /// It can be used; if not, what was left of it is removed.
        whole: bool,
        /// Its address (IPv4), where it has a network of its own.
        #[serde(default)]
        address: Option<String>,
    },

    /// Answer to `Publish`: the proxy uses this map, and none before it.
    Published {
        /// Number of the map.
        generation: u64,
        /// Ports that it cannot open.
        taken: Vec<Taken>,
    },

    /// The wall clock was set, or looked at for the first time in this boot. Only while there are CronJobs.
    ClockSet {
        /// What it shows.
        clock: Clock,
    },

    /// The output of an instance cannot be written, as when the disk is full, so that its program waits when it writes
    /// more.
    LogsBlocked {
        /// The instance.
        key: Key,
        /// Why it cannot be written; `None`: it can again.
        error: Option<String>,
    },
}

/// State of an instance after a restart of the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "camelCase")]
pub enum InspectedState {
    /// Nothing, or half-made things that the shell removed: it was never created completely.
    Nothing,
    /// `created`, with this process.
    Created {
        /// The first process.
        process: Process,
    },
    /// Its program runs.
    Running {
        /// The first process.
        process: Process,
    },
    /// It exited meanwhile.
    Ended {
        /// As wait(2) encodes it; `None`: it was not observed.
        status: Option<WaitStatus>,
        /// The cgroup's counter of OOM kills is above 0.
        oom: bool,
        /// No process is left in the cgroup.
        empty: bool,
    },
}
