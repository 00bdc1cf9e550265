//! When a container may be restarted, as seen from outside: the documented table in its own words.

use orun::supervisor::core::spec::{PodTemplate, RestartPolicy};

/// The starts and ends of one container of one replica.
#[derive(Debug, Default)]
pub struct Chain {
    /// The released instance, until it exited.
    running: Option<u64>,
    started: Option<u64>,
    failures: u32,
    cleans: u32,
    /// Not before this; None: never again.
    next: Option<u64>,
    known: bool,
}

impl Chain {
    pub fn started(&mut self, instance: u64, at: u64) {
        if self.running == Some(instance) && self.started.is_none() {
            self.started = Some(at);
        }
    }

    /// `status` None: a failure of whatever kind.
    #[allow(clippy::too_many_arguments)]
    pub fn ended(
        &mut self,
        instance: u64,
        released: bool,
        status: Option<i32>,
        unrecoverable: bool,
        at: u64,
        template: &PodTemplate,
        policy: RestartPolicy,
    ) {
        // A spare that fails next to a running instance does not count as a restart.
        if !released || self.running.is_some_and(|r| r != instance) {
            return;
        }
        let backoff = &template.backoff;
        if self.started.is_some_and(|s| at - s >= backoff.reset.0) {
            (self.failures, self.cleans) = (0, 0);
        }
        let clean = status == Some(0);
        let again = match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !clean,
            RestartPolicy::Never => false,
        };
        let flat = backoff.clean.filter(|_| clean);
        let delay = match (flat, self.failures, self.cleans) {
            _ if unrecoverable => backoff.max.0,
            (Some(_), 0, 0) | (None, 0, _) => 0,
            (Some(flat), ..) => flat.0,
            (None, n, _) => backoff.max.0.min(backoff.initial.0 << (n - 1).min(20)),
        };
        match flat {
            Some(_) => self.cleans += 1,
            None => self.failures += 1,
        }
        self.next = again.then_some(at + delay);
        self.known = true;
        (self.running, self.started) = (None, None);
    }

    /// It was stopped because its sandbox was lost: no failure.
    pub fn lost(&mut self, at: u64, again: bool) {
        self.next = again.then_some(at);
        self.known = true;
        (self.running, self.started) = (None, None);
    }

    /// The rule that starting it now would break.
    pub fn released(&mut self, instance: u64, now: u64, _: &PodTemplate) -> Option<String> {
        let problem = match (self.known, self.next) {
            (true, None) => Some("starts again against its policy".to_owned()),
            (true, Some(next)) if now < next => Some(format!("starts {} ms too soon", next - now)),
            _ => None,
        };
        (self.running, self.started) = (Some(instance), None);
        problem
    }
}
