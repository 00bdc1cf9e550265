//! Classification of the exit of an instance, and the time of the next start.

use super::exit::{Exit, ExitClass, StopCause};
use super::model::{Instance, Next, Restart};
use super::spec::{Backoff, PodTemplate};
use super::time::{Millis, Time};

/// Why `instance` exited with `exit`; the first rule that applies.
pub fn classify(instance: &Instance, exit: &Exit) -> ExitClass {
    if let Some(stop) = &instance.stop {
        return match stop.cause {
            StopCause::ProbeFailed => ExitClass::Probe,
            StopCause::PostStartFailed => ExitClass::PostStart,
            StopCause::DeadlineExceeded => ExitClass::Deadline,
            StopCause::Deleted
            | StopCause::ScaledDown
            | StopCause::Replaced
            | StopCause::Restarted
            | StopCause::SandboxLost
            | StopCause::Finished
            | StopCause::JobFailed
            | StopCause::JobComplete
            | StopCause::Orphaned
            | StopCause::Drained => ExitClass::Requested,
        };
    }
    if let Some(error) = &exit.error {
        return ExitClass::StartError { unrecoverable: error.unrecoverable, image: error.image };
    }
    let Some(status) = exit.status else { return ExitClass::Unknown };
    match (status.code(), status.signal()) {
        (Some(0), _) => ExitClass::Exited(0),
        _ if exit.oom => ExitClass::Oom,
        (Some(code), _) => ExitClass::Exited(code),
        (None, Some(signal)) => ExitClass::Signal(signal),
        (None, None) => ExitClass::Unknown,
    }
}

/// The state of restarts after an exit of class `class`, at `at`, of an instance that was started and ready at the
/// given times. `container` is its index, `chance` is what jitter is drawn from, `apart` the least time between two starts.
pub fn after_exit(
    template: &PodTemplate,
    container: usize,
    before: &Restart,
    class: ExitClass,
    exit: (Time, Option<Time>, Option<Time>),
    chance: u64,
    apart: Millis,
) -> Restart {
    let (at, started, ready) = exit;
    let mut restart = before.clone();
    let backoff = &template.backoff;
    if ready.is_some_and(|ready| at.since(ready) >= backoff.reset) {
        restart.failures = 0;
        restart.cleans = 0;
        if template.restart_limit.is_some_and(|l| l.window.is_none()) {
            restart.recent.clear();
        }
    }
    if !template.restarts(container, class) {
        restart.next = Next::Done { failed: class.is_failure() };
        return restart;
    }
    if !within_limit(template, &mut restart, at) {
        restart.next = Next::GivenUp;
        return restart;
    }
    let delay = jittered(delay(backoff, &restart, class), backoff.jitter_percent, chance);
    match (class, backoff.clean) {
        (ExitClass::Exited(0), Some(_)) => restart.cleans = restart.cleans.saturating_add(1),
        _ => restart.failures = restart.failures.saturating_add(1),
    }
    let earliest = started.map_or(at, |started| started + apart);
    restart.next = Next::At((at + delay).max(earliest));
    restart
}

/// The delay before jitter.
fn delay(backoff: &Backoff, restart: &Restart, class: ExitClass) -> Millis {
    match (class, backoff.clean) {
        (ExitClass::StartError { unrecoverable: true, .. }, _) => backoff.max,
        (ExitClass::Exited(0), Some(_)) if restart.cleans == 0 && restart.failures == 0 => backoff.first,
        (ExitClass::Exited(0), Some(flat)) => flat,
        _ if restart.failures == 0 => backoff.first,
        _ => grown(backoff, restart.failures - 1),
    }
}

/// `initial * factor^n`, at most `max`.
pub fn grown(backoff: &Backoff, n: u32) -> Millis {
    let exact = backoff.initial.0 as f64 * backoff.factor.powi(n.min(1000) as i32);
    // Not a number and infinity become the maximum too.
    if exact < backoff.max.0 as f64 { Millis(exact as u64) } else { backoff.max }
}

fn jittered(delay: Millis, percent: u32, chance: u64) -> Millis {
    let most = delay.0.saturating_mul(u64::from(percent)) / 100;
    Millis(delay.0 + scatter(chance) % (most + 1))
}

/// Whether one more restart is allowed; counts it when it is.
fn within_limit(template: &PodTemplate, restart: &mut Restart, at: Time) -> bool {
    let Some(limit) = template.restart_limit else { return true };
    if let Some(window) = limit.window {
        while restart.recent.front().is_some_and(|t| at.since(*t) >= window) {
            restart.recent.pop_front();
        }
    }
    if restart.recent.len() >= limit.count as usize {
        return false;
    }
    restart.recent.push_back(at);
    true
}

/// Spreads the bits of a number (the finaliser of SplitMix64).
pub fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::core::checks::Hook;
    use crate::supervisor::core::exit::{StartError, WaitStatus};
    use crate::supervisor::core::model::{Phase, Removal, Stop};
    use crate::supervisor::core::spec::{ContainerSpec, RestartLimit, RestartPolicy};

    fn template(policy: RestartPolicy, backoff: Backoff) -> PodTemplate {
        let container = ContainerSpec { name: "main".to_owned(), ..ContainerSpec::default() };
        PodTemplate { containers: vec![container], restart_policy: policy, backoff, ..PodTemplate::default() }
    }

    /// The delays after exits of these classes, each of which comes `up` after a start that came as soon as it could.
    fn delays(template: &PodTemplate, classes: &[ExitClass], up: Millis) -> Vec<Option<u64>> {
        let mut restart = Restart::default();
        let mut start = Time(1_000_000);
        let mut found = Vec::new();
        for class in classes {
            let exit = start + up;
            let times = (exit, Some(start), Some(start));
            restart = after_exit(template, 0, &restart, *class, times, 0, Millis(0));
            let Some(due) = restart.due() else {
                found.push(None);
                continue;
            };
            found.push(Some(due.since(exit).0));
            start = due;
        }
        found
    }

    fn exact(backoff: Backoff) -> Backoff {
        Backoff { jitter_percent: 0, ..backoff }
    }

    #[test]
    fn failures_double_the_delay_and_the_first_restart_is_immediate() {
        let t = template(RestartPolicy::Always, exact(Backoff::default()));
        let expected = [0, 1, 2, 4, 8, 16, 32, 60, 60, 60].map(|s| Some(s * 1000));
        assert_eq!(delays(&t, &[ExitClass::Exited(1); 10], Millis(50)), expected);
        assert_eq!(delays(&t, &[ExitClass::Signal(9); 10], Millis(50)), expected);
        assert_eq!(delays(&t, &[ExitClass::Unknown; 10], Millis(50)), expected);
        assert_eq!(delays(&t, &[ExitClass::Oom; 10], Millis(50)), expected);
        assert_eq!(delays(&t, &[ExitClass::Probe; 10], Millis(50)), expected);
    }

    #[test]
    fn the_kubelet_sequence() {
        let kubelet = Backoff {
            initial: Millis::secs(10),
            max: Millis::secs(300),
            reset: Millis::secs(600),
            clean: None,
            ..exact(Backoff::default())
        };
        let t = template(RestartPolicy::Always, kubelet);
        let expected = [0, 10, 20, 40, 80, 160, 300, 300].map(|s| Some(s * 1000));
        assert_eq!(delays(&t, &[ExitClass::Exited(1); 8], Millis::secs(1)), expected);
        // A clean exit under Always backs off like a crash there.
        assert_eq!(delays(&t, &[ExitClass::Exited(0); 8], Millis::secs(1)), expected);
        // Ten minutes of running begin the sequence again.
        assert_eq!(delays(&t, &[ExitClass::Exited(1); 3], Millis::secs(600)), [Some(0); 3]);
    }

    #[test]
    fn docker_sequence_by_numbers() {
        let docker = Backoff {
            first: Millis(100),
            initial: Millis(200),
            reset: Millis::secs(10),
            clean: None,
            ..exact(Backoff::default())
        };
        let t = template(RestartPolicy::Always, docker);
        let expected = [100, 200, 400, 800, 1600, 3200].map(Some);
        assert_eq!(delays(&t, &[ExitClass::Exited(1); 6], Millis(10)), expected);
        assert_eq!(delays(&t, &[ExitClass::Exited(1); 3], Millis::secs(10)), [Some(100); 3]);
    }

    #[test]
    fn clean_exits_under_always_are_flat() {
        let t = template(RestartPolicy::Always, exact(Backoff::default()));
        let expected = [0, 1, 1, 1, 1].map(|s| Some(s * 1000));
        assert_eq!(delays(&t, &[ExitClass::Exited(0); 5], Millis(50)), expected);
        // They do not make failures wait longer, nor the other way round.
        let mixed = [ExitClass::Exited(1), ExitClass::Exited(0), ExitClass::Exited(1), ExitClass::Exited(0)];
        assert_eq!(delays(&t, &mixed, Millis(50)), [0, 1000, 1000, 1000].map(Some));
    }

    #[test]
    fn policies() {
        let on_failure = template(RestartPolicy::OnFailure, exact(Backoff::default()));
        assert_eq!(delays(&on_failure, &[ExitClass::Exited(0)], Millis(1)), [None]);
        assert_eq!(delays(&on_failure, &[ExitClass::Exited(2)], Millis(1)), [Some(0)]);
        let never = template(RestartPolicy::Never, exact(Backoff::default()));
        assert_eq!(delays(&never, &[ExitClass::Exited(2)], Millis(1)), [None]);
        let after = |class| {
            after_exit(&never, 0, &Restart::default(), class, (Time(5), None, None), 0, Millis(0)).next
        };
        assert_eq!(after(ExitClass::Exited(2)), Next::Done { failed: true });
        assert_eq!(after(ExitClass::Exited(0)), Next::Done { failed: false });
    }

    #[test]
    fn what_cannot_work_is_tried_rarely() {
        let t = template(RestartPolicy::Always, exact(Backoff::default()));
        let hopeless = ExitClass::StartError { unrecoverable: true, image: None };
        assert_eq!(delays(&t, &[hopeless; 2], Millis(0)), [Some(60_000); 2]);
        let passing = ExitClass::StartError { unrecoverable: false, image: None };
        assert_eq!(delays(&t, &[passing; 3], Millis(0)), [0, 1000, 2000].map(Some));
    }

    #[test]
    fn a_long_run_begins_the_sequence_again() {
        let t = template(RestartPolicy::Always, exact(Backoff::default()));
        assert_eq!(delays(&t, &[ExitClass::Exited(1); 3], Millis(299_999)), [0, 1000, 2000].map(Some));
        assert_eq!(delays(&t, &[ExitClass::Exited(1); 3], Millis(300_000)), [0; 3].map(Some));
    }

    #[test]
    fn jitter_lengthens_by_at_most_its_share() {
        let t = template(RestartPolicy::Always, Backoff::default());
        let before = Restart { failures: 7, ..Restart::default() };
        let mut seen = std::collections::BTreeSet::new();
        for chance in 0..1000 {
            let times = (Time(1_000), None, None);
            let due = after_exit(&t, 0, &before, ExitClass::Exited(1), times, chance, Millis(0)).due();
            let delay = due.unwrap().since(Time(1_000)).0;
            assert!((60_000..=66_000).contains(&delay), "{delay}");
            seen.insert(delay);
        }
        assert!(seen.len() > 900);
    }

    #[test]
    fn two_starts_are_apart() {
        let t = template(RestartPolicy::Always, Backoff::default());
        let times = (Time(1_010), Some(Time(1_000)), Some(Time(1_000)));
        let next = after_exit(&t, 0, &Restart::default(), ExitClass::Exited(1), times, 0, Millis(100)).next;
        assert_eq!(next, Next::At(Time(1_100)));
    }

    #[test]
    fn a_limit_gives_up() {
        let limit = |window| PodTemplate {
            restart_limit: Some(RestartLimit { count: 2, window }),
            ..template(RestartPolicy::Always, exact(Backoff::default()))
        };
        let fail = [ExitClass::Exited(1); 4];
        let without = limit(None);
        assert_eq!(delays(&without, &fail, Millis(10)), [Some(0), Some(1000), None, None]);
        // Within a window that has passed by then.
        let within = limit(Some(Millis(1_500)));
        assert_eq!(delays(&within, &fail, Millis(900)), [0, 1000, 2000, 4000].map(Some));
        // Good runs give restarts back where there is no window.
        assert_eq!(delays(&without, &fail, Millis::secs(300)), [0; 4].map(Some));
    }

    #[test]
    fn extreme_numbers_are_the_maximum() {
        for factor in [f64::INFINITY, f64::NAN, 1e300] {
            let t = template(RestartPolicy::Always, Backoff { factor, ..exact(Backoff::default()) });
            let before = Restart { failures: u32::MAX, ..Restart::default() };
            let times = (Time(0), None, None);
            let next = after_exit(&t, 0, &before, ExitClass::Unknown, times, 0, Millis(0)).next;
            assert_eq!(next, Next::At(Time(60_000)), "{factor}");
        }
    }

    fn instance(stop: Option<StopCause>) -> Instance {
        let stop = stop.map(|cause| Stop {
            cause,
            at: Time(0),
            deadline: Time(0),
            now: false,
            hook: Hook::NotRun,
            signalled: None,
            delivered: false,
        });
        Instance {
            id: 1,
            phase: Phase::Running,
            revision: None,
            updating: false,
            process: None,
            image: None,
            prepared: Time(0),
            started: Some(Time(0)),
            ready: Some(Time(0)),
            health: None,
            stop,
            exit: None,
            empty: false,
            kills: 0,
            killed: None,
            settled: false,
            removal: Removal::No,
            logs_blocked: None,
            last_words: None,
        }
    }

    #[test]
    fn classes_in_their_order() {
        let exit =
            |status: Option<i32>, oom| Exit { at: Time(9), status: status.map(WaitStatus), oom, error: None };
        let free = instance(None);
        let failed = |unrecoverable| Exit {
            error: Some(StartError { message: String::new(), unrecoverable, image: None }),
            ..exit(None, false)
        };
        assert_eq!(classify(&free, &exit(Some(0x2a00), false)), ExitClass::Exited(42));
        assert_eq!(classify(&free, &exit(Some(0), true)), ExitClass::Exited(0));
        assert_eq!(classify(&free, &exit(Some(9), false)), ExitClass::Signal(9));
        assert_eq!(classify(&free, &exit(Some(9), true)), ExitClass::Oom);
        assert_eq!(classify(&free, &exit(Some(0x8900), true)), ExitClass::Oom);
        // With a core dump.
        assert_eq!(classify(&free, &exit(Some(0x8b), false)), ExitClass::Signal(11));
        assert_eq!(classify(&free, &exit(None, false)), ExitClass::Unknown);
        assert_eq!(
            classify(&free, &failed(true)),
            ExitClass::StartError { unrecoverable: true, image: None }
        );
        let stopped = instance(Some(StopCause::Deleted));
        assert_eq!(classify(&stopped, &exit(Some(9), true)), ExitClass::Requested);
        let unhealthy = instance(Some(StopCause::ProbeFailed));
        assert_eq!(classify(&unhealthy, &exit(Some(0), false)), ExitClass::Probe);
    }
}
