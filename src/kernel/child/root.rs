//! The root file system: made a mount, filled, and entered.

use super::{Done, Made, need};
use crate::error::Errno;
use crate::kernel::inroot::{self, Make};
use crate::plan::op::{DeviceOp, Op};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, SysResult, file, path};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const READ_ONLY: MountAttr =
    MountAttr { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
/// The device number of /dev/null.
const NULL_DEVICE: u64 = libc::makedev(1, 3);

pub(super) fn step(op: &Op, made: &mut Made) -> Done {
    match op {
        Op::Propagation { flags } => mount::set_propagation(c"/", *flags)?,
        Op::PrivateParent { mountpoint } => mount::set_propagation(mountpoint, libc::MS_PRIVATE)?,
        Op::OpenRoot { path, private } => made.root = Some(open_root(path, *private)?),
        Op::Directory { path } => {
            let root = root(made)?;
            inroot::open_or_make(root, path, Make::Directory)?;
        }
        Op::Symlink { target, path, replace } => symlink(root(made)?, target, path, *replace)?,
        Op::Device(d) => device(root(made)?, d)?,
        Op::Mask { path } => mask(path, made)?,
        Op::Readonly { path } => readonly(root(made)?, path)?,
        Op::ReadonlyRoot => mount::mount_setattr(root(made)?, false, &READ_ONLY)?,
        Op::PivotRoot { shared } => pivot(root(made)?, *shared)?,
        Op::MoveRoot => {
            file::fchdir(root(made)?)?;
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

/// The root's descriptor.
pub(super) fn root(made: &Made) -> SysResult<RawFd> {
    need(made.root.as_ref()).map(|fd| fd.as_raw_fd())
}

/// Binds the root onto itself: pivot_root(2) wants a mount.
fn open_root(path: &CStr, private: bool) -> SysResult<OwnedFd> {
    let tree = mount::clone_tree(sys::CWD, path, true, true)?;
    if private {
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount::mount_setattr(tree.as_raw_fd(), false, &private)?;
    }
    let place = path::openat(sys::CWD, path, libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY, 0)?;
    mount::move_mount(tree.as_raw_fd(), place.as_raw_fd())?;
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

fn symlink(root: RawFd, target: &CStr, path: &CStr, replace: bool) -> SysResult<()> {
    let (dir, name) = inroot::open_parent(root, path)?;
    match file::symlinkat(target, dir.as_raw_fd(), name) {
        Err(Errno(libc::EEXIST)) if replace => {
            let mut buf = [0u8; 64];
            if let Ok(n) = file::readlinkat(dir.as_raw_fd(), name, &mut buf)
                && buf[..n] == *target.to_bytes()
            {
                return Ok(());
            }
            file::unlinkat(dir.as_raw_fd(), name, 0)?;
            file::symlinkat(target, dir.as_raw_fd(), name)
        }
        Err(Errno(libc::EEXIST)) => Ok(()),
        r => r,
    }
}

fn device(root: RawFd, d: &DeviceOp) -> SysResult<()> {
    if let Some(host) = &d.bind {
        return bind_device(root, d, host);
    }
    let (dir, name) = inroot::open_parent(root, &d.path)?;
    let dir = dir.as_raw_fd();
    match file::mknodat(dir, name, d.mode, d.rdev) {
        Err(Errno(libc::EEXIST)) => {
            let st = file::fstatat(dir, name, libc::AT_SYMLINK_NOFOLLOW)?;
            let same =
                st.kind() == d.mode & libc::S_IFMT && (st.kind() == libc::S_IFIFO || st.rdev == d.rdev);
            return if same { Ok(()) } else { Err(Errno(libc::EEXIST)) };
        }
        Err(Errno(libc::EPERM)) if d.mode & libc::S_IFMT != libc::S_IFIFO => {
            // A sandbox around orun may forbid device nodes though it allows mounts.
            return bind_device(root, d, d.host_path()?.as_c()?);
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

fn bind_device(root: RawFd, d: &DeviceOp, host: &CStr) -> SysResult<()> {
    let tree = mount::clone_tree(sys::CWD, host, false, false)?;
    let st = file::fstat(tree.as_raw_fd())?;
    if d.rdev != 0 && (st.kind() != d.mode & libc::S_IFMT || st.rdev != d.rdev) {
        return Err(Errno(libc::ENODEV));
    }
    let target = inroot::open_or_make(root, &d.path, Make::File)?;
    mount::move_mount(tree.as_raw_fd(), target.as_raw_fd())
}

/// Covers a file with /dev/null or a directory with an empty tmpfs. A missing path needs no mask.
fn mask(path: &CStr, made: &mut Made) -> SysResult<()> {
    let target = match inroot::open(root(made)?, path) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        r => r?,
    };
    if file::fstat(target.as_raw_fd())?.is_dir() {
        cover(made.empty.get_or_insert_with_result(empty_directory)?, target.as_raw_fd())
    } else {
        cover(made.null.get_or_insert_with_result(null_device)?, target.as_raw_fd())
    }
}

/// Attaches a copy of the detached mount `what`.
fn cover(what: &OwnedFd, target: RawFd) -> SysResult<()> {
    let copy = mount::clone_tree(what.as_raw_fd(), c"", false, false)?;
    mount::move_mount(copy.as_raw_fd(), target)
}

/// The host's /dev/null, and nothing that only bears its name.
fn null_device() -> SysResult<OwnedFd> {
    let tree = mount::clone_tree(sys::CWD, c"/dev/null", false, true)?;
    let st = file::fstat(tree.as_raw_fd())?;
    if st.kind() == libc::S_IFCHR && st.rdev == NULL_DEVICE { Ok(tree) } else { Err(Errno(libc::ENODEV)) }
}

fn empty_directory() -> SysResult<OwnedFd> {
    let fs = mount::fsopen(c"tmpfs")?;
    mount::fsconfig_set(fs.as_raw_fd(), c"size", Some(c"0"))?;
    mount::fsconfig_set(fs.as_raw_fd(), c"nr_inodes", Some(c"1"))?;
    mount::fsconfig_set(fs.as_raw_fd(), c"mode", Some(c"755"))?;
    mount::fsconfig_create(fs.as_raw_fd())?;
    let attributes =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    mount::fsmount(fs.as_raw_fd(), attributes as u32)
}

fn readonly(root: RawFd, path: &CStr) -> SysResult<()> {
    let target = match inroot::open(root, path) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        r => r?,
    };
    let tree = mount::clone_tree(target.as_raw_fd(), c"", true, false)?;
    mount::mount_setattr(tree.as_raw_fd(), true, &READ_ONLY)?;
    mount::move_mount(tree.as_raw_fd(), target.as_raw_fd())
}

trait GetOrTry<T> {
    fn get_or_insert_with_result(&mut self, f: fn() -> SysResult<T>) -> SysResult<&T>;
}

impl<T> GetOrTry<T> for Option<T> {
    fn get_or_insert_with_result(&mut self, f: fn() -> SysResult<T>) -> SysResult<&T> {
        if self.is_none() {
            *self = Some(f()?);
        }
        self.as_ref().ok_or(Errno(libc::EBADF))
    }
}
