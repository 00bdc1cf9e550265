//! The kinds of objects, in orund's words and Kubernetes'.

use crate::workload::KeptKind;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    Workloads,
    /// Workloads that a file calls by this word: `job`. `deployment` also stands for those of orund's own format.
    Of(&'static str),
    Replicas,
    Events,
    Kept(KeptKind),
    /// Everything but events.
    All,
}

/// The kind of that name, in orund's words and Kubernetes'.
pub fn kind(word: &str) -> Option<ObjectKind> {
    Some(match word.to_lowercase().as_str() {
        "workloads" | "workload" | "w" => ObjectKind::Workloads,
        "deployments" | "deployment" | "deploy" => ObjectKind::Of("deployment"),
        "statefulsets" | "statefulset" | "sts" => ObjectKind::Of("statefulset"),
        "daemonsets" | "daemonset" | "ds" => ObjectKind::Of("daemonset"),
        "replicasets" | "replicaset" | "rs" => ObjectKind::Of("replicaset"),
        "replicationcontrollers" | "replicationcontroller" | "rc" => ObjectKind::Of("replicationcontroller"),
        "deploymentconfigs" | "deploymentconfig" | "dc" => ObjectKind::Of("deploymentconfig"),
        "jobs" | "job" => ObjectKind::Of("job"),
        "cronjobs" | "cronjob" | "cj" => ObjectKind::Of("cronjob"),
        "replicas" | "replica" | "r" | "pods" | "pod" | "po" => ObjectKind::Replicas,
        "events" | "event" | "ev" | "e" => ObjectKind::Events,
        "all" => ObjectKind::All,
        other => ObjectKind::Kept(KeptKind::from_word(other)?),
    })
}

/// A name without its kind: `web` of `workload/web`.
pub fn bare(name: &str) -> &str {
    name.split_once('/').filter(|(kind, _)| self::kind(kind).is_some()).map_or(name, |(_, name)| name)
}
