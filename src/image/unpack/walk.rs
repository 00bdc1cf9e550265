//! Directories of a layer by their path in an archive. Symlinks are followed as in a container whose root the layer is: an absolute
//! target begins at the layer's directory, and `..` does not lead above it. Builders do write entries below their own absolute
//! symlinks (`lib -> /usr/lib`, then `lib/a`).

use super::super::tar::{bad, shown};
use crate::error::{Errno, Error, Result};
use crate::sys::{file, path};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Directories below each other, symlinks followed: whatever removes the tree goes down as deep.
pub const DEEPEST: usize = 256;
/// Symlinks in a path, as the kernel follows.
const MOST_LINKS: usize = 40;
/// Bytes of the target of a symlink.
const LONGEST_TARGET: usize = 4096;

/// A directory of the layer.
pub struct Directory {
    /// Its path without symlinks, as components.
    pub path: Vec<Vec<u8>>,
    pub fd: OwnedFd,
    /// It, or one above it, was marked as removed before: the new one hides what layers below have.
    pub replaced: Option<Vec<u8>>,
}

pub fn c(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| bad(format!("the name {} contains a null byte", shown(name))))
}

/// Handling of directories that the layer does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Make,
    Refuse,
}

/// Opens the directory of the layer `root` that `above` names.
///
/// # Errors
/// A file is in the way; too many symlinks; too deep; the disk is full.
pub fn open(root: RawFd, above: &[&[u8]], missing: Missing) -> Result<Directory> {
    let joined = above.join(&b'/');
    match open_plain(root, &joined)? {
        Ok(fd) => {
            let path = above.iter().map(|p| p.to_vec()).collect();
            Ok(Directory { path, fd, replaced: None })
        }
        Err(e) if matches!(e.0, libc::ENOENT | libc::ELOOP | libc::ENOTDIR) => {
            walk(root, above, missing).map_err(|e| e.context(format!("the directory {}", shown(&joined))))
        }
        Err(e) => Err(Error::sys(format!("opening {}", shown(&joined)), e)),
    }
}

/// A path without symlinks.
fn open_plain(root: RawFd, joined: &[u8]) -> Result<Result<OwnedFd, Errno>> {
    let name = if joined.is_empty() { c(b".")? } else { c(joined)? };
    let rules = path::BENEATH | path::NO_SYMLINKS;
    Ok(path::openat2(root, &name, libc::O_DIRECTORY | libc::O_RDONLY, rules))
}

fn walk(root: RawFd, above: &[&[u8]], missing: Missing) -> Result<Directory> {
    let mut pending: Vec<Vec<u8>> = above.iter().rev().map(|p| p.to_vec()).collect();
    let again = |at: &[Vec<u8>]| {
        open_plain(root, &at.join(&b'/'))?.map_err(|e| Error::sys("opening a directory of the layer", e))
    };
    let (mut at, mut links, mut replaced) = (Vec::new(), 0, None);
    let mut fd = again(&at)?;
    while let Some(part) = pending.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                at.pop();
                fd = again(&at)?;
                continue;
            }
            _ => {}
        }
        let name = c(&part)?;
        let flags = libc::O_DIRECTORY | libc::O_RDONLY | libc::O_NOFOLLOW;
        let next = match path::openat(fd.as_raw_fd(), &name, flags, 0) {
            Err(e) if e.0 == libc::ENOENT && missing == Missing::Make => {
                make(&fd, &name, &part)?;
                path::openat(fd.as_raw_fd(), &name, flags, 0)
            }
            Err(e) if e.0 == libc::ENOENT => return Err(bad("the layer does not have it")),
            Err(e) if matches!(e.0, libc::ENOTDIR | libc::ELOOP) => match target(&fd, &name, &part)? {
                Some(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(bad("the path has too many symlinks"));
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                        fd = again(&at)?;
                    }
                    pending.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                    continue;
                }
                None if missing == Missing::Make && is_whiteout(&fd, &name) => {
                    let gone = file::unlinkat(fd.as_raw_fd(), &name, 0);
                    gone.map_err(|e| Error::sys(format!("replacing {}", shown(&part)), e))?;
                    make(&fd, &name, &part)?;
                    replaced = Some([at.as_slice(), std::slice::from_ref(&part)].concat().join(&b'/'));
                    path::openat(fd.as_raw_fd(), &name, flags, 0)
                }
                None => return Err(bad(format!("{} is not a directory", shown(&part)))),
            },
            r => r,
        };
        fd = next.map_err(|e| Error::sys(format!("opening {}", shown(&part)), e))?;
        at.push(part);
        if at.len() > DEEPEST {
            return Err(bad(format!("the path is more than {DEEPEST} directories deep")));
        }
    }
    Ok(Directory { path: at, fd, replaced })
}

fn make(within: &OwnedFd, name: &CString, part: &[u8]) -> Result<()> {
    let made = file::mkdirat(within.as_raw_fd(), name, 0o755);
    made.map_err(|e| Error::sys(format!("making the directory {}", shown(part)), e))
}

/// The target of a symlink; `None` for anything else.
fn target(within: &OwnedFd, name: &CString, part: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut text = vec![0; LONGEST_TARGET];
    match file::readlinkat(within.as_raw_fd(), name, &mut text) {
        Ok(n) => {
            text.truncate(n);
            Ok(Some(text))
        }
        Err(e) if e.0 == libc::EINVAL => Ok(None),
        Err(e) => Err(Error::sys(format!("reading the symlink {}", shown(part)), e)),
    }
}

fn is_whiteout(within: &OwnedFd, name: &CString) -> bool {
    file::fstatat(within.as_raw_fd(), name, libc::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|s| s.kind() == libc::S_IFCHR && s.rdev == 0)
}
