//! Scheduling, I/O priority, CPU affinity, memory policy and resource limits.

use super::{SysResult, unit};

/// sched_setattr(2)'s structure, as of Linux 3.14.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// Sets the scheduling policy of the caller: sched_setattr(2).
pub fn sched_setattr(attr: &SchedAttr) -> SysResult<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: attr carries its own size.
    unit(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
}

/// Sets the I/O priority of the caller's process group; `value` as in ioprio_set(2).
pub fn ioprio_set(value: i32) -> SysResult<()> {
    const IOPRIO_WHO_PGRP: i32 = 2;
    // SAFETY: no memory is passed.
    unit(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PGRP, 0, value) })
}

/// Sets the CPUs of process `pid` (0 is the caller); bit N of the mask's words is CPU N: sched_setaffinity(2).
pub fn sched_setaffinity(pid: i32, mask: &[u64]) -> SysResult<()> {
    // SAFETY: mask is valid for its length.
    unit(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of_val(mask), mask.as_ptr()) })
}

/// Sets the NUMA policy of the caller; bit N of the mask's words is node N: set_mempolicy(2).
pub fn set_mempolicy(mode: i32, nodes: &[u64]) -> SysResult<()> {
    // The kernel reads one bit less than the length it is given.
    let bits = size_of_val(nodes) as u64 * 8 + 1;
    let first = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: nodes is valid for its length; without any the pointer is null.
    unit(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, first, bits) })
}

/// The caller's soft and hard limit of `resource`: getrlimit(2).
pub fn limit(resource: u32) -> SysResult<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null::<libc::rlimit64>();
    // SAFETY: limit is valid for writing.
    unit(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Raises the caller's soft limit of `resource` to the hard one; what both were before: getrlimit(2), setrlimit(2).
pub fn raise_limit(resource: u32) -> SysResult<(u64, u64)> {
    let (soft, hard) = limit(resource)?;
    prlimit(0, resource, hard, hard)?;
    Ok((soft, hard))
}

/// Sets a resource limit of process `pid` (0 is the caller): prlimit(2).
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> SysResult<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: limit is valid; no old limit is asked for.
    unit(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })
}
