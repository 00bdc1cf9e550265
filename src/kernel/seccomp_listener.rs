//! Hands the listener of a seccomp filter to its agent (config-linux.md, "The Container Process State").

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::console;
use crate::kernel::hooks;
use crate::plan::seccomp::Listener;
use crate::sys::fd::{self, PollFd};
use crate::sys::{socket, time, wait};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// How long loading a filter may take, in milliseconds.
const LOAD_TIMEOUT: u64 = 10_000;

/// Takes the listener that the child of `pidfd` is about to have as descriptor `number`, and sends it to the agent.
/// The child cannot send it: the filter may already notify about sendmsg(2).
///
/// `false` when the filter was not loaded: the child's next message on `socket` has the reason.
///
/// # Errors
/// The filter is not loaded in time, or no process listens on the agent's socket.
pub fn hand_over(
    agent: &Listener,
    id: &str,
    state: &(Vec<u8>, Vec<u8>),
    (pid, pidfd): (i32, RawFd),
    number: i32,
    socket: RawFd,
) -> Result<bool> {
    let Some(listener) = take(pidfd, number, socket)? else { return Ok(false) };
    let state = hooks::document(state, pid);
    let state: serde_json::Value = serde_json::from_slice(&state)
        .map_err(|e| Error::new(Kind::System, format!("the state of {id:?} is not JSON: {e}")))?;
    let mut document = serde_json::json!({
        "ociVersion": crate::plan::hooks::SPEC_VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "state": state,
    });
    if !agent.metadata.is_empty() {
        document["metadata"] = agent.metadata.as_str().into();
    }
    let to = console::connect(Path::new(&agent.path), "the seccomp agent").map_err(|e| {
        e.property("linux.seccomp.listenerPath").context("failed to connect with seccomp agent")
    })?;
    let bytes = document.to_string();
    socket::send(to.as_raw_fd(), bytes.as_bytes(), Some(listener.as_raw_fd())).map_err(|e| {
        Error::sys(format!("sending the listener to {:?}", agent.path), e)
            .property("linux.seccomp.listenerPath")
    })?;
    Ok(true)
}

fn take(pidfd: RawFd, number: i32, socket: RawFd) -> Result<Option<OwnedFd>> {
    let fail = |e: Errno| {
        let error = Error::sys("taking the listener of the seccomp filter", e).property("linux.seccomp");
        match e.0 {
            // A user other than root cannot inspect a non-dumpable process (see `FdSlots::seen`).
            libc::EPERM => error.hint(
                "without root it can only be taken from the first process of a container with a new pid namespace, not \
                 from one that \"exec\" adds; leave out SCMP_ACT_NOTIFY",
            ),
            _ => error,
        }
    };
    let end = time::monotonic_ms() + LOAD_TIMEOUT;
    loop {
        match wait::pidfd_getfd(pidfd, number) {
            Err(Errno(libc::EBADF | libc::ESRCH)) if time::monotonic_ms() < end => {}
            r => return r.map(Some).map_err(fail),
        }
        let mut fds = [PollFd::new(socket, libc::POLLIN)];
        if fd::poll(&mut fds, 1).map_err(fail)? > 0 {
            // The child is past the filter, or gone.
            return match wait::pidfd_getfd(pidfd, number) {
                Err(Errno(libc::EBADF | libc::ESRCH)) => Ok(None),
                r => r.map(Some).map_err(fail),
            };
        }
    }
}
