//! Why a change of the desired state is not accepted.

use std::fmt;

/// Why a change is not accepted. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no workload of that name or identity.
    NotFound,
    /// The workload is being deleted.
    Deleting,
    /// The template has no container.
    NoContainers,
    /// More replicas than one workload may have.
    TooManyReplicas {
        /// The largest number.
        limit: u32,
    },
    /// The rollout is paused.
    Paused,
    /// No revision of that number is kept; None: there is none before the current one.
    NoRevision {
        /// The number that was given.
        number: Option<u32>,
    },
    /// It is the current revision already.
    SameRevision {
        /// Its number.
        number: u32,
    },
    /// It was declared immutable, or such a field of it cannot be changed.
    Immutable {
        /// The field, as text.
        what: String,
    },
    /// Only a CronJob makes jobs.
    NoCronJob,
    /// Another workload has the name.
    NameTaken {
        /// The name.
        name: String,
    },
    /// It is superseded by the desired state of now.
    Pointless,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFound => f.write_str("no such workload"),
            Refusal::Deleting => f.write_str("the workload is being deleted"),
            Refusal::NoContainers => f.write_str("a workload needs at least one container"),
            Refusal::TooManyReplicas { limit } => write!(f, "more than {limit} replicas"),
            Refusal::Paused => f.write_str("the rollout is paused: resume it first"),
            Refusal::NoRevision { number: Some(n) } => write!(f, "no revision {n} is kept"),
            Refusal::NoRevision { number: None } => f.write_str("no earlier revision is stored"),
            Refusal::SameRevision { number } => write!(f, "revision {number} is the current one"),
            Refusal::Immutable { what } => write!(f, "{what} cannot be changed"),
            Refusal::NoCronJob => f.write_str("it is not a CronJob"),
            Refusal::NameTaken { name } => write!(f, "a workload {name:?} exists"),
            Refusal::Pointless => f.write_str("nothing to do"),
        }
    }
}
