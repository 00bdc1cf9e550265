//! `depends_on` between services that are one pod: what is waited for becomes a sidecar or an init container, in the order
//! of the dependencies. Kubernetes has no other order within a pod.

use std::collections::BTreeSet;

use super::values;
use crate::config::document::Node;
use crate::workload::depends::Condition;
use crate::workload::model::{Container, Lifecycle, RestartPolicy, Spec};

/// Container `from` waits for container `to` of the same pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    pub from: String,
    pub to: String,
    pub condition: Condition,
}

/// A dependency that a pod cannot express, why, and the way out.
pub struct Unmet {
    pub edge: Edge,
    pub reason: String,
    pub hint: String,
}

/// The names that a service waits for, whether each must exist, and where that is written.
pub fn dependencies(node: &Node) -> Vec<(String, bool, &Node)> {
    let Some(field) = values::get(node, "depends_on") else { return Vec::new() };
    let of_list = values::list(field).iter().filter_map(|n| Some((n.data.text()?.to_owned(), true, n)));
    let of_map = values::entries(field).iter().filter_map(|(k, v)| {
        let required = values::value(v, "required", values::flag).unwrap_or(true);
        Some((k.data.text()?.to_owned(), required, k))
    });
    of_list.chain(of_map).collect()
}

/// Puts the containers of a pod into their order. `edges` have no circle.
pub fn arrange(spec: &mut Spec, edges: &[Edge]) -> Vec<Unmet> {
    let own = spec.restart_policy;
    let policy = |c: &Container| c.restart_policy.unwrap_or(own);
    let of = |name: &str| spec.containers.iter().find(|c| c.name == name).map_or(own, policy);
    let (mut met, mut unmet) = (Vec::new(), Vec::new());
    for edge in edges {
        match lack(edge, of(&edge.to)) {
            None => met.push(edge.clone()),
            Some((reason, hint)) => unmet.push(Unmet { edge: edge.clone(), reason, hint }),
        }
    }
    // Sidecars end with the last of the others: one of these must run forever, as they do.
    let first: BTreeSet<String> = met.iter().map(|e| e.to.clone()).collect();
    let others = spec.containers.iter().filter(|c| !first.contains(&c.name));
    if !others.into_iter().any(|c| policy(c) == RestartPolicy::Always) {
        let (kept, lost) = met.into_iter().partition(|e| e.condition == Condition::Completed);
        met = kept;
        unmet.extend(Vec::into_iter(lost).map(|edge: Edge| Unmet {
            reason: format!("{:?} would be stopped when {:?} exits", edge.to, edge.from),
            hint: format!("write `restart: always` at {}", edge.from),
            edge,
        }));
    }
    let first: BTreeSet<&str> = met.iter().map(|e| e.to.as_str()).collect();
    let mut left = std::mem::take(&mut spec.containers);
    while let Some(n) = next(&left, &first, &met) {
        let mut container = left.remove(n);
        let mut conditions = met.iter().filter(|e| e.to == container.name).map(|e| e.condition);
        if container.restart_policy.unwrap_or(own) == RestartPolicy::Always {
            container.restart_policy = Some(RestartPolicy::Always);
            if conditions.any(|c| c == Condition::Ready) {
                wait_until_healthy(&mut container);
            }
        } else {
            // Kubernetes has none of these for a program that is waited for until it ends.
            container.lifecycle = Lifecycle::default();
            container.startup_probe = None;
            container.readiness_probe = None;
            container.liveness_probe = None;
            container.engine.image_health_check = None;
        }
        spec.init_containers.push(container);
    }
    spec.containers = left;
    unmet
}

/// Why a pod cannot express that a container with this restart policy is waited for, and the way out.
fn lack(edge: &Edge, policy: RestartPolicy) -> Option<(String, String)> {
    let to = &edge.to;
    let always = policy == RestartPolicy::Always;
    match edge.condition {
        Condition::Completed => always.then(|| {
            (
                format!("{to:?} never completes, as it is always restarted"),
                format!("write `restart: \"no\"` at {to}"),
            )
        }),
        Condition::Started | Condition::Ready => (!always).then(|| {
            let reason = "both are one pod, whose containers start together";
            (
                reason.to_owned(),
                format!("write `restart: always` at {to}: one that is always restarted is started first"),
            )
        }),
    }
}

/// The next one of `first` that waits for none of those that are left.
fn next(left: &[Container], first: &BTreeSet<&str>, met: &[Edge]) -> Option<usize> {
    let is_left = |name: &str| left.iter().any(|c| c.name == name);
    let waits = |c: &Container| met.iter().any(|e| e.from == c.name && is_left(&e.to));
    left.iter().position(|c| first.contains(c.name.as_str()) && !waits(c))
}

/// A sidecar has started when its startup probe has succeeded: its health check becomes one.
fn wait_until_healthy(container: &mut Container) {
    if let Some(mut check) = container.engine.image_health_check.take() {
        check.gate = true;
        container.set_health_check(&check);
        container.engine.image_health_check = Some(check);
    }
    if container.startup_probe.is_none() {
        container.startup_probe.clone_from(&container.readiness_probe);
    }
}
