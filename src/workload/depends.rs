//! Dependencies of a workload, which must be met before its replicas are created.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Another workload, and how far it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// The name of the other workload.
    pub workload: String,
    /// The condition to meet.
    #[serde(default, skip_serializing_if = "Condition::is_started")]
    pub condition: Condition,
    /// It may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// How far it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Condition {
    /// The programs of all replicas run, or have succeeded.
    #[default]
    Started,
    /// All replicas are ready.
    Ready,
    /// All replicas have exited successfully, for good.
    Completed,
}

impl Condition {
    fn is_started(&self) -> bool {
        *self == Condition::Started
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Condition::Started => "started",
            Condition::Ready => "ready",
            Condition::Completed => "completed",
        })
    }
}
