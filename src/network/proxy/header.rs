//! The header by which a proxy says whose connection it passes on: version 2 of haproxy's PROXY protocol.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, a proxied connection.
const PROXY: u8 = 0x21;
/// A stream between addresses of IPv4, or IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header of a connection from `client`, which came to `port`.
pub fn version_2(client: SocketAddr, port: SocketAddr) -> Vec<u8> {
    let ends = [client, port].map(|a| (a.ip().to_canonical(), a.port()));
    let mut addresses = Vec::new();
    let family = if let [(IpAddr::V4(from), _), (IpAddr::V4(to), _)] = ends {
        addresses.extend([from.octets(), to.octets()].concat());
        TCP4
    } else {
        for (address, _) in ends {
            addresses.extend(match address {
                IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
                IpAddr::V6(a) => a.octets(),
            });
        }
        TCP6
    };
    addresses.extend(ends.iter().flat_map(|(_, port)| port.to_be_bytes()));
    let length = (addresses.len() as u16).to_be_bytes();
    [SIGNATURE, &[PROXY, family], &length, &addresses].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_named_in_the_binary_form() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let header = version_2(address("[::ffff:192.0.2.1]:4660"), address("10.0.0.1:80"));
        let expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x12\x34\0\x50";
        assert_eq!(header, expected);
        let header = version_2(address("[::1]:1"), address("[2001:db8::1]:80"));
        assert_eq!((header.len(), header[13], header[15]), (52, TCP6, 36));
    }
}
