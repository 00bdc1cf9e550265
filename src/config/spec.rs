//! The types of a bundle's config.json (OCI runtime-spec 1.3, Linux).
//!
//! They take every document that the specification calls valid: unknown properties are ignored, `null` is the
//! same as absent, and every value that is one of a set stays a string here, so that `plan::validate` can name
//! all the wrong ones at once instead of stopping at the first. Presence is kept where it carries meaning
//! (`pids.limit: 0` is a limit, an absent one means no limit).

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

use super::linux::{IdMapping, Linux};
use super::nullable::nullable;
use super::resources::{Pids, Resources};

/// The root of config.json (config.md).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Version of the specification that the bundle follows (semver).
    #[serde(deserialize_with = "nullable")]
    pub oci_version: String,
    pub root: Option<Root>,
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    #[serde(deserialize_with = "nullable")]
    pub domainname: String,
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<Mount>,
    pub process: Option<Process>,
    #[serde(deserialize_with = "nullable")]
    pub hooks: Hooks,
    #[serde(deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub linux: Linux,
}

impl Spec {
    /// `linux.resources` in the meaning of specification 1.3. Before it, a `pids.limit` of 0 meant unlimited
    /// (config-linux.md of 1.2, "PIDs"), and engines of that time write it.
    pub fn resources(&self) -> Option<Cow<'_, Resources>> {
        let resources = self.linux.resources.as_ref()?;
        if self.zero_pids_is_a_limit() || resources.pids.as_ref().and_then(|p| p.limit) != Some(0) {
            return Some(Cow::Borrowed(resources));
        }
        let mut resources = resources.clone();
        resources.pids = Some(Pids { limit: Some(-1) });
        Some(Cow::Owned(resources))
    }

    /// A `pids.limit` of 0 is a limit in a bundle of this `ociVersion`: 1.3 or newer.
    pub fn zero_pids_is_a_limit(&self) -> bool {
        let mut numbers = self.oci_version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(1), Some(3))
    }
}

/// `root` (config.md, "Root").
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    #[serde(deserialize_with = "nullable")]
    pub readonly: bool,
}

/// An entry of `mounts` (config.md, "Mounts").
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    #[serde(deserialize_with = "nullable")]
    pub destination: String,
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub source: String,
    #[serde(deserialize_with = "nullable")]
    pub options: Vec<String>,
    pub uid_mappings: Option<Vec<IdMapping>>,
    pub gid_mappings: Option<Vec<IdMapping>>,
}

/// `process`, and the document that `exec --process` reads (config.md, "Process").
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    #[serde(deserialize_with = "nullable")]
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    #[serde(deserialize_with = "nullable")]
    pub cwd: String,
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub args: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub rlimits: Vec<Rlimit>,
    #[serde(deserialize_with = "nullable")]
    pub user: User,
    /// Absent means that all five sets are empty.
    pub capabilities: Option<Capabilities>,
    #[serde(deserialize_with = "nullable")]
    pub no_new_privileges: bool,
    #[serde(deserialize_with = "nullable")]
    pub apparmor_profile: String,
    pub oom_score_adj: Option<i32>,
    pub scheduler: Option<Scheduler>,
    #[serde(deserialize_with = "nullable")]
    pub selinux_label: String,
    #[serde(rename = "ioPriority")]
    pub io_priority: Option<IoPriority>,
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// `process.consoleSize`, in character cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct ConsoleSize {
    pub height: u16,
    pub width: u16,
}

/// An entry of `process.rlimits` (getrlimit(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and so on.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub soft: u64,
    #[serde(deserialize_with = "nullable")]
    pub hard: u64,
}

/// `process.user` for POSIX platforms; ids are those of the container's user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    #[serde(deserialize_with = "nullable")]
    pub uid: u32,
    #[serde(deserialize_with = "nullable")]
    pub gid: u32,
    pub umask: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    pub additional_gids: Vec<u32>,
}

/// `process.capabilities`: names as in capabilities(7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    #[serde(deserialize_with = "nullable")]
    pub bounding: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub effective: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub inheritable: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub permitted: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub ambient: Vec<String>,
}

/// `process.scheduler` (sched_setattr(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    #[serde(deserialize_with = "nullable")]
    pub policy: String,
    #[serde(deserialize_with = "nullable")]
    pub nice: i32,
    #[serde(deserialize_with = "nullable")]
    pub priority: i32,
    #[serde(deserialize_with = "nullable")]
    pub flags: Vec<String>,
    /// Nanoseconds.
    #[serde(deserialize_with = "nullable")]
    pub runtime: u64,
    /// Nanoseconds.
    #[serde(deserialize_with = "nullable")]
    pub deadline: u64,
    /// Nanoseconds.
    #[serde(deserialize_with = "nullable")]
    pub period: u64,
}

/// `process.ioPriority` (ioprio_set(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IoPriority {
    #[serde(deserialize_with = "nullable")]
    pub class: String,
    #[serde(deserialize_with = "nullable")]
    pub priority: i32,
}

/// `process.execCPUAffinity`: CPU lists as in cpuset(7), for exec only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    #[serde(deserialize_with = "nullable")]
    pub initial: String,
    #[serde(deserialize_with = "nullable")]
    pub r#final: String,
}

/// `hooks` (config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    #[serde(deserialize_with = "nullable")]
    pub prestart: Vec<Hook>,
    #[serde(deserialize_with = "nullable")]
    pub create_runtime: Vec<Hook>,
    #[serde(deserialize_with = "nullable")]
    pub create_container: Vec<Hook>,
    #[serde(deserialize_with = "nullable")]
    pub start_container: Vec<Hook>,
    #[serde(deserialize_with = "nullable")]
    pub poststart: Vec<Hook>,
    #[serde(deserialize_with = "nullable")]
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Hook {
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    #[serde(deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// Absent and empty differ for `startContainer` hooks only: an absent one inherits the container's.
    pub env: Option<Vec<String>>,
    /// Seconds.
    pub timeout: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_pids_are_a_limit_since_1_3() {
        let limit = |version: &str, pids: &str| {
            let text =
                format!("{{\"ociVersion\":\"{version}\",\"linux\":{{\"resources\":{{\"pids\":{pids}}}}}}}");
            let spec: Spec = serde_json::from_str(&text).unwrap();
            let resources = spec.resources().unwrap().into_owned();
            resources.pids.and_then(|p| p.limit)
        };
        for old in ["1.0.0", "1.0.2-dev", "1.2.1", "1.2.99+dev", ""] {
            assert_eq!(limit(old, "{\"limit\":0}"), Some(-1), "{old}");
        }
        for new in ["1.3.0", "1.3.0-rc.1", "1.10.0", "2.0.0"] {
            assert_eq!(limit(new, "{\"limit\":0}"), Some(0), "{new}");
        }
        assert_eq!(limit("1.0.0", "{\"limit\":7}"), Some(7));
        assert_eq!(limit("1.0.0", "{}"), None);
        assert_eq!(limit("1.0.0", "null"), None);
    }
}
