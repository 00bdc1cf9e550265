//! The keeper: the parent of the supervisor and of all containers.
//!
//! It does nothing that could fail: it reaps whatever ends and keeps how that was, it keeps descriptors by name, and it
//! starts the supervisor again when that has died. So the supervisor may be killed at any instant, and no exit status,
//! no output and no listening socket is lost. A supervisor that does not answer its pings, stopped or deadlocked, is killed
//! for that; the service manager's watchdog watches the keeper.

pub mod link;
pub mod ring;
mod watch;

use crate::error::{Errno, Error, Result};
use crate::log;
use crate::sys::fd::{self, PollFd};
use crate::sys::{file, prctl, process, sched, signalfd, socket, time, wait};
use ring::{Death, Ring};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use watch::{Due, Watch};

/// The environment variable with the number of the descriptor that leads to the keeper.
pub const LINK: &str = "ORUND_KEEPER";
/// How long after its death the supervisor is started again, in milliseconds: doubled from the first to the last,
/// from the beginning once it was ready.
const BACK_OFF: (u64, u64) = (100, 10_000);
/// Bytes of a message.
const MESSAGE: usize = 4096;

/// First byte of a message.
pub mod tag {
    /// Keep the descriptor that comes along by the name that follows.
    pub const PUT: u8 = b'P';
    /// Let the descriptor of the name that follows go.
    pub const DROP: u8 = b'D';
    /// Send all descriptors back.
    pub const LIST: u8 = b'L';
    /// The answer: one descriptor and its name.
    pub const KEPT: u8 = b'K';
    /// The answer: that was all.
    pub const ALL: u8 = b'A';
    /// The supervisor is ready.
    pub const READY: u8 = b'R';
    /// Notify the service manager with the following text (sd_notify(3)).
    pub const NOTIFY: u8 = b'N';
    /// A process has exited: look at the ring.
    pub const ENDED: u8 = b'E';
    /// Answer with [`PONG`], to be taken for alive.
    pub const PING: u8 = b'?';
    pub const PONG: u8 = b'!';
}

struct Keeper {
    ring: Ring,
    signals: OwnedFd,
    /// Arguments of the supervisor.
    arguments: Vec<OsString>,
    kept: BTreeMap<String, OwnedFd>,
    supervisor: Option<Child>,
    /// The supervisor was ready once, so that it is worth starting again.
    was_ready: bool,
    ending: bool,
    delay: u64,
    /// When to start the supervisor, on the monotonic clock.
    start_at: Option<u64>,
    manager: watch::Manager,
}

struct Child {
    pid: i32,
    link: OwnedFd,
    /// Names of descriptors that are still to be sent back.
    listing: VecDeque<String>,
    lists: bool,
    watch: Watch,
}

/// Keeps a supervisor running that is started with `arguments`, until it ends by itself or a signal asks for the end.
/// Its exit code.
///
/// # Errors
/// The ring in `run_dir` cannot be made; signals cannot be taken over.
pub fn run(run_dir: &Path, arguments: Vec<OsString>) -> Result<u8> {
    // Without a name of its own it would have that of the file that it was started from; all else works.
    let _ = prctl::set_name(c"orund-keeper");
    let signals = signalfd::take_all_and_abort().map_err(|e| Error::sys("taking over signals", e))?;
    // Without these orphans go to init and descriptors may run out; all else works.
    let _ = prctl::set_child_subreaper(true);
    let _ = sched::raise_limit(libc::RLIMIT_NOFILE);
    let mut keeper = Keeper {
        ring: Ring::open(run_dir)?,
        signals,
        arguments,
        kept: BTreeMap::new(),
        supervisor: None,
        was_ready: false,
        ending: false,
        delay: BACK_OFF.0,
        start_at: None,
        manager: watch::Manager::from_environment(),
    };
    keeper.start()?;
    loop {
        if let Some(code) = keeper.turn()? {
            return Ok(code);
        }
    }
}

impl Keeper {
    fn start(&mut self) -> Result<()> {
        let fail = |e: Errno| Error::sys("starting the supervisor", e);
        let (ours, theirs) = socket::seqpacket_pair().map_err(fail)?;
        fd::set_nonblocking(ours.as_raw_fd()).map_err(fail)?;
        fd::keep_on_exec(theirs.as_raw_fd()).map_err(fail)?;
        let mut command = Command::new(super::program());
        command.args(&self.arguments).env(LINK, theirs.as_raw_fd().to_string());
        // The keeper answers to the service manager, and the supervisor to the keeper.
        command.env_remove("WATCHDOG_USEC");
        if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == prctl::getpid().to_string()) {
            // The number is not known before there is the process; it trusts the keeper.
            command.env("LISTEN_PID", "keeper");
        }
        let child = command.spawn().map_err(|e| fail(e.into()))?;
        let pid = child.id() as i32;
        self.supervisor = Some(Child {
            pid,
            link: ours,
            listing: VecDeque::new(),
            lists: false,
            watch: Watch::new(time::monotonic_ms()),
        });
        self.start_at = None;
        Ok(())
    }

    /// Waits for something and does it. The exit code, at the end.
    fn turn(&mut self) -> Result<Option<u8>> {
        let due = [self.start_at, self.manager.due(), self.supervisor.as_ref().and_then(|c| c.watch.due())];
        let due = due.into_iter().flatten().min();
        let wait = due.map_or(-1, |at| at.saturating_sub(time::monotonic_ms()) as i32);
        let link = self.supervisor.as_ref().map_or(-1, |c| c.link.as_raw_fd());
        let lists = self.supervisor.as_ref().is_some_and(|c| c.lists);
        let events = libc::POLLIN | if lists { libc::POLLOUT } else { 0 };
        let mut fds = [PollFd::new(self.signals.as_raw_fd(), libc::POLLIN), PollFd::new(link, events)];
        fd::poll(&mut fds, wait).map_err(|e| Error::sys("waiting", e))?;
        if fds[1].revents() & (libc::POLLIN | libc::POLLHUP) != 0 {
            self.hear();
        }
        if fds[1].revents() & libc::POLLOUT != 0 {
            self.list();
        }
        if fds[0].revents() != 0 {
            while let Ok(Some(signal)) = signalfd::next(self.signals.as_raw_fd()) {
                self.signal(signal.number);
            }
            if let Some(code) = self.reap() {
                return Ok(Some(code));
            }
        }
        if self.start_at.is_some_and(|at| time::monotonic_ms() >= at)
            && let Err(e) = self.start()
        {
            log::warn(e);
            self.start_later();
        }
        self.manager.tell(time::monotonic_ms());
        self.watch();
        Ok(None)
    }

    fn start_later(&mut self) {
        self.start_at = Some(time::monotonic_ms() + self.delay);
        self.delay = (self.delay * 2).min(BACK_OFF.1);
    }

    /// Pings the supervisor, and kills one that has not answered for too long.
    fn watch(&mut self) {
        let Some(child) = &mut self.supervisor else { return };
        match child.watch.check(time::monotonic_ms()) {
            Due::Nothing => {}
            // With a full socket it has enough to answer already.
            Due::Ping => drop(socket::send(child.link.as_raw_fd(), &[tag::PING], None)),
            Due::Kill { silent } => {
                let pid = child.pid;
                log::warn(format!(
                    "the supervisor (process {pid}) has not responded for {} s: killing and restarting it",
                    silent / 1000
                ));
                self.kill_supervisor();
            }
        }
    }

    fn kill_supervisor(&mut self) {
        if let Some(child) = &mut self.supervisor {
            child.watch.stop();
            // It is not reaped yet, so the number is its own.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.pid), nix::sys::signal::SIGKILL);
        }
    }

    fn signal(&mut self, signal: i32) {
        if signal == libc::SIGABRT {
            log::warn(
                "the service manager's watchdog requested a stop: killing and restarting the supervisor",
            );
            self.kill_supervisor();
        }
        if matches!(signal, libc::SIGTERM | libc::SIGINT) {
            self.ending = true;
        }
        if let (Some(child), libc::SIGTERM | libc::SIGINT | libc::SIGHUP) = (&self.supervisor, signal) {
            // It is not reaped yet, so the number is its own.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.pid), nix::sys::signal::SIGTERM);
        }
    }

    /// Reaps all exited processes. The exit code, when the supervisor was the last thing to wait for.
    fn reap(&mut self) -> Option<u8> {
        let mut ended = false;
        while let Ok(Some((pid, status))) = wait::next_ended() {
            if self.supervisor.as_ref().is_some_and(|c| c.pid == pid) {
                // Messages that it had sent before count.
                self.hear();
                let _ = wait::wait_pid(pid, false);
                self.supervisor = None;
                let code = wait::Exit::decode(status).code() as u8;
                if self.ending || code == 0 || !self.was_ready {
                    return Some(code);
                }
                log::warn(format!("the supervisor exited with status {code}; restarting it"));
                self.start_later();
                continue;
            }
            let inode = wait::pidfd_open(pid).and_then(|fd| file::fstat(fd.as_raw_fd())).map_or(0, |s| s.ino);
            let start_time = process::stat(pid).ok().flatten().map_or(0, |s| s.start_time);
            // Written before the process is reaped: its status is on record before it disappears.
            self.ring.push(Death { pid, status, inode, start_time, at: time::boottime_ns() });
            let _ = wait::wait_pid(pid, false);
            ended = true;
        }
        if let (true, Some(child)) = (ended, &self.supervisor) {
            // With a full socket it has something to wake up for already.
            let _ = socket::send(child.link.as_raw_fd(), &[tag::ENDED], None);
        }
        (self.ending && self.supervisor.is_none()).then_some(0)
    }

    /// Takes the supervisor's messages.
    fn hear(&mut self) {
        let mut buf = [0; MESSAGE];
        while let Some(child) = &mut self.supervisor {
            let Ok((n @ 1.., fd)) = socket::receive(child.link.as_raw_fd(), &mut buf) else { return };
            let text = String::from_utf8_lossy(&buf[1..n]).into_owned();
            match (buf[0], fd) {
                (tag::PUT, Some(fd)) => drop(self.kept.insert(text, fd)),
                (tag::DROP, _) => drop(self.kept.remove(&text)),
                (tag::LIST, _) => {
                    child.listing = self.kept.keys().cloned().collect();
                    child.lists = true;
                    self.list();
                }
                (tag::PONG, _) => child.watch.answered(),
                (tag::READY, _) => {
                    self.was_ready = true;
                    child.watch.ready(text == link::ANSWERS);
                    self.delay = BACK_OFF.0;
                }
                (tag::NOTIFY, _) => super::notify::send(&text),
                _ => {}
            }
        }
    }

    /// Sends descriptors back as far as the socket takes them.
    fn list(&mut self) {
        let Some(child) = &mut self.supervisor else { return };
        while let Some(name) = child.listing.front() {
            if let Some(fd) = self.kept.get(name) {
                let message = [&[tag::KEPT], name.as_bytes()].concat();
                if socket::send(child.link.as_raw_fd(), &message, Some(fd.as_raw_fd())).is_err() {
                    return;
                }
            }
            child.listing.pop_front();
        }
        if child.lists && socket::send(child.link.as_raw_fd(), &[tag::ALL], None).is_ok() {
            child.lists = false;
        }
    }
}
