//! CronJobs: which workloads of a plan are some, the wall clock, and the rule P27: whatever the wall clock does, a scheduled
//! time has at most one job; no job is made before its time; and, without faults, none is missing.

use crate::rng::Rng;
use orun::supervisor::core::controller::{Controller, Cron};
use orun::supervisor::core::desired::{Change, Desired};
use orun::supervisor::core::ids::WorkloadId;
use orun::supervisor::core::model::{Clock, Observed};
use orun::supervisor::core::time::{Millis, Time};
use orun::workload::cron::Concurrency;
use orun::workload::schedule::{Schedule, Zone};
use std::collections::BTreeMap;

/// 2026-01-01T00:00:00Z, seconds since 1970.
const NEW_YEAR: i64 = 1_767_225_600;
/// How late a job may be when nothing is in its way, milliseconds.
const LATE: i64 = 5_000;

/// Whether a name that is a job in this run is a CronJob.
pub fn is_cron(seed: u64, name: usize) -> bool {
    Rng::of(seed, 50 + name as u64).percent(40)
}

/// Makes a CronJob of a job.
pub fn make(rng: &mut Rng, replicas: &mut u32, controller: &mut Controller) {
    let Some(job) = controller.job.take() else { return };
    let cron = Cron {
        schedule: rng.pick(&["* * * * *", "* * * * *", "*/2 * * * *", "@every 1m"]).to_owned(),
        zone: rng.percent(30).then(|| "Asia/Kolkata".to_owned()),
        policy: rng.pick(&[Concurrency::Allow, Concurrency::Forbid, Concurrency::Replace]),
        starting_deadline: rng.pick(&[None, None, Some(Millis::secs(10)), Some(Millis::secs(90))]),
        keep_succeeded: rng.below(3) as u32,
        keep_failed: rng.below(2) as u32,
        suspended: rng.percent(10),
        completions: std::mem::take(replicas),
        job: *job,
    };
    controller.cron = Some(Box::new(cron));
}

/// The scheduled time that a change makes a job for.
pub fn scheduled(change: &Change) -> Option<i64> {
    match change {
        Change::Spawn { scheduled, .. } => *scheduled,
        Change::All { changes } => changes.iter().find_map(scheduled),
        _ => None,
    }
}

/// The wall clock of the simulated host.
#[derive(Debug, Clone)]
pub struct Wall {
    offset: i64,
    /// What is known of the jobs that were made: the scheduled time of each, by its CronJob.
    made: BTreeMap<(WorkloadId, i64), WorkloadId>,
}

impl Wall {
    pub fn new(seed: u64) -> Wall {
        let within = Rng::of(seed, 49).below(60_000) as i64;
        Wall { offset: NEW_YEAR * 1000 + within, made: BTreeMap::new() }
    }

    pub fn clock(&self) -> Clock {
        Clock { offset: self.offset, zone: None }
    }

    /// Milliseconds since 1970.
    pub fn at(&self, now: u64) -> i64 {
        self.offset + now as i64
    }

    pub fn set(&mut self, by: i64) {
        self.offset += by;
    }

    /// P27. `calm`: nothing has gone wrong for a while, and nothing is being written.
    pub fn check(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        now: Time,
        calm: bool,
    ) -> Result<(), String> {
        for (id, w) in &desired.workloads {
            let Some((owner, scheduled)) = w.owner.and_then(|o| Some((o.workload, o.scheduled?))) else {
                continue;
            };
            let known = *self.made.entry((owner, scheduled)).or_insert(*id);
            if known != *id {
                return Err(format!("P27: {} is the second job for {scheduled}", w.name));
            }
        }
        for (id, w) in desired.workloads.iter().filter(|_| calm) {
            let Some(cron) = w.controller.cron.as_ref().filter(|c| !c.suspended) else { continue };
            let free = cron.policy == Concurrency::Allow && cron.starting_deadline.is_none();
            if !free || w.stopped || w.deletion.is_some() || observed.draining {
                continue;
            }
            let zone = cron.zone.as_deref().and_then(Zone::named).unwrap_or_else(Zone::utc);
            let after = w.runs.last.map_or(w.runs.since, |last| last.max(w.runs.since));
            let until = (self.at(now.0) - LATE).div_euclid(1000);
            let schedule = Schedule::parse(&cron.schedule)?;
            if let Some(due) = schedule.due(&zone, after, until) {
                return Err(format!("P27: {id:?} has no job for {}", due.at));
            }
        }
        Ok(())
    }

    /// P27: no job is made for a time that has not come.
    pub fn check_made(&self, scheduled: i64, now: u64) -> Result<(), String> {
        if scheduled * 1000 > self.at(now) {
            return Err(format!("P27: a job for {scheduled} at {}", self.at(now) / 1000));
        }
        Ok(())
    }
}
