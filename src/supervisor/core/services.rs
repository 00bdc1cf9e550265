//! Ports of Services: at the address that pods know a Service by, and, for type NodePort and LoadBalancer, of the host. Their
//! routes lead to the ready replicas of every workload that their selector matches.

use super::desired::Desired;
use super::ids::{ReplicaKey, WorkloadId};
use super::model::Observed;
use super::objects::StoredObject;
use super::pass::replicas;
use super::ports::{HostPort, Protocol};
use super::publication::{Route, RouteOptions, Target};
use super::spec::PodTemplate;
use crate::workload::annotations::{PROXY_PROTOCOL, PUBLISH};
use crate::workload::kept::KeptKind;
use serde_json::Value;
use std::collections::BTreeSet;

/// Kubernetes' range of ports for services that leave the choice open.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// One port of a service.
struct ServicePort<'a> {
    service: &'a StoredObject,
    host: HostPort,
    /// A number or a name of a container's port.
    target: Value,
}

/// The routes of all services, without targets; those of `taken` belong to others.
pub fn routes(desired: &Desired, observed: &Observed, taken: &BTreeSet<HostPort>) -> Vec<Route> {
    let mut taken = taken.clone();
    let mut found = Vec::new();
    for port in ports(desired, &taken) {
        // Without a workload no replica would ever take a connection.
        if !taken.insert(port.host.clone()) || !selected(desired, port.service).any(|_| true) {
            continue;
        }
        let targets = selected(desired, port.service).flat_map(|id| targets(desired, observed, id, &port));
        let targets = targets.collect();
        let service = Some(port.service.object.metadata.name.clone());
        let options = options(port.service);
        found.push(Route { workload: WorkloadId(0), service, host: port.host, targets, options });
    }
    found
}

/// How long a client stays with its pod, in seconds, when nothing else is said: Kubernetes' default.
const STAY: u64 = 10_800;

fn options(service: &StoredObject) -> RouteOptions {
    let spec = service.object.fields.get("spec");
    let timeout = || spec?.get("sessionAffinityConfig")?.get("clientIP")?.get("timeoutSeconds")?.as_u64();
    let stays = service.object.text("sessionAffinity") == Some("ClientIP");
    RouteOptions {
        affinity: stays.then(|| timeout().unwrap_or(STAY)),
        proxy_protocol: service.object.metadata.annotations.contains_key(PROXY_PROTOCOL),
        kernel: service.object.metadata.annotations.contains_key(PUBLISH),
    }
}

/// The ports that services ask for, the oldest service first.
fn ports<'a>(desired: &'a Desired, taken: &BTreeSet<HostPort>) -> Vec<ServicePort<'a>> {
    let mut services: Vec<&StoredObject> =
        desired.objects.iter().filter(|e| e.object.kind == KeptKind::Service).collect();
    services.sort_by_key(|e| e.uid);
    let mut chosen: BTreeSet<HostPort> = taken.clone();
    let mut found = Vec::new();
    for service in services {
        let (of_host, balancer) = match service.object.text("type") {
            Some("LoadBalancer") => (true, true),
            Some("NodePort") => (true, false),
            _ => (false, false),
        };
        let list = service.object.fields.get("spec").and_then(|s| s.get("ports")).and_then(Value::as_array);
        for port in list.into_iter().flatten() {
            let number =
                |name: &str| port.get(name).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
            let Some(own) = number("port") else { continue };
            let protocol = match port.get("protocol").and_then(Value::as_str) {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => continue,
                _ => Protocol::Tcp,
            };
            let target = port.get("targetPort").cloned().unwrap_or_else(|| own.into());
            if has_address(service) {
                let host = HostPort { protocol, address: Some(address(service.uid)), port: own };
                found.push(ServicePort { service, host, target: target.clone() });
            }
            if !of_host {
                continue;
            }
            let at = |port: u16| HostPort { protocol, address: None, port };
            let wished = if balancer { Some(own) } else { number("nodePort").filter(|n| *n > 0) };
            let host = wished.map(at).or_else(|| free(service.uid, &chosen, at));
            let Some(host) = host else { continue };
            chosen.insert(host.clone());
            found.push(ServicePort { service, host, target });
        }
    }
    found
}

/// Whether pods reach a service at an address of its own. A headless one has only the addresses of its pods.
pub(super) fn has_address(service: &StoredObject) -> bool {
    let headless = service.object.text("clusterIP") == Some("None");
    !headless && service.object.text("type") != Some("ExternalName")
}

/// The address of a service with this identity, as [`HostPort`] has it. Which one that is, the network of pods says.
fn address(uid: u64) -> String {
    format!("{ADDRESS}{uid}")
}

/// Prefix of the address of a service.
pub const ADDRESS: &str = "service/";

/// A port for a service that leaves the choice open: the same one as long as no older service has it.
fn free(uid: u64, chosen: &BTreeSet<HostPort>, at: impl Fn(u16) -> HostPort) -> Option<HostPort> {
    let count = u64::from(NODE_PORTS.end() - NODE_PORTS.start() + 1);
    let first = uid.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let all = (0..count).map(|n| NODE_PORTS.start() + ((first + n) % count) as u16);
    all.map(at).find(|host| !chosen.contains(host))
}

/// The workloads that a service selects.
fn selected<'a>(desired: &'a Desired, service: &'a StoredObject) -> impl Iterator<Item = WorkloadId> + 'a {
    desired.workloads.iter().filter_map(|(id, w)| {
        let runs = w.deletion.is_none() && w.desired_replicas() > 0;
        let template = w.revisions.get(&w.revision).filter(|_| runs)?;
        matches(service, template).then_some(*id)
    })
}

/// A service with a selector, and the workloads that it selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behind {
    pub service: String,
    /// As `app=web,tier=front`.
    pub selector: String,
    /// Those that shall run, by name.
    pub workloads: Vec<String>,
    /// Their replicas that are ready.
    pub ready: usize,
    pub ports: Vec<u16>,
}

/// The pods of each service.
pub fn behind(desired: &Desired, observed: &Observed) -> Vec<Behind> {
    let spec = |e: &StoredObject, name: &str| e.object.fields.get("spec").and_then(|s| s.get(name)).cloned();
    let of = |e: &StoredObject| {
        let selector = spec(e, "selector")?.as_object().filter(|s| !s.is_empty())?.clone();
        let pair = |(k, v): (&String, &Value)| format!("{k}={}", v.as_str().unwrap_or_default());
        let ids: Vec<WorkloadId> = selected(desired, e).collect();
        let ready = |id: &WorkloadId| {
            let all = observed.workloads.get(id).into_iter().flat_map(replicas);
            all.filter(|(_, r)| r.is_ready()).count()
        };
        let ports = spec(e, "ports").and_then(|p| p.as_array().cloned()).unwrap_or_default();
        let port = |p: &Value| u16::try_from(p.get("port")?.as_u64()?).ok();
        Some(Behind {
            service: e.object.metadata.name.clone(),
            selector: selector.iter().map(pair).collect::<Vec<_>>().join(","),
            workloads: ids.iter().filter_map(|id| Some(desired.workloads.get(id)?.name.clone())).collect(),
            ready: ids.iter().map(ready).sum(),
            ports: ports.iter().filter_map(port).collect(),
        })
    };
    let services = desired.objects.iter().filter(|e| e.object.kind == KeptKind::Service);
    services.filter_map(of).collect()
}

/// Whether a template has all labels of a service's selector. One without a selector selects nothing.
pub(super) fn matches(service: &StoredObject, template: &PodTemplate) -> bool {
    let selector =
        service.object.fields.get("spec").and_then(|s| s.get("selector")).and_then(Value::as_object);
    let labels = template.sandbox.as_ref().and_then(|s| s.config.get("metadata")?.get("labels"));
    let has = |(key, value): (&String, &Value)| labels.and_then(|l| l.get(key)) == Some(value);
    selector.is_some_and(|s| !s.is_empty() && s.iter().all(has))
}

fn targets(desired: &Desired, observed: &Observed, id: WorkloadId, port: &ServicePort) -> Vec<Target> {
    let workload = desired.workloads.get(&id);
    let slots = observed.workloads.get(&id);
    let ready = slots.into_iter().flat_map(replicas).filter(|(_, r)| r.is_ready());
    let target = |(slot, r): (u32, &super::model::Replica)| {
        let template = workload?.revisions.get(&r.revision).filter(|t| matches(port.service, t))?;
        let replica = ReplicaKey { workload: id, slot, serial: r.serial };
        Some(Target { replica, address: r.address()?.to_owned(), port: number(template, &port.target)? })
    };
    ready.filter_map(target).collect()
}

/// The number of a port of the pods that is given by number or name.
fn number(template: &PodTemplate, target: &Value) -> Option<u16> {
    let of_number = |n: u64| u16::try_from(n).ok().filter(|n| *n > 0);
    match target {
        Value::Number(n) => of_number(n.as_u64()?),
        Value::String(name) => {
            let containers = template.containers.iter().filter_map(|c| c.launch.container.as_ref());
            let named = containers.flat_map(|c| &c.ports).find(|p| p.name.as_ref() == Some(name));
            named.map(|p| p.container_port).or_else(|| of_number(name.parse().ok()?))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
