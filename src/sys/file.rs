//! Making and looking at files relative to a directory descriptor.

use super::{SysResult, check, unit};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// The result of [`fstat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Type and permissions (inode(7)).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device that a device node stands for.
    pub rdev: u64,
    /// The device of its file system.
    pub dev: u64,
    /// The number of its inode.
    pub ino: u64,
    /// Names that the file has.
    pub links: u64,
    /// Bytes.
    pub size: u64,
}

impl Stat {
    /// The type bits (`S_IFDIR` and so on).
    pub fn kind(self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether this is a directory.
    pub fn is_dir(self) -> bool {
        self.kind() == libc::S_IFDIR
    }
}

fn convert(st: &libc::stat) -> Stat {
    Stat {
        mode: st.st_mode,
        uid: st.st_uid,
        gid: st.st_gid,
        rdev: st.st_rdev,
        dev: st.st_dev,
        ino: st.st_ino,
        links: st.st_nlink as _,
        size: st.st_size as u64,
    }
}

/// The status of an open file: fstat(2).
pub fn fstat(fd: RawFd) -> SysResult<Stat> {
    // SAFETY: stat is plain data, for which all zeros is valid.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: st is valid for writing.
    unit(unsafe { libc::fstat(fd, &raw mut st) }.into())?;
    Ok(convert(&st))
}

/// The status of `path` below `dir`; `flags` as in fstatat(2).
pub fn fstatat(dir: RawFd, path: &CStr, flags: i32) -> SysResult<Stat> {
    // SAFETY: stat is plain data, for which all zeros is valid.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: path is a C string, st is valid for writing.
    unit(unsafe { libc::fstatat(dir, path.as_ptr(), &raw mut st, flags) }.into())?;
    Ok(convert(&st))
}

/// The number of the mount that an open file lies on: statx(2), `STATX_MNT_ID`, Linux 5.8.
pub fn mount_id(fd: RawFd) -> SysResult<u64> {
    // SAFETY: statx is plain data, for which all zeros is valid.
    let mut st: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the empty path is a C string, st is valid for writing.
    let r = unsafe { libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_MNT_ID, &raw mut st) };
    unit(r.into())?;
    Ok(st.stx_mnt_id)
}

/// Whether `path` below `dir` is where the root of a file system is mounted, whose inode has this number: statx(2),
/// `STATX_ATTR_MOUNT_ROOT`, Linux 5.8.
pub fn is_root_inode(dir: RawFd, path: &CStr, inode: u64) -> SysResult<bool> {
    // SAFETY: statx is plain data, for which all zeros is valid.
    let mut st: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: path is a C string, st is valid for writing.
    unit(unsafe { libc::statx(dir, path.as_ptr(), 0, libc::STATX_INO, &raw mut st) }.into())?;
    Ok(st.stx_ino == inode && st.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0)
}

/// The type of the file system that `fd` lies on (statfs(2), `PROC_SUPER_MAGIC` and so on).
pub fn filesystem_type(fd: RawFd) -> SysResult<i64> {
    // SAFETY: statfs is plain data, for which all zeros is valid.
    let mut st: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: st is valid for writing.
    unit(unsafe { libc::fstatfs(fd, &raw mut st) }.into())?;
    Ok(st.f_type as i64)
}

/// Whether the mount or file system that `path` lies on is read-only: statvfs(3), `ST_RDONLY`.
pub fn is_on_readonly_mount(path: &CStr) -> SysResult<bool> {
    // SAFETY: statvfs is plain data, for which all zeros is valid.
    let mut st: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: path is a C string, st is valid for writing.
    unit(unsafe { libc::statvfs(path.as_ptr(), &raw mut st) }.into())?;
    Ok(st.f_flag & libc::ST_RDONLY != 0)
}

/// The flags of the mount that a descriptor lies on: fstatvfs(3), `ST_*`.
pub fn mount_flags(fd: RawFd) -> SysResult<u64> {
    // SAFETY: statvfs is plain data, for which all zeros is valid.
    let mut st: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: st is valid for writing.
    unit(unsafe { libc::fstatvfs(fd, &raw mut st) }.into())?;
    Ok(st.f_flag)
}

/// mkdirat(2).
pub fn mkdirat(dir: RawFd, path: &CStr, mode: u32) -> SysResult<()> {
    // SAFETY: path is a C string.
    unit(unsafe { libc::mkdirat(dir, path.as_ptr(), mode) }.into())
}

/// mknodat(2); `mode` carries the type.
pub fn mknodat(dir: RawFd, path: &CStr, mode: u32, rdev: u64) -> SysResult<()> {
    // SAFETY: path is a C string.
    unit(unsafe { libc::mknodat(dir, path.as_ptr(), mode, rdev) }.into())
}

/// symlinkat(2).
pub fn symlinkat(target: &CStr, dir: RawFd, path: &CStr) -> SysResult<()> {
    // SAFETY: both are C strings.
    unit(unsafe { libc::symlinkat(target.as_ptr(), dir, path.as_ptr()) }.into())
}

/// unlinkat(2); `flags` may be `AT_REMOVEDIR`.
pub fn unlinkat(dir: RawFd, path: &CStr, flags: i32) -> SysResult<()> {
    // SAFETY: path is a C string.
    unit(unsafe { libc::unlinkat(dir, path.as_ptr(), flags) }.into())
}

/// Renames `from` to `to`, both below `dir`; what was at `to` is replaced: renameat(2).
pub fn renameat(dir: RawFd, from: &CStr, to: &CStr) -> SysResult<()> {
    // SAFETY: both are C strings.
    unit(unsafe { libc::renameat(dir, from.as_ptr(), dir, to.as_ptr()) }.into())
}

/// The text of a symlink, without a final NUL: readlinkat(2). A text that fills `buf` may be cut.
pub fn readlinkat(dir: RawFd, path: &CStr, buf: &mut [u8]) -> SysResult<usize> {
    // SAFETY: path is a C string, buf is valid for its length.
    check(unsafe { libc::readlinkat(dir, path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) } as _)
        .map(|n| n as usize)
}

/// Changes owner and group of `path` below `dir`, or of `dir` itself when it is empty, never following a symlink at its end; `u32::MAX` leaves one
/// as it is: fchownat(2).
pub fn lchownat(dir: RawFd, path: &CStr, uid: u32, gid: u32) -> SysResult<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: path is a C string.
    unit(unsafe { libc::fchownat(dir, path.as_ptr(), uid, gid, flags) }.into())
}

/// fchown(2); `u32::MAX` leaves one as it is.
pub fn fchown(fd: RawFd, uid: u32, gid: u32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::fchown(fd, uid, gid) }.into())
}

/// fchmod(2).
pub fn fchmod(fd: RawFd, mode: u32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::fchmod(fd, mode) }.into())
}

/// Tests permissions with the effective ids and capabilities: faccessat2(2), Linux 5.8. `mode` is of `R_OK`, `W_OK`,
/// `X_OK`.
pub fn access(dir: RawFd, path: &CStr, mode: i32) -> SysResult<()> {
    // SAFETY: path is a C string.
    unit(unsafe { libc::syscall(libc::SYS_faccessat2, dir, path.as_ptr(), mode, libc::AT_EACCESS) })
}

/// chdir(2).
pub fn chdir(path: &CStr) -> SysResult<()> {
    // SAFETY: path is a C string.
    unit(unsafe { libc::chdir(path.as_ptr()) }.into())
}

/// fchdir(2).
pub fn fchdir(fd: RawFd) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::fchdir(fd) }.into())
}

/// chroot(2).
pub fn chroot(path: &CStr) -> SysResult<()> {
    // SAFETY: path is a C string.
    unit(unsafe { libc::chroot(path.as_ptr()) }.into())
}

/// The current directory as the kernel reports it: length without the final NUL, or ENOENT when it is not
/// reachable. A directory outside the root starts with `(unreachable)`: getcwd(2).
pub fn getcwd(buf: &mut [u8]) -> SysResult<usize> {
    // SAFETY: buf is valid for its length.
    let n = check(unsafe { libc::syscall(libc::SYS_getcwd, buf.as_mut_ptr(), buf.len()) })?;
    Ok((n as usize).saturating_sub(1))
}

/// Sets the file mode creation mask: umask(2).
pub fn umask(mask: u32) -> u32 {
    // SAFETY: no memory is passed; this call cannot fail.
    unsafe { libc::umask(mask) }
}

/// flock(2); `operation` is `LOCK_EX` and so on.
pub fn flock(fd: RawFd, operation: i32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::flock(fd, operation) }.into())
}

/// The extended attribute of an open file: fgetxattr(2). Its length.
pub fn getxattr(fd: RawFd, name: &CStr, buf: &mut [u8]) -> SysResult<usize> {
    // SAFETY: name is a C string, buf is valid for its length.
    let n = unsafe { libc::fgetxattr(fd, name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    check(n as i64).map(|n| n as usize)
}

/// Sets an extended attribute of an open file: fsetxattr(2).
pub fn setxattr(fd: RawFd, name: &CStr, value: &[u8]) -> SysResult<()> {
    // SAFETY: name is a C string, value is valid for its length.
    unit(unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }.into())
}

/// Removes an extended attribute of an open file: fremovexattr(2).
pub fn removexattr(fd: RawFd, name: &CStr) -> SysResult<()> {
    // SAFETY: name is a C string.
    unit(unsafe { libc::fremovexattr(fd, name.as_ptr()) }.into())
}
