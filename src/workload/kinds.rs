//! Which kinds there are, and what orund does with each.

use super::schema::schema;

/// The class of a document.
pub enum Verdict {
    /// There is a table for it.
    Known(&'static str),
    /// There is a table for it, for this `apiVersion`.
    Version(&'static str),
    /// Checked as far as it goes; without effect on one host.
    Inert(&'static str),
    Unknown,
}

/// The `apiVersion` of each kind that has a table.
const VERSIONS: [(&str, &str); 16] = [
    ("Workload", "orun.dev/v1"),
    ("Pod", "v1"),
    ("Deployment", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("ReplicationController", "v1"),
    ("StatefulSet", "apps/v1"),
    ("DaemonSet", "apps/v1"),
    ("Job", "batch/v1"),
    ("CronJob", "batch/v1"),
    ("ConfigMap", "v1"),
    ("Secret", "v1"),
    ("PersistentVolumeClaim", "v1"),
    ("Service", "v1"),
    ("List", "v1"),
    ("DeploymentConfig", "apps.openshift.io/v1"),
    ("ImageStream", "image.openshift.io/v1"),
];

/// Kinds of clusters.
const INERT: [(&str, &str); 25] = [
    ("Namespace", "there is only one namespace: names must differ without it"),
    ("PersistentVolume", "a claim is a directory of its own"),
    ("StorageClass", "a claim is a directory of its own"),
    ("VolumeAttributesClass", "a claim is a directory of its own"),
    ("CSIDriver", "there are no storage drivers of a cluster"),
    ("ServiceAccount", "there is no API server to talk to: write its imagePullSecrets into each pod"),
    ("Role", "there is no API server to talk to"),
    ("RoleBinding", "there is no API server to talk to"),
    ("ClusterRole", "there is no API server to talk to"),
    ("ClusterRoleBinding", "there is no API server to talk to"),
    ("NetworkPolicy", "traffic is not filtered: use the host's firewall"),
    ("Ingress", "publish a proxy such as Caddy or Traefik instead"),
    ("IngressClass", "publish a proxy such as Caddy or Traefik instead"),
    ("Route", "publish a proxy such as Caddy or Traefik instead"),
    ("HorizontalPodAutoscaler", "change replicas with `orund scale`"),
    ("PodDisruptionBudget", "maxUnavailable limits changes"),
    ("LimitRange", "write resources into each container"),
    ("ResourceQuota", "write resources into each container"),
    ("PriorityClass", "orund has no priorities between pods"),
    ("RuntimeClass", "orund runs all pods itself"),
    ("PodSecurityPolicy", "write securityContext into each pod"),
    ("Endpoints", "a Service has the pods of its selector"),
    ("EndpointSlice", "a Service has the pods of its selector"),
    ("Event", "a cluster writes it"),
    ("Node", "there is one host"),
];

/// Classifies a document of this `apiVersion` and `kind`.
pub fn verdict(version: &str, kind: &str) -> Verdict {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    // The groups whose kinds are all known; OpenShift's old `v1` is that of the core.
    let own = ["", "apps", "batch", "orun.dev", "extensions", "apps.openshift.io", "image.openshift.io"]
        .contains(&group);
    if let Some((name, right)) = VERSIONS.iter().find(|(name, _)| *name == kind) {
        let old = version == "v1" && right.contains(".openshift.io/");
        return match () {
            () if version == *right || old => Verdict::Known(name),
            () if own => Verdict::Version(right),
            () => Verdict::Inert("it is a kind of another API"),
        };
    }
    let find =
        |table: &[(&str, &'static str)]| table.iter().find(|(name, _)| *name == kind).map(|(_, why)| *why);
    match find(&INERT) {
        Some(why) => Verdict::Inert(why),
        None if own || kind.is_empty() => Verdict::Unknown,
        None => Verdict::Inert("it is a kind of another API"),
    }
}

/// The kinds that have a table.
pub fn names() -> Vec<&'static str> {
    VERSIONS.iter().map(|(name, _)| *name).collect()
}

/// The kind that a person means by `name`, in any case, and as kubectl abbreviates it.
pub fn find_kind(name: &str) -> Option<&'static str> {
    const SHORT: [(&str, &str); 10] = [
        ("po", "Pod"),
        ("deploy", "Deployment"),
        ("rs", "ReplicaSet"),
        ("rc", "ReplicationController"),
        ("sts", "StatefulSet"),
        ("ds", "DaemonSet"),
        ("cj", "CronJob"),
        ("cm", "ConfigMap"),
        ("svc", "Service"),
        ("pvc", "PersistentVolumeClaim"),
    ];
    let lower = name.to_lowercase();
    let singular = lower.strip_suffix('s').unwrap_or(&lower);
    let long = SHORT.iter().find(|(short, _)| *short == lower).map(|(_, kind)| *kind);
    long.or_else(|| schema().kinds().find(|kind| [&lower, singular].contains(&kind.to_lowercase().as_str())))
}
