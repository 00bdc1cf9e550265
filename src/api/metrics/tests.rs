//! The form of the document, and that published dashboards find what they ask for.

use super::facts::{Host, Interface};
use super::*;
use crate::api::types::{
    ContainerObject, ContainerState, ExitObject, Reason, ReplicaObject, ReplicaPhase, Role, StatsObject,
    WorkloadObject,
};
use crate::workload::Workload;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn samples_are_escaped_and_families_are_announced() {
    let mut doc = Document::default();
    doc.family("x_total", "counter", "Some text.");
    doc.sample("x_total", &[("a", "say \"hi\"\\\n"), ("b", "")], 1.5);
    doc.sample("x_total", &[], 2);
    let expected = "# HELP x_total Some text.\n# TYPE x_total counter\nx_total{a=\"say \\\"hi\\\"\\\\\\n\",b=\"\"} 1.5\nx_total 2\n";
    assert_eq!(doc.0, expected);
}

/// One of this kind, with a container.
fn workload(kind: &str) -> WorkloadObject {
    let name = kind.to_lowercase();
    let limits = serde_json::json!({"cpu": "500m", "memory": "64Mi"});
    let container = serde_json::json!({"name": "main", "bundle": "/b", "resources": {"limits": limits, "requests": limits}});
    let backoff = serde_json::json!({"initial": "1s", "factor": 2, "max": "60s", "reset": "300s"});
    let spec = serde_json::json!({
        "replicas": 1, "restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "backoff": backoff,
        "controller": {"kind": kind}, "containers": [container],
    });
    let value = serde_json::json!({
        "apiVersion": "orun.dev/v1", "kind": "Workload",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}}, "spec": spec,
    });
    let workload: Workload = serde_json::from_value(value).expect("it is a workload");
    WorkloadObject { workload, status: crate::api::types::WorkloadStatus::default() }
}

/// A Deployment, a StatefulSet, a DaemonSet and a Job with one pod each, and what there can be of each thing.
fn facts() -> Facts {
    let kinds = ["Deployment", "StatefulSet", "DaemonSet", "Job"];
    let container = |state| ContainerObject {
        name: "main".into(),
        role: Role::Main,
        bundle: "/b".into(),
        image: None,
        exposed_ports: Vec::new(),
        id: Some("x".into()),
        pid: None,
        ready: true,
        restarts: 1,
        state,
        probes: Vec::new(),
        exits: vec![ExitObject {
            instance: 0,
            time: "2026-11-30T08:00:00Z".into(),
            started: None,
            reason: Reason::Error,
            exit_code: Some(1),
            signal: None,
            message: None,
        }],
    };
    let waiting =
        || ContainerState::Waiting { reason: Reason::CrashLoopBackOff, message: None, next_attempt: None };
    let replica = |kind: &str| ReplicaObject {
        name: format!("{}-0", kind.to_lowercase()),
        workload: kind.to_lowercase(),
        slot: 0,
        serial: 7,
        revision: 1,
        phase: ReplicaPhase::Running,
        initializing: None,
        ready: true,
        available: true,
        labels: BTreeMap::new(),
        restarts: 1,
        conditions: Vec::new(),
        created: "2026-11-30T08:00:00Z".into(),
        stopping: None,
        pod_ip: None,
        containers: vec![container(if kind == "Job" {
            ContainerState::Terminated { reason: Reason::Completed }
        } else {
            waiting()
        })],
    };
    let stats = StatsObject {
        replica: "deployment-0".into(),
        container: "main".into(),
        cpu: 1_500_000_000,
        at: 2,
        started: Some(1),
        memory_limit: Some(1),
        pids_limit: Some(1),
        ..StatsObject::default()
    };
    let interface = Interface { pod: "deployment-0".into(), name: "eth0".into(), ..Default::default() };
    Facts {
        workloads: kinds.map(workload).into(),
        replicas: kinds.map(replica).into(),
        objects: Vec::new(),
        stats: vec![stats],
        host: Host { name: "host".into(), cpus: 2, memory: 1 << 30 },
        interfaces: vec![interface],
    }
}

/// The names of series, each with its labels.
fn series(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (name, rest) =
            line.split_once('{').unwrap_or_else(|| line.split_once(' ').expect("it has a value"));
        let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
        let keys = labels.split("\",").filter_map(|l| Some(l.split_once('=')?.0.to_owned()));
        found.entry(name.to_owned()).or_default().extend(keys);
    }
    found
}

#[test]
fn every_sample_belongs_to_the_family_above_it() {
    let text = text(&facts(), &[]);
    let (mut family, mut known) = ("", BTreeSet::new());
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => {
                family = rest.split(' ').next().expect("it has a name");
                assert!(known.insert(family), "{family} is announced once");
            }
            None if line.starts_with('#') => {}
            None => assert_eq!(line.split(['{', ' ']).next(), Some(family)),
        }
    }
    let cpu = "container_cpu_usage_seconds_total{namespace=\"default\",pod=\"deployment-0\",container=\"main\",image=\"\",name=\"\"} 1.5\n";
    assert!(text.contains(cpu), "{text}");
    assert!(text.contains("kube_pod_status_qos_class{namespace=\"default\",pod=\"job-0\",uid=\"7\",qos_class=\"Guaranteed\"} 1\n"));
    assert!(text.contains("label_app_kubernetes_io_name=\"deployment\"} 1\n"));
}

/// The series and labels that the queries of three published dashboards use, where they mean something on one host:
/// "Kubernetes / Views / Pods" (grafana.com 15760), "kube-state-metrics-v2" (13332) and "Cadvisor exporter" (14282).
#[test]
fn three_published_dashboards_find_their_series_and_labels() {
    let found = series(&text(&facts(), &[]));
    let views = "kube_pod_info: namespace pod node created_by_kind created_by_name priority_class pod_ip
        kube_pod_owner: namespace pod owner_kind owner_name
        kube_pod_status_phase: namespace pod phase
        kube_pod_status_ready: namespace pod condition
        kube_pod_status_scheduled: condition
        kube_pod_status_qos_class: namespace pod qos_class
        kube_pod_container_info: namespace pod container image
        kube_pod_container_resource_requests: namespace pod container resource
        kube_pod_container_resource_limits: namespace pod container resource
        kube_pod_container_status_restarts_total: namespace pod container
        kube_pod_container_status_waiting_reason: namespace pod reason
        kube_pod_container_status_last_terminated_reason: namespace pod reason
        kube_pod_container_status_last_terminated_exitcode: namespace pod
        container_cpu_usage_seconds_total: namespace pod container image
        container_memory_working_set_bytes: namespace pod container image
        container_cpu_cfs_throttled_seconds_total: namespace pod container image
        container_oom_events_total: namespace pod container
        container_network_receive_bytes_total: namespace pod
        container_network_transmit_bytes_total: namespace pod
        container_network_receive_packets_total: namespace pod
        container_network_transmit_packets_total: namespace pod
        container_network_receive_packets_dropped_total: namespace pod
        container_network_transmit_packets_dropped_total: namespace pod
        container_network_receive_errors_total: namespace pod
        container_network_transmit_errors_total: namespace pod";
    let state = "kube_node_info: node
        kube_node_status_condition: condition status
        kube_node_spec_unschedulable: node
        kube_node_status_capacity: node resource unit
        kube_node_status_allocatable: node resource unit
        kube_pod_container_status_running: namespace
        kube_pod_container_status_waiting: namespace
        kube_pod_container_status_terminated: namespace
        kube_pod_container_status_terminated_reason: namespace reason
        kube_deployment_status_replicas: namespace deployment
        kube_deployment_status_replicas_updated: namespace deployment
        kube_deployment_status_replicas_unavailable: namespace deployment
        kube_deployment_status_replicas_available: namespace deployment
        kube_deployment_labels: namespace deployment
        kube_statefulset_labels: namespace statefulset
        kube_statefulset_status_replicas_ready: namespace statefulset
        kube_daemonset_status_number_unavailable: namespace daemonset
        kube_job_status_succeeded: namespace job_name
        kube_job_status_active: namespace job_name
        kube_job_status_failed: namespace job_name";
    let cadvisor = "container_cpu_usage_seconds_total: name image
        container_memory_rss: name
        container_memory_cache: name
        container_memory_usage_bytes: name
        container_last_seen: name image
        container_start_time_seconds: name
        machine_cpu_cores:
        machine_memory_bytes:";
    for line in [views, state, cadvisor].into_iter().flat_map(str::lines) {
        let (name, labels) = line.trim().split_once(':').expect("a name, and labels");
        let own = found.get(name).unwrap_or_else(|| panic!("no series {name}"));
        for label in labels.split_whitespace() {
            assert!(own.contains(label), "{name} has no label {label}: {own:?}");
        }
    }
}
