//! A connection to systemd: over the bus of the host or of the user, or over systemd's own socket where there is no bus.

use super::wire::{self, FIXED, Message, Target};
use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::console;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long systemd may take for a call or for a job.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// The pause before a call that systemd had no room for is made again.
const PAUSE: Duration = Duration::from_millis(50);

const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The path of its manager.
const MANAGER: &str = "/org/freedesktop/systemd1";
const BUS: &str = "org.freedesktop.DBus";

/// Why a call was of no use.
#[derive(Debug)]
pub(super) enum Fault {
    /// systemd's answer: the name of the error, and its words.
    Answer { name: String, text: String },
    /// The connection is of no use any more.
    Lost(Error),
}

impl Fault {
    /// Whether the answer is of this name (its last part).
    pub fn is(&self, last: &str) -> bool {
        matches!(self, Fault::Answer { name, .. } if name.rsplit('.').next() == Some(last))
    }

    /// As an error of `doing` something.
    pub fn error(self, doing: &str) -> Error {
        match self {
            Fault::Answer { name, text } => {
                let what = format!("{doing}: systemd answered: {text} ({name})");
                Error::new(Kind::System, what)
            }
            Fault::Lost(e) => e.context(doing.to_owned()),
        }
    }
}

/// Where systemd may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub socket: Socket,
    /// systemd itself is at the other end, and no bus.
    pub direct: bool,
}

/// A unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Socket {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

impl Address {
    pub fn path(path: impl AsRef<Path>, direct: bool) -> Address {
        Address { socket: Socket::Path(path.as_ref().to_owned()), direct }
    }
}

/// The sockets of an environment variable's value (D-Bus specification, "Server Addresses"); other transports are
/// passed over.
pub(super) fn addresses(text: &str) -> Vec<Address> {
    let one = |entry: &str| {
        let keys = entry.strip_prefix("unix:")?;
        let socket = keys.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let bytes = unescape(value)?;
            match key {
                "path" => Some(Socket::Path(String::from_utf8(bytes).ok()?.into())),
                "abstract" => Some(Socket::Abstract(bytes)),
                _ => None,
            }
        })?;
        Some(Address { socket, direct: false })
    };
    text.split(';').filter_map(one).collect()
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        if b == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            out.push(b);
            rest = tail;
        }
    }
    Some(out)
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    direct: bool,
    serial: u32,
    /// Signals that came while something else was waited for.
    signals: VecDeque<Message>,
    end: Instant,
}

fn lost(doing: &str, e: impl Into<Errno>) -> Error {
    let errno = e.into();
    if errno.0 == libc::EAGAIN {
        let what = format!("{doing} systemd took longer than {} s", DEADLINE.as_secs());
        return Error::new(Kind::Timeout, what).hint("check it with \"systemctl is-system-running\"");
    }
    Error::sys(format!("{doing} systemd"), errno)
}

impl Bus {
    /// Connects and introduces the client.
    ///
    /// # Errors
    /// Nobody listens, or the other end does not speak D-Bus.
    pub fn connect(to: &Address) -> Result<Bus> {
        let stream = match &to.socket {
            Socket::Path(path) => UnixStream::from(console::connect(path, "systemd")?),
            Socket::Abstract(name) => SocketAddr::from_abstract_name(name)
                .and_then(|a| UnixStream::connect_addr(&a))
                .map_err(|e| Error::sys("connecting to the bus at an abstract address", e))?,
        };
        stream.set_nonblocking(false).map_err(|e| lost("setting up the connection to", e))?;
        let mut bus =
            Bus { stream, direct: to.direct, serial: 0, signals: VecDeque::new(), end: Instant::now() };
        bus.renew();
        bus.authenticate()?;
        if !to.direct {
            let hello = Target { destination: Some(BUS), path: "/org/freedesktop/DBus", interface: BUS };
            bus.ask(hello, "Hello", "", &[]).map_err(|f| f.error("registering with the bus"))?;
        }
        Ok(bus)
    }

    /// A new deadline begins.
    pub fn renew(&mut self) {
        self.end = Instant::now() + DEADLINE;
    }

    /// The kernel passes our credentials to the other end; a name would be wrong in a user namespace.
    fn authenticate(&mut self) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for want in ["DATA", "OK "] {
            let line = self.line()?;
            if !line.starts_with(want) {
                let what = format!("systemd's socket refused this user: {line:?}");
                return Err(Error::new(Kind::System, what)
                    .hint("a user reaches only his own \"systemd --user\"; root reaches the host's"));
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            self.receive(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The time until the deadline, never zero: a timeout of zero would wait forever.
    fn left(&self) -> Option<Duration> {
        Some(self.end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let set = self.stream.set_write_timeout(self.left());
        set.and_then(|()| self.stream.write_all(bytes)).map_err(|e| lost("sending to", e))
    }

    fn receive(&mut self, into: &mut [u8]) -> Result<()> {
        let set = self.stream.set_read_timeout(self.left());
        set.and_then(|()| self.stream.read_exact(into)).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => lost("hearing from", Errno(libc::ECONNRESET)),
            _ => lost("hearing from", e),
        })
    }

    fn next(&mut self) -> Result<Message> {
        let malformed = || lost("understanding", Errno(libc::EBADMSG));
        let mut fixed = [0; FIXED];
        self.receive(&mut fixed)?;
        let mut rest = vec![0; wire::rest(&fixed).ok_or_else(malformed)?];
        self.receive(&mut rest)?;
        wire::message(&fixed, &rest).ok_or_else(malformed)
    }

    fn ask(&mut self, to: Target, member: &str, signature: &str, body: &[u8]) -> Result<Message, Fault> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(serial, to, member, signature, body)).map_err(Fault::Lost)?;
        loop {
            let m = self.next().map_err(Fault::Lost)?;
            match m.kind {
                wire::RETURN if m.reply_to == serial => return Ok(m),
                wire::ERROR if m.reply_to == serial => {
                    let text = m.text();
                    return Err(Fault::Answer { name: m.error, text });
                }
                wire::SIGNAL => self.signals.push_back(m),
                _ => {}
            }
        }
    }

    /// Calls a method of systemd's manager, again as long as it has no room for it.
    ///
    /// # Errors
    /// systemd's error, or the connection's.
    pub fn call(&mut self, member: &str, signature: &str, body: &[u8]) -> Result<Message, Fault> {
        self.at(MANAGER, "org.freedesktop.systemd1.Manager", member, signature, body)
    }

    /// Calls a method of an object of systemd's.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub fn at(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<Message, Fault> {
        let destination = if self.direct { None } else { Some(SYSTEMD) };
        loop {
            let to = Target { destination, path, interface };
            match self.ask(to, member, signature, body) {
                Err(f) if f.is("EAGAIN") && Instant::now() < self.end => std::thread::sleep(PAUSE),
                r => return r,
            }
        }
    }

    /// A text property of an object of systemd's.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub fn text(&mut self, path: Option<&str>, interface: &str, name: &str) -> Result<String, Fault> {
        let mut w = wire::Writer::default();
        w.string(interface);
        w.string(name);
        let properties = "org.freedesktop.DBus.Properties";
        let m = self.at(path.unwrap_or(MANAGER), properties, "Get", "ss", &w.0)?;
        let mut r = m.reader();
        let text = r.signature().filter(|s| s == "s").and_then(|_| r.string());
        text.ok_or_else(|| Fault::Lost(lost("understanding", Errno(libc::EBADMSG))))
    }

    /// Subscribes to the end of jobs. systemd's own socket sends it without a subscription.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub fn watch_jobs(&mut self) -> Result<(), Fault> {
        if self.direct {
            return Ok(());
        }
        let mut w = wire::Writer::default();
        w.string("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        let bus = Target { destination: Some(BUS), path: "/org/freedesktop/DBus", interface: BUS };
        self.ask(bus, "AddMatch", "s", &w.0).map(drop)
    }

    /// Waits for the end of the job with this path; its result, `done` when all went well.
    ///
    /// # Errors
    /// The deadline, or the connection's.
    pub fn job(&mut self, path: &str) -> Result<String> {
        loop {
            let m = match self.signals.pop_front() {
                Some(m) => m,
                None => self.next()?,
            };
            if m.kind != wire::SIGNAL || m.member != "JobRemoved" || m.signature != "uoss" {
                continue;
            }
            let mut r = m.reader();
            let (_, job, _, result) = (r.u32(), r.string(), r.string(), r.string());
            if job.as_deref() == Some(path) {
                return Ok(result.unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_environment() {
        let path = |p: &str| Address::path(p, false);
        assert_eq!(addresses("unix:path=/run/user/1000/bus"), [path("/run/user/1000/bus")]);
        assert_eq!(addresses("tcp:host=x;unix:guid=1,path=/a%20b"), [path("/a b")]);
        let hidden = Address { socket: Socket::Abstract(b"/tmp/x".to_vec()), direct: false };
        assert_eq!(addresses("unix:abstract=/tmp/x,guid=00"), [hidden]);
        assert!(addresses("").is_empty() && addresses("unix:path=%z").is_empty());
    }
}
