//! Bridges, pairs of interfaces, addresses and routes, by rtnetlink(7).

use super::address::Range;
use crate::error::Errno;
use crate::sys::netlink::{Refusal, Request, Socket, attributes};
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Lengths of `struct ifinfomsg`, `struct ifaddrmsg` and `struct rtmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;
/// `VETH_INFO_PEER` (linux/veth.h): an ifinfomsg and attributes.
const VETH_INFO_PEER: u16 = 1;
/// How often a list that changes while it is read is read again.
const TRIES: u32 = 10;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    /// A text that its owner has given it: ours has the name of the supervisor.
    pub alias: String,
    hardware: Vec<u8>,
}

impl Link {
    /// Whether it is the bridge of `owner`; also one whose making was interrupted.
    pub fn is_of(&self, owner: &str) -> bool {
        self.alias == owner || (self.alias.is_empty() && self.hardware.starts_with(&OURS))
    }
}

/// How our hardware addresses begin: locally administered, and no group's.
const OURS: [u8; 2] = [0x02, 0x6f];

/// A hardware address that belongs to an IPv4 address: the new owner of an address is found at once, since
/// what neighbours remember of it stays true.
fn hardware(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [OURS[0], OURS[1], a, b, c, d]
}

fn header(index: u32, up: bool) -> [u8; LINK] {
    let mut header = [0; LINK];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        let flag = (libc::IFF_UP as u32).to_ne_bytes();
        // Which flags, and which of them change.
        header[8..12].copy_from_slice(&flag);
        header[12..].copy_from_slice(&flag);
    }
    header
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The value of the first attribute `kind`.
fn value(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, v)| v)
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}

/// The interface `name`; None if there is none.
///
/// # Errors
/// An error of the kernel.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, Refusal> {
    let mut found = None;
    let request = Request::new(libc::RTM_GETLINK, 0, &[0; LINK]).text(libc::IFLA_IFNAME, name);
    let asked = socket.ask(request, |kind, content| {
        if kind == libc::RTM_NEWLINK
            && let Some(index) = word(content, 4)
        {
            let alias = value(&content[LINK..], libc::IFLA_IFALIAS).unwrap_or_default();
            let alias = String::from_utf8_lossy(alias).trim_end_matches('\0').to_owned();
            let hardware = value(&content[LINK..], libc::IFLA_ADDRESS).unwrap_or_default().to_vec();
            found = Some(Link { index, alias, hardware });
        }
    });
    match asked {
        Err(Refusal { errno: Errno(libc::ENODEV), .. }) => Ok(None),
        r => r.map(|()| found),
    }
}

/// Turns IPv6 off for the interface `name` of the calling thread's network, which is not up yet: the network of pods has
/// none, and a host that listens to router advertisements would take its routes from any pod (CVE-2020-10749).
///
/// # Errors
/// It stays on.
pub fn turn_ipv6_off(name: &str) -> Result<(), Refusal> {
    let file = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    match fs::read_to_string(&file) {
        Ok(text) if text.trim() == "1" => return Ok(()),
        // A kernel without IPv6.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(_) | Err(_) => {}
    }
    fs::write(&file, "1").map_err(|e| Refusal { errno: e.into(), words: format!("writing 1 to {file}") })
}

/// Makes a bridge that is up and has the address of the range's gateway. Its index.
///
/// # Errors
/// EEXIST: there is an interface of that name. What the kernel refuses.
pub fn make_bridge(socket: &mut Socket, name: &str, owner: &str, range: Range) -> Result<u32, Refusal> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    // Without an address of its own it would have that of its lowest port, which comes and goes.
    let request = Request::new(libc::RTM_NEWLINK, flags, &header(0, false))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_ADDRESS, &hardware(range.gateway()))
        .nested(libc::IFLA_LINKINFO, |r| r.text(libc::IFLA_INFO_KIND, "bridge"));
    socket.ask(request, |_, _| {})?;
    if let Err(r) = turn_ipv6_off(name) {
        remove(socket, name)?;
        return Err(r);
    }
    let index = find(socket, name)?.ok_or(Errno(libc::ENODEV))?.index;
    let marked = Request::new(libc::RTM_NEWLINK, 0, &header(index, true)).text(libc::IFLA_IFALIAS, owner);
    socket.ask(marked, |_, _| {})?;
    set_address(socket, index, range.gateway(), range.prefix())?;
    Ok(index)
}

/// Makes a pair of interfaces: `name` is a port of the bridge `bridge`, the other one is called `eth0`, in `namespace`.
///
/// # Errors
/// EEXIST: there is an interface of that name. EXFULL: the bridge has no more ports.
pub fn make_pair(
    socket: &mut Socket,
    name: &str,
    bridge: u32,
    namespace: &OwnedFd,
    address: Ipv4Addr,
) -> Result<(), Refusal> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let peer = |r: Request| {
        // It cannot be up before it has its other end.
        r.structure(&header(0, false))
            .text(libc::IFLA_IFNAME, POD_INTERFACE)
            .attribute(libc::IFLA_ADDRESS, &hardware(address))
            .attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
    };
    let request = Request::new(libc::RTM_NEWLINK, flags, &header(0, false))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes())
        .nested(libc::IFLA_LINKINFO, |r| {
            r.text(libc::IFLA_INFO_KIND, "veth")
                .nested(libc::IFLA_INFO_DATA, |r| r.nested(VETH_INFO_PEER, peer))
        });
    socket.ask(request, |_, _| {})?;
    turn_ipv6_off(name)?;
    let up = Request::new(libc::RTM_NEWLINK, 0, &header(0, true)).text(libc::IFLA_IFNAME, name);
    socket.ask(up, |_, _| {})
}

/// The name of the interface inside the pod.
pub const POD_INTERFACE: &str = "eth0";

/// Gives the interface of a pod its address, and with `way_out` the pod its route to everything else. `socket` is one of the pod's network.
///
/// # Errors
/// An error of the kernel.
pub fn set_up_pod(
    socket: &mut Socket,
    address: Ipv4Addr,
    range: Range,
    way_out: bool,
) -> Result<(), Refusal> {
    let index = find(socket, POD_INTERFACE)?.ok_or(Errno(libc::ENODEV))?.index;
    socket.ask(Request::new(libc::RTM_NEWLINK, 0, &header(index, true)), |_, _| {})?;
    set_address(socket, index, address, range.prefix())?;
    if !way_out {
        return Ok(());
    }
    let mut route = [0; ROUTE];
    route[0] = libc::AF_INET as u8;
    route[4] = libc::RT_TABLE_MAIN;
    route[5] = libc::RTPROT_STATIC;
    route[6] = libc::RT_SCOPE_UNIVERSE;
    route[7] = libc::RTN_UNICAST;
    let request = Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &route)
        .attribute(libc::RTA_GATEWAY, &range.gateway().octets())
        .attribute(libc::RTA_OIF, &index.to_ne_bytes());
    socket.ask(request, |_, _| {})
}

/// Has the host take everything for `range` that comes to the bridge, as if it had each of these addresses. It goes with the
/// bridge.
///
/// # Errors
/// An error of the kernel.
pub fn make_local(socket: &mut Socket, index: u32, range: Range) -> Result<(), Refusal> {
    let mut route = [0; ROUTE];
    route[0] = libc::AF_INET as u8;
    route[1] = range.prefix();
    route[4] = libc::RT_TABLE_LOCAL;
    route[5] = libc::RTPROT_STATIC;
    route[6] = libc::RT_SCOPE_HOST;
    route[7] = libc::RTN_LOCAL;
    let request = Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &route)
        .attribute(libc::RTA_DST, &range.first().octets())
        .attribute(libc::RTA_OIF, &index.to_ne_bytes());
    socket.ask(request, |_, _| {})
}

fn set_address(socket: &mut Socket, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), Refusal> {
    let mut header = [0; ADDRESS];
    header[0] = libc::AF_INET as u8;
    header[1] = prefix;
    header[3] = libc::RT_SCOPE_UNIVERSE;
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let last = u32::from(address) | !Range::new(address, prefix).mask();
    let request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &header)
        .attribute(libc::IFA_LOCAL, &address.octets())
        .attribute(libc::IFA_ADDRESS, &address.octets())
        .attribute(libc::IFA_BROADCAST, &last.to_be_bytes());
    socket.ask(request, |_, _| {})
}

/// Removes an interface; no error if there is none.
///
/// # Errors
/// An error of the kernel.
pub fn remove(socket: &mut Socket, name: &str) -> Result<(), Refusal> {
    let request = Request::new(libc::RTM_DELLINK, 0, &[0; LINK]).text(libc::IFLA_IFNAME, name);
    match socket.ask(request, |_, _| {}) {
        Err(Refusal { errno: Errno(libc::ENODEV), .. }) => Ok(()),
        r => r,
    }
}

/// An IPv4 address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    pub index: u32,
    pub address: Ipv4Addr,
    pub prefix: u8,
}

/// The IPv4 addresses of global scope.
///
/// # Errors
/// An error of the kernel.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Assigned>, Refusal> {
    let mut header = [0; ADDRESS];
    header[0] = libc::AF_INET as u8;
    list(socket, &Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &header), |content| {
        let (head, rest) = content.split_at_checked(ADDRESS)?;
        let address = value(rest, libc::IFA_LOCAL).or_else(|| value(rest, libc::IFA_ADDRESS));
        let global = head[0] == libc::AF_INET as u8 && head[3] == libc::RT_SCOPE_UNIVERSE;
        let address = ipv4(address.filter(|_| global)?)?;
        Some(Assigned { index: word(head, 4)?, address, prefix: head[1] })
    })
}

/// The IPv4 routes to other hosts than all, by the interfaces that they lead to.
///
/// # Errors
/// An error of the kernel.
pub fn routes(socket: &mut Socket) -> Result<Vec<(u32, Range)>, Refusal> {
    let mut header = [0; ROUTE];
    header[0] = libc::AF_INET as u8;
    list(socket, &Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &header), |content| {
        let (head, rest) = content.split_at_checked(ROUTE)?;
        if head[0] != libc::AF_INET as u8 || head[1] == 0 || head[7] != libc::RTN_UNICAST {
            return None;
        }
        let to = ipv4(value(rest, libc::RTA_DST)?)?;
        let index = value(rest, libc::RTA_OIF).and_then(|v| word(v, 0)).unwrap_or(0);
        Some((index, Range::new(to, head[1])))
    })
}

fn list<T>(
    socket: &mut Socket,
    request: &Request,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Refusal> {
    let mut tries = 0;
    loop {
        let mut found = Vec::new();
        match socket.ask(request.clone(), |_, content| found.extend(read(content))) {
            Err(Refusal { errno: Errno(libc::EINTR), .. }) if tries < TRIES => tries += 1,
            r => return r.map(|()| found),
        }
    }
}
