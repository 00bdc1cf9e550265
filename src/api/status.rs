//! `GET /v1/status`: problems with their causes, and the free resources of the host.

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use crate::api::types::{
    Condition, ConditionType, ContainerObject, ContainerState, PortObject, ReplicaObject, RolloutState,
    WorkloadObject, WorkloadPhase,
};
use crate::network::proxy::Counts;
use crate::supervisor::core::phase::Reason;
use crate::supervisor::core::services::Behind;

/// A file system with less than this share of its blocks or inodes left is a problem, percent.
const LITTLE: u64 = 5;

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusObject {
    /// Empty if the host is healthy.
    pub problems: Vec<ProblemObject>,
    pub host: HostObject,
}

/// Something that is not well, with its cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProblemObject {
    /// `workload/web`, `service/db`, or `host`.
    pub object: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The first replica that has it, and how many have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    pub replicas: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// In one word: `CrashLoopBackOff`, `NotReady`, `PortTaken`, `NoEndpoints`, `DiskFull` ...
    pub reason: String,
    pub message: String,
    /// When the container is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Resources of the host, total and free.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostObject {
    pub cpus: u32,
    /// Processes that run or wait, on average of the last minute.
    pub load: f64,
    /// Bytes.
    pub memory: u64,
    pub memory_available: u64,
    /// The file systems of the supervisor's directories, each once.
    pub disks: Vec<DiskObject>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskObject {
    pub path: PathBuf,
    /// Bytes; available: to users that are not root.
    pub size: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_available: u64,
}

impl StatusObject {
    /// From workloads, replicas, services and published ports; `places` are the directories that the supervisor writes to.
    pub fn new(
        workloads: &[WorkloadObject],
        replicas: &[ReplicaObject],
        behind: &[Behind],
        ports: &[(PortObject, Counts)],
        places: &[PathBuf],
    ) -> StatusObject {
        let host = host(places);
        let mut problems = problems(workloads, replicas, behind, &host);
        problems.extend(ports.iter().filter_map(|(port, counts)| held_problem(port, counts)));
        StatusObject { problems, host }
    }
}

fn host(places: &[PathBuf]) -> HostObject {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
    };
    let mut disks: Vec<(u64, DiskObject)> = Vec::new();
    for path in places {
        let Ok(s) = statvfs(path) else { continue };
        let id = s.filesystem_id();
        if disks.iter().any(|(known, _)| *known == id) {
            continue;
        }
        let disk = DiskObject {
            path: path.clone(),
            size: s.blocks() * s.fragment_size(),
            available: s.blocks_available() * s.fragment_size(),
            inodes: s.files(),
            inodes_available: s.files_available(),
        };
        disks.push((id, disk));
    }
    HostObject {
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        load: read("/proc/loadavg").split(' ').next().and_then(|t| t.parse().ok()).unwrap_or_default(),
        memory: field("MemTotal").unwrap_or_default(),
        memory_available: field("MemAvailable").unwrap_or_default(),
        disks: disks.into_iter().map(|(_, d)| d).collect(),
    }
}

/// All problems: of workloads in the order of their names, then of services, then of the host.
fn problems(
    workloads: &[WorkloadObject],
    replicas: &[ReplicaObject],
    behind: &[Behind],
    host: &HostObject,
) -> Vec<ProblemObject> {
    let mut list: Vec<ProblemObject> = workloads.iter().flat_map(|w| of_workload(w, replicas)).collect();
    list.extend(behind.iter().filter_map(of_service));
    list.extend(host.disks.iter().filter_map(of_disk));
    list
}

fn of_workload(w: &WorkloadObject, replicas: &[ReplicaObject]) -> Vec<ProblemObject> {
    let name = &w.workload.metadata.name;
    let mut list: Vec<ProblemObject> = Vec::new();
    let own = replicas.iter().filter(|r| r.workload == *name && r.stopping.is_none());
    for (r, c, (reason, message)) in
        own.flat_map(|r| r.containers.iter().filter_map(move |c| Some((r, c, cause(r, c)?))))
    {
        let same = |p: &&mut ProblemObject| {
            p.container.as_ref() == Some(&c.name) && p.reason == reason && p.message == message
        };
        if let Some(known) = list.iter_mut().find(same) {
            known.replicas += 1;
            continue;
        }
        let next_attempt = match &c.state {
            ContainerState::Waiting { next_attempt, .. } => next_attempt.clone(),
            _ => None,
        };
        list.push(ProblemObject {
            replica: Some(r.name.clone()),
            replicas: 1,
            container: Some(c.name.clone()),
            hint: hint(&reason, r, c),
            next_attempt,
            reason,
            message,
            ..ProblemObject::default()
        });
    }
    list.extend(w.status.conditions.iter().map(of_condition));
    list.extend(of_rollout(w, list.is_empty()));
    for p in &mut list {
        p.object = format!("workload/{name}");
        p.workload = Some(name.clone());
    }
    list
}

/// Why a container is not as it should be: in a word, and in a sentence that is the same for all replicas.
fn cause(r: &ReplicaObject, c: &ContainerObject) -> Option<(String, String)> {
    let last = || c.exits.first().map(crate::api::types::ExitObject::summary);
    match &c.state {
        ContainerState::Waiting { reason: Reason::ContainerCreating, .. } => failed_before(r, c),
        ContainerState::Waiting { reason, message, .. } => {
            let message = message.clone().or_else(last).unwrap_or_default();
            Some((reason.to_string(), message))
        }
        ContainerState::Terminated { reason: Reason::Completed | Reason::Stopped } => None,
        ContainerState::Terminated { reason } => Some((reason.to_string(), last().unwrap_or_default())),
        ContainerState::Running { .. } => {
            unready(c).or_else(|| failed_before(r, c)).or_else(|| never_probed(c))
        }
        ContainerState::Terminating { stopping } => {
            let probe = c.probes.iter().find_map(|p| p.error.clone()).unwrap_or_default();
            (stopping.cause == "ProbeFailed").then(|| ("Unhealthy".to_owned(), probe))
        }
    }
}

/// It runs, and a probe says that it does not serve.
fn unready(c: &ContainerObject) -> Option<(String, String)> {
    let failing = c.probes.iter().filter(|_| !c.ready).find_map(|p| Some((p, p.error.as_ref()?)));
    failing.map(|(p, error)| {
        let kind = format!("{:?}", p.kind).to_lowercase();
        ("NotReady".to_owned(), format!("the {kind} probe fails: {error}"))
    })
}

/// It runs, but its health is unknown: a probe has no result after all attempts.
fn never_probed(c: &ContainerObject) -> Option<(String, String)> {
    let without = |p: &&crate::api::types::ProbeObject| p.errors > 0 && p.successes + p.failures == 0;
    let probe = c.probes.iter().find(without)?;
    let kind = format!("{:?}", probe.kind).to_lowercase();
    let why = probe.error.as_deref().unwrap_or("the reason is unknown");
    Some(("ProbeError".to_owned(), format!("the {kind} probe cannot run: {why}")))
}

/// It runs or starts again, and has failed so shortly before that its replica does not count as available.
fn failed_before(r: &ReplicaObject, c: &ContainerObject) -> Option<(String, String)> {
    let exit = c.exits.first().filter(|e| e.reason != Reason::Stopped && !r.available && c.restarts > 0)?;
    let reason = match exit.reason {
        Reason::Error | Reason::Completed => Reason::CrashLoopBackOff,
        other => other,
    };
    Some((reason.to_string(), exit.summary()))
}

fn hint(reason: &str, r: &ReplicaObject, c: &ContainerObject) -> Option<String> {
    let image = c.image.as_deref().unwrap_or_default();
    Some(match reason {
        "ErrImagePull" | "ImagePullBackOff" => format!("`orund image pull {image}` tries it now"),
        "ErrImageNeverPull" => format!("`orund image pull {image}`, or another imagePullPolicy"),
        "OOMKilled" => "raise the memory limit; `orund top` shows the usage".to_owned(),
        "CreateContainerConfigError" => "apply the missing object".to_owned(),
        "NotReady" | "ProbeError" | "Unhealthy" | "StartError" | "InvalidImageName" => {
            format!("`orund describe {}`", r.name)
        }
        _ if c.pid.is_some() => format!("`orund logs {} -c {} --previous`", r.name, c.name),
        _ => format!("`orund logs {} -c {}`", r.name, c.name),
    })
}

fn of_condition(c: &Condition) -> ProblemObject {
    let hint = match c.r#type {
        ConditionType::LogDiskFull => {
            Some("free space on the log disk; its output waits until then".to_owned())
        }
        ConditionType::PortTaken => Some("`ss -ltnup` shows which program has the port".to_owned()),
        ConditionType::Draining => Some("`orund drain --undo`".to_owned()),
        ConditionType::Waiting => None,
    };
    ProblemObject {
        container: c.container.clone(),
        reason: format!("{:?}", c.r#type),
        message: c.message.clone(),
        hint,
        ..ProblemObject::default()
    }
}

/// A rollout that has failed; and, when nothing else explains it, a workload that is not well.
fn of_rollout(w: &WorkloadObject, unexplained: bool) -> Option<ProblemObject> {
    let status = &w.status;
    let name = &w.workload.metadata.name;
    let hint = Some(format!("`orund describe {name}`"));
    let rollout = &status.rollout;
    if let Some(failed) = &rollout.failed {
        let now = match status.revision == failed.revision {
            true => "it is paused".to_owned(),
            false => format!("revision {} runs instead", status.revision),
        };
        let message = format!("revision {} failed: {}; {now}", failed.revision, failed.message);
        let hint = Some(format!("`orund rollout undo {name}`, or apply a corrected file"));
        return Some(ProblemObject {
            reason: "RolloutFailed".to_owned(),
            message,
            hint,
            ..Default::default()
        });
    }
    let job = status.job.as_ref().filter(|j| j.failed);
    if let Some(job) = job {
        return Some(ProblemObject {
            reason: job.reason.clone(),
            message: job.message.clone(),
            hint,
            ..ProblemObject::default()
        });
    }
    let late = matches!(rollout.state, RolloutState::Failed | RolloutState::DeadlineExceeded);
    if unexplained && (late || status.phase == WorkloadPhase::Degraded) {
        let message = rollout.message.clone().filter(|_| late).or_else(|| status.message.clone());
        let reason = if late { format!("{:?}", rollout.state) } else { format!("{:?}", status.phase) };
        let message = message.unwrap_or_else(|| {
            format!("{} of {} replicas are available", status.available, w.workload.spec.replicas)
        });
        return Some(ProblemObject { reason, message, hint, ..ProblemObject::default() });
    }
    None
}

fn of_service(b: &Behind) -> Option<ProblemObject> {
    if b.ready > 0 || b.ports.is_empty() {
        return None;
    }
    let ports: Vec<String> = b.ports.iter().map(u16::to_string).collect();
    let (message, hint) = match b.workloads.is_empty() {
        true => (
            format!("no running workload has the labels of its selector ({})", b.selector),
            "correct the selector, or the labels of the pods; `orund describe service` shows it".to_owned(),
        ),
        false => (
            format!(
                "no replica of {} is ready, so connections to port {} wait",
                b.workloads.join(", "),
                ports.join(", ")
            ),
            format!("`orund describe {}`", b.workloads[0]),
        ),
    };
    Some(ProblemObject {
        object: format!("service/{}", b.service),
        reason: "NoEndpoints".to_owned(),
        message,
        hint: Some(hint),
        ..ProblemObject::default()
    })
}

/// Clients wait for a replica.
fn held_problem(port: &PortObject, counts: &Counts) -> Option<ProblemObject> {
    if counts.waiting == 0 {
        return None;
    }
    let (kind, name) = match (&port.workload, &port.service) {
        (Some(name), _) => ("workload", name),
        (None, Some(name)) => ("service", name),
        (None, None) => return None,
    };
    let many = if counts.waiting == 1 { "connection waits" } else { "connections wait" };
    Some(ProblemObject {
        object: format!("{kind}/{name}"),
        workload: port.workload.clone(),
        reason: "ConnectionsHeld".to_owned(),
        message: format!("{} {many} at port {} for a replica that takes them", counts.waiting, port.port),
        hint: Some(format!("`orund describe {kind}/{name}`")),
        ..ProblemObject::default()
    })
}

fn of_disk(d: &DiskObject) -> Option<ProblemObject> {
    let scarce = |left: u64, all: u64| all > 0 && left * 100 < all * LITTLE;
    let what = match (scarce(d.available, d.size), scarce(d.inodes_available, d.inodes)) {
        (true, _) => format!("{} MiB of {} MiB are left", d.available >> 20, d.size >> 20),
        (false, true) => format!("{} of {} inodes are left", d.inodes_available, d.inodes),
        (false, false) => return None,
    };
    Some(ProblemObject {
        object: "host".to_owned(),
        reason: "DiskFull".to_owned(),
        message: format!("the file system of {}: {what}", d.path.display()),
        hint: Some("`orund image prune` removes unused images".to_owned()),
        ..ProblemObject::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_wait_are_a_problem() {
        let host = crate::supervisor::core::ports::HostPort { port: 80, ..Default::default() };
        let port = PortObject { workload: Some("web".to_owned()), ..PortObject::at(&host, None) };
        assert_eq!(
            held_problem(&port, &Counts { held: 7, ..Counts::default() }),
            None,
            "they have been taken"
        );
        let found = held_problem(&port, &Counts { waiting: 2, ..Counts::default() }).unwrap();
        assert_eq!(found.message, "2 connections wait at port 80 for a replica that takes them");
        assert_eq!((found.object.as_str(), found.reason.as_str()), ("workload/web", "ConnectionsHeld"));
    }

    #[test]
    fn a_disk_is_a_problem_when_little_is_left() {
        let disk = |available, inodes_available| DiskObject {
            path: "/var/lib/orund".into(),
            size: 1000 << 20,
            available,
            inodes: 1000,
            inodes_available,
        };
        assert_eq!(of_disk(&disk(50 << 20, 50)), None);
        let found = of_disk(&disk(49 << 20, 500)).expect("little is left");
        assert_eq!(found.message, "the file system of /var/lib/orund: 49 MiB of 1000 MiB are left");
        assert!(of_disk(&disk(500 << 20, 1)).is_some_and(|p| p.message.contains("1 of 1000 inodes")));
        // As btrfs has it.
        assert_eq!(of_disk(&DiskObject { inodes: 0, ..disk(500 << 20, 0) }), None);
    }

    #[test]
    fn a_service_without_pods_says_why() {
        let behind = |workloads: &[&str], ready, ports: &[u16]| Behind {
            service: "db".into(),
            selector: "app=db".into(),
            workloads: workloads.iter().map(|w| (*w).to_owned()).collect(),
            ready,
            ports: ports.to_vec(),
        };
        assert_eq!(of_service(&behind(&["db"], 1, &[80])), None);
        assert_eq!(of_service(&behind(&["db"], 0, &[])), None);
        let found = of_service(&behind(&["db"], 0, &[80, 81])).expect("nobody is ready");
        assert_eq!(found.message, "no replica of db is ready, so connections to port 80, 81 wait");
        let found = of_service(&behind(&[], 0, &[80])).expect("no workload matches");
        assert!(found.message.contains("(app=db)"), "{}", found.message);
    }
}
