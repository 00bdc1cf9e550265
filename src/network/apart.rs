//! Networks of pods on one bridge: a pod reaches those that share a network with it, and the host. It is one table of nf_tables
//! for the frames that come from the ports of the bridge, before the bridge or the host passes them on:
//!
//! ```text
//! table bridge orund_orun0 {
//!     set ports0 { type ifname; elements = { "orun0p1f" } }        of the pods in one network, and their addresses
//!     set pods0 { type ipv4_addr; elements = { 10.89.0.5 } }
//!     set ports { ... }  set pods { ... }                          of all pods that are not in the network "default"
//!     chain prerouting {
//!         type filter hook prerouting priority 0; policy accept;
//!         ip daddr 10.89.0.1 accept                                the host
//!         ip daddr 10.89.224.0/19 accept                           Services
//!         iifname @ports0 ip daddr @pods0 accept
//!         iifname @ports ip daddr 10.89.0.0/16 drop
//!         iifname @ports meta protocol != { ip, arp } drop
//!         iifname "orun0p*" ip daddr @pods drop
//!     }
//! }
//! ```
//! It exists as long as a pod is in another network than "default", and is made again, in one transaction, for each of them.

use super::address::Range;
use super::nft::{self, Family, attribute, expression, number};
use crate::sys::netlink::{Refusal, Request, Socket};
use crate::workload::annotations::DEFAULT_NETWORK;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

const CHAIN: &str = "prerouting";
/// Where an IPv4 header has the address of the receiver.
const DESTINATION: u32 = 16;
const META_PROTOCOL: u32 = 1;
const META_IIFNAME: u32 = 6;
const PREROUTING: u32 = 0;
const VERDICT: u32 = 0;
/// Types of keys, for display by nft(8), which has these numbers.
const TYPE_ADDRESS: u32 = 7;
const TYPE_INTERFACE: u32 = 41;
const ACCEPT: u32 = 1;
const DROP: u32 = 0;

/// A pod that is not only in the network "default".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its port of the bridge.
    pub port: String,
    pub networks: BTreeSet<String>,
}

/// The contents of the table of a bridge.
#[derive(Debug, Clone, Copy)]
pub struct Bridge<'a> {
    pub name: &'a str,
    pub range: Range,
    pub services: Range,
}

/// Ports and addresses of pods.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group {
    ports: Vec<String>,
    pods: Vec<Ipv4Addr>,
}

/// The pods of each network but "default", and those that are not in that.
fn groups(members: &BTreeMap<Ipv4Addr, Member>) -> (BTreeMap<&str, Group>, Group) {
    let mut networks: BTreeMap<&str, Group> = BTreeMap::new();
    let mut apart = Group::default();
    for (address, member) in members {
        let named = member.networks.iter().filter(|name| *name != DEFAULT_NETWORK);
        let outside = (!member.networks.contains(DEFAULT_NETWORK)).then_some(&mut apart);
        let add = |group: &mut Group| {
            group.ports.push(member.port.clone());
            group.pods.push(*address);
        };
        named.for_each(|name| add(networks.entry(name).or_default()));
        outside.into_iter().for_each(add);
    }
    (networks, apart)
}

/// Has the table say what these pods reach, instead of what it said before.
///
/// # Errors
/// An error of nf_tables; EOPNOTSUPP or ENOENT from a kernel without it for bridges.
pub fn apply(bridge: Bridge<'_>, members: &BTreeMap<Ipv4Addr, Member>) -> Result<(), Refusal> {
    if members.is_empty() {
        return nft::remove(Family::Bridge, bridge.name);
    }
    let (networks, apart) = groups(members);
    let mut table = Table { name: nft::table(bridge.name), sets: 0, requests: Vec::new() };
    table.begin();
    let gateway = Range::new(bridge.range.gateway(), 32);
    table.rule(|r| verdict(to(r, gateway), ACCEPT));
    table.rule(|r| verdict(to(r, bridge.services), ACCEPT));
    for (n, group) in networks.values().enumerate() {
        let sets = [format!("ports{n}"), format!("pods{n}")];
        table.group(&sets, group);
        table.rule(|r| verdict(to_one_of(from_one_of(r, &sets[0]), &sets[1]), ACCEPT));
    }
    if !apart.pods.is_empty() {
        let sets = ["ports", "pods"].map(str::to_owned);
        table.group(&sets, &apart);
        table.rule(|r| verdict(to(from_one_of(r, &sets[0]), bridge.range), DROP));
        table.rule(|r| {
            let r = nft::meta(from_one_of(r, &sets[0]), META_PROTOCOL);
            let r = nft::compare(r, nft::CMP_NEQ, &(libc::ETH_P_IP as u16).to_be_bytes());
            verdict(nft::compare(r, nft::CMP_NEQ, &(libc::ETH_P_ARP as u16).to_be_bytes()), DROP)
        });
        // As nft(8) writes `name*`: what follows is not compared.
        let ours = format!("{}p", bridge.name);
        table.rule(|r| {
            let r = nft::compare(nft::meta(r, META_IIFNAME), nft::CMP_EQ, ours.as_bytes());
            verdict(to_one_of(r, &sets[1]), DROP)
        });
    }
    Socket::open_netfilter()?.transaction(table.requests)
}

/// A table under construction.
struct Table {
    name: String,
    sets: u32,
    requests: Vec<Request>,
}

impl Table {
    fn request(&self, kind: i32, flags: i32) -> Request {
        // All of these have the name of the table as their first attribute.
        nft::request(Family::Bridge, kind, flags).text(attribute::TABLE_NAME, &self.name)
    }

    fn begin(&mut self) {
        let chain = self
            .request(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE)
            .text(attribute::CHAIN_NAME, CHAIN)
            .nested(attribute::CHAIN_HOOK, |r| {
                number(number(r, attribute::HOOK_HOOKNUM, PREROUTING), attribute::HOOK_PRIORITY, 0)
            })
            .text(attribute::CHAIN_TYPE, "filter");
        // Made first, lest there is none to be removed.
        let made = || self.request(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE);
        self.requests = vec![made(), self.request(libc::NFT_MSG_DELTABLE, 0), made(), chain];
    }

    fn rule(&mut self, build: impl FnOnce(Request) -> Request) {
        let rule = self.request(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND);
        let rule = rule.text(attribute::RULE_CHAIN, CHAIN);
        self.requests.push(rule.nested(attribute::RULE_EXPRESSIONS, build));
    }

    /// The two sets of a group, by their names.
    fn group(&mut self, [ports, pods]: &[String; 2], group: &Group) {
        let name = |port: &String| {
            let mut key = vec![0; libc::IFNAMSIZ];
            key[..port.len()].copy_from_slice(port.as_bytes());
            key
        };
        self.set(ports, (TYPE_INTERFACE, libc::IFNAMSIZ as u32), group.ports.iter().map(name).collect());
        let addresses = group.pods.iter().map(|a| a.octets().to_vec()).collect();
        self.set(pods, (TYPE_ADDRESS, 4), addresses);
    }

    fn set(&mut self, name: &str, (kind, length): (u32, u32), keys: Vec<Vec<u8>>) {
        self.sets += 1;
        let set = self.request(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE).text(attribute::SET_NAME, name);
        let set = number(number(set, attribute::SET_KEY_TYPE, kind), attribute::SET_KEY_LEN, length);
        let set = number(set, attribute::SET_ID, self.sets);
        let elements = self
            .request(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE)
            .text(attribute::ELEMENTS_SET, name)
            .nested(attribute::ELEMENTS, |r| {
                keys.iter().fold(r, |r, key| {
                    r.nested(attribute::LIST_ELEM, |r| nft::data(r, attribute::ELEMENT_KEY, key))
                })
            });
        self.requests.extend([set, elements]);
    }
}

fn lookup(r: Request, set: &str) -> Request {
    expression(r, "lookup", |r| {
        number(r.text(attribute::LOOKUP_SET, set), attribute::LOOKUP_SREG, nft::REGISTER)
    })
}

fn from_one_of(r: Request, ports: &str) -> Request {
    lookup(nft::meta(r, META_IIFNAME), ports)
}

fn is_ipv4(r: Request) -> Request {
    nft::compare(nft::meta(r, META_PROTOCOL), nft::CMP_EQ, &(libc::ETH_P_IP as u16).to_be_bytes())
}

fn to_one_of(r: Request, pods: &str) -> Request {
    lookup(nft::address(is_ipv4(r), DESTINATION), pods)
}

fn to(r: Request, range: Range) -> Request {
    nft::within(nft::address(is_ipv4(r), DESTINATION), range)
}

fn verdict(r: Request, code: u32) -> Request {
    expression(r, "immediate", |r| {
        number(r, attribute::IMMEDIATE_DREG, VERDICT).nested(attribute::IMMEDIATE_DATA, |r| {
            r.nested(attribute::DATA_VERDICT, |r| number(r, attribute::VERDICT_CODE, code))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_pods_and_those_outside_of_the_default_one_are_apart() {
        let member = |port: &str, networks: &[&str]| Member {
            port: port.to_owned(),
            networks: networks.iter().map(|n| (*n).to_owned()).collect(),
        };
        let at = |n| Ipv4Addr::new(10, 89, 0, n);
        let members = [
            (at(2), member("orun0p1", &["back"])),
            (at(3), member("orun0p2", &["back", "default"])),
            (at(4), member("orun0p3", &["back", "front"])),
        ];
        let members: BTreeMap<_, _> = members.into();
        let (networks, apart) = groups(&members);
        let of = |name: &str| networks[name].pods.iter().map(|a| a.octets()[3]).collect::<Vec<_>>();
        assert_eq!((networks.len(), of("back"), of("front")), (2, vec![2, 3, 4], vec![4]));
        assert_eq!((apart.ports.join(" ").as_str(), apart.pods), ("orun0p1 orun0p3", vec![at(2), at(4)]));
    }
}
