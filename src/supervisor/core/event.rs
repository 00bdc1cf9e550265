//! Everything that happens to running containers. The shell appends each event to the runtime journal (no fsync) before it
//! gives it to [`super::observe::on_event`]; the desired state changes by [`super::desired::Change`] instead.

use super::action::Action;
use super::endpoints::Taken;
use super::health::{HookKind, ProbeKind};
use super::model::{Key, Process, ReplicaKey, StartError, WaitStatus};
use super::time::Time;
use serde::{Deserialize, Serialize};

/// One record of the runtime journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub at: Time,
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
        action: Action,
    },

    /// Answer to `Prepare`: the container is `created`.
    Prepared {
        key: Key,
        process: Process,
    },
    /// Answer to `Release`: the program was executed.
    Started {
        key: Key,
    },
    /// Answer to `Prepare` or `Release`: no process of it is left.
    StartFailed {
        key: Key,
        error: StartError,
    },
    /// Init was reaped. `status`: None when nobody could see it. `oom`: the cgroup's counter of OOM kills is above 0.
    ///
    /// A shell that knows at once should deliver `CgroupEmpty` in the same batch, before it lets the core decide:
    /// else the core has the whole cgroup killed, since nothing may outlive init.
    Exited {
        key: Key,
        status: Option<WaitStatus>,
        oom: bool,
    },
    /// What a program left behind for people, before `Exited` or after it.
    LastWords {
        key: Key,
        text: String,
    },
    /// No process is left in the cgroup.
    CgroupEmpty {
        key: Key,
    },
    /// Answer to `Signal`: it was sent, or there is nobody left to send it to.
    Signalled {
        key: Key,
    },
    /// Answer to `RunHook`: it finished, could not be run, or is lost after a restart of the supervisor.
    HookDone {
        key: Key,
        #[serde(default)]
        kind: HookKind,
        error: Option<String>,
    },
    /// Answer to `Probe`. `ok`: None when it could not be carried out. `error`: why it failed, or could not.
    Probed {
        key: Key,
        kind: ProbeKind,
        n: u32,
        ok: Option<bool>,
        #[serde(default)]
        error: Option<String>,
    },
    /// Answer to `Update`. None: it has the limits.
    Updated {
        key: Key,
        error: Option<String>,
    },
    /// Answer to `Remove`. None: nothing of the instance is left on the host.
    Removed {
        key: Key,
        error: Option<String>,
    },

    /// After a restart of the supervisor: what was found of an instance that is not removed. One for each, before
    /// anything is decided.
    Found {
        key: Key,
        found: Found,
    },
    /// A process of the cgroup was killed for lack of memory while init keeps running.
    OomKilled {
        key: Key,
    },
    KeeperLost,
    /// The host goes down: everything that runs is stopped and nothing is started, until this is taken back or the host
    /// has booted again. The desired state stays as it is.
    Draining {
        on: bool,
    },

    /// Answer to `MakeSandbox`. `address`: of its network, where it has one.
    SandboxMade {
        replica: ReplicaKey,
        #[serde(default)]
        address: Option<String>,
    },
    /// Answer to `MakeSandbox`: nothing of it is left.
    SandboxFailed {
        replica: ReplicaKey,
        error: String,
    },
    /// Its namespaces cannot be joined any more.
    SandboxLost {
        replica: ReplicaKey,
    },
    /// Answer to `RemoveSandbox`. None: nothing of it is left.
    SandboxGone {
        replica: ReplicaKey,
        error: Option<String>,
    },
    /// After a restart of the supervisor, for each replica whose sandbox is on record: whether it is whole. If not, what
    /// was left of it is removed.
    SandboxFound {
        replica: ReplicaKey,
        whole: bool,
        #[serde(default)]
        address: Option<String>,
    },

    /// Answer to `Publish`: the proxy uses this map, and none before it. `taken`: ports that it cannot open.
    Published {
        generation: u64,
        taken: Vec<Taken>,
    },

    /// The output of an instance cannot be written, as when the disk is full, so that its program waits when it writes
    /// more. None: it can again.
    LogsBlocked {
        key: Key,
        error: Option<String>,
    },
}

/// What remains of an instance after a restart of the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "camelCase")]
pub enum Found {
    /// Nothing, or half-made things that the shell removed: it was never created completely.
    Nothing,
    /// `created`, with this process.
    Created { process: Process },
    /// Its program runs.
    Running { process: Process },
    /// It exited meanwhile; `empty`: no process is left in the cgroup.
    Ended { status: Option<WaitStatus>, oom: bool, empty: bool },
}
