//! The metrics of kube-state-metrics, for our objects.

use std::collections::BTreeMap;

use super::document::{Document, NAMESPACE};
use super::facts::Facts;
use crate::api::jobs::CronStatus;
use crate::api::types::{
    ContainerObject, ContainerState, KeptAnswer, Reason, ReplicaObject, ReplicaPhase, RolloutState,
    WorkloadObject, WorkloadPhase,
};
use crate::sys::timestamp;
use crate::workload::KeptKind;
use crate::workload::cron;
use crate::workload::model::{Container, Limits, Spec};

/// A number of a workload.
type OfWorkload = fn(&WorkloadObject) -> u64;
/// The name of a family, its help, and its values.
type Family = (&'static str, &'static str, OfWorkload);

const DEPLOYMENT: &[Family] = &[
    ("kube_deployment_spec_replicas", "Number of desired replicas.", desired),
    ("kube_deployment_spec_paused", "Whether its rollouts are paused.", |w| {
        (w.status.rollout.state == RolloutState::Paused).into()
    }),
    ("kube_deployment_status_replicas", "Number of replicas that exist.", |w| w.status.replicas.into()),
    ("kube_deployment_status_replicas_ready", "Replicas that serve.", |w| w.status.ready.into()),
    ("kube_deployment_status_replicas_available", "Replicas that are available.", |w| {
        w.status.available.into()
    }),
    ("kube_deployment_status_replicas_updated", "Replicas of the current revision.", |w| {
        w.status.updated.into()
    }),
    ("kube_deployment_status_replicas_unavailable", "Replicas that are missing or not available.", missing),
    ("kube_deployment_metadata_generation", "Generation of the desired state.", |w| w.status.generation),
    ("kube_deployment_status_observed_generation", "Generation that is acted on.", |w| w.status.generation),
];

const STATEFULSET: &[Family] = &[
    ("kube_statefulset_replicas", "Number of desired replicas.", desired),
    ("kube_statefulset_status_replicas", "Number of replicas that exist.", |w| w.status.replicas.into()),
    ("kube_statefulset_status_replicas_ready", "Replicas that serve.", |w| w.status.ready.into()),
    ("kube_statefulset_status_replicas_available", "Replicas that are available.", |w| {
        w.status.available.into()
    }),
    ("kube_statefulset_status_replicas_updated", "Replicas of the current revision.", |w| {
        w.status.updated.into()
    }),
    ("kube_statefulset_status_replicas_current", "Replicas of earlier revisions.", |w| {
        w.status.replicas.saturating_sub(w.status.updated).into()
    }),
    ("kube_statefulset_metadata_generation", "Generation of the desired state.", |w| w.status.generation),
    ("kube_statefulset_status_observed_generation", "Generation that is acted on.", |w| w.status.generation),
];

const DAEMONSET: &[Family] = &[
    ("kube_daemonset_status_desired_number_scheduled", "Number of desired replicas.", desired),
    ("kube_daemonset_status_current_number_scheduled", "Number of replicas that exist.", |w| {
        w.status.replicas.into()
    }),
    ("kube_daemonset_status_number_ready", "Replicas that serve.", |w| w.status.ready.into()),
    ("kube_daemonset_status_number_available", "Replicas that are available.", |w| w.status.available.into()),
    ("kube_daemonset_status_number_unavailable", "Replicas that are missing or not available.", missing),
    ("kube_daemonset_status_number_misscheduled", "Always 0: there is one host.", |_| 0),
    ("kube_daemonset_status_updated_number_scheduled", "Replicas of the current revision.", |w| {
        w.status.updated.into()
    }),
];

const JOB: &[Family] = &[
    ("kube_job_spec_completions", "Number of replicas that must succeed.", desired),
    ("kube_job_status_active", "Replicas that run.", |w| {
        let ended = w.status.succeeded + w.status.failed;
        w.status.replicas.saturating_sub(ended).into()
    }),
    ("kube_job_status_succeeded", "Replicas that have succeeded.", |w| w.status.succeeded.into()),
    ("kube_job_status_failed", "Replicas that have failed.", |w| w.status.failed.into()),
    ("kube_job_complete", "Whether it is complete.", |w| (w.status.phase == WorkloadPhase::Complete).into()),
    ("kube_job_failed", "Whether it has failed permanently.", |w| {
        w.status.job.as_ref().is_some_and(|j| j.failed).into()
    }),
];

const CRONJOB: &[Family] = &[
    ("kube_cronjob_spec_suspend", "Whether no job is made.", |w| {
        let cron = w.workload.spec.controller.as_ref().and_then(|c| c.cron.as_ref());
        (w.status.stopped || cron.is_some_and(|c| c.suspend)).into()
    }),
    ("kube_cronjob_status_active", "Jobs that have not finished.", |w| {
        w.status.cron.as_ref().map_or(0, |c| c.active.len() as u64)
    }),
];

fn desired(w: &WorkloadObject) -> u64 {
    w.workload.spec.replicas.into()
}

fn missing(w: &WorkloadObject) -> u64 {
    w.workload.spec.replicas.saturating_sub(w.status.available).into()
}

/// The label of a workload's families, its kind and they themselves. Every other workload is a Deployment.
fn kind(w: &WorkloadObject) -> (&'static str, &'static str, &'static [Family]) {
    match w.workload.spec.controller.as_ref().map(|c| c.kind.as_str()) {
        Some("StatefulSet") => ("statefulset", "StatefulSet", STATEFULSET),
        Some("DaemonSet") => ("daemonset", "DaemonSet", DAEMONSET),
        Some("Job") => ("job_name", "Job", JOB),
        Some("CronJob") => ("cronjob", "CronJob", CRONJOB),
        _ => ("deployment", "Deployment", DEPLOYMENT),
    }
}

pub fn of_workloads(doc: &mut Document, workloads: &[WorkloadObject]) {
    for families in [DEPLOYMENT, STATEFULSET, DAEMONSET, JOB, CRONJOB] {
        for (name, help, value) in families {
            doc.family(name, "gauge", help);
            for w in workloads.iter().filter(|w| kind(w).2[0].0 == families[0].0) {
                doc.sample(name, &[NAMESPACE, (kind(w).0, w.workload.metadata.name.as_str())], value(w));
            }
        }
    }
    of_schedules(doc, workloads);
    let name = "kube_deployment_status_condition";
    doc.family(name, "gauge", "Conditions of a Deployment.");
    for w in workloads.iter().filter(|w| kind(w).0 == "deployment") {
        let failed = matches!(w.status.rollout.state, RolloutState::Failed | RolloutState::DeadlineExceeded);
        let available = missing(w) == 0;
        for (condition, is) in [("Available", available), ("Progressing", !failed)] {
            for (status, holds) in [("true", is), ("false", !is), ("unknown", false)] {
                let name_of = ("deployment", w.workload.metadata.name.as_str());
                doc.sample(
                    name,
                    &[NAMESPACE, name_of, ("condition", condition), ("status", status)],
                    u8::from(holds),
                );
            }
        }
    }
    for family in [
        "kube_deployment_labels",
        "kube_statefulset_labels",
        "kube_daemonset_labels",
        "kube_job_labels",
        "kube_cronjob_labels",
    ] {
        doc.family(family, "gauge", "Labels.");
        for w in workloads.iter().filter(|w| family == format!("kube_{}_labels", kind(w).1.to_lowercase())) {
            let own = [NAMESPACE, (kind(w).0, w.workload.metadata.name.as_str())];
            labelled(doc, family, &own, &w.workload.metadata.labels);
        }
    }
}

/// The times of CronJobs, seconds since 1970; those that there are.
fn of_schedules(doc: &mut Document, workloads: &[WorkloadObject]) {
    type Time = fn(&CronStatus) -> Option<&String>;
    let families: [(&str, &str, Time); 2] = [
        ("kube_cronjob_next_schedule_time", "When the next job is due.", |c| c.next_schedule_time.as_ref()),
        ("kube_cronjob_status_last_schedule_time", "Scheduled time of the last job.", |c| {
            c.last_schedule_time.as_ref()
        }),
    ];
    for (name, help, time) in families {
        doc.family(name, "gauge", help);
        for w in workloads {
            let at = w.status.cron.as_ref().and_then(time).and_then(|text| cron::seconds(text));
            if let Some(at) = at {
                doc.sample(name, &[NAMESPACE, ("cronjob", w.workload.metadata.name.as_str())], at);
            }
        }
    }
}

/// A sample with the labels of an object as `label_NAME`.
fn labelled(doc: &mut Document, name: &str, own: &[(&str, &str)], labels: &BTreeMap<String, String>) {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let names: Vec<String> =
        labels.keys().map(|k| format!("label_{}", k.chars().map(plain).collect::<String>())).collect();
    let pairs = names.iter().map(String::as_str).zip(labels.values().map(String::as_str));
    // Two keys may become one name.
    let more: BTreeMap<&str, &str> = pairs.collect();
    let all: Vec<(&str, &str)> = own.iter().copied().chain(more).collect();
    doc.sample(name, &all, 1);
}

/// A phase as Kubernetes has it.
fn phase(r: &ReplicaObject) -> &'static str {
    match r.phase {
        ReplicaPhase::Completed => "Succeeded",
        ReplicaPhase::Error
        | ReplicaPhase::OomKilled
        | ReplicaPhase::RestartLimit
        | ReplicaPhase::Unhealthy
        | ReplicaPhase::PostStartHookError
        | ReplicaPhase::DeadlineExceeded
        | ReplicaPhase::Stopped => "Failed",
        ReplicaPhase::Running
        | ReplicaPhase::Terminating
        | ReplicaPhase::Restarting
        | ReplicaPhase::CrashLoopBackOff => "Running",
        ReplicaPhase::Unknown => "Unknown",
        ReplicaPhase::ContainerCreating
        | ReplicaPhase::CreateContainerConfigError
        | ReplicaPhase::StartError
        | ReplicaPhase::ErrImagePull
        | ReplicaPhase::ImagePullBackOff
        | ReplicaPhase::ErrImageNeverPull
        | ReplicaPhase::InvalidImageName
        | ReplicaPhase::Pending => "Pending",
    }
}

const PHASES: [&str; 5] = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];

/// The quality of service that its limits and requests amount to.
fn qos(spec: &Spec) -> &'static str {
    let both = |l: &Limits| l.cpu.is_some() && l.memory.is_some();
    let none = |l: &Limits| l.cpu.is_none() && l.memory.is_none();
    let same = |c: &Container| {
        let (limits, requests) = (&c.resources.limits, &c.resources.requests);
        let or = |own: Option<u64>, limit: Option<u64>| own.is_none() || own == limit;
        both(limits)
            && or(requests.cpu.map(|n| n.0), limits.cpu.map(|n| n.0))
            && or(requests.memory.map(|n| n.0), limits.memory.map(|n| n.0))
    };
    if spec.all_containers().all(|c| none(&c.resources.limits) && none(&c.resources.requests)) {
        "BestEffort"
    } else if spec.all_containers().all(same) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// The labels of a sample besides those of its pod, and its value.
type Sample = (Vec<(&'static str, String)>, f64);

pub fn of_replicas(doc: &mut Document, facts: &Facts) {
    let node = facts.host.name.as_str();
    let owners: BTreeMap<&str, &WorkloadObject> =
        facts.workloads.iter().map(|w| (w.workload.metadata.name.as_str(), w)).collect();
    let all: Vec<(&ReplicaObject, String, &WorkloadObject)> = facts
        .replicas
        .iter()
        .filter_map(|r| Some((r, r.serial.to_string(), *owners.get(r.workload.as_str())?)))
        .collect();
    let pod =
        |(r, uid, _): &'_ (&'_ ReplicaObject, String, &'_ WorkloadObject)| -> [(&'static str, String); 3] {
            [("namespace", NAMESPACE.1.to_owned()), ("pod", r.name.clone()), ("uid", uid.clone())]
        };
    let mut family =
        |name: &str, help: &str, more: &dyn Fn(&ReplicaObject, &WorkloadObject) -> Vec<Sample>| {
            doc.family(name, "gauge", help);
            for one in &all {
                for (labels, value) in more(one.0, one.2) {
                    let own = pod(one);
                    let labels: Vec<(&str, &str)> =
                        own.iter().chain(&labels).map(|(k, v)| (*k, v.as_str())).collect();
                    doc.sample(name, &labels, value);
                }
            }
        };
    family("kube_pod_info", "A replica.", &|r, w| {
        let host_network = w.workload.spec.host_network;
        vec![(
            vec![
                ("node", node.to_owned()),
                ("pod_ip", r.pod_ip.clone().unwrap_or_default()),
                ("host_ip", String::new()),
                ("created_by_kind", kind(w).1.to_owned()),
                ("created_by_name", r.workload.clone()),
                ("priority_class", String::new()),
                ("host_network", host_network.to_string()),
            ],
            1.0,
        )]
    });
    family("kube_pod_owner", "Owner of a replica.", &|r, w| {
        let is = ("owner_is_controller", "true".to_owned());
        vec![(vec![("owner_kind", kind(w).1.to_owned()), ("owner_name", r.workload.clone()), is], 1.0)]
    });
    family("kube_pod_status_phase", "The phase of a replica.", &|r, _| {
        let value = |p: &str| f64::from(u8::from(p == phase(r)));
        PHASES.iter().map(|p| (vec![("phase", (*p).to_owned())], value(p))).collect()
    });
    let conditions = |is: bool| -> Vec<Sample> {
        let all = [("true", is), ("false", !is), ("unknown", false)];
        all.iter().map(|(c, v)| (vec![("condition", (*c).to_owned())], f64::from(u8::from(*v)))).collect()
    };
    family("kube_pod_status_ready", "Whether a replica serves.", &|r, _| conditions(r.ready));
    family("kube_pod_status_scheduled", "Always true: there is one host.", &|_, _| conditions(true));
    family("kube_pod_status_qos_class", "Limits and requests.", &|_, w| {
        vec![(vec![("qos_class", qos(&w.workload.spec).to_owned())], 1.0)]
    });
    family("kube_pod_created", "Creation time of a replica in seconds since 1970.", &|r, _| {
        timestamp::seconds(&r.created).map(|s| (Vec::new(), s as f64)).into_iter().collect()
    });
    doc.family("kube_pod_labels", "gauge", "Labels of a replica.");
    for one in &all {
        let own = pod(one);
        let own: Vec<(&str, &str)> = own.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let labels = one.2.workload.spec.pod.as_ref().map_or(&one.0.labels, |p| &p.labels);
        labelled(doc, "kube_pod_labels", &own, labels);
    }
    backoff(doc, &facts.replicas);
}

/// Ours.
fn backoff(doc: &mut Document, replicas: &[ReplicaObject]) {
    let name = "orun_backoff_active";
    doc.family(name, "gauge", "Replicas that wait for a restart.");
    let waiting = |r: &&ReplicaObject| {
        r.containers.iter().any(|c| matches!(c.state, ContainerState::Waiting { next_attempt: Some(_), .. }))
    };
    doc.sample(name, &[], replicas.iter().filter(waiting).count());
}

/// The end of a metric's name, its help, and what it says of a container.
type Question<T> = (&'static str, &'static str, fn(&ContainerObject) -> T);

/// kubelet's counter.
fn probes(doc: &mut Document, replicas: &[ReplicaObject]) {
    let name = "prober_probe_total";
    doc.family(name, "counter", "Results of probes since their container was started.");
    for r in replicas {
        let uid = r.serial.to_string();
        for (c, p) in r.containers.iter().flat_map(|c| c.probes.iter().map(move |p| (c, p))) {
            let kind = format!("{:?}", p.kind);
            let results = [("successful", p.successes), ("failed", p.failures), ("unknown", p.errors)];
            for (result, n) in results {
                let labels = [
                    NAMESPACE,
                    ("pod", r.name.as_str()),
                    ("container", c.name.as_str()),
                    ("pod_uid", uid.as_str()),
                    ("probe_type", kind.as_str()),
                    ("result", result),
                ];
                doc.sample(name, &labels, n);
            }
        }
    }
}

/// A container with the labels that say which one it is.
type Named<'a> = ([(&'a str, &'a str); 3], &'a ContainerObject);

pub fn of_containers(doc: &mut Document, facts: &Facts) {
    let all: Vec<Named> = facts
        .replicas
        .iter()
        .filter(|r| r.stopping.is_none())
        .flat_map(|r| {
            r.containers
                .iter()
                .map(move |c| ([NAMESPACE, ("pod", r.name.as_str()), ("container", c.name.as_str())], c))
        })
        .collect();
    probes(doc, &facts.replicas);
    doc.family("kube_pod_container_info", "gauge", "A container.");
    for ([ns, pod, container], c) in &all {
        let image = ("image", c.image.as_deref().unwrap_or(&c.bundle));
        let id = c.id.as_ref().map(|id| format!("orun://{id}")).unwrap_or_default();
        doc.sample("kube_pod_container_info", &[*ns, *pod, *container, image, ("container_id", &id)], 1);
    }
    let name = "kube_pod_container_status_restarts_total";
    doc.family(name, "counter", "Starts after the first one.");
    for (labels, c) in &all {
        doc.sample(name, labels, c.restarts);
    }
    let is: [Question<bool>; 4] = [
        ("ready", "Whether the container serves.", |c| c.ready),
        ("running", "Whether the container's program runs.", |c| {
            matches!(c.state, ContainerState::Running { .. } | ContainerState::Terminating { .. })
        }),
        ("waiting", "Whether the container waits for a start.", |c| {
            matches!(c.state, ContainerState::Waiting { .. })
        }),
        ("terminated", "Whether the container has terminated permanently.", |c| {
            matches!(c.state, ContainerState::Terminated { .. })
        }),
    ];
    for (word, help, value) in is {
        let name = format!("kube_pod_container_status_{word}");
        doc.gauges(&name, help, all.iter().map(|(labels, c)| (*labels, f64::from(u8::from(value(c))))));
    }
    let why: [Question<Option<Reason>>; 3] = [
        ("waiting_reason", "Why the container waits.", |c| {
            let ContainerState::Waiting { reason, .. } = &c.state else { return None };
            Some(*reason)
        }),
        ("terminated_reason", "Why the container has terminated.", |c| {
            let ContainerState::Terminated { reason } = &c.state else { return None };
            Some(*reason)
        }),
        ("last_terminated_reason", "Why the container last terminated.", |c| Some(c.exits.first()?.reason)),
    ];
    for (word, help, reason) in why {
        let name = format!("kube_pod_container_status_{word}");
        doc.family(&name, "gauge", help);
        for ([ns, pod, container], c) in &all {
            if let Some(reason) = reason(c) {
                doc.sample(&name, &[*ns, *pod, *container, ("reason", &reason.to_string())], 1);
            }
        }
    }
    let name = "kube_pod_container_status_last_terminated_exitcode";
    doc.family(name, "gauge", "Last exit code of the container.");
    for (labels, c) in &all {
        if let Some(code) = c.exits.first().and_then(|e| e.exit_code) {
            doc.sample(name, labels, code);
        }
    }
    resources(doc, facts);
}

/// Limits and requests of the containers of replicas.
fn resources(doc: &mut Document, facts: &Facts) {
    let node = facts.host.name.as_str();
    let specs: BTreeMap<&str, &Spec> =
        facts.workloads.iter().map(|w| (w.workload.metadata.name.as_str(), &w.workload.spec)).collect();
    let limits: fn(&Container) -> &Limits = |c| &c.resources.limits;
    let requests: fn(&Container) -> &Limits = |c| &c.resources.requests;
    for (name, of) in
        [("kube_pod_container_resource_limits", limits), ("kube_pod_container_resource_requests", requests)]
    {
        doc.family(name, "gauge", "Resource of a container: CPU in cores, memory in bytes.");
        for r in facts.replicas.iter().filter(|r| r.stopping.is_none()) {
            let Some(spec) = specs.get(r.workload.as_str()) else { continue };
            for c in spec.all_containers() {
                let limits = of(c);
                let cpu = limits.cpu.map(|n| ("cpu", "core", n.0 as f64 / 1000.0));
                let memory = limits.memory.map(|n| ("memory", "byte", n.0 as f64));
                for (resource, unit, value) in [cpu, memory].into_iter().flatten() {
                    let own = [NAMESPACE, ("pod", r.name.as_str()), ("container", c.name.as_str())];
                    let more = [("node", node), ("resource", resource), ("unit", unit)];
                    doc.sample(name, &[own, more].concat(), value);
                }
            }
        }
    }
}

pub fn of_objects(doc: &mut Document, objects: &[KeptAnswer]) {
    for (kind, name, label) in [
        (KeptKind::Service, "kube_service_info", "service"),
        (KeptKind::ConfigMap, "kube_configmap_info", "configmap"),
        (KeptKind::Secret, "kube_secret_info", "secret"),
        (KeptKind::PersistentVolumeClaim, "kube_persistentvolumeclaim_info", "persistentvolumeclaim"),
    ] {
        let own = objects.iter().filter(|o| o.object.kind == kind);
        let labels = own.map(|o| ([NAMESPACE, (label, o.object.metadata.name.as_str())], 1.0));
        doc.gauges(name, "Stored object.", labels);
    }
}
