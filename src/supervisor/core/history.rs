//! The revisions of a workload: which there were, why, and how it goes from one to another.

use super::desired::Workload;
use super::ids::Revision;
use super::objects::Objects;
use super::refusal::Refusal;
use super::revision::{Kept, Stamp};
use super::spec::{Pinned, PodTemplate, Strategy};
use crate::workload::kept::KeptKind;

impl Workload {
    /// The number that people know the revision by.
    pub fn number(&self, revision: Revision) -> u32 {
        self.history.get(&revision).map(|k| k.number).filter(|n| *n > 0).unwrap_or(revision.0)
    }

    /// The facts about a revision.
    pub fn kept(&self, revision: Revision) -> Kept {
        self.history.get(&revision).cloned().unwrap_or_default()
    }

    pub(super) fn kept_mut(&mut self, revision: Revision) -> &mut Kept {
        self.history.entry(revision).or_insert(Kept { number: revision.0, ..Kept::default() })
    }

    /// The revision that was applied last: the current one unless the rollout is paused.
    pub fn applied(&self) -> Revision {
        self.pending.unwrap_or(self.revision)
    }

    fn incarnation(&self, revision: Revision) -> u32 {
        self.history.get(&revision).map_or(0, |k| k.incarnation)
    }

    /// Whether replicas of `from` can go over to `to` as they run.
    pub fn in_place(&self, from: Revision, to: Revision) -> bool {
        let runs_as = || self.revisions.get(&from)?.runs_as(self.revisions.get(&to)?).then_some(());
        self.incarnation(from) == self.incarnation(to) && runs_as().is_some()
    }

    /// Makes `template` the desired one. Going back to one whose replicas may still run keeps them.
    pub(super) fn change_template(&mut self, template: &PodTemplate, stamp: &Stamp) {
        let known = self.revisions.iter().filter(|(_, t)| *t == template).map(|(r, _)| *r);
        let revision = known.max_by_key(|r| self.number(*r));
        let revision =
            revision.unwrap_or_else(|| self.add(template.clone(), self.incarnation(self.applied())));
        self.want(revision, stamp);
    }

    /// A new revision, whose number is that of the next [`Workload::want`].
    fn add(&mut self, template: PodTemplate, incarnation: u32) -> Revision {
        let revision = Revision(self.last_revision.0 + 1);
        self.last_revision = revision;
        self.revisions.insert(revision, template);
        self.history.insert(revision, Kept { incarnation, ..Kept::default() });
        revision
    }

    /// Takes changed objects into account: kind, name, and when.
    pub(super) fn renew(&mut self, objects: &Objects, changed: &[(KeptKind, String, i64)]) {
        if self.deletion.is_some() {
            return;
        }
        let uses = |t: &PodTemplate| {
            let of = |i: &Pinned| changed.iter().find(|(k, n, _)| (*k, n) == (i.input.kind, &i.input.name));
            t.inputs.iter().find_map(of).cloned()
        };
        for template in self.revisions.values_mut().filter(|t| uses(t).is_some()) {
            objects.fill(template);
        }
        // A CronJob gives each job what its objects hold then.
        if self.controller.job.is_some() || self.controller.cron.is_some() {
            return;
        }
        let Some(template) = self.revisions.get(&self.applied()) else { return };
        let Some((kind, name, at)) = uses(template) else { return };
        let (mut now, before) = (template.clone(), template.inputs.clone());
        objects.pin(&mut now);
        if now.inputs == before {
            return;
        }
        let other = before.iter().zip(&now.inputs).find(|(b, n)| b != n).map(|(_, n)| &n.input);
        let (kind, name) = other.map_or((kind, name), |i| (i.kind, i.name.clone()));
        self.generation += 1;
        let source = self.source.clone();
        self.end_pause_of_failure();
        self.change_template(&now, &Stamp { at, cause: format!("{} {name} changed", kind.name()) });
        self.source = source;
    }

    fn want(&mut self, revision: Revision, stamp: &Stamp) {
        // Identities are as in journals of the first format, which counted no returns.
        let fresh = self.history.get(&revision).is_some_and(|k| k.number == 0);
        let number = match fresh {
            true => revision.0.max(self.last_number + 1),
            false => self.last_revision.0.max(self.last_number) + 1,
        };
        self.last_number = number;
        let before = self.applied();
        let source = std::mem::take(&mut self.source);
        self.kept_mut(before).source = source;
        let kept = self.kept_mut(revision);
        kept.number = number;
        kept.stamp = stamp.clone();
        kept.failed = None;
        kept.back = false;
        self.source = std::mem::take(&mut kept.source);
        if self.paused {
            self.pending = Some(revision).filter(|r| *r != self.revision);
        } else {
            self.turn_to(revision);
        }
    }

    /// Makes `revision` the current one. Its replicas are yet to run, unless those of the last one go over to it.
    fn turn_to(&mut self, revision: Revision) {
        let policy = |r: Revision| self.revisions.get(&r).map(|t| t.restart_policy);
        let in_place = self.in_place(self.revision, revision) && policy(self.revision) == policy(revision);
        if !in_place {
            self.completed.clear();
        }
        self.revision = revision;
        self.pending = None;
    }

    pub(super) fn restart(&mut self, stamp: &Stamp) {
        self.generation += 1;
        self.end_pause_of_failure();
        let Some(template) = self.template().cloned() else { return };
        let source = self.source.clone();
        let revision = self.add(template, self.incarnation(self.revision) + 1);
        self.want(revision, stamp);
        self.source = source;
    }

    /// The revision of that number, or the one before the current one.
    ///
    /// # Errors
    /// [`Refusal::NoRevision`], [`Refusal::SameRevision`].
    pub fn undo_target(&self, to: Option<u32>) -> Result<Revision, Refusal> {
        let current = self.number(self.revision);
        let numbered = || self.revisions.keys().map(|r| (self.number(*r), *r));
        let found = match to {
            Some(number) if number == current => return Err(Refusal::SameRevision { number }),
            Some(number) => numbered().find(|(n, _)| *n == number),
            None => numbered().filter(|(n, _)| *n < current).max(),
        };
        found.map(|(_, r)| r).ok_or(Refusal::NoRevision { number: to })
    }

    pub(super) fn undo(&mut self, to: Option<u32>, stamp: &Stamp) -> Result<(), Refusal> {
        let revision = self.undo_target(to)?;
        self.generation += 1;
        self.end_pause_of_failure();
        self.go_back(revision, stamp);
        Ok(())
    }

    fn go_back(&mut self, to: Revision, stamp: &Stamp) {
        self.want(to, stamp);
        self.kept_mut(to).back = true;
    }

    /// How replicas give way to those of the current revision.
    pub fn strategy(&self) -> Strategy {
        let back = self.history.get(&self.revision).is_some_and(|k| k.back);
        if back { self.strategy.backwards() } else { self.strategy }
    }

    /// Whether the failure of the current revision paused the rollout.
    pub fn is_paused_by_failure(&self) -> bool {
        self.paused && self.history.get(&self.revision).is_some_and(|k| k.failed.is_some())
    }

    /// Another revision than the failed one is rolled out.
    pub(super) fn end_pause_of_failure(&mut self) {
        if self.is_paused_by_failure() {
            self.paused = false;
            self.pending = None;
        }
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.generation += u64::from(self.paused != paused);
        self.set_paused(paused);
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        if self.paused && !paused {
            // To resume a failed rollout means to try it again.
            let current = self.revision;
            self.kept_mut(current).failed = None;
            if let Some(revision) = self.pending {
                self.turn_to(revision);
            }
        }
        self.paused = paused;
    }

    /// The last revision besides the current one that all replicas were available with.
    pub fn last_healthy(&self) -> Option<Revision> {
        let good = |r: &&Revision| **r != self.revision && self.history.get(r).is_some_and(|k| k.healthy);
        self.revisions.keys().filter(good).copied().max_by_key(|r| self.number(*r))
    }

    pub(super) fn failed(
        &mut self,
        revision: Revision,
        back_to: Option<Revision>,
        reason: &str,
        stamp: &Stamp,
    ) {
        self.generation += 1;
        self.kept_mut(revision).failed = Some(reason.to_owned());
        match back_to {
            Some(to) => self.go_back(to, stamp),
            None => self.paused = true,
        }
    }
}
