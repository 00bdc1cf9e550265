//! CronJobs: when a job is made, what happens while an earlier one runs, and how many finished ones are kept.
//!
//! A CronJob runs nothing itself. For each scheduled time it makes at most one job, a workload of its own
//! ([`Change::Spawn`]), whatever the wall clock does: the last scheduled time is durable and only increases. After a time in
//! which nothing could be made, the last scheduled time that has passed counts, and the ones before it do not.

use super::action::Action;
use super::controller::Cron;
use super::desired::{Change, Desired, Workload};
use super::ids::WorkloadId;
use super::model::{Clock, Observed};
use super::pass::Pass;
use super::refusal::Refusal;
use super::revision::{Kept, Stamp};
use super::runs::{Made, Outcome, Owner, Runs, Seen};
use super::time::{Millis, Time};
use crate::workload::cron::{self, Concurrency};
use crate::workload::schedule::{Due, Schedule, Zone};
use std::collections::{BTreeMap, BTreeSet};

/// The wall clock may run a little faster or slower than that of the boot: it is looked at again after this.
const LOOK_AGAIN: Millis = Millis::secs(600);

impl Clock {
    /// The wall clock at `now`, milliseconds since 1970.
    fn wall(&self, now: Time) -> i64 {
        self.offset.saturating_add_unsigned(now.0)
    }

    /// When the wall clock shows `at`, seconds since 1970.
    fn when(&self, at: i64) -> Time {
        Time(u64::try_from(at.saturating_mul(1000).saturating_sub(self.offset)).unwrap_or(0))
    }
}

impl Cron {
    /// The zone that its schedule is read in.
    fn zone(&self, clock: &Clock) -> Zone {
        let own = self.zone.as_ref().or(clock.zone.as_ref());
        own.and_then(|name| Zone::named(name)).unwrap_or_else(Zone::utc)
    }
}

impl Workload {
    /// Only scheduled times after this count.
    fn runs_after(&self) -> i64 {
        self.runs.last.map_or(self.runs.since, |last| last.max(self.runs.since))
    }

    /// Whether the number of replicas may be changed.
    pub(super) fn check_scale(&self, replicas: u32) -> Result<(), Refusal> {
        if self.controller.cron.is_some() {
            return Err(Refusal::Immutable { what: "the number of replicas of a CronJob".to_owned() });
        }
        self.template().map_or(Ok(()), |t| self.check_job(replicas, t))
    }

    fn is_suspended(&self, cron: &Cron) -> bool {
        cron.suspended || self.stopped
    }

    /// When the next job of a CronJob is due, seconds since 1970.
    #[must_use]
    pub fn next_run(&self, clock: &Clock, now: Time) -> Option<i64> {
        let cron = self.controller.cron.as_ref().filter(|c| !self.is_suspended(c))?;
        let after = self.runs_after().max(clock.wall(now).div_euclid(1000));
        let after = if cron.schedule.starts_with("@every") { self.runs_after() } else { after };
        Schedule::parse(&cron.schedule).ok()?.next(&cron.zone(clock), after)
    }

    /// The schedule of `controller` takes the place of the one that there is, at the wall clock's `at` milliseconds.
    pub(super) fn reschedule(&mut self, controller: &super::controller::Controller, at: i64) {
        let times =
            |c: &super::controller::Controller| c.cron.as_ref().map(|c| (c.schedule.clone(), c.zone.clone()));
        let new = times(controller);
        if new.is_some() && new != times(&self.controller) {
            self.runs.since = at.div_euclid(1000);
        }
    }
}

/// The name of the job for a scheduled time: as Kubernetes, by its minute.
fn job_name(cron: &str, scheduled: i64) -> String {
    format!("{cron}-{}", scheduled.div_euclid(60))
}

impl Desired {
    /// The jobs that a CronJob has made, the oldest first.
    pub fn jobs_of(&self, id: WorkloadId) -> impl Iterator<Item = (WorkloadId, &Workload)> {
        let own = move |w: &Workload| w.owner.is_some_and(|o| o.workload == id);
        self.workloads.iter().filter(move |(_, w)| own(w)).map(|(id, w)| (*id, w))
    }

    /// Whether a job may be made.
    pub(super) fn check_spawn(
        &self,
        id: WorkloadId,
        name: &str,
        scheduled: Option<i64>,
    ) -> Result<(), Refusal> {
        let w = self.workloads.get(&id).ok_or(Refusal::NotFound)?;
        if w.deletion.is_some() {
            return Err(Refusal::Deleting);
        }
        if w.controller.cron.is_none() {
            return Err(Refusal::NoCronJob);
        }
        if self.by_name(name).is_some() {
            return Err(Refusal::NameTaken { name: name.to_owned() });
        }
        let news = scheduled.is_none_or(|at| w.runs.last.is_none_or(|last| at > last));
        if news { Ok(()) } else { Err(Refusal::Pointless) }
    }

    /// Makes a job of a CronJob.
    pub(super) fn spawn(&mut self, id: WorkloadId, name: &str, scheduled: Option<i64>, stamp: &Stamp) {
        let Some(w) = self.workloads.get_mut(&id) else { return };
        let (Some(cron), Some(mut template)) = (w.controller.cron.clone(), w.template().cloned()) else {
            return;
        };
        if scheduled.is_some() {
            w.runs.last = scheduled;
        }
        let source = cron::job(&w.source, name, scheduled);
        let strategy = w.strategy;
        self.objects.pin(&mut template);
        let owner = Some(Owner { workload: id, scheduled });
        let controller =
            super::controller::Controller { job: Some(Box::new(cron.job)), ..Default::default() };
        let made = Made { name, replicas: cron.completions, strategy, controller, template, source, owner };
        self.create(made, stamp);
    }

    /// Enters a new workload.
    pub(super) fn create(&mut self, made: Made<'_>, stamp: &Stamp) -> WorkloadId {
        self.last_id += 1;
        let revision = super::ids::Revision(1);
        let kept = Kept { number: revision.0, stamp: stamp.clone(), ..Kept::default() };
        let workload = Workload {
            name: made.name.to_owned(),
            generation: 1,
            replicas: made.replicas,
            strategy: made.strategy,
            controller: made.controller,
            revision,
            last_revision: revision,
            last_number: revision.0,
            revisions: BTreeMap::from([(revision, made.template)]),
            history: BTreeMap::from([(revision, kept)]),
            paused: false,
            pending: None,
            stopped: false,
            restarts: BTreeMap::new(),
            completed: BTreeMap::new(),
            finished: None,
            owner: made.owner,
            runs: Runs { since: stamp.at.div_euclid(1000), last: None },
            deletion: None,
            source: made.source,
        };
        let id = WorkloadId(self.last_id);
        self.workloads.insert(id, workload);
        id
    }
}

/// Whether a job of a CronJob still runs.
fn is_active(w: &Workload) -> bool {
    w.finished.is_none()
}

/// Jobs of which no replica is made before an earlier job of the same CronJob, which was replaced, has exited.
pub(super) fn waiting(desired: &Desired) -> BTreeSet<WorkloadId> {
    let jobs = desired.workloads.iter().filter(|(_, w)| w.owner.is_some());
    let waits = |(id, w): &(&WorkloadId, &Workload)| predecessor(desired, **id, w).is_some();
    jobs.filter(waits).map(|(id, _)| *id).collect()
}

/// The earlier job that a job waits for.
pub(super) fn predecessor<'d>(desired: &'d Desired, id: WorkloadId, w: &Workload) -> Option<&'d Workload> {
    let owner = w.owner.filter(|o| o.scheduled.is_some())?;
    let cron = desired.workloads.get(&owner.workload)?.controller.cron.as_ref()?;
    let replaces = cron.policy == Concurrency::Replace;
    let earlier = |(other, o): &(WorkloadId, &Workload)| {
        replaces && *other < id && o.deletion.is_some() && is_active(o) && is_scheduled(o)
    };
    desired.jobs_of(owner.workload).find(earlier).map(|(_, w)| w)
}

/// The earlier job that `w`, which is one of `desired`, waits for.
pub(super) fn predecessor_of<'d>(desired: &'d Desired, w: &Workload) -> Option<&'d Workload> {
    w.owner?;
    let (id, _) = desired.by_name(&w.name)?;
    predecessor(desired, id, w)
}

fn is_scheduled(w: &Workload) -> bool {
    w.owner.is_some_and(|o| o.scheduled.is_some())
}

/// Makes the jobs that are due, and deletes those that are not kept. Nothing changes while the host is drained.
pub(super) fn plan(pass: &mut Pass<'_>, desired: &Desired, observed: &Observed) {
    if pass.draining {
        return;
    }
    for (id, w) in &desired.workloads {
        // The jobs of a CronJob that is gone go, too.
        let gone = |o: Owner| desired.workloads.get(&o.workload).is_none_or(|c| c.deletion.is_some());
        if w.owner.is_some_and(gone) && w.deletion.is_none() {
            pass.push(delete(*id));
        }
        let Some(cron) = &w.controller.cron else { continue };
        if w.deletion.is_some() {
            continue;
        }
        clear(pass, desired, *id, cron);
        if let Some(clock) = &observed.clock {
            let seen = observed.workloads.get(id).and_then(|s| s.cron.as_ref());
            follow(pass, desired, clock, (*id, w, cron), seen);
        }
    }
}

fn delete(workload: WorkloadId) -> Action {
    Action::Persist { change: Change::Delete { workload, grace: None } }
}

/// Deletes the oldest finished jobs beyond the number that is kept.
fn clear(pass: &mut Pass<'_>, desired: &Desired, id: WorkloadId, cron: &Cron) {
    for (failed, kept) in [(false, cron.keep_succeeded), (true, cron.keep_failed)] {
        let over = |w: &Workload| w.finished.as_ref().is_some_and(|end| end.failed == failed);
        let all: Vec<WorkloadId> =
            desired.jobs_of(id).filter(|(_, w)| w.deletion.is_none() && over(w)).map(|(id, _)| id).collect();
        for id in &all[..all.len().saturating_sub(kept as usize)] {
            pass.push(delete(*id));
        }
    }
}

/// Makes the job that is due.
fn follow(
    pass: &mut Pass<'_>,
    desired: &Desired,
    clock: &Clock,
    (id, w, cron): (WorkloadId, &Workload, &Cron),
    seen: Option<&Seen>,
) {
    let Ok(schedule) = Schedule::parse(&cron.schedule) else { return };
    if w.is_suspended(cron) {
        return;
    }
    let (zone, after) = (cron.zone(clock), w.runs_after());
    let wall = clock.wall(pass.now);
    let note = |pass: &mut Pass<'_>, at: i64, outcome: Outcome| {
        if seen.is_none_or(|s| (s.at, &s.outcome) != (at, &outcome)) {
            pass.push(Action::NoteRun { workload: id, seen: Seen { at, outcome } });
        }
    };
    let due = schedule.due(&zone, after, wall.div_euclid(1000));
    match due.map(|due| (due, decide(desired, (id, w, cron), due, wall))) {
        None => {}
        Some((due, Ok(change))) => {
            pass.push(Action::Persist { change });
            note(pass, due.at, Outcome::Made { missed: due.count - 1 });
        }
        Some((due, Err(outcome))) => note(pass, due.at, outcome),
    }
    let after = due.map_or(after, |due| due.at);
    if let Some(next) = schedule.next(&zone, after) {
        let next = clock.when(next).max(pass.now + Millis(1));
        pass.reached(next.min(pass.now + LOOK_AGAIN));
    }
}

/// The change that makes the job for `due`, or why there is none.
fn decide(
    desired: &Desired,
    (id, w, cron): (WorkloadId, &Workload, &Cron),
    due: Due,
    wall: i64,
) -> Result<Change, Outcome> {
    let late = wall.saturating_sub(due.at.saturating_mul(1000));
    if cron.starting_deadline.is_some_and(|limit| late > i64::try_from(limit.0).unwrap_or(i64::MAX)) {
        return Err(Outcome::TooLate);
    }
    let name = job_name(&w.name, due.at);
    if desired.by_name(&name).is_some() {
        return Err(Outcome::NameTaken);
    }
    let active = |(_, w): &(WorkloadId, &Workload)| is_active(w) && is_scheduled(w);
    let running: Vec<(WorkloadId, &Workload)> = desired.jobs_of(id).filter(active).collect();
    let stamp = Stamp { at: wall, cause: format!("cronjob {}", w.name) };
    let spawn = Change::Spawn { workload: id, name, scheduled: Some(due.at), stamp };
    match cron.policy {
        Concurrency::Forbid if !running.is_empty() => Err(Outcome::Busy),
        Concurrency::Replace if running.iter().any(|(_, w)| w.deletion.is_none()) => {
            let replaced = running.iter().filter(|(_, w)| w.deletion.is_none());
            let mut changes: Vec<Change> =
                replaced.map(|(id, _)| Change::Delete { workload: *id, grace: None }).collect();
            changes.push(spawn);
            Ok(Change::All { changes })
        }
        Concurrency::Allow | Concurrency::Forbid | Concurrency::Replace => Ok(spawn),
    }
}
