//! One run: a plan, the supervisor, the world, and the clock.

use crate::mutants::Mutant;
use crate::plan::{Entry, NAMES, Plan, What};
use crate::process::State;
use crate::proxy::check_map;
use crate::rng::Rng;
use crate::world::{Handle, Sim, Told};
use crate::{crons, jobs};
use orun::supervisor::core::Config;
use orun::supervisor::core::controller::Controller;
use orun::supervisor::core::desired::Change;
use orun::supervisor::core::event::Event;
use orun::supervisor::core::ids::{Key, WorkloadId};
use orun::supervisor::core::model::{Next, Replica, SandboxState};
use orun::supervisor::core::revision::Stamp;
use orun::supervisor::core::time::{Millis, Time};
use orun::supervisor::driver::Supervisor;
use orun::workload::{KeptKind, KeptObject, Metadata};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// How long the world may take to reach the desired state once faults are over: the longest back-off and some.
const CALM: u64 = 20 * 60_000;
/// After the last fault a job may be late for so long, milliseconds.
const LATE_AFTER: u64 = 30_000;
/// Turns at one instant.
const SPIN: u32 = 300;

/// An object that shows which file was applied last.
fn marked(name: &str, mark: u64) -> Change {
    let object = KeptObject {
        api_version: "v1".to_owned(),
        kind: KeptKind::ConfigMap,
        metadata: Metadata { name: name.to_owned(), ..Metadata::default() },
        fields: serde_json::json!({"data": {"mark": mark.to_string()}})
            .as_object()
            .cloned()
            .unwrap_or_default(),
    };
    Change::Keep { object: Box::new(object), stamp: Stamp::default() }
}

pub fn config(seed: u64) -> Config {
    Config { seed, start_rate: 10, start_burst: 5, revision_history: 2, ..Config::default() }
}

pub struct Run {
    sim: Rc<RefCell<Sim>>,
    supervisor: Option<Supervisor<Handle>>,
    config: Config,
    entries: VecDeque<Entry>,
    wake: Option<u64>,
    /// When the supervisor comes back; it is up since.
    back: u64,
    up: u64,
    down_for: u64,
    mutant: Option<Mutant>,
}

/// Runs a plan. The error says which rule was broken.
pub fn run(plan: &Plan, mutant: Option<Mutant>, trace: bool) -> Result<(), (String, Vec<String>)> {
    let config = config(plan.seed);
    let mut sim = Sim::new(plan.seed, plan.slow_disk, mutant, &config);
    sim.trace = trace.then(Vec::new);
    let sim = Rc::new(RefCell::new(sim));
    let mut run = Run {
        sim: Rc::clone(&sim),
        supervisor: None,
        config,
        entries: plan.entries.iter().cloned().map(|e| Entry { at: e.at + 1_000, ..e }).collect(),
        wake: None,
        back: 1_000,
        up: 0,
        down_for: 0,
        mutant,
    };
    let result = run.all(plan.until + 1_000);
    let trace = sim.borrow_mut().trace.take().unwrap_or_default();
    result.map_err(|e| (e, trace))
}

impl Run {
    fn all(&mut self, until: u64) -> Result<(), String> {
        self.until(until)?;
        {
            let mut sim = self.sim.borrow_mut();
            sim.tame = true;
            sim.crash_in = None;
            sim.disk.full_until = 0;
        }
        self.entries.push_back(Entry { at: until + 2, what: What::Drain { on: false } });
        // A CronJob would never come to rest.
        let stop = |name| Entry { at: until + CALM / 2, what: What::Stop { name, stopped: true } };
        let crons: Vec<usize> = (0..NAMES.len()).filter(|n| self.is_cron(*n)).collect();
        self.entries.extend(crons.into_iter().map(stop));
        self.back = self.back.min(until + 1);
        self.until(until + CALM)?;
        self.converged()?;
        self.replays()?;
        self.delete_all()?;
        self.until(until + CALM + 600_000)?;
        self.nothing_left()
    }

    /// Lets the time pass up to `end`, or up to when nothing more can happen.
    fn until(&mut self, end: u64) -> Result<(), String> {
        let (mut at, mut spins) = (0, 0);
        loop {
            let next = self.next();
            let Some(now) = next.filter(|t| *t <= end) else {
                self.sim.borrow_mut().now = end;
                return Ok(());
            };
            (at, spins) = if now == at { (at, spins + 1) } else { (now, 0) };
            if spins > SPIN {
                return Err("P17: the clock does not advance".to_owned());
            }
            self.sim.borrow_mut().now = now;
            self.instant(now)?;
        }
    }

    fn next(&self) -> Option<u64> {
        let sim = self.sim.borrow();
        let own = if self.supervisor.is_some() { self.wake } else { Some(self.back) };
        let entry = self.entries.front().map(|e| e.at);
        [sim.next_at(), entry, own].into_iter().flatten().min().map(|t| t.max(sim.now))
    }

    fn instant(&mut self, now: u64) -> Result<(), String> {
        if self.supervisor.is_none() && now >= self.back {
            self.come_back(now)?;
        }
        let told = self.sim.borrow_mut().fire();
        self.tell(told, now);
        while self.entries.front().is_some_and(|e| e.at <= now) {
            if let Some(entry) = self.entries.pop_front() {
                self.entry(&entry, now);
            }
        }
        self.tell_clock(now);
        if let Some(supervisor) = &mut self.supervisor {
            self.wake = supervisor.turn(Time(now)).map(|t| t.0);
        }
        self.bury();
        let sim = &mut *self.sim.borrow_mut();
        if let Some(supervisor) = &self.supervisor {
            check_map(&supervisor.desired, &supervisor.observed)?;
            if self.wake.is_some_and(|w| w <= now) {
                return Err("P10: a turn left something to do".to_owned());
            }
            sim.oracle.check(now, self.up, &sim.procs);
            let calm = sim.tame && !supervisor.is_writing() && now > self.up + LATE_AFTER;
            sim.wall.check(&supervisor.desired, &supervisor.observed, Time(now), calm)?;
        }
        sim.oracle.broken.take().map_or(Ok(()), Err)?;
        self.whole_files()
    }

    /// What the event loop does before each decision.
    fn tell_clock(&mut self, now: u64) {
        let clock = self.sim.borrow().wall.clock();
        let deaf = self.mutant == Some(Mutant::IgnoresClock);
        let Some(supervisor) = self.supervisor.as_mut().filter(|_| !deaf) else { return };
        let crons = supervisor.desired.workloads.values().any(|w| w.controller.cron.is_some());
        if crons && supervisor.observed.clock.as_ref() != Some(&clock) {
            supervisor.events([Event::ClockSet { clock }], Time(now));
        }
    }

    fn is_cron(&self, name: usize) -> bool {
        let seed = self.sim.borrow().seed;
        jobs::is_job(seed, name) && crons::is_cron(seed, name)
    }

    fn tell(&mut self, told: Vec<Told>, now: u64) {
        let Some(supervisor) = &mut self.supervisor else { return };
        let mut events = Vec::new();
        for t in told {
            match t {
                Told::Event(event) => match self.mutant {
                    Some(mutant) => events.extend(mutant.hears(event)),
                    None => events.push(event),
                },
                Told::Persisted(change, at) => {
                    supervisor.persisted(&change, at, true);
                }
            }
        }
        if !events.is_empty() {
            supervisor.events(events, Time(now));
        }
        if supervisor.world.0.borrow().disk.long() && !supervisor.world.0.borrow().crashed {
            supervisor.world.0.borrow_mut().disk.compact(&supervisor.desired, &supervisor.observed);
        }
    }

    /// A supervisor that died is taken away.
    fn bury(&mut self) {
        if !self.sim.borrow().crashed || self.supervisor.is_none() {
            return;
        }
        self.supervisor = None;
        let mut sim = self.sim.borrow_mut();
        sim.note(|| "the supervisor is dead".to_owned());
        sim.supervisor_died();
        self.back = sim.now + self.down_for;
    }

    fn come_back(&mut self, now: u64) -> Result<(), String> {
        let mut sim = self.sim.borrow_mut();
        sim.crashed = false;
        sim.note(|| "the supervisor is up".to_owned());
        let flip = flip(&sim);
        let mut desired = sim.disk.desired(&self.config, flip);
        if self.mutant == Some(Mutant::ForgetsRuns) {
            desired.workloads.values_mut().for_each(|w| w.runs.last = None);
        }
        let mut observed = sim.disk.observed(flip);
        let keys: Vec<Key> = observed.instances().map(|(key, _)| key).collect();
        if let Some(mutant) = self.mutant {
            mutant.recovered(&mut observed, &desired, Time(now));
        }
        let found: Vec<Event> =
            keys.iter().map(|key| Event::Found { key: *key, found: sim.find(key) }).collect();
        let sandboxes = observed.replicas().filter(|(_, r)| r.sandbox_state() != SandboxState::No);
        let sandboxes = sandboxes.map(|(replica, _)| Event::SandboxFound {
            replica,
            whole: sim.find_sandbox(replica),
            address: crate::sandbox::address(replica),
        });
        let found: Vec<Event> = sandboxes.collect::<Vec<_>>().into_iter().chain(found).collect();
        let unknown = sim.sandboxes.keys().find(|key| observed.replica_of(key).is_none()).copied();
        let stray = sim.procs.values().find(|p| !keys.contains(&p.key)).map(|p| p.key);
        drop(sim);
        if let Some(key) = unknown {
            return Err(format!("P12: the sandbox of {key} exists and no record of it"));
        }
        if let Some(key) = stray {
            return Err(format!("P12: {key} exists and no record of it"));
        }
        let world = Handle(Rc::clone(&self.sim));
        let mut supervisor = Supervisor::new(desired, observed, self.config.clone(), world);
        if !found.is_empty() {
            supervisor.events(found, Time(now));
        }
        self.up = now;
        self.supervisor = Some(supervisor);
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, now: u64) {
        self.sim.borrow_mut().note(|| format!("{:?}", entry.what));
        match &entry.what {
            What::Crash { after_calls, down } => {
                self.down_for = *down;
                self.sim.borrow_mut().crash_in = Some(*after_calls);
            }
            What::KeeperDies => {
                self.sim.borrow_mut().keeper = false;
                if let Some(supervisor) = &mut self.supervisor {
                    supervisor.events([Event::KeeperLost], Time(now));
                }
            }
            What::Drain { on } => {
                if let Some(supervisor) = &mut self.supervisor {
                    supervisor.events([Event::Draining { on: *on }], Time(now));
                }
            }
            What::Reboot { down } => {
                self.down_for = *down;
                let mut sim = self.sim.borrow_mut();
                sim.crashed = true;
                sim.supervisor_died();
                sim.reboot();
            }
            What::ClockSet { by } => {
                self.sim.borrow_mut().wall.set(*by);
            }
            What::DiskFull { lasts } => self.sim.borrow_mut().disk.full_until = now + lasts,
            What::SandboxLost { nth } => {
                let lost = self.sim.borrow_mut().lose_sandbox(*nth);
                if let (Some(replica), Some(supervisor)) = (lost, &mut self.supervisor) {
                    supervisor.events([Event::SandboxLost { replica }], Time(now));
                }
            }
            What::KillInit { nth, oom } => self.sim.borrow_mut().kill_init(*nth, *oom),
            request => self.request(request, now),
        }
    }

    fn request(&mut self, what: &What, now: u64) {
        let ids = NAMES.map(|n| self.supervisor.as_ref().and_then(|s| Some(s.desired.by_name(n)?.0)));
        let id = |name: &usize| ids[*name];
        let change = match what {
            What::Apply { name, replicas, strategy, template, controller, file, depends_on } => {
                let apply = Change::Apply {
                    name: NAMES[*name].to_owned(),
                    replicas: *replicas,
                    strategy: *strategy,
                    controller: Controller {
                        depends_on: depends_on.clone(),
                        ..Controller::clone(controller)
                    },
                    paused: None,
                    template: template.clone(),
                    source: serde_json::Value::Null,
                    stamp: Stamp { at: self.sim.borrow().wall.at(now), cause: String::new() },
                };
                match file {
                    Some(mark) if self.mutant == Some(Mutant::SplitsFiles) => {
                        self.ask(marked("a", *mark), now);
                        self.ask(apply, now);
                        Some(marked("b", *mark))
                    }
                    Some(mark) => {
                        let changes = vec![marked("a", *mark), apply, marked("b", *mark)];
                        Some(Change::All { changes })
                    }
                    None => Some(apply),
                }
            }
            What::Pause { name, paused } => {
                id(name).map(|workload| Change::Pause { workload, paused: *paused })
            }
            What::Stop { name, stopped } => {
                id(name).map(|workload| Change::Stop { workload, stopped: *stopped })
            }
            What::Undo { name, to } => {
                id(name).map(|workload| Change::Undo { workload, to: *to, stamp: Stamp::default() })
            }
            What::Scale { name, replicas } => {
                id(name).map(|workload| Change::Scale { workload, replicas: *replicas })
            }
            What::Restart { name, slot } => {
                id(name).map(|workload| Change::Restart { workload, slot: *slot, stamp: Stamp::default() })
            }
            What::Delete { name, grace } => {
                id(name).map(|workload| Change::Delete { workload, grace: grace.map(Millis) })
            }
            _ => None,
        };
        if let Some(change) = change {
            self.ask(change, now);
        }
    }

    fn ask(&mut self, change: Change, now: u64) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.request(change, Time(now));
        }
    }

    /// P28: of each file there is all or nothing.
    fn whole_files(&self) -> Result<(), String> {
        let Some(s) = &self.supervisor else { return Ok(()) };
        let mark = |name| {
            s.desired.objects.get(KeptKind::ConfigMap, name).and_then(|e| e.object.data().remove("mark"))
        };
        let (a, b) = (mark("a"), mark("b"));
        if a == b { Ok(()) } else { Err(format!("P28: half of a file was applied: {a:?} and {b:?}")) }
    }

    /// P1: the desired state is reached, and nothing else exists.
    fn converged(&self) -> Result<(), String> {
        let Some(s) = &self.supervisor else { return Err("P1: no supervisor".to_owned()) };
        let sim = self.sim.borrow();
        let mut running = 0;
        for (id, w) in &s.desired.workloads {
            if w.deletion.is_some() {
                return Err(format!("P1: {} is still being deleted", w.name));
            }
            let mut settled = 0;
            let slots = s.observed.workloads.get(id);
            // A rollout waits for ever for a replica that will never be ready.
            let stalled = w.paused
                || slots.is_some_and(|x| {
                    let replicas = x.slots.values().flat_map(|slot| &slot.replicas);
                    replicas.into_iter().any(|r| r.revision == w.revision && failed_for_good(r))
                });
            for (n, slot) in slots.into_iter().flat_map(|x| &x.slots) {
                let [replica] = slot.replicas.as_slice() else {
                    running += slot.replicas.iter().map(live_containers).sum::<usize>();
                    settled += usize::from(stalled && slot.replicas.len() == 2);
                    settled += usize::from(slot.replicas.is_empty() && w.completed.contains_key(n));
                    continue;
                };
                let live = live_containers(replica);
                let ended = |n: Next| matches!(n, Next::Done { .. } | Next::GivenUp);
                let over = replica.is_over() || (!replica.initialized && failed_for_good(replica));
                let rest = replica
                    .containers
                    .iter()
                    .filter(|c| c.lives().is_none() && (over || ended(c.restart.next)));
                let right = (replica.revision == w.revision || stalled) && replica.stop.is_none();
                settled += usize::from(right && live + rest.count() == replica.containers.len());
                running += live;
            }
            // It waits, perhaps for ever, for one that will not be so far.
            if crate::depends::missing(w, &s.desired, &s.observed).is_some() {
                continue;
            }
            let absent = |n: &&u32| slots.is_none_or(|x| !x.slots.contains_key(n));
            settled += w.completed.keys().filter(absent).count();
            jobs::converged(w, slots)?;
            let desired = if w.controller.job.is_some() { 0 } else { w.desired_replicas() as usize };
            if settled < desired
                || (settled > desired && w.completed.is_empty() && w.controller.job.is_none())
            {
                return Err(format!("P1: {} has {settled} of {desired} replicas", w.name));
            }
        }
        let there = sim.procs.values().filter(|p| p.state == State::Running).count();
        if there != running {
            return Err(format!("P1: {there} programs run, {running} are known"));
        }
        let ready = |r: &Replica| r.sandbox_state() == SandboxState::Ready;
        let sandboxes = s.observed.replicas().filter(|(_, r)| ready(r)).count();
        if sandboxes != sim.sandboxes.len() {
            return Err(format!("P30: {} sandboxes on the host, {sandboxes} known", sim.sandboxes.len()));
        }
        let known = s.observed.instances().count();
        if known != sim.procs.len() {
            return Err(format!("P18: {} containers on the host, {known} known", sim.procs.len()));
        }
        Ok(())
    }

    /// P11: the journals say what is in memory.
    fn replays(&self) -> Result<(), String> {
        let Some(s) = &self.supervisor else { return Ok(()) };
        let mut sim = self.sim.borrow_mut();
        let flip = flip(&sim);
        if sim.disk.observed(flip) != s.observed {
            return Err("P11: the runtime journal and the state differ".to_owned());
        }
        if sim.disk.desired(&self.config, flip) != s.desired {
            return Err("P11: the durable journal and the state differ".to_owned());
        }
        Ok(())
    }

    fn delete_all(&mut self) -> Result<(), String> {
        let Some(s) = &mut self.supervisor else { return Ok(()) };
        let now = Time(self.sim.borrow().now);
        let ids: Vec<WorkloadId> = s.desired.workloads.keys().copied().collect();
        for workload in ids {
            s.request(Change::Delete { workload, grace: None }, now);
        }
        self.instant(now.0)
    }

    /// P18: everything is gone.
    fn nothing_left(&self) -> Result<(), String> {
        let Some(s) = &self.supervisor else { return Err("P18: no supervisor".to_owned()) };
        let sim = self.sim.borrow();
        let procs = &sim.procs;
        if !sim.sandboxes.is_empty() {
            return Err(format!("P30: left over: {} sandboxes", sim.sandboxes.len()));
        }
        if !sim.proxy.map.is_empty() {
            return Err(format!("P20: left over: {:?}", sim.proxy.map));
        }
        if !procs.is_empty() || !s.desired.workloads.is_empty() || !s.observed.workloads.is_empty() {
            return Err(format!(
                "P18: left over: {} containers, {} workloads, {} known",
                procs.len(),
                s.desired.workloads.len(),
                s.observed.workloads.len()
            ));
        }
        Ok(())
    }
}

/// The bit that is flipped at this moment. Not drawn from the world's chance: that goes its way without it.
fn flip(sim: &Sim) -> u64 {
    Rng::of(sim.seed ^ sim.now, 7).next()
}

fn live_containers(replica: &Replica) -> usize {
    replica.containers.iter().filter(|c| c.lives().is_some()).count()
}

fn failed_for_good(replica: &Replica) -> bool {
    let failed = |n: Next| matches!(n, Next::Done { failed: true } | Next::GivenUp);
    replica.containers.iter().any(|c| failed(c.restart.next))
}
