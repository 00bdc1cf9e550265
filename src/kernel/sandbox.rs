//! Namespaces that the containers of a pod share, held as descriptors without a process.
//!
//! They are made by a thread that ends. Nothing is mounted on the host and no process remains, so that nothing is left over
//! when the last descriptor is closed: the kernel removes the namespaces then.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::cgroup::{self, Cgroup, SubCgroups};
use crate::plan::cgroup as plan;
use crate::plan::tables::namespaces::NamespaceKind;
use crate::sys::clone::Clone;
use crate::sys::{self, clone, cred, fd, file, mount, netif, path, prctl, signalfd};
use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Settings of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Of these kinds; network, ipc, uts and pid ones can be made. The network gets its loopback interface up.
    pub namespaces: Vec<NamespaceKind>,
    /// For the uts namespace.
    pub hostname: String,
    /// Kernel parameters of the namespaces, with dots.
    pub sysctls: Vec<(String, String)>,
    /// File systems in memory, by name, in a mount namespace of their own.
    pub memory: Vec<Memory>,
    /// The first process of the pid namespace; required with one.
    pub init: Option<Init>,
}

/// A pid namespace lives as long as its first process, and that of a pod must not be a container, which may end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Init {
    /// The program, whose verb [`INIT`] calls [`init`].
    pub program: PathBuf,
    /// The absolute path of its cgroup in each hierarchy. Whoever ends what is in there ends the namespace.
    pub cgroup: String,
}

/// A tmpfs that containers share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    pub name: String,
    /// Bytes. `None`: half of the host's memory.
    pub size: Option<u64>,
    pub mode: u32,
    pub gid: u32,
}

/// Namespaces by kind.
pub type Held = Vec<(NamespaceKind, OwnedFd)>;

/// Makes the namespaces. A mount namespace is one of them when there is something in memory.
///
/// # Errors
/// An error of the kernel.
pub fn make(plan: &Plan) -> Result<Held> {
    in_thread(|| build(plan))
}

/// Runs `work` in a thread of its own, whose namespaces and directories are nobody else's, and which ends.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sandbox".to_owned()).stack_size(256 << 10);
        let thread = thread.spawn_scoped(scope, work).map_err(|e| Error::sys("starting a thread", e))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::new(Kind::System, "a thread that makes a sandbox failed")))
    })
}

fn build(plan: &Plan) -> Result<Held> {
    let of_thread = || plan.namespaces.iter().filter(|kind| **kind != NamespaceKind::Pid);
    let kinds = of_thread().fold(0, |all, kind| all | kind.clone_flag());
    clone::unshare(kinds as i32).map_err(|e| Error::sys("making the namespaces of a pod", e))?;
    if plan.namespaces.contains(&NamespaceKind::Uts) && !plan.hostname.is_empty() {
        prctl::sethostname(plan.hostname.as_bytes())
            .map_err(|e| Error::sys(format!("setting the host name {:?}", plan.hostname), e))?;
    }
    if plan.namespaces.contains(&NamespaceKind::Network) {
        netif::loopback_up().map_err(|e| Error::sys("bringing the loopback interface of a pod up", e))?;
    }
    for (name, value) in &plan.sysctls {
        sysctl(name, value)?;
    }
    let mut held = Vec::new();
    for kind in of_thread() {
        held.push((*kind, open_namespace(*kind)?));
    }
    if let Some(init) = &plan.init {
        let pid = start_init(init)?;
        held.extend(of_process(pid, &[NamespaceKind::Pid])?);
    }
    if !plan.memory.is_empty() {
        held.push((NamespaceKind::Mount, memory(&plan.memory)?));
    }
    Ok(held)
}

/// Starts the first process of a pid namespace; its pid. It is nobody's child here: the process that makes it exits.
fn start_init(init: &Init) -> Result<i32> {
    let fail = |e: std::io::Error| Error::sys("starting the init process of a pod", e);
    let mut command = Command::new(&init.program);
    // The cgroup is for people who look at processes.
    command.arg(INIT).arg(&init.cgroup).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut maker = command.spawn().map_err(fail)?;
    let mut started = || -> Result<i32> {
        let id = "init";
        let facts = cgroup::probe()?;
        let plan = plan::compile(id, &init.cgroup, None, &facts, &plan::Options::default());
        let plan = plan.map_err(|all| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            Error::new(Kind::Config, format!("the cgroup of a pod's init process: {}", all.join("; ")))
        })?;
        let pid = i32::try_from(maker.id()).unwrap_or_default();
        Cgroup::create(&plan)?.attach(pid, &SubCgroups::default())?;
        // Only now it may make the process, which is in the cgroup from its beginning.
        maker.stdin.take().map(|mut go| go.write_all(b"\n")).transpose().map_err(fail)?;
        let mut line = String::new();
        maker.stdout.take().map(|out| BufReader::new(out).read_line(&mut line)).transpose().map_err(fail)?;
        let none = || Error::new(Kind::System, "the init process of a pod did not start");
        line.trim().parse().map_err(|_| none())
    };
    let pid = started();
    // Its input is closed by now in any case: it exits.
    drop(maker.stdin.take());
    maker.wait().map_err(fail)?;
    pid
}

/// A pod's init process only waits; the kernel reaps its children because it ignores SIGCHLD.
/// The caller makes it once its standard input has a byte, and prints its pid.
///
/// # Errors
/// A step fails: there is no init process then.
pub fn init() -> Result<()> {
    let step =
        |what: &'static str| move |e| Error::sys(format!("making the init process of a pod: {what}"), e);
    let mut go = [0];
    if fd::read(0, &mut go).map_err(step("reading standard input"))? == 0 {
        return Err(Error::new(Kind::System, "no process waits for the init process of a pod"));
    }
    let (ready, done) = fd::pipe().map_err(step("making a pipe"))?;
    let kinds = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64;
    match clone::clone3(kinds, None).map_err(step("making a process"))? {
        Clone::Parent { pid, .. } => {
            drop(done);
            let mut said = [0; 2];
            // The reason is on standard error.
            let wrong = || Error::new(Kind::System, "the init process of a pod cannot be confined");
            if fd::read(ready.as_raw_fd(), &mut said).map_err(step("waiting for it"))? != said.len() {
                return Err(wrong());
            }
            fd::write_all(1, format!("{pid}\n").as_bytes()).map_err(step("printing its pid"))
        }
        Clone::Child => {
            confine()?;
            fd::write_all(done.as_raw_fd(), b"ok").map_err(step("reporting that it is ready"))?;
            drop((ready, done));
            fd::close_range(0, u32::MAX).map_err(step("closing files"))?;
            loop {
                signalfd::pause();
            }
        }
    }
}

/// Containers see this process: nothing of the host is in it, and they cannot look into it.
fn confine() -> Result<()> {
    let step =
        |what: &'static str| move |e| Error::sys(format!("confining the init process of a pod: {what}"), e);
    prctl::set_name(c"pod-init").map_err(step("its name"))?;
    prctl::setsid().map_err(step("a session"))?;
    // Its death ends all containers of the pod. Without CAP_SYS_RESOURCE it cannot be protected.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
    mount::set_propagation(c"/", libc::MS_PRIVATE | libc::MS_REC).map_err(step("private mounts"))?;
    let root =
        tmpfs(&Memory { mode: 0o555, size: Some(4096), ..Memory::default() }).map_err(step("a tmpfs"))?;
    let place = path::openat(sys::CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0)
        .map_err(step("opening /proc"))?;
    mount::move_mount(root.as_raw_fd(), place.as_raw_fd(), c"").map_err(step("mounting a tmpfs"))?;
    file::fchdir(root.as_raw_fd()).map_err(step("entering it"))?;
    mount::pivot_root_here().map_err(step("changing the root directory"))?;
    mount::detach(c".").map_err(step("detaching the host's root"))?;
    file::chdir(c"/").map_err(step("entering the root"))?;
    drop((root, place));
    signalfd::ignore(libc::SIGCHLD).map_err(step("ignoring SIGCHLD"))?;
    prctl::limit_bounding(0).map_err(step("limiting capabilities"))?;
    prctl::set_no_new_privs().map_err(step("forbidding new privileges"))?;
    cred::setgroups(&[]).map_err(step("leaving groups"))?;
    cred::setresgid(NOBODY).map_err(step("changing its group"))?;
    cred::setresuid(NOBODY).map_err(step("changing its user"))?;
    cred::capset(cred::CapSets::default()).map_err(step("dropping capabilities"))?;
    prctl::set_dumpable(false).map_err(step("making the process non-dumpable"))
}

/// The hidden verb that calls [`init`].
pub const INIT: &str = "pod-init";

/// The user that a pod's init process is.
const NOBODY: u32 = 65_534;

/// The namespace that this thread is in.
fn open_namespace(kind: NamespaceKind) -> Result<OwnedFd> {
    let name = format!("/proc/thread-self/ns/{}", kind.proc_name());
    open(&name)
}

fn open(name: &str) -> Result<OwnedFd> {
    let text = CString::new(name).unwrap_or_default();
    path::openat(sys::CWD, &text, libc::O_RDONLY, 0)
        .map_err(|e| Error::sys(format!("opening the namespace {name}"), e))
}

/// The namespaces `kinds` that process `pid` is in.
///
/// # Errors
/// It is gone.
pub fn of_process(pid: i32, kinds: &[NamespaceKind]) -> Result<Held> {
    kinds.iter().map(|k| Ok((*k, open(&format!("/proc/{pid}/ns/{}", k.proc_name()))?))).collect()
}

fn sysctl(name: &str, value: &str) -> Result<()> {
    // A dot separates; in a name with slashes they do, as for the names of interfaces (sysctl(8)).
    let file: String = match name.contains('/') {
        true => name.to_owned(),
        false => name.replace('.', "/"),
    };
    if file.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::new(Kind::Config, format!("invalid kernel parameter {name:?}")));
    }
    std::fs::write(Path::new("/proc/sys").join(file), value)
        .map_err(|e| Error::sys(format!("setting the kernel parameter {name} to {value:?}"), e))
}

/// Makes a mount namespace whose root is a tmpfs with one directory, and a tmpfs on it, for each of `all`.
fn memory(all: &[Memory]) -> Result<OwnedFd> {
    let fail = |doing: &str, e: Errno| Error::sys(format!("making a volume in memory: {doing}"), e);
    clone::unshare(libc::CLONE_NEWNS | libc::CLONE_FS).map_err(|e| fail("making a mount namespace", e))?;
    let made = open_namespace(NamespaceKind::Mount)?;
    mount::set_propagation(c"/", libc::MS_PRIVATE | libc::MS_REC).map_err(|e| fail("isolating it", e))?;
    let root = tmpfs(&Memory { mode: 0o700, size: Some(1 << 20), ..Memory::default() })
        .map_err(|e| fail("mounting a tmpfs", e))?;
    let place = path::openat(sys::CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0)
        .map_err(|e| fail("opening /proc", e))?;
    mount::move_mount(root.as_raw_fd(), place.as_raw_fd(), c"").map_err(|e| fail("mounting a tmpfs", e))?;
    for one in all {
        let name = CString::new(one.name.as_str()).unwrap_or_default();
        file::mkdirat(root.as_raw_fd(), &name, 0o700).map_err(|e| fail("making a directory", e))?;
        let dir = path::openat2(root.as_raw_fd(), &name, libc::O_PATH, path::BENEATH | path::NO_SYMLINKS)
            .map_err(|e| fail("opening a directory", e))?;
        let tree = tmpfs(one).map_err(|e| fail("mounting a tmpfs", e))?;
        mount::move_mount(tree.as_raw_fd(), dir.as_raw_fd(), c"").map_err(|e| fail("mounting a tmpfs", e))?;
    }
    // Nothing of the host stays in it.
    file::fchdir(root.as_raw_fd()).map_err(|e| fail("entering it", e))?;
    mount::pivot_root_here().map_err(|e| fail("leaving the host's root", e))?;
    mount::detach(c".").map_err(|e| fail("leaving the host's root", e))?;
    Ok(made)
}

fn tmpfs(m: &Memory) -> sys::SysResult<OwnedFd> {
    let context = mount::fsopen(c"tmpfs")?;
    let fd = context.as_raw_fd();
    let set = |key: &std::ffi::CStr, value: String| {
        mount::fsconfig_set(fd, key, Some(&CString::new(value).unwrap_or_default()))
    };
    set(c"mode", format!("{:o}", m.mode))?;
    set(c"gid", m.gid.to_string())?;
    if let Some(size) = m.size {
        set(c"size", size.to_string())?;
    }
    mount::fsconfig_create(fd)?;
    mount::fsmount(fd, (libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV) as u32)
}

/// A detached mount of what `find` finds in the volume in memory `name` of the mount namespace `held`.
///
/// # Errors
/// There is none.
pub fn open_memory(
    held: &OwnedFd,
    name: &str,
    find: impl FnOnce(OwnedFd) -> Result<OwnedFd> + Send,
) -> Result<OwnedFd> {
    in_thread(|| {
        let fail = |e: Errno| Error::sys(format!("opening the volume in memory {name:?}"), e);
        clone::unshare(libc::CLONE_FS).map_err(fail)?;
        clone::setns(held.as_raw_fd(), libc::CLONE_NEWNS).map_err(fail)?;
        let whole = CString::new(format!("/{name}")).unwrap_or_default();
        let volume = path::openat2(sys::CWD, &whole, libc::O_PATH, path::NO_SYMLINKS).map_err(fail)?;
        let place = find(volume)?;
        mount::clone_tree(place.as_raw_fd(), c"", false, false).map_err(fail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_made_without_a_process_or_a_mount_on_the_host() {
        if nix::unistd::geteuid().as_raw() != 0 {
            eprintln!("SKIP: not root");
            return;
        }
        let read = |p: &str| std::fs::read_to_string(p).unwrap().trim().to_owned();
        let host = || (read("/proc/sys/kernel/hostname"), read("/proc/self/mountinfo"));
        let before = host();
        let plan = Plan {
            namespaces: vec![NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts],
            hostname: "web-0".into(),
            sysctls: vec![
                ("net.ipv4.ip_unprivileged_port_start".into(), "7".into()),
                ("kernel.shmmni".into(), "77".into()),
            ],
            memory: vec![Memory { name: "cache".into(), size: Some(1 << 20), mode: 0o1777, gid: 5 }],
            init: None,
        };
        let held = make(&plan).unwrap();
        assert_eq!(held.len(), 4);
        let all = held.iter().map(|(k, fd)| (*k, fd.try_clone().unwrap())).collect::<Vec<_>>();
        let inside = in_thread(move || {
            for (kind, fd) in &all[..3] {
                clone::setns(fd.as_raw_fd(), kind.clone_flag() as i32).unwrap();
            }
            let port = read("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            let lo = std::net::TcpListener::bind("127.0.0.1:9").map(|_| ()).is_ok();
            let name = read("/proc/sys/kernel/hostname");
            Ok((name, port, read("/proc/sys/kernel/shmmni"), lo))
        });
        assert_eq!(inside.unwrap(), ("web-0".to_owned(), "7".to_owned(), "77".to_owned(), true));
        let mnt = &held[3].1;
        let tree = open_memory(mnt, "cache", Ok).unwrap();
        let stat = file::fstat(tree.as_raw_fd()).unwrap();
        assert_eq!((stat.mode & 0o7777, stat.gid), (0o1777, 5));
        assert_eq!(file::filesystem_type(tree.as_raw_fd()).unwrap(), libc::TMPFS_MAGIC);
        assert!(open_memory(mnt, "other", Ok).is_err());
        assert_eq!(host(), before);
    }

    #[test]
    fn a_parameter_never_leads_out_of_proc_sys() {
        for name in ["../etc/x", "net..x", "net/../../x", ""] {
            assert!(sysctl(name, "1").is_err(), "{name}");
        }
    }
}
