//! Published ports and names: which replicas the proxy leads connections to, and the barrier that keeps a replica running for as
//! long as it does.
//!
//! ```text
//! stop decided ─ a map without the replica is sent ─ acknowledged ─ preStop, stop signal
//! ```
//! A map is sent whenever what should be published has changed. Until the proxy acknowledges a map, any of those before it
//! may be in use, so a replica counts as exposed while one of them has it.

use super::action::Action;
use super::desired::{Desired, Workload, WorkloadId};
use super::model::{Observed, ReplicaKey};
use super::names::{self, Name};
use super::reconcile::{Pass, replicas};
use super::services;
use super::time::{Millis, Time};
use crate::workload::annotations::{PROXY_PROTOCOL, PUBLISH};
use crate::workload::pod::Port;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How long a stop waits for the proxy: one that hangs must not keep everything running.
pub const PATIENCE: Millis = Millis(1000);
/// After this a map that is not acknowledged is sent again.
const SEND_AGAIN: Millis = Millis(5000);

/// What a port carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of the host. `Display` is `tcp 0.0.0.0:80`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// What it carries.
    pub protocol: Protocol,
    /// Of the host. None: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}:{}", self.protocol, self.address.as_deref().unwrap_or("*"), self.port)
    }
}

/// A port of the replicas of a template that is published on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    /// The port of the host.
    pub host: HostPort,
    /// Of the replica.
    pub port: u16,
}

impl PublishedPort {
    /// The port of a container; None if it is not published on the host.
    pub fn of_container(port: &Port) -> Option<PublishedPort> {
        let protocol = if port.protocol.as_deref() == Some("UDP") { Protocol::Udp } else { Protocol::Tcp };
        let address = port.host_ip.clone().filter(|a| !a.is_empty() && a != "0.0.0.0");
        let host = HostPort { protocol, address, port: port.host_port? };
        Some(PublishedPort { host, port: port.container_port })
    }
}

/// Where connections to a port of the host go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Whose port it is; 0 for that of a service.
    pub workload: WorkloadId,
    /// The service whose port it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The port of the host.
    pub host: HostPort,
    /// Those that are ready.
    pub targets: Vec<Target>,
    /// What else is done with its connections.
    #[serde(flatten)]
    pub options: RouteOptions,
}

/// What a port does besides leading connections to replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteOptions {
    /// A client stays with its replica, until it has not connected for so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<u64>,
    /// Connections begin with a header that has the client's address (version 2 of the PROXY protocol).
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub proxy_protocol: bool,
    /// The kernel leads connections from outside to pods, without the proxy.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub kernel: bool,
}

/// A replica that takes connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The replica.
    pub replica: ReplicaKey,
    /// IPv4.
    pub address: String,
    /// Port of the replica.
    pub port: u16,
}

/// A port that cannot be published, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The port of the host.
    pub host: HostPort,
    /// Why it cannot be opened.
    pub error: String,
}

/// What is published.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// The number of the last map that was sent; the first is 1.
    pub generation: u64,
    /// When the last map was sent.
    pub sent: Time,
    /// The last map that was sent.
    pub map: Vec<Route>,
    /// The names that were sent with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
    /// The number of the last map that was acknowledged.
    pub acknowledged: u64,
    /// The replicas of each map that may be in use, by its number and the replica's. Without maps that have none but replicas
    /// of a later one, and without replicas that are gone.
    pub in_use: BTreeMap<u64, BTreeSet<u64>>,
    /// What the proxy could not open of the last map that it acknowledged.
    pub taken: Vec<Taken>,
}

impl Endpoints {
    /// The replicas that connections may be led to.
    pub fn exposed(&self) -> BTreeSet<u64> {
        self.in_use.values().flatten().copied().collect()
    }

    /// A map is being sent. Of those before it that may be in use, one whose replicas are all in this one says nothing more:
    /// this one may be in use for at least as long.
    pub fn send(&mut self, generation: u64, map: &[Route], names: &[Name], at: Time) {
        (self.generation, self.sent) = (generation, at);
        (self.map, self.names) = (map.to_vec(), names.to_vec());
        let led = map.iter().flat_map(|r| &r.targets).map(|t| t.replica.serial);
        let named = names.iter().flat_map(|n| &n.pods).map(|p| p.replica.serial);
        let serials: BTreeSet<u64> = led.chain(named).collect();
        self.in_use.retain(|_, before| !before.is_subset(&serials));
        self.in_use.insert(generation, serials);
    }

    /// A replica is gone: nobody asks any more whether connections may be led to it.
    pub fn forget(&mut self, serial: u64) {
        for serials in self.in_use.values_mut() {
            serials.remove(&serial);
        }
    }

    /// The proxy uses a map, and none before it.
    pub fn acknowledge(&mut self, generation: u64, taken: &[Taken]) {
        if generation < self.acknowledged || generation > self.generation {
            return;
        }
        self.acknowledged = generation;
        self.in_use.retain(|g, _| *g >= generation);
        self.taken = taken.to_vec();
    }
}

/// Sends a map when what is ready differs from the last one, or that one was not acknowledged.
pub fn plan(pass: &mut Pass<'_>, desired: &Desired, observed: &Observed) {
    let endpoints = &observed.endpoints;
    let (map, names) = (wanted(desired, observed), names::wanted(desired, observed));
    let late = endpoints.acknowledged < endpoints.generation;
    if map != endpoints.map || names != endpoints.names {
        pass.push(Action::Publish { generation: endpoints.generation + 1, map, names });
    } else if late && pass.reached(endpoints.sent + SEND_AGAIN) {
        pass.push(Action::Publish { generation: endpoints.generation, map, names });
    }
}

/// The map of what is ready now. A port that two workloads or services publish belongs to the older one, and to a workload
/// before a service.
pub fn wanted(desired: &Desired, observed: &Observed) -> Vec<Route> {
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

/// What the annotations of the pods of a workload ask for.
fn options(workload: &Workload) -> RouteOptions {
    let template = workload.revisions.get(&workload.revision).and_then(|t| t.sandbox.as_ref());
    let annotations = template.and_then(|s| s.config.get("metadata")?.get("annotations"));
    let has = |name: &str| annotations.is_some_and(|all| all.get(name).is_some());
    RouteOptions { affinity: None, proxy_protocol: has(PROXY_PROTOCOL), kernel: has(PUBLISH) }
}

/// The ports of a workload that shall be open. One that shall not run closes its own: nobody is kept waiting for it.
fn published(workload: &Workload) -> &[PublishedPort] {
    let runs = workload.deletion.is_none() && workload.wanted() > 0;
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
