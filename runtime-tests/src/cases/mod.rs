//! The cases, one file per area.

mod basics;
mod capabilities;
mod devices;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
mod process;
mod rootfs;
mod userns;

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
    ] {
        register(m);
    }
}
