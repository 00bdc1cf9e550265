//! Files in memory: memfd_create(2), fcntl(2) with F_ADD_SEALS.

use super::{SysResult, owned, unit};
use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};

/// An empty close-on-exec file called `name` that may be executed and sealed.
pub fn create(name: &CStr) -> SysResult<OwnedFd> {
    /// Linux 6.3; older kernels have every memfd executable and refuse the flag.
    const MFD_EXEC: u32 = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: name is a C string.
    let open = |flags: u32| owned(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) });
    open(flags | MFD_EXEC).or_else(|_| open(flags))
}

/// Forbids every change of `fd` for good.
pub fn seal(fd: RawFd) -> SysResult<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: no memory is passed.
    unit(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) }.into())
}
