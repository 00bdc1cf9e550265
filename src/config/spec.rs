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
    /// The root file system; required when a container is created.
    pub root: Option<Root>,
    /// Host name in the UTS namespace; empty: unchanged.
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    /// NIS domain name in the UTS namespace; empty: unchanged.
    #[serde(deserialize_with = "nullable")]
    pub domainname: String,
    /// Mounts in addition to the root, in the order in which they are made.
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<Mount>,
    /// The program; required when the container is started.
    pub process: Option<Process>,
    /// Programs to run at points of the life cycle.
    #[serde(deserialize_with = "nullable")]
    pub hooks: Hooks,
    /// Keys and values for the users of the container; some keys are orun's.
    #[serde(deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    /// Linux-specific settings (config-linux.md).
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
    /// Mount the root read-only.
    #[serde(deserialize_with = "nullable")]
    pub readonly: bool,
}

/// An entry of `mounts` (config.md, "Mounts").
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Absolute path in the container.
    #[serde(deserialize_with = "nullable")]
    pub destination: String,
    /// File system type, as in /proc/filesystems; ignored for a bind mount.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Device, file or directory; a relative path starts at the bundle.
    #[serde(deserialize_with = "nullable")]
    pub source: String,
    /// Options as in fstab(5), with those of the specification, such as `rbind`.
    #[serde(deserialize_with = "nullable")]
    pub options: Vec<String>,
    /// User IDs of an ID-mapped mount; `None` without one.
    pub uid_mappings: Option<Vec<IdMapping>>,
    /// Group IDs of an ID-mapped mount; `None` without one.
    pub gid_mappings: Option<Vec<IdMapping>>,
}

/// `process`, and the document that `exec --process` reads (config.md, "Process").
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Connect the standard streams to a pseudo-terminal.
    #[serde(deserialize_with = "nullable")]
    pub terminal: bool,
    /// Initial size of the terminal.
    pub console_size: Option<ConsoleSize>,
    /// Absolute path of the working directory in the container.
    #[serde(deserialize_with = "nullable")]
    pub cwd: String,
    /// Variables as `NAME=VALUE`.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// The program and its arguments, for execvp(3).
    #[serde(deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// Limits to set before the program runs.
    #[serde(deserialize_with = "nullable")]
    pub rlimits: Vec<Rlimit>,
    /// User and groups of the process.
    #[serde(deserialize_with = "nullable")]
    pub user: User,
    /// Absent means that all five sets are empty.
    pub capabilities: Option<Capabilities>,
    /// Set no_new_privs (prctl(2)).
    #[serde(deserialize_with = "nullable")]
    pub no_new_privileges: bool,
    /// Name of the AppArmor profile; empty: unchanged.
    #[serde(deserialize_with = "nullable")]
    pub apparmor_profile: String,
    /// From -1000 to 1000 (/proc/PID/oom_score_adj); `None`: inherited.
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy; `None`: inherited.
    pub scheduler: Option<Scheduler>,
    /// SELinux label; empty: unchanged.
    #[serde(deserialize_with = "nullable")]
    pub selinux_label: String,
    /// I/O scheduling class and priority; `None`: inherited.
    #[serde(rename = "ioPriority")]
    pub io_priority: Option<IoPriority>,
    /// CPUs of a process that `exec` starts.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// `process.consoleSize`, in character cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// An entry of `process.rlimits` (getrlimit(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and so on.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// The soft limit.
    #[serde(deserialize_with = "nullable")]
    pub soft: u64,
    /// The hard limit.
    #[serde(deserialize_with = "nullable")]
    pub hard: u64,
}

/// `process.user` for POSIX platforms; ids are those of the container's user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User ID.
    #[serde(deserialize_with = "nullable")]
    pub uid: u32,
    /// Group ID.
    #[serde(deserialize_with = "nullable")]
    pub gid: u32,
    /// File mode creation mask; `None`: inherited.
    pub umask: Option<u32>,
    /// Supplementary group IDs.
    #[serde(deserialize_with = "nullable")]
    pub additional_gids: Vec<u32>,
}

/// `process.capabilities`: names as in capabilities(7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The bounding set.
    #[serde(deserialize_with = "nullable")]
    pub bounding: Vec<String>,
    /// The effective set.
    #[serde(deserialize_with = "nullable")]
    pub effective: Vec<String>,
    /// The inheritable set.
    #[serde(deserialize_with = "nullable")]
    pub inheritable: Vec<String>,
    /// The permitted set.
    #[serde(deserialize_with = "nullable")]
    pub permitted: Vec<String>,
    /// The ambient set.
    #[serde(deserialize_with = "nullable")]
    pub ambient: Vec<String>,
}

/// `process.scheduler` (sched_setattr(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// `SCHED_OTHER` and so on (sched(7)).
    #[serde(deserialize_with = "nullable")]
    pub policy: String,
    /// Nice value, from -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
    #[serde(deserialize_with = "nullable")]
    pub nice: i32,
    /// Static priority, for `SCHED_FIFO` and `SCHED_RR`.
    #[serde(deserialize_with = "nullable")]
    pub priority: i32,
    /// `SCHED_FLAG_*` (sched_setattr(2)).
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
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    #[serde(deserialize_with = "nullable")]
    pub class: String,
    /// From 0 (highest) to 7.
    #[serde(deserialize_with = "nullable")]
    pub priority: i32,
}

/// `process.execCPUAffinity`: CPU lists as in cpuset(7), for exec only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// CPUs while the process enters the container; empty: unchanged.
    #[serde(deserialize_with = "nullable")]
    pub initial: String,
    /// CPUs of the program; empty: unchanged.
    #[serde(deserialize_with = "nullable")]
    pub r#final: String,
}

/// `hooks` (config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Deprecated: run with the `createRuntime` hooks, before them.
    #[serde(deserialize_with = "nullable")]
    pub prestart: Vec<Hook>,
    /// Run in the runtime's namespaces, before the root is entered.
    #[serde(deserialize_with = "nullable")]
    pub create_runtime: Vec<Hook>,
    /// Run in the container's namespaces, before the root is entered.
    #[serde(deserialize_with = "nullable")]
    pub create_container: Vec<Hook>,
    /// Run in the container, before the program.
    #[serde(deserialize_with = "nullable")]
    pub start_container: Vec<Hook>,
    /// Run in the runtime's namespaces, after the program was started.
    #[serde(deserialize_with = "nullable")]
    pub poststart: Vec<Hook>,
    /// Run in the runtime's namespaces, after the container was deleted.
    #[serde(deserialize_with = "nullable")]
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path of the program.
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    /// The arguments, the first being the name, as in execv(3).
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
