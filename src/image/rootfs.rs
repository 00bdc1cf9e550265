//! Files of an image, looked up in its layers as overlayfs would show them, without mounting anything: who a user of the image
//! is must be known before there is a container. Layers are hostile: no path is ever resolved by the kernel beyond one name.

use super::bundle::Ids;
use super::store::Image;
use crate::error::{Error, Result};
use crate::plan::user;
use crate::sys::{file, path};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// Bytes of /etc/passwd and /etc/group that are read.
const LONGEST: u64 = 4 << 20;
/// Symlinks in a path, as the kernel follows.
const MOST_LINKS: usize = 40;

/// The numbers of `user`, `NAME|UID[:NAME|GID]`, by the image's own passwd(5) and group(5).
///
/// # Errors
/// The image does not have the name.
pub fn ids(image: &Image, user: &str) -> Result<Ids> {
    let spec = user::parse(user)?;
    let passwd = read(&image.layers, "etc/passwd")?.unwrap_or_default();
    let group = read(&image.layers, "etc/group")?.unwrap_or_default();
    let found = user::resolve(&spec, &passwd, &group)?;
    let gid = found.gid.or_else(|| primary_group(&passwd, found.uid)).unwrap_or(0);
    Ok(Ids { uid: found.uid, gid, additional: found.additional_gids })
}

/// The group of the user with that number, as Docker takes it for a user without a group.
fn primary_group(passwd: &[u8], uid: u32) -> Option<u32> {
    let text = String::from_utf8_lossy(passwd);
    let mut users = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = users.find(|f| f.len() >= 6 && f[2].parse() == Ok(uid))?;
    line[3].parse().ok()
}

/// What a name is in the layers.
enum Found {
    Nothing,
    /// The layers that have it as a directory, the topmost first.
    Directory(Vec<OwnedFd>),
    File(OwnedFd),
    Link(String),
    Other,
}

/// The content of a file of the image; `None` when it has none of that name.
///
/// # Errors
/// It cannot be read.
pub fn read(layers: &[PathBuf], name: &str) -> Result<Option<Vec<u8>>> {
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
        match step(within, &part).map_err(fail)? {
            Found::Directory(dirs) => stack.push(dirs),
            Found::File(fd) if rest.is_empty() => {
                let mut bytes = Vec::new();
                let opened = path::reopen(fd.as_raw_fd(), libc::O_RDONLY | libc::O_NONBLOCK);
                let file =
                    File::from(opened.map_err(|e| Error::sys(format!("opening {name:?} of the image"), e))?);
                file.take(LONGEST).read_to_end(&mut bytes).map_err(fail)?;
                return Ok(Some(bytes));
            }
            Found::Link(to) if links < MOST_LINKS => {
                links += 1;
                if to.starts_with('/') {
                    stack.truncate(1);
                }
                rest.extend(parts(&to));
            }
            Found::Nothing | Found::File(_) | Found::Link(_) | Found::Other => return Ok(None),
        }
    }
    Ok(None)
}

/// The components of a path, the last one first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|p| !p.is_empty() && *p != ".").rev().map(str::to_owned).collect()
}

/// Looks one name up in directories that lie on each other.
fn step(within: &[OwnedFd], name: &str) -> std::io::Result<Found> {
    let Ok(c_name) = CString::new(name) else { return Ok(Found::Nothing) };
    let mut dirs = Vec::new();
    for dir in within {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let fd = match path::openat(dir.as_raw_fd(), &c_name, flags, 0) {
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
                let open = path::openat(dir.as_raw_fd(), &c_name, libc::O_DIRECTORY | libc::O_NOFOLLOW, 0);
                let open = open.map_err(|e| std::io::Error::from_raw_os_error(e.0))?;
                let last = is_opaque(&open);
                dirs.push(open);
                if last {
                    break;
                }
            }
            // Below a directory, what is not a directory is hidden.
            _ if !dirs.is_empty() => break,
            libc::S_IFREG => return Ok(Found::File(fd)),
            libc::S_IFLNK => {
                let mut buf = [0; libc::PATH_MAX as usize];
                let n = file::readlinkat(dir.as_raw_fd(), &c_name, &mut buf);
                let n = n.map_err(|e| std::io::Error::from_raw_os_error(e.0))?;
                return Ok(Found::Link(String::from_utf8_lossy(&buf[..n]).into_owned()));
            }
            libc::S_IFCHR if stat.rdev == 0 => return Ok(Found::Nothing),
            _ => return Ok(Found::Other),
        }
        if is_opaque(dir) {
            break;
        }
    }
    Ok(if dirs.is_empty() { Found::Nothing } else { Found::Directory(dirs) })
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut buf = [0; 1];
    matches!(file::getxattr(dir.as_raw_fd(), c"trusted.overlay.opaque", &mut buf), Ok(1)) && buf == *b"y"
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
    fn a_user_without_a_group_has_the_one_of_passwd() {
        assert_eq!(primary_group(b"a:x:5:6::/:\nb:x:7:8::/:/bin/sh\n", 7), Some(8));
        assert_eq!(primary_group(b"a:x:5:6::/:\n", 9), None);
    }
}
