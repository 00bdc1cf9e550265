//! Compares what is wanted with what was seen.

use super::Config;
use super::action::Action;
use super::desired::Desired;
use super::model::Observed;
use super::time::Time;

/// What to do now, and when to ask again if nothing happens before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    pub actions: Vec<Action>,
    pub wake: Option<Time>,
}

/// Decides. Deterministic; changes nothing. See the module's documentation for how its actions are recorded.
pub fn reconcile(desired: &Desired, observed: &Observed, now: Time, config: &Config) -> Step {
    let _ = (desired, observed, now, config);
    todo!()
}
