//! The supervisor of an ordinary user runs in a network namespace of its own ([`crate::orund::rootless`]); the process that has
//! stayed outside opens the ports of the host for it.

use crate::error::{Errno, Error, Result};
use crate::supervisor::core::ports::HostPort;
use crate::sys::fd::{self as descriptor, PollFd};
use crate::sys::{file, socket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The environment variable with the number of the descriptor that leads outside. It is set, and empty, where no port is opened.
pub const LINK: &str = "ORUND_OUTSIDE";
/// Bytes of a message.
pub const MESSAGE: usize = 4096;
/// How long an answer may take, in milliseconds.
const ANSWER: i32 = 10_000;

static OUTSIDE: OnceLock<Option<Mutex<OwnedFd>>> = OnceLock::new();

/// Whether this process is in the user namespace of an ordinary user's supervisor.
pub fn is_inside() -> bool {
    std::env::var_os(LINK).is_some()
}

/// Takes the descriptor over from the environment. For the start of the program.
///
/// # Errors
/// The variable names no socket.
pub fn take_over() -> Result<()> {
    let Some(text) = std::env::var(LINK).ok().filter(|text| !text.is_empty()) else { return Ok(()) };
    let bad = || Error::sys(format!("the descriptor {LINK}={text}"), Errno(libc::EBADF));
    let number: RawFd = text.parse().map_err(|_| bad())?;
    if file::fstat(number).map_err(|_| bad())?.kind() != libc::S_IFSOCK {
        return Err(bad());
    }
    let fd = descriptor::take_over(number).map_err(|_| bad())?;
    let _ = OUTSIDE.set(Some(Mutex::new(fd)));
    Ok(())
}

/// Has the next program that this process becomes find the descriptor.
///
/// # Errors
/// The kernel's.
pub fn pass_on() -> Result<()> {
    match OUTSIDE.get() {
        Some(Some(fd)) => {
            let number = fd.lock().unwrap_or_else(PoisonError::into_inner).as_raw_fd();
            descriptor::keep_on_exec(number).map_err(|e| Error::sys("keeping the way outside", e))
        }
        Some(None) | None => Ok(()),
    }
}

/// Opens a port of the host, if this process is not in the host's network namespace.
pub(super) fn open(host: &HostPort) -> Option<std::result::Result<OwnedFd, String>> {
    let fd = OUTSIDE.get()?.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = |e: Errno| format!("asking the process outside of the user namespace: {e}");
    let ask = || -> std::result::Result<OwnedFd, String> {
        let question = serde_json::to_vec(host).map_err(|e| e.to_string())?;
        socket::send(fd.as_raw_fd(), &question, None).map_err(lost)?;
        if descriptor::poll(&mut [PollFd::new(fd.as_raw_fd(), libc::POLLIN)], ANSWER).map_err(lost)? == 0 {
            return Err(lost(Errno(libc::ETIMEDOUT)));
        }
        let mut answer = [0; MESSAGE];
        match socket::receive(fd.as_raw_fd(), &mut answer).map_err(lost)? {
            (0, _) => Err(lost(Errno(libc::ECONNRESET))),
            (_, Some(socket)) => Ok(socket),
            (n, None) => Err(String::from_utf8_lossy(&answer[..n]).into_owned()),
        }
    };
    Some(ask())
}
