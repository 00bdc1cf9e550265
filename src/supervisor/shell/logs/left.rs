//! Output whose log file cannot be written, as on a full disk: each piece is a file on tmpfs beside the stage until it can be.
//!
//! `logs.left.N` has the bytes, `logs.left.N.of` the stream and the path of the log file. The second is made first and removed last,
//! and the first is the stage under another name, so that a kill at any instant leaves every byte in one place.

use super::Stream;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const PREFIX: &str = "logs.left.";
const OWNER: &str = ".of";
/// Bytes, of all pieces together, that are kept of containers that have exited.
const MOST: u64 = 64 << 20;

/// Where a piece belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub log: PathBuf,
    pub stream: Stream,
}

/// The pieces, by number: the oldest first.
#[derive(Debug)]
pub struct Left {
    dir: PathBuf,
    pieces: BTreeMap<u64, (Owner, u64)>,
    /// The rest of the piece that was on the stage when the last supervisor was killed.
    taken: Option<(u64, Owner)>,
}

impl Left {
    /// Opens the kept output in `dir`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(dir: &Path) -> Result<Left> {
        let mut left = Left { dir: dir.to_owned(), pieces: BTreeMap::new(), taken: None };
        let entries = fs::read_dir(dir).map_err(|e| Error::sys(format!("reading {dir:?}"), e))?;
        for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
            let Some(number) = name.strip_prefix(PREFIX) else { continue };
            let path = dir.join(&name);
            let Some(number) = number.strip_suffix(OWNER).and_then(|n| n.parse().ok()) else {
                // It was being forgotten.
                if !dir.join(format!("{name}{OWNER}")).exists() && !name.ends_with(OWNER) {
                    remove(&path);
                }
                continue;
            };
            match (fs::read(&path).ok().and_then(|text| parse(&text)), fs::metadata(left.piece(number))) {
                (Some(owner), Ok(meta)) => drop(left.pieces.insert(number, (owner, meta.len()))),
                (Some(owner), Err(_)) => left.taken = Some((number, owner)),
                // It was being made.
                (None, _) => remove(&path),
            }
        }
        Ok(left)
    }

    fn piece(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{number}"))
    }

    fn owner_file(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{number}{OWNER}"))
    }

    /// Makes the file `stage` the last piece of `owner`.
    ///
    /// # Errors
    /// There is no space on the tmpfs either.
    pub fn put(&mut self, stage: &Path, owner: Owner) -> Result<()> {
        let fail = |e| Error::sys("keeping output whose log file cannot be written", e);
        let len = fs::metadata(stage).map_err(fail)?.len();
        // Output from here precedes all other output of its log file, and needs no more space.
        let taken = self.taken.take_if(|(_, of)| *of == owner).map(|(number, _)| number);
        let number = taken.unwrap_or_else(|| self.pieces.keys().last().map_or(1, |n| n + 1));
        let named = match taken {
            Some(_) => Ok(()),
            None => fs::write(self.owner_file(number), encode(&owner)),
        };
        if let Err(e) = named.and_then(|()| fs::rename(stage, self.piece(number))) {
            remove(&self.owner_file(number));
            return Err(fail(e));
        }
        self.pieces.insert(number, (owner, len));
        Ok(())
    }

    /// The oldest piece of a log file: how long it is, and its stream.
    pub fn first(&self, log: &Path) -> Option<(u64, Stream)> {
        self.pieces.values().find(|(owner, _)| owner.log == log).map(|(owner, len)| (*len, owner.stream))
    }

    /// Makes the oldest piece of a log file the file `stage`; until [`Left::done`] its place is kept.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn take(&mut self, log: &Path, stage: &Path) -> Result<()> {
        let Some((number, (owner, _))) = self.pieces.iter().find(|(_, (owner, _))| owner.log == log) else {
            return Ok(());
        };
        let (number, owner) = (*number, owner.clone());
        fs::rename(self.piece(number), stage)
            .map_err(|e| Error::sys("moving kept output to the stage", e))?;
        self.pieces.remove(&number);
        self.taken = Some((number, owner));
        Ok(())
    }

    /// Marks the piece that was taken last as written.
    pub fn done(&mut self) {
        if let Some((number, _)) = self.taken.take() {
            remove(&self.owner_file(number));
        }
    }

    /// The log files that pieces belong to.
    pub fn logs(&self) -> Vec<PathBuf> {
        let mut logs: Vec<_> = self.pieces.values().map(|(owner, _)| owner.log.clone()).collect();
        logs.sort_unstable();
        logs.dedup();
        logs
    }

    /// Forgets what belongs to a log file whose directory is gone.
    pub fn forget(&mut self, log: &Path) {
        let gone: Vec<u64> =
            self.pieces.iter().filter(|(_, (owner, _))| owner.log == log).map(|(n, _)| *n).collect();
        for number in gone {
            self.pieces.remove(&number);
            // In this order, so that a piece is never taken for the one on the stage.
            remove(&self.owner_file(number));
            remove(&self.piece(number));
        }
    }

    /// Whether no more may be kept of containers that have exited.
    pub fn is_full(&self) -> bool {
        self.pieces.values().map(|(_, len)| len).sum::<u64>() >= MOST
    }
}

fn remove(path: &Path) {
    // It may never have been made.
    let _ = fs::remove_file(path);
}

fn encode(owner: &Owner) -> Vec<u8> {
    let path = owner.log.as_os_str().as_bytes();
    [owner.stream.name().as_bytes(), b" ", path, b"\n"].concat()
}

fn parse(text: &[u8]) -> Option<Owner> {
    let line = text.strip_suffix(b"\n")?;
    let space = line.iter().position(|b| *b == b' ')?;
    let stream = Stream::ALL.into_iter().find(|s| s.name().as_bytes() == &line[..space])?;
    Some(Owner { log: OsString::from_vec(line[space + 1..].to_vec()).into(), stream })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner { log: format!("/logs/a b/{name}").into(), stream: Stream::Stderr }
    }

    #[test]
    fn pieces_keep_their_order_whoever_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let stage = dir.path().join("logs.stage");
        let put = |left: &mut Left, of: &str, text: &str| {
            fs::write(&stage, text).unwrap();
            left.put(&stage, owner(of)).unwrap();
        };
        let mut left = Left::open(dir.path()).unwrap();
        put(&mut left, "0.log", "first");
        put(&mut left, "1.log", "other");
        put(&mut left, "0.log", "second");
        // Killed between the two files of a piece.
        fs::write(dir.path().join("logs.left.9.of"), "stdout /x").unwrap();
        // Killed between those of one that is forgotten.
        fs::write(dir.path().join("logs.left.8"), "gone").unwrap();
        let mut left = Left::open(dir.path()).unwrap();
        assert!(!dir.path().join("logs.left.9.of").exists() && !dir.path().join("logs.left.8").exists());
        assert_eq!(left.logs(), ["/logs/a b/0.log", "/logs/a b/1.log"].map(PathBuf::from));
        let log = owner("0.log").log;
        assert_eq!(left.first(&log), Some((5, Stream::Stderr)));
        // Taken, and killed before it was written, which still cannot be done.
        left.take(&log, &stage).unwrap();
        assert_eq!(fs::read(&stage).unwrap(), b"first");
        let mut left = Left::open(dir.path()).unwrap();
        // Back to its place, for which there need be no space.
        let owner_file = dir.path().join("logs.left.1.of");
        let before = fs::metadata(&owner_file).unwrap().modified().unwrap();
        left.put(&stage, owner("0.log")).unwrap();
        assert_eq!(fs::metadata(&owner_file).unwrap().modified().unwrap(), before);
        let mut texts = Vec::new();
        while left.first(&log).is_some() {
            left.take(&log, &stage).unwrap();
            texts.push(fs::read_to_string(&stage).unwrap());
            left.done();
        }
        assert_eq!(texts, ["first", "second"]);
        left.forget(&owner("1.log").log);
        fs::remove_file(&stage).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
