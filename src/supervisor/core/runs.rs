//! What is known of the scheduled times of CronJobs ([`super::cron`]).

use super::controller::Controller;
use super::ids::WorkloadId;
use super::spec::{PodTemplate, Strategy};
use crate::workload::cron;
use crate::workload::schedule::MANY_MISSED;
use serde::{Deserialize, Serialize};

/// What is durable of a CronJob besides its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runs {
    /// Only times after this count, seconds since 1970: when the schedule was applied.
    pub since: i64,
    /// The scheduled time of the last job.
    pub last: Option<i64>,
}

/// Of a job: the CronJob that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Number of the CronJob.
    pub workload: WorkloadId,
    /// The time that it was scheduled for, seconds since 1970; `None`: made by hand.
    pub scheduled: Option<i64>,
}

/// What became of a scheduled time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Outcome {
    /// Its job was made.
    Made {
        /// How many scheduled times before it have no job.
        missed: u32,
    },
    /// It was more than `startingDeadlineSeconds` ago.
    TooLate,
    /// An earlier job runs, and the policy is Forbid.
    Busy,
    /// Another workload has the name of the job.
    NameTaken,
}

/// The last scheduled time that something was decided about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Seconds since 1970.
    pub at: i64,
    /// What became of it.
    pub outcome: Outcome,
}

impl Seen {
    /// For people.
    pub fn words(&self) -> String {
        let at = cron::rfc3339(self.at);
        match self.outcome {
            Outcome::Made { missed: 0 } => format!("the job for {at} was made"),
            Outcome::Made { missed } => {
                let many = if missed >= MANY_MISSED { "more than " } else { "" };
                let missed = missed.min(MANY_MISSED);
                format!("the job for {at} was made; {many}{missed} scheduled times before it were missed")
            }
            Outcome::TooLate => format!("no job for {at}: that is longer ago than startingDeadlineSeconds"),
            Outcome::Busy => format!("no job for {at} yet: an earlier one runs, and the policy is Forbid"),
            Outcome::NameTaken => format!("no job for {at}: another workload has its name"),
        }
    }
}

/// A workload to be entered.
pub(super) struct Made<'a> {
    pub name: &'a str,
    pub replicas: u32,
    pub strategy: Strategy,
    pub controller: Controller,
    pub template: PodTemplate,
    pub source: serde_json::Value,
    pub owner: Option<Owner>,
}
