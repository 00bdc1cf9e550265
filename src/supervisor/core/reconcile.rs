//! Compares the desired with the observed state.

use super::action::Action;
use super::config::Config;
use super::desired::{Change, Desired, Workload};
use super::exit::StopCause;
use super::ids::{Revision, WorkloadId};
use super::model::{Container, Next, Observed, Replica, ReplicaSlots, Slot};
use super::pass::{ContainerContext, Pass, replicas, stop_one};
use super::spec::Role;
use super::time::{Millis, Time};
use super::{containers, cron, depends, endpoints, job, replicas, rollout, sandbox};
use std::collections::BTreeSet;

/// The next actions, and the time of the next call if nothing happens before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// In the order in which they are to be done.
    pub actions: Vec<Action>,
    /// When to ask again; `None`: only after the next event.
    pub wake: Option<Time>,
}

/// The grace of replicas whose template is no longer known.
const ORPHAN_GRACE: Millis = Millis::secs(30);

/// Decides. Deterministic; changes nothing. See the module's documentation for how its actions are recorded.
pub fn reconcile(desired: &Desired, observed: &Observed, now: Time, config: &Config) -> Step {
    let mut pass = Pass {
        now,
        config,
        actions: Vec::new(),
        wake: None,
        last_instance: observed.last_instance,
        last_replica: observed.last_replica,
        credit: observed.start_credit,
        stopped: BTreeSet::new(),
        draining: observed.draining,
        exposed: observed.endpoints.exposed(),
        waiting: depends::waiting(desired, observed).into_iter().chain(cron::waiting(desired)).collect(),
    };
    let none = ReplicaSlots::default();
    for (id, slots) in &observed.workloads {
        if !desired.workloads.contains_key(id) {
            pass.orphans(*id, slots);
        }
    }
    for (id, workload) in &desired.workloads {
        pass.workload(*id, workload, observed.workloads.get(id).unwrap_or(&none));
    }
    cron::plan(&mut pass, desired, observed);
    endpoints::plan(&mut pass, desired, observed);
    // Starts do not wait for the removal of dead containers.
    pass.actions.sort_by_key(|a| matches!(a, Action::Remove { .. }));
    Step { actions: pass.actions, wake: pass.wake }
}

impl Pass<'_> {
    fn workload(&mut self, id: WorkloadId, workload: &Workload, slots: &ReplicaSlots) {
        if workload.deletion.is_some() {
            self.delete(id, workload, slots);
        } else if self.draining {
            self.drain(id, workload, slots);
        } else {
            replicas::plan(self, id, workload, slots);
            rollout::follow(self, id, workload, slots);
            job::finish(self, id, workload, slots);
        }
        let ending = !self.draining && job::is_ending(workload, slots, self.now);
        let of_job = (job::failures(slots), ending);
        for (ordinal, slot) in &slots.slots {
            self.slot(id, *ordinal, slot, Some(workload), of_job);
        }
        if workload.deletion.is_none() {
            self.prune(id, workload, slots);
        }
    }

    /// Stops all replicas; when none is left, the workload goes.
    fn delete(&mut self, id: WorkloadId, workload: &Workload, slots: &ReplicaSlots) {
        let Some(deletion) = &workload.deletion else { return };
        for (slot, replica) in replicas(slots) {
            let grace = workload.revisions.get(&replica.revision).map_or(ORPHAN_GRACE, |t| t.grace);
            let now = deletion.now || deletion.grace.unwrap_or(grace) == Millis(0);
            self.stop_replica(id, slot, replica, StopCause::Deleted, deletion.deadline(grace), now);
        }
        for (ordinal, slot) in &slots.slots {
            if slot.replicas.is_empty() {
                self.push(Action::DropSlot { workload: id, slot: *ordinal });
            }
        }
        if slots.slots.is_empty() {
            self.push(Action::Persist { change: Change::Removed { workload: id } });
        }
    }

    /// Stops what runs or would run again. Replicas that have terminated for good stay: they are not run again after the
    /// boot, either. The end of a container is judged first, lest a job that has just finished counts as stopped.
    fn drain(&mut self, id: WorkloadId, workload: &Workload, slots: &ReplicaSlots) {
        for (slot, replica) in replicas(slots).filter(|(_, r)| r.stop.is_none()) {
            let instances = || replica.containers.iter().flat_map(|c| &c.instances);
            let unsettled = instances().any(|i| i.is_dead() && !i.settled);
            let again = replica.containers.iter().any(|c| c.restart.due().is_some());
            if !unsettled && (again || instances().any(|i| !i.is_dead())) {
                stop_one(self, id, workload, slot, replica, StopCause::Drained);
            }
        }
    }

    /// State that belongs to no workload is removed.
    fn orphans(&mut self, id: WorkloadId, slots: &ReplicaSlots) {
        for (slot, replica) in replicas(slots) {
            let deadline = self.now + ORPHAN_GRACE;
            if replica.stop.is_none() {
                self.stop_replica(id, slot, replica, StopCause::Orphaned, deadline, false);
            }
        }
        for (ordinal, slot) in &slots.slots {
            self.slot(id, *ordinal, slot, None, (0, false));
        }
        if replicas(slots).next().is_none() {
            self.push(Action::DropWorkload { workload: id });
        }
    }

    fn slot(
        &mut self,
        id: WorkloadId,
        ordinal: u32,
        slot: &Slot,
        workload: Option<&Workload>,
        (failures, ending): (u32, bool),
    ) {
        for (n, replica) in slot.replicas.iter().enumerate() {
            if self.stopped.contains(&replica.serial) {
                continue;
            }
            let template = workload.and_then(|w| w.revisions.get(&replica.revision));
            let others = slot.replicas.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, r)| r);
            let entry = self.entry(others);
            let mut place = ContainerContext {
                workload: id,
                slot: ordinal,
                replica,
                template,
                of: workload,
                entry,
                sandbox: false,
                failures,
            };
            if self.expires(&place) {
                continue;
            }
            place.sandbox = sandbox::sandbox(self, &place);
            for (container, index) in replica.containers.iter().zip(0u32..) {
                containers::container(self, &place, index, container);
            }
            let completes = workload.is_some_and(|w| self.complete(id, ordinal, replica, w));
            if replica.stop.is_some() && replica.is_gone() && !ending && !completes {
                self.push(Action::DropReplica { workload: id, slot: ordinal, serial: replica.serial });
            }
        }
    }

    /// Whether a replica has just run for as long as it may; what follows is decided in the next pass.
    fn expires(&mut self, place: &ContainerContext<'_>) -> bool {
        let replica = place.replica;
        let Some(limit) = place.template.and_then(|t| t.active_deadline) else { return false };
        let over = replica.expired || replica.stop.is_some() || replica.has_ended();
        let expires = !over && self.reached(replica.created + limit);
        if expires {
            self.push(Action::Expire { replica: place.replica_key() });
        }
        expires
    }

    /// A replica whose containers all terminated for good is not run again after a reboot; whether it just came to this.
    fn complete(&mut self, id: WorkloadId, slot: u32, replica: &Replica, workload: &Workload) -> bool {
        // The work of a job is done even if its sidecars were asked to end by something else, such as a drain.
        let succeeded =
            |c: &Container| c.role != Role::Main || c.restart.next == Next::Done { failed: false };
        let counts = workload.controller.job.is_some() && replica.containers.iter().all(succeeded);
        let current = workload.revision == replica.revision && (replica.stop.is_none() || counts);
        if !current || workload.deletion.is_some() || workload.completed.contains_key(&slot) {
            return false;
        }
        let wanted_again = workload.restarts.get(&slot).copied().unwrap_or(0) > replica.restarts;
        // One that restarted too often is tried again after a reboot.
        let given_up = replica.containers.iter().any(|c| c.restart.next == Next::GivenUp);
        // For a job that is its end.
        let job = workload.controller.job.is_some();
        let lost = job && given_up && replica.containers.iter().all(|c| c.lives().is_none());
        if !wanted_again && (lost || (!given_up && replica.has_ended())) {
            let bad = |n: Next| matches!(n, Next::Done { failed: true } | Next::GivenUp);
            let failed = replica.containers.iter().any(|c| bad(c.restart.next));
            let change = Change::Completed { workload: id, revision: replica.revision, slot, failed };
            self.push(Action::Persist { change });
            return true;
        }
        false
    }

    /// Old revisions that nothing uses and that are too many to keep; never the last one that worked.
    fn prune(&mut self, id: WorkloadId, workload: &Workload, slots: &ReplicaSlots) {
        let limit = workload.strategy.history_limit.map_or(self.config.revision_history, |n| n as usize);
        if workload.revisions.len() <= limit + 1 {
            return;
        }
        let limits_of = |r: &Revision| {
            let instances = |(_, x): (u32, &Replica)| {
                x.containers.iter().flat_map(|c| &c.instances).any(|i| i.revision == Some(*r))
            };
            replicas(slots).any(instances)
        };
        let used = |r: &Revision| {
            [Some(workload.revision), workload.pending].contains(&Some(*r))
                || replicas(slots).any(|(_, x)| x.revision == *r)
                || limits_of(r)
        };
        let healthy = workload.last_healthy();
        let mut idle: Vec<Revision> =
            workload.revisions.keys().copied().filter(|r| !used(r) && Some(*r) != healthy).collect();
        idle.sort_by_key(|r| workload.number(*r));
        let room = limit.saturating_sub(usize::from(healthy.is_some_and(|r| !used(&r))));
        let many = idle.len().saturating_sub(room);
        for revision in &idle[..many] {
            self.push(Action::Persist { change: Change::Pruned { workload: id, revision: *revision } });
        }
    }
}
