//! The hooks and probes of a container, and how far those of one instance are. [`super::health`] decides what follows.

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

/// A hook of one instance. Runs at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hook {
    /// There is none, or it has not begun.
    NotRun,
    /// It runs, since then.
    Running(Time),
    /// It only waits, since then.
    Sleeping(Time),
    /// It is over, whatever its result.
    Done,
    /// It ran too long and is not waited for.
    Abandoned,
}

/// The conditions for a container to be ready.
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
    /// The conditions for a container of this specification.
    #[must_use]
    pub fn for_container(spec: &ContainerSpec, image: Option<&ImageFacts>) -> Checks {
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
    /// The last verdict. None: nothing yet.
    pub passed: Option<bool>,
    /// Why the last one failed, or could not run.
    pub error: Option<String>,
    /// Successes, failures, and those that could not run.
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
    /// running, the result is unknown, and the program runs.
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

    /// Probe `n` is over. `ok`: None when it could not run.
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
    pub(super) fn has_failed(&self, probe: &Probe) -> bool {
        !self.ok && self.run > 0 && self.run >= probe.failure_threshold
    }

    pub(super) fn has_succeeded(&self, probe: &Probe) -> bool {
        self.ok && self.run >= probe.success_threshold
    }

    /// The verdict that is due and not made yet.
    pub(super) fn verdict(&self, kind: ProbeKind, probe: &Probe) -> Option<bool> {
        match kind {
            _ if self.has_succeeded(probe) && self.passed != Some(true) => Some(true),
            ProbeKind::Readiness if self.has_failed(probe) && self.passed == Some(true) => Some(false),
            ProbeKind::Readiness | ProbeKind::Startup | ProbeKind::Liveness => None,
        }
    }

    /// When the next one is due in a container that was started at `started`.
    pub(super) fn due(&self, kind: ProbeKind, probe: &Probe, started: Time) -> Time {
        let Some(last) = self.last else { return started + probe.initial_delay };
        let waiting =
            kind != ProbeKind::Liveness && self.passed.is_none() && self.run * u32::from(self.ok) == 0;
        let first = if matches!(probe.handler, Handler::Exec(_)) { SOON_EXEC } else { SOON };
        let soon = Millis(first.0 << self.n.saturating_sub(1).min(20));
        last + if waiting { probe.period.min(soon) } else { probe.period }
    }
}

impl Probes {
    /// The probe of that kind.
    #[must_use]
    pub fn get(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
        }
    }
}
