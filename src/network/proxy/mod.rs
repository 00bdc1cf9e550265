//! `orund proxy`: leads connections to published ports to the replicas that are ready.
//!
//! A process of its own with few rights. It opens nothing: the supervisor sends it listening sockets, and maps of where
//! their connections go, through one socket that keeps message boundaries. Both outlive either of the two.
//!
//! ```text
//! L NAME + descriptor        a listening socket, or one of a pod at which it asks for names
//! T GENERATION + descriptor  a map, as JSON in a file: all of it; sockets that are not in it are closed
//! P GENERATION               the answer: this map is used now, and none before it
//! C + descriptor             what the proxy has counted, as JSON in a file: ports whose counts have changed
//! ```

mod budget;
mod counts;
mod filter;
mod header;
mod names;
#[cfg(any(test, fuzzing))]
pub(crate) use names::fuzz;
mod relay;
mod route;
mod stay;
#[cfg(test)]
mod tests;
mod udp;

use crate::error::{Errno, Error, Result};
use crate::log;
use crate::sys::{CWD, SysResult, cred, fd, file, landlock, memfd, path, prctl, sched, socket, watched};
pub use counts::Counts;
use route::{Options, Route, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// First byte of a message.
pub mod tag {
    pub const LISTENER: u8 = b'L';
    pub const MAP: u8 = b'T';
    pub const USED: u8 = b'P';
    pub const COUNTS: u8 = b'C';
}

/// Bytes of a message.
pub const MESSAGE: usize = 256;
/// Bytes of the file of a message at most.
const LONGEST: u64 = 64 << 20;
/// How long connections may continue after the supervisor and its keeper are gone, or nothing is published.
const DRAIN: Duration = Duration::from_secs(30);
/// Descriptors that connections do not get, such as the pipes of bulk transfers. And how many they get at most, for each
/// costs memory.
const RESERVED: usize = 256;
const MOST_DESCRIPTORS: usize = 1 << 17;
/// The user and group that it runs as: nobody.
const NOBODY: u32 = 65534;

/// Where connections go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    pub routes: Vec<MapRoute>,
    /// Sockets of pods at which they ask for names.
    #[serde(default)]
    pub resolvers: Vec<MapResolver>,
    #[serde(default)]
    pub names: Vec<MapName>,
}

/// A socket at which a pod asks for names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapResolver {
    pub name: String,
    pub udp: bool,
    /// Of the pod: it resolves names of those that share one with it.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The Compose project of the pod.
    #[serde(default)]
    pub project: Option<String>,
}

/// The names of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapName {
    pub service: String,
    /// Others, as they are; `NAME@NETWORK` is one for pods in that network.
    pub aliases: Vec<String>,
    /// The Compose project that it belongs to.
    #[serde(default)]
    pub project: Option<String>,
    /// Its own. None: those of its pods.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// The pods behind it.
    pub pods: Vec<MapPod>,
}

/// A pod behind a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapPod {
    pub host: String,
    pub address: Ipv4Addr,
    /// Empty: the default one alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

/// Where the connections of one listening socket go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRoute {
    /// Of the socket.
    pub name: String,
    /// It takes datagrams, not connections.
    pub udp: bool,
    pub targets: Vec<SocketAddr>,
    /// How long a client stays with its replica, in seconds.
    #[serde(default)]
    pub affinity: Option<u64>,
    /// Connections begin with a header that says whose they are.
    #[serde(default)]
    pub proxy_protocol: bool,
}

impl MapRoute {
    fn options(&self) -> Options {
        Options {
            affinity: self.affinity.map(Duration::from_secs),
            proxy_protocol: self.proxy_protocol && !self.udp,
        }
    }
}

/// A route and what serves it.
struct Served {
    route: Rc<Route>,
    /// The inode of its socket.
    socket: u64,
    task: JoinHandle<()>,
}

impl Served {
    /// Its socket is closed afterwards.
    async fn stop(self) -> Rc<Route> {
        stop(self.task).await;
        self.route
    }
}

async fn stop(task: JoinHandle<()>) {
    task.abort();
    // It reports that it was aborted.
    let _ = task.await;
}

struct Proxy {
    state: Rc<State>,
    /// Sockets that no map has named yet.
    waiting: HashMap<String, OwnedFd>,
    served: HashMap<String, Served>,
    names: names::Names,
    /// The tasks that answer at the sockets of each pod, with the inode of the socket.
    resolvers: HashMap<String, (u64, JoinHandle<()>)>,
}

/// Runs until the other end of `control` is closed.
///
/// # Errors
/// It keeps rights that it must not have; the loop cannot be set up.
pub fn run(control: OwnedFd) -> Result<()> {
    let _ = prctl::set_name(c"orund-proxy");
    let _ = sched::raise_limit(libc::RLIMIT_NOFILE);
    give_up_rights()?;
    let fail = |e: std::io::Error| Error::sys("setting up the proxy", e);
    fd::set_nonblocking(control.as_raw_fd()).map_err(|e| Error::sys("setting up the proxy", e))?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&tokio, async {
        let control = watched::register_readable(control).map_err(fail)?;
        let mut proxy = Proxy::new(descriptors());
        read_only_resolvers().map_err(|e| Error::sys("restricting the files of the proxy", e))?;
        filter::load().map_err(|e| Error::sys("restricting the system calls of the proxy", e))?;
        loop {
            let ready = tokio::select! {
                ready = control.readable() => Some(ready.map_err(fail)?),
                () = proxy.state.report.wait() => None,
            };
            let Some(mut ready) = ready else {
                proxy.report(control.as_raw_fd());
                continue;
            };
            while let Some(end) = proxy.hear(control.as_raw_fd()).await {
                if end {
                    proxy.serve(Map::default()).await;
                    proxy.state.drained(DRAIN).await;
                    return Ok(());
                }
            }
            ready.clear_ready();
        }
    })
}

/// Remaining rights: connecting, and the descriptors that it received.
///
/// # Errors
/// A right is left.
fn give_up_rights() -> Result<()> {
    let fail = |step: &'static str| {
        move |e: Errno| Error::sys(format!("dropping the privileges of the proxy: {step}"), e)
    };
    prctl::set_no_new_privs().map_err(fail("no new privileges"))?;
    if cred::geteuid() == 0 {
        prctl::limit_bounding(0).map_err(fail("the bounding set"))?;
        // In a user namespace setting groups may be forbidden, and there may be no such user: only then does the kernel
        // answer EINVAL, and root there has no privileges outside.
        let denied = || std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|t| t.trim() == "deny");
        match cred::setgroups(&[]) {
            Err(Errno(libc::EPERM)) if denied() => {}
            r => r.map_err(fail("setgroups"))?,
        }
        let unless_unmapped = |r| match r {
            Err(Errno(libc::EINVAL)) => Ok(()),
            r => r,
        };
        unless_unmapped(cred::setresgid(NOBODY)).map_err(fail("setresgid"))?;
        unless_unmapped(cred::setresuid(NOBODY)).map_err(fail("setresuid"))?;
    }
    cred::capset(cred::CapSets::default()).map_err(fail("capset"))
}

/// Where the kernel has Landlock, no file can be opened any more but those that say which resolvers the host has.
///
/// # Errors
/// The calling thread may gain privileges.
fn read_only_resolvers() -> SysResult<()> {
    let Ok(version) = landlock::version() else { return Ok(()) };
    let file = std::fs::canonicalize(names::RESOLVERS).ok();
    let real = file.as_deref().and_then(std::path::Path::parent);
    // It may be replaced by a link to one of another program, all of which are below /run.
    let dirs = ["/etc", "/run"].map(std::path::Path::new).into_iter().chain(real);
    let open = |dir: &std::path::Path| {
        let dir = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes()).ok()?;
        path::openat(CWD, &dir, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0).ok()
    };
    let dirs: Vec<OwnedFd> = dirs.filter_map(open).collect();
    let allowed: Vec<(u64, i32)> = dirs.iter().map(|dir| (landlock::READ_FILE, dir.as_raw_fd())).collect();
    landlock::restrict(version, &allowed, true)
}

impl Proxy {
    /// `descriptors`: how many connections may have.
    fn new(descriptors: usize) -> Proxy {
        let state = Rc::new(State::new(descriptors));
        let names = names::Names::new(Rc::clone(&state));
        Proxy { state, waiting: HashMap::new(), served: HashMap::new(), names, resolvers: HashMap::new() }
    }

    /// Takes one message. None: there is no more for now; true: the other end is closed.
    async fn hear(&mut self, control: i32) -> Option<bool> {
        let mut buf = [0; MESSAGE];
        let (n, fd) = match socket::receive(control, &mut buf) {
            Ok((0, _)) => return Some(true),
            Ok(received) => received,
            Err(Errno(libc::EAGAIN)) => return None,
            Err(_) => return Some(true),
        };
        let text = String::from_utf8_lossy(&buf[1..n]).into_owned();
        match (buf[0], fd) {
            (tag::LISTENER, Some(fd)) => drop(self.waiting.insert(text, fd)),
            (tag::MAP, Some(fd)) => match read_json(fd) {
                Ok(map) => {
                    self.serve(map).await;
                    let answer = [&[tag::USED], text.as_bytes()].concat();
                    // Without it the map is sent again.
                    let _ = socket::send(control, &answer, None);
                }
                Err(e) => log::warn(e),
            },
            (tag, _) => log::warn(format!("the supervisor sent an unknown message {tag}")),
        }
        Some(false)
    }

    /// Sends what has been counted since the last time.
    fn report(&self, control: i32) {
        self.state.report.begin();
        let news = self.served.iter().filter_map(|(name, s)| Some((name, s.route.counter.take()?)));
        let news: BTreeMap<&String, Counts> = news.collect();
        // A lost report is sent with the next change.
        let _ = memfd::create(c"counts").map(std::fs::File::from).map(|mut file| {
            let written = file.write_all(&serde_json::to_vec(&news).unwrap_or_default());
            written.is_ok() && socket::send(control, &[tag::COUNTS], Some(file.as_raw_fd())).is_ok()
        });
    }

    /// Uses `map` from now on.
    async fn serve(&mut self, map: Map) {
        let stays = |name: &String| map.routes.iter().any(|r| r.name == *name);
        let gone: Vec<String> = self.served.keys().filter(|name| !stays(name)).cloned().collect();
        for served in gone.iter().filter_map(|name| self.served.remove(name)).collect::<Vec<_>>() {
            served.stop().await.remove();
        }
        for route in map.routes {
            if let Some(socket) = self.waiting.remove(&route.name)
                && let Err(e) = self.take(&route, socket).await
            {
                log::warn(Error::sys(format!("serving {}", route.name), e));
            }
            if let Some(served) = self.served.get(&route.name) {
                let options = route.options();
                served.route.set_targets(route.targets, options);
            }
        }
        self.names.zone.replace(names::Zone::new(&map.names));
        self.resolve(&map.resolvers).await;
        // Of ports that were closed before a map had them.
        self.waiting.clear();
        self.state.changed();
    }

    /// Answers at the sockets of these pods, and no others.
    async fn resolve(&mut self, wanted: &[MapResolver]) {
        let names: HashSet<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
        let gone: Vec<String> =
            self.resolvers.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        for (_, task) in gone.iter().filter_map(|name| self.resolvers.remove(name)) {
            stop(task).await;
        }
        for MapResolver { name, udp, networks, project } in wanted {
            let Some(socket) = self.waiting.remove(name) else { continue };
            let Ok(inode) = file::fstat(socket.as_raw_fd()).map(|s| s.ino) else { continue };
            if self.resolvers.get(name).is_some_and(|(known, task)| *known == inode && !task.is_finished()) {
                continue;
            }
            if let Some((_, old)) = self.resolvers.remove(name) {
                stop(old).await;
            }
            let served = fd::set_nonblocking(socket.as_raw_fd()).map_err(io_error);
            let serve = || self.names.serve(*udp, socket, networks.clone(), project.as_deref());
            match served.and_then(|()| serve()) {
                Ok(task) => drop(self.resolvers.insert(name.clone(), (inode, task))),
                Err(e) => log::warn(Error::sys(format!("serving {name}"), e)),
            }
        }
    }

    /// Serves `socket`, unless it is a copy of the one that is served already.
    async fn take(&mut self, map: &MapRoute, socket: OwnedFd) -> std::io::Result<()> {
        let inode = file::fstat(socket.as_raw_fd()).map_err(io_error)?.ino;
        let route = match self.served.remove(&map.name) {
            Some(served) if served.socket == inode && !served.task.is_finished() => {
                self.served.insert(map.name.clone(), served);
                return Ok(());
            }
            // Connections that wait keep their route.
            Some(served) => served.stop().await,
            None => Rc::new(Route::new(map.targets.clone())),
        };
        fd::set_nonblocking(socket.as_raw_fd()).map_err(io_error)?;
        let (state, own) = (Rc::clone(&self.state), Rc::clone(&route));
        let task = if map.udp {
            let socket = tokio::net::UdpSocket::from_std(socket.into())?;
            tokio::task::spawn_local(udp::serve(state, own, socket))
        } else {
            let listener = tokio::net::TcpListener::from_std(socket.into())?;
            tokio::task::spawn_local(route::serve(state, own, listener))
        };
        self.served.insert(map.name.clone(), Served { route, socket: inode, task });
        Ok(())
    }
}

/// How many descriptors connections may have.
fn descriptors() -> usize {
    let limit = sched::limit(libc::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    // A third is for the sockets of ports.
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(RESERVED) / 3 * 2;
    most.clamp(64, MOST_DESCRIPTORS)
}

/// The error of a system call, as an error of the standard library.
fn io_error(e: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(e.0)
}

/// The content of the file of a message.
///
/// # Errors
/// It cannot be read, or is something else.
pub fn read_json<T: DeserializeOwned>(fd: OwnedFd) -> Result<T> {
    let mut file = std::fs::File::from(fd);
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(LONGEST).read_to_string(&mut text));
    read.map_err(|e| Error::sys("reading a message between orund and its proxy", e))?;
    let problem = |e| format!("a message between orund and its proxy: {e}");
    serde_json::from_str(&text).map_err(|e| Error::new(crate::error::Kind::Config, problem(e)))
}
