//! The C library's heap: mallopt(3), malloc_trim(3); and one that short commands have in its place.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Makes all threads share one heap. Each thread's own would keep what its largest job took for good; here threads
/// seldom allocate at the same time. Only glibc has more than one.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no memory is passed; a value that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is free back to the kernel.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no memory is passed, and what is in use stays where it is.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes of [`Arena`]: more than a command that makes a container allocates, all of it, for most configurations. A page of
/// it that is never reached costs nothing.
const ARENA: usize = 2 << 20;

/// An allocator for short commands: blocks are cut from a piece of memory one after the other, and only the last one can
/// be given back. What does not fit is the C library's, so that a command that lasts is as well off as with that alone.
pub struct Arena {
    memory: UnsafeCell<MaybeUninit<[u8; ARENA]>>,
    /// How many bytes are given away.
    used: AtomicUsize,
}

// SAFETY: the memory is only handed out in pieces, none of them twice: `used` is changed atomically.
unsafe impl Sync for Arena {}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new()
    }
}

impl Arena {
    /// An arena of which nothing is used.
    pub const fn new() -> Arena {
        Arena { memory: UnsafeCell::new(MaybeUninit::uninit()), used: AtomicUsize::new(0) }
    }

    fn start(&self) -> usize {
        self.memory.get() as usize
    }

    /// Where in the memory a block begins; `None`: it is the C library's.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(self.start());
        (offset < ARENA).then_some(offset)
    }

    /// Makes `used` what it would be with the last block, which begins at `offset`, of `size` bytes instead of `old`.
    fn resize_last(&self, offset: usize, old: usize, size: usize) -> bool {
        let new = offset + size;
        new <= ARENA
            && self.used.compare_exchange(offset + old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: a block is aligned and of the size that was asked for, and overlaps no other that is in use: `used` only falls
// when the last block is given back.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (start, mut used) = (self.start(), self.used.load(Ordering::Relaxed));
        loop {
            let offset = ((start + used + layout.align() - 1) & !(layout.align() - 1)) - start;
            let end = offset.saturating_add(layout.size());
            if end > ARENA {
                // SAFETY: of the caller.
                return unsafe { System.alloc(layout) };
            }
            match self.used.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (start + offset) as *mut u8,
                Err(now) => used = now,
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(offset) => drop(self.resize_last(offset, layout.size(), 0)),
            // SAFETY: it came from there; the rest is of the caller.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(block) else {
            // SAFETY: it came from there; the rest is of the caller.
            return unsafe { System.realloc(block, layout, size) };
        };
        if self.resize_last(offset, layout.size(), size) || size <= layout.size() {
            return block;
        }
        // SAFETY: the caller promises that `size` is valid with this alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks have at least that many bytes, and do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size()) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_are_aligned_and_apart_and_the_last_one_comes_back() {
        static ONE: Arena = Arena::new();
        let arena = &ONE;
        let (one, two) = (layout(3, 1), layout(64, 64));
        // SAFETY: the layouts are not empty, and each block is used as long as it is allocated.
        unsafe {
            let a = arena.alloc(one);
            let b = arena.alloc(two);
            assert_eq!(b as usize % 64, 0);
            assert!(b as usize - a as usize >= 3);
            a.write_bytes(1, 3);
            b.write_bytes(2, 64);
            // Not the last: it moves, with what is in it.
            let c = arena.realloc(a, one, 100);
            assert_ne!(a, c);
            assert_eq!(std::slice::from_raw_parts(c, 3), [1; 3]);
            // The last one grows where it is.
            assert_eq!(arena.realloc(c, layout(100, 1), 5000), c);
            arena.dealloc(c, layout(5000, 1));
            assert_eq!(arena.alloc(one), c, "the last block is used again");
            assert_eq!(std::slice::from_raw_parts(b, 64), [2; 64]);
        }
    }

    #[test]
    fn what_does_not_fit_is_of_the_c_library() {
        static OTHER: Arena = Arena::new();
        let arena = &OTHER;
        // SAFETY: as above.
        unsafe {
            let all = arena.alloc(layout(ARENA, 1));
            let more = arena.alloc(layout(10, 8));
            assert!(arena.offset(all).is_some() && arena.offset(more).is_none() && !more.is_null());
            let grown = arena.realloc(more, layout(10, 8), 1000);
            arena.dealloc(grown, layout(1000, 8));
            // Nor does what outgrows it.
            arena.dealloc(all, layout(ARENA, 1));
            let last = arena.alloc(layout(10, 8));
            last.write_bytes(7, 10);
            let moved = arena.realloc(last, layout(10, 8), 2 * ARENA);
            assert!(arena.offset(moved).is_none());
            assert_eq!(std::slice::from_raw_parts(moved, 10), [7; 10]);
            arena.dealloc(moved, layout(2 * ARENA, 8));
        }
    }
}
