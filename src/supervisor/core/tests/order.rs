//! The order of the containers of a replica, by scenarios.

use super::*;
use crate::supervisor::core::exit::ExitClass;
use crate::supervisor::core::model::Next;
use crate::supervisor::core::spec::{RestartPolicy, RestartRule, Role};

fn ordered() -> PodTemplate {
    let of = |name: &str, role| ContainerSpec { role, ..container(name) };
    let containers = vec![
        of("first", Role::Init),
        of("proxy", Role::Sidecar),
        of("second", Role::Init),
        of("app", Role::Main),
    ];
    PodTemplate { containers, ..template() }
}

/// The only instance of a container.
fn of(b: &Bench, container: u32) -> Key {
    *b.keys().iter().rfind(|k| k.container == container).unwrap()
}

fn starts(b: &mut Bench, container: u32) -> Vec<Action> {
    let key = of(b, container);
    b.event(Event::Prepared { key, process: PROCESS, image: None });
    b.event(Event::Started { key })
}

fn prepared(actions: &[Action]) -> Vec<u32> {
    let of = |a: &Action| match a {
        Action::Prepare { key, .. } => Some(key.container),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

/// All of it runs.
fn running() -> Bench {
    let mut b = Bench::new();
    assert_eq!(prepared(&b.change(apply(1, ordered(), one_by_one()))), [0]);
    assert!(prepared(&starts(&mut b, 0)).is_empty());
    let key = of(&b, 0);
    assert_eq!(prepared(&b.dies(key, 0)), [1]);
    assert_eq!(prepared(&starts(&mut b, 1)), [2]);
    starts(&mut b, 2);
    let key = of(&b, 2);
    assert_eq!(prepared(&b.dies(key, 0)), [3]);
    starts(&mut b, 3);
    b
}

#[test]
fn one_after_another() {
    let mut b = running();
    assert!(b.observed.replicas().next().unwrap().1.is_ready());
    // A sidecar that restarts does not block the others, and nothing before it runs again.
    b.now = b.now + Millis(5_000);
    let key = of(&b, 1);
    assert_eq!(prepared(&b.dies(key, 0x100)), [1]);
}

#[test]
fn a_release_that_a_crash_prevented_waits_for_the_sidecar_again() {
    let mut b = Bench::new();
    let template = PodTemplate { containers: ordered().containers.split_off(3), ..ordered() };
    let sidecar = ContainerSpec { role: Role::Sidecar, ..container("proxy") };
    let containers = [vec![sidecar], template.containers.clone()].concat();
    b.change(apply(1, PodTemplate { containers, ..template }, one_by_one()));
    starts(&mut b, 0);
    let (proxy, app) = (of(&b, 0), of(&b, 1));
    let released = b.event(Event::Prepared { key: app, process: PROCESS, image: None });
    assert!(released.iter().any(|a| matches!(a, Action::Release { key, .. } if *key == app)));
    // The supervisor died before it did so, and the sidecar while no supervisor ran.
    let ended = InspectedState::Ended { status: Some(WaitStatus(0x100)), oom: false, empty: true };
    b.event(Event::Found { key: proxy, found: ended });
    let actions = b.event(Event::Found { key: app, found: InspectedState::Created { process: PROCESS } });
    assert!(!actions.iter().any(|a| matches!(a, Action::Release { .. })), "{actions:?}");
    b.pass(5_000);
    let actions = starts(&mut b, 0);
    assert!(actions.iter().any(|a| matches!(a, Action::Release { key, .. } if *key == app)), "{actions:?}");
}

#[test]
fn an_init_container_that_fails_is_tried_again_and_keeps_the_others_waiting() {
    let mut b = Bench::new();
    b.change(apply(1, ordered(), one_by_one()));
    starts(&mut b, 0);
    b.now = b.now + Millis(5_000);
    let key = of(&b, 0);
    assert_eq!(prepared(&b.dies(key, 0x100)), [0]);
}

#[test]
fn with_policy_never_the_replica_has_failed_with_its_init_container() {
    let mut b = Bench::new();
    b.change(apply(1, PodTemplate { restart_policy: RestartPolicy::Never, ..ordered() }, one_by_one()));
    starts(&mut b, 0);
    let key = of(&b, 0);
    let actions = b.dies(key, 0x100);
    assert!(prepared(&actions).is_empty());
    let failed = |a: &Action| matches!(a, Action::Persist { change: Change::Completed { failed: true, .. } });
    assert!(actions.iter().any(failed), "{actions:?}");
    assert!(b.observed.replicas().next().unwrap().1.has_failed());
}

#[test]
fn main_containers_stop_before_the_sidecars() {
    let mut b = running();
    let (app, proxy) = (of(&b, 3), of(&b, 1));
    let actions = b.change(Change::Delete { workload: WEB, grace: None });
    let signalled = |actions: &[Action]| -> Vec<Key> {
        actions.iter().filter(|a| matches!(a, Action::Signal { .. })).filter_map(Action::key).collect()
    };
    assert_eq!(signalled(&actions), [app]);
    b.now = b.now + Millis::secs(4);
    assert_eq!(signalled(&b.dies(app, 0)), [proxy]);
    assert_eq!(names(&b.pass(6_000)), ["kill"], "one deadline for both");
}

#[test]
fn at_the_deadline_the_sidecars_are_killed_with_the_others() {
    let mut b = running();
    b.change(Change::Delete { workload: WEB, grace: None });
    let mut killed: Vec<_> = b.pass(10_000).iter().filter_map(Action::key).map(|k| k.container).collect();
    killed.sort_unstable();
    assert_eq!(killed, [1, 3]);
}

#[test]
fn sidecars_end_with_the_last_main_container() {
    let mut b = Bench::new();
    let mut template = PodTemplate { restart_policy: RestartPolicy::OnFailure, ..ordered() };
    template.containers.retain(|c| c.role != Role::Init);
    b.change(apply(1, template, one_by_one()));
    starts(&mut b, 0);
    starts(&mut b, 1);
    let (proxy, app) = (of(&b, 0), of(&b, 1));
    let actions = b.dies(app, 0);
    assert!(names(&actions).contains(&"signal"), "{actions:?}");
    let actions = b.dies(proxy, 0x8f00);
    let done = |a: &Action| matches!(a, Action::Persist { change: Change::Completed { failed: false, .. } });
    assert!(actions.iter().any(done), "{actions:?}");
}

#[test]
fn a_container_may_have_a_policy_and_rules_of_its_own() {
    let mut never = container("main");
    never.restart_policy = Some(RestartPolicy::Never);
    never.restart_rules = vec![RestartRule { codes: vec![42], others: false }];
    let mut b = Bench::running(
        1,
        PodTemplate { containers: vec![never, container("other")], ..template() },
        one_by_one(),
    );
    b.now = b.now + Millis(5_000);
    let key = of(&b, 0);
    assert_eq!(prepared(&b.dies(key, 42 << 8)), [0], "the rule goes first");
    b.run_all();
    b.now = b.now + Millis::secs(400);
    let key = of(&b, 0);
    assert!(prepared(&b.dies(key, 1 << 8)).is_empty());
    let next = b.observed.replicas().next().unwrap().1.containers[0].restart.next;
    assert_eq!(next, Next::Done { failed: true });
}

#[test]
fn a_replica_ends_when_its_time_is_over() {
    let mut b = Bench::new();
    let limit = Some(Millis::secs(60));
    b.change(apply(1, PodTemplate { active_deadline: limit, ..ordered() }, one_by_one()));
    starts(&mut b, 0);
    let first = of(&b, 0);
    b.dies(first, 0);
    starts(&mut b, 1);
    let (proxy, init) = (of(&b, 1), of(&b, 2));
    b.now = b.now + Millis::secs(1);
    let dead = b.dies(init, 0x100);
    assert!(prepared(&dead).is_empty() || prepared(&dead) == [2], "{dead:?}");
    let actions = b.pass(60_000);
    assert!(b.reasons.contains(&Reason::DeadlineExceeded), "{:?}", b.reasons);
    let signalled: Vec<Key> =
        actions.iter().filter(|a| matches!(a, Action::Signal { .. })).filter_map(Action::key).collect();
    assert_eq!(signalled, [proxy], "{actions:?}");
    let actions = b.dies(proxy, 0x8f00);
    let failed = |a: &Action| matches!(a, Action::Persist { change: Change::Completed { failed: true, .. } });
    let later: Vec<Action> = (0..10).flat_map(|_| b.pass(60_000)).collect();
    assert!(actions.iter().chain(&later).any(failed), "{actions:?} {later:?}");
    assert!(later.iter().all(|a| prepared(std::slice::from_ref(a)).is_empty()), "{later:?}");
}

#[test]
fn a_main_container_that_outlives_the_deadline_has_failed() {
    let limit = Some(Millis::secs(60));
    let mut b = Bench::running(1, PodTemplate { active_deadline: limit, ..template() }, one_by_one());
    let key = of(&b, 0);
    assert!(names(&b.pass(59_000)).is_empty());
    assert_eq!(names(&b.pass(1_000)), ["signal"]);
    let actions = b.dies(key, 0);
    let failed = |a: &Action| matches!(a, Action::Persist { change: Change::Completed { failed: true, .. } });
    assert!(actions.iter().any(failed), "{actions:?}");
    let exits = &b.observed.workloads[&WEB].slots[&0].history["main"].exits;
    assert_eq!(exits[0].class, ExitClass::Deadline);
}
