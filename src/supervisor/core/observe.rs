//! The only mutator of [`Observed`]: it follows events.

use super::action::{Action, Notice};
use super::checks::{Health, Hook, HookKind};
use super::event::{Event, InspectedState};
use super::exit::{Exit, StartError, WaitStatus};
use super::ids::{Key, ReplicaKey, Revision, WorkloadId};
use super::model::{
    Container, EXITS_KEPT, ExitRecord, Instance, Observed, Phase, Process, Removal, Replica, ReplicaSlots,
    ReplicaStop, Restart, SandboxState, Slot, Stop,
};
use super::notice;
use super::spec::{ImageFacts, Role};
use super::time::Time;

/// Takes `event` into account. What people should know of it is added to `notices` (whose `workload_name` is left
/// empty); a replay throws these away. An event of an instance that is not known is ignored.
pub fn on_event(observed: &mut Observed, event: &Event, at: Time, notices: &mut Vec<Notice>) {
    if let Some(n) = notice::describe_event(observed, event, at) {
        notices.push(n);
    }
    match event {
        Event::Decided { action } => decided(observed, action, at),
        Event::KeeperLost => observed.keeper_lost = true,
        Event::Draining { on } => observed.draining = *on,
        Event::ClockSet { clock } => observed.clock = Some(clock.clone()),
        Event::Prepared { key, process, image } => {
            change_instance(observed, key, |i| i.prepared(*process, image.clone()));
        }
        Event::Started { key } => change_instance(observed, key, |i| i.started(at)),
        Event::StartFailed { key, error } => change_instance(observed, key, |i| i.start_failed(error, at)),
        Event::Exited { key, status, oom } => {
            change_instance(observed, key, |i| i.exited(*status, *oom, at));
        }
        Event::LastWords { key, text } => last_words(observed, key, text),
        Event::CgroupEmpty { key } => change_instance(observed, key, Instance::emptied),
        Event::Signalled { key } => change_instance(observed, key, |i| {
            if let Some(stop) = &mut i.stop {
                stop.delivered = true;
            }
        }),
        Event::HookDone { key, kind, error } => {
            change_instance(observed, key, |i| i.hook_done(*kind, error.as_ref(), at));
        }
        Event::Probed { key, kind, n, ok, error } => change_instance(observed, key, |i| {
            if let Some(count) = i.health.as_mut().and_then(|h| h.count_mut(*kind)) {
                count.answer(*n, *ok, error.as_ref());
            }
        }),
        Event::Updated { key, .. } => change_instance(observed, key, |i| i.updating = false),
        Event::Removed { key, error: None } => forget(observed, key),
        Event::Removed { key, error: Some(_) } => {
            change_instance(observed, key, |i| i.removal = Removal::Failed(at))
        }
        Event::Found { key, found } => {
            if found_again(observed, key, found, at) {
                forget(observed, key);
            }
        }
        Event::OomKilled { .. } => {}
        Event::SandboxMade { replica, .. }
        | Event::SandboxFailed { replica, .. }
        | Event::SandboxLost { replica }
        | Event::SandboxGone { replica, .. }
        | Event::SandboxFound { replica, .. } => {
            if let Some(replica) = observed.replica_of_mut(replica) {
                super::sandbox::observe(replica, event, at);
            }
        }
        Event::Published { generation, taken } => observed.endpoints.acknowledge(*generation, taken),
        Event::LogsBlocked { key, error } => {
            change_instance(observed, key, |i| i.logs_blocked.clone_from(error))
        }
    }
}

impl ReplicaSlots {
    fn drop_replica(&mut self, slot: u32, serial: u64) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.replicas.retain(|r| r.serial != serial);
        }
        let mut rest = self.slots.values().flat_map(|s| &s.replicas);
        self.began = self.began.filter(|_| rest.any(|r| !r.has_ended()));
    }
}

impl Observed {
    /// The replica of `key`.
    pub fn replica(&self, workload: WorkloadId, slot: u32, serial: u64) -> Option<&Replica> {
        let slot = self.workloads.get(&workload)?.slots.get(&slot)?;
        slot.replicas.iter().find(|r| r.serial == serial)
    }

    /// The replica of `key`.
    pub fn replica_of(&self, key: &ReplicaKey) -> Option<&Replica> {
        self.replica(key.workload, key.slot, key.serial)
    }

    /// All replicas.
    pub fn replicas(&self) -> impl Iterator<Item = (ReplicaKey, &Replica)> {
        self.workloads.iter().flat_map(|(workload, slots)| {
            super::pass::replicas(slots)
                .map(move |(slot, r)| (ReplicaKey { workload: *workload, slot, serial: r.serial }, r))
        })
    }

    /// The container of `key`.
    pub fn container(&self, key: &Key) -> Option<&Container> {
        self.replica(key.workload, key.slot, key.replica)?.containers.get(key.container as usize)
    }

    /// The instance of `key`, while it is not removed.
    pub fn instance(&self, key: &Key) -> Option<&Instance> {
        self.container(key)?.instances.iter().find(|i| i.id == key.instance)
    }

    /// All instances that are not removed.
    pub fn instances(&self) -> impl Iterator<Item = (Key, &Instance)> {
        self.workloads.iter().flat_map(|(workload, slots)| {
            slots.slots.iter().flat_map(move |(slot, s)| {
                s.replicas.iter().flat_map(move |r| {
                    r.containers.iter().zip(0u32..).flat_map(move |(c, index)| {
                        c.instances.iter().map(move |i| {
                            let key = Key {
                                workload: *workload,
                                slot: *slot,
                                replica: r.serial,
                                container: index,
                                instance: i.id,
                            };
                            (key, i)
                        })
                    })
                })
            })
        })
    }

    fn slot_mut(&mut self, workload: WorkloadId, slot: u32) -> Option<&mut Slot> {
        self.workloads.get_mut(&workload)?.slots.get_mut(&slot)
    }

    fn replica_mut(&mut self, workload: WorkloadId, slot: u32, serial: u64) -> Option<&mut Replica> {
        self.slot_mut(workload, slot)?.replicas.iter_mut().find(|r| r.serial == serial)
    }

    fn replica_of_mut(&mut self, key: &ReplicaKey) -> Option<&mut Replica> {
        self.replica_mut(key.workload, key.slot, key.serial)
    }

    fn container_mut(&mut self, key: &Key) -> Option<&mut Container> {
        self.replica_mut(key.workload, key.slot, key.replica)?.containers.get_mut(key.container as usize)
    }

    fn instance_mut(&mut self, key: &Key) -> Option<&mut Instance> {
        self.container_mut(key)?.instances.iter_mut().find(|i| i.id == key.instance)
    }
}

fn change_instance(observed: &mut Observed, key: &Key, change: impl FnOnce(&mut Instance)) {
    let Some(instance) = observed.instance_mut(key) else { return };
    let was_started = instance.started.is_some();
    change(instance);
    if !was_started && instance.started.is_some() {
        count_start(observed, key);
    }
}

fn count_start(observed: &mut Observed, key: &Key) {
    let Some(container) = observed.container_mut(key) else { return };
    container.starts = container.starts.saturating_add(1);
    let name = container.name.clone();
    let Some(slot) = observed.slot_mut(key.workload, key.slot) else { return };
    slot.history.entry(name).or_default().starts += 1;
}

fn forget(observed: &mut Observed, key: &Key) {
    if let Some(container) = observed.container_mut(key) {
        container.instances.retain(|i| i.id != key.instance);
    }
}

fn decided(observed: &mut Observed, action: &Action, at: Time) {
    match action {
        Action::AddReplica { .. } => add_replica(observed, action, at),
        Action::DropReplica { workload, slot, serial } => {
            if let Some(slots) = observed.workloads.get_mut(workload) {
                slots.drop_replica(*slot, *serial);
            }
            observed.endpoints.forget(*serial);
        }
        Action::DropSlot { workload, slot } => {
            if let Some(slots) = observed.workloads.get_mut(workload) {
                slots.slots.remove(slot);
            }
        }
        Action::DropWorkload { workload } => drop(observed.workloads.remove(workload)),
        Action::StopReplica { .. } => stop_replica(observed, action, at),
        Action::Expire { replica } => {
            if let Some(replica) = observed.replica_of_mut(replica) {
                replica.expire();
            }
        }
        Action::Adopt { workload, slot, serial, revision } => {
            if let Some(replica) = observed.replica_mut(*workload, *slot, *serial) {
                replica.revision = *revision;
            }
        }
        Action::NoteRun { workload, seen } => {
            observed.workloads.entry(*workload).or_default().cron = Some(seen.clone());
        }
        Action::Advance { workload, rollout } => {
            observed.workloads.entry(*workload).or_default().rollout = Some(rollout.clone());
        }
        Action::Publish { generation, map, names } => {
            observed.endpoints.send(*generation, map, names, at);
        }
        Action::Prepare { key, credit, revision } => prepare(observed, key, *credit, *revision, at),
        Action::Settle { key, .. } => record_exit(observed, key, action),
        Action::MakeSandbox { replica, again, .. } => {
            if let Some(replica) = observed.replica_of_mut(replica) {
                super::sandbox::making(replica, again);
            }
        }
        Action::RemoveSandbox { replica } => {
            let replica = observed.replica_of_mut(replica);
            if let Some(sandbox) = replica.and_then(|r| r.sandbox.as_mut()) {
                sandbox.state = SandboxState::Removing(None);
            }
        }
        Action::Release { key, .. } => {
            change_instance(observed, key, |i| i.decided(action, at));
            let main = observed.container(key).is_some_and(|c| c.role == Role::Main);
            if let (true, Some(replica)) = (main, observed.replica_of_mut(&key.of_replica())) {
                replica.initialized = true;
            }
        }
        Action::Stop { key, .. }
        | Action::AbandonHook { key }
        | Action::Sleep { key, .. }
        | Action::Slept { key, .. }
        | Action::Judge { key, .. }
        | Action::Probe { key, .. }
        | Action::Signal { key, .. }
        | Action::KillCgroup { key }
        | Action::RunHook { key, .. }
        | Action::Update { key, .. }
        | Action::Remove { key } => change_instance(observed, key, |i| i.decided(action, at)),
        Action::Persist { .. } => {}
    }
}

fn stop_replica(observed: &mut Observed, action: &Action, at: Time) {
    let Action::StopReplica { workload, slot, serial, cause, deadline, now } = action else { return };
    let Some(replica) = observed.replica_mut(*workload, *slot, *serial) else { return };
    let new = ReplicaStop { cause: *cause, at, deadline: *deadline, now: *now };
    let stop = replica.stop.get_or_insert(new);
    stop.deadline = stop.deadline.min(*deadline);
    stop.now |= now;
}

fn add_replica(observed: &mut Observed, action: &Action, at: Time) {
    let Action::AddReplica { workload, slot, serial, revision, restarts, containers, roles } = action else {
        return;
    };
    observed.last_replica = observed.last_replica.max(*serial);
    let container = |(n, name): (usize, &String)| Container {
        name: name.clone(),
        role: roles.get(n).copied().unwrap_or_default(),
        instances: Vec::new(),
        restart: Restart::default(),
        starts: 0,
    };
    let replica = Replica {
        serial: *serial,
        revision: *revision,
        restarts: *restarts,
        created: at,
        stop: None,
        containers: containers.iter().enumerate().map(container).collect(),
        sandbox: None,
        initialized: false,
        expired: false,
    };
    let slots = observed.workloads.entry(*workload).or_default();
    slots.began.get_or_insert(at);
    let replicas = &mut slots.slots.entry(*slot).or_default().replicas;
    // There is seldom a second one, and there are many slots.
    replicas.reserve_exact(1);
    replicas.push(replica);
}

fn prepare(observed: &mut Observed, key: &Key, credit: u64, revision: Revision, at: Time) {
    observed.last_instance = observed.last_instance.max(key.instance);
    observed.start_credit = credit;
    let Some(container) = observed.container_mut(key) else { return };
    container.instances.reserve_exact(1);
    container.instances.push(Instance {
        id: key.instance,
        phase: Phase::Preparing,
        revision: Some(revision),
        updating: false,
        process: None,
        image: None,
        prepared: at,
        started: None,
        ready: None,
        health: None,
        stop: None,
        exit: None,
        empty: false,
        kills: 0,
        killed: None,
        settled: false,
        removal: Removal::No,
        logs_blocked: None,
        last_words: None,
    });
}

/// They may come after the exit has been entered in the history.
fn last_words(observed: &mut Observed, key: &Key, text: &str) {
    change_instance(observed, key, |i| i.last_words = Some(text.to_owned()));
    let Some(name) = observed.container(key).map(|c| c.name.clone()) else { return };
    let slot = observed.slot_mut(key.workload, key.slot);
    let exits = slot.and_then(|s| s.history.get_mut(&name)).map(|h| &mut h.exits);
    if let Some(record) = exits.into_iter().flatten().find(|e| e.instance == key.instance) {
        record.message = Some(text.to_owned());
    }
}

/// Enters the exit in the slot's history.
fn record_exit(observed: &mut Observed, key: &Key, action: &Action) {
    let Action::Settle { class, restart, .. } = action else { return };
    let Some(container) = observed.container_mut(key) else { return };
    let name = container.name.clone();
    container.restart = restart.clone();
    let Some(instance) = container.instances.iter_mut().find(|i| i.id == key.instance) else { return };
    instance.settled = true;
    let Some(exit) = &instance.exit else { return };
    let record = ExitRecord {
        instance: key.instance,
        at: exit.at,
        started: instance.started,
        class: *class,
        status: exit.status,
        error: exit.error.as_ref().map(|e| e.message.clone()),
        message: instance.last_words.clone(),
    };
    let Some(slot) = observed.slot_mut(key.workload, key.slot) else { return };
    let exits = &mut slot.history.entry(name).or_default().exits;
    exits.push_back(record);
    while exits.len() > EXITS_KEPT {
        exits.pop_front();
    }
}

/// Takes in what was found of an instance after a restart of the supervisor. True: forget the instance.
fn found_again(observed: &mut Observed, key: &Key, found: &InspectedState, at: Time) -> bool {
    let Some(instance) = observed.instance(key) else { return false };
    let phase = instance.phase;
    let not_run = phase < Phase::Starting;
    if *found == InspectedState::Nothing && (not_run || instance.settled) {
        return true;
    }
    change_instance(observed, key, |i| {
        i.unconfirm();
        match found {
            InspectedState::Created { process } if phase < Phase::Running => {
                i.process = Some(*process);
                i.phase = Phase::Prepared;
            }
            InspectedState::Running { process } if phase < Phase::Dead => {
                i.process = Some(*process);
                i.started(at);
            }
            InspectedState::Created { .. } | InspectedState::Running { .. } => {}
            InspectedState::Nothing => {
                i.exited(None, false, at);
                i.emptied();
            }
            InspectedState::Ended { status, oom, empty } => {
                i.exited(*status, *oom, at);
                // Nothing was lost when its program never ran: this is not a failure.
                i.settled |= not_run;
                if *empty {
                    i.emptied();
                }
            }
        }
    });
    if matches!(found, InspectedState::Created { .. })
        && let Some(replica) = observed.replica_of_mut(&key.of_replica())
    {
        // The release of a main container may have been decided and not carried out.
        let ran = |c: &Container| c.starts > 0 || c.instances.iter().any(|i| i.phase >= Phase::Starting);
        replica.initialized &= replica.containers.iter().any(|c| c.role == Role::Main && ran(c));
    }
    false
}

impl Instance {
    /// Requests that were not confirmed before the supervisor exited are repeated, except for the hook,
    /// which runs once.
    fn unconfirm(&mut self) {
        self.killed = None;
        self.removal = Removal::No;
        if std::mem::take(&mut self.updating) {
            self.revision = None;
        }
        // A log that still cannot be written is reported again.
        self.logs_blocked = None;
        if let Some(health) = &mut self.health {
            health.unconfirm();
        }
        let Some(stop) = &mut self.stop else { return };
        if matches!(stop.hook, Hook::Running(_)) {
            stop.hook = Hook::Done;
        }
        if !stop.delivered {
            stop.signalled = None;
        }
    }

    fn prepared(&mut self, process: Process, image: Option<Box<ImageFacts>>) {
        if self.phase == Phase::Preparing {
            self.image = image;
            self.phase = Phase::Prepared;
            self.process = Some(process);
        }
    }

    fn started(&mut self, at: Time) {
        if self.phase < Phase::Running {
            self.phase = Phase::Running;
            self.started = Some(at);
        }
        // Also when it was found again: of what it must do a part may be taken as done then.
        self.judge_ready(at);
    }

    fn judge_ready(&mut self, at: Time) {
        if self.phase == Phase::Dead {
            return;
        }
        let ready = self.phase == Phase::Running && self.health.as_ref().is_none_or(|h| h.is_ready());
        self.ready = if ready { self.ready.or(Some(at)) } else { None };
    }

    fn hook_done(&mut self, kind: HookKind, error: Option<&String>, at: Time) {
        let over = |hook: &mut Hook| {
            let running = matches!(hook, Hook::Running(_) | Hook::Sleeping(_));
            if running {
                *hook = Hook::Done;
            }
            running
        };
        match kind {
            HookKind::PreStop => {
                if let Some(stop) = &mut self.stop {
                    over(&mut stop.hook);
                }
            }
            HookKind::PostStart => {
                if let Some(health) = &mut self.health
                    && over(&mut health.post_start)
                {
                    health.post_start_error = error.cloned();
                }
                self.judge_ready(at);
            }
        }
    }

    fn start_failed(&mut self, error: &StartError, at: Time) {
        if self.phase < Phase::Running {
            self.exit.get_or_insert(Exit { at, status: None, oom: false, error: Some(error.clone()) });
            self.emptied();
        }
    }

    fn exited(&mut self, status: Option<WaitStatus>, oom: bool, at: Time) {
        self.exit.get_or_insert(Exit { at, status, oom, error: None });
        if self.empty {
            self.phase = Phase::Dead;
        }
    }

    fn emptied(&mut self) {
        self.empty = true;
        if self.exit.is_some() {
            self.phase = Phase::Dead;
        }
    }

    fn decided(&mut self, action: &Action, at: Time) {
        match action {
            Action::Stop { cause, deadline, now, .. } => {
                let stop = self.stop.get_or_insert(Stop {
                    cause: *cause,
                    at,
                    deadline: *deadline,
                    now: *now,
                    hook: Hook::NotRun,
                    signalled: None,
                    delivered: false,
                });
                stop.deadline = stop.deadline.min(*deadline);
                stop.now |= now;
            }
            Action::Release { checks, .. } => {
                self.phase = Phase::Starting;
                self.health = (!checks.is_empty()).then(|| Box::new(Health::new(*checks)));
            }
            Action::KillCgroup { .. } => {
                self.kills += 1;
                self.killed = Some(at);
            }
            Action::Remove { .. } => self.removal = Removal::Asked,
            Action::Update { revision, .. } => (self.revision, self.updating) = (Some(*revision), true),
            _ => self.stop_decided(action, at),
        }
    }

    fn stop_decided(&mut self, action: &Action, at: Time) {
        if self.health_decided(action, at) {
            return;
        }
        let Some(stop) = &mut self.stop else { return };
        match action {
            Action::RunHook { .. } => stop.hook = Hook::Running(at),
            Action::Sleep { .. } => stop.hook = Hook::Sleeping(at),
            Action::Slept { .. } => stop.hook = Hook::Done,
            Action::AbandonHook { .. } => stop.hook = Hook::Abandoned,
            Action::Signal { .. } => stop.signalled = Some(at),
            _ => {}
        }
    }

    /// Whether the action is about postStart or a probe.
    fn health_decided(&mut self, action: &Action, at: Time) -> bool {
        let Some(health) = &mut self.health else { return false };
        match action {
            Action::RunHook { kind: HookKind::PostStart, .. } => health.post_start = Hook::Running(at),
            Action::Sleep { kind: HookKind::PostStart, .. } => health.post_start = Hook::Sleeping(at),
            Action::Slept { kind: HookKind::PostStart, .. } => health.post_start = Hook::Done,
            Action::Probe { kind, n, counts, .. } => {
                if let Some(count) = health.count_mut(*kind) {
                    count.ask(*n, *counts, at);
                }
            }
            Action::Judge { kind, ok, .. } => {
                if let Some(count) = health.count_mut(*kind) {
                    count.passed = Some(*ok);
                }
            }
            _ => return false,
        }
        self.judge_ready(at);
        true
    }
}
