//! How a CronJob of Kubernetes is read.

use serde_json::{Map, Value};
use std::path::Path;

use super::check::Checker;
use super::cron::Cron;
use super::document::Document;
use super::kubernetes;
use super::object::Object;
use super::schedule::{Schedule, Zone};
use super::semantic;

/// Kubernetes' limits of a CronJob's history.
const SUCCESSFUL_KEPT: u32 = 3;
const FAILED_KEPT: u32 = 1;

/// A job has the name of its CronJob and up to eleven characters more.
const LONGEST_NAME: usize = 52;

/// A CronJob.
pub fn workload(checker: &mut Checker<'_>, d: &Document<'_>, base: Option<&Path>) -> Option<Object> {
    kubernetes::check_name(checker, d);
    let spec = d.value.get("spec")?.as_object()?;
    check(checker, d);
    let job = spec.get("jobTemplate")?.as_object()?;
    let node = semantic::node(d.node, "spec.jobTemplate")?;
    let mut value = Map::new();
    value.extend(d.value.get("metadata").map(|m| ("metadata".to_owned(), m.clone())));
    value.extend(job.get("spec").map(|s| ("spec".to_owned(), s.clone())));
    let before = checker.problems.len();
    let object = kubernetes::pods(checker, &Document { kind: "Job", node, value }, base);
    for problem in &mut checker.problems[before..] {
        problem.property = format!("spec.jobTemplate.{}", problem.property);
    }
    let Object::Workload { mut workload, .. } = object? else { return None };
    if let Some(controller) = &mut workload.spec.controller {
        d.kind.clone_into(&mut controller.kind);
        controller.cron = Some(Box::new(Cron { completions: workload.spec.replicas, ..read(spec, job) }));
        // It runs nothing itself.
        workload.spec.replicas = 0;
    }
    Some(Object::Workload { kind: d.kind.to_owned(), workload })
}

fn read(spec: &Map<String, Value>, job: &Map<String, Value>) -> Cron {
    let text = |name: &str| spec.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| spec.get(name).and_then(Value::as_u64);
    let kept = |name: &str, default| number(name).map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let of_jobs = |name: &str| job.get("metadata").and_then(|m| serde_json::from_value(m[name].clone()).ok());
    let policy = spec.get("concurrencyPolicy").cloned().unwrap_or_default();
    Cron {
        schedule: text("schedule").unwrap_or_default(),
        time_zone: text("timeZone"),
        concurrency_policy: serde_json::from_value(policy).unwrap_or_default(),
        starting_deadline_seconds: number("startingDeadlineSeconds"),
        successful_jobs_history_limit: kept("successfulJobsHistoryLimit", SUCCESSFUL_KEPT),
        failed_jobs_history_limit: kept("failedJobsHistoryLimit", FAILED_KEPT),
        completions: 0,
        suspend: spec.get("suspend").is_some_and(|s| s == true),
        labels: of_jobs("labels").unwrap_or_default(),
        annotations: of_jobs("annotations").unwrap_or_default(),
    }
}

/// What the table cannot say of a CronJob.
fn check(checker: &mut Checker<'_>, d: &Document<'_>) {
    let mut problem = |path: &str, message: String, hint: &str| {
        checker.error(semantic::place(d.node, path), path, message, Some(hint.to_owned()));
    };
    if d.name().len() > LONGEST_NAME {
        let message = format!("the name of a CronJob must not exceed {LONGEST_NAME} characters");
        problem("metadata.name", message, "its jobs have the name and the time, such as NAME-29000000");
    }
    if let Some(schedule) = semantic::text(d.node, "spec.schedule")
        && let Err(why) = Schedule::parse(&schedule)
    {
        let hint = "minute hour day-of-month month day-of-week, such as \"30 4 * * 1-5\" or \"@daily\"";
        problem("spec.schedule", why, hint);
    }
    if let Some(zone) = semantic::text(d.node, "spec.timeZone")
        && Zone::named(&zone).is_none()
    {
        let message = format!("unknown time zone {zone:?}");
        problem("spec.timeZone", message, "write a name of the tz database, such as `Europe/Berlin`");
    }
}

#[cfg(test)]
mod tests {
    use crate::workload::cron::{Concurrency, job};
    use crate::workload::{self, Workload};

    const FILE: &str = "apiVersion: batch/v1
kind: CronJob
metadata: {name: report, labels: {app: report}}
spec:
  schedule: '30 4 * * 1-5'
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 600
  successfulJobsHistoryLimit: 5
  failedJobsHistoryLimit: 0
  suspend: true
  jobTemplate:
    metadata: {labels: {tier: batch}, annotations: {by: me}}
    spec:
      completions: 2
      backoffLimit: 1
      template:
        metadata: {labels: {app: report}}
        spec:
          restartPolicy: OnFailure
          containers: [{name: main, image: 'nginx'}]
";

    fn one(text: &str) -> Workload {
        workload::read("f", text, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0)
    }

    #[test]
    fn a_cronjob_is_read_with_its_job() {
        let w = one(FILE);
        let c = w.spec.controller.clone().unwrap();
        assert!(!c.is_job() && c.is_cron());
        let cron = c.cron.unwrap();
        assert_eq!((c.backoff_limit, w.spec.replicas, cron.completions), (Some(1), 0, 2));
        assert_eq!(
            (cron.schedule.as_str(), cron.time_zone.as_deref()),
            ("30 4 * * 1-5", Some("Europe/Berlin"))
        );
        assert_eq!(
            (cron.concurrency_policy, cron.starting_deadline_seconds),
            (Concurrency::Forbid, Some(600))
        );
        assert_eq!((cron.successful_jobs_history_limit, cron.failed_jobs_history_limit), (5, 0));
        assert!(cron.suspend && cron.labels["tier"] == "batch" && cron.annotations["by"] == "me");
        // Other formats have all of it.
        assert_eq!(one(&serde_json::to_string(&w).unwrap()), w);
        assert_eq!(one(&workload::write::kubernetes(&w).0.to_string()), w);
        let short = one(&FILE.replace("  successfulJobsHistoryLimit: 5\n  failedJobsHistoryLimit: 0\n", ""));
        let cron = short.spec.controller.unwrap().cron.unwrap();
        assert_eq!((cron.successful_jobs_history_limit, cron.failed_jobs_history_limit), (3, 1));
    }

    #[test]
    fn its_job_is_a_workload_of_its_own() {
        let source = serde_json::to_value(one(FILE)).unwrap();
        let made: Workload = serde_json::from_value(job(&source, "report-1", Some(1_700_000_040))).unwrap();
        assert_eq!(made.metadata.name, "report-1");
        assert_eq!(
            made.metadata.annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"],
            "2023-11-14T22:14:00Z"
        );
        assert_eq!(
            (made.metadata.labels["tier"].as_str(), made.metadata.annotations["by"].as_str()),
            ("batch", "me")
        );
        assert!(made.spec.controller.as_ref().is_some_and(|c| c.is_job() && c.cron.is_none()));
        assert_eq!(made.spec.replicas, 2);
        let by_hand = job(&source, "now", None);
        assert_eq!(by_hand["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"], "manual");
    }

    #[test]
    fn mistakes_have_the_path_that_the_file_has() {
        for (from, to, path, part) in [
            ("30 4 * * 1-5", "61 * * * *", "spec.schedule", "expected 0 to 59"),
            ("30 4 * * 1-5", "CRON_TZ=UTC * * * * *", "spec.schedule", "timeZone"),
            ("Europe/Berlin", "Local", "spec.timeZone", "unknown time zone"),
            (
                "OnFailure",
                "Always",
                "spec.jobTemplate.spec.template.spec.restartPolicy",
                "OnFailure or Never",
            ),
            ("Forbid", "Never", "spec.concurrencyPolicy", "Allow"),
            ("name: report,", &format!("name: {},", "a".repeat(53)), "metadata.name", "exceed 52"),
            ("main, image: 'nginx'", "main", "spec.jobTemplate.spec.template.spec.containers[0]", "image"),
        ] {
            let findings = workload::read("f", &FILE.replace(from, to), None).findings;
            let text = format!("{findings}");
            assert!(findings.errors() > 0 && text.contains(path) && text.contains(part), "{to}: {text}");
        }
    }
}
