//! The network of pods: a bridge, a pair of interfaces for each pod, and one rule that lets pods out with the host's
//! address; all by requests of our own to the kernel.
//!
//! Everything is found again by its name: the bridge has the name of its supervisor as its alias, the port of a pod the
//! number of its replica, and the address of a pod is read from its own network. So nothing is written down, and after the
//! last pod nothing is left.

pub mod address;
mod apart;
mod divert;
pub mod holder;
mod links;
mod nft;
pub mod proxy;

use crate::error::{Errno, Error, Kind, Result};
use crate::sys::netlink::{self, Refusal, Socket};
use crate::workload::annotations::DEFAULT_NETWORK;
use address::{Pool, Range};
use apart::Member;
pub use divert::Diverted;
use nft::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The user's settings for the network of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Pods have only their loopback interface.
    pub none: bool,
    /// The name of the bridge.
    pub bridge: String,
    /// None: one that overlaps no route of the host.
    pub range: Option<Range>,
    /// The owner of the bridge: bridges of others are not changed.
    pub owner: String,
}

/// How long the name of a bridge can be: names of interfaces have 15 bytes, and those of its ports have its name, a
/// letter and the number of a replica.
pub const LONGEST_BRIDGE: usize = 8;

/// A pod, for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The number of its replica.
    pub serial: u64,
    pub address: Ipv4Addr,
    /// Without it the pod has no route to anything but the range.
    pub way_out: bool,
    /// It reaches the pods that share one of these with it.
    pub networks: BTreeSet<String>,
}

/// The network of all pods.
#[derive(Debug)]
pub struct Network {
    settings: NetworkSettings,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pool: Pool,
    /// The range from when the present one is not used any more.
    next: Option<Range>,
    /// Its index, while there is one.
    bridge: Option<u32>,
    /// The pods that are in other networks than "default".
    members: BTreeMap<Ipv4Addr, Member>,
    /// Warnings that have not been reported, and those that have.
    warnings: Vec<String>,
    reported: BTreeSet<String>,
    /// The kernel or the rights of the caller do not allow a bridge: pods have only their loopback interface.
    refused: bool,
}

/// Why pods have no addresses when there are none to give.
const NO_RANGE: &str = "pods have only their loopback interface: routes of the host cover all private addresses; \
                        choose a range with --network-range";

/// The range of pods without another one.
fn loopback() -> Range {
    Range::new(Ipv4Addr::LOCALHOST, 8)
}

/// A request to the kernel that was refused, in words.
fn refused(doing: impl Into<String>, r: Refusal) -> Error {
    let words = if r.words.is_empty() { String::new() } else { format!(" ({})", r.words) };
    Error::sys(format!("{}{words}", doing.into()), r.errno)
}

impl Network {
    /// Looks at what the host has. Nothing is changed before the first pod.
    ///
    /// # Errors
    /// The name of the bridge is invalid; the host's addresses cannot be read.
    pub fn open(settings: NetworkSettings) -> Result<Network> {
        check_name(&settings.bridge)?;
        let mut warnings = Vec::new();
        let mut socket = Socket::open().map_err(|e| Error::sys("opening a netlink socket", e))?;
        let fail = |r: Refusal| refused("reading the addresses and routes of the host", r);
        let own = links::find(&mut socket, &settings.bridge).map_err(fail)?;
        let ours = own.filter(|l| l.is_of(&settings.owner)).map(|l| l.index);
        let (taken, existing) = survey(&mut socket, ours).map_err(fail)?;
        let chosen = settings.range.or_else(|| Range::choose(&taken));
        if let Some((range, existing)) = settings.range.zip(existing).filter(|(settings, is)| settings != is)
        {
            warnings.push(format!(
                "running pods have addresses of {existing}; the range {range} is used once they are gone"
            ));
        }
        if let Some((range, other)) =
            settings.range.and_then(|range| Some((range, taken.iter().find(|t| t.overlaps(&range))?)))
        {
            warnings.push(format!(
                "the range {range} of the pods overlaps the route {other} of the host: one of the two cannot be reached; choose another --network-range"
            ));
        }
        // Pods that run have addresses of the one that exists.
        let range = existing.or(chosen);
        if range.is_none() {
            warnings.push(NO_RANGE.to_owned());
        }
        let state = State {
            pool: Pool::new(range.unwrap_or_else(loopback)),
            next: chosen,
            bridge: ours,
            members: BTreeMap::new(),
            warnings,
            reported: BTreeSet::new(),
            refused: range.is_none(),
        };
        Ok(Network { settings, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New warnings; each is returned once.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut state = self.state();
        let mut warnings = std::mem::take(&mut state.warnings);
        warnings.retain(|text| state.reported.insert(text.clone()));
        warnings
    }

    /// The address at which pods reach the host.
    pub fn gateway(&self) -> Ipv4Addr {
        self.state().pool.range().gateway()
    }

    /// The address of the host for others: that of its way out, if it has one, else the bridge's.
    pub fn host_address(&self) -> Ipv4Addr {
        let out = || {
            // Nothing is sent: connecting chooses a route (RFC 5737 has the address for documentation).
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
            match socket.local_addr().ok()?.ip() {
                std::net::IpAddr::V4(address) => Some(address),
                std::net::IpAddr::V6(_) => None,
            }
        };
        out().unwrap_or_else(|| self.gateway())
    }

    /// An address for a pod; None if pods cannot have any here. Ends with [`Network::give_back`].
    ///
    /// # Errors
    /// The bridge cannot be made; all addresses are used.
    pub fn reserve(&self) -> Result<Option<Ipv4Addr>> {
        let mut state = self.state();
        if state.refused {
            return Ok(None);
        }
        if state.bridge.is_none() {
            match self.raise(&mut state) {
                Err(e) if matches!(e.errno(), Some(Errno(libc::EPERM | libc::EOPNOTSUPP | libc::EROFS))) => {
                    state.refused = true;
                    state.warnings.push(format!("pods have only their loopback interface: {e}"));
                    return Ok(None);
                }
                r => r?,
            }
        }
        let range = state.pool.range();
        state.pool.take().map(Some).ok_or_else(|| {
            let error =
                Error::new(Kind::System, format!("all addresses of the range {range} are used by pods"));
            error.hint("choose a larger --network-range")
        })
    }

    /// Makes the bridge and the way out.
    fn raise(&self, state: &mut State) -> Result<()> {
        let (bridge, range) = (&self.settings.bridge, state.pool.range());
        let mut socket = Socket::open().map_err(|e| Error::sys("opening a netlink socket", e))?;
        let found = links::find(&mut socket, bridge).map_err(|r| refused("looking for the bridge", r))?;
        if found.is_some_and(|l| !l.is_of(&self.settings.owner)) {
            let message = format!("the interface {bridge:?} was not created by orund");
            let hint = "choose another name with --network-bridge";
            return Err(Error::new(Kind::System, message).hint(hint));
        }
        // One of ours that is only half made, or has another range.
        links::remove(&mut socket, bridge)
            .map_err(|r| refused(format!("removing the bridge {bridge:?}"), r))?;
        let made = links::make_bridge(&mut socket, bridge, &self.settings.owner, range);
        let index = made.map_err(|r| refused(format!("making the bridge {bridge:?}"), r))?;
        links::make_local(&mut socket, index, state.pool.services())
            .map_err(|r| refused("making the addresses of services", r))?;
        if let Err(r) = nft::make(bridge, range) {
            let e = refused("creating the masquerade rule for pods", r);
            state.warnings.push(format!("pods cannot reach other hosts: {e}"));
        } else if let Some(text) = forwarding() {
            state.warnings.push(text);
        }
        for chain in dropping_chains().unwrap_or_default() {
            state.warnings.push(format!(
                "the chain {chain} drops forwarded packets: pods reach other hosts only if the firewall of the host \
                 accepts packets from and to {bridge}"
            ));
        }
        state.bridge = Some(index);
        Ok(())
    }

    /// Connects the network `namespace` of a pod to the bridge.
    ///
    /// # Errors
    /// An error of the kernel. The address stays reserved then.
    pub fn attach(&self, pod: &Attached, namespace: &OwnedFd) -> Result<()> {
        let (bridge, range) = {
            let mut state = self.state();
            // Before it can send anything.
            if self.note_member(&mut state, pod) {
                self.keep_apart(&mut state);
            }
            (state.bridge.unwrap_or(0), state.pool.range())
        };
        let (serial, address) = (pod.serial, pod.address);
        let name = self.port(serial);
        let mut host = Socket::open().map_err(|e| Error::sys("opening a netlink socket", e))?;
        let made = match links::make_pair(&mut host, &name, bridge, namespace, address) {
            // Of an earlier sandbox of this replica, which the kernel has not cleared away yet.
            Err(Refusal { errno: Errno(libc::EEXIST), .. }) => links::remove(&mut host, &name)
                .and_then(|()| links::make_pair(&mut host, &name, bridge, namespace, address)),
            r => r,
        };
        made.map_err(|r| match r.errno {
            Errno(libc::EXFULL) => refused("connecting the pod to the bridge", r)
                .hint("a bridge has 1023 ports at most; pods with hostNetwork need none"),
            _ => refused("connecting the pod to the bridge", r),
        })?;
        let enter = |e| Error::sys("entering the network of the pod", e);
        // Before it is up: from then on it would listen to other pods.
        netlink::within(namespace, || links::turn_ipv6_off(links::POD_INTERFACE))
            .map_err(enter)?
            .map_err(|r| refused("turning IPv6 off in the pod", r))?;
        let mut socket = Socket::open_in(namespace).map_err(enter)?;
        links::set_up_pod(&mut socket, address, range, pod.way_out)
            .map_err(|r| refused(format!("giving the pod the address {address}"), r))
    }

    /// Whether the pod is in another network than "default".
    fn note_member(&self, state: &mut State, pod: &Attached) -> bool {
        let is_plain = pod.networks.iter().eq([DEFAULT_NETWORK]);
        if !is_plain {
            let member = Member { port: self.port(pod.serial), networks: pod.networks.clone() };
            state.members.insert(pod.address, member);
        }
        !is_plain
    }

    /// Has the kernel lead exactly these ports to pods.
    ///
    /// # Errors
    /// An error of nf_tables.
    pub fn divert(&self, ports: &[Diverted]) -> Result<()> {
        divert::apply(&self.settings.bridge, ports)
            .map_err(|r| refused("making the rules for ports that the kernel leads to pods", r))
    }

    /// Keeps the pods of different networks apart.
    fn keep_apart(&self, state: &mut State) {
        let (range, services) = (state.pool.range(), state.pool.services());
        let bridge = apart::Bridge { name: &self.settings.bridge, range, services };
        if let Err(r) = apart::apply(bridge, &state.members) {
            let e = refused("making the rules for networks of pods", r);
            state.warnings.push(format!("pods of different networks reach each other: {e}"));
        }
    }

    /// The name of the bridge port of a replica.
    fn port(&self, serial: u64) -> String {
        // The number of replicas that there are at a time is far below what is cut off here.
        format!("{}p{:x}", self.settings.bridge, serial & 0xff_ffff)
    }

    /// After a restart: a pod still has `address`, which was noted when it got it. What its network says now is its own
    /// programs' word, which may name the address of another.
    pub fn adopt(&self, pod: &Attached) {
        let mut state = self.state();
        state.pool.note(pod.address);
        self.note_member(&mut state, pod);
    }

    /// After a restart that came before the address of a pod was noted, and before any program ran in it: the address
    /// that its network has. None if it has none.
    pub fn adopt_unnoted(&self, namespace: &OwnedFd) -> Option<Ipv4Addr> {
        let mut socket = Socket::open_in(namespace).ok()?;
        let address = links::addresses(&mut socket).ok()?.first()?.address;
        let mut state = self.state();
        (state.pool.range().contains(address) && state.pool.note(address)).then_some(address)
    }

    /// The addresses at which pods reach the services with these identities, the oldest first.
    pub fn of_services(&self, uids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, Ipv4Addr> {
        let state = self.state();
        match state.refused {
            true => BTreeMap::new(),
            false => state.pool.of_services(uids),
        }
    }

    /// An address that no pod has any more. After the last pod the bridge and the rule go too.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn give_back(&self, address: Ipv4Addr) -> Result<()> {
        {
            let mut state = self.state();
            state.pool.give_back(address);
            if state.members.remove(&address).is_some() {
                self.keep_apart(&mut state);
            }
        }
        self.remove_unused()
    }

    /// After a restart, when all pods that there are have been adopted: removes what none of them needs, or makes the
    /// rule again, which an interrupted start may lack.
    ///
    /// # Errors
    /// An error of the kernel.
    pub fn recovered(&self) -> Result<()> {
        let range = {
            let state = self.state();
            state.pool.range()
        };
        self.remove_unused()?;
        let Some(index) = self.state().bridge else { return Ok(()) };
        self.keep_apart(&mut self.state());
        let services = self.state().pool.services();
        let mut socket = Socket::open().map_err(|e| Error::sys("opening a netlink socket", e))?;
        links::make_local(&mut socket, index, services)
            .map_err(|r| refused("making the addresses of services", r))?;
        // An earlier version of this program has left it on.
        links::turn_ipv6_off(&self.settings.bridge)
            .map_err(|r| refused("turning IPv6 off for the bridge", r))?;
        nft::make(&self.settings.bridge, range)
            .map_err(|r| refused("creating the masquerade rule for pods", r))
    }

    /// Removes the bridge and the rule, whatever pods have addresses still.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn end(&self) -> Result<()> {
        {
            let mut state = self.state();
            state.pool = Pool::new(state.pool.range());
            state.members.clear();
        }
        self.remove_unused()
    }

    /// Removes what no pod needs.
    fn remove_unused(&self) -> Result<()> {
        let mut state = self.state();
        if !state.pool.is_empty() || state.bridge.take().is_none() {
            return Ok(());
        }
        if let Some(next) = state.next.filter(|next| *next != state.pool.range()) {
            state.pool = Pool::new(next);
        }
        let bridge = &self.settings.bridge;
        [Family::Ipv4, Family::Bridge]
            .into_iter()
            .try_for_each(|family| nft::remove(family, bridge))
            .map_err(|r| refused(format!("removing the table {:?}", nft::table(bridge)), r))?;
        let mut socket = Socket::open().map_err(|e| Error::sys("opening a netlink socket", e))?;
        links::remove(&mut socket, bridge).map_err(|r| refused(format!("removing the bridge {bridge:?}"), r))
    }
}

/// The ranges that addresses and routes of the host have, without those of the interface `own`; and the range of that.
fn survey(
    socket: &mut Socket,
    own: Option<u32>,
) -> std::result::Result<(Vec<Range>, Option<Range>), Refusal> {
    let addresses = links::addresses(socket)?;
    let is_other = |index: u32| Some(index) != own;
    let range = |a: &links::Assigned| Range::new(a.address, a.prefix);
    let mut taken: Vec<Range> = addresses.iter().filter(|a| is_other(a.index)).map(range).collect();
    let routes = links::routes(socket)?;
    taken.extend(routes.iter().filter(|(index, _)| is_other(*index)).map(|(_, range)| *range));
    let existing = addresses.iter().find(|a| !is_other(a.index)).map(range);
    Ok((taken, existing))
}

/// Whether the kernel has nf_tables.
///
/// # Errors
/// EPERM: the caller may not ask.
pub fn has_nf_tables() -> std::result::Result<(), Errno> {
    nft::probe().map_err(|r| r.errno)
}

/// The chains of the host's firewall that drop what is forwarded, unless a rule of theirs accepts it.
///
/// # Errors
/// nf_tables cannot be asked.
pub fn dropping_chains() -> std::result::Result<Vec<String>, Errno> {
    nft::dropping().map_err(|r| r.errno)
}

/// The range of a bridge called `name`, which need not exist, and a route of the host that overlaps it. None: no range is
/// left.
///
/// # Errors
/// The host's addresses cannot be read.
pub fn range_of(name: &str) -> std::result::Result<Option<(Range, Option<Range>)>, Errno> {
    let errno = |r: Refusal| r.errno;
    let mut socket = Socket::open()?;
    let own = links::find(&mut socket, name).map_err(errno)?.map(|l| l.index);
    let (taken, existing) = survey(&mut socket, own).map_err(errno)?;
    let range = existing.or_else(|| Range::choose(&taken));
    Ok(range.map(|range| (range, taken.iter().copied().find(|t| t.overlaps(&range)))))
}

/// Whether a name is one that a bridge of ours can have.
fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric());
    if plain && !name.is_empty() && name.len() <= LONGEST_BRIDGE {
        return Ok(());
    }
    let message = format!("invalid name of a bridge {name:?}");
    Err(Error::new(Kind::Usage, message)
        .hint(format!("use 1 to {LONGEST_BRIDGE} letters and digits, such as orun0")))
}

/// The reason why the host does not forward packets; `None` if it does.
fn forwarding() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").ok()?;
    (text.trim() == "0").then(|| {
        "pods cannot reach other hosts: the host does not forward packets; \
         run: sysctl -w net.ipv4.ip_forward=1"
            .to_owned()
    })
}
