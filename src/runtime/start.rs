//! `start`: the created process runs its program.

use super::Runtime;
use super::container::{self, Container};
use super::create::{self, START_SOCKET};
use super::process::Process;
use crate::config::parse;
use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::hooks;
use crate::kernel::protocol::{self, Message, Tag};
use crate::kernel::sd_notify::Proxy;
use crate::log;
use crate::plan::explain;
use crate::state::id::ContainerId;
use crate::state::lifecycle::{self, Operation, Phase, Status};
use crate::state::model::StartNotes;
use crate::sys::{socket, wait};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How long the container's process may take to run its program, hooks not counted, in milliseconds.
const TIMEOUT: u64 = 60_000;
/// How long a process that has closed its files may take to end.
const ENDING: Duration = Duration::from_millis(200);

/// Starts the container `id`. With `NOTIFY_SOCKET` this lasts until the container reports that it is ready, or has exited.
///
/// A program that the kernel refuses is no error of `start`: the container has begun, and ends at once with status 126 or
/// 127. Engines expect this of runc: they cannot clean up after a `start` that fails while the process is not reaped.
///
/// # Errors
/// It is not created; a startContainer hook fails. A failing poststart hook stops the container (runtime.md,
/// "Lifecycle").
pub fn start(rt: &Runtime, id: &str) -> Result<()> {
    let mut c = Container::open_locked(rt, id)?;
    c.check(Operation::Start)?;
    let notes = match c.record.start.take() {
        Some(notes) => notes,
        None => create::notes(&parse::json(&c.entry.config()?, "config.json")?),
    };
    let notify = match &rt.notify_socket {
        Some(manager) => Proxy::bind(c.entry.fd(), manager)?,
        None => None,
    };
    if let Some(e) = release(&mut c, &notes)? {
        // The one error that is no failure of the command. There is no program for a poststart hook to follow.
        log::error(e);
        return Ok(());
    }
    let init = c.init()?;
    poststart(c)?;
    // Others may act on the container from here on.
    match (notify, Process::open(init)?) {
        (Some(notify), Some(process)) => notify.until_ready(process.fd(), process.pid()),
        _ => Ok(()),
    }
}

/// Lets the process of a created container run its program, and records that it does. Returns why the program does not
/// run, after which the process ends by itself.
///
/// # Errors
/// As for [`start`], save those of poststart hooks.
pub(super) fn release(c: &mut Container, notes: &StartNotes) -> Result<Option<Error>> {
    let s = connect(c)?;
    let timeout = TIMEOUT + notes.hooks_ms;
    let refused = match protocol::receive_within(s.as_raw_fd(), timeout, "the program to be run") {
        Ok(None) => None,
        Ok(Some(m)) => match failed(&notes.program, &m) {
            e if e.kind() == Kind::Hook => {
                await_end(c)?;
                return Err(e);
            }
            e => Some(e),
        },
        Err(e) if e.errno() == Some(Errno(libc::ECONNRESET)) => {
            return Err(unheard(c, Errno(libc::ECONNRESET)));
        }
        Err(e) => return Err(e),
    };
    c.record.phase = Phase::Running;
    c.entry.write_record(&c.record)?;
    Ok(refused)
}

/// Waits until the process has ended and its parent has reaped it, so that an engine that is told of the failure finds
/// a container that has stopped.
fn await_end(c: &Container) -> Result<()> {
    if let Some(process) = Process::open(c.init()?)?
        && process.wait(Some(ENDING))?
    {
        process.exit_code(ENDING)?;
    }
    Ok(())
}

fn not_told(id: &ContainerId, e: Errno) -> Error {
    Error::sys(format!("starting the program of container {id}"), e)
        .hint("the process has exited or does not wait; \"orun delete --force\" removes the container")
}

/// Why no process listens: it has exited; or the program runs, because an earlier `start` was killed
/// before it could say so.
fn unheard(c: &mut Container, e: Errno) -> Error {
    let id = c.entry.id().clone();
    let runs = || -> Result<bool> {
        match Process::open(c.init()?)? {
            // One that is about to end has closed its socket already.
            Some(process) => Ok(!process.wait(Some(ENDING))?),
            None => Ok(false),
        }
    };
    match runs() {
        Ok(true) => {
            c.record.phase = Phase::Running;
            let written = c.entry.write_record(&c.record);
            let running = written.and_then(|()| lifecycle::check(Operation::Start, Status::Running, &id));
            running.err().unwrap_or_else(|| not_told(&id, e))
        }
        Ok(false) => not_told(&id, e),
        Err(e) => e,
    }
}

/// Whether the process of a container that is on record as created runs its program: whoever let it has not lived to record it.
/// The process has the socket until execve(2), and a connection of another type never gets to it (EPROTOTYPE, see connect(2)).
pub fn is_unrecorded(c: &Container) -> bool {
    let refused = |s: OwnedFd| socket::connect(s.as_raw_fd(), &address(c)) == Err(Errno(libc::ECONNREFUSED));
    socket::unix_socket(socket::SocketKind::Stream, true).is_ok_and(refused)
}

/// Where the created process listens.
fn address(c: &Container) -> CString {
    CString::new(format!("/proc/self/fd/{}/{START_SOCKET}", c.entry.fd())).unwrap_or_default()
}

/// Lets the container's process continue.
fn connect(c: &mut Container) -> Result<OwnedFd> {
    let id = c.entry.id().clone();
    let path = address(c);
    let fail = |e: Errno| not_told(&id, e);
    let s = socket::unix_socket(socket::SocketKind::Seqpacket, true).map_err(fail)?;
    match socket::connect(s.as_raw_fd(), &path) {
        Ok(()) => Ok(s),
        Err(e @ Errno(libc::ECONNREFUSED)) => Err(unheard(c, e)),
        Err(e) => Err(fail(e)),
    }
}

/// The child's report as a number: it fails here in one of two ways.
fn failed(program: &str, m: &Message) -> Error {
    let text = String::from_utf8_lossy(&m.text);
    let errno = Errno(m.number);
    if m.tag != Tag::Failed {
        return Error::sys("reading a message of the container process", Errno(libc::EPROTO));
    }
    match m.extra >> 16 {
        protocol::LATE_SECCOMP => Error::sys("loading the seccomp filter", errno).property("linux.seccomp"),
        hook if hook > 0 => {
            explain::hook("startContainer", hook as usize - 1, errno, m.extra & 0xffff, text.trim_end())
        }
        _ => explain::execute(program, errno),
    }
}

/// A failing hook ends the container, with everything that is its own.
pub(super) fn poststart(c: Container) -> Result<()> {
    if c.record.poststart.is_empty() {
        return Ok(());
    }
    let pid = c.init()?.pid;
    let document = container::hook_document(&c.record, "running", pid);
    for (i, hook) in c.record.poststart.iter().enumerate() {
        if let Err(e) = hooks::run("poststart", i, hook, &c.record.bundle, &document) {
            if let Ok(pidfd) = wait::pidfd_open(pid) {
                // It may have exited by itself.
                let _ = wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
            }
            let cgroup = container::cgroup_of(&c.record)?;
            create::clean_up(c.entry, &c.record, Some(&cgroup));
            return Err(e);
        }
    }
    Ok(())
}
