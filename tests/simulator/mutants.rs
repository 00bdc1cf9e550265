//! Rules broken on purpose. Each must be noticed by the simulator's checks within a number of seeds: a check that
//! notices nothing is worth nothing.

use orun::supervisor::core::Config;
use orun::supervisor::core::action::Action;
use orun::supervisor::core::checks::Hook;
use orun::supervisor::core::desired::{Change, Desired, Workload};
use orun::supervisor::core::event::{Event, Record};
use orun::supervisor::core::exit::StopCause;
use orun::supervisor::core::model::{Instance, Next, Observed, Phase, Replica, SandboxState};
use orun::supervisor::core::publication::Target;
use orun::supervisor::core::reconcile::{Step, reconcile};
use orun::supervisor::core::spec::{IntOrPercent, Role};
use orun::supervisor::core::time::{Millis, Time};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// After a crash the whole grace period starts again.
    GraceRestarts,
    /// A second delete does not shorten the deadline.
    NoShortening,
    /// SIGKILL right after the stop signal.
    KillsEarly,
    /// A program that ignores the stop signal is never killed.
    NeverKills,
    /// Restarts come at once, always.
    NoBackoff,
    /// The containers from before a crash are forgotten.
    ForgetsRunning,
    /// A preStop hook that was running when the supervisor died runs again.
    HookRunsAgain,
    /// The stop signal is sent again after each crash.
    SignalsAgain,
    /// A rollout does not look at what is available.
    ReplacesAtOnce,
    /// The intent to create is not recorded.
    CreatesUnrecorded,
    /// Init is reaped, so the container counts as dead, whatever is left in its cgroup.
    DeadTooSoon,
    /// The number of starts per second is not limited.
    NoStormLimit,
    /// The exit code does not matter for OnFailure and Never.
    AlwaysRestarts,
    /// The replacement runs while the old replica of the slot still does.
    StartsBeforeDeath,
    /// Shares are taken of ten times as many replicas.
    SharesOfAnother,
    /// The way back is made as the way forward.
    ReturnsAsItCame,
    /// Any number of new replicas may fail.
    ForgivesAll,
    /// The moment of execve counts, and failures before do not.
    ExecCounts,
    /// A rollout continues while it is paused.
    IgnoresPause,
    /// Init containers run beside the others.
    InitsBeside,
    /// Init containers run again.
    InitsAgain,
    /// Sidecars are stopped together with the main containers.
    SidecarsTogether,
    /// Containers are made before their sandbox.
    SandboxLater,
    /// A sandbox is removed while containers are in it.
    SandboxTooSoon,
    /// A revision that was gone back to and fails is left for another one.
    ToAndFro,
    /// A crash makes the supervisor forget that the host is being drained.
    ForgetsDrain,
    /// One result is enough for every verdict.
    JudgesAtOnce,
    /// A container that is being stopped for its health is stopped again.
    KillsAgain,
    /// A container counts as ready whatever its readiness probe says.
    ReadyAnyway,
    /// A drain stops the workloads, which stay stopped after the boot.
    DrainStopsWorkloads,
    /// Nobody waits for the proxy.
    SkipsBarrier,
    /// A replica is published as soon as it has an address.
    PublishesUnready,
    /// The map lacks the ports of the newest workload.
    DropsRoute,
    /// A file is applied object by object.
    SplitsFiles,
    /// A job forgets which of its replicas have succeeded.
    ForgetsSuccess,
    /// A job that has finished is taken up again.
    JobGoesOn,
    /// Nobody waits for another workload.
    IgnoresDependencies,
    /// A crash makes CronJobs forget which jobs they have made.
    ForgetsRuns,
    /// Nobody looks at the wall clock.
    IgnoresClock,
}

pub const ALL: [Mutant; 39] = [
    Mutant::ForgetsRuns,
    Mutant::IgnoresClock,
    Mutant::IgnoresDependencies,
    Mutant::ForgetsSuccess,
    Mutant::JobGoesOn,
    Mutant::SplitsFiles,
    Mutant::JudgesAtOnce,
    Mutant::KillsAgain,
    Mutant::ReadyAnyway,
    Mutant::GraceRestarts,
    Mutant::NoShortening,
    Mutant::KillsEarly,
    Mutant::NeverKills,
    Mutant::NoBackoff,
    Mutant::ForgetsRunning,
    Mutant::HookRunsAgain,
    Mutant::SignalsAgain,
    Mutant::ReplacesAtOnce,
    Mutant::CreatesUnrecorded,
    Mutant::DeadTooSoon,
    Mutant::NoStormLimit,
    Mutant::AlwaysRestarts,
    Mutant::StartsBeforeDeath,
    Mutant::SharesOfAnother,
    Mutant::ReturnsAsItCame,
    Mutant::ForgivesAll,
    Mutant::ExecCounts,
    Mutant::IgnoresPause,
    Mutant::ToAndFro,
    Mutant::ForgetsDrain,
    Mutant::DrainStopsWorkloads,
    Mutant::SandboxLater,
    Mutant::SandboxTooSoon,
    Mutant::InitsBeside,
    Mutant::InitsAgain,
    Mutant::SidecarsTogether,
    Mutant::SkipsBarrier,
    Mutant::PublishesUnready,
    Mutant::DropsRoute,
];

impl Mutant {
    /// The check that must notice.
    pub fn rule(self) -> &'static str {
        match self {
            Mutant::GraceRestarts => "P6",
            Mutant::NoShortening | Mutant::KillsEarly | Mutant::NeverKills => "P5",
            Mutant::NoBackoff | Mutant::AlwaysRestarts => "P9",
            Mutant::ForgetsRunning | Mutant::StartsBeforeDeath => "P3",
            Mutant::HookRunsAgain => "P7",
            Mutant::SignalsAgain => "twice",
            Mutant::ReplacesAtOnce
            | Mutant::SharesOfAnother
            | Mutant::ReturnsAsItCame
            | Mutant::ForgivesAll => "P2",
            Mutant::JudgesAtOnce | Mutant::KillsAgain => "P31",
            Mutant::ExecCounts | Mutant::ReadyAnyway => "P23",
            Mutant::IgnoresPause => "P25",
            Mutant::ToAndFro => "P24",
            Mutant::ForgetsDrain | Mutant::DrainStopsWorkloads => "P26",
            Mutant::SandboxLater | Mutant::SandboxTooSoon => "P30",
            Mutant::InitsBeside | Mutant::InitsAgain => "P21",
            Mutant::SidecarsTogether => "P22",
            Mutant::SplitsFiles => "P28",
            Mutant::ForgetsSuccess | Mutant::JobGoesOn => "P32",
            Mutant::IgnoresDependencies => "P33",
            Mutant::ForgetsRuns | Mutant::IgnoresClock => "P27",
            Mutant::SkipsBarrier => "P19",
            Mutant::PublishesUnready | Mutant::DropsRoute => "P20",
            Mutant::CreatesUnrecorded => "P12",
            Mutant::DeadTooSoon => "P18",
            Mutant::NoStormLimit => "storm",
        }
    }

    /// The broken way to decide.
    pub fn decide(self, desired: &Desired, observed: &Observed, now: Time, config: &Config) -> Step {
        match self {
            Mutant::IgnoresDependencies => {
                let mut heedless = desired.clone();
                heedless.workloads.values_mut().for_each(|w| w.controller.depends_on.clear());
                reconcile(&heedless, observed, now, config)
            }
            Mutant::ReplacesAtOnce => {
                let mut reckless = desired.clone();
                for w in reckless.workloads.values_mut() {
                    w.strategy.max_unavailable = IntOrPercent::Int(w.replicas);
                }
                reconcile(&reckless, observed, now, config)
            }
            Mutant::ReturnsAsItCame => {
                let mut forgetful = desired.clone();
                forgetful.workloads.values_mut().for_each(|w| w.strategy.back = None);
                reconcile(&forgetful, observed, now, config)
            }
            Mutant::ForgivesAll => {
                let mut lenient = desired.clone();
                for w in lenient.workloads.values_mut() {
                    w.strategy.max_failures = IntOrPercent::Percent(100);
                }
                reconcile(&lenient, observed, now, config)
            }
            Mutant::SharesOfAnother => {
                let mut stale = desired.clone();
                for w in stale.workloads.values_mut() {
                    let share = |n| match n {
                        IntOrPercent::Percent(p) => IntOrPercent::Int(w.replicas * 10 * p / 100),
                        n @ IntOrPercent::Int(_) => n,
                    };
                    w.strategy.max_surge = share(w.strategy.max_surge);
                    w.strategy.max_unavailable = share(w.strategy.max_unavailable);
                }
                reconcile(&stale, observed, now, config)
            }
            Mutant::ExecCounts => {
                let (mut hasty, mut blind) = (desired.clone(), observed.clone());
                for w in hasty.workloads.values_mut() {
                    w.strategy.min_ready = Some(Millis(0));
                }
                let slots = blind.workloads.values_mut().flat_map(|s| s.slots.values_mut());
                for c in slots.flat_map(|s| &mut s.replicas).flat_map(|r| &mut r.containers) {
                    (c.restart.failures, c.restart.cleans) = (0, 0);
                }
                let mut step = reconcile(desired, observed, now, config);
                let hasty = reconcile(&hasty, &blind, now, config).actions;
                let rollout = |a: &Action| matches!(a, Action::Advance { .. });
                step.actions.retain(|a| !rollout(a));
                step.actions.extend(hasty.into_iter().filter(rollout));
                step
            }
            Mutant::JudgesAtOnce => {
                let mut hasty = desired.clone();
                let templates = hasty.workloads.values_mut().flat_map(|w| w.revisions.values_mut());
                let specs = templates.flat_map(|t| &mut t.containers).filter_map(|c| c.probes.as_mut());
                for p in specs {
                    for probe in [&mut p.startup, &mut p.readiness, &mut p.liveness].into_iter().flatten() {
                        (probe.success_threshold, probe.failure_threshold) = (1, 1);
                    }
                }
                reconcile(&hasty, observed, now, config)
            }
            Mutant::KillsAgain => {
                let mut step = reconcile(desired, observed, now, config);
                let stopping = observed.instances().filter(|(_, i)| i.phase == Phase::Running);
                for (key, i) in stopping {
                    if let Some(stop) = i.stop.filter(|s| s.cause == StopCause::ProbeFailed && s.at == now) {
                        let (cause, deadline) = (stop.cause, stop.deadline);
                        step.actions.push(Action::Stop { key, cause, deadline, now: stop.now });
                    }
                }
                step
            }
            Mutant::ReadyAnyway => {
                let mut blind = observed.clone();
                let slots = blind.workloads.values_mut().flat_map(|s| s.slots.values_mut());
                let containers = slots.flat_map(|s| &mut s.replicas).flat_map(|r| &mut r.containers);
                for i in containers.flat_map(|c| &mut c.instances) {
                    i.ready = i.ready.or(i.started);
                }
                let mut step = reconcile(desired, observed, now, config);
                let hasty = reconcile(desired, &blind, now, config).actions;
                let rollout = |a: &Action| matches!(a, Action::Advance { .. });
                step.actions.retain(|a| !rollout(a));
                step.actions.extend(hasty.into_iter().filter(rollout));
                step
            }
            Mutant::JobGoesOn => job_goes_on(desired, observed, now, config),
            Mutant::SkipsBarrier => {
                let mut blind = observed.clone();
                blind.endpoints.in_use.clear();
                reconcile(desired, &blind, now, config)
            }
            Mutant::PublishesUnready => publish_unready(desired, observed, now, config),
            Mutant::DropsRoute => {
                let mut closed = desired.clone();
                let newest = closed.workloads.values_mut().next_back();
                newest.into_iter().flat_map(|w| w.revisions.values_mut()).for_each(|t| t.ports.clear());
                reconcile(&closed, observed, now, config)
            }
            Mutant::IgnoresPause => {
                let mut heedless = desired.clone();
                for w in heedless.workloads.values_mut().filter(|w| w.paused) {
                    w.paused = false;
                    w.revision = w.applied();
                }
                reconcile(&heedless, observed, now, config)
            }
            Mutant::ToAndFro => {
                let mut step = reconcile(desired, observed, now, config);
                for action in &mut step.actions {
                    let Action::Persist { change: Change::Failed { workload, revision, back_to, .. } } =
                        action
                    else {
                        continue;
                    };
                    let w = &desired.workloads[workload];
                    let other = w.revisions.keys().rev().find(|r| *r != revision);
                    *back_to = back_to.or(other.copied());
                }
                step
            }
            Mutant::InitsBeside | Mutant::InitsAgain | Mutant::SidecarsTogether => {
                let mut blind = observed.clone();
                let slots = blind.workloads.values_mut().flat_map(|s| s.slots.values_mut());
                slots.flat_map(|s| &mut s.replicas).for_each(|r| self.mistake_order(r));
                reconcile(desired, &blind, now, config)
            }
            Mutant::SandboxLater | Mutant::SandboxTooSoon => {
                let mut blind = observed.clone();
                let slots = blind.workloads.values_mut().flat_map(|s| s.slots.values_mut());
                for r in slots.flat_map(|s| &mut s.replicas) {
                    self.mistake_sandbox(r);
                }
                let later = |a: &Action| matches!(a, Action::Prepare { .. } | Action::RemoveSandbox { .. });
                let mut step = reconcile(desired, observed, now, config);
                step.actions.retain(|a| !later(a));
                step.actions
                    .extend(reconcile(desired, &blind, now, config).actions.into_iter().filter(later));
                step
            }
            Mutant::NoStormLimit => {
                let limitless = Config { start_rate: 1_000_000, start_burst: 1_000_000, ..config.clone() };
                reconcile(desired, observed, now, &limitless)
            }
            Mutant::StartsBeforeDeath => {
                let mut blind = observed.clone();
                for slots in blind.workloads.values_mut() {
                    for slot in slots.slots.values_mut() {
                        if slot.replicas.iter().any(|r| r.stop.is_none()) {
                            slot.replicas.retain(|r| r.stop.is_none());
                        }
                    }
                }
                let mut step = reconcile(desired, &blind, now, config);
                step.actions.extend(reconcile(desired, observed, now, config).actions);
                let actions = std::mem::take(&mut step.actions);
                for action in actions {
                    if !step.actions.contains(&action) && !matches!(action, Action::Prepare { .. }) {
                        step.actions.push(action);
                    }
                }
                step.actions.extend(prepares(reconcile(desired, observed, now, config)));
                step
            }
            _ => self.changed(reconcile(desired, observed, now, config), desired, observed, now),
        }
    }

    fn changed(self, mut step: Step, desired: &Desired, observed: &Observed, now: Time) -> Step {
        match self {
            Mutant::NoShortening => step.actions.retain(|a| !shortens(a, observed)),
            Mutant::KillsEarly => {
                let signalled: Vec<_> =
                    step.actions.iter().filter(|a| matches!(a, Action::Signal { .. })).collect();
                let kills: Vec<_> =
                    signalled.iter().filter_map(|a| a.key()).map(|key| Action::KillCgroup { key }).collect();
                step.actions.extend(kills);
            }
            Mutant::NeverKills => step.actions.retain(|a| match a {
                Action::KillCgroup { key } => {
                    observed.instance(key).is_none_or(|i| i.exit.is_some() || i.stop.is_some_and(|s| s.now))
                }
                _ => true,
            }),
            Mutant::NoBackoff => at_once(&mut step, now),
            Mutant::AlwaysRestarts => restart_all(&mut step, desired, observed, now),
            Mutant::ForgetsSuccess => {
                let jobs = desired.workloads.iter().filter(|(_, w)| w.controller.job.is_some());
                let jobs: Vec<_> = jobs.map(|(id, _)| *id).collect();
                let of_job = |a: &Action| a.key().is_some_and(|k| jobs.contains(&k.workload));
                let mut rest = step.actions.clone();
                rest.retain(|a| !of_job(a));
                step.actions.retain(of_job);
                restart_all(&mut step, desired, observed, now);
                step.actions.extend(rest);
            }
            Mutant::DrainStopsWorkloads => stop_drained(&mut step),
            _ => {}
        }
        step
    }

    fn mistake_order(self, r: &mut Replica) {
        let mistaken = if self == Mutant::SidecarsTogether { Role::Sidecar } else { Role::Init };
        for c in r.containers.iter_mut().filter(|c| c.role == mistaken) {
            match self {
                Mutant::InitsAgain if c.restart.next == (Next::Done { failed: false }) => {
                    c.restart.next = Next::Now;
                    r.initialized = false;
                }
                Mutant::InitsAgain => {}
                _ => c.role = Role::Main,
            }
        }
    }

    fn mistake_sandbox(self, r: &mut Replica) {
        let state = r.sandbox.as_mut().map(|s| &mut s.state);
        match (self, state) {
            (Mutant::SandboxLater, Some(state @ SandboxState::Making)) => *state = SandboxState::Ready,
            (Mutant::SandboxTooSoon, Some(SandboxState::Ready)) if r.stop.is_some() => {
                r.containers.iter_mut().for_each(|c| c.instances.clear());
            }
            _ => {}
        }
    }

    /// Whether the record is written.
    pub fn records(self, record: &Record) -> bool {
        let prepares = matches!(record.event, Event::Decided { action: Action::Prepare { .. } });
        !(self == Mutant::CreatesUnrecorded && prepares)
    }

    /// The broken way to hear of things.
    pub fn hears(self, event: Event) -> Vec<Event> {
        match event {
            Event::Exited { key, .. } if self == Mutant::DeadTooSoon => {
                vec![event, Event::CgroupEmpty { key }]
            }
            _ => vec![event],
        }
    }

    /// The broken way to come back after a crash.
    pub fn recovered(self, observed: &mut Observed, desired: &Desired, now: Time) {
        observed.draining &= self != Mutant::ForgetsDrain;
        for (id, slots) in &mut observed.workloads {
            let workload = desired.workloads.get(id);
            for replica in slots.slots.values_mut().flat_map(|s| &mut s.replicas) {
                self.recover_replica(replica, workload, now);
            }
        }
    }

    fn recover_replica(self, replica: &mut Replica, workload: Option<&Workload>, now: Time) {
        let grace = workload.and_then(|w| w.revisions.get(&replica.revision)).map_or(Millis(0), |t| t.grace);
        if let Some(stop) = replica.stop.as_mut().filter(|_| self == Mutant::GraceRestarts) {
            stop.deadline = now + grace;
        }
        for container in &mut replica.containers {
            if self == Mutant::ForgetsRunning {
                container.instances.retain(|i| i.phase != Phase::Running);
            }
            for instance in &mut container.instances {
                self.recover_instance(instance, grace, now);
            }
        }
    }

    fn recover_instance(self, instance: &mut Instance, grace: Millis, now: Time) {
        let Some(stop) = &mut instance.stop else { return };
        match self {
            Mutant::GraceRestarts => stop.deadline = now + grace,
            Mutant::HookRunsAgain if matches!(stop.hook, Hook::Running(_)) => stop.hook = Hook::NotRun,
            Mutant::SignalsAgain => (stop.delivered, stop.signalled) = (false, None),
            _ => {}
        }
    }
}

fn prepares(step: Step) -> impl Iterator<Item = Action> {
    step.actions.into_iter().filter(|a| matches!(a, Action::Prepare { .. }))
}

fn stop_drained(step: &mut Step) {
    let stop = |a: &Action| match a {
        Action::StopReplica { workload, cause: StopCause::Drained, .. } => {
            Some(Action::Persist { change: Change::Stop { workload: *workload, stopped: true } })
        }
        _ => None,
    };
    let more: Vec<Action> = step.actions.iter().filter_map(stop).collect();
    step.actions.extend(more);
}

fn shortens(action: &Action, observed: &Observed) -> bool {
    match action {
        Action::StopReplica { workload, slot, serial, .. } => {
            observed.replica(*workload, *slot, *serial).is_some_and(|r| r.stop.is_some())
        }
        _ => false,
    }
}

fn at_once(step: &mut Step, now: Time) {
    for action in &mut step.actions {
        if let Action::Settle { restart, .. } = action
            && matches!(restart.next, Next::At(_))
        {
            restart.next = Next::At(now);
        }
    }
}

fn restart_all(step: &mut Step, desired: &Desired, observed: &Observed, now: Time) {
    for action in &mut step.actions {
        let Action::Settle { key, restart, .. } = action else { continue };
        let Some(replica) = observed.replica(key.workload, key.slot, key.replica) else { continue };
        let known = desired.workloads.get(&key.workload).and_then(|w| w.revisions.get(&replica.revision));
        if known.is_some() && matches!(restart.next, Next::Done { .. }) {
            restart.next = Next::At(now + Millis(2_000));
        }
    }
}

/// Maps have every replica of their workload that has an address.
fn publish_unready(desired: &Desired, observed: &Observed, now: Time, config: &Config) -> Step {
    let mut step = reconcile(desired, observed, now, config);
    for action in &mut step.actions {
        let Action::Publish { map, .. } = action else { continue };
        for route in map {
            let all = observed.replicas().filter(|(key, _)| key.workload == route.workload);
            let with_address = all.filter_map(|(replica, r)| {
                Some(Target { replica, address: r.address()?.to_owned(), port: 8080 })
            });
            route.targets = with_address.collect();
        }
    }
    step
}

/// What has failed for good runs again, although its job has finished.
fn job_goes_on(desired: &Desired, observed: &Observed, now: Time, config: &Config) -> Step {
    let (mut heedless, mut blind) = (desired.clone(), observed.clone());
    for (id, w) in &mut heedless.workloads {
        let Some(job) = &mut w.controller.job else { continue };
        (job.backoff_limit, job.deadline, w.finished) = (None, None, None);
        w.completed.retain(|_, failed| !*failed);
        let slots = blind.workloads.get_mut(id).into_iter().flat_map(|s| s.slots.values_mut());
        for c in slots.flat_map(|s| &mut s.replicas).flat_map(|r| &mut r.containers) {
            c.restart.fails_job = None;
            if matches!(c.restart.next, Next::Done { failed: true } | Next::GivenUp) {
                c.restart.next = Next::Now;
            }
        }
    }
    let mut step = reconcile(desired, observed, now, config);
    let stops = |a: &Action| matches!(a, Action::StopReplica { cause: StopCause::JobFailed, .. });
    step.actions.retain(|a| !stops(a));
    let starts = |a: &Action| matches!(a, Action::Prepare { .. } | Action::Release { .. });
    if !step.actions.iter().any(starts) {
        step.actions.extend(reconcile(&heedless, &blind, now, config).actions.into_iter().filter(starts));
    }
    step
}
