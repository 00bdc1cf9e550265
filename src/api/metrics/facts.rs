//! Inputs of the figures.

use std::fs;

use crate::api::types::{KeptAnswer, ReplicaObject, StatsObject, WorkloadObject};

/// All of it, at one time.
pub struct Facts {
    pub workloads: Vec<WorkloadObject>,
    pub replicas: Vec<ReplicaObject>,
    pub objects: Vec<KeptAnswer>,
    pub stats: Vec<StatsObject>,
    pub host: Host,
    pub interfaces: Vec<Interface>,
}

impl Facts {
    /// With what is read from the host.
    pub fn new(
        workloads: Vec<WorkloadObject>,
        replicas: Vec<ReplicaObject>,
        objects: Vec<KeptAnswer>,
        stats: Vec<StatsObject>,
    ) -> Facts {
        let (host, interfaces) = (Host::read(), interfaces(&replicas));
        Facts { workloads, replicas, objects, stats, host, interfaces }
    }
}

/// The host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub name: String,
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
}

impl Host {
    fn read() -> Host {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        Host {
            name: name.trim().to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: total.and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 1024,
        }
    }
}

/// A network interface of a pod, and what it has counted: bytes, packets, errors and drops, received and sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    pub pod: String,
    pub name: String,
    pub received: [u64; 4],
    pub sent: [u64; 4],
}

/// The interfaces of all pods with a network of their own, but for loopback.
fn interfaces(replicas: &[ReplicaObject]) -> Vec<Interface> {
    let own = fs::read_link("/proc/self/ns/net").ok();
    let of = |r: &ReplicaObject| -> Vec<Interface> {
        let Some(pid) = r.containers.iter().find_map(|c| c.pid) else { return Vec::new() };
        // It may end at any time, and the number be another process's: then that has our network.
        let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
        if fs::read_link(format!("/proc/{pid}/ns/net")).ok().is_none_or(|ns| Some(ns) == own) {
            return Vec::new();
        }
        counted(&r.name, &text)
    };
    replicas.iter().flat_map(of).collect()
}

/// The lines of /proc/net/dev.
fn counted(pod: &str, text: &str) -> Vec<Interface> {
    let line = |l: &str| {
        let (name, numbers) = l.split_once(':')?;
        let n: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let four = |at: usize| Some([*n.get(at)?, *n.get(at + 1)?, *n.get(at + 2)?, *n.get(at + 3)?]);
        let name = name.trim();
        (name != "lo").then_some(())?;
        Some(Interface { pod: pod.to_owned(), name: name.to_owned(), received: four(0)?, sent: four(8)? })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_without_loopback() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n    \
                    lo:     1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 1200 10 1 2 0 0 0 0 3400 20 3 4 0 0 0 0\n";
        let expected = Interface {
            pod: "web-0".into(),
            name: "eth0".into(),
            received: [1200, 10, 1, 2],
            sent: [3400, 20, 3, 4],
        };
        assert_eq!(counted("web-0", text), [expected]);
    }
}
