//! Keeps the container from writing to orun's own executable (CVE-2019-5736).
//!
//! A process of the container may get hold of /proc/PID/exe of an orun that enters it. It must not be writable
//! there, even for root: orun runs itself again from a read-only copy of the mount that it lies on. That costs one
//! execve(2) and no copy of the file.

use crate::error::{Errno, Error, Result};
use crate::sys::entry;
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, copy, cred, file, memfd, path};
use std::os::fd::{AsRawFd, OwnedFd};

const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// Returns when orun's executable cannot be written to; may execute orun again.
///
/// # Errors
/// /proc is not there, or the executable cannot be protected.
pub fn executable() -> Result<()> {
    if entry::is_protected() {
        return Ok(());
    }
    let fail = |e: Errno| Error::sys("protecting orun's own executable", e);
    let readonly = file::is_on_readonly_mount(SELF).map_err(|e| fail(e).hint("is /proc mounted?"))?;
    if readonly {
        return Ok(());
    }
    let copy = match readonly_mount() {
        Ok(fd) => fd,
        // Without privileges there is no copy of a mount, but the container has no more rights than its caller.
        Err(_) if cred::geteuid() != 0 && file::access(sys::CWD, SELF, libc::W_OK).is_err() => return Ok(()),
        Err(_) if is_memory_file() => return Ok(()),
        Err(_) => sealed_copy().map_err(fail)?,
    };
    Err(fail(entry::start_again(copy.as_raw_fd())))
}

/// The executable on a read-only copy of its mount, which is attached nowhere.
fn readonly_mount() -> Result<OwnedFd, Errno> {
    let tree = mount::clone_tree(sys::CWD, SELF, false, false)?;
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount::mount_setattr(tree.as_raw_fd(), false, &attr)?;
    Ok(tree)
}

fn is_memory_file() -> bool {
    std::fs::read_link("/proc/self/exe").is_ok_and(|p| p.to_string_lossy().starts_with("/memfd:"))
}

/// For kernels and sandboxes without the new mount calls: a copy in memory that nobody can change.
fn sealed_copy() -> Result<OwnedFd, Errno> {
    let from = path::openat(sys::CWD, SELF, libc::O_RDONLY, 0)?;
    let to = memfd::create(c"orun")?;
    while copy::sendfile(from.as_raw_fd(), to.as_raw_fd(), 1 << 30)? > 0 {}
    memfd::seal(to.as_raw_fd())?;
    Ok(to)
}
