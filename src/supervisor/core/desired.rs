//! What is wanted. Changed only by [`Change`]s, which the shell makes durable before it acknowledges them; replaying
//! the changes gives the same state. Nothing here depends on what is running.

use super::spec::{Strategy, Template};
use super::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A workload's identity, never used twice: a workload deleted and applied again has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadId(pub u64);

/// The number of a template within its workload, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u32);

/// All workloads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub workloads: BTreeMap<WorkloadId, Workload>,
    /// The last identity given out.
    pub last_id: u64,
}

/// One workload as its owner wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    /// Counts the changes that its owner made.
    pub generation: u64,
    pub replicas: u32,
    pub strategy: Strategy,
    /// The revision that replicas shall have.
    pub revision: Revision,
    /// The current template and older ones that are still in use or kept for going back.
    pub revisions: BTreeMap<Revision, Template>,
    /// Slots whose replica shall be made anew, and how often that was asked for.
    pub restarts: BTreeMap<u32, u32>,
    /// Slots of the current revision that ended for good (OnFailure and Never); they are not run again after a reboot.
    pub completed: BTreeSet<u32>,
    pub deletion: Option<Deletion>,
    /// The manifest as its owner wrote it; opaque here.
    pub source: serde_json::Value,
}

/// A deletion that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub at: Time,
    /// When everything is killed at the latest; a later request can only bring it forward.
    pub deadline: Time,
    /// Grace 0 was asked for: kill without preStop and stop signal.
    pub now: bool,
}

/// A change of what is wanted. Durable before it is acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase")]
pub enum Change {
    /// Create the workload of that name, or change it.
    Apply {
        name: String,
        replicas: u32,
        #[serde(default)]
        strategy: Strategy,
        template: Template,
        #[serde(default)]
        source: serde_json::Value,
    },
    Scale {
        workload: WorkloadId,
        replicas: u32,
    },
    /// Make the replica of `slot` anew; without a slot, all of them, as a new revision of the same template.
    Restart {
        workload: WorkloadId,
        slot: Option<u32>,
    },
    /// `grace` overrides the template's. A second delete can only shorten.
    Delete {
        workload: WorkloadId,
        grace: Option<Millis>,
    },
    /// Asked for by [`super::action::Action::Persist`]: this slot of this revision has ended for good.
    Completed {
        workload: WorkloadId,
        revision: Revision,
        slot: u32,
    },
    /// Asked for by `Persist`: nothing of a deleted workload is left.
    Removed {
        workload: WorkloadId,
    },
    /// Asked for by `Persist`: a template that nothing uses any more.
    Pruned {
        workload: WorkloadId,
        revision: Revision,
    },
}

/// Why a change is not accepted. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    /// The workload is being deleted.
    Deleting,
    /// The slot is not below the number of replicas.
    NoSuchSlot {
        slot: u32,
        replicas: u32,
    },
    NoContainers,
    TooManyReplicas {
        limit: u32,
    },
}

impl Desired {
    /// Whether `change` would be accepted.
    pub fn check(&self, change: &Change, config: &super::Config) -> Result<(), Refusal> {
        let _ = (change, config);
        todo!()
    }

    /// Applies `change`, which happened at `at`. A refused change does nothing, now and on replay.
    pub fn apply(&mut self, change: &Change, at: Time, config: &super::Config) -> Result<(), Refusal> {
        let _ = (change, at, config);
        todo!()
    }

    /// The workload of that name.
    pub fn by_name(&self, name: &str) -> Option<(WorkloadId, &Workload)> {
        self.workloads.iter().find(|(_, w)| w.name == name).map(|(id, w)| (*id, w))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFound => f.write_str("no such workload"),
            Refusal::Deleting => f.write_str("the workload is being deleted"),
            Refusal::NoSuchSlot { slot, replicas } => {
                write!(f, "there is no replica {slot}: the workload has {replicas}")
            }
            Refusal::NoContainers => f.write_str("a workload needs at least one container"),
            Refusal::TooManyReplicas { limit } => write!(f, "more than {limit} replicas"),
        }
    }
}
