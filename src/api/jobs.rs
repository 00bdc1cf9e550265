//! Jobs, and the CronJobs that make them, as objects of the interface.

use serde::{Deserialize, Serialize};

use crate::supervisor::core::desired::Workload;
use crate::supervisor::core::ids::WorkloadId;
use crate::supervisor::core::runs::{Outcome, Seen};
use crate::supervisor::shell::handle::View;
use crate::workload::cron::rfc3339;

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Else it is complete.
    pub failed: bool,
    /// Kubernetes' word, such as `BackoffLimitExceeded`.
    pub reason: String,
    pub message: String,
}

/// What a CronJob has made, and makes next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CronStatus {
    /// Names of its jobs that have not finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,
    /// The scheduled time of its last job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<String>,
    /// `None`: it is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<String>,
    /// Why the last scheduled time has no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Body of a request for a job of a CronJob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpawnRequest {
    /// Name of the job.
    pub name: String,
}

/// Of a job.
pub fn job(w: &Workload) -> Option<JobStatus> {
    w.job_end().map(|end| JobStatus {
        failed: end.failed,
        reason: end.reason.to_string(),
        message: end.message,
    })
}

/// Of a CronJob.
pub fn cron(view: &View, id: WorkloadId, w: &Workload) -> Option<CronStatus> {
    w.controller.cron.as_ref()?;
    let active = view.desired.jobs_of(id).filter(|(_, job)| job.finished.is_none());
    let clock = view.observed.clock.as_ref();
    let seen = view.observed.workloads.get(&id).and_then(|s| s.cron.as_ref());
    let missed = seen.filter(|s| !matches!(s.outcome, Outcome::Made { .. }));
    Some(CronStatus {
        active: active.map(|(_, job)| job.name.clone()).collect(),
        last_schedule_time: w.runs.last.map(rfc3339),
        next_schedule_time: clock.and_then(|clock| w.next_run(clock, view.now)).map(rfc3339),
        message: missed.map(Seen::words),
    })
}

/// The name of the CronJob that made a job.
pub fn owner(view: &View, w: &Workload) -> Option<String> {
    let owner = view.desired.workloads.get(&w.owner?.workload)?;
    Some(owner.name.clone())
}
