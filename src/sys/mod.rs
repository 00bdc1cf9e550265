//! The only `unsafe` code: one file per kernel area, one function per system call, typed in, [`Errno`] out.
//!
//! Functions take raw descriptors (`AT_FDCWD` is one) and return owned ones. None of them allocates, locks or
//! unwinds, so each may be called between `clone3` and `execve`.
//!
//! [`Errno`]: crate::error::Errno
#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod clone;
pub(crate) mod copy;
pub(crate) mod cred;
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
pub mod early;
pub mod entry;
pub(crate) mod exec;
pub(crate) mod fd;
pub mod file;
pub mod heap;
pub(crate) mod landlock;
pub(crate) mod limits;
pub(crate) mod map;
pub(crate) mod memfd;
pub(crate) mod mount;
pub(crate) mod netif;
pub mod netlink;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod prctl;
pub(crate) mod process;
pub(crate) mod sched;
pub(crate) mod signalfd;
pub(crate) mod socket;
pub(crate) mod splice;
pub(crate) mod time;
pub(crate) mod timestamp;
pub(crate) mod tree;
pub(crate) mod tty;
pub(crate) mod wait;
pub(crate) mod watched;

use crate::error::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// The current directory as a directory descriptor (openat(2)).
pub const CWD: i32 = libc::AT_FDCWD;

/// A result of a system call.
pub type SysResult<T> = Result<T, Errno>;

/// Turns a system call's return value into a result.
pub(crate) fn check(ret: libc::c_long) -> SysResult<libc::c_long> {
    if ret == -1 { Err(Errno::last()) } else { Ok(ret) }
}

/// Turns a return value without information into a result.
pub(crate) fn unit(ret: libc::c_long) -> SysResult<()> {
    check(ret).map(drop)
}

/// Takes ownership of the descriptor that a system call returned.
pub(crate) fn owned(ret: libc::c_long) -> SysResult<OwnedFd> {
    let fd = check(ret)? as i32;
    // SAFETY: the kernel just returned `fd` to this process, and nobody else knows it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
