//! Workloads that wait for others.

use super::*;
use crate::supervisor::core::controller::Controller;
use crate::supervisor::core::depends::{reason, waiting};
use crate::workload::depends::{Condition, Dependency};

const APP: WorkloadId = WorkloadId(2);

/// `web`, and `app`, which waits for it.
fn both(condition: Condition, optional: bool, web: PodTemplate) -> Bench {
    let mut b = Bench::new();
    let app = after(condition, optional);
    b.change(Change::All { changes: vec![apply(1, web, one_by_one()), app] });
    b
}

fn after(condition: Condition, optional: bool) -> Change {
    let depends_on = vec![Dependency { workload: "web".to_owned(), condition, optional }];
    match apply(1, template(), one_by_one()) {
        Change::Apply { replicas, strategy, paused, template, source, stamp, .. } => Change::Apply {
            name: "app".to_owned(),
            replicas,
            strategy,
            controller: Controller { depends_on, ..Controller::default() },
            paused,
            template,
            source,
            stamp,
        },
        other => other,
    }
}

fn made(b: &Bench) -> bool {
    b.observed.workloads.get(&APP).is_some_and(|s| s.slots.values().any(|s| s.current().is_some()))
}

fn why(b: &Bench) -> Option<String> {
    reason(&b.desired.workloads[&APP], &b.desired, &b.observed)
}

#[test]
fn a_workload_is_made_when_what_it_depends_on_has_started() {
    let mut b = both(Condition::Started, false, template());
    assert!(!made(&b));
    assert_eq!(why(&b).unwrap(), "waiting for workload \"web\": 0 of 1 replicas have started");
    assert!(waiting(&b.desired, &b.observed).contains(&APP));
    b.run_all();
    assert!(made(&b));
    assert_eq!(why(&b), None);
}

#[test]
fn what_completes_is_waited_for_until_it_has_succeeded() {
    let once = PodTemplate { restart_policy: RestartPolicy::Never, ..template() };
    let mut b = both(Condition::Completed, false, once.clone());
    b.run_all();
    assert!(!made(&b), "it runs still");
    b.dies(b.keys()[0], 0);
    b.run_all();
    assert!(made(&b), "{:?}", why(&b));
    let mut b = both(Condition::Completed, false, once);
    b.run_all();
    b.dies(b.keys()[0], 1 << 8);
    b.run_all();
    assert!(!made(&b), "it has failed");
}

#[test]
fn what_runs_keeps_running_without_what_it_depends_on_and_waits_when_it_is_made_again() {
    let mut b = both(Condition::Ready, false, template());
    b.run_all();
    assert!(made(&b));
    let web = b.desired.by_name("web").map(|(id, _)| id).unwrap();
    b.change(Change::Stop { workload: web, stopped: true });
    assert!(made(&b));
    assert_eq!(why(&b).unwrap(), "waiting for workload \"web\": it is stopped");
    b.change(Change::Restart { workload: APP, slot: None, stamp: Stamp::default() });
    let revisions: Vec<u32> =
        b.observed.workloads[&APP].slots[&0].replicas.iter().map(|r| r.revision.0).collect();
    assert_eq!(revisions, [1], "the old replica stays");
    // After a reboot nothing is left.
    b.observed = Observed::default();
    b.turn();
    assert!(!made(&b));
}

#[test]
fn what_does_not_exist_is_waited_for_unless_it_may_be_missing() {
    for (optional, expected) in [(false, false), (true, true)] {
        let mut b = Bench::new();
        b.change(after(Condition::Started, optional));
        let found = b.observed.workloads.values().any(|s| !s.slots.is_empty());
        assert_eq!(found, expected);
        let w = b.desired.workloads.values().next().unwrap();
        let why = reason(w, &b.desired, &b.observed);
        assert_eq!(why.is_none(), expected, "{why:?}");
    }
}
