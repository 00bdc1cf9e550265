//! Children of `orund` that deal with what comes from outside: how they are run, and how they answer.

use crate::error::{Errno, Error, Kind, Result};
use crate::sys::fd::{self, PollFd};
use crate::sys::wait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of an answer.
const LONGEST_ANSWER: usize = 64 << 20;
/// Hint for a full disk.
pub const NO_SPACE: &str = "free some space: \"orund image prune\" removes unused images";
/// How often the caller is asked whether it still waits, milliseconds.
const TURN: i32 = 100;

/// The answer of a child, one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer<T> {
    Done(T),
    Failed(Failure),
}

/// An error on its way from one process to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The input is at fault, and another attempt fails alike.
    pub hopeless: bool,
    pub message: String,
    pub errno: Option<i32>,
}

impl Failure {
    /// The error as the child had it: its callers distinguish a full disk from a fault of the registry.
    fn into_error(self) -> Error {
        let kind = if self.hopeless { Kind::Config } else { Kind::State };
        let hinted = self.message.contains("; hint: ");
        let e = match self.errno {
            Some(n) => Error::relayed(kind, self.message, Errno(n)),
            None => Error::new(kind, self.message),
        };
        match self.errno {
            Some(libc::ENOSPC) if !hinted => e.hint(NO_SPACE),
            _ => e,
        }
    }
}

impl<T: Serialize> Answer<T> {
    pub fn of(result: Result<T>) -> Answer<T> {
        match result {
            Ok(done) => Answer::Done(done),
            Err(e) => Answer::Failed(Failure {
                hopeless: matches!(e.kind(), Kind::Config | Kind::Unsupported | Kind::NotFound),
                message: e.to_string(),
                errno: e.errno().map(|e| e.0),
            }),
        }
    }

    /// Writes it to standard output.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn write(&self) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        io::stdout().write_all(&line)?;
        io::stdout().flush()
    }
}

/// A child that is killed when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has exited, or does now: both can only fail because it has.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` to its end and reads its answer.
///
/// # Errors
/// Its own error; it was killed; `deadline` has passed; `cancelled` says that nobody waits any more.
pub fn run<T: DeserializeOwned>(
    mut command: Command,
    what: &str,
    deadline: Duration,
    cancelled: &dyn Fn() -> bool,
) -> Result<T> {
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = Running(spawned.map_err(|e| Error::sys(format!("{what}: starting a process"), e))?);
    let stdout = child.0.stdout.take();
    let out = stdout.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let (begun, mut text, mut buf) = (Instant::now(), Vec::new(), vec![0; 64 << 10]);
    let fail = |e: Errno| Error::sys(format!("{what}: reading the answer"), e);
    loop {
        let mut polled = [PollFd::new(out, libc::POLLIN)];
        let ready = fd::poll(&mut polled, TURN).map_err(fail)?;
        if cancelled() {
            return Err(Error::new(Kind::State, format!("{what}: cancelled")));
        }
        if begun.elapsed() > deadline {
            let seconds = deadline.as_secs();
            return Err(Error::new(Kind::Timeout, format!("{what} takes longer than {seconds} seconds")));
        }
        if ready == 0 {
            continue;
        }
        match fd::read(out, &mut buf).map_err(fail)? {
            0 => break,
            n if text.len() + n > LONGEST_ANSWER => {
                return Err(Error::new(Kind::State, format!("{what}: the answer is too long")));
            }
            n => text.extend_from_slice(&buf[..n]),
        }
    }
    let status = child.0.wait().map_err(|e| Error::sys(format!("{what}: waiting"), e))?;
    match serde_json::from_slice(&text) {
        Ok(Answer::Done(done)) => Ok(done),
        Ok(Answer::Failed(f)) => Err(f.into_error()),
        Err(_) => {
            let code = wait::Exit::decode(status.into_raw()).code();
            let why = match code {
                _ if code > 128 => format!("was killed by signal {}", code - 128),
                _ => format!("exited with status {code} without an answer"),
            };
            Err(Error::new(Kind::State, format!("{what}: the process {why}"))
                .hint("reading a layer may use at most 512 MiB of memory"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_number_over_two_processes() {
        let mut e = Error::sys("writing a file", Errno(libc::ENOSPC));
        for _ in 0..2 {
            let Answer::<()>::Failed(failure) = Answer::of(Err(e)) else { panic!("done") };
            e = failure.into_error();
            assert_eq!(e.errno(), Some(Errno(libc::ENOSPC)));
            assert_eq!(e.to_string(), format!("writing a file: no space left on device; hint: {NO_SPACE}"));
        }
        assert_eq!(e.context("layer 1").errno(), Some(Errno(libc::ENOSPC)));
    }
}
