//! Memory shared through a file: mmap(2), MAP_SHARED. What is stored there survives the process at once.

use super::SysResult;
use crate::error::Errno;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A shared mapping of the beginning of a file, as 64-bit words. The file must not become shorter meanwhile.
#[derive(Debug)]
pub struct SharedWords {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to the process, and the words are atomic.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps the first `words` words of `fd`, a file of at least that size that is open for reading and writing.
    pub fn map(fd: RawFd, words: usize) -> SysResult<SharedWords> {
        let (len, protection) = (words * size_of::<AtomicU64>(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced.
        let p = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, 0) };
        if p == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let start = NonNull::new(p.cast()).ok_or(Errno(libc::ENOMEM))?;
        Ok(SharedWords { start, words })
    }

    /// Reads from `fd` into it, as read(2) does: up to its size.
    pub fn read(&self, fd: RawFd) -> SysResult<usize> {
        let len = self.words * size_of::<AtomicU64>();
        // SAFETY: the mapping is writable and that long, and every bit pattern is a word.
        let n = unsafe { libc::read(fd, self.start.as_ptr().cast(), len) };
        usize::try_from(n).map_err(|_| Errno::last())
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, is aligned to a page, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and no reference to it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}
