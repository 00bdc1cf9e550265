//! State that outlives the supervisor: a snapshot and the changes since, each on record before it counts.
//!
//! A directory holds `snapshot` and `journal.N`. The snapshot names the journal that continues it, so that a
//! supervisor that dies while it makes a new one neither loses a change nor applies one twice.
//!
//! Only what an interrupted append left at the end is ever cut off. A journal that is damaged anywhere else, or that a newer
//! program wrote, is not opened and not changed.

pub mod disk;
pub mod frame;
pub mod repair;
pub mod store;

use crate::error::{Errno, Error, Kind, Result};
use crate::sys::file;
use frame::FrameKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{Content, Found};

/// How often a lock is tried, 20 ms apart.
const LOCK_TRIES: u32 = 100;

/// Whether what is appended shall survive a crash of the host, or only that of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Over a crash of the host: fsync(2) before a record counts.
    Host,
    /// Over a crash of the program only.
    Process,
}

/// A journal that is open for appending.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// None: it can only be read.
    file: Option<File>,
    number: u64,
    size: u64,
    tag: String,
    durability: Durability,
    /// Held as long as the journal is open.
    _lock: Option<File>,
}

/// The content of a journal.
#[derive(Debug)]
pub struct Replay<S, R> {
    /// The state that the records follow.
    pub snapshot: Option<S>,
    /// Changes, oldest first.
    pub records: Vec<R>,
    /// An older program wrote it: to be rewritten by [`Journal::compact`], so that no older program changes it.
    pub old: bool,
}

/// The kind of journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Boot or purpose that the records belong to.
    pub tag: String,
    /// The number of the journal that continues a snapshot.
    pub next: u64,
    /// The program that wrote this; empty before version 2.
    #[serde(default)]
    pub writer: String,
}

impl Head {
    fn new(tag: &str, next: u64) -> Head {
        Head { tag: tag.to_owned(), next, writer: concat!("orund ", env!("CARGO_PKG_VERSION")).to_owned() }
    }
}

impl Journal {
    /// Opens the journal in `dir`, or begins it. What belongs to another `tag`, such as an earlier boot, is dropped, if it is
    /// of a journal that does not outlive the boot.
    ///
    /// # Errors
    /// [`Kind::State`] when another process has it open; [`Kind::Config`] when it is damaged or of a newer program: it is
    /// as it was then; the directory cannot be made or read.
    pub fn open<S: Serialize + DeserializeOwned + Default, R: DeserializeOwned>(
        dir: &Path,
        tag: &str,
        durability: Durability,
    ) -> Result<(Journal, Replay<S, R>)> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| Error::sys(format!("making the state directory {dir:?}"), e))?;
        let lock = lock(dir)?;
        let content = Content::read(dir)?;
        let found = content.check(dir, tag, durability)?;
        let mut journal = Journal::bare(dir, tag, durability, found.number, lock);
        journal.size = found.end;
        let replay = found.replay(dir)?;
        match journal.begin::<S>(&found) {
            Ok(()) => journal.remove_others(),
            Err(e) if read_only(&e) => crate::log::warn(e.context("the state can only be read")),
            Err(e) => return Err(e),
        }
        Ok((journal, replay))
    }

    /// Opens what was found, without its torn end; what is new gets a snapshot of nothing, which names it.
    fn begin<S: Serialize + Default>(&mut self, found: &Found) -> Result<()> {
        let (end, torn) = (found.end, found.torn);
        self.open_to_append()?;
        if torn > 0 {
            crate::log::warn(format!(
                "the last {torn} bytes of {:?} (from byte {end} on) were an incomplete record and are cut off: the write was \
                 interrupted, and the change was never acknowledged",
                self.path()
            ));
        }
        if found.is_new { self.write_snapshot(&S::default(), self.number) } else { Ok(()) }
    }

    /// A journal to be started over by [`Journal::compact`], after the one of that number.
    fn bare(dir: &Path, tag: &str, durability: Durability, number: u64, lock: Option<File>) -> Journal {
        let (dir, tag) = (dir.to_owned(), tag.to_owned());
        Journal { dir, file: None, number, size: 0, tag, durability, _lock: lock }
    }

    fn path(&self) -> PathBuf {
        store::path(&self.dir, self.number)
    }

    /// Whether changes can be recorded.
    pub fn is_writable(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes since the last snapshot.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens the file and cuts off an incomplete record.
    fn open_to_append(&mut self) -> Result<()> {
        let path = self.path();
        let fail = |e| Error::sys(format!("opening {path:?}"), e);
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let file = options.open(&path).map_err(fail)?;
        file.set_len(self.size).map_err(fail)?;
        self.file = Some(file);
        if self.size == 0 {
            let mut head = Vec::new();
            frame::encode(&mut head, FrameKind::Tag, &json(&Head::new(&self.tag, self.number))?);
            self.write(&head)?;
            self.sync_dir()?;
        }
        Ok(())
    }

    fn remove_others(&self) {
        let keep = self.path();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let other = entry.file_name().to_string_lossy().starts_with("journal.") && path != keep;
            if other {
                // Left over, it does no harm: only the number in the snapshot counts.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Appends records. After an error there is none of them.
    ///
    /// # Errors
    /// The disk is full or can only be read, or writing to it fails.
    pub fn append<R: Serialize>(&mut self, records: &[R]) -> Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            frame::encode(&mut bytes, FrameKind::Record, &json(record)?);
        }
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.path();
        let fail = |e| Error::sys(format!("writing to the journal {path:?}"), e);
        let Some(file) = &self.file else {
            return Err(fail(std::io::Error::from_raw_os_error(libc::EROFS)));
        };
        let written = file.write_all_at(bytes, self.size).and_then(|()| match self.durability {
            Durability::Host => file.sync_data(),
            Durability::Process => Ok(()),
        });
        match written {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(e) => {
                // It was not acknowledged, so it must not exist after the next start.
                let _ = file.set_len(self.size);
                Err(fail(e))
            }
        }
    }

    /// Starts over with a snapshot of the state that all records so far have led to.
    ///
    /// # Errors
    /// As for [`Journal::append`]; the old journal then continues.
    pub fn compact<S: Serialize>(&mut self, state: &S) -> Result<()> {
        let mut next = Journal::bare(&self.dir, &self.tag, self.durability, self.number + 1, None);
        next.open_to_append()?;
        self.write_snapshot(state, next.number)?;
        // From here on the new journal counts.
        (self.file, self.number, self.size) = (next.file, next.number, next.size);
        self.remove_others();
        Ok(())
    }

    /// Puts a snapshot in the place of the last one. It counts, and is on disk, when this returns.
    fn write_snapshot<S: Serialize>(&self, state: &S, next: u64) -> Result<()> {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, FrameKind::Tag, &json(&Head::new(&self.tag, next))?);
        frame::encode(&mut bytes, FrameKind::Snapshot, &json(state)?);
        let (new, path) = (self.dir.join("snapshot.new"), self.dir.join("snapshot"));
        let fail = |e| Error::sys(format!("writing the snapshot {new:?}"), e);
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        let file = options.open(&new).map_err(fail)?;
        file.write_all_at(&bytes, 0).map_err(fail)?;
        if self.durability == Durability::Host {
            file.sync_all().map_err(fail)?;
        }
        fs::rename(&new, &path).map_err(fail)?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> Result<()> {
        if self.durability == Durability::Process {
            return Ok(());
        }
        File::open(&self.dir)
            .and_then(|d| d.sync_all())
            .map_err(|e| Error::sys(format!("writing the directory {:?}", self.dir), e))
    }
}

fn read_only(e: &Error) -> bool {
    matches!(e.errno(), Some(Errno(libc::EROFS | libc::EACCES | libc::EPERM)))
}

/// Excludes other processes; None where nothing can be written.
fn lock(dir: &Path) -> Result<Option<File>> {
    let path = dir.join("lock");
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
    let f = match options.open(&path) {
        Ok(f) => f,
        Err(e) => {
            let e = Error::sys(format!("opening {path:?}"), e);
            return if read_only(&e) { Ok(None) } else { Err(e) };
        }
    };
    // A child of a killed supervisor that is about to become a container has the descriptor for a moment more.
    for _ in 0..LOCK_TRIES {
        match file::flock(f.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => return Ok(Some(f)),
            Err(Errno(libc::EWOULDBLOCK)) => std::thread::sleep(Duration::from_millis(20)),
            Err(e) => return Err(Error::sys(format!("locking {path:?}"), e)),
        }
    }
    let what = format!("the state directory {dir:?} is in use by another supervisor");
    Err(Error::new(Kind::State, what).hint("use another directory, or stop that supervisor"))
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(Kind::System, format!("writing the state: {e}")))
}

#[cfg(test)]
mod tests;
