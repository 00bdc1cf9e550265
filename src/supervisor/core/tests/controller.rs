//! Jobs, and workloads whose replicas have an order.

use super::*;
use crate::supervisor::core::controller::{Controller, Job};
use crate::supervisor::core::phase;
use crate::supervisor::core::spec::{Backoff, RestartLimit};
use std::collections::BTreeMap;

pub fn with(controller: Controller, replicas: u32, template: PodTemplate) -> Change {
    match apply(replicas, template, one_by_one()) {
        Change::Apply { name, replicas, strategy, paused, template, source, stamp, .. } => {
            Change::Apply { name, replicas, strategy, controller, paused, template, source, stamp }
        }
        other => other,
    }
}

fn job(parallelism: u32, ttl: Option<Millis>) -> Controller {
    Controller { job: Some(Box::new(Job { parallelism, ttl, ..Job::default() })), ..Controller::default() }
}

/// Runs until it succeeds, and gives up after one restart.
fn task() -> PodTemplate {
    PodTemplate {
        restart_policy: RestartPolicy::OnFailure,
        restart_limit: Some(RestartLimit { count: 1, window: None }),
        backoff: Backoff { jitter_percent: 0, ..Backoff::default() },
        ..template()
    }
}

/// The slots that have a replica which is not being stopped.
pub fn slots(b: &Bench) -> Vec<u32> {
    let of = b.observed.workloads.get(&WEB);
    of.into_iter().flat_map(|s| &s.slots).filter(|(_, s)| s.current().is_some()).map(|(n, _)| *n).collect()
}

pub fn completed(b: &Bench) -> BTreeMap<u32, bool> {
    b.desired.workloads.get(&WEB).map(|w| w.completed.clone()).unwrap_or_default()
}

/// The running container of a slot ends.
pub fn end(b: &mut Bench, slot: u32, status: i32) {
    let key =
        b.keys().into_iter().find(|k| k.slot == slot).unwrap_or_else(|| panic!("{slot}: {:?}", b.keys()));
    b.dies(key, status);
    b.event(Event::Removed { key, error: None });
    b.pass(60_000);
    b.run_all();
}

#[test]
fn a_job_runs_as_many_at_a_time_as_it_may_and_each_once() {
    let mut b = Bench::new();
    b.change(with(job(2, Some(Millis::secs(100))), 3, task()));
    b.run_all();
    assert_eq!(slots(&b), [0, 1]);
    end(&mut b, 0, 0);
    assert_eq!((completed(&b), slots(&b)), (BTreeMap::from([(0, false)]), vec![0, 1, 2]));
    // A failure is tried again in its slot.
    end(&mut b, 1, 1 << 8);
    assert_eq!(completed(&b).len(), 1);
    end(&mut b, 1, 0);
    end(&mut b, 2, 0);
    assert_eq!(completed(&b), BTreeMap::from([(0, false), (1, false), (2, false)]));
    // A success is not repeated, not even after a reboot.
    (b.observed, b.now) = (Observed::default(), Time(1000));
    b.turn();
    assert_eq!(b.keys(), []);
    for again in [restart(None), restart(Some(1))] {
        assert!(matches!(b.desired.check(&again, &b.config), Err(Refusal::Immutable { .. })), "{again:?}");
    }
    // Its time after the end is over.
    b.pass(200_000);
    assert!(b.desired.workloads.is_empty());
}

#[test]
fn a_job_that_is_stopped_and_started_runs_only_the_rest() {
    let mut b = Bench::new();
    b.change(with(job(2, None), 3, task()));
    b.run_all();
    end(&mut b, 0, 0);
    assert_eq!(slots(&b), [0, 1, 2]);
    b.change(Change::Stop { workload: WEB, stopped: true });
    assert_eq!(
        (completed(&b), slots(&b)),
        (BTreeMap::from([(0, false)]), vec![0]),
        "running replicas are stopped"
    );
    for key in b.keys() {
        b.dies(key, 9);
        b.event(Event::Removed { key, error: None });
    }
    b.pass(60_000);
    assert_eq!(b.keys(), []);
    b.change(Change::Stop { workload: WEB, stopped: false });
    b.run_all();
    let running: Vec<u32> = b.keys().iter().map(|k| k.slot).collect();
    assert_eq!((completed(&b), running), (BTreeMap::from([(0, false)]), vec![1, 2]));
}

#[test]
fn a_job_fails_as_a_whole_and_can_be_taken_up_again() {
    let mut b = Bench::new();
    b.change(with(job(2, None), 3, task()));
    b.run_all();
    end(&mut b, 1, 1 << 8);
    end(&mut b, 1, 1 << 8);
    assert_eq!(completed(&b), BTreeMap::from([(1, true)]));
    let stopping = b.observed.workloads[&WEB]
        .slots
        .values()
        .flat_map(|s| &s.replicas)
        .filter(|r| r.stop.is_some())
        .count();
    assert_eq!((stopping, slots(&b)), (1, vec![1]), "the others are stopped, and none is begun");
    b.change(restart(Some(1)));
    assert!(slots(&b).len() == 2, "{:?}", slots(&b));
}

#[test]
fn a_job_that_has_begun_is_what_it_is() {
    let mut b = Bench::new();
    b.change(with(job(1, None), 3, task()));
    let check = |b: &Bench, change: &Change| b.desired.check(change, &b.config);
    let other = PodTemplate { containers: changed().containers, ..task() };
    for bad in [
        with(job(1, None), 3, other),
        with(job(1, None), 4, task()),
        Change::Scale { workload: WEB, replicas: 4 },
    ] {
        assert!(matches!(check(&b, &bad), Err(Refusal::Immutable { .. })), "{bad:?}");
    }
    b.change(with(job(3, None), 3, task()));
    b.run_all();
    assert_eq!(slots(&b), [0, 1, 2], "how many run at a time can be changed");
}

fn stateful(ordered: bool, partition: u32, on_delete: bool) -> Controller {
    Controller { stateful: true, ordered, partition, on_delete, ..Controller::default() }
}

#[test]
fn replicas_with_an_order_start_upwards_and_go_downwards() {
    let mut b = Bench::new();
    b.change(with(stateful(true, 0, false), 3, template()));
    assert_eq!(slots(&b), [0], "1 waits for 0");
    b.run_all();
    assert_eq!(slots(&b), [0, 1, 2]);
    b.change(Change::Scale { workload: WEB, replicas: 1 });
    assert_eq!(slots(&b), [0, 1], "one after the other");
    let mut b = Bench::new();
    b.change(with(stateful(false, 0, false), 3, template()));
    assert_eq!(slots(&b), [0, 1, 2], "Parallel");
    b.run_all();
    b.change(Change::Scale { workload: WEB, replicas: 1 });
    assert_eq!(slots(&b), [0]);
}

#[test]
fn a_workload_with_an_order_keeps_its_lowest_slots() {
    let mut b = Bench::new();
    b.change(with(stateful(false, 0, false), 3, template()));
    b.run_all();
    // The replacement of 0 is about to be made when fewer are asked for.
    b.observed.workloads.get_mut(&WEB).unwrap().slots.get_mut(&0).unwrap().replicas.clear();
    b.change(Change::Scale { workload: WEB, replicas: 2 });
    assert_eq!(slots(&b), [0, 1]);
    // One after the other, 1 waits for 0: the highest goes although only two slots are taken.
    let mut b = Bench::new();
    b.change(with(stateful(true, 0, false), 3, template()));
    b.run_all();
    b.change(restart(Some(0)));
    b.change(restart(Some(1)));
    assert_eq!(slots(&b), [0, 2]);
    b.change(Change::Scale { workload: WEB, replicas: 2 });
    assert_eq!(slots(&b), [0, 2], "0 and 1 are still being stopped");
    for _ in 0..2 {
        let stops = |k: &Key| b.observed.instance(k).is_some_and(|i| i.stop.is_some());
        let stopping: Vec<Key> = b.keys().into_iter().filter(stops).collect();
        for key in stopping {
            b.dies(key, 0);
            b.event(Event::Removed { key, error: None });
        }
        b.run_all();
    }
    assert_eq!(slots(&b), [0, 1]);
}

#[test]
fn updates_begin_at_the_highest_and_leave_the_partition_alone() {
    let stopping = |b: &Bench| {
        let slots = &b.observed.workloads[&WEB].slots;
        let stops = |s: &super::super::model::Slot| s.replicas.iter().any(|r| r.stop.is_some());
        slots.iter().filter(|(_, s)| stops(s)).map(|(n, _)| *n).collect::<Vec<_>>()
    };
    let running = |controller: Controller| {
        let mut b = Bench::new();
        b.change(with(Controller::clone(&controller), 3, template()));
        b.run_all();
        b.change(with(controller, 3, changed()));
        b
    };
    assert_eq!(stopping(&running(stateful(true, 0, false))), [2]);
    let b = running(stateful(true, 3, false));
    assert_eq!(stopping(&b), Vec::<u32>::new());
    let w = &b.desired.workloads[&WEB];
    let state = status::workload(w, b.observed.workloads.get(&WEB), b.now);
    assert_eq!(state.phase, phase::WorkloadPhase::Ready, "replicas below the partition are not missing");
    // OnDelete: only on request.
    let mut b = running(stateful(true, 0, true));
    assert_eq!(stopping(&b), Vec::<u32>::new());
    b.change(restart(Some(1)));
    assert_eq!(stopping(&b), [1]);
}
