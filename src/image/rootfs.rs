//! Files of an image, looked up in its layers as overlayfs would show them, without mounting anything: who a user of the image
//! is must be known before there is a container. Layers are hostile: no path is ever resolved by the kernel beyond one name.

use super::bundle::Ids;
use super::store::Image;
use super::unpack::OPAQUE;
use crate::error::{Error, Kind, Result};
use crate::plan::user;
use crate::sys::file::{self, Stat};
use crate::sys::path;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// Bytes of /etc/passwd and /etc/group that are read.
const LONGEST: u64 = 4 << 20;
/// Symlinks in a path, as the kernel follows.
const MOST_LINKS: usize = 40;
/// Directories of a path, and how many of all layers are open at a time: this runs in the daemon, which has other files.
const MOST_LEVELS: usize = 64;
const MOST_OPEN: usize = 2048;

/// The numbers of `user`, `NAME|UID[:NAME|GID]`, by the image's own passwd(5) and group(5).
///
/// # Errors
/// The image does not have the name.
pub fn ids(image: &Image, user: &str) -> Result<Ids> {
    let spec = user::parse(user)?;
    let of_user = |name: &user::Id| matches!(name, user::Id::Name(_));
    // Numbers alone need no file; only members of groups are looked up in group(5) besides names.
    let needs_passwd = of_user(&spec.user) || spec.group.is_none();
    let needs_group = spec.group.as_ref().map_or(of_user(&spec.user), of_user);
    let file = |needed: bool, name: &str| match needed {
        true => read(&image.layers, name)
            .map(Option::unwrap_or_default)
            .map_err(|e| e.hint("give user and group by number")),
        false => Ok(Vec::new()),
    };
    let passwd = file(needs_passwd, "etc/passwd")?;
    let group = file(needs_group, "etc/group")?;
    let found = user::resolve(&spec, &passwd, &group)?;
    let gid = found.gid.or_else(|| user::primary_group(&passwd, found.uid)).unwrap_or(0);
    Ok(Ids { uid: found.uid, gid, additional: found.additional_gids })
}

/// The file of a name in the layers.
pub(super) enum RootfsEntry {
    Nothing,
    /// The layers that have it as a directory, the topmost first.
    Directory(Vec<OwnedFd>),
    File(OwnedFd),
    /// Its target, and its status.
    Link(Vec<u8>, Stat),
    Other(OwnedFd),
}

/// The content of a file of the image; `None` when it has none of that name.
///
/// # Errors
/// It cannot be read.
pub fn read(layers: &[PathBuf], name: &str) -> Result<Option<Vec<u8>>> {
    let fail = |e| Error::sys(format!("looking for {name:?} in the layers of the image"), e);
    let RootfsEntry::File(fd) = find(layers, name)? else { return Ok(None) };
    let opened = path::reopen(fd.as_raw_fd(), libc::O_RDONLY | libc::O_NONBLOCK);
    let file = File::from(opened.map_err(|e| Error::sys(format!("opening {name:?} of the image"), e))?);
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(fail)?;
    Ok(Some(bytes))
}

/// Looks up `name` in the image and follows symlinks.
///
/// # Errors
/// A layer cannot be read, or the path is too deep.
pub(super) fn find(layers: &[PathBuf], name: &str) -> Result<RootfsEntry> {
    let fail = |e| Error::sys(format!("looking for {name:?} in the layers of the image"), e);
    let root = || -> Result<Vec<OwnedFd>> {
        layers.iter().map(|l| File::open(l).map(OwnedFd::from).map_err(fail)).collect()
    };
    let mut rest: Vec<String> = parts(name);
    let mut stack = vec![root()?];
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let within = stack.last().map_or(&[][..], Vec::as_slice);
        let Ok(part) = CString::new(part) else { return Ok(RootfsEntry::Nothing) };
        match step(within, &part).map_err(fail)? {
            RootfsEntry::Directory(dirs) => {
                stack.push(dirs);
                if stack.len() > MOST_LEVELS || stack.iter().map(Vec::len).sum::<usize>() > MOST_OPEN {
                    let what = format!(
                        "looking for {name:?} in the layers of the image: more than {MOST_LEVELS} directories deep"
                    );
                    return Err(Error::new(Kind::Config, what));
                }
            }
            found @ (RootfsEntry::File(_) | RootfsEntry::Other(_)) if rest.is_empty() => return Ok(found),
            RootfsEntry::Link(to, _) if links < MOST_LINKS => {
                links += 1;
                let to = String::from_utf8_lossy(&to);
                if to.starts_with('/') {
                    stack.truncate(1);
                }
                rest.extend(parts(&to));
            }
            RootfsEntry::Nothing | RootfsEntry::File(_) | RootfsEntry::Link(..) | RootfsEntry::Other(_) => {
                return Ok(RootfsEntry::Nothing);
            }
        }
    }
    Ok(stack.pop().map_or(RootfsEntry::Nothing, RootfsEntry::Directory))
}

/// The components of a path, the last one first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|p| !p.is_empty() && *p != ".").rev().map(str::to_owned).collect()
}

/// Looks one name up in directories that lie on each other.
pub(super) fn step(within: &[OwnedFd], name: &CStr) -> std::io::Result<RootfsEntry> {
    let mut dirs = Vec::new();
    for dir in within {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let fd = match path::openat(dir.as_raw_fd(), name, flags, 0) {
            Ok(fd) => fd,
            Err(e) if matches!(e.0, libc::ENOENT | libc::ENAMETOOLONG) => {
                if is_opaque(dir) {
                    break;
                }
                continue;
            }
            Err(e) => return Err(std::io::Error::from_raw_os_error(e.0)),
        };
        let stat = file::fstat(fd.as_raw_fd()).map_err(|e| std::io::Error::from_raw_os_error(e.0))?;
        match stat.kind() {
            libc::S_IFDIR => {
                let open = path::openat(dir.as_raw_fd(), name, libc::O_DIRECTORY | libc::O_NOFOLLOW, 0);
                let open = open.map_err(|e| std::io::Error::from_raw_os_error(e.0))?;
                let last = is_opaque(&open);
                dirs.push(open);
                if last {
                    break;
                }
            }
            // Below a directory, what is not a directory is hidden.
            _ if !dirs.is_empty() => break,
            libc::S_IFREG => return Ok(RootfsEntry::File(fd)),
            libc::S_IFLNK => {
                let mut buf = [0; libc::PATH_MAX as usize];
                let n = file::readlinkat(dir.as_raw_fd(), name, &mut buf);
                let n = n.map_err(|e| std::io::Error::from_raw_os_error(e.0))?;
                return Ok(RootfsEntry::Link(buf[..n].to_vec(), stat));
            }
            libc::S_IFCHR if stat.rdev == 0 => return Ok(RootfsEntry::Nothing),
            _ => return Ok(RootfsEntry::Other(fd)),
        }
        if is_opaque(dir) {
            break;
        }
    }
    Ok(if dirs.is_empty() { RootfsEntry::Nothing } else { RootfsEntry::Directory(dirs) })
}

fn is_opaque(dir: &OwnedFd) -> bool {
    OPAQUE.iter().any(|name| {
        let mut buf = [0; 1];
        matches!(file::getxattr(dir.as_raw_fd(), name, &mut buf), Ok(1)) && buf == *b"y"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_are_found_as_the_overlay_shows_them() {
        let dir = std::env::temp_dir().join(format!("orun-rootfs-{}", std::process::id()));
        let layer = |name: &str| dir.join(name);
        for name in ["top/etc", "middle/real", "low/etc", "low/x"] {
            std::fs::create_dir_all(layer(name)).unwrap();
        }
        std::fs::write(layer("low/etc/passwd"), "low").unwrap();
        std::fs::write(layer("low/etc/hidden"), "low").unwrap();
        std::fs::write(layer("middle/etc"), "a file hides the directory below").unwrap();
        std::fs::write(layer("middle/real/file"), "real").unwrap();
        symlink("../real/../../real/file", layer("top/etc/link")).unwrap();
        symlink("/real", layer("top/absolute")).unwrap();
        symlink("loop", layer("top/loop")).unwrap();
        symlink("/etc/passwd", layer("low/x/host")).unwrap();
        let layers = ["top", "middle", "low"].map(layer);
        let text = |name: &str| read(&layers, name).unwrap().map(|b| String::from_utf8(b).unwrap());
        assert_eq!(text("etc/hidden"), None);
        assert_eq!(text("etc/link").as_deref(), Some("real"));
        assert_eq!(text("absolute/file").as_deref(), Some("real"));
        assert_eq!(text("loop"), None);
        assert_eq!(text("x/host"), None, "not the host's");
        assert_eq!(read(&layers[2..], "x/host").unwrap().as_deref(), Some(&b"low"[..]));
        assert_eq!(text("x/../etc"), None, "a directory");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_deep_link_opens_no_end_of_directories() {
        let dir = std::env::temp_dir().join(format!("orun-rootfs-deep-{}", std::process::id()));
        let deep = "d/".repeat(80);
        std::fs::create_dir_all(dir.join(&deep)).unwrap();
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join(&deep).join("passwd"), "a:x:5:6::/:/bin/sh").unwrap();
        symlink(format!("/{deep}passwd"), dir.join("etc/passwd")).unwrap();
        let image = Image {
            digest: String::new(),
            configuration: crate::image::configuration::Configuration::default(),
            layers: vec![dir.clone()],
            root: dir.clone(),
            diff_ids: Vec::new(),
        };
        for user in ["a", "5", "a:6", "a:b"] {
            let e = ids(&image, user).unwrap_err().to_string();
            assert!(e.contains("more than 64 directories deep"), "{user}: {e}");
        }
        // Neither file is read.
        assert_eq!(ids(&image, "5:6").map(|i| (i.uid, i.gid)).unwrap(), (5, 6));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
