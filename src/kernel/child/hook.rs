//! Hooks that run in the container, as children of its first process.

use super::{Caller, Failure, StepResult};
use crate::error::Errno;
use crate::kernel::protocol::DETAIL;
use crate::plan::op::HookOp;
use crate::sys::clone::{self, Clone};
use crate::sys::exec::StringArray;
use crate::sys::fd::{self, PollFd};
use crate::sys::{SysResult, exec, file, limits, prctl, time, wait};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Resources of a hook from the process that runs it.
pub(super) struct With<'a> {
    /// The environment of a hook without one of its own.
    pub env: &'a StringArray,
    /// The directory in which it starts, if it is another one.
    pub dir: Option<RawFd>,
    /// How many descriptors from 3 on are open for the program alone; `None` when any may be.
    pub kept: Option<u32>,
    pub caller: Caller,
}

/// Runs one hook: the state on its standard input, its output kept (the last part that fits) for the error. `extra` of a failure is the exit status, or 128 + N for signal N; ETIME is the time-out.
pub(super) fn run(h: &HookOp, with: &With) -> StepResult {
    let (state_in, state_out) = fd::pipe()?;
    let (out_in, out_out) = fd::pipe()?;
    let (failed_in, failed_out) = fd::pipe()?;
    match clone::clone3(0, None)? {
        Clone::Child => {
            let e = become_hook(h, with, &state_in, &out_out);
            let _ = fd::write(failed_out.as_raw_fd(), &e.0.to_ne_bytes());
            exec::exit(127);
        }
        Clone::Parent { pidfd, .. } => {
            drop((state_in, out_out, failed_out));
            fd::set_nonblocking(state_out.as_raw_fd())?;
            let mut digits = [0u8; 12];
            let n = super::process::decimal(prctl::getpid() as u32, &mut digits);
            let mut input = Input { pipe: Some(state_out), parts: [&h.state.0, &digits[..n], &h.state.1] };
            let mut text = [0u8; DETAIL];
            let (len, in_time) = collect(&mut input, &out_in, &pidfd, h.timeout, &mut text)?;
            if !in_time {
                wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL)?;
                wait::wait_pidfd(pidfd.as_raw_fd(), true)?;
                return Err(Failure::with(Errno(libc::ETIME), 0, &text[..len]));
            }
            let exit = wait::wait_pidfd(pidfd.as_raw_fd(), true)?;
            let mut errno = [0u8; 4];
            if fd::read(failed_in.as_raw_fd(), &mut errno)? == errno.len() {
                return Err(Failure::with(Errno(i32::from_ne_bytes(errno)), 0, b""));
            }
            match exit.map(wait::Exit::code) {
                Some(0) => Ok(()),
                code => Err(Failure::with(Errno(0), code.unwrap_or(-1), &text[..len])),
            }
        }
    }
}

fn become_hook(h: &HookOp, with: &With, state: &OwnedFd, out: &OwnedFd) -> Errno {
    let With { env, dir, kept, caller } = *with;
    let prepare = || -> SysResult<()> {
        fd::dup2(state.as_raw_fd(), 0)?;
        fd::dup2(out.as_raw_fd(), 1)?;
        fd::dup2(out.as_raw_fd(), 2)?;
        // A hook may ask its parent's death signal for itself; it starts without one.
        prctl::set_parent_death_signal(0)?;
        if let Some(dir) = dir {
            file::fchdir(dir)?;
        }
        match kept {
            // Before CloseDescriptors the files of the caller are still open.
            None => fd::cloexec_from(3)?,
            // After it only those of --preserve-fds are; a seccomp filter may forbid close_range(2) by now.
            Some(kept) => (3..3 + kept as RawFd).try_for_each(fd::close_on_exec)?,
        }
        limits::restore(caller.own_limits)?;
        exec::reset_signals(caller.ignored)
    };
    match prepare() {
        Ok(()) => exec::execve(&h.path, &h.args, h.env.as_ref().unwrap_or(env)),
        Err(e) => e,
    }
}

/// The state document on its way into the hook's standard input.
struct Input<'a> {
    pipe: Option<OwnedFd>,
    parts: [&'a [u8]; 3],
}

impl Input<'_> {
    /// Writes what fits. A hook that does not read its input is not a failure.
    fn advance(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        for part in &mut self.parts {
            while !part.is_empty() {
                match fd::write(pipe.as_raw_fd(), part) {
                    Ok(n) => *part = &part[n..],
                    Err(Errno(libc::EAGAIN)) => return,
                    Err(_) => *part = &[],
                }
            }
        }
        self.pipe = None;
    }

    fn raw(&self) -> i32 {
        self.pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

/// Reads output until the hook ends or its time is up. Returns how much of it stands in `text`, and whether it
/// exited in time.
fn collect(
    input: &mut Input,
    out: &OwnedFd,
    pidfd: &OwnedFd,
    timeout: u32,
    text: &mut [u8; DETAIL],
) -> SysResult<(usize, bool)> {
    let end = time::monotonic_ms() + u64::from(timeout);
    let mut len = 0;
    let mut open = true;
    loop {
        let left = end.saturating_sub(time::monotonic_ms());
        if left == 0 {
            return Ok((len, false));
        }
        let mut fds = [
            PollFd::new(if open { out.as_raw_fd() } else { -1 }, libc::POLLIN),
            PollFd::new(pidfd.as_raw_fd(), libc::POLLIN),
            PollFd::new(input.raw(), libc::POLLOUT),
        ];
        fd::poll(&mut fds, left.min(i32::MAX as u64) as i32)?;
        if fds[2].revents() != 0 {
            input.advance();
        }
        if fds[0].revents() != 0 {
            let mut buf = [0u8; 512];
            match fd::read(out.as_raw_fd(), &mut buf)? {
                0 => open = false,
                n => {
                    let n = n.min(text.len() - len);
                    text[len..len + n].copy_from_slice(&buf[..n]);
                    len += n;
                }
            }
        } else if fds[1].revents() != 0 {
            // Nothing more to read, and the hook is gone: what its own children still write is not waited for.
            return Ok((len, true));
        }
    }
}
