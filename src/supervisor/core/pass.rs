//! One comparison of the desired with the observed state: its inputs, and what it has decided so far.

use super::action::Action;
use super::config::Config;
use super::desired::Workload;
use super::exit::StopCause;
use super::ids::{Key, ReplicaKey, Revision, WorkloadId};
use super::model::{Replica, ReplicaSlots};
use super::spec::PodTemplate;
use super::time::{Millis, Time};
use std::collections::BTreeSet;

/// One run of [`super::reconcile::reconcile`].
pub struct Pass<'a> {
    pub now: Time,
    pub config: &'a Config,
    pub actions: Vec<Action>,
    pub wake: Option<Time>,
    pub last_instance: u64,
    pub last_replica: u64,
    pub credit: u64,
    /// Replicas that are asked to stop in this pass; what follows for them is decided in the next.
    pub stopped: BTreeSet<u64>,
    /// The host goes down.
    pub draining: bool,
    /// Replicas that connections may be led to.
    pub exposed: BTreeSet<u64>,
    /// Workloads that wait for others: no replica of them is made or replaced.
    pub waiting: BTreeSet<WorkloadId>,
}

impl Pass<'_> {
    /// Whether `at` has come; if not, the decision is made again then.
    pub fn reached(&mut self, at: Time) -> bool {
        let reached = self.now >= at;
        if !reached {
            self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
        }
        reached
    }

    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub fn next_replica(&mut self) -> u64 {
        self.last_replica += 1;
        self.last_replica
    }

    pub fn next_instance(&mut self) -> u64 {
        self.last_instance += 1;
        self.last_instance
    }

    /// Takes one start from what the rate allows: its new value, or None and a wake-up for when it is allowed. Each
    /// start costs the time that the rate gives it; a burst may run ahead of the clock.
    pub fn start_credit(&mut self) -> Option<u64> {
        let cost = 1_000_000 / u64::from(self.config.start_rate.max(1));
        let burst = cost * u64::from(self.config.start_burst.max(1));
        let now = self.now.0.saturating_mul(1000);
        let next = self.credit.max(now) + cost;
        if !self.reached(Time(next.saturating_sub(burst).div_ceil(1000))) {
            return None;
        }
        self.credit = next;
        Some(next)
    }

    /// Stops a replica, or brings its deadline forward.
    pub fn stop_replica(
        &mut self,
        workload: WorkloadId,
        slot: u32,
        replica: &Replica,
        cause: StopCause,
        deadline: Time,
        now: bool,
    ) {
        if replica.stop.is_some_and(|s| s.deadline <= deadline && (s.now || !now)) {
            return;
        }
        let serial = replica.serial;
        let deadline = replica.stop.map_or(deadline, |s| s.deadline.min(deadline));
        self.stopped.insert(serial);
        self.push(Action::StopReplica { workload, slot, serial, cause, deadline, now });
    }

    /// Access of a replica to its slot next to `others`.
    pub fn entry<'r>(&self, mut others: impl Iterator<Item = &'r Replica>) -> SlotAccess {
        let stopping = |r: &Replica| r.stop.is_some() || self.stopped.contains(&r.serial);
        let lives = |r: &Replica| r.containers.iter().any(|c| c.lives().is_some());
        if others.any(|r| stopping(r) && lives(r)) { SlotAccess::Prepare } else { SlotAccess::Free }
    }
}

/// The position of a container.
pub struct ContainerContext<'a> {
    pub workload: WorkloadId,
    pub slot: u32,
    pub replica: &'a Replica,
    pub template: Option<&'a PodTemplate>,
    pub of: Option<&'a Workload>,
    pub entry: SlotAccess,
    /// Its sandbox is made.
    pub sandbox: bool,
    /// Those of all replicas of its job that count.
    pub failures: u32,
}

impl ContainerContext<'_> {
    /// The template of a revision of its workload.
    pub fn workload_template(&self, revision: Revision) -> Option<&PodTemplate> {
        self.of?.revisions.get(&revision)
    }

    pub fn replica_key(&self) -> ReplicaKey {
        ReplicaKey { workload: self.workload, slot: self.slot, serial: self.replica.serial }
    }

    pub fn key(&self, container: u32, instance: u64) -> Key {
        Key { workload: self.workload, slot: self.slot, replica: self.replica.serial, container, instance }
    }
}

/// Access of a replica to its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotAccess {
    Free,
    /// Another one is stopping: get ready, do not run yet.
    Prepare,
}

/// All replicas with their slots.
pub fn replicas(slots: &ReplicaSlots) -> impl Iterator<Item = (u32, &Replica)> {
    slots.slots.iter().flat_map(|(n, s)| s.replicas.iter().map(move |r| (*n, r)))
}

/// Makes a replica of `revision` in `slot`.
pub fn add(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, slot: u32, revision: Revision) {
    let Some(template) = workload.revisions.get(&revision) else { return };
    let serial = pass.next_replica();
    pass.push(new_replica(id, workload, slot, serial, (revision, template)));
}

/// The decision for a new replica of `revision`, whose template is given.
pub fn new_replica(
    id: WorkloadId,
    workload: &Workload,
    slot: u32,
    serial: u64,
    (revision, template): (Revision, &PodTemplate),
) -> Action {
    Action::AddReplica {
        workload: id,
        slot,
        serial,
        revision,
        restarts: workload.restarts.get(&slot).copied().unwrap_or(0),
        containers: template.containers.iter().map(|c| c.name.clone()).collect(),
        roles: template.roles(),
    }
}

/// Stops a replica with the grace of its own revision.
pub fn stop_one(
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
