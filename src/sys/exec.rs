//! Becoming another program, ending, and making a plain child: execve(2), _exit(2), fork.

use super::{SysResult, check};
use crate::error::Errno;
use std::ffi::{CStr, CString, c_char};

/// A null-terminated array of C strings, as execve(2) takes argv and envp. It owns its strings, and is built
/// before the clone, so that the child need not allocate. There is room for one string more.
pub struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    extra: Box<[u8; 4096]>,
}

// SAFETY: the pointers lead to what the array itself owns on the heap, which nobody else changes.
unsafe impl Send for StringArray {}
// SAFETY: as above; only a mutable reference changes anything.
unsafe impl Sync for StringArray {}

impl std::fmt::Debug for StringArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(f)
    }
}

impl Clone for StringArray {
    fn clone(&self) -> StringArray {
        StringArray::new(self.strings.clone())
    }
}

impl PartialEq for StringArray {
    fn eq(&self, other: &StringArray) -> bool {
        self.strings == other.strings
    }
}

impl StringArray {
    /// An array of `strings`.
    pub fn new(strings: Vec<CString>) -> StringArray {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.extend([std::ptr::null(), std::ptr::null()]);
        StringArray { strings, pointers, extra: Box::new([0; 4096]) }
    }

    /// The buffer of the extra string, which must end with a NUL before [`StringArray::use_extra`].
    pub fn extra(&mut self) -> &mut [u8; 4096] {
        &mut self.extra
    }

    /// Makes the extra string the last of the array.
    pub fn use_extra(&mut self) {
        self.extra[4095] = 0;
        self.pointers[self.strings.len()] = self.extra.as_ptr().cast();
    }

    /// The strings, without the extra one.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Replaces the program: execve(2). Returns only on failure.
pub fn execve(path: &CStr, argv: &StringArray, envp: &StringArray) -> Errno {
    // SAFETY: path is a C string; both arrays end with null and own their strings.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// Ends the process at once: exit_group(2).
pub fn exit(status: i32) -> ! {
    // SAFETY: no memory is passed; the call does not return.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    unreachable!()
}

/// Ends the process with status 128 + N at each signal N of `signals`: sigaction(2).
pub fn exit_on(signals: &[i32]) -> SysResult<()> {
    extern "C" fn end(signal: i32) {
        exit(128 + signal)
    }
    // SAFETY: sigaction is plain data, for which all zeros is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = end as extern "C" fn(i32) as usize;
    for signal in signals {
        // SAFETY: the structure is valid, and the handler makes one system call only (signal-safety(7)).
        check(unsafe { libc::sigaction(*signal, &raw const action, std::ptr::null_mut()) }.into())?;
    }
    Ok(())
}

/// Unblocks all signals and gives SIGPIPE its default action: sigprocmask(2), sigaction(2). A handler goes by itself with
/// execve(2).
///
/// A signal that is ignored stays so, as over execve(2), save SIGPIPE, which [`super::entry::prepare`] ignores. The order
/// matters: one that came while it was blocked is still pending, and is dropped only as long as it is ignored.
pub fn reset_signals() -> SysResult<()> {
    let none = 0u64;
    // SAFETY: the kernel's signal set is 8 bytes.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            8,
        )
    })?;
    // SAFETY: sigaction is plain data, for which all zeros is SIG_DFL without flags.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the structures are valid; nothing old is asked for.
    let r = unsafe { libc::sigaction(libc::SIGPIPE, &raw const default, std::ptr::null_mut()) };
    check(r.into()).map(drop)
}
