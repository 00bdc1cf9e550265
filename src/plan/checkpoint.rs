//! `checkpoint` and `restore`: what CRIU is asked for, and what of a container it leaves to orun.
//!
//! CRIU saves processes, memory and the file systems that are the container's own. What comes from the host is named to it
//! as external: bind mounts, masked files, the container's cgroups, namespaces that were joined, and the files that
//! standard input and outputs lead to. Their names follow from the configuration alone, so that a restore finds the same
//! ones.

pub mod rpc;

use super::Violation;
use super::compile::Plan;
use super::mounts::Prepared;
use super::namespaces::{Join, Namespaces};
use super::op::{MountSource, Op, RootOp};
use super::tables::namespaces::NamespaceKind;
use rpc::{Message, RequestKind, field};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The oldest CRIU whose service can do all that is asked of it: pid namespaces that were joined (3.15), another
/// LSM profile at the restore (3.16).
pub const OLDEST_CRIU: u64 = 31600;

/// A version as people write it.
pub fn version_text(number: u64) -> String {
    format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
}

/// CRIU's log files, in its work directory.
pub const DUMP_LOG: &str = "dump.log";
pub const RESTORE_LOG: &str = "restore.log";
/// The names of what the first three descriptors were, in the image directory, as every runtime writes them.
pub const DESCRIPTORS: &str = "descriptors.json";
/// The annotation that names a configuration file for CRIU.
pub const CONFIG_ANNOTATION: &str = "org.criu.config";
/// Where a masked file comes from.
const NULL: &str = "/dev/null";
/// Warnings, errors and what was done, without the details of every memory area.
const LOG_LEVEL: u64 = 4;

/// CRIU's handling of the cgroups of the processes (criu(8), "--manage-cgroups").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
    #[default]
    Default = 6,
}

impl CgroupMode {
    /// From the word of the command line.
    pub fn from_name(name: &str) -> Option<CgroupMode> {
        Some(match name {
            "" => CgroupMode::Default,
            "ignore" => CgroupMode::Ignore,
            "soft" => CgroupMode::Soft,
            "full" => CgroupMode::Full,
            "strict" => CgroupMode::Strict,
            _ => return None,
        })
    }
}

/// Options of both checkpoint and restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    pub tcp_established: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub lazy_pages: bool,
    pub file_locks: bool,
    pub link_remap: bool,
    pub auto_dedup: bool,
    pub cgroups: CgroupMode,
}

/// The descriptors and files of one conversation with CRIU. CRIU opens the descriptors in orun's /proc entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    pub images: i32,
    /// The image directory, when absent.
    pub work: Option<i32>,
    pub config_file: Option<String>,
    /// Keys that are not CRIU's: `mnt[...]:...` and similar.
    pub external: Vec<String>,
}

/// A checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    pub flags: Flags,
    pub places: Places,
    pub pid: i32,
    pub leave_running: bool,
    /// Memory only.
    pub pre: bool,
    /// Below the image directory.
    pub parent: Option<String>,
    pub page_server: Option<PageServer>,
    pub tcp_skip_in_flight: bool,
    /// The cgroup with which CRIU stops the processes.
    pub freezer: Option<String>,
}

/// Where memory pages go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageServer {
    pub address: String,
    pub port: u16,
}

impl PageServer {
    /// Reads `ADDRESS:PORT`, with an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<PageServer> {
        let (address, port) = text.rsplit_once(':')?;
        let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        let port = port.parse().ok().filter(|p| *p != 0)?;
        (!address.is_empty()).then(|| PageServer { address: address.to_owned(), port })
    }
}

impl Dump {
    /// Kind of request.
    pub fn kind(&self) -> RequestKind {
        if self.pre { RequestKind::PreDump } else { RequestKind::Dump }
    }

    /// The request.
    pub fn request(&self) -> Vec<u8> {
        let mut o = common(&self.flags, &self.places, DUMP_LOG);
        o.number(field::PID, self.pid as u64);
        o.flag(field::LEAVE_RUNNING, self.leave_running);
        o.flag(field::TCP_SKIP_IN_FLIGHT, self.tcp_skip_in_flight);
        if let Some(parent) = &self.parent {
            o.bytes(field::PARENT_IMAGE, parent.as_bytes());
        }
        // Without it the kernel does not note which pages are written to from now on.
        o.flag(field::TRACK_MEMORY, self.parent.is_some() || self.pre);
        if let Some(server) = &self.page_server {
            let mut m = Message::default();
            m.bytes(1, server.address.as_bytes());
            m.number(2, server.port.into());
            o.message(field::PAGE_SERVER, &m);
        }
        if let Some(dir) = &self.freezer {
            o.bytes(field::FREEZE_CGROUP, dir.as_bytes());
        }
        rpc::request(self.kind(), &o)
    }
}

/// A restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restore {
    pub flags: Flags,
    pub places: Places,
    pub root: Vec<u8>,
    /// Controller (empty: version 2) to the cgroup that the saved one becomes.
    pub cgroup_roots: Vec<(String, String)>,
    /// Name to descriptor of CRIU's process.
    pub inherit: Vec<(String, i32)>,
    /// RequestKind of namespace to path.
    pub join: Vec<(String, String)>,
    pub tcp_close: bool,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

impl Restore {
    /// The request.
    pub fn request(&self) -> Vec<u8> {
        let mut o = common(&self.flags, &self.places, RESTORE_LOG);
        o.bytes(field::ROOT, &self.root);
        o.flag(field::RESTORE_SIBLING, true);
        o.flag(field::EVASIVE_DEVICES, true);
        o.flag(field::TCP_CLOSE, self.tcp_close);
        for (controller, path) in &self.cgroup_roots {
            o.pair(field::CGROUP_ROOT, controller, path);
        }
        for (name, fd) in &self.inherit {
            let mut m = Message::default();
            m.bytes(1, name.as_bytes());
            m.number(2, *fd as u64);
            o.message(field::INHERIT_FD, &m);
        }
        for (kind, path) in &self.join {
            o.pair(field::JOIN_NAMESPACE, kind, path);
        }
        if let Some(profile) = &self.lsm_profile {
            o.bytes(field::LSM_PROFILE, profile.as_bytes());
        }
        if let Some(context) = &self.lsm_mount_context {
            o.bytes(field::LSM_MOUNT_CONTEXT, context.as_bytes());
        }
        rpc::request(RequestKind::Restore, &o)
    }
}

fn common(flags: &Flags, places: &Places, log: &str) -> Message {
    let mut o = Message::default();
    o.number(field::IMAGES_DIR_FD, places.images as u64);
    if let Some(work) = places.work {
        o.number(field::WORK_DIR_FD, work as u64);
    }
    o.number(field::LOG_LEVEL, LOG_LEVEL);
    o.bytes(field::LOG_FILE, log.as_bytes());
    o.flag(field::NOTIFY_SCRIPTS, true);
    o.flag(field::ORPHAN_PTS_MASTER, true);
    o.flag(field::MANAGE_CGROUPS, true);
    o.number(field::MANAGE_CGROUPS_MODE, flags.cgroups as u64);
    // Devices, addresses and routes of a network namespace are those who set them up: engines and hooks.
    o.number(field::EMPTY_NAMESPACES, libc::CLONE_NEWNET as u64);
    o.flag(field::TCP_ESTABLISHED, flags.tcp_established);
    o.flag(field::EXT_UNIX_SK, flags.ext_unix_sk);
    o.flag(field::SHELL_JOB, flags.shell_job);
    o.flag(field::LAZY_PAGES, flags.lazy_pages);
    o.flag(field::FILE_LOCKS, flags.file_locks);
    o.flag(field::LINK_REMAP, flags.link_remap);
    o.flag(field::AUTO_DEDUP, flags.auto_dedup);
    if let Some(file) = &places.config_file {
        o.bytes(field::CONFIG_FILE, file.as_bytes());
    }
    for e in &places.external {
        o.bytes(field::EXTERNAL, e.as_bytes());
    }
    o
}

/// The configuration file that an annotation asks for: `None`, the runtime's own; empty, none at all.
pub fn config_file(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get(CONFIG_ANNOTATION).map(String::as_str)
}

/// A mount of the container that CRIU does not save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Below the root, without a leading slash.
    pub target: CString,
    /// Its name in the images.
    pub name: String,
    /// The mount there at a restore.
    pub source: PathBuf,
    /// Mounts below the source come with it.
    pub recursive: bool,
    /// It exists only where the path is a file.
    pub mask: bool,
}

/// The mounts of the container that come from the host.
///
/// # Errors
/// The mounts and namespaces that CRIU cannot make again as they were.
pub fn external_mounts(plan: &Plan) -> Result<Vec<External>, Vec<Violation>> {
    let mut found: Vec<External> = Vec::new();
    let mut violations = unjoinable(&plan.namespaces);
    for (op, property) in plan.steps.ops.iter().zip(&plan.steps.properties) {
        if let Op::Root(RootOp::Mask { path }) = op {
            let name = NULL.to_owned();
            let source = PathBuf::from(NULL);
            found.push(External { target: path.clone(), name, source, recursive: false, mask: true });
            continue;
        }
        let (target, source, recursive) = if let Op::Mount(m) = op {
            let Some((source, recursive, mapped)) = mounted(plan, &m.source) else { continue };
            if mapped {
                let what = "an id-mapped mount cannot be restored by CRIU";
                violations.push(Violation::new(property.as_str(), what));
            }
            (&m.target, source, recursive)
        } else if let Op::Root(RootOp::Device(d)) = op {
            let Some(host) = &d.bind else { continue };
            (&d.path, path_of(host), false)
        } else {
            continue;
        };
        let name = format!("/{}", target.to_string_lossy());
        // A mount below another mount of the same place is hidden.
        found.retain(|e| e.name != name);
        found.push(External { target: target.clone(), name, source, recursive, mask: false });
    }
    if violations.is_empty() { Ok(found) } else { Err(violations) }
}

/// Where a mount of the host comes from, whether those below it come too, and whether its IDs are mapped.
fn mounted(plan: &Plan, source: &MountSource) -> Option<(PathBuf, bool, bool)> {
    match source {
        MountSource::Bind { path, recursive, .. } => Some((path_of(path), *recursive, false)),
        MountSource::Prepared { slot } if plan.prepared[*slot].pid_namespace.is_some() => None,
        MountSource::Prepared { slot } => Some(of_prepared(&plan.prepared[*slot])),
        MountSource::Late { slot } => Some(of_prepared(&plan.late[*slot])),
        MountSource::Filesystem(_) => None,
    }
}

/// The namespaces that CRIU can neither leave out nor enter.
fn unjoinable(namespaces: &Namespaces) -> Vec<Violation> {
    let is_fine = |kind| external_namespace(kind).is_some() || joinable_namespace(kind).is_some();
    let joins = namespaces.joins.iter().filter(|n| !is_fine(n.kind));
    let violation = |n: &Join| {
        let what = format!("CRIU cannot restore a container that joins a {} namespace", n.kind.name());
        Violation::new(n.property.as_str(), what)
    };
    joins.map(violation).collect()
}

fn of_prepared(p: &Prepared) -> (PathBuf, bool, bool) {
    (p.source.clone(), p.recursive, p.idmap.is_some())
}

fn path_of(c: &CString) -> PathBuf {
    Path::new(OsStr::from_bytes(c.to_bytes())).to_owned()
}

/// Something that is mounted, so that a mount point can be made on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Below the root, without a leading slash.
    pub target: CString,
    /// The source of the bind mount; `None`: a file system of its own, whose content CRIU restores.
    pub source: Option<CString>,
    pub recursive: bool,
    pub nofollow: bool,
}

/// The mount points that must exist before CRIU mounts: in the order of the mounts, as some lie on others.
pub fn mount_points(plan: &Plan) -> Vec<(MountPoint, String)> {
    let path = |p: &Path| CString::new(p.as_os_str().as_bytes()).unwrap_or_default();
    let point = |op: &Op| {
        let Op::Mount(m) = op else { return None };
        let (source, recursive, nofollow) = match &m.source {
            MountSource::Bind { path, recursive, nofollow } => (Some(path.clone()), *recursive, *nofollow),
            MountSource::Prepared { slot } => {
                let p = &plan.prepared[*slot];
                (p.pid_namespace.is_none().then(|| path(&p.source)), p.recursive, p.nofollow)
            }
            MountSource::Late { slot } => {
                let p = &plan.late[*slot];
                (Some(path(&p.source)), p.recursive, p.nofollow)
            }
            MountSource::Filesystem(_) => (None, false, false),
        };
        Some(MountPoint { target: m.target.clone(), source, recursive, nofollow })
    };
    let all = plan.steps.ops.iter().zip(&plan.steps.properties);
    all.filter_map(|(op, property)| Some((point(op)?, property.clone()))).collect()
}

/// How CRIU calls a namespace that was joined and is not its matter: only those of these kinds.
pub fn external_namespace(kind: NamespaceKind) -> Option<(&'static str, &'static str)> {
    match kind {
        NamespaceKind::Network => Some(("net", "extRootNetNS")),
        NamespaceKind::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

/// How CRIU calls a namespace that it can enter at a restore. It fails with user namespaces, which it enters too early.
pub fn joinable_namespace(kind: NamespaceKind) -> Option<&'static str> {
    match kind {
        NamespaceKind::Ipc => Some("ipc"),
        NamespaceKind::Uts => Some("uts"),
        NamespaceKind::Time => Some("time"),
        _ => None,
    }
}

/// Whether CRIU can be given a descriptor instead of the file of this name, as `descriptors.json` has it. Other names are
/// paths: CRIU finds those in the container.
pub fn is_inheritable(name: &str) -> bool {
    let inside = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']'));
    let number = |text: &str, radix| u64::from_str_radix(text, radix).is_ok();
    let two = |text: &str| text.split_once(':').is_some_and(|(a, b)| number(a, 16) && number(b, 16));
    inside("pipe:[").is_some_and(|n| number(n, 10))
        || inside("file[").is_some_and(two)
        || inside("tty[").is_some_and(two)
}

/// Controller (empty: version 2) to path, from /proc/PID/cgroup (cgroups(7)).
pub fn cgroup_roots(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some(controllers.split(',').map(|c| (c.to_owned(), path.to_owned())).collect::<Vec<_>>())
    };
    text.lines().filter_map(line).flatten().collect()
}

/// The lines of CRIU's log that say what went wrong: the last `count` of its errors, without time stamps.
pub fn log_errors(log: &str, count: usize) -> Vec<String> {
    let error = |line: &str| {
        let at = line.find("Error (")?;
        Some(line[at..].chars().filter(|c| !c.is_control()).take(400).collect::<String>())
    };
    let mut all: Vec<String> = Vec::new();
    for line in log.lines().filter_map(error) {
        if !all.contains(&line) {
            all.push(line);
        }
    }
    all.split_off(all.len().saturating_sub(count))
}

#[cfg(test)]
mod tests;
