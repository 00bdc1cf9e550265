//! Requests to the kernel's network configuration: rtnetlink(7), and nfnetlink for nf_tables. They allocate.

use super::{SysResult, clone, fd, owned, path, unit};
use crate::error::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// The kernel builds answers of at most 32 KiB.
const ANSWER: usize = 64 << 10;
/// How long the kernel may take to answer, in seconds.
const TIMEOUT: i64 = 10;
/// An attribute of an extended acknowledgement: the reason in words (linux/netlink.h).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A request under construction.
#[derive(Debug, Clone)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request of type `kind` (`RTM_*`) with `flags` (`NLM_F_*`) beside `NLM_F_REQUEST` and `NLM_F_ACK`; `header`
    /// is the structure of its family.
    pub fn new(kind: u16, flags: i32, header: &[u8]) -> Request {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(header);
        Request(bytes)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute that is a string.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Request {
        let bytes = [value.as_bytes(), &[0]].concat();
        self.attribute(kind, &bytes)
    }

    /// Adds an attribute whose value is the attributes that `build` adds.
    #[must_use]
    pub fn nested(self, kind: u16, build: impl FnOnce(Request) -> Request) -> Request {
        let start = self.0.len();
        let mut whole = build(self.attribute(kind | libc::NLA_F_NESTED as u16, &[]));
        let len = (whole.0.len() - start) as u16;
        whole.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        whole
    }

    /// Adds bytes as they are: a structure before the attributes of a nested value.
    #[must_use]
    pub fn structure(mut self, bytes: &[u8]) -> Request {
        self.0.extend_from_slice(bytes);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel's answer.
    pub errno: Errno,
    /// The kernel's words, where it has some.
    pub words: String,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, words: String::new() }
    }
}

/// A socket to the network namespace that the calling thread was in when it was made.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

/// The result of `work` in the network namespace `namespace`. The calling thread is back in its own at the end.
pub fn within<T>(namespace: &OwnedFd, work: impl FnOnce() -> T) -> SysResult<T> {
    let own = path::openat(super::CWD, c"/proc/thread-self/ns/net", libc::O_RDONLY, 0)?;
    clone::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET)?;
    let result = work();
    clone::setns(own.as_raw_fd(), libc::CLONE_NEWNET)?;
    Ok(result)
}

impl Socket {
    /// Opens one for links, addresses and routes: socket(2), AF_NETLINK.
    pub fn open() -> SysResult<Socket> {
        Socket::open_protocol(libc::NETLINK_ROUTE)
    }

    /// Opens one for netfilter.
    pub fn open_netfilter() -> SysResult<Socket> {
        Socket::open_protocol(libc::NETLINK_NETFILTER)
    }

    /// Opens one for links, addresses and routes of the network namespace `namespace`. The calling thread is back in its
    /// own at the end.
    pub fn open_in(namespace: &OwnedFd) -> SysResult<Socket> {
        within(namespace, Socket::open)?
    }

    fn open_protocol(protocol: i32) -> SysResult<Socket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is passed.
        let fd = owned(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) }.into())?;
        // Words of refusals are welcome, not needed: Linux 4.12 has them.
        let _ = option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32);
        let _ = option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32);
        let limit = libc::timeval { tv_sec: TIMEOUT, tv_usec: 0 };
        option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &limit)?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Sends `request` and hands the type and the content of each answer to `each`.
    ///
    /// # Errors
    /// An error of the kernel; EINTR when a list changed while it was made; EAGAIN after 10 s without an answer.
    pub fn ask(&mut self, request: Request, mut each: impl FnMut(u16, &[u8])) -> Result<(), Refusal> {
        self.sequence += 1;
        fd::write(self.fd.as_raw_fd(), &request.finish(self.sequence))?;
        let mut buf = vec![0; ANSWER];
        let mut interrupted = false;
        loop {
            let n = fd::read(self.fd.as_raw_fd(), &mut buf)?;
            for m in messages(&buf[..n]).filter(|m| m.sequence == self.sequence) {
                interrupted |= m.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match i32::from(m.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        return match outcome(&m) {
                            Ok(()) if interrupted => Err(Errno(libc::EINTR).into()),
                            r => r,
                        };
                    }
                    _ => each(m.kind, m.content),
                }
            }
        }
    }
}

impl Socket {
    /// Has all of `requests` done by nf_tables, or none of them.
    ///
    /// # Errors
    /// Of the first that is refused; EAGAIN after 10 s without an answer.
    pub fn transaction(&mut self, requests: Vec<Request>) -> Result<(), Refusal> {
        let mark = |kind: i32| {
            let subsystem = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
            let mut request = Request::new(kind as u16, 0, &[0, 0, subsystem[0], subsystem[1]]);
            // Only what is between them is answered.
            request.0[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
            request
        };
        let first = self.sequence + 1;
        let marks = [mark(libc::NFNL_MSG_BATCH_BEGIN), mark(libc::NFNL_MSG_BATCH_END)];
        let [begin, end] = marks;
        let last = first + requests.len() as u32;
        let mut bytes = Vec::new();
        for request in std::iter::once(begin).chain(requests).chain([end]) {
            self.sequence += 1;
            bytes.extend(request.finish(self.sequence));
        }
        fd::write(self.fd.as_raw_fd(), &bytes)?;
        let mut buf = vec![0; ANSWER];
        let mut result = Ok(());
        loop {
            let n = fd::read(self.fd.as_raw_fd(), &mut buf)?;
            for m in messages(&buf[..n]).filter(|m| m.sequence >= first) {
                result = result.and_then(|()| outcome(&m));
                // A refused beginning is the only answer.
                if m.sequence >= last || m.sequence == first {
                    return result;
                }
            }
        }
    }
}

fn option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> SysResult<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: value is valid for its length; the options here are plain data.
    unit(
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) }
            .into(),
    )
}

struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    content: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The messages of one packet.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(rest, 0)? as usize;
        let answer = Answer {
            kind: u16_at(rest, 4)?,
            flags: u16_at(rest, 6)?,
            sequence: u32_at(rest, 8)?,
            content: rest.get(HEADER..len)?,
        };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    })
}

/// Type and value of each attribute in `bytes`, without the bits that mark only byte order and nesting.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The last message of an answer: a negative error number, and with it the words of the kernel.
fn outcome(m: &Answer) -> Result<(), Refusal> {
    let number = u32_at(m.content, 0).ok_or(Errno(libc::EPROTO))? as i32;
    if number == 0 {
        return Ok(());
    }
    let mut words = String::new();
    if i32::from(m.kind) == libc::NLMSG_ERROR && m.flags & libc::NLM_F_ACK_TLVS as u16 != 0 {
        // The request follows the number: its header alone, if it is capped.
        let request = u32_at(m.content, 4).unwrap_or(0) as usize;
        let capped = m.flags & libc::NLM_F_CAPPED as u16 != 0;
        let behind = 4 + if capped { HEADER } else { request.next_multiple_of(4) };
        let reason = attributes(m.content.get(behind..).unwrap_or_default());
        if let Some((_, text)) = reason.into_iter().find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG) {
            words = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
        }
    }
    Err(Refusal { errno: Errno(number.saturating_neg()), words })
}

/// A packet of the kernel: its messages, their outcome and their attributes.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    for m in messages(data) {
        let _ = outcome(&m);
        assert!(attributes(m.content).count() <= m.content.len() / 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_layout_of_the_kernel() {
        let request = Request::new(18, libc::NLM_F_DUMP, &[7; 4]).text(3, "eth0").attribute(28, &[1, 2]);
        let bytes = request.finish(9);
        assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32));
        assert_eq!((u16_at(&bytes, 4), u32_at(&bytes, 8)), (Some(18), Some(9)));
        assert_eq!(
            u16_at(&bytes, 6),
            Some((libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_DUMP) as u16)
        );
        assert_eq!(bytes.len() % 4, 0);
        let read: Vec<_> = attributes(&bytes[HEADER + 4..]).collect();
        assert_eq!(read, [(3, b"eth0\0".as_slice()), (28, &[1, 2])]);
    }

    #[test]
    fn damaged_answers_end_the_list() {
        for len in 0..HEADER {
            assert_eq!(messages(&vec![1; len]).count(), 0);
        }
        // A length of 0 would else be the same message forever.
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0]).count(), 0);
    }

    #[test]
    fn the_loopback_device_is_there_and_another_is_not() {
        let mut socket = Socket::open().unwrap();
        let link = |name: &str| Request::new(libc::RTM_GETLINK, 0, &[0; 16]).text(libc::IFLA_IFNAME, name);
        let mut names = Vec::new();
        socket
            .ask(link("lo"), |kind, content| {
                assert_eq!(kind, libc::RTM_NEWLINK);
                let name = attributes(&content[16..]).find(|(k, _)| *k == libc::IFLA_IFNAME);
                names.push(String::from_utf8_lossy(name.unwrap().1).into_owned());
            })
            .unwrap();
        assert_eq!(names, ["lo\0"]);
        let refused = socket.ask(link("none-such"), |_, _| {}).unwrap_err();
        assert_eq!(refused.errno, Errno(libc::ENODEV));
        let bad = Request::new(libc::RTM_NEWLINK, 0, &[0; 16]).attribute(libc::IFLA_MTU, &[1]);
        let refused = socket.ask(bad, |_, _| {}).unwrap_err();
        assert!(!refused.words.is_empty(), "{refused:?}");
    }
}
