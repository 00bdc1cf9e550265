//! Jobs: what a failure of a container means, and when the whole has succeeded or failed.
//!
//! A replica that has failed is run again in its place. Failures are counted where they are decided, in
//! [`Restart::counted`]; the end of a job is durable ([`Change::Finished`]).

use super::action::Action;
use super::controller::{FailureRule, FailureRuleAction, JobEnd, JobReason, SuccessRule};
use super::desired::{Change, Workload};
use super::exit::{Exit, ExitClass, StopCause};
use super::ids::{Key, WorkloadId};
use super::model::{Next, Replica, ReplicaSlots, Restart, Slot};
use super::pass::{ContainerContext, Pass, replicas, stop_one};
use super::refusal::Refusal;
use super::spec::PodTemplate;
use super::time::Time;

fn end(failed: bool, reason: JobReason, message: String) -> JobEnd {
    JobEnd { failed, reason, message }
}

fn complete(succeeded: u32) -> JobEnd {
    end(false, JobReason::CompletionsReached, format!("{succeeded} replicas have succeeded"))
}

impl Workload {
    /// Whether it is a queue of work that is empty: nothing of it is run again.
    fn is_drained_queue(&self) -> bool {
        let queue = self.controller.job.as_ref().is_some_and(|j| j.queue);
        queue && self.completed.values().any(|failed| !failed)
    }

    /// How a job has finished, from what is durable.
    #[must_use]
    pub fn job_end(&self) -> Option<JobEnd> {
        let job = self.controller.job.as_ref()?;
        if self.finished.is_some() {
            return self.finished.clone();
        }
        let (failed, succeeded) = self
            .completed
            .values()
            .fold((0u32, 0u32), |(f, s), failed| if *failed { (f + 1, s) } else { (f, s + 1) });
        if let Some(n) = job.success_rules.iter().position(|r| self.holds(r)) {
            let message = format!("successPolicy.rules[{n}] holds: {succeeded} replicas have succeeded");
            return Some(end(false, JobReason::SuccessPolicy, message));
        }
        let by_index = job.backoff_limit_per_index.is_some();
        if failed > 0 && !by_index && !job.queue {
            let message = format!("{failed} of {} replicas failed too often", self.replicas);
            return Some(end(true, JobReason::BackoffLimitExceeded, message));
        }
        if let Some(most) = job.max_failed_indexes.filter(|most| failed > *most) {
            let message = format!("{failed} indexes have failed, more than maxFailedIndexes, {most}");
            return Some(end(true, JobReason::MaxFailedIndexesExceeded, message));
        }
        if !(0..self.replicas).all(|n| self.completed.contains_key(&n)) {
            return None;
        }
        Some(match (job.queue, succeeded, failed) {
            (true, 0, _) => end(true, JobReason::BackoffLimitExceeded, "all replicas failed".to_owned()),
            (false, _, 1..) => {
                let message = format!("{failed} of {} indexes have failed", self.replicas);
                end(true, JobReason::FailedIndexes, message)
            }
            (true, ..) | (false, _, 0) => complete(succeeded),
        })
    }

    fn holds(&self, rule: &SuccessRule) -> bool {
        let all = vec![(0, self.replicas.saturating_sub(1))];
        let ranges = rule.indexes.as_ref().unwrap_or(&all);
        let within = |n: &u32| ranges.iter().any(|(first, last)| (first..=last).contains(&n));
        let succeeded = self.completed.iter().filter(|(n, failed)| !**failed && within(n)).count();
        let size: u64 = ranges.iter().map(|(a, b)| u64::from(*b).saturating_sub(u64::from(*a)) + 1).sum();
        succeeded as u64 >= rule.count.map_or(size, u64::from).max(1)
    }

    /// A job that has begun is what it is: `template` and `replicas` cannot be others.
    pub(super) fn check_job(&self, replicas: u32, template: &PodTemplate) -> Result<(), Refusal> {
        if self.controller.job.is_none() {
            return Ok(());
        }
        let mut same = template.clone();
        if let Some(own) = self.template() {
            let inputs = |t: &PodTemplate| t.inputs.iter().map(|i| i.input.clone()).collect::<Vec<_>>();
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
        let complete = self.finished.as_ref().is_some_and(|end| !end.failed);
        match (&self.controller.job, slot) {
            (None, _) => Ok(()),
            (Some(_), Some(n)) if !succeeded(n) && !complete => Ok(()),
            (Some(_), _) => Err(Refusal::Immutable { what: "the completions of a Job".to_owned() }),
        }
    }
}

/// How the job has finished, or finishes now.
pub fn ended(workload: &Workload, slots: &ReplicaSlots, now: Time) -> Option<JobEnd> {
    let job = workload.controller.job.as_ref()?;
    if workload.finished.is_some() {
        return workload.finished.clone();
    }
    if let Some((n, rule)) = slots.slots.iter().find_map(|(n, s)| Some((n, fails_job(s)?))) {
        let message = format!("replica {n} failed in a way that podFailurePolicy.rules[{rule}] is about");
        return Some(end(true, JobReason::PodFailurePolicy, message));
    }
    if let Some(end) = workload.job_end() {
        return Some(end);
    }
    let mut active = slots.slots.iter().filter(|(n, s)| is_active(workload, **n, s));
    if workload.is_drained_queue() && active.next().is_none() {
        let succeeded = workload.completed.values().filter(|failed| !**failed).count();
        return Some(complete(u32::try_from(succeeded).unwrap_or(u32::MAX)));
    }
    let failures = failures(slots);
    if let Some(limit) = job.backoff_limit.filter(|limit| failures > *limit) {
        let message = format!("{failures} failures, more than backoffLimit, {limit}");
        return Some(end(true, JobReason::BackoffLimitExceeded, message));
    }
    let over = slots.began.zip(job.deadline).is_some_and(|(began, limit)| now >= began + limit);
    (over && workload.desired_replicas() > 0).then(|| {
        let message = "it was active for longer than activeDeadlineSeconds".to_owned();
        end(true, JobReason::DeadlineExceeded, message)
    })
}

fn fails_job(slot: &Slot) -> Option<u32> {
    slot.replicas.iter().flat_map(|r| &r.containers).find_map(|c| c.restart.fails_job)
}

/// Whether the end of the job is decided and not durable yet. What shows it, its stopped replicas, stays until then:
/// without them the job would continue.
pub fn is_ending(workload: &Workload, slots: &ReplicaSlots, now: Time) -> bool {
    let about =
        workload.controller.job.is_some() && workload.deletion.is_none() && workload.finished.is_none();
    about && ended(workload, slots, now).is_some()
}

/// The failures of all replicas that count.
pub fn failures(slots: &ReplicaSlots) -> u32 {
    replicas(slots).map(|(_, r)| counted(r)).fold(0, u32::saturating_add)
}

fn counted(replica: &Replica) -> u32 {
    replica.containers.iter().map(|c| c.restart.counted).fold(0, u32::saturating_add)
}

/// How many more replicas may be made.
pub fn room(workload: &Workload, slots: &ReplicaSlots, now: Time) -> usize {
    let Some(job) = &workload.controller.job else { return usize::MAX };
    // A queue is not filled again.
    if workload.is_drained_queue() || ended(workload, slots, now).is_some() {
        return 0;
    }
    let active = slots.slots.iter().filter(|(n, s)| is_active(workload, **n, s)).count();
    (job.parallelism as usize).saturating_sub(active)
}

fn is_active(workload: &Workload, n: u32, slot: &Slot) -> bool {
    !slot.replicas.is_empty() && !workload.completed.contains_key(&n)
}

/// The restart decision of a job after the exit of a container, instead of `next`, the decision of the policy alone.
pub fn decide_after_exit(
    place: &ContainerContext<'_>,
    key: &Key,
    class: ExitClass,
    exit: &Exit,
    mut next: Restart,
) -> Restart {
    let Some((workload, job)) = place.of.and_then(|w| Some((w, w.controller.job.as_ref()?))) else {
        return next;
    };
    let no_image = matches!(class, ExitClass::StartError { image: Some(_), .. });
    if !class.is_failure() || no_image {
        return next;
    }
    let name = place.replica.containers.get(key.container as usize).map_or("", |c| c.name.as_str());
    let rule =
        exit_code(class, exit).and_then(|code| job.failure_rules.iter().position(|r| r.is_about(name, code)));
    let gives_up = Next::Done { failed: true };
    match rule.map(|n| (n, job.failure_rules[n].action)) {
        Some((n, FailureRuleAction::FailJob)) => {
            next.fails_job = Some(u32::try_from(n).unwrap_or(u32::MAX));
            next.next = gives_up;
        }
        Some((_, FailureRuleAction::FailIndex)) => next.next = gives_up,
        Some((_, FailureRuleAction::Ignore)) => {}
        Some((_, FailureRuleAction::Count)) | None => {
            next.counted = next.counted.saturating_add(1);
            let over = |limit: Option<u32>, before: u32| limit.is_some_and(|limit| before >= limit);
            if workload.is_drained_queue()
                || over(job.backoff_limit, place.failures)
                || over(job.backoff_limit_per_index, counted(place.replica))
            {
                next.next = gives_up;
            }
        }
    }
    next
}

/// As Kubernetes has it: a signal is 128 and its number, a program that cannot be started is 128.
fn exit_code(class: ExitClass, exit: &Exit) -> Option<i32> {
    match exit.status {
        Some(status) => status.code().or_else(|| Some(128 + status.signal()?)),
        None => matches!(class, ExitClass::StartError { .. }).then_some(128),
    }
}

impl FailureRule {
    fn is_about(&self, container: &str, code: i32) -> bool {
        self.container.as_ref().is_none_or(|name| name == container)
            && self.exit.as_ref().is_some_and(|e| e.codes.contains(&code) != e.others)
    }
}

/// Ends a job: records the end, stops the rest, and deletes the job after its time.
pub fn finish(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, slots: &ReplicaSlots) {
    let Some(job) = &workload.controller.job else { return };
    let Some(end) = ended(workload, slots, pass.now) else {
        if let Some((began, limit)) = slots.began.zip(job.deadline) {
            pass.reached(began + limit);
        }
        if workload.is_drained_queue() {
            stop_idle(pass, id, workload, slots);
        }
        return;
    };
    if workload.finished.is_none() {
        pass.push(Action::Persist { change: Change::Finished { workload: id, end: end.clone() } });
    }
    let active = slots.slots.iter().filter(|(n, _)| !workload.completed.contains_key(n));
    let cause = if end.failed { StopCause::JobFailed } else { StopCause::JobComplete };
    let mut idle = true;
    for (n, replica) in active.flat_map(|(n, s)| s.replicas.iter().map(move |r| (*n, r))) {
        idle = false;
        // Failed replicas stay for inspection.
        if replica.stop.is_none() && !replica.has_ended() {
            stop_one(pass, id, workload, n, replica, cause);
        }
    }
    // After a reboot nothing is known of when it finished: its time begins again.
    let exits = slots.slots.values().flat_map(|s| s.history.values()).flat_map(|h| &h.exits);
    let ended = exits.map(|e| e.at).max().unwrap_or(Time(0));
    if let Some(ttl) = job.ttl
        && idle
        && pass.reached(ended + ttl)
    {
        pass.push(Action::Persist { change: Change::Delete { workload: id, grace: None } });
    }
}

/// Replicas of a queue that wait for their next start are not run again once it is empty.
fn stop_idle(pass: &mut Pass<'_>, id: WorkloadId, workload: &Workload, slots: &ReplicaSlots) {
    let active = slots.slots.iter().filter(|(n, s)| is_active(workload, **n, s));
    for (n, replica) in active.flat_map(|(n, s)| s.replicas.iter().map(move |r| (*n, r))) {
        let waits = replica.containers.iter().all(|c| c.instances.iter().all(|i| i.is_dead() && i.settled));
        if waits && replica.stop.is_none() && !replica.has_ended() {
            stop_one(pass, id, workload, n, replica, StopCause::JobComplete);
        }
    }
}
