//! How far the rollout of a revision is.

use super::ids::Revision;
use super::time::Time;
use serde::{Deserialize, Serialize};

/// How far the rollout of a revision is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The revision that is rolled out.
    pub revision: Revision,
    /// `Workload::generation` when it began: whatever the owner changes gives it new time.
    pub generation: u64,
    /// When it last came closer to its end.
    pub progressed: Time,
    /// The most replicas of the revision that there were, and that were available; and the fewest others.
    pub updated: u32,
    /// The most of them that were available.
    pub available: u32,
    /// The fewest replicas of other revisions.
    pub old: u32,
    /// How it went.
    pub verdict: Verdict,
    /// When the verdict fell, and why, if it is not a good one.
    pub judged: Time,
    /// Why, in one line.
    pub reason: String,
}

/// The state of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It continues.
    Progressing,
    /// All replicas were available, of the new revision, at one time. Final.
    Complete,
    /// New replicas fail.
    Failed,
    /// Nothing came closer to the end for too long.
    DeadlineExceeded,
}
