//! The objects of the interface, in both directions. Times are RFC 3339 in UTC.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::api::jobs::{CronStatus, JobStatus};
use crate::config::document::diagnostic::Diagnostic;
pub use crate::supervisor::core::checks::ProbeKind;
pub use crate::supervisor::core::phase::{ConditionType, Reason, ReplicaPhase, RolloutState, WorkloadPhase};
pub use crate::supervisor::core::spec::Role;
use crate::workload::{KeptObject, Workload};

/// Several objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    pub items: Vec<T>,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A word for programs: `NotFound`, `Conflict`, `Invalid`, `BadRequest`, `TooLarge`, `Forbidden`, `Unavailable`,
    /// `Internal`.
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A workload: as it was applied, and how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadObject {
    #[serde(flatten)]
    pub workload: Workload,
    pub status: WorkloadStatus,
}

impl WorkloadObject {
    /// Whether applying `w` would change nothing.
    #[must_use]
    pub fn as_applied(&self, w: &Workload) -> bool {
        let mut own = self.workload.clone();
        if w.spec.paused.is_none() {
            own.spec.paused = None;
        }
        own == *w
    }
}

/// How a workload is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Never used twice, unlike the name.
    pub uid: u64,
    /// Counts the changes of the spec.
    pub generation: u64,
    /// The revision that replicas shall have.
    pub revision: u32,
    pub phase: WorkloadPhase,
    pub rollout: RolloutStatus,
    /// Replicas that exist and are not being stopped.
    pub replicas: u32,
    /// Those of them that are ready.
    pub ready: u32,
    /// Those of them that have been ready for long enough.
    pub available: u32,
    /// Those of them that have the current revision.
    pub updated: u32,
    /// Replicas that are being stopped.
    pub terminating: u32,
    /// Replicas that terminated for good: successfully, and not.
    pub succeeded: u32,
    pub failed: u32,
    /// Restarts of all containers of all replicas.
    pub restarts: u64,
    /// `stop` was asked for: nothing runs, whatever `spec.replicas` says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// The problem of a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Conditions besides the phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How a job has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// Of a CronJob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronStatus>,
    /// The CronJob that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When everything is killed at the latest, once it is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_deadline: Option<String>,
}

/// Something that is true of a workload or a replica at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `LogDiskFull`: the output of a container cannot be written. `Draining`: the host is drained.
    /// `PortTaken`: a port of the host cannot be opened. `Waiting`: another workload is not as far as it must be.
    pub r#type: ConditionType,
    /// The container that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    pub message: String,
}

/// The drain of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// No replica is started, and all are stopped.
    pub draining: bool,
    /// The replicas of which something runs still.
    pub running: Vec<String>,
    /// When the last of those that are being stopped is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

/// Body of a drain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DrainRequest {
    /// Replicas are started again.
    pub undo: bool,
}

/// How far the rollout of a revision is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    pub state: RolloutState,
    /// Why it is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The replica and the container that are worst off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The last revision whose rollout failed and that was given up for the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedRevision>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRevision {
    pub revision: u32,
    pub message: String,
}

/// One revision of a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionObject {
    pub revision: u32,
    /// It is the one that replicas shall have.
    pub current: bool,
    /// All replicas were available at one time.
    pub healthy: bool,
    /// Replicas of it that exist and are not being stopped.
    pub replicas: u32,
    /// When it last became the desired one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    pub cause: String,
    /// Why its rollout failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaObject {
    /// `web-0`. While a replacement overlaps there are two of the same name.
    pub name: String,
    pub workload: String,
    pub slot: u32,
    /// Distinguishes overlapping replicas of a slot.
    pub serial: u64,
    pub revision: u32,
    /// In one word, as Kubernetes has it: `Running`, `Pending`, `CrashLoopBackOff`, `Terminating`, `Completed` ...
    pub phase: ReplicaPhase,
    /// While init containers run, in kubectl's words: `Init:0/2`, `Init:Error`, `PodInitializing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initializing: Option<String>,
    /// Each container is ready, or exited successfully.
    pub ready: bool,
    /// It has been ready for long enough.
    #[serde(default)]
    pub available: bool,
    /// Those of the workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub restarts: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    pub created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// In the network of pods.
    #[serde(default, rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    pub containers: Vec<ContainerObject>,
}

/// Why and until when something is being stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stopping {
    pub cause: String,
    pub deadline: String,
}

/// One container of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerObject {
    pub name: String,
    #[serde(default)]
    pub role: Role,
    /// Empty for a container that has an image.
    pub bundle: String,
    /// The name of its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The ports that its image declares, as `80/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// Its id for the runtime, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    pub ready: bool,
    pub restarts: u64,
    pub state: ContainerState,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeObject>,
    /// The last ends, newest first.
    pub exits: Vec<ExitObject>,
}

/// A probe of a container, and its results since the container was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeObject {
    pub kind: ProbeKind,
    /// Its action, as kubectl shows it.
    pub check: String,
    /// None: there is no verdict yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    pub successes: u64,
    pub failures: u64,
    /// It could not run.
    pub errors: u64,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    #[serde(rename_all = "camelCase")]
    Waiting {
        reason: Reason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_attempt: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    Running { started: String },
    #[serde(rename_all = "camelCase")]
    Terminating { stopping: Stopping },
    #[serde(rename_all = "camelCase")]
    Terminated { reason: Reason },
}

/// One end of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitObject {
    /// The number of the instance that exited: no other one has it until the next boot. Times may differ by a millisecond after a restart
    /// of the daemon.
    #[serde(default)]
    pub instance: u64,
    pub time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it, as `SIGKILL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ExitObject {
    /// An exit in a few words: `exit code 1`, `killed by SIGKILL (OOMKilled)`.
    pub fn summary(&self) -> String {
        let how = match (self.exit_code, &self.signal) {
            (_, Some(signal)) => format!("killed by {signal}"),
            (Some(code), None) => format!("exit code {code}"),
            (None, None) => self.message.clone().unwrap_or_else(|| "exit status unknown".to_owned()),
        };
        match self.reason {
            Reason::Completed
            | Reason::Error
            | Reason::Unknown
            | Reason::StartError
            | Reason::ErrImagePull
            | Reason::ImagePullBackOff
            | Reason::ErrImageNeverPull
            | Reason::InvalidImageName => how,
            reason => format!("{how} ({reason})"),
        }
    }
}

/// Something that people want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventObject {
    pub time: String,
    /// Milliseconds from the boot of the host: other than `time` it is the same whenever it is asked for.
    #[serde(default)]
    pub uptime: u64,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub severity: String,
    /// Kubernetes' words where it has one.
    pub reason: String,
    pub workload: String,
    /// The kind of the workload in its file: `deployment`. None: it no longer exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    pub message: String,
}

/// A kept object: as it was applied, and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptAnswer {
    #[serde(flatten)]
    pub object: KeptObject,
    pub status: KeptStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptStatus {
    /// Never used twice among kept objects, unlike the name.
    pub uid: u64,
    /// Counts the changes of the object.
    pub generation: u64,
    pub created: String,
    /// Of a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceStatus>,
}

/// The endpoints of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// At which pods reach it. None: its name leads to its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The ports of the host that lead to it.
    pub host_ports: Vec<u16>,
    /// The pods that connections are led to now: `ADDRESS:PORT`, and of a headless one only the address.
    pub endpoints: Vec<String>,
    /// Why a port cannot be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A published port: of the host, or at the address of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortObject {
    /// Its owner: one of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where it is open. None: at all addresses of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub port: u16,
    /// It is open at the address of a Service, for pods and the host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cluster: bool,
    /// The port of the replicas, when it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// The replicas that connections are led to now.
    pub endpoints: Vec<String>,
    /// Why it is not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Outcome for an applied object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// `workload`, or what the file calls it: `deployment`, `configmap`.
    pub kind: String,
    pub name: String,
    pub outcome: Outcome,
    /// Of the object after the change; 0 for one that a dry run would create.
    pub generation: u64,
    #[serde(default)]
    pub revision: u32,
}

/// Result of an apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Created,
    Configured,
    Unchanged,
    /// Its project does not have it any more.
    Deleted,
}

/// The body of a scale: a merge patch (RFC 7386) of which nothing else may be part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalePatch {
    pub spec: ScaleSpec,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleSpec {
    pub replicas: u32,
}

/// A change that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    pub uid: u64,
    pub generation: u64,
    /// The number of the revision that was applied last.
    #[serde(default)]
    pub revision: u32,
    /// The kind of the workload in its file: `deployment`. Empty for other objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

impl Changed {
    /// The workload `name` as people write it: `deployment/web`.
    pub fn path(&self, name: &str) -> String {
        let kind = if self.kind.is_empty() { "workload" } else { &self.kind };
        format!("{kind}/{name}")
    }
}

/// Resource usage of a container at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatsObject {
    pub replica: String,
    pub workload: String,
    pub container: String,
    /// Its id for the runtime.
    #[serde(default)]
    pub id: String,
    /// The name of its image; a bundle's path instead of one.
    #[serde(default)]
    pub image: String,
    pub restarts: u64,
    /// CPU time used since it was created, nanoseconds.
    pub cpu: u64,
    /// CLOCK_BOOTTIME when it was read, nanoseconds: what differences of `cpu` are to be divided by.
    pub at: u64,
    /// CLOCK_BOOTTIME when its first process started, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// Bytes, without what could be dropped at once (the page cache that nothing uses).
    pub memory: u64,
    /// Bytes; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Bytes, with the page cache; of it, anonymous memory, and the page cache.
    #[serde(default)]
    pub memory_usage: u64,
    #[serde(default)]
    pub rss: u64,
    #[serde(default)]
    pub cache: u64,
    /// How long it had no CPU because of its limit, nanoseconds.
    #[serde(default)]
    pub throttled: u64,
    /// Processes that were killed because of the limit of memory.
    #[serde(default)]
    pub oom_kills: u64,
    pub pids: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
}

/// A process to run in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExecRequest {
    /// By name; the first one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    pub command: Vec<String>,
    pub tty: bool,
    /// Size of the terminal: rows and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<(u16, u16)>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// `UID[:GID]` or names of the container's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Body of a kill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KillRequest {
    /// By name or number.
    pub signal: String,
    /// By name; the first one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Body of a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RestartRequest {
    /// The slot; absent: all replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
}

/// Body of an undo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UndoRequest {
    /// The number of the revision; absent: the one before the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<u32>,
}

/// The answer of `/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
    pub commit: String,
    pub api: Vec<String>,
}

/// An invalid workload file: a [`Failure`] with all errors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InvalidFile {
    #[serde(flatten)]
    pub failure: Failure,
    pub errors: Vec<Diagnostic>,
}
