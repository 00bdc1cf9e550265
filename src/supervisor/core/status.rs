//! The only place that says what ready, available and failed mean, and what state things are in: used by rollouts, the
//! interface, waiting, and metrics.
//!
//! * A **container** is ready while its program runs and is not being stopped, its postStart hook is over, and its startup
//!   and readiness probes, if it has any, have succeeded ([`super::health`]).
//! * A **replica** is ready when each container is ready or has exited successfully, and at least one main container is ready.
//!   It has succeeded when all of these have exited successfully for good.
//! * A ready replica is **available** once it has been ready for the workload's `minReadySeconds`; a container that has
//!   failed before must also have run for longer than it would wait if it failed now. A replica that has succeeded is
//!   available.

use super::desired::Workload;
use super::exit::{ExitClass, ImageError};
use super::model::{Container, ExitRecord, History, Instance, Next, Phase, Replica, ReplicaSlots, Slot};
use super::phase::{ContainerState, Reason, ReplicaPhase, RolloutState, WorkloadPhase};
use super::progress::Verdict;
use super::restart;
use super::spec::{PodTemplate, Role};
use super::time::{Millis, Time};
use std::fmt;

/// A container that failed so often in a row is not expected to recover by itself.
pub const FAILING: u32 = 3;

impl Instance {
    /// Since when it is ready.
    pub fn ready_since(&self) -> Option<Time> {
        let runs = self.phase == Phase::Running && self.exit.is_none() && self.stop.is_none();
        self.ready.filter(|_| runs)
    }
}

impl Container {
    /// Since when it is ready.
    pub fn ready_since(&self) -> Option<Time> {
        self.lives().and_then(Instance::ready_since)
    }

    /// Whether it exited successfully and is not restarted.
    pub fn has_succeeded(&self) -> bool {
        self.lives().is_none() && self.restart.next == (Next::Done { failed: false })
    }

    /// Whether it failed and is not restarted.
    pub fn has_failed(&self) -> bool {
        self.lives().is_none() && matches!(self.restart.next, Next::Done { failed: true } | Next::GivenUp)
    }

    /// Starts after the first one.
    pub fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// Ends since it last ran for long.
    fn ends(&self) -> u32 {
        self.restart.failures.saturating_add(self.restart.cleans)
    }

    /// When it becomes available, if it keeps on running.
    fn available_at(&self, template: Option<&PodTemplate>, min_ready: Millis) -> Option<Time> {
        let since = self.ready_since()?;
        let settled = match (self.ends(), template) {
            (0, _) | (_, None) => Millis(0),
            (n, Some(t)) => restart::grown(&t.backoff, n - 1),
        };
        Some(since + min_ready.max(settled))
    }

    /// Whether it fails again and again: see [`FAILING`].
    fn is_failing(&self) -> bool {
        let hopeless = self.has_failed() && !self.has_succeeded();
        hopeless || self.ends() >= FAILING
    }
}

impl Replica {
    /// Whether it is ready now.
    pub fn is_ready(&self) -> bool {
        let mut containers = self.containers.iter();
        self.stop.is_none()
            && containers.all(|c| c.ready_since().is_some() || c.has_succeeded())
            && self.mains().any(|c| c.ready_since().is_some())
    }

    fn mains(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| c.role == Role::Main)
    }

    /// Whether all of its main containers have exited successfully, for good.
    pub fn has_succeeded(&self) -> bool {
        self.stop.is_none() && self.mains().all(Container::has_succeeded)
    }

    /// Whether a container has failed for good.
    pub fn has_failed(&self) -> bool {
        self.stop.is_none() && self.containers.iter().any(Container::has_failed)
    }

    /// When it becomes available, if nothing happens before; None while it is not ready.
    pub fn available_at(&self, template: Option<&PodTemplate>, min_ready: Millis) -> Option<Time> {
        if self.has_succeeded() {
            return Some(Time(0));
        }
        if !self.is_ready() {
            return None;
        }
        let of = |c: &Container| if c.has_succeeded() { None } else { c.available_at(template, min_ready) };
        self.containers.iter().filter_map(of).max()
    }

    /// Whether a container has failed of late and the replica is not available again. `available_at`: as above.
    pub fn is_troubled(&self, available_at: Option<Time>, now: Time) -> bool {
        let up = available_at.is_some_and(|at| now >= at);
        !up && self.containers.iter().any(|c| c.ends() > 0 || c.has_failed())
    }

    /// As [`Replica::is_troubled`], and it is not to be expected that it gets well.
    pub fn is_failing(&self, available_at: Option<Time>, now: Time) -> bool {
        let up = available_at.is_some_and(|at| now >= at);
        !up && self.containers.iter().any(Container::is_failing)
    }
}

impl Replica {
    /// The containers whose output cannot be written, each with the reason.
    pub fn blocked_logs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.containers.iter().filter_map(|c| {
            let live = c.instances.iter().filter(|i| !i.is_dead());
            let error = live.filter_map(|i| i.logs_blocked.as_deref()).next()?;
            Some((c.name.as_str(), error))
        })
    }
}

/// A workload in numbers and words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkloadStatus {
    pub phase: WorkloadPhase,
    pub rollout: RolloutState,
    /// Replicas that exist and are not being stopped; and how many of these are ready, available, and of the current
    /// revision.
    pub replicas: u32,
    pub ready: u32,
    pub available: u32,
    pub updated: u32,
    /// Of these, how many fail again and again.
    pub failing: u32,
    /// Replicas that are being stopped.
    pub terminating: u32,
    /// Slots that terminated for good: successfully, and in failure. Also those of before a reboot, which have no replica any more.
    pub succeeded: u32,
    pub failed: u32,
    /// Of these, those without a replica.
    pub past: (u32, u32),
    /// Restarts of all containers of all replicas.
    pub restarts: u64,
    /// The problem, if any: see [`Trouble`].
    pub trouble: Option<Trouble>,
}

/// The problem of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The slot and container that are worst off.
    pub slot: u32,
    pub container: String,
    pub reason: Reason,
    /// Its last exit: `exit code 1`.
    pub last: Option<String>,
    /// Replicas of the current revision in trouble, and how many there are of that revision.
    pub new: (u32, u32),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        self.last.as_ref().map_or(Ok(()), |last| write!(f, ": {last}"))
    }
}

/// The status of a workload.
pub fn workload(w: &Workload, slots: Option<&ReplicaSlots>, now: Time) -> WorkloadStatus {
    let mut s = WorkloadStatus::default();
    let none = ReplicaSlots::default();
    let slots = slots.unwrap_or(&none);
    let mut new = (0, 0);
    for (n, slot) in &slots.slots {
        let mut ended = w.completed.get(n).copied();
        for r in &slot.replicas {
            s.restarts += r.containers.iter().map(|c| u64::from(c.restarts())).sum::<u64>();
            if r.stop.is_some() {
                s.terminating += 1;
                continue;
            }
            let current = w.is_current(r.revision);
            let at = r.available_at(w.revisions.get(&r.revision), w.strategy().min_ready());
            s.replicas += 1;
            s.ready += u32::from(r.is_ready());
            s.available += u32::from(at.is_some_and(|at| now >= at));
            s.updated += u32::from(current);
            s.failing += u32::from(current && r.is_failing(at, now));
            if current && ended.is_none() {
                ended = ended.or(r.has_succeeded().then_some(false)).or(r.has_failed().then_some(true));
            }
            let found = lack(r, w.revisions.get(&r.revision))
                .and_then(|lack| lacking(*n, r, lack))
                .or_else(|| trouble(*n, slot, r, at, now));
            new.0 += u32::from(current && found.is_some());
            s.trouble = s.trouble.take().or(found);
        }
        s.succeeded += u32::from(ended == Some(false));
        s.failed += u32::from(ended == Some(true));
    }
    // Most of them exited before a reboot.
    let stands = |n: &u32| slots.slots.get(n).is_some_and(|s| s.current().is_some());
    for (n, failed) in w.completed.iter().filter(|(n, _)| !stands(n)) {
        s.past.0 += u32::from(!failed);
        s.past.1 += u32::from(*failed);
        let counted = slots.slots.contains_key(n);
        s.succeeded += u32::from(!failed && !counted);
        s.failed += u32::from(*failed && !counted);
    }
    new.1 = s.updated;
    if let Some(trouble) = &mut s.trouble {
        trouble.new = new;
    }
    s.rollout = rollout_state(w, slots, &s);
    s.phase = phase(w, &s);
    s
}

fn lacking(n: u32, r: &Replica, lack: &str) -> Option<Trouble> {
    let (container, last) = (r.containers.first()?.name.clone(), Some(lack.to_owned()));
    Some(Trouble { slot: n, container, reason: Reason::CreateContainerConfigError, last, new: (0, 0) })
}

fn trouble(n: u32, slot: &Slot, r: &Replica, available_at: Option<Time>, now: Time) -> Option<Trouble> {
    if let (Some(error), Some(first)) = (r.sandbox_error(), r.containers.first()) {
        let last = Some(format!("the sandbox could not be made: {error}"));
        let container = first.name.clone();
        return Some(Trouble { slot: n, container, reason: Reason::StartError, last, new: (0, 0) });
    }
    if !r.is_troubled(available_at, now) {
        return None;
    }
    let none = History::default();
    let word = |c: &Container| {
        let history = slot.history.get(&c.name).unwrap_or(&none);
        let last = history.exits.iter().rev().find(|e| e.class != ExitClass::Requested);
        let reason = match container(c, history, now) {
            ContainerState::Waiting { reason, .. } | ContainerState::Terminated { reason } => reason,
            _ => Reason::CrashLoopBackOff,
        };
        let reason = match (reason, last.map(|e| e.class)) {
            // The moment between the end and the decision, or before the next end.
            (Reason::ContainerCreating, Some(ExitClass::StartError { image, .. })) => {
                not_started(image, false)
            }
            (Reason::ContainerCreating, Some(_)) => Reason::CrashLoopBackOff,
            (reason, _) => reason,
        };
        let last = last.map(ExitRecord::to_string);
        Trouble { slot: n, container: c.name.clone(), reason, last, new: (0, 0) }
    };
    let bad = |c: &&Container| c.ends() > 0 || c.has_failed();
    r.containers.iter().find(bad).map(word)
}

fn rollout_state(w: &Workload, slots: &ReplicaSlots, s: &WorkloadStatus) -> RolloutState {
    if w.paused {
        return RolloutState::Paused;
    }
    let verdict = slots.rollout.as_ref().filter(|r| r.is_of(w)).map(|r| r.verdict);
    match verdict {
        Some(Verdict::Complete) => RolloutState::Complete,
        Some(Verdict::Failed) => RolloutState::Failed,
        Some(Verdict::DeadlineExceeded) => RolloutState::DeadlineExceeded,
        _ if w.desired_replicas() == 0 && s.replicas + s.terminating == 0 => RolloutState::Complete,
        _ => RolloutState::Progressing,
    }
}

fn phase(w: &Workload, s: &WorkloadStatus) -> WorkloadPhase {
    // It runs nothing itself, and is at work while it makes jobs.
    let waits = w.controller.cron.as_ref().is_some_and(|c| !c.suspended);
    if waits && !w.stopped && w.deletion.is_none() {
        return WorkloadPhase::Ready;
    }
    let wanted = w.desired_replicas();
    if w.deletion.is_some() {
        WorkloadPhase::Terminating
    } else if wanted == 0 {
        let gone = s.replicas + s.terminating == 0;
        if gone { WorkloadPhase::Stopped } else { WorkloadPhase::Progressing }
    } else if s.terminating == 0 && w.job_end().map_or(s.succeeded >= wanted, |end| !end.failed) {
        WorkloadPhase::Complete
    } else if s.failed > 0
        || w.job_end().is_some_and(|end| end.failed)
        || s.trouble.is_some()
        || matches!(s.rollout, RolloutState::DeadlineExceeded)
    {
        WorkloadPhase::Degraded
    } else if is_whole(w, s) && s.terminating == 0 {
        WorkloadPhase::Ready
    } else {
        WorkloadPhase::Progressing
    }
}

/// The objects that a replica of `template` waits for.
pub fn lack<'t>(r: &Replica, template: Option<&'t PodTemplate>) -> Option<&'t str> {
    template.filter(|_| r.stop.is_none()).and_then(PodTemplate::lack)
}

/// The state of a container of a replica whose template lacks something.
pub const LACKING: ContainerState =
    ContainerState::Waiting { reason: Reason::CreateContainerConfigError, next_attempt: None };

/// The state of a container whose past is `history`.
pub fn container(c: &Container, history: &History, now: Time) -> ContainerState {
    let live = c.instances.iter().find(|i| i.phase != Phase::Dead);
    if let Some(i) = live {
        if let Some(stop) = &i.stop {
            return ContainerState::Terminating { cause: stop.cause, deadline: stop.deadline };
        }
        if let (Phase::Running, Some(started)) = (i.phase, i.started) {
            return ContainerState::Running { started };
        }
    }
    let last = history.exits.back();
    match c.restart.next {
        Next::Done { failed: false } => ContainerState::Terminated { reason: Reason::Completed },
        Next::Done { failed: true } => {
            ContainerState::Terminated { reason: last.map_or(Reason::Error, ExitRecord::reason) }
        }
        Next::GivenUp => ContainerState::Terminated { reason: Reason::RestartLimit },
        Next::At(at) if at > now && live.is_none_or(|i| i.phase == Phase::Prepared) => {
            let reason = match last.map(|e| e.class) {
                Some(ExitClass::StartError { image, .. }) => not_started(image, true),
                Some(ExitClass::Exited(0)) => Reason::Restarting,
                _ => Reason::CrashLoopBackOff,
            };
            ContainerState::Waiting { reason, next_attempt: Some(at) }
        }
        Next::At(_) | Next::Now => {
            ContainerState::Waiting { reason: Reason::ContainerCreating, next_attempt: None }
        }
    }
}

/// The phase of a replica, from the states of its containers.
pub fn replica(r: &Replica, states: impl Iterator<Item = ContainerState>) -> ReplicaPhase {
    if r.stop.is_some() {
        return ReplicaPhase::Terminating;
    }
    let word = |s: ContainerState| match s {
        ContainerState::Waiting { reason, .. } | ContainerState::Terminated { reason } => reason.into(),
        ContainerState::Terminating { .. } => ReplicaPhase::Terminating,
        ContainerState::Running { .. } => ReplicaPhase::Running,
    };
    // Sidecars only matter while a main container runs or will run.
    let over = r.is_over();
    let counts = |c: &Container| !over || c.role != Role::Sidecar;
    let states = states.zip(&r.containers).filter(|(_, c)| counts(c));
    let sandbox = r.sandbox_error().map(|_| ReplicaPhase::StartError);
    states.map(|(s, _)| word(s)).chain(sandbox).min().unwrap_or(ReplicaPhase::Pending)
}

/// The word for a container that could not be started; `waits`: for the next attempt.
fn not_started(image: Option<ImageError>, waits: bool) -> Reason {
    match image {
        None => Reason::StartError,
        Some(ImageError::ErrImagePull) if waits => Reason::ImagePullBackOff,
        Some(ImageError::ErrImagePull) => Reason::ErrImagePull,
        Some(ImageError::ErrImageNeverPull) => Reason::ErrImageNeverPull,
        Some(ImageError::InvalidImageName) => Reason::InvalidImageName,
    }
}

impl ExitRecord {
    /// A word for it.
    pub fn reason(&self) -> Reason {
        match self.class {
            ExitClass::Requested => Reason::Stopped,
            ExitClass::Oom => Reason::OomKilled,
            ExitClass::Probe => Reason::Unhealthy,
            ExitClass::PostStart => Reason::PostStartHookError,
            ExitClass::Deadline => Reason::DeadlineExceeded,
            ExitClass::Exited(0) => Reason::Completed,
            ExitClass::Signal(_) | ExitClass::Exited(_) => Reason::Error,
            ExitClass::StartError { image, .. } => not_started(image, false),
            ExitClass::Unknown => Reason::Unknown,
        }
    }
}

impl fmt::Display for ExitRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status.map(|s| (s.code(), s.signal())), &self.error) {
            (Some((Some(code), _)), _) => write!(f, "exit code {code}")?,
            (Some((None, Some(signal))), _) => write!(f, "killed by signal {signal}")?,
            (_, Some(error)) => return f.write_str(error),
            _ => f.write_str("exit status unknown")?,
        }
        match self.reason() {
            reason @ (Reason::OomKilled
            | Reason::Unhealthy
            | Reason::PostStartHookError
            | Reason::DeadlineExceeded
            | Reason::Stopped) => {
                write!(f, " ({reason})")
            }
            _ => Ok(()),
        }
    }
}

/// Whether as many replicas as desired are available, of the current revision, and no others exist.
pub fn is_whole(w: &Workload, s: &WorkloadStatus) -> bool {
    let old = s.replicas - s.updated;
    let kept = old == 0 || w.paused || w.controller.on_delete || old <= w.controller.partition;
    kept && s.available + s.past.0 + excused(w, s.failing + s.past.1) >= w.desired_replicas()
}

/// How many of `failing` replicas of the current revision the rollout does without.
pub fn excused(w: &Workload, failing: u32) -> u32 {
    if failing <= w.strategy().tolerated(w.desired_replicas()) { failing } else { 0 }
}
