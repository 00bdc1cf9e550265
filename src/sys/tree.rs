//! System calls for creating a tree of files besides those of [`super::file`]: links, times, holes, free space.

use super::{SysResult, unit};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// A further name `to` of `from`, which is not followed when it is a symlink: linkat(2).
pub fn linkat(from_dir: RawFd, from: &CStr, to_dir: RawFd, to: &CStr) -> SysResult<()> {
    // SAFETY: both paths are C strings.
    unit(unsafe { libc::linkat(from_dir, from.as_ptr(), to_dir, to.as_ptr(), 0) }.into())
}

/// fchmodat(2), which follows a symlink.
pub fn chmodat(dir: RawFd, path: &CStr, mode: u32) -> SysResult<()> {
    // SAFETY: path is a C string.
    unit(unsafe { libc::fchmodat(dir, path.as_ptr(), mode, 0) }.into())
}

fn times((seconds, nanos): (i64, u32)) -> [libc::timespec; 2] {
    let time = libc::timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    [time, time]
}

/// Sets both times of `path`, which is not followed when it is a symlink: utimensat(2).
pub fn set_times(dir: RawFd, path: &CStr, time: (i64, u32)) -> SysResult<()> {
    let times = times(time);
    // SAFETY: path is a C string, times are two.
    unit(unsafe { libc::utimensat(dir, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) }.into())
}

/// Sets both times of an open file: futimens(3).
pub fn set_times_of(fd: RawFd, time: (i64, u32)) -> SysResult<()> {
    let times = times(time);
    // SAFETY: times are two.
    unit(unsafe { libc::futimens(fd, times.as_ptr()) }.into())
}

/// Makes the file `size` bytes long, with a hole at its end: ftruncate(2).
pub fn truncate(fd: RawFd, size: u64) -> SysResult<()> {
    let Ok(size) = i64::try_from(size) else { return Err(crate::error::Errno(libc::EFBIG)) };
    // SAFETY: no memory is passed.
    unit(unsafe { libc::ftruncate(fd, size) }.into())
}

/// Goes to byte `offset` of an open file: lseek(2).
pub fn seek(fd: RawFd, offset: u64) -> SysResult<()> {
    let Ok(offset) = i64::try_from(offset) else { return Err(crate::error::Errno(libc::EFBIG)) };
    // SAFETY: no memory is passed.
    let at = unsafe { libc::lseek(fd, offset, libc::SEEK_SET) };
    if at < 0 { Err(crate::error::Errno::last()) } else { Ok(()) }
}

/// Writes everything of the file system that `fd` lies on to its disk: syncfs(2).
pub fn syncfs(fd: RawFd) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::syncfs(fd) }.into())
}

/// Bytes of the file system at `path`, all and those that root can use: statvfs(3).
pub fn space(path: &CStr) -> SysResult<(u64, u64)> {
    // SAFETY: statvfs is plain data, for which all zeros is valid.
    let mut vfs: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: path is a C string, vfs is valid for writing.
    unit(unsafe { libc::statvfs(path.as_ptr(), &raw mut vfs) }.into())?;
    Ok((vfs.f_blocks.saturating_mul(vfs.f_frsize), vfs.f_bfree.saturating_mul(vfs.f_frsize)))
}
