//! The identities of workloads, revisions, replicas and instances. They are never used twice.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A workload's identity, never used twice: a workload deleted and applied again has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadId(pub u64);

/// The identity of a template within its workload, from 1. People see its number (`Workload::number`), which is another
/// one once the workload has gone back to the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u32);

/// The address of a replica. `Display` and `FromStr` are the short form `w1.s0.r1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// Number of the workload.
    pub workload: WorkloadId,
    /// Index of the slot.
    pub slot: u32,
    /// Serial number of the replica.
    pub serial: u64,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReplicaKey { workload, slot, serial } = self;
        write!(f, "w{}.s{slot}.r{serial}", workload.0)
    }
}

impl FromStr for ReplicaKey {
    type Err = ();

    /// The form that `Display` writes.
    fn from_str(text: &str) -> Result<ReplicaKey, ()> {
        let [workload, slot, serial] = numbers(text, ['w', 's', 'r'])?;
        let slot = u32::try_from(slot).map_err(|_| ())?;
        Ok(ReplicaKey { workload: WorkloadId(workload), slot, serial })
    }
}

/// The address of an instance, from the workload down. `Display` and `FromStr` are the short form `w1.s0.r1.c0.i7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Number of the workload.
    pub workload: WorkloadId,
    /// Index of the slot.
    pub slot: u32,
    /// Serial of the replica.
    pub replica: u64,
    /// Index in the template.
    pub container: u32,
    /// Number of the instance.
    pub instance: u64,
}

impl Key {
    /// The replica that the instance is part of.
    pub fn of_replica(self) -> ReplicaKey {
        ReplicaKey { workload: self.workload, slot: self.slot, serial: self.replica }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { workload, slot, replica, container, instance } = self;
        write!(f, "w{}.s{slot}.r{replica}.c{container}.i{instance}", workload.0)
    }
}

impl FromStr for Key {
    type Err = ();

    /// The form that `Display` writes.
    fn from_str(text: &str) -> Result<Key, ()> {
        let [workload, slot, replica, container, instance] = numbers(text, ['w', 's', 'r', 'c', 'i'])?;
        let small = |n: u64| u32::try_from(n).map_err(|_| ());
        Ok(Key {
            workload: WorkloadId(workload),
            slot: small(slot)?,
            replica,
            container: small(container)?,
            instance,
        })
    }
}

/// The numbers of `w1.s0`, each after its letter.
fn numbers<const N: usize>(text: &str, letters: [char; N]) -> Result<[u64; N], ()> {
    let mut parts = text.split('.');
    let mut found = [0; N];
    for (letter, number) in letters.into_iter().zip(&mut found) {
        let digits = parts.next().and_then(|p| p.strip_prefix(letter)).ok_or(())?;
        *number = digits.parse().map_err(|_| ())?;
    }
    if parts.next().is_none() { Ok(found) } else { Err(()) }
}
