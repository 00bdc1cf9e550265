//! The order between workloads: no replica is made before what its workload depends on is as far as it must be.
//!
//! It holds whenever replicas are made: when a file is applied, when they are replaced, and after a reboot, when none is
//! left. What runs already keeps running when a dependency fails.

use super::desired::{Desired, Workload};
use super::ids::WorkloadId;
use super::model::{Observed, Phase, Replica, ReplicaSlots};
use super::spec::Role;
use crate::workload::depends::{Condition, Dependency};
use std::collections::BTreeSet;

/// The workloads that wait for another one.
pub fn waiting(desired: &Desired, observed: &Observed) -> BTreeSet<WorkloadId> {
    let waits = |w: &Workload| w.controller.depends_on.iter().any(|d| lack(d, desired, observed).is_some());
    desired.workloads.iter().filter(|(_, w)| waits(w)).map(|(id, _)| *id).collect()
}

/// The reason why `workload` waits, in words. None: it does not wait.
#[must_use]
pub fn reason(workload: &Workload, desired: &Desired, observed: &Observed) -> Option<String> {
    let none = workload.desired_replicas() == 0 || workload.deletion.is_some();
    let mut all = workload.controller.depends_on.iter().filter(|_| !none);
    if let Some(earlier) = super::cron::predecessor_of(desired, workload).filter(|_| !none) {
        return Some(format!("waiting for job {:?}, which it replaces, to exit", earlier.name));
    }
    all.find_map(|d| Some(format!("waiting for workload {:?}: {}", d.workload, lack(d, desired, observed)?)))
}

/// Why a dependency is not as far as it must be.
fn lack(d: &Dependency, desired: &Desired, observed: &Observed) -> Option<String> {
    let Some((id, w)) = desired.by_name(&d.workload).filter(|(_, w)| w.deletion.is_none()) else {
        return (!d.optional).then(|| "it does not exist".to_owned());
    };
    if w.stopped {
        return Some("it is stopped".to_owned());
    }
    let none = ReplicaSlots::default();
    let slots = observed.workloads.get(&id).unwrap_or(&none);
    if w.controller.job.is_some() {
        return of_job(w, slots, d.condition);
    }
    let wanted = w.desired_replicas();
    let all: BTreeSet<u32> = slots.slots.keys().chain(w.completed.keys()).copied().collect();
    let done = all.into_iter().filter(|n| fits(*n, w, slots, d.condition)).count();
    (done < wanted as usize).then(|| format!("{done} of {wanted} replicas {}", words(d.condition)))
}

/// A job runs some of its replicas at a time: it has started with the first one, and has completed when it has succeeded.
fn of_job(w: &Workload, slots: &ReplicaSlots, condition: Condition) -> Option<String> {
    let any = || slots.slots.keys().any(|n| fits(*n, w, slots, condition));
    match (condition, w.job_end()) {
        (Condition::Started, Some(_)) => None,
        (Condition::Completed, Some(end)) if !end.failed => None,
        (_, Some(end)) if end.failed => Some(format!("it has failed: {}", end.message)),
        (_, Some(_)) => Some("it has completed and is not ready".to_owned()),
        (Condition::Completed, None) => Some("it has not completed".to_owned()),
        (Condition::Started | Condition::Ready, None) => (!any()).then(|| {
            format!(
                "no replica of it {}",
                if condition == Condition::Ready { "is ready" } else { "has started" }
            )
        }),
    }
}

fn words(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "have started",
        Condition::Ready => "are ready",
        Condition::Completed => "have completed",
    }
}

/// Whether slot `n` is as far as it must be.
fn fits(n: u32, w: &Workload, slots: &ReplicaSlots, condition: Condition) -> bool {
    let succeeded = w.completed.get(&n) == Some(&false);
    let replica = |ok: fn(&Replica) -> bool| {
        let slot = slots.slots.get(&n);
        let standing = slot.into_iter().flat_map(|s| &s.replicas).filter(|r| r.stop.is_none());
        standing.filter(|r| w.is_current(r.revision) || w.keeps(n)).any(ok)
    };
    match condition {
        Condition::Started => succeeded || replica(has_started),
        Condition::Ready => replica(Replica::is_ready),
        Condition::Completed => succeeded,
    }
}

/// Whether the programs of all main containers run, or have succeeded.
fn has_started(r: &Replica) -> bool {
    let runs = |c: &super::model::Container| {
        c.lives().is_some_and(|i| i.phase == Phase::Running && i.exit.is_none())
    };
    r.containers.iter().filter(|c| c.role == Role::Main).all(|c| runs(c) || c.has_succeeded())
}
