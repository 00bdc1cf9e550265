//! The words for the states of containers, replicas, workloads and rollouts. [`super::status`] says which of them applies.

use super::exit::StopCause;
use super::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A word for why a container waits or has terminated: Kubernetes' where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// On its way; no trouble.
    ContainerCreating,
    /// It failed and waits for its next start.
    CrashLoopBackOff,
    /// A ConfigMap or Secret that it is made from, or a key of one, is missing.
    CreateContainerConfigError,
    /// It could not be created or its program not be run.
    StartError,
    /// Its image could not be pulled a moment ago.
    ErrImagePull,
    /// Its image could not be pulled, and it waits for the next attempt.
    ImagePullBackOff,
    /// Its image is not on this host and must not be pulled.
    ErrImageNeverPull,
    InvalidImageName,
    /// It exited successfully and waits for its next start.
    Restarting,
    Completed,
    Error,
    #[serde(rename = "OOMKilled")]
    OomKilled,
    /// It was to stop.
    Stopped,
    /// It was stopped because a probe failed.
    Unhealthy,
    /// It was stopped because its postStart hook failed.
    PostStartHookError,
    /// It had run for as long as its replica may.
    DeadlineExceeded,
    /// Its exit status is unknown.
    Unknown,
    /// It restarted too often and is not started again.
    RestartLimit,
}

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    Waiting { reason: Reason, next_attempt: Option<Time> },
    Running { started: Time },
    Terminating { cause: StopCause, deadline: Time },
    Terminated { reason: Reason },
}

/// A replica in a word: that of the container that is worst off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReplicaPhase {
    CreateContainerConfigError,
    CrashLoopBackOff,
    StartError,
    ErrImagePull,
    ImagePullBackOff,
    ErrImageNeverPull,
    InvalidImageName,
    Restarting,
    ContainerCreating,
    RestartLimit,
    #[serde(rename = "OOMKilled")]
    OomKilled,
    Error,
    Unhealthy,
    PostStartHookError,
    DeadlineExceeded,
    Unknown,
    Stopped,
    Terminating,
    Running,
    Completed,
    Pending,
}

impl From<Reason> for ReplicaPhase {
    fn from(reason: Reason) -> ReplicaPhase {
        match reason {
            Reason::ContainerCreating => ReplicaPhase::ContainerCreating,
            Reason::CrashLoopBackOff => ReplicaPhase::CrashLoopBackOff,
            Reason::CreateContainerConfigError => ReplicaPhase::CreateContainerConfigError,
            Reason::StartError => ReplicaPhase::StartError,
            Reason::ErrImagePull => ReplicaPhase::ErrImagePull,
            Reason::ImagePullBackOff => ReplicaPhase::ImagePullBackOff,
            Reason::ErrImageNeverPull => ReplicaPhase::ErrImageNeverPull,
            Reason::InvalidImageName => ReplicaPhase::InvalidImageName,
            Reason::Restarting => ReplicaPhase::Restarting,
            Reason::Completed => ReplicaPhase::Completed,
            Reason::Error => ReplicaPhase::Error,
            Reason::OomKilled => ReplicaPhase::OomKilled,
            Reason::Stopped => ReplicaPhase::Stopped,
            Reason::Unhealthy => ReplicaPhase::Unhealthy,
            Reason::PostStartHookError => ReplicaPhase::PostStartHookError,
            Reason::DeadlineExceeded => ReplicaPhase::DeadlineExceeded,
            Reason::Unknown => ReplicaPhase::Unknown,
            Reason::RestartLimit => ReplicaPhase::RestartLimit,
        }
    }
}

/// A workload in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadPhase {
    /// All replicas are available, and of the current revision.
    Ready,
    /// On its way, and nothing has failed.
    #[default]
    Progressing,
    /// Something fails.
    Degraded,
    /// No replica shall run and none exists.
    Stopped,
    /// Every replica exited successfully and will not run again.
    Complete,
    /// Being deleted.
    Terminating,
}

/// The state of a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RolloutState {
    #[default]
    Progressing,
    Complete,
    Paused,
    /// New replicas fail.
    Failed,
    /// No new replica became available in time.
    DeadlineExceeded,
}

/// Something that is true of a workload besides its phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    /// The output of a container cannot be written: its program waits when it writes more.
    LogDiskFull,
    /// The host is drained: nothing is started.
    Draining,
    /// A port of the host that it publishes cannot be opened.
    PortTaken,
    /// It waits for another workload.
    Waiting,
}

impl fmt::Display for WorkloadPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}

impl fmt::Display for RolloutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}

/// The words that the interface has, too.
macro_rules! words {
    ($($type:ty: $($variant:ident = $word:literal),*;)*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(<$type>::$variant => f.pad($word),)*
                    other => f.pad(&format!("{other:?}")),
                }
            }
        }
    )*};
}

words! {
    Reason: OomKilled = "OOMKilled";
    ReplicaPhase: OomKilled = "OOMKilled";
}
