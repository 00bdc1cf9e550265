//! The sockets of published ports: of the host, and at the addresses of services.
//!
//! A port of the whole host takes what comes to any address, so the kernel refuses another socket at the address of a service
//! with that port (EADDRINUSE), and the other way round. Both are ours: for as long as the second one is opened, both carry
//! `SO_REUSEPORT`. Afterwards the kernel leads each connection to the socket with the more exact address, and programs that
//! do not ask for `SO_REUSEPORT` themselves are refused as before.

use super::outside;
use crate::error::Errno;
use crate::network::holder;
use crate::supervisor::core::ports::{HostPort, Protocol};
use crate::sys::socket;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Connections that wait until they are accepted, as long as the proxy is started again.
const BACKLOG: i32 = 4096;

/// Opens a port. `service`: the address, if it is the port of a service; `beside`: sockets of ours with the same port, at other
/// addresses.
///
/// # Errors
/// Why it cannot be opened, in words.
pub fn open(
    host: &HostPort,
    service: Option<Ipv4Addr>,
    beside: &[BorrowedFd<'_>],
) -> Result<OwnedFd, String> {
    if service.is_none()
        && let Some(opened) = outside::open(host)
    {
        return opened;
    }
    let addresses: Vec<IpAddr> = match (service, &host.address) {
        (Some(address), _) => vec![address.into()],
        (None, Some(text)) => vec![text.parse().map_err(|_| format!("{text:?} is not an address"))?],
        // The first takes both kinds of addresses; without IPv6 there is only the second.
        (None, None) => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
    };
    let shared = Shared::new(beside);
    let mut problem = Errno(libc::EADDRNOTAVAIL);
    for address in addresses {
        let socket = Wanted {
            at: (address, host.port).into(),
            tcp: host.protocol == Protocol::Tcp,
            // The host has it as long as the bridge of the pods exists.
            early: service.is_some(),
            shared: !shared.0.is_empty(),
        };
        match socket.open() {
            Ok(fd) => return Ok(fd),
            Err(e) => problem = e,
        }
        if problem == Errno(libc::EADDRINUSE) {
            break;
        }
    }
    Err(words(problem, host))
}

/// Why a port cannot be opened, and what to do.
fn words(problem: Errno, host: &HostPort) -> String {
    match problem {
        Errno(libc::EADDRINUSE) => holder::find_holder(host.protocol == Protocol::Udp, host.port)
            .map_or_else(|| problem.to_string(), |holder| format!("{holder} has it open")),
        Errno(libc::EACCES) => format!(
            "{problem}: only root opens ports below net.ipv4.ip_unprivileged_port_start; choose one above it"
        ),
        Errno(libc::EADDRNOTAVAIL) => format!("{problem}: the host has no such address"),
        _ => problem.to_string(),
    }
}

/// Sockets that share their port as long as this lives.
struct Shared<'a>(&'a [BorrowedFd<'a>]);

impl Shared<'_> {
    fn new<'a>(sockets: &'a [BorrowedFd<'a>]) -> Shared<'a> {
        let shared = Shared(sockets);
        shared.set(true);
        shared
    }

    fn set(&self, on: bool) {
        for socket in self.0 {
            // Otherwise the port is reported as taken.
            let _ = setsockopt(socket, sockopt::ReusePort, &on);
        }
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

struct Wanted {
    at: SocketAddr,
    tcp: bool,
    early: bool,
    shared: bool,
}

impl Wanted {
    fn open(&self) -> Result<OwnedFd, Errno> {
        let family = if self.at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let kind = if self.tcp { SockType::Stream } else { SockType::Datagram };
        let fd = nix::sys::socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &self.tcp)?;
        if self.early {
            socket::set_freebind(fd.as_raw_fd())?;
        }
        setsockopt(&fd, sockopt::ReusePort, &self.shared)?;
        socket::bind_address(fd.as_raw_fd(), self.at)?;
        if self.tcp {
            socket::listen(fd.as_raw_fd(), BACKLOG)?;
        }
        setsockopt(&fd.as_fd(), sockopt::ReusePort, &false)?;
        Ok(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn host(protocol: Protocol, address: Option<&str>, port: u16) -> HostPort {
        HostPort { protocol, address: address.map(str::to_owned), port }
    }

    fn port_of(socket: &OwnedFd) -> u16 {
        TcpListener::from(socket.try_clone().unwrap()).local_addr().unwrap().port()
    }

    #[test]
    fn a_service_has_its_address_beside_a_port_of_the_host() {
        let service = Some(Ipv4Addr::new(127, 9, 9, 9));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for host_first in [true, false] {
                let address = (!host_first).then_some(service).flatten();
                let first = open(&host(protocol, None, 0), address, &[]).unwrap();
                let port = port_of(&first);
                let second = host_first.then_some(service).flatten();
                assert!(
                    open(&host(protocol, None, port), second, &[]).is_err(),
                    "they are in each other's way"
                );
                let second = open(&host(protocol, None, port), second, &[first.as_fd()]).unwrap();
                let (of_host, of_service) = if host_first { (first, second) } else { (second, first) };
                for (to, socket) in
                    [("127.9.9.9", &of_service), ("127.0.0.1", &of_host), ("127.9.9.9", &of_service)]
                {
                    let copy = socket.try_clone().unwrap();
                    if protocol == Protocol::Tcp {
                        TcpStream::connect((to, port)).unwrap().write_all(b"x").unwrap();
                        TcpListener::from(copy).accept().unwrap();
                    } else {
                        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", (to, port)).unwrap();
                        assert_eq!(UdpSocket::from(copy).recv(&mut [0; 2]).unwrap(), 1);
                    }
                }
                // Another program is refused.
                let other = Wanted {
                    at: (Ipv4Addr::UNSPECIFIED, port).into(),
                    tcp: protocol == Protocol::Tcp,
                    early: false,
                    shared: false,
                };
                assert_eq!(other.open().unwrap_err(), Errno(libc::EADDRINUSE));
            }
        }
    }

    #[test]
    fn an_address_of_another_host_is_an_error() {
        let error = open(&host(Protocol::Tcp, Some("192.0.2.1"), 80), None, &[]).unwrap_err();
        assert!(error.ends_with("the host has no such address"), "{error}");
        assert!(open(&host(Protocol::Tcp, Some("x"), 80), None, &[]).is_err());
    }
}
