//! Credentials: ids, groups and capability sets, always of the calling thread (credentials(7)).

use super::{SysResult, unit};

/// The three thread capability sets that capset(2) takes; bit N is capability N.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two words a set.
const VERSION_3: u32 = 0x2008_0522;

/// Sets the capability sets: capset(2).
pub fn capset(sets: CapSets) -> SysResult<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let word = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: version 3 reads one header and two data words, which these are.
    unit(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

/// Reads the capability sets: capget(2).
pub fn capget() -> SysResult<CapSets> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes two data words.
    unit(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let join = |lo: u32, hi: u32| u64::from(lo) | u64::from(hi) << 32;
    Ok(CapSets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Sets real, effective and saved user id of this thread: setresuid(2).
pub fn setresuid(uid: u32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Sets real, effective and saved group id of this thread: setresgid(2).
pub fn setresgid(gid: u32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
}

/// Sets the supplementary groups of this thread: setgroups(2).
pub fn setgroups(groups: &[u32]) -> SysResult<()> {
    // SAFETY: groups is valid for its length.
    unit(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// An id that this program was started with (getauxval(3)): it costs no system call. orun itself never changes its
/// ids; only its children do, and they do not ask.
fn initial(which: u64) -> u32 {
    // SAFETY: cannot fail; the kernel always gives these entries.
    unsafe { libc::getauxval(which) as u32 }
}

/// Real user id.
pub fn getuid() -> u32 {
    initial(libc::AT_UID)
}

/// Effective user id.
pub fn geteuid() -> u32 {
    initial(libc::AT_EUID)
}

/// Effective group id.
pub fn getegid() -> u32 {
    initial(libc::AT_EGID)
}

/// Joins a new session keyring called `name`: keyctl(2), KEYCTL_JOIN_SESSION_KEYRING. Returns its serial.
pub fn join_session_keyring(name: &std::ffi::CStr) -> SysResult<i32> {
    // SAFETY: name is a C string.
    super::check(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING as libc::c_ulong, name.as_ptr())
    })
    .map(|n| n as i32)
}

/// Adds the permission bits `add` to the key `serial` and keeps the rest: keyctl(2), KEYCTL_SETPERM.
pub fn set_key_permissions(serial: i32, permissions: u32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM as libc::c_ulong, serial, permissions)
    })
}
