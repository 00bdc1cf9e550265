//! The standard streams of containers: pipes or a terminal, and the clients that are attached to them.

use super::keeper::link::Link;
use super::logs::pump::{Piece, Pump, Sink};
use super::names::pipe_name;
use crate::error::{Errno, Error, Result};
use crate::log;
use crate::supervisor::core::ids::Key;
use crate::sys::{self, fd, file, path, tty};
use crate::workload::model::Container;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::sync::{mpsc, oneshot};

/// Parts of output that wait for an attached client at most; one that reads more slowly is cut off.
const WAITING_MOST: usize = 256;

/// The streams of a container that is being made.
pub struct Streams {
    /// Its standard input, output and error. A terminal replaces them.
    pub stdio: [OwnedFd; 3],
    pub ours: Ours,
}

/// The supervisor's ends of the streams of a container.
#[derive(Debug, Default)]
pub struct Ours {
    /// Where output and errors are read; a terminal has one for both.
    pub output: [Option<OwnedFd>; 2],
    pub input: Option<Input>,
}

/// Where its standard input is written.
#[derive(Debug)]
pub struct Input {
    pub descriptor: OwnedFd,
    /// It ends with the first client.
    pub once: bool,
}

impl Input {
    /// Of a container whose input outlives its clients and every supervisor: the pipe is its process's standard input, which
    /// has it for both directions.
    pub fn open_persistent(pid: i32) -> Option<Input> {
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/0")).ok()?;
        let flags = info.lines().find_map(|l| l.strip_prefix("flags:"))?;
        let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
        (flags & libc::O_ACCMODE == libc::O_RDWR).then_some(())?;
        Some(Input { descriptor: pipe_of(pid, 0, libc::O_WRONLY)?, once: false })
    }
}

/// The pipe that process `pid` has as descriptor `n`, for `access`. The process may be hostile, and put anything else in its place at
/// any moment: what is looked at is what is opened, and nothing but a pipe is, which no open(2) does anything to.
pub fn pipe_of(pid: i32, n: i32, access: i32) -> Option<OwnedFd> {
    let name = CString::new(format!("/proc/{pid}/fd/{n}")).ok()?;
    let found = path::openat(sys::CWD, &name, libc::O_PATH, 0).ok()?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
    link.to_string_lossy().starts_with("pipe:[").then_some(())?;
    path::reopen(found.as_raw_fd(), access | libc::O_NONBLOCK).ok()
}

impl Streams {
    /// Streams of the user `owner`. `container`: of a pod; another one has no input.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn make(owner: u32, container: Option<&Container>) -> Result<Streams> {
        let (tty, stdin, once) = container.map_or_else(Default::default, |c| (c.tty, c.stdin, c.stdin_once));
        if tty {
            return Ok(Streams { stdio: [null()?, null()?, null()?], ours: Ours::default() });
        }
        let (input, ours) = if stdin { input(owner, once)? } else { (null()?, None) };
        let ((out, out_end), (err, err_end)) = (output(owner)?, output(owner)?);
        let ours = Ours { output: [Some(out), Some(err)], input: ours };
        Ok(Streams { stdio: [input, out_end, err_end], ours })
    }
}

/// The supervisor's ends, once the container is made: those of its terminal, if it has one.
///
/// # Errors
/// The terminal cannot be set up; there are too many descriptors.
pub fn ends(ours: Ours, terminal: Option<OwnedFd>, container: Option<&Container>) -> Result<Ours> {
    let Some(master) = terminal else { return Ok(ours) };
    fd::set_nonblocking(master.as_raw_fd()).map_err(|e| Error::sys("setting up a terminal", e))?;
    let copy = || master.try_clone().map_err(|e| Error::sys("copying the descriptor of a terminal", e));
    let open = container.is_some_and(|c| c.stdin);
    let input = if open { Some(Input { descriptor: copy()?, once: false }) } else { None };
    Ok(Ours { output: [Some(master), None], input })
}

fn null() -> Result<OwnedFd> {
    path::openat(sys::CWD, c"/dev/null", libc::O_RDWR, 0).map_err(|e| Error::sys("opening /dev/null", e))
}

/// A pipe for the input of a container: its end, and where we write. Unless it ends with the first client, the container
/// has it for writing too, so that it never ends.
fn input(owner: u32, once: bool) -> Result<(OwnedFd, Option<Input>)> {
    let fail = |e| Error::sys("making a pipe for the input of a container", e);
    let (read, write) = fd::pipe().map_err(fail)?;
    let theirs = if once { read } else { reopened(&write, owner)? };
    if once && owner != 0 {
        file::fchown(theirs.as_raw_fd(), owner, u32::MAX).map_err(fail)?;
    }
    fd::set_nonblocking(write.as_raw_fd()).map_err(fail)?;
    Ok((theirs, Some(Input { descriptor: write, once })))
}

/// A pipe for the output of a container: the end to read from, and the container's. The latter is open for reading
/// too, so that a container whose supervisor is gone waits for the next one, and does not die of SIGPIPE.
fn output(owner: u32) -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) =
        fd::pipe().map_err(|e| Error::sys("making a pipe for the output of a container", e))?;
    let end = reopened(&write, owner)?;
    Ok((read, end))
}

/// A pipe, for both directions.
fn reopened(pipe: &OwnedFd, owner: u32) -> Result<OwnedFd> {
    let fail = |e: Errno| Error::sys("opening a pipe of a container", e);
    let name = CString::new(format!("/proc/self/fd/{}", pipe.as_raw_fd())).unwrap_or_default();
    let end = path::openat(sys::CWD, &name, libc::O_RDWR, 0).map_err(fail)?;
    if owner != 0 {
        // Programs open /dev/stdout again.
        file::fchown(end.as_raw_fd(), owner, u32::MAX).map_err(fail)?;
    }
    Ok(end)
}

/// Under which number the keeper has an input: 2, or 3 when it ends with the first client.
fn number(once: bool) -> usize {
    if once { 3 } else { 2 }
}

impl Ours {
    /// Has the keeper keep them.
    pub fn keep(&self, keeper: &Link, key: Key) {
        for (n, end) in self.output.iter().enumerate() {
            end.iter().for_each(|end| keeper.put(&pipe_name(key, n), end.as_raw_fd()));
        }
        if let Some(input) = &self.input {
            keeper.put(&pipe_name(key, number(input.once)), input.descriptor.as_raw_fd());
        }
    }

    /// Those that the keeper has kept.
    pub fn kept(kept: &mut BTreeMap<String, OwnedFd>, key: Key) -> Ours {
        let mut of = |n| kept.remove(&pipe_name(key, n));
        let output = [of(0), of(1)];
        let input = [false, true]
            .into_iter()
            .find_map(|once| of(number(once)).map(|descriptor| Input { descriptor, once }));
        Ours { output, input }
    }

    /// A second descriptor of its terminal.
    pub fn terminal(&self) -> Option<OwnedFd> {
        let first = self.output[0].as_ref().filter(|end| tty::attributes(end.as_raw_fd()).is_ok())?;
        first
            .try_clone()
            .inspect_err(|e| log::warn(format!("copying the descriptor of a terminal: {e}")))
            .ok()
    }
}

/// Lets the keeper's copies go.
pub fn let_go(keeper: &Link, key: Key) {
    (0..4).for_each(|n| keeper.drop(&pipe_name(key, n)));
}

/// A client that is attached to a container.
pub struct Attached {
    /// None: nothing can be written to it.
    pub input: Option<OwnedFd>,
    /// None: it has no terminal.
    pub terminal: Option<OwnedFd>,
    /// Its output from now on; ends with the container.
    pub output: mpsc::Receiver<Piece>,
    tapped: oneshot::Receiver<()>,
    once: bool,
}

impl Attached {
    /// Waits until it misses no more of the output: an answer to what it writes from then on is for it, too.
    pub async fn tapped(&mut self) {
        // A container that has exited has no more output.
        let _ = (&mut self.tapped).await;
    }

    /// Whether its input is to end with this client.
    pub fn ends_input(&self) -> bool {
        self.once
    }
}

/// The ends that an instance keeps for clients.
#[derive(Debug, Default)]
pub struct ForClients {
    input: Option<Input>,
    terminal: Option<OwnedFd>,
}

impl ForClients {
    /// Has the output of instance `key` logged, and keeps the rest.
    pub fn start(pump: &Pump, key: Key, ours: Ours, sink: Sink) -> ForClients {
        let terminal = ours.terminal();
        pump.add(key.instance, ours.output, sink);
        ForClients { input: ours.input, terminal }
    }

    /// Attaches one more client to instance `key`.
    pub fn attach(&self, pump: &Pump, key: Key) -> Attached {
        let (to, output) = mpsc::channel(WAITING_MOST);
        let tapped = pump.tap(key.instance, to);
        let copy = |fd: &OwnedFd| fd.try_clone().ok();
        Attached {
            input: self.input.as_ref().and_then(|i| copy(&i.descriptor)),
            terminal: self.terminal.as_ref().and_then(copy),
            output,
            tapped,
            once: self.input.as_ref().is_some_and(|i| i.once),
        }
    }

    /// The first client of instance `key` has left: its input ends, if it ends with that.
    pub fn end_input(&mut self, keeper: Option<&Link>, key: Key) {
        if self.input.as_ref().is_some_and(|i| i.once) {
            self.input = None;
            keeper.into_iter().for_each(|keeper| keeper.drop(&pipe_name(key, number(true))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pipe_is_taken_over() {
        let pid = std::process::id() as i32;
        let of = |fd: i32| pipe_of(pid, fd, libc::O_RDONLY);
        let (r, w) = fd::pipe().unwrap();
        fd::write_all(w.as_raw_fd(), b"x").unwrap();
        let found = of(w.as_raw_fd()).unwrap();
        let mut byte = [0];
        assert_eq!((fd::read(found.as_raw_fd(), &mut byte), byte), (Ok(1), *b"x"));
        drop(r);
        // A container may replace it: opening a terminal could make it ours, a FIFO has other ends, a file a name.
        let pty = nix::pty::openpty(None, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("pipe:[1]");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = std::fs::OpenOptions::new().read(true).write(true).open(fifo).unwrap();
        for other in [pty.slave.as_raw_fd(), fifo.as_raw_fd(), null().unwrap().as_raw_fd(), -1] {
            assert!(of(other).is_none(), "{other}");
        }
    }
}
