//! What kinds of workloads differ in: Jobs, whose replicas run until they succeed, and StatefulSets, whose replicas have an
//! order.

use super::desired::{Change, Refusal, Revision, Workload, WorkloadId};
use super::model::{Slot, Slots, StopCause};
use super::reconcile::Pass;
use super::replicas::stop_one;
use super::spec::Template;
use super::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How the replicas of a workload follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Controller {
    /// Each slot succeeds once and is not run again. The number of replicas is that of the slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// The highest slots go first: when fewer are desired, and when they are updated.
    pub stateful: bool,
    /// A slot waits until all lower ones are ready.
    pub ordered: bool,
    /// Lower slots keep their revision.
    pub partition: u32,
    /// A replica keeps its revision until its restart is requested.
    pub on_delete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// How many replicas may run at a time.
    pub parallelism: u32,
    /// How long a finished job is kept. None: until somebody deletes it.
    #[serde(default)]
    pub ttl: Option<Millis>,
}

impl Workload {
    /// A slot of a job has failed for good: so has the job, and nothing of it is run any more.
    #[must_use]
    pub fn has_failed_job(&self) -> bool {
        self.controller.job.is_some() && self.completed.values().any(|failed| *failed)
    }

    /// Whether all slots of a job have succeeded, or it has failed.
    fn is_finished_job(&self) -> bool {
        let all = (0..self.replicas).all(|n| self.completed.contains_key(&n));
        self.has_failed_job() || (self.controller.job.is_some() && all)
    }

    /// A job that has begun is what it is: `template` and `replicas` cannot be others.
    pub(super) fn check_job(&self, replicas: u32, template: &Template) -> Result<(), Refusal> {
        if self.controller.job.is_none() {
            return Ok(());
        }
        let mut same = template.clone();
        if let Some(own) = self.template() {
            let inputs = |t: &Template| t.inputs.iter().map(|i| i.input.clone()).collect::<Vec<_>>();
            if inputs(own) == inputs(&same) {
                same.inputs.clone_from(&own.inputs);
            }
        }
        let what = match (self.template() == Some(&same), self.replicas == replicas) {
            (true, true) => return Ok(()),
            (false, _) => "the template of a Job",
            (true, false) => "the number of completions of a Job",
        };
        Err(Refusal::Immutable { what: what.to_owned() })
    }

    /// Whether replicas may be restarted, or go back to another revision: what has succeeded is not run again.
    pub(super) fn check_restart(&self, slot: Option<u32>) -> Result<(), Refusal> {
        let succeeded = |n: u32| self.completed.get(&n) == Some(&false);
        match (self.controller.job, slot) {
            (None, _) => Ok(()),
            (Some(_), Some(n)) if !succeeded(n) => Ok(()),
            (Some(_), _) => Err(Refusal::Immutable { what: "what a Job has completed".to_owned() }),
        }
    }

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

/// How many more replicas may be made.
pub fn room(workload: &Workload, slots: &Slots) -> usize {
    let Some(job) = workload.controller.job else { return usize::MAX };
    if workload.has_failed_job() {
        return 0;
    }
    let active = |(n, s): &(&u32, &Slot)| !s.replicas.is_empty() && !workload.completed.contains_key(n);
    (job.parallelism as usize).saturating_sub(slots.slots.iter().filter(active).count())
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

/// What follows from the end of a job: the rest of a failed one is stopped, and after its time it is deleted.
pub fn finish(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, slots: &Slots) {
    let Some(job) = workload.controller.job.filter(|_| workload.is_finished_job()) else { return };
    let active = slots.slots.iter().filter(|(n, _)| !workload.completed.contains_key(n));
    let mut idle = true;
    for (n, replica) in active.flat_map(|(n, s)| s.replicas.iter().map(move |r| (*n, r))) {
        idle = false;
        if replica.stop.is_none() {
            stop_one(pass, id, workload, n, replica, StopCause::JobFailed);
        }
    }
    // After a reboot nothing is known of when it finished: its time begins again.
    let exits = slots.slots.values().flat_map(|s| s.history.values()).flat_map(|h| &h.exits);
    let ended = exits.map(|e| e.at).max().unwrap_or(Time(0));
    if let Some(ttl) = job.ttl
        && idle
        && pass.reached(ended + ttl)
    {
        pass.push(super::action::Action::Persist { change: Change::Delete { workload: id, grace: None } });
    }
}
