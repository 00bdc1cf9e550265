//! Sandboxes of pods: namespaces, directories and volumes that the containers of a replica share.
//!
//! On disk: `DATA/pods/REPLICA/volumes/NAME`, `DATA/pods/REPLICA/image-volumes/CONTAINER/DIGEST-OF-PATH` and `DATA/volumes/NAMESPACE/CLAIM`. In memory, below the directory of what is:
//! `RUN/pods/REPLICA/volumes/NAME` for what orund writes, and `RUN/pods/REPLICA/etc`. Nothing is mounted on the host.

pub mod resolver;
pub mod roots;
pub mod seccomp;
mod volumes;
pub mod words;

pub use volumes::{Root, mounts};

use super::{cgroups, names};
use crate::error::{Error, Kind, Result};
use crate::kernel::sandbox::{self, Held};
use crate::log;
use crate::network::{Attached, Network};
use crate::plan::tables::capabilities;
use crate::plan::tables::namespaces::NamespaceKind;
use crate::supervisor::core::ids::ReplicaKey;
use crate::sys::{fd, wait};
use crate::workload::environment::Objects;
use crate::workload::replica::{Replica, Sandbox};
use crate::workload::{bundle, files};
use resolver::Sockets;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where pods have their directories.
#[derive(Debug, Clone)]
pub struct Directories {
    /// On disk.
    pub disk: PathBuf,
    /// In memory.
    pub memory: PathBuf,
}

impl Directories {
    fn directories(&self, key: ReplicaKey) -> [PathBuf; 2] {
        [&self.disk, &self.memory].map(|base| base.join("pods").join(key.to_string()))
    }
}

/// A sandbox.
#[derive(Debug)]
pub struct Pod {
    pub key: ReplicaKey,
    pub sandbox: Sandbox,
    pub replica: Replica,
    pub held: Held,
    /// In the network of pods.
    pub address: Option<Ipv4Addr>,
    /// Where its programs ask for names, if it has a resolver of its own.
    pub resolver: Option<Arc<Sockets>>,
    /// The first process of its pid namespace, if its containers share one.
    pub init: Option<OwnedFd>,
    disk: PathBuf,
    memory: PathBuf,
    /// The directories of claims.
    claims: PathBuf,
}

impl Pod {
    fn new(dirs: &Directories, key: ReplicaKey, workload: &str, sandbox: Sandbox, held: Held) -> Pod {
        let [disk, memory] = dirs.directories(key);
        let replica = facts(key, workload);
        let claims = dirs.disk.join("volumes").join(&replica.namespace);
        Pod { key, sandbox, replica, held, address: None, resolver: None, init: None, disk, memory, claims }
    }

    /// Whether it shares a pid namespace whose first process has exited.
    pub fn has_lost_init(&self) -> bool {
        let Some(init) = &self.init else { return false };
        let mut fds = [fd::PollFd::new(init.as_raw_fd(), libc::POLLIN)];
        fd::poll(&mut fds, 0).is_ok_and(|n| n > 0)
    }

    fn set_address(&mut self, network: Option<&Network>, address: Option<Ipv4Addr>) {
        self.address = address;
        self.replica.pod_ip = address.map(|a| a.to_string());
        if let Some(network) = network {
            self.replica.host_ip = network.host_address().to_string();
        }
    }

    fn network(&self) -> Option<&OwnedFd> {
        self.held.iter().find(|(kind, _)| *kind == NamespaceKind::Network).map(|(_, fd)| fd)
    }

    /// As the network has it.
    fn attached(&self, address: Ipv4Addr) -> Attached {
        let way_out = !self.sandbox.is_internal();
        Attached { serial: self.key.serial, address, way_out, networks: self.sandbox.networks() }
    }

    /// The namespaces that a container joins, by their names in config.json.
    pub fn namespaces(&self) -> Vec<(&'static str, PathBuf)> {
        let path = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let joined = self.held.iter().filter(|(kind, _)| *kind != NamespaceKind::Mount);
        joined.map(|(kind, fd)| (kind.name(), path(fd))).collect()
    }
}

/// The name of a replica, and facts about the host.
fn facts(key: ReplicaKey, workload: &str) -> Replica {
    let node = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    Replica {
        name: names::replica(workload, key.slot),
        index: key.slot,
        namespace: "default".to_owned(),
        uid: uid(key),
        node,
        host_ip: "127.0.0.1".to_owned(),
        pod_ip: None,
        cpus: crate::config::quantity::MilliCpu(cpus * 1000),
        memory: crate::config::quantity::Bytes(total.unwrap_or(0_u64) * 1024),
    }
}

/// An identifier that no other replica of this host has: the host's (machine-id(5)) and the key, in the form of a UUID.
fn uid(key: ReplicaKey) -> String {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let text = format!("{}{key}", machine.trim());
    let hash = |seed: u64| {
        text.bytes()
            .fold(0xcbf2_9ce4_8422_2325 ^ seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    };
    // Version 8: made in a way of our own (RFC 9562).
    let high = hash(0) & !0xf000 | 0x8000;
    let low = hash(0x9e37_79b9_7f4a_7c15) & !(0xc0 << 56) | 0x80 << 56;
    let hex = format!("{high:016x}{low:016x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// By what name the keeper has a namespace of a pod.
pub fn held_name(key: ReplicaKey, kind: NamespaceKind) -> String {
    format!("ns:{key}:{}", kind.proc_name())
}

fn read(spec: &serde_json::Value) -> Result<Sandbox> {
    serde_json::from_value(spec.clone())
        .map_err(|e| Error::new(Kind::Config, format!("reading the sandbox: {e}")))
}

/// The kinds of namespaces that a pod has of its own.
fn kinds(pod: &Sandbox) -> Vec<NamespaceKind> {
    bundle::shared(pod).into_iter().filter_map(NamespaceKind::from_name).collect()
}

/// Makes the sandbox of a replica. `network`: that of pods, where they have one; `names`: somebody answers for names.
pub fn make(
    dirs: &Directories,
    (network, names): (Option<&Network>, bool),
    (key, parent): (ReplicaKey, &str),
    (workload, spec): (&str, &serde_json::Value),
    objects: &Objects,
) -> std::result::Result<Box<Pod>, String> {
    let mut address = None;
    let mut made = || -> Result<Pod> {
        // Of an attempt whose supervisor was killed.
        clear(dirs, key)?;
        let cgroup = cgroup(workload, key);
        end_init(parent, &cgroup)?;
        let mut pod = Pod::new(dirs, key, workload, read(spec)?, Held::new());
        let connected = kinds(&pod.sandbox).contains(&NamespaceKind::Network) && !pod.sandbox.is_isolated();
        let network = network.filter(|_| connected);
        address = network.map(Network::reserve).transpose()?.flatten();
        pod.set_address(network, address);
        build(&mut pod, network, names, (objects, &cgroups::below(parent, &cgroup)))?;
        Ok(pod)
    };
    made().map(Box::new).map_err(|e| {
        // The first error is the one to report.
        let _ = clear(dirs, key);
        let _ = end_init(parent, &cgroup(workload, key));
        let _ = cgroups::remove(parent, &cgroup(workload, key));
        release(network, address);
        e.to_string()
    })
}

/// Gives the address of a pod back.
fn release(network: Option<&Network>, address: Option<Ipv4Addr>) {
    if let Some((network, address)) = network.zip(address)
        && let Err(e) = network.give_back(address)
    {
        log::warn(e);
    }
}

fn build(
    pod: &mut Pod,
    network: Option<&Network>,
    names: bool,
    (objects, cgroup): (&Objects, &str),
) -> Result<()> {
    for dir in [&pod.disk, &pod.memory] {
        directory(dir, 0o700)?;
    }
    if let Some(limits) = &pod.sandbox.limits {
        cgroups::limit(cgroup, limits)?;
    }
    volumes::make(pod, objects)?;
    let resolver = names && pod.address.is_some() && pod.sandbox.asks_own_resolver();
    etc(pod, resolver)?;
    let (short, full) = pod.replica.names(&pod.sandbox);
    let hostname = full.filter(|_| pod.sandbox.set_hostname_as_fqdn).unwrap_or(short);
    let sysctls = &pod.sandbox.security.sysctls;
    let plan = sandbox::Plan {
        namespaces: kinds(&pod.sandbox),
        hostname,
        sysctls: sysctls.iter().map(|s| (s.name.clone(), s.value.clone())).collect(),
        memory: volumes::in_memory(&pod.sandbox),
        init: pod
            .sandbox
            .share_process_namespace
            .then(|| sandbox::Init { program: super::program(), cgroup: cgroups::below(cgroup, INIT) }),
    };
    allowed(&plan)?;
    if cgroup.is_empty() && plan.init.is_some() {
        let what = "shareProcessNamespace needs a cgroup, and none is delegated to this user";
        return Err(Error::new(Kind::Unsupported, what));
    }
    pod.held = sandbox::make(&plan)?;
    pod.init = plan.init.as_ref().map(|init| init_of(&init.cgroup)).transpose()?;
    let (Some(network), Some(namespace), Some(address)) = (network, pod.network(), pod.address) else {
        return Ok(());
    };
    network.attach(&pod.attached(address), namespace)?;
    let networks = pod.sandbox.networks();
    pod.resolver = resolver.then(|| resolver::open(namespace, networks)).transpose()?.map(Arc::new);
    Ok(())
}

/// Kernel parameters that belong to a namespace of the pod; any other would be the host's.
fn allowed(plan: &sandbox::Plan) -> Result<()> {
    for (name, _) in &plan.sysctls {
        let plain = name.replace('/', ".");
        let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        let (kind, known) = match plain.as_str() {
            p if p.starts_with("net.") => (NamespaceKind::Network, true),
            p => (NamespaceKind::Ipc, ipc.iter().any(|i| p.starts_with(i))),
        };
        if !known || !plan.namespaces.contains(&kind) {
            let message = format!("the kernel parameter {name:?} does not belong to a namespace of the pod");
            return Err(Error::new(Kind::Config, message).hint("set it on the host (sysctl(8))"));
        }
    }
    Ok(())
}

fn directory(dir: &Path, mode: u32) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.map_err(|e| Error::sys(format!("making the directory {dir:?}"), e))
}

/// The files that every container gets in /etc.
fn etc(pod: &Pod, resolver: bool) -> Result<()> {
    let dir = pod.memory.join("etc");
    directory(&dir, 0o755)?;
    let host = |name: &str| fs::read_to_string(name).unwrap_or_default();
    let (short, _) = pod.replica.names(&pod.sandbox);
    let hostname = if pod.sandbox.host_network { pod.replica.node.clone() } else { short };
    let all = [
        ("hosts", files::hosts(&pod.sandbox, &pod.replica, &host("/etc/hosts"))),
        ("resolv.conf", files::resolv_conf(&pod.sandbox, &host("/etc/resolv.conf"), resolver)),
        ("hostname", format!("{hostname}\n")),
    ];
    for (name, text) in all {
        let file = dir.join(name);
        fs::write(&file, text).map_err(|e| Error::sys(format!("writing {file:?}"), e))?;
    }
    Ok(())
}

/// Removes the directories of a replica.
fn clear(dirs: &Directories, key: ReplicaKey) -> Result<()> {
    dirs.directories(key).iter().try_for_each(|dir| remove_tree(dir))
}

/// Removes a directory with all that is in it, if it exists.
fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::sys(format!("removing {dir:?}"), e)),
        _ => Ok(()),
    }
}

/// The path of the cgroup of a pod below that of all.
pub fn cgroup(workload: &str, key: ReplicaKey) -> String {
    format!("{}.{key}", names::replica(workload, key.slot))
}

/// The cgroup of the init process of a pod, in that of the pod.
pub const INIT: &str = "init";

/// The init process in that cgroup.
fn init_of(cgroup: &str) -> Result<OwnedFd> {
    let pid = cgroups::processes(cgroup).pop();
    let pid = pid.ok_or_else(|| Error::new(Kind::System, "the init process of the pod has exited"))?;
    wait::pidfd_open(pid).map_err(|e| Error::sys("opening the init process of the pod", e))
}

/// Ends the init process of the pod with the cgroup `name` in `parent`, if there is one.
pub fn end_init(parent: &str, name: &str) -> Result<()> {
    let pod = cgroups::below(parent, name);
    if cgroups::children(&pod).contains(INIT) {
        cgroups::end(&pod, INIT)?;
    }
    Ok(())
}

/// Removes what is left of a sandbox. Its namespaces go with their last descriptor, and with them its interfaces.
pub fn remove(
    dirs: &Directories,
    network: Option<&Network>,
    key: ReplicaKey,
    address: Option<Ipv4Addr>,
    parent: &str,
) -> Result<()> {
    release(network, address);
    // By its key: the workload may have no name any more.
    let end = format!(".{key}");
    let mut cgroups = cgroups::children(parent).into_iter().filter(|name| name.ends_with(&end));
    let gone = |name: String| end_init(parent, &name).and_then(|()| cgroups::remove(parent, &name));
    clear(dirs, key).and_then(|()| cgroups.try_for_each(gone))
}

/// The record of a sandbox.
#[derive(Debug, Clone, Copy)]
pub struct OnRecord<'a> {
    pub workload: &'a str,
    pub spec: &'a serde_json::Value,
    /// Whether it had been made, and with which address.
    pub made: bool,
    pub address: Option<Ipv4Addr>,
}

/// After a restart of the supervisor: the sandbox of a replica from what the keeper has, and from its containers, of
/// which `pids` live. None: a part of it is gone.
pub fn find(
    dirs: &Directories,
    network: Option<&Network>,
    key: ReplicaKey,
    record: OnRecord<'_>,
    kept: &mut BTreeMap<String, OwnedFd>,
    (pids, parent): (&[i32], &str),
) -> Option<Pod> {
    let sandbox = read(record.spec).ok()?;
    let mut wanted = kinds(&sandbox);
    let memory = !volumes::in_memory(&sandbox).is_empty();
    wanted.extend(memory.then_some(NamespaceKind::Mount));
    let mut held = Held::new();
    for kind in wanted {
        let fd = kept.remove(&held_name(key, kind)).or_else(|| {
            // The mount namespace of a container is its own.
            let pid = pids.first().filter(|_| kind != NamespaceKind::Mount)?;
            Some(sandbox::of_process(*pid, &[kind]).ok()?.pop()?.1)
        })?;
        held.push((kind, fd));
    }
    let mut pod = Pod::new(dirs, key, record.workload, sandbox, held);
    let network = network.filter(|_| !pod.sandbox.is_isolated());
    let address = network.zip(pod.network()).and_then(|(network, namespace)| {
        if record.made { record.address } else { network.adopt_unnoted(namespace) }
            .inspect(|address| network.adopt(&pod.attached(*address)))
    });
    if pod.sandbox.share_process_namespace {
        let own = cgroups::below(parent, &cgroup(record.workload, key));
        pod.init = Some(init_of(&cgroups::below(&own, INIT)).ok()?);
    }
    pod.set_address(network, address);
    let wanted = address.is_some() && pod.sandbox.asks_own_resolver();
    pod.resolver = pod
        .network()
        .filter(|_| wanted)
        .and_then(|n| resolver::find(n, (key, pod.sandbox.networks()), kept))
        .map(Arc::new);
    (pod.disk.is_dir() && pod.memory.is_dir()).then_some(pod)
}

/// Removes the directories of replicas and containers that do not exist any more, as after a crash or a reboot, in a thread of
/// its own: it may be large, and no caller waits for it.
pub fn sweep_later(dirs: Directories, pods: HashSet<ReplicaKey>, containers: HashSet<String>) {
    // Listed now: what is made later is new.
    let old = |dir: PathBuf| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
    };
    let name = |p: &Path| p.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    let mut gone = Vec::new();
    for base in [&dirs.disk, &dirs.memory] {
        let keep = |p: &PathBuf| name(p).parse().is_ok_and(|key| pods.contains(&key));
        gone.extend(old(base.join("pods")).into_iter().filter(|p| !keep(p)));
    }
    let roots = old(dirs.disk.join("roots")).into_iter();
    gone.extend(roots.filter(|p| !containers.contains(&name(p))));
    if gone.is_empty() {
        return;
    }
    let work = move || {
        for dir in &gone {
            if let Err(e) = remove_tree(dir) {
                log::warn(e);
            }
        }
    };
    if let Err(e) = std::thread::Builder::new().name("sweep".to_owned()).spawn(work) {
        log::warn(Error::sys("starting a thread that removes old directories", e));
    }
}

/// Devices of the host that container `c` may use: those that it names, or all when it is privileged.
pub fn host(c: &crate::workload::model::Container) -> bundle::Host {
    let capabilities = capabilities::names().map(str::to_owned).collect();
    let mut devices = Vec::new();
    if c.security_context.privileged {
        all_devices(Path::new("/dev"), &mut devices);
    }
    for path in c.engine.devices.iter().map(|d| Path::new(&d.source)) {
        if path.is_dir() {
            all_devices(path, &mut devices);
        } else if let Some(found) = fs::metadata(path).ok().and_then(|meta| device(path, &meta)) {
            devices.push(found);
        }
    }
    bundle::Host { capabilities, devices, ..bundle::Host::default() }
}

/// How many devices a privileged container gets at most.
const MOST_DEVICES: usize = 4096;

fn all_devices(dir: &Path, found: &mut Vec<serde_json::Value>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // These are the container's own.
        if found.len() >= MOST_DEVICES
            || matches!(name.to_str(), Some("pts" | "shm" | "mqueue" | "fd" | "console" | "ptmx" | "tty"))
        {
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            all_devices(&path, found);
        } else {
            found.extend(device(&path, &meta));
        }
    }
}

/// A device as config.json has it. None: another kind of file.
fn device(path: &Path, meta: &fs::Metadata) -> Option<serde_json::Value> {
    let kind = match meta.mode() & libc::S_IFMT {
        libc::S_IFCHR => "c",
        libc::S_IFBLK => "b",
        _ => return None,
    };
    Some(serde_json::json!({
        "path": path, "type": kind, "major": libc::major(meta.rdev()), "minor": libc::minor(meta.rdev()),
        "fileMode": meta.mode() & 0o7777, "uid": meta.uid(), "gid": meta.gid(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_host_are_refused() {
        let plan = |name: &str, namespaces: &[NamespaceKind]| sandbox::Plan {
            namespaces: namespaces.to_vec(),
            sysctls: vec![(name.to_owned(), "1".to_owned())],
            ..sandbox::Plan::default()
        };
        let both = [NamespaceKind::Network, NamespaceKind::Ipc];
        for name in
            ["net.core.somaxconn", "net/ipv4/conf/eth0.1/forwarding", "kernel.shmmax", "fs.mqueue.msg_max"]
        {
            assert!(allowed(&plan(name, &both)).is_ok(), "{name}");
            assert!(allowed(&plan(name, &[])).is_err(), "{name}: the namespace is the host's");
        }
        for name in ["kernel.core_pattern", "vm.swappiness", "kernel.hostname", "fs.file-max"] {
            assert!(allowed(&plan(name, &both)).is_err(), "{name}");
        }
    }

    #[test]
    fn identifiers_are_uuids_and_differ() {
        let key = |text: &str| text.parse::<ReplicaKey>().unwrap();
        let (a, b) = (uid(key("w1.s0.r1")), uid(key("w1.s0.r2")));
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[14..15]), (36, "8"), "{a}");
        assert!("89ab".contains(&a[19..20]), "{a}");
    }
}
