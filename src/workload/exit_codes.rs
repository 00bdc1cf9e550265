//! Exit codes in the rules of containers and jobs.

use serde::{Deserialize, Serialize};

/// `exitCodes` of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExitCodes {
    pub operator: Membership,
    pub values: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    In,
    NotIn,
}
