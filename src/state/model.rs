//! The record of a container: what later commands need to know of it.
//!
//! It is written before the kernel is asked for anything, so that whatever a killed runtime leaves behind can be
//! found and removed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::lifecycle::Phase;
use crate::config::resources::Resources;
use crate::config::spec::Hook;
use crate::error::{Error, Result};
use crate::sys::process;

/// The version of [`Record`]; it grows when an older orun could not read a newer record rightly.
pub const VERSION: u32 = 1;

/// A container, as its runtime knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// The ID of the container.
    pub id: String,
    /// How far its life has come, as far as that was recorded.
    pub phase: Phase,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute.
    pub rootfs: PathBuf,
    /// RFC 3339, UTC, with nanoseconds.
    pub created: String,
    /// The user that made the container.
    pub owner: u32,
    /// The runtime process that makes the container.
    pub creator: ProcessId,
    /// The container's first process, once there is one.
    pub init: Option<ProcessId>,
    /// The first process is pid 1 of a new pid namespace, so that the others die with it.
    pub own_pid_namespace: bool,
    /// Where its cgroups are.
    pub cgroup: Cgroup,
    /// The limits after an update; `None` while those of config.json hold.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// Its directories below resctrl.
    pub intel_rdt: Option<IntelRdt>,
    /// `process.terminal` of config.json, or what the command line put in its place.
    pub terminal: bool,
    /// Made by a user other than root.
    pub rootless: bool,
    /// Restored from a checkpoint: CRIU may have put it into a time namespace that config.json does not list.
    #[serde(default)]
    pub restored: bool,
    /// Those of config.json.
    pub annotations: BTreeMap<String, String>,
    /// The parts of config.json that `start` needs, so that it need not read the file; `None` for a container of an older orun.
    #[serde(default)]
    pub start: Option<StartNotes>,
    /// `hooks.poststart` and `hooks.poststop` of config.json.
    pub poststart: Vec<Hook>,
    /// Hooks that `delete` runs.
    pub poststop: Vec<Hook>,
}

/// The program that `start` waits for, and its name in errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartNotes {
    /// The program, for errors: `process.args[0]` of config.json.
    pub program: String,
    /// How long all of `hooks.startContainer` may take together, in milliseconds.
    pub hooks_ms: u64,
}

/// A process, named for good: pids come round again, start times do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// As the runtime's pid namespace counts.
    pub pid: i32,
    /// Clock ticks from boot (proc_pid_stat(5)).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that now has this pid; `None` when there is none.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn read_process(pid: i32) -> Result<Option<ProcessId>> {
        let stat = process::stat(pid).map_err(|e| Error::sys(format!("reading \"/proc/{pid}/stat\""), e))?;
        Ok(stat.map(|s| ProcessId { pid, start_time: s.start_time }))
    }

    /// Whether the process exists and has not exited.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn is_alive(self) -> Result<bool> {
        let pid = self.pid;
        let stat = process::stat(pid).map_err(|e| Error::sys(format!("reading \"/proc/{pid}/stat\""), e))?;
        Ok(stat.is_some_and(|s| s.start_time == self.start_time && !s.has_ended()))
    }
}

/// Creator of the container's cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// orun itself, in the cgroup file system.
    #[default]
    Cgroupfs,
    /// systemd(1).
    Systemd,
    /// Nobody: the container stays in its creator's.
    Disabled,
}

/// The container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cgroup {
    /// Creator of the cgroups.
    pub manager: CgroupManager,
    /// One directory for each hierarchy that the container has a cgroup in.
    pub hierarchies: Vec<Hierarchy>,
    /// systemd's unit.
    pub unit: Option<String>,
}

/// The container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The controllers of a version 1 hierarchy, or `name=...`; empty for version 2.
    pub controllers: Vec<String>,
    /// Absolute.
    pub dir: PathBuf,
}

/// Directories of the container in /sys/fs/resctrl (config-linux.md, "Intel RDT").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt {
    /// The directory of its class.
    pub class: PathBuf,
    /// The directory of its monitoring group.
    pub monitor: Option<PathBuf>,
    /// Those of them that were made for this container and go with it, in order.
    pub remove: Vec<PathBuf>,
}
