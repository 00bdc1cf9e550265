//! The checks. They follow what happens from outside and know the rules in their own words; numbers P1 to P18 are those
//! of the list in the main file.

use crate::chain::Chain;
use crate::health::Watch;
use crate::jobs::Jobs;
use crate::order::{Order, policy};
use crate::process::{Proc, State};
use orun::supervisor::core::Config;
use orun::supervisor::core::action::Action;
use orun::supervisor::core::checks::HookKind;
use orun::supervisor::core::desired::{Change, Desired};
use orun::supervisor::core::event::{Event, InspectedState, Record};
use orun::supervisor::core::exit::StopCause;
use orun::supervisor::core::ids::{Key, Revision, WorkloadId};
use orun::supervisor::core::model::Observed;
use orun::supervisor::core::spec::{PodTemplate, RestartPolicy};
use orun::supervisor::core::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How late something may be.
const SLACK: u64 = 20;
/// More actions than this within a second are a busy loop.
const ACTIONS_PER_SECOND: usize = 3_000;

#[derive(Debug, Default)]
pub struct Oracle {
    config: Option<Config>,
    /// The first broken rule.
    pub broken: Option<String>,
    deletions: BTreeMap<WorkloadId, Deletion>,
    removed: BTreeSet<WorkloadId>,
    pub replicas: BTreeMap<u64, Facts>,
    pub chains: BTreeMap<(u64, u32), Chain>,
    /// The deadlines that were recorded, by replica and by instance.
    deadlines: BTreeMap<(u64, u64), Time>,
    ended: BTreeSet<u64>,
    /// Of these, those from which nothing has followed yet.
    ends: BTreeMap<u64, End>,
    /// Replicas, and those in the same slot that they were put beside because the strategy allowed a surge.
    pub surged: BTreeMap<u64, BTreeSet<u64>>,
    /// What has run in the present sandbox of a replica.
    pub order: BTreeMap<u64, Order>,
    /// Replicas whose sandbox was lost, and instances that are stopped because of that, since when.
    pub lost_sandboxes: BTreeSet<u64>,
    pub lost: BTreeMap<u64, u64>,
    /// Instances that are stopped alone, each since when and with which grace: sidecars when all else has exited, and
    /// those that have failed a check.
    alone: BTreeMap<u64, (u64, u64)>,
    /// Instances that have failed a check.
    pub unhealthy: BTreeSet<u64>,
    /// The answers to probes and hooks.
    pub watches: BTreeMap<u64, Watch>,
    /// Instances whose preStop was recorded to run; it may be that it did not.
    hooked: BTreeSet<u64>,
    pub templates: BTreeMap<(WorkloadId, Revision), PodTemplate>,
    /// Revisions whose rollout was seen to be complete.
    pub complete: BTreeSet<(WorkloadId, Revision)>,
    /// Workloads that went back by themselves, until their owner changes something.
    rolled_back: BTreeSet<WorkloadId>,
    pub jobs: Jobs,
    /// The host is being drained.
    draining: bool,
    starts: VecDeque<u64>,
    actions: VecDeque<u64>,
}

/// The exit of an instance.
#[derive(Debug)]
struct End {
    at: u64,
    released: bool,
    executed: bool,
    status: Option<i32>,
    unrecoverable: bool,
}

#[derive(Debug)]
struct Deletion {
    at: u64,
    grace: Option<u64>,
    shorter: Option<u64>,
    now: bool,
}

/// What is known of a replica.
#[derive(Debug)]
pub struct Facts {
    workload: WorkloadId,
    pub template: Option<PodTemplate>,
    stop: Option<(u64, StopCause)>,
}

impl Oracle {
    pub fn new(config: &Config) -> Oracle {
        Oracle { config: Some(config.clone()), ..Oracle::default() }
    }

    pub fn blame(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub fn reboot(&mut self) {
        let kept = Oracle {
            config: self.config.take(),
            broken: self.broken.take(),
            deletions: std::mem::take(&mut self.deletions),
            removed: std::mem::take(&mut self.removed),
            complete: std::mem::take(&mut self.complete),
            rolled_back: std::mem::take(&mut self.rolled_back),
            jobs: std::mem::take(&mut self.jobs).after_boot(),
            ..Oracle::default()
        };
        *self = kept;
    }

    pub fn durable(&mut self, change: &Change, at: Time) {
        self.job_change(change);
        match change {
            Change::Delete { workload, grace } => {
                let grace = grace.map(|g| g.0);
                let asked = grace.map(|g| at.0 + g);
                let first = Deletion { at: at.0, grace, shorter: None, now: false };
                let known = self.deletions.contains_key(workload);
                let d = self.deletions.entry(*workload).or_insert(first);
                d.now |= grace == Some(0);
                if known {
                    d.shorter = [d.shorter, asked].into_iter().flatten().min();
                }
            }
            Change::Removed { workload } => {
                self.removed.insert(*workload);
            }
            Change::Failed { workload, revision, back_to: Some(to), .. } => {
                if !self.rolled_back.insert(*workload) {
                    self.blame(format!(
                        "P24: {workload:?} goes to and fro: back from {revision:?} to {to:?}"
                    ));
                }
                if !self.complete.contains(&(*workload, *to)) {
                    self.blame(format!("P24: back to {to:?} of {workload:?}, which never worked"));
                }
            }
            Change::Scale { workload, .. }
            | Change::Restart { workload, .. }
            | Change::Undo { workload, .. }
            | Change::Pause { workload, .. } => {
                self.rolled_back.remove(workload);
            }
            Change::All { changes } => changes.iter().for_each(|change| self.durable(change, at)),
            // Of any workload: the oracle does not know them by name.
            Change::Apply { .. } => self.rolled_back.clear(),
            _ => {}
        }
    }

    /// When a replica that is stopped may be killed, and whether without asking; None while it is not stopped.
    fn deadline(&self, serial: u64) -> Option<(u64, bool)> {
        let facts = self.replicas.get(&serial)?;
        let (at, cause) = facts.stop?;
        let own = facts.template.as_ref().map_or(0, |t| t.grace.0);
        let mut deadline = if cause == StopCause::Deleted { u64::MAX } else { at + own };
        let mut now = cause != StopCause::Deleted && own == 0;
        if let Some(d) = self.deletions.get(&facts.workload) {
            let grace = d.grace.unwrap_or(own);
            deadline = deadline.min(d.at + grace).min(d.shorter.unwrap_or(u64::MAX));
            now |= d.now || grace == 0;
        }
        Some((deadline, now))
    }

    /// The same for an instance, which may be stopped alone.
    fn deadline_of(&self, key: &Key) -> Option<(u64, bool)> {
        let facts = self.replicas.get(&key.replica)?;
        let grace = facts.template.as_ref().map_or(0, |t| t.grace.0);
        let lost = self.lost.get(&key.instance).map(|at| (*at, grace));
        let alone = lost.or(self.alone.get(&key.instance).copied());
        let alone = alone.map(|(at, grace)| (at + grace, grace == 0));
        match (self.deadline(key.replica), alone) {
            (Some((a, now)), Some((b, too))) => Some((a.min(b), now || too)),
            (whole, own) => whole.or(own),
        }
    }

    pub fn record(&mut self, records: &[Record], procs: &mut BTreeMap<u64, Proc>) {
        for Record { at, event } in records {
            match event {
                Event::Draining { on } => self.draining = *on,
                Event::Decided { action } => {
                    if let Action::Stop { key, .. } = action
                        && let Some(p) = procs.get_mut(&key.instance)
                    {
                        p.stopping = true;
                    }
                    self.recorded(action, *at);
                }
                Event::Started { key } | Event::Found { key, found: InspectedState::Running { .. } } => {
                    if matches!(event, Event::Found { .. }) {
                        self.hook_lost(key);
                    }
                    if let Some(chain) = self.chains.get_mut(&(key.replica, key.container)) {
                        chain.started(key.instance, at.0);
                    }
                }
                Event::Prepared { key, image: Some(image), .. } => self.made_of_image(key, image),
                Event::Exited { key, status, oom } => {
                    self.end(key, status.map(|s| s.0), *oom, false, *at, procs);
                }
                Event::Found { key, found: InspectedState::Ended { status, oom, .. } } => {
                    self.end(key, status.map(|s| s.0), *oom, false, *at, procs);
                }
                Event::StartFailed { key, error } => {
                    self.end(key, None, false, error.unrecoverable, *at, procs);
                }
                Event::HookDone { key, kind, error } => self.hooked(key, *kind, error.is_some()),
                Event::Probed { key, kind, n, ok, .. } => self.answered(key, *kind, *n, *ok),
                Event::Signalled { key } => {
                    if let Some(p) = procs.get_mut(&key.instance) {
                        p.signal_confirmed = true;
                    }
                }
                _ => {}
            }
            let judged = |a: &Action| matches!(a, Action::Judge { .. } | Action::Slept { .. });
            let changes = match event {
                Event::Started { .. } | Event::Found { .. } | Event::HookDone { .. } => true,
                Event::Decided { action } => judged(action),
                _ => false,
            };
            if changes {
                self.note_ready(procs, at.0);
            }
        }
    }

    fn recorded(&mut self, action: &Action, at: Time) {
        match action {
            Action::AddReplica { workload, serial, .. } => {
                self.replicas.insert(*serial, Facts { workload: *workload, template: None, stop: None });
            }
            Action::StopReplica { serial, cause, deadline, .. } => {
                if let Some(facts) = self.replicas.get_mut(serial) {
                    facts.stop.get_or_insert((at.0, *cause));
                }
                self.falls((*serial, 0), *deadline, action);
            }
            Action::Settle { key, .. } => self.settled(key),
            Action::RunHook { key, kind: HookKind::PreStop } => {
                self.hooked.insert(key.instance);
            }
            Action::RunHook { key, kind: HookKind::PostStart } => {
                self.watches.entry(key.instance).or_default().post_start_asked = true;
            }
            Action::Slept { key, kind } => self.hooked(key, *kind, false),
            Action::Probe { key, kind, n, counts } => self.asked(key, *kind, *n, *counts, at.0),
            Action::Judge { key, kind, ok } => self.judged(key, *kind, *ok),
            Action::Adopt { workload, serial, revision, .. } => {
                let template = self.templates.get(&(*workload, *revision)).cloned();
                if let Some(facts) = self.replicas.get_mut(serial) {
                    facts.template = template;
                }
            }
            Action::Stop { key, deadline, cause, .. } => {
                self.falls((key.replica, key.instance), *deadline, action);
                if *cause == StopCause::Finished {
                    let grace = self.replicas.get(&key.replica).and_then(|f| f.template.as_ref());
                    let grace = grace.map_or(0, |t| t.grace.0);
                    self.alone.entry(key.instance).or_insert((at.0, grace));
                }
                if matches!(cause, StopCause::ProbeFailed | StopCause::PostStartFailed) {
                    let grace = self.health_grace(key, *cause);
                    self.stopped_for_health(key, *cause);
                    self.alone.entry(key.instance).or_insert((at.0, grace));
                    self.unhealthy.insert(key.instance);
                }
                if *cause == StopCause::SandboxLost {
                    self.lost.entry(key.instance).or_insert(at.0);
                    if !self.lost_sandboxes.contains(&key.replica) {
                        self.blame(format!("P30: {key} is stopped for its sandbox, which is whole"));
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether a replica is being stopped.
    pub fn is_stopped(&self, serial: u64) -> bool {
        self.replicas.get(&serial).is_none_or(|r| r.stop.is_some())
    }

    /// P6: deadlines only decrease.
    fn falls(&mut self, of: (u64, u64), deadline: Time, action: &Action) {
        let before = self.deadlines.insert(of, deadline);
        if before.is_some_and(|b| b < deadline) {
            self.blame(format!("P6: the deadline moved from {before:?}: {action:?}"));
        }
    }

    fn end(
        &mut self,
        key: &Key,
        status: Option<i32>,
        oom: bool,
        unrecoverable: bool,
        at: Time,
        procs: &BTreeMap<u64, Proc>,
    ) {
        let stopped = self.replicas.get(&key.replica).is_none_or(|r| r.stop.is_some());
        if !self.ended.insert(key.instance) || stopped {
            return;
        }
        let ran = procs.get(&key.instance);
        let end = End {
            at: at.0,
            released: ran.is_some_and(|p| p.released.is_some()),
            executed: ran.is_some_and(|p| p.executed.is_some()),
            // One that was stopped for its health has failed, whatever it says.
            status: status.filter(|_| !oom && !self.unhealthy.contains(&key.instance)),
            unrecoverable,
        };
        self.ends.insert(key.instance, end);
    }

    /// What follows from an exit is decided by the template of the moment of the decision.
    fn settled(&mut self, key: &Key) {
        let Some(end) = self.ends.remove(&key.instance) else { return };
        let Some(facts) = self.replicas.get(&key.replica) else { return };
        // A stop of the replica between the exit and the last process of its cgroup comes first: nothing follows from the exit.
        let Some(template) = facts.template.clone().filter(|_| facts.stop.is_none()) else { return };
        let lost = self.lost.contains_key(&key.instance);
        let policy = policy(&template, key.container as usize);
        let Some(chain) = self.chains.get_mut(&(key.replica, key.container)) else { return };
        if !lost {
            chain.ended(key.instance, end.released, end.status, end.unrecoverable, end.at, &template, policy);
            if end.status == Some(0) && end.released {
                self.order.entry(key.replica).or_default().succeeded.insert(key.container);
                self.job_success(key, &template);
            }
        } else if end.released {
            chain.lost(end.at, !end.executed || policy != RestartPolicy::Never);
        }
    }

    pub fn prepare(&mut self, key: &Key, template: &PodTemplate, procs: &BTreeMap<u64, Proc>) {
        if let Some(facts) = self.replicas.get_mut(&key.replica) {
            // It may have been adopted in the same decision.
            facts.template.get_or_insert_with(|| template.clone());
        }
        self.chains.entry((key.replica, key.container)).or_default();
        let same = |p: &&Proc| {
            (p.key.replica, p.key.container) == (key.replica, key.container) && p.state != State::Ended
        };
        if procs.values().filter(same).count() > usize::from(template.spare) {
            self.blame(format!("P18: {key} is one instance too many"));
        }
    }

    pub fn act(
        &mut self,
        action: &Action,
        key: &Key,
        procs: &BTreeMap<u64, Proc>,
        desired: &Desired,
        observed: &Observed,
        now: u64,
    ) {
        self.actions.push_back(now);
        while self.actions.front().is_some_and(|t| t + 1_000 <= now) {
            self.actions.pop_front();
        }
        if self.actions.len() > ACTIONS_PER_SECOND {
            self.blame("P17: a busy loop".to_owned());
        }
        if self.removed.contains(&key.workload) {
            self.blame(format!("P13: {action:?} after the workload was removed"));
        }
        if self.draining && matches!(action, Action::Prepare { .. } | Action::Release { .. }) {
            self.blame(format!("P26: {key} starts while the host is drained"));
        }
        let Some(p) = procs.get(&key.instance) else {
            if matches!(action, Action::Prepare { .. }) {
                self.count_start(now);
            }
            return;
        };
        match action {
            Action::Release { .. } => self.release(key, procs, desired, observed, now),
            Action::KillCgroup { .. } => self.kill(p, now),
            Action::Signal { signal, .. } => {
                self.signal(p, *signal);
                self.out_of_order(p, procs);
            }
            Action::RunHook { kind: HookKind::PreStop, .. } if p.hooks > 0 || p.signals > 0 => {
                self.blame(format!("P7: preStop of {key} runs twice or late"));
            }
            Action::RunHook { kind: HookKind::PostStart, .. } if p.post_starts > 0 => {
                self.blame(format!("P7: postStart of {key} runs twice"));
            }
            Action::Remove { .. } if p.populated() || p.state == State::Creating => {
                self.blame(format!("P18: {key} is removed while processes are in its cgroup"));
            }
            _ => {}
        }
    }

    /// The rate of starts has a limit.
    fn count_start(&mut self, now: u64) {
        self.starts.push_back(now);
        while self.starts.front().is_some_and(|t| t + 1_000 <= now) {
            self.starts.pop_front();
        }
        let most = self.config.as_ref().map_or(0, |c| c.start_rate + c.start_burst) as usize;
        if self.starts.len() > most + 1 {
            self.blame(format!("storm: {} starts within a second", self.starts.len()));
        }
    }

    fn release(
        &mut self,
        key: &Key,
        procs: &BTreeMap<u64, Proc>,
        desired: &Desired,
        observed: &Observed,
        now: u64,
    ) {
        self.alone(key, procs, observed);
        self.job_starts(key, desired, procs);
        if self.deadline_of(key).is_some() {
            self.blame(format!("{key} starts while it is being stopped"));
        }
        if let Some(w) = desired.workloads.get(&key.workload).filter(|w| w.strategy.recreate && !w.paused) {
            let revision = |k: &Key| observed.replica(k.workload, k.slot, k.replica).map(|r| r.revision);
            let new = revision(key) == Some(w.revision);
            let old = procs.values().find(|p| {
                let other = revision(&p.key).is_some_and(|r| r != w.revision && !w.in_place(r, w.revision));
                p.key.workload == key.workload && p.serves() && other
            });
            if let (true, Some(old)) = (new, old) {
                self.blame(format!(
                    "P23: {key} starts before {} is gone, and the strategy is Recreate",
                    old.key
                ));
            }
        }
        let Some(template) = self.replicas.get(&key.replica).and_then(|r| r.template.clone()) else { return };
        self.in_order(key, &template, procs);
        let problem = self
            .chains
            .get_mut(&(key.replica, key.container))
            .and_then(|c| c.released(key.instance, now, &template));
        if let Some(problem) = problem {
            self.blame(format!("P9: {key} {problem}"));
        }
    }

    /// P5: never before the deadline.
    fn kill(&mut self, p: &Proc, now: u64) {
        if p.state != State::Running || p.killed.is_some() {
            return;
        }
        let Some((deadline, at_once)) = self.deadline_of(&p.key) else {
            return self.blame(format!("P5: {} is killed without a request to stop it", p.key));
        };
        if at_once {
            return;
        }
        if now < deadline {
            self.blame(format!("P5: {} is killed {} ms before its deadline", p.key, deadline - now));
        }
    }

    fn signal(&mut self, p: &Proc, signal: i32) {
        let facts = self.replicas.get(&p.key.replica);
        let template = facts.and_then(|f| f.template.as_ref());
        let right = template.map(|t| t.containers[p.key.container as usize].stop_signal);
        let stopped = self.deadline_of(&p.key).is_some();
        if !stopped || right != Some(signal) {
            self.blame(format!("{} gets signal {signal} and should not", p.key));
        }
        if p.signals > 0 && p.signal_confirmed {
            self.blame(format!("twice: the stop signal of {}", p.key));
        }
    }

    /// What must hold after each turn of a supervisor that is up since `up`.
    pub fn check(&mut self, now: u64, up: u64, procs: &BTreeMap<u64, Proc>) {
        let stays = |p: &&Proc| {
            p.state == State::Running && self.replicas.get(&p.key.replica).is_some_and(|r| r.stop.is_none())
        };
        if let Some(p) = procs.values().filter(|_| self.draining).find(stays) {
            self.blame(format!("P26: {} keeps running while the host is drained", p.key));
        }
        let mut late = None;
        for p in procs.values().filter(|p| p.state == State::Running && p.killed.is_none()) {
            let Some((deadline, _)) = self.deadline_of(&p.key) else { continue };
            let hard = deadline.max(up);
            if p.executed.is_some() && now > hard + SLACK {
                late = Some(format!("P5: {} lives {} ms after its deadline", p.key, now - hard));
            }
        }
        if let Some(late) = late {
            self.blame(late);
        }
    }
}
