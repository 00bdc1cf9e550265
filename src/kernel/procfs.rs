//! The procfs of a pid namespace that a container joins, where the kernel does not make it for a descriptor of the namespace
//! (the parameter `pidns` of Linux 6.17).
//!
//! procfs shows the pid namespace of the process that asks for the file system. Such a process is seen by those that
//! are in the namespace already, so that it holds nothing of the host: its root is an empty file system, and no
//! descriptor but a socket is open.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::protocol::{self, Message, SETUP_TIMEOUT, Tag};
use crate::plan::namespaces::Join;
use crate::plan::op::Filesystem;
use crate::plan::tables::namespaces::NamespaceKind;
use crate::sys::clone::{self, Clone};
use crate::sys::{SysResult, cred, entry, exec, fd, file, mount, socket, wait};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A detached mount of the procfs `fs` for the pid namespace `joins[pid]`. `namespaces` are the opened ones.
///
/// # Errors
/// A namespace that cannot be entered, an option that procfs refuses.
pub fn mount(fs: &Filesystem, joins: &[Join], namespaces: &[OwnedFd], pid: usize) -> Result<OwnedFd> {
    let fail = |e: Errno| Error::sys("mounting proc", e);
    // Without privileges the user namespace gives them.
    let user = joins.iter().position(|j| j.kind == NamespaceKind::User).filter(|_| cred::geteuid() != 0);
    let user = user.map(|slot| namespaces[slot].as_raw_fd());
    let (ours, theirs) = socket::seqpacket_pair().map_err(fail)?;
    match clone::clone3(0, None).map_err(fail)? {
        Clone::Child => {
            let e = outside(fs, user, namespaces[pid].as_raw_fd(), theirs.as_raw_fd());
            exec::exit(e.map_or_else(|e| refused(theirs.as_raw_fd(), e, &[]), |()| 0))
        }
        Clone::Parent { pidfd, .. } => {
            drop(theirs);
            let answer = protocol::receive_within(ours.as_raw_fd(), SETUP_TIMEOUT, "procfs to be mounted");
            if answer.is_err() {
                // The error that there is already matters more than this one.
                let _ = wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
            }
            wait::wait_pidfd(pidfd.as_raw_fd(), true).map_err(fail)?;
            match answer? {
                Some(Message { tag: Tag::Go, fd: Some(tree), .. }) => Ok(tree),
                Some(Message { tag: Tag::Failed, number, text, .. }) => {
                    let said = String::from_utf8_lossy(&text);
                    let said = said.trim_end().strip_prefix("e ").unwrap_or(said.trim_end()).to_owned();
                    let what = if said.is_empty() { String::new() } else { format!(" ({said})") };
                    Err(Error::sys(format!("mounting proc{what}"), Errno(number)))
                }
                _ => Err(Error::new(Kind::System, "the process that mounts procfs was killed")),
            }
        }
    }
}

/// Reports a failure to the parent; the exit status.
fn refused(socket: RawFd, e: Errno, text: &[u8]) -> i32 {
    // Without its parent no process reads it.
    let _ = protocol::send(socket, Tag::Failed, 0, e.0, 0, text, None);
    1
}

/// The first process, which is invisible in the namespace, drops all rights and creates the second.
fn outside(fs: &Filesystem, user: Option<RawFd>, pid: RawFd, socket: RawFd) -> SysResult<()> {
    if let Some(user) = user {
        clone::setns(user, libc::CLONE_NEWUSER)?;
        clone::unshare(libc::CLONE_NEWNS)?;
    }
    let empty = mount::fsopen(c"tmpfs")?;
    mount::fsconfig_create(empty.as_raw_fd())?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let root = mount::fsmount(empty.as_raw_fd(), attributes as u32)?;
    file::fchdir(root.as_raw_fd())?;
    file::chroot(c".")?;
    clone::setns(pid, libc::CLONE_NEWPID)?;
    fd::close_all_but(0, [socket])?;
    std::mem::forget((empty, root));
    entry::forget_environment();
    match clone::clone3(0, None)? {
        Clone::Child => exec::exit(inside(fs, socket)),
        Clone::Parent { pidfd, .. } => wait::wait_pidfd(pidfd.as_raw_fd(), true).map(drop),
    }
}

/// The second process mounts; the exit status.
fn inside(fs: &Filesystem, socket: RawFd) -> i32 {
    let context = match mount::fsopen(&fs.kind) {
        Ok(context) => context,
        Err(e) => return refused(socket, e, &[]),
    };
    let fd = context.as_raw_fd();
    let made = fs
        .parameters
        .iter()
        .try_for_each(|(key, value)| mount::fsconfig_set(fd, key, value.as_deref()))
        .and_then(|()| mount::fsconfig_create(fd))
        .and_then(|()| mount::fsmount(fd, fs.attributes));
    match made {
        Ok(tree) => match protocol::send(socket, Tag::Go, 0, 0, 0, &[], Some(tree.as_raw_fd())) {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Err(e) => {
            let mut said = [0u8; 256];
            let n = mount::fs_message(fd, &mut said);
            refused(socket, e, &said[..n])
        }
    }
}
