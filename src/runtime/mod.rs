//! The verbs, one file each.

pub(crate) mod checkpoint;
pub(crate) mod container;
pub mod create;
pub mod delete;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod events;
pub mod exec;
pub mod features;
pub mod kill;
pub(crate) mod list;
pub(crate) mod pause;
pub mod plan;
pub(crate) mod process;
pub(crate) mod ps;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod spec;
pub mod start;
pub(crate) mod state;
pub(crate) mod update;
pub mod wait;

use std::ffi::OsString;

use crate::state::model::CgroupManager;
use crate::state::store::Store;

/// Inputs of every verb besides its own arguments.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The directory of the containers.
    pub store: Store,
    /// The caller named the directory of `store`: it should exist.
    pub root_given: bool,
    /// Creator of the cgroups of new containers.
    pub cgroup_manager: CgroupManager,
    /// Descriptors from 3 on that the service manager passed (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// The service manager's socket for new containers (sd_notify(3)).
    pub notify_socket: Option<OsString>,
    /// Whether to pass over what only root may do; `None`: find out.
    pub rootless: Option<bool>,
}

#[cfg(test)]
mod tests;
