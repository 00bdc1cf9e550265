//! The root under construction: where things go, with as few system calls as that can be found out.
//!
//! Consecutive operations often work in one directory (`/dev`, `/sys/fs/cgroup`), so the last one stays open. And
//! descriptors are not closed one by one: all go at once, every now and then and in the end.

use crate::error::Errno;
use crate::kernel::inroot::{self, Make};
use crate::sys::{SysResult, fd, file, mount, path};
use std::ffi::CStr;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

/// Descriptors that may pile up before they are closed.
const PILE: usize = 64;
const PATH_MAX: usize = 4096;

/// Directory descriptors of the root.
pub(super) struct Places {
    root: RawFd,
    /// The directory that the last operation worked in.
    parent: Option<RawFd>,
    parent_path: [u8; PATH_MAX],
    parent_len: usize,
    /// Descriptors that were opened and not closed.
    pile: usize,
    /// Descriptors from here on are the child's own.
    base: RawFd,
    /// Descriptors that stay open: the root and mounts to copy from.
    pub null: Option<RawFd>,
    pub empty: Option<RawFd>,
}

/// A place to mount on.
pub(super) struct Target<'a> {
    dir: RawFd,
    /// Empty for `dir` itself. A name is only used right after it was made, as something that is no symlink.
    name: &'a CStr,
    /// It was there before.
    pub existed: bool,
}

impl Target<'_> {
    /// Attaches a detached mount here.
    pub fn attach(&self, tree: RawFd) -> SysResult<()> {
        mount::move_mount(tree, self.dir, self.name)
    }

    /// What is here.
    pub fn stat(&self) -> SysResult<file::Stat> {
        file::fstatat(self.dir, self.name, libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW)
    }

    /// Mounts a new file system here. The place is named by its descriptor through the host's procfs, so no path of
    /// the container is looked up.
    pub fn mount(&self, source: &CStr, kind: &CStr, flags: u64, data: &CStr) -> SysResult<()> {
        let mut buf = [0u8; 320];
        let path = self.proc_path(&mut buf).ok_or(Errno(libc::ENAMETOOLONG))?;
        mount::mount(source, path, kind, flags, data)
    }

    /// The path below /proc/self/fd.
    fn proc_path<'b>(&self, buf: &'b mut [u8; 320]) -> Option<&'b CStr> {
        const PREFIX: &[u8] = b"/proc/self/fd/";
        buf[..PREFIX.len()].copy_from_slice(PREFIX);
        let mut len = PREFIX.len() + super::process::decimal(self.dir as u32, &mut buf[PREFIX.len()..]);
        if !self.name.is_empty() {
            buf[len] = b'/';
            let name = self.name.to_bytes();
            buf.get_mut(len + 1..len + 1 + name.len())?.copy_from_slice(name);
            len += 1 + name.len();
        }
        *buf.get_mut(len)? = 0;
        CStr::from_bytes_with_nul(&buf[..=len]).ok()
    }

    /// The directory that is here, as a descriptor or a name in one.
    pub fn at(&self) -> (RawFd, &CStr) {
        (self.dir, self.name)
    }
}

impl Places {
    /// The root is `root`; descriptors below `base` are not the child's.
    pub fn new(root: OwnedFd, base: RawFd) -> Places {
        Places {
            root: root.into_raw_fd(),
            parent: None,
            parent_path: [0; PATH_MAX],
            parent_len: 0,
            pile: 0,
            base,
            null: None,
            empty: None,
        }
    }

    pub fn root(&self) -> RawFd {
        self.root
    }

    /// Takes a descriptor that nobody will close.
    pub fn pile(&mut self, fd: OwnedFd) -> RawFd {
        self.pile += 1;
        fd.into_raw_fd()
    }

    /// Closes what has piled up, when it is enough. Between operations only.
    pub fn sweep(&mut self) -> SysResult<()> {
        if self.pile < PILE {
            return Ok(());
        }
        self.pile = 0;
        let keep = [Some(self.root), self.parent, self.null, self.empty];
        fd::close_all_but(self.base, keep.map(|fd| fd.unwrap_or(-1)))
    }

    /// Opens an existing path.
    pub fn open(&mut self, path: &CStr) -> SysResult<RawFd> {
        if let (Some(parent), true) = (self.parent, self.is_parent(path.to_bytes())) {
            return Ok(parent);
        }
        let fd = inroot::open(self.root, path)?;
        Ok(self.pile(fd))
    }

    /// The place `path`, made when it is missing.
    pub fn target<'a>(&mut self, path: &'a CStr, make: Make) -> SysResult<Target<'a>> {
        let (dir, name) = split(path);
        if !self.is_parent(dir) {
            match inroot::open(self.root, path) {
                Err(Errno(libc::ENOENT)) => {}
                found => return found.map(|fd| self.found(fd)),
            }
            self.enter(dir)?;
        }
        let here = self.parent.unwrap_or(self.root);
        let made = match make {
            Make::Directory => file::mkdirat(here, name, 0o755),
            Make::File => file::mknodat(here, name, libc::S_IFREG | 0o755, 0),
        };
        match made {
            Ok(()) => Ok(Target { dir: here, name, existed: false }),
            // Whatever it is, the careful way finds it, or tells why it cannot be made.
            Err(_) => inroot::open_or_make(self.root, path, make).map(|fd| self.found(fd)),
        }
    }

    fn found<'a>(&mut self, fd: OwnedFd) -> Target<'a> {
        Target { dir: self.pile(fd), name: c"", existed: true }
    }

    /// The directory that `path` lies in, made when it is missing, and its last component.
    pub fn parent_of<'a>(&mut self, path: &'a CStr) -> SysResult<(RawFd, &'a CStr)> {
        let (dir, name) = split(path);
        if name.is_empty() {
            return Err(Errno(libc::EINVAL));
        }
        if !self.is_parent(dir) {
            self.enter(dir)?;
        }
        Ok((self.parent.unwrap_or(self.root), name))
    }

    /// Something was mounted at `path`: a directory below it that is open lies hidden under the mount now.
    pub fn covered(&mut self, path: &CStr) {
        let path = path.to_bytes();
        let parent = &self.parent_path[..self.parent_len];
        if self.parent.is_some()
            && parent
                .strip_prefix(path)
                .is_some_and(|rest| path.is_empty() || rest.is_empty() || rest[0] == b'/')
        {
            self.parent = None;
        }
    }

    fn is_parent(&self, dir: &[u8]) -> bool {
        self.parent.is_some() && self.parent_path[..self.parent_len] == *dir
    }

    fn enter(&mut self, dir: &[u8]) -> SysResult<()> {
        self.parent = None;
        if dir.len() >= PATH_MAX {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        self.parent_path[..dir.len()].copy_from_slice(dir);
        self.parent_path[dir.len()] = 0;
        self.parent_len = dir.len();
        let path =
            CStr::from_bytes_with_nul(&self.parent_path[..=dir.len()]).map_err(|_| Errno(libc::EINVAL))?;
        let fd = inroot::open_or_make(self.root, path, Make::Directory)?;
        self.parent = Some(self.pile(fd));
        Ok(())
    }

    /// Opens `path`, which must be a directory that no symlink leads to.
    pub fn plain_directory(&mut self, path: &CStr) -> SysResult<RawFd> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let resolve = path::IN_ROOT | path::NO_SYMLINKS | path::NO_MAGICLINKS;
        let fd = path::openat2(self.root, path, flags, resolve)?;
        Ok(self.pile(fd))
    }

    /// A place that is open already.
    pub fn opened<'a>(&self, fd: RawFd) -> Target<'a> {
        Target { dir: fd, name: c"", existed: true }
    }
}

/// Directory and last component of a path without leading slash.
fn split(path: &CStr) -> (&[u8], &CStr) {
    let bytes = path.to_bytes();
    match bytes.iter().rposition(|b| *b == b'/') {
        Some(at) => {
            let name = CStr::from_bytes_with_nul(&path.to_bytes_with_nul()[at + 1..]);
            (&bytes[..at], name.unwrap_or(c""))
        }
        None => (&bytes[..0], path),
    }
}
