//! Pseudo-terminals (pty(7), ioctl_tty(2)).

use super::{SysResult, owned, unit};
use std::os::fd::{OwnedFd, RawFd};

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
