//! CronJobs as rows and in `describe`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::kinds::ObjectKind;
use super::render::{Row, since};
use crate::api::types::WorkloadObject;
use crate::workload::cron::{Concurrency, Cron};

/// A CronJob, by what it has made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CronRow(pub WorkloadObject);

fn cron(w: &WorkloadObject) -> Option<&Cron> {
    w.workload.spec.controller.as_ref()?.cron.as_deref()
}

impl Row for CronRow {
    fn head(wide: bool) -> Vec<&'static str> {
        let mut head =
            vec!["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "NEXT SCHEDULE"];
        head.extend(if wide { &["POLICY", "IMAGES"][..] } else { &[] });
        head
    }

    fn row(&self, wide: bool, now: u64) -> Vec<String> {
        let (none, status) = (Cron::default(), self.0.status.cron.clone().unwrap_or_default());
        let cron = cron(&self.0).unwrap_or(&none);
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".to_owned());
        let mut row = vec![
            self.0.workload.metadata.name.clone(),
            cron.schedule.clone(),
            or_none(cron.time_zone.clone()),
            (cron.suspend || self.0.status.stopped).to_string(),
            status.active.len().to_string(),
            or_none(status.last_schedule_time.map(|t| since(&t, now))),
            or_none(status.next_schedule_time),
        ];
        if wide {
            let images = self.0.workload.spec.containers.iter();
            let images = images.map(|c| c.image.clone().unwrap_or_else(|| c.bundle.clone()));
            row.push(format!("{:?}", cron.concurrency_policy));
            row.push(images.collect::<Vec<_>>().join(","));
        }
        row
    }

    fn name(&self) -> String {
        self.0.name()
    }

    fn key(&self) -> u64 {
        self.0.key()
    }

    fn is_of(&self, what: ObjectKind) -> bool {
        self.0.is_of(what)
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        self.0.labels()
    }
}

/// The fields of `describe` that a CronJob, or a job of one, has besides.
pub fn describe(w: &WorkloadObject, field: &mut impl FnMut(&str, String)) {
    if let Some(owner) = &w.status.owner {
        field("Made by", format!("cronjob/{owner}"));
    }
    let (Some(cron), Some(status)) = (cron(w), &w.status.cron) else { return };
    let zone = cron.time_zone.as_deref().unwrap_or("the time zone of the host");
    field("Schedule", format!("{} ({zone})", cron.schedule));
    let policy = match cron.concurrency_policy {
        Concurrency::Allow => "Allow: jobs may overlap",
        Concurrency::Forbid => "Forbid: none while an earlier one runs",
        Concurrency::Replace => "Replace: an earlier one is deleted",
    };
    field("Concurrency", policy.to_owned());
    let limit = cron.starting_deadline_seconds.map_or("none".to_owned(), |s| format!("{s} s"));
    field("Deadline", limit);
    let (good, bad) = (cron.successful_jobs_history_limit, cron.failed_jobs_history_limit);
    field("History", format!("{good} successful, {bad} failed"));
    field("Suspended", (cron.suspend || w.status.stopped).to_string());
    let none = || "none".to_owned();
    field("Last", status.last_schedule_time.clone().unwrap_or_else(none));
    field("Next", status.next_schedule_time.clone().unwrap_or_else(none));
    let active = if status.active.is_empty() { none() } else { status.active.join(", ") };
    field("Active", active);
    if let Some(message) = &status.message {
        field("Message", message.clone());
    }
}
