//! Jobs: which workloads of a plan are some, and the rule P32: a job never has more successes than completions, never
//! runs again what has succeeded, never runs more at a time than it may, and nothing once it has finished.

use crate::oracle::Oracle;
use crate::process::{Proc, State};
use crate::rng::Rng;
use orun::supervisor::core::controller::{Controller, FailureRule, FailureRuleAction, Job, JobReason};
use orun::supervisor::core::desired::{Change, Desired, Workload};
use orun::supervisor::core::ids::{Key, WorkloadId};
use orun::supervisor::core::model::{Next, Replica, ReplicaSlots};
use orun::supervisor::core::spec::{PodTemplate, RestartPolicy, RestartRule, Role};
use orun::supervisor::core::time::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the jobs.
#[derive(Debug, Default)]
pub struct Jobs {
    /// What has succeeded: as seen, and as it is durable.
    seen: BTreeSet<(WorkloadId, u32)>,
    durable: BTreeMap<WorkloadId, BTreeSet<u32>>,
    ended: BTreeSet<WorkloadId>,
    /// The most that each was ever allowed to run at a time.
    most: BTreeMap<WorkloadId, u32>,
    /// How many successes complete it.
    enough: BTreeMap<WorkloadId, usize>,
}

impl Jobs {
    /// What is left after a reboot.
    pub fn after_boot(self) -> Jobs {
        Jobs { seen: BTreeSet::new(), ..self }
    }
}

/// Which of the names are jobs in this run, and what is different for them.
pub fn is_job(seed: u64, name: usize) -> bool {
    Rng::of(seed, 40 + name as u64).percent(25)
}

/// Makes an application one of a job.
pub fn make(rng: &mut Rng, replicas: &mut u32, template: &mut PodTemplate) -> Controller {
    *replicas = rng.between(1, 5) as u32;
    template.restart_policy = RestartPolicy::OnFailure;
    template.restart_limit = None;
    template.spare = false;
    for c in template.containers.iter_mut().filter(|c| c.role == Role::Main && rng.percent(70)) {
        c.launch.bundle = crate::plan::JOB.to_owned();
    }
    let by_index = rng.percent(30);
    let rule = |rng: &mut Rng| FailureRule {
        action: rng.pick(&[
            FailureRuleAction::FailJob,
            FailureRuleAction::FailIndex,
            FailureRuleAction::Ignore,
            FailureRuleAction::Count,
        ]),
        container: rng.percent(30).then(|| "c0".to_owned()),
        exit: Some(RestartRule { codes: vec![rng.pick(&[1, 3, 137])], others: rng.percent(10) }),
    };
    let rules = if rng.percent(40) { rng.between(1, 2) } else { 0 };
    let job = Job {
        parallelism: rng.between(1, 4) as u32,
        backoff_limit: rng.pick(&[Some(0), Some(2), Some(6), None]),
        backoff_limit_per_index: by_index.then(|| rng.below(3) as u32),
        max_failed_indexes: (by_index && rng.percent(40)).then(|| rng.below(3) as u32),
        deadline: rng.pick(&[None, None, Some(Millis::secs(2)), Some(Millis::secs(60))]),
        queue: !by_index && rng.percent(20),
        failure_rules: (0..rules).map(|_| rule(rng)).collect(),
        ..Job::default()
    };
    Controller { job: Some(Box::new(job)), ..Controller::default() }
}

impl Oracle {
    /// A change is durable.
    pub fn job_change(&mut self, change: &Change) {
        match change {
            Change::Completed { workload, slot, failed: false, .. } => {
                self.jobs.durable.entry(*workload).or_default().insert(*slot);
            }
            // Somebody asks for it: what has succeeded runs again, and so does what the end of the job came before.
            Change::Restart { workload, slot: Some(slot), .. } => {
                self.jobs.ended.remove(workload);
                self.jobs.seen.retain(|(w, _)| w != workload);
                self.jobs.durable.entry(*workload).or_default().remove(slot);
            }
            Change::Finished { workload, end } => {
                self.jobs.ended.insert(*workload);
                let done = self.jobs.durable.get(workload).map_or(0, BTreeSet::len);
                let enough = self.jobs.enough.get(workload).copied().unwrap_or(0);
                if end.reason == JobReason::CompletionsReached && done < enough {
                    self.blame(format!("P32: {workload:?} is complete with {done} of {enough} successes"));
                }
            }
            _ => {}
        }
    }

    /// A container has succeeded; once all main ones have, so has its replica.
    pub fn job_success(&mut self, key: &Key, template: &PodTemplate) {
        let Some(order) = self.order.get(&key.replica) else { return };
        let mains = template.containers.iter().zip(0u32..).filter(|(c, _)| c.role == Role::Main);
        if mains.map(|(_, n)| n).all(|n| order.succeeded.contains(&n)) {
            self.jobs.seen.insert((key.workload, key.slot));
        }
    }

    /// A container is about to start.
    pub fn job_starts(&mut self, key: &Key, desired: &Desired, procs: &BTreeMap<u64, Proc>) {
        let Some(w) = desired.workloads.get(&key.workload) else { return };
        let Some(job) = &w.controller.job else { return };
        let most = self.jobs.most.entry(key.workload).or_default();
        *most = job.parallelism.max(*most);
        let most = *most as usize;
        let all = if job.queue { 1 } else { w.replicas as usize };
        let enough = self.jobs.enough.entry(key.workload).or_insert(all);
        *enough = all.min(*enough);
        let durable = self.jobs.durable.get(&key.workload).is_some_and(|d| d.contains(&key.slot));
        if durable || self.jobs.seen.contains(&(key.workload, key.slot)) {
            self.blame(format!("P32: {key} runs again what has succeeded"));
        }
        if key.slot >= w.replicas {
            self.blame(format!("P32: {key} is more than the {} completions", w.replicas));
        }
        if self.jobs.ended.contains(&key.workload) {
            self.blame(format!("P32: {key} starts after the end of its job"));
        }
        let stops = |p: &Proc| p.stopping || self.is_stopped(p.key.replica);
        let runs = procs.values().filter(|p| p.key.workload == key.workload && p.state == State::Running);
        let runs = runs.filter(|p| p.executed.is_some() && !stops(p) && self.is_main(&p.key));
        let mut slots: BTreeSet<u32> = runs.map(|p| p.key.slot).collect();
        slots.insert(key.slot);
        if slots.len() > most {
            self.blame(format!("P32: {} replicas run at a time, more than {most}", slots.len()));
        }
    }

    fn is_main(&self, key: &Key) -> bool {
        let template = self.replicas.get(&key.replica).and_then(|f| f.template.as_ref());
        template.is_some_and(|t| t.containers[key.container as usize].role == Role::Main)
    }
}

/// P1 for a job: it has finished and nothing runs, or as many replicas as may are at it.
pub fn converged(w: &Workload, slots: Option<&ReplicaSlots>) -> Result<(), String> {
    let Some(job) = &w.controller.job else { return Ok(()) };
    let replicas = || {
        slots.into_iter().flat_map(|s| &s.slots).flat_map(|(n, s)| s.replicas.iter().map(move |r| (*n, r)))
    };
    if let Some((n, _)) = replicas().find(|(_, r)| r.stop.is_some()) {
        return Err(format!("P1: replica {n} of job {} is still being stopped", w.name));
    }
    let works = |r: &Replica| {
        let waits = |next: Next| matches!(next, Next::Now | Next::At(_));
        r.containers.iter().any(|c| c.lives().is_some() || waits(c.restart.next))
    };
    let at_work: BTreeSet<u32> = replicas().filter(|(_, r)| works(r)).map(|(n, _)| n).collect();
    if let Some(end) = &w.finished {
        // The init container of a replica that has failed leaves its main containers as they are.
        let runs = replicas().find(|(_, r)| r.containers.iter().any(|c| c.lives().is_some()));
        return runs
            .map_or(Ok(()), |(n, _)| Err(format!("P1: {n} runs after the end of {}: {end:?}", w.name)));
    }
    let rest = (0..w.desired_replicas()).filter(|n| !w.completed.contains_key(n)).count();
    let queue = job.queue && w.completed.values().any(|failed| !failed);
    if !queue && at_work.len() < rest.min(job.parallelism as usize) {
        return Err(format!("P1: {} replicas of job {} are at work, {rest} are left", at_work.len(), w.name));
    }
    Ok(())
}
