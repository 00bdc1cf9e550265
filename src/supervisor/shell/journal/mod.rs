//! State that outlives the supervisor: a snapshot and the changes since, each on record before it counts.
//!
//! A directory holds `snapshot` and `journal.N`. The snapshot names the journal that goes on from it, so that a
//! supervisor that dies while it makes a new one neither loses a change nor applies one twice.

pub mod disk;
pub mod frame;

use crate::error::{Errno, Error, Kind as Class, Result};
use crate::sys::file;
use frame::Kind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock is tried, 20 ms apart.
const LOCK_TRIES: u32 = 100;

/// Whether what is appended shall survive a crash of the host, or only that of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Host,
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

/// What was found in a journal.
#[derive(Debug)]
pub struct Replay<S, R> {
    pub snapshot: Option<S>,
    pub records: Vec<R>,
    /// Bytes at the end that were no whole record, and are cut off.
    pub torn: u64,
}

#[derive(Serialize, Deserialize)]
struct Head {
    tag: String,
    /// The number of the journal that goes on from a snapshot.
    next: u64,
}

impl Journal {
    /// Opens the journal in `dir`, or begins it. What belongs to another `tag`, such as an earlier boot, is dropped.
    ///
    /// # Errors
    /// [`Class::State`] when another process has it open; the directory cannot be made or read; a record that is whole
    /// cannot be understood.
    pub fn open<S: DeserializeOwned, R: DeserializeOwned>(
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
        let (head, snapshot) = read_snapshot::<S>(dir)?;
        let head = head.filter(|h| h.tag == tag);
        let snapshot = snapshot.filter(|_| head.is_some());
        let number = head.map_or(0, |h| h.next);
        let mut journal = Journal {
            dir: dir.to_owned(),
            file: None,
            number,
            size: 0,
            tag: tag.to_owned(),
            durability,
            _lock: lock,
        };
        let (records, torn) = journal.read_records()?;
        match journal.open_to_append() {
            Ok(()) => journal.remove_others(),
            Err(e) if read_only(&e) => crate::log::warn(e.context("the state can only be read")),
            Err(e) => return Err(e),
        }
        Ok((journal, Replay { snapshot, records, torn }))
    }

    fn path(&self) -> PathBuf {
        self.dir.join(format!("journal.{}", self.number))
    }

    /// Whether changes can be recorded.
    pub fn is_writable(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes since the last snapshot.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn read_records<R: DeserializeOwned>(&mut self) -> Result<(Vec<R>, u64)> {
        let path = self.path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            Err(e) => return Err(Error::sys(format!("reading {path:?}"), e)),
        };
        let (frames, end) = frame::decode(&bytes);
        let mine = |(kind, payload): &(Kind, &[u8])| {
            *kind == Kind::Tag && serde_json::from_slice::<Head>(payload).is_ok_and(|h| h.tag == self.tag)
        };
        if !frames.first().is_some_and(mine) {
            return Ok((Vec::new(), 0));
        }
        let records = frames[1..].iter().map(|(_, payload)| parse(payload, &path)).collect::<Result<_>>()?;
        self.size = end as u64;
        Ok((records, (bytes.len() - end) as u64))
    }

    /// Opens the file and cuts off what is no whole record.
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
            frame::encode(&mut head, Kind::Tag, &json(&Head { tag: self.tag.clone(), next: self.number })?);
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
            frame::encode(&mut bytes, Kind::Record, &json(record)?);
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
                // It was not acknowledged, so it must not be there after the next start.
                let _ = file.set_len(self.size);
                Err(fail(e))
            }
        }
    }

    /// Begins anew with a snapshot of the state that all records so far have led to.
    ///
    /// # Errors
    /// As for [`Journal::append`]; the old journal then goes on.
    pub fn compact<S: Serialize>(&mut self, state: &S) -> Result<()> {
        let mut next = Journal {
            dir: self.dir.clone(),
            file: None,
            number: self.number + 1,
            size: 0,
            tag: self.tag.clone(),
            durability: self.durability,
            _lock: None,
        };
        next.open_to_append()?;
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, Kind::Tag, &json(&Head { tag: self.tag.clone(), next: next.number })?);
        frame::encode(&mut bytes, Kind::Snapshot, &json(state)?);
        let (new, path) = (self.dir.join("snapshot.new"), self.dir.join("snapshot"));
        let fail = |e| Error::sys(format!("writing the snapshot {new:?}"), e);
        fs::write(&new, &bytes).map_err(fail)?;
        if self.durability == Durability::Host {
            File::open(&new).and_then(|f| f.sync_all()).map_err(fail)?;
        }
        fs::rename(&new, &path).map_err(fail)?;
        // From here on the new journal counts.
        (self.file, self.number, self.size) = (next.file, next.number, next.size);
        self.remove_others();
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
    Err(Error::new(Class::State, what).hint("give another one, or end that supervisor"))
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(Class::System, format!("writing the state: {e}")))
}

fn parse<T: DeserializeOwned>(payload: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(payload).map_err(|e| {
        let what = format!("a record in {path:?} cannot be understood: {e}");
        Error::new(Class::System, what).hint("was it written by a newer orund?")
    })
}

fn read_snapshot<S: DeserializeOwned>(dir: &Path) -> Result<(Option<Head>, Option<S>)> {
    let path = dir.join("snapshot");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((None, None)),
        Err(e) => return Err(Error::sys(format!("reading {path:?}"), e)),
    };
    match frame::decode(&bytes).0.as_slice() {
        [(Kind::Tag, head), (Kind::Snapshot, state)] => {
            Ok((Some(parse(head, &path)?), Some(parse(state, &path)?)))
        }
        // It was renamed only when it was whole.
        _ => Err(Error::new(Class::System, format!("the snapshot {path:?} is damaged"))
            .hint("\"orund journal verify\" tells more; the journal beside it is not enough without it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, tag: &str) -> (Journal, Replay<String, u32>) {
        Journal::open(dir, tag, Durability::Host).unwrap()
    }

    #[test]
    fn what_was_appended_is_there_and_what_was_torn_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, replay) = open(dir.path(), "t");
        assert!(replay.snapshot.is_none() && replay.records.is_empty());
        j.append(&[1, 2]).unwrap();
        j.append(&[3]).unwrap();
        let e = Journal::open::<String, u32>(dir.path(), "t", Durability::Host).unwrap_err();
        assert_eq!(e.kind(), Class::State);
        drop(j);
        let path = dir.path().join("journal.0");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (mut j, replay) = open(dir.path(), "t");
        assert_eq!(replay.records, [1, 2]);
        assert!(replay.torn > 0);
        j.append(&[4]).unwrap();
        drop(j);
        assert_eq!(open(dir.path(), "t").1.records, [1, 2, 4]);
        assert_eq!(open(dir.path(), "another boot").1.records, [0u32; 0]);
    }

    #[test]
    fn a_snapshot_takes_the_place_of_records() {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, _) = open(dir.path(), "t");
        j.append(&[1]).unwrap();
        j.compact(&"one").unwrap();
        j.append(&[2]).unwrap();
        drop(j);
        let (j, replay) = open(dir.path(), "t");
        assert_eq!((replay.snapshot.as_deref(), replay.records), (Some("one"), vec![2]));
        drop(j);
        // A new journal that was begun before a crash, without its snapshot.
        fs::write(dir.path().join("journal.2"), b"x").unwrap();
        let (_, replay) = open(dir.path(), "t");
        assert_eq!((replay.snapshot.as_deref(), replay.records), (Some("one"), vec![2]));
        assert!(!dir.path().join("journal.2").exists());
    }
}
