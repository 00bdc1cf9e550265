//! The volumes of a pod: made with it, and mounted into its containers by descriptors.

use super::{Pod, directory, remove_tree, words};
use crate::error::{Error, Kind, Result};
use crate::image::{self, digest_of};
use crate::kernel::inroot::{self, Make};
use crate::kernel::sandbox::{self, Memory};
use crate::plan::tables::namespaces::NamespaceKind;
use crate::sys::{self, file, mount, path};
use crate::workload::bundle::Source;
use crate::workload::environment::{Objects, expand};
use crate::workload::files;
use crate::workload::pod::{HostPath, HostPathType, Volume, VolumeMount};
use crate::workload::replica::Sandbox;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Permission bits of an emptyDir.
const EMPTY: u32 = 0o777;

fn is_memory(volume: &Volume) -> bool {
    volume.empty_dir.as_ref().is_some_and(|e| e.medium.as_deref() == Some("Memory"))
}

/// The volumes that are file systems in memory.
pub fn in_memory(pod: &Sandbox) -> Vec<Memory> {
    let one = |v: &Volume| {
        let e = v.empty_dir.clone().unwrap_or_default();
        let gid = pod.security.fs_group;
        let mode = e.mode.unwrap_or(EMPTY) | if gid.is_some() { 0o2070 } else { 0 };
        Memory { name: v.name.clone(), size: e.size_limit.map(|s| s.0), mode, gid: gid.unwrap_or(0) }
    };
    pod.volumes.iter().filter(|v| is_memory(v)).map(one).collect()
}

/// Where a volume is on the host. None: it is in memory.
fn place(pod: &Pod, v: &Volume) -> Option<PathBuf> {
    if is_memory(v) {
        return None;
    }
    if let Some(host) = &v.host_path {
        return Some(PathBuf::from(&host.path));
    }
    if let Some(claim) = &v.persistent_volume_claim {
        let own = if claim.per_replica { format!("-{}", pod.key.slot) } else { String::new() };
        return Some(pod.claims.join(format!("{}{own}", claim.claim_name)));
    }
    let base = if v.is_written() { &pod.memory } else { &pod.disk };
    Some(base.join("volumes").join(&v.name))
}

/// Makes all volumes that are not in memory.
pub fn make(pod: &Pod, objects: &Objects) -> Result<()> {
    for v in &pod.sandbox.volumes {
        create_volume(pod, v, objects).map_err(|e| e.context(format!("volume {:?}", v.name)))?;
    }
    Ok(())
}

fn create_volume(pod: &Pod, v: &Volume, objects: &Objects) -> Result<()> {
    let Some(dir) = place(pod, v) else { return Ok(()) };
    let group = pod.sandbox.security.fs_group;
    if let Some(host) = &v.host_path {
        return host_path(host);
    }
    if v.is_written() {
        let files = files::volume_files(v, &pod.sandbox, &pod.replica, objects)
            .map_err(|message| Error::new(Kind::NotFound, message))?;
        directory(&dir, 0o755)?;
        return files.iter().try_for_each(|f| write(&dir, f, group));
    }
    if v.persistent_volume_claim.is_some() && dir.is_dir() {
        return Ok(());
    }
    directory(&dir, 0o700)?;
    let mode = v.empty_dir.as_ref().and_then(|e| e.mode).unwrap_or(EMPTY);
    owned(&dir, mode, group)
}

/// Gives a directory of ours its permissions, and its group where there is one: what is made in it has that too.
fn owned(dir: &Path, mode: u32, group: Option<u32>) -> Result<()> {
    let fail = |e: std::io::Error| Error::sys(format!("setting the permissions of {dir:?}"), e);
    if group.is_some() {
        chown(dir, None, group).map_err(fail)?;
    }
    let mode = mode | if group.is_some() { 0o2070 } else { 0 };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(fail)
}

/// Writes a file of a volume that no container sees yet.
fn write(dir: &Path, f: &files::File, group: Option<u32>) -> Result<()> {
    let at = dir.join(&f.path);
    let fail = |e: std::io::Error| Error::sys(format!("writing {at:?}"), e);
    if let Some(parent) = at.parent() {
        directory(parent, 0o755)?;
    }
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600);
    open = open.custom_flags(libc::O_NOFOLLOW);
    let mut file = open.open(&at).map_err(fail)?;
    std::io::Write::write_all(&mut file, &f.data).map_err(fail)?;
    if group.is_some() {
        chown(&at, None, group).map_err(fail)?;
    }
    let mode = f.mode | if group.is_some() { 0o040 } else { 0 };
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(fail)
}

/// Makes what may be made, and refuses what is not there.
fn host_path(host: &HostPath) -> Result<()> {
    let at = Path::new(&host.path);
    match host.kind {
        HostPathType::DirectoryOrCreate if !at.exists() => directory(at, 0o755)?,
        HostPathType::FileOrCreate if !at.exists() => {
            // As kubelet does it: the directory must exist.
            let mut options = fs::OpenOptions::new();
            let open = options.write(true).create_new(true).mode(0o644);
            open.open(at).map_err(|e| Error::sys(format!("making the file {at:?}"), e))?;
        }
        _ => {}
    }
    let found = fs::metadata(at).map_err(|e| Error::sys(format!("hostPath {at:?}"), e))?.file_type();
    let (fits, what) = match host.kind {
        HostPathType::Any => (true, ""),
        HostPathType::Directory | HostPathType::DirectoryOrCreate => (found.is_dir(), "a directory"),
        HostPathType::File | HostPathType::FileOrCreate => (found.is_file(), "a file"),
        HostPathType::Socket => (found.is_socket(), "a socket"),
        HostPathType::CharDevice => (found.is_char_device(), "a character device"),
        HostPathType::BlockDevice => (found.is_block_device(), "a block device"),
    };
    if fits { Ok(()) } else { Err(Error::new(Kind::Config, format!("hostPath {at:?} is not {what}"))) }
}

/// The container that volumes are mounted into, and the layers of its image, topmost first.
pub struct Root<'a> {
    pub container: &'a str,
    pub layers: &'a [PathBuf],
    /// The container's for the runtime.
    pub id: &'a str,
}

/// Detached mounts for a container: what each of `given` shows. `variables` are the container's.
///
/// # Errors
/// A volume or a path in it cannot be opened.
pub fn mounts(
    pod: &Pod,
    given: &[(usize, Source)],
    variables: &BTreeMap<String, String>,
    root: &Root,
) -> Result<Vec<OwnedFd>> {
    let of = |source: &Source| match source {
        Source::Volume(m) => volume(pod, m, variables)
            .map_err(|e| e.context(format!("mounting volume {:?} at {:?}", m.name, m.mount_path))),
        Source::ImageVolume(at) => {
            image_volume(pod, root, at).map_err(|e| e.context(format!("the image's volume at {at:?}")))
        }
        Source::Hosts => ours(pod, "hosts"),
        Source::ResolvConf => ours(pod, "resolv.conf"),
        Source::Hostname => ours(pod, "hostname"),
        Source::TerminationMessage => {
            words::make(pod, root.id)?;
            tree(&open(&words::place(pod, root.id), true)?, false)
        }
    };
    given.iter().map(|(_, source)| of(source)).collect()
}

fn ours(pod: &Pod, name: &str) -> Result<OwnedFd> {
    tree(&open(&pod.memory.join("etc").join(name), true)?, false)
}

/// A volume that the image declares, made when its container is made for the first time: it is kept until the replica ends.
fn image_volume(pod: &Pod, root: &Root, at: &str) -> Result<OwnedFd> {
    let dir = pod.disk.join("image-volumes").join(root.container);
    let name = digest_of(at.as_bytes()).replace("sha256:", "");
    let (volume, new) = (dir.join(&name), dir.join(format!("{name}.new")));
    if !volume.is_dir() {
        directory(&dir, 0o700)?;
        // Of an attempt that was interrupted.
        remove_tree(&new)?;
        let made = image::volume::make(root.layers, at, &new);
        let made = made.and_then(|()| {
            fs::rename(&new, &volume).map_err(|e| Error::sys(format!("completing {volume:?}"), e))
        });
        if let Err(e) = made {
            // The first error is the one to report.
            let _ = remove_tree(&new);
            return Err(e);
        }
    }
    tree(&open(&volume, true)?, false)
}

fn volume(pod: &Pod, m: &VolumeMount, variables: &BTreeMap<String, String>) -> Result<OwnedFd> {
    let missing = || Error::new(Kind::Config, "the pod has no such volume");
    let v = pod.sandbox.volume(&m.name).ok_or_else(missing)?;
    let sub = match (&m.sub_path, &m.sub_path_expr) {
        (_, Some(expression)) => expand(expression, variables),
        (Some(path), None) => path.clone(),
        (None, None) => String::new(),
    };
    if !sub.is_empty() && !files::is_inside(&sub) {
        return Err(Error::new(Kind::Config, format!("the path {sub:?} leads out of the volume")));
    }
    let read_only = v.is_written();
    match place(pod, v) {
        Some(at) => {
            // The host's own paths may have symlinks; in the other directories containers must not be able to use one.
            let root = open(&at, v.host_path.is_none())?;
            tree(&inside(root, &sub, read_only)?, v.host_path.is_some())
        }
        None => {
            let held = pod.held.iter().find(|(kind, _)| *kind == NamespaceKind::Mount).ok_or_else(missing)?;
            sandbox::open_memory(&held.1, &v.name, |root| inside(root, &sub, read_only))
        }
    }
}

fn open(at: &Path, plain: bool) -> Result<OwnedFd> {
    let name = CString::new(at.as_os_str().as_bytes())
        .map_err(|_| Error::new(Kind::Config, format!("the path {at:?} holds a NUL byte")))?;
    let flags = libc::O_PATH | if plain { libc::O_NOFOLLOW } else { 0 };
    path::openat(sys::CWD, &name, flags, 0).map_err(|e| Error::sys(format!("opening {at:?}"), e))
}

/// The path `sub` in the volume `root`: containers write there, so that it is looked up by the kernel without leaving the
/// volume, and never again by its name. A missing directory is created, unless the volume is read-only.
fn inside(root: OwnedFd, sub: &str, read_only: bool) -> Result<OwnedFd> {
    if sub.is_empty() {
        return Ok(root);
    }
    let fail = |e| Error::sys(format!("opening {sub:?} in the volume"), e);
    let name = CString::new(sub).map_err(|_| Error::new(Kind::Config, "a path holds a NUL byte"))?;
    let found = match read_only {
        true => inroot::open(root.as_raw_fd(), &name),
        false => inroot::open_or_make(root.as_raw_fd(), &name, Make::Directory),
    };
    let found = found.map_err(fail)?;
    if file::fstat(found.as_raw_fd()).map_err(fail)?.kind() == libc::S_IFLNK {
        return Err(Error::new(Kind::Config, format!("{sub:?} in the volume is a symlink")));
    }
    Ok(found)
}

/// A detached mount of what `at` stands for.
fn tree(at: &OwnedFd, recursive: bool) -> Result<OwnedFd> {
    mount::clone_tree(at.as_raw_fd(), c"", recursive, false)
        .map_err(|e| Error::sys("copying the mount of a volume", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_symlink_in_a_volume_never_leads_out_of_it() {
        let (volume, secret) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(secret.path().join("key"), "x").unwrap();
        symlink(secret.path(), volume.path().join("link")).unwrap();
        symlink("../../../../../etc", volume.path().join("up")).unwrap();
        symlink("/proc/self/root", volume.path().join("magic")).unwrap();
        let at = |sub: &str| {
            let found = inside(open(volume.path(), true).unwrap(), sub, false)?;
            Ok::<_, Error>(fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap())
        };
        for sub in ["link", "link/key", "up", "up/passwd", "magic/etc", "new/dir"] {
            if let Ok(found) = at(sub) {
                assert!(found.starts_with(volume.path()), "{sub}: {found:?}");
            }
        }
        assert!(fs::read_dir(secret.path()).unwrap().count() == 1, "nothing was made outside");
        assert!(inside(open(volume.path(), true).unwrap(), "none", true).is_err());
        // The volume itself replaced by a symlink.
        let other = volume.path().join("volume");
        symlink(secret.path(), &other).unwrap();
        let root = open(&other, true).unwrap();
        assert_eq!(file::fstat(root.as_raw_fd()).unwrap().kind(), libc::S_IFLNK, "not what it leads to");
    }

    #[test]
    fn what_is_not_of_the_type_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = |name: &str, kind| {
            host_path(&HostPath { path: dir.path().join(name).to_str().unwrap().into(), kind })
        };
        assert!(host("none", HostPathType::Directory).is_err());
        assert!(host("none", HostPathType::Any).is_err());
        host("made/deep", HostPathType::DirectoryOrCreate).unwrap();
        host("file", HostPathType::FileOrCreate).unwrap();
        assert!(
            host("file", HostPathType::Directory).unwrap_err().to_string().contains("is not a directory")
        );
        assert!(host("made", HostPathType::FileOrCreate).unwrap_err().to_string().contains("is not a file"));
        assert!(
            host("file", HostPathType::Socket).is_err() && host("file", HostPathType::BlockDevice).is_err()
        );
        host("/dev/null", HostPathType::CharDevice).unwrap();
    }

    #[test]
    fn files_have_their_modes_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let f = files::File { path: "a/b".into(), data: b"x".to_vec(), mode: 0o400 };
        write(dir.path(), &f, None).unwrap();
        let meta = fs::metadata(dir.path().join("a/b")).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o400);
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(
            write(dir.path(), &files::File { path: "link".into(), ..f }, None).is_err(),
            "no link is followed"
        );
    }
}
