//! What must hold of each decision: P2, P14, P23, P25, P33.

use crate::numbers::{available, given_up, limits};
use crate::oracle::Oracle;
use crate::process::Proc;
use orun::supervisor::core::action::Action;
use orun::supervisor::core::desired::{Change, Desired, Workload};
use orun::supervisor::core::exit::StopCause;
use orun::supervisor::core::ids::{ReplicaKey, Revision, WorkloadId};
use orun::supervisor::core::model::{Observed, Replica, ReplicaSlots};
use orun::supervisor::core::progress::Verdict;
use orun::supervisor::core::reconcile::Step;
use orun::supervisor::core::time::Time;
use std::collections::{BTreeMap, BTreeSet};

fn replicas(slots: &ReplicaSlots) -> Vec<&Replica> {
    slots.slots.values().flat_map(|s| &s.replicas).collect()
}

impl Oracle {
    /// Looks at a decision: P2, P14, P23, P25.
    pub fn decided(
        &mut self,
        step: &Step,
        desired: &Desired,
        observed: &Observed,
        procs: &BTreeMap<u64, Proc>,
        now: Time,
    ) {
        let mut stops: BTreeMap<WorkloadId, BTreeMap<u64, StopCause>> = BTreeMap::new();
        let mut adds: BTreeMap<WorkloadId, usize> = BTreeMap::new();
        for action in &step.actions {
            match action {
                Action::StopReplica { workload, serial, cause, .. } => {
                    stops.entry(*workload).or_default().insert(*serial, *cause);
                }
                Action::AddReplica { workload, slot, serial, .. } => {
                    *adds.entry(*workload).or_default() += 1;
                    let replica = ReplicaKey { workload: *workload, slot: *slot, serial: *serial };
                    self.put_beside(&replica, desired, observed);
                    self.in_its_turn(*workload, desired, observed);
                }
                // A CronJob does not keep all of its jobs.
                Action::Persist { change: Change::Delete { workload, .. } }
                    if desired.workloads.get(workload).is_some_and(|w| w.owner.is_some())
                        && !observed.draining => {}
                Action::Persist {
                    change: Change::Stop { .. } | Change::Scale { .. } | Change::Delete { .. },
                } => {
                    self.blame(format!("P26: {action:?}, which nobody has asked for"));
                }
                Action::Adopt { workload, revision, .. } => {
                    let known = desired.workloads.get(workload).and_then(|w| w.revisions.get(revision));
                    self.templates.extend(known.map(|t| ((*workload, *revision), t.clone())));
                }
                Action::Advance { workload, rollout } if rollout.verdict == Verdict::Complete => {
                    self.judge_complete(*workload, rollout.revision, desired, observed, procs, now);
                }
                _ => {}
            }
            self.paused(action, desired, observed);
        }
        for (id, workload) in &desired.workloads {
            let stops = stops.remove(id).unwrap_or_default();
            let adds = adds.remove(id).unwrap_or_default();
            if adds > 0 || stops.values().any(|c| *c == StopCause::Replaced) {
                self.rollout(*id, workload, observed, procs, now, &stops, adds);
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn rollout(
        &mut self,
        id: WorkloadId,
        workload: &Workload,
        observed: &Observed,
        procs: &BTreeMap<u64, Proc>,
        now: Time,
        stops: &BTreeMap<u64, StopCause>,
        adds: usize,
    ) {
        let (surge, down) = limits(workload);
        let (mut before, mut after, mut standing) = (0, 0, adds);
        for slot in observed.workloads.get(&id).into_iter().flat_map(|s| s.slots.values()) {
            let mut serves = [false; 2];
            for replica in slot.replicas.iter().filter(|r| r.stop.is_none()) {
                let cause = stops.get(&replica.serial);
                standing += usize::from(cause.is_none());
                let up = available(replica, workload, procs, now);
                serves[0] |= up && cause.is_none_or(|c| *c == StopCause::Replaced);
                serves[1] |= up && cause.is_none();
                let keeps = || workload.in_place(replica.revision, workload.revision);
                if cause == Some(&StopCause::Replaced) && (replica.revision == workload.revision || keeps()) {
                    self.blame(format!(
                        "P14: replica {} of the desired revision is replaced",
                        replica.serial
                    ));
                }
            }
            before += u32::from(serves[0]);
            after += u32::from(serves[1]);
        }
        // What was begun under other numbers, or before a pause, is not taken back.
        let begun = observed.workloads.get(&id).into_iter().flat_map(|s| s.slots.values());
        let begun = begun.filter(|s| s.replicas.iter().filter(|r| r.stop.is_none()).count() > 1).count();
        let most = workload.desired_replicas() as usize + begun.max(surge as usize);
        if adds > 0 && standing > most {
            self.blame(format!("P2: {standing} replicas, more than {most}"));
        }
        let all: Vec<&Replica> = observed.workloads.get(&id).map(replicas).unwrap_or_default();
        let down = down + given_up(workload, &all, procs, now);
        if after < before && after < workload.desired_replicas().saturating_sub(down) {
            self.blame(format!("P2: {after} of {} replicas would be available", workload.desired_replicas()));
        }
    }

    /// P25: while a rollout is paused no replica changes its revision.
    fn paused(&mut self, action: &Action, desired: &Desired, observed: &Observed) {
        let is_paused = |id: &WorkloadId| desired.workloads.get(id).filter(|w| w.paused);
        let wrong = match action {
            Action::StopReplica { workload, cause: StopCause::Replaced, .. }
            | Action::Adopt { workload, .. } => is_paused(workload).is_some_and(|w| w.deletion.is_none()),
            Action::AddReplica { workload, slot, revision, .. } => is_paused(workload).is_some_and(|w| {
                let slots = observed.workloads.get(workload).and_then(|s| s.slots.get(slot));
                let before = slots.and_then(|s| s.replicas.last()).map(|r| r.revision);
                before.is_some_and(|b| b != *revision && w.revisions.contains_key(&b))
            }),
            _ => false,
        };
        if wrong {
            self.blame(format!("P25: {action:?} while the rollout is paused"));
        }
    }

    /// P23: what is called complete is so.
    fn judge_complete(
        &mut self,
        id: WorkloadId,
        revision: Revision,
        desired: &Desired,
        observed: &Observed,
        procs: &BTreeMap<u64, Proc>,
        now: Time,
    ) {
        self.complete.insert((id, revision));
        let Some(w) = desired.workloads.get(&id) else { return };
        let slots = observed.workloads.get(&id);
        let mut up: BTreeSet<u32> = w.completed.keys().copied().collect();
        for (n, slot) in slots.into_iter().flat_map(|s| &s.slots) {
            let new = |r: &&Replica| r.revision == w.revision || w.in_place(r.revision, w.revision);
            if slot
                .replicas
                .iter()
                .filter(|r| r.stop.is_none())
                .filter(new)
                .any(|r| available(r, w, procs, now))
            {
                up.insert(*n);
            }
        }
        let all: Vec<&Replica> = slots.map(replicas).unwrap_or_default();
        if up.len() + (given_up(w, &all, procs, now) as usize) < w.desired_replicas() as usize {
            self.blame(format!(
                "P23: {id:?} is complete with {} of {} replicas",
                up.len(),
                w.desired_replicas()
            ));
        }
    }
}
