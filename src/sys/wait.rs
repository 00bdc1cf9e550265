//! Process descriptors and exit statuses: pidfd_open(2), pidfd_send_signal(2), waitid(2).

use super::{SysResult, check, owned, unit};
use std::os::fd::{OwnedFd, RawFd};

/// The exit status of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this exit status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Exit {
    /// From a status as wait(2) encodes it.
    pub fn decode(status: i32) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }

    /// As wait(2) encodes it.
    pub fn encode(self) -> i32 {
        match self {
            Exit::Code(c) => (c & 0xff) << 8,
            Exit::Signal(s) => s,
        }
    }

    /// The status a shell would report: 128 + N for signal N.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(c) => c,
            Exit::Signal(s) => 128 + s,
        }
    }
}

/// A descriptor of process `pid`: pidfd_open(2), Linux 5.3.
pub fn pidfd_open(pid: i32) -> SysResult<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Sends `signal` to the process of `pidfd`: pidfd_send_signal(2), Linux 5.1.
pub fn pidfd_send_signal(pidfd: RawFd, signal: i32) -> SysResult<()> {
    // SAFETY: no siginfo is passed.
    unit(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, std::ptr::null::<libc::siginfo_t>(), 0)
    })
}

/// A copy of descriptor `fd` of the process of `pidfd`: pidfd_getfd(2), Linux 5.6.
pub fn pidfd_getfd(pidfd: RawFd, fd: RawFd) -> SysResult<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd, 0) })
}

/// Reaps the child of `pidfd`. `Ok(None)` when `block` is false and it still runs: waitid(2), P_PIDFD, Linux 5.4.
pub fn wait_pidfd(pidfd: RawFd, block: bool) -> SysResult<Option<Exit>> {
    wait(libc::P_PIDFD, pidfd as u32, block)
}

/// Reaps the child `pid`; as [`wait_pidfd`].
pub fn wait_pid(pid: i32, block: bool) -> SysResult<Option<Exit>> {
    wait(libc::P_PID, pid as u32, block)
}

fn wait(kind: u32, id: u32, block: bool) -> SysResult<Option<Exit>> {
    // SAFETY: siginfo_t is plain data, for which all zeros is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // __WALL: a child made with CLONE_PARENT by another may have no exit signal.
    let flags = libc::WEXITED | libc::__WALL | if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: info is valid for writing; no rusage is asked for.
        let r = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                kind,
                id,
                &raw mut info,
                flags,
                std::ptr::null_mut::<libc::rusage>(),
            )
        };
        match check(r) {
            Err(e) if e.0 == libc::EINTR => {}
            Err(e) => return Err(e),
            Ok(_) => break,
        }
    }
    // SAFETY: after a successful waitid these members are valid; si_pid is 0 when nothing was reaped.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(match (pid, info.si_code) {
        (0, _) => None,
        (_, libc::CLD_EXITED) => Some(Exit::Code(status)),
        _ => Some(Exit::Signal(status)),
    })
}

/// A child that has exited and is not reaped yet: its pid and its status as wait(2) encodes it. `Ok(None)` when there is
/// none: waitid(2), P_ALL, WNOWAIT.
pub fn next_ended() -> SysResult<Option<(i32, i32)>> {
    // SAFETY: siginfo_t is plain data, for which all zeros is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::__WALL | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: info is valid for writing; no rusage is asked for.
    let r = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_ALL,
            0,
            &raw mut info,
            flags,
            std::ptr::null_mut::<libc::rusage>(),
        )
    };
    match check(r) {
        Err(e) if e.0 == libc::ECHILD => return Ok(None),
        Err(e) => return Err(e),
        Ok(_) => {}
    }
    // SAFETY: after a successful waitid these members are valid; si_pid is 0 when there is none.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some((
        pid,
        match info.si_code {
            libc::CLD_EXITED => (status & 0xff) << 8,
            libc::CLD_DUMPED => status | 0x80,
            _ => status,
        },
    )))
}

/// `struct pidfd_info` as Linux 6.13 has it; later kernels fill in this much of a longer one.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    /// pid, tgid, ppid, and the eight ids of a process.
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xff, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl =
    (3 << 30 | (size_of::<PidfdInfo>() << 16) | 0xff << 8 | 11) as libc::Ioctl;

/// The exit status of the process of `pidfd`, for any holder that opened it while the process existed. `Ok(None)` until its parent has
/// reaped it: ioctl_pidfd(2), `PIDFD_INFO_EXIT`, Linux 6.15.
pub fn pidfd_exit(pidfd: RawFd) -> SysResult<Option<Exit>> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: info is valid for writing, and its size is part of the request's number.
    unit(unsafe { libc::ioctl(pidfd, PIDFD_GET_INFO, &raw mut info) }.into())?;
    if info.mask & PIDFD_INFO_EXIT == 0 {
        return Ok(None);
    }
    Ok(Some(Exit::decode(info.exit_code)))
}
