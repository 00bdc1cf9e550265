//! The root file system: made a mount, filled, and entered.

use super::places::Places;
use super::{Done, Made, places};
use crate::error::Errno;
use crate::kernel::inroot::Make;
use crate::plan::op::{DeviceOp, Op};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, SysResult, file, path};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

const READ_ONLY: MountAttr =
    MountAttr { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
/// A tmpfs that holds nothing, and never will.
const EMPTY_FLAGS: u64 = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
const EMPTY_DATA: &CStr = c"size=0,nr_inodes=1,mode=755";
/// The device number of /dev/null.
const NULL_DEVICE: u64 = libc::makedev(1, 3);

pub(super) fn step(op: &Op, base: RawFd, made: &mut Made) -> Done {
    match op {
        Op::Propagation { flags } => mount::set_propagation(c"/", *flags)?,
        Op::PrivateParent { mountpoint } => mount::set_propagation(mountpoint, libc::MS_PRIVATE)?,
        Op::OpenRoot { path, private } => made.places = Some(Places::new(open_root(path, *private)?, base)),
        Op::Directory { path } => places(made)?.target(path, Make::Directory).map(|_| ())?,
        Op::Symlink { target, path, replace } => symlink(places(made)?, target, path, *replace)?,
        Op::Device(d) => device(places(made)?, d)?,
        Op::Mask { path } => mask(places(made)?, path)?,
        Op::Readonly { path } => readonly(places(made)?, path)?,
        Op::ReadonlyRoot => mount::mount_setattr(places(made)?.root(), false, &READ_ONLY)?,
        Op::PivotRoot { shared } => {
            pivot(places(made)?.root(), *shared)?;
            made.in_root = true;
        }
        Op::CoverMount { path } => cover_mount(path)?,
        Op::MoveRoot => {
            file::fchdir(places(made)?.root())?;
            mount::move_to_root()?;
            file::chroot(c".")?;
            file::chdir(c"/")?;
        }
        Op::Chroot { path } => {
            file::chroot(path)?;
            file::chdir(c"/")?;
        }
        Op::RootPropagation { flags } => mount::set_propagation(c"/", *flags)?,
        _ => return Err(Errno(libc::ENOSYS).into()),
    }
    Ok(())
}

/// Binds the root onto itself: pivot_root(2) wants a mount.
fn open_root(path: &CStr, private: bool) -> SysResult<OwnedFd> {
    let tree = mount::clone_tree(sys::CWD, path, true, true)?;
    if private {
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount::mount_setattr(tree.as_raw_fd(), false, &private)?;
    }
    mount::move_mount(tree.as_raw_fd(), sys::CWD, path)?;
    Ok(tree)
}

/// Swaps the root without a directory for the old one: it ends up on top of the new root, whence it is detached.
fn pivot(root: RawFd, shared: bool) -> SysResult<()> {
    let old =
        if shared { Some(path::openat(sys::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?) } else { None };
    file::fchdir(root)?;
    mount::pivot_root_here()?;
    if let Some(old) = old {
        let slave = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
        mount::mount_setattr(old.as_raw_fd(), true, &slave)?;
    }
    mount::detach(c".")?;
    file::chdir(c"/")
}

fn symlink(places: &mut Places, target: &CStr, path: &CStr, replace: bool) -> SysResult<()> {
    let (dir, name) = places.parent_of(path)?;
    match file::symlinkat(target, dir, name) {
        Err(Errno(libc::EEXIST)) if replace => {
            let mut buf = [0u8; 64];
            if let Ok(n) = file::readlinkat(dir, name, &mut buf)
                && buf[..n] == *target.to_bytes()
            {
                return Ok(());
            }
            file::unlinkat(dir, name, 0)?;
            file::symlinkat(target, dir, name)
        }
        Err(Errno(libc::EEXIST)) => Ok(()),
        r => r,
    }
}

fn device(places: &mut Places, d: &DeviceOp) -> SysResult<()> {
    if let Some(host) = &d.bind {
        return bind_device(places, d, host);
    }
    let (dir, name) = places.parent_of(&d.path)?;
    match file::mknodat(dir, name, d.mode, d.rdev) {
        Err(Errno(libc::EEXIST)) => {
            let st = file::fstatat(dir, name, libc::AT_SYMLINK_NOFOLLOW)?;
            let same =
                st.kind() == d.mode & libc::S_IFMT && (st.kind() == libc::S_IFIFO || st.rdev == d.rdev);
            return if same { Ok(()) } else { Err(Errno(libc::EEXIST)) };
        }
        Err(Errno(libc::EPERM)) if d.mode & libc::S_IFMT != libc::S_IFIFO => {
            // A sandbox around orun may forbid device nodes though it allows mounts.
            return bind_device(places, d, d.host_path()?.as_c()?);
        }
        r => r?,
    }
    if d.uid != 0 || d.gid != 0 {
        file::lchownat(dir, name, d.uid, d.gid)?;
    }
    Ok(())
}

/// A path of the host's /dev in a fixed buffer.
struct HostPath {
    buf: [u8; 512],
    len: usize,
}

impl HostPath {
    fn as_c(&self) -> SysResult<&CStr> {
        CStr::from_bytes_with_nul(&self.buf[..=self.len]).map_err(|_| Errno(libc::EINVAL))
    }
}

impl DeviceOp {
    /// The device's path on the host.
    fn host_path(&self) -> SysResult<HostPath> {
        let bytes = self.path.to_bytes();
        let mut p = HostPath { buf: [0; 512], len: bytes.len() + 1 };
        if p.len >= p.buf.len() {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        p.buf[0] = b'/';
        p.buf[1..p.len].copy_from_slice(bytes);
        Ok(p)
    }
}

fn bind_device(places: &mut Places, d: &DeviceOp, host: &CStr) -> SysResult<()> {
    let tree = mount::clone_tree(sys::CWD, host, false, false)?;
    let tree = places.pile(tree);
    let st = file::fstat(tree)?;
    if d.rdev != 0 && (st.kind() != d.mode & libc::S_IFMT || st.rdev != d.rdev) {
        return Err(Errno(libc::ENODEV));
    }
    places.target(&d.path, Make::File)?.attach(tree)
}

/// Covers a file with /dev/null or a directory with an empty tmpfs. A missing path needs no mask.
fn mask(places: &mut Places, path: &CStr) -> SysResult<()> {
    let target = match places.open(path) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        r => r?,
    };
    let null = match places.null {
        Some(fd) => fd,
        None => *places.null.insert(null_device()?.into_raw_fd()),
    };
    match cover(places, null, target) {
        // A file does not go on a directory.
        Err(Errno(libc::EINVAL | libc::ENOTDIR)) => {}
        r => return r,
    }
    match places.empty {
        Some(fd) => cover(places, fd, target),
        None => {
            places.opened(target).mount(c"tmpfs", c"tmpfs", EMPTY_FLAGS, EMPTY_DATA)?;
            // Further directories get a copy of this one.
            let mounted = places.open(path)?;
            places.empty = Some(mounted);
            Ok(())
        }
    }
}

/// Attaches a copy of the detached mount `what`.
fn cover(places: &mut Places, what: RawFd, target: RawFd) -> SysResult<()> {
    let copy = mount::clone_tree(what, c"", false, false)?;
    let copy = places.pile(copy);
    mount::move_mount(copy, target, c"")
}

/// Covers the host's mount at `path` with an empty tmpfs. It is private before: the host keeps its own.
fn cover_mount(path: &CStr) -> SysResult<()> {
    match mount::set_propagation(path, libc::MS_PRIVATE | libc::MS_REC) {
        // Another one hides it already, or a user namespace does.
        Err(Errno(libc::EINVAL | libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => Ok(()),
        Err(e) => Err(e),
        Ok(()) => mount::mount(c"tmpfs", path, c"tmpfs", EMPTY_FLAGS, EMPTY_DATA),
    }
}

/// The host's /dev/null, and nothing that only bears its name. Copies are taken of the attached mount: those of a
/// detached one need Linux 6.15.
fn null_device() -> SysResult<OwnedFd> {
    let null = path::openat(sys::CWD, c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW, 0)?;
    let st = file::fstat(null.as_raw_fd())?;
    if st.kind() == libc::S_IFCHR && st.rdev == NULL_DEVICE { Ok(null) } else { Err(Errno(libc::ENODEV)) }
}

fn readonly(places: &mut Places, path: &CStr) -> SysResult<()> {
    let target = match places.open(path) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        r => r?,
    };
    let tree = mount::clone_tree(target, c"", true, false)?;
    let tree = places.pile(tree);
    mount::mount_setattr(tree, true, &READ_ONLY)?;
    mount::move_mount(tree, target, c"")
}
