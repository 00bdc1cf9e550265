//! The sockets at which the programs of a pod ask for names. The proxy answers there, and the keeper has them as long as the
//! pod lives.

use crate::error::{Errno, Error, Result};
use crate::log;
use crate::supervisor::core::ids::ReplicaKey;
use crate::sys::netlink;
use crate::workload::files::RESOLVER;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

const PORT: u16 = 53;
/// How often, and how long apart, sockets are made again while an ending proxy still has them.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_millis(50);

/// Those for datagrams and for connections.
#[derive(Debug)]
pub struct Sockets {
    pub udp: OwnedFd,
    pub tcp: OwnedFd,
    /// Names of pods in these networks are answered.
    pub networks: BTreeSet<String>,
}

impl Sockets {
    /// Each with the name that keeper and proxy know it by, and whether it takes datagrams.
    pub fn named(&self, key: &str) -> [(String, bool, &OwnedFd); 2] {
        [(name(key, true), true, &self.udp), (name(key, false), false, &self.tcp)]
    }
}

fn name(key: &str, udp: bool) -> String {
    format!("names:{key}:{}", if udp { "udp" } else { "tcp" })
}

/// Opens them in the network of a pod.
///
/// # Errors
/// EADDRINUSE: a program has the port.
pub fn open(network: &OwnedFd, networks: BTreeSet<String>) -> Result<Sockets> {
    let fail = |e: Errno| Error::sys(format!("opening port {PORT} for names in the pod"), e);
    let bind = || {
        let udp = UdpSocket::bind((RESOLVER, PORT))?;
        Ok::<_, std::io::Error>((udp.into(), TcpListener::bind((RESOLVER, PORT))?.into()))
    };
    let (udp, tcp) = netlink::within(network, bind).map_err(fail)?.map_err(|e| fail(e.into()))?;
    Ok(Sockets { udp, tcp, networks })
}

/// After a restart: what the keeper has of them, else new ones.
pub fn find(
    network: &OwnedFd,
    (key, networks): (ReplicaKey, BTreeSet<String>),
    kept: &mut BTreeMap<String, OwnedFd>,
) -> Option<Sockets> {
    let key = key.to_string();
    let [udp, tcp] = [true, false].map(|udp| kept.remove(&name(&key, udp)));
    if let Some((udp, tcp)) = udp.zip(tcp) {
        return Some(Sockets { udp, tcp, networks });
    }
    for attempt in 1.. {
        match open(network, networks.clone()) {
            Ok(sockets) => return Some(sockets),
            Err(e) if e.errno() == Some(Errno(libc::EADDRINUSE)) && attempt < TRIES => {
                std::thread::sleep(AGAIN);
            }
            Err(e) => {
                log::warn(e.context(format!("pod {key} has no resolver")));
                return None;
            }
        }
    }
    None
}
