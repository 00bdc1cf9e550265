//! Initial content of a volume of an image (`VOLUME`): the image's own content at that path, copied as Docker does it. Layers are
//! hostile: names are looked up one by one in directories that are open ([`rootfs`]).

use super::configuration::Configuration;
use super::rootfs::{self, RootfsEntry};
use crate::error::{Errno, Error, Kind, Result};
use crate::sys::{SysResult, file, path, tree};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directories in each other: the daemon, which copies, has other files open too.
const DEEPEST: usize = 64;
const MOST_OPEN: usize = 2048;
/// Attributes of a file besides owner and permissions.
const ATTRIBUTES: [&CStr; 3] =
    [c"security.capability", c"system.posix_acl_access", c"system.posix_acl_default"];

/// The volumes that the image declares: plain absolute paths, sorted.
///
/// # Errors
/// A path cannot be that of a volume.
pub fn declared(image: &Configuration) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for written in image.config.volumes.keys() {
        let parts: Vec<&str> = written.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        if !written.starts_with('/') || parts.is_empty() || parts.contains(&"..") || written.contains('\0') {
            let what =
                format!("the image declares the volume {written:?}, which is not the path of a directory");
            return Err(Error::new(Kind::Config, what));
        }
        found.insert(format!("/{}", parts.join("/")));
    }
    Ok(found.into_iter().collect())
}

/// Makes the directory `to`, which must not exist, with all that the image of these layers has at `name`. What it does not have
/// is an empty directory of root.
///
/// # Errors
/// The image has something else there, or it cannot be copied; what was made is the caller's to remove.
pub fn make(layers: &[PathBuf], name: &str, to: &Path) -> Result<()> {
    let what = || format!("copying what the image has at {name:?}");
    let dirs = match rootfs::find(layers, name)? {
        RootfsEntry::Directory(dirs) => dirs,
        RootfsEntry::Nothing => Vec::new(),
        RootfsEntry::File(_) | RootfsEntry::Link(..) | RootfsEntry::Other(_) => {
            let what = format!("the image declares the volume {name:?}, and has a file there");
            return Err(Error::new(Kind::Config, what));
        }
    };
    std::fs::create_dir(to).map_err(|e| Error::sys(what(), e))?;
    let root = OwnedFd::from(File::open(to).map_err(|e| Error::sys(what(), e))?);
    let mut copy = Copy { root: &root, links: HashMap::new(), open: 0 };
    copy.directory(&dirs, &root, &[]).map_err(|e| Error::sys(what(), e))
}

struct Copy<'a> {
    root: &'a OwnedFd,
    /// Where a file of several names was copied to, by its device and inode.
    links: HashMap<(u64, u64), CString>,
    /// Directories of layers that are open.
    open: usize,
}

fn c(name: &[u8]) -> SysResult<CString> {
    CString::new(name).map_err(|_| Errno(libc::EINVAL))
}

impl Copy<'_> {
    /// Copies directories that lie on each other to `to`, which is at `at` of the volume.
    fn directory(&mut self, dirs: &[OwnedFd], to: &OwnedFd, at: &[Vec<u8>]) -> SysResult<()> {
        let Some(top) = dirs.first() else {
            return file::fchmod(to.as_raw_fd(), 0o755);
        };
        self.open += dirs.len();
        if at.len() > DEEPEST || self.open > MOST_OPEN {
            return Err(Errno(libc::ELOOP));
        }
        let mut names = BTreeSet::new();
        for dir in dirs {
            for entry in std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))? {
                names.insert(entry?.file_name().as_bytes().to_vec());
            }
        }
        for name in names {
            let found = rootfs::step(dirs, &c(&name)?)?;
            let mut below = at.to_vec();
            below.push(name);
            self.entry(found, to.as_raw_fd(), &below)?;
        }
        self.open -= dirs.len();
        attributes(top.as_raw_fd(), to.as_raw_fd())
    }

    /// Copies what was found to the last name of `at`, in the directory `to`.
    fn entry(&mut self, found: RootfsEntry, to: RawFd, at: &[Vec<u8>]) -> SysResult<()> {
        let name = c(at.last().map_or(&[][..], Vec::as_slice))?;
        match found {
            // Removed by a layer.
            RootfsEntry::Nothing => Ok(()),
            RootfsEntry::Directory(dirs) => {
                file::mkdirat(to, &name, 0o700)?;
                let made = path::openat(to, &name, libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
                self.directory(&dirs, &made, at)
            }
            RootfsEntry::File(fd) => {
                let stat = file::fstat(fd.as_raw_fd())?;
                if let Some(first) = self.links.get(&(stat.dev, stat.ino)) {
                    return tree::linkat(self.root.as_raw_fd(), first, to, &name);
                }
                if stat.links > 1 {
                    self.links.insert((stat.dev, stat.ino), c(&at.join(&b'/'))?);
                }
                let from = path::reopen(fd.as_raw_fd(), libc::O_RDONLY | libc::O_NONBLOCK)?;
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
                let mut new = File::from(path::openat(to, &name, flags, 0o600)?);
                let mut from = File::from(from);
                io::copy(&mut from, &mut new)?;
                attributes(from.as_raw_fd(), new.as_raw_fd())
            }
            RootfsEntry::Link(target, stat) => {
                file::symlinkat(&c(&target)?, to, &name)?;
                Ok(file::lchownat(to, &name, stat.uid, stat.gid)?)
            }
            RootfsEntry::Other(fd) => {
                let stat = file::fstat(fd.as_raw_fd())?;
                file::mknodat(to, &name, stat.kind() | 0o600, stat.rdev)?;
                file::lchownat(to, &name, stat.uid, stat.gid)?;
                Ok(tree::chmodat(to, &name, stat.mode & 0o7777)?)
            }
        }
    }
}

/// Gives `to` the owner, permissions, attributes and times of `from`. The owner comes first: to change it clears set-user-id bits.
fn attributes(from: RawFd, to: RawFd) -> SysResult<()> {
    let stat = file::fstat(from)?;
    file::fchown(to, stat.uid, stat.gid)?;
    file::fchmod(to, stat.mode & 0o7777)?;
    let mut value = [0; 4096];
    for key in ATTRIBUTES {
        match file::getxattr(from, key, &mut value) {
            Ok(n) => match file::setxattr(to, key, &value[..n]) {
                Err(e) if e.0 == libc::EOPNOTSUPP => {}
                r => r?,
            },
            // It has none, or its file system cannot.
            Err(e) if matches!(e.0, libc::ENODATA | libc::EOPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    let meta = std::fs::metadata(format!("/proc/self/fd/{from}"))?;
    tree::set_times_of(to, (meta.mtime(), meta.mtime_nsec() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn volumes_are_plain_paths() {
        let of = |paths: &str| {
            let text = format!(r#"{{"config": {{"Volumes": {{{paths}}}}}}}"#);
            declared(&Configuration::parse(text.as_bytes(), "c").unwrap())
        };
        assert_eq!(of(r#""/b//c/": {}, "/a": {}, "/./a": {}"#).unwrap(), ["/a", "/b/c"]);
        assert!(of("").unwrap().is_empty());
        for bad in ["a", "", "/", "/.", "/a/../..", "/a\\u0000"] {
            let e = of(&format!(r#""{bad}": {{}}"#)).unwrap_err().to_string();
            assert!(e.contains("is not the path of a directory"), "{e}");
        }
    }

    #[test]
    fn a_volume_has_what_the_image_has() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str| dir.path().join(name);
        for name in ["top/real/sub", "low/real/sub", "low/var"] {
            fs::create_dir_all(layer(name)).unwrap();
        }
        symlink("/real", layer("low/var/data")).unwrap();
        symlink("/etc/passwd", layer("low/real/link")).unwrap();
        fs::write(layer("low/real/file"), "low").unwrap();
        fs::write(layer("top/real/file"), "top").unwrap();
        fs::write(layer("low/real/sub/kept"), "kept").unwrap();
        fs::hard_link(layer("low/real/sub/kept"), layer("low/real/sub/also")).unwrap();
        fs::set_permissions(layer("top/real"), fs::Permissions::from_mode(0o1770)).unwrap();
        fs::set_permissions(layer("top/real/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        let layers = ["top", "low"].map(layer);
        let to = dir.path().join("volume");
        make(&layers, "/var/data", &to).unwrap();
        let mode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("."), mode("file")), (0o1770, 0o4750));
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "top");
        assert_eq!(fs::read_to_string(to.join("sub/kept")).unwrap(), "kept");
        let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("sub/kept"), inode("sub/also"));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"), "not followed");
        let time = |at: &Path| fs::metadata(at).unwrap().modified().unwrap();
        assert_eq!(time(&to.join("file")), time(&layer("top/real/file")));
        make(&layers, "/none", &dir.path().join("empty")).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("empty")).unwrap().count(), 0);
        let e = make(&layers, "/real/file", &dir.path().join("no")).unwrap_err().to_string();
        assert!(e.contains("has a file there"), "{e}");
    }
}
