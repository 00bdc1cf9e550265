//! The last steps: from a process of the runtime to the container's program.

use super::{Child, Failure, Progress, StepResult};
use crate::error::Errno;
use crate::kernel::protocol::{self, Tag};
use crate::plan::op::{NOT_IN_PATH, OUTSIDE_ROOT, Op, ProgramOp};
use crate::sys::cred::{self, CapSets};
use crate::sys::{self, SysResult, exec, fd, file, limits, path, prctl, sched};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

impl Child<'_> {
    pub(super) fn become_program(&mut self, index: usize, op: &ProgramOp, made: &mut Progress) -> StepResult {
        match op {
            ProgramOp::Label { files, text } => self.write_label(files, text)?,
            ProgramOp::Limit(l) => sched::prlimit(0, l.resource, l.soft, l.hard)?,
            ProgramOp::NoNewPrivileges => prctl::set_no_new_privs()?,
            ProgramOp::Scheduler(attr) => sched::sched_setattr(attr)?,
            ProgramOp::IoPriority(value) => sched::ioprio_set(*value)?,
            ProgramOp::MemoryPolicy { mode, nodes } => sched::set_mempolicy(*mode, nodes)?,
            ProgramOp::Personality(domain) => prctl::personality(*domain)?,
            ProgramOp::Seccomp { filter, flags, notify } => {
                // The filter may forbid it later.
                self.make_dumpable(made)?;
                if *notify {
                    self.announce_listener(index)?;
                }
                prctl::seccomp_load(filter, *flags)?;
            }
            ProgramOp::DefaultSecurebits => prctl::set_securebits(0)?,
            ProgramOp::DropBounding { mask } => {
                for cap in bits(*mask) {
                    prctl::drop_bounding(cap)?;
                }
            }
            ProgramOp::ChownStdio { uid } => (0..3).for_each(|fd| own_stream(fd, *uid)),
            ProgramOp::Credentials { uid, gid, groups, keep_capabilities } => {
                if *keep_capabilities {
                    prctl::set_keepcaps(true)?;
                }
                if let Some(groups) = groups {
                    match cred::setgroups(groups) {
                        // Where a user namespace forbids the call there is nothing to take away either.
                        Err(Errno(libc::EPERM)) if groups.is_empty() => {}
                        r => r?,
                    }
                }
                cred::setresgid(*gid)?;
                cred::setresuid(*uid)?;
            }
            ProgramOp::Capabilities { effective, permitted, inheritable, ambient } => {
                let sets =
                    CapSets { effective: *effective, permitted: *permitted, inheritable: *inheritable };
                cred::capset(sets)?;
                for cap in bits(*ambient) {
                    prctl::raise_ambient(cap)?;
                }
            }
            ProgramOp::Umask(mask) => drop(file::umask(*mask)),
            ProgramOp::WorkingDirectory { path, last } => enter_working_directory(path, *last, made)?,
            ProgramOp::Home { uid } => self.set_home(*uid),
            ProgramOp::FindProgram { candidates, searched } => made.program = find(candidates, *searched)?,
            ProgramOp::CloseDescriptors { keep } => self.close_descriptors(*keep, made)?,
            ProgramOp::Execute => {
                let path = self.program(made)?;
                limits::restore(self.caller.own_limits)?;
                exec::reset_signals(self.caller.ignored)?;
                return Err(exec::execve(path, self.argv, self.env).into());
            }
        }
        Ok(())
    }

    fn program(&self, made: &Progress) -> SysResult<&CStr> {
        self.ops
            .iter()
            .find_map(|op| {
                let Op::Program(ProgramOp::FindProgram { candidates, .. }) = op else { return None };
                candidates.get(made.program).map(CString::as_c_str)
            })
            .ok_or(Errno(libc::ENOENT))
    }

    /// After `start` the container has begun: what fails now ends it, as in runc, and its standard error says why. The
    /// exit status is a shell's: 127 for a program that is missing, 126 for one that cannot be run.
    pub(super) fn fail_as_program(&self, op: &Op, errno: Errno) -> i32 {
        let (what, program, status) = if matches!(op, Op::Program(ProgramOp::Execute)) {
            ("exec ", self.argv.strings().first(), if errno.0 == libc::ENOENT { 127 } else { 126 })
        } else if matches!(op, Op::Program(ProgramOp::Seccomp { .. })) {
            ("loading the seccomp filter", None, 1)
        } else {
            // `start` fails, with the hook's output.
            return 1;
        };
        let mut line = Line { buf: [0; 4608], len: 0 };
        line.add(b"orun: error: ");
        line.add(what.as_bytes());
        // The caller's screen is none of the container's business.
        program
            .iter()
            .flat_map(|p| p.to_bytes())
            .for_each(|b| line.add(&[if b.is_ascii_control() { b'?' } else { *b }]));
        line.add(b": ");
        let mut words = [0; 64];
        let length = errno.write_words(&mut words);
        line.add(&words[..length]);
        line.add(b"\n");
        // Nobody may be there to read it.
        let _ = fd::write(2, &line.buf[..line.len]);
        status
    }

    fn write_label(&self, files: &[CString], text: &[u8]) -> StepResult {
        let mut last = Errno(libc::ENOENT);
        for f in files {
            match self.open_proc(f, libc::O_WRONLY) {
                Ok(fd) => return fd::write_all(fd.as_raw_fd(), text).map_err(Failure::from),
                Err(e) => last = e,
            }
        }
        Err(last.into())
    }

    /// The kernel gives the listener the lowest free descriptor; this is which.
    fn announce_listener(&self, index: usize) -> SysResult<()> {
        let next = fd::dup_above(self.socket, 0)?;
        let number = next.as_raw_fd();
        drop(next);
        protocol::send(self.socket, Tag::Listener, index as u16, number, 0, &[], None)
    }

    /// HOME from the container's /etc/passwd, `/` when the user is missing. A passwd that cannot be read is not
    /// an error.
    fn set_home(&mut self, uid: u32) {
        let mut home = [0u8; 4096];
        let len = home_of(uid, &mut home).unwrap_or(0);
        let value: &[u8] = if len == 0 { b"/" } else { &home[..len] };
        self.env.push_extra(b"HOME=", value);
    }

    fn close_descriptors(&self, keep: u32, made: &Progress) -> StepResult {
        let raw = |fd: Option<&OwnedFd>| fd.map_or(-1, AsRawFd::as_raw_fd);
        let start = raw(self.slots.start.as_ref());
        // All of these are close-on-exec.
        fd::close_all_but(3 + keep as i32, [self.socket, start, raw(made.started.as_ref())])?;
        Ok(())
    }
}

/// Text without allocation. What is too much for it is left out.
struct Line {
    buf: [u8; 4608],
    len: usize,
}

impl Line {
    fn add(&mut self, text: &[u8]) {
        let end = (self.len + text.len()).min(self.buf.len());
        self.buf[self.len..end].copy_from_slice(&text[..end - self.len]);
        self.len = end;
    }
}

/// The numbers of the bits that are set.
fn bits(mask: u64) -> impl Iterator<Item = u8> {
    (0..64u8).filter(move |n| mask >> n & 1 == 1)
}

/// Enters the working directory and makes sure that it lies inside the root: a descriptor of the host that
/// leaked into the container would otherwise lead out of it (CVE-2024-21626).
fn enter_working_directory(path: &CStr, last: bool, made: &mut Progress) -> StepResult {
    if last && !made.cwd_pending || made.in_root && path == c"/" {
        return Ok(());
    }
    match file::chdir(path) {
        // The directory may be open to the container's user only (a network file system with root squash).
        Err(Errno(libc::EACCES | libc::EPERM)) if !last => {
            made.cwd_pending = true;
            return Ok(());
        }
        // /proc/self exists only for a process of the pid namespace that the procfs is of.
        Err(Errno(libc::ENOENT)) if !last && path.to_bytes().starts_with(b"/proc/") => {
            made.cwd_pending = true;
            return Ok(());
        }
        r => r?,
    }
    let mut buf = [0u8; 4096];
    let n = match file::getcwd(&mut buf) {
        // A filter that forbids getcwd is the container's own; the plan has it checked before that.
        Err(Errno(libc::EPERM | libc::ENOSYS)) if last => return Ok(()),
        r => r?,
    };
    if buf[..n].starts_with(b"/") {
        Ok(())
    } else {
        Err(Failure::with(Errno(libc::ENOENT), OUTSIDE_ROOT, b"outside"))
    }
}

/// The first candidate that can be executed.
fn find(candidates: &[CString], searched: bool) -> Result<usize, Failure> {
    let mut last = Errno(libc::ENOENT);
    for (i, path) in candidates.iter().enumerate() {
        match executable(path) {
            Ok(()) => return Ok(i),
            Err(e) => last = e,
        }
    }
    if searched { Err(Failure::with(Errno(libc::ENOENT), NOT_IN_PATH, &[])) } else { Err(last.into()) }
}

fn executable(path: &CStr) -> SysResult<()> {
    let st = file::fstatat(sys::CWD, path, 0)?;
    if st.is_dir() {
        return Err(Errno(libc::EISDIR));
    }
    match file::access(sys::CWD, path, libc::X_OK) {
        // A filter may know no faccessat; then execve(2) decides.
        Err(Errno(libc::ENOSYS | libc::EPERM)) => Ok(()),
        r => r,
    }
}

/// A terminal or /dev/null stays whose it is, and so does a file that is only read: it may be any of the host's. What
/// cannot be given away, as a pipe of another user namespace, can still be written to.
fn own_stream(stream: i32, uid: u32) {
    let Ok(st) = file::fstat(stream) else { return };
    let given = match st.kind() {
        libc::S_IFIFO | libc::S_IFSOCK => true,
        libc::S_IFREG => fd::is_writable(stream),
        _ => false,
    };
    if given && st.uid != uid {
        let _ = file::fchown(stream, uid, u32::MAX);
    }
}

/// Reads the home directory of `uid` from /etc/passwd (passwd(5)) into `out`; its length.
fn home_of(uid: u32, out: &mut [u8; 4096]) -> Option<usize> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let f = path::openat2(sys::CWD, c"/etc/passwd", flags, path::NO_MAGICLINKS).ok()?;
    if file::fstat(f.as_raw_fd()).ok()?.kind() != libc::S_IFREG {
        return None;
    }
    let mut scan = Passwd::new(uid);
    let mut buf = [0u8; 4096];
    // Nothing sane is larger, and the file is the container's to choose.
    for _ in 0..1024 {
        let n = fd::read(f.as_raw_fd(), &mut buf).ok()?;
        for byte in if n == 0 { &b"\n"[..] } else { &buf[..n] } {
            if scan.feed(*byte, out) {
                return Some(scan.len);
            }
        }
        if n == 0 {
            break;
        }
    }
    None
}

/// Finds the home directory of a user id in passwd(5) text that comes byte by byte.
struct Passwd {
    uid: u32,
    field: usize,
    number: Option<u64>,
    len: usize,
}

impl Passwd {
    fn new(uid: u32) -> Passwd {
        Passwd { uid, field: 0, number: None, len: 0 }
    }

    /// Takes one byte; true when the completed line was the user's, and `out[..len]` is the home.
    fn feed(&mut self, byte: u8, out: &mut [u8; 4096]) -> bool {
        match byte {
            b'\n' => {
                let hit = self.field >= 5 && self.number == Some(self.uid.into());
                if !hit {
                    *self = Passwd::new(self.uid);
                }
                return hit;
            }
            b':' => self.field += 1,
            b if self.field == 2 => {
                // Anything but digits spoils the number for good.
                let n = self.number.unwrap_or(0);
                self.number = Some(if b.is_ascii_digit() {
                    (n * 10 + u64::from(b - b'0')).min(1 << 40)
                } else {
                    1 << 40
                });
            }
            b if self.field == 5 && self.len < out.len() => {
                out[self.len] = b;
                self.len += 1;
            }
            _ => {}
        }
        false
    }
}

/// Writes `n` in decimal; the number of digits.
pub(super) fn decimal(n: u32, buf: &mut [u8]) -> usize {
    let mut digits = [0u8; 10];
    let mut rest = n;
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let len = digits.len() - at;
    buf[..len].copy_from_slice(&digits[at..]);
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(text: &str, uid: u32) -> Option<String> {
        let mut out = [0; 4096];
        let mut scan = Passwd::new(uid);
        let mut text = text.as_bytes().to_vec();
        text.push(b'\n');
        let hit = text.iter().any(|b| scan.feed(*b, &mut out));
        hit.then(|| String::from_utf8(out[..scan.len].to_vec()).unwrap())
    }

    #[test]
    fn home_is_found_by_number_only() {
        let text = "root:x:0:0:root:/root:/bin/sh\n1000:x:1001:1000:a:/wrong:/bin/sh\napp:x:1000:1000:b:/home/app:/bin/sh";
        assert_eq!(home(text, 1000).as_deref(), Some("/home/app"));
        assert_eq!(home(text, 0).as_deref(), Some("/root"));
        assert_eq!(home(text, 7), None);
        assert_eq!(home("x:x::0:e:/e:/s\ny:x:0x0:0:e:/h:/s\nshort:x:0", 0), None, "no number is not 0");
        assert_eq!(home("a:x:99999999999999999999:0:e:/e:/s", 0), None);
    }

    #[test]
    fn numbers_in_decimal() {
        let mut buf = [0u8; 16];
        for n in [0, 7, 10, 4_294_967_295] {
            let len = decimal(n, &mut buf);
            assert_eq!(std::str::from_utf8(&buf[..len]).unwrap(), n.to_string());
        }
    }
}
