//! Differences between kinds of workloads: Jobs, whose replicas run until they succeed ([`super::job`]), and StatefulSets, whose
//! replicas have an order ([`super::order`]).

use super::spec::RestartRule;
use super::time::Millis;
use crate::workload::cron::Concurrency;
use crate::workload::depends::Dependency;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the replicas of a workload follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Controller {
    /// It is a Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Job>>,
    /// It is a CronJob, and runs nothing itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<Box<Cron>>,
    /// The highest slots go first: when fewer are desired, and when they are updated.
    pub stateful: bool,
    /// A slot waits until all lower ones are ready.
    pub ordered: bool,
    /// Lower slots keep their revision.
    pub partition: u32,
    /// A replica keeps its revision until its restart is requested.
    pub on_delete: bool,
    /// Workloads that must be so far before replicas are made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
}

/// Makes a job at the times of its schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cron {
    /// See [`crate::workload::schedule::Schedule`].
    pub schedule: String,
    /// A name of the tz database. None: that of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What happens while an earlier job runs.
    pub policy: Concurrency,
    /// How late a job may be made. None: at any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<Millis>,
    /// How many jobs are kept that have succeeded.
    pub keep_succeeded: u32,
    /// How many jobs are kept that have failed.
    pub keep_failed: u32,
    /// No job is made.
    #[serde(skip_serializing_if = "is_false")]
    pub suspended: bool,
    /// The number of replicas of its job.
    pub completions: u32,
    /// Its job.
    pub job: Job,
}

/// Of each slot of a job one replica succeeds once and is not run again. The number of replicas is that of the slots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Job {
    /// How many replicas may run at a time.
    pub parallelism: u32,
    /// Time to keep a finished job. None: until it is deleted.
    pub ttl: Option<Millis>,
    /// How many failures of all replicas together the job survives. None: only its template has a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<u32>,
    /// The same for each slot: one that fails more often has failed, and the others run to their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_limit_per_index: Option<u32>,
    /// How many slots may have failed before the job fails at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failed_indexes: Option<u32>,
    /// How long the job may take, from its first replica on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// A queue of work: after the first success no replica is run again, and the job is complete when all have exited.
    #[serde(skip_serializing_if = "is_false")]
    pub queue: bool,
    /// Nothing runs.
    #[serde(skip_serializing_if = "is_false")]
    pub suspended: bool,
    /// The first that matches decides on a failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failure_rules: Vec<FailureRule>,
    /// The job has succeeded as soon as one of them holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub success_rules: Vec<SuccessRule>,
}

/// For serde.
fn is_false(b: &bool) -> bool {
    !*b
}

/// The meaning of some exit codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRule {
    /// The action.
    pub action: FailureRuleAction,
    /// None: of any container.
    #[serde(default)]
    pub container: Option<String>,
    /// None: it is about conditions that replicas never have here.
    #[serde(default)]
    pub exit: Option<RestartRule>,
}

/// The meaning of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureRuleAction {
    /// The whole job has failed.
    FailJob,
    /// The index has failed and is not run again.
    FailIndex,
    /// It is run again, and the failure does not count.
    Ignore,
    /// It counts against the limit.
    Count,
}

/// Enough of these slots have succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRule {
    /// The first and the last of each range. None: all slots.
    #[serde(default)]
    pub indexes: Option<Vec<(u32, u32)>>,
    /// None: all of them.
    #[serde(default)]
    pub count: Option<u32>,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobEnd {
    /// Failed, or succeeded.
    pub failed: bool,
    /// Why, in one word.
    pub reason: JobReason,
    /// Why, in one line.
    pub message: String,
}

/// Kubernetes' reasons of a Job's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobReason {
    /// As many replicas as desired have succeeded.
    CompletionsReached,
    /// The replicas of a rule of success have succeeded.
    SuccessPolicy,
    /// More failures than `backoffLimit` allows.
    BackoffLimitExceeded,
    /// It ran for longer than `activeDeadlineSeconds` allows.
    DeadlineExceeded,
    /// A rule of `podFailurePolicy` matched.
    PodFailurePolicy,
    /// Each index is over, and some have failed.
    FailedIndexes,
    /// More indices have failed than `maxFailedIndexes` allows.
    MaxFailedIndexesExceeded,
}

impl fmt::Display for JobReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}
