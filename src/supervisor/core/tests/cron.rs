//! CronJobs.

use super::*;
use crate::supervisor::core::controller::{Controller, Cron, Job, JobEnd, JobReason};
use crate::supervisor::core::desired::Workload;
use crate::supervisor::core::model::Clock;
use crate::workload::cron::Concurrency;

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: i64 = 1_767_225_600;
const MINUTE: u64 = 60_000;

fn hourly(policy: Concurrency) -> Cron {
    Cron {
        schedule: "0 * * * *".to_owned(),
        policy,
        keep_succeeded: 3,
        keep_failed: 1,
        completions: 1,
        job: Job { parallelism: 1, ..Job::default() },
        ..Cron::default()
    }
}

fn with_cron(cron: Cron, wall: i64) -> Change {
    let mut change =
        apply(0, PodTemplate { restart_policy: RestartPolicy::OnFailure, ..template() }, Strategy::default());
    if let Change::Apply { controller, stamp, .. } = &mut change {
        *controller = Controller { cron: Some(Box::new(cron)), ..Controller::default() };
        stamp.at = wall * 1000;
    }
    change
}

/// A CronJob that was applied half a minute before midnight.
fn bench(cron: Cron) -> Bench {
    let mut b = Bench::new();
    set_clock(&mut b, NEW_YEAR - 30);
    b.change(with_cron(cron, NEW_YEAR - 30));
    b
}

fn set_clock(b: &mut Bench, wall: i64) {
    let offset = wall * 1000 - i64::try_from(b.now.0).unwrap();
    b.event(Event::ClockSet { clock: Clock { offset, zone: None } });
}

/// The jobs, by the hour of their scheduled time.
fn jobs(b: &Bench) -> Vec<i64> {
    let at = |w: &Workload| w.owner.unwrap().scheduled.map_or(-1, |at| (at - NEW_YEAR) / 3600);
    b.desired.jobs_of(WEB).filter(|(_, w)| w.deletion.is_none()).map(|(_, w)| at(w)).collect()
}

fn finish(b: &mut Bench, failed: bool) {
    let open = b.desired.jobs_of(WEB).find(|(_, w)| w.finished.is_none()).map(|(id, _)| id).unwrap();
    let reason = if failed { JobReason::BackoffLimitExceeded } else { JobReason::CompletionsReached };
    let end = JobEnd { failed, reason, message: String::new() };
    b.change(Change::Finished { workload: open, end });
}

fn seen(b: &mut Bench) -> Vec<Reason> {
    let about =
        [Reason::MissSchedule, Reason::TooManyMissedTimes, Reason::JobAlreadyActive, Reason::FailedCreate];
    b.reasons.drain(..).filter(|r| about.contains(r)).collect()
}

#[test]
fn a_job_is_made_at_its_time_and_runs() {
    let mut b = bench(hourly(Concurrency::Allow));
    assert_eq!((jobs(&b), b.wake), (Vec::new(), Some(b.now + Millis(30_000))));
    b.pass(29_999);
    assert!(jobs(&b).is_empty());
    b.pass(1);
    assert_eq!(jobs(&b), [0]);
    let (id, job) = b.desired.jobs_of(WEB).next().unwrap();
    assert_eq!((job.name.as_str(), job.replicas), ("web-29453760", 1));
    assert!(job.controller.job.is_some() && job.controller.cron.is_none());
    assert_eq!(b.observed.workloads[&id].slots.len(), 1, "a replica of it is made");
    assert_eq!(b.wake.map(|w| w.since(b.now)), Some(Millis::secs(600)), "the clock is looked at in between");
    b.pass(60 * MINUTE);
    assert_eq!(jobs(&b), [0, 1]);
}

#[test]
fn of_missed_times_the_last_one_counts() {
    let mut b = bench(hourly(Concurrency::Allow));
    b.pass(5 * 60 * MINUTE + 30_000);
    assert_eq!((jobs(&b), seen(&mut b)), (vec![5], vec![]));
    b.pass(200 * 60 * MINUTE);
    assert_eq!((jobs(&b), seen(&mut b)), (vec![5, 205], vec![Reason::TooManyMissedTimes]));
}

#[test]
fn a_time_that_is_too_long_ago_has_no_job() {
    let mut b = bench(Cron { starting_deadline: Some(Millis::secs(60)), ..hourly(Concurrency::Allow) });
    b.pass(30_000 + 61_000);
    b.pass(1_000);
    assert_eq!((jobs(&b), seen(&mut b)), (vec![], vec![Reason::MissSchedule]), "and that is reported once");
    b.pass(59 * MINUTE);
    assert_eq!(jobs(&b), [1]);
}

#[test]
fn the_wall_clock_may_be_set_back_and_forth() {
    let mut b = bench(hourly(Concurrency::Allow));
    b.pass(30_000);
    assert_eq!(jobs(&b), [0]);
    set_clock(&mut b, NEW_YEAR - 600);
    b.pass(11 * MINUTE);
    assert_eq!(jobs(&b), [0], "not twice");
    set_clock(&mut b, NEW_YEAR + 3 * 3600);
    assert_eq!(jobs(&b), [0, 3], "the time has come at once");
    set_clock(&mut b, NEW_YEAR + 3600);
    b.pass(60 * MINUTE);
    assert_eq!(jobs(&b), [0, 3], "2 o'clock is before what was made");
}

#[test]
fn while_one_runs_the_policy_decides() {
    let mut b = bench(hourly(Concurrency::Forbid));
    b.pass(30_000);
    b.pass(60 * MINUTE);
    assert_eq!((jobs(&b), seen(&mut b)), (vec![0], vec![Reason::JobAlreadyActive]));
    b.pass(10 * MINUTE);
    finish(&mut b, false);
    assert_eq!((jobs(&b), seen(&mut b)), (vec![0, 1], vec![]), "it is made when the other one has finished");

    let mut b = bench(hourly(Concurrency::Replace));
    b.pass(30_000);
    b.run_all();
    let running = b.keys();
    b.pass(60 * MINUTE);
    assert_eq!(jobs(&b), [1]);
    assert_eq!(b.keys(), running, "the new one waits for the end of the old one");
    b.dies(running[0], 0);
    b.event(Event::Removed { key: running[0], error: None });
    let now: Vec<WorkloadId> = b.keys().iter().map(|k| k.workload).collect();
    assert!(now.len() == 1 && now[0] != running[0].workload, "{now:?}");
}

#[test]
fn as_many_finished_jobs_are_kept_as_the_limits_say() {
    let mut b = bench(Cron { keep_succeeded: 1, keep_failed: 2, ..hourly(Concurrency::Allow) });
    b.pass(30_000);
    for failed in [false, true, true, false, true] {
        finish(&mut b, failed);
        b.pass(60 * MINUTE);
    }
    assert_eq!(jobs(&b), [2, 3, 4, 5], "two failures, one success, and the one that runs");
}

#[test]
fn the_jobs_of_a_cronjob_go_with_it() {
    let mut b = bench(hourly(Concurrency::Allow));
    b.pass(30_000);
    b.change(Change::Spawn {
        workload: WEB,
        name: "now".to_owned(),
        scheduled: None,
        stamp: Stamp::default(),
    });
    assert_eq!(jobs(&b), [0, -1]);
    b.change(Change::Delete { workload: WEB, grace: None });
    assert!(jobs(&b).is_empty());
}

#[test]
fn nothing_is_made_while_it_is_suspended_or_the_host_is_drained() {
    let mut b = bench(Cron { suspended: true, ..hourly(Concurrency::Allow) });
    b.pass(3 * 60 * MINUTE + 30_000);
    assert_eq!((jobs(&b), b.wake), (Vec::new(), None));
    b.event(Event::Draining { on: true });
    b.change(with_cron(hourly(Concurrency::Allow), NEW_YEAR + 3 * 3600));
    assert!(jobs(&b).is_empty());
    b.event(Event::Draining { on: false });
    assert_eq!(jobs(&b), [3], "the last missed time counts, as in Kubernetes");
}

#[test]
fn another_schedule_is_not_about_the_past() {
    let mut b = bench(Cron { schedule: "30 3 * * *".to_owned(), ..hourly(Concurrency::Allow) });
    b.pass(2 * 60 * MINUTE);
    let now = NEW_YEAR - 30 + 7200;
    b.change(with_cron(hourly(Concurrency::Allow), now));
    assert!(jobs(&b).is_empty(), "1 o'clock is over");
    b.pass(30_000);
    assert_eq!(jobs(&b), [2]);
}

#[test]
fn schedules_are_read_in_the_zone_of_the_host() {
    let mut b = bench(Cron { schedule: "0 3 * * *".to_owned(), ..hourly(Concurrency::Allow) });
    let offset = b.observed.clock.as_ref().unwrap().offset;
    let zone = Some("Europe/Berlin".to_owned());
    b.event(Event::ClockSet { clock: Clock { offset, zone } });
    b.pass(2 * 60 * MINUTE + 30_000);
    assert_eq!(jobs(&b), [2], "3 o'clock in Berlin");
    let mut b = bench(Cron {
        schedule: "0 3 * * *".to_owned(),
        zone: Some("Asia/Tokyo".to_owned()),
        ..hourly(Concurrency::Allow)
    });
    b.pass(18 * 60 * MINUTE + 30_000);
    assert_eq!(jobs(&b), [18]);
}

#[test]
fn a_reboot_repeats_nothing() {
    let mut b = bench(hourly(Concurrency::Forbid));
    b.pass(30_000);
    finish(&mut b, false);
    (b.observed, b.now) = (Observed::default(), Time(5_000));
    b.turn();
    assert_eq!(jobs(&b), [0], "nobody has looked at the clock");
    set_clock(&mut b, NEW_YEAR + 1800);
    assert_eq!(jobs(&b), [0]);
    b.pass(30 * MINUTE);
    assert_eq!(jobs(&b), [0, 1]);
}

#[test]
fn a_name_that_is_in_use_is_reported_once() {
    let mut b = bench(hourly(Concurrency::Allow));
    let mut other = apply(1, template(), Strategy::default());
    if let Change::Apply { name, .. } = &mut other {
        *name = "web-29453760".to_owned();
    }
    b.change(other);
    b.pass(30_000);
    b.pass(1_000);
    assert_eq!((jobs(&b), seen(&mut b)), (vec![], vec![Reason::FailedCreate]));
    b.pass(60 * MINUTE);
    assert_eq!(jobs(&b), [1]);
}

#[test]
fn what_a_cronjob_cannot_do_is_refused() {
    let b = bench(hourly(Concurrency::Allow));
    let refused = |change: &Change| b.desired.check(change, &b.config).unwrap_err();
    let scale = Change::Scale { workload: WEB, replicas: 2 };
    assert!(matches!(refused(&scale), Refusal::Immutable { .. }));
    let spawn = |workload, name: &str| Change::Spawn {
        workload,
        name: name.to_owned(),
        scheduled: None,
        stamp: Stamp::default(),
    };
    assert_eq!(refused(&spawn(WEB, "web")), Refusal::NameTaken { name: "web".to_owned() });
    assert_eq!(refused(&spawn(WorkloadId(9), "x")), Refusal::NotFound);
}
