//! The supervisor's end of the connection to its keeper.

use super::{LINK, MESSAGE, tag};
use crate::error::{Errno, Error, Result};
use crate::log;
use crate::sys::fd::{self as descriptor, PollFd};
use crate::sys::{file, socket};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The connection.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// Message of a ready supervisor that answers pings.
pub const ANSWERS: &str = "answers";
/// How long a keeper may leave a full socket alone before it is continued, in milliseconds, and how often.
const FULL: (i32, u32) = (1000, 5);

/// A message of the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A process has exited.
    Ended,
    /// It requires an answer.
    Ping,
    /// Nothing more for now.
    Nothing,
    /// The keeper is gone.
    Lost,
}

impl Link {
    /// The connection that the environment names; None without a keeper.
    ///
    /// # Errors
    /// The variable names no socket.
    pub fn from_environment() -> Result<Option<Link>> {
        let Ok(text) = std::env::var(LINK) else { return Ok(None) };
        let bad = || Error::sys(format!("the keeper's descriptor {LINK}={text}"), Errno(libc::EBADF));
        let number: RawFd = text.parse().map_err(|_| bad())?;
        if file::fstat(number).map_err(|_| bad())?.kind() != libc::S_IFSOCK {
            return Err(bad());
        }
        // No program of ours but the supervisor itself may have it.
        Ok(Some(Link(descriptor::take_over(number).map_err(|_| bad())?)))
    }

    /// Another way to send to the keeper, for another thread.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn another(&self) -> Result<Link> {
        let copy = self.0.try_clone().map_err(|e| Error::sys("copying the connection to the keeper", e))?;
        Ok(Link(copy))
    }

    fn send(&self, tag: u8, text: &str, fd: Option<RawFd>) {
        let message = [&[tag], text.as_bytes()].concat();
        let socket = self.0.as_raw_fd();
        let mut patience = FULL.1;
        // A keeper that is gone is noticed elsewhere.
        while let Err(Errno(libc::EAGAIN)) = socket::send(socket, &message, fd) {
            if descriptor::poll(&mut [PollFd::new(socket, libc::POLLOUT)], FULL.0) != Ok(0) {
                continue;
            }
            if patience == 0 {
                return log::warn("the keeper does not accept descriptors");
            }
            patience -= 1;
            self.wake();
        }
    }

    /// Continues a stopped keeper.
    pub fn wake(&self) {
        let keeper = nix::unistd::getppid();
        // Without the keeper the parent is another, which may take the signal as well: it does nothing to what runs.
        let _ = nix::sys::signal::kill(keeper, nix::sys::signal::SIGCONT);
    }

    /// Answers a ping.
    pub fn pong(&self) {
        self.send(tag::PONG, "", None);
    }

    /// Has a descriptor kept.
    pub fn put(&self, name: &str, fd: RawFd) {
        self.send(tag::PUT, name, Some(fd));
    }

    /// Lets a descriptor go.
    pub fn drop(&self, name: &str) {
        self.send(tag::DROP, name, None);
    }

    /// The supervisor is ready, and should be started again if it dies.
    pub fn ready(&self) {
        self.send(tag::READY, ANSWERS, None);
    }

    /// Notifies the service manager (sd_notify(3)).
    pub fn notify(&self, text: &str) {
        self.send(tag::NOTIFY, text, None);
    }

    /// All descriptors that are kept, by name. The keeper keeps them.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn list(&self) -> Result<BTreeMap<String, OwnedFd>> {
        self.send(tag::LIST, "", None);
        let mut kept = BTreeMap::new();
        let mut buf = [0; MESSAGE];
        loop {
            let (n, fd) = socket::receive(self.0.as_raw_fd(), &mut buf)
                .map_err(|e| Error::sys("requesting the descriptors of the keeper", e))?;
            match (n, buf[0], fd) {
                (0, ..) => {
                    return Err(Error::sys("requesting the descriptors of the keeper", Errno(libc::EPIPE)));
                }
                (_, tag::ALL, _) => return Ok(kept),
                (_, tag::KEPT, Some(fd)) => {
                    kept.insert(String::from_utf8_lossy(&buf[1..n]).into_owned(), fd);
                }
                // Exits are looked for later anyway.
                _ => {}
            }
        }
    }

    /// From now on [`Link::hear`] does not wait.
    pub fn listen(&self) {
        // It cannot fail: the socket is open.
        let _ = descriptor::set_nonblocking(self.0.as_raw_fd());
    }

    /// The next message, after [`Link::listen`].
    pub fn hear(&self) -> Heard {
        let mut buf = [0; MESSAGE];
        match socket::receive(self.0.as_raw_fd(), &mut buf) {
            Ok((0, _)) => Heard::Lost,
            Ok(_) if buf[0] == tag::PING => Heard::Ping,
            Ok(_) => Heard::Ended,
            Err(Errno(libc::EAGAIN)) => Heard::Nothing,
            Err(_) => Heard::Lost,
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
