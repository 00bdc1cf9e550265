//! Mounts: each is made detached, changed, and attached to a descriptor inside the root.

use super::places::{Places, Target, is_procfs_root};
use super::{Failure, FdSlots, Progress, StepResult, copy_up, places};
use crate::error::Errno;
use crate::kernel::inroot::Make;
use crate::plan::op::{Filesystem, Hold, MountOp, MountPart, MountSource};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, SysResult, file};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

fn at(part: MountPart) -> impl Fn(Errno) -> Failure {
    move |e| Failure::with(e, part as i32, &[])
}

/// `ask` gets a mount that is made late, by its number.
pub(super) fn mount(
    m: &MountOp,
    slots: &FdSlots,
    made: &mut Progress,
    ask: impl Fn(usize) -> SysResult<OwnedFd>,
) -> StepResult {
    let places = places(made)?;
    let (tree, target) = match &m.source {
        MountSource::Filesystem(fs) => {
            let target = directory_target(places, m).map_err(at(MountPart::Target))?;
            target.keeps_proc(None).map_err(at(MountPart::InsideProc))?;
            if m.hold.is_none() && !target.root && m.changes.is_empty() && mount_at_once(fs, &target) {
                places.covered(&m.target);
                if fs.kind.as_c_str() == c"tmpfs" {
                    places.emptied(&m.target);
                }
                return Ok(());
            }
            (new_filesystem(fs, &target, places)?, target)
        }
        MountSource::Bind { path, recursive, nofollow } => {
            let tree =
                mount::clone_tree(sys::CWD, path, *recursive, *nofollow).map_err(at(MountPart::Source))?;
            let tree = places.pile(tree);
            if m.directory
                && m.hold.is_none()
                && m.changes.is_empty()
                && places.attach_in_held(&m.target, tree)
            {
                return Ok(());
            }
            (tree, bind_target(places, m, tree)?)
        }
        MountSource::Prepared { slot } => {
            let tree = slots.mounts[*slot].as_raw_fd();
            (tree, bind_target(places, m, tree)?)
        }
        MountSource::Late { slot } => {
            let tree = places.pile(ask(*slot).map_err(at(MountPart::Source))?);
            (tree, bind_target(places, m, tree)?)
        }
    };
    for (attr, recursive) in &m.changes {
        mount::mount_setattr(tree, *recursive, attr).map_err(at(MountPart::Attributes))?;
    }
    target.attach(tree).map_err(|e| at(MountPart::Attach)(mismatch(e, tree, &target)))?;
    places.covered(&m.target);
    if target.root {
        places.replace_root(tree);
    }
    if let Some(place) = m.hold {
        places.hold(place, tree, &m.target);
    }
    Ok(())
}

fn bind_target(places: &mut Places, m: &MountOp, tree: RawFd) -> Result<Target, Failure> {
    let target = bind_place(places, m, tree)?;
    target.keeps_proc(Some(tree)).map_err(at(MountPart::InsideProc))?;
    Ok(target)
}

fn bind_place(places: &mut Places, m: &MountOp, tree: RawFd) -> Result<Target, Failure> {
    if m.directory || m.plain_destination {
        return directory_target(places, m).map_err(at(MountPart::Target));
    }
    // Anything else on /proc could answer for what the container's programs look up there (CVE-2019-16884).
    if m.procfs_only && !is_procfs_root(tree).map_err(at(MountPart::Source))? {
        return Err(at(MountPart::Source)(Errno(libc::EPERM)));
    }
    let st = file::fstat(tree).map_err(at(MountPart::Source))?;
    let make = if st.is_dir() { Make::Directory } else { Make::File };
    places.target(&m.target, make).map_err(at(MountPart::Target))
}

/// move_mount(2) says EINVAL to a directory on a file; mount(2) said ENOTDIR, which is what callers look for.
fn mismatch(e: Errno, from: RawFd, to: &Target) -> Errno {
    if e.0 != libc::EINVAL {
        return e;
    }
    match (file::fstat(from), to.stat()) {
        (Ok(a), Ok(b)) if a.is_dir() != b.is_dir() => Errno(libc::ENOTDIR),
        _ => e,
    }
}

/// procfs and sysfs only go where they are asked for: a symlink there is an attack (CVE-2019-19921).
fn directory_target(places: &mut Places, m: &MountOp) -> SysResult<Target> {
    if m.plain_destination {
        places.plain_directory(&m.target)
    } else {
        places.target(&m.target, Make::Directory)
    }
}

/// Mounts with one call, where nothing has to happen before the mount is attached. When the kernel refuses, the long
/// way finds out why.
fn mount_at_once(fs: &Filesystem, target: &Target) -> bool {
    if fs.copy_up || (fs.inherit_mode && target.existed) {
        return false;
    }
    target.mount(&fs.source, &fs.kind, fs.flags, &fs.data).is_ok()
}

fn new_filesystem(fs: &Filesystem, target: &Target, places: &mut Places) -> Result<RawFd, Failure> {
    let context = mount::fsopen(&fs.kind).map_err(at(MountPart::Create))?;
    let fd = places.pile(context);
    for (key, value) in &fs.parameters {
        mount::fsconfig_set(fd, key, value.as_deref()).map_err(|e| with_message(fd, e, MountPart::Option))?;
    }
    if fs.inherit_mode && target.existed {
        let mode = target.stat().map_err(at(MountPart::Target))?.mode & 0o7777;
        let mut buf = [0u8; 8];
        mount::fsconfig_set(fd, c"mode", Some(octal(mode, &mut buf)))
            .map_err(|e| with_message(fd, e, MountPart::Option))?;
    }
    mount::fsconfig_create(fd).map_err(|e| with_message(fd, e, MountPart::Create))?;
    let tree = mount::fsmount(fd, fs.attributes).map_err(|e| with_message(fd, e, MountPart::Create))?;
    let tree = places.pile(tree);
    if fs.copy_up && target.existed {
        copy_up::copy(target.fd(), tree).map_err(at(MountPart::CopyUp))?;
    }
    Ok(tree)
}

/// The kernel's own words about a refused option stand in the context.
fn with_message(fs: RawFd, errno: Errno, part: MountPart) -> Failure {
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

pub(super) fn remount(
    target: &CStr,
    held: Option<Hold>,
    changes: &[(MountAttr, bool)],
    made: &mut Progress,
) -> StepResult {
    let places = places(made)?;
    let fd = match held {
        Some(place) => places.held(place),
        None => places.open(target).map(|t| t.fd()),
    };
    let fd = fd.map_err(at(MountPart::Target))?;
    for (attr, recursive) in changes {
        mount::mount_setattr(fd, *recursive, attr).map_err(at(MountPart::Attributes))?;
    }
    Ok(())
}
