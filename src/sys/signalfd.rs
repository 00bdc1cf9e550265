//! Signals as messages: sigprocmask(2), signalfd(2).

use super::{SysResult, check, owned, unit};
use std::os::fd::{OwnedFd, RawFd};

/// Every signal as a bit of the kernel's set, save those that no process should take over: SIGKILL and SIGSTOP
/// cannot be blocked, and the signals of faults belong to the code that caused them.
fn all_but_faults() -> u64 {
    let faults =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];
    faults.iter().fold(u64::MAX, |set, s| set & !(1 << (s - 1)))
}

/// Blocks all signals but those of faults, and makes a descriptor that reports them.
pub fn take_all() -> SysResult<OwnedFd> {
    take(all_but_faults())
}

/// As [`take_all`], SIGABRT too: a service manager sends it to what it takes for hung. abort(3) still ends the process.
pub fn take_all_and_abort() -> SysResult<OwnedFd> {
    take(all_but_faults() | 1 << (libc::SIGABRT - 1))
}

fn take(set: u64) -> SysResult<OwnedFd> {
    // SAFETY: the kernel's signal set is 8 bytes; no old one is asked for.
    unit(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const set,
            std::ptr::null_mut::<u64>(),
            8,
        )
    })?;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel's signal set is 8 bytes.
    owned(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set, 8, flags) })
}

/// Lets the kernel stop this process when it uses its terminal in the background, as every other job.
pub fn stop_in_background() -> SysResult<()> {
    unblock(&[libc::SIGTTIN, libc::SIGTTOU])
}

/// Stops this process as SIGTSTP does one that does not take it over. Returns when it is continued.
pub fn stop() -> SysResult<()> {
    unblock(&[libc::SIGTSTP])?;
    // SAFETY: no memory is passed.
    let sent = unit(unsafe { libc::raise(libc::SIGTSTP) }.into());
    change_mask(libc::SIG_BLOCK, &[libc::SIGTSTP])?;
    sent
}

/// Unblocks all signals, which whoever started this program may have blocked: sigprocmask(2).
pub fn unblock_all() -> SysResult<()> {
    let none = 0u64;
    // SAFETY: the kernel's signal set is 8 bytes; no old one is asked for.
    unit(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            8,
        )
    })
}

/// Unblocks these signals: sigprocmask(2).
pub fn unblock(signals: &[i32]) -> SysResult<()> {
    change_mask(libc::SIG_UNBLOCK, signals)
}

fn change_mask(how: i32, signals: &[i32]) -> SysResult<()> {
    let set = signals.iter().fold(0u64, |set, s| set | 1 << (s - 1));
    // SAFETY: the kernel's signal set is 8 bytes; no old one is asked for.
    unit(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, std::ptr::null_mut::<u64>(), 8)
    })
}

/// Whether this process ignores `signal`: sigaction(2).
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction is plain data, for which all zeros is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is valid, and nothing is changed.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Has this process ignore `signal`: sigaction(2). Children of one that ignores SIGCHLD leave no zombies.
pub fn ignore(signal: i32) -> SysResult<()> {
    // SAFETY: sigaction is plain data, for which all zeros is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = libc::SIG_IGN;
    // SAFETY: the structure is valid, and no handler is set.
    unit(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }.into())
}

/// Waits for a signal that ends this process or has a handler: pause(2).
pub fn pause() {
    // SAFETY: no memory is passed.
    unsafe { libc::pause() };
}

/// Keeps signals that whoever started this program has it ignore, as nohup(1) does, from being ignored by the programs
/// that this one runs: a signal with a handler has its default action after execve(2). This program ignores them still.
pub fn keep_ignored_signals() {
    extern "C" fn ignore(_: i32) {}
    for signal in 1..=libc::SIGRTMAX() {
        // SIGPIPE is ignored by this program itself.
        if is_ignored(signal) && signal != libc::SIGPIPE {
            // SAFETY: sigaction is plain data, for which all zeros is valid.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = ignore as extern "C" fn(i32) as usize;
            action.sa_flags = libc::SA_RESTART;
            // SAFETY: the structure is valid, and the handler does nothing (signal-safety(7)).
            unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        }
    }
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub number: i32,
    /// The kernel sent it, as a terminal does at ^C and when it goes away, and no process.
    pub by_kernel: bool,
}

/// The next signal that came, if any.
pub fn next(fd: RawFd) -> SysResult<Option<Taken>> {
    // SAFETY: signalfd_siginfo is plain data, for which all zeros is valid.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: info is valid for its size.
    match check(unsafe { libc::read(fd, (&raw mut info).cast(), size) } as _) {
        Ok(_) => Ok(Some(Taken { number: info.ssi_signo as i32, by_kernel: info.ssi_code > 0 })),
        Err(e) if e.0 == libc::EAGAIN || e.0 == libc::EINTR => Ok(None),
        Err(e) => Err(e),
    }
}
