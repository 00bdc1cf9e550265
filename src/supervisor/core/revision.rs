//! Facts about a revision besides its template.

use serde::{Deserialize, Serialize};

/// When and why a revision became the desired one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970 by the wall clock of the host; 0 if unknown.
    #[serde(default)]
    pub at: i64,
    /// For people: `apply web.yaml`, `rollout restart`.
    #[serde(default)]
    pub cause: String,
}

/// Facts about a revision besides its template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Grows with every change of the revision, and is never given twice: a revision that is gone back to gets a new one.
    /// 0: the same as its [`super::ids::Revision`].
    pub number: u32,
    /// When and why it became the desired one.
    pub stamp: Stamp,
    /// All replicas of it were available at one time.
    pub healthy: bool,
    /// Why its rollout failed.
    pub failed: Option<String>,
    /// It is the current one because the workload has gone back to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// Counts the restarts of the whole workload: replicas of another count do not go over to the revision as they are.
    pub incarnation: u32,
    /// The applied document, while another revision is the desired one.
    pub source: serde_json::Value,
}
