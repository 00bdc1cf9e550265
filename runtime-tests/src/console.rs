//! The host's side of a console socket: a listener that is sent the master of the container's terminal.

use crate::check::{Context, Result, fail};
use crate::command::poll;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a message on a socket may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A socket on which somebody is expected to send descriptors.
#[derive(Debug)]
pub struct FdSocket {
    /// Where it is.
    pub path: PathBuf,
    listener: UnixListener,
}

/// One message: its bytes and the descriptors that came with it.
#[derive(Debug)]
pub struct Message {
    /// The payload.
    pub data: Vec<u8>,
    /// The descriptors.
    pub fds: Vec<OwnedFd>,
    /// The connection, for whether more follows.
    pub stream: UnixStream,
}

impl FdSocket {
    /// Listens at `path`.
    pub fn listen(path: &Path) -> Result<FdSocket> {
        let listener = UnixListener::bind(path).context(&format!("listening on {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(FdSocket { path: path.to_owned(), listener })
    }

    /// Waits for one connection and one message on it.
    pub fn receive(&self) -> Result<Message> {
        let stream = poll("a connection to the socket", DEADLINE, || self.listener.accept().ok())?.0;
        stream.set_nonblocking(true)?;
        poll("a message on the socket", DEADLINE, || receive_fds(&stream).ok()).map(|(data, fds)| Message {
            data,
            fds,
            stream,
        })
    }

    /// Lets go of all connections that have come in.
    pub fn drain(&self) {
        while self.listener.accept().is_ok() {}
    }

    /// Whether nobody has connected.
    pub fn is_untouched(&self) -> bool {
        self.listener.accept().is_err()
    }
}

/// One message of a socket, with the descriptors that came with it.
pub fn receive_fds(stream: &impl AsRawFd) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0u8; 1 << 16];
    let mut space = nix::cmsg_space!([i32; 8]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let length = message.bytes;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just made these descriptors for us.
            fds.extend(numbers.into_iter().map(|n| unsafe { OwnedFd::from_raw_fd(n) }));
        }
    }
    bytes.truncate(length);
    Ok((bytes, fds))
}

/// The master side of a terminal.
#[derive(Debug)]
pub struct Master {
    /// The descriptor.
    pub file: std::fs::File,
    seen: Vec<u8>,
}

impl Master {
    /// Takes the one descriptor of a message.
    pub fn from(mut message: Message) -> Result<Master> {
        match (message.fds.pop(), message.fds.pop()) {
            (Some(fd), None) => Master::new(fd),
            (first, second) => {
                let count = usize::from(first.is_some()) + usize::from(second.is_some()) + message.fds.len();
                fail(format!("{count} descriptors were sent instead of one"))
            }
        }
    }

    /// Takes a descriptor.
    pub fn new(fd: OwnedFd) -> Result<Master> {
        let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_RDWR;
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flags))?;
        Ok(Master { file: fd.into(), seen: Vec::new() })
    }

    /// Types on the terminal.
    pub fn write(&mut self, text: &str) -> Result<()> {
        Ok(self.file.write_all(text.as_bytes())?)
    }

    /// All that the terminal has shown so far.
    pub fn shown(&mut self) -> String {
        let mut bytes = [0u8; 65_536];
        while let Ok(length @ 1..) = self.file.read(&mut bytes) {
            self.seen.extend_from_slice(&bytes[..length]);
        }
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until the terminal shows `part`.
    pub fn await_text(&mut self, part: &str) -> Result<String> {
        let found = poll(&format!("{part:?} on the terminal"), DEADLINE, || {
            let text = self.shown();
            text.contains(part).then_some(text)
        });
        let shown = self.shown();
        found.context(&format!("the terminal shows {shown:?}"))
    }

    /// Waits for the probe's report on the terminal.
    pub fn report(&mut self) -> Result<crate::report::Report> {
        poll("the report on the terminal", DEADLINE, || {
            let text = self.shown().replace('\r', "");
            let complete = text.lines().any(|l| l.starts_with('{') && l.ends_with('}'));
            complete.then(|| crate::report::Report::parse(&text).ok()).flatten()
        })
    }
}
