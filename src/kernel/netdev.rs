//! Moves network devices of the host into a container's network namespace (config-linux.md, "Network Devices").
//!
//! The kernel keeps a device's hardware address and MTU, but none of its addresses: the permanent ones of global
//! scope are read before and set again after. The device is up in the end.

use crate::error::{Errno, Error, Kind, Result};
use crate::plan::netdev::NetDevice;
use crate::sys::netlink::{Refusal, Request, Socket, attributes};
use crate::sys::{self, path};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

/// Length of `struct ifinfomsg` and of `struct ifaddrmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
/// Longest name of a device, in bytes.
const NAME: usize = libc::IFNAMSIZ - 1;
/// How often a list of addresses that changes under one's hands is read again.
const TRIES: u32 = 10;
/// `IFA_FLAGS` and `IFA_RT_PRIORITY` (linux/if_addr.h).
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
/// The flags of an address that are chosen by its owner; the others are the kernel's progress.
const CHOSEN: u32 = libc::IFA_F_NODAD | libc::IFA_F_HOMEADDRESS | libc::IFA_F_MANAGETEMPADDR | NOPREFIXROUTE;
const NOPREFIXROUTE: u32 = 0x200;

/// Moves `devices` into the network namespace of process `pid`.
///
/// # Errors
/// A device that is not there, a name that is taken, what the kernel refuses; with the property that asked for it.
pub fn move_all(devices: &[NetDevice], pid: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let fail =
        |e: Errno| Error::sys("entering the container's network namespace", e).property("linux.netDevices");
    let file = CString::new(format!("/proc/{pid}/ns/net")).unwrap_or_default();
    let namespace = path::openat(sys::CWD, &file, libc::O_RDONLY, 0).map_err(fail)?;
    let mut host = Socket::open().map_err(fail)?;
    let mut container = Socket::open_in(&namespace).map_err(fail)?;
    for device in devices {
        move_device(device, &namespace, &mut host, &mut container)?;
    }
    Ok(())
}

fn move_device(
    device: &NetDevice,
    namespace: &OwnedFd,
    host: &mut Socket,
    container: &mut Socket,
) -> Result<()> {
    let refused = |doing: &str| {
        let what = format!("{}{doing}", device.words());
        let property = device.property.clone();
        move |r: Refusal| {
            let words = if r.words.is_empty() { String::new() } else { format!(" ({})", r.words) };
            Error::sys(format!("{what}{words}"), r.errno).property(property)
        }
    };
    let index = find(host, &device.host).map_err(refused("")).map_err(|e| match e.errno() {
        Some(Errno(libc::ENODEV)) => e.kind_is(Kind::Config).hint("\"ip link\" lists those of the host"),
        _ => e,
    })?;
    let addresses = addresses(host, index).map_err(refused(": reading its addresses"))?;
    let name =
        transfer(device, index, namespace, host, container).map_err(refused("")).map_err(|e| {
            match e.errno() {
                Some(Errno(libc::EEXIST)) => e.hint("the container has a device of that name"),
                _ => e,
            }
        })?;
    // It may have another index now.
    let index = find(container, &name).map_err(refused(": finding it there"))?;
    for a in &addresses {
        set(container, a, index, name == device.host).map_err(refused(": setting its addresses"))?;
    }
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    let header = link_header(index, up);
    container.ask(Request::new(libc::RTM_NEWLINK, 0, &header), |_, _| {}).map_err(refused(": setting it up"))
}

/// `struct ifinfomsg` with these flags, which are also those to change.
fn link_header(index: u32, flags: [u8; 4]) -> [u8; LINK] {
    let mut header = [0; LINK];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags);
    header[12..].copy_from_slice(&flags);
    header
}

/// The index of the device `name`.
fn find(socket: &mut Socket, name: &str) -> Result<u32, Refusal> {
    let mut index = None;
    let request = Request::new(libc::RTM_GETLINK, 0, &[0; LINK]).text(libc::IFLA_IFNAME, name);
    socket.ask(request, |kind, content| {
        if kind == libc::RTM_NEWLINK {
            index = word(content, 4);
        }
    })?;
    index.ok_or_else(|| Errno(libc::ENODEV).into())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Name and namespace change in one request: there is no moment in which the device has a name of the host in the
/// container or the other way round. Returns the name it has there.
fn transfer(
    device: &NetDevice,
    index: u32,
    namespace: &OwnedFd,
    host: &mut Socket,
    container: &mut Socket,
) -> Result<String, Refusal> {
    let name = match device.name.strip_suffix("%d") {
        Some(prefix) => first_free(prefix, container)?,
        None => device.name.clone(),
    };
    let request = Request::new(libc::RTM_NEWLINK, 0, &link_header(index, [0; 4]))
        .attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
        .text(libc::IFLA_IFNAME, &name);
    host.ask(request, |_, _| {})?;
    Ok(name)
}

/// The first name of `prefix` and a number that no device has.
fn first_free(prefix: &str, container: &mut Socket) -> Result<String, Refusal> {
    for number in 0u32.. {
        let name = format!("{prefix}{number}");
        if name.len() > NAME {
            break;
        }
        match find(container, &name) {
            Err(Refusal { errno: Errno(libc::ENODEV), .. }) => return Ok(name),
            r => drop(r?),
        }
    }
    Err(Errno(libc::ENFILE).into())
}

/// An address of a device: the structure and the attributes, as the kernel reported them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Reads a message; `None` unless it is a permanent address of global scope of device `index`.
    fn read(content: &[u8], index: u32) -> Option<Address> {
        let (header, rest) = content.split_at_checked(ADDRESS)?;
        let listed = |wanted: u16| attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let flags = listed(IFA_FLAGS).and_then(|v| word(v, 0)).unwrap_or(header[2].into());
        if word(header, 4) != Some(index)
            || header[3] != libc::RT_SCOPE_UNIVERSE
            || flags & libc::IFA_F_PERMANENT == 0
        {
            return None;
        }
        const KEPT: [u16; 5] =
            [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_LABEL, libc::IFA_BROADCAST, IFA_RT_PRIORITY];
        let attributes =
            attributes(rest).filter(|(kind, _)| KEPT.contains(kind)).map(|(k, v)| (k, v.to_vec())).collect();
        Some(Address { family: header[0], prefix: header[1], flags: flags & CHOSEN, attributes })
    }
}

fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<Address>, Refusal> {
    let mut tries = 0;
    loop {
        let mut found = Vec::new();
        let all = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS]);
        match socket.ask(all, |_, content| found.extend(Address::read(content, index))) {
            Err(Refusal { errno: Errno(libc::EINTR), .. }) if tries < TRIES => tries += 1,
            r => return r.map(|()| found),
        }
    }
}

/// Gives the device `index` an address; its label, which begins with the device's name, only if that is still so.
fn set(socket: &mut Socket, address: &Address, index: u32, label: bool) -> Result<(), Refusal> {
    let mut header = [0; ADDRESS];
    header[0] = address.family;
    header[1] = address.prefix;
    header[3] = libc::RT_SCOPE_UNIVERSE;
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWADDR, flags, &header);
    for (kind, value) in address.attributes.iter().filter(|(kind, _)| label || *kind != libc::IFA_LABEL) {
        request = request.attribute(*kind, value);
    }
    socket.ask(request.attribute(IFA_FLAGS, &address.flags.to_ne_bytes()), |_, _| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address of device 7 as in RTM_NEWADDR.
    fn new_address(scope: u8, flags: u32) -> Vec<u8> {
        let mut bytes = vec![libc::AF_INET as u8, 24, flags as u8, scope, 7, 0, 0, 0];
        for (kind, value) in [
            (libc::IFA_ADDRESS, [10, 0, 0, 1]),
            (IFA_FLAGS, flags.to_ne_bytes()),
            (libc::IFA_CACHEINFO, [0; 4]),
        ] {
            bytes.extend_from_slice(&[8, 0]);
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&value);
        }
        bytes
    }

    #[test]
    fn permanent_addresses_of_global_scope_are_kept() {
        let permanent = libc::IFA_F_PERMANENT | NOPREFIXROUTE | libc::IFA_F_TENTATIVE;
        let a = Address::read(&new_address(libc::RT_SCOPE_UNIVERSE, permanent), 7).unwrap();
        assert_eq!((a.family, a.prefix, a.flags), (libc::AF_INET as u8, 24, NOPREFIXROUTE));
        assert_eq!(a.attributes, [(libc::IFA_ADDRESS, vec![10, 0, 0, 1])]);
        assert_eq!(
            Address::read(&new_address(libc::RT_SCOPE_UNIVERSE, permanent), 8),
            None,
            "another device"
        );
        assert_eq!(Address::read(&new_address(libc::RT_SCOPE_HOST, permanent), 7), None);
        assert_eq!(Address::read(&new_address(libc::RT_SCOPE_LINK, permanent), 7), None);
        assert_eq!(
            Address::read(&new_address(libc::RT_SCOPE_UNIVERSE, NOPREFIXROUTE), 7),
            None,
            "from a router"
        );
        assert_eq!(Address::read(&[1, 2, 3], 7), None);
    }
}
