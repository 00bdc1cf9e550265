//! The root under construction: where things go, with as few system calls as that can be found out.
//!
//! Consecutive operations often work in one directory (`/dev`, `/sys/fs/cgroup`), so the last one stays open. And
//! descriptors are not closed one by one: all go at once, every now and then and in the end.

use crate::error::Errno;
use crate::kernel::inroot::{self, Make};
use crate::plan::op::Hold;
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
    /// Symlinks may have led to it.
    parent_linked: bool,
    parent_path: [u8; PATH_MAX],
    parent_len: usize,
    /// Descriptors that were opened and not closed.
    pile: usize,
    /// Descriptors from here on are the child's own.
    base: RawFd,
    /// Mounts that cover what is masked, to copy from: they are attached.
    pub null: Option<RawFd>,
    pub empty: Option<RawFd>,
    /// Mounts that are changed later.
    held: [Option<RawFd>; 2],
    /// An empty file system was mounted last, at `parent_path`, which is not open.
    empty_here: bool,
}

/// A place to mount on: it stays the same one, whatever its name means later.
#[derive(Clone, Copy)]
pub(super) struct Target {
    fd: RawFd,
    /// It existed before.
    pub existed: bool,
    /// Symlinks may have led here.
    linked: bool,
    /// It is the root itself.
    pub root: bool,
}

impl Target {
    /// Attaches a detached mount here.
    pub fn attach(&self, tree: RawFd) -> SysResult<()> {
        mount::move_mount(tree, self.fd, c"")
    }

    /// Status of the file here.
    pub fn stat(&self) -> SysResult<file::Stat> {
        file::fstat(self.fd)
    }

    /// Mounts a new file system here. The place is named by its descriptor through the host's procfs, so no path of
    /// the container is looked up.
    pub fn mount(&self, source: &CStr, kind: &CStr, flags: u64, data: &CStr) -> SysResult<()> {
        let path = path::of_descriptor(self.fd);
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno(libc::ENAMETOOLONG))?;
        mount::mount(source, path, kind, flags, data)
    }

    /// Refuses a place inside a procfs that symlinks have led to: a destination that names it is refused before
    /// (`plan::validate`). Only the root of another procfs may cover the root of one.
    pub fn keeps_proc(&self, tree: Option<RawFd>) -> SysResult<()> {
        if !self.linked || file::filesystem_type(self.fd)? != libc::PROC_SUPER_MAGIC {
            return Ok(());
        }
        match tree {
            Some(tree) if is_procfs_root(self.fd)? && is_procfs_root(tree)? => Ok(()),
            _ => Err(Errno(libc::EPERM)),
        }
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd
    }
}

/// Whether `fd` is the root of a procfs.
pub(super) fn is_procfs_root(fd: RawFd) -> SysResult<bool> {
    /// PROC_ROOT_INO of the kernel.
    const ROOT_INODE: u64 = 1;
    Ok(file::fstat(fd)?.ino == ROOT_INODE && file::filesystem_type(fd)? == libc::PROC_SUPER_MAGIC)
}

impl Places {
    /// The root is `root`; descriptors below `base` are not the child's.
    pub fn new(root: OwnedFd, base: RawFd) -> Places {
        Places::with_pile(root, base, 0)
    }

    /// As [`Places::new`]; `pile` descriptors are open that nobody will close.
    pub fn with_pile(root: OwnedFd, base: RawFd, pile: usize) -> Places {
        Places {
            root: root.into_raw_fd(),
            parent: None,
            parent_linked: false,
            parent_path: [0; PATH_MAX],
            parent_len: 0,
            pile,
            base,
            null: None,
            empty: None,
            held: [None; 2],
            empty_here: false,
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
        let [a, b] = self.held;
        let keep = [Some(self.root), self.parent, self.null, self.empty, a, b];
        fd::close_all_but(self.base, keep.map(|fd| fd.unwrap_or(-1)))
    }

    /// Keeps the mount `tree`, which is at `path` now, for [`Places::held`]. What comes below goes into it.
    pub fn hold(&mut self, place: Hold, tree: RawFd, path: &CStr) {
        self.held[place as usize] = Some(tree);
        self.empty_here = false;
        let path = path.to_bytes_with_nul();
        if path.len() <= PATH_MAX {
            self.parent_path[..path.len()].copy_from_slice(path);
            self.parent_len = path.len() - 1;
            (self.parent, self.parent_linked) = (Some(tree), false);
        }
    }

    /// The mount that was kept.
    pub fn held(&self, place: Hold) -> SysResult<RawFd> {
        self.held[place as usize].ok_or(Errno(libc::EBADF))
    }

    /// The mount `tree` covers the root: it is the root from here on.
    pub fn replace_root(&mut self, tree: RawFd) {
        self.root = tree;
        self.parent = None;
        self.empty_here = false;
    }

    /// Opens an existing path.
    pub fn open(&mut self, path: &CStr) -> SysResult<Target> {
        if let (Some(fd), true) = (self.parent, self.is_parent(path.to_bytes())) {
            return Ok(Target { fd, existed: true, linked: self.parent_linked, root: path.is_empty() });
        }
        let (fd, linked) = inroot::find(self.root, path)?;
        self.found(fd, linked, path)
    }

    /// The place `path`, made when it is missing.
    pub fn target(&mut self, path: &CStr, make: Make) -> SysResult<Target> {
        let (dir, name) = split(path);
        if !self.is_parent(dir) {
            // In an empty file system nothing need be looked for.
            if !self.is_empty(dir) {
                match inroot::find(self.root, path) {
                    Err(Errno(libc::ENOENT)) => {}
                    Err(e) => return Err(e),
                    Ok((fd, linked)) => return self.found(fd, linked, path),
                }
            }
            self.enter(dir)?;
        }
        let here = self.parent.unwrap_or(self.root);
        let (made, kind) = match make {
            Make::Directory => (file::mkdirat(here, name, 0o755), libc::O_DIRECTORY),
            Make::File => (file::mknodat(here, name, libc::S_IFREG | 0o755, 0), 0),
        };
        // Something else may have come in its place since.
        let resolve = path::BENEATH | path::NO_SYMLINKS;
        if made.is_ok()
            && let Ok(fd) = path::openat2(here, name, libc::O_PATH | kind, resolve)
        {
            let linked = self.parent_linked;
            return Ok(Target { fd: self.pile(fd), existed: false, linked, root: false });
        }
        // Whatever exists, the careful way finds it, or reports why it cannot be made.
        let fd = inroot::open_or_make(self.root, path, make)?;
        self.found(fd, true, path)
    }

    fn found(&mut self, fd: OwnedFd, linked: bool, path: &CStr) -> SysResult<Target> {
        let fd = self.pile(fd);
        let root = path.is_empty() || linked && self.is_root(fd)?;
        Ok(Target { fd, existed: true, linked, root })
    }

    fn is_root(&self, fd: RawFd) -> SysResult<bool> {
        let (a, b) = (file::fstat(fd)?, file::fstat(self.root)?);
        Ok((a.dev, a.ino) == (b.dev, b.ino) && file::mount_id(fd)? == file::mount_id(self.root)?)
    }

    /// Makes the directory `path` in a mount that is held, which is the child's own, and attaches `tree` to it, as long as all
    /// goes well: else the way by [`Places::target`] finds out why. A symlink in its place is not followed.
    pub fn attach_in_held(&mut self, path: &CStr, tree: RawFd) -> bool {
        let (dir, name) = split(path);
        match self.parent {
            Some(here) if self.held.contains(&Some(here)) && self.is_parent(dir) => {
                file::mkdirat(here, name, 0o755).is_ok() && mount::move_mount(tree, here, name).is_ok()
            }
            _ => false,
        }
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

    /// An empty file system was mounted at `path`.
    pub fn emptied(&mut self, path: &CStr) {
        self.parent = None;
        let path = path.to_bytes_with_nul();
        if path.len() <= PATH_MAX {
            self.parent_path[..path.len()].copy_from_slice(path);
            self.parent_len = path.len() - 1;
            self.empty_here = true;
        }
    }

    fn is_empty(&self, dir: &[u8]) -> bool {
        self.empty_here && self.parent.is_none() && self.parent_path[..self.parent_len] == *dir
    }

    fn is_parent(&self, dir: &[u8]) -> bool {
        self.parent.is_some() && self.parent_path[..self.parent_len] == *dir
    }

    fn enter(&mut self, dir: &[u8]) -> SysResult<()> {
        self.parent = None;
        self.empty_here = false;
        if dir.len() >= PATH_MAX {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        self.parent_path[..dir.len()].copy_from_slice(dir);
        self.parent_path[dir.len()] = 0;
        self.parent_len = dir.len();
        let path =
            CStr::from_bytes_with_nul(&self.parent_path[..=dir.len()]).map_err(|_| Errno(libc::EINVAL))?;
        let (fd, linked) = match inroot::find(self.root, path) {
            Err(Errno(libc::ENOENT)) => (inroot::open_or_make(self.root, path, Make::Directory)?, true),
            r => r?,
        };
        self.parent = Some(self.pile(fd));
        self.parent_linked = linked;
        Ok(())
    }

    /// The directory `path`, made when it is missing, to which no symlink may lead.
    pub fn plain_directory(&mut self, path: &CStr) -> SysResult<Target> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let resolve = path::IN_ROOT | path::NO_SYMLINKS | path::NO_MAGICLINKS;
        let fd = match path::openat2(self.root, if path.is_empty() { c"." } else { path }, flags, resolve) {
            Err(Errno(libc::ENOENT)) => {
                inroot::open_or_make(self.root, path, Make::Directory)?;
                path::openat2(self.root, path, flags, resolve)?
            }
            r => r?,
        };
        self.found(fd, false, path)
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
