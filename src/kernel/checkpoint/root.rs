//! The root file system for a restore: mount points that are missing are made, and it is made a mount. Both are done by
//! processes in mount namespaces of their own, so that the host sees nothing of it and nothing stays behind.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::child::{NODE, NULL_DEVICE};
use crate::kernel::inroot::{self, Make};

use crate::kernel::protocol::{self, SETUP_TIMEOUT, Tag};
use crate::plan::checkpoint::MountPoint;
use crate::sys::clone::{self, Clone};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, SysResult, exec, file, netif, path, socket, wait};
use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

/// The steps of [`Root::enter_namespace`] and similar functions, by number.
pub(super) const STEPS: [&str; 5] = [
    "making a mount namespace for the restore",
    "making its mounts slaves of the host's",
    "binding the root onto itself",
    "opening the image directory in it",
    "covering the image directory with an overlay that container root may search",
];
/// The numbers of the last two.
pub(super) const OPEN_DIRECTORY: u16 = 3;
pub(super) const COVER_DIRECTORY: u16 = 4;

/// A root file system that is to be a mount.
#[derive(Debug, Clone, Copy)]
pub struct Root<'a> {
    pub path: &'a CStr,
    /// Later mounts of the host below it are not visible.
    pub private: bool,
}

impl Root<'_> {
    /// Moves into a mount namespace in which the root is a mount of its own. The mounts of the host stay those that the
    /// container's are slaves of, as when it was created. Before the root covers anything, `with` is called. On failure:
    /// the step and why.
    pub(super) fn enter_namespace(
        &self,
        with: impl FnOnce() -> Result<(), (u16, Errno)>,
    ) -> Result<(), (u16, Errno)> {
        clone::unshare(libc::CLONE_NEWNS).map_err(|e| (0, e))?;
        mount::set_propagation(c"/", libc::MS_SLAVE | libc::MS_REC).map_err(|e| (1, e))?;
        with()?;
        self.bind().map_err(|e| (2, e))
    }

    fn bind(&self) -> SysResult<()> {
        let tree = mount::clone_tree(sys::CWD, self.path, true, true)?;
        if self.private {
            let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
            mount::mount_setattr(tree.as_raw_fd(), false, &private)?;
        }
        mount::move_mount(tree.as_raw_fd(), sys::CWD, self.path)
    }
}

/// Covers the directory `path`, open as `dir`, with itself as a directory that every user may look for files in: an
/// overlay of it and of an empty directory with that mode. The container's root, who opens images at a restore, is
/// nobody to a directory that is its owner's alone, and outside of this mount namespace it stays that. Must not allocate.
pub(super) fn cover_for_all(dir: RawFd, path: &CStr) -> SysResult<()> {
    let cover = |kind, key, value| {
        let fs = mount::fsopen(kind)?;
        mount::fsconfig_set(fs.as_raw_fd(), key, Some(value))?;
        mount::fsconfig_create(fs.as_raw_fd())?;
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
        let tree = mount::fsmount(fs.as_raw_fd(), attributes as u32)?;
        mount::move_mount(tree.as_raw_fd(), sys::CWD, path)
    };
    cover(c"tmpfs", c"mode", c"0711")?;
    let top = path::openat(sys::CWD, path, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let mut layers = [0u8; 64];
    // The buffer is longer than both names with the largest numbers, and ends with zeros.
    let _ = write!(&mut layers[..], "/proc/self/fd/{}:/proc/self/fd/{dir}", top.as_raw_fd());
    let layers = CStr::from_bytes_until_nul(&layers).map_err(|_| Errno(libc::ENAMETOOLONG))?;
    cover(c"overlay", c"lowerdir", layers)
}

/// Makes the mount points that are missing, on the root and on what is bound there, as when the container was created.
///
/// # Errors
/// One cannot be made, with the property that names the mount.
pub fn make_mount_points(root: &Root, points: &[(MountPoint, String)]) -> Result<()> {
    let what = "the mount points of the container to be made";
    let failed = in_child(what, |tell| {
        let done = root.enter_namespace(|| Ok(())).and_then(|()| {
            let fd =
                path::openat(sys::CWD, root.path, libc::O_PATH | libc::O_DIRECTORY, 0).map_err(|e| (2, e))?;
            let mut places = points.iter().zip(STEPS.len() as u16..);
            places.try_for_each(|((point, _), number)| {
                make_mount_point(fd.as_raw_fd(), point).map_err(|e| (number, e))
            })
        });
        if let Err((number, e)) = done {
            // Without its parent no process reads the error.
            let _ = protocol::send(tell, Tag::Failed, number, e.0, 0, &[], None);
        }
    })?;
    let Some((number, e)) = failed else { return Ok(()) };
    match usize::from(number).checked_sub(STEPS.len()).and_then(|i| points.get(i)) {
        Some((point, property)) => {
            let what = format!("making the mount point \"/{}\"", point.target.to_string_lossy());
            Err(Error::sys(what, e).property(property.as_str()))
        }
        None => Err(Error::sys(STEPS[usize::from(number)], e).property("root.path")),
    }
}

/// Makes one, and mounts what is mounted there, because further ones may lie on it: the source, or instead of a file
/// system of the container an empty one.
fn make_mount_point(root: RawFd, point: &MountPoint) -> SysResult<()> {
    let Some(source) = &point.source else {
        let target = inroot::open_or_make(root, &point.target, Make::Directory)?;
        let fs = mount::fsopen(c"tmpfs")?;
        mount::fsconfig_create(fs.as_raw_fd())?;
        let tree = mount::fsmount(fs.as_raw_fd(), 0)?;
        return mount::move_mount(tree.as_raw_fd(), target.as_raw_fd(), c"");
    };
    let tree = mount::clone_tree(sys::CWD, source, point.recursive, point.nofollow)?;
    let make = if file::fstat(tree.as_raw_fd())?.is_dir() { Make::Directory } else { Make::File };
    let target = inroot::open_or_make(root, &point.target, make)?;
    mount::move_mount(tree.as_raw_fd(), target.as_raw_fd(), c"")
}

/// Does to the new network namespace of process `pid` what creating a container does: the loopback interface is brought
/// up, and the files of `sysctls` are written, as that namespace has them.
///
/// # Errors
/// The namespace cannot be entered; a value is refused.
pub fn set_up_network(pid: i32, sysctls: &[(CString, Vec<u8>)]) -> Result<()> {
    let file = CString::new(format!("/proc/{pid}/ns/net")).unwrap_or_default();
    let fail = |e: Errno| Error::sys("entering the restored network namespace", e);
    let ns = path::openat(sys::CWD, &file, libc::O_RDONLY, 0).map_err(fail)?;
    let failed = in_child("the restored network namespace to be set up", |tell| {
        let done = clone::setns(ns.as_raw_fd(), libc::CLONE_NEWNET)
            .map_err(|e| (0, e))
            .and_then(|()| netif::loopback_up().map_err(|e| (1, e)))
            .and_then(|()| {
                let mut all = sysctls.iter().zip(2..);
                all.try_for_each(|((file, value), number)| write(file, value).map_err(|e| (number, e)))
            });
        if let Err((number, e)) = done {
            let _ = protocol::send(tell, Tag::Failed, number, e.0, 0, &[], None);
        }
    })?;
    match failed {
        None => Ok(()),
        Some((0, e)) => Err(fail(e)),
        Some((1, e)) => Err(Error::sys("bringing the loopback interface up", e)),
        Some((n, e)) => {
            let file = sysctls.get(usize::from(n) - 2).map(|(file, _)| file.to_string_lossy());
            Err(Error::sys(format!("writing {}", file.unwrap_or_default()), e).property("linux.sysctl"))
        }
    }
}

/// Gives the masked files of process `pid` their attributes again: CRIU makes the second and all further mounts of one file
/// without any.
///
/// # Errors
/// The mount namespace cannot be entered; an attribute cannot be set.
pub fn seal_masks(pid: i32, masks: &[&CStr]) -> Result<()> {
    let open = |file: &str, flags| {
        let file = CString::new(format!("/proc/{pid}/{file}")).unwrap_or_default();
        path::openat(sys::CWD, &file, flags, 0)
            .map_err(|e| Error::sys("opening the mount namespace of the restored container", e))
    };
    let (ns, top) = (open("ns/mnt", libc::O_RDONLY)?, open("root", libc::O_PATH | libc::O_DIRECTORY)?);
    let failed = in_child("the masked files of the restored container", |tell| {
        let done = clone::setns(ns.as_raw_fd(), libc::CLONE_NEWNS).map_err(|e| (0, e)).and_then(|()| {
            let mut all = masks.iter().zip(1..);
            all.try_for_each(|(mask, number)| seal(top.as_raw_fd(), mask).map_err(|e| (number, e)))
        });
        if let Err((number, e)) = done {
            let _ = protocol::send(tell, Tag::Failed, number, e.0, 0, &[], None);
        }
    })?;
    match failed {
        None => Ok(()),
        Some((0, e)) => Err(Error::sys("entering the mount namespace of the restored container", e)),
        Some((n, e)) => {
            let file = masks.get(usize::from(n) - 1).map(|m| m.to_string_lossy());
            let what = format!("making the masked file \"/{}\" read-only", file.unwrap_or_default());
            Err(Error::sys(what, e).property("linux.maskedPaths"))
        }
    }
}

/// Only a mount of the null device is a masked file: the path may have been missing.
fn seal(root: RawFd, mask: &CStr) -> SysResult<()> {
    let file = match inroot::open(root, mask) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => return Ok(()),
        r => r?,
    };
    let st = file::fstat(file.as_raw_fd())?;
    if st.kind() != libc::S_IFCHR || st.rdev != NULL_DEVICE {
        return Ok(());
    }
    match mount::mount_setattr(file.as_raw_fd(), false, &NODE) {
        // A device of the image's own, with nothing mounted on it.
        Err(Errno(libc::EINVAL)) => Ok(()),
        r => r,
    }
}

fn write(file: &CStr, value: &[u8]) -> SysResult<()> {
    let f = path::openat(sys::CWD, file, libc::O_WRONLY, 0)?;
    sys::fd::write_all(f.as_raw_fd(), value)
}

/// Does `work` in a child, because namespaces are entered for good. The child reports failures on the socket; it must
/// not allocate.
fn in_child(what: &str, work: impl FnOnce(RawFd)) -> Result<Option<(u16, Errno)>> {
    let fail = |e: Errno| Error::sys(format!("waiting for {what}"), e);
    let (ours, theirs) = socket::seqpacket_pair().map_err(fail)?;
    match clone::clone3(0, None).map_err(fail)? {
        Clone::Child => {
            work(theirs.as_raw_fd());
            exec::exit(0)
        }
        Clone::Parent { pidfd, .. } => {
            drop(theirs);
            let answer = protocol::receive_within(ours.as_raw_fd(), SETUP_TIMEOUT, what);
            if answer.is_err() {
                // It may hang in a dead file system.
                let _ = wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
            }
            let exit = wait::wait_pidfd(pidfd.as_raw_fd(), true).map_err(fail)?;
            match answer? {
                Some(m) => Ok(Some((m.op, Errno(m.number)))),
                None if exit == Some(wait::Exit::Code(0)) => Ok(None),
                None => Err(Error::new(Kind::System, format!("the process that works on {what} was killed"))),
            }
        }
    }
}
