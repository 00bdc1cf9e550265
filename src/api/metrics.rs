//! `GET /metrics`: the text format of Prometheus (version 0.0.4), with the names that Kubernetes' dashboards know and
//! a few of our own.

use hyper::StatusCode;
use std::fmt::Write;

use crate::api::respond::{self, Answer, Problem};
use crate::api::routes::Api;
use crate::api::stats;
use crate::api::types::{ContainerState, ReplicaObject, ReplicaPhase, StatsObject, WorkloadObject};
use crate::api::view;
use crate::supervisor::shell::handle::View;

/// Answers the request.
pub async fn answer(api: &Api) -> Result<Answer, Problem> {
    let (workloads, replicas) = api.look(|v: &View| (view::workloads(v), view::replicas(v))).await?;
    let stats = stats::read(api, None).await?;
    let text = text(&workloads, &replicas, &stats);
    Ok(respond::typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes()))
}

/// A document of families of metrics.
#[derive(Default)]
struct Document(String);

impl Document {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if n == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}

fn text(workloads: &[WorkloadObject], replicas: &[ReplicaObject], stats: &[StatsObject]) -> String {
    let mut doc = Document::default();
    of_workloads(&mut doc, workloads);
    of_replicas(&mut doc, replicas);
    of_containers(&mut doc, replicas);
    of_stats(&mut doc, stats);
    doc.family("orun_build_info", "gauge", "The version of the supervisor.");
    doc.sample("orun_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    doc.0
}

/// A number of a workload.
type OfWorkload = fn(&WorkloadObject) -> u64;

fn of_workloads(doc: &mut Document, workloads: &[WorkloadObject]) {
    let families: [(&str, &str, OfWorkload); 7] = [
        ("kube_deployment_spec_replicas", "Number of desired replicas.", |w| w.workload.spec.replicas.into()),
        ("kube_deployment_status_replicas", "Number of replicas that exist.", |w| w.status.replicas.into()),
        ("kube_deployment_status_replicas_ready", "Replicas that serve.", |w| w.status.ready.into()),
        ("kube_deployment_status_replicas_available", "Replicas that are available.", |w| {
            w.status.available.into()
        }),
        ("kube_deployment_status_replicas_updated", "Replicas of the current revision.", |w| {
            w.status.updated.into()
        }),
        ("kube_deployment_status_replicas_unavailable", "Replicas that are missing or not available.", |w| {
            u64::from(w.workload.spec.replicas.saturating_sub(w.status.available))
        }),
        ("kube_deployment_metadata_generation", "Generation of the desired state.", |w| w.status.generation),
    ];
    for (name, help, value) in families {
        doc.family(name, "gauge", help);
        for w in workloads {
            doc.sample(name, &[("deployment", &w.workload.metadata.name)], value(w));
        }
    }
}

fn of_replicas(doc: &mut Document, replicas: &[ReplicaObject]) {
    let name = "kube_pod_status_phase";
    doc.family(name, "gauge", "The phase of a replica.");
    for r in replicas {
        let phase = match r.phase {
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
        };
        doc.sample(name, &[("pod", &r.name), ("phase", phase)], 1);
    }
    let name = "orun_backoff_active";
    doc.family(name, "gauge", "Replicas that wait before they are started again.");
    let waiting = |r: &&ReplicaObject| {
        r.containers.iter().any(|c| matches!(c.state, ContainerState::Waiting { next_attempt: Some(_), .. }))
    };
    doc.sample(name, &[], replicas.iter().filter(waiting).count());
}

/// kubelet's counter.
fn probes(doc: &mut Document, replicas: &[ReplicaObject]) {
    let name = "prober_probe_total";
    doc.family(name, "counter", "Results of probes since their container was started.");
    for r in replicas {
        for (c, p) in r.containers.iter().flat_map(|c| c.probes.iter().map(move |p| (c, p))) {
            let kind = format!("{:?}", p.kind);
            let results = [("successful", p.successes), ("failed", p.failures), ("unknown", p.errors)];
            for (result, n) in results {
                let labels = [
                    ("pod", r.name.as_str()),
                    ("container", &c.name),
                    ("probe_type", &kind),
                    ("result", result),
                ];
                doc.sample(name, &labels, n);
            }
        }
    }
}

fn of_containers(doc: &mut Document, replicas: &[ReplicaObject]) {
    let all = || {
        replicas.iter().filter(|r| r.stopping.is_none()).flat_map(|r| {
            r.containers.iter().map(move |c| ([("pod", r.name.as_str()), ("container", &c.name)], c))
        })
    };
    probes(doc, replicas);
    let name = "kube_pod_container_status_restarts_total";
    doc.family(name, "counter", "Starts after the first one.");
    all().for_each(|(labels, c)| doc.sample(name, &labels, c.restarts));
    let name = "kube_pod_container_status_ready";
    doc.family(name, "gauge", "Whether the container serves.");
    all().for_each(|(labels, c)| doc.sample(name, &labels, u8::from(c.ready)));
    let name = "kube_pod_container_status_running";
    doc.family(name, "gauge", "Whether the container's program runs.");
    let running = |s: &ContainerState| matches!(s, ContainerState::Running { .. });
    all().for_each(|(labels, c)| doc.sample(name, &labels, u8::from(running(&c.state))));
    let name = "kube_pod_container_status_waiting_reason";
    doc.family(name, "gauge", "Why the container waits.");
    for ([pod, container], c) in all() {
        if let ContainerState::Waiting { reason, .. } = &c.state {
            doc.sample(name, &[pod, container, ("reason", &reason.to_string())], 1);
        }
    }
    let name = "kube_pod_container_status_last_terminated_reason";
    doc.family(name, "gauge", "Why the container last terminated.");
    for ([pod, container], c) in all() {
        if let Some(exit) = c.exits.first() {
            doc.sample(name, &[pod, container, ("reason", &exit.reason.to_string())], 1);
        }
    }
    let name = "kube_pod_container_status_last_terminated_exitcode";
    doc.family(name, "gauge", "The exit code of the container's last end.");
    for (labels, c) in all() {
        if let Some(code) = c.exits.first().and_then(|e| e.exit_code) {
            doc.sample(name, &labels, code);
        }
    }
}

/// Value of a container's figures.
type OfStats = fn(&StatsObject) -> Option<f64>;

fn of_stats(doc: &mut Document, stats: &[StatsObject]) {
    let families: [(&str, &str, &str, OfStats); 5] = [
        ("container_cpu_usage_seconds_total", "counter", "CPU time used.", |s| Some(s.cpu as f64 / 1e9)),
        ("container_memory_working_set_bytes", "gauge", "Memory that cannot be dropped.", |s| {
            Some(s.memory as f64)
        }),
        ("container_spec_memory_limit_bytes", "gauge", "The limit of memory.", |s| {
            s.memory_limit.map(|n| n as f64)
        }),
        ("container_threads", "gauge", "Tasks.", |s| Some(s.pids as f64)),
        ("container_threads_max", "gauge", "The limit of tasks.", |s| s.pids_limit.map(|n| n as f64)),
    ];
    for (name, kind, help, value) in families {
        doc.family(name, kind, help);
        for s in stats {
            if let Some(value) = value(s) {
                doc.sample(name, &[("pod", &s.replica), ("container", &s.container)], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_escaped_and_families_are_announced() {
        let mut doc = Document::default();
        doc.family("x_total", "counter", "Some text.");
        doc.sample("x_total", &[("a", "say \"hi\"\\\n"), ("b", "")], 1.5);
        doc.sample("x_total", &[], 2);
        let expected = "# HELP x_total Some text.\n# TYPE x_total counter\nx_total{a=\"say \\\"hi\\\"\\\\\\n\",b=\"\"} 1.5\nx_total 2\n";
        assert_eq!(doc.0, expected);
    }

    #[test]
    fn every_sample_belongs_to_the_family_above_it() {
        let stats = StatsObject { replica: "web-0".into(), cpu: 1_500_000_000, ..StatsObject::default() };
        let text = text(&[], &[], &[stats]);
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => family = rest.split(' ').next().unwrap(),
                None if line.starts_with('#') => {}
                None => assert_eq!(line.split(['{', ' ']).next().unwrap(), family),
            }
        }
        assert!(text.contains("container_cpu_usage_seconds_total{pod=\"web-0\",container=\"\"} 1.5\n"));
        assert!(!text.contains("container_spec_memory_limit_bytes{"));
    }
}
