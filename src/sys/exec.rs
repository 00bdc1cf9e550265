//! Becoming another program, ending, and making a plain child: execve(2), _exit(2), fork.

use super::{CWD, SysResult, check, clone, fd, file, limits, path, prctl, signalfd};
use crate::error::Errno;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A null-terminated array of C strings, as execve(2) takes argv and envp. It owns its strings, and is built
/// before the clone, so that the child need not allocate. There may be room for one string more.
pub struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    extra: Vec<u8>,
}

/// Room for the extra string, with its NUL.
const EXTRA: usize = 4096;

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
        let copy = StringArray::new(self.strings.clone());
        if self.extra.capacity() == 0 { copy } else { copy.with_room() }
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
        StringArray { strings, pointers, extra: Vec::new() }
    }

    /// With room for [`StringArray::push_extra`].
    pub fn with_room(mut self) -> StringArray {
        self.extra.reserve_exact(EXTRA);
        self
    }

    /// Makes `name` and `value` together the last string of the array, cut to the room that there is. Without any, nothing
    /// happens. It does not allocate.
    pub fn push_extra(&mut self, name: &[u8], value: &[u8]) {
        let room = self.extra.capacity();
        if room == 0 {
            return;
        }
        self.extra.clear();
        for part in [name, value] {
            let left = room - 1 - self.extra.len();
            self.extra.extend_from_slice(&part[..part.len().min(left)]);
        }
        self.extra.push(0);
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

/// Ends the process with status 128 + N at each signal N of `signals`, also when the caller has them blocked or ignored:
/// sigaction(2), sigprocmask(2).
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
    signalfd::unblock(signals)
}

/// Unblocks all signals and gives those of the set `ignored` (bit N-1 is signal N) their default action:
/// rt_sigprocmask(2), rt_sigaction(2). A handler goes by itself with execve(2), which keeps what is ignored and what is
/// blocked. The order matters: one that came while it was blocked is still pending, and is dropped only as long as it is
/// ignored.
pub fn reset_signals(ignored: u64) -> SysResult<()> {
    signalfd::unblock_all()?;
    // handler, flags, restorer and set of the kernel's own structure: SIG_DFL is 0.
    let default = [0u64; 4];
    for signal in (1..=64).filter(|n| ignored >> (n - 1) & 1 == 1) {
        // SAFETY: the structure is valid; nothing old is asked for. By system call, because the C library keeps two
        // signals to itself. SIGKILL and SIGSTOP are refused, and need nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    Ok(())
}

/// Every signal, for [`reset_signals`] where it is not worth asking which are ignored.
pub const ALL_SIGNALS: u64 = u64::MAX;

/// The signals that this process ignores, as a set; all of them when /proc cannot be read: proc_pid_status(5). One
/// file, instead of a system call for each signal.
pub fn ignored_signals() -> u64 {
    let mut buf = Vec::with_capacity(4096);
    let read = path::openat(CWD, c"/proc/self/status", libc::O_RDONLY, 0)
        .and_then(|f| fd::append(f.as_raw_fd(), &mut buf));
    read.ok().and_then(|_| parse_ignored(&buf)).unwrap_or(ALL_SIGNALS)
}

fn parse_ignored(status: &[u8]) -> Option<u64> {
    // From the end, to which it is nearer than to the beginning.
    let line = status.rsplit(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"SigIgn:"))?;
    u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
}

/// Has the program of `command` start as if nobody had run orun: without descriptors above the third, with default actions
/// of all signals and with the caller's limits.
pub fn clean(command: &mut Command) -> &mut Command {
    clean_but(command, [])
}

/// As [`clean`], with the descriptors `kept`.
pub fn clean_but<const N: usize>(command: &mut Command, kept: [RawFd; N]) -> &mut Command {
    let prepare = move || {
        let done = fd::cloexec_from(3)
            .and_then(|()| kept.iter().try_for_each(|fd| fd::keep_on_exec(*fd)))
            .and_then(|()| limits::restore(0))
            .and_then(|()| reset_signals(ALL_SIGNALS));
        done.map_err(|e| std::io::Error::from_raw_os_error(e.0))
    };
    // SAFETY: these are system calls only.
    unsafe { command.pre_exec(prepare) }
}

/// Has the program of `command` start in the namespaces `kinds` (`CLONE_NEW*`) of the process `pidfd`, in the directory `dir`, and
/// end with `SIGTERM` when its parent ends: setns(2), prctl(2).
pub fn joining(command: &mut Command, pidfd: OwnedFd, kinds: i32, dir: CString) -> &mut Command {
    let prepare = move || {
        let done = clone::setns(pidfd.as_raw_fd(), kinds)
            // Entering a mount namespace leads to its root. The directory may be one that only the caller can enter.
            .map(|()| {
                let _ = file::chdir(&dir);
            })
            // Entering a user namespace takes this back.
            .and_then(|()| prctl::set_parent_death_signal(libc::SIGTERM));
        done.map_err(|e| std::io::Error::from_raw_os_error(e.0))
    };
    // SAFETY: these are system calls only.
    unsafe { command.pre_exec(prepare) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_string_fits_into_an_array_with_room() {
        let strings = || vec![c"A=1".to_owned(), c"B=2".to_owned()];
        let ends = |a: &StringArray| a.pointers.iter().position(|p| p.is_null());
        let mut none = StringArray::new(strings());
        none.push_extra(b"HOME=", b"/root");
        assert_eq!(ends(&none), Some(2), "without room nothing happens");
        let mut array = none.with_room().clone();
        array.push_extra(b"HOME=", b"/root");
        assert_eq!((ends(&array), array.extra.as_slice()), (Some(3), &b"HOME=/root\0"[..]));
        assert_eq!(array.pointers[2], array.extra.as_ptr().cast());
        let place = array.extra.as_ptr();
        array.push_extra(b"HOME=", &[b'x'; 2 * EXTRA]);
        assert_eq!((array.extra.len(), array.extra.last()), (EXTRA, Some(&0)));
        assert_eq!(
            (array.extra.as_ptr(), array.extra.capacity()),
            (place, EXTRA),
            "it has not been allocated again"
        );
    }

    #[test]
    fn the_set_of_ignored_signals() {
        assert_eq!(parse_ignored(b"Name:\tx\nSigIgn:\t0000000180001000\nSigCgt:\t1\n"), Some(0x1_8000_1000));
        assert_eq!(parse_ignored(b"Name:\tx\n"), None);
        assert_eq!(parse_ignored(b"SigIgn:\tx\n"), None);
        assert_ne!(ignored_signals(), ALL_SIGNALS);
    }

    #[test]
    fn a_clean_program_has_only_three_descriptors() {
        let kept = std::fs::File::open("/dev/null").unwrap();
        fd::keep_on_exec(kept.as_raw_fd()).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ls /proc/self/fd; grep -E '^Sig(Ign|Blk)' /proc/self/status"]);
        let out = clean(&mut command).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        // ls has the directory open.
        let zeros = "0000000000000000";
        assert_eq!(text, format!("0\n1\n2\n3\nSigBlk:\t{zeros}\nSigIgn:\t{zeros}\n"));
    }
}
