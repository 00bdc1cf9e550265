//! Moving data inside the kernel: splice(2).

use super::{SysResult, check};
use std::os::fd::RawFd;

/// Moves at most `len` bytes from the pipe `from` to the file `to` at `offset`, without waiting for more. A byte is
/// either still in the pipe or already in the file, even for a process that is killed meanwhile. 0: no writer is left.
pub fn pipe_to_file(from: RawFd, to: RawFd, offset: u64, len: usize) -> SysResult<usize> {
    let mut offset = offset as i64;
    loop {
        // SAFETY: offset is valid for reading and writing; a pipe has none.
        let n = unsafe {
            libc::splice(from, std::ptr::null_mut(), to, &raw mut offset, len, libc::SPLICE_F_NONBLOCK)
        };
        match check(n as _) {
            Err(e) if e.0 == libc::EINTR => {}
            r => return r.map(|n| n as usize),
        }
    }
}

/// Moves at most `len` bytes between a pipe and a socket, without waiting. 0: the end of `from`.
pub fn splice(from: RawFd, to: RawFd, len: usize) -> SysResult<usize> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    loop {
        // SAFETY: no offsets are passed.
        let n = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), len, flags) };
        match check(n as _) {
            Err(e) if e.0 == libc::EINTR => {}
            r => return r.map(|n| n as usize),
        }
    }
}
