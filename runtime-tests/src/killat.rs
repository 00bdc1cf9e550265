//! Kills a program at the system call of one's choice, by ptrace(2).
//!
//! Only the program itself is traced, through every execve(2) of its own. What it clones runs free, as it does
//! without a tracer.

use crate::check::{Context, Result, fail};
use crate::command::{Cmd, Output, Running, Status};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::time::Duration;

/// The exit of a program that was to be killed.
#[derive(Debug)]
pub enum End {
    /// By SIGKILL, at the entry of the system call, which was not made.
    Killed,
    /// By itself, after this many system calls and before the one that was asked for.
    Itself(usize, Output),
}

/// Runs a program up to the entry of its system call number `nth` (from 1; the execve(2) that starts it does not
/// count), keeps it stopped for `pause`, so that the processes it has made get as far as they get without it, and
/// kills it.
pub fn run(cmd: Cmd, nth: usize, pause: Duration) -> Result<End> {
    let running = cmd.traced().spawn()?;
    let pid = Pid::from_raw(running.pid);
    let traced = trace(running, pid, nth, pause);
    if traced.is_err() {
        // EXITKILL would only end it together with us.
        let _ = kill(pid, Signal::SIGKILL);
    }
    traced
}

fn trace(running: Running, pid: Pid, nth: usize, pause: Duration) -> Result<End> {
    match waitpid(pid, None).context("waiting for the traced program")? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
        other => return fail(format!("the traced program did not stop after execve: {other:?}")),
    }
    // TRACEEXEC: a stop of its own for another execve, instead of a SIGTRAP.
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACEEXEC;
    ptrace::setoptions(pid, options).context("PTRACE_SETOPTIONS")?;
    let (mut calls, mut entry, mut signal) = (0, true, None);
    loop {
        match ptrace::syscall(pid, signal.take()) {
            // It is being killed by somebody else; waitpid reports it.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(e).context("PTRACE_SYSCALL"),
        }
        match waitpid(pid, None).context("waiting for the traced program")? {
            WaitStatus::PtraceSyscall(_) if entry => {
                (calls, entry) = (calls + 1, false);
                if calls == nth {
                    std::thread::sleep(pause);
                    return killed(pid);
                }
            }
            WaitStatus::PtraceSyscall(_) => entry = true,
            WaitStatus::PtraceEvent(..) => {}
            WaitStatus::Stopped(_, s) => signal = Some(s),
            WaitStatus::Exited(_, code) => return Ok(End::Itself(calls, running.ended(Status(code << 8)))),
            WaitStatus::Signaled(_, s, _) => {
                return Ok(End::Itself(calls, running.ended(Status(s as i32))));
            }
            other => return fail(format!("the traced program: {other:?}")),
        }
    }
}

fn killed(pid: Pid) -> Result<End> {
    kill(pid, Signal::SIGKILL).context("killing the traced program")?;
    match waitpid(pid, None).context("waiting for the killed program")? {
        WaitStatus::Signaled(_, Signal::SIGKILL, _) => Ok(End::Killed),
        other => fail(format!("the killed program: {other:?}")),
    }
}
