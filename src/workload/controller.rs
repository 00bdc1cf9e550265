//! What a kind of Kubernetes adds to the replicas of a workload: order, completion, how they are updated.

use serde::{Deserialize, Serialize};

/// `spec.controller`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Controller {
    /// As the file calls it: `StatefulSet`.
    pub kind: String,
    /// Of a Job: how many replicas run at a time. `spec.replicas` is how many must succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// Of a Job: when it is deleted after it has finished, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<u64>,
    /// Of a Job: each replica knows its number (`JOB_COMPLETION_INDEX`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub indexed: bool,
    /// Of a StatefulSet: each replica waits until those of lower numbers are ready.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ordered: bool,
    /// Of a StatefulSet: replicas of lower numbers keep their revision.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub partition: u32,
    /// A replica keeps its revision until somebody restarts it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub on_delete: bool,
}

impl Controller {
    #[must_use]
    pub fn is_job(&self) -> bool {
        self.kind == "Job"
    }

    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.kind == "StatefulSet"
    }
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}
