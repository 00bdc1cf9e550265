//! The model of the host: what the supervisor's actions do to it, and which events it returns.

use crate::crons::{Wall, scheduled};
use crate::disk::Disk;
use crate::mutants::Mutant;
use crate::oracle::Oracle;
use crate::process::{End, Failure, Proc, Script, State};
use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::sandbox::Sandbox;
use orun::supervisor::core::Config;
use orun::supervisor::core::action::{Action, Notice};
use orun::supervisor::core::checks::{HookKind, ProbeKind};
use orun::supervisor::core::desired::{Change, Desired};
use orun::supervisor::core::event::{Event, InspectedState, Record};
use orun::supervisor::core::exit::{StartError, WaitStatus};
use orun::supervisor::core::ids::{Key, ReplicaKey};
use orun::supervisor::core::model::{Observed, Process};
use orun::supervisor::core::publication::Route;
use orun::supervisor::core::reconcile::{Step, reconcile};
use orun::supervisor::core::spec::{ImageFacts, Role};
use orun::supervisor::core::time::Time;
use orun::supervisor::driver::{Persisted, World};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Something that will happen on the host. Answers belong to one life of the supervisor and are lost with it.
#[derive(Debug, Clone)]
pub enum Occurrence {
    Prepared { life: u32, id: u64 },
    Executed { life: u32, id: u64, released: u64 },
    Ends { id: u64, status: i32, oom: bool },
    OthersGone { id: u64 },
    Empty { id: u64 },
    Answer { life: u32, event: Event },
    HookDone { life: u32, id: u64, kind: HookKind },
    Probed { life: u32, id: u64, kind: ProbeKind, n: u32 },
    Removed { life: u32, id: u64 },
    SandboxMade { life: u32, replica: ReplicaKey },
    SandboxGone { life: u32, replica: ReplicaKey },
    Persisted { life: u32, change: Change, at: Time },
    MapArrives { generation: u64, map: Vec<Route> },
}

/// What an occurrence means for the supervisor.
pub enum Told {
    Event(Event),
    Persisted(Change, Time),
}

pub struct Sim {
    pub now: u64,
    pub seed: u64,
    pub rng: Rng,
    pub procs: BTreeMap<u64, Proc>,
    used: BTreeSet<u64>,
    pub sandboxes: BTreeMap<ReplicaKey, Sandbox>,
    pub proxy: Proxy,
    pub wall: Wall,
    pub disk: Disk,
    queue: BTreeMap<(u64, u64), Occurrence>,
    sequence: u64,
    /// The supervisor dies in that many calls; it is dead.
    pub crash_in: Option<u32>,
    pub crashed: bool,
    pub life: u32,
    pub keeper: bool,
    pub slow_disk: bool,
    /// No more faults: programs run for ever, nothing fails.
    pub tame: bool,
    pub oracle: Oracle,
    pub mutant: Option<Mutant>,
    /// Printed at the end, on request.
    pub trace: Option<Vec<String>>,
}

impl Sim {
    pub fn new(seed: u64, slow_disk: bool, mutant: Option<Mutant>, config: &Config) -> Sim {
        Sim {
            now: 1_000,
            seed,
            rng: Rng::of(seed, 2),
            procs: BTreeMap::new(),
            used: BTreeSet::new(),
            sandboxes: BTreeMap::new(),
            proxy: Proxy::default(),
            wall: Wall::new(seed),
            disk: Disk::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            crash_in: None,
            crashed: false,
            life: 0,
            keeper: true,
            slow_disk,
            tame: false,
            oracle: Oracle::new(config),
            mutant,
            trace: None,
        }
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>8} {}", self.now, text()));
        }
    }

    pub fn after(&mut self, delay: u64, what: Occurrence) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), what);
    }

    pub fn next_at(&self) -> Option<u64> {
        self.queue.keys().next().map(|k| k.0)
    }

    /// Everything that happens now.
    pub fn fire(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let what = entry.remove();
            self.occur(what, &mut told);
        }
        told
    }

    fn occur(&mut self, what: Occurrence, told: &mut Vec<Told>) {
        match what {
            Occurrence::Prepared { life, id } if life == self.life => self.prepared(id, told),
            Occurrence::Executed { life, id, released } => self.executed(life, id, released, told),
            Occurrence::Ends { id, status, oom } => self.ends(id, status, oom, told),
            Occurrence::OthersGone { id } => {
                if let Some(p) = self.procs.get_mut(&id).filter(|p| p.others) {
                    p.others = false;
                    if !p.init_lives() {
                        told.push(Told::Event(Event::CgroupEmpty { key: p.key }));
                    }
                }
            }
            Occurrence::Empty { id } => {
                if let Some(p) = self.procs.get(&id).filter(|p| !p.populated()) {
                    told.push(Told::Event(Event::CgroupEmpty { key: p.key }));
                }
            }
            Occurrence::MapArrives { generation, map } => self.map_arrives(generation, map),
            Occurrence::Answer { life, event } if life == self.life => told.push(Told::Event(event)),
            Occurrence::HookDone { life, id, kind } if life == self.life => {
                let tame = self.tame;
                let Some(p) = self.procs.get(&id).filter(|p| p.init_lives()) else { return };
                let error = (p.script.hook_fails && !tame).then(|| "exit code 1".to_owned());
                told.push(Told::Event(Event::HookDone { key: p.key, kind, error }));
            }
            Occurrence::Probed { life, id, kind, n } if life == self.life => self.probed(id, kind, n, told),
            Occurrence::Removed { life, id } if life == self.life => {
                let Some(p) = self.procs.get(&id) else { return };
                let key = p.key;
                if !self.tame && self.rng.percent(5) {
                    let error = Some("device or resource busy".to_owned());
                    told.push(Told::Event(Event::Removed { key, error }));
                } else {
                    self.procs.remove(&id);
                    told.push(Told::Event(Event::Removed { key, error: None }));
                }
            }
            Occurrence::SandboxMade { life, replica } if life == self.life => {
                self.sandbox_made(replica, told)
            }
            Occurrence::SandboxGone { life, replica } if life == self.life => {
                self.sandbox_gone(replica, told)
            }
            Occurrence::Persisted { life, change, at } if life == self.life => {
                self.make_durable(&change, at);
                told.push(Told::Persisted(change, at));
            }
            _ => {}
        }
    }

    fn prepared(&mut self, id: u64, told: &mut Vec<Told>) {
        let Some(p) = self.procs.get_mut(&id).filter(|p| p.state == State::Creating) else { return };
        let key = p.key;
        if p.killed.is_some() || p.script.prepare_error.is_some() {
            p.state = State::Ended;
            let error = start_error(p.script.prepare_error);
            told.push(Told::Event(Event::StartFailed { key, error }));
        } else {
            p.state = State::Created;
            let process = Process { pid: id as i32, pidfd_inode: id, start_time: self.now };
            let probes = p.script.probes.clone().map(Box::new);
            let image = probes.is_some().then(|| Box::new(ImageFacts { probes, ..ImageFacts::default() }));
            told.push(Told::Event(Event::Prepared { key, process, image }));
        }
    }

    fn executed(&mut self, life: u32, id: u64, released: u64, told: &mut Vec<Told>) {
        let now = self.now;
        let Some(p) = self.procs.get_mut(&id).filter(|p| p.state == State::Running) else { return };
        if p.executed.is_some() || p.released != Some(released) {
            return;
        }
        let key = p.key;
        if p.script.start_error.is_some() {
            p.state = State::Ended;
            if life == self.life {
                let error = start_error(p.script.start_error);
                told.push(Told::Event(Event::StartFailed { key, error }));
            }
            return;
        }
        p.executed = Some(now);
        let life_time = p.script.life;
        if life == self.life {
            told.push(Told::Event(Event::Started { key }));
        }
        if let Some((after, end)) = life_time {
            let (status, oom) = end.status();
            self.after(after, Occurrence::Ends { id, status, oom });
        }
    }

    fn ends(&mut self, id: u64, status: i32, oom: bool, told: &mut Vec<Told>) {
        let (keeper, up) = (self.keeper, !self.crashed);
        let Some(p) = self.procs.get_mut(&id).filter(|p| p.init_lives()) else { return };
        p.state = State::Ended;
        p.status = Some(status);
        p.oom |= oom;
        p.seen = keeper || up;
        p.others = p.executed.is_some() && p.script.lingers.is_some() && p.killed.is_none();
        let (key, lingers, oom) = (p.key, p.script.lingers, p.oom);
        let status = Some(WaitStatus(status));
        told.push(Told::Event(Event::Exited { key, status, oom }));
        if let Some(lingers) = lingers.filter(|_| p.others) {
            if lingers != u64::MAX {
                self.after(lingers, Occurrence::OthersGone { id });
            }
        } else if self.rng.percent(80) {
            told.push(Told::Event(Event::CgroupEmpty { key }));
        } else {
            let delay = self.rng.between(0, 3);
            self.after(delay, Occurrence::Empty { id });
        }
    }

    fn probed(&mut self, id: u64, kind: ProbeKind, n: u32, told: &mut Vec<Told>) {
        let Some(p) = self.procs.get(&id) else { return };
        let since = p.executed.map_or(0, |at| self.now - at);
        let answers = p.script.answers[kind as usize];
        let ok = match (p.init_lives(), self.tame) {
            (false, _) => Some(false),
            (true, true) => Some(true),
            (true, false) => answers.at(since, &mut self.rng),
        };
        let error = (ok != Some(true)).then(|| "connection refused".to_owned());
        told.push(Told::Event(Event::Probed { key: p.key, kind, n, ok, error }));
    }

    fn make_durable(&mut self, change: &Change, at: Time) {
        self.disk.write_durable(change, at);
        self.oracle.durable(change, at);
    }

    /// One call of the supervisor into the world; false when it died before or in it.
    fn call(&mut self) -> bool {
        if let Some(left) = &mut self.crash_in {
            if *left == 0 {
                self.crash_in = None;
                self.crashed = true;
            } else {
                *left -= 1;
            }
        }
        !self.crashed
    }

    /// The supervisor is dead: its workers died in the middle of what they did.
    pub fn supervisor_died(&mut self) {
        self.life += 1;
        self.crash_in = None;
        let ids: Vec<u64> = self.procs.keys().copied().collect();
        for id in ids {
            let half = self.rng.percent(50);
            let Some(p) = self.procs.get_mut(&id) else { continue };
            if let (State::Running, None, Some(released)) = (p.state, p.executed, p.released) {
                if half {
                    p.state = State::Created;
                    p.released = None;
                } else {
                    self.executed(0, id, released, &mut Vec::new());
                }
            } else if p.removing && half {
                self.procs.remove(&id);
            } else {
                p.removing = false;
            }
        }
        let writing: Vec<(Change, Time)> = self
            .queue
            .values()
            .filter_map(|o| match o {
                Occurrence::Persisted { change, at, .. } => Some((change.clone(), *at)),
                _ => None,
            })
            .collect();
        // What was about to be executed is settled above.
        self.queue.retain(|_, o| !matches!(o, Occurrence::Persisted { .. } | Occurrence::Executed { .. }));
        for (change, at) in writing {
            if self.rng.percent(50) && !self.disk.torn() {
                self.make_durable(&change, at);
            }
        }
    }

    pub fn reboot(&mut self) {
        self.procs.clear();
        self.used.clear();
        self.sandboxes.clear();
        self.proxy = Proxy::default();
        self.queue.clear();
        self.disk.reboot();
        self.keeper = true;
        self.oracle.reboot();
    }

    /// What remains of an instance after a restart of the supervisor; half-made things are removed.
    pub fn find(&mut self, key: &Key) -> InspectedState {
        let Some(p) = self.procs.get(&key.instance) else { return InspectedState::Nothing };
        let process = Process { pid: key.instance as i32, pidfd_inode: key.instance, start_time: 0 };
        match p.state {
            State::Creating => {
                self.procs.remove(&key.instance);
                InspectedState::Nothing
            }
            State::Created => InspectedState::Created { process },
            State::Running => InspectedState::Running { process },
            State::Ended => {
                let status = p.status.filter(|_| p.seen).map(WaitStatus);
                InspectedState::Ended { status, oom: p.oom, empty: !p.others }
            }
        }
    }

    /// Somebody sends SIGKILL to a running init.
    pub fn kill_init(&mut self, nth: u64, oom: bool) {
        let alive: Vec<u64> = self.procs.iter().filter(|(_, p)| p.init_lives()).map(|(id, _)| *id).collect();
        if !alive.is_empty() {
            let id = alive[(nth % alive.len() as u64) as usize];
            self.after(0, Occurrence::Ends { id, status: libc::SIGKILL, oom });
        }
    }

    fn do_prepare(&mut self, key: &Key, action: &Action, desired: &Desired) {
        let Action::Prepare { revision, .. } = action else { return };
        let template = desired.workloads.get(&key.workload).and_then(|w| w.revisions.get(revision));
        let Some(template) = template else {
            return self.oracle.blame(format!("prepare of {key}: no template"));
        };
        if !self.used.insert(key.instance) {
            self.oracle.blame(format!("P4: the name of {key} is used again"));
        }
        if template.sandbox.is_some() && !self.has_sandbox(&key.of_replica()) {
            self.oracle.blame(format!("P30: {key} is made without its sandbox"));
        }
        let kind = &template.containers[key.container as usize].launch.bundle;
        let mut rng = Rng::of(self.seed, key.instance);
        let mut script = if self.tame { Script::tame() } else { Script::new(kind, &mut rng) };
        if template.containers[key.container as usize].role == Role::Init && self.tame {
            script.life = Some((5, End::Exit(0)));
        }
        if template.containers[key.container as usize].role == Role::Init {
            script.probes = None;
        }
        let delay = script.prepare;
        self.oracle.prepare(key, template, &self.procs);
        self.procs.insert(key.instance, Proc::new(*key, script));
        self.after(delay, Occurrence::Prepared { life: self.life, id: key.instance });
    }

    fn do_to(&mut self, key: &Key, action: &Action) {
        let (now, life, id) = (self.now, self.life, key.instance);
        let Some(p) = self.procs.get_mut(&id) else {
            return self.oracle.blame(format!("P4: {action:?} of what is not there"));
        };
        match action {
            Action::Release { checks, .. } => {
                p.checks = *checks;
                p.state = State::Running;
                p.released = Some(now);
                let delay = p.script.start;
                self.after(delay, Occurrence::Executed { life, id, released: now });
            }
            Action::Signal { .. } => {
                p.signals += 1;
                p.signalled = Some(now);
                let term = p.script.term.filter(|_| p.state == State::Running && p.executed.is_some());
                if let Some(delay) = term {
                    let end = self.rng.pick(&[End::Exit(0), End::Exit(143), End::Signal(15)]);
                    self.after(delay, Occurrence::Ends { id, status: end.status().0, oom: false });
                }
                self.after(0, Occurrence::Answer { life, event: Event::Signalled { key: *key } });
            }
            Action::KillCgroup { .. } => {
                p.killed = Some(now);
                let delay = if self.tame { 3 } else { p.script.kill };
                match p.state {
                    State::Creating => self.after(1, Occurrence::Prepared { life, id }),
                    State::Created | State::Running => {
                        self.after(delay, Occurrence::Ends { id, status: libc::SIGKILL, oom: false });
                    }
                    State::Ended => {}
                }
                self.after(delay, Occurrence::OthersGone { id });
            }
            Action::RunHook { kind, .. } => {
                match kind {
                    HookKind::PostStart => p.post_starts += 1,
                    HookKind::PreStop => p.hooks += 1,
                }
                // A postStart that never ends would keep the container from being ready for ever.
                let endless = *kind == HookKind::PostStart && p.script.hook.is_none();
                let hook = if self.tame || endless { Some(20) } else { p.script.hook };
                if let Some(delay) = hook {
                    self.after(delay, Occurrence::HookDone { life, id, kind: *kind });
                }
            }
            Action::Probe { kind, n, .. } => {
                let delay = if self.tame { 3 } else { p.script.answer };
                self.after(delay, Occurrence::Probed { life, id, kind: *kind, n: *n });
            }
            Action::Update { .. } => {
                let delay = self.rng.between(0, 5);
                self.after(
                    delay,
                    Occurrence::Answer { life, event: Event::Updated { key: *key, error: None } },
                );
            }
            Action::Remove { .. } => {
                p.removing = true;
                let delay = self.rng.between(1, 5);
                self.after(delay, Occurrence::Removed { life, id });
            }
            _ => {}
        }
    }
}

fn start_error(failure: Option<Failure>) -> StartError {
    let unrecoverable = failure == Some(Failure::Unrecoverable);
    StartError { message: "no such file or directory".to_owned(), unrecoverable, image: None }
}

/// The world as the supervisor holds it.
#[derive(Clone)]
pub struct Handle(pub Rc<RefCell<Sim>>);

impl World for Handle {
    fn record(&mut self, records: &[Record]) {
        let sim = &mut *self.0.borrow_mut();
        if sim.crashed {
            return;
        }
        let whole = sim.call();
        let written = if whole { records.len() } else { sim.rng.below(records.len() as u64 + 1) as usize };
        let kept: Vec<Record> =
            records[..written].iter().filter(|r| sim.mutant.is_none_or(|m| m.records(r))).cloned().collect();
        for record in &kept {
            sim.note(|| format!("{:?}", record.event));
        }
        sim.disk.write_runtime(&kept);
        let (oracle, procs) = (&mut sim.oracle, &mut sim.procs);
        oracle.record(&kept, procs);
    }

    fn persist(&mut self, change: &Change, at: Time) -> Persisted {
        let sim = &mut *self.0.borrow_mut();
        if sim.crashed {
            return Persisted::No;
        }
        sim.note(|| format!("persist {change:?}"));
        if let Err(early) = scheduled(change).map_or(Ok(()), |t| sim.wall.check_made(t, sim.now)) {
            sim.oracle.blame(early);
        }
        if !sim.call() {
            match sim.rng.below(3) {
                0 => sim.make_durable(change, at),
                1 => {
                    let length = sim.rng.next() as usize;
                    sim.disk.write_torn(change, at, length);
                }
                _ => {}
            }
            return Persisted::No;
        }
        if sim.now < sim.disk.full_until {
            return Persisted::No;
        }
        if sim.slow_disk {
            let (life, delay) = (sim.life, sim.rng.between(1, 30));
            sim.after(delay, Occurrence::Persisted { life, change: change.clone(), at });
            return Persisted::Later;
        }
        sim.make_durable(change, at);
        Persisted::Yes
    }

    fn act(&mut self, action: &Action, desired: &Desired, observed: &Observed) {
        let sim = &mut *self.0.borrow_mut();
        if sim.crashed || !sim.call() {
            return;
        }
        sim.note(|| format!("do {action:?}"));
        if let Some(replica) = action.sandbox() {
            return sim.do_sandbox(action, replica);
        }
        sim.do_publish(action);
        let Some(key) = action.key() else { return };
        if matches!(action, Action::Signal { .. } | Action::RunHook { .. }) {
            sim.asks_to_end(&key, observed);
        }
        let (oracle, procs) = (&mut sim.oracle, &sim.procs);
        oracle.act(action, &key, procs, desired, observed, sim.now);
        match action {
            Action::Prepare { .. } => sim.do_prepare(&key, action, desired),
            _ => sim.do_to(&key, action),
        }
    }

    fn emit(&mut self, notice: Notice) {
        let sim = &mut *self.0.borrow_mut();
        sim.note(|| format!("notice {:?}: {}", notice.reason, notice.message));
    }

    fn decide(&self, desired: &Desired, observed: &Observed, now: Time, config: &Config) -> Step {
        let sim = &mut *self.0.borrow_mut();
        let decide = || match sim.mutant {
            Some(mutant) => mutant.decide(desired, observed, now, config),
            None => reconcile(desired, observed, now, config),
        };
        let step = decide();
        if now.0.is_multiple_of(16) && step != decide() {
            sim.oracle.blame("P10: two decisions from the same state differ".to_owned());
        }
        // It died in this turn, with a part of its records: what it still decides has no effect.
        if !sim.crashed {
            sim.oracle.decided(&step, desired, observed, &sim.procs, now);
        }
        step
    }
}
