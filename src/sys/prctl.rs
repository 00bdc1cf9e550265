//! Properties of the calling process: prctl(2), seccomp(2), sethostname(2), personality(2).

use super::{SysResult, check, unit};
use std::ffi::CStr;

fn prctl(option: i32, a: u64, b: u64, c: u64) -> SysResult<i64> {
    // SAFETY: every option used here takes numbers only.
    check(unsafe { libc::prctl(option, a, b, c, 0u64) }.into())
}

/// PR_SET_DUMPABLE: whether other processes may trace this one or look into its /proc files.
pub fn set_dumpable(on: bool) -> SysResult<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(on), 0, 0).map(drop)
}

/// PR_SET_KEEPCAPS: keep permitted capabilities over a change of user id.
pub fn set_keepcaps(on: bool) -> SysResult<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(on), 0, 0).map(drop)
}

/// PR_SET_NO_NEW_PRIVS.
pub fn set_no_new_privs() -> SysResult<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0).map(drop)
}

/// PR_CAPBSET_DROP: takes capability `cap` out of the bounding set.
pub fn drop_bounding(cap: u8) -> SysResult<()> {
    prctl(libc::PR_CAPBSET_DROP, cap.into(), 0, 0).map(drop)
}

/// Takes every capability that the kernel knows and `kept` lacks (bit n is capability n) out of the bounding set.
pub fn limit_bounding(kept: u64) -> SysResult<()> {
    (0..64)
        .take_while(|cap| is_capability(*cap))
        .filter(|cap| kept & 1 << cap == 0)
        .try_for_each(drop_bounding)
}

/// PR_CAPBSET_READ: whether the kernel knows capability `cap`.
pub fn is_capability(cap: u8) -> bool {
    prctl(libc::PR_CAPBSET_READ, cap.into(), 0, 0).is_ok()
}

/// PR_CAP_AMBIENT_RAISE.
pub fn raise_ambient(cap: u8) -> SysResult<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, cap.into(), 0).map(drop)
}

/// PR_SET_PDEATHSIG: the signal that this process gets when its parent ends; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> SysResult<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0, 0).map(drop)
}

/// Names the calling thread, and with the first one the process, for ps(1) and top(1): at most 15 bytes.
pub fn set_name(name: &CStr) -> SysResult<()> {
    prctl(libc::PR_SET_NAME, name.as_ptr() as u64, 0, 0).map(drop)
}

/// PR_SET_CHILD_SUBREAPER: whether orphans below this process become its children.
pub fn set_child_subreaper(on: bool) -> SysResult<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, u64::from(on), 0, 0).map(drop)
}

/// One instruction of a classic BPF program (bpf(4); `struct sock_filter`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SockFilter {
    /// `BPF_*`.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

#[repr(C)]
struct SockFprog {
    len: u16,
    filter: *const SockFilter,
}

/// Loads a filter: seccomp(2), SECCOMP_SET_MODE_FILTER. With `SECCOMP_FILTER_FLAG_NEW_LISTENER` in `flags` the
/// result is the listener's descriptor, else 0.
pub fn seccomp_load(filter: &[SockFilter], flags: u32) -> SysResult<i32> {
    let Ok(len) = u16::try_from(filter.len()) else { return Err(crate::error::Errno(libc::EINVAL)) };
    let prog = SockFprog { len, filter: filter.as_ptr() };
    // SAFETY: prog points to `len` instructions, which live through the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) })
        .map(|n| n as i32)
}

/// Whether the kernel knows the filter flag `flag`: with a filter at address 0 it answers EFAULT if so.
pub fn seccomp_knows(flag: u32) -> bool {
    let none = std::ptr::null::<SockFprog>();
    // SAFETY: the kernel refuses the null pointer.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flag, none) };
    check(r).is_err_and(|e| e.0 == libc::EFAULT)
}

/// PR_GET_SECCOMP: whether this process runs under a filter; also true when that filter forbids to ask.
pub fn has_seccomp_filter() -> bool {
    prctl(libc::PR_GET_SECCOMP, 0, 0, 0) != Ok(0)
}

/// PR_GET_SECUREBITS (capabilities(7)); `SECBIT_*`.
pub fn securebits() -> SysResult<u32> {
    prctl(libc::PR_GET_SECUREBITS, 0, 0, 0).map(|bits| bits as u32)
}

/// PR_SET_SECUREBITS.
pub fn set_securebits(bits: u32) -> SysResult<()> {
    prctl(libc::PR_SET_SECUREBITS, bits.into(), 0, 0).map(drop)
}

/// sethostname(2).
pub fn sethostname(name: &[u8]) -> SysResult<()> {
    // SAFETY: name is valid for its length.
    unit(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())
}

/// setdomainname(2).
pub fn setdomainname(name: &[u8]) -> SysResult<()> {
    // SAFETY: name is valid for its length.
    unit(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into())
}

/// personality(2).
pub fn personality(domain: u32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::personality(domain.into()) }.into())
}

/// Makes the caller leader of a new session: setsid(2).
pub fn setsid() -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::setsid() }.into())
}

/// The caller's process id in its own pid namespace.
pub fn getpid() -> i32 {
    // SAFETY: cannot fail.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}
