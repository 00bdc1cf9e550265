//! The supervisor's state as objects of the interface.

use crate::api::types::{
    ContainerObject, ContainerState, EventObject, ExitObject, ReplicaObject, Stopping, WorkloadObject,
    WorkloadPhase, WorkloadStatus,
};
use crate::config::quantity::Signal;
use crate::config::workload::{self, Metadata, Spec};
use crate::supervisor::core::action::Notice;
use crate::supervisor::core::desired::{Workload, WorkloadId};
use crate::supervisor::core::model::{
    Container, ExitClass, ExitRecord, History, Instance, Key, Next, Phase, Replica, Slot, StopCause,
};
use crate::supervisor::core::spec::Template;
use crate::supervisor::core::time::{Millis, Time};
use crate::supervisor::shell::handle::View;
use crate::supervisor::shell::names;
use crate::sys::timestamp::Timestamp;

/// All workloads, by name.
pub fn workloads(view: &View) -> Vec<WorkloadObject> {
    let mut list: Vec<_> = view.desired.workloads.iter().map(|(id, w)| workload(view, *id, w)).collect();
    list.sort_by(|a, b| a.workload.metadata.name.cmp(&b.workload.metadata.name));
    list
}

/// One workload.
pub fn workload(view: &View, id: WorkloadId, w: &Workload) -> WorkloadObject {
    let replicas = replicas_of(view, id, w);
    WorkloadObject { workload: source(w), status: status(view, id, w, &replicas) }
}

/// What was applied, with what was changed since.
fn source(w: &Workload) -> workload::Workload {
    let mut object = serde_json::from_value(w.source.clone()).unwrap_or_else(|_| workload::Workload {
        api_version: workload::ApiVersion::V1,
        kind: workload::Kind::Workload,
        metadata: Metadata { name: w.name.clone(), ..Metadata::default() },
        spec: w.revisions.get(&w.revision).map(spec_of).unwrap_or_default(),
    });
    object.spec.replicas = w.replicas;
    object
}

/// The main fields, for a workload that was not made from a file.
fn spec_of(t: &Template) -> Spec {
    let container = |c: &crate::supervisor::core::spec::ContainerSpec| workload::Container {
        name: c.name.clone(),
        bundle: c.launch.bundle.clone(),
        args: c.launch.args.clone(),
        ..workload::Container::default()
    };
    Spec {
        termination_grace_period: core::time::Duration::from_millis(t.grace.0),
        stop_signal: t.containers.first().map(|c| Signal(c.stop_signal)),
        spares: t.spare.into(),
        containers: t.containers.iter().map(container).collect(),
        ..Spec::default()
    }
}

fn status(view: &View, id: WorkloadId, w: &Workload, replicas: &[ReplicaObject]) -> WorkloadStatus {
    let count = |wanted: &dyn Fn(&ReplicaObject) -> bool| {
        u32::try_from(replicas.iter().filter(|r| wanted(r)).count()).unwrap_or(u32::MAX)
    };
    let stays = |r: &ReplicaObject| r.stopping.is_none();
    let slots = view.observed.workloads.get(&id);
    let restarts = slots.map_or(0, |s| s.slots.values().map(slot_restarts).sum());
    let mut status = WorkloadStatus {
        uid: id.0,
        generation: w.generation,
        revision: w.revision.0,
        phase: WorkloadPhase::Progressing,
        replicas: count(&stays),
        ready: count(&|r| stays(r) && r.ready),
        updated: count(&|r| stays(r) && r.revision == w.revision.0),
        terminating: count(&|r| !stays(r)),
        succeeded: count(&|r| stays(r) && r.phase == "Completed"),
        failed: count(&|r| stays(r) && FAILED.contains(&r.phase.as_str())),
        restarts,
        message: replicas.iter().filter(|r| stays(r) && !r.ready).find_map(trouble),
        deletion_deadline: w.deletion.map(|d| {
            let own = w.revisions.get(&w.revision).map_or(Millis(0), |t| t.grace);
            time(view, d.deadline(own))
        }),
    };
    status.phase = phase(w, &status);
    status
}

/// Phases of replicas that will not come back by themselves.
const FAILED: [&str; 3] = ["Error", "OOMKilled", "RestartLimit"];

fn phase(w: &Workload, s: &WorkloadStatus) -> WorkloadPhase {
    if w.deletion.is_some() {
        WorkloadPhase::Terminating
    } else if w.replicas == 0 && s.replicas + s.terminating == 0 {
        WorkloadPhase::Stopped
    } else if s.replicas == w.replicas && s.succeeded == w.replicas && s.replicas > 0 {
        WorkloadPhase::Complete
    } else if s.failed > 0 || s.message.is_some() {
        WorkloadPhase::Degraded
    } else if s.replicas == w.replicas
        && s.ready + s.succeeded == w.replicas
        && s.updated == w.replicas
        && s.terminating == 0
    {
        WorkloadPhase::Ready
    } else {
        WorkloadPhase::Progressing
    }
}

/// The problem of a replica, in a line.
fn trouble(r: &ReplicaObject) -> Option<String> {
    let of_container = |c: &ContainerObject| match &c.state {
        ContainerState::Waiting { reason, message, .. } if reason != CREATING => {
            let why = message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
            Some(format!("{}: {reason}{why}", r.name))
        }
        ContainerState::Terminated { reason } if reason != "Completed" => {
            Some(format!("{}: {reason}", r.name))
        }
        _ => None,
    };
    r.containers.iter().find_map(of_container)
}

/// All replicas, by workload and slot.
pub fn replicas(view: &View) -> Vec<ReplicaObject> {
    let mut list: Vec<ReplicaObject> =
        view.desired.workloads.iter().flat_map(|(id, w)| replicas_of(view, *id, w)).collect();
    list.sort_by(|a, b| (&a.workload, a.slot, a.serial).cmp(&(&b.workload, b.slot, b.serial)));
    list
}

/// The replicas of a workload.
pub fn replicas_of(view: &View, id: WorkloadId, w: &Workload) -> Vec<ReplicaObject> {
    let Some(slots) = view.observed.workloads.get(&id) else { return Vec::new() };
    let in_slot = |(n, slot): (&u32, &Slot)| -> Vec<ReplicaObject> {
        slot.replicas.iter().map(|r| replica(view, (id, w), (*n, slot), r)).collect()
    };
    slots.slots.iter().flat_map(in_slot).collect()
}

fn replica(
    view: &View,
    (id, w): (WorkloadId, &Workload),
    (number, slot): (u32, &Slot),
    r: &Replica,
) -> ReplicaObject {
    let none = History::default();
    let template = w.revisions.get(&r.revision);
    let containers: Vec<ContainerObject> = r
        .containers
        .iter()
        .enumerate()
        .map(|(index, c)| {
            let key = |i: &Instance| Key {
                workload: id,
                slot: number,
                replica: r.serial,
                container: index as u32,
                instance: i.id,
            };
            let history = slot.history.get(&c.name).unwrap_or(&none);
            let mut object = container(view, c, history, |i| names::container_id(&w.name, key(i)));
            let spec = template.and_then(|t| t.containers.get(index));
            object.bundle = spec.map(|s| s.launch.bundle.clone()).unwrap_or_default();
            object
        })
        .collect();
    let stopping =
        r.stop.map(|s| Stopping { cause: cause(s.cause).to_owned(), deadline: time(view, s.deadline) });
    ReplicaObject {
        name: names::replica(&w.name, number),
        workload: w.name.clone(),
        slot: number,
        serial: r.serial,
        revision: r.revision.0,
        phase: replica_phase(stopping.is_some(), &containers),
        ready: stopping.is_none() && !containers.is_empty() && containers.iter().all(|c| c.ready),
        restarts: slot_restarts(slot),
        created: time(view, r.created),
        stopping,
        containers,
    }
}

fn slot_restarts(slot: &Slot) -> u64 {
    slot.history.values().map(|h| h.restarts).sum()
}

/// The state of the container that is worst off, in a word.
fn replica_phase(stopping: bool, containers: &[ContainerObject]) -> String {
    if stopping {
        return "Terminating".to_owned();
    }
    let word = |c: &ContainerObject| match &c.state {
        ContainerState::Waiting { reason, .. } => (0, reason.clone()),
        ContainerState::Terminated { reason } if reason != "Completed" => (1, reason.clone()),
        ContainerState::Terminating { .. } => (2, "Terminating".to_owned()),
        ContainerState::Running { .. } => (3, "Running".to_owned()),
        ContainerState::Terminated { .. } => (4, "Completed".to_owned()),
    };
    containers.iter().map(word).min().map_or_else(|| "Pending".to_owned(), |(_, word)| word)
}

/// The reason of a wait that is normal.
const CREATING: &str = "ContainerCreating";

fn container(
    view: &View,
    c: &Container,
    history: &History,
    id: impl Fn(&Instance) -> String,
) -> ContainerObject {
    let live = c.instances.iter().find(|i| i.phase != Phase::Dead);
    let running = live.filter(|i| matches!(i.phase, Phase::Starting | Phase::Running));
    ContainerObject {
        name: c.name.clone(),
        bundle: String::new(),
        id: live.map(&id),
        pid: live.and_then(|i| i.process).map(|p| p.pid),
        ready: running.is_some_and(|i| i.phase == Phase::Running && i.ready.is_some() && i.stop.is_none()),
        restarts: history.restarts,
        state: container_state(view, c, live, history),
        exits: history.exits.iter().rev().map(|e| exit(view, e)).collect(),
    }
}

fn container_state(view: &View, c: &Container, live: Option<&Instance>, history: &History) -> ContainerState {
    if let Some(i) = live {
        if let Some(stop) = &i.stop {
            let stopping =
                Stopping { cause: cause(stop.cause).to_owned(), deadline: time(view, stop.deadline) };
            return ContainerState::Terminating { stopping };
        }
        if let (Phase::Running, Some(started)) = (i.phase, i.started) {
            return ContainerState::Running { started: time(view, started) };
        }
    }
    let last = history.exits.back();
    let waiting = |reason: &str, at: Option<Time>| ContainerState::Waiting {
        reason: reason.to_owned(),
        message: last.map(|e| told(&exit(view, e))),
        next_attempt: at.map(|at| time(view, at)),
    };
    match c.restart.next {
        Next::Done { failed: false } => ContainerState::Terminated { reason: "Completed".to_owned() },
        Next::Done { failed: true } => {
            let reason = last.map_or("Error", |e| reason(e));
            ContainerState::Terminated { reason: reason.to_owned() }
        }
        Next::GivenUp => ContainerState::Terminated { reason: "RestartLimit".to_owned() },
        Next::At(at) if at > view.now && live.is_none_or(|i| i.phase == Phase::Prepared) => match last {
            Some(ExitRecord { class: ExitClass::StartError { .. }, .. }) => waiting("StartError", Some(at)),
            Some(ExitRecord { class: ExitClass::Exited(0), .. }) => waiting("Restarting", Some(at)),
            _ => waiting("CrashLoopBackOff", Some(at)),
        },
        Next::At(_) | Next::Now => {
            ContainerState::Waiting { reason: CREATING.to_owned(), message: None, next_attempt: None }
        }
    }
}

/// An end in a few words: `exit code 1 (Error)`.
pub fn told(e: &ExitObject) -> String {
    let how = match (e.exit_code, &e.signal) {
        (_, Some(signal)) => format!("killed by {signal}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => e.message.clone().unwrap_or_else(|| "exit status unknown".to_owned()),
    };
    match e.reason.as_str() {
        "Completed" | "Error" | "Unknown" | "StartError" => how,
        reason => format!("{how} ({reason})"),
    }
}

fn exit(view: &View, e: &ExitRecord) -> ExitObject {
    let signal = e.status.and_then(|s| s.signal());
    ExitObject {
        time: time(view, e.at),
        started: e.started.map(|t| time(view, t)),
        reason: reason(e).to_owned(),
        exit_code: e.status.and_then(|s| s.code()),
        signal: signal.map(|n| Signal(n).to_string()),
        message: e.error.clone(),
    }
}

fn reason(e: &ExitRecord) -> &'static str {
    match e.class {
        ExitClass::Requested => "Stopped",
        ExitClass::Oom => "OOMKilled",
        ExitClass::Probe => "Unhealthy",
        ExitClass::Exited(0) => "Completed",
        ExitClass::Signal(_) | ExitClass::Exited(_) => "Error",
        ExitClass::StartError { .. } => "StartError",
        ExitClass::Unknown => "Unknown",
    }
}

fn cause(c: StopCause) -> &'static str {
    match c {
        StopCause::Deleted => "Deleted",
        StopCause::ScaledDown => "ScaledDown",
        StopCause::Replaced => "Replaced",
        StopCause::Restarted => "Restarted",
        StopCause::ProbeFailed => "ProbeFailed",
        StopCause::Orphaned => "Orphaned",
    }
}

/// An event.
pub fn event(epoch_ms: i64, n: &Notice) -> EventObject {
    EventObject {
        time: at_epoch(epoch_ms, n.at),
        severity: format!("{:?}", n.severity),
        reason: format!("{:?}", n.reason),
        workload: n.workload_name.clone(),
        replica: n.slot.map(|slot| names::replica(&n.workload_name, slot)),
        container: n.container.clone(),
        message: n.message.clone(),
    }
}

fn time(view: &View, t: Time) -> String {
    at_epoch(view.epoch_ms, t)
}

/// The wall clock at `t`.
pub fn at_epoch(epoch_ms: i64, t: Time) -> String {
    let ms = epoch_ms.saturating_add_unsigned(t.0).max(0).unsigned_abs();
    Timestamp { seconds: ms / 1000, nanos: (ms % 1000) as u32 * 1_000_000 }.rfc3339_nanos()
}
