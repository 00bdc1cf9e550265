//! How many replicas there are, and in which slots.

use super::action::Action;
use super::desired::{Change, Workload};
use super::exit::{ExitClass, StopCause};
use super::ids::WorkloadId;
use super::model::{Container, Next, Replica, ReplicaSlots, Slot};
use super::pass::{Pass, add, stop_one};
use super::spec::Role;
use super::time::{Millis, Time};
use super::{job, order, rollout};
use std::collections::BTreeSet;

/// An hour: how far back restarts count when a replica is chosen to go.
const RECENT: Millis = Millis::secs(3600);

impl Slot {
    /// The newest replica that is not stopping.
    pub fn current(&self) -> Option<&Replica> {
        self.replicas.iter().rev().find(|r| r.stop.is_none())
    }
}

/// Adds, replaces and stops replicas of a workload that is not being deleted.
pub fn plan(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, slots: &ReplicaSlots) {
    let mut taken: BTreeSet<u32> =
        slots.slots.iter().filter(|(_, s)| s.current().is_some()).map(|(n, _)| *n).collect();
    taken.extend(workload.completed.keys());
    // Completions of a job stay, also while the job is stopped.
    let is_job = workload.controller.job.is_some();
    let ending: BTreeSet<u32> =
        slots.slots.iter().filter(|(n, s)| is_job && is_done(workload, **n, s)).map(|(n, _)| *n).collect();
    taken.extend(&ending);
    let done = |n: &u32| is_job && (workload.completed.contains_key(n) || ending.contains(n));
    let may_go: BTreeSet<u32> = taken.iter().filter(|n| !done(n)).copied().collect();
    let many = taken.len().saturating_sub(workload.desired_replicas() as usize);
    let surplus = match workload.controller.stateful {
        true => order::surplus(&may_go, workload, slots),
        false => victims(&may_go, workload, slots, many, pass),
    };
    for slot in surplus {
        taken.remove(&slot);
        stop_slot(pass, id, workload, slots, slot, StopCause::ScaledDown);
        if workload.completed.contains_key(&slot) {
            pass.push(Action::Persist { change: Change::Vacated { workload: id, slot } });
        }
    }
    if !pass.waiting.contains(&id) {
        fill(pass, id, workload, slots, &mut taken);
        rollout::replace(pass, id, workload, slots, &taken);
    }
    for (slot, s) in &slots.slots {
        if s.replicas.is_empty() && !taken.contains(slot) {
            pass.push(Action::DropSlot { workload: id, slot: *slot });
        }
    }
}

/// Whether the work of a job's slot is done by a replica that is being stopped: only its sidecars have not exited.
fn is_done(workload: &Workload, slot: u32, s: &Slot) -> bool {
    let again = workload.restarts.get(&slot).copied().unwrap_or(0);
    s.replicas.iter().any(|r| {
        let mut mains = r.containers.iter().filter(|c| c.role == Role::Main);
        let current = r.revision == workload.revision && r.restarts >= again;
        r.stop.is_some() && current && mains.all(Container::has_succeeded)
    })
}

/// Takes the lowest free slots until there are enough, and puts a replica where none is. In a workload with an order each
/// slot counts by itself: higher ones that are still to go make up for none.
fn fill(
    pass: &mut Pass<'_>,
    id: WorkloadId,
    workload: &Workload,
    slots: &ReplicaSlots,
    taken: &mut BTreeSet<u32>,
) {
    if rollout::waits_for_old(workload, slots) {
        return;
    }
    let mut free = 0;
    let mut room = job::room(workload, slots, pass.now);
    let wanted = workload.desired_replicas();
    let enough = |taken: &BTreeSet<u32>, free: u32| match workload.controller.stateful {
        true => free >= wanted,
        false => taken.len() >= wanted as usize,
    };
    while !enough(taken, free) && room > 0 {
        if !taken.contains(&free) {
            if order::waits(workload, slots, free) {
                return;
            }
            taken.insert(free);
            room -= 1;
            // While the rollout is paused what was in the slot comes back.
            let before = slots.slots.get(&free).and_then(|s| s.replicas.last()).map(|r| r.revision);
            add(pass, id, workload, free, workload.revision_for(free, before));
        }
        free += 1;
    }
}

fn stop_slot(
    pass: &mut Pass<'_>,
    id: WorkloadId,
    workload: &Workload,
    slots: &ReplicaSlots,
    slot: u32,
    cause: StopCause,
) {
    for replica in slots.slots.get(&slot).into_iter().flat_map(|s| &s.replicas) {
        if replica.stop.is_none() {
            stop_one(pass, id, workload, slot, replica, cause);
        }
    }
}

/// The rank of a replica among those that may go: the greatest goes first. A strict total order, for the slot is last.
fn rank(slot: u32, workload: &Workload, slots: &ReplicaSlots, now: Time) -> (u8, bool, usize, u32) {
    let Some(s) = slots.slots.get(&slot) else { return (4, false, 0, slot) };
    let Some(replica) = s.current() else { return (4, false, 0, slot) };
    let exits = s.history.values().flat_map(|h| &h.exits);
    let recent = exits.filter(|e| e.class != ExitClass::Requested && now.since(e.at) < RECENT).count();
    let live = |c: &Container| c.lives().is_some();
    let waits = |c: &Container| c.restart.next != Next::Now && !live(c);
    let state = if replica.is_ready() || replica.has_succeeded() {
        0
    } else if replica.containers.iter().all(live) {
        1
    } else if replica.containers.iter().any(waits) {
        2
    } else {
        3
    };
    (state, replica.revision != workload.revision, recent, slot)
}

/// The `count` slots to remove when fewer are desired: not started, waiting for a restart, not ready, of an old revision,
/// often restarted of late, of the highest number.
pub fn victims(
    taken: &BTreeSet<u32>,
    workload: &Workload,
    slots: &ReplicaSlots,
    count: usize,
    pass: &Pass<'_>,
) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<_> = taken.iter().map(|n| rank(*n, workload, slots, pass.now)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.into_iter().take(count).map(|r| r.3).collect()
}
