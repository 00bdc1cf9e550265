//! What to say about fields that are known elsewhere: in another place of the file, or in Kubernetes.

use crate::config::document::reader::join;

/// Where fields belong.
const PLACES: [(&str, &[&str]); 10] = [
    ("", &["apiVersion", "kind", "metadata", "spec"]),
    ("metadata", &["name", "labels", "annotations"]),
    ("spec", super::read::SPEC),
    ("spec.backoff", super::read::BACKOFF),
    ("spec.strategy", super::read::STRATEGY),
    ("spec.strategy.rollingUpdate", super::read::ROLLING_UPDATE),
    ("spec.containers[]", super::read::CONTAINER),
    ("spec.containers[].resources", &["limits"]),
    ("spec.containers[].resources.limits", &["cpu", "memory", "pids"]),
    ("spec.containers[].lifecycle", &["preStop"]),
];

/// Fields of Kubernetes that change what happens, and the replacement, if any.
const KUBERNETES: [(&str, &str); 17] = [
    ("image", "a container is made from a bundle: write `bundle: DIRECTORY`"),
    ("imagePullPolicy", "a container is made from a bundle, which is never pulled"),
    ("command", "write `args`: it replaces the whole process.args of the bundle"),
    ("workingDir", "set process.cwd in the bundle's config.json"),
    ("volumes", "set mounts in the bundle's config.json"),
    ("volumeMounts", "set mounts in the bundle's config.json"),
    ("securityContext", "set process.user and process.capabilities in the bundle's config.json"),
    ("hostname", "set hostname in the bundle's config.json"),
    ("livenessProbe", "probes are not supported yet"),
    ("readinessProbe", "probes are not supported yet"),
    ("startupProbe", "probes are not supported yet"),
    ("postStart", "only preStop is supported yet"),
    ("initContainers", "only containers are supported yet"),
    ("requests", "only limits are supported yet"),
    ("valueFrom", "only values that stand in the file are supported yet"),
    ("template", "a Workload has its containers in spec.containers, without a template"),
    ("selector", "a Workload knows its replicas by its name"),
];

/// A hint for the field `name` that `path` does not have.
pub fn elsewhere(path: &str, name: &str) -> Option<String> {
    if let Some((_, hint)) = KUBERNETES.iter().find(|(field, _)| *field == name) {
        return Some((*hint).to_owned());
    }
    let home = |(place, fields): &&(&str, &[&str])| fields.contains(&name) && *place != path;
    let (place, _) = PLACES.iter().find(home)?;
    Some(format!("did you mean {}?", join(place, name)))
}

/// A hint for a `kind` that is not known.
pub fn kind(name: &str) -> Option<String> {
    let kubernetes = ["Deployment", "Pod", "DaemonSet", "StatefulSet", "ReplicaSet", "Job", "CronJob"];
    let plain =
        "the kind that is supported yet is Workload: replicas of containers that are made from bundles";
    kubernetes.contains(&name).then(|| plain.to_owned())
}
