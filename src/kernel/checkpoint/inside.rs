//! Resources of the host in a running container, as CRIU will see them.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::child::NULL_DEVICE;
use crate::kernel::inroot;
use crate::kernel::probe;
use crate::plan::checkpoint::{self, External};
use crate::plan::tables::namespaces::NamespaceKind;
use crate::sys::{self, file, path};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The major numbers of terminals: consoles, and the other ends of pseudo-terminals.
const TERMINALS: [u32; 10] = [4, 5, 136, 137, 138, 139, 140, 141, 142, 143];

/// The mounts of a process by number.
struct Mounts {
    all: Vec<(u64, String)>,
    root: OwnedFd,
}

impl Mounts {
    fn read_mounts(pid: i32) -> Result<Mounts> {
        let text = read(&format!("/proc/{pid}/mountinfo"))?;
        let root = CString::new(format!("/proc/{pid}/root")).unwrap_or_default();
        let root = path::openat(sys::CWD, &root, libc::O_PATH | libc::O_DIRECTORY, 0)
            .map_err(|e| Error::sys("opening the root of the container", e))?;
        Ok(Mounts { all: probe::mounts(&text), root })
    }

    /// The mount point at `target` below the root, wherever symlinks in the container lead it; `None` when nothing is
    /// mounted there any more. With its status.
    fn at(&self, target: &CString) -> Result<Option<(String, file::Stat)>> {
        let fail =
            |e: Errno| Error::sys(format!("looking at the mount \"/{}\"", target.to_string_lossy()), e);
        let fd = match inroot::open(self.root.as_raw_fd(), target) {
            Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => return Ok(None),
            r => r.map_err(fail)?,
        };
        let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let id = mount_id(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
        let here = std::fs::read_link(&own).map_err(|e| fail(e.into()))?;
        let point = self.all.iter().find(|(n, _)| Some(*n) == id).map(|(_, point)| point);
        let st = file::fstat(fd.as_raw_fd()).map_err(fail)?;
        Ok(point.filter(|p| *p.as_str() == *here.as_os_str()).map(|p| (p.clone(), st)))
    }
}

/// CRIU's names for the mounts of `list` in the container of process `pid`, and for those below them. `own` are the names of
/// all mounts in the container's configuration.
///
/// # Errors
/// The container cannot be looked at.
pub fn mounts(pid: i32, list: &[External], own: &BTreeSet<String>) -> Result<Vec<String>> {
    let mounts = Mounts::read_mounts(pid)?;
    let mut found = Vec::new();
    let mut named = BTreeSet::new();
    let mut trees = Vec::new();
    for e in list {
        let Some((point, st)) = mounts.at(&e.target)? else { continue };
        if e.mask && (st.kind() != libc::S_IFCHR || st.rdev != NULL_DEVICE) {
            continue;
        }
        if named.insert(point.clone()) {
            found.push(format!("mnt[{point}]:{}", e.name));
        }
        if e.recursive {
            trees.push((point, e.name.as_str()));
        }
    }
    for (point, name) in trees {
        let below = mounts.all.iter().filter_map(|(_, p)| Some((p, p.strip_prefix(&point)?)));
        for (p, rest) in below.filter(|(_, rest)| rest.starts_with('/')) {
            if !own.contains(p) && named.insert(p.clone()) {
                found.push(format!("mnt[{p}]:{name}{rest}"));
            }
        }
    }
    Ok(found)
}

/// The sources of those mounts at a restore.
///
/// # Errors
/// /proc cannot be read.
pub fn sources(list: &[External]) -> Result<Vec<String>> {
    let host = probe::mounts(&read("/proc/self/mountinfo")?);
    let mut found = Vec::new();
    for e in list {
        // The name of a masked file stands for all of them.
        let entry = format!("mnt[{}]:{}", e.name, e.source.display());
        if !found.contains(&entry) {
            found.push(entry);
        }
        if !e.recursive {
            continue;
        }
        let source = std::fs::canonicalize(&e.source).unwrap_or_else(|_| e.source.clone());
        let source = source.to_string_lossy().into_owned();
        for rest in
            host.iter().filter_map(|(_, p)| p.strip_prefix(&source)).filter(|rest| rest.starts_with('/'))
        {
            let entry = format!("mnt[{}{rest}]:{source}{rest}", e.name);
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    Ok(found)
}

/// Whether these mounts can be made again in another user namespace. There a copy of a mount without the ones below it is
/// refused (mount_namespaces(7), "Restrictions on mount namespaces"), and CRIU makes each mount by itself.
///
/// # Errors
/// [`Kind::Unsupported`], naming the first that cannot; /proc cannot be read.
pub fn check_other_user(list: &[External]) -> Result<()> {
    let host = probe::mounts(&read("/proc/self/mountinfo")?);
    for e in list {
        let source = std::fs::canonicalize(&e.source).unwrap_or_else(|_| e.source.clone());
        let below = host.iter().map(|(_, p)| Path::new(p)).find(|p| *p != source && p.starts_with(&source));
        if let (true, Some(below)) = (e.recursive, below) {
            let what = format!(
                "CRIU cannot restore the mount {:?} in a user namespace: on the host, {below:?} is mounted below its source {source:?}",
                e.name
            );
            let e = Error::new(Kind::Unsupported, what);
            return Err(match source == Path::new("/sys") {
                true => e.hint("with a network namespace of its own the container has a sysfs of its own"),
                false => e,
            });
        }
    }
    Ok(())
}

/// CRIU's name for a joined namespace of process `pid`; `None` for one that it can save.
///
/// # Errors
/// The namespace cannot be looked at.
pub fn namespace(pid: i32, kind: NamespaceKind) -> Result<Option<String>> {
    let Some((name, key)) = checkpoint::external_namespace(kind) else { return Ok(None) };
    let file = CString::new(format!("/proc/{pid}/ns/{name}")).unwrap_or_default();
    let st = file::fstatat(sys::CWD, &file, 0)
        .map_err(|e| Error::sys(format!("looking at the container's {name} namespace"), e))?;
    Ok(Some(format!("{name}[{}]:{key}", st.ino)))
}

/// The first three descriptors of process `pid`, as in `descriptors.json`: a path of the container, a pipe,
/// or a file of the host, which is named to CRIU as external. The process must be frozen: a shell sets one of them
/// aside, above, while it redirects a command, and that file is the host's all the same.
///
/// # Errors
/// /proc cannot be read.
pub fn descriptors(pid: i32) -> Result<(Vec<String>, Vec<String>)> {
    let mounts = Mounts::read_mounts(pid)?;
    let mut all = BTreeMap::new();
    let dir = format!("/proc/{pid}/fd");
    let fail = |e: std::io::Error| Error::sys(format!("reading {dir}"), e);
    for entry in std::fs::read_dir(&dir).map_err(fail)? {
        if let Ok(n) = entry.map_err(fail)?.file_name().to_string_lossy().parse::<u32>() {
            all.extend(descriptor(pid, n, &mounts)?.map(|d| (n, d)));
        }
    }
    let external: BTreeSet<String> =
        all.values().filter(|(_, foreign)| *foreign).map(|(n, _)| n.clone()).collect();
    // Where one is missing from the first three, the one that was set aside is it. What is closed has no name.
    let mut names: Vec<String> =
        (0..3).map(|n| all.get(&n).map(|(name, _)| name.clone()).unwrap_or_default()).collect();
    let aside = all.range(3..).filter(|(_, (name, foreign))| *foreign && !names.contains(name));
    let aside: Vec<String> = aside.map(|(_, (name, _))| name.clone()).collect();
    let free = names.iter_mut().filter(|name| !checkpoint::is_inheritable(name));
    free.zip(aside).for_each(|(name, set_aside)| *name = set_aside);
    Ok((names, external.into_iter().collect()))
}

/// A description of descriptor `n`, and whether it is a file of the host; `None` when it has just been closed.
fn descriptor(pid: i32, n: u32, mounts: &Mounts) -> Result<Option<(String, bool)>> {
    let link = PathBuf::from(format!("/proc/{pid}/fd/{n}"));
    let Ok(target) = std::fs::read_link(&link) else { return Ok(None) };
    let name = target.to_string_lossy().into_owned();
    let id = mount_id(&format!("/proc/{pid}/fdinfo/{n}"))?;
    let foreign = name.starts_with('/') && !mounts.all.iter().any(|(m, _)| Some(*m) == id);
    let (true, Some(id)) = (foreign, id) else { return Ok(Some((name, false))) };
    let c = CString::new(link.as_os_str().as_encoded_bytes()).unwrap_or_default();
    let st = file::fstatat(sys::CWD, &c, 0)
        .map_err(|e| Error::sys(format!("looking at descriptor {n} of the container"), e))?;
    let terminal = st.kind() == libc::S_IFCHR && TERMINALS.contains(&libc::major(st.rdev));
    let name = if terminal {
        format!("tty[{:x}:{:x}]", st.rdev, st.dev)
    } else {
        format!("file[{id:x}:{:x}]", st.ino)
    };
    Ok(Some((name, true)))
}

/// The number of the mount that an open file lies on (proc_pid_fdinfo(5)).
fn mount_id(fdinfo: &str) -> Result<Option<u64>> {
    let text = read(fdinfo)?;
    Ok(text.lines().find_map(|l| l.strip_prefix("mnt_id:")).and_then(|n| n.trim().parse().ok()))
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(file).map_err(|e| Error::sys(format!("reading {file}"), e))
}
