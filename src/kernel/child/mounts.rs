//! Mounts: each is made detached, changed, and attached to a descriptor inside the root.

use super::root::root;
use super::{Done, Failure, Made, Slots, copy_up};
use crate::error::Errno;
use crate::kernel::inroot::{self, Make};
use crate::plan::op::{Filesystem, MountOp, MountSource};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, SysResult, file, path};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Which part of a mount failed; the number goes to the parent with the errno.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum Part {
    Source = 1,
    Option = 2,
    Create = 3,
    Attributes = 4,
    Target = 5,
    Attach = 6,
    CopyUp = 7,
}

fn at(part: Part) -> impl Fn(Errno) -> Failure {
    move |e| Failure::with(e, part as i32, &[])
}

pub(super) fn mount(m: &MountOp, slots: &Slots, made: &Made) -> Done {
    let root = root(made)?;
    let (tree, target) = match &m.source {
        MountSource::Filesystem(fs) => {
            let (target, existed) = filesystem_target(root, m, fs).map_err(at(Part::Target))?;
            (new_filesystem(fs, target.as_raw_fd(), existed)?, target)
        }
        source => {
            let tree = match source {
                MountSource::Bind { path, recursive, nofollow } => Tree::Own(
                    mount::clone_tree(sys::CWD, path, *recursive, *nofollow).map_err(at(Part::Source))?,
                ),
                MountSource::Prepared { slot } => Tree::Slot(slots.mounts[*slot].as_raw_fd()),
                MountSource::Filesystem(_) => return Err(Errno(libc::ENOSYS).into()),
            };
            let st = file::fstat(tree.raw()).map_err(at(Part::Source))?;
            if m.procfs_only && !is_procfs_root(tree.raw(), st).map_err(at(Part::Source))? {
                return Err(at(Part::Source)(Errno(libc::EPERM)));
            }
            let make = if st.is_dir() { Make::Directory } else { Make::File };
            let target = inroot::open_or_make(root, &m.target, make).map_err(at(Part::Target))?;
            (tree, target)
        }
    };
    for (attr, recursive) in &m.changes {
        mount::mount_setattr(tree.raw(), *recursive, attr).map_err(at(Part::Attributes))?;
    }
    mount::move_mount(tree.raw(), target.as_raw_fd())
        .map_err(|e| at(Part::Attach)(mismatch(e, tree.raw(), target.as_raw_fd())))
}

/// Anything else on /proc could answer for what the container's programs look up there (CVE-2019-16884).
fn is_procfs_root(fd: RawFd, st: file::Stat) -> SysResult<bool> {
    /// PROC_ROOT_INO of the kernel.
    const ROOT_INODE: u64 = 1;
    Ok(st.ino == ROOT_INODE && file::filesystem_type(fd)? == libc::PROC_SUPER_MAGIC)
}

/// move_mount(2) says EINVAL to a directory on a file; mount(2) said ENOTDIR, which is what callers look for.
fn mismatch(e: Errno, from: RawFd, to: RawFd) -> Errno {
    if e.0 != libc::EINVAL {
        return e;
    }
    match (file::fstat(from), file::fstat(to)) {
        (Ok(a), Ok(b)) if a.is_dir() != b.is_dir() => Errno(libc::ENOTDIR),
        _ => e,
    }
}

/// A detached mount, made here or by the parent.
enum Tree {
    Own(OwnedFd),
    Slot(RawFd),
}

impl Tree {
    fn raw(&self) -> RawFd {
        match self {
            Tree::Own(fd) => fd.as_raw_fd(),
            Tree::Slot(fd) => *fd,
        }
    }
}

/// The destination, made when it is missing, and whether it was there. procfs and sysfs only go where they are
/// asked for: a symlink there is an attack (CVE-2019-19921).
fn filesystem_target(root: RawFd, m: &MountOp, fs: &Filesystem) -> SysResult<(OwnedFd, bool)> {
    let found = if fs.plain_destination {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        path::openat2(root, &m.target, flags, path::IN_ROOT | path::NO_SYMLINKS | path::NO_MAGICLINKS)
    } else {
        inroot::open(root, &m.target)
    };
    match found {
        Err(Errno(libc::ENOENT)) => {
            inroot::open_or_make(root, &m.target, Make::Directory).map(|fd| (fd, false))
        }
        r => r.map(|fd| (fd, true)),
    }
}

fn new_filesystem(fs: &Filesystem, target: RawFd, existed: bool) -> Result<Tree, Failure> {
    let context = mount::fsopen(&fs.kind).map_err(at(Part::Create))?;
    let fd = context.as_raw_fd();
    for (key, value) in &fs.parameters {
        mount::fsconfig_set(fd, key, value.as_deref()).map_err(|e| with_message(fd, e, Part::Option))?;
    }
    if fs.inherit_mode && existed {
        let mode = file::fstat(target).map_err(at(Part::Target))?.mode & 0o7777;
        let mut buf = [0u8; 8];
        mount::fsconfig_set(fd, c"mode", Some(octal(mode, &mut buf)))
            .map_err(|e| with_message(fd, e, Part::Option))?;
    }
    mount::fsconfig_create(fd).map_err(|e| with_message(fd, e, Part::Create))?;
    let tree = mount::fsmount(fd, fs.attributes).map_err(|e| with_message(fd, e, Part::Create))?;
    if fs.copy_up && existed {
        copy_up::copy(target, tree.as_raw_fd()).map_err(at(Part::CopyUp))?;
    }
    Ok(Tree::Own(tree))
}

/// The kernel's own words about a refused option stand in the context.
fn with_message(fs: RawFd, errno: Errno, part: Part) -> Failure {
    let mut buf = [0u8; 256];
    let n = mount::fs_message(fs, &mut buf);
    Failure::with(errno, part as i32, &buf[..n])
}

/// `mode` in octal digits.
fn octal(mode: u32, buf: &mut [u8; 8]) -> &CStr {
    for (i, shift) in [9u32, 6, 3, 0].into_iter().enumerate() {
        buf[i] = b'0' + ((mode >> shift) & 7) as u8;
    }
    buf[4] = 0;
    CStr::from_bytes_until_nul(buf).unwrap_or(c"0755")
}

pub(super) fn remount(target: &CStr, changes: &[(MountAttr, bool)], made: &Made) -> Done {
    let fd = inroot::open(root(made)?, target).map_err(at(Part::Target))?;
    for (attr, recursive) in changes {
        mount::mount_setattr(fd.as_raw_fd(), *recursive, attr).map_err(at(Part::Attributes))?;
    }
    Ok(())
}
