//! Kubernetes' workloads as ours: the pod's fields have the same names, so this is about what is around them.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::check::Checker;
use super::controller::Controller;
use super::document::{Document, metadata};
use super::job;
use super::model::{ApiVersion, Kind, RestartPolicy, RollingUpdate, Spec, Strategy, StrategyType, Workload};
use super::native;
use super::object::Object;
use super::semantic::{self, Pod};
use crate::config::document::Data;
use crate::config::quantity::IntOrPercent;

/// A Pod, or something that makes pods.
pub fn workload(checker: &mut Checker<'_>, d: &Document<'_>, base: Option<&Path>) -> Option<Object> {
    check_name(checker, d);
    pods(checker, d, base)
}

/// The same, when the name is checked.
pub fn pods(checker: &mut Checker<'_>, d: &Document<'_>, base: Option<&Path>) -> Option<Object> {
    let spec = d.value.get("spec")?.as_object()?;
    let (pod, path) = match d.kind {
        "Pod" => (Some(spec), "spec"),
        _ => (spec.get("template").and_then(|t| t["spec"].as_object()), "spec.template.spec"),
    };
    selector(checker, d, spec);
    let mut own = Map::new();
    around(checker, d, spec, &mut own);
    own.insert("controller".to_owned(), json!(controller(d, spec)));
    let mut pod = pod?.clone();
    if d.kind == "StatefulSet" {
        stateful(d, spec, &mut pod);
    }
    build(checker, d, pod, own, path, base)
}

/// The settings of the kind.
fn controller(d: &Document<'_>, spec: &Map<String, Value>) -> Controller {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let mut controller = Controller { kind: d.kind.to_owned(), ..Controller::default() };
    match d.kind {
        "Job" => job::controller(spec, &mut controller),
        "StatefulSet" => {
            controller.ordered = spec.get("podManagementPolicy").is_none_or(|p| p != "Parallel");
            let rolling = spec.get("updateStrategy").map(|s| &s["rollingUpdate"]["partition"]);
            controller.partition = rolling.and_then(Value::as_u64).map_or(0, small);
        }
        _ => {}
    }
    controller.on_delete = spec.get("updateStrategy").is_some_and(|s| s["type"] == "OnDelete");
    controller
}

/// A StatefulSet's pods: the domain of their Service, and a volume of their own for each claim.
fn stateful(d: &Document<'_>, spec: &Map<String, Value>, pod: &mut Map<String, Value>) {
    if let Some(service) = spec.get("serviceName").filter(|s| s.as_str() != Some("")) {
        pod.entry("subdomain").or_insert_with(|| service.clone());
    }
    let claims = spec.get("volumeClaimTemplates").and_then(Value::as_array);
    let names = claims.into_iter().flatten().filter_map(|c| c["metadata"]["name"].as_str());
    let volumes = names.map(|name| {
        let claim = json!({"claimName": format!("{name}-{}", d.name()), "perReplica": true});
        json!({"name": name, "persistentVolumeClaim": claim})
    });
    let volumes: Vec<Value> = volumes.collect();
    let list = pod.entry("volumes").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        // A claim goes before a volume of the same name.
        list.retain(|v| !volumes.iter().any(|own| own["name"] == v["name"]));
        list.extend(volumes);
    }
}

/// The name must be in the file.
pub fn check_name(checker: &mut Checker<'_>, d: &Document<'_>) {
    let metadata = semantic::node(d.node, "metadata");
    if let Some(metadata) = metadata
        && semantic::node(d.node, "metadata.name").is_none()
        && semantic::node(d.node, "metadata.generateName").is_none()
    {
        let hint = Some("write `name: NAME`".to_owned());
        checker.error(metadata.place, "metadata", "field \"name\" is missing", hint);
    }
}

/// The keys of a ConfigMap or a Secret: the names that its files have in a volume, and that are in one of the fields.
pub fn keys(checker: &mut Checker<'_>, d: &Document<'_>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for field in ["data", "binaryData", "stringData"] {
        let Some(Data::Map(entries)) = semantic::node(d.node, field).map(|n| &n.data) else {
            continue;
        };
        for (key, _) in entries {
            let name = key.data.text().unwrap_or_default();
            let path = format!("{field}[{name:?}]");
            if !super::files::is_key(name) {
                let message = format!(
                    "the key {name:?} must be letters, digits, \"-\", \"_\" and \".\", and not begin with \"..\""
                );
                let hint =
                    "a path inside the volume belongs in `items: [{key: KEY, path: DIR/FILE}]` of the volume";
                checker.error(key.place, &path, message, Some(hint.to_owned()));
            }
            // stringData takes precedence over data.
            if let Some(first) = seen.insert(name, field).filter(|_| field == "binaryData") {
                checker.error(key.place, &path, format!("the key {name:?} is also in {first}"), None);
            }
        }
    }
}

/// A port of a Service is one of its protocol.
pub fn ports(checker: &mut Checker<'_>, d: &Document<'_>) {
    let ports = d.value.get("spec").and_then(|s| s.get("ports")).and_then(Value::as_array);
    let mut seen = BTreeSet::new();
    for (n, port) in ports.into_iter().flatten().enumerate() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let Some(number) = port["port"].as_u64() else { continue };
        if !seen.insert((number, protocol)) {
            let path = format!("spec.ports[{n}].port");
            let place = semantic::place(d.node, &path);
            checker.error(place, &path, format!("another port has the number {number} and {protocol}"), None);
        }
    }
}

/// The workload of a pod's fields and of `own`, what stands around them.
pub fn build(
    checker: &mut Checker<'_>,
    d: &Document<'_>,
    mut pod: Map<String, Value>,
    own: Map<String, Value>,
    path: &str,
    base: Option<&Path>,
) -> Option<Object> {
    let os = pod.remove("os");
    debug_assert!(os.is_none_or(|os| os["name"] == "linux"));
    if let Some(name) = pod.remove("hostnameOverride") {
        pod.insert("hostname".to_owned(), name);
    }
    let lists = pod.iter_mut().filter(|(name, _)| native::LISTS.contains(&name.as_str()));
    for container in lists.filter_map(|(_, list)| list.as_array_mut()).flatten() {
        let Some(container) = container.as_object_mut() else { continue };
        let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
        if let Some(dir) = image.strip_prefix("bundle:").and_then(|dir| native::directory(dir, base)) {
            container.remove("image");
            container.insert("bundle".to_owned(), dir.into());
        } else if let Some(image) = native::image(image, base) {
            container.insert("image".to_owned(), image.into());
        }
    }
    pod.extend(own);
    pod.entry("controller").or_insert_with(|| json!({"kind": d.kind}));
    let of_pod = match d.kind {
        "Pod" => d.value.get("metadata"),
        _ => d.value.get("spec").map(|s| &s["template"]["metadata"]),
    };
    let field = |name: &str| of_pod.and_then(|m| m.get(name)).cloned().unwrap_or_else(|| json!({}));
    pod.insert("pod".to_owned(), json!({"labels": field("labels"), "annotations": field("annotations")}));
    let spec = native::spec(checker, d, pod)?;
    Pod { checker, root: d.node, path: path.to_owned(), native: false }.check(&spec);
    native::rollout(checker, d, &spec);
    policy(checker, d, &spec, path);
    let metadata = metadata(d);
    let workload = Workload { api_version: ApiVersion::V1, kind: Kind::Workload, metadata, spec };
    Some(Object::Workload { kind: d.kind.to_owned(), workload: Box::new(workload) })
}

/// A selector must match the labels of the template, or the file is not what its author thinks.
fn selector(checker: &mut Checker<'_>, d: &Document<'_>, spec: &Map<String, Value>) {
    let Some(given) = spec.get("selector") else { return };
    let (wanted, path) = match given.get("matchLabels") {
        Some(labels) => (labels, "spec.selector.matchLabels"),
        None if matches!(d.kind, "ReplicationController" | "DeploymentConfig") => (given, "spec.selector"),
        None => return,
    };
    let labels = spec.get("template").map(|t| &t["metadata"]["labels"]);
    for (key, value) in wanted.as_object().into_iter().flatten() {
        let found = labels.and_then(|l| l.get(key));
        if found == Some(value) {
            continue;
        }
        let message = match found.and_then(Value::as_str) {
            Some(other) => {
                format!("the selector requires {key:?} to be {value}, but the template has {other:?}")
            }
            None => format!("the selector requires the label {key:?}, which the template does not have"),
        };
        let hint = format!("write `{key}: {value}` into spec.template.metadata.labels");
        checker.error(semantic::place(d.node, path), path, message, Some(hint));
    }
}

/// Replicas, strategy and restarts by kind.
fn around(
    checker: &mut Checker<'_>,
    d: &Document<'_>,
    spec: &Map<String, Value>,
    own: &mut Map<String, Value>,
) {
    for name in ["replicas", "minReadySeconds", "paused", "progressDeadlineSeconds", "revisionHistoryLimit"] {
        if let Some(value) = spec.get(name) {
            own.insert(name.to_owned(), value.clone());
        }
    }
    let one = IntOrPercent::Int(1);
    let (field, surge, unavailable) = match d.kind {
        "Deployment" => ("strategy", IntOrPercent::Percent(25), IntOrPercent::Percent(25)),
        "StatefulSet" | "DaemonSet" => ("updateStrategy", IntOrPercent::Int(0), one),
        "Job" => return job::around(checker, d, spec, own),
        _ => ("", IntOrPercent::Int(0), one),
    };
    let given = spec.get(field).cloned().unwrap_or(Value::Null);
    strategy(checker, d, &format!("spec.{field}"), &given, "rollingUpdate", (surge, unavailable), own);
}

/// `given` is the strategy, whose numbers are in its field `rolling`.
pub fn strategy(
    checker: &mut Checker<'_>,
    d: &Document<'_>,
    path: &str,
    given: &Value,
    rolling: &str,
    (surge, unavailable): (IntOrPercent, IntOrPercent),
    own: &mut Map<String, Value>,
) {
    let mut number = |name: &str, default: IntOrPercent| match &given[rolling][name] {
        Value::Null => default,
        value => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            IntOrPercent::parse(&text).unwrap_or_else(|| {
                let path = format!("{path}.{rolling}.{name}");
                let message = format!("{name} must be a number or a percentage such as \"25%\"");
                checker.error(semantic::place(d.node, &path), &path, message, None);
                default
            })
        }
    };
    let rolling_update = RollingUpdate {
        max_surge: number("maxSurge", surge),
        max_unavailable: number("maxUnavailable", unavailable),
    };
    let recreate = given["type"] == "Recreate";
    let kind = if recreate { StrategyType::Recreate } else { StrategyType::RollingUpdate };
    let strategy = Strategy { r#type: kind, rolling_update };
    own.insert("strategy".to_owned(), json!(strategy));
}

/// Kubernetes' rules for restartPolicy by kind.
fn policy(checker: &mut Checker<'_>, d: &Document<'_>, spec: &Spec, path: &str) {
    if spec.active_deadline.is_some() && !matches!(d.kind, "Pod" | "Job") {
        let path = format!("{path}.activeDeadlineSeconds");
        let message = "activeDeadlineSeconds is for a Pod or a Job: other pods run until they are stopped";
        checker.error(semantic::place(d.node, &path), &path, message, None);
    }
    let path = format!("{path}.restartPolicy");
    let given = semantic::text(d.node, &path);
    let message = match d.kind {
        "Pod" => return,
        "Job" if given.as_deref() == Some("OnFailure") || given.as_deref() == Some("Never") => return,
        "Job" => "restartPolicy of a Job must be OnFailure or Never",
        _ if spec.restart_policy == RestartPolicy::Always => return,
        _ => "restartPolicy must be Always here: only a Pod or a Job may end",
    };
    checker.error(semantic::place(d.node, &path), &path, message, None);
}
