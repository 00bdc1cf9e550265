//! Published ports and names: which replicas the proxy leads connections to, and the barrier that keeps a replica running for as
//! long as it does.
//!
//! ```text
//! stop decided ─ a map without the replica is sent ─ acknowledged ─ preStop, stop signal
//! ```
//! A map is sent whenever what should be published has changed. Until the proxy acknowledges a map, any of those before it
//! may be in use, so a replica counts as exposed while one of them has it.

use super::action::Action;
use super::desired::{Desired, Workload};
use super::ids::{ReplicaKey, WorkloadId};
use super::model::Observed;
use super::names;
use super::pass::{Pass, replicas};
use super::ports::{HostPort, PublishedPort};
use super::publication::{Route, RouteOptions, Taken, Target};
use super::services;
use super::time::Millis;
use crate::workload::annotations::{PROXY_PROTOCOL, PUBLISH};
use std::collections::BTreeMap;

/// How long a stop waits for the proxy: one that hangs must not keep everything running.
pub const PATIENCE: Millis = Millis(1000);
/// After this a map that is not acknowledged is sent again.
const SEND_AGAIN: Millis = Millis(5000);

/// Sends a map when what is ready differs from the last one, or that one was not acknowledged.
pub fn plan(pass: &mut Pass<'_>, desired: &Desired, observed: &Observed) {
    let endpoints = &observed.endpoints;
    let (map, names) = (compute_routes(desired, observed), names::compute_names(desired, observed));
    let late = endpoints.acknowledged < endpoints.generation;
    if map != endpoints.map || names != endpoints.names {
        pass.push(Action::Publish { generation: endpoints.generation + 1, map, names });
    } else if late && pass.reached(endpoints.sent + SEND_AGAIN) {
        pass.push(Action::Publish { generation: endpoints.generation, map, names });
    }
}

/// The map of what is ready now. A port that two workloads or services publish belongs to the older one, and to a workload
/// before a service.
pub fn compute_routes(desired: &Desired, observed: &Observed) -> Vec<Route> {
    let mut routes = of_workloads(desired, observed);
    let hosts = routes.iter().map(|r| r.host.clone()).collect();
    routes.extend(services::routes(desired, observed, &hosts));
    routes
}

fn of_workloads(desired: &Desired, observed: &Observed) -> Vec<Route> {
    let mut routes: BTreeMap<&HostPort, Route> = BTreeMap::new();
    for (id, workload) in &desired.workloads {
        for port in published(workload) {
            let (host, options) = (port.host.clone(), options(workload));
            let route = Route { workload: *id, service: None, host, targets: Vec::new(), options };
            routes.entry(&port.host).or_insert(route);
        }
    }
    if routes.is_empty() {
        return Vec::new();
    }
    for (id, workload) in &desired.workloads {
        let Some(slots) = observed.workloads.get(id) else { continue };
        for (slot, replica) in replicas(slots).filter(|(_, r)| r.is_ready()) {
            let ports = workload.revisions.get(&replica.revision).map(|t| &t.ports);
            let Some(address) = replica.address() else { continue };
            for port in ports.into_iter().flatten() {
                let Some(route) = routes.get_mut(&port.host).filter(|r| r.workload == *id) else { continue };
                let replica = ReplicaKey { workload: *id, slot, serial: replica.serial };
                route.targets.push(Target { replica, address: address.to_owned(), port: port.port });
            }
        }
    }
    routes.into_values().collect()
}

/// Options from the annotations of the pods of a workload.
fn options(workload: &Workload) -> RouteOptions {
    let template = workload.revisions.get(&workload.revision).and_then(|t| t.sandbox.as_ref());
    let annotations = template.and_then(|s| s.config.get("metadata")?.get("annotations"));
    let has = |name: &str| annotations.is_some_and(|all| all.get(name).is_some());
    RouteOptions { affinity: None, proxy_protocol: has(PROXY_PROTOCOL), kernel: has(PUBLISH) }
}

/// The ports of a workload that shall be open. A workload without desired replicas closes its ports, so that clients do not wait.
fn published(workload: &Workload) -> &[PublishedPort] {
    let runs = workload.deletion.is_none() && workload.desired_replicas() > 0;
    let template = workload.revisions.get(&workload.revision).filter(|_| runs);
    template.map_or(&[], |t| &t.ports)
}

/// Why ports of a workload are not published.
pub fn taken(desired: &Desired, observed: &Observed, id: WorkloadId) -> Vec<Taken> {
    let Some(workload) = desired.workloads.get(&id) else { return Vec::new() };
    let slots = observed.workloads.get(&id);
    let mut ready = slots.into_iter().flat_map(replicas).filter(|(_, r)| r.is_ready());
    let unreachable = ready.any(|(_, r)| r.address().is_none());
    let trouble = |port: &PublishedPort| {
        let route = observed.endpoints.map.iter().find(|r| r.host == port.host)?;
        let owner = route.workload;
        if owner != id {
            let name = desired.workloads.get(&owner).map_or("", |w| w.name.as_str());
            return Some(Taken { host: port.host.clone(), error: format!("workload {name:?} publishes it") });
        }
        let refused = observed.endpoints.taken.iter().find(|t| t.host == port.host);
        let error = "its pods have no address, as with `orund serve --network none`";
        let none = || unreachable.then(|| Taken { host: port.host.clone(), error: error.to_owned() });
        refused.cloned().or_else(none)
    };
    published(workload).iter().filter_map(trouble).collect()
}
