//! What follows from the end of an instance: its class, and when the container is started again.

use super::model::{Exit, ExitClass, Instance, Next, Restart, StopCause};
use super::spec::{Backoff, RestartPolicy, Template};
use super::time::{Millis, Time};

impl ExitClass {
    /// Whether the policy OnFailure starts the container again.
    pub fn is_failure(self) -> bool {
        !matches!(self, ExitClass::Requested | ExitClass::Exited(0))
    }
}

/// Why `instance` ended as `exit` says; the first rule that applies.
pub fn classify(instance: &Instance, exit: &Exit) -> ExitClass {
    if let Some(stop) = &instance.stop {
        return if stop.cause == StopCause::ProbeFailed { ExitClass::Probe } else { ExitClass::Requested };
    }
    if let Some(error) = &exit.error {
        return ExitClass::StartError { unrecoverable: error.unrecoverable };
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
/// given times. `chance` is what jitter is drawn from, `apart` the least time between two starts.
pub fn after_exit(
    template: &Template,
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
    let again = match template.restart_policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => class.is_failure(),
        RestartPolicy::Never => false,
    };
    if !again {
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
        (ExitClass::StartError { unrecoverable: true }, _) => backoff.max,
        (ExitClass::Exited(0), Some(_)) if restart.cleans == 0 && restart.failures == 0 => backoff.first,
        (ExitClass::Exited(0), Some(flat)) => flat,
        _ if restart.failures == 0 => backoff.first,
        _ => grown(backoff, restart.failures - 1),
    }
}

/// `initial * factor^n`, at most `max`.
fn grown(backoff: &Backoff, n: u32) -> Millis {
    let exact = backoff.initial.0 as f64 * backoff.factor.powi(n.min(1000) as i32);
    // Not a number and infinity become the maximum too.
    if exact < backoff.max.0 as f64 { Millis(exact as u64) } else { backoff.max }
}

fn jittered(delay: Millis, percent: u32, chance: u64) -> Millis {
    let most = delay.0.saturating_mul(u64::from(percent)) / 100;
    Millis(delay.0 + scatter(chance) % (most + 1))
}

/// Whether one more restart is allowed; counts it when it is.
fn within_limit(template: &Template, restart: &mut Restart, at: Time) -> bool {
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
