//! Mounts that the child asks for while it sets up the root: their sources lie on mounts that it has made by then,
//! and opening or id-mapping them takes the privileges of orun.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::path::cpath;
use crate::kernel::prepare::change;
use crate::kernel::protocol::{self, Message, SETUP_TIMEOUT, Tag};
use crate::plan::mounts::Prepared;
use crate::sys::clone::{self, Clone};
use crate::sys::{self, exec, mount, socket, wait};
use std::os::fd::{AsRawFd, OwnedFd};

/// The requested mount, detached and changed, from the mount namespace of the process `container` (a pidfd).
///
/// # Errors
/// The source cannot be opened or changed, with the property that names it.
pub fn mount(wanted: &Prepared, container: &OwnedFd) -> Result<OwnedFd> {
    open(wanted, container)
        .and_then(|tree| change(&tree, wanted).map(|()| tree))
        .map_err(|e| e.property(wanted.property.as_str()))
}

/// A mount namespace is entered for good, so that a process of its own does it.
fn open(wanted: &Prepared, container: &OwnedFd) -> Result<OwnedFd> {
    let fail = |e: Errno| Error::sys(format!("opening the mount source {:?}", wanted.source), e);
    let source = cpath(&wanted.source)?;
    let (ours, theirs) = socket::seqpacket_pair().map_err(fail)?;
    match clone::clone3(0, None).map_err(fail)? {
        Clone::Child => {
            let to = theirs.as_raw_fd();
            let tree = clone::setns(container.as_raw_fd(), libc::CLONE_NEWNS)
                .and_then(|()| mount::clone_tree(sys::CWD, &source, wanted.recursive, wanted.nofollow));
            // Without its parent no process reads the error.
            let _ = match tree {
                Ok(fd) => protocol::send(to, Tag::Go, 0, 0, 0, &[], Some(fd.as_raw_fd())),
                Err(e) => protocol::send(to, Tag::Failed, 0, e.0, 0, &[], None),
            };
            exec::exit(0)
        }
        Clone::Parent { pidfd, .. } => {
            drop(theirs);
            let what = format!("the mount source {:?}", wanted.source);
            let answer = protocol::receive_within(ours.as_raw_fd(), SETUP_TIMEOUT, &what);
            if answer.is_err() {
                // It may hang in a dead file system, or be gone.
                let _ = wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
            } else {
                wait::wait_pidfd(pidfd.as_raw_fd(), true).map_err(fail)?;
            }
            match answer? {
                Some(Message { tag: Tag::Go, fd: Some(tree), .. }) => Ok(tree),
                Some(Message { tag: Tag::Failed, number, .. }) => Err(fail(Errno(number))),
                _ => Err(Error::new(
                    Kind::System,
                    format!("the process that opens {what} exited without reporting an error"),
                )),
            }
        }
    }
}
