//! Mounts by descriptor: open_tree(2), mount_setattr(2), fsopen(2), move_mount(2), pivot_root(2).

use super::{SysResult, owned, unit};
use crate::error::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};

/// Attributes for [`mount_setattr`] to set and clear: `MOUNT_ATTR_*`, propagation `MS_*`, and the user namespace of an
/// id-mapped mount (mount_setattr(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

/// A detached copy of the mount at `path` (`dir` itself when it is empty), with those below it when
/// `recursive`: open_tree(2) with OPEN_TREE_CLONE, Linux 5.2.
pub fn clone_tree(dir: RawFd, path: &CStr, recursive: bool, nofollow: bool) -> SysResult<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    if nofollow {
        flags |= libc::AT_SYMLINK_NOFOLLOW as u32;
    }
    // SAFETY: path is a C string.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// open_tree_attr(2), which the C library does not name yet. It has this number on every architecture that is supported.
pub(super) const OPEN_TREE_ATTR: libc::c_long = 467;

/// The kernel has no open_tree_attr(2), or a sandbox around orun does not know it.
static TWO_CALLS: AtomicBool = AtomicBool::new(false);

/// As [`clone_tree`] and [`mount_setattr`] of the copy: one call since Linux 6.15, open_tree_attr(2).
pub fn clone_tree_with(dir: RawFd, path: &CStr, recursive: bool, attr: &MountAttr) -> SysResult<OwnedFd> {
    if !TWO_CALLS.load(Ordering::Relaxed) {
        let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        if path.is_empty() {
            flags |= libc::AT_EMPTY_PATH as u32;
        }
        if recursive {
            flags |= libc::AT_RECURSIVE as u32;
        }
        // SAFETY: path is a C string, attr is valid for its size.
        let tree = owned(unsafe {
            libc::syscall(
                OPEN_TREE_ATTR,
                dir,
                path.as_ptr(),
                flags,
                std::ptr::from_ref(attr),
                size_of::<MountAttr>(),
            )
        });
        if let Ok(tree) = tree {
            return Ok(tree);
        }
        // Whatever is wrong, the two calls have the errors that callers know.
        if matches!(tree, Err(Errno(libc::ENOSYS | libc::EPERM | libc::EINVAL))) {
            TWO_CALLS.store(true, Ordering::Relaxed);
        }
    }
    let tree = clone_tree(dir, path, recursive, false)?;
    mount_setattr(tree.as_raw_fd(), recursive, attr)?;
    Ok(tree)
}

/// Changes the mount that `fd` stands for, with those below it when `recursive`: mount_setattr(2), Linux 5.12.
pub fn mount_setattr(fd: RawFd, recursive: bool, attr: &MountAttr) -> SysResult<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the empty string is a C string, attr is valid for its size.
    unit(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
}

/// Starts the configuration of a new file system: fsopen(2), Linux 5.2.
pub fn fsopen(kind: &CStr) -> SysResult<OwnedFd> {
    // SAFETY: kind is a C string.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })
}

/// Sets a parameter of the file system, a flag when there is no value: fsconfig(2).
pub fn fsconfig_set(fs: RawFd, key: &CStr, value: Option<&CStr>) -> SysResult<()> {
    let (cmd, value) = match value {
        Some(v) => (libc::FSCONFIG_SET_STRING, v.as_ptr()),
        None => (libc::FSCONFIG_SET_FLAG, null()),
    };
    // SAFETY: key is a C string, value is one or null.
    unit(unsafe { libc::syscall(libc::SYS_fsconfig, fs, cmd, key.as_ptr(), value, 0) })
}

/// Gives the file system the descriptor `value` as a parameter: fsconfig(2), FSCONFIG_SET_FD.
pub fn fsconfig_set_fd(fs: RawFd, key: &CStr, value: RawFd) -> SysResult<()> {
    let none = null::<libc::c_char>();
    // SAFETY: key is a C string, and this command takes no other pointer.
    unit(unsafe { libc::syscall(libc::SYS_fsconfig, fs, libc::FSCONFIG_SET_FD, key.as_ptr(), none, value) })
}

/// Makes the superblock: fsconfig(2), FSCONFIG_CMD_CREATE.
pub fn fsconfig_create(fs: RawFd) -> SysResult<()> {
    let none = null::<libc::c_char>();
    // SAFETY: this command takes no pointers.
    unit(unsafe { libc::syscall(libc::SYS_fsconfig, fs, libc::FSCONFIG_CMD_CREATE, none, none, 0) })
}

/// The configuration of the file system that `dir`, the top of a mount, lies on: fspick(2), Linux 5.2.
pub fn fspick(dir: RawFd) -> SysResult<OwnedFd> {
    let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH;
    // SAFETY: the path is a C string.
    owned(unsafe { libc::syscall(libc::SYS_fspick, dir, c"".as_ptr(), flags) })
}

/// Changes the file system to what has been set: fsconfig(2), FSCONFIG_CMD_RECONFIGURE.
pub fn fsconfig_reconfigure(fs: RawFd) -> SysResult<()> {
    let none = null::<libc::c_char>();
    // SAFETY: this command takes no pointers.
    unit(unsafe { libc::syscall(libc::SYS_fsconfig, fs, libc::FSCONFIG_CMD_RECONFIGURE, none, none, 0) })
}

/// A detached mount of the configured file system with `attributes` (`MOUNT_ATTR_*`): fsmount(2), Linux 5.2.
pub fn fsmount(fs: RawFd, attributes: u32) -> SysResult<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fs, libc::FSMOUNT_CLOEXEC, attributes) })
}

/// Attaches the mount `from` at `name` in the directory `to`, or at `to` itself when the name is empty. A symlink
/// is not followed: move_mount(2), Linux 5.2.
pub fn move_mount(from: RawFd, to: RawFd, name: &CStr) -> SysResult<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both are C strings.
    unit(unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, name.as_ptr(), flags) })
}

/// Mounts a new file system on `target`: mount(2).
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> SysResult<()> {
    // SAFETY: all are C strings.
    unit(
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) }
            .into(),
    )
}

/// Changes the propagation (`MS_PRIVATE`, `MS_REC`, ...) of the mount at `path`: mount(2).
pub fn set_propagation(path: &CStr, flags: u64) -> SysResult<()> {
    // SAFETY: path is a C string, the rest is null.
    unit(unsafe { libc::mount(null(), path.as_ptr(), null(), flags, null()) }.into())
}

/// Moves the mount at the current directory onto `/`: mount(2) with MS_MOVE.
pub fn move_to_root() -> SysResult<()> {
    // SAFETY: all are C strings or null.
    unit(unsafe { libc::mount(c".".as_ptr(), c"/".as_ptr(), null(), libc::MS_MOVE, null()) }.into())
}

/// pivot_root(2) of the current directory onto itself: the old root then lies on top of the new one.
pub fn pivot_root_here() -> SysResult<()> {
    // SAFETY: both are C strings.
    unit(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
}

/// Detaches the mount at `path`: umount2(2) with MNT_DETACH.
pub fn detach(path: &CStr) -> SysResult<()> {
    // SAFETY: path is a C string.
    unit(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }.into())
}

/// The kernel's message on the configuration context `fs` about a failure, as bytes: the number read into
/// `buf` (fsopen(2), "message retrieval").
pub fn fs_message(fs: RawFd, buf: &mut [u8]) -> usize {
    // SAFETY: buf is valid for its length.
    let n = unsafe { libc::read(fs, buf.as_mut_ptr().cast(), buf.len()) };
    if n > 0 { n as usize } else { 0 }
}
