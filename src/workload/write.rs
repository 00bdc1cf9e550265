//! Workloads as Kubernetes writes them.

use serde_json::{Map, Value, json};

use super::model::{RestartPolicy, Workload};

/// The fields of `spec` that are not the pod's.
const AROUND: [&str; 6] = ["replicas", "strategy", "minReadySeconds", "backoff", "spares", "stopSignal"];

/// An object of the kind that the workload was read from, else a Deployment, or a Pod where containers may end; and what
/// Kubernetes cannot say.
pub fn kubernetes(w: &Workload) -> (Value, Vec<String>) {
    let whole = serde_json::to_value(w).unwrap_or_default();
    let mut pod = whole["spec"].as_object().cloned().unwrap_or_default();
    let around: Map<String, Value> =
        AROUND.iter().filter_map(|name| pod.remove(*name).map(|value| ((*name).to_owned(), value))).collect();
    let mut lost = Vec::new();
    let of_pod = pod.remove("pod").unwrap_or_default();
    pod.remove("controller");
    let kind = kind(w);
    let is_job = matches!(kind, "Job" | "CronJob");
    for name in ["sharedRoot", "dependsOn", "failureAction", "maxFailures", "rollback"] {
        if pod.remove(name).is_some() {
            lost.push(format!("{name} has no equivalent in Kubernetes"));
        }
    }
    let backoff = if is_job { super::job::backoff() } else { json!(super::model::Backoff::default()) };
    for (name, default) in [("backoff", backoff), ("spares", json!(0))] {
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
    for name in ["progressDeadlineSeconds", "paused", "revisionHistoryLimit"] {
        pod.remove(name);
    }
    let name = w.metadata.name.clone();
    let labels = match &w.spec.pod {
        Some(pod) if !pod.labels.is_empty() => json!(pod.labels),
        _ if w.metadata.labels.is_empty() => json!({"app": name}),
        _ => json!(w.metadata.labels),
    };
    if kind == "Pod" {
        if w.spec.replicas != 1 {
            lost.push(format!("a Pod is one replica, not {}: write a Job for several", w.spec.replicas));
        }
        return (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": whole["metadata"], "spec": pod}),
            lost,
        );
    }
    let mut template = json!({"labels": labels});
    if let Some(annotations) = of_pod.get("annotations") {
        template["annotations"] = annotations.clone();
    }
    let mut spec = match kind {
        "Job" | "CronJob" => super::job::written(w, &mut pod),
        _ => {
            pod.remove("restartPolicy");
            rolling(w, kind, &around, &mut pod, &mut lost)
        }
    };
    if !is_job {
        spec.insert("selector".to_owned(), json!({"matchLabels": labels}));
    }
    spec.insert("template".to_owned(), json!({"metadata": template, "spec": pod}));
    if let Some(cron) = w.spec.controller.as_ref().and_then(|c| c.cron.as_ref()) {
        spec = super::cron::written(cron, spec.into());
    }
    let version = if is_job { "batch/v1" } else { "apps/v1" };
    (json!({"apiVersion": version, "kind": kind, "metadata": whole["metadata"], "spec": spec}), lost)
}

fn kind(w: &Workload) -> &'static str {
    let own = w.spec.controller.as_ref().map_or("", |c| c.kind.as_str());
    let ends = w.spec.restart_policy != RestartPolicy::Always;
    let kinds = ["StatefulSet", "DaemonSet", "Job", "CronJob"];
    match kinds.into_iter().find(|kind| *kind == own) {
        Some(kind) => kind,
        None if ends || (own == "Pod" && w.spec.replicas == 1) => "Pod",
        None => "Deployment",
    }
}

/// The fields around the template, for a kind whose replicas are replaced by new revisions.
fn rolling(
    w: &Workload,
    kind: &str,
    around: &Map<String, Value>,
    pod: &mut Map<String, Value>,
    lost: &mut Vec<String>,
) -> Map<String, Value> {
    let mut spec = Map::new();
    if kind != "DaemonSet" {
        spec.insert("replicas".to_owned(), json!(w.spec.replicas));
    }
    if let Some(limit) = w.spec.revision_history_limit {
        spec.insert("revisionHistoryLimit".to_owned(), limit.into());
    }
    if let Some(time) = w.spec.min_ready {
        whole_seconds(&mut spec, "minReadySeconds", time, lost);
    }
    if kind == "Deployment" {
        spec.extend(around.get("strategy").map(|value| ("strategy".to_owned(), value.clone())));
        spec.extend(w.spec.paused.map(|paused| ("paused".to_owned(), paused.into())));
        if let Some(time) = w.spec.progress_deadline {
            whole_seconds(&mut spec, "progressDeadlineSeconds", time, lost);
        }
        return spec;
    }
    let own = w.spec.controller.clone().unwrap_or_default();
    let numbers = w.spec.strategy.rolling_update;
    spec.insert("updateStrategy".to_owned(), match (own.on_delete, kind) {
        (true, _) => json!({"type": "OnDelete"}),
        (false, "StatefulSet") => {
            json!({"rollingUpdate": {"partition": own.partition, "maxUnavailable": numbers.max_unavailable}})
        }
        (false, _) => json!({"rollingUpdate": numbers}),
    });
    if kind == "StatefulSet" {
        let policy = if own.ordered { "OrderedReady" } else { "Parallel" };
        spec.insert("podManagementPolicy".to_owned(), policy.into());
        spec.extend(pod.remove("subdomain").map(|name| ("serviceName".to_owned(), name)));
        let claims = claims(w, pod);
        if !claims.is_empty() {
            lost.push("the sizes of its claims are not known: 1Gi is written".to_owned());
            spec.insert("volumeClaimTemplates".to_owned(), claims.into());
        }
    }
    spec
}

/// The claims of which each replica has one of its own, instead of the volumes.
fn claims(w: &Workload, pod: &mut Map<String, Value>) -> Vec<Value> {
    let own =
        |v: &super::pod::Volume| v.persistent_volume_claim.as_ref().is_some_and(|claim| claim.per_replica);
    let names: Vec<&str> = w.spec.volumes.iter().filter(|v| own(v)).map(|v| v.name.as_str()).collect();
    if let Some(list) = pod.get_mut("volumes").and_then(Value::as_array_mut) {
        list.retain(|v| !names.iter().any(|name| v["name"] == *name));
        if list.is_empty() {
            pod.remove("volumes");
        }
    }
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    names.iter().map(|name| json!({"metadata": {"name": name}, "spec": spec})).collect()
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
        // The pod that Kubernetes runs.
        expected.spec.pod = back.spec.pod.clone();
        expected.spec.controller = back.spec.controller.clone();
        assert_eq!(back.spec.controller.as_ref().unwrap().kind, "Deployment");
        assert_eq!(back.spec.pod.as_ref().unwrap().labels["app"], "web");
        expected.spec.termination_grace_period = core::time::Duration::from_secs(2);
        assert_eq!(back, expected);
    }

    /// A file whose object reads back to the same workload.
    fn same(text: &str) -> Value {
        let w =
            crate::workload::read("f", text, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
        let (written, _) = kubernetes(&w);
        let back = crate::workload::read("f", &written.to_string(), None).workloads();
        assert_eq!(back.unwrap_or_else(|e| panic!("{e}\n{written:#}")).remove(0), w, "{written:#}");
        written
    }

    #[test]
    fn each_kind_is_written_as_it_was_read() {
        let template =
            "template: {metadata: {labels: {app: db}}, spec: {containers: [{name: a, image: 'bundle:/b'}]}}";
        let set = format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db}}\nspec:
  replicas: 3
  serviceName: db
  podManagementPolicy: Parallel
  updateStrategy: {{rollingUpdate: {{partition: 2, maxUnavailable: 2}}}}
  selector: {{matchLabels: {{app: db}}}}
  volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}]
  {template}\n"
        );
        let written = same(&set);
        assert_eq!(written["spec"]["volumeClaimTemplates"][0]["metadata"]["name"], "data");
        assert_eq!(written["spec"]["serviceName"], "db");
        let daemon = format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: db}}\nspec:
  updateStrategy: {{type: OnDelete}}
  minReadySeconds: 5
  selector: {{matchLabels: {{app: db}}}}
  {template}\n"
        );
        assert_eq!(same(&daemon)["kind"], "DaemonSet");
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: db, labels: {app: db}}\nspec: {containers: [{name: a, image: 'bundle:/b'}]}\n";
        assert_eq!(same(pod)["kind"], "Pod");
    }

    #[test]
    fn jobs_are_written_with_all_of_their_rules() {
        let job = |spec: &str, policy: &str| {
            format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: sum}}\nspec:\n{spec}  template: {{metadata: {{labels: {{app: sum}}}}, \
                 spec: {{restartPolicy: {policy}, containers: [{{name: a, image: 'bundle:/b'}}]}}}}\n"
            )
        };
        let written = same(&job(
            "  completions: 5
  parallelism: 2
  completionMode: Indexed
  backoffLimitPerIndex: 1
  maxFailedIndexes: 3
  activeDeadlineSeconds: 60
  ttlSecondsAfterFinished: 7
  suspend: true
  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {containerName: a, operator: In, values: [3]}}]}
  successPolicy: {rules: [{succeededIndexes: '0,2-4', succeededCount: 2}]}\n",
            "Never",
        ));
        assert_eq!(written["spec"]["template"]["spec"]["restartPolicy"], "Never");
        let queue = same(&job("  parallelism: 3\n", "OnFailure"));
        assert_eq!((&queue["spec"]["parallelism"], queue["spec"].get("completions")), (&json!(3), None));
    }
}
