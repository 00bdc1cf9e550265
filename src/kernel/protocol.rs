//! The messages of the child and its parent: one per packet, fixed in form, built without allocation.

use crate::error::{Errno, Error, Kind, Result};
use crate::plan::op::{Op, Point, ProgramOp};
use crate::sys::fd::{self, PollFd};
use crate::sys::{self, SysResult, socket, time};
use std::os::fd::{OwnedFd, RawFd};

/// Bytes of free text that a message carries at most.
pub const DETAIL: usize = 2048;
const HEADER: usize = 12;

/// How long the child may take from one message to the next, in milliseconds. Mounting a dead network file system
/// is the one step that could take forever.
pub const SETUP_TIMEOUT: u64 = 120_000;

/// Content of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// The child waits at a point.
    Sync = 1,
    /// Operation `op` failed with `number` (an errno); the text says more.
    Failed = 2,
    /// The master of the container's terminal comes with this message; the text is its name.
    Terminal = 3,
    /// The child's next free descriptor `number` is about to become a seccomp listener.
    Listener = 4,
    /// The first child of two made the process `number` in its stead. The second may be heard before.
    Process = 5,
    /// Operation `op` could not do all: the text says what.
    Warning = 6,
    /// The parent's answer.
    Go = 7,
    /// The child asks for the mount `number` of those that are made late; it comes with the answer.
    Source = 8,
    /// The first child of two could not enter the namespace `op`, or not make the second child; `number` is an
    /// errno.
    NotMade = 9,
}

/// A message.
#[derive(Debug)]
pub struct Message {
    pub tag: Tag,
    /// Index of the operation in the plan.
    pub op: u16,
    pub number: i32,
    /// A second number: a hook's exit status, the index of a candidate.
    pub extra: i32,
    pub text: Vec<u8>,
    pub fd: Option<OwnedFd>,
}

/// Sends a message; `text` is cut to [`DETAIL`] bytes.
///
/// Without a descriptor it goes by write(2), as the parent's answer comes by read(2): the child may already be under
/// a filter that knows no sendmsg(2) or recvmsg(2), while hardly a program does without these two.
pub fn send(
    socket: RawFd,
    tag: Tag,
    op: u16,
    number: i32,
    extra: i32,
    text: &[u8],
    fd: Option<RawFd>,
) -> SysResult<()> {
    let mut buf = [0u8; HEADER + DETAIL];
    let text = &text[..text.len().min(DETAIL)];
    buf[0] = tag as u8;
    buf[2..4].copy_from_slice(&op.to_ne_bytes());
    buf[4..8].copy_from_slice(&number.to_ne_bytes());
    buf[8..12].copy_from_slice(&extra.to_ne_bytes());
    buf[HEADER..HEADER + text.len()].copy_from_slice(text);
    let message = &buf[..HEADER + text.len()];
    match fd {
        Some(_) => socket::send(socket, message, fd),
        None => sys::fd::write(socket, message).map(drop),
    }
}

/// Receives a message; `None` when the peer has closed. For the parent: it allocates.
pub fn receive(socket: RawFd) -> SysResult<Option<Message>> {
    let mut buf = [0u8; HEADER + DETAIL];
    let (n, fd) = socket::receive(socket, &mut buf)?;
    if n == 0 {
        return Ok(None);
    }
    let tag = match buf[0] {
        1 => Tag::Sync,
        2 => Tag::Failed,
        3 => Tag::Terminal,
        4 => Tag::Listener,
        5 => Tag::Process,
        6 => Tag::Warning,
        7 => Tag::Go,
        9 => Tag::NotMade,
        8 => Tag::Source,
        _ => return Err(Errno(libc::EPROTO)),
    };
    if n < HEADER {
        return Err(Errno(libc::EPROTO));
    }
    let word = |at: usize| i32::from_ne_bytes([buf[at], buf[at + 1], buf[at + 2], buf[at + 3]]);
    Ok(Some(Message {
        tag,
        op: u16::from_ne_bytes([buf[2], buf[3]]),
        number: word(4),
        extra: word(8),
        text: buf[HEADER..n].to_vec(),
        fd,
    }))
}

/// Waits for the parent's answer. For the child: it does not allocate.
///
/// # Errors
/// EPIPE when the parent is gone: the child must not continue alone.
pub fn wait_go(socket: RawFd) -> SysResult<()> {
    let mut buf = [0u8; HEADER];
    let n = sys::fd::read(socket, &mut buf)?;
    if n == HEADER && buf[0] == Tag::Go as u8 { Ok(()) } else { Err(Errno(libc::EPIPE)) }
}

/// As [`wait_go`], for an answer that brings a descriptor.
pub fn wait_fd(socket: RawFd) -> SysResult<OwnedFd> {
    let mut buf = [0u8; HEADER];
    let (n, fd) = socket::receive(socket, &mut buf)?;
    fd.filter(|_| n == HEADER && buf[0] == Tag::Go as u8).ok_or(Errno(libc::EPIPE))
}

/// The point that a `Sync` message names.
pub fn point(number: i32) -> Option<Point> {
    [Point::Namespaces, Point::RuntimeHooks, Point::Ready, Point::Cgroup]
        .into_iter()
        .find(|p| *p as i32 == number)
}

/// The kind of the failed operation, for `start`, which has no plan: the number of a hook (from 1), or
/// [`LATE_SECCOMP`]. It is the upper half of a failure's second number.
pub fn late_mark(op: &Op) -> i32 {
    if let Op::Hook(h) = op {
        return h.index as i32 + 1;
    }
    if matches!(op, Op::Program(ProgramOp::Seccomp { .. })) { LATE_SECCOMP } else { 0 }
}

/// The mark of a seccomp filter that was refused.
pub const LATE_SECCOMP: i32 = 0x7fff;

/// Receives the next message within `timeout` milliseconds; `None` when the other end is closed.
///
/// # Errors
/// [`Kind::Timeout`], naming what was waited for; ECONNRESET when the peer exited without having accepted the connection.
pub fn receive_within(socket: i32, timeout: u64, what: &str) -> Result<Option<Message>> {
    let end = time::monotonic_ms() + timeout;
    loop {
        let left = end.saturating_sub(time::monotonic_ms());
        if left == 0 {
            return Err(Error::new(
                Kind::Timeout,
                format!("timed out after {} s waiting for {what}", timeout / 1000),
            ));
        }
        let mut fds = [PollFd::new(socket, libc::POLLIN)];
        let n = fd::poll(&mut fds, left as i32).map_err(|e| Error::sys(format!("waiting for {what}"), e))?;
        if n > 0 {
            return receive(socket).map_err(|e| Error::sys(format!("waiting for {what}"), e));
        }
    }
}
