//! `network_mode: service:NAME`, and `container:NAME` of a container of the project: both services are one pod, that of the
//! service NAME. Its containers share a network, and start and end together.

use super::order::{self, Edge};
use super::values;
use crate::config::document::Node;
use crate::config::document::reader::similar;
use crate::workload::depends::Condition;
use crate::workload::model::{Spec, Workload};
use std::collections::{BTreeMap, BTreeSet};

/// Fields of the network, which is that of the other service.
const OF_NETWORK: [&str; 7] =
    ["ports", "hostname", "extra_hosts", "dns", "dns_search", "dns_opt", "mac_address"];

/// The service whose network a service uses, as the file names it.
pub fn target(service: &Node) -> Option<&str> {
    let mode = values::text(service, "network_mode")?;
    mode.strip_prefix("service:").or_else(|| mode.strip_prefix("container:"))
}

/// Problems of a service: place, message and hint.
pub struct Problem<'a> {
    pub is_error: bool,
    pub at: &'a Node,
    pub path: String,
    pub message: String,
    pub hint: String,
}

/// The active services of a project, by name.
type Services<'a> = [(&'a str, &'a Node)];

/// Makes one pod of services that share a network. The workloads that have no containers any more, and what is invalid.
pub fn join<'a>(
    services: &Services<'a>,
    workloads: &mut [&mut Workload],
) -> (BTreeSet<String>, Vec<Problem<'a>>) {
    let mut problems = Vec::new();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let pairs = services.iter().filter_map(|(name, node)| Some((*name, *node, target(node)?)));
    for (name, node, other) in pairs {
        match owner(services, name) {
            Ok(owner) => drop(owners.insert(values::label(name), values::label(owner))),
            Err((message, hint)) => {
                let at = values::get(node, "network_mode").unwrap_or(node);
                let path = format!("services.{name}.network_mode");
                problems.push(Problem { is_error: true, at, path, message, hint });
                continue;
            }
        }
        for field in OF_NETWORK {
            if let Some(at) = values::get(node, field) {
                let message = format!("{field} cannot be combined with network_mode {other:?}");
                let hint = format!("write it at the service {other}, whose network it is");
                problems.push(Problem {
                    is_error: true,
                    at,
                    path: format!("services.{name}.{field}"),
                    message,
                    hint,
                });
            }
        }
    }
    let edges = edges(workloads, &owners);
    for (member, owner) in &owners {
        problems.extend(merge(services, workloads, owner, member));
    }
    if problems.is_empty() {
        for (owner, edges) in &edges {
            let pod = workloads.iter_mut().find(|w| w.metadata.name == *owner);
            let unmet = pod.map(|w| order::arrange(&mut w.spec, edges)).unwrap_or_default();
            problems.extend(unmet.into_iter().filter_map(|u| unmet_at(services, u)));
        }
    }
    if !owners.is_empty() {
        redirect(workloads, &owners);
    }
    (owners.into_keys().collect(), problems)
}

/// The dependencies within each pod, by its name.
fn edges(workloads: &[&mut Workload], owners: &BTreeMap<String, String>) -> BTreeMap<String, Vec<Edge>> {
    let pod = |name: &String| owners.get(name).unwrap_or(name).clone();
    let mut found: BTreeMap<String, Vec<Edge>> = BTreeMap::new();
    for workload in workloads {
        let from = &workload.metadata.name;
        for d in
            workload.spec.depends_on.iter().filter(|d| d.workload != *from && pod(&d.workload) == pod(from))
        {
            let edge = Edge { from: from.clone(), to: d.workload.clone(), condition: d.condition };
            found.entry(pod(from)).or_default().push(edge);
        }
    }
    found
}

/// The warning about a dependency that the pod cannot express.
fn unmet_at<'a>(services: &Services<'a>, unmet: order::Unmet) -> Option<Problem<'a>> {
    let (service, node) = services.iter().find(|(n, _)| values::label(n) == unmet.edge.from)?;
    let mut all = order::dependencies(node).into_iter();
    let (other, _, at) = all.find(|(other, _, _)| values::label(other) == unmet.edge.to)?;
    let message = format!("depends_on {other:?} has no effect: {}", unmet.reason);
    let path = format!("services.{service}.depends_on");
    Some(Problem { is_error: false, at, path, message, hint: unmet.hint })
}

type Wrong = (String, String);

/// The service at the end of the chain that `name` begins.
fn owner<'a>(services: &Services<'a>, name: &'a str) -> Result<&'a str, Wrong> {
    let mut at = name;
    for _ in 0..=services.len() {
        let Some((_, node)) = services.iter().find(|(n, _)| *n == at) else { break };
        let Some(other) = target(node) else { return Ok(at) };
        let of_container = |(_, n): &&(&str, &Node)| values::text(n, "container_name") == Some(other);
        let found = services.iter().find(|(n, _)| *n == other);
        let Some((next, _)) = found.or_else(|| services.iter().find(of_container)) else {
            let names: Vec<&str> = services.iter().map(|(n, _)| *n).collect();
            let hint = similar(other, &names).map_or_else(
                || "name a service of this project: containers of others cannot be joined".to_owned(),
                |meant| format!("did you mean {meant:?}?"),
            );
            return Err((format!("no service of the project has the name {other:?}"), hint));
        };
        at = next;
    }
    let message = format!("the network of service {name:?} is its own in the end");
    Err((message, "leave one of these network_mode out".to_owned()))
}

/// Moves the containers of a workload into the pod of another one.
fn merge<'a>(
    services: &Services<'a>,
    workloads: &mut [&mut Workload],
    owner: &str,
    name: &str,
) -> Option<Problem<'a>> {
    let (service, at) = services.iter().find(|(n, _)| values::label(n) == name).copied()?;
    let joined = workloads.iter_mut().find(|w| w.metadata.name == name)?;
    let joined = std::mem::take(&mut joined.spec);
    let of_owner = workloads.iter_mut().find(|w| w.metadata.name == owner)?;
    let path = format!("services.{service}.network_mode");
    let wrong = if values::get(at, "build").is_some() {
        Some((
            "an image that is built cannot join the network of another service",
            "build it first, and name it in image",
        ))
    } else if joined.replicas != of_owner.spec.replicas {
        Some((
            "services that share a network must have the same number of replicas",
            "write the same at both",
        ))
    } else {
        None
    };
    add(&mut of_owner.spec, joined, name);
    wrong.map(|(message, hint)| Problem {
        is_error: true,
        at,
        path,
        message: message.to_owned(),
        hint: hint.to_owned(),
    })
}

fn add(spec: &mut Spec, mut joined: Spec, name: &str) {
    let policy = joined.restart_policy;
    for container in &mut joined.containers {
        container.restart_policy = Some(policy).filter(|p| *p != spec.restart_policy);
        container.volume_mounts.iter_mut().for_each(|m| m.name = format!("{name}-{}", m.name));
    }
    joined.volumes.iter_mut().for_each(|v| v.name = format!("{name}-{}", v.name));
    spec.volumes.append(&mut joined.volumes);
    spec.containers.append(&mut joined.containers);
    spec.depends_on.append(&mut joined.depends_on);
    spec.termination_grace_period = spec.termination_grace_period.max(joined.termination_grace_period);
}

/// A dependency on a service that joined another one becomes a dependency on that one; a service never waits for itself.
fn redirect(workloads: &mut [&mut Workload], owners: &BTreeMap<String, String>) {
    for workload in workloads {
        let own = workload.metadata.name.clone();
        let list = std::mem::take(&mut workload.spec.depends_on);
        for mut dependency in list {
            if let Some(owner) = owners.get(&dependency.workload) {
                dependency.workload.clone_from(owner);
            }
            let known = workload.spec.depends_on.iter_mut().find(|d| d.workload == dependency.workload);
            match known {
                _ if dependency.workload == own => {}
                // The stronger one of both.
                Some(known) if known.condition == Condition::Started => *known = dependency,
                Some(_) => {}
                None => workload.spec.depends_on.push(dependency),
            }
        }
    }
}
