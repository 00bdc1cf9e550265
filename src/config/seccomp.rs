//! `linux.seccomp` (config-linux.md, "Seccomp").

use serde::Deserialize;

use super::nullable::nullable;

/// A seccomp profile.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    #[serde(deserialize_with = "nullable")]
    pub default_action: String,
    pub default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    pub architectures: Vec<String>,
    /// Absent means the runtime's choice, an empty list means none.
    pub flags: Option<Vec<String>>,
    #[serde(deserialize_with = "nullable")]
    pub listener_path: String,
    #[serde(deserialize_with = "nullable")]
    pub listener_metadata: String,
    #[serde(deserialize_with = "nullable")]
    pub syscalls: Vec<Rule>,
}

/// An entry of `linux.seccomp.syscalls`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub action: String,
    pub errno_ret: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    pub args: Vec<Arg>,
}

/// An argument that a rule compares.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Arg {
    #[serde(deserialize_with = "nullable")]
    pub index: u32,
    /// For `SCMP_CMP_MASKED_EQ` the mask.
    #[serde(deserialize_with = "nullable")]
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ` the value that the masked argument must equal.
    #[serde(deserialize_with = "nullable")]
    pub value_two: u64,
    #[serde(deserialize_with = "nullable")]
    pub op: String,
}
