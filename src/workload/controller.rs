//! Behaviour of a kind of Kubernetes: order, completion, updates of replicas.

use serde::{Deserialize, Serialize};

use super::cron::Cron;
use super::exit_codes::ExitCodes;

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
    /// Of a Job: how many failures of all replicas together it survives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<u32>,
    /// Of a Job: the same for each replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_limit_per_index: Option<u32>,
    /// Of a Job: how many replicas may have failed before the job fails at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_indexes: Option<u32>,
    /// Of a Job: how long all of it may take, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u64>,
    /// Of a Job: it is complete when all replicas have exited after the first success.
    #[serde(default, skip_serializing_if = "is_false")]
    pub queue: bool,
    /// Of a Job: nothing runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// Of a Job: what some failures mean; the first rule that matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_failure_policy: Vec<FailureRule>,
    /// Of a Job: when it has succeeded before all replicas have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success_policy: Vec<SuccessRule>,
    /// Of a CronJob: when its job is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Box<Cron>>,
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

/// A rule of `podFailurePolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureRule {
    pub action: FailureAction,
    /// `None`: of any container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// `None`: it is about conditions of pods that never come true on one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_codes: Option<ExitCodes>,
}

/// Action of a rule of `podFailurePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    FailJob,
    FailIndex,
    Ignore,
    Count,
}

/// A rule of `successPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuccessRule {
    /// Numbers and ranges, such as `0,2-4`. `None`: all replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_indexes: Option<String>,
    /// `None`: all of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_count: Option<u32>,
}

impl Controller {
    #[must_use]
    pub fn is_job(&self) -> bool {
        self.kind == "Job"
    }

    #[must_use]
    pub fn is_cron(&self) -> bool {
        self.cron.is_some()
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
