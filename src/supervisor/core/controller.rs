//! What kinds of workloads differ in: Jobs, whose replicas run until they succeed ([`super::job`]), and StatefulSets, whose
//! replicas have an order.

use super::desired::{Revision, Workload};
use super::job::Job;
use super::model::{Slot, Slots};
use crate::workload::depends::Dependency;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How the replicas of a workload follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Controller {
    /// It is a Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Job>>,
    /// The highest slots go first: when fewer are desired, and when they are updated.
    pub stateful: bool,
    /// A slot waits until all lower ones are ready.
    pub ordered: bool,
    /// Lower slots keep their revision.
    pub partition: u32,
    /// A replica keeps its revision until its restart is requested.
    pub on_delete: bool,
    /// Workloads that must be so far before replicas are made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
}

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
pub fn waits(workload: &Workload, slots: &Slots, slot: u32) -> bool {
    let ready =
        |n: u32| slots.slots.get(&n).and_then(Slot::current).is_some_and(super::model::Replica::is_ready);
    workload.controller.ordered && !(0..slot).all(|n| ready(n) || workload.completed.contains_key(&n))
}

/// The slots of a workload with an order that go: those above the desired ones, the highest first. How many are taken does
/// not matter, for one of the desired ones may be empty just now.
pub fn surplus(taken: &BTreeSet<u32>, workload: &Workload, slots: &Slots) -> Vec<u32> {
    let stopping = slots.slots.values().flat_map(|s| &s.replicas).any(|r| r.stop.is_some());
    // One after the other.
    let most = match (workload.controller.ordered, stopping) {
        (false, _) => usize::MAX,
        (true, false) => 1,
        (true, true) => 0,
    };
    taken.range(workload.wanted()..).rev().take(most).copied().collect()
}
