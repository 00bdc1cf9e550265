//! Descriptors that a tokio loop waits for. Registering one is `unsafe` in tokio, which is why this is here and not
//! in the supervisor's shell; nothing else below that may use tokio.

use super::fd;
use crate::error::Errno;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor whose readiness to be read can be waited for. Within a runtime of tokio only.
///
/// # Errors
/// As of [`Watched::new`].
pub fn register_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open, and the same, for as long as it lives.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

/// A descriptor that the loop it was made in watches.
#[derive(Debug)]
pub struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Has `descriptor` watched, without changing its flags: [`Watched::read`] and [`Watched::write`] want
    /// `O_NONBLOCK`.
    ///
    /// # Errors
    /// epoll_ctl(2) refuses it: EPERM for regular files.
    pub fn new(descriptor: OwnedFd) -> io::Result<Watched> {
        // SAFETY: the descriptor is owned, and stays open and the same for as long as it is watched, because nothing
        // here gives it away.
        Ok(Watched(unsafe { AsyncFd::register(descriptor)? }))
    }

    /// Waits until it can be read, or says that it never will be: for a pidfd, until the process has exited.
    ///
    /// # Errors
    /// The loop is ending.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Reads available data, or waits for it.
    ///
    /// # Errors
    /// Those of read(2).
    pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(read) = guard.try_io(|inner| fd::read(inner.as_raw_fd(), buf).map_err(system)) {
                return read;
            }
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Those of write(2).
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.0.writable().await?;
            if let Ok(n) = guard.try_io(|inner| fd::write(inner.as_raw_fd(), bytes).map_err(system)) {
                bytes = &bytes[n?..];
            }
        }
        Ok(())
    }
}

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.get_ref().as_raw_fd()
    }
}

fn system(e: Errno) -> io::Error {
    io::Error::from_raw_os_error(e.0)
}
