//! The checks of hooks and probes: P31 and P32. They count the recorded answers in their own words.

use crate::oracle::Oracle;
use crate::process::{Proc, State};
use crate::rng::Rng;
use orun::supervisor::core::checks::{HookKind, ProbeKind};
use orun::supervisor::core::exit::StopCause;
use orun::supervisor::core::ids::Key;
use orun::supervisor::core::spec::{Handler, ImageFacts, PodTemplate, Probe, Probes};
use std::collections::BTreeMap;

/// What the checks of an instance said, as a container that is asked by somebody else would see it.
#[derive(Debug, Default)]
pub struct Watch {
    pub post_start_asked: bool,
    pub post_start: bool,
    pub post_start_failed: bool,
    probes: BTreeMap<ProbeKind, Series>,
    of_image: Option<Box<Probes>>,
    stopped: bool,
}

/// The answers to one probe.
#[derive(Debug, Default)]
struct Series {
    asked: Option<(u32, bool)>,
    counted: Option<u64>,
    /// The results that count, the last of which are alike.
    last: Option<bool>,
    alike: u32,
    passed: bool,
}

impl Series {
    fn alike(&self, ok: bool) -> u32 {
        if self.last == Some(ok) { self.alike } else { 0 }
    }
}

fn probe(template: &PodTemplate, key: &Key, kind: ProbeKind) -> Option<Probe> {
    template.containers[key.container as usize].probe(kind).cloned()
}

impl Oracle {
    /// With the probes that the image of the instance has in place of those of its container.
    fn template_of(&self, key: &Key) -> Option<PodTemplate> {
        let mut template = self.replicas.get(&key.replica)?.template.clone()?;
        if let Some(probes) = self.watches.get(&key.instance).and_then(|w| w.of_image.clone()) {
            template.containers[key.container as usize].probes = Some(probes);
        }
        Some(template)
    }

    /// A container of an image exists.
    pub fn made_of_image(&mut self, key: &Key, image: &ImageFacts) {
        self.watches.entry(key.instance).or_default().of_image = image.probes.clone();
    }

    /// A probe was recorded to be asked for.
    pub fn asked(&mut self, key: &Key, kind: ProbeKind, n: u32, counts: bool, at: u64) {
        let Some(template) = self.template_of(key) else { return };
        let Some(probe) = probe(&template, key, kind) else {
            return self.blame(format!("P31: {key} has no {kind} probe"));
        };
        let watch = self.watches.entry(key.instance).or_default();
        let hooked = template.containers[key.container as usize].post_start.is_none() || watch.post_start;
        let starting = template.containers[key.container as usize].probe(ProbeKind::Startup).is_some()
            && !watch.probes.get(&ProbeKind::Startup).is_some_and(|s| s.passed);
        let series = watch.probes.entry(kind).or_default();
        let early = counts && series.counted.is_some_and(|t| at < t + probe.period.0);
        series.asked = Some((n, counts));
        if counts {
            series.counted = Some(at);
        }
        if !hooked || (starting != (kind == ProbeKind::Startup)) || (kind != ProbeKind::Readiness && early) {
            self.blame(format!("P31: {kind} probe {n} of {key} at the wrong time"));
        }
    }

    /// An answer was recorded.
    pub fn answered(&mut self, key: &Key, kind: ProbeKind, n: u32, ok: Option<bool>) {
        let Some(series) = self.watches.get_mut(&key.instance).and_then(|w| w.probes.get_mut(&kind)) else {
            return;
        };
        let Some((_, counts)) = series.asked.filter(|(asked, _)| *asked == n) else { return };
        series.asked = None;
        let Some(ok) = ok else { return };
        let more = u32::from(ok || counts);
        series.alike = series.alike(ok) + more;
        series.last = Some(ok);
    }

    /// P31: a verdict was recorded.
    pub fn judged(&mut self, key: &Key, kind: ProbeKind, ok: bool) {
        let Some(probe) = self.template_of(key).and_then(|t| probe(&t, key, kind)) else { return };
        let series = self.watches.entry(key.instance).or_default().probes.entry(kind).or_default();
        let enough = if ok { probe.success_threshold } else { probe.failure_threshold };
        let right = series.alike(ok) >= enough && (ok || kind == ProbeKind::Readiness);
        series.passed = ok;
        if !right {
            self.blame(format!(
                "P31: the {kind} of {key} flips to {ok} without {enough} such results in a row"
            ));
        }
    }

    /// P31 and P32: an instance is stopped for its health.
    pub fn stopped_for_health(&mut self, key: &Key, cause: StopCause) {
        let Some(template) = self.template_of(key) else { return };
        let watch = self.watches.entry(key.instance).or_default();
        let failed = |kind: ProbeKind| {
            let series = watch.probes.get(&kind)?;
            let most = probe(&template, key, kind)?.failure_threshold;
            (series.alike(false) >= most && (kind == ProbeKind::Liveness || !series.passed)).then_some(())
        };
        let right = match cause {
            StopCause::PostStartFailed => watch.post_start_failed,
            _ => failed(ProbeKind::Startup).or(failed(ProbeKind::Liveness)).is_some(),
        };
        let again = std::mem::replace(&mut watch.stopped, true);
        if !right {
            self.blame(format!("P31: {key} is stopped and has not failed often enough: {cause:?}"));
        }
        if again {
            self.blame(format!("P31: {key} is stopped twice for its health"));
        }
    }

    /// The grace of an instance that is stopped for its health.
    pub fn health_grace(&self, key: &Key, cause: StopCause) -> u64 {
        let Some(template) = self.template_of(key) else { return 0 };
        let series = |kind| self.watches.get(&key.instance).and_then(|w| w.probes.get(&kind));
        let starting = series(ProbeKind::Startup).is_some_and(|s| !s.passed);
        let kind = if starting { ProbeKind::Startup } else { ProbeKind::Liveness };
        let own = probe(&template, key, kind).and_then(|p| p.grace);
        let own = own.filter(|_| cause == StopCause::ProbeFailed);
        own.unwrap_or(template.grace).0
    }

    /// Whether an instance does all that it must, as far as was recorded.
    fn does_all(&self, p: &Proc) -> (bool, bool) {
        let none = Watch::default();
        let watch = self.watches.get(&p.key.instance).unwrap_or(&none);
        let passed = |there: bool, kind| !there || watch.probes.get(&kind).is_some_and(|s| s.passed);
        let checks = p.checks;
        let hook = !checks.post_start || (watch.post_start && !watch.post_start_failed);
        let started = hook && passed(checks.startup, ProbeKind::Startup);
        (started, started && passed(checks.readiness, ProbeKind::Readiness))
    }

    /// Notes since when each container is up and ready.
    pub fn note_ready(&self, procs: &mut BTreeMap<u64, Proc>, at: u64) {
        for p in procs.values_mut().filter(|p| p.state == State::Running) {
            let Some(executed) = p.executed else { continue };
            let (up, ready) = self.does_all(p);
            // Without checks it is so from the start of the program.
            let since = if p.checks.is_empty() { executed } else { at };
            p.up = up;
            p.ready = if ready { p.ready.or(Some(since)) } else { None };
        }
    }

    /// The supervisor was away: of a postStart that was to run nobody knows the result.
    pub fn hook_lost(&mut self, key: &Key) {
        if self.watches.get(&key.instance).is_some_and(|w| w.post_start_asked) {
            self.hooked(key, HookKind::PostStart, false);
        }
    }

    /// A postStart hook is over.
    pub fn hooked(&mut self, key: &Key, kind: HookKind, failed: bool) {
        if kind == HookKind::PostStart {
            let watch = self.watches.entry(key.instance).or_default();
            if !watch.post_start {
                (watch.post_start, watch.post_start_failed) = (true, failed);
            }
        }
    }
}

/// What a container answers to its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    Good,
    /// After so long.
    Late(u64),
    /// Until then.
    Until(u64),
    /// Now and then it fails, or cannot be asked.
    Flaky,
    Bad,
}

impl Answers {
    pub fn of(rng: &mut Rng) -> Answers {
        match rng.below(8) {
            0..=2 => Answers::Good,
            3 => Answers::Late(rng.pick(&[50, 2_000, 40_000])),
            4 => Answers::Until(rng.pick(&[500, 20_000, 90_000])),
            5 | 6 => Answers::Flaky,
            _ => Answers::Bad,
        }
    }

    /// The answer `since` milliseconds after the start of the program.
    pub fn at(self, since: u64, rng: &mut Rng) -> Option<bool> {
        match self {
            Answers::Good => Some(true),
            Answers::Late(t) => Some(since >= t),
            Answers::Until(t) => Some(since < t),
            Answers::Flaky => rng.pick(&[Some(true), Some(true), Some(false), Some(false), None]),
            Answers::Bad => Some(false),
        }
    }
}

/// A probe for a plan.
pub fn random(rng: &mut Rng, readiness: bool) -> Probe {
    use orun::supervisor::core::spec::Endpoint;
    use orun::supervisor::core::time::Millis;
    Probe {
        handler: Handler::Tcp(Endpoint { host: None, port: 80 }),
        initial_delay: Millis(rng.pick(&[0, 0, 3_000])),
        period: Millis(rng.pick(&[5_000, 10_000, 60_000])),
        timeout: Millis::secs(1),
        success_threshold: if readiness { rng.pick(&[1, 1, 2]) } else { 1 },
        failure_threshold: rng.pick(&[1, 2, 3]),
        grace: if readiness { None } else { rng.pick(&[None, None, Some(Millis::secs(2))]) },
    }
}
