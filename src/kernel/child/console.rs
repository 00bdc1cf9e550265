//! The container's terminal: made from the container's own devpts, so that it lives and dies with it.

use super::{Progress, StepResult, places};
use crate::error::Errno;
use crate::kernel::inroot::Make;
use crate::kernel::protocol::{self, Tag};
use crate::sys::{self, SysResult, fd, file, mount, path, tty};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// f_type of devpts (statfs(2)).
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// For create and run: before the root is entered.
pub(super) fn make(
    socket: RawFd,
    index: usize,
    uid: u32,
    size: Option<(u16, u16)>,
    made: &mut Progress,
) -> StepResult {
    let places = places(made)?;
    let root = places.root();
    let resolve = path::IN_ROOT | path::NO_MAGICLINKS;
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = match path::openat2(root, c"dev/pts/ptmx", flags, resolve) {
        // A devpts of the host, bound into the container, has no usable ptmx of its own.
        Err(_) => path::openat2(root, c"dev/ptmx", flags, resolve)?,
        Ok(fd) => fd,
    };
    let slave = open_slave(&master, uid, size)?;
    let tree = mount::clone_tree(slave.as_raw_fd(), c"", false, false)?;
    let target = places.target(c"dev/console", Make::File)?;
    target.keeps_proc(Some(tree.as_raw_fd()))?;
    target.attach(tree.as_raw_fd())?;
    hand_over(socket, index, &master, &slave)
}

/// For exec: the container's root is already ours.
pub(super) fn take(socket: RawFd, index: usize, uid: u32, size: Option<(u16, u16)>) -> StepResult {
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = match path::openat(sys::CWD, c"/dev/pts/ptmx", flags, 0) {
        Err(_) => path::openat(sys::CWD, c"/dev/ptmx", flags, 0)?,
        Ok(fd) => fd,
    };
    let slave = open_slave(&master, uid, size)?;
    hand_over(socket, index, &master, &slave)
}

fn open_slave(master: &OwnedFd, uid: u32, size: Option<(u16, u16)>) -> SysResult<OwnedFd> {
    // The image may hold anything under this name; only a real master answers these requests.
    tty::unlock(master.as_raw_fd())?;
    let slave = tty::peer(master.as_raw_fd())?;
    if file::filesystem_type(slave.as_raw_fd())? != DEVPTS_SUPER_MAGIC {
        return Err(Errno(libc::ENODEV));
    }
    if let Some((rows, columns)) = size {
        tty::set_size(slave.as_raw_fd(), rows, columns)?;
    }
    if uid != 0 {
        // The group stays: it may have no mapping in the user namespace.
        file::fchown(slave.as_raw_fd(), uid, u32::MAX)?;
    }
    Ok(slave)
}

fn hand_over(socket: RawFd, index: usize, master: &OwnedFd, slave: &OwnedFd) -> StepResult {
    let mut buf = [0u8; 32];
    let name = name(tty::number(master.as_raw_fd())?, &mut buf);
    protocol::send(socket, Tag::Terminal, index as u16, 0, 0, name.to_bytes(), Some(master.as_raw_fd()))?;
    protocol::wait_go(socket)?;
    for stdio in 0..3 {
        fd::dup2(slave.as_raw_fd(), stdio)?;
    }
    Ok(())
}

/// `/dev/pts/N`.
fn name(number: u32, buf: &mut [u8; 32]) -> &CStr {
    const PREFIX: &[u8] = b"/dev/pts/";
    buf[..PREFIX.len()].copy_from_slice(PREFIX);
    let digits = super::process::decimal(number, &mut buf[PREFIX.len()..]);
    buf[PREFIX.len() + digits] = 0;
    CStr::from_bytes_until_nul(buf).unwrap_or(c"/dev/pts")
}
