//! Pseudo-terminals (pty(7), ioctl_tty(2)).

use super::{SysResult, owned, unit};
use nix::sys::termios::{self, SetArg, Termios};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Lets the other end of the master `fd` be opened: TIOCSPTLCK.
pub fn unlock(fd: RawFd) -> SysResult<()> {
    let off: i32 = 0;
    // SAFETY: this request reads an int.
    unit(unsafe { libc::ioctl(fd, libc::TIOCSPTLCK, &raw const off) }.into())
}

/// The number N of the master's `/dev/pts/N`: TIOCGPTN.
pub fn number(fd: RawFd) -> SysResult<u32> {
    let mut n: u32 = 0;
    // SAFETY: this request writes an unsigned int.
    unit(unsafe { libc::ioctl(fd, libc::TIOCGPTN, &raw mut n) }.into())?;
    Ok(n)
}

/// The other end of the master `fd`, without a path lookup: TIOCGPTPEER, Linux 4.13.
pub fn peer(fd: RawFd) -> SysResult<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: this request takes a number.
    owned(unsafe { libc::ioctl(fd, libc::TIOCGPTPEER, flags) }.into())
}

/// Makes `fd` the controlling terminal of the session: TIOCSCTTY.
pub fn set_controlling(fd: RawFd) -> SysResult<()> {
    // SAFETY: this request takes a number.
    unit(unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) }.into())
}

/// Sets the size in character cells: TIOCSWINSZ.
pub fn set_size(fd: RawFd, rows: u16, columns: u16) -> SysResult<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: this request reads a winsize.
    unit(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) }.into())
}

/// The size in character cells, rows and columns: TIOCGWINSZ.
pub fn size(fd: RawFd) -> SysResult<(u16, u16)> {
    // SAFETY: winsize is plain data, for which all zeros is valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: this request writes a winsize.
    unit(unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) }.into())?;
    Ok((size.ws_row, size.ws_col))
}

/// The attributes of the terminal `fd`; those of the other end for a master: tcgetattr(3).
pub fn attributes(fd: RawFd) -> SysResult<Termios> {
    // SAFETY: the descriptor is used for this call only; one that is not open makes it fail.
    Ok(termios::tcgetattr(unsafe { BorrowedFd::borrow_raw(fd) })?)
}

/// Sets the attributes, before anything else is written or after what was written has been sent: tcsetattr(3).
pub fn set_attributes(fd: RawFd, when: SetArg, attributes: &Termios) -> SysResult<()> {
    // SAFETY: as above.
    Ok(termios::tcsetattr(unsafe { BorrowedFd::borrow_raw(fd) }, when, attributes)?)
}

/// Whether the terminal `fd` is another job's at present: it is the controlling terminal, and this process is not in
/// its foreground process group: tcgetpgrp(3).
pub fn is_elsewhere(fd: RawFd) -> bool {
    // SAFETY: no memory is passed.
    let (foreground, own) = unsafe { (libc::tcgetpgrp(fd), libc::getpgrp()) };
    foreground != -1 && foreground != own
}
