//! The few system calls that the standard library has not got.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The result of wait4(2) for a process that has exited.
#[derive(Clone, Copy)]
pub struct Ended {
    /// Exit status, or 128 and the signal.
    pub status: i32,
    /// User and system time of the process and of the descendants that it has waited for.
    pub cpu: Duration,
    /// Page faults of the same that needed no disk.
    pub faults: u64,
}

/// Waits for a child, or any with -1; `None` when there is none, or with WNOHANG none that has exited.
pub fn wait4(pid: i32, flags: i32) -> Option<Ended> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the types that wait4 fills.
    let pid = unsafe { libc::wait4(pid, &mut status, flags, &mut usage) };
    if pid <= 0 {
        return None;
    }
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    let status =
        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    Some(Ended { status, cpu: time(usage.ru_utime) + time(usage.ru_stime), faults: usage.ru_minflt as u64 })
}

/// `None` when there is no such process.
pub fn pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: the call takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Waits until the process of a pidfd has exited; false after `limit`.
pub fn ended_within(pidfd: &OwnedFd, limit: Duration) -> bool {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, and the count says one.
    unsafe { libc::poll(&mut poll, 1, limit.as_millis() as i32) > 0 }
}

pub fn kill(pid: i32) {
    // SAFETY: the call takes two numbers; the pid is of a child that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Orphans of the runtimes become children of this process, so that their CPU time can be had.
pub fn become_subreaper() {
    // SAFETY: the call takes numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// For the child between fork and exec.
pub fn trace_me() -> std::io::Result<()> {
    // SAFETY: PTRACE_TRACEME uses none of the pointers.
    match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// ptrace(2) requests whose fourth argument is a number. False when the process is gone.
pub fn ptrace(request: libc::c_uint, pid: i32, data: i32) -> bool {
    // SAFETY: these requests use their pointers as numbers, or not at all.
    unsafe { libc::ptrace(request, pid, 0, libc::c_long::from(data)) == 0 }
}

/// waitpid(2) for a tracer: the pid and the raw status of any child or tracee.
pub fn wait_any() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL) };
    (pid > 0).then_some((pid, status))
}

/// Where a stopped tracee is in its program.
#[cfg(target_arch = "x86_64")]
pub fn instruction_pointer(pid: i32) -> u64 {
    let register = std::mem::offset_of!(libc::user_regs_struct, rip);
    // SAFETY: the request reads a word of the tracee's registers, at an offset within them.
    unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, pid, register, 0) as u64 }
}

/// Only programs for x86-64 are stepped through.
#[cfg(not(target_arch = "x86_64"))]
pub fn instruction_pointer(_pid: i32) -> u64 {
    0
}
