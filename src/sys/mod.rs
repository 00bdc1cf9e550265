//! The only `unsafe` code: one file per kernel area, one function per system call, typed in, [`Errno`] out.
//!
//! Functions take raw descriptors (`AT_FDCWD` is one) and return owned ones. None of them allocates, locks or
//! unwinds, so each may be called between `clone3` and `execve`.
//!
//! [`Errno`]: crate::error::Errno
#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod copy;
pub mod cred;
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
pub mod early;
pub mod entry;
pub mod exec;
pub mod fd;
pub mod file;
pub mod heap;
pub mod landlock;
pub mod limits;
pub mod map;
pub mod memfd;
pub mod mount;
pub mod netif;
pub mod netlink;
pub mod path;
pub mod peer;
pub mod prctl;
pub mod process;
pub mod sched;
pub mod signalfd;
pub mod socket;
pub mod splice;
pub mod time;
pub mod timestamp;
pub mod tree;
pub mod tty;
pub mod wait;
pub mod watched;

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
