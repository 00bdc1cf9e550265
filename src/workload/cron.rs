//! A CronJob of Kubernetes: a schedule, and the job that it makes again and again.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The annotation of a job that has its scheduled time (RFC 3339), as Kubernetes calls it.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// The annotation of a job that was made by hand, as kubectl calls it.
const INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";

/// `spec.controller.cron`: when a CronJob makes its job. The rest of its controller is that of the job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cron {
    /// See [`super::schedule::Schedule`].
    pub schedule: String,
    /// A name of the tz database. `None`: the zone of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens while an earlier job runs.
    #[serde(default)]
    pub concurrency_policy: Concurrency,
    /// How late a job may be made, seconds. `None`: any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline_seconds: Option<u64>,
    /// How many jobs are kept that have succeeded.
    pub successful_jobs_history_limit: u32,
    /// How many jobs are kept that have failed.
    pub failed_jobs_history_limit: u32,
    /// How many replicas of its job must succeed.
    pub completions: u32,
    /// No job is made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Labels of the jobs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the jobs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What happens when a job is to be made while an earlier one runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Concurrency {
    /// Both run.
    #[default]
    Allow,
    /// The new one is made when the earlier one has finished, if it is not too late then.
    Forbid,
    /// The earlier one is deleted.
    Replace,
}

/// The `spec` of a CronJob, whose job is `job`.
pub(crate) fn written(cron: &Cron, job: Value) -> Map<String, Value> {
    let mut spec = Map::new();
    let mut set = |name: &str, value: Option<Value>| spec.extend(value.map(|v| (name.to_owned(), v)));
    set("schedule", Some(cron.schedule.clone().into()));
    set("timeZone", cron.time_zone.clone().map(Value::from));
    set("concurrencyPolicy", Some(json!(cron.concurrency_policy)));
    set("startingDeadlineSeconds", cron.starting_deadline_seconds.map(Value::from));
    set("successfulJobsHistoryLimit", Some(cron.successful_jobs_history_limit.into()));
    set("failedJobsHistoryLimit", Some(cron.failed_jobs_history_limit.into()));
    set("suspend", cron.suspend.then(|| true.into()));
    let mut template = Map::new();
    let mut metadata = Map::new();
    for (name, values) in [("labels", &cron.labels), ("annotations", &cron.annotations)] {
        if !values.is_empty() {
            metadata.insert(name.to_owned(), json!(values));
        }
    }
    if !metadata.is_empty() {
        template.insert("metadata".to_owned(), metadata.into());
    }
    template.insert("spec".to_owned(), job);
    set("jobTemplate", Some(template.into()));
    spec
}

/// The text of the job `name` that a CronJob with the text `source` makes, for `scheduled` (seconds since 1970).
/// `None`: by hand.
#[must_use]
pub fn job(source: &Value, name: &str, scheduled: Option<i64>) -> Value {
    let mut job = source.clone();
    let cron: Option<Cron> = serde_json::from_value(source["spec"]["controller"]["cron"].clone()).ok();
    let cron = cron.unwrap_or_default();
    let mut annotations = cron.annotations;
    match scheduled {
        Some(at) => annotations.insert(SCHEDULED.to_owned(), rfc3339(at)),
        None => annotations.insert(INSTANTIATE.to_owned(), "manual".to_owned()),
    };
    job["metadata"] = json!({"name": name, "labels": cron.labels, "annotations": annotations});
    job["spec"]["replicas"] = cron.completions.into();
    if let Some(controller) = job["spec"]["controller"].as_object_mut() {
        controller.remove("cron");
        controller.insert("kind".to_owned(), "Job".into());
    }
    job
}

/// A time as text, UTC.
#[must_use]
pub fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// The time of a text that [`rfc3339`] has made.
#[must_use]
pub fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
