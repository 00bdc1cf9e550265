//! Published ports and names: opens the ports, has them kept, and keeps a proxy running that uses the latest map.
//!
//! A thread of its own does it, which the loop gives maps and which reports the acknowledged ones. Sockets and the connection
//! to the proxy are kept by the keeper, so that neither the end of the supervisor nor that of the proxy closes a port.

use super::keeper::LINK;
use super::keeper::link::Link;
use super::listen;
use super::pods::resolver::Sockets;
use super::publish_news::{News, Told};
use crate::error::{Errno, Error, Result};
use crate::log;
use crate::network::proxy::{Counts, MESSAGE, Map, MapName, MapPod, MapResolver, MapRoute, read_json, tag};
use crate::network::{Diverted, Network};
use crate::supervisor::core::ids::ReplicaKey;
use crate::supervisor::core::ports::{HostPort, Protocol};
use crate::supervisor::core::publication::{Name, NamedPod, Route, Taken, Target};
use crate::supervisor::core::services::ADDRESS;
use crate::sys::fd::{self, PollFd};
use crate::sys::{memfd, socket, time, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a pod asks for names.
#[derive(Debug, Clone)]
pub struct Resolver {
    pub sockets: Arc<Sockets>,
    /// The Compose project that it belongs to.
    pub project: Option<String>,
}

/// By what names the keeper has the connection to the proxy, a descriptor of its process, and listening sockets.
const CONTROL: &str = "proxy";
const PROCESS: &str = "proxy-process";
const PORT: &str = "port:";
/// How often a port that is taken is tried again, and a proxy that died is started again, in milliseconds.
const TAKEN_AGAIN: u64 = 5000;
const START_AGAIN: u64 = 100;
/// How often the proxy is asked for a sign of life, and how long it may take to give one, in milliseconds.
const ASK: u64 = 5000;
const ANSWER: u64 = 3000;
/// When the own process was late by more, as after it was frozen with the proxy, the proxy gets another chance.
const LATE: u64 = 500;

/// Callback for news.
pub type Tell = Box<dyn Fn(News) + Send>;

/// Facts that the thread has found out, for requests to the API.
#[derive(Debug, Default)]
struct Facts {
    /// The addresses of services.
    services: BTreeMap<u64, Ipv4Addr>,
    /// Counters of the proxy, by the texts of ports.
    counts: BTreeMap<String, Counts>,
}

/// The published ports and names.
#[derive(Debug, Clone, Default)]
struct Publication {
    generation: u64,
    map: Vec<Route>,
    names: Vec<Name>,
}

/// Input from the loop that the thread has not taken yet.
#[derive(Debug, Default)]
struct Pending {
    publication: Option<Publication>,
    /// Pods with a resolver of their own; None: it is gone.
    resolvers: Vec<(ReplicaKey, Option<Resolver>)>,
}

/// The thread, as the loop sees it. It ends with this; the proxy does not.
#[derive(Debug)]
pub struct Publisher {
    pending: Arc<Mutex<Pending>>,
    facts: Arc<Mutex<Facts>>,
    wake: OwnedFd,
}

impl Publisher {
    /// Starts the thread. What belongs to it is taken out of `kept`.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(
        keeper: Option<Link>,
        kept: &mut BTreeMap<String, OwnedFd>,
        network: Option<Arc<Network>>,
        tell: Tell,
    ) -> Result<Publisher> {
        let fail = |e: Errno| Error::sys("starting the thread that publishes ports", e);
        let (ours, theirs) = socket::seqpacket_pair().map_err(fail)?;
        // A full socket wakes the thread as well: the loop never waits for it.
        fd::set_nonblocking(ours.as_raw_fd()).map_err(fail)?;
        let control = kept.remove(CONTROL);
        if let Some(control) = &control {
            fd::set_nonblocking(control.as_raw_fd()).map_err(fail)?;
        }
        let pending = Arc::<Mutex<Pending>>::default();
        let facts = Arc::<Mutex<Facts>>::default();
        let mut worker = Worker {
            pending: Arc::clone(&pending),
            facts: Arc::clone(&facts),
            told: Told::default(),
            wake: theirs,
            keeper,
            network,
            tell,
            control,
            process: kept.remove(PROCESS),
            child: None,
            check: None,
            news: false,
            sockets: BTreeMap::new(),
            diverted: None,
            taken: Vec::new(),
            latest: Publication::default(),
            resolvers: BTreeMap::new(),
            services: BTreeMap::new(),
            sent: BTreeSet::new(),
            again: None,
        };
        let names: Vec<String> = kept.keys().filter(|n| n.starts_with(PORT)).cloned().collect();
        for name in names {
            if let Some(fd) = kept.remove(&name) {
                worker.sockets.insert(name[PORT.len()..].to_owned(), fd);
            }
        }
        let thread = std::thread::Builder::new().name("publish".to_owned());
        thread.spawn(move || worker.run()).map_err(|e| fail(e.into()))?;
        Ok(Publisher { pending, facts, wake: ours })
    }

    /// Has a map used instead of all before it.
    pub fn publish(&self, generation: u64, map: &[Route], names: &[Name]) {
        let publication = Publication { generation, map: map.to_vec(), names: names.to_vec() };
        self.change_pending(|pending| pending.publication = Some(publication));
    }

    /// Has a pod's questions for names answered from now on, or no longer.
    pub fn resolve(&self, replica: ReplicaKey, resolver: Option<Resolver>) {
        self.change_pending(|pending| pending.resolvers.push((replica, resolver)));
    }

    /// The address at which pods reach the service with this identity.
    pub fn address_of_service(&self, uid: u64) -> Option<Ipv4Addr> {
        lock(&self.facts).services.get(&uid).copied()
    }

    /// Counters of each port, by its text, since the proxy was started.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        lock(&self.facts).counts.clone()
    }

    fn change_pending(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut lock(&self.pending));
        let _ = socket::send(self.wake.as_raw_fd(), b"W", None);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Next step of the proxy, by the monotonic clock.
#[derive(Clone, Copy)]
enum Check {
    /// It is asked then.
    Ask(u64),
    /// It must have answered by then.
    Answer(u64),
}

impl Check {
    fn at(self) -> u64 {
        match self {
            Check::Ask(at) | Check::Answer(at) => at,
        }
    }
}

struct Worker {
    pending: Arc<Mutex<Pending>>,
    facts: Arc<Mutex<Facts>>,
    told: Told,
    wake: OwnedFd,
    keeper: Option<Link>,
    network: Option<Arc<Network>>,
    tell: Tell,
    control: Option<OwnedFd>,
    /// The process of the proxy.
    process: Option<OwnedFd>,
    /// The proxy, if this process has started it.
    child: Option<Child>,
    check: Option<Check>,
    /// The loop does not know yet that the latest map is used.
    news: bool,
    /// Listening sockets, by the texts of their ports.
    sockets: BTreeMap<String, OwnedFd>,
    /// The ports that the kernel leads to pods. None: those of an earlier supervisor.
    diverted: Option<Vec<Diverted>>,
    taken: Vec<Taken>,
    latest: Publication,
    resolvers: BTreeMap<ReplicaKey, Resolver>,
    /// The addresses of services.
    services: BTreeMap<u64, Ipv4Addr>,
    /// The names of the sockets that the proxy has.
    sent: BTreeSet<String>,
    /// When what failed is tried again, by the monotonic clock.
    again: Option<u64>,
}

impl Worker {
    fn run(&mut self) {
        loop {
            let next = [self.again, self.check.map(Check::at)].into_iter().flatten().min();
            let wait = next.map_or(-1, |at| at.saturating_sub(time::monotonic_ms()) as i32);
            let control = self.control.as_ref().map_or(-1, |c| c.as_raw_fd());
            let mut fds =
                [PollFd::new(self.wake.as_raw_fd(), libc::POLLIN), PollFd::new(control, libc::POLLIN)];
            if let Err(e) = fd::poll(&mut fds, wait) {
                return log::warn(Error::sys("waiting for maps of ports", e));
            }
            if fds[1].revents() != 0 {
                self.hear();
            }
            if fds[0].revents() != 0 {
                let mut buf = [0; 8];
                // 0: the loop is gone.
                if !matches!(socket::receive(self.wake.as_raw_fd(), &mut buf), Ok((n, _)) if n > 0) {
                    return;
                }
                self.take_pending();
            }
            if self.again.is_some_and(|at| time::monotonic_ms() >= at) {
                self.again = None;
                self.apply();
            }
            self.check();
        }
    }

    fn take_pending(&mut self) {
        let pending = std::mem::take(&mut *lock(&self.pending));
        if pending.publication.is_none() && pending.resolvers.is_empty() {
            return;
        }
        for (replica, resolver) in pending.resolvers {
            // Another sandbox of the same replica has other sockets.
            self.sent.retain(|name| !name.starts_with(&format!("names:{replica}:")));
            match resolver {
                Some(resolver) => drop(self.resolvers.insert(replica, resolver)),
                None => drop(self.resolvers.remove(&replica)),
            }
        }
        if let Some(publication) = pending.publication {
            self.latest = publication;
            let uids = self.latest.names.iter().filter_map(|n| n.address_of);
            let uids: BTreeSet<u64> = uids.collect();
            self.services = self.network.as_ref().map(|n| n.of_services(uids)).unwrap_or_default();
            lock(&self.facts).services.clone_from(&self.services);
            // Without a network of pods services have no address.
            let services = &self.services;
            let opened = |r: &Route| service_of(&r.host).is_none_or(|uid| services.contains_key(&uid));
            self.latest.map.retain(opened);
            self.news = true;
        }
        self.again = None;
        self.apply();
    }

    /// Whether there is nothing for a proxy to do.
    fn is_idle(&self) -> bool {
        self.latest.map.is_empty() && self.resolvers.is_empty()
    }

    /// Asks the proxy for a sign of life, and replaces one that has given none.
    fn check(&mut self) {
        let now = time::monotonic_ms();
        match self.check {
            Some(Check::Ask(at)) if now >= at => {
                if let Err(e) = self.send_map() {
                    self.fail(&e);
                }
            }
            Some(Check::Answer(at)) if now >= at + LATE => self.check = Some(Check::Answer(now + ANSWER)),
            Some(Check::Answer(at)) if now >= at => self.hung(),
            Some(Check::Ask(_) | Check::Answer(_)) | None => {}
        }
    }

    /// The proxy does not answer: it holds connections without serving them.
    fn hung(&mut self) {
        log::warn("the proxy of published ports does not respond: killing and restarting it");
        if let Some(process) = &self.process
            && let Err(e) = wait::pidfd_send_signal(process.as_raw_fd(), libc::SIGKILL)
            && e != Errno(libc::ESRCH)
        {
            log::warn(Error::sys("killing the proxy", e));
        }
        self.lose();
    }

    /// Nothing can be sent to the proxy.
    fn fail(&mut self, e: &Error) {
        if e.errno() == Some(Errno(libc::ETIMEDOUT)) {
            return self.hung();
        }
        log::warn(e);
        self.lose();
    }

    fn later(&mut self, delay: u64) {
        let at = time::monotonic_ms() + delay;
        self.again = Some(self.again.map_or(at, |a| a.min(at)));
    }

    /// Opens and closes ports as the latest map says, and has the proxy use it.
    fn apply(&mut self) {
        let names: Vec<String> = self.latest.map.iter().map(|r| r.host.to_string()).collect();
        let gone: Vec<String> = self.sockets.keys().filter(|n| !names.contains(n)).cloned().collect();
        let before = std::mem::take(&mut self.taken);
        for route in self.latest.map.clone() {
            if let Err(error) = self.open(&route.host) {
                self.taken.push(Taken { host: route.host, error });
            }
        }
        if !self.taken.is_empty() {
            self.later(TAKEN_AGAIN);
        }
        self.divert();
        // Ports that could be opened, or not, since the last time.
        self.news |= before != self.taken;
        if self.control.is_none() && self.is_idle() {
            self.news = false;
            (self.tell)(News::Used(self.latest.generation, Vec::new()));
        } else if let Err(e) = self.send() {
            self.fail(&e);
        }
        for name in gone {
            self.sockets.remove(&name);
            self.sent.remove(&name);
            lock(&self.facts).counts.remove(&name);
            if let Some(keeper) = &self.keeper {
                keeper.drop(&format!("{PORT}{name}"));
            }
        }
    }

    /// Has the kernel lead ports to pods where that is asked for; if it cannot, the proxy does it.
    fn divert(&mut self) {
        let Some(network) = &self.network else { return };
        let routes = self.latest.map.iter().filter(|r| r.options.kernel);
        let open = routes.filter(|r| self.sockets.contains_key(&r.host.to_string()));
        let ports: Vec<Diverted> = open.filter_map(diverted).collect();
        if self.diverted.as_ref() == Some(&ports) {
            return;
        }
        let done = network.divert(&ports);
        if let Some(e) = done.err().filter(|_| !ports.is_empty()) {
            self.diverted = None;
            return log::warn(e.context("ports are published by the proxy"));
        }
        self.diverted = Some(ports);
    }

    fn open(&mut self, host: &HostPort) -> std::result::Result<(), String> {
        let name = host.to_string();
        if self.sockets.contains_key(&name) {
            return Ok(());
        }
        let service = service_of(host).and_then(|uid| self.services.get(&uid)).copied();
        // Ports of the host are in the way of those of services, and the other way round.
        let (kind, end) = (format!("{} ", host.protocol), format!(":{}", host.port));
        let is_beside = |other: &String| {
            let of_service = other[kind.len()..].starts_with(ADDRESS);
            other.starts_with(&kind) && other.ends_with(&end) && of_service != service.is_some()
        };
        let beside = self.sockets.iter().filter(|(other, _)| is_beside(other)).map(|(_, fd)| fd.as_fd());
        let socket = listen::open(host, service, &beside.collect::<Vec<_>>())?;
        if let Some(keeper) = &self.keeper {
            keeper.put(&format!("{PORT}{name}"), socket.as_raw_fd());
        }
        // A proxy that runs gets it with the next map.
        self.sockets.insert(name, socket);
        Ok(())
    }

    /// Sends all sockets that the proxy has not got yet, and the map. One that was started by another supervisor takes
    /// copies of those that it has for the same.
    fn send(&mut self) -> Result<()> {
        if self.control.is_none() {
            self.start()?;
        }
        let ports = self.latest.map.iter().map(|r| r.host.to_string());
        let ports = ports.filter_map(|name| Some((self.sockets.get(&name)?.as_raw_fd(), name)));
        let named = self.resolvers.iter().flat_map(|(key, r)| r.sockets.named(&key.to_string()));
        let all = ports.chain(named.map(|(name, _, fd)| (fd.as_raw_fd(), name)));
        let new: Vec<(RawFd, String)> = all.filter(|(_, name)| !self.sent.contains(name)).collect();
        for (fd, name) in new {
            self.pass(&[&[tag::LISTENER], name.as_bytes()].concat(), fd)?;
            self.sent.insert(name);
        }
        self.send_map()
    }

    /// Sends the map, which the proxy acknowledges.
    fn send_map(&mut self) -> Result<()> {
        let fail = |e: Errno| Error::sys("writing the map of ports", e);
        let mut map = Map { names: names(&self.latest.names, &self.services), ..Map::default() };
        for (key, Resolver { sockets, project }) in &self.resolvers {
            let all = sockets.named(&key.to_string()).map(|(name, udp, _)| MapResolver {
                name,
                udp,
                networks: sockets.networks.iter().cloned().collect(),
                project: project.clone(),
            });
            map.resolvers.extend(all);
        }
        for route in &self.latest.map {
            let name = route.host.to_string();
            if !self.sockets.contains_key(&name) {
                continue;
            }
            let target = |t: &Target| {
                let address: IpAddr = t.address.parse().ok()?;
                Some((address, t.port).into())
            };
            let udp = route.host.protocol == Protocol::Udp;
            map.routes.push(MapRoute {
                name,
                udp,
                targets: route.targets.iter().filter_map(target).collect(),
                affinity: route.options.affinity,
                proxy_protocol: route.options.proxy_protocol,
            });
        }
        let mut file = std::fs::File::from(memfd::create(c"ports").map_err(fail)?);
        let text = serde_json::to_vec(&map).unwrap_or_default();
        file.write_all(&text).map_err(|e| fail(e.into()))?;
        self.pass(&[&[tag::MAP], self.latest.generation.to_string().as_bytes()].concat(), file.as_raw_fd())?;
        self.check = Some(Check::Answer(time::monotonic_ms() + ANSWER));
        Ok(())
    }

    /// Sends one message to the proxy. ETIMEDOUT: it takes none.
    fn pass(&self, message: &[u8], fd: RawFd) -> Result<()> {
        let fail = |e: Errno| Error::sys("sending the map of ports to the proxy", e);
        let Some(control) = &self.control else { return Ok(()) };
        let end = time::monotonic_ms() + ANSWER;
        loop {
            match socket::send(control.as_raw_fd(), message, Some(fd)) {
                Err(Errno(libc::EAGAIN)) => {}
                r => return r.map_err(fail),
            }
            let left = end.saturating_sub(time::monotonic_ms());
            if left == 0 {
                return Err(fail(Errno(libc::ETIMEDOUT)));
            }
            fd::poll(&mut [PollFd::new(control.as_raw_fd(), libc::POLLOUT)], left as i32).map_err(fail)?;
        }
    }

    fn start(&mut self) -> Result<()> {
        let fail = |e: Errno| Error::sys("starting the proxy", e);
        let (ours, theirs) = socket::seqpacket_pair().map_err(fail)?;
        fd::set_nonblocking(ours.as_raw_fd()).map_err(fail)?;
        let mut command = Command::new(super::program());
        for name in [LINK, "NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(name);
        }
        command.arg("proxy").stdin(Stdio::from(theirs)).stdout(Stdio::null()).current_dir("/");
        // In a process group of its own the signals of a terminal do not reach it.
        command.process_group(0);
        let child = command.spawn().map_err(|e| fail(e.into()))?;
        let process = wait::pidfd_open(child.id() as i32);
        self.child = Some(child);
        self.process = Some(process.map_err(fail)?);
        if let Some(keeper) = &self.keeper {
            keeper.put(CONTROL, ours.as_raw_fd());
            if let Some(process) = &self.process {
                keeper.put(PROCESS, process.as_raw_fd());
            }
        }
        self.control = Some(ours);
        Ok(())
    }

    /// Takes one message of the proxy.
    fn hear(&mut self) {
        let Some(control) = &self.control else { return };
        let mut buf = [0; MESSAGE];
        match socket::receive(control.as_raw_fd(), &mut buf) {
            Ok((n, _)) if n > 0 && buf[0] == tag::USED => {
                let generation = String::from_utf8_lossy(&buf[1..n]).parse().unwrap_or(0);
                let now = time::monotonic_ms();
                if generation != self.latest.generation {
                    self.check = Some(Check::Answer(now + ANSWER));
                } else if self.is_idle() {
                    // Nothing is published: it ends with its last connection.
                    self.lose();
                    self.again = None;
                } else {
                    self.check = Some(Check::Ask(now + ASK));
                }
                if generation != self.latest.generation || std::mem::take(&mut self.news) {
                    (self.tell)(News::Used(generation, self.taken.clone()));
                }
            }
            Ok((n, Some(file))) if n > 0 && buf[0] == tag::COUNTS => self.take_counts(file),
            Ok((n, _)) if n > 0 => {}
            Err(Errno(libc::EAGAIN)) => {}
            Ok(_) | Err(_) => {
                if !self.is_idle() {
                    log::warn("the proxy of published ports has exited: restarting it");
                }
                self.lose();
            }
        }
    }

    /// Takes what the proxy has counted: of the ports whose counts have changed.
    fn take_counts(&mut self, file: OwnedFd) {
        let news: BTreeMap<String, Counts> = match read_json(file) {
            Ok(news) => news,
            Err(e) => return log::warn(e),
        };
        let now = time::monotonic_ms();
        let mut facts = lock(&self.facts);
        for (port, counts) in news {
            if !self.sockets.contains_key(&port) {
                continue;
            }
            let before = facts.counts.insert(port.clone(), counts).unwrap_or_default();
            self.told.compare(&port, before, counts, now).into_iter().for_each(&self.tell);
        }
    }

    /// The proxy is gone, or has to go.
    fn lose(&mut self) {
        lock(&self.facts).counts.clear();
        self.control = None;
        self.process = None;
        self.check = None;
        self.sent.clear();
        if let Some(keeper) = &self.keeper {
            keeper.drop(CONTROL);
            keeper.drop(PROCESS);
        }
        if let Some(mut child) = self.child.take() {
            // One that still has connections ends later.
            let reap = std::thread::Builder::new().name("reap".to_owned()).spawn(move || child.wait());
            if let Err(e) = reap {
                log::warn(Error::sys("waiting for the proxy", e));
            }
        }
        self.later(START_AGAIN);
    }
}

/// Names as the proxy has them.
fn names(names: &[Name], services: &BTreeMap<u64, Ipv4Addr>) -> Vec<MapName> {
    let pod = |p: &NamedPod| {
        Some(MapPod { host: p.host.clone(), address: p.address.parse().ok()?, networks: p.networks.clone() })
    };
    let name = |n: &Name| MapName {
        service: n.service.clone(),
        aliases: n.aliases.clone(),
        project: n.project.clone(),
        address: n.address_of.and_then(|uid| services.get(&uid)).copied(),
        pods: n.pods.iter().filter_map(pod).collect(),
    };
    names.iter().map(name).collect()
}

/// A port as the kernel has it. None: it leads no IPv6, and nothing to the addresses of services.
fn diverted(route: &Route) -> Option<Diverted> {
    let HostPort { protocol, address, port } = &route.host;
    let address = address.as_ref().map(|text| text.parse()).transpose().ok()?;
    let target = |t: &Target| Some(SocketAddrV4::new(t.address.parse().ok()?, t.port));
    let targets = route.targets.iter().filter_map(target).collect();
    Some(Diverted { udp: *protocol == Protocol::Udp, address, port: *port, targets })
}

/// The identity of the service whose address this is.
fn service_of(host: &HostPort) -> Option<u64> {
    host.address.as_ref()?.strip_prefix(ADDRESS)?.parse().ok()
}
