//! `network_mode: service:NAME`, and `container:NAME` of a container of the project: both services are one pod, that of the
//! service NAME. Its containers share a network, and start and end together.

use super::build::BUILD;
use super::project::{Project, cycle};
use super::values;
use crate::config::document::Node;
use crate::config::document::reader::similar;
use crate::workload::depends::Condition;
use crate::workload::model::{Spec, Workload};
use crate::workload::read::Object;
use std::collections::BTreeMap;

/// What belongs to the network, which is that of the other service.
const OF_NETWORK: [&str; 7] =
    ["ports", "hostname", "extra_hosts", "dns", "dns_search", "dns_opt", "mac_address"];

/// The service whose network a service uses, as the file names it.
pub fn target(service: &Node) -> Option<&str> {
    let mode = values::text(service, "network_mode")?;
    mode.strip_prefix("service:").or_else(|| mode.strip_prefix("container:"))
}

/// Makes one pod of services that share a network.
pub fn join(project: &mut Project<'_, '_>) {
    let pairs: Vec<(&str, &Node, &str)> =
        project.services.iter().filter_map(|(name, node)| Some((*name, *node, target(node)?))).collect();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for (name, node, other) in pairs {
        match owner(project, name) {
            Ok(owner) => drop(owners.insert(values::label(name), values::label(owner))),
            Err((message, hint)) => {
                let at = values::get(node, "network_mode").unwrap_or(node);
                project.error(at, &format!("services.{name}.network_mode"), message, Some(hint));
                continue;
            }
        }
        for field in OF_NETWORK {
            if let Some(at) = values::get(node, field) {
                let message = format!("{field} cannot be combined with network_mode {other:?}");
                let hint = format!("write it at the service {other}, whose network it is");
                project.error(at, &format!("services.{name}.{field}"), message, Some(hint));
            }
        }
    }
    for (member, owner) in &owners {
        let Some(joined) = take(project, member) else { continue };
        merge(project, owner, joined);
    }
    if !owners.is_empty() {
        redirect(project, &owners);
        if project.loader.problems.iter().all(|p| !p.is_error()) {
            check_order(project);
        }
    }
}

type Wrong = (String, String);

/// The service at the end of the chain that `name` begins.
fn owner<'a>(project: &Project<'a, '_>, name: &'a str) -> Result<&'a str, Wrong> {
    let mut at = name;
    for _ in 0..=project.services.len() {
        let Some((_, node)) = project.services.iter().find(|(n, _)| *n == at) else { break };
        let Some(other) = target(node) else { return Ok(at) };
        let of_container = |(_, n): &&(&str, &Node)| values::text(n, "container_name") == Some(other);
        let found = project.services.iter().find(|(n, _)| *n == other);
        let Some((next, _)) = found.or_else(|| project.services.iter().find(of_container)) else {
            let names: Vec<&str> = project.services.iter().map(|(n, _)| *n).collect();
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

/// Takes the workload of a service out of the objects.
fn take(project: &mut Project<'_, '_>, label: &str) -> Option<Workload> {
    let is_it =
        |o: &Object| matches!(o, Object::Workload { workload, .. } if workload.metadata.name == label);
    let at = project.objects.iter().position(is_it)?;
    match project.objects.remove(at) {
        Object::Workload { workload, .. } => Some(*workload),
        Object::Kept(_) | Object::Inert { .. } => None,
    }
}

/// Adds the containers of a workload to the pod of another one.
fn merge(project: &mut Project<'_, '_>, owner: &str, joined: Workload) {
    let name = joined.metadata.name;
    let service = project.services.iter().find(|(n, _)| values::label(n) == name).copied();
    let Some((service, node)) = service else { return };
    let path = format!("services.{service}.network_mode");
    let of_owner = project.objects.iter_mut().find_map(|o| match o {
        Object::Workload { workload, .. } if workload.metadata.name == owner => Some(workload),
        Object::Workload { .. } | Object::Kept(_) | Object::Inert { .. } => None,
    });
    let Some(of_owner) = of_owner else { return };
    let wrong = if joined.metadata.annotations.contains_key(BUILD) {
        Some((
            "an image that is built cannot join the network of another service",
            "build it first, and name it in image",
        ))
    } else if joined.spec.replicas != of_owner.spec.replicas {
        Some((
            "services that share a network must have the same number of replicas",
            "write the same at both",
        ))
    } else {
        None
    };
    add(&mut of_owner.spec, joined.spec, &name);
    if let Some((message, hint)) = wrong {
        project.error(node, &path, message, Some(hint.to_owned()));
    }
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

/// Whoever waits for a service that has joined another one waits for that; nobody waits for itself.
fn redirect(project: &mut Project<'_, '_>, owners: &BTreeMap<String, String>) {
    for object in &mut project.objects {
        let Object::Workload { workload, .. } = object else { continue };
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

/// Pods that wait for each other, as their services did not.
fn check_order(project: &mut Project<'_, '_>) {
    let mut graph: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for object in &project.objects {
        let Object::Workload { workload, .. } = object else { continue };
        let waits = workload.spec.depends_on.iter().map(|d| d.workload.clone());
        graph.insert(&workload.metadata.name, waits.collect());
    }
    if let Some(way) = cycle(&graph) {
        let message = format!(
            "services that share a network are one pod, and pods wait for each other: {}",
            way.join(" -> ")
        );
        let hint = "leave one of these depends_on out".to_owned();
        let at = project.root;
        project.error(at, "services", message, Some(hint));
    }
}
