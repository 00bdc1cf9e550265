//! How a workload goes from one revision to the next, and how far it is.
//!
//! Kubernetes' arithmetic for Deployments, over slots: never fewer replicas available than `maxUnavailable` allows, never
//! more than `maxSurge` allows, the lowest slots first. Shares are of the number of replicas of this moment. While a new
//! replica is in trouble no further step is made, so that a revision that cannot work costs at most the first step. As in
//! Swarm, some replicas may fail if the workload allows it (`maxFailures`): once it is plain that they do, they count as
//! replaced, and the rollout continues.

use super::action::Action;
use super::desired::{Change, Workload};
use super::exit::StopCause;
use super::ids::{Revision, WorkloadId};
use super::model::{Replica, ReplicaSlots, Slot};
use super::pass::{Pass, add, stop_one};
use super::progress::{Rollout, Verdict};
use super::revision::Stamp;
use super::spec::FailureAction;
use super::status::{self, WorkloadStatus, excused, is_whole};
use super::time::Time;
use std::collections::BTreeSet;

impl Rollout {
    /// Whether it is that of the desired revision.
    pub fn is_of(&self, w: &Workload) -> bool {
        let unchanged = self.generation == w.generation || self.verdict == Verdict::Complete;
        self.revision == w.revision && unchanged
    }
}

impl Workload {
    /// Whether a replica of `revision` is one of the current one, or goes over to it as it runs.
    pub fn is_current(&self, revision: Revision) -> bool {
        revision == self.revision || (!self.paused && self.in_place(revision, self.revision))
    }
}

/// Whether nothing new is made before all that is old is gone (`Recreate`).
pub fn waits_for_old(workload: &Workload, slots: &ReplicaSlots) -> bool {
    let old = |r: &Replica| !workload.is_current(r.revision);
    workload.strategy.recreate && !workload.paused && slots.slots.values().flat_map(|s| &s.replicas).any(old)
}

/// A slot whose replica is of an old revision.
struct Obsolete<'a> {
    slot: u32,
    replica: &'a Replica,
    available: bool,
    /// Whether there is one of the current revision beside it, and whether that is available.
    successor: Option<bool>,
    /// That one fails.
    failing: bool,
}

/// The replicas in the slots.
#[derive(Default)]
struct Survey<'a> {
    obsolete: Vec<Obsolete<'a>>,
    /// Replicas that are not being stopped.
    standing: u32,
    /// Slots with an available replica.
    available: u32,
    /// Slots with two.
    extra: u32,
    /// Replicas of the current revision that are not available.
    coming: u32,
    /// One of them is in trouble, and may recover.
    troubled: bool,
    /// Those of which that is not to be expected.
    failing: u32,
}

/// Replaces what is of an old revision, or was to be restarted.
pub fn replace(
    pass: &mut Pass<'_>,
    id: WorkloadId,
    workload: &Workload,
    slots: &ReplicaSlots,
    taken: &BTreeSet<u32>,
) {
    let mut survey = Survey::default();
    for n in taken {
        if let Some(slot) = slots.slots.get(n) {
            look(pass, id, workload, *n, slot, &mut survey);
        }
    }
    if workload.paused {
        return;
    }
    let limits = workload.strategy().resolve(workload.desired_replicas());
    let Survey { mut obsolete, mut standing, mut available, mut extra, coming, troubled, failing } = survey;
    let excused = excused(workload, failing);
    let least = workload.desired_replicas().saturating_sub(limits.unavailable + excused);
    let (coming, troubled) = (coming - excused, troubled || failing > excused);
    obsolete.retain(|o| !workload.keeps(o.slot));
    if workload.controller.stateful {
        obsolete.reverse();
    }
    for o in obsolete {
        // Those that do not serve may go as long as what is left could be enough.
        let spare = standing > least + coming;
        let stop = if workload.strategy.recreate || o.successor == Some(true) {
            true
        } else if troubled {
            false
        } else if o.available {
            let turn = if o.successor.is_none() { extra >= limits.surge } else { o.failing };
            turn && available > least
        } else {
            spare
        };
        if stop {
            let served_alone = o.available && o.successor != Some(true);
            available -= u32::from(served_alone);
            standing -= 1;
            stop_one(pass, id, workload, o.slot, o.replica, StopCause::Replaced);
        } else if o.successor.is_none() && !troubled && extra < limits.surge {
            extra += 1;
            add(pass, id, workload, o.slot, workload.revision);
        }
    }
}

/// Looks at a slot. Of several old replicas one is kept; one whose restart was asked for is stopped; what can go over to
/// the current revision does so.
fn look<'a>(
    pass: &mut Pass<'_>,
    id: WorkloadId,
    workload: &Workload,
    n: u32,
    slot: &'a Slot,
    survey: &mut Survey<'a>,
) {
    let mut kept: Option<(&Replica, bool)> = None;
    let (mut successor, mut failing) = (None, false);
    for replica in slot.replicas.iter().filter(|r| r.stop.is_none()) {
        let current = workload.is_current(replica.revision);
        let again = replica.restarts < workload.restarts.get(&n).copied().unwrap_or(0);
        if again && (current || workload.keeps(n)) {
            stop_one(pass, id, workload, n, replica, StopCause::Restarted);
            continue;
        }
        let at =
            replica.available_at(workload.revisions.get(&replica.revision), workload.strategy().min_ready());
        let available = at.is_some_and(|at| pass.reached(at));
        if current {
            if replica.revision != workload.revision {
                let (revision, serial) = (workload.revision, replica.serial);
                pass.push(Action::Adopt { workload: id, slot: n, serial, revision });
            }
            successor = Some(available);
            survey.coming += u32::from(!available);
            failing = replica.is_failing(at, pass.now);
            survey.failing += u32::from(failing);
            survey.troubled |= !failing && replica.is_troubled(at, pass.now);
        } else if workload.paused {
            // Whatever it is, it stays.
            survey.standing += 1;
            continue;
        } else if let Some((worse, _)) = kept.filter(|(_, serves)| available && !serves) {
            stop_one(pass, id, workload, n, worse, StopCause::Replaced);
            kept = Some((replica, available));
            continue;
        } else if kept.is_some() {
            stop_one(pass, id, workload, n, replica, StopCause::Replaced);
            continue;
        } else {
            kept = Some((replica, available));
        }
        survey.standing += 1;
    }
    survey.available += u32::from(successor == Some(true) || kept.is_some_and(|(_, serves)| serves));
    survey.extra += u32::from(successor.is_some() && kept.is_some());
    survey.obsolete.extend(kept.map(|(replica, available)| Obsolete {
        slot: n,
        replica,
        available,
        successor,
        failing,
    }));
}

/// Notes how far the rollout is, and what follows from that.
pub fn follow(pass: &mut Pass<'_>, id: WorkloadId, w: &Workload, slots: &ReplicaSlots) {
    if w.desired_replicas() == 0 {
        return;
    }
    let known = slots.rollout.as_ref().filter(|r| r.is_of(w));
    if known.is_some_and(|r| r.verdict == Verdict::Complete) {
        if !w.history.get(&w.revision).is_some_and(|k| k.healthy) {
            pass.push(Action::Persist { change: Change::Healthy { workload: id, revision: w.revision } });
        }
        return;
    }
    let s = status::workload(w, Some(slots), pass.now);
    if let Some(rollout) = advance(pass, w, &s, known, slots) {
        pass.push(Action::Advance { workload: id, rollout });
    } else if let Some(r) = known.filter(|r| r.verdict != Verdict::Progressing && !w.paused) {
        consequence(pass, id, w, r);
    }
}

/// The rollout as it is now, if that is news.
fn advance(
    pass: &mut Pass<'_>,
    w: &Workload,
    s: &WorkloadStatus,
    known: Option<&Rollout>,
    slots: &ReplicaSlots,
) -> Option<Rollout> {
    let now = pass.now;
    let fresh = Rollout {
        revision: w.revision,
        generation: w.generation,
        progressed: now,
        updated: s.updated,
        available: available(w, slots, now),
        old: s.replicas - s.updated,
        verdict: if is_whole(w, s) && !w.paused { Verdict::Complete } else { Verdict::Progressing },
        judged: now,
        reason: String::new(),
    };
    let Some(r) = known else { return Some(fresh) };
    let closer = fresh.updated > r.updated || fresh.available > r.available || fresh.old < r.old;
    if closer || fresh.verdict == Verdict::Complete {
        let (updated, available) = (fresh.updated.max(r.updated), fresh.available.max(r.available));
        return Some(Rollout { updated, available, old: fresh.old.min(r.old), ..fresh });
    }
    if r.verdict != Verdict::Progressing || w.paused {
        return None;
    }
    let judged = |verdict, reason| Some(Rollout { verdict, reason, judged: now, ..r.clone() });
    if let Some(reason) = failing(w, slots, s, now) {
        return judged(Verdict::Failed, reason);
    }
    let late = w.strategy.progress_deadline.is_some_and(|d| pass.reached(r.progressed + d));
    late.then(|| judged(Verdict::DeadlineExceeded, stalled(w, slots, s)))?
}

/// Replicas of the current revision that are available.
fn available(w: &Workload, slots: &ReplicaSlots, now: Time) -> u32 {
    let up = |r: &&Replica| {
        let at = r.available_at(w.revisions.get(&r.revision), w.strategy().min_ready());
        r.stop.is_none() && w.is_current(r.revision) && at.is_some_and(|at| now >= at)
    };
    let all = slots.slots.values().flat_map(|s| &s.replicas);
    u32::try_from(all.filter(up).count()).unwrap_or(u32::MAX)
}

/// Why the new revision cannot be expected to become available.
fn failing(w: &Workload, slots: &ReplicaSlots, s: &WorkloadStatus, now: Time) -> Option<String> {
    let fails = |r: &&Replica| {
        let at = r.available_at(w.revisions.get(&r.revision), w.strategy().min_ready());
        r.stop.is_none() && w.is_current(r.revision) && r.is_failing(at, now)
    };
    let failing = s.failing + s.past.1;
    if failing <= w.strategy().tolerated(w.desired_replicas()) {
        return None;
    }
    if s.past.1 > 0 {
        return Some(format!("{} of {} replicas failed permanently", s.past.1, w.desired_replicas()));
    }
    slots.slots.values().flat_map(|s| &s.replicas).find(fails)?;
    let trouble = s.trouble.as_ref()?;
    Some(format!("{} of {} new replicas: {trouble}", trouble.new.0.max(1), w.desired_replicas()))
}

fn stalled(w: &Workload, slots: &ReplicaSlots, s: &WorkloadStatus) -> String {
    let unready = || {
        let new = slots.slots.values().flat_map(|s| &s.replicas);
        let mut new = new.filter(|r| r.stop.is_none() && w.is_current(r.revision));
        new.find_map(|r| r.unready().map(|(name, why)| format!(": container {name} is not ready: {why}")))
    };
    let trouble = s.trouble.as_ref().map(|t| format!(": {t}"));
    let why = trouble.or_else(unready).unwrap_or_default();
    format!(
        "{} of {} new replicas are available after the progress deadline{why}",
        s.available.min(s.updated),
        w.desired_replicas()
    )
}

/// Handles the failure of a rollout. Only a revision that never worked is rolled back, so that revisions never alternate.
fn consequence(pass: &mut Pass<'_>, id: WorkloadId, w: &Workload, r: &Rollout) {
    let worked = w.history.get(&w.revision).is_some_and(|k| k.healthy);
    let back_to = match w.strategy().on_failure {
        FailureAction::None => return,
        FailureAction::Pause => None,
        FailureAction::Rollback => w.last_healthy().filter(|_| !worked),
    };
    let number = w.number(w.revision);
    let stamp =
        Stamp { at: pass.config.wall(r.judged), cause: format!("revision {number} failed: {}", r.reason) };
    let change =
        Change::Failed { workload: id, revision: w.revision, back_to, reason: r.reason.clone(), stamp };
    pass.push(Action::Persist { change });
}
