//! The cases, one file per area.

mod bad_config;
mod basics;
mod belongings;
mod broken_start;
mod caller_paths;
mod caller_table;
mod callers;
mod capabilities;
mod cgroup_rules;
mod cgroups;
mod checkpoint;
mod cli;
mod concurrency;
mod contract;
mod devices;
mod exec;
mod faults;
mod fds;
mod hooks;
mod hostile_words;
mod killed;
mod layers;
mod lifecycle;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
mod orun_only;
mod process;
mod races;
mod readers;
mod restores;
mod rootfs;
mod rootless;
mod samples;
mod sd_notify;
mod seccomp;
mod security;
mod stacked;
mod systemd;
mod terminal;
mod tuning;
mod updates;
mod userns;
mod verbs;
mod visibility;

use crate::matrix::Matrix;

/// Adds every case.
pub fn register(m: &mut Matrix) {
    for register in [
        basics::register,
        namespaces::register,
        userns::register,
        rootless::register,
        rootfs::register,
        layers::register,
        masks::register,
        mounts::register,
        mount_options::register,
        devices::register,
        process::register,
        capabilities::register,
        terminal::register,
        stacked::register,
        fds::register,
        callers::register,
        caller_paths::register,
        seccomp::register,
        cgroups::register,
        cgroup_rules::register,
        systemd::register,
        hooks::register,
        lifecycle::register,
        broken_start::register,
        exec::register,
        verbs::register,
        updates::register,
        sd_notify::register,
        checkpoint::register,
        readers::register,
        restores::register,
        cli::register,
        contract::register,
        tuning::register,
        security::register,
        belongings::register,
        races::register,
        hostile_words::register,
        visibility::register,
        bad_config::register,
        concurrency::register,
        orun_only::register,
        faults::register,
        killed::register,
    ] {
        register(m);
    }
}
