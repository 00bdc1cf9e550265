//! The directory of the records: `ROOT/ID/state.json`, with the bundle's config.json beside it.
//!
//! Readers take no lock: a record is replaced as a whole by rename(2). Commands that change a container exclude
//! each other by flock(2) on its directory; the kernel lets go of the lock when their process ends.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::id::ContainerId;
use super::model::{Record, VERSION};
use crate::error::{Errno, Error, Kind, Result};
use crate::sys::{self, CWD, copy, fd, file, path};

const RECORD: &CStr = c"state.json";
const RECORD_TEMPORARY: &CStr = c"state.json.new";
const CONFIG: &CStr = c"config.json";
/// The socket on which a created container's process waits for `start`.
const START: &CStr = c"start";
const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY;

/// The directory of all records.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at `root`, an absolute path. Nothing is touched yet.
    pub fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// Where the records are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the directory of a new container, and the store's own when it is missing, and locks it.
    ///
    /// # Errors
    /// [`Kind::Exists`] when there is a container of that id; [`Kind::System`] when the directory cannot be made.
    pub fn create(&self, id: &ContainerId) -> Result<ContainerDir> {
        let root = self.open_or_make_root()?;
        let name = name_of(id);
        if let Err(e) = file::mkdirat(root.as_raw_fd(), &name, 0o700) {
            if e == Errno(libc::EEXIST) {
                return Err(Error::new(
                    Kind::Exists,
                    format!("container with given ID already exists: {id}"),
                ));
            }
            return Err(self.cannot("making the state directory", self.root.join(id.as_str()), e));
        }
        // It is this process's own, unlike one that was found.
        let mut entry = self.open_directory(root, id)?.ok_or_else(|| vanished(id))?;
        // Another process with the lock may be deleting the empty directory; the record cannot be written then.
        entry.lock(Duration::from_secs(10))?;
        Ok(entry)
    }

    /// The container `id`.
    ///
    /// # Errors
    /// [`Kind::NotFound`], with runc's words `container does not exist`.
    pub fn open(&self, id: &ContainerId) -> Result<ContainerDir> {
        self.find(id)?.ok_or_else(|| absent(id))
    }

    /// The container `id`, if there is one.
    ///
    /// # Errors
    /// [`Kind::System`] when the directories cannot be read or belong to somebody else.
    pub fn find(&self, id: &ContainerId) -> Result<Option<ContainerDir>> {
        match path::openat(CWD, &c_path(&self.root)?, DIRECTORY, 0) {
            Ok(root) => self.open_entry(root, id),
            Err(Errno(libc::ENOENT)) => Ok(None),
            Err(e) => Err(self.cannot("opening the state directory", self.root.clone(), e)),
        }
    }

    /// The names that may be those of containers, sorted; none when the store has not been made.
    ///
    /// # Errors
    /// [`Kind::System`] when the directory cannot be read.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let cannot = |e| self.cannot("reading the state directory", self.root.clone(), e);
        let root = match path::openat(CWD, &c_path(&self.root)?, DIRECTORY, 0) {
            Ok(root) => root,
            Err(Errno(libc::ENOENT)) => return Ok(Vec::new()),
            Err(e) => return Err(cannot(e)),
        };
        let names = names_in(root.as_raw_fd()).map_err(cannot)?;
        let id = |n: CString| n.into_string().ok().and_then(|n| ContainerId::new(n).ok());
        let mut ids: Vec<ContainerId> = names.into_iter().filter_map(id).collect();
        ids.sort();
        Ok(ids)
    }

    fn open_directory(&self, root: OwnedFd, id: &ContainerId) -> Result<Option<ContainerDir>> {
        let shown = self.root.join(id.as_str());
        let dir = match path::openat(root.as_raw_fd(), &name_of(id), DIRECTORY | libc::O_NOFOLLOW, 0) {
            Ok(dir) => dir,
            // ENOTDIR: a file or a symlink of that name is not a container.
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
            Err(e) => return Err(self.cannot("opening the state directory", shown, e)),
        };
        Ok(Some(ContainerDir { root, dir, id: id.clone(), path: shown }))
    }

    fn open_entry(&self, root: OwnedFd, id: &ContainerId) -> Result<Option<ContainerDir>> {
        let Some(entry) = self.open_directory(root, id)? else { return Ok(None) };
        // The author of a record decides which processes we kill and which cgroups we remove.
        let stat = file::fstat(entry.fd());
        let owner =
            stat.map_err(|e| self.cannot("looking at the state directory", entry.path.clone(), e))?.uid;
        let me = crate::sys::cred::geteuid();
        if owner != me {
            let what =
                format!("the state directory {:?} belongs to user {owner}, not to user {me}", entry.path);
            return Err(Error::new(Kind::System, what));
        }
        Ok(Some(entry))
    }

    fn open_or_make_root(&self) -> Result<OwnedFd> {
        let c_root = c_path(&self.root)?;
        match path::openat(CWD, &c_root, DIRECTORY, 0) {
            Err(Errno(libc::ENOENT)) => {}
            r => return r.map_err(|e| self.cannot("opening the state directory", self.root.clone(), e)),
        }
        let above: Vec<&Path> = self.root.ancestors().collect();
        for d in above.into_iter().rev().skip(1) {
            match file::mkdirat(CWD, &c_path(d)?, 0o700) {
                Ok(()) | Err(Errno(libc::EEXIST)) => {}
                Err(e) => return Err(self.cannot("making the state directory", d.to_owned(), e)),
            }
        }
        path::openat(CWD, &c_root, DIRECTORY, 0)
            .map_err(|e| self.cannot("opening the state directory", self.root.clone(), e))
    }

    fn cannot(&self, doing: &str, path: PathBuf, e: Errno) -> Error {
        let error = Error::sys(format!("{doing} {path:?}"), e);
        match e.0 {
            libc::EACCES | libc::EPERM | libc::EROFS | libc::ENOSPC | libc::EDQUOT => {
                error.hint(format!("\"--root\" chooses a directory other than {:?}", self.root))
            }
            _ => error,
        }
    }
}

/// The directory of one container.
#[derive(Debug)]
pub struct ContainerDir {
    root: OwnedFd,
    dir: OwnedFd,
    id: ContainerId,
    path: PathBuf,
}

impl ContainerDir {
    /// The ID of the container.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The directory, for other files that a container needs. It is close-on-exec.
    pub fn fd(&self) -> RawFd {
        self.dir.as_raw_fd()
    }

    /// Where the directory is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Excludes other commands that change this container, as long as this entry lives. Read the record again
    /// afterwards: another command may have changed it in the meantime.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when another command still works on the container after `wait`.
    pub fn lock(&mut self, wait: Duration) -> Result<()> {
        if self.try_lock(wait)? {
            return Ok(());
        }
        let what = format!("waiting for another command on container {} to finish ({wait:?})", self.id);
        Err(Error::new(Kind::Timeout, what))
    }

    /// As [`ContainerDir::lock`]; `false` when the time is over.
    ///
    /// # Errors
    /// [`Kind::System`] when the file system has no locks.
    pub fn try_lock(&mut self, wait: Duration) -> Result<bool> {
        let deadline = Instant::now() + wait;
        let mut pause = Duration::from_micros(200);
        loop {
            match file::flock(self.fd(), libc::LOCK_EX | libc::LOCK_NB) {
                Ok(()) => return Ok(true),
                Err(Errno(libc::EWOULDBLOCK | libc::EINTR)) => {}
                Err(e) => return Err(Error::sys(format!("locking {:?}", self.path), e)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Lets other commands continue, even if a child process still has a copy of the descriptor.
    pub fn unlock(&mut self) {
        // It cannot fail: the descriptor is open, and there is nothing to wait for.
        let _ = file::flock(self.fd(), libc::LOCK_UN);
    }

    /// The record.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none (any more); [`Kind::System`] when it is damaged.
    pub fn record(&self) -> Result<Record> {
        self.find_record()?.ok_or_else(|| absent(&self.id))
    }

    /// The record; `None` for a directory whose maker was killed before it wrote one, or that is being removed.
    ///
    /// # Errors
    /// [`Kind::System`] when it cannot be read or is damaged.
    pub fn find_record(&self) -> Result<Option<Record>> {
        let bytes = match self.read(RECORD) {
            Ok(bytes) => bytes,
            Err(Errno(libc::ENOENT)) => return Ok(None),
            Err(e) => return Err(Error::sys(format!("reading {:?}", self.path.join("state.json")), e)),
        };
        let damaged = |why: String| {
            let what = format!("the state of container {} in {:?} is damaged: {why}", self.id, self.path);
            Error::new(Kind::System, what).hint("\"delete --force\" removes it")
        };
        // Text that is known to be UTF-8 is not looked at again, string by string.
        let record = match std::str::from_utf8(&bytes) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(&bytes),
        };
        let record: Record = record.map_err(|e| damaged(e.to_string()))?;
        if record.version > VERSION {
            let what =
                format!("container {} was made by a newer orun (state version {})", self.id, record.version);
            return Err(Error::new(Kind::Unsupported, what));
        }
        if record.id != self.id.as_str() {
            return Err(damaged(format!("it is that of {:?}", record.id)));
        }
        Ok(Some(record))
    }

    /// Replaces the record as a whole. Hold the lock.
    ///
    /// # Errors
    /// [`Kind::System`], as for a full disk; the old record is then still there.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|e| {
            Error::new(Kind::Config, format!("the state of container {} cannot be written: {e}", self.id))
        })?;
        self.write(RECORD_TEMPORARY, &bytes)
            .and_then(|()| file::renameat(self.fd(), RECORD_TEMPORARY, RECORD))
            .map_err(|e| self.cannot_write("state.json", e))
    }

    /// The bundle's config.json as it was when the container was made.
    ///
    /// # Errors
    /// [`Kind::System`] when it cannot be read.
    pub fn config(&self) -> Result<Vec<u8>> {
        self.read(CONFIG).map_err(|e| Error::sys(format!("reading {:?}", self.path.join("config.json")), e))
    }

    /// Keeps the bundle's config.json.
    ///
    /// # Errors
    /// [`Kind::System`], as for a full disk.
    pub fn write_config(&self, raw: &[u8]) -> Result<()> {
        self.write(CONFIG, raw).map_err(|e| self.cannot_write("config.json", e))
    }

    /// Removes the directory with all files in it, the record last: until then everything can be tried again.
    ///
    /// # Errors
    /// [`Kind::System`].
    pub fn remove(self) -> Result<()> {
        let here = self.fd();
        let gone = |r: sys::SysResult<()>| match r {
            Err(Errno(libc::ENOENT)) => Ok(()),
            r => r,
        };
        let directory = || file::unlinkat(self.root.as_raw_fd(), &name_of(&self.id), libc::AT_REMOVEDIR);
        let the_rest = || {
            let mut names = names_in(here)?;
            names.sort_by_key(|n| n.as_c_str() == RECORD);
            names.iter().try_for_each(|n| gone(remove_one(here, n)))
        };
        // There is mostly nothing else in it.
        let result = gone(file::unlinkat(here, CONFIG, 0)).and_then(|()| {
            gone(file::unlinkat(here, RECORD, 0))?;
            let is_full = |r: &sys::SysResult<()>| matches!(r, Err(Errno(libc::ENOTEMPTY | libc::EEXIST)));
            let mut removed = directory();
            if is_full(&removed) {
                // A container that was created and not run has this, and mostly nothing else.
                gone(file::unlinkat(here, START, 0))?;
                removed = directory();
            }
            if is_full(&removed) { the_rest().and_then(|()| directory()) } else { removed }
        });
        // ENOENT for reading: the directory is removed already, and there may be a new one of the same name.
        let result = gone(result);
        result.map_err(|e| Error::sys(format!("removing the state directory {:?}", self.path), e))
    }

    fn read(&self, name: &CStr) -> sys::SysResult<Vec<u8>> {
        let f = path::openat(self.fd(), name, libc::O_RDONLY | libc::O_NOFOLLOW, 0)?;
        let mut bytes = Vec::with_capacity(4096);
        loop {
            fd::append(f.as_raw_fd(), &mut bytes)?;
            // A read of a regular file is only short at its end.
            if bytes.len() < bytes.capacity() {
                return Ok(bytes);
            }
            bytes.reserve(bytes.len());
        }
    }

    fn write(&self, name: &CStr, bytes: &[u8]) -> sys::SysResult<()> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW;
        let f = path::openat(self.fd(), name, flags, 0o600)?;
        fd::write_all(f.as_raw_fd(), bytes)
    }

    fn cannot_write(&self, name: &str, e: Errno) -> Error {
        if e == Errno(libc::ENOENT) {
            // The directory is gone: only a forced delete does that to a container in the making.
            return vanished(&self.id);
        }
        let error = Error::sys(format!("writing {:?}", self.path.join(name)), e);
        match e.0 {
            libc::ENOSPC | libc::EDQUOT | libc::EROFS => error.hint("\"--root\" chooses another directory"),
            _ => error,
        }
    }
}

fn absent(id: &ContainerId) -> Error {
    Error::new(Kind::NotFound, format!("container does not exist: {id}"))
}

fn vanished(id: &ContainerId) -> Error {
    Error::new(Kind::State, format!("container {id} was deleted while it was being created"))
}

fn name_of(id: &ContainerId) -> CString {
    CString::new(id.as_str()).expect("an id has no NUL")
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(Kind::Usage, format!("the state directory {path:?} has a NUL in its name")))
}

/// The names of all files in the directory `fd`.
/// Removes a file, or a directory of files.
fn remove_one(dir: RawFd, name: &CStr) -> sys::SysResult<()> {
    match file::unlinkat(dir, name, 0) {
        Err(Errno(libc::EISDIR)) => {
            let below = path::openat(dir, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
            let below_fd = below.as_raw_fd();
            names_in(below_fd)?.iter().try_for_each(|n| file::unlinkat(below_fd, n, 0))?;
            file::unlinkat(dir, name, libc::AT_REMOVEDIR)
        }
        r => r,
    }
}

fn names_in(fd: RawFd) -> sys::SysResult<Vec<CString>> {
    let mut names = Vec::new();
    let mut buf = [0; 4096];
    loop {
        match copy::getdents(fd, &mut buf)? {
            0 => return Ok(names),
            n => names.extend(copy::names(&buf[..n]).map(CStr::to_owned)),
        }
    }
}

#[cfg(test)]
mod tests;
