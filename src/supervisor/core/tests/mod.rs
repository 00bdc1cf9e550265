//! The core by scenarios: events in, actions out.

mod controller;
mod cron;
mod depends;
mod endpoints;
mod health;
mod jobs;
mod objects;
mod order;
mod rollout;
mod sandbox;

use super::action::Action;
use super::checks::{Checks, HookKind};
use super::desired::{Change, Desired};
use super::event::{Event, InspectedState};
use super::exit::{StopCause, WaitStatus};
use super::ids::{Key, Revision, WorkloadId};
use super::model::{Observed, Process};
use super::observe::on_event;
use super::reconcile::reconcile;
use super::refusal::Refusal;
use super::revision::Stamp;
use super::spec::{
    ContainerSource, ContainerSpec, Handler, IntOrPercent, PodTemplate, RestartPolicy, Strategy,
};
use super::time::{Millis, Time};
use super::{Config, action::Reason, status};
use crate::workload::kept::KeptKind;

const PROCESS: Process = Process { pid: 1, pidfd_inode: 1, start_time: 1 };

fn container(name: &str) -> ContainerSpec {
    let launch = ContainerSource { bundle: "/b".to_owned(), ..ContainerSource::default() };
    ContainerSpec { name: name.to_owned(), launch, ..ContainerSpec::default() }
}

fn template() -> PodTemplate {
    PodTemplate {
        containers: vec![container("main")],
        backoff: super::spec::Backoff { jitter_percent: 0, ..Default::default() },
        grace: Millis::secs(10),
        ..PodTemplate::default()
    }
}

fn apply(replicas: u32, template: PodTemplate, strategy: Strategy) -> Change {
    Change::Apply {
        name: "web".to_owned(),
        replicas,
        strategy,
        controller: Default::default(),
        paused: None,
        template: Box::new(template),
        source: serde_json::Value::Null,
        stamp: Stamp::default(),
    }
}

/// One at a time, without a surge; what runs is available at once.
fn one_by_one() -> Strategy {
    Strategy {
        max_surge: IntOrPercent::Int(0),
        max_unavailable: IntOrPercent::Int(1),
        min_ready: Some(Millis(0)),
        ..Strategy::default()
    }
}

/// Another program.
fn changed() -> PodTemplate {
    let mut changed = template();
    changed.containers[0].launch.args = Some(vec!["v2".to_owned()]);
    changed
}

fn restart(slot: Option<u32>) -> Change {
    Change::Restart { workload: WEB, slot, stamp: Stamp::default() }
}

const WEB: WorkloadId = WorkloadId(1);

/// The core with a clock, and a world that only remembers.
struct Bench {
    desired: Desired,
    observed: Observed,
    config: Config,
    now: Time,
    wake: Option<Time>,
    reasons: Vec<Reason>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            desired: Desired::default(),
            observed: Observed::default(),
            config: Config::default(),
            now: Time(1_000_000),
            wake: None,
            reasons: Vec::new(),
        }
    }

    /// A workload with all of its replicas running.
    fn running(replicas: u32, template: PodTemplate, strategy: Strategy) -> Bench {
        let mut bench = Bench::new();
        bench.change(apply(replicas, template, strategy));
        bench.run_all();
        bench
    }

    fn change(&mut self, change: Change) -> Vec<Action> {
        self.desired.apply(&change, self.now, &self.config).unwrap();
        self.turn()
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.tell(event);
        self.turn()
    }

    fn tell(&mut self, event: Event) {
        let mut notices = Vec::new();
        on_event(&mut self.observed, &event, self.now, &mut notices);
        self.reasons.extend(notices.iter().map(|n| n.reason));
    }

    fn pass(&mut self, ms: u64) -> Vec<Action> {
        self.now = self.now + Millis(ms);
        self.turn()
    }

    /// The decisions of the core until nothing is left; effects and changes only.
    fn turn(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..50 {
            let step = reconcile(&self.desired, &self.observed, self.now, &self.config);
            self.wake = step.wake;
            if step.actions.is_empty() {
                return done;
            }
            for action in step.actions {
                if let Action::Persist { change } = &action {
                    self.desired.apply(change, self.now, &self.config).unwrap();
                    done.push(action);
                } else {
                    self.tell(Event::Decided { action: action.clone() });
                    done.extend(action.is_effect().then_some(action));
                }
            }
        }
        panic!("no end of decisions: {done:?}");
    }

    /// Lets everything that is being created run.
    fn run_all(&mut self) {
        for _ in 0..20 {
            let keys: Vec<(Key, super::model::Phase)> =
                self.observed.instances().map(|(k, i)| (k, i.phase)).collect();
            for (key, phase) in keys {
                match phase {
                    super::model::Phase::Preparing => {
                        self.tell(Event::Prepared { key, process: PROCESS, image: None })
                    }
                    super::model::Phase::Starting => self.tell(Event::Started { key }),
                    _ => {}
                }
            }
            self.turn();
        }
    }

    fn dies(&mut self, key: Key, status: i32) -> Vec<Action> {
        self.tell(Event::Exited { key, status: Some(WaitStatus(status)), oom: false });
        self.event(Event::CgroupEmpty { key })
    }

    fn keys(&self) -> Vec<Key> {
        self.observed.instances().map(|(k, _)| k).collect()
    }
}

fn names(actions: &[Action]) -> Vec<&'static str> {
    let name = |a: &Action| match a {
        Action::Prepare { .. } => "prepare",
        Action::Release { .. } => "release",
        Action::Signal { .. } => "signal",
        Action::KillCgroup { .. } => "kill",
        Action::RunHook { .. } => "hook",
        Action::Probe { .. } => "probe",
        Action::Remove { .. } => "remove",
        Action::Persist { .. } => "persist",
        Action::MakeSandbox { .. } => "make sandbox",
        Action::RemoveSandbox { .. } => "remove sandbox",
        Action::Publish { .. } => "publish",
        _ => "note",
    };
    actions.iter().map(name).collect()
}

#[test]
fn a_replica_comes_up_dies_and_comes_back() {
    let mut b = Bench::new();
    assert_eq!(names(&b.change(apply(1, template(), one_by_one()))), ["prepare"]);
    let key = b.keys()[0];
    assert_eq!(names(&b.event(Event::Prepared { key, process: PROCESS, image: None })), ["release"]);
    assert_eq!(names(&b.event(Event::Started { key })), ["persist"], "the revision works");
    assert_eq!(b.wake, None, "nothing to wait for while all is well");
    b.now = b.now + Millis(5_000);
    let actions = b.dies(key, 0x100);
    assert_eq!(names(&actions), ["prepare", "remove"], "the replacement before the clearing away");
    let slot = &b.observed.workloads[&WEB].slots[&0];
    assert_eq!((slot.history["main"].starts, slot.history["main"].exits.len()), (1, 1));
    b.run_all();
    assert_eq!(b.observed.workloads[&WEB].slots[&0].replicas[0].containers[0].restarts(), 1);
}

#[test]
fn init_alone_is_not_death() {
    let mut b = Bench::running(1, template(), one_by_one());
    let key = b.keys()[0];
    let actions = b.event(Event::Exited { key, status: Some(WaitStatus(0)), oom: false });
    assert_eq!(names(&actions), ["kill"], "the rest of the cgroup is killed, nothing is started");
    assert!(b.pass(4_999).is_empty());
    assert_eq!(names(&b.pass(1)), ["kill"], "again when it does not become empty");
    assert!(b.reasons.contains(&Reason::FailedKillPod));
    assert_eq!(names(&b.event(Event::CgroupEmpty { key })), ["prepare", "remove"]);
}

#[test]
fn the_stop_signal_then_the_deadline() {
    let mut b = Bench::running(1, template(), one_by_one());
    let key = b.keys()[0];
    let delete = Change::Delete { workload: WEB, grace: None };
    assert_eq!(b.change(delete), [Action::Signal { key, signal: libc::SIGTERM }]);
    assert_eq!(b.wake, Some(b.now + Millis::secs(10)));
    b.tell(Event::Signalled { key });
    assert!(b.pass(9_999).is_empty());
    assert_eq!(names(&b.pass(1)), ["kill"]);
    assert_eq!(names(&b.dies(key, 9)), ["remove"]);
    assert_eq!(names(&b.event(Event::Removed { key, error: None })), ["persist"]);
    assert!(b.desired.workloads.is_empty() && b.observed.workloads.is_empty());
}

#[test]
fn grace_zero_asks_nobody() {
    let with_hook = PodTemplate {
        containers: vec![ContainerSpec {
            pre_stop: Some(Handler::Exec(vec!["drain".to_owned()])),
            ..container("main")
        }],
        ..template()
    };
    let mut b = Bench::running(1, with_hook, one_by_one());
    assert_eq!(names(&b.change(Change::Delete { workload: WEB, grace: Some(Millis(0)) })), ["kill"]);
}

#[test]
fn a_second_delete_shortens_and_never_lengthens() {
    let mut b = Bench::running(1, template(), one_by_one());
    let begin = b.now;
    let delete = |grace| Change::Delete { workload: WEB, grace: Some(Millis::secs(grace)) };
    b.change(delete(8));
    b.now = begin + Millis::secs(1);
    b.change(delete(100));
    assert_eq!(b.wake, Some(begin + Millis::secs(8)));
    b.change(delete(2));
    assert_eq!(b.wake, Some(begin + Millis::secs(3)));
    assert_eq!(names(&b.change(delete(0))), ["kill"]);
}

fn with_hook() -> PodTemplate {
    let main = ContainerSpec { pre_stop: Some(Handler::Exec(vec!["drain".to_owned()])), ..container("main") };
    PodTemplate { containers: vec![main], ..template() }
}

#[test]
fn the_hook_runs_before_the_signal() {
    let mut b = Bench::running(1, with_hook(), one_by_one());
    let key = b.keys()[0];
    let scale = Change::Scale { workload: WEB, replicas: 0 };
    assert_eq!(names(&b.change(scale)), ["hook"]);
    assert!(b.pass(3_000).is_empty());
    let actions = b.event(Event::HookDone { key, kind: HookKind::PreStop, error: None });
    assert_eq!(actions, [Action::Signal { key, signal: libc::SIGTERM }]);
    assert_eq!(names(&b.pass(7_000)), ["kill"], "the hook's time counts against the grace period");
}

#[test]
fn a_hook_that_overruns_leaves_two_seconds_within_the_grace_period() {
    let mut b = Bench::running(1, with_hook(), one_by_one());
    assert_eq!(names(&b.change(Change::Scale { workload: WEB, replicas: 0 })), ["hook"]);
    assert!(b.pass(7_999).is_empty());
    assert_eq!(names(&b.pass(1)), ["signal"]);
    assert!(b.reasons.contains(&Reason::FailedPreStopHook));
    assert!(b.pass(1_999).is_empty());
    assert_eq!(names(&b.pass(1)), ["kill"], "the deadline is final");
    // Of a short one, half.
    let mut b = Bench::running(1, PodTemplate { grace: Millis(100), ..with_hook() }, one_by_one());
    b.change(Change::Scale { workload: WEB, replicas: 0 });
    assert_eq!(names(&b.pass(50)), ["signal"]);
    assert_eq!(names(&b.pass(50)), ["kill"]);
}

#[test]
fn a_restart_of_the_supervisor_keeps_the_deadline() {
    let mut b = Bench::running(1, with_hook(), one_by_one());
    let key = b.keys()[0];
    b.change(Change::Delete { workload: WEB, grace: None });
    b.now = b.now + Millis::secs(4);
    b.tell(Event::Found { key, found: InspectedState::Running { process: PROCESS } });
    assert_eq!(names(&b.turn()), ["signal"], "the hook is lost and does not run again");
    assert_eq!(names(&b.pass(5_999)), Vec::<&str>::new());
    assert_eq!(names(&b.pass(1)), ["kill"]);
}

#[test]
fn a_deadline_that_passed_meanwhile_kills() {
    let mut b = Bench::running(1, template(), one_by_one());
    let key = b.keys()[0];
    b.change(Change::Delete { workload: WEB, grace: None });
    b.tell(Event::Signalled { key });
    b.now = b.now + Millis::secs(60);
    b.tell(Event::Found { key, found: InspectedState::Running { process: PROCESS } });
    assert_eq!(names(&b.turn()), ["kill"]);
}

#[test]
fn what_was_half_made_is_made_again_without_delay() {
    let mut b = Bench::new();
    b.change(apply(1, template(), one_by_one()));
    let key = b.keys()[0];
    let actions = b.event(Event::Found { key, found: InspectedState::Nothing });
    assert_eq!(names(&actions), ["prepare"]);
    assert_ne!(b.keys()[0].instance, key.instance, "under a new name");
    assert!(b.observed.workloads[&WEB].slots[&0].history.is_empty());
}

#[test]
fn scaling_down_takes_the_worst_and_then_the_highest() {
    let mut b = Bench::running(4, template(), one_by_one());
    let keys = b.keys();
    b.dies(keys[1], 0x100);
    b.run_all();
    // 1 restarted of late; 0, 2 and 3 are equal.
    let stopped = |b: &Bench| -> Vec<u32> {
        let slots = &b.observed.workloads[&WEB].slots;
        slots.iter().filter(|(_, s)| s.current().is_none()).map(|(n, _)| *n).collect()
    };
    b.change(Change::Scale { workload: WEB, replicas: 3 });
    assert_eq!(stopped(&b), [1]);
    b.change(Change::Scale { workload: WEB, replicas: 2 });
    assert_eq!(stopped(&b), [1, 3]);
    b.change(Change::Scale { workload: WEB, replicas: 3 });
    assert_eq!(stopped(&b), [3], "the lowest free slot is taken");
}

#[test]
fn a_replacement_is_ready_but_does_not_run_beside_the_old_one() {
    let mut b = Bench::running(1, template(), one_by_one());
    let old = b.keys()[0];
    let actions = b.change(restart(Some(0)));
    assert_eq!(names(&actions), ["signal", "prepare"]);
    let new = *b.keys().iter().find(|k| **k != old).unwrap();
    assert!(b.event(Event::Prepared { key: new, process: PROCESS, image: None }).is_empty());
    let actions = b.dies(old, 0);
    assert!(actions.contains(&Action::Release { key: new, checks: Checks::default() }), "{actions:?}");
}

#[test]
fn a_new_template_replaces_one_at_a_time() {
    let mut b = Bench::running(3, template(), one_by_one());
    b.change(apply(3, changed(), one_by_one()));
    let signalled = |b: &Bench| b.observed.instances().filter(|(_, i)| i.stop.is_some()).count();
    assert_eq!(signalled(&b), 1);
    let key = b.observed.instances().find(|(_, i)| i.stop.is_some()).unwrap().0;
    assert_eq!(key.slot, 0, "the lowest first");
    b.dies(key, 0);
    assert_eq!(signalled(&b), 1, "the next one waits until the new one runs");
    b.run_all();
    let stopping: Vec<u32> = b
        .observed
        .instances()
        .filter(|(_, i)| i.stop.is_some() && i.exit.is_none())
        .map(|(k, _)| k.slot)
        .collect();
    assert_eq!(stopping, [1]);
}

#[test]
fn surge_starts_the_new_one_first() {
    let strategy = Strategy { min_ready: Some(Millis(500)), ..Strategy::default() };
    let mut b = Bench::running(1, template(), strategy);
    b.pass(500);
    let actions = b.change(apply(1, changed(), strategy));
    assert_eq!(names(&actions), ["prepare"]);
    b.run_all();
    assert_eq!(b.observed.instances().filter(|(_, i)| i.stop.is_some()).count(), 0, "not yet available");
    assert_eq!(names(&b.pass(500)), ["persist", "signal"]);
}

#[test]
fn going_back_keeps_what_already_runs() {
    let mut b = Bench::running(3, template(), one_by_one());
    b.change(apply(3, changed(), one_by_one()));
    b.change(apply(3, template(), one_by_one()));
    assert_eq!(b.desired.workloads[&WEB].revision, Revision(1));
    let kept = b.observed.workloads[&WEB].slots.values().filter_map(|s| s.current());
    assert_eq!(kept.filter(|r| r.revision == Revision(1) && r.serial <= 3).count(), 2);
}

#[test]
fn an_equal_template_changes_nothing() {
    let mut b = Bench::running(2, template(), one_by_one());
    let before = b.desired.clone();
    assert!(b.change(apply(2, template(), one_by_one())).is_empty());
    assert_eq!(b.desired, before);
}

#[test]
fn starts_are_limited_over_all_workloads() {
    let mut b = Bench::new();
    b.config = Config { start_rate: 10, start_burst: 3, ..Config::default() };
    assert_eq!(b.change(apply(6, template(), one_by_one())).len(), 3);
    assert_eq!(b.wake, Some(b.now + Millis(100)));
    assert!(b.pass(99).is_empty());
    assert_eq!(names(&b.pass(1)), ["prepare"]);
    assert_eq!(b.pass(200).len(), 2);
}

#[test]
fn a_spare_waits_and_takes_over() {
    let mut b = Bench::running(1, PodTemplate { spare: true, ..template() }, one_by_one());
    assert_eq!(b.keys().len(), 2);
    let (key, _) = b.observed.instances().find(|(_, i)| i.started.is_some()).unwrap();
    b.now = b.now + Millis(500);
    let actions = b.dies(key, 0x100);
    assert_eq!(names(&actions), ["release", "remove"]);
}

#[test]
fn a_finished_job_is_remembered_and_not_run_again() {
    let job = PodTemplate { restart_policy: RestartPolicy::OnFailure, ..template() };
    let mut b = Bench::running(1, job, one_by_one());
    let key = b.keys()[0];
    let actions = b.dies(key, 0);
    assert_eq!(names(&actions), ["persist", "remove"]);
    b.observed = Observed::default();
    assert!(b.turn().is_empty(), "nor after a reboot");
    assert_eq!(names(&b.change(restart(Some(0)))), ["prepare"]);
}

#[test]
fn a_signal_that_was_lost_with_the_supervisor_is_not_sent_after_the_deadline() {
    let mut b = Bench::running(1, with_hook(), one_by_one());
    let key = b.keys()[0];
    b.change(Change::Scale { workload: WEB, replicas: 0 });
    assert_eq!(names(&b.event(Event::HookDone { key, kind: HookKind::PreStop, error: None })), ["signal"]);
    // The supervisor died before the signal was sent, and was away until long after the deadline.
    b.now = b.now + Millis::secs(60);
    b.tell(Event::Found { key, found: InspectedState::Running { process: PROCESS } });
    assert_eq!(names(&b.turn()), ["kill"]);
}

#[test]
fn a_spare_that_fails_does_not_bring_the_restart_forward() {
    let mut b = Bench::running(1, PodTemplate { spare: true, ..template() }, one_by_one());
    for _ in 0..2 {
        let (key, _) = b.observed.instances().find(|(_, i)| i.started.is_some() && !i.settled).unwrap();
        b.pass(200);
        b.dies(key, 0);
        b.run_all();
        b.pass(1_900);
        b.run_all();
    }
    let (running, _) = b.observed.instances().find(|(_, i)| i.started.is_some() && !i.settled).unwrap();
    let (spare, _) = b.observed.instances().find(|(_, i)| i.started.is_none()).unwrap();
    b.pass(200);
    b.dies(running, 0);
    let due = b.observed.container(&running).unwrap().restart.due().unwrap();
    assert!(due > b.now + Millis(900));
    b.dies(spare, 9);
    let later = b.observed.container(&running).unwrap().restart.due().unwrap();
    assert!(later >= due, "{later:?} {due:?}");
}

#[test]
fn a_slot_that_ended_for_good_and_is_given_up_is_free_again() {
    let job = PodTemplate { restart_policy: RestartPolicy::Never, ..template() };
    let mut b = Bench::running(2, job, one_by_one());
    let key = b.keys()[1];
    b.dies(key, 0x100);
    assert!(b.desired.workloads[&WEB].completed.contains_key(&1));
    b.change(Change::Scale { workload: WEB, replicas: 1 });
    assert!(b.desired.workloads[&WEB].completed.is_empty());
    assert_eq!(names(&b.change(Change::Scale { workload: WEB, replicas: 2 })), ["prepare"]);
}

#[test]
fn what_nobody_wants_is_stopped() {
    let mut b = Bench::running(1, template(), one_by_one());
    let key = b.keys()[0];
    b.desired = Desired::default();
    assert_eq!(names(&b.turn()), ["signal"]);
    let stop = b.observed.instance(&key).unwrap().stop.unwrap();
    assert_eq!(stop.cause, StopCause::Orphaned);
    b.dies(key, 0);
    b.event(Event::Removed { key, error: None });
    assert!(b.observed.workloads.is_empty());
}

#[test]
fn removal_is_tried_again() {
    let mut b = Bench::running(1, template(), one_by_one());
    let key = b.keys()[0];
    b.change(Change::Scale { workload: WEB, replicas: 0 });
    assert_eq!(names(&b.dies(key, 0)), ["remove"]);
    assert!(b.event(Event::Removed { key, error: Some("device or resource busy".to_owned()) }).is_empty());
    assert_eq!(names(&b.pass(5_000)), ["remove"]);
}

#[test]
fn changes_that_are_refused_do_nothing() {
    let mut d = Desired::default();
    let config = Config::default();
    let none = WorkloadId(7);
    let cases = [
        (Change::Scale { workload: none, replicas: 1 }, Refusal::NotFound),
        (Change::Delete { workload: none, grace: None }, Refusal::NotFound),
        (apply(10_001, template(), one_by_one()), Refusal::TooManyReplicas { limit: 10_000 }),
        (apply(1, PodTemplate { containers: Vec::new(), ..template() }, one_by_one()), Refusal::NoContainers),
    ];
    for (change, refusal) in cases {
        assert_eq!(d.apply(&change, Time(0), &config), Err(refusal));
        assert_eq!(d, Desired::default());
    }
    d.apply(&apply(1, template(), one_by_one()), Time(0), &config).unwrap();
    d.apply(&Change::Delete { workload: WEB, grace: None }, Time(0), &config).unwrap();
    assert_eq!(d.check(&Change::Scale { workload: WEB, replicas: 2 }, &config), Err(Refusal::Deleting));
    assert_eq!(d.check(&apply(1, template(), one_by_one()), &config), Err(Refusal::Deleting));
}

#[test]
fn old_templates_are_kept_up_to_a_number() {
    let mut b = Bench::new();
    b.config.revision_history = 2;
    for n in 0..6 {
        b.change(apply(0, PodTemplate { grace: Millis(n), ..changed() }, one_by_one()));
    }
    let kept: Vec<u32> = b.desired.workloads[&WEB].revisions.keys().map(|r| r.0).collect();
    assert_eq!(kept, [4, 5, 6]);
}

#[test]
fn keys_have_a_short_form() {
    let key = Key { workload: WorkloadId(3), slot: 0, replica: 12, container: 1, instance: 99 };
    assert_eq!(key.to_string(), "w3.s0.r12.c1.i99");
    assert_eq!("w3.s0.r12.c1.i99".parse(), Ok(key));
    for bad in ["", "w3", "w3.s0.r12.c1", "w3.s0.r12.c1.i99.x", "s3.s0.r12.c1.i99", "w3.s0.r12.c1.i-9"] {
        assert_eq!(bad.parse::<Key>(), Err(()), "{bad}");
    }
}

#[test]
fn wait_statuses() {
    assert_eq!((WaitStatus(0x2a00).code(), WaitStatus(0x2a00).signal()), (Some(42), None));
    assert_eq!((WaitStatus(9).code(), WaitStatus(9).signal()), (None, Some(9)));
    assert_eq!((WaitStatus(0x8b).code(), WaitStatus(0x8b).signal()), (None, Some(11)));
}

#[test]
fn numbers_grow_and_identities_are_those_of_old_journals() {
    let mut b = Bench::running(1, template(), one_by_one());
    let revision = |b: &Bench| {
        let w = &b.desired.workloads[&WEB];
        (w.revision.0, w.number(w.revision))
    };
    b.change(apply(1, changed(), one_by_one()));
    assert_eq!(revision(&b), (2, 2));
    b.change(apply(1, template(), one_by_one()));
    assert_eq!(revision(&b), (1, 3));
    b.change(restart(None));
    assert_eq!(revision(&b), (3, 4));
    b.change(Change::Undo { workload: WEB, to: Some(2), stamp: Stamp::default() });
    assert_eq!(revision(&b), (2, 5));
}
