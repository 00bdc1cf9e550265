//! How replicas of an old revision give way to the new one.

use super::time::Millis;
use crate::config::quantity::IntOrPercent;
use crate::workload::model::FailureAction;
use serde::{Deserialize, Serialize};

/// How replicas of an old revision give way to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Strategy {
    /// Stop all old replicas before the first new one is made; `max_surge` and `max_unavailable` have no effect then.
    pub recreate: bool,
    /// How many replicas there may be beyond the desired number.
    pub max_surge: IntOrPercent,
    /// How many replicas may be unavailable.
    pub max_unavailable: IntOrPercent,
    /// How long a replica must have been ready before it counts as available. None: [`MIN_READY`].
    pub min_ready: Option<Millis>,
    /// How long a rollout may take to make the next replica available before it has failed. None: forever.
    pub progress_deadline: Option<Millis>,
    /// The action after a failed rollout.
    pub on_failure: FailureAction,
    /// How many replicas of the new revision may fail without the rollout failing.
    pub max_failures: IntOrPercent,
    /// How a workload goes back to an earlier revision. None: as it goes forward.
    pub back: Option<Back>,
    /// How many revisions that no replica has are kept to go back to. None: the configuration's number.
    pub history_limit: Option<u32>,
}

/// How long a program must run, when the workload does not say, until it counts: a program that cannot work ends before
/// that most often. The moment of execve(2) proves nothing.
pub const MIN_READY: Millis = Millis(1000);

/// Kubernetes' progressDeadlineSeconds.
pub const PROGRESS_DEADLINE: Millis = Millis::secs(600);

impl Default for Strategy {
    /// Kubernetes' defaults for a Deployment.
    fn default() -> Strategy {
        Strategy {
            recreate: false,
            max_surge: IntOrPercent::Percent(25),
            max_unavailable: IntOrPercent::Percent(25),
            min_ready: None,
            progress_deadline: Some(PROGRESS_DEADLINE),
            on_failure: FailureAction::None,
            max_failures: IntOrPercent::Int(0),
            back: None,
            history_limit: None,
        }
    }
}

/// Differences for a rollback; the fields are those of [`Strategy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Back {
    /// How many more replicas there may be.
    pub max_surge: IntOrPercent,
    /// How many may be unavailable.
    pub max_unavailable: IntOrPercent,
    /// How long a replica must have been ready to count. None: [`MIN_READY`].
    pub min_ready: Option<Millis>,
    /// Never to go back once more: that is a pause.
    pub on_failure: FailureAction,
    /// How many may fail.
    pub max_failures: IntOrPercent,
}

impl Strategy {
    /// How many replicas more than `replicas` there may be, and how many of them may be unavailable: surge rounded up,
    /// unavailability rounded down. With neither nothing could ever be replaced, so it is 1 then.
    #[must_use]
    pub fn resolve(&self, replicas: u32) -> Fenceposts {
        if self.recreate {
            return Fenceposts { surge: 0, unavailable: replicas };
        }
        let surge = self.max_surge.resolve(replicas, true);
        let unavailable = self.max_unavailable.resolve(replicas, false).min(replicas);
        Fenceposts { surge, unavailable: if surge == 0 { unavailable.max(1) } else { unavailable } }
    }

    /// How long a replica must have been ready before it counts as available.
    #[must_use]
    pub fn min_ready(&self) -> Millis {
        self.min_ready.unwrap_or(MIN_READY)
    }

    /// How many of `replicas` may fail.
    #[must_use]
    pub fn tolerated(&self, replicas: u32) -> u32 {
        self.max_failures.resolve(replicas, false).min(replicas)
    }

    /// The same for the way back.
    #[must_use]
    pub fn backwards(self) -> Strategy {
        let Some(Back { max_surge, max_unavailable, min_ready, on_failure, max_failures }) = self.back else {
            return self;
        };
        Strategy { max_surge, max_unavailable, min_ready, on_failure, max_failures, ..self }
    }
}

/// Numbers of replicas that a rollout keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenceposts {
    /// Replicas beyond the desired number.
    pub surge: u32,
    /// Replicas that may be unavailable.
    pub unavailable: u32,
}
