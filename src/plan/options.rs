//! Options of a command that change the plan.

use super::cgroup;
use std::path::PathBuf;

/// Additions by the command line to the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// MS_MOVE and chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the program gets.
    pub preserve_fds: u32,
    /// Variables that are added (`LISTEN_FDS` and so on).
    pub extra_env: Vec<String>,
    /// Wait for `start` before the program runs.
    pub wait_for_start: bool,
    /// How control groups are managed.
    pub cgroup_manager: cgroup::Manager,
    /// Where the root's file system is mounted; needed for shared propagation only.
    pub rootfs_mountpoint: PathBuf,
    /// Entries of `mounts` that are given as descriptors of detached mounts, in this order.
    pub given: Vec<usize>,
    /// Where procfs and sysfs are mounted on the host; needed for `no_pivot` only.
    pub kernel_mountpoints: Vec<PathBuf>,
}
