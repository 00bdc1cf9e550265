//! The start of a program without the preparations of Rust's own, which cost more system calls than a short command
//! makes itself: it reads /proc/self/maps for the bounds of the stack and sets up a handler for its overflow.

use super::{CWD, SysResult, cred, fd, file, limits, path, unit};
use crate::error::Errno;
use std::ffi::c_char;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Makes `$run`, a `fn(Vec<OsString>) -> u8`, the program: it is given the arguments without the program's name and
/// returns the exit code. For a file with `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(_argc: i32, argv: *const *const std::ffi::c_char) -> i32 {
            $crate::sys::entry::prepare(argv);
            let words = std::env::args_os().skip(1).collect();
            i32::from($run(words))
        }
    };
}

/// Steps that remain before the first line of a program.
pub fn prepare(argv: *const *const c_char) {
    ARGV.store(argv.cast_mut(), Ordering::Relaxed);
    // A missing standard descriptor would be the number of the next file that is opened, and of the container's.
    // If even /dev/null cannot be opened, the first write fails, and that is reported.
    let _ = open_missing();
    // A write to a closed reader fails with EPIPE and must not kill the program.
    // SAFETY: SIG_IGN is not a handler that could do harm, and no other thread exists yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // A process that ignores it, as the caller may, gets no exit status of a child (wait(2)).
    // SAFETY: as above, of SIG_DFL.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    limits::widen();
    keep_access();
}

/// argv as the kernel laid it out; it lives as long as the process.
static ARGV: AtomicPtr<*const c_char> = AtomicPtr::new(std::ptr::null_mut());

/// The very first instructions of the program have seen that it runs from a read-only mount.
pub fn is_protected() -> bool {
    #[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
    return super::early::is_protected();
    #[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
    false
}

/// Runs the open file `program` instead of this one, with the same arguments and environment: execveat(2). Returns
/// only on failure.
pub fn start_again(program: RawFd) -> Errno {
    unsafe extern "C" {
        /// environ(7).
        static environ: *const *const c_char;
    }
    let argv = ARGV.load(Ordering::Relaxed);
    // SAFETY: this program has one thread, and no code changes the environment.
    let env = unsafe { environ };
    // SAFETY: both arrays are the process's own and end with null.
    unsafe { libc::syscall(libc::SYS_execveat, program, c"".as_ptr(), argv, env, libc::AT_EMPTY_PATH) };
    Errno::last()
}

/// Overwrites the environment that the process was started with, which /proc/PID/environ shows as long as this program
/// runs. Only for a child that never asks for a variable again.
pub fn forget_environment() {
    unsafe extern "C" {
        /// environ(7).
        static mut environ: *mut *mut c_char;
    }
    // SAFETY: the calling process has one thread.
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return;
    }
    // SAFETY: the array ends with null, and each entry is a writable C string of this process.
    unsafe {
        while !(*entry).is_null() {
            std::ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            entry = entry.add(1);
        }
    }
}

/// A user must be able to open what orun makes, whatever the caller's umask takes from its owner. Root can anyway.
fn keep_access() {
    if cred::geteuid() != 0 {
        const OWNER: u32 = 0o700;
        let given = file::umask(!OWNER & 0o777);
        file::umask(given & !OWNER);
    }
}

fn open_missing() -> SysResult<()> {
    let mut fds = [0, 1, 2].map(|n| libc::pollfd { fd: n, events: 0, revents: 0 });
    // SAFETY: fds is valid for its length. With no events and no time-out this only asks which are open.
    unit(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, 0) }.into())?;
    for missing in fds.iter().filter(|p| p.revents & libc::POLLNVAL != 0) {
        let null = path::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?.into_raw_fd();
        if null == missing.fd {
            // The lowest free number it is; only close-on-exec is too much for a standard descriptor.
            // SAFETY: no memory is passed.
            unit(unsafe { libc::fcntl(null, libc::F_SETFD, 0) }.into())?;
        } else {
            fd::dup2(null, missing.fd)?;
        }
    }
    Ok(())
}
