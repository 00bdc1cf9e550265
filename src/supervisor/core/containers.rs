//! The life of one container: prepare, release, stop, kill, settle, remove.
//!
//! Stopping is an automaton over recorded facts and one absolute deadline:
//!
//! ```text
//! stop decided ─ preStop runs ─ stop signal ─ deadline: SIGKILL of the cgroup ─ again every few seconds ─ dead
//!                └ still running `stop_floor` before the deadline: not waited for, stop signal
//! ```
//! The deadline is final: the program's time between signal and SIGKILL is kept free at its end.
//! With grace 0 the cgroup is killed at once. Dead means init is reaped *and* the cgroup is empty.

use super::action::Action;
use super::checks::{Checks, Hook, HookKind};
use super::exit::{ExitClass, StopCause};
use super::health;
use super::ids::Key;
use super::model::{Container, Instance, Next, Phase, Removal, SandboxState, Stop};
use super::pass::{ContainerContext, Pass, SlotAccess};
use super::spec::{ContainerSpec, Handler, PodTemplate, Role};
use super::time::{Millis, Time};
use super::{endpoints, job, restart, sandbox};

/// Dead instances that may wait for their removal before no new one is made.
const UNREMOVED_MOST: usize = 3;

impl Container {
    /// The instance that runs its program, or is about to.
    pub fn lives(&self) -> Option<&Instance> {
        self.instances.iter().find(|i| i.may_run())
    }

    /// The instance that waits in `created`, or is being created.
    pub fn waiting(&self) -> Option<&Instance> {
        self.instances.iter().find(|i| i.phase < Phase::Starting && i.exit.is_none())
    }
}

impl Instance {
    /// Whether a process of the program may exist.
    pub fn may_run(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running) || (self.exit.is_some() && !self.is_dead())
    }

    /// Init is reaped and the cgroup is empty.
    pub fn is_dead(&self) -> bool {
        self.phase == Phase::Dead
    }
}

/// Decides on one container.
pub fn container(pass: &mut Pass<'_>, place: &ContainerContext<'_>, index: u32, container: &Container) {
    let spec = place.template.and_then(|t| t.containers.get(index as usize));
    for instance in &container.instances {
        let key = place.key(index, instance.id);
        if instance.is_dead() {
            bury(pass, place, &key, container, instance);
        } else {
            alive(pass, place, &key, container, instance, spec);
        }
    }
    if place.replica.stop.is_none() && place.sandbox && spec.is_some() {
        start(pass, place, index, container);
    }
}

/// A dead instance: its end has its consequences, then it is removed.
fn bury(
    pass: &mut Pass<'_>,
    place: &ContainerContext<'_>,
    key: &Key,
    container: &Container,
    instance: &Instance,
) {
    if !instance.settled {
        // One at a time: what follows from the end of the next one depends on what followed from this one's.
        let mut unsettled = container.instances.iter().filter(|i| i.is_dead() && !i.settled);
        if unsettled.next().is_some_and(|first| first.id == instance.id) {
            decide_after_exit(pass, place, key, container, instance);
        }
        return;
    }
    let again = match instance.removal {
        Removal::No => true,
        Removal::Asked => false,
        Removal::Failed(at) => pass.reached(at + pass.config.remove_retry),
    };
    if again {
        pass.push(Action::Remove { key: *key });
    }
}

fn decide_after_exit(
    pass: &mut Pass<'_>,
    place: &ContainerContext<'_>,
    key: &Key,
    container: &Container,
    instance: &Instance,
) {
    let Some(exit) = &instance.exit else { return };
    let class = restart::classify(instance, exit);
    let mut next = container.restart.clone();
    if let (Some(template), None) = (place.template, place.replica.stop) {
        let other_lives = container.instances.iter().any(|i| i.id != instance.id && i.may_run());
        if instance.started.is_none() && instance.stop.is_some() {
            // A spare that is no longer desired: nothing follows.
        } else if instance.stop.is_some_and(|s| s.cause == StopCause::SandboxLost) {
            next.next = sandbox::after_loss(template, key.container);
        } else if instance.stop.is_some_and(|s| s.cause == StopCause::Finished) {
            next.next = Next::Done { failed: false };
        } else if class == ExitClass::Deadline {
            next.next = Next::Done { failed: true };
        } else if instance.started.is_none() && other_lives {
            next.spare_after = Some(exit.at + template.backoff.max);
        } else {
            let chance = pass.config.seed ^ key.instance;
            let times = (exit.at, instance.started, instance.ready);
            let index = key.container as usize;
            next = restart::after_exit(
                template,
                index,
                &next,
                class,
                times,
                chance,
                pass.config.min_start_interval,
            );
            next = job::decide_after_exit(place, key, class, exit, next);
            if instance.started.is_none() {
                // One that was made ahead of its time does not bring the time forward.
                next.next = later(container.restart.next, next.next);
                next.spare_after = next.due();
            }
        }
    }
    if place.replica.expired && next.due().is_some() {
        next.next = Next::Done { failed: true };
    }
    pass.push(Action::Settle { key: *key, class, restart: next });
}

fn later(before: Next, after: Next) -> Next {
    match (before, after) {
        (Next::At(b), Next::At(a)) => Next::At(a.max(b)),
        _ => after,
    }
}

/// An instance that is not dead.
fn alive(
    pass: &mut Pass<'_>,
    place: &ContainerContext<'_>,
    key: &Key,
    container: &Container,
    instance: &Instance,
    spec: Option<&ContainerSpec>,
) {
    if let Some(stop) = wanted_stop(pass, place, key, container, instance, spec) {
        pass.push(Action::Stop { key: *key, cause: stop.cause, deadline: stop.deadline, now: stop.now });
        return;
    }
    match (&instance.stop, &instance.exit) {
        // Nothing outlives init.
        (_, Some(_)) => kill(pass, key, instance),
        (Some(stop), None) => stopping(pass, key, instance, stop, spec),
        (None, None) => {
            update(pass, place, key, instance);
            release(pass, place, key, container, instance, spec);
            if let Some(spec) = spec {
                health::check(pass, place, key, instance, spec);
            }
        }
    }
}

/// A container that was made with other limits than its replica has now gets these.
fn update(pass: &mut Pass<'_>, place: &ContainerContext<'_>, key: &Key, instance: &Instance) {
    let exists = matches!(instance.phase, Phase::Prepared | Phase::Running);
    if !exists || instance.updating || instance.revision == Some(place.replica.revision) {
        return;
    }
    let now = limits(place.template, key);
    let had = instance.revision.map(|r| limits(place.workload_template(r), key));
    if now.is_some() && had != Some(now) {
        pass.push(Action::Update { key: *key, revision: place.replica.revision });
    }
}

/// The fields of [`Action::Stop`].
struct WantedStop {
    cause: StopCause,
    deadline: Time,
    now: bool,
}

/// The stop that is not yet recorded: a first one, or one that brings the deadline forward.
fn wanted_stop(
    pass: &mut Pass<'_>,
    place: &ContainerContext<'_>,
    key: &Key,
    container: &Container,
    instance: &Instance,
    spec: Option<&ContainerSpec>,
) -> Option<WantedStop> {
    let index = key.container as usize;
    if let Some(stop) = &place.replica.stop {
        let turn = instance.phase < Phase::Starting || stop.now || place.replica.may_stop(index);
        if !turn && !pass.reached(stop.deadline) {
            return None;
        }
        let deadline = instance.stop.map_or(stop.deadline, |s| s.deadline.min(stop.deadline));
        let wanted = WantedStop { cause: stop.cause, deadline, now: stop.now };
        let known = instance.stop.is_some_and(|s| s.deadline <= stop.deadline && (s.now || !stop.now));
        return (!known).then_some(wanted);
    }
    let lost = place.replica.sandbox_state() == SandboxState::Lost;
    if let Some(cause) = lost.then_some(StopCause::SandboxLost).or(place.replica.surplus(index)) {
        let grace = place.template.map_or(Millis(0), |t| t.grace);
        let wanted = WantedStop { cause, deadline: pass.now + grace, now: grace == Millis(0) };
        return instance.stop.is_none().then_some(wanted);
    }
    if let (Some(spec), Some(template), None) = (spec, place.template, &instance.stop)
        && let Some((cause, grace)) = health::failure(instance, spec, template.grace)
    {
        return Some(WantedStop { cause, deadline: pass.now + grace, now: grace == Millis(0) });
    }
    let never_released = instance.phase < Phase::Starting && container.restart.due().is_none();
    (never_released && container.lives().is_none() && instance.stop.is_none()).then_some(WantedStop {
        cause: StopCause::ScaledDown,
        deadline: pass.now,
        now: true,
    })
}

fn stopping(pass: &mut Pass<'_>, key: &Key, instance: &Instance, stop: &Stop, spec: Option<&ContainerSpec>) {
    match instance.phase {
        // Its program never ran: no stop signal is needed.
        Phase::Prepared => return kill(pass, key, instance),
        _ if stop.now || instance.kills > 0 => return kill(pass, key, instance),
        // Until the program runs, a signal would be lost.
        Phase::Preparing | Phase::Starting => {
            if pass.reached(stop.deadline) {
                kill(pass, key, instance);
            }
            return;
        }
        Phase::Running | Phase::Dead => {}
    }
    let hook = spec.and_then(|s| s.pre_stop.as_ref());
    if pass.reached(stop.deadline) {
        return kill(pass, key, instance);
    }
    // No stop signal is sent before connections go elsewhere.
    let led = pass.exposed.contains(&key.replica) && stop.hook == Hook::NotRun && stop.signalled.is_none();
    if led && !pass.reached(stop.at + endpoints::PATIENCE) {
        return;
    }
    match stop.hook {
        Hook::NotRun
            if stop.signalled.is_none()
                && hook.is_some()
                && !pass.reached(hook_until(stop, pass.config.stop_floor)) =>
        {
            let kind = HookKind::PreStop;
            pass.push(match hook {
                Some(Handler::Sleep(_)) => Action::Sleep { key: *key, kind },
                _ => Action::RunHook { key: *key, kind },
            });
        }
        Hook::Sleeping(since) => {
            let time = if let Some(Handler::Sleep(time)) = hook { *time } else { Millis(0) };
            let until = (since + time).min(hook_until(stop, pass.config.stop_floor));
            if pass.reached(until) {
                pass.push(Action::Slept { key: *key, kind: HookKind::PreStop });
            }
        }
        Hook::Running(_) => {
            if pass.reached(hook_until(stop, pass.config.stop_floor)) {
                pass.push(Action::AbandonHook { key: *key });
            }
        }
        Hook::NotRun | Hook::Done | Hook::Abandoned => {
            if stop.signalled.is_none() {
                let signal = spec.map_or(libc::SIGTERM, |s| s.stop_signal);
                pass.push(Action::Signal { key: *key, signal });
            }
        }
    }
}

/// When a preStop is not waited for any longer, so that the program has time for its stop signal: `floor` before the
/// deadline, or half of the time that there is, if that is less.
fn hook_until(stop: &Stop, floor: Millis) -> Time {
    let whole = stop.deadline.since(stop.at);
    stop.deadline - Millis(floor.0.min(whole.0 / 2))
}

fn limits<'a>(template: Option<&'a PodTemplate>, key: &Key) -> Option<&'a Option<serde_json::Value>> {
    template?.containers.get(key.container as usize).map(|c| &c.launch.resources)
}

/// SIGKILL of the whole cgroup, until it is empty.
fn kill(pass: &mut Pass<'_>, key: &Key, instance: &Instance) {
    if instance.killed.is_none_or(|at| pass.reached(at + pass.config.kill_retry)) {
        pass.push(Action::KillCgroup { key: *key });
    }
}

/// A created container runs when its time has come and nothing else of it does.
fn release(
    pass: &mut Pass<'_>,
    place: &ContainerContext<'_>,
    key: &Key,
    container: &Container,
    instance: &Instance,
    spec: Option<&ContainerSpec>,
) {
    // The end of a main container may be that of the replica, which starts no sidecar any more.
    let settled =
        place.replica.containers.iter().flat_map(|c| &c.instances).all(|i| !i.is_dead() || i.settled);
    let alone = place.sandbox
        && place.replica.may_start(key.container as usize)
        && container.lives().is_none()
        && settled;
    if instance.phase != Phase::Prepared || !alone || place.entry != SlotAccess::Free {
        return;
    }
    if container.restart.due().is_some_and(|at| pass.reached(at)) {
        let of = |spec| Checks::for_container(spec, instance.image.as_deref());
        let checks = spec.map(of).unwrap_or_default();
        pass.push(Action::Release { key: *key, checks });
    }
}

/// Makes the next instance when there is need of one.
fn start(pass: &mut Pass<'_>, place: &ContainerContext<'_>, index: u32, container: &Container) {
    let dead = container.instances.iter().filter(|i| i.is_dead());
    let unsettled = dead.clone().any(|i| !i.settled);
    if container.waiting().is_some() || unsettled || dead.count() >= UNREMOVED_MOST {
        return;
    }
    let Some(template) = place.template.filter(|_| place.replica.may_start(index as usize)) else { return };
    let due = match (container.lives(), container.restart.next) {
        (Some(i), _) if template.spare && container.role != Role::Init && spare_is_useful(i) => {
            container.restart.spare_after.unwrap_or(Time(0))
        }
        (Some(_), _) | (None, Next::Done { .. } | Next::GivenUp) => return,
        (None, Next::Now) => Time(0),
        // A spare waits for the end of the delay.
        (None, Next::At(at)) if template.spare => at.min(container.restart.spare_after.unwrap_or(Time(0))),
        (None, Next::At(at)) => at,
    };
    if !pass.reached(due) {
        return;
    }
    if let Some(credit) = pass.start_credit() {
        let key = place.key(index, pass.next_instance());
        pass.push(Action::Prepare { key, revision: place.replica.revision, credit });
    }
}

fn spare_is_useful(running: &Instance) -> bool {
    running.phase == Phase::Running && running.stop.is_none() && running.exit.is_none()
}
