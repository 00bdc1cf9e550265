//! Ports of the host, and which of them a template publishes.

use crate::workload::pod::Port;
use serde::{Deserialize, Serialize};

/// Protocol of a port.
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
    /// Its protocol.
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
