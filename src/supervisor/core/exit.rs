//! How an instance exits, and why one is stopped or cannot be started.

use super::time::Time;
use serde::{Deserialize, Serialize};

/// A status as wait(2) encodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// The exit code, when it exited.
    pub fn code(self) -> Option<i32> {
        (self.0 & 0x7f == 0).then_some((self.0 >> 8) & 0xff)
    }

    /// The signal that killed it.
    pub fn signal(self) -> Option<i32> {
        let n = self.0 & 0x7f;
        (n != 0 && n != 0x7f).then_some(n)
    }
}

/// Why an instance exited; the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitClass {
    /// It was being stopped: never a failure.
    Requested,
    /// A process of its cgroup was killed for lack of memory, and init died of a signal.
    Oom,
    /// It was stopped because a probe failed.
    Probe,
    /// It was stopped because its postStart hook failed.
    PostStart,
    /// It was stopped because its replica had run for as long as it may.
    Deadline,
    /// Init was killed by a signal.
    Signal(i32),
    /// Init exited with this status.
    Exited(i32),
    /// The program could not be run, or the container not be created.
    StartError {
        /// Trying again is useless until the workload changes.
        unrecoverable: bool,
        /// The reason is its image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<ImageError>,
    },
    /// It exited while no supervisor could see its status; counts as a failure.
    Unknown,
}

/// Why something is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopCause {
    /// Its workload is being deleted.
    Deleted,
    /// Fewer replicas are desired.
    ScaledDown,
    /// Its revision is not the current one.
    Replaced,
    /// A restart was requested.
    Restarted,
    /// The startup or liveness probe.
    ProbeFailed,
    /// The postStart hook.
    PostStartFailed,
    /// Its replica has run for as long as it may.
    DeadlineExceeded,
    /// The sandbox that it is in is gone.
    SandboxLost,
    /// A sidecar whose main containers have exited.
    Finished,
    /// The job that it is part of has failed.
    JobFailed,
    /// The job that it is part of is complete without it.
    JobComplete,
    /// No workload needs it any more.
    Orphaned,
    /// The host goes down.
    Drained,
}

/// The exit of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// When.
    pub at: Time,
    /// None if it was not observed.
    pub status: Option<WaitStatus>,
    /// The cgroup's counter of OOM kills is above zero.
    pub oom: bool,
    /// Of a start that failed.
    pub error: Option<StartError>,
}

/// Why a container could not be created or started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartError {
    /// One line, for people.
    pub message: String,
    /// Trying again is useless until the bundle changes: no such program, invalid configuration.
    pub unrecoverable: bool,
    /// The reason is its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageError>,
}

/// Why a container's image cannot be used, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageError {
    /// It could not be pulled.
    ErrImagePull,
    /// It is not on this host, and must not be pulled.
    ErrImageNeverPull,
    /// The name is not valid.
    InvalidImageName,
}

impl ExitClass {
    /// Whether the policy OnFailure starts the container again.
    pub fn is_failure(self) -> bool {
        !matches!(self, ExitClass::Requested | ExitClass::Exited(0))
    }
}
