//! The metrics of cAdvisor and kubelet for containers, pods and the host.

use std::collections::BTreeMap;

use super::document::{Document, NAMESPACE};
use super::facts::{Facts, Host, Interface};
use crate::api::types::{ContainerState, ReplicaObject, StatsObject};

/// Value of a container's figures.
type OfStats = fn(&StatsObject) -> Option<f64>;

const FAMILIES: [(&str, &str, &str, OfStats); 12] = [
    ("container_cpu_usage_seconds_total", "counter", "CPU time used.", |s| Some(s.cpu as f64 / 1e9)),
    ("container_cpu_cfs_throttled_seconds_total", "counter", "Time throttled by the CPU limit.", |s| {
        Some(s.throttled as f64 / 1e9)
    }),
    ("container_memory_working_set_bytes", "gauge", "Memory without droppable page cache.", |s| {
        Some(s.memory as f64)
    }),
    ("container_memory_usage_bytes", "gauge", "Memory including the page cache.", |s| {
        Some(s.memory_usage as f64)
    }),
    ("container_memory_rss", "gauge", "Anonymous memory.", |s| Some(s.rss as f64)),
    ("container_memory_cache", "gauge", "Page cache.", |s| Some(s.cache as f64)),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit.", |s| s.memory_limit.map(|n| n as f64)),
    ("container_oom_events_total", "counter", "Processes killed by the OOM killer.", |s| {
        Some(s.oom_kills as f64)
    }),
    ("container_threads", "gauge", "Tasks.", |s| Some(s.pids as f64)),
    ("container_threads_max", "gauge", "Task limit.", |s| s.pids_limit.map(|n| n as f64)),
    ("container_last_seen", "gauge", "Time of these figures in seconds since 1970.", |_| {
        Some(crate::sys::timestamp::Timestamp::now().seconds as f64)
    }),
    ("container_start_time_seconds", "gauge", "Start time of the program in seconds since 1970.", |s| {
        let ago = s.at.checked_sub(s.started?)? / 1_000_000_000;
        Some(crate::sys::timestamp::Timestamp::now().seconds.saturating_sub(ago) as f64)
    }),
];

pub fn of_containers(doc: &mut Document, stats: &[StatsObject]) {
    for (name, kind, help, value) in FAMILIES {
        doc.family(name, kind, help);
        for s in stats {
            let labels = [
                NAMESPACE,
                ("pod", s.replica.as_str()),
                ("container", s.container.as_str()),
                // Dashboards leave out what has no image, which is a pod's own cgroup elsewhere.
                ("image", s.image.as_str()),
                ("name", s.id.as_str()),
            ];
            if let Some(value) = value(s) {
                doc.sample(name, &labels, value);
            }
        }
    }
}

pub fn of_pods(doc: &mut Document, interfaces: &[Interface]) {
    for (n, what) in ["bytes", "packets", "errors", "packets_dropped"].into_iter().enumerate() {
        for way in ["receive", "transmit"] {
            let name = format!("container_network_{way}_{what}_total");
            doc.family(&name, "counter", "Network interface of a pod.");
            for i in interfaces {
                let labels = [NAMESPACE, ("pod", i.pod.as_str()), ("interface", i.name.as_str())];
                let counts = if way == "receive" { &i.received } else { &i.sent };
                doc.sample(&name, &labels, counts[n]);
            }
        }
    }
}

pub fn of_host(doc: &mut Document, facts: &Facts) {
    let Host { name, cpus, memory } = &facts.host;
    let node = ("node", name.as_str());
    doc.gauges("machine_cpu_cores", "CPUs of the host.", [([], *cpus as f64)]);
    doc.gauges("machine_memory_bytes", "Memory of the host.", [([], *memory as f64)]);
    doc.gauges(
        "kube_node_info",
        "The host.",
        [([node, ("kubelet_version", env!("CARGO_PKG_VERSION"))], 1.0)],
    );
    let ready = |status, value| ([node, ("condition", "Ready"), ("status", status)], value);
    let conditions = [ready("true", 1.0), ready("false", 0.0), ready("unknown", 0.0)];
    doc.gauges("kube_node_status_condition", "Conditions of the host.", conditions);
    doc.gauges("kube_node_spec_unschedulable", "Always 0; see `orund drain`.", [([node], 0.0)]);
    let resource = |resource, unit, value| ([node, ("resource", resource), ("unit", unit)], value);
    let all = [resource("cpu", "core", *cpus as f64), resource("memory", "byte", *memory as f64)];
    doc.gauges("kube_node_status_capacity", "Resources of the host.", all);
    doc.gauges("kube_node_status_allocatable", "Resources of the host.", all);
    doc.gauges("kube_namespace_status_phase", "The namespace.", [([NAMESPACE, ("phase", "Active")], 1.0)]);
    let runs =
        |s: &ContainerState| matches!(s, ContainerState::Running { .. } | ContainerState::Terminating { .. });
    let running = |r: &&ReplicaObject| r.containers.iter().any(|c| runs(&c.state));
    let pods = facts.replicas.iter().filter(running).count();
    doc.gauges("kubelet_running_pods", "Replicas that run.", [([], pods as f64)]);
    let mut states: BTreeMap<&str, u32> = BTreeMap::from([("running", 0), ("exited", 0), ("created", 0)]);
    for c in facts.replicas.iter().flat_map(|r| &r.containers) {
        let state = match &c.state {
            ContainerState::Running { .. } | ContainerState::Terminating { .. } => "running",
            ContainerState::Terminated { .. } => "exited",
            ContainerState::Waiting { .. } => "created",
        };
        *states.entry(state).or_default() += 1;
    }
    let states = states.into_iter().map(|(s, n)| ([("container_state", s)], f64::from(n)));
    doc.gauges("kubelet_running_containers", "Containers by their state.", states);
}
