//! Ports that the kernel leads to pods by itself (`orun.dev/publish: kernel`): pods see the client's address, and data passes no
//! program. Connections from outside are led to a pod that is ready, one after the other by chance; those of the host and of
//! pods, IPv6, and all while no pod is ready go to the proxy, which has the port open.
//!
//! ```text
//! table ip orund_orun0_ports {
//!     chain prerouting {
//!         type nat hook prerouting priority dstnat; policy accept;
//!         iifname != "orun0" fib daddr type local tcp dport 80 numgen random mod 2 0 dnat to 10.89.0.2:8080
//!         iifname != "orun0" fib daddr type local tcp dport 80 dnat to 10.89.0.3:8080
//!     }
//! }
//! ```

use super::nft::{self, CMP_EQ, CMP_NEQ, Family, attribute, expression, number};
use crate::sys::netlink::{Refusal, Request, Socket};
use std::net::{Ipv4Addr, SocketAddrV4};

const CHAIN: &str = "prerouting";
const PREROUTING: u32 = 0;
/// The priority `dstnat`.
const DSTNAT: i32 = -100;
const DESTINATION: u32 = 16;
const TRANSPORT_HEADER: u32 = 2;
/// Where headers of TCP and UDP have the port of the receiver.
const PORT: u32 = 2;
const META_IIFNAME: u32 = 6;
const META_L4PROTO: u32 = 16;
const SECOND_REGISTER: u32 = 2;
const FIB_ADDRTYPE: u32 = 3;
const FIB_DADDR: u32 = 2;
const NUMGEN_RANDOM: u32 = 1;
const DNAT: u32 = 1;

/// A port and the pods that are ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diverted {
    pub udp: bool,
    /// Of the host. None: all of them.
    pub address: Option<Ipv4Addr>,
    pub port: u16,
    pub targets: Vec<SocketAddrV4>,
}

/// Has exactly these ports led to pods.
///
/// # Errors
/// An error of nf_tables.
pub fn apply(bridge: &str, ports: &[Diverted]) -> Result<(), Refusal> {
    let name = format!("{bridge}_ports");
    if ports.iter().all(|p| p.targets.is_empty()) {
        return nft::remove(Family::Ipv4, &name);
    }
    let table = nft::table(&name);
    let request = |kind, flags| nft::request(Family::Ipv4, kind, flags).text(attribute::TABLE_NAME, &table);
    let chain = request(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE)
        .text(attribute::CHAIN_NAME, CHAIN)
        .nested(attribute::CHAIN_HOOK, |r| {
            let r = number(r, attribute::HOOK_HOOKNUM, PREROUTING);
            number(r, attribute::HOOK_PRIORITY, DSTNAT as u32)
        })
        .text(attribute::CHAIN_TYPE, "nat");
    let made = || request(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE);
    let mut all = vec![made(), request(libc::NFT_MSG_DELTABLE, 0), made(), chain];
    for port in ports {
        for (n, target) in port.targets.iter().enumerate() {
            let rule = request(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND);
            let left = (port.targets.len() - n) as u32;
            all.push(rule.text(attribute::RULE_CHAIN, CHAIN).nested(attribute::RULE_EXPRESSIONS, |r| {
                lead(one_of(matching(r, bridge, port), left), *target)
            }));
        }
    }
    Socket::open_netfilter()?.transaction(all)
}

/// Matches packets to the port that do not come from a pod.
fn matching(r: Request, bridge: &str, port: &Diverted) -> Request {
    let mut interface = [0; libc::IFNAMSIZ];
    interface[..bridge.len()].copy_from_slice(bridge.as_bytes());
    let r = nft::compare(nft::meta(r, META_IIFNAME), CMP_NEQ, &interface);
    let r = match port.address {
        Some(address) => nft::compare(nft::address(r, DESTINATION), CMP_EQ, &address.octets()),
        None => {
            let r = expression(r, "fib", |r| {
                let r = number(r, attribute::FIB_DREG, nft::REGISTER);
                number(number(r, attribute::FIB_RESULT, FIB_ADDRTYPE), attribute::FIB_FLAGS, FIB_DADDR)
            });
            nft::compare(r, CMP_EQ, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
        }
    };
    let protocol = if port.udp { libc::IPPROTO_UDP } else { libc::IPPROTO_TCP };
    let r = nft::compare(nft::meta(r, META_L4PROTO), CMP_EQ, &[protocol as u8]);
    let r = expression(r, "payload", |r| {
        let r = number(r, attribute::PAYLOAD_DREG, nft::REGISTER);
        let r = number(r, attribute::PAYLOAD_BASE, TRANSPORT_HEADER);
        number(number(r, attribute::PAYLOAD_OFFSET, PORT), attribute::PAYLOAD_LEN, 2)
    });
    nft::compare(r, CMP_EQ, &port.port.to_be_bytes())
}

/// One of `count` packets, by chance.
fn one_of(r: Request, count: u32) -> Request {
    if count == 1 {
        return r;
    }
    let r = expression(r, "numgen", |r| {
        let r = number(r, attribute::NUMGEN_DREG, nft::REGISTER);
        number(number(r, attribute::NUMGEN_MODULUS, count), attribute::NUMGEN_TYPE, NUMGEN_RANDOM)
    });
    nft::compare(r, CMP_EQ, &0_u32.to_ne_bytes())
}

fn lead(r: Request, target: SocketAddrV4) -> Request {
    let load = |r: Request, register: u32, value: &[u8]| {
        expression(r, "immediate", |r| {
            nft::data(number(r, attribute::IMMEDIATE_DREG, register), attribute::IMMEDIATE_DATA, value)
        })
    };
    let r = load(r, nft::REGISTER, &target.ip().octets());
    let r = load(r, SECOND_REGISTER, &target.port().to_be_bytes());
    expression(r, "nat", |r| {
        let r = number(r, attribute::NAT_TYPE, DNAT);
        let r = number(r, attribute::NAT_FAMILY, libc::NFPROTO_IPV4 as u32);
        let r = number(r, attribute::NAT_ADDRESS, nft::REGISTER);
        number(r, attribute::NAT_PORT, SECOND_REGISTER)
    })
}
