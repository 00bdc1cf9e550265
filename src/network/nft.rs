//! The one table of nf_tables that orund has: whoever leaves the range of the pods by another interface than their bridge
//! does so with the host's address. Nothing of the host's own rules is touched.
//!
//! ```text
//! table ip orund_orun0 {
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip saddr 10.89.0.0/16 oifname != "orun0" masquerade
//!     }
//! }
//! ```

use super::address::Range;
use crate::error::Errno;
use crate::sys::netlink::{Refusal, Request, Socket, attributes};

/// Attributes of linux/netfilter/nf_tables.h.
pub(super) mod attribute {
    pub const TABLE_NAME: u16 = 1;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_POLICY: u16 = 5;
    pub const CHAIN_TYPE: u16 = 7;
    pub const HOOK_HOOKNUM: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const RULE_TABLE: u16 = 1;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const LIST_ELEM: u16 = 1;
    pub const EXPR_NAME: u16 = 1;
    pub const EXPR_DATA: u16 = 2;
    pub const DATA_VALUE: u16 = 1;
    pub const PAYLOAD_DREG: u16 = 1;
    pub const PAYLOAD_BASE: u16 = 2;
    pub const PAYLOAD_OFFSET: u16 = 3;
    pub const PAYLOAD_LEN: u16 = 4;
    pub const BITWISE_SREG: u16 = 1;
    pub const BITWISE_DREG: u16 = 2;
    pub const BITWISE_LEN: u16 = 3;
    pub const BITWISE_MASK: u16 = 4;
    pub const BITWISE_XOR: u16 = 5;
    pub const CMP_SREG: u16 = 1;
    pub const CMP_OP: u16 = 2;
    pub const CMP_DATA: u16 = 3;
    pub const SET_NAME: u16 = 2;
    pub const SET_KEY_TYPE: u16 = 4;
    pub const SET_KEY_LEN: u16 = 5;
    pub const SET_ID: u16 = 10;
    pub const ELEMENTS_SET: u16 = 2;
    pub const ELEMENTS: u16 = 3;
    pub const ELEMENT_KEY: u16 = 1;
    pub const LOOKUP_SET: u16 = 1;
    pub const LOOKUP_SREG: u16 = 2;
    pub const IMMEDIATE_DREG: u16 = 1;
    pub const IMMEDIATE_DATA: u16 = 2;
    pub const DATA_VERDICT: u16 = 2;
    pub const VERDICT_CODE: u16 = 1;
    pub const FIB_DREG: u16 = 1;
    pub const FIB_RESULT: u16 = 2;
    pub const FIB_FLAGS: u16 = 3;
    pub const NUMGEN_DREG: u16 = 1;
    pub const NUMGEN_MODULUS: u16 = 2;
    pub const NUMGEN_TYPE: u16 = 3;
    pub const NAT_TYPE: u16 = 1;
    pub const NAT_FAMILY: u16 = 2;
    pub const NAT_ADDRESS: u16 = 3;
    pub const NAT_PORT: u16 = 5;
    pub const META_DREG: u16 = 1;
    pub const META_KEY: u16 = 2;
}

pub(super) const REGISTER: u32 = 1;
const NETWORK_HEADER: u32 = 1;
/// Where an IPv4 header has the address of the sender.
const SOURCE: u32 = 12;
const META_OIFNAME: u32 = 7;
pub(super) const CMP_EQ: u32 = 0;
pub(super) const CMP_NEQ: u32 = 1;
const FORWARD: u32 = 2;
const POSTROUTING: u32 = 4;
const DROP: u32 = 0;
/// The priority `srcnat`.
const SRCNAT: u32 = 100;
const CHAIN: &str = "postrouting";

/// The name of the table of a bridge.
pub fn table(bridge: &str) -> String {
    format!("orund_{bridge}")
}

/// The packets that a table handles.
#[derive(Debug, Clone, Copy)]
pub enum Family {
    Ipv4 = libc::NFPROTO_IPV4 as isize,
    Bridge = libc::NFPROTO_BRIDGE as isize,
}

pub(super) fn request(family: Family, kind: i32, flags: i32) -> Request {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
    // struct nfgenmsg: the family, a version, a resource.
    Request::new(kind, flags, &[family as u8, 0, 0, 0])
}

/// Numbers of nf_tables have the network's byte order.
pub(super) fn number(r: Request, kind: u16, value: u32) -> Request {
    r.attribute(kind, &value.to_be_bytes())
}

pub(super) fn data(r: Request, kind: u16, value: &[u8]) -> Request {
    r.nested(kind, |r| r.attribute(attribute::DATA_VALUE, value))
}

pub(super) fn expression(r: Request, name: &str, build: impl FnOnce(Request) -> Request) -> Request {
    r.nested(attribute::LIST_ELEM, |r| r.text(attribute::EXPR_NAME, name).nested(attribute::EXPR_DATA, build))
}

pub(super) fn compare(r: Request, operation: u32, value: &[u8]) -> Request {
    expression(r, "cmp", |r| {
        let r = number(number(r, attribute::CMP_SREG, REGISTER), attribute::CMP_OP, operation);
        data(r, attribute::CMP_DATA, value)
    })
}

/// Loads what the kernel knows of a packet.
pub(super) fn meta(r: Request, key: u32) -> Request {
    expression(r, "meta", |r| number(number(r, attribute::META_DREG, REGISTER), attribute::META_KEY, key))
}

/// Loads an address of an IPv4 header.
pub(super) fn address(r: Request, offset: u32) -> Request {
    expression(r, "payload", |r| {
        let r = number(r, attribute::PAYLOAD_DREG, REGISTER);
        let r = number(r, attribute::PAYLOAD_BASE, NETWORK_HEADER);
        number(number(r, attribute::PAYLOAD_OFFSET, offset), attribute::PAYLOAD_LEN, 4)
    })
}

/// Whether the loaded address is one of `range`.
pub(super) fn within(r: Request, range: Range) -> Request {
    let r = expression(r, "bitwise", |r| {
        let r = number(r, attribute::BITWISE_SREG, REGISTER);
        let r = number(number(r, attribute::BITWISE_DREG, REGISTER), attribute::BITWISE_LEN, 4);
        let r = data(r, attribute::BITWISE_MASK, &range.mask().to_be_bytes());
        data(r, attribute::BITWISE_XOR, &[0; 4])
    });
    compare(r, CMP_EQ, &range.first().octets())
}

/// Makes the table of a bridge, instead of one that there was.
///
/// # Errors
/// An error of nf_tables; EOPNOTSUPP, EINVAL or EPROTONOSUPPORT from a kernel without it.
pub fn make(bridge: &str, range: Range) -> Result<(), Refusal> {
    let name = table(bridge);
    let named = |kind, flags| request(Family::Ipv4, kind, flags).text(attribute::TABLE_NAME, &name);
    let chain = request(Family::Ipv4, libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE)
        .text(attribute::CHAIN_TABLE, &name)
        .text(attribute::CHAIN_NAME, CHAIN)
        .nested(attribute::CHAIN_HOOK, |r| {
            number(number(r, attribute::HOOK_HOOKNUM, POSTROUTING), attribute::HOOK_PRIORITY, SRCNAT)
        })
        .text(attribute::CHAIN_TYPE, "nat");
    let mut interface = [0; libc::IFNAMSIZ];
    interface[..bridge.len()].copy_from_slice(bridge.as_bytes());
    let rule = request(Family::Ipv4, libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND)
        .text(attribute::RULE_TABLE, &name)
        .text(attribute::RULE_CHAIN, CHAIN)
        .nested(attribute::RULE_EXPRESSIONS, |r| {
            let r = within(address(r, SOURCE), range);
            let r = meta(r, META_OIFNAME);
            expression(compare(r, CMP_NEQ, &interface), "masq", |r| r)
        });
    // Made first, lest there is none to be removed.
    let all = vec![
        named(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE),
        named(libc::NFT_MSG_DELTABLE, 0),
        named(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE),
        chain,
        rule,
    ];
    Socket::open_netfilter()?.transaction(all)
}

/// The chains of others that drop what is forwarded unless a rule accepts it, such as `FORWARD of table filter`. Those of
/// iptables' older form are not among them.
///
/// # Errors
/// An error of nf_tables.
pub fn dropping() -> Result<Vec<String>, Refusal> {
    let mut found = Vec::new();
    let families = [libc::NFPROTO_IPV4, libc::NFPROTO_INET];
    for family in families {
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETCHAIN) as u16;
        let all = Request::new(kind, libc::NLM_F_DUMP, &[family as u8, 0, 0, 0]);
        Socket::open_netfilter()?.ask(all, |_, content| found.extend(dropping_chain(content)))?;
    }
    Ok(found)
}

/// The chain of a message, if it drops what is forwarded.
fn dropping_chain(content: &[u8]) -> Option<String> {
    let value = |of: &'_ [u8], wanted: u16| {
        let mut all = attributes(of);
        all.find(|(kind, _)| *kind == wanted).map(|(_, v)| v.to_vec())
    };
    let number = |v: Vec<u8>| v.try_into().ok().map(u32::from_be_bytes);
    let text = |v: Vec<u8>| String::from_utf8_lossy(&v).trim_end_matches('\0').to_owned();
    let chain = content.get(4..)?;
    let hook = number(value(&value(chain, attribute::CHAIN_HOOK)?, attribute::HOOK_HOOKNUM)?)?;
    let policy = number(value(chain, attribute::CHAIN_POLICY)?)?;
    let [table, name] =
        [attribute::CHAIN_TABLE, attribute::CHAIN_NAME].map(|kind| value(chain, kind).map(text));
    (hook == FORWARD && policy == DROP)
        .then(|| format!("{} of table {}", name.unwrap_or_default(), table.unwrap_or_default()))
}

/// Asks nf_tables for the number of its generation, which it always has.
///
/// # Errors
/// EPERM; what a kernel without nf_tables answers.
pub fn probe() -> Result<(), Refusal> {
    Socket::open_netfilter()?.ask(request(Family::Ipv4, libc::NFT_MSG_GETGEN, 0), |_, _| {})
}

/// Removes the table of a bridge; no error if there is none.
///
/// # Errors
/// An error of nf_tables.
pub fn remove(family: Family, bridge: &str) -> Result<(), Refusal> {
    let request = request(family, libc::NFT_MSG_DELTABLE, 0).text(attribute::TABLE_NAME, &table(bridge));
    match Socket::open_netfilter().map_err(Refusal::from).and_then(|mut s| s.transaction(vec![request])) {
        Err(Refusal { errno: Errno(libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT), .. }) => Ok(()),
        r => r,
    }
}
