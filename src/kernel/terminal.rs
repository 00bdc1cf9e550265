//! The two terminals of a process in the foreground: the container's, whose master is ours, and the caller's.
//!
//! A line feed has to become carriage return and line feed exactly once, and a program that wants neither must get
//! neither. When keys and screen are the caller's terminal, the container's terminal does all of the work and the
//! caller's none, as with ssh(1). In every other case other programs share the caller's terminal, so that it keeps its
//! output processing, and the container's terminal leaves line feeds alone, as runc has it: a pipe gets plain lines.

use crate::error::{Error, Result};
use crate::sys::fd::{self, PollFd};
use crate::sys::{SysResult, signalfd, time, tty};
use nix::sys::termios::{self, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

const KEYS: RawFd = 0;
const SCREEN: RawFd = 1;

/// How long after the end of the input the program is first told of it, and how long it takes at most until we look
/// again whether it has taken notice, in milliseconds.
const FIRST_LOOK: u64 = 20;
const LAST_LOOK: u64 = 1000;

/// Makes the container's terminal, whose master this is, ours, before the program runs, so that it finds the caller's
/// size, and all of its output comes alike.
///
/// # Errors
/// It is no terminal.
pub fn prepare_master(master: &OwnedFd) -> Result<()> {
    let alone = [KEYS, SCREEN].iter().all(|fd| tty::attributes(*fd).is_ok());
    let set = || -> SysResult<()> {
        let mut attributes = tty::attributes(master.as_raw_fd())?;
        attributes.output_flags.set(OutputFlags::ONLCR, alone);
        tty::set_attributes(master.as_raw_fd(), SetArg::TCSANOW, &attributes)?;
        // A program that takes no input while it waits for its output to be read must not stop both.
        fd::set_nonblocking(master.as_raw_fd())
    };
    set().map_err(|e| Error::sys("setting up the container's terminal", e))?;
    resize(master.as_raw_fd());
    Ok(())
}

/// The size of the caller's terminal, whichever stream that is.
pub fn size() -> Option<(u16, u16)> {
    (0..3).find_map(|fd| tty::size(fd).ok())
}

/// Copies the caller's size to the container's terminal.
pub fn resize(master: RawFd) {
    if let Some((rows, columns)) = size() {
        // A terminal without a size keeps the one it has.
        let _ = tty::set_size(master, rows, columns);
    }
}

/// A terminal of the caller's as it was, and as it is in raw mode.
type Changed = (RawFd, Termios, Termios);

/// The caller's terminal in raw mode, when standard input is one; as it was when this is dropped.
pub struct Raw(Vec<Changed>);

impl Raw {
    /// In the background this waits until the shell puts us into the foreground.
    pub fn enter() -> Raw {
        let mut raw = Raw(Vec::new());
        raw.change(KEYS, |a| {
            let output = a.output_flags;
            termios::cfmakeraw(a);
            a.output_flags = output;
        });
        if raw.is_on() {
            raw.change(SCREEN, |a| a.output_flags.remove(OutputFlags::OPOST));
            raw.undo_at_panic();
        }
        raw
    }

    /// For keys that nobody takes: only what is written to the caller's terminal goes to it as it is.
    pub fn screen() -> Raw {
        let mut raw = Raw(Vec::new());
        raw.change(SCREEN, |a| a.output_flags.remove(OutputFlags::OPOST));
        raw.undo_at_panic();
        raw
    }

    fn change(&mut self, fd: RawFd, change: impl FnOnce(&mut Termios)) {
        let Ok(before) = tty::attributes(fd) else { return };
        let mut after = before.clone();
        change(&mut after);
        if tty::set_attributes(fd, SetArg::TCSANOW, &after).is_ok() {
            self.0.push((fd, before, after));
        }
    }

    /// Whether standard input is a terminal.
    pub fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    /// Sets raw mode again, after others have had the terminal.
    pub fn again(&self) {
        for (fd, _, after) in &self.0 {
            // It may be gone, which shows when it is read from.
            let _ = tty::set_attributes(*fd, SetArg::TCSANOW, after);
        }
    }

    /// Stops this process with the terminal as it was, and takes it over again when it is continued.
    pub fn suspend(&mut self) {
        restore(&self.0);
        self.0.clear();
        // An orphaned process is not stopped; it goes on.
        let _ = signalfd::stop();
        *self = Raw::enter();
    }

    /// A program that aborts drops nothing.
    fn undo_at_panic(&self) {
        let (changed, report) = (Mutex::new(self.0.clone()), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(changed) = changed.try_lock() {
                restore(&changed);
            }
            report(info);
        }));
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.0);
    }
}

fn restore(changed: &[Changed]) {
    for (fd, before, _) in changed.iter().rev() {
        if !tty::is_elsewhere(*fd) {
            // The terminal may be gone; there is nobody left to see it then.
            let _ = tty::set_attributes(*fd, SetArg::TCSADRAIN, before);
        }
    }
}

/// The end of an input that is no terminal. A program that reads from a terminal sees no end but what the key for it
/// makes: one end, for one reader, and in the middle of a line only the line's. So the key is pressed again whenever
/// what was there before has been read.
#[derive(Debug)]
pub struct EndOfInput {
    /// When to look next, in milliseconds of the monotonic clock.
    due: u64,
    pause: u64,
}

impl EndOfInput {
    /// The input has ended now, and all of it is in the terminal.
    pub fn begin() -> EndOfInput {
        EndOfInput { due: time::monotonic_ms() + FIRST_LOOK, pause: FIRST_LOOK }
    }

    /// Milliseconds until [`EndOfInput::press`] has something to do.
    pub fn wait(&self) -> u64 {
        self.due.saturating_sub(time::monotonic_ms())
    }

    /// Presses the key if it is time and if that makes sense. `slave` is the program's end of the terminal.
    pub fn press(&mut self, master: RawFd, slave: RawFd) {
        if self.wait() > 0 {
            return;
        }
        let mut unread = [PollFd::new(slave, libc::POLLIN)];
        let unread = fd::poll(&mut unread, 0).is_ok_and(|n| n > 0);
        let lines =
            !unread && key(master).is_some_and(|(key, lines)| fd::write(master, &[key]).is_ok() && lines);
        self.pause = if lines { FIRST_LOOK } else { (self.pause * 2).min(LAST_LOOK) };
        self.due = time::monotonic_ms() + self.pause;
    }
}

/// The key that ends the input, and whether the terminal reads lines. None in raw mode, where it is data; a program that
/// edits lines itself, as shells do, knows the key and processes output still.
fn key(master: RawFd) -> Option<(u8, bool)> {
    let attributes = tty::attributes(master).ok()?;
    let lines = attributes.local_flags.contains(LocalFlags::ICANON);
    let edits = attributes.output_flags.contains(OutputFlags::OPOST);
    let key = attributes.control_chars[SpecialCharacterIndices::VEOF as usize];
    (key != 0 && (lines || edits)).then_some((key, lines))
}
