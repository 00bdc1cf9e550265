//! What the containers of a pod share: namespaces that no process is in, held as descriptors.
//!
//! They are made by a thread that ends. Nothing is mounted on the host and no process remains, so that nothing is left over
//! when the last descriptor is closed: the kernel removes the namespaces then.

use crate::error::{Errno, Error, Kind, Result};
use crate::plan::tables::namespaces::Kind as Namespace;
use crate::sys::{self, clone, file, mount, netif, path, prctl};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// What to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Of these kinds; network, ipc and uts ones can be made. The network gets its loopback interface up.
    pub namespaces: Vec<Namespace>,
    /// For the uts namespace.
    pub hostname: String,
    /// Kernel parameters of the namespaces, with dots.
    pub sysctls: Vec<(String, String)>,
    /// File systems in memory, by name, in a mount namespace of their own.
    pub memory: Vec<Memory>,
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
pub type Held = Vec<(Namespace, OwnedFd)>;

/// Makes the namespaces. A mount namespace is one of them when there is something in memory.
///
/// # Errors
/// What the kernel refuses.
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
    let kinds = plan.namespaces.iter().fold(0, |all, kind| all | kind.clone_flag());
    clone::unshare(kinds as i32).map_err(|e| Error::sys("making the namespaces of a pod", e))?;
    if plan.namespaces.contains(&Namespace::Uts) && !plan.hostname.is_empty() {
        prctl::sethostname(plan.hostname.as_bytes())
            .map_err(|e| Error::sys(format!("setting the host name {:?}", plan.hostname), e))?;
    }
    if plan.namespaces.contains(&Namespace::Network) {
        netif::loopback_up().map_err(|e| Error::sys("bringing the loopback interface of a pod up", e))?;
    }
    for (name, value) in &plan.sysctls {
        sysctl(name, value)?;
    }
    let mut held = Vec::new();
    for kind in &plan.namespaces {
        held.push((*kind, own(*kind)?));
    }
    if !plan.memory.is_empty() {
        held.push((Namespace::Mount, memory(&plan.memory)?));
    }
    Ok(held)
}

/// The namespace that this thread is in.
fn own(kind: Namespace) -> Result<OwnedFd> {
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
pub fn of_process(pid: i32, kinds: &[Namespace]) -> Result<Held> {
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
    let made = own(Namespace::Mount)?;
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
            namespaces: vec![Namespace::Network, Namespace::Ipc, Namespace::Uts],
            hostname: "web-0".into(),
            sysctls: vec![
                ("net.ipv4.ip_unprivileged_port_start".into(), "7".into()),
                ("kernel.shmmni".into(), "77".into()),
            ],
            memory: vec![Memory { name: "cache".into(), size: Some(1 << 20), mode: 0o1777, gid: 5 }],
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
