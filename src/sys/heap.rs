//! The C library's heap: mallopt(3), malloc_trim(3).

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
