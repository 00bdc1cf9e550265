//! The desired state. Changed only by [`Change`]s, which the shell makes durable before it acknowledges them; replaying
//! the changes gives the same state. Nothing here depends on running containers.

use super::config::Config;
use super::controller::{Controller, JobEnd};
use super::ids::{Revision, WorkloadId};
use super::objects::Objects;
use super::refusal::Refusal;
use super::revision::{Kept, Stamp};
use super::runs::{Made, Owner, Runs};
use super::spec::{PodTemplate, Strategy};
use super::time::{Millis, Time};
use crate::workload::kept::{KeptKind, KeptObject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All workloads, and the objects that are kept for them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// By identity.
    pub workloads: BTreeMap<WorkloadId, Workload>,
    /// Journals of the first format have none.
    #[serde(default, skip_serializing_if = "Objects::is_empty")]
    pub objects: Objects,
    /// The last identity given out.
    pub last_id: u64,
}

/// One workload as its owner specified it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Unique among the workloads that are not deleted.
    pub name: String,
    /// Counts the changes that its owner made.
    pub generation: u64,
    /// How many replicas are desired.
    pub replicas: u32,
    /// How replicas of an old revision give way.
    pub strategy: Strategy,
    /// Behaviour of its kind.
    #[serde(default)]
    pub controller: Controller,
    /// The revision that replicas shall have.
    pub revision: Revision,
    /// The last revision given out.
    pub last_revision: Revision,
    /// The last number given to a revision. Journals of the first format have none.
    #[serde(default)]
    pub last_number: u32,
    /// The current template and older ones that are still in use or kept for going back.
    pub revisions: BTreeMap<Revision, PodTemplate>,
    /// More facts about each of them. Journals of the first format have none.
    #[serde(default)]
    pub history: BTreeMap<Revision, Kept>,
    /// No replica changes its revision.
    #[serde(default)]
    pub paused: bool,
    /// The revision that was applied while it was paused: the current one once it is resumed.
    #[serde(default)]
    pub pending: Option<Revision>,
    /// Nothing runs, whatever the number of replicas.
    #[serde(default)]
    pub stopped: bool,
    /// Slots whose replica is to be replaced, and how often that was requested. Never reset.
    pub restarts: BTreeMap<u32, u32>,
    /// Slots of the current revision that terminated for good (OnFailure and Never), and whether in failure; they are not
    /// run again after a reboot.
    pub completed: BTreeMap<u32, bool>,
    /// The end of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<JobEnd>,
    /// Of a job: the CronJob that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Of a CronJob: what it has made.
    #[serde(default)]
    pub runs: Runs,
    /// Set once its deletion was acknowledged.
    pub deletion: Option<Deletion>,
    /// The manifest as its owner wrote it; opaque here.
    pub source: serde_json::Value,
}

/// A deletion that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When it was acknowledged.
    pub at: Time,
    /// The grace period of the first request; None: the template's.
    pub grace: Option<Millis>,
    /// The deadline that later requests brought forward.
    pub deadline: Option<Time>,
    /// Grace 0 was asked for: kill without preStop and stop signal.
    pub now: bool,
}

impl Deletion {
    /// When everything is killed at the latest, for a template whose grace is `own`.
    pub fn deadline(&self, own: Millis) -> Time {
        let first = self.at + self.grace.unwrap_or(own);
        self.deadline.map_or(first, |later| later.min(first))
    }
}

/// A change of the desired state. Durable before it is acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase")]
// One is made for each change or decision, and none is kept: a box would only cost an allocation.
#[allow(clippy::large_enum_variant)]
pub enum Change {
    /// Create the workload of that name, or change it.
    Apply {
        /// Its name.
        name: String,
        /// How many replicas are desired.
        replicas: u32,
        /// How replicas of an old revision give way.
        #[serde(default)]
        strategy: Strategy,
        /// Behaviour of its kind.
        #[serde(default)]
        controller: Controller,
        /// None: as it is.
        #[serde(default)]
        paused: Option<bool>,
        /// The template of its replicas.
        template: Box<PodTemplate>,
        /// The manifest as its owner wrote it.
        #[serde(default)]
        source: serde_json::Value,
        /// When and why.
        #[serde(default)]
        stamp: Stamp,
    },
    /// Keep this object, or change it.
    Keep {
        /// The object.
        object: Box<KeptObject>,
        /// When and why.
        #[serde(default)]
        stamp: Stamp,
    },
    /// Keep the object of that name no longer.
    Discard {
        /// Its kind.
        kind: KeptKind,
        /// Its name.
        name: String,
    },
    /// Everything of one file: all of these changes, which are of different objects, or none of them.
    All {
        /// The changes, in the order of the file.
        changes: Vec<Change>,
    },
    /// Change the number of replicas.
    Scale {
        /// The workload.
        workload: WorkloadId,
        /// How many replicas are desired.
        replicas: u32,
    },
    /// Replace the replica of `slot`; without a slot, all of them, as a new revision of the same template.
    Restart {
        /// The workload.
        workload: WorkloadId,
        /// The slot of the replica.
        slot: Option<u32>,
        /// When and why.
        #[serde(default)]
        stamp: Stamp,
    },
    /// Go back to the revision of that number; None: to the one before the current one.
    Undo {
        /// The workload.
        workload: WorkloadId,
        /// The number of the revision.
        to: Option<u32>,
        /// When and why.
        #[serde(default)]
        stamp: Stamp,
    },
    /// Keep every replica at its revision, or continue.
    Pause {
        /// The workload.
        workload: WorkloadId,
        /// Whether its rollout is paused.
        paused: bool,
    },
    /// Run nothing, or as many replicas as before.
    Stop {
        /// The workload.
        workload: WorkloadId,
        /// Whether it is stopped.
        stopped: bool,
    },
    /// `grace` overrides the template's. A second delete can only shorten.
    Delete {
        /// The workload.
        workload: WorkloadId,
        /// The grace period; `None`: the template's.
        grace: Option<Millis>,
    },
    /// Make a job of a CronJob: asked for by `Persist` at a scheduled time, or by hand.
    Spawn {
        /// The CronJob.
        workload: WorkloadId,
        /// Name of the job.
        name: String,
        /// Seconds since 1970; `None`: by hand.
        scheduled: Option<i64>,
        /// When and why.
        #[serde(default)]
        stamp: Stamp,
    },
    /// Asked for by [`super::action::Action::Persist`]: this slot of this revision has terminated for good.
    Completed {
        /// The workload.
        workload: WorkloadId,
        /// The revision.
        revision: Revision,
        /// The slot of the replica.
        slot: u32,
        /// Whether its program failed.
        failed: bool,
    },
    /// Asked for by `Persist`: fewer replicas are desired, and this slot, which had terminated for good, is not one of them.
    Vacated {
        /// The workload.
        workload: WorkloadId,
        /// The slot of the replica.
        slot: u32,
    },
    /// Asked for by `Persist`: a job has succeeded or failed.
    Finished {
        /// The workload.
        workload: WorkloadId,
        /// How it finished.
        end: JobEnd,
    },
    /// Asked for by `Persist`: nothing of a deleted workload is left.
    Removed {
        /// The workload.
        workload: WorkloadId,
    },
    /// Asked for by `Persist`: all replicas of this revision were available, so it is one to go back to.
    Healthy {
        /// The workload.
        workload: WorkloadId,
        /// The revision.
        revision: Revision,
    },
    /// Asked for by `Persist`: the rollout of this revision has failed. Go back, or pause.
    Failed {
        /// The workload.
        workload: WorkloadId,
        /// The revision.
        revision: Revision,
        /// The revision that it goes back to; `None`: it is paused.
        back_to: Option<Revision>,
        /// Why, for people.
        reason: String,
        /// When and why.
        #[serde(default)]
        stamp: Stamp,
    },
    /// Asked for by `Persist`: a template that nothing uses any more.
    Pruned {
        /// The workload.
        workload: WorkloadId,
        /// The revision.
        revision: Revision,
    },
}

impl Desired {
    /// Whether `change` would be accepted.
    pub fn check(&self, change: &Change, config: &Config) -> Result<(), Refusal> {
        let enough = |n: u32| {
            let limit = config.max_replicas;
            if n > limit { Err(Refusal::TooManyReplicas { limit }) } else { Ok(()) }
        };
        match change {
            Change::Apply { name, replicas, template, .. } => {
                enough(*replicas)?;
                if template.containers.is_empty() {
                    return Err(Refusal::NoContainers);
                }
                let Some((_, w)) = self.by_name(name) else { return Ok(()) };
                w.not_deleting()?;
                w.check_job(*replicas, template)
            }
            Change::Keep { object, .. } => self.objects.check_keep(object),
            Change::Discard { kind, name } => self.objects.check_discard(*kind, name),
            Change::All { changes } => changes.iter().try_for_each(|c| match c {
                // One frame within another would be a mistake.
                Change::All { .. } => Err(Refusal::Pointless),
                change => self.check(change, config),
            }),
            Change::Scale { workload, replicas } => {
                enough(*replicas)?;
                let w = self.get(*workload)?;
                w.not_deleting()?;
                w.check_scale(*replicas)
            }
            Change::Restart { workload, slot: slot @ Some(_), .. } => {
                let w = self.get(*workload)?;
                w.not_deleting().and_then(|()| w.check_restart(*slot))
            }
            Change::Pause { workload, .. } | Change::Stop { workload, .. } => {
                self.get(*workload)?.not_deleting()
            }
            Change::Restart { workload, slot: None, .. } => {
                let w = self.get(*workload)?;
                w.not_paused().and_then(|()| w.check_restart(None))
            }
            Change::Undo { workload, to, .. } => {
                let w = self.get(*workload)?;
                w.not_paused().and_then(|()| w.check_restart(None))?;
                w.undo_target(*to).map(drop)
            }
            Change::Delete { workload, .. } => self.get(*workload).map(|_| ()),
            Change::Spawn { workload, name, scheduled, .. } => self.check_spawn(*workload, name, *scheduled),
            Change::Completed { workload, revision, .. } => {
                let current = self.get(*workload)?.revision == *revision;
                if current { Ok(()) } else { Err(Refusal::Pointless) }
            }
            Change::Vacated { workload, slot } => {
                let completed = self.get(*workload)?.completed.contains_key(slot);
                if completed { Ok(()) } else { Err(Refusal::Pointless) }
            }
            Change::Finished { workload, .. } => self.get(*workload)?.check_finished(),
            Change::Removed { workload } => {
                let deleting = self.get(*workload)?.deletion.is_some();
                if deleting { Ok(()) } else { Err(Refusal::Pointless) }
            }
            Change::Healthy { workload, revision } => {
                let w = self.get(*workload)?;
                let news = w.revision == *revision && !w.kept(*revision).healthy;
                if news { Ok(()) } else { Err(Refusal::Pointless) }
            }
            Change::Failed { workload, revision, back_to, .. } => {
                self.get(*workload)?.check_failed(*revision, *back_to)
            }
            Change::Pruned { workload, revision } => self.get(*workload)?.check_pruned(*revision),
        }
    }

    /// Applies `change`, which happened at `at`. A refused change does nothing, now and on replay.
    pub fn apply(&mut self, change: &Change, at: Time, config: &Config) -> Result<(), Refusal> {
        self.check(change, config)?;
        match change {
            Change::All { changes } => {
                let mut next = self.clone();
                // Inputs of workloads come first, wherever they are in the file.
                let kept = |c: &&Change| matches!(c, Change::Keep { .. } | Change::Discard { .. });
                let (kept, others): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(kept);
                kept.into_iter().chain(others).try_for_each(|change| next.apply_one(change, at))?;
                *self = next;
            }
            change => self.apply_one(change, at)?,
        }
        self.renew(change);
        self.objects.sweep(self.workloads.values().flat_map(|w| w.revisions.values()));
        Ok(())
    }

    fn apply_one(&mut self, change: &Change, at: Time) -> Result<(), Refusal> {
        match change {
            Change::Apply { .. } => self.apply_workload(change),
            Change::Keep { object, stamp } => self.objects.keep(object, stamp),
            Change::Discard { kind, name } => {
                self.objects.check_discard(*kind, name)?;
                self.objects.discard(*kind, name);
            }
            Change::All { .. } => return Err(Refusal::Pointless),
            Change::Scale { workload, replicas } => {
                let w = self.get_mut(*workload)?;
                w.generation += u64::from(w.replicas != *replicas || w.stopped);
                w.replicas = *replicas;
                w.stopped = false;
            }
            Change::Restart { workload, slot: None, stamp } => self.get_mut(*workload)?.restart(stamp),
            Change::Undo { workload, to, stamp } => self.get_mut(*workload)?.undo(*to, stamp)?,
            Change::Pause { workload, paused } => self.get_mut(*workload)?.pause(*paused),
            Change::Stop { workload, stopped } => {
                let w = self.get_mut(*workload)?;
                w.generation += u64::from(w.stopped != *stopped);
                w.stopped = *stopped;
            }
            Change::Healthy { workload, revision } => {
                self.get_mut(*workload)?.kept_mut(*revision).healthy = true;
            }
            Change::Failed { workload, revision, back_to, reason, stamp } => {
                self.get_mut(*workload)?.failed(*revision, *back_to, reason, stamp);
            }
            Change::Restart { workload, slot: Some(slot), .. } => {
                let w = self.get_mut(*workload)?;
                *w.restarts.entry(*slot).or_default() += 1;
                w.completed.remove(slot);
                w.finished = None;
            }
            Change::Delete { workload, grace } => self.get_mut(*workload)?.delete(*grace, at),
            Change::Spawn { workload, name, scheduled, stamp } => {
                self.spawn(*workload, name, *scheduled, stamp);
            }
            Change::Completed { workload, slot, failed, .. } => {
                self.get_mut(*workload)?.completed.insert(*slot, *failed);
            }
            Change::Vacated { workload, slot } => {
                self.get_mut(*workload)?.completed.remove(slot);
            }
            Change::Finished { workload, end } => {
                self.get_mut(*workload)?.finished = Some(end.clone());
            }
            Change::Removed { workload } => {
                self.workloads.remove(workload);
            }
            Change::Pruned { workload, revision } => {
                let w = self.get_mut(*workload)?;
                w.revisions.remove(revision);
                w.history.remove(revision);
            }
        }
        Ok(())
    }

    /// A changed object creates new revisions of its users. Workloads that waited for it continue.
    fn renew(&mut self, change: &Change) {
        let changes = match change {
            Change::All { changes } => &changes[..],
            change => std::slice::from_ref(change),
        };
        let kept = |c: &Change| match c {
            Change::Keep { object, stamp } => Some((object.kind, object.metadata.name.clone(), stamp.at)),
            _ => None,
        };
        let changed: Vec<(KeptKind, String, i64)> = changes.iter().filter_map(kept).collect();
        for w in self.workloads.values_mut().filter(|_| !changed.is_empty()) {
            w.renew(&self.objects, &changed);
        }
    }

    fn apply_workload(&mut self, change: &Change) {
        let Change::Apply { name, replicas, strategy, controller, paused, template, source, stamp } = change
        else {
            return;
        };
        let mut template = template.clone();
        self.objects.pin(&mut template);
        let template = &template;
        let Some(id) = self.by_name(name).map(|(id, _)| id) else {
            let (replicas, strategy, controller) = (*replicas, *strategy, controller.clone());
            let (template, source) = (PodTemplate::clone(template), source.clone());
            let made = Made { name, replicas, strategy, controller, template, source, owner: None };
            let id = self.create(made, stamp);
            if let Some(w) = self.workloads.get_mut(&id) {
                w.paused = paused.unwrap_or(false);
            }
            return;
        };
        let Some(w) = self.workloads.get_mut(&id) else { return };
        let asked = paused;
        let paused = asked.unwrap_or(w.paused);
        // A job is made from what its objects held when it began.
        let job = w.controller.job.is_some() && controller.job.is_some();
        let same_template = job || w.revisions.get(&w.applied()) == Some(&**template);
        let same = same_template
            && (w.replicas, w.strategy, w.paused, w.stopped) == (*replicas, *strategy, paused, false)
            && w.controller == *controller
            && w.source == *source;
        w.generation += u64::from(!same);
        w.replicas = *replicas;
        w.strategy = *strategy;
        w.reschedule(controller, stamp.at);
        w.controller = controller.clone();
        w.stopped = false;
        w.set_paused(paused);
        if !same_template {
            if asked.is_none() {
                w.end_pause_of_failure();
            }
            w.change_template(template, stamp);
        }
        w.source = source.clone();
    }

    fn get(&self, id: WorkloadId) -> Result<&Workload, Refusal> {
        self.workloads.get(&id).ok_or(Refusal::NotFound)
    }

    fn get_mut(&mut self, id: WorkloadId) -> Result<&mut Workload, Refusal> {
        self.workloads.get_mut(&id).ok_or(Refusal::NotFound)
    }

    /// The workload of that name.
    pub fn by_name(&self, name: &str) -> Option<(WorkloadId, &Workload)> {
        self.workloads.iter().find(|(_, w)| w.name == name).map(|(id, w)| (*id, w))
    }
}

impl Workload {
    /// The kind in its file, in a word: `deployment`; `workload` without one.
    pub fn kind(&self) -> String {
        self.source["spec"]["controller"]["kind"].as_str().unwrap_or("workload").to_lowercase()
    }

    /// The template that replicas shall have.
    pub fn template(&self) -> Option<&PodTemplate> {
        self.revisions.get(&self.revision)
    }

    fn not_deleting(&self) -> Result<(), Refusal> {
        if self.deletion.is_some() { Err(Refusal::Deleting) } else { Ok(()) }
    }

    /// Whether a rollout of `revision` that has failed still matters, and leads back to a revision that exists.
    fn check_failed(&self, revision: Revision, back_to: Option<Revision>) -> Result<(), Refusal> {
        let possible = back_to.is_none_or(|to| self.revisions.contains_key(&to));
        let current = self.revision == revision && self.pending.is_none() && !self.paused;
        if current && possible { Ok(()) } else { Err(Refusal::Pointless) }
    }

    /// Whether the end of a job is news.
    fn check_finished(&self) -> Result<(), Refusal> {
        let news = self.controller.job.is_some() && self.finished.is_none();
        if news { Ok(()) } else { Err(Refusal::Pointless) }
    }

    /// Whether `revision` is an old one.
    fn check_pruned(&self, revision: Revision) -> Result<(), Refusal> {
        let desired = [Some(self.revision), self.pending].contains(&Some(revision));
        let old = !desired && self.revisions.contains_key(&revision);
        if old { Ok(()) } else { Err(Refusal::Pointless) }
    }

    fn not_paused(&self) -> Result<(), Refusal> {
        self.not_deleting()?;
        if self.paused && !self.is_paused_by_failure() { Err(Refusal::Paused) } else { Ok(()) }
    }

    /// How many replicas shall run.
    pub fn desired_replicas(&self) -> u32 {
        let suspended = self.controller.job.as_ref().is_some_and(|j| j.suspended);
        if self.stopped || suspended || self.controller.cron.is_some() { 0 } else { self.replicas }
    }

    fn delete(&mut self, grace: Option<Millis>, at: Time) {
        let now = grace == Some(Millis(0));
        match &mut self.deletion {
            None => {
                self.generation += 1;
                self.deletion = Some(Deletion { at, grace, deadline: None, now });
            }
            Some(d) => {
                let asked = grace.map(|g| at + g);
                d.deadline = [d.deadline, asked].into_iter().flatten().min();
                d.now |= now;
            }
        }
    }
}
