//! The published map of ports and names for the proxy, and the maps that may be in use.

use super::ids::{ReplicaKey, WorkloadId};
use super::ports::HostPort;
use super::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where connections to a port of the host go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Its owner; 0 for the port of a service.
    pub workload: WorkloadId,
    /// The service whose port it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The port of the host.
    pub host: HostPort,
    /// Those that are ready.
    pub targets: Vec<Target>,
    /// Options for its connections.
    #[serde(flatten)]
    pub options: RouteOptions,
}

/// Options of a port besides forwarding connections to replicas.
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

/// The published map.
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
    /// The ports of the last acknowledged map that the proxy could not open.
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

    /// A replica no longer exists: its publication is no longer needed.
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

/// The names of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Name {
    /// Its own name.
    pub service: String,
    /// Further names of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The Compose project that it belongs to: in the pods of that its names go before those of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Its identity, if pods reach it at an address of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_of: Option<u64>,
    /// Those that are ready, or all of them where it says so.
    pub pods: Vec<NamedPod>,
}

/// A pod behind a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedPod {
    /// The replica.
    pub replica: ReplicaKey,
    /// Its own host name.
    pub host: String,
    /// Its IPv4 address.
    pub address: String,
    /// Those that share one of these with it resolve its name. Empty: the network "default" alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}
