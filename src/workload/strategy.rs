//! How replicas of an old revision give way to those of a new one, and back.

use core::time::Duration;
use serde::{Deserialize, Serialize};

use crate::config::quantity::{IntOrPercent, seconds};

/// `spec.strategy`: how replicas of an old revision give way to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Strategy {
    pub r#type: StrategyType,
    /// Only for `RollingUpdate`.
    #[serde(skip_serializing_if = "RollingUpdate::is_default")]
    pub rolling_update: RollingUpdate,
}

impl Strategy {
    pub(super) fn is_default(&self) -> bool {
        *self == Strategy::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StrategyType {
    /// Some at a time, within `rollingUpdate`.
    #[default]
    RollingUpdate,
    /// All old ones are gone before the first new one is made.
    Recreate,
}

/// `spec.strategy.rollingUpdate`: numbers of replicas, or percentages of `replicas`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RollingUpdate {
    /// How many more than `replicas` may exist; percentages are rounded up.
    pub max_surge: IntOrPercent,
    /// How many of them may be unavailable; percentages are rounded down.
    pub max_unavailable: IntOrPercent,
}

impl RollingUpdate {
    pub(super) fn is_default(&self) -> bool {
        *self == RollingUpdate::default()
    }
}

impl Default for RollingUpdate {
    /// A quarter of each.
    fn default() -> RollingUpdate {
        RollingUpdate { max_surge: IntOrPercent::Percent(25), max_unavailable: IntOrPercent::Percent(25) }
    }
}

/// The action after a failed rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureAction {
    /// It stays as it is.
    #[default]
    None,
    /// It is paused.
    Pause,
    /// The last revision that worked becomes the current one again.
    Rollback,
}

impl FailureAction {
    pub(super) fn is_none(&self) -> bool {
        *self == FailureAction::None
    }
}

/// No replica may fail.
pub(super) fn no_failures() -> IntOrPercent {
    IntOrPercent::Int(0)
}

pub(super) fn is_no_failures(n: &IntOrPercent) -> bool {
    *n == no_failures()
}

/// `spec.rollback`: the rollout back to an earlier revision. The fields are those of `spec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollback {
    /// How many replicas at a time.
    #[serde(default, skip_serializing_if = "RollingUpdate::is_default")]
    pub rolling_update: RollingUpdate,
    /// How long a replica must have been ready before it counts as available.
    #[serde(
        rename = "minReadySeconds",
        default,
        skip_serializing_if = "Option::is_none",
        with = "seconds::option"
    )]
    pub min_ready: Option<Duration>,
    /// Never [`FailureAction::Rollback`].
    #[serde(default, skip_serializing_if = "FailureAction::is_none")]
    pub failure_action: FailureAction,
    /// How many replicas may fail before the rollback has failed.
    #[serde(default = "no_failures", skip_serializing_if = "is_no_failures")]
    pub max_failures: IntOrPercent,
}
