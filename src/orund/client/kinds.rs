//! The kinds of objects, in orund's words and Kubernetes'.

use crate::workload::KeptKind;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
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
pub fn kind(word: &str) -> Option<What> {
    Some(match word.to_lowercase().as_str() {
        "workloads" | "workload" | "w" => What::Workloads,
        "deployments" | "deployment" | "deploy" => What::Of("deployment"),
        "statefulsets" | "statefulset" | "sts" => What::Of("statefulset"),
        "daemonsets" | "daemonset" | "ds" => What::Of("daemonset"),
        "replicasets" | "replicaset" | "rs" => What::Of("replicaset"),
        "replicationcontrollers" | "replicationcontroller" | "rc" => What::Of("replicationcontroller"),
        "deploymentconfigs" | "deploymentconfig" | "dc" => What::Of("deploymentconfig"),
        "jobs" | "job" => What::Of("job"),
        "cronjobs" | "cronjob" | "cj" => What::Of("cronjob"),
        "replicas" | "replica" | "r" | "pods" | "pod" | "po" => What::Replicas,
        "events" | "event" | "ev" | "e" => What::Events,
        "all" => What::All,
        other => What::Kept(KeptKind::from_word(other)?),
    })
}

/// A name without its kind: `web` of `workload/web`.
pub fn bare(name: &str) -> &str {
    name.split_once('/').filter(|(kind, _)| self::kind(kind).is_some()).map_or(name, |(_, name)| name)
}
