//! Workloads as Kubernetes writes them.

use serde_json::{Map, Value, json};

use super::model::{RestartPolicy, Workload};

/// The fields of `spec` that are not the pod's.
const AROUND: [&str; 6] = ["replicas", "strategy", "minReadySeconds", "backoff", "spares", "stopSignal"];

/// A Deployment, or a Pod where containers may end; and what Kubernetes cannot say.
pub fn kubernetes(w: &Workload) -> (Value, Vec<String>) {
    let whole = serde_json::to_value(w).unwrap_or_default();
    let mut pod = whole["spec"].as_object().cloned().unwrap_or_default();
    let around: Map<String, Value> =
        AROUND.iter().filter_map(|name| pod.remove(*name).map(|value| ((*name).to_owned(), value))).collect();
    let mut lost = Vec::new();
    let of_pod = pod.remove("pod").unwrap_or_default();
    pod.remove("controller");
    let kind = w.spec.controller.as_ref().map_or("", |c| c.kind.as_str());
    if matches!(kind, "StatefulSet" | "DaemonSet" | "Job") {
        lost.push(format!("what a {kind} has of its own is not written"));
    }
    for name in ["sharedRoot", "dependsOn", "failureAction"] {
        if pod.remove(name).is_some() {
            lost.push(format!("{name} has no equivalent in Kubernetes"));
        }
    }
    for (name, default) in [("backoff", json!(super::model::Backoff::default())), ("spares", json!(0))] {
        if around.get(name).is_some_and(|value| *value != default) {
            lost.push(format!("{name} has no equivalent in Kubernetes"));
        }
    }
    let lists = pod.iter_mut().filter(|(name, _)| super::native::LISTS.contains(&name.as_str()));
    for container in lists.filter_map(|(_, list)| list.as_array_mut()).flatten() {
        if let Some(container) = container.as_object_mut() {
            written(container, around.get("stopSignal"), &mut lost);
        }
    }
    whole_seconds(&mut pod, "terminationGracePeriodSeconds", w.spec.termination_grace_period, &mut lost);
    let name = w.metadata.name.clone();
    let labels = match &w.spec.pod {
        Some(pod) if !pod.labels.is_empty() => json!(pod.labels),
        _ if w.metadata.labels.is_empty() => json!({"app": name}),
        _ => json!(w.metadata.labels),
    };
    if w.spec.restart_policy != RestartPolicy::Always {
        if w.spec.replicas != 1 {
            lost.push(format!("a Pod is one replica, not {}: write a Job for several", w.spec.replicas));
        }
        return (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": whole["metadata"], "spec": pod}),
            lost,
        );
    }
    pod.remove("restartPolicy");
    let mut template = json!({"labels": labels});
    if let Some(annotations) = of_pod.get("annotations") {
        template["annotations"] = annotations.clone();
    }
    let mut spec = Map::from_iter([
        ("replicas".to_owned(), json!(w.spec.replicas)),
        ("selector".to_owned(), json!({"matchLabels": labels})),
        ("template".to_owned(), json!({"metadata": template, "spec": pod})),
    ]);
    for name in ["strategy", "paused", "revisionHistoryLimit"] {
        spec.extend(around.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let times =
        [("minReadySeconds", w.spec.min_ready), ("progressDeadlineSeconds", w.spec.progress_deadline)];
    for (name, time) in times {
        if let Some(time) = time {
            whole_seconds(&mut spec, name, time, &mut lost);
        }
    }
    (
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": whole["metadata"], "spec": spec}),
        lost,
    )
}

/// A container: a bundle is an image with a scheme of ours.
fn written(container: &mut Map<String, Value>, signal: Option<&Value>, lost: &mut Vec<String>) {
    if let Some(Value::String(dir)) = container.remove("bundle") {
        container.insert("image".to_owned(), format!("bundle:{dir}").into());
    }
    if let Some(signal) = signal {
        let lifecycle = container.entry("lifecycle").or_insert_with(|| json!({}));
        if lifecycle["stopSignal"].is_null() {
            lifecycle["stopSignal"] = signal.clone();
        }
    }
    for name in container.remove("engine").iter().filter_map(Value::as_object).flat_map(Map::keys) {
        lost.push(format!("engine.{name} of a container has no equivalent in Kubernetes"));
    }
    if container.get("resources").is_some_and(|r| !r["limits"]["pids"].is_null()) {
        lost.push("the limit of pids is orund's own: a kubelet has podPidsLimit".to_owned());
    }
}

/// Kubernetes counts whole seconds.
fn whole_seconds(
    object: &mut Map<String, Value>,
    name: &str,
    time: core::time::Duration,
    lost: &mut Vec<String>,
) {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    if time.subsec_nanos() > 0 {
        lost.push(format!("{name} is rounded up to {seconds}"));
    }
    object.insert(name.to_owned(), seconds.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_written_reads_back_to_the_same_workload() {
        let text = "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {name: web, labels: {app: web}}\nspec:
  replicas: 3
  terminationGracePeriodSeconds: 1.5s
  strategy: {rollingUpdate: {maxSurge: 50%, maxUnavailable: 1}}
  containers:
  - {name: app, bundle: /srv/b, args: [x], env: [{name: A, value: b}], lifecycle: {stopSignal: SIGQUIT}}\n";
        let w = crate::workload::read("f", text, Some(Path::new("/"))).workloads().unwrap().remove(0);
        let (written, lost) = kubernetes(&w);
        assert_eq!(lost, ["terminationGracePeriodSeconds is rounded up to 2"]);
        assert_eq!(written["spec"]["template"]["spec"]["containers"][0]["image"], "bundle:/srv/b");
        let back = crate::workload::read("f", &written.to_string(), None).workloads().unwrap().remove(0);
        let mut expected = w;
        // What Kubernetes runs is a pod.
        expected.spec.pod = back.spec.pod.clone();
        expected.spec.controller = back.spec.controller.clone();
        assert_eq!(back.spec.controller.as_ref().unwrap().kind, "Deployment");
        assert_eq!(back.spec.pod.as_ref().unwrap().labels["app"], "web");
        expected.spec.termination_grace_period = core::time::Duration::from_secs(2);
        assert_eq!(back, expected);
    }
}
