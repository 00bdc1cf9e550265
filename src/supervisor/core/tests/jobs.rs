//! The limits and the policies of jobs.

use super::controller::{completed, end, slots, with};
use super::*;
use crate::supervisor::core::controller::{
    Controller, FailureRule, FailureRuleAction, Job, JobReason, SuccessRule,
};
use crate::supervisor::core::spec::{Backoff, RestartRule, Role};

fn task() -> PodTemplate {
    PodTemplate {
        restart_policy: RestartPolicy::OnFailure,
        backoff: Backoff { jitter_percent: 0, ..Backoff::default() },
        ..template()
    }
}

fn running(job: Job, replicas: u32) -> Bench {
    let mut b = Bench::new();
    b.change(with(Controller { job: Some(Box::new(job)), ..Controller::default() }, replicas, task()));
    b.run_all();
    b
}

fn why(b: &Bench) -> Option<(bool, JobReason)> {
    b.desired.workloads[&WEB].finished.as_ref().map(|end| (end.failed, end.reason))
}

fn rule(action: FailureRuleAction, codes: &[i32]) -> FailureRule {
    let exit = Some(RestartRule { codes: codes.to_vec(), others: false });
    FailureRule { action, container: None, exit }
}

const FAILS: i32 = 1 << 8;

#[test]
fn the_limit_is_that_of_all_replicas_together() {
    let mut b = running(Job { parallelism: 3, backoff_limit: Some(2), ..Job::default() }, 3);
    end(&mut b, 0, FAILS);
    end(&mut b, 1, FAILS);
    assert_eq!((why(&b), slots(&b)), (None, vec![0, 1, 2]), "both are run again");
    end(&mut b, 2, FAILS);
    assert_eq!(why(&b), Some((true, JobReason::BackoffLimitExceeded)));
    assert_eq!(slots(&b), [2], "the others are stopped, and what has failed last can be looked at");
    // It is the same after a reboot.
    (b.observed, b.now) = (Observed::default(), Time(1000));
    b.turn();
    assert_eq!(b.keys(), []);
}

#[test]
fn what_is_done_is_not_begun_again_while_its_sidecar_ends() {
    let side = ContainerSpec { role: Role::Sidecar, ..container("side") };
    let both = PodTemplate { containers: vec![side, container("main")], ..task() };
    let job = Some(Box::new(Job { parallelism: 1, ..Job::default() }));
    let mut b = Bench::new();
    b.change(with(Controller { job, ..Controller::default() }, 1, both));
    b.run_all();
    let of = |b: &Bench, container: u32| b.keys().into_iter().find(|k| k.container == container).unwrap();
    let (side, main) = (of(&b, 0), of(&b, 1));
    b.dies(main, 0);
    // The drain stops what is left of the replica, and is called off.
    b.event(Event::Draining { on: true });
    b.event(Event::Draining { on: false });
    b.run_all();
    assert!(b.keys().iter().all(|k| k.replica == side.replica), "{:?}", b.keys());
    b.dies(side, 9);
    b.run_all();
    assert_eq!(why(&b), Some((false, JobReason::CompletionsReached)));
    assert!(b.keys().iter().all(|k| k.replica == side.replica), "{:?}", b.keys());
}

#[test]
fn an_index_that_fails_too_often_does_not_stop_the_others() {
    let job = Job {
        parallelism: 3,
        backoff_limit_per_index: Some(1),
        max_failed_indexes: Some(1),
        ..Job::default()
    };
    let mut b = running(job.clone(), 3);
    end(&mut b, 0, FAILS);
    end(&mut b, 0, FAILS);
    assert_eq!((why(&b), completed(&b).get(&0)), (None, Some(&true)));
    end(&mut b, 1, 0);
    end(&mut b, 2, 0);
    assert_eq!(why(&b), Some((true, JobReason::FailedIndexes)), "all have exited, and one has failed");
    let mut b = running(job, 3);
    for n in [0, 0, 2, 2] {
        end(&mut b, n, FAILS);
    }
    assert_eq!(why(&b), Some((true, JobReason::MaxFailedIndexesExceeded)));
    assert_eq!(slots(&b), [0, 2], "1 is stopped");
}

#[test]
fn exit_codes_have_a_meaning() {
    let job = Job {
        parallelism: 2,
        backoff_limit: Some(0),
        failure_rules: vec![
            FailureRule { exit: None, ..rule(FailureRuleAction::FailJob, &[]) },
            FailureRule {
                container: Some("other".to_owned()),
                ..rule(FailureRuleAction::FailJob, &[3, 143])
            },
            rule(FailureRuleAction::Ignore, &[3, 143]),
            rule(FailureRuleAction::FailJob, &[42]),
        ],
        ..Job::default()
    };
    let mut b = running(job, 2);
    for status in [3 << 8, libc::SIGTERM, 3 << 8] {
        end(&mut b, 0, status);
    }
    assert_eq!((why(&b), slots(&b)), (None, vec![0, 1]), "not a failure that counts");
    end(&mut b, 1, 42 << 8);
    assert_eq!(why(&b), Some((true, JobReason::PodFailurePolicy)));
    let message = b.desired.workloads[&WEB].finished.clone().unwrap().message;
    assert!(message.contains("podFailurePolicy.rules[3]"), "{message}");
    let by_index = Job {
        parallelism: 2,
        backoff_limit_per_index: Some(5),
        failure_rules: vec![rule(FailureRuleAction::FailIndex, &[7])],
        ..Job::default()
    };
    let mut b = running(by_index, 2);
    end(&mut b, 1, 7 << 8);
    assert_eq!((why(&b), completed(&b).get(&1)), (None, Some(&true)), "only its index has failed");
}

#[test]
fn a_job_has_a_deadline() {
    let mut b = running(Job { parallelism: 1, deadline: Some(Millis::secs(90)), ..Job::default() }, 2);
    end(&mut b, 0, 0);
    assert_eq!(why(&b), None);
    b.pass(40_000);
    assert_eq!(why(&b), Some((true, JobReason::DeadlineExceeded)), "it is that of all replicas together");
    assert!(b.observed.instances().any(|(_, i)| i.stop.is_some()));
    assert_eq!(completed(&b).get(&0), Some(&false));
}

#[test]
fn a_queue_is_over_with_the_last_replica_after_a_success() {
    let job = Job { parallelism: 3, backoff_limit: Some(6), queue: true, ..Job::default() };
    let mut b = running(job, 3);
    end(&mut b, 0, FAILS);
    assert_eq!(slots(&b), [0, 1, 2], "nothing has succeeded: it is run again");
    end(&mut b, 1, 0);
    end(&mut b, 0, FAILS);
    assert_eq!((why(&b), completed(&b).get(&0)), (None, Some(&true)), "the queue is empty");
    end(&mut b, 2, 0);
    assert_eq!(why(&b), Some((false, JobReason::CompletionsReached)));
}

#[test]
fn some_successes_can_be_enough() {
    let rule = SuccessRule { indexes: Some(vec![(0, 0), (2, 3)]), count: Some(2) };
    let mut b = running(Job { parallelism: 4, success_rules: vec![rule], ..Job::default() }, 4);
    end(&mut b, 1, 0);
    end(&mut b, 2, 0);
    assert_eq!(why(&b), None);
    end(&mut b, 0, 0);
    assert_eq!(why(&b), Some((false, JobReason::SuccessPolicy)));
    assert_eq!(slots(&b), [0, 1, 2], "the rest is stopped");
    let state = status::workload(&b.desired.workloads[&WEB], b.observed.workloads.get(&WEB), b.now);
    assert_eq!(state.failed, 0);
}

#[test]
fn a_suspended_job_runs_nothing_until_it_is_resumed() {
    let job = |suspended| Job { parallelism: 2, suspended, ..Job::default() };
    let mut b = running(job(true), 2);
    assert_eq!(b.keys(), []);
    b.change(with(Controller { job: Some(Box::new(job(false))), ..Controller::default() }, 2, task()));
    b.run_all();
    assert_eq!(slots(&b), [0, 1]);
}
