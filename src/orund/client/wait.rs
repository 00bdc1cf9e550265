//! Waiting until a workload has reached a state; over restarts of the supervisor.

use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use super::args::Goal;
use super::connection::{Call, Client};
use super::logs::LogLine;
use super::lookup::{Change, path};
use super::print;
use super::render::Row;
use crate::api::types::{RolloutState, WorkloadObject, WorkloadPhase};
use crate::error::{Error, Kind, Result};
use crate::workload::model::FailureAction;

/// How long after a rollout has failed it may take until it is paused or goes back; on a full disk it does neither.
const CONSEQUENCE: Duration = Duration::from_secs(5);

/// The awaited condition.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    pub name: &'a str,
    pub goal: Goal,
    /// The generation that must have been reached; 0: any.
    pub generation: u64,
    /// The number of the revision that must not fail; 0: whichever is current.
    pub revision: u32,
    pub deadline: Instant,
    /// Print each step of the rollout.
    pub steps: bool,
    /// With its kind, where that is known: `deployment/web`.
    pub path: Option<&'a str>,
}

impl<'a> Wait<'a> {
    pub fn for_workload(name: &'a str, goal: Goal, deadline: Instant) -> Wait<'a> {
        Wait { name, goal, generation: 0, revision: 0, deadline, steps: false, path: None }
    }

    /// Waits, and prints what has become true.
    ///
    /// # Errors
    /// [`Kind::Timeout`], with the reason why it has not; the rollout failed; there is no such workload.
    pub async fn run(self, client: &Client) -> Result<()> {
        let text = self.until_reached(client).await?;
        print(&format!("{text}\n"))?;
        Ok(())
    }

    async fn until_reached(&self, client: &Client) -> Result<String> {
        let call = || Call::get(path(self.name));
        // Before checking whether it exists: if it vanishes in between, the stream reports it.
        let mut lines = client.lines(call().flag("watch", true)).await?;
        let Some(mut last) = client.find::<WorkloadObject>(call()).await? else {
            let missing = || {
                Error::new(Kind::NotFound, format!("no such workload: {:?}", self.name))
                    .hint("`orund get` lists them")
            };
            let deleted = || match self.path {
                Some(path) => Ok(format!("{path} deleted")),
                None => Ok(format!("workload/{} deleted", self.name)),
            };
            return if self.goal == Goal::Delete { deleted() } else { Err(missing()) };
        };
        let uid = last.status.uid;
        let mut said = None;
        // The rollout failed, and what follows from that is still to come.
        let mut failed: Option<(Instant, Error)> = None;
        loop {
            let until = failed.as_ref().map_or(self.deadline, |(at, _)| self.deadline.min(*at));
            let Ok(next) = timeout_at(until, lines.object::<Change<WorkloadObject>>()).await else {
                return Err(failed.map_or_else(|| late(self.name, self.goal, &last), |(_, e)| e));
            };
            let change = match next {
                Ok(Some(change)) => change,
                // The supervisor restarts. The stream starts again with the state at that time.
                Ok(None) | Err(_) => {
                    lines = client.lines_again(call().flag("watch", true), self.deadline).await?;
                    let Some(object) = client.find::<WorkloadObject>(call()).await? else {
                        return self.check_deleted(&last);
                    };
                    Change { kind: "MODIFIED".to_owned(), object }
                }
            };
            if change.object.status.uid != uid || change.kind == "DELETED" {
                return self.check_deleted(&last);
            }
            if self.is_reached(&change.object) {
                return Ok(format!("{} {}", change.object.name(), reached(self.goal, &change.object)));
            }
            failed = match (self.check(client, &change.object).await, failed) {
                (Err(e), first) if acts_on_failure(&change.object) => {
                    Some((first.map_or_else(|| Instant::now() + CONSEQUENCE, |(at, _)| at), e))
                }
                (checked, _) => checked.map(|()| None)?,
            };
            let step = change.object.status.rollout.message.clone();
            if self.steps && said != step {
                print(&format!("{}\n", step.as_deref().unwrap_or("waiting")))?;
                said = step;
            }
            last = change.object;
        }
    }

    fn check_deleted(&self, last: &WorkloadObject) -> Result<String> {
        match self.goal {
            Goal::Delete => Ok(format!("{} deleted", last.name())),
            _ => Err(Error::new(Kind::NotFound, format!("workload {:?} has been deleted", self.name))),
        }
    }

    fn is_reached(&self, w: &WorkloadObject) -> bool {
        let status = &w.status;
        let superseded = self.revision > 0 && status.revision < self.revision;
        let failed = status.rollout.failed.as_ref().is_some_and(|f| f.revision == self.revision);
        status.generation >= self.generation && !superseded && !failed && is_reached(w, self.goal)
    }

    /// Whether it can still be expected.
    async fn check(&self, client: &Client, w: &WorkloadObject) -> Result<()> {
        if self.goal != Goal::Ready || w.status.generation < self.generation {
            return Ok(());
        }
        let rollout = &w.status.rollout;
        let given_up = rollout.failed.as_ref().filter(|f| self.revision > 0 && f.revision == self.revision);
        let message = match (given_up, rollout.state) {
            (Some(failed), _) => {
                let then = match w.status.revision == failed.revision {
                    true => "the rollout is paused".to_owned(),
                    false => format!("rolled back to revision {}", w.status.revision),
                };
                format!("{}; {then}", failed.message)
            }
            (None, RolloutState::Paused) if w.status.revision < self.revision => {
                format!("it is paused; revision {} starts when it is resumed", self.revision)
            }
            (None, RolloutState::Failed | RolloutState::DeadlineExceeded) => {
                rollout.message.clone().unwrap_or_default()
            }
            _ => return Ok(()),
        };
        let last = match (&rollout.replica, &rollout.container) {
            (Some(replica), Some(container)) => last_line(client, replica, container).await,
            _ => None,
        };
        let last = last.map(|l| format!(", last line {l:?}")).unwrap_or_default();
        let late = rollout.state == RolloutState::DeadlineExceeded && given_up.is_none();
        let kind = if late { Kind::Timeout } else { Kind::State };
        let message = format!("the rollout of workload {:?} failed: {message}{last}", self.name);
        Err(Error::new(kind, message).hint(format!("`orund describe {}` shows more", self.name)))
    }
}

/// Whether its rollout has failed and is about to be paused or to go back.
fn acts_on_failure(w: &WorkloadObject) -> bool {
    let failed = matches!(w.status.rollout.state, RolloutState::Failed | RolloutState::DeadlineExceeded);
    failed && w.workload.spec.failure_action != FailureAction::None
}

/// The last line that a container wrote: of its last run, or of the one before, if it has not written yet.
pub async fn last_line(client: &Client, replica: &str, container: &str) -> Option<String> {
    for previous in [false, true] {
        let call = Call::get("/v1/logs").with("replica", replica).with("container", container);
        let mut lines = client.lines(call.with("tail", "1").flag("previous", previous)).await.ok()?;
        while let Ok(Some(line)) = lines.next().await {
            if let Some(entry) = LogLine::new(&line).filter(|e| !e.note) {
                return Some(String::from_utf8_lossy(entry.text).chars().take(200).collect());
            }
        }
    }
    None
}

/// The condition that became true.
fn reached(goal: Goal, w: &WorkloadObject) -> String {
    let of = |n: u32, word: &str| format!("{n}/{} replicas {word}", w.workload.spec.replicas);
    match goal {
        Goal::Ready if w.status.phase == WorkloadPhase::Complete => {
            format!("complete: {}", of(w.status.succeeded, "succeeded"))
        }
        Goal::Ready if w.status.phase == WorkloadPhase::Stopped => "stopped".to_owned(),
        Goal::Ready | Goal::Replicas(_) => format!("ready: {}", of(w.status.available, "available")),
        Goal::Complete => format!("complete: {}", of(w.status.succeeded, "succeeded")),
        Goal::Failed => match w.status.job.as_ref().filter(|_| w.status.failed == 0) {
            Some(job) => format!("failed: {}: {}", job.reason, job.message),
            None => format!("failed: {}", of(w.status.failed, "failed")),
        },
        Goal::Stopped => "stopped".to_owned(),
        Goal::Delete => "deleted".to_owned(),
    }
}

fn words(goal: Goal) -> String {
    match goal {
        Goal::Ready => "is not ready".to_owned(),
        Goal::Complete => "is not complete".to_owned(),
        Goal::Failed => "has not failed".to_owned(),
        Goal::Stopped => "is not stopped".to_owned(),
        Goal::Delete => "is not deleted".to_owned(),
        Goal::Replicas(n) => format!("does not have {n} available replicas"),
    }
}

fn is_job(w: &WorkloadObject) -> bool {
    w.workload.spec.controller.as_ref().is_some_and(|c| c.is_job())
}

fn is_reached(w: &WorkloadObject, goal: Goal) -> bool {
    let status = &w.status;
    match goal {
        Goal::Ready => {
            let phase = status.phase;
            let idle = phase == WorkloadPhase::Stopped && (w.workload.spec.replicas == 0 || status.stopped);
            phase == WorkloadPhase::Ready || phase == WorkloadPhase::Complete || idle
        }
        Goal::Complete => status.phase == WorkloadPhase::Complete,
        Goal::Failed => status.job.as_ref().map_or(status.failed > 0 && !is_job(w), |job| job.failed),
        Goal::Stopped => status.phase == WorkloadPhase::Stopped,
        Goal::Replicas(n) => status.available == n && status.replicas == n,
        // Its deletion is the report.
        Goal::Delete => false,
    }
}

fn late(name: &str, goal: Goal, last: &WorkloadObject) -> Error {
    let status = &last.status;
    let why = match &status.message {
        Some(message) => message.clone(),
        None => format!("{} of {} replicas are available", status.available, last.workload.spec.replicas),
    };
    let message = format!("workload {name:?} {} in time: {:?}, {why}", words(goal), status.phase);
    Error::new(Kind::Timeout, message).hint(format!("`orund describe {name}` shows the details"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::WorkloadStatus;
    use crate::workload::{Metadata, Spec, Workload};

    fn object(phase: WorkloadPhase, ready: u32) -> WorkloadObject {
        WorkloadObject {
            workload: Workload {
                api_version: Default::default(),
                kind: Default::default(),
                metadata: Metadata { name: "web".into(), ..Metadata::default() },
                spec: Spec { replicas: 3, ..Spec::default() },
            },
            status: WorkloadStatus {
                phase,
                ready,
                available: ready,
                replicas: 3,
                ..WorkloadStatus::default()
            },
        }
    }

    #[test]
    fn goals_are_reached_by_what_they_name() {
        assert!(is_reached(&object(WorkloadPhase::Ready, 3), Goal::Ready));
        assert!(is_reached(&object(WorkloadPhase::Complete, 0), Goal::Ready));
        assert!(!is_reached(&object(WorkloadPhase::Progressing, 3), Goal::Ready));
        assert!(!is_reached(&object(WorkloadPhase::Ready, 3), Goal::Complete));
        assert!(is_reached(&object(WorkloadPhase::Progressing, 3), Goal::Replicas(3)));
        assert!(!is_reached(&object(WorkloadPhase::Progressing, 2), Goal::Replicas(3)));
    }

    #[test]
    fn what_came_too_late_says_why() {
        let mut w = object(WorkloadPhase::Degraded, 2);
        w.status.message = Some("web-1: CrashLoopBackOff: exit code 1".to_owned());
        let text = late("web", Goal::Ready, &w).to_string();
        let expected = "workload \"web\" is not ready in time: Degraded, web-1: CrashLoopBackOff: exit code 1; hint: `orund describe web` shows the details";
        assert_eq!(text, expected);
    }

    #[test]
    fn objects_are_read_back_as_they_are_sent() {
        let w = object(WorkloadPhase::Ready, 3);
        let text = serde_json::to_string(&w).unwrap();
        assert_eq!(serde_json::from_str::<WorkloadObject>(&text).unwrap(), w);
    }
}
