//! The files of a journal: what they hold, and whether that is all.

use super::frame::{self, FrameKind, Record, Rest, Scan};
use super::{Durability, Head, Replay};
use crate::error::{Error, Kind, Result};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a directory, as bytes.
#[derive(Debug, Default)]
pub struct Content {
    /// The newest whole snapshot.
    pub snapshot: Option<Vec<u8>>,
    /// By number.
    pub journals: Vec<(u64, Vec<u8>)>,
}

/// The readable records that [`Content::check`] found.
#[derive(Debug)]
pub struct Found<'a> {
    snapshot: Option<&'a [u8]>,
    records: Vec<Record<'a>>,
    /// The journal that counts.
    pub number: u64,
    /// Bytes of it that are whole records.
    pub end: u64,
    /// Bytes behind them that an interrupted append left.
    pub torn: u64,
    /// There was nothing, or nothing that counts.
    pub is_new: bool,
    old: bool,
}

/// The path of a journal.
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("journal.{number}"))
}

impl Content {
    /// Reads all files. One that is not there is empty.
    ///
    /// # Errors
    /// A file or the directory cannot be read.
    pub fn read(dir: &Path) -> Result<Content> {
        let fail = |path: &Path, e| Error::sys(format!("reading {path:?}"), e);
        let mut content = Content::default();
        for entry in fs::read_dir(dir).map_err(|e| fail(dir, e))? {
            let path = entry.map_err(|e| fail(dir, e))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let number = name.strip_prefix("journal.").and_then(|n| n.parse().ok());
            if name == "snapshot" {
                content.snapshot = Some(fs::read(&path).map_err(|e| fail(&path, e))?);
            } else if let Some(number) = number {
                content.journals.push((number, fs::read(&path).map_err(|e| fail(&path, e))?));
            }
        }
        content.journals.sort();
        Ok(content)
    }

    /// All files by name, the snapshot first.
    pub fn files(&self) -> impl Iterator<Item = (String, &[u8])> {
        let snapshot = self.snapshot.iter().map(|bytes| ("snapshot".to_owned(), bytes.as_slice()));
        snapshot.chain(self.journals.iter().map(|(n, bytes)| (format!("journal.{n}"), bytes.as_slice())))
    }

    /// Whether a newer program has written to one of them.
    pub fn is_newer(&self) -> bool {
        self.files().any(|(_, bytes)| matches!(frame::scan(bytes, 0).rest, Rest::Newer { .. }))
    }

    /// The bytes of a journal.
    pub fn journal(&self, number: u64) -> Option<&[u8]> {
        self.journals.iter().find(|(n, _)| *n == number).map(|(_, bytes)| bytes.as_slice())
    }

    /// Finds out what counts.
    ///
    /// # Errors
    /// [`Kind::Config`]: something is damaged, missing or of a newer program.
    pub fn check(&self, dir: &Path, tag: &str, durability: Durability) -> Result<Found<'_>> {
        let snapshot = match &self.snapshot {
            Some(bytes) => Some(snapshot(dir, bytes)?),
            None => None,
        };
        let mut found = Found {
            snapshot: None,
            records: Vec::new(),
            number: 0,
            end: 0,
            torn: 0,
            is_new: true,
            old: false,
        };
        let mine = |head: &Head, file: &Path| match head.tag == tag {
            false if durability == Durability::Host => Err(foreign(file, &head.tag)),
            mine => Ok(mine),
        };
        if let Some(snapshot) = &snapshot {
            found.number = snapshot.head.next;
            if !mine(&snapshot.head, &dir.join("snapshot"))? {
                // Of an earlier boot. Its journal is started over.
                return Ok(Found { number: found.number + 1, ..found });
            }
            found.snapshot = Some(snapshot.state);
            found.old = snapshot.version < frame::VERSION;
        }
        let file = path(dir, found.number);
        let Some(bytes) = self.journal(found.number) else {
            return match (&snapshot, self.journals.first()) {
                (None, None) => Ok(found),
                (Some(_), _) => Err(lost(&file, "the snapshot names it")),
                (None, Some((n, _))) => {
                    Err(lost(&dir.join("snapshot"), &format!("journal.{n} continues it")))
                }
            };
        };
        let scan = frame::scan(bytes, 0);
        refuse(&file, bytes, &scan)?;
        let Some((head, records)) = scan.records.split_first() else {
            return match snapshot {
                // It was on disk before the snapshot that names it.
                Some(_) => Err(lost(&file, "the snapshot names it, and it has no records")),
                None => Ok(found),
            };
        };
        if head.kind != FrameKind::Tag {
            return Err(damaged(&file, head.at, "it does not begin with a tag"));
        }
        if !mine(&parse::<Head>(head, &file)?, &file)? {
            return Ok(Found { number: found.number + 1, ..found });
        }
        found.old |= snapshot.is_none() || scan.records.iter().any(|r| r.version < frame::VERSION);
        found.records = records.to_vec();
        found.end = scan.end as u64;
        found.torn = (bytes.len() - scan.end) as u64;
        found.is_new = false;
        Ok(found)
    }
}

impl Found<'_> {
    /// The state and the changes in it.
    ///
    /// # Errors
    /// [`Kind::Config`]: one cannot be understood.
    pub fn replay<S: DeserializeOwned, R: DeserializeOwned>(&self, dir: &Path) -> Result<Replay<S, R>> {
        let state = self.snapshot.map(|payload| {
            let record = Record { kind: FrameKind::Snapshot, version: frame::VERSION, at: 0, payload };
            parse(&record, &dir.join("snapshot"))
        });
        let file = path(dir, self.number);
        let records = self.records.iter().map(|r| parse(r, &file)).collect::<Result<_>>()?;
        Ok(Replay { snapshot: state.transpose()?, records, old: self.old })
    }
}

struct Snapshot<'a> {
    head: Head,
    version: u8,
    state: &'a [u8],
}

/// The two records of a snapshot. It was renamed only when it was whole.
fn snapshot<'a>(dir: &Path, bytes: &'a [u8]) -> Result<Snapshot<'a>> {
    let file = dir.join("snapshot");
    let scan = frame::scan(bytes, 0);
    if let Rest::Torn = scan.rest {
        return Err(damaged(&file, scan.end, "it ends in the middle of a record"));
    }
    refuse(&file, bytes, &scan)?;
    match scan.records.as_slice() {
        [head, state] if head.kind == FrameKind::Tag && state.kind == FrameKind::Snapshot => {
            Ok(Snapshot { head: parse(head, &file)?, version: state.version, state: state.payload })
        }
        records => Err(damaged(&file, scan.end, &format!("it has {} records instead of 2", records.len()))),
    }
}

/// Refuses what is damaged or of a newer program.
fn refuse(file: &Path, bytes: &[u8], scan: &Scan) -> Result<()> {
    match scan.rest {
        Rest::Nothing | Rest::Torn => Ok(()),
        Rest::Newer { version } => Err(newer(file, bytes, scan.end, version)),
        Rest::Damaged { next: None } => {
            Err(damaged(file, scan.end, "the checksum of the last record does not match"))
        }
        Rest::Damaged { next: Some(next) } => {
            let behind = frame::scan(bytes, next).records.len();
            let records = if behind == 1 { "1 whole record follows" } else { "whole records follow" };
            Err(damaged(file, scan.end, &format!("a checksum does not match, and {records}")))
        }
    }
}

/// The way out of damage.
fn with_way_out(e: Error, file: &Path) -> Error {
    let dir = file.parent().unwrap_or(Path::new("."));
    e.hint(format!(
        "nothing was changed; \"orund journal verify --dir {0}\" shows what is readable, \"orund journal repair --dir {0}\" \
         makes a backup, keeps what it can and reports what is lost",
        dir.display()
    ))
}

fn damaged(file: &Path, at: usize, why: &str) -> Error {
    with_way_out(Error::new(Kind::Config, format!("{file:?} is damaged at byte {at}: {why}")), file)
}

fn lost(file: &Path, why: &str) -> Error {
    with_way_out(Error::new(Kind::Config, format!("{file:?} is missing or empty: {why}")), file)
}

fn foreign(file: &Path, tag: &str) -> Error {
    Error::new(Kind::Config, format!("{file:?} belongs to another kind of state, {tag:?}"))
        .hint("give the data directory of orund with --data-dir; nothing was changed")
}

fn newer(file: &Path, bytes: &[u8], at: usize, version: u8) -> Error {
    let this = concat!("orund ", env!("CARGO_PKG_VERSION"));
    let what = format!(
        "{file:?} has a record of format {version} at byte {at}; this is {this}, which reads formats up to {}",
        frame::VERSION
    );
    let writer = writer_of_newer(bytes);
    let install = match &writer {
        Some(writer) => format!("install {writer}, which wrote it, or a newer version"),
        None => "install the version of orund that wrote it, or a newer one".to_owned(),
    };
    Error::new(Kind::Config, what).hint(format!("{install}; nothing was changed"))
}

/// The newest program that left its name in the tags of a file, whatever their version.
fn writer_of_newer(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let names = text.split("\"writer\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let plain = |n: &&str| n.len() < 64 && n.chars().all(|c| c.is_ascii_alphanumeric() || " .-+".contains(c));
    let this = concat!("orund ", env!("CARGO_PKG_VERSION"));
    names.filter(plain).filter(|n| *n != this).last().map(str::to_owned)
}

/// Parses the payload of a record.
///
/// # Errors
/// [`Kind::Config`]: it is whole, and is not as expected.
pub fn parse<T: DeserializeOwned>(record: &Record, file: &Path) -> Result<T> {
    serde_json::from_slice(record.payload).map_err(|e| {
        let what = format!("the record at byte {} of {file:?} cannot be understood: {e}", record.at);
        with_way_out(Error::new(Kind::Config, what), file)
    })
}
