//! The supervisor's state as objects of the interface. What states mean is decided by `core::status`.

use crate::api::types::{
    Condition, ConditionType, ContainerObject, ContainerState, DrainStatus, EventObject, ExitObject,
    FailedRevision, KeptAnswer, KeptStatus, Reason, ReplicaObject, RevisionObject, RolloutStatus, Stopping,
    WorkloadObject, WorkloadStatus,
};
use crate::api::{jobs, ports};
use crate::config::quantity::Signal;
use crate::supervisor::core::action::Notice;
use crate::supervisor::core::desired::Workload;
use crate::supervisor::core::exit::StopCause;
use crate::supervisor::core::ids::{Key, WorkloadId};
use crate::supervisor::core::model::{
    Container, ExitRecord, History, Instance, Phase, Replica, ReplicaSlots, Slot,
};
use crate::supervisor::core::objects::StoredObject;
use crate::supervisor::core::spec::{self, FailureAction, PodTemplate, SIGNAL_OF_IMAGE};
use crate::supervisor::core::time::{Millis, Time};
use crate::supervisor::core::{depends, endpoints, gate, phase, status};
use crate::supervisor::shell::handle::View;
use crate::supervisor::shell::names;
use crate::sys::timestamp::Timestamp;
use crate::workload::compose::{PROJECT, SERVICE};
use crate::workload::model::{self, Metadata, Spec};

/// All workloads, by name.
pub fn workloads(view: &View) -> Vec<WorkloadObject> {
    let mut list: Vec<_> = view.desired.workloads.iter().map(|(id, w)| workload(view, *id, w)).collect();
    list.sort_by(|a, b| a.workload.metadata.name.cmp(&b.workload.metadata.name));
    list
}

/// The workload of a service of a Compose project, or its replica `SERVICE-N`.
pub fn of_project(view: &View, project: &str, name: &str) -> Option<String> {
    let of = |service: &str| {
        let own = |w: &&Workload| {
            let labels = w.source.get("metadata").and_then(|m| m.get("labels"));
            let label = |key: &str| labels?.get(key)?.as_str();
            (label(PROJECT), label(SERVICE)) == (Some(project), Some(service))
        };
        view.desired.workloads.values().find(own).map(|w| w.name.clone())
    };
    of(name).or_else(|| {
        let (service, slot) = name.rsplit_once('-')?;
        Some(names::replica(&of(service)?, slot.parse().ok()?))
    })
}

/// A kept object.
pub fn kept(view: &View, e: &StoredObject) -> KeptAnswer {
    let seconds = u64::try_from(e.created.at / 1000).unwrap_or(0);
    let created = Timestamp { seconds, nanos: 0 }.rfc3339();
    KeptAnswer {
        object: e.object.clone(),
        status: KeptStatus {
            uid: e.uid,
            generation: e.generation,
            created,
            service: ports::service(view, e),
        },
    }
}

/// One workload.
pub fn workload(view: &View, id: WorkloadId, w: &Workload) -> WorkloadObject {
    WorkloadObject { workload: source(w), status: status(view, id, w) }
}

/// The applied document, with later changes.
fn source(w: &Workload) -> model::Workload {
    let mut object = serde_json::from_value(w.source.clone()).unwrap_or_else(|_| model::Workload {
        api_version: model::ApiVersion::V1,
        kind: model::Kind::Workload,
        metadata: Metadata { name: w.name.clone(), ..Metadata::default() },
        spec: w.revisions.get(&w.revision).map(spec_of).unwrap_or_default(),
    });
    object.spec.replicas = w.replicas;
    // A rollback brings an old text back, but not how rollouts are made.
    let rolling = &mut object.spec.strategy.rolling_update;
    rolling.max_surge = w.strategy.max_surge;
    rolling.max_unavailable = w.strategy.max_unavailable;
    object.spec.strategy.r#type = match w.strategy.recreate {
        true => model::StrategyType::Recreate,
        false => model::StrategyType::RollingUpdate,
    };
    if w.paused || object.spec.paused.is_some() {
        object.spec.paused = Some(w.paused);
    }
    object
}

/// The main fields, for a workload that was not made from a file.
fn spec_of(t: &PodTemplate) -> Spec {
    let container = |c: &spec::ContainerSpec| model::Container {
        name: c.name.clone(),
        bundle: c.launch.bundle.clone(),
        image: c.launch.image.as_ref().map(|i| i.name.clone()),
        args: c.launch.args.clone(),
        ..model::Container::default()
    };
    Spec {
        termination_grace_period: core::time::Duration::from_millis(t.grace.0),
        stop_signal: t
            .containers
            .first()
            .map(|c| c.stop_signal)
            .filter(|s| *s != SIGNAL_OF_IMAGE)
            .map(Signal),
        spares: t.spare.into(),
        containers: t.containers.iter().map(container).collect(),
        ..Spec::default()
    }
}

fn status(view: &View, id: WorkloadId, w: &Workload) -> WorkloadStatus {
    let slots = view.observed.workloads.get(&id);
    let s = status::workload(w, slots, view.now);
    let trouble = s.trouble.as_ref();
    let replica = trouble.map(|t| names::replica(&w.name, t.slot));
    let conditions = all_conditions(view, id, w, slots);
    let job = jobs::job(w);
    let failure = job.as_ref().filter(|j| j.failed).map(|j| format!("{}: {}", j.reason, j.message));
    WorkloadStatus {
        uid: id.0,
        generation: w.generation,
        revision: w.number(w.revision),
        phase: s.phase,
        rollout: RolloutStatus {
            state: s.rollout,
            message: rollout_message(
                w,
                &s,
                slots.and_then(|s| s.rollout.as_ref()).map(|r| r.reason.as_str()),
                conditions.first().map(|c| c.message.clone()).or_else(|| unready(w, slots)),
            ),
            replica: replica.clone(),
            container: trouble.map(|t| t.container.clone()),
            failed: failed(w),
        },
        replicas: s.replicas,
        ready: s.ready,
        available: s.available,
        updated: s.updated,
        terminating: s.terminating,
        succeeded: s.succeeded,
        failed: s.failed,
        restarts: s.restarts,
        stopped: w.stopped,
        message: trouble
            .zip(replica)
            .map(|(t, replica)| format!("{replica}: {t}"))
            .or(failure)
            .or_else(|| conditions.first().map(|c| c.message.clone()))
            .or_else(|| unready(w, slots)),
        conditions,
        job,
        cron: jobs::cron(view, id, w),
        owner: jobs::owner(view, w),
        deletion_deadline: w.deletion.map(|d| {
            let own = w.revisions.get(&w.revision).map_or(Millis(0), |t| t.grace);
            time(view, d.deadline(own))
        }),
    }
}

/// The first container that is not ready because of its checks, and why.
fn unready(w: &Workload, slots: Option<&ReplicaSlots>) -> Option<String> {
    let of = |(n, slot): (&u32, &Slot)| {
        let (container, why) =
            slot.replicas.iter().filter(|r| r.stop.is_none()).find_map(Replica::unready)?;
        Some(format!("{}: container {container} is not ready: {why}", names::replica(&w.name, *n)))
    };
    slots.into_iter().flat_map(|s| &s.slots).find_map(of)
}

/// The first of each type.
fn all_conditions(view: &View, id: WorkloadId, w: &Workload, slots: Option<&ReplicaSlots>) -> Vec<Condition> {
    let of_slot = |(n, slot): (&u32, &Slot)| {
        let first = slot.replicas.iter().flat_map(conditions).next()?;
        Some(Condition { message: format!("{}: {}", names::replica(&w.name, *n), first.message), ..first })
    };
    let mut list: Vec<Condition> =
        slots.into_iter().flat_map(|s| &s.slots).find_map(of_slot).into_iter().collect();
    let taken = endpoints::taken(view.desired, view.observed, id);
    list.extend(taken.first().map(|t| Condition {
        r#type: ConditionType::PortTaken,
        container: None,
        message: format!("port {} cannot be published: {}", t.host, t.error),
    }));
    list.extend(depends::reason(w, view.desired, view.observed).map(|message| Condition {
        r#type: ConditionType::Waiting,
        container: None,
        message,
    }));
    if view.observed.draining && w.deletion.is_none() {
        let message =
            "the host is drained: no replica is started before `orund drain --undo` or the next boot";
        list.push(Condition {
            r#type: ConditionType::Draining,
            container: None,
            message: message.to_owned(),
        });
    }
    list
}

fn conditions(r: &Replica) -> Vec<Condition> {
    let blocked = |(container, error): (&str, &str)| Condition {
        r#type: ConditionType::LogDiskFull,
        container: Some(container.to_owned()),
        message: format!(
            "the output of container {container} cannot be written, and its program waits: {error}"
        ),
    };
    r.blocked_logs().map(blocked).collect()
}

/// The drain of the host.
pub fn drain(view: &View) -> DrainStatus {
    let mut status = DrainStatus { draining: view.observed.draining, ..DrainStatus::default() };
    let mut last = None;
    for (id, slots) in &view.observed.workloads {
        let name = view.desired.workloads.get(id).map_or("", |w| w.name.as_str());
        for (n, r) in slots.slots.iter().flat_map(|(n, s)| s.replicas.iter().map(move |r| (*n, r))) {
            let runs = |c: &Container| c.instances.iter().any(|i| i.phase != Phase::Dead);
            if r.containers.iter().any(runs) {
                status.running.push(names::replica(name, n));
                last = last.max(r.stop.map(|s| s.deadline));
            }
        }
    }
    status.running.sort();
    status.deadline = last.map(|t| time(view, t));
    status
}

/// Why a rollout is not complete. `reason`: the verdict's; `cause`: what is known besides.
fn rollout_message(
    w: &Workload,
    s: &status::WorkloadStatus,
    reason: Option<&str>,
    cause: Option<String>,
) -> Option<String> {
    use crate::supervisor::core::phase::RolloutState::{
        Complete, DeadlineExceeded, Failed, Paused, Progressing,
    };
    let old = s.replicas - s.updated;
    let cause = cause.map(|c| format!(": {c}")).unwrap_or_default();
    match s.rollout {
        Complete => None,
        Paused => Some("paused".to_owned()),
        Failed => reason.map(str::to_owned),
        // The verdict describes a container at that time; a condition still holds.
        DeadlineExceeded => {
            reason.map(|r| if r.contains(": ") { r.to_owned() } else { format!("{r}{cause}") })
        }
        Progressing => Some(match (&s.trouble, old) {
            (Some(t), _) if t.new.0 > 0 => {
                format!("{} of {} new replicas: {t}", t.new.0, w.desired_replicas())
            }
            (_, 0) => format!("{} of {} replicas are available{cause}", s.available, w.desired_replicas()),
            (_, old) => {
                format!(
                    "{} of {} replicas updated, {old} old ones left{cause}",
                    s.updated,
                    w.desired_replicas()
                )
            }
        }),
    }
}

/// The revision that was given up for the current one, or that is current and has failed.
fn failed(w: &Workload) -> Option<FailedRevision> {
    let failed = w.history.iter().filter_map(|(r, k)| Some((w.number(*r), k.failed.as_ref()?)));
    let (revision, message) = failed.max_by_key(|(n, _)| *n)?;
    // Nobody asks for it any more once the owner has changed something: what follows it directly may be that, or where a
    // rollback has gone.
    let current = w.number(w.revision);
    let rolled_back = w.strategy.on_failure == FailureAction::Rollback && current == revision + 1;
    (current == revision || rolled_back).then(|| FailedRevision { revision, message: message.clone() })
}

/// The revisions that are kept, the oldest first.
pub fn revisions(view: &View, id: WorkloadId, w: &Workload) -> Vec<RevisionObject> {
    let slots = view.observed.workloads.get(&id);
    let standing = |r| {
        let replicas = slots.into_iter().flat_map(|s| s.slots.values()).flat_map(|s| &s.replicas);
        replicas.filter(|x| x.revision == r && x.stop.is_none()).count()
    };
    let mut list: Vec<RevisionObject> = w
        .revisions
        .keys()
        .map(|r| {
            let kept = w.kept(*r);
            RevisionObject {
                revision: w.number(*r),
                current: *r == w.revision,
                healthy: kept.healthy,
                replicas: u32::try_from(standing(*r)).unwrap_or(u32::MAX),
                time: (kept.stamp.at > 0).then(|| at_epoch(kept.stamp.at, Time(0))),
                cause: kept.stamp.cause,
                failed: kept.failed,
            }
        })
        .collect();
    list.sort_by_key(|r| r.revision);
    list
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
    let lack = status::lack(r, template);
    let state = |c: &Container| match lack {
        Some(_) => status::LACKING,
        None => status::container(c, slot.history.get(&c.name).unwrap_or(&none), view.now),
    };
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
            if let Some(lack) = lack {
                let (reason, message) = (Reason::CreateContainerConfigError, Some(lack.to_owned()));
                object.state = ContainerState::Waiting { reason, message, next_attempt: None };
            }
            let spec = template.and_then(|t| t.containers.get(index));
            object.bundle = spec.map(|s| s.launch.bundle.clone()).unwrap_or_default();
            object.image = spec.and_then(|s| s.launch.image.as_ref()).map(|i| i.name.clone());
            object.probes = spec.map(|s| super::health::objects(c, s)).unwrap_or_default();
            object
        })
        .collect();
    let stopping =
        r.stop.map(|s| Stopping { cause: cause(s.cause).to_owned(), deadline: time(view, s.deadline) });
    let available_at = r.available_at(template, w.strategy().min_ready());
    ReplicaObject {
        name: names::replica(&w.name, number),
        workload: w.name.clone(),
        slot: number,
        serial: r.serial,
        revision: w.number(r.revision),
        phase: status::replica(r, r.containers.iter().map(state)),
        initializing: gate::initializing(r, r.containers.iter().map(state)),
        ready: r.is_ready(),
        available: available_at.is_some_and(|at| view.now >= at),
        labels: labels(w),
        pod_ip: r.address().map(str::to_owned),
        restarts: r.containers.iter().map(|c| u64::from(c.restarts())).sum(),
        conditions: conditions(r),
        created: time(view, r.created),
        stopping,
        containers,
    }
}

/// `metadata.labels`.
fn labels(w: &Workload) -> std::collections::BTreeMap<String, String> {
    let pairs = w.source["metadata"]["labels"].as_object();
    let text = |(k, v): (&String, &serde_json::Value)| Some((k.clone(), v.as_str()?.to_owned()));
    pairs.into_iter().flatten().filter_map(text).collect()
}

fn container(
    view: &View,
    c: &Container,
    history: &History,
    id: impl Fn(&Instance) -> String,
) -> ContainerObject {
    let live = c.instances.iter().find(|i| i.phase != Phase::Dead);
    ContainerObject {
        name: c.name.clone(),
        role: c.role,
        bundle: String::new(),
        image: None,
        exposed_ports: live.and_then(|i| i.image.as_ref()).map(|i| i.ports.clone()).unwrap_or_default(),
        id: live.map(&id),
        pid: live.and_then(|i| i.process).map(|p| p.pid),
        ready: c.ready_since().is_some(),
        restarts: u64::from(c.restarts()),
        state: container_state(view, c, history),
        probes: Vec::new(),
        exits: history.exits.iter().rev().map(|e| exit(view, e)).collect(),
    }
}

fn container_state(view: &View, c: &Container, history: &History) -> ContainerState {
    match status::container(c, history, view.now) {
        phase::ContainerState::Running { started } => {
            ContainerState::Running { started: time(view, started) }
        }
        phase::ContainerState::Terminating { cause: why, deadline } => {
            let stopping = Stopping { cause: cause(why).to_owned(), deadline: time(view, deadline) };
            ContainerState::Terminating { stopping }
        }
        phase::ContainerState::Terminated { reason } => ContainerState::Terminated { reason },
        phase::ContainerState::Waiting { reason, next_attempt } => ContainerState::Waiting {
            reason,
            message: next_attempt.and(history.exits.back()).map(|e| exit(view, e).summary()),
            next_attempt: next_attempt.map(|at| time(view, at)),
        },
    }
}

fn exit(view: &View, e: &ExitRecord) -> ExitObject {
    let signal = e.status.and_then(|s| s.signal());
    ExitObject {
        instance: e.instance,
        time: time(view, e.at),
        started: e.started.map(|t| time(view, t)),
        reason: e.reason(),
        exit_code: e.status.and_then(|s| s.code()),
        signal: signal.map(|n| Signal(n).to_string()),
        message: e.error.as_ref().or(e.message.as_ref()).cloned(),
    }
}

fn cause(c: StopCause) -> &'static str {
    match c {
        StopCause::Deleted => "Deleted",
        StopCause::ScaledDown => "ScaledDown",
        StopCause::Replaced => "Replaced",
        StopCause::Restarted => "Restarted",
        StopCause::ProbeFailed => "ProbeFailed",
        StopCause::PostStartFailed => "PostStartFailed",
        StopCause::DeadlineExceeded => "DeadlineExceeded",
        StopCause::SandboxLost => "SandboxLost",
        StopCause::Finished => "Finished",
        StopCause::JobFailed => "JobFailed",
        StopCause::JobComplete => "JobComplete",
        StopCause::Orphaned => "Orphaned",
        StopCause::Drained => "Drained",
    }
}

/// The object of an event, with the kind in its file.
pub fn kind_of(view: &View, n: &Notice) -> Option<String> {
    view.desired.workloads.get(&n.workload).map(Workload::kind)
}

/// An event, about a workload of this kind.
pub fn event(epoch_ms: i64, n: &Notice, kind: Option<String>) -> EventObject {
    EventObject {
        time: at_epoch(epoch_ms, n.at),
        uptime: n.at.0,
        severity: format!("{:?}", n.severity),
        reason: format!("{:?}", n.reason),
        workload: n.workload_name.clone(),
        kind,
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
