//! What a container must do besides run: its postStart hook and its probes.
//!
//! A probe is asked for by `Action::Probe` and answered by `Event::Probed`, which only counts. What follows is decided by
//! looking at the counts: [`Action::Judge`] when as many results in a row are alike as the probe demands, or a stop when
//! those are failures of the liveness or startup probe. The state rules are kubelet's:
//!
//! * While postStart runs there are no probes, and until the startup probe has succeeded there are no others.
//! * A container is not ready until its readiness probe has succeeded. Liveness counts as passed until it fails.
//! * A probe that could not be carried out has no result. A stopping container is not probed.
//!
//! Unlike there, a container that is not ready yet is asked at short, growing intervals, up to the period: it is ready as
//! soon as it can be, not at the next multiple of ten seconds. A startup probe counts at most one failure in a period.

use super::action::Action;
use super::model::{Container, Hook, Instance, Key, Phase, Replica, StopCause};
use super::reconcile::{Pass, Place};
use super::spec::{ContainerSpec, Handler, ImageFacts, Probe, Probes};
use super::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The first interval of a container that is not ready yet; a program is run in it at longer ones.
const SOON: Millis = Millis(100);
const SOON_EXEC: Millis = Millis(1000);

/// One of the probes of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeKind {
    /// `startupProbe`: until it succeeds, the others wait.
    Startup,
    /// `readinessProbe`: without success, no connections.
    Readiness,
    /// `livenessProbe`: its failure restarts the container.
    Liveness,
}

impl ProbeKind {
    /// All of them, in the order in which they begin.
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness];
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Readiness => "readiness",
            ProbeKind::Liveness => "liveness",
        })
    }
}

/// One of the hooks of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookKind {
    /// `postStart`.
    PostStart,
    /// Older records name none.
    #[default]
    PreStop,
}

/// What a container must do before it is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Checks {
    /// It has a postStart hook.
    pub post_start: bool,
    /// It has a startup probe.
    pub startup: bool,
    /// It has a readiness probe.
    pub readiness: bool,
    /// It has a liveness probe.
    pub liveness: bool,
}

impl Checks {
    /// What a container of this specification must do.
    #[must_use]
    pub fn of(spec: &ContainerSpec, image: Option<&ImageFacts>) -> Checks {
        let probes = image.and_then(|i| i.probes.as_deref()).or(spec.probes.as_deref());
        let probe = |kind| probes.is_some_and(|p| p.get(kind).is_some());
        Checks {
            post_start: spec.post_start.is_some(),
            startup: probe(ProbeKind::Startup),
            readiness: probe(ProbeKind::Readiness),
            liveness: probe(ProbeKind::Liveness),
        }
    }

    /// There is nothing but to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Checks::default()
    }
}

/// The state of the checks of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Done when there is none.
    pub post_start: Hook,
    /// Why postStart failed.
    #[serde(default)]
    pub post_start_error: Option<String>,
    /// Results of the startup probe; `None`: there is none, or it is over.
    pub startup: Option<Count>,
    /// Results of the readiness probe; `None`: there is none.
    pub readiness: Option<Count>,
    /// Results of the liveness probe; `None`: there is none.
    pub liveness: Option<Count>,
}

/// The results of one probe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// How many were asked for.
    pub n: u32,
    /// The last was asked for then.
    pub last: Option<Time>,
    /// It has not been answered.
    pub asked: bool,
    /// Whether its failure counts, and since when the last such one was asked for.
    pub counts: bool,
    /// When the last result was counted.
    pub counted: Option<Time>,
    /// The last result, and how many in a row were like it.
    pub ok: bool,
    /// Results alike in a row.
    pub run: u32,
    /// What was judged last. None: nothing yet.
    pub passed: Option<bool>,
    /// Why the last one failed, or could not be carried out.
    pub error: Option<String>,
    /// Successes, failures, and those that could not be carried out.
    pub totals: [u64; 3],
}

impl Health {
    /// The state when the program starts.
    #[must_use]
    pub fn new(checks: Checks) -> Health {
        let count = |there: bool| there.then(Count::default);
        Health {
            post_start: if checks.post_start { Hook::NotRun } else { Hook::Done },
            post_start_error: None,
            startup: count(checks.startup),
            readiness: count(checks.readiness),
            liveness: count(checks.liveness),
        }
    }

    /// The results of one probe, if there is such a probe.
    #[must_use]
    pub fn count(&self, kind: ProbeKind) -> Option<&Count> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
        }
    }

    /// The same, to change them.
    pub fn count_mut(&mut self, kind: ProbeKind) -> Option<&mut Count> {
        match kind {
            ProbeKind::Startup => self.startup.as_mut(),
            ProbeKind::Readiness => self.readiness.as_mut(),
            ProbeKind::Liveness => self.liveness.as_mut(),
        }
    }

    /// Whether it has come up: postStart is over and the startup probe has succeeded.
    #[must_use]
    pub fn is_started(&self) -> bool {
        let hook = matches!(self.post_start, Hook::Done) && self.post_start_error.is_none();
        hook && self.startup.as_ref().is_none_or(|c| c.passed == Some(true))
    }

    /// Nothing keeps the container from being ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_started() && self.readiness.as_ref().is_none_or(|c| c.passed == Some(true))
    }

    /// Answers that were not there before the supervisor exited are asked for again. postStart runs once: of one that was
    /// running nobody knows the result, and the program runs.
    pub fn unconfirm(&mut self) {
        if matches!(self.post_start, Hook::Running(_)) {
            self.post_start = Hook::Done;
        }
        for kind in ProbeKind::ALL {
            if let Some(count) = self.count_mut(kind) {
                count.asked = false;
            }
        }
    }
}

impl Count {
    /// A probe is asked for at `at`.
    pub fn ask(&mut self, n: u32, counts: bool, at: Time) {
        (self.n, self.last, self.asked, self.counts) = (n, Some(at), true, counts);
        if counts {
            self.counted = Some(at);
        }
    }

    /// Probe `n` is over. `ok`: None when it could not be carried out.
    pub fn answer(&mut self, n: u32, ok: Option<bool>, error: Option<&String>) {
        if !self.asked || self.n != n {
            return;
        }
        self.asked = false;
        self.error = error.cloned();
        let total = match ok {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        self.totals[total] += 1;
        let Some(ok) = ok else { return };
        let counts = u32::from(ok || self.counts);
        self.run = if self.ok == ok { self.run.saturating_add(counts) } else { counts };
        self.ok = ok;
    }

    /// Whether it has failed as often in a row as it may.
    fn has_failed(&self, probe: &Probe) -> bool {
        !self.ok && self.run > 0 && self.run >= probe.failure_threshold
    }

    fn has_succeeded(&self, probe: &Probe) -> bool {
        self.ok && self.run >= probe.success_threshold
    }

    /// What is to be judged now and is not yet.
    fn verdict(&self, kind: ProbeKind, probe: &Probe) -> Option<bool> {
        match kind {
            _ if self.has_succeeded(probe) && self.passed != Some(true) => Some(true),
            ProbeKind::Readiness if self.has_failed(probe) && self.passed == Some(true) => Some(false),
            ProbeKind::Readiness | ProbeKind::Startup | ProbeKind::Liveness => None,
        }
    }

    /// When the next one is due in a container that was started at `started`.
    fn due(&self, kind: ProbeKind, probe: &Probe, started: Time) -> Time {
        let Some(last) = self.last else { return started + probe.initial_delay };
        let waiting =
            kind != ProbeKind::Liveness && self.passed.is_none() && self.run * u32::from(self.ok) == 0;
        let first = if matches!(probe.handler, Handler::Exec(_)) { SOON_EXEC } else { SOON };
        let soon = Millis(first.0 << self.n.saturating_sub(1).min(20));
        last + if waiting { probe.period.min(soon) } else { probe.period }
    }
}

impl Probes {
    #[must_use]
    pub fn get(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
        }
    }
}

impl ContainerSpec {
    /// Its probe of that kind.
    #[must_use]
    pub fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        self.probes.as_deref()?.get(kind)
    }

    /// Its hook of that kind.
    #[must_use]
    pub fn hook(&self, kind: HookKind) -> Option<&Handler> {
        match kind {
            HookKind::PostStart => self.post_start.as_ref(),
            HookKind::PreStop => self.pre_stop.as_ref(),
        }
    }
}

impl Instance {
    /// What this instance of `spec` is probed with.
    #[must_use]
    pub fn probe<'a>(&'a self, spec: &'a ContainerSpec, kind: ProbeKind) -> Option<&'a Probe> {
        let own = self.image.as_ref().and_then(|i| i.probes.as_deref());
        own.or(spec.probes.as_deref())?.get(kind)
    }
}

impl Replica {
    /// The first container that runs and is not ready, and why, as far as its checks say.
    pub fn unready(&self) -> Option<(&str, String)> {
        let of = |c: &Container| {
            let health = c.lives().filter(|i| i.stop.is_none() && i.ready.is_none())?.health.as_deref()?;
            if health.post_start != Hook::Done {
                return Some("postStart is running".to_owned());
            }
            let failing = |kind: ProbeKind| {
                let error = health.count(kind).filter(|c| c.passed != Some(true))?.error.as_ref()?;
                Some(format!("{kind} probe: {error}"))
            };
            failing(ProbeKind::Startup).or_else(|| failing(ProbeKind::Readiness))
        };
        self.containers.iter().find_map(|c| Some((c.name.as_str(), of(c)?)))
    }
}

/// Why an instance that is to run is stopped for its health, and the grace that it has.
pub fn failure(instance: &Instance, spec: &ContainerSpec, grace: Millis) -> Option<(StopCause, Millis)> {
    // One that has exited by itself is not stopped any more.
    let runs = instance.phase == Phase::Running && instance.exit.is_none();
    let health = instance.health.as_deref().filter(|_| runs)?;
    if health.post_start_error.is_some() {
        return Some((StopCause::PostStartFailed, grace));
    }
    let failed = |kind: ProbeKind| {
        let (count, probe) = (health.count(kind)?, instance.probe(spec, kind)?);
        let starting = kind == ProbeKind::Startup && count.passed == Some(true);
        (!starting && count.has_failed(probe))
            .then_some((StopCause::ProbeFailed, probe.grace.unwrap_or(grace)))
    };
    failed(ProbeKind::Startup).or_else(|| failed(ProbeKind::Liveness).filter(|_| health.is_started()))
}

/// Decides on the checks of an instance that is to run.
pub fn check(pass: &mut Pass<'_>, place: &Place<'_>, key: &Key, instance: &Instance, spec: &ContainerSpec) {
    let (Some(health), Phase::Running, None) = (&instance.health, instance.phase, place.replica.stop) else {
        return;
    };
    let Some(started) = instance.started else { return };
    if health.post_start != Hook::Done {
        return post_start(pass, key, health, spec);
    }
    let starting = health.startup.as_ref().is_some_and(|c| c.passed != Some(true));
    for kind in ProbeKind::ALL.into_iter().filter(|k| (*k == ProbeKind::Startup) == starting) {
        let (Some(count), Some(probe)) = (health.count(kind), instance.probe(spec, kind)) else { continue };
        if let Some(ok) = count.verdict(kind, probe) {
            pass.push(Action::Judge { key: *key, kind, ok });
            // It is over, however long ago the answer came.
            if kind == ProbeKind::Startup {
                continue;
            }
        }
        if !count.asked && pass.reached(count.due(kind, probe, started)) {
            let counts =
                kind != ProbeKind::Startup || count.counted.is_none_or(|at| pass.now >= at + probe.period);
            pass.push(Action::Probe { key: *key, kind, n: count.n.saturating_add(1), counts });
        }
    }
}

fn post_start(pass: &mut Pass<'_>, key: &Key, health: &Health, spec: &ContainerSpec) {
    let kind = HookKind::PostStart;
    match (health.post_start, &spec.post_start) {
        (Hook::NotRun, Some(Handler::Sleep(_))) => pass.push(Action::Sleep { key: *key, kind }),
        (Hook::NotRun, Some(_)) => pass.push(Action::RunHook { key: *key, kind }),
        (Hook::Sleeping(at), Some(Handler::Sleep(time))) => {
            if pass.reached(at + *time) {
                pass.push(Action::Slept { key: *key, kind });
            }
        }
        // The file has changed meanwhile.
        (Hook::NotRun | Hook::Sleeping(_), None) | (Hook::Sleeping(_), Some(_)) => {
            pass.push(Action::Slept { key: *key, kind });
        }
        (Hook::Running(_) | Hook::Done | Hook::Abandoned, _) => {}
    }
}
