//! Opening paths: openat2(2), which keeps a lookup inside a directory.

use super::{SysResult, owned};
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{OwnedFd, RawFd};

/// Treat the directory as the root for absolute paths, `..` and symlinks (Linux 5.6).
pub const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT;
/// Refuse to leave the directory.
pub const BENEATH: u64 = libc::RESOLVE_BENEATH;
/// Refuse every symlink.
pub const NO_SYMLINKS: u64 = libc::RESOLVE_NO_SYMLINKS;
/// Refuse links such as /proc/self/fd/3.
pub const NO_MAGICLINKS: u64 = libc::RESOLVE_NO_MAGICLINKS;

/// Opens `path` below `dir` under the rules `resolve`: openat2(2), Linux 5.6. `O_CLOEXEC` is added.
///
/// The kernel answers EAGAIN when a rename elsewhere raced with `..`; the call is then repeated.
pub fn openat2(dir: RawFd, path: &CStr, flags: i32, resolve: u64) -> SysResult<OwnedFd> {
    create(dir, path, flags, 0, resolve)
}

/// As [`openat2`]; `mode` is for `O_CREAT`.
pub fn create(dir: RawFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> SysResult<OwnedFd> {
    // SAFETY: open_how is plain data, for which all zeros is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    // Without O_CREAT the kernel refuses any mode.
    how.mode = if flags & libc::O_CREAT == 0 { 0 } else { mode.into() };
    how.resolve = resolve;
    for _ in 0..128 {
        // SAFETY: path is a C string and how is valid for its size.
        let r = unsafe {
            libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &raw const how, size_of::<libc::open_how>())
        };
        match owned(r) {
            Err(e) if e.0 == libc::EAGAIN || e.0 == libc::EINTR => {}
            r => return r,
        }
    }
    Err(crate::error::Errno(libc::EAGAIN))
}

/// Opens `path` relative to `dir`: openat(2). `O_CLOEXEC` is added; `mode` is for `O_CREAT`.
pub fn openat(dir: RawFd, path: &CStr, flags: i32, mode: u32) -> SysResult<OwnedFd> {
    // SAFETY: path is a C string.
    owned(unsafe { libc::openat(dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode) }.into())
}

/// The path of the open descriptor `fd` in the host's procfs (proc_pid_fd(5)), with a NUL byte behind it.
pub fn of_descriptor(fd: RawFd) -> [u8; 32] {
    let mut path = [0u8; 32];
    // The buffer is longer than the largest number needs, and ends with zeros. Nothing is allocated.
    let _ = write!(&mut path[..], "/proc/self/fd/{fd}");
    path
}

/// Opens again, with other `flags`, the file that `fd` stands for.
pub fn reopen(fd: RawFd, flags: i32) -> SysResult<OwnedFd> {
    let path = of_descriptor(fd);
    // SAFETY: path ends with NUL bytes.
    owned(unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr().cast(), flags | libc::O_CLOEXEC) }.into())
}
