//! Making processes and namespaces: clone3(2), setns(2), unshare(2).

use super::{SysResult, check, owned, unit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `CLONE_INTO_CGROUP` does not fit the type that libc gives it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The result of [`clone3`], in the parent or in the child.
#[derive(Debug)]
pub enum Clone {
    /// In the child.
    Child,
    /// In the parent.
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Makes a child process with its own copy of the address space: clone3(2), Linux 5.3.
///
/// `flags` are `CLONE_NEW*` and `CLONE_PARENT`; `CLONE_PIDFD` is added. With `cgroup`, an open directory of a
/// cgroup2 tree, the child starts in it (`CLONE_INTO_CGROUP`, Linux 5.7).
///
/// The child is a fork of the calling thread alone. It must not allocate, lock or unwind until it calls
/// `execve` or exits, because other threads may have held locks at the moment of the call.
pub fn clone3(flags: u64, cgroup: Option<RawFd>) -> SysResult<Clone> {
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is plain data, for which all zeros is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    // With CLONE_PARENT the kernel takes the exit signal from the parent's and refuses another.
    args.exit_signal = if flags & libc::CLONE_PARENT as u64 != 0 { 0 } else { libc::SIGCHLD as u64 };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd as u64;
    }
    // SAFETY: args is valid for its size; without CLONE_VM the child runs on a copy of this stack.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Clone::Child);
    }
    // SAFETY: CLONE_PIDFD made the kernel store a new descriptor there.
    Ok(Clone::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Enters the namespaces `kinds` (`CLONE_NEW*`) of `fd`, a namespace file or a pidfd (Linux 5.8): setns(2).
pub fn setns(fd: RawFd, kinds: i32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::setns(fd, kinds) }.into())
}

/// Moves the caller into new namespaces: unshare(2).
pub fn unshare(kinds: i32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::unshare(kinds) }.into())
}

/// The kind (`CLONE_NEW*`) of the namespace file `fd`: ioctl_ns(2), NS_GET_NSTYPE, Linux 4.11.
pub fn namespace_kind(fd: RawFd) -> SysResult<i32> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(fd, NS_GET_NSTYPE as _) }.into()).map(|k| k as i32)
}

/// The user namespace that owns the namespace file `fd`: ioctl_ns(2), NS_GET_USERNS, Linux 4.9.
pub fn owning_user_namespace(fd: RawFd) -> SysResult<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: this request takes no argument.
    owned(unsafe { libc::ioctl(fd, NS_GET_USERNS as _) }.into())
}
