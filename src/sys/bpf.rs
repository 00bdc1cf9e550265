//! eBPF programs on control groups: bpf(2).

use super::{SysResult, check, owned, unit};
use crate::error::Errno;
use std::os::fd::{OwnedFd, RawFd};

/// One eBPF instruction: `struct bpf_insn` of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u8,
    /// Destination and source register, four bits each, in the order of the machine's bit fields.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// `union bpf_attr` for BPF_PROG_LOAD, up to the name.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
}

/// `union bpf_attr` for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    kind: u32,
    flags: u32,
    replace: RawFd,
}

/// `union bpf_attr` for BPF_PROG_QUERY.
#[repr(C)]
struct Query {
    target: RawFd,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    /// The kernel requires whole words of 8 bytes.
    pad: u32,
}

fn bpf<T>(command: i32, attr: &mut T) -> SysResult<libc::c_long> {
    // SAFETY: attr is valid for its size; the pointers in it are the callers'.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}

/// Loads a device filter: BPF_PROG_LOAD with BPF_PROG_TYPE_CGROUP_DEVICE, Linux 4.15. The descriptor is
/// close-on-exec. What the verifier has to say goes to `log`, as text that ends with a NUL.
pub fn load_device_filter(program: &[Instruction], log: &mut [u8]) -> SysResult<OwnedFd> {
    let mut attr = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kernel: 0,
        flags: 0,
        name: *b"orun_devices\0\0\0\0",
    };
    // The verifier gives up when a signal arrives.
    for _ in 0..32 {
        match bpf(PROG_LOAD, &mut attr) {
            Err(Errno(libc::EAGAIN)) => {}
            r => return owned(r?),
        }
    }
    Err(Errno(libc::EAGAIN))
}

/// Adds the device filter `program` to the version 2 cgroup `dir`, in the place of `replace` if there is one
/// (Linux 5.6): BPF_PROG_ATTACH with BPF_F_ALLOW_MULTI. All filters of a cgroup and its ancestors must allow.
pub fn attach_device_filter(dir: RawFd, program: RawFd, replace: Option<RawFd>) -> SysResult<()> {
    let flags = ALLOW_MULTI | if replace.is_some() { REPLACE } else { 0 };
    let mut attr = Attach { target: dir, program, kind: CGROUP_DEVICE, flags, replace: replace.unwrap_or(0) };
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// Takes the device filter `program` off the cgroup `dir`: BPF_PROG_DETACH.
pub fn detach_device_filter(dir: RawFd, program: RawFd) -> SysResult<()> {
    let mut attr = Attach { target: dir, program, kind: CGROUP_DEVICE, flags: 0, replace: 0 };
    bpf(PROG_DETACH, &mut attr).map(drop)
}

/// Fills `ids` with the device filters of the cgroup `dir`, without those of its ancestors, and returns how many
/// there are: BPF_PROG_QUERY, Linux 4.15. ENOSPC when `ids` is too short.
pub fn device_filters(dir: RawFd, ids: &mut [u32]) -> SysResult<usize> {
    let mut attr = Query {
        target: dir,
        kind: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        pad: 0,
    };
    bpf(PROG_QUERY, &mut attr)?;
    Ok(attr.count as usize)
}

/// A descriptor of the program with the number `id`: BPF_PROG_GET_FD_BY_ID, which needs CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> SysResult<OwnedFd> {
    let mut attr = [id, 0, 0];
    owned(bpf(PROG_GET_FD_BY_ID, &mut attr)?)
}

/// Raises the limit on locked memory, which kernels before 5.11 charge programs to, and returns the old one.
pub fn raise_memlock() -> SysResult<libc::rlimit> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: both are valid for the call.
    unit(unsafe { libc::prlimit(0, libc::RLIMIT_MEMLOCK, &raw const new, &raw mut old) }.into())?;
    Ok(old)
}

/// Sets the limit on locked memory back.
pub fn set_memlock(limit: &libc::rlimit) -> SysResult<()> {
    // SAFETY: limit is valid for the call, and no old limit is asked for.
    unit(unsafe { libc::prlimit(0, libc::RLIMIT_MEMLOCK, limit, std::ptr::null_mut()) }.into())
}
