//! The caller's end of a container's terminal: `--console-socket`.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::output;
use crate::kernel::path::cpath;
use crate::sys::{socket, time};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// How long a full backlog is waited for, in milliseconds.
const CONNECT_TIMEOUT: u64 = 10_000;

/// Connects to the stream socket at `path`, whose owner is called `peer` in errors.
///
/// # Errors
/// No process listens there, or accepts within 10 s.
pub fn connect(path: &Path, peer: &str) -> Result<OwnedFd> {
    let fail = |e: Errno| {
        let error = Error::sys(format!("connecting to {peer} at {path:?}"), e);
        match e.0 {
            libc::EAGAIN => {
                error.kind_is(Kind::Timeout).hint("its backlog is full: it does not accept connections")
            }
            libc::ECONNREFUSED | libc::ENOENT => error.hint("no process listens there"),
            _ => error,
        }
    };
    let s = socket::unix_socket(socket::SocketKind::Stream, true).map_err(fail)?;
    // By descriptor: a path may be longer than an address, and lead through links.
    let doing = format!("connecting to {peer} at {path:?}");
    let found = output::open(path, libc::O_PATH, 0, &doing)
        .map_err(|e| if e.errno() == Some(Errno(libc::ENOENT)) { fail(Errno(libc::ENOENT)) } else { e })?;
    let address = cpath(Path::new(&format!("/proc/self/fd/{}", found.as_raw_fd())))?;
    let end = time::monotonic_ms() + CONNECT_TIMEOUT;
    loop {
        match socket::connect(s.as_raw_fd(), &address) {
            Err(Errno(libc::EAGAIN)) if time::monotonic_ms() < end => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            r => return r.map_err(fail).map(|()| s),
        }
    }
}

/// Sends a terminal's master, with its name, as every runtime does (one message).
///
/// # Errors
/// The peer has closed the connection.
pub fn send(to: RawFd, master: RawFd) -> Result<()> {
    // The name is for people; callers read it and drop it.
    socket::send(to, b"/dev/ptmx", Some(master))
        .map_err(|e| Error::sys("sending the terminal to the console socket", e))
}
