//! What counts as available, how many must be, and how many may run in one slot, in the words of the checks.

use crate::oracle::Oracle;
use crate::process::{Proc, State};
use orun::supervisor::core::desired::{Desired, Workload};
use orun::supervisor::core::ids::{Key, ReplicaKey};
use orun::supervisor::core::model::{Container, Next, Observed, Replica};
use orun::supervisor::core::spec::{Back, IntOrPercent, Role};
use orun::supervisor::core::time::{Millis, Time};
use std::collections::BTreeMap;

impl Oracle {
    /// A replica is to be added: notes those in its slot that the strategy of this moment puts it beside.
    pub fn put_beside(&mut self, key: &ReplicaKey, desired: &Desired, observed: &Observed) {
        let surge = desired.workloads.get(&key.workload).is_some_and(|w| limits(w).0 > 0);
        let slot = observed.replicas().filter(|(k, _)| (k.workload, k.slot) == (key.workload, key.slot));
        let others = slot.filter(|(_, r)| surge && r.stop.is_none()).map(|(_, r)| r.serial).collect();
        // A decision that was lost with its supervisor may have used the number before.
        self.surged.insert(key.serial, others);
    }

    /// P3: nothing else of the slot runs this container, unless both replicas were put beside each other in a surge: they
    /// run on then, and run again, whatever a later strategy allows.
    pub fn alone(&mut self, key: &Key, procs: &BTreeMap<u64, Proc>, observed: &Observed) {
        for other in procs.values().filter(|p| p.key.instance != key.instance && p.serves()) {
            let o = other.key;
            if (o.workload, o.slot, o.container) != (key.workload, key.slot, key.container) {
                continue;
            }
            let revision = |k: &Key| observed.replica(k.workload, k.slot, k.replica).map(|r| r.revision);
            let stopping = observed.replica(o.workload, o.slot, o.replica).is_none_or(|r| r.stop.is_some());
            let (older, newer) = (key.replica.min(o.replica), key.replica.max(o.replica));
            let surged = self.surged.get(&newer).is_some_and(|others| others.contains(&older));
            if o.replica == key.replica || stopping || !surged || revision(&o) == revision(key) {
                self.blame(format!("P3: {key} starts while {o} lives"));
            }
        }
    }
}

/// How many more than desired there may be, and how many of them may be missing: as Kubernetes has it.
pub fn limits(w: &Workload) -> (u32, u32) {
    let wanted = f64::from(w.desired_replicas());
    let share = |n: IntOrPercent, round: fn(f64) -> f64| match n {
        IntOrPercent::Int(n) => n,
        IntOrPercent::Percent(p) => round(wanted * f64::from(p) / 100.0) as u32,
    };
    let (surge, down) = match returns(w) {
        Some(b) => (b.max_surge, b.max_unavailable),
        None => (w.strategy.max_surge, w.strategy.max_unavailable),
    };
    match (w.strategy.recreate, share(surge, f64::ceil), share(down, f64::floor)) {
        (true, _, _) => (0, w.desired_replicas()),
        (false, 0, 0) => (0, 1),
        (false, surge, down) => (surge, down),
    }
}

/// What it says about the way back, if it is on that.
fn returns(w: &Workload) -> Option<Back> {
    w.strategy.back.filter(|_| w.history.get(&w.revision).is_some_and(|k| k.back))
}

/// How many replicas of the desired revision a rollout does without: those that have failed three times in a row or for
/// good, if they are not more than may fail.
pub fn given_up(w: &Workload, observed: &[&Replica], procs: &BTreeMap<u64, Proc>, now: Time) -> u32 {
    let most = returns(w).map_or(w.strategy.max_failures, |b| b.max_failures);
    let most = match most {
        IntOrPercent::Int(n) => n.min(w.desired_replicas()),
        IntOrPercent::Percent(p) => w.desired_replicas() * p.min(100) / 100,
    };
    let hopeless = |c: &Container| {
        c.restart.failures + c.restart.cleans >= 3
            || matches!(c.restart.next, Next::GivenUp | Next::Done { failed: true })
    };
    let fails = |r: &&&Replica| {
        let new = r.revision == w.revision || (!w.paused && w.in_place(r.revision, w.revision));
        new && r.stop.is_none() && r.containers.iter().any(hopeless) && !available(r, w, procs, now)
    };
    let failing = observed.iter().filter(fails).count() as u32;
    if failing <= most { failing } else { 0 }
}

/// Whether all containers of a replica have run their program for long enough, or exited successfully.
pub fn available(replica: &Replica, w: &Workload, procs: &BTreeMap<u64, Proc>, now: Time) -> bool {
    let min_ready = returns(w).map_or(w.strategy.min_ready, |b| b.min_ready).unwrap_or(Millis(1_000));
    let Some(template) = w.revisions.get(&replica.revision) else { return false };
    // Sidecars go once the main containers have done their work.
    let done = |c: &Container| c.restart.next == Next::Done { failed: false };
    if replica.containers.iter().filter(|c| c.role == Role::Main).all(done) {
        return true;
    }
    replica.containers.iter().zip(0..).all(|(container, index)| {
        // One that has failed proves itself by running for longer than it would have to wait now.
        let (ends, b) = (container.restart.failures + container.restart.cleans, &template.backoff);
        let wait = b.initial.0 as f64 * b.factor.powi(ends.min(1000) as i32 - 1);
        let wait = if ends == 0 { 0 } else { (wait as u64).min(b.max.0) };
        let min_ready = Millis(min_ready.0.max(wait));
        let ended_well = container.restart.next == Next::Done { failed: false };
        ended_well
            || procs.values().any(|p| {
                (p.key.replica, p.key.container) == (replica.serial, index)
                    && p.state == State::Running
                    && !p.stopping
                    && p.ready.is_some_and(|t| t + min_ready.0 <= now.0)
            })
    })
}
