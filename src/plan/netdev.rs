//! `linux.netDevices` (config-linux.md, "Network Devices").

use crate::config::linux::Linux;

/// A network device of the host that becomes the container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container; `%d` at the end stands for the first free number.
    pub name: String,
    /// The property, for errors.
    pub property: String,
}

impl NetDevice {
    /// The devices to move.
    pub fn compile(linux: &Linux) -> Vec<NetDevice> {
        let one = |(host, device): (&String, &crate::config::linux::NetDevice)| NetDevice {
            host: host.clone(),
            name: if device.name.is_empty() { host.clone() } else { device.name.clone() },
            property: format!("linux.netDevices[{host:?}]"),
        };
        linux.net_devices.iter().map(one).collect()
    }

    /// The words for moving it, in plans and errors.
    pub fn words(&self) -> String {
        if self.name == self.host {
            format!("moving the network device {:?} into the container", self.host)
        } else {
            format!("moving the network device {:?} into the container as {:?}", self.host, self.name)
        }
    }
}
