//! Hooks and probes, by scenarios.

use super::*;
use crate::supervisor::core::checks::ProbeKind;
use crate::supervisor::core::exit::ExitClass;
use crate::supervisor::core::spec::{Endpoint, Probe, Probes, Role};

fn probe(failures: u32) -> Probe {
    Probe {
        handler: Handler::Tcp(Endpoint { host: None, port: 80 }),
        initial_delay: Millis(0),
        period: Millis::secs(10),
        timeout: Millis::secs(1),
        success_threshold: 1,
        failure_threshold: failures,
        grace: None,
    }
}

fn with(probes: Probes) -> PodTemplate {
    let main = ContainerSpec { probes: Some(Box::new(probes)), ..container("main") };
    PodTemplate { containers: vec![main], ..template() }
}

/// The probes that are asked for.
fn asked(actions: &[Action]) -> Vec<(ProbeKind, u32)> {
    let of = |a: &Action| match a {
        Action::Probe { kind, n, .. } => Some((*kind, *n)),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn answer(b: &mut Bench, kind: ProbeKind, n: u32, ok: bool) -> Vec<Action> {
    let key = *b.keys().last().unwrap();
    let error = (!ok).then(|| "connection refused".to_owned());
    b.event(Event::Probed { key, kind, n, ok: Some(ok), error })
}

fn ready(b: &Bench) -> bool {
    b.observed.replicas().next().unwrap().1.is_ready()
}

fn starts(template: PodTemplate) -> (Bench, Vec<Action>) {
    let mut b = Bench::new();
    b.change(apply(1, template, one_by_one()));
    let key = b.keys()[0];
    b.event(Event::Prepared { key, process: PROCESS, image: None });
    let actions = b.event(Event::Started { key });
    (b, actions)
}

#[test]
fn readiness_flips_by_its_thresholds_only() {
    use ProbeKind::Readiness;
    let readiness = Some(Probe { success_threshold: 2, ..probe(3) });
    let (mut b, actions) = starts(with(Probes { readiness, ..Probes::default() }));
    assert_eq!(asked(&actions), [(Readiness, 1)], "the first one comes at once");
    answer(&mut b, Readiness, 1, false);
    // Soon, and later and later, until it has succeeded.
    assert_eq!(asked(&b.pass(100)), [(Readiness, 2)]);
    answer(&mut b, Readiness, 2, false);
    assert_eq!(asked(&b.pass(200)), [(Readiness, 3)]);
    answer(&mut b, Readiness, 3, true);
    assert!(!ready(&b), "two successes in a row are asked for");
    assert!(asked(&b.pass(9_999)).is_empty());
    assert_eq!(asked(&b.pass(1)), [(Readiness, 4)]);
    answer(&mut b, Readiness, 4, true);
    assert!(ready(&b));
    for n in 5..=6 {
        assert_eq!(asked(&b.pass(10_000)), [(Readiness, n)]);
        answer(&mut b, Readiness, n, false);
        assert!(ready(&b), "two failures are not three");
    }
    b.pass(10_000);
    // An answer to a question that was not asked, and one without a result.
    answer(&mut b, Readiness, 6, false);
    let key = b.keys()[0];
    b.event(Event::Probed { key, kind: Readiness, n: 7, ok: None, error: Some("no such program".into()) });
    assert!(ready(&b));
    b.pass(10_000);
    assert!(names(&answer(&mut b, Readiness, 8, false)).is_empty(), "nothing is stopped");
    assert!(!ready(&b));
    assert!(b.reasons.contains(&Reason::Unhealthy));
    for n in 9..=10 {
        b.pass(10_000);
        answer(&mut b, Readiness, n, true);
    }
    assert!(ready(&b));
}

#[test]
fn liveness_stops_once_with_the_grace_of_the_probe_and_the_policy_starts_it_again() {
    use ProbeKind::Liveness;
    let liveness = Some(Probe { grace: Some(Millis::secs(3)), ..probe(2) });
    let template = PodTemplate {
        restart_policy: RestartPolicy::OnFailure,
        ..with(Probes { liveness, ..Probes::default() })
    };
    let (mut b, actions) = starts(template);
    assert!(ready(&b), "liveness keeps nobody waiting");
    assert_eq!(asked(&actions), [(Liveness, 1)]);
    let key = b.keys()[0];
    assert!(names(&answer(&mut b, Liveness, 1, false)).is_empty());
    assert!(asked(&b.pass(9_999)).is_empty(), "it is asked once a period");
    assert_eq!(asked(&b.pass(1)), [(Liveness, 2)]);
    assert_eq!(names(&answer(&mut b, Liveness, 2, false)), ["signal"]);
    assert!(names(&b.pass(2_999)).is_empty());
    assert_eq!(names(&b.pass(1)), ["kill"]);
    let actions = b.dies(key, 0);
    assert!(names(&actions).contains(&"prepare"), "{actions:?}");
    let exits = &b.observed.workloads[&WEB].slots[&0].history["main"].exits;
    assert_eq!(exits[0].class, ExitClass::Probe);
}

#[test]
fn the_others_wait_for_the_startup_probe_whose_failures_count_once_a_period() {
    use ProbeKind::{Liveness, Startup};
    let probes = Probes { startup: Some(probe(2)), liveness: Some(probe(1)), readiness: None };
    let (mut b, actions) = starts(with(probes.clone()));
    assert_eq!(asked(&actions), [(Startup, 1)]);
    for (n, wait) in [(2, 100), (3, 200), (4, 400)] {
        answer(&mut b, Startup, n - 1, false);
        assert_eq!(asked(&b.pass(wait)), [(Startup, n)]);
    }
    assert!(!ready(&b));
    assert_eq!(asked(&answer(&mut b, Startup, 4, true)), [(Liveness, 1)], "the others begin");
    assert!(ready(&b));
    answer(&mut b, Liveness, 1, true);
    assert_eq!(asked(&b.pass(10_000)), [(Liveness, 2)], "the startup probe is over");
    // One that never succeeds is stopped after its periods.
    let (mut b, _) = starts(with(probes));
    let (begin, mut n) = (b.now, 1);
    let stopped = loop {
        if names(&answer(&mut b, Startup, n, false)).contains(&"signal") {
            break b.now.since(begin);
        }
        while asked(&b.pass(100)).is_empty() {}
        n += 1;
    };
    assert!(stopped >= Millis::secs(10) && stopped < Millis::secs(17), "{stopped}");
}

#[test]
fn a_post_start_is_waited_for_and_its_failure_stops_the_container() {
    let main = || ContainerSpec {
        post_start: Some(Handler::Exec(vec!["warm".to_owned()])),
        probes: Some(Box::new(Probes { liveness: Some(probe(1)), ..Probes::default() })),
        ..container("main")
    };
    let (mut b, actions) = starts(PodTemplate { containers: vec![main()], ..template() });
    assert_eq!(names(&actions), ["hook"]);
    assert!(!ready(&b));
    let key = b.keys()[0];
    let done = |error: Option<&str>| Event::HookDone {
        key,
        kind: HookKind::PostStart,
        error: error.map(str::to_owned),
    };
    assert!(asked(&b.event(done(None))) == [(ProbeKind::Liveness, 1)]);
    assert!(ready(&b));
    let (mut b, _) = starts(PodTemplate { containers: vec![main()], ..template() });
    assert_eq!(names(&b.event(done(Some("exit code 1")))), ["signal"]);
    assert!(b.reasons.contains(&Reason::FailedPostStartHook));
    b.dies(key, 0);
    let exits = &b.observed.workloads[&WEB].slots[&0].history["main"].exits;
    assert_eq!(exits[0].class, ExitClass::PostStart);
}

#[test]
fn a_hook_that_sleeps_sleeps_on_over_a_crash() {
    let main = ContainerSpec {
        post_start: Some(Handler::Sleep(Millis::secs(1))),
        pre_stop: Some(Handler::Sleep(Millis::secs(5))),
        ..container("main")
    };
    let (mut b, actions) = starts(PodTemplate { containers: vec![main], ..template() });
    let key = b.keys()[0];
    assert!(names(&actions).is_empty() && !ready(&b));
    b.pass(999);
    assert!(!ready(&b));
    b.pass(1);
    assert!(ready(&b));
    assert!(names(&b.change(Change::Scale { workload: WEB, replicas: 0 })).is_empty());
    b.pass(2_000);
    b.tell(Event::Found { key, found: InspectedState::Running { process: PROCESS } });
    assert!(names(&b.pass(2_999)).is_empty());
    assert_eq!(names(&b.pass(1)), ["signal"]);
    assert_eq!(names(&b.pass(5_000)), ["kill"], "within the grace period");
}

#[test]
fn after_a_crash_probing_continues_with_what_was_counted() {
    use ProbeKind::Readiness;
    let readiness = Some(probe(2));
    let (mut b, _) = starts(with(Probes { readiness, ..Probes::default() }));
    answer(&mut b, Readiness, 1, true);
    b.pass(10_000);
    answer(&mut b, Readiness, 2, false);
    assert_eq!(asked(&b.pass(10_000)), [(Readiness, 3)]);
    let key = b.keys()[0];
    let actions = b.event(Event::Found { key, found: InspectedState::Running { process: PROCESS } });
    assert!(ready(&b), "as it was");
    assert!(asked(&actions).is_empty(), "not before its time");
    assert_eq!(asked(&b.pass(10_000)), [(Readiness, 4)]);
    answer(&mut b, Readiness, 3, false);
    assert!(ready(&b), "the answer of a former life");
    answer(&mut b, Readiness, 4, false);
    assert!(!ready(&b));
}

#[test]
fn a_startup_probe_that_succeeded_before_a_crash_is_not_asked_for_again() {
    use ProbeKind::{Liveness, Startup};
    let probes = Probes { startup: Some(probe(2)), liveness: Some(probe(1)), readiness: None };
    let (mut b, _) = starts(with(probes));
    let key = b.keys()[0];
    // The answer is recorded, what follows from it is not: the supervisor is dead for two periods.
    let event = Event::Probed { key, kind: Startup, n: 1, ok: Some(true), error: None };
    crate::supervisor::core::observe::on_event(&mut b.observed, &event, b.now, &mut Vec::new());
    b.now = b.now + Millis::secs(20);
    let actions = b.event(Event::Found { key, found: InspectedState::Running { process: PROCESS } });
    assert_eq!(asked(&actions), [(Liveness, 1)]);
    assert!(ready(&b));
}

#[test]
fn the_next_container_waits_until_the_sidecar_has_started() {
    let sidecar = ContainerSpec {
        role: Role::Sidecar,
        probes: Some(Box::new(Probes { startup: Some(probe(3)), ..Probes::default() })),
        ..container("proxy")
    };
    let (mut b, actions) = starts(PodTemplate { containers: vec![sidecar, container("main")], ..template() });
    assert_eq!(names(&actions), ["probe"]);
    let actions = answer(&mut b, ProbeKind::Startup, 1, true);
    assert!(names(&actions).contains(&"prepare"), "{actions:?}");
}

#[test]
fn hooks_of_older_journals_are_read() {
    let old = serde_json::json!({"name": "a", "launch": {"bundle": "/b"}, "preStop": ["/stop", "now"]});
    let spec: ContainerSpec = serde_json::from_value(old).unwrap();
    assert_eq!(spec.pre_stop, Some(Handler::Exec(vec!["/stop".to_owned(), "now".to_owned()])));
    let again: ContainerSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
    assert_eq!(again, spec);
    let done = r#"{"event": "hookDone", "key": {"workload": 1, "slot": 0, "replica": 1, "container": 0, "instance": 1}, "error": null}"#;
    let event: Event = serde_json::from_str(done).unwrap();
    assert!(matches!(event, Event::HookDone { kind: HookKind::PreStop, .. }));
}

#[test]
fn a_rollout_that_stalls_says_what_the_probe_said() {
    let readiness = Some(probe(3));
    let template = with(Probes { readiness, ..Probes::default() });
    let mut b = Bench::new();
    b.change(apply(1, template, Strategy { progress_deadline: Some(Millis::secs(60)), ..one_by_one() }));
    let key = b.keys()[0];
    b.event(Event::Prepared { key, process: PROCESS, image: None });
    b.event(Event::Started { key });
    answer(&mut b, ProbeKind::Readiness, 1, false);
    b.pass(60_000);
    let rollout = b.observed.workloads[&WEB].rollout.as_ref().unwrap();
    let expected = "0 of 1 new replicas are available after the progress deadline: \
                    container main is not ready: readiness probe: connection refused";
    assert_eq!(rollout.reason, expected);
}

#[test]
fn the_probes_of_an_image_replace_those_of_the_file() {
    use crate::supervisor::core::spec::ImageFacts;
    use ProbeKind::Liveness;
    let mut b = Bench::new();
    let file = Probes { readiness: Some(probe(1)), ..Probes::default() };
    b.change(apply(1, with(file), one_by_one()));
    let key = b.keys()[0];
    let liveness = Some(Probe { period: Millis::secs(2), ..probe(2) });
    let probes = Some(Box::new(Probes { liveness, ..Probes::default() }));
    let image = Some(Box::new(ImageFacts { probes, ..ImageFacts::default() }));
    let actions = b.event(Event::Prepared { key, process: PROCESS, image });
    let checks = actions.iter().find_map(|a| match a {
        Action::Release { checks, .. } => Some((checks.readiness, checks.liveness)),
        _ => None,
    });
    assert_eq!(checks, Some((false, true)));
    assert_eq!(asked(&b.event(Event::Started { key })), [(Liveness, 1)]);
    answer(&mut b, Liveness, 1, false);
    assert_eq!(asked(&b.pass(2_000)), [(Liveness, 2)]);
    // The journal of the next supervisor has it.
    let text = serde_json::to_string(&b.observed).unwrap();
    b.observed = serde_json::from_str(&text).unwrap();
    let stops = answer(&mut b, Liveness, 2, false);
    assert!(stops.iter().any(|a| matches!(a, Action::Signal { .. })), "{stops:?}");
}
