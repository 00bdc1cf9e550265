//! The words for people that events are worth.

use super::action::{Action, Notice, Reason, Severity};
use super::checks::{Hook, HookKind, ProbeKind};
use super::event::Event;
use super::exit::{ExitClass, StartError, StopCause, WaitStatus};
use super::ids::{Key, ReplicaKey, WorkloadId};
use super::model::{Instance, Next, Observed, Restart, SandboxState};
use super::progress::{Rollout, Verdict};
use super::publication::Taken;
use super::runs::{Outcome, Seen};
use super::time::{Millis, Time};
use crate::workload::schedule::MANY_MISSED;
use std::fmt;

/// The notice for `event`, which is not applied yet.
pub fn describe_event(observed: &Observed, event: &Event, at: Time) -> Option<Notice> {
    let telling = |key: &Key, reason, message| Some(about(observed, key, at, reason, message));
    match event {
        Event::Decided { action } => decided(observed, action, at),
        Event::Prepared { key, .. } => telling(key, Reason::Created, "created".to_owned()),
        Event::Started { key } => telling(key, Reason::Started, "started".to_owned()),
        Event::StartFailed { key, error } => not_started(observed, key, at, error),
        Event::HookDone { key, kind: HookKind::PreStop, error: Some(error) } => {
            telling(key, Reason::FailedPreStopHook, format!("preStop: {error}"))
        }
        Event::HookDone { key, kind: HookKind::PostStart, error: Some(error) } => {
            telling(key, Reason::FailedPostStartHook, format!("postStart: {error}"))
        }
        Event::Probed { key, kind, n, ok, error: Some(error) } => {
            let message = probed(observed.instance(key)?, *kind, *n, *ok, error)?;
            telling(key, Reason::Unhealthy, message)
        }
        Event::Updated { key, error: None } => {
            telling(key, Reason::ResizeCompleted, "new limits in effect".to_owned())
        }
        Event::Updated { key, error: Some(error) } => telling(
            key,
            Reason::FailedResize,
            format!("the new limits take effect with the next start: {error}"),
        ),
        Event::Removed { key, error: Some(error) } => {
            telling(key, Reason::FailedKillPod, format!("removal failed: {error}"))
        }
        Event::OomKilled { key } => telling(
            key,
            Reason::OOMKilling,
            "a process was killed by the OOM killer: memory limit reached".to_owned(),
        ),
        Event::LogsBlocked { key, error: Some(error) } => telling(
            key,
            Reason::LogDiskFull,
            format!("its output cannot be written, and the program blocks when its pipe is full: {error}"),
        ),
        Event::LogsBlocked { key, error: None } => {
            telling(key, Reason::LogDiskRecovered, "its output is written again; nothing was lost".to_owned())
        }
        Event::SandboxFailed { replica, error } => sandbox(
            observed,
            replica,
            at,
            Reason::FailedCreatePodSandBox,
            format!("the sandbox could not be made: {error}"),
        ),
        Event::SandboxGone { replica, error: Some(error) } => sandbox(
            observed,
            replica,
            at,
            Reason::FailedKillPod,
            format!("removal of the sandbox failed: {error}"),
        ),
        Event::SandboxLost { replica } | Event::SandboxFound { replica, whole: false, .. } => {
            let ready =
                observed.replica_of(replica).is_some_and(|r| r.sandbox_state() == SandboxState::Ready);
            let message = "the sandbox no longer exists: its containers restart in a new one".to_owned();
            ready.then(|| sandbox(observed, replica, at, Reason::SandboxChanged, message))?
        }
        Event::KeeperLost => {
            let message = "the keeper died; exit statuses may be lost until the service is restarted";
            Some(Notice::of_the_daemon(at, Reason::KeeperLost, message.to_owned()))
        }
        Event::Published { taken, .. } => port_taken(observed, taken, at),
        Event::Draining { on } => (observed.draining != *on).then(|| draining(*on, at)),
        _ => None,
    }
}

fn draining(on: bool, at: Time) -> Notice {
    let (reason, message) = match on {
        true => (Reason::Draining, "the host is drained: all replicas are stopped and none is started"),
        false => (Reason::DrainUndone, "the drain was undone: starting the replicas again"),
    };
    Notice { severity: Severity::Normal, ..Notice::of_the_daemon(at, reason, message.to_owned()) }
}

/// The first port that could be opened before, or was not published, and cannot be opened now.
fn port_taken(observed: &Observed, taken: &[Taken], at: Time) -> Option<Notice> {
    let new = taken.iter().find(|t| !observed.endpoints.taken.contains(t))?;
    let route = observed.endpoints.map.iter().find(|r| r.host == new.host)?;
    let workload = route.workload;
    let whose = route.service.as_ref().map_or(String::new(), |name| format!(" of service {name:?}"));
    let message = format!("port {}{whose} cannot be published: {}", new.host, new.error);
    Some(Notice { workload, ..Notice::of_the_daemon(at, Reason::PortTaken, message) })
}

/// A notice about the sandbox of a replica.
fn sandbox(
    observed: &Observed,
    replica: &ReplicaKey,
    at: Time,
    reason: Reason,
    message: String,
) -> Option<Notice> {
    let ReplicaKey { workload, slot, serial } = *replica;
    let key = Key { workload, slot, replica: serial, container: 0, instance: 0 };
    Some(Notice { container: None, instance: None, ..about(observed, &key, at, reason, message) })
}

fn decided(observed: &Observed, action: &Action, at: Time) -> Option<Notice> {
    let telling = |key: &Key, reason, message| Some(about(observed, key, at, reason, message));
    let replica = |workload: &WorkloadId, slot: &u32, reason, message| {
        let key = Key { workload: *workload, slot: *slot, replica: 0, container: 0, instance: 0 };
        Some(Notice { instance: None, ..about(observed, &key, at, reason, message) })
    };
    match action {
        Action::AddReplica { workload, slot, revision, .. } => replica(
            workload,
            slot,
            Reason::SuccessfulCreate,
            format!("new replica of revision {}", revision.0),
        ),
        Action::DropReplica { workload, slot, .. } => {
            replica(workload, slot, Reason::SuccessfulDelete, "gone".to_owned())
        }
        Action::StopReplica { workload, slot, serial, cause, deadline, now } => {
            let known = observed.replica(*workload, *slot, *serial).is_some_and(|r| r.stop.is_some());
            let left = if *now { Millis(0) } else { deadline.since(at) };
            let text = if known { "deadline brought forward".to_owned() } else { cause.to_string() };
            replica(workload, slot, Reason::Killing, format!("{text}; {left} of grace"))
        }
        Action::Signal { key, .. } | Action::RunHook { key, kind: HookKind::PreStop } => {
            let first = observed.instance(key).and_then(|i| i.stop)?.hook == Hook::NotRun;
            let exposed = observed.endpoints.exposed().contains(&key.replica);
            let message =
                "the proxy has not confirmed that it sends no more connections there: continuing anyway";
            (first && exposed).then(|| about(observed, key, at, Reason::PublishSlow, message.to_owned()))
        }
        Action::Expire { replica } => sandbox(
            observed,
            replica,
            at,
            Reason::DeadlineExceeded,
            "it was active for longer than activeDeadlineSeconds: stopping".to_owned(),
        ),
        Action::Stop { key, cause: StopCause::ProbeFailed, .. } => {
            let starting = observed.instance(key)?.health.as_ref().is_some_and(|h| !h.is_started());
            let kind = if starting { ProbeKind::Startup } else { ProbeKind::Liveness };
            telling(key, Reason::Killing, format!("stopped: the {kind} probe has failed too often in a row"))
        }
        Action::Stop { key, cause: StopCause::PostStartFailed, .. } => {
            telling(key, Reason::Killing, "stopped: postStart failed".to_owned())
        }
        Action::Judge { key, kind, ok: false } => {
            let message = format!("not ready: the {kind} probe has failed too often in a row");
            telling(key, Reason::Unhealthy, message)
        }
        Action::AbandonHook { key, .. } => telling(
            key,
            Reason::FailedPreStopHook,
            "preStop is still running; sending the stop signal so that the grace period is kept".to_owned(),
        ),
        Action::KillCgroup { key } => match observed.instance(key)? {
            i if i.kills > 0 => telling(key, Reason::FailedKillPod, "still running after SIGKILL".to_owned()),
            i if i.stop.is_some_and(|s| s.signalled.is_some()) && i.exit.is_none() => {
                telling(key, Reason::Killing, "the grace period expired: SIGKILL".to_owned())
            }
            _ => None,
        },
        Action::Settle { key, class, restart } => settled(observed, key, *class, restart, at),
        Action::NoteRun { workload, seen } => Some(run_notice(observed, *workload, seen, at)),
        Action::Advance { workload, rollout } => rollout_notice(observed, *workload, rollout, at),
        _ => None,
    }
}

/// Nothing of a container whose sandbox is gone, which has been reported: it fails for that.
fn not_started(observed: &Observed, key: &Key, at: Time, error: &StartError) -> Option<Notice> {
    let stop = observed.instance(key).and_then(|i| i.stop);
    let lost = stop.is_some_and(|s| s.cause == StopCause::SandboxLost);
    (!lost).then(|| about(observed, key, at, Reason::Failed, error.message.clone()))
}

/// The text for a probe that failed: the first of several in a row, of a container that was well, or that may be stopped
/// for it.
fn probed(i: &Instance, kind: ProbeKind, n: u32, ok: Option<bool>, error: &String) -> Option<String> {
    let count = i.health.as_ref()?.count(kind).filter(|c| c.asked && c.n == n)?;
    let counts = count.counts && (kind != ProbeKind::Readiness || count.passed == Some(true));
    let first = count.ok || count.run == 0;
    match ok {
        Some(false) if counts && first => Some(format!("{kind} probe failed: {error}")),
        None if count.error.as_ref() != Some(error) => Some(format!("{kind} probe could not run: {error}")),
        _ => None,
    }
}

/// The notice about a scheduled time of a CronJob.
fn run_notice(observed: &Observed, workload: WorkloadId, seen: &Seen, at: Time) -> Notice {
    let reason = match seen.outcome {
        Outcome::Made { missed } if missed >= MANY_MISSED => Reason::TooManyMissedTimes,
        Outcome::Made { .. } => Reason::SuccessfulCreate,
        Outcome::TooLate => Reason::MissSchedule,
        Outcome::Busy => Reason::JobAlreadyActive,
        Outcome::NameTaken => Reason::FailedCreate,
    };
    let key = Key { workload, slot: 0, replica: 0, container: 0, instance: 0 };
    Notice { slot: None, container: None, instance: None, ..about(observed, &key, at, reason, seen.words()) }
}

/// The notice about a rollout: that it is over, or failed.
fn rollout_notice(observed: &Observed, workload: WorkloadId, rollout: &Rollout, at: Time) -> Option<Notice> {
    let (reason, message) = match rollout.verdict {
        Verdict::Progressing => return None,
        Verdict::Complete => (Reason::RolloutComplete, "all replicas are available".to_owned()),
        Verdict::Failed => (Reason::RolloutFailed, rollout.reason.clone()),
        Verdict::DeadlineExceeded => (Reason::ProgressDeadlineExceeded, rollout.reason.clone()),
    };
    let key = Key { workload, slot: 0, replica: 0, container: 0, instance: 0 };
    Some(Notice { slot: None, container: None, instance: None, ..about(observed, &key, at, reason, message) })
}

fn settled(observed: &Observed, key: &Key, class: ExitClass, restart: &Restart, at: Time) -> Option<Notice> {
    let exit = observed.instance(key)?.exit.as_ref()?;
    let what = Cause { class, status: exit.status };
    let (reason, message) = match (restart.next, class) {
        (_, ExitClass::Requested) => (Reason::Exited, what.to_string()),
        (Next::GivenUp, _) => (Reason::RestartLimit, format!("{what}; restart limit reached, giving up")),
        (Next::Done { failed: false }, _) => (Reason::Completed, what.to_string()),
        (Next::Done { failed: true }, _) => (Reason::Failed, what.to_string()),
        (Next::At(t), ExitClass::Oom) => (Reason::OOMKilling, format!("{what}; restart in {}", t.since(at))),
        (Next::At(t), ExitClass::StartError { .. }) => {
            (Reason::BackOff, format!("{what}; next attempt in {}", t.since(at)))
        }
        (Next::At(t), _) if t > at => (Reason::BackOff, format!("{what}; restart in {}", t.since(at))),
        (Next::At(_) | Next::Now, _) => (Reason::Exited, format!("{what}; restart now")),
    };
    Some(about(observed, key, at, reason, message))
}

fn about(observed: &Observed, key: &Key, at: Time, reason: Reason, message: String) -> Notice {
    use Reason::{
        BackOff, DeadlineExceeded, Failed, FailedCreate, FailedCreatePodSandBox, FailedKillPod,
        FailedPostStartHook, FailedPreStopHook, FailedResize, KeeperLost, LogDiskFull, MissSchedule,
        OOMKilling, ProgressDeadlineExceeded, PublishSlow, RestartLimit, RolloutFailed, SandboxChanged,
        TooManyMissedTimes, Unhealthy,
    };
    let bad = matches!(
        reason,
        BackOff
            | DeadlineExceeded
            | Failed
            | FailedCreate
            | FailedCreatePodSandBox
            | FailedKillPod
            | FailedPostStartHook
            | FailedPreStopHook
            | FailedResize
            | KeeperLost
            | LogDiskFull
            | MissSchedule
            | OOMKilling
            | ProgressDeadlineExceeded
            | PublishSlow
            | RestartLimit
            | RolloutFailed
            | SandboxChanged
            | TooManyMissedTimes
            | Unhealthy
    );
    Notice {
        at,
        workload: key.workload,
        workload_name: String::new(),
        slot: Some(key.slot),
        container: observed.container(key).map(|c| c.name.clone()),
        instance: Some(key.instance),
        severity: if bad { Severity::Warning } else { Severity::Normal },
        reason,
        message,
    }
}

/// The exit of an instance as text.
struct Cause {
    class: ExitClass,
    status: Option<WaitStatus>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class {
            ExitClass::Oom => f.write_str("killed by the OOM killer: memory limit reached")?,
            ExitClass::Probe => f.write_str("stopped: the probe failed")?,
            ExitClass::PostStart => f.write_str("stopped: postStart failed")?,
            ExitClass::Deadline => f.write_str("stopped: activeDeadlineSeconds have passed")?,
            ExitClass::StartError { image: Some(_), .. } => return f.write_str("its image cannot be used"),
            ExitClass::StartError { unrecoverable: false, .. } => {
                return f.write_str("it could not be started");
            }
            ExitClass::StartError { unrecoverable: true, .. } => {
                return f.write_str("it cannot start with this bundle and workload");
            }
            ExitClass::Unknown => {
                return f.write_str("exit status unknown: it exited while the supervisor was not running");
            }
            ExitClass::Requested => f.write_str("stopped")?,
            ExitClass::Signal(_) => f.write_str("killed")?,
            ExitClass::Exited(_) => f.write_str("exited")?,
        }
        match self.status.map(|s| (s.code(), s.signal())) {
            Some((Some(code), _)) => write!(f, " with exit code {code}"),
            Some((None, Some(signal))) => write!(f, " by signal {signal}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopCause::Deleted => "stopping: the workload is deleted",
            StopCause::ScaledDown => "stopping: scaled down",
            StopCause::Replaced => "stopping: replaced by a new revision",
            StopCause::Restarted => "stopping: restart requested",
            StopCause::ProbeFailed => "stopping: probe failed",
            StopCause::PostStartFailed => "stopping: postStart failed",
            StopCause::DeadlineExceeded => "stopping: activeDeadlineSeconds have passed",
            StopCause::SandboxLost => "stopping: its sandbox no longer exists",
            StopCause::JobFailed => "stopping: the job has failed",
            StopCause::JobComplete => "stopping: the job is complete",
            StopCause::Finished => "stopping: the main containers have exited",
            StopCause::Orphaned => "stopping: its workload no longer exists",
            StopCause::Drained => "stopping: the host is drained",
        })
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms % 1000 == 0 => write!(f, "{} s", ms / 1000),
            ms if ms < 1000 => write!(f, "{ms} ms"),
            ms => write!(f, "{}.{} s", ms / 1000, ms % 1000 / 100),
        }
    }
}
