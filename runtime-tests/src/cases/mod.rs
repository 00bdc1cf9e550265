//! The cases, one file per area.

mod basics;
mod capabilities;
mod cgroup_rules;
mod cgroups;
mod cli;
mod devices;
mod exec;
mod fds;
mod hooks;
mod lifecycle;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
mod process;
mod rootfs;
mod seccomp;
mod terminal;
mod userns;
mod verbs;

use crate::matrix::Matrix;

/// Adds every case.
pub fn register(m: &mut Matrix) {
    for register in [
        basics::register,
        namespaces::register,
        userns::register,
        rootfs::register,
        masks::register,
        mounts::register,
        mount_options::register,
        devices::register,
        process::register,
        capabilities::register,
        terminal::register,
        fds::register,
        seccomp::register,
        cgroups::register,
        cgroup_rules::register,
        hooks::register,
        lifecycle::register,
        exec::register,
        verbs::register,
        cli::register,
    ] {
        register(m);
    }
}
