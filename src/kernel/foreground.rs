//! Staying with a process: its terminal is ours, signals are forwarded to it, and its exit status becomes ours.

use crate::error::{Errno, Error, Result};
use crate::kernel::sd_notify::Proxy;
use crate::kernel::terminal::{self, EndOfInput, Raw};
use crate::log;
use crate::sys::fd::{self, PollFd};
use crate::sys::wait::{self, Exit};
use crate::sys::{SysResult, signalfd, time, tty};
use std::io::IsTerminal;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// How long the last output of a terminal is waited for once the process is gone, in milliseconds: others may hold
/// the terminal open forever.
const DRAIN: i32 = 100;
/// How much of it is taken at most, in bytes: others may write forever. The kernel holds far less.
const REST: usize = 1 << 20;
/// How long a process may live on without its terminal, in milliseconds.
const GRACE: u64 = 3000;
/// A pipe that is ready takes this much without a wait: PIPE_BUF.
const PIECE: usize = 4096;

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

/// Stays until the process of `pidfd` has exited, and reaps it. When it is ready the service manager is notified.
///
/// A terminal hangs up when its output has no reader, or when the caller's own terminal hangs up. Then the process
/// counts as ended by SIGPIPE, as in every pipeline, or by SIGHUP.
///
/// # Errors
/// A system call fails that cannot.
pub fn wait_for_exit(
    pidfd: &OwnedFd,
    signals: &Signals,
    terminal: Option<OwnedFd>,
    notify: Option<Proxy>,
) -> Result<Exit> {
    let relay = Relay {
        pidfd: pidfd.as_raw_fd(),
        signals: signals.0.as_raw_fd(),
        terminal: terminal.map(Terminal::new),
        notify,
        exit: None,
        hung_up: None,
    };
    relay.run().map_err(|e| Error::sys("waiting for the container's process", e))
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
    fn fill(&mut self, from: RawFd) -> usize {
        let mut chunk = [0u8; 16 << 10];
        match fd::read(from, &mut chunk) {
            Ok(n) if n > 0 => {
                self.buf.extend_from_slice(&chunk[..n]);
                return n;
            }
            Err(Errno(libc::EAGAIN)) => {}
            _ => self.ended = true,
        }
        0
    }

    /// Writes once.
    fn drain(&mut self, to: RawFd) -> SysResult<()> {
        match fd::write(to, &self.buf[..self.buf.len().min(PIECE)]) {
            Ok(n) => drop(self.buf.drain(..n)),
            Err(Errno(libc::EAGAIN)) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// The container's terminal, with what goes to and from it.
struct Terminal {
    master: OwnedFd,
    /// The process's end: as long as it is open, a process that closes its own may open another. Not for longer than the
    /// process lives.
    slave: Option<OwnedFd>,
    /// The caller's own terminal, in raw mode.
    raw: Raw,
    input: Pump,
    output: Pump,
    end: Option<EndOfInput>,
    /// How many bytes of output are still taken.
    rest: usize,
}

impl Terminal {
    fn new(master: OwnedFd) -> Terminal {
        if std::io::stdin().is_terminal() {
            // It cannot fail: the signals exist.
            let _ = signalfd::stop_in_background();
        }
        let slave = tty::peer(master.as_raw_fd()).ok();
        let raw = Raw::enter();
        terminal::resize(master.as_raw_fd());
        let (input, output) = (Pump::default(), Pump::default());
        Terminal { master, slave, raw, input, output, end: None, rest: usize::MAX }
    }

    /// The process has ended: what it has written is still to come.
    fn process_ended(&mut self) {
        self.slave = None;
        self.rest = REST;
    }

    fn is_done(&self) -> bool {
        self.output.ended && self.output.buf.is_empty()
    }

    fn fds(&self, exited: bool) -> [PollFd; 3] {
        let side = |wanted: bool, fd: RawFd| if wanted { fd } else { -1 };
        let flag = |wanted: bool, event: i16| if wanted { event } else { 0 };
        let events = flag(!self.input.buf.is_empty() && !exited, libc::POLLOUT)
            | flag(self.output.wants_input(), libc::POLLIN);
        [
            PollFd::new(side(self.input.wants_input() && !exited, 0), libc::POLLIN),
            PollFd::new(side(events != 0, self.master.as_raw_fd()), events),
            PollFd::new(side(!self.output.buf.is_empty(), 1), libc::POLLOUT),
        ]
    }

    /// Moves what can be moved. The signal that a caller who has gone amounts to.
    fn relay(&mut self, ready: [PollFd; 3]) -> Option<i32> {
        let [keys, master, screen] = ready.map(PollFd::revents);
        let m = self.master.as_raw_fd();
        if keys != 0 {
            self.input.fill(0);
            if self.input.ended && keys & libc::POLLHUP != 0 && self.raw.is_on() {
                return Some(libc::SIGHUP);
            }
        }
        if !self.input.buf.is_empty() && master & !libc::POLLIN != 0 && self.input.drain(m).is_err() {
            self.input.buf.clear();
        }
        if self.output.wants_input() && master & !libc::POLLOUT != 0 {
            self.rest = self.rest.saturating_sub(self.output.fill(m));
            self.output.ended |= self.rest == 0;
        }
        if screen != 0
            && let Err(e) = self.output.drain(1)
        {
            if ![libc::EPIPE, libc::EIO].contains(&e.0) {
                log::warn(Error::sys("writing the output of the container's terminal", e));
            }
            return Some(libc::SIGPIPE);
        }
        self.end_input();
        None
    }

    fn end_input(&mut self) {
        if let Some(slave) = &self.slave
            && self.input.ended
            && self.input.buf.is_empty()
        {
            let end = self.end.get_or_insert_with(EndOfInput::begin);
            end.press(self.master.as_raw_fd(), slave.as_raw_fd());
        }
    }
}

/// State of the transfer between the caller and the process.
struct Relay {
    pidfd: RawFd,
    signals: RawFd,
    terminal: Option<Terminal>,
    notify: Option<Proxy>,
    exit: Option<Exit>,
    /// The signal that it amounts to, and when the process is killed, in milliseconds of the monotonic clock.
    hung_up: Option<(i32, u64)>,
}

impl Relay {
    fn run(mut self) -> SysResult<Exit> {
        loop {
            if let Some(exit) = self.exit
                && self.terminal.as_ref().is_none_or(Terminal::is_done)
            {
                return Ok(self.hung_up.map_or(exit, |(signal, _)| Exit::Signal(signal)));
            }
            let side = |wanted: bool, fd: RawFd| if wanted { fd } else { -1 };
            let none = [PollFd::new(-1, 0); 3];
            let [keys, master, screen] = self.terminal.as_ref().map_or(none, |t| t.fds(self.exit.is_some()));
            let mut fds = [
                PollFd::new(side(self.exit.is_none(), self.pidfd), libc::POLLIN),
                PollFd::new(self.signals, libc::POLLIN),
                PollFd::new(self.notify.as_ref().map_or(-1, Proxy::fd), libc::POLLIN),
                keys,
                master,
                screen,
            ];
            let n = fd::poll(&mut fds, self.timeout())?;
            let [pidfd, signals, notify, terminal @ ..] = fds;
            if signals.revents() != 0 {
                self.take_signals()?;
            }
            if notify.revents() != 0 {
                self.take_notification();
            }
            if let Some(t) = &mut self.terminal {
                let gone = t.relay(terminal);
                if n == 0 && self.exit.is_some() && t.output.buf.is_empty() {
                    t.output.ended = true;
                }
                if let Some(signal) = gone {
                    self.hang_up(signal);
                }
            }
            if pidfd.revents() != 0 {
                self.exit = wait::wait_pidfd(self.pidfd, false)?;
                if let (Some(_), Some(t)) = (self.exit, &mut self.terminal) {
                    t.process_ended();
                }
            }
            self.kill_in_time()?;
        }
    }

    /// Milliseconds until there is something to do that no descriptor tells of.
    fn timeout(&self) -> i32 {
        match (&self.terminal, self.hung_up) {
            (Some(t), _) if self.exit.is_some() && t.output.buf.is_empty() => DRAIN,
            // The reader of the output may be slow.
            (Some(_), _) if self.exit.is_some() => -1,
            (Some(Terminal { end: Some(end), .. }), _) => end.wait() as i32,
            (None, Some((_, deadline))) if self.exit.is_none() && deadline != u64::MAX => {
                deadline.saturating_sub(time::monotonic_ms()) as i32
            }
            _ => -1,
        }
    }

    /// Closes the container's terminal: the kernel sends its foreground processes SIGHUP, and writing to it fails.
    fn hang_up(&mut self, signal: i32) {
        self.terminal = None;
        if self.exit.is_none() {
            self.hung_up = Some((signal, time::monotonic_ms() + GRACE));
        }
    }

    /// A process that nothing but its terminal would have ended: the first one of a pid namespace gets no signal that it
    /// has no handler for.
    fn kill_in_time(&mut self) -> SysResult<()> {
        if let (None, Some((signal, deadline))) = (self.exit, self.hung_up)
            && time::monotonic_ms() >= deadline
        {
            self.hung_up = Some((signal, u64::MAX));
            self.send(libc::SIGKILL)?;
        }
        Ok(())
    }

    fn take_notification(&mut self) {
        let done = self.notify.as_ref().map(|proxy| proxy.relay(std::process::id() as i32));
        match done {
            Some(Ok(true)) => self.notify = None,
            Some(Err(e)) => {
                log::warn(e);
                self.notify = None;
            }
            Some(Ok(false)) | None => {}
        }
    }

    fn take_signals(&mut self) -> SysResult<()> {
        while let Some(signal) = signalfd::next(self.signals)? {
            match (signal.number, &mut self.terminal) {
                (libc::SIGCHLD | libc::SIGPIPE, _) => {}
                // The terminal's are not for who was started with them ignored: under nohup(1), or with & in a script.
                (number, _) if signal.by_kernel && signalfd::is_ignored(number) => {}
                // The size of the window is not a matter of the process but of its terminal.
                (libc::SIGWINCH, Some(t)) => terminal::resize(t.master.as_raw_fd()),
                (libc::SIGTSTP, Some(t)) if t.raw.is_on() => {
                    t.raw.suspend();
                    terminal::resize(t.master.as_raw_fd());
                }
                (libc::SIGCONT, Some(t)) if t.raw.is_on() => {
                    t.raw.again();
                    terminal::resize(t.master.as_raw_fd());
                }
                // Nobody wants to wait for whoever reads the output.
                (libc::SIGTERM | libc::SIGINT | libc::SIGHUP, Some(_)) if self.exit.is_some() => {
                    self.terminal = None;
                }
                (number, _) => self.send(number)?,
            }
        }
        Ok(())
    }

    fn send(&self, signal: i32) -> SysResult<()> {
        match wait::pidfd_send_signal(self.pidfd, signal) {
            Ok(()) | Err(Errno(libc::ESRCH)) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
