//! The order of the replicas of a StatefulSet.

use super::desired::Workload;
use super::ids::Revision;
use super::model::{ReplicaSlots, Slot};
use std::collections::BTreeSet;

impl Workload {
    /// Whether a replica of `slot` that is of an old revision stays as it is.
    pub(super) fn keeps(&self, slot: u32) -> bool {
        self.paused || self.controller.on_delete || slot < self.controller.partition
    }

    /// Which revision comes into a slot whose last replica was of `before`.
    pub(super) fn revision_for(&self, slot: u32, before: Option<Revision>) -> Revision {
        let stays = self.paused || slot < self.controller.partition;
        before.filter(|r| stays && self.revisions.contains_key(r)).unwrap_or(self.revision)
    }
}

/// Whether `slot` must wait for lower ones.
pub fn waits(workload: &Workload, slots: &ReplicaSlots, slot: u32) -> bool {
    let ready =
        |n: u32| slots.slots.get(&n).and_then(Slot::current).is_some_and(super::model::Replica::is_ready);
    workload.controller.ordered && !(0..slot).all(|n| ready(n) || workload.completed.contains_key(&n))
}

/// The slots of a workload with an order that go: those above the desired ones, the highest first. How many are taken does
/// not matter, for one of the desired ones may be empty just now.
pub fn surplus(taken: &BTreeSet<u32>, workload: &Workload, slots: &ReplicaSlots) -> Vec<u32> {
    let stopping = slots.slots.values().flat_map(|s| &s.replicas).any(|r| r.stop.is_some());
    // One after the other.
    let most = match (workload.controller.ordered, stopping) {
        (false, _) => usize::MAX,
        (true, false) => 1,
        (true, true) => 0,
    };
    taken.range(workload.desired_replicas()..).rev().take(most).copied().collect()
}
