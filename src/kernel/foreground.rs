//! Staying with a process: its terminal is ours, signals go on to it, and its exit status is ours in the end.

use crate::error::{Errno, Error, Result};
use crate::kernel::sd_notify::Proxy;
use crate::log;
use crate::sys::fd::{self, PollFd};
use crate::sys::wait::{self, Exit};
use crate::sys::{SysResult, signalfd, tty};
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// How long the last output of a terminal is waited for once the process is gone, in milliseconds: others may hold
/// the terminal open for ever.
const DRAIN: i32 = 100;

/// Signals, blocked and turned into messages. Make this before the process, so that none is lost.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Takes over all signals.
    ///
    /// # Errors
    /// signalfd(2) fails.
    pub fn take() -> Result<Signals> {
        signalfd::take_all().map(Signals).map_err(|e| Error::sys("taking over signals", e))
    }
}

/// The caller's terminal in raw mode, put back when this is dropped.
struct Raw<'a> {
    fd: BorrowedFd<'a>,
    before: Termios,
}

impl Raw<'_> {
    fn new(fd: BorrowedFd<'_>) -> Option<Raw<'_>> {
        let before = termios::tcgetattr(fd).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(fd, SetArg::TCSANOW, &raw).ok()?;
        Some(Raw { fd, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // The terminal may be gone; there is nobody left to see it then.
        let _ = termios::tcsetattr(self.fd, SetArg::TCSADRAIN, &self.before);
    }
}

/// Makes the container's terminal, whose master this is, ours: the one on our side already turns a line feed into
/// carriage return and line feed, or is no terminal and wants neither. It gets the size of ours. Before the program
/// runs, so that it finds this size, and all of its output comes alike.
///
/// # Errors
/// It is no terminal.
pub fn own(master: &OwnedFd) -> Result<()> {
    let fail = |e: nix::errno::Errno| Error::sys("setting up the container's terminal", e);
    let mut t = termios::tcgetattr(master).map_err(fail)?;
    t.output_flags.remove(OutputFlags::ONLCR);
    termios::tcsetattr(master, SetArg::TCSANOW, &t).map_err(fail)?;
    resize(master.as_raw_fd());
    Ok(())
}

/// Copies the caller's size to the container's terminal.
fn resize(master: RawFd) {
    if let Ok((rows, columns)) = tty::size(0) {
        // A terminal without a size keeps the one it has.
        let _ = tty::set_size(master, rows, columns);
    }
}

/// Bytes on their way from one descriptor to another.
#[derive(Default)]
struct Pump {
    buf: Vec<u8>,
    /// Nothing more will come.
    ended: bool,
}

impl Pump {
    const FULL: usize = 64 << 10;

    fn wants_input(&self) -> bool {
        !self.ended && self.buf.len() < Self::FULL
    }

    /// Reads once; the end of the input, or an error such as the EIO of a terminal without processes, ends it.
    fn fill(&mut self, from: RawFd) {
        let mut chunk = [0u8; 16 << 10];
        match fd::read(from, &mut chunk) {
            Ok(n) if n > 0 => self.buf.extend_from_slice(&chunk[..n]),
            Err(Errno(libc::EAGAIN)) => {}
            _ => self.ended = true,
        }
    }

    /// Writes once. What nobody takes any more is dropped.
    fn drain(&mut self, to: RawFd) {
        match fd::write(to, &self.buf) {
            Ok(n) => drop(self.buf.drain(..n)),
            Err(Errno(libc::EAGAIN)) => {}
            Err(_) => self.buf.clear(),
        }
    }
}

/// Stays until the process of `pidfd` has ended, and reaps it. When it is ready the service manager is told of us.
///
/// # Errors
/// A system call fails that cannot.
pub fn stay(
    pidfd: &OwnedFd,
    signals: &Signals,
    terminal: Option<&OwnedFd>,
    notify: Option<Proxy>,
) -> Result<Exit> {
    let stdin = std::io::stdin();
    let raw = terminal.and_then(|_| Raw::new(stdin.as_fd()));
    let exit = relay(pidfd, signals, terminal.map(AsRawFd::as_raw_fd), notify)
        .map_err(|e| Error::sys("waiting for the container's process", e));
    drop(raw);
    exit
}

fn relay(
    pidfd: &OwnedFd,
    signals: &Signals,
    master: Option<RawFd>,
    mut notify: Option<Proxy>,
) -> SysResult<Exit> {
    let (mut input, mut output) = (Pump::default(), Pump::default());
    input.ended = master.is_none();
    output.ended = master.is_none();
    let mut exit = None;
    loop {
        if exit.is_some() && output.ended && output.buf.is_empty() {
            break;
        }
        let side = |wanted: bool, fd: RawFd| if wanted { fd } else { -1 };
        let m = master.unwrap_or(-1);
        let mut fds = [
            PollFd::new(side(exit.is_none(), pidfd.as_raw_fd()), libc::POLLIN),
            PollFd::new(signals.0.as_raw_fd(), libc::POLLIN),
            PollFd::new(side(input.wants_input() && exit.is_none(), 0), libc::POLLIN),
            PollFd::new(side(!input.buf.is_empty(), m), libc::POLLOUT),
            PollFd::new(side(output.wants_input(), m), libc::POLLIN),
            PollFd::new(side(!output.buf.is_empty(), 1), libc::POLLOUT),
            PollFd::new(notify.as_ref().map_or(-1, Proxy::fd), libc::POLLIN),
        ];
        let n = fd::poll(&mut fds, if exit.is_some() { DRAIN } else { -1 })?;
        if n == 0 && exit.is_some() {
            break;
        }
        let ready = |i: usize| fds[i].revents() != 0;
        if ready(1) {
            forward(pidfd, signals, master)?;
        }
        if ready(2) {
            input.fill(0);
        }
        if ready(3) {
            input.drain(m);
        }
        if ready(4) {
            output.fill(m);
        }
        if ready(5) {
            output.drain(1);
        }
        if ready(6)
            && let Some(proxy) = &notify
        {
            match proxy.relay(std::process::id() as i32) {
                Ok(false) => {}
                Ok(true) => notify = None,
                Err(e) => {
                    log::warn(e);
                    notify = None;
                }
            }
        }
        if ready(0) {
            exit = wait::wait_pidfd(pidfd.as_raw_fd(), false)?;
        }
    }
    exit.ok_or(Errno(libc::ECHILD))
}

/// Passes a signal on. The size of the window is not a matter of the process but of its terminal.
fn forward(pidfd: &OwnedFd, signals: &Signals, master: Option<RawFd>) -> SysResult<()> {
    while let Some(signal) = signalfd::next(signals.0.as_raw_fd())? {
        match (signal.number, master) {
            (libc::SIGCHLD | libc::SIGPIPE, _) => {}
            // The terminal's are not for who was started with them ignored: under nohup(1), or with & in a script.
            (number, _) if signal.by_kernel && signalfd::is_ignored(number) => {}
            (libc::SIGWINCH, Some(m)) => resize(m),
            (number, _) => match wait::pidfd_send_signal(pidfd.as_raw_fd(), number) {
                Ok(()) | Err(Errno(libc::ESRCH)) => {}
                Err(e) => return Err(e),
            },
        }
    }
    Ok(())
}
