//! How many replicas there are, in which slots, of which revision.

use super::action::Action;
use super::desired::{Change, Workload, WorkloadId};
use super::model::{Container, ExitClass, Next, Phase, Replica, Slot, Slots, StopCause};
use super::reconcile::Pass;
use super::time::{Millis, Time};
use std::collections::BTreeSet;

/// An hour: how far back restarts count when a replica is chosen to go.
const RECENT: Millis = Millis::secs(3600);

impl Replica {
    /// Whether each of its containers runs and is ready, or ended well; and since when, if one runs.
    pub fn ready(&self) -> Option<Option<Time>> {
        if self.stop.is_some() {
            return None;
        }
        self.containers.iter().map(Container::ready).try_fold(None, |latest, t| Some(latest.max(t?)))
    }
}

impl Container {
    fn ready(&self) -> Option<Option<Time>> {
        match self.lives() {
            Some(i) if i.phase == Phase::Running && i.exit.is_none() && i.stop.is_none() => i.ready.map(Some),
            None if self.restart.next == (Next::Done { failed: false }) => Some(None),
            _ => None,
        }
    }
}

impl Slot {
    /// The newest replica that is not stopping.
    pub fn current(&self) -> Option<&Replica> {
        self.replicas.iter().rev().find(|r| r.stop.is_none())
    }
}

/// Adds, replaces and stops replicas of a workload that is not being deleted.
pub fn plan(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, slots: &Slots) {
    let mut taken: BTreeSet<u32> =
        slots.slots.iter().filter(|(_, s)| s.current().is_some()).map(|(n, _)| *n).collect();
    taken.extend(workload.completed.keys());
    let wanted = workload.replicas as usize;
    let surplus = victims(&taken, workload, slots, taken.len().saturating_sub(wanted), pass);
    for slot in surplus {
        taken.remove(&slot);
        stop_slot(pass, id, workload, slots, slot, StopCause::ScaledDown);
        if workload.completed.contains_key(&slot) {
            pass.push(Action::Persist { change: Change::Vacated { workload: id, slot } });
        }
    }
    fill(pass, id, workload, &mut taken);
    replace(pass, id, workload, slots, &taken);
    for (slot, s) in &slots.slots {
        if s.replicas.is_empty() && !taken.contains(slot) {
            pass.push(Action::DropSlot { workload: id, slot: *slot });
        }
    }
}

/// Takes the lowest free slots until there are enough, and puts a replica where none is.
fn fill(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, taken: &mut BTreeSet<u32>) {
    let mut free = 0;
    while taken.len() < workload.replicas as usize {
        if taken.insert(free) {
            add(pass, id, workload, free);
        }
        free += 1;
    }
}

fn add(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, slot: u32) {
    let Some(template) = workload.template() else { return };
    let serial = pass.next_replica();
    pass.push(Action::AddReplica {
        workload: id,
        slot,
        serial,
        revision: workload.revision,
        restarts: workload.restarts.get(&slot).copied().unwrap_or(0),
        containers: template.containers.iter().map(|c| c.name.clone()).collect(),
    });
}

/// A slot whose replica is of an old revision.
struct Obsolete<'a> {
    slot: u32,
    replica: &'a Replica,
    serves: bool,
    /// Whether there is one of the current revision beside it, and whether that serves.
    successor: Option<bool>,
}

/// Replaces what is of an old revision, lowest slots first: never fewer available than `max_unavailable` allows, never
/// more replicas than `max_surge` allows.
fn replace(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, slots: &Slots, taken: &BTreeSet<u32>) {
    let strategy = &workload.strategy;
    let (mut available, mut extra) = (0u32, 0u32);
    let mut obsolete = Vec::new();
    for n in taken {
        let Some(slot) = slots.slots.get(n) else { continue };
        let seen = survey(pass, id, workload, *n, slot);
        available += u32::from(seen.available);
        extra += u32::from(seen.obsolete.as_ref().is_some_and(|o| o.successor.is_some()));
        obsolete.extend(seen.obsolete);
    }
    // With neither, nothing could ever be replaced.
    let unavailable =
        if strategy.max_surge == 0 { strategy.max_unavailable.max(1) } else { strategy.max_unavailable };
    let least = workload.replicas.saturating_sub(unavailable);
    for o in obsolete {
        if !o.serves || o.successor == Some(true) {
            stop_one(pass, id, workload, o.slot, o.replica, StopCause::Replaced);
        } else if o.successor.is_none() && extra < strategy.max_surge {
            extra += 1;
            add(pass, id, workload, o.slot);
        } else if o.successor.is_none() && available > least {
            available -= 1;
            stop_one(pass, id, workload, o.slot, o.replica, StopCause::Replaced);
        }
    }
}

struct Survey<'a> {
    available: bool,
    obsolete: Option<Obsolete<'a>>,
}

/// What stands in a slot. Of several old replicas one is kept; one whose restart was asked for is stopped.
fn survey<'a>(
    pass: &mut Pass<'_>,
    id: WorkloadId,
    workload: &Workload,
    n: u32,
    slot: &'a Slot,
) -> Survey<'a> {
    let mut kept: Option<(&Replica, bool)> = None;
    let mut successor = None;
    let mut available = false;
    for replica in slot.replicas.iter().filter(|r| r.stop.is_none()) {
        let serves = replica.ready().is_some_and(|since| match since {
            None => true,
            Some(t) => pass.reached(t + workload.strategy.min_ready),
        });
        if replica.revision == workload.revision {
            if replica.restarts < workload.restarts.get(&n).copied().unwrap_or(0) {
                stop_one(pass, id, workload, n, replica, StopCause::Restarted);
                continue;
            }
            successor = Some(serves);
        } else if let Some((worse, _)) = kept.filter(|(_, kept_serves)| serves && !kept_serves) {
            stop_one(pass, id, workload, n, worse, StopCause::Replaced);
            kept = Some((replica, serves));
        } else if kept.is_some() {
            stop_one(pass, id, workload, n, replica, StopCause::Replaced);
            continue;
        } else {
            kept = Some((replica, serves));
        }
        available |= serves;
    }
    let obsolete = kept.map(|(replica, serves)| Obsolete { slot: n, replica, serves, successor });
    Survey { available, obsolete }
}

fn stop_slot(
    pass: &mut Pass<'_>,
    id: WorkloadId,
    workload: &Workload,
    slots: &Slots,
    slot: u32,
    cause: StopCause,
) {
    for replica in slots.slots.get(&slot).into_iter().flat_map(|s| &s.replicas) {
        if replica.stop.is_none() {
            stop_one(pass, id, workload, slot, replica, cause);
        }
    }
}

fn stop_one(
    pass: &mut Pass<'_>,
    id: WorkloadId,
    workload: &Workload,
    slot: u32,
    replica: &Replica,
    cause: StopCause,
) {
    let grace = workload.revisions.get(&replica.revision).map_or(Millis(0), |t| t.grace);
    let deadline = pass.now + grace;
    pass.stop_replica(id, slot, replica, cause, deadline, grace == Millis(0));
}

/// The rank of a replica among those that may go: the greatest goes first. A strict total order, for the slot is last.
fn rank(slot: u32, workload: &Workload, slots: &Slots, now: Time) -> (u8, bool, usize, u32) {
    let Some(s) = slots.slots.get(&slot) else { return (4, false, 0, slot) };
    let Some(replica) = s.current() else { return (4, false, 0, slot) };
    let exits = s.history.values().flat_map(|h| &h.exits);
    let recent = exits.filter(|e| e.class != ExitClass::Requested && now.since(e.at) < RECENT).count();
    let live = |c: &Container| c.lives().is_some();
    let waits = |c: &Container| c.restart.next != Next::Now && !live(c);
    let state = if replica.ready().is_some() {
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

/// The `count` slots that go when fewer are wanted: not started, waiting for a restart, not ready, of an old revision,
/// often restarted of late, of the highest number.
pub fn victims(
    taken: &BTreeSet<u32>,
    workload: &Workload,
    slots: &Slots,
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
