//! Unix sockets: socketpair(2), sendmsg(2) and recvmsg(2) with descriptors (unix(7)).

use super::{SysResult, check, owned, unit};
use crate::error::Errno;
use std::ffi::CStr;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A connected pair of close-on-exec sockets that keep message boundaries: socketpair(2), SOCK_SEQPACKET.
pub fn seqpacket_pair() -> SysResult<(OwnedFd, OwnedFd)> {
    let mut fds = [0i32; 2];
    unit(
        // SAFETY: fds has room for two descriptors.
        unsafe {
            libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr())
        }
        .into(),
    )?;
    Ok((owned(fds[0].into())?, owned(fds[1].into())?))
}

/// SocketKind of unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    Stream,
    Seqpacket,
}

/// A close-on-exec unix socket: socket(2).
pub fn unix_socket(kind: SocketKind, nonblocking: bool) -> SysResult<OwnedFd> {
    let kind = match kind {
        SocketKind::Stream => libc::SOCK_STREAM,
        SocketKind::Seqpacket => libc::SOCK_SEQPACKET,
    };
    let flags = libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: no memory is passed.
    owned(unsafe { libc::socket(libc::AF_UNIX, kind | flags, 0) }.into())
}

fn address(path: &CStr) -> SysResult<libc::sockaddr_un> {
    // SAFETY: sockaddr_un is plain data, for which all zeros is valid.
    let mut addr: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    addr.sun_family = libc::AF_UNIX as _;
    let bytes = path.to_bytes_with_nul();
    if bytes.len() > addr.sun_path.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    for (to, from) in addr.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(addr)
}

/// Binds to `path` (at most 107 bytes): bind(2).
pub fn bind(fd: RawFd, path: &CStr) -> SysResult<()> {
    let addr = address(path)?;
    // SAFETY: addr is valid for its size.
    unit(unsafe { libc::bind(fd, (&raw const addr).cast(), size_of_val(&addr) as u32) }.into())
}

/// Connects to `path` (at most 107 bytes): connect(2).
pub fn connect(fd: RawFd, path: &CStr) -> SysResult<()> {
    let addr = address(path)?;
    // SAFETY: addr is valid for its size.
    unit(unsafe { libc::connect(fd, (&raw const addr).cast(), size_of_val(&addr) as u32) }.into())
}

/// listen(2).
pub fn listen(fd: RawFd, backlog: i32) -> SysResult<()> {
    // SAFETY: no memory is passed.
    unit(unsafe { libc::listen(fd, backlog) }.into())
}

/// Takes a connection, again after a signal; close-on-exec: accept4(2).
pub fn accept(fd: RawFd) -> SysResult<OwnedFd> {
    loop {
        // SAFETY: no address is asked for.
        let r = unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
        match owned(r.into()) {
            Err(e) if e.0 == libc::EINTR => {}
            r => return r,
        }
    }
}

/// Lets a socket of IPv4 be bound to an address that the host does not have yet: setsockopt(2), `IP_FREEBIND`.
pub fn set_freebind(socket: RawFd) -> SysResult<()> {
    let value = 1i32;
    // SAFETY: value is valid for its length.
    unit(
        unsafe {
            libc::setsockopt(
                socket,
                libc::IPPROTO_IP,
                libc::IP_FREEBIND,
                (&raw const value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        }
        .into(),
    )
}

/// Binds a socket of IPv4 or IPv6 to an address: bind(2).
pub fn bind_address(socket: RawFd, address: SocketAddr) -> SysResult<()> {
    let bound = match address {
        SocketAddr::V4(a) => {
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: a.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*a.ip()).to_be() },
                sin_zero: [0; 8],
            };
            let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            // SAFETY: address is valid for its length.
            unsafe { libc::bind(socket, (&raw const address).cast(), length) }
        }
        SocketAddr::V6(a) => {
            let address = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: a.port().to_be(),
                sin6_flowinfo: a.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: a.ip().octets() },
                sin6_scope_id: a.scope_id(),
            };
            let length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            // SAFETY: address is valid for its length.
            unsafe { libc::bind(socket, (&raw const address).cast(), length) }
        }
    };
    unit(bound.into())
}

/// Room for the control message of one descriptor.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fd: i32,
}

/// Sends `data` and, with it, a copy of `fd`: sendmsg(2), SCM_RIGHTS. No SIGPIPE.
pub fn send(socket: RawFd, data: &[u8], fd: Option<RawFd>) -> SysResult<()> {
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: msghdr and cmsghdr are plain data, for which all zeros is valid.
    let (mut msg, header): (libc::msghdr, libc::cmsghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    let mut control = Control { header, fd: fd.unwrap_or(-1) };
    if fd.is_some() {
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        control.header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<i32>()) as _;
        msg.msg_control = (&raw mut control).cast();
        msg.msg_controllen = size_of::<Control>() as _;
    }
    loop {
        // SAFETY: msg points to data and control, which live through the call; the kernel only reads them.
        match check(unsafe { libc::sendmsg(socket, &raw const msg, libc::MSG_NOSIGNAL) } as _) {
            Err(e) if e.0 == libc::EINTR => {}
            r => return r.map(drop),
        }
    }
}

/// Whether the peer has closed its end and nothing is left to be received: recv(2) with MSG_PEEK.
pub fn is_closed(socket: RawFd) -> SysResult<bool> {
    let mut byte = 0u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: one byte may be written to `byte`.
    match check(unsafe { libc::recv(socket, (&raw mut byte).cast(), 1, flags) } as _) {
        Ok(n) => Ok(n == 0),
        Err(Errno(libc::EAGAIN)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Receives one message and the descriptor that came with it: recvmsg(2). 0 bytes: the peer closed.
pub fn receive(socket: RawFd, buf: &mut [u8]) -> SysResult<(usize, Option<OwnedFd>)> {
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: msghdr and cmsghdr are plain data, for which all zeros is valid.
    let (mut msg, header): (libc::msghdr, libc::cmsghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut control = Control { header, fd: -1 };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = (&raw mut control).cast();
    msg.msg_controllen = size_of::<Control>() as _;
    let n = loop {
        // SAFETY: msg points to buf and control, which live through the call.
        match check(unsafe { libc::recvmsg(socket, &raw mut msg, libc::MSG_CMSG_CLOEXEC) } as _) {
            Err(e) if e.0 == libc::EINTR => {}
            r => break r? as usize,
        }
    };
    let got = msg.msg_controllen >= size_of::<libc::cmsghdr>() + size_of::<i32>()
        && control.header.cmsg_type == libc::SCM_RIGHTS;
    // SAFETY: the kernel installed this descriptor for us.
    let fd = (got && control.fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(control.fd) });
    Ok((n, fd))
}
