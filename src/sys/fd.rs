//! Descriptors: close_range(2), dup3(2), read(2), write(2), poll(2).

use super::{SysResult, check, owned, unit};
use std::os::fd::{OwnedFd, RawFd};

/// Closes every descriptor from `first` to `last`: close_range(2), Linux 5.9.
pub fn close_range(first: u32, last: u32) -> SysResult<()> {
    // SAFETY: no memory is passed; the caller owns what it closes.
    unit(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Closes every descriptor from `first` on, except those of `keep` (negative ones are passed over).
pub fn close_all_but<const N: usize>(first: RawFd, mut keep: [RawFd; N]) -> SysResult<()> {
    keep.sort_unstable();
    let mut from = first;
    for fd in keep.into_iter().filter(|fd| *fd >= first) {
        if fd > from {
            close_range(from as u32, fd as u32 - 1)?;
        }
        from = fd + 1;
    }
    close_range(from as u32, u32::MAX)
}

/// Marks every descriptor from `first` on close-on-exec: close_range(2), Linux 5.11.
pub fn cloexec_from(first: u32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Makes `to` a copy of `from`, without close-on-exec: dup2(2).
pub fn dup2(from: RawFd, to: RawFd) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::dup2(from, to) }.into())
}

/// A copy of `fd` that is close-on-exec and at least `min`: fcntl(2), F_DUPFD_CLOEXEC.
pub fn dup_above(fd: RawFd, min: RawFd) -> SysResult<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, min) }.into())
}

/// Lets `fd` stay open over execve(2): fcntl(2), F_SETFD.
pub fn keep_on_exec(fd: RawFd) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into())
}

/// Has `fd` closed by execve(2): fcntl(2), F_SETFD.
pub fn close_on_exec(fd: RawFd) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into())
}

/// Takes over the descriptor `fd`, which whoever started this program left open for it, and makes it close-on-exec:
/// fcntl(2), F_SETFD. EBADF when it is not open.
pub fn take_over(fd: RawFd) -> SysResult<OwnedFd> {
    close_on_exec(fd)?;
    owned(fd.into())
}

/// Makes operations on `fd` return EAGAIN instead of waiting: fcntl(2), F_SETFL.
pub fn set_nonblocking(fd: RawFd) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) }.into())
}

/// Whether `fd` was opened for writing: fcntl(2), F_GETFL.
pub fn is_writable(fd: RawFd) -> bool {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// The descriptor's flags; EBADF when it is not open: fcntl(2), F_GETFD.
pub fn flags(fd: RawFd) -> SysResult<i32> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into()).map(|f| f as i32)
}

/// Reads at most `buf.len()` bytes, again after a signal: read(2).
pub fn read(fd: RawFd, buf: &mut [u8]) -> SysResult<usize> {
    loop {
        // SAFETY: buf is valid for its length.
        match check(unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) } as _) {
            Err(e) if e.0 == libc::EINTR => {}
            r => return r.map(|n| n as usize),
        }
    }
}

/// Reads into what `buf` has room for beyond its length, at most, again after a signal, and lengthens it by what was read:
/// read(2). Nothing has to be zeroed for it.
pub fn append(fd: RawFd, buf: &mut Vec<u8>) -> SysResult<usize> {
    loop {
        let room = buf.spare_capacity_mut();
        // SAFETY: the kernel writes into the room that the vector has, and no further.
        match check(unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) } as _) {
            Err(e) if e.0 == libc::EINTR => {}
            Err(e) => return Err(e),
            Ok(n) => {
                // SAFETY: read(2) has written n more bytes.
                unsafe { buf.set_len(buf.len() + n as usize) };
                return Ok(n as usize);
            }
        }
    }
}

/// Writes `buf` with one call, again after a signal: write(2).
pub fn write(fd: RawFd, buf: &[u8]) -> SysResult<usize> {
    loop {
        // SAFETY: buf is valid for its length.
        match check(unsafe { libc::write(fd, buf.as_ptr().cast(), buf.len()) } as _) {
            Err(e) if e.0 == libc::EINTR => {}
            r => return r.map(|n| n as usize),
        }
    }
}

/// Writes all of `buf`.
pub fn write_all(fd: RawFd, mut buf: &[u8]) -> SysResult<()> {
    while !buf.is_empty() {
        let n = write(fd, buf)?;
        buf = &buf[n..];
    }
    Ok(())
}

/// One descriptor to poll and what happened on it.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct PollFd(libc::pollfd);

impl PollFd {
    /// Waits for `events` (`POLLIN`, `POLLOUT`) on `fd`; a negative one is passed over.
    pub fn new(fd: RawFd, events: i16) -> PollFd {
        PollFd(libc::pollfd { fd, events, revents: 0 })
    }

    /// Events on the descriptor.
    pub fn revents(self) -> i16 {
        self.0.revents
    }
}

/// Waits until something happens on one of `fds`, or `timeout_ms` have passed (-1 is forever): poll(2).
/// Returns how many have something; 0 after the time-out and after a signal.
pub fn poll(fds: &mut [PollFd], timeout_ms: i32) -> SysResult<usize> {
    // SAFETY: PollFd is a transparent pollfd, and the slice is valid for its length.
    match check(unsafe { libc::poll(fds.as_mut_ptr().cast(), fds.len() as _, timeout_ms) }.into()) {
        Err(e) if e.0 == libc::EINTR => Ok(0),
        r => r.map(|n| n as usize),
    }
}

/// A pipe, both ends close-on-exec: pipe2(2). Returns the reading and the writing end.
pub fn pipe() -> SysResult<(OwnedFd, OwnedFd)> {
    let mut fds = [0i32; 2];
    // SAFETY: fds has room for two descriptors.
    unit(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    Ok((owned(fds[0].into())?, owned(fds[1].into())?))
}
