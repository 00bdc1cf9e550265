//! The root file system: made a mount, filled, and entered.

use super::places::Places;
use super::{Progress, StepResult, places};
use crate::error::Errno;
use crate::kernel::inroot::{self, Make};
use crate::plan::op::{DeviceOp, RootOp};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, SysResult, file, path};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

const READ_ONLY: MountAttr =
    MountAttr { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
/// For a device node of another owner: it is read and written, and nothing about it can be changed.
pub(in crate::kernel) const NODE: MountAttr = MountAttr {
    set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
    clear: 0,
    propagation: 0,
    userns_fd: 0,
};
/// A tmpfs that holds nothing, and never will.
const EMPTY_FLAGS: u64 = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
const EMPTY_DATA: &CStr = c"size=0,nr_inodes=1,mode=755";
/// The device number of /dev/null.
pub(in crate::kernel) const NULL_DEVICE: u64 = libc::makedev(1, 3);

pub(super) fn step(op: &RootOp, base: RawFd, made: &mut Progress) -> StepResult {
    match op {
        RootOp::Propagation { flags } => mount::set_propagation(c"/", *flags)?,
        RootOp::PrivateParent { mountpoint } => mount::set_propagation(mountpoint, libc::MS_PRIVATE)?,
        RootOp::OpenRoot { path, private } => {
            made.places = Some(Places::new(open_root(path, *private)?, base))
        }
        RootOp::Directory { path } => places(made)?.target(path, Make::Directory).map(|_| ())?,
        RootOp::Symlink { target, path, replace } => symlink(places(made)?, target, path, *replace)?,
        RootOp::Device(d) => device(places(made)?, d)?,
        RootOp::Mask { path } => mask(places(made)?, path)?,
        RootOp::Readonly { path } => readonly(places(made)?, path)?,
        RootOp::ReadonlyRoot => mount::mount_setattr(places(made)?.root(), false, &READ_ONLY)?,
        RootOp::PivotRoot { shared } => {
            pivot(places(made)?.root(), *shared)?;
            made.in_root = true;
        }
        RootOp::CoverMount { path } => cover_mount(path)?,
        RootOp::MoveRoot => {
            file::fchdir(places(made)?.root())?;
            mount::move_to_root()?;
            file::chroot(c".")?;
            file::chdir(c"/")?;
        }
        RootOp::Chroot { path } => {
            file::chroot(path)?;
            file::chdir(c"/")?;
        }
        RootOp::RootPropagation { flags } => mount::set_propagation(c"/", *flags)?,
    }
    Ok(())
}

/// Binds the root onto itself: pivot_root(2) requires a mount.
fn open_root(path: &CStr, private: bool) -> SysResult<OwnedFd> {
    let here = path::openat(sys::CWD, path, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
    let tree = mount::clone_tree(here.as_raw_fd(), c"", true, false)?;
    if private {
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount::mount_setattr(tree.as_raw_fd(), false, &private)?;
    }
    mount::move_mount(tree.as_raw_fd(), here.as_raw_fd(), c"")?;
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
    if d.uid == 0 && d.gid == 0 {
        return Ok(());
    }
    // Something else may have come in its place since.
    let made = path::openat2(dir, name, libc::O_PATH, path::BENEATH | path::NO_SYMLINKS)?;
    let made = places.pile(made);
    let st = file::fstat(made)?;
    if st.kind() != d.mode & libc::S_IFMT || st.rdev != d.rdev {
        return Err(Errno(libc::EEXIST));
    }
    file::lchownat(made, c"", d.uid, d.gid)
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
    mount::mount_setattr(tree, false, &NODE)?;
    let target = places.target(&d.path, Make::File)?;
    target.keeps_proc(Some(tree))?;
    target.attach(tree)
}

/// Covers a directory with an empty tmpfs and anything else with a null device. A missing path needs no mask.
fn mask(places: &mut Places, path: &CStr) -> SysResult<()> {
    let target = match places.open(path) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        r => r?,
    };
    if target.root {
        return Err(Errno(libc::EBUSY));
    }
    let directory = target.stat()?.is_dir();
    let first = if directory { places.empty } else { places.null };
    if let Some(first) = first {
        return cover(places, first, target.fd());
    }
    let tree = if directory { empty_directory(places)? } else { null_device(places)? };
    target.attach(tree.as_raw_fd())?;
    // Further ones get copies of the attached mount: those of a detached one need Linux 6.15.
    let tree = Some(tree.into_raw_fd());
    *(if directory { &mut places.empty } else { &mut places.null }) = tree;
    Ok(())
}

fn empty_directory(places: &mut Places) -> SysResult<OwnedFd> {
    let context = mount::fsopen(c"tmpfs")?;
    let fs = places.pile(context);
    mount::fsconfig_set(fs, c"mode", Some(c"755"))?;
    mount::fsconfig_create(fs)?;
    let attributes =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    mount::fsmount(fs, attributes as u32)
}

/// Attaches a copy of the attached mount `what`.
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

/// The container's own null device, else the host's, and nothing that only bears its name. Nobody inside can change it:
/// it may be a node of the host's.
fn null_device(places: &Places) -> SysResult<OwnedFd> {
    let is_null = |fd: &OwnedFd| {
        file::fstat(fd.as_raw_fd()).is_ok_and(|st| st.kind() == libc::S_IFCHR && st.rdev == NULL_DEVICE)
    };
    let null = match inroot::open(places.root(), c"dev/null") {
        Ok(own) if is_null(&own) => own,
        _ => {
            let host = path::openat(sys::CWD, c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW, 0);
            host.ok().filter(is_null).ok_or(Errno(libc::ENODEV))?
        }
    };
    mount::clone_tree_with(null.as_raw_fd(), c"", false, &NODE)
}

fn readonly(places: &mut Places, path: &CStr) -> SysResult<()> {
    let target = match places.open(path) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        r => r?,
    };
    if target.root {
        // A mount over the root would not be seen: all paths begin below it.
        return mount::mount_setattr(places.root(), false, &READ_ONLY);
    }
    let tree = mount::clone_tree_with(target.fd(), c"", true, &READ_ONLY)?;
    let tree = places.pile(tree);
    target.attach(tree)
}
