//! The tree of a layer, made from the entries of its archive (OCI image-spec, "Image Layer Filesystem Changeset"), in the form
//! that overlayfs takes: whiteouts are character devices 0:0, opaque directories are listed for the parent, which may mark them.
//!
//! Directories are found by [`walk`]; in them, names are never followed.

use super::super::tar::{Entries, Entry, Node, bad, shown};
use super::Limits;
use super::walk::{self, DEEPEST, Directory, Missing, c};
use crate::error::{Error, Result};
use crate::sys::file::{self, Stat};
use crate::sys::{self, path, tree};
use std::collections::HashSet;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names with this prefix belonged to aufs and have no meaning.
const AUFS: &[u8] = b".wh..wh.";
/// Bytes of all extended attributes of a file that the kernel takes are less.
const LONGEST_XATTR: usize = 64 << 10;

/// A tree that is being made.
pub struct Tree<'a> {
    root: OwnedFd,
    limits: &'a Limits,
    may_make_devices: bool,
    /// The directory that was used last: entries of one directory follow each other.
    parent: Option<Parent>,
    /// Directories get their times when nothing is made in them any more.
    times: Vec<(Vec<u8>, (i64, u32))>,
    opaque: HashSet<Vec<u8>>,
    buffer: Vec<u8>,
    made: UnpackSummary,
}

/// The directory of an entry.
struct Parent {
    /// As the entry has it.
    written: Vec<u8>,
    /// Without symlinks.
    path: Vec<u8>,
    fd: OwnedFd,
}

/// Summary of an unpacked layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnpackSummary {
    pub entries: u64,
    /// Bytes of all files, as long as they seem.
    pub bytes: u64,
    /// The archive has an entry for the root itself.
    pub has_root: bool,
    /// Paths of directories that hide those of the layers below.
    pub opaque: Vec<Vec<u8>>,
    /// Devices that were not made.
    pub left_out: u64,
}

/// Unpacks all of `entries` below `root`.
///
/// # Errors
/// The archive is damaged or hostile, a limit is exceeded, or the disk is full.
pub fn unpack<R: Read>(
    entries: &mut Entries<R>,
    root: OwnedFd,
    (limits, may_make_devices): (&Limits, bool),
) -> Result<UnpackSummary> {
    let mut tree = Tree {
        root,
        limits,
        may_make_devices,
        parent: None,
        times: Vec::new(),
        opaque: HashSet::new(),
        buffer: vec![0; 128 << 10],
        made: UnpackSummary::default(),
    };
    while let Some(entry) = entries.next_entry()? {
        tree.made.entries += 1;
        if tree.made.entries > limits.entries {
            return Err(bad(format!("the layer has more than {} entries", limits.entries)));
        }
        tree.add(&entry, entries)
            .map_err(|e| e.context(format!("entry {} of the layer", shown(&entry.path))))?;
    }
    tree.finish()
}

/// The components of a path. It begins at the root of the image, with and without a slash.
fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(bad(format!("the path {} has \"..\", which leads out of the layer", shown(path))));
    }
    if parts.len() > DEEPEST {
        return Err(bad(format!("the path is more than {DEEPEST} directories deep")));
    }
    if let Some(long) = parts.iter().find(|p| p.len() > 255) {
        return Err(bad(format!("the name {} is longer than 255 bytes", shown(long))));
    }
    Ok(parts)
}

/// The result of a system call on an entry.
fn entry_result<T>(what: &str, name: &[u8], result: Result<T, crate::error::Errno>) -> Result<T> {
    result.map_err(|e| {
        let error = Error::sys(format!("{what} {}", shown(name)), e);
        match (what, e.0) {
            (OWNER, libc::EINVAL) => error.hint(
                "this user has too few IDs: install the package \"uidmap\", and grant 65536 IDs in /etc/subuid and /etc/subgid",
            ),
            _ => error,
        }
    })
}

/// A step that fails with EINVAL for an ID without a place in the user namespace.
const OWNER: &str = "changing the owner of";

impl Tree<'_> {
    fn add<R: Read>(&mut self, entry: &Entry, from: &mut Entries<R>) -> Result<()> {
        let parts = components(&entry.path)?;
        let Some((name, above)) = parts.split_last() else {
            return self.root_entry(entry);
        };
        if matches!(*name, b".wh.." | b".wh..." | b".wh.") {
            return Err(bad("a whiteout of \".\", \"..\" or of nothing"));
        }
        self.enter(above)?;
        if *name == OPAQUE {
            self.opaque.insert(self.path(None));
            return Ok(());
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(gone);
        }
        self.node(entry, name, from)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.node != Node::Directory {
            return Err(bad("the root of the layer is not a directory"));
        }
        self.made.has_root = true;
        let root = self.root.as_raw_fd();
        attributes(root, entry)?;
        self.times.push((Vec::new(), entry.mtime));
        Ok(())
    }

    /// Opens the directory that `above` names, making what is missing of it, as the current parent.
    fn enter(&mut self, above: &[&[u8]]) -> Result<()> {
        let written = above.join(&b'/');
        if self.parent.as_ref().is_some_and(|p| p.written == written) {
            return Ok(());
        }
        let Directory { path, fd, replaced } = walk::open(self.root.as_raw_fd(), above, Missing::Make)?;
        self.opaque.extend(replaced);
        self.parent = Some(Parent { written, path: path.join(&b'/'), fd });
        Ok(())
    }

    fn parent(&self) -> i32 {
        self.parent.as_ref().map_or(self.root.as_raw_fd(), |p| p.fd.as_raw_fd())
    }

    /// The path of the current parent without symlinks, or of a name in it.
    fn path(&self, name: Option<&[u8]>) -> Vec<u8> {
        let mut path = self.parent.as_ref().map_or_else(Vec::new, |p| p.path.clone());
        if let Some(name) = name {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name);
        }
        path
    }

    fn existing(&self, name: &CString) -> Option<Stat> {
        file::fstatat(self.parent(), name, libc::AT_SYMLINK_NOFOLLOW).ok()
    }

    /// Hides `gone` of the layers below. What this layer has of that name itself stays, and hides them too.
    fn whiteout(&mut self, gone: &[u8]) -> Result<()> {
        let name = c(gone)?;
        match self.existing(&name) {
            Some(s) if s.is_dir() => {
                self.opaque.insert(self.path(Some(gone)));
                Ok(())
            }
            Some(_) => Ok(()),
            None => entry_result(
                "marking as removed",
                gone,
                file::mknodat(self.parent(), &name, libc::S_IFCHR, 0),
            ),
        }
    }

    fn node<R: Read>(&mut self, entry: &Entry, name: &[u8], from: &mut Entries<R>) -> Result<()> {
        let file_name = c(name)?;
        let at = self.parent();
        let existing = self.existing(&file_name);
        if let Some(s) = existing {
            let keeps = s.is_dir() && entry.node == Node::Directory;
            if !keeps {
                // Of two entries with one name the last counts. A directory that has something in it is not replaced.
                let flags = if s.is_dir() { libc::AT_REMOVEDIR } else { 0 };
                entry_result("replacing", name, file::unlinkat(at, &file_name, flags))?;
            }
        }
        let make = |kind: u32, device: u64| file::mknodat(at, &file_name, kind | 0o600, device);
        match entry.node {
            Node::Directory => {
                if !existing.is_some_and(Stat::is_dir) {
                    entry_result("making the directory", name, file::mkdirat(at, &file_name, 0o700))?;
                }
                if existing.is_some_and(|s| s.kind() == libc::S_IFCHR && s.rdev == 0) {
                    // A directory in the place of what the layers below have.
                    self.opaque.insert(self.path(Some(name)));
                }
            }
            Node::File => return self.file(entry, &file_name, from),
            Node::HardLink => return self.hard_link(entry, name),
            Node::Symlink => {
                if entry.link.is_empty() {
                    return Err(bad("a symlink without a target"));
                }
                entry_result("making the symlink", name, file::symlinkat(&c(&entry.link)?, at, &file_name))?;
            }
            Node::Character | Node::Block => {
                let (major, minor) = entry.device;
                if (major, minor) == (0, 0) {
                    return Err(bad("the device 0:0, which would hide files of other layers"));
                }
                if !self.may_make_devices {
                    self.made.left_out += 1;
                    return Ok(());
                }
                let kind = if entry.node == Node::Block { libc::S_IFBLK } else { libc::S_IFCHR };
                entry_result("making the device", name, make(kind, libc::makedev(major, minor)))?;
            }
            Node::Fifo => entry_result("making the FIFO", name, make(libc::S_IFIFO, 0))?,
        }
        if entry.node == Node::Symlink {
            entry_result(OWNER, name, file::lchownat(at, &file_name, entry.uid, entry.gid))?;
            return entry_result("setting the time of", name, tree::set_times(at, &file_name, entry.mtime));
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let fd = entry_result("opening", name, path::openat(at, &file_name, flags, 0))?;
        if entry.node == Node::Directory {
            let fd = entry_result(
                "opening",
                name,
                path::openat(at, &file_name, libc::O_DIRECTORY | libc::O_NOFOLLOW, 0),
            )?;
            attributes(fd.as_raw_fd(), entry)?;
            self.times.push((self.path(Some(name)), entry.mtime));
            return Ok(());
        }
        drop(fd);
        entry_result(OWNER, name, file::lchownat(at, &file_name, entry.uid, entry.gid))?;
        entry_result("setting the permissions of", name, tree::chmodat(at, &file_name, entry.mode))?;
        entry_result("setting the time of", name, tree::set_times(at, &file_name, entry.mtime))
    }

    fn hard_link(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        let target = components(&entry.link)?;
        let Some((last, above)) = target.split_last() else {
            return Err(bad("a hard link to the root of the layer"));
        };
        if last.starts_with(WHITEOUT) {
            return Err(bad(format!("a hard link to the whiteout {}", shown(last))));
        }
        // The target is an entry of this layer, in a directory of it.
        let root = self.root.as_raw_fd();
        let from = walk::open(root, above, Missing::Refuse).map_err(|e| e.context("a hard link"))?;
        let linked = tree::linkat(from.fd.as_raw_fd(), &c(last)?, self.parent(), &c(name)?);
        match linked {
            Err(e) if e.0 == libc::ENOENT => {
                Err(bad(format!("a hard link to {}, which the layer does not have", shown(&entry.link))))
            }
            r => entry_result("making the hard link", name, r),
        }
    }

    fn file<R: Read>(&mut self, entry: &Entry, name: &CString, from: &mut Entries<R>) -> Result<()> {
        self.made.bytes = self.made.bytes.saturating_add(entry.size);
        if self.made.bytes > self.limits.bytes {
            return Err(bad(format!(
                "the files of the layer exceed the limit of {} bytes",
                self.limits.bytes
            )));
        }
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
        let bytes = name.as_bytes();
        let fd = entry_result("making the file", bytes, path::openat(self.parent(), name, flags, 0o600))?;
        let raw = fd.as_raw_fd();
        match &entry.pieces {
            None => self.copy(raw, None, bytes, from)?,
            Some(pieces) => {
                for (offset, length) in pieces {
                    self.copy(raw, Some((*offset, *length)), bytes, from)?;
                }
                entry_result("making the holes of", bytes, tree::truncate(raw, entry.size))?;
            }
        }
        attributes(raw, entry)?;
        entry_result("setting the time of", bytes, tree::set_times_of(raw, entry.mtime))
    }

    /// Copies `length` bytes of the entry to `offset`, or all of it.
    fn copy<R: Read>(
        &mut self,
        to: i32,
        piece: Option<(u64, u64)>,
        name: &[u8],
        from: &mut Entries<R>,
    ) -> Result<()> {
        if let Some((offset, _)) = piece {
            entry_result("writing", name, tree::seek(to, offset))?;
        }
        let mut left = piece.map_or(from.left(), |(_, length)| length);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let n = from.read(&mut self.buffer[..most])?;
            if n == 0 {
                return Err(bad("the archive ends in the middle of a file"));
            }
            entry_result("writing", name, sys::fd::write_all(to, &self.buffer[..n]))?;
            left -= n as u64;
        }
        Ok(())
    }

    /// The last of it: times of directories, which the making of entries has changed.
    fn finish(mut self) -> Result<UnpackSummary> {
        for (path, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            let name = if path.is_empty() { c(b".")? } else { c(&path)? };
            // A later entry may have taken its place.
            let rules = path::BENEATH | path::NO_SYMLINKS;
            if let Ok(dir) = path::openat2(self.root.as_raw_fd(), &name, libc::O_DIRECTORY, rules) {
                entry_result("setting the time of", &path, tree::set_times_of(dir.as_raw_fd(), mtime))?;
            }
        }
        self.made.opaque = self.opaque.into_iter().collect();
        self.made.opaque.sort();
        Ok(self.made)
    }
}

/// Owner, permissions and extended attributes of an open file. The owner comes first: to change it clears set-user-id bits and
/// capabilities.
fn attributes(fd: i32, entry: &Entry) -> Result<()> {
    let name = &entry.path;
    entry_result(OWNER, name, file::fchown(fd, entry.uid, entry.gid))?;
    entry_result("setting the permissions of", name, file::fchmod(fd, entry.mode))?;
    for (key, value) in &entry.xattrs {
        if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
            return Err(bad(format!(
                "the attribute {}, which would change how layers are put together",
                shown(key)
            )));
        }
        let carried = key.as_slice() == b"security.capability"
            || key.starts_with(b"user.")
            || key.starts_with(b"system.posix_acl_");
        // Others are about the host that made the archive: labels of its security module, what its files were packed with.
        if !carried {
            continue;
        }
        if value.len() > LONGEST_XATTR || key.len() > 255 {
            return Err(bad(format!("the attribute {} is too long", shown(key))));
        }
        match file::setxattr(fd, &c(key)?, value) {
            // The file system cannot have it: a program that needs it will report that.
            Err(e) if e.0 == libc::EOPNOTSUPP => {}
            r => entry_result(&format!("setting the attribute {} of", shown(key)), name, r)?,
        }
    }
    Ok(())
}
