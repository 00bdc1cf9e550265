//! Where a supervisor has its files and cgroups, and its limits.

use super::logs::Limits;
use crate::network::NetworkSettings;
use crate::runtime::Runtime;
use crate::state::model::CgroupManager;
use crate::state::store::Store;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where things are, and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For the desired state.
    pub data: PathBuf,
    /// For what is; should be on tmpfs.
    pub run: PathBuf,
    pub logs: PathBuf,
    /// The absolute path below which containers have their cgroups. Empty: they have none.
    pub cgroup_parent: String,
    pub limits: Limits,
    /// Network of pods.
    pub network: NetworkSettings,
    /// Time to keep unused images that no user has named.
    pub image_age: Duration,
    /// Where seccomp profiles of the host are.
    pub seccomp: PathBuf,
}

impl Settings {
    /// The runtime whose containers these are.
    pub fn runtime(&self) -> Runtime {
        runtime(containers(&self.run), &self.cgroup_parent)
    }
}

/// Where the records of containers are, in the directory for runtime state.
pub fn containers(run: &Path) -> PathBuf {
    run.join("containers")
}

/// A runtime with its records in `root`, for containers with cgroups below `cgroup_parent`.
pub fn runtime(root: PathBuf, cgroup_parent: &str) -> Runtime {
    Runtime {
        store: Store::new(root),
        root_given: true,
        cgroup_manager: match cgroup_parent {
            "" => CgroupManager::Disabled,
            _ => CgroupManager::Cgroupfs,
        },
        listen_fds: 0,
        notify_socket: None,
        rootless: None,
    }
}
