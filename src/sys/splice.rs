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
