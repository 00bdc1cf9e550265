//! Health of a container: its postStart hook and its probes.
//!
//! A probe is asked for by `Action::Probe` and answered by `Event::Probed`, which only counts. What follows is decided by
//! looking at the counts: [`Action::Judge`] when as many results in a row are alike as the probe demands, or a stop when
//! those are failures of the liveness or startup probe. The state rules are kubelet's:
//!
//! * While postStart runs there are no probes, and until the startup probe has succeeded there are no others.
//! * A container is not ready until its readiness probe has succeeded. Liveness counts as passed until it fails.
//! * A probe that could not run has no result. A stopping container is not probed.
//!
//! Unlike there, a container that is not ready yet is asked at short, growing intervals, up to the period: it is ready as
//! soon as it can be, not at the next multiple of ten seconds. A startup probe counts at most one failure in a period.

use super::action::Action;
use super::checks::{Health, Hook, HookKind, ProbeKind};
use super::exit::StopCause;
use super::ids::Key;
use super::model::{Container, Instance, Phase, Replica};
use super::pass::{ContainerContext, Pass};
use super::spec::{ContainerSpec, Handler, Probe};
use super::time::Millis;

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
    /// The probes of this instance of `spec`.
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
pub fn check(
    pass: &mut Pass<'_>,
    place: &ContainerContext<'_>,
    key: &Key,
    instance: &Instance,
    spec: &ContainerSpec,
) {
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
