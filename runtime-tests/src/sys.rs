//! System calls that `nix` has no safe form of. The only `unsafe` of the harness.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Any system call by number, with up to six plain numbers.
pub fn syscall(number: i64, args: [u64; 6]) -> io::Result<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the callers pass numbers and null pointers only; a bad pointer gives EFAULT.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// fork(2). `None` in the child.
///
/// The caller has one thread, so the child may continue normally.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the runner and the probe have a single thread when they fork.
    let pid = check(unsafe { libc::fork() }.into())?;
    Ok((pid != 0).then_some(pid as i32))
}

/// Leaves the process without running any destructor.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// prctl(2) with numbers.
pub fn prctl(option: i32, arg: u64) -> io::Result<i64> {
    syscall(libc::SYS_prctl, [option as u64, arg, 0, 0, 0, 0])
}

/// A pidfd of a process.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let fd = syscall(libc::SYS_pidfd_open, [pid as u64, 0, 0, 0, 0, 0])?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal to exactly the process that the pidfd means.
pub fn pidfd_kill(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    syscall(libc::SYS_pidfd_send_signal, [pidfd.as_raw_fd() as u64, signal as u64, 0, 0, 0, 0]).map(drop)
}

/// Reaps one child that has exited, if there is one: its pid and wait status.
pub fn reap_any() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Soft and hard limit of a resource of the calling process.
pub fn getrlimit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: `limit` is a valid place for the result, and all-zero is a valid value of it.
    let limit = unsafe {
        check(libc::getrlimit(resource as _, limit.as_mut_ptr()).into())?;
        limit.assume_init()
    };
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Rows and columns of a terminal.
pub fn winsize(fd: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: `size` is a valid place for the result, and all-zero is a valid value of it.
    let size = unsafe {
        check(libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()).into())?;
        size.assume_init()
    };
    Ok((size.ws_row, size.ws_col))
}

/// Sets rows and columns of a terminal.
pub fn set_winsize(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel only reads `size`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into()).map(drop)
}

/// The session of which this terminal is the controlling one.
pub fn terminal_session(fd: BorrowedFd<'_>) -> io::Result<i32> {
    let mut sid = 0i32;
    // SAFETY: `sid` is a valid place for the result.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGSID, &raw mut sid) }.into())?;
    Ok(sid)
}

/// The type of namespace that a descriptor of nsfs stands for, as a CLONE_NEW* number (ioctl NS_GET_NSTYPE).
pub fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), 0xb703) }.into()).map(|n| n as i32)
}

/// The description of a key, as keyctl(KEYCTL_DESCRIBE) gives it: `type;uid;gid;perm;description`.
pub fn key_description(key: i32) -> io::Result<String> {
    let mut text = [0u8; 512];
    // SAFETY: the kernel writes at most as many bytes as the given length.
    let length = check(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_DESCRIBE, key, text.as_mut_ptr(), text.len())
    })?;
    let end = (length as usize).saturating_sub(1).min(text.len());
    Ok(String::from_utf8_lossy(&text[..end]).into_owned())
}

/// The number of a possessed key such as KEY_SPEC_SESSION_KEYRING.
pub fn key_id(special: i32) -> io::Result<i32> {
    let args = [libc::KEYCTL_GET_KEYRING_ID.into(), special as u64, 0, 0, 0, 0];
    syscall(libc::SYS_keyctl, args).map(|n| n as i32)
}

/// The CPUs that the calling thread may use.
pub fn affinity() -> io::Result<Vec<usize>> {
    let mut mask = [0u64; 128];
    let size = size_of_val(&mask);
    // SAFETY: the kernel writes at most `size` bytes of the mask.
    check(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size, mask.as_mut_ptr()) })?;
    Ok((0..mask.len() * 64).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect())
}

/// A clock's value in nanoseconds.
pub fn clock(id: i32) -> io::Result<i64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the result.
    check(unsafe { libc::clock_gettime(id, &raw mut now) }.into())?;
    Ok(now.tv_sec * 1_000_000_000 + now.tv_nsec)
}

/// The signal that the parent's death sends, 0 for none.
pub fn parent_death_signal() -> io::Result<i32> {
    let mut signal = 0i32;
    // SAFETY: `signal` is a valid place for the result.
    check(unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) }.into())?;
    Ok(signal)
}

/// Reads address 0, which ends the process by SIGSEGV.
pub fn fault() -> ! {
    // SAFETY: deliberately unsound: this is how the probe dies of a fault.
    unsafe { std::ptr::null::<u8>().read_volatile() };
    exit_now(97)
}

/// Lets `handler` be called for a signal; it does nothing but note the number.
pub fn catch(signal: i32, handler: extern "C" fn(i32)) -> io::Result<()> {
    // SAFETY: the handlers of the probe only store into an atomic.
    let old = unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    if old == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives a signal its default effect again.
pub fn default(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_DFL is always a valid disposition.
    let old = unsafe { libc::signal(signal, libc::SIG_DFL) };
    if old == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ignores a signal.
pub fn ignore(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN is always a valid disposition.
    let old = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if old == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a child process does between fork and exec.
#[derive(Debug, Default)]
pub struct ChildSetup {
    /// Descriptors that the program gets, under these numbers.
    pub fds: Vec<(OwnedFd, RawFd)>,
    /// Descriptors that the program does not get.
    pub closed: Vec<RawFd>,
    /// A new session, with standard input as its controlling terminal.
    pub new_terminal: bool,
    /// The file creation mask.
    pub umask: Option<u32>,
    /// The caller traces the program, which stops before its first instruction (PTRACE_TRACEME).
    pub traced: bool,
    /// The program loses these capabilities (numbers) from its bounding set.
    pub drop_capabilities: Vec<u64>,
    /// What else is odd about the caller, in this order.
    pub odd: Vec<crate::odd::Odd>,
}

/// Makes a command do what `setup` says before it executes its program.
pub fn prepare_child(command: &mut Command, setup: ChildSetup) {
    let work = move || -> io::Result<()> {
        if setup.new_terminal {
            // SAFETY: plain system calls; standard input is a terminal here.
            unsafe {
                check(libc::setsid().into())?;
                check(libc::ioctl(0, libc::TIOCSCTTY, 0).into())?;
            }
        }
        // Two steps, so that no target number destroys a source that is still to be used.
        let high: Vec<(RawFd, RawFd)> = setup
            .fds
            .iter()
            .map(|(fd, target)| {
                // SAFETY: duplicating a descriptor that we own.
                let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 400) };
                check(copy.into()).map(|fd| (fd as RawFd, *target))
            })
            .collect::<io::Result<_>>()?;
        for (from, to) in high {
            // SAFETY: `from` is ours, and what was open as `to` is meant to be replaced.
            check(unsafe { libc::dup2(from, to) }.into())?;
        }
        for fd in &setup.closed {
            // SAFETY: the program is meant not to have it, and the harness's code in this process needs it no more.
            check(unsafe { libc::close(*fd) }.into())?;
        }
        if let Some(mask) = setup.umask {
            // SAFETY: umask cannot fail.
            unsafe { libc::umask(mask) };
        }
        for cap in &setup.drop_capabilities {
            prctl(libc::PR_CAPBSET_DROP, *cap)?;
        }
        for odd in &setup.odd {
            odd.apply()?;
        }
        if setup.traced {
            nix::sys::ptrace::traceme()?;
        }
        Ok(())
    };
    // SAFETY: the harness has one thread when it starts programs, so that the allocations above are sound.
    unsafe { command.pre_exec(work) };
}

/// seccomp notification, as the kernel hands it over (`struct seccomp_notif`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Notification {
    /// Cookie of the notification.
    pub id: u64,
    /// The thread that made the call, in our pid namespace.
    pub pid: u32,
    /// Always 0.
    pub flags: u32,
    /// The number of the system call.
    pub number: i32,
    /// AUDIT_ARCH_* of the call.
    pub arch: u32,
    /// Where it was made.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

#[repr(C)]
struct NotificationAnswer {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// Waits for the next seccomp notification. Blocks: poll the descriptor first.
pub fn notification_receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let mut seen = Notification::default();
    // SAFETY: the layout is the kernel's, and `seen` is zeroed as it demands.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), 0xc050_2100, &raw mut seen) }.into())?;
    Ok(seen)
}

/// Answers a notification: with a value, or with an errno.
pub fn notification_answer(listener: BorrowedFd<'_>, id: u64, answer: Result<i64, i32>) -> io::Result<()> {
    let mut reply = NotificationAnswer {
        id,
        val: answer.unwrap_or(0),
        error: answer.err().map_or(0, |errno| -errno),
        flags: 0,
    };
    // SAFETY: the layout is the kernel's.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), 0xc018_2101, &raw mut reply) }.into()).map(drop)
}
