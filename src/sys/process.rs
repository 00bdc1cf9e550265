//! Facts about a process from /proc (proc_pid_stat(5)).

use super::{CWD, SysResult, fd, path};
use crate::error::Errno;
use std::ffi::CString;
use std::os::fd::AsRawFd;

/// Some fields of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z` and so on.
    pub state: u8,
    pub parent: i32,
    pub session: i32,
    /// Threads; a zombie that still has live ones has more than one.
    pub threads: u32,
    /// Clock ticks from boot to the start of the process. Together with the pid it names a process for good.
    pub start_time: u64,
    /// The exit status as wait(2) encodes it; 0 while it runs, and for readers without permission.
    pub exit_code: i32,
}

impl Stat {
    /// Whether the process has exited and waits for its parent to reap it.
    ///
    /// A first thread that has called pthread_exit(3) is a zombie too, but its process lives on in the others.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }
}

/// `/proc/PID/stat`; `None` when there is no such process.
pub fn stat(pid: i32) -> SysResult<Option<Stat>> {
    let name = CString::new(format!("/proc/{pid}/stat")).expect("digits have no NUL");
    // The name of the program takes up to 64 bytes, the 51 numbers at most 21 each.
    let mut buf = [0; 1280];
    let read = path::openat(CWD, &name, libc::O_RDONLY, 0).and_then(|f| fd::read(f.as_raw_fd(), &mut buf));
    match read {
        Ok(n) => parse(&buf[..n]).map(Some).ok_or(Errno(libc::EPROTO)),
        // ESRCH: it went away between open and read.
        Err(Errno(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(e) => Err(e),
    }
}

fn parse(text: &[u8]) -> Option<Stat> {
    // The program's name is in parentheses and may hold any byte, parentheses too: take the last one.
    let after_name = text.iter().rposition(|b| *b == b')')? + 1;
    let rest = text.get(after_name..)?.trim_ascii();
    // Numbers are those of the fields in the manual page; the first after the name is 3.
    let mut fields = (3..).zip(rest.split(|b| *b == b' '));
    let mut next = |number: u32| fields.find(|(n, _)| *n == number).map(|(_, field)| field);
    let state = *next(3)?.first()?;
    let parent = signed(next(4)?)?;
    let session = signed(next(6)?)?;
    let threads = u32::try_from(number(next(20)?)?).ok()?;
    let start_time = number(next(22)?)?;
    let exit_code = next(52).and_then(signed).unwrap_or(0);
    Some(Stat { state, parent, session, threads, start_time, exit_code })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn signed(digits: &[u8]) -> Option<i32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let text = b"42 (a) Z 1 (x) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 1234567 1 1 1\n";
        assert_eq!(
            parse(text),
            Some(Stat {
                state: b'S',
                parent: 7,
                session: 42,
                threads: 9,
                start_time: 1_234_567,
                exit_code: 0
            })
        );
        assert_eq!(parse(b"42 (cut"), None);
        assert_eq!(parse(b"42 (x) S 7 42"), None);
    }

    #[test]
    fn this_process_and_one_that_is_not() {
        let me = stat(std::process::id() as i32).unwrap().unwrap();
        assert_eq!(me.parent, std::os::unix::process::parent_id() as i32);
        assert!(me.start_time > 0 && !me.has_ended());
        assert_eq!(stat(i32::MAX).unwrap(), None);
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let pid = child.id() as i32;
        while !stat(pid).unwrap().unwrap().has_ended() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(stat(pid).unwrap().unwrap().exit_code, 0x700);
        child.wait().unwrap();
        assert_eq!(stat(pid).unwrap(), None);
    }

    #[test]
    fn threads_outlive_the_first() {
        let at = |state, threads| Stat { state, parent: 1, session: 1, threads, start_time: 1, exit_code: 0 };
        assert!(at(b'Z', 1).has_ended());
        assert!(!at(b'Z', 2).has_ended());
        assert!(!at(b'S', 1).has_ended());
    }
}
