//! Sandboxes by scenarios.

use super::*;
use crate::supervisor::core::exit::StartError;
use crate::supervisor::core::ids::ReplicaKey;
use crate::supervisor::core::model::{Next, SandboxState};
use crate::supervisor::core::spec::SandboxSpec;
use crate::supervisor::core::status;

fn pod() -> PodTemplate {
    PodTemplate { sandbox: Some(SandboxSpec::default()), ..template() }
}

fn replica(b: &Bench) -> ReplicaKey {
    b.observed.replicas().next().unwrap().0
}

fn state(b: &Bench) -> SandboxState {
    b.observed.replicas().next().unwrap().1.sandbox_state()
}

/// A pod with its sandbox made and its container running.
fn running_pod(template: PodTemplate) -> Bench {
    let mut b = Bench::new();
    b.change(apply(1, template, one_by_one()));
    let replica = replica(&b);
    b.event(Event::SandboxMade { replica, address: None });
    b.run_all();
    b
}

#[test]
fn no_container_is_made_before_the_sandbox() {
    let mut b = Bench::new();
    assert_eq!(names(&b.change(apply(1, pod(), one_by_one()))), ["make sandbox"]);
    let replica = replica(&b);
    assert_eq!(names(&b.event(Event::SandboxMade { replica, address: None })), ["prepare"]);
}

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again_later_and_later() {
    let mut b = Bench::new();
    b.change(apply(1, pod(), one_by_one()));
    let replica = replica(&b);
    for delay in [1_000, 2_000, 4_000] {
        let error = "no space left on device".to_owned();
        assert!(b.event(Event::SandboxFailed { replica, error }).is_empty());
        let (workload, slots) = (&b.desired.workloads[&WEB], b.observed.workloads.get(&WEB));
        let trouble = status::workload(workload, slots, b.now).trouble.unwrap();
        assert_eq!(trouble.to_string(), "StartError: the sandbox could not be made: no space left on device");
        assert!(b.pass(delay - 1).is_empty());
        assert_eq!(names(&b.pass(1)), ["make sandbox"]);
    }
    assert!(b.reasons.contains(&Reason::FailedCreatePodSandBox));
    assert_eq!(names(&b.event(Event::SandboxMade { replica, address: None })), ["prepare"]);
    let (workload, slots) = (&b.desired.workloads[&WEB], b.observed.workloads.get(&WEB));
    assert_eq!(status::workload(workload, slots, b.now).trouble, None);
}

#[test]
fn the_sandbox_is_removed_after_the_last_container() {
    let mut b = running_pod(pod());
    let (key, replica) = (b.keys()[0], replica(&b));
    assert_eq!(names(&b.change(Change::Delete { workload: WEB, grace: None })), ["signal"]);
    assert_eq!(names(&b.dies(key, 0)), ["remove"]);
    assert_eq!(names(&b.event(Event::Removed { key, error: None })), ["remove sandbox"]);
    let error = Some("device or resource busy".to_owned());
    assert!(b.event(Event::SandboxGone { replica, error }).is_empty());
    assert_eq!(names(&b.pass(5_000)), ["remove sandbox"]);
    assert_eq!(names(&b.event(Event::SandboxGone { replica, error: None })), ["persist"]);
    assert!(b.observed.workloads.is_empty());
}

#[test]
fn a_sandbox_that_is_lost_takes_its_containers_with_it() {
    let mut b = running_pod(pod());
    let (key, replica) = (b.keys()[0], replica(&b));
    assert_eq!(names(&b.event(Event::SandboxLost { replica })), ["signal"]);
    assert_eq!(names(&b.dies(key, 0)), ["remove"], "nothing is made in what is left of it");
    assert_eq!(names(&b.event(Event::Removed { key, error: None })), ["remove sandbox"]);
    assert_eq!(names(&b.event(Event::SandboxGone { replica, error: None })), ["make sandbox"]);
    assert_eq!(
        names(&b.event(Event::SandboxMade { replica, address: None })),
        ["prepare"],
        "at once: this does not count as a failure"
    );
    b.run_all();
    assert_eq!(b.observed.replicas().next().unwrap().1.containers[0].restart.failures, 0);
}

#[test]
fn what_never_restarts_has_failed_with_its_sandbox() {
    let never = PodTemplate { restart_policy: super::super::spec::RestartPolicy::Never, ..pod() };
    let mut b = running_pod(never);
    let (key, replica) = (b.keys()[0], replica(&b));
    b.event(Event::SandboxLost { replica });
    b.dies(key, 0);
    b.event(Event::Removed { key, error: None });
    assert!(b.event(Event::SandboxGone { replica, error: None }).is_empty());
    let next = b.observed.replicas().next().unwrap().1.containers[0].restart.next;
    assert_eq!(next, Next::Done { failed: true });
}

#[test]
fn after_a_restart_of_the_supervisor_a_sandbox_is_taken_over_or_made_again() {
    // Being made.
    let mut b = Bench::new();
    b.change(apply(1, pod(), one_by_one()));
    let replica = replica(&b);
    assert_eq!(
        names(&b.event(Event::SandboxFound { replica, whole: false, address: None })),
        ["make sandbox"]
    );
    assert_eq!(names(&b.event(Event::SandboxFound { replica, whole: true, address: None })), ["prepare"]);
    // Whole, and not.
    b.run_all();
    assert!(b.event(Event::SandboxFound { replica, whole: true, address: None }).is_empty());
    assert_eq!(names(&b.event(Event::SandboxFound { replica, whole: false, address: None })), ["signal"]);
    // Being removed.
    let mut b = running_pod(pod());
    let key = b.keys()[0];
    let replica = super::sandbox::replica(&b);
    b.change(Change::Delete { workload: WEB, grace: Some(Millis(0)) });
    b.dies(key, 9);
    b.event(Event::Removed { key, error: None });
    assert_eq!(state(&b), SandboxState::Removing(None));
    assert_eq!(
        names(&b.event(Event::SandboxFound { replica, whole: true, address: None })),
        ["remove sandbox"]
    );
}

#[test]
fn what_cannot_be_made_in_a_lost_sandbox_has_not_failed() {
    let mut b = Bench::new();
    b.change(apply(1, pod(), one_by_one()));
    let replica = replica(&b);
    b.event(Event::SandboxMade { replica, address: None });
    let key = b.keys()[0];
    b.event(Event::SandboxLost { replica });
    let error = StartError { message: "cannot allocate memory".into(), unrecoverable: false, image: None };
    b.event(Event::StartFailed { key, error });
    assert!(!b.reasons.contains(&Reason::Failed), "{:?}", b.reasons);
    assert!(b.reasons.contains(&Reason::SandboxChanged));
}
