//! Reading log files: from some point on, the last lines, and what comes.
//!
//! Files are renamed and removed while they are read. The open file is known by its inode, and each by its number, so
//! that what was removed before it could be read is noticed, and counted.

use super::file::{self, LogFileEntry};
use super::format::{self, Line};
use super::owner;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often a file may be renamed or removed in the moment in which it is opened.
const TRIES: u32 = 100;

/// The requested part of a container's logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// That of the run before the last.
    pub previous: bool,
    /// Not what is older (RFC 3339, UTC, as [`format::now`] writes it).
    pub since: Option<String>,
    /// Only so many lines from the end.
    pub tail: Option<usize>,
    /// Only of the workload with this number, and not of an earlier one of the same name.
    pub of: Option<u64>,
}

/// Output of a reader.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Line(Line<'a>),
    /// Lines were removed before they could be read: how many, when that is known.
    Skipped(Option<u64>),
}

/// Reads the log files of one container. It can be asked for more at any time.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    query: Query,
    /// The run that is read, and what of it.
    run: Option<u64>,
    open: Option<Open>,
    /// How many lines of the run end with what was read.
    lines: Option<u64>,
    /// The beginning of a line whose end is not written yet.
    part: Vec<u8>,
    /// Lines to pass over.
    skip: usize,
}

#[derive(Debug)]
struct Open {
    file: BufReader<File>,
    ino: u64,
    /// Its number, or the one that it will have when it is full.
    number: u64,
}

impl Reader {
    /// Prepares to read the logs in `dir`.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(dir: &Path, query: Query) -> Result<Reader> {
        let runs = if owner::is_foreign(dir, query.of) { Vec::new() } else { file::runs(dir)? };
        let run = match query.previous {
            true => runs.len().checked_sub(2).map(|n| runs[n]),
            false if query.tail.is_none() && query.since.is_some() => runs.first().copied(),
            false => runs.last().copied(),
        };
        let mut reader = Reader { run, ..Reader::new(dir.to_owned(), query) };
        if let Some(tail) = reader.query.tail {
            let mut count = 0usize;
            let mut counting = Reader { run, ..Reader::new(reader.dir.clone(), reader.query.clone()) };
            counting.read_run(&mut |item| count += usize::from(matches!(item, Item::Line(_))))?;
            reader.skip = count.saturating_sub(tail);
        }
        Ok(reader)
    }

    fn new(dir: PathBuf, query: Query) -> Reader {
        Reader { dir, query, run: None, open: None, lines: None, part: Vec::new(), skip: 0 }
    }

    /// Passes every new line to `to`; also those of later runs, unless the previous one was requested.
    ///
    /// # Errors
    /// A file cannot be read. The next call continues where this one stopped.
    pub fn read(&mut self, mut to: impl FnMut(Item)) -> Result<()> {
        if self.run.is_none() && (self.query.previous || owner::is_foreign(&self.dir, self.query.of)) {
            return Ok(());
        }
        loop {
            if self.run.is_none() {
                self.run = file::runs(&self.dir)?.last().copied();
            }
            // Checked before reading: output of this run until the next began must not be missed.
            let next = match self.run {
                Some(run) if !self.query.previous => file::runs(&self.dir)?.into_iter().find(|n| *n > run),
                _ => None,
            };
            self.read_run(&mut to)?;
            let Some(next) = next else { return Ok(()) };
            if self.run.is_some_and(|run| next > run + 1) {
                to(Item::Skipped(None));
            }
            (self.run, self.open, self.lines) = (Some(next), None, None);
            self.part.clear();
        }
    }

    fn read_run(&mut self, to: &mut dyn FnMut(Item)) -> Result<()> {
        let Some(run) = self.run else { return Ok(()) };
        loop {
            if self.open.is_none() && !self.open_next(run, to)? {
                return Ok(());
            }
            // Asked before the end is found: once it has another name, nothing more is written to it.
            let Some(open) = &self.open else { return Ok(()) };
            let (ino, files) = (open.ino, file::entries(&self.dir, run)?);
            let own = files.iter().find(|e| e.ino == ino);
            let (full, total) = (own.is_none_or(|e| e.number.is_some()), own.and_then(|e| e.lines));
            if let (Some(open), Some(number)) = (&mut self.open, own.and_then(|e| e.number)) {
                open.number = number;
            }
            self.read_file(to)?;
            self.lines = total.or(self.lines);
            if !full || !self.open_next(run, to)? {
                return Ok(());
            }
        }
    }

    /// Opens the file after the open one, or the first. False when there is none.
    fn open_next(&mut self, run: u64, to: &mut dyn FnMut(Item)) -> Result<bool> {
        for _ in 0..TRIES {
            let before = self.open.as_ref().map(|o| (o.number, o.ino));
            let files = file::entries(&self.dir, run)?;
            let Some(next) = following(&files, before) else { return Ok(false) };
            let file = match File::open(&next.path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::sys(format!("opening the log file {:?}", next.path), e)),
            };
            let ino = file.metadata().map_err(|e| Error::sys("looking at a log file", e))?.ino();
            // The name may have passed to the next file by now: what counts is which one was opened.
            let files = file::entries(&self.dir, run)?;
            let Some(at) = files.iter().position(|e| e.ino == ino) else { continue };
            let full = files.iter().filter_map(|e| e.number).max().unwrap_or(0);
            let number = files[at].number.unwrap_or(full + 1);
            let expected = before.map_or(number, |(n, _)| n + 1);
            if number > expected && files.iter().any(|e| e.number == Some(expected)) {
                continue;
            }
            self.begin((&files[..=at], &file), number == expected && before.is_some(), number, to);
            let file = BufReader::with_capacity(64 << 10, file);
            self.open = Some(Open { file, ino, number });
            return Ok(true);
        }
        let what = format!("the log files in {:?} are rotated faster than they can be opened", self.dir);
        Err(Error::new(crate::error::Kind::System, what))
    }

    /// Before the last of `files` is read, whose number is `number`: whether lines are missing before it.
    fn begin(
        &mut self,
        (files, file): (&[LogFileEntry], &File),
        adjoins: bool,
        number: u64,
        to: &mut dyn FnMut(Item),
    ) {
        if adjoins {
            return;
        }
        // It ends with so many lines, or the one before it does.
        let [.., own] = files else { return };
        let before = files.iter().find(|e| e.number == Some(number.wrapping_sub(1))).and_then(|e| e.lines);
        let counted = || own.lines?.checked_sub(file::count_lines(file).ok()?);
        let first = if number == 1 { Some(0) } else { before.or_else(counted) };
        if self.open.is_some() {
            self.part.clear();
            let missing = first.zip(self.lines).and_then(|(first, read)| first.checked_sub(read));
            let passed = missing.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)).min(self.skip);
            self.skip -= passed;
            if passed == 0 {
                to(Item::Skipped(missing));
            }
        }
        self.lines = first;
    }

    fn read_file(&mut self, to: &mut dyn FnMut(Item)) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        loop {
            let n = open
                .file
                .read_until(b'\n', &mut self.part)
                .map_err(|e| Error::sys(format!("reading a log file in {:?}", self.dir), e))?;
            let Some(text) = self.part.strip_suffix(b"\n") else {
                if n == 0 {
                    return Ok(());
                }
                continue;
            };
            self.lines = self.lines.map(|n| n + 1);
            if let Some(decoded) = format::decode(text) {
                let old = self.query.since.as_deref().is_some_and(|since| decoded.time < since);
                if !old && self.skip == 0 {
                    to(Item::Line(decoded));
                }
                if !old {
                    self.skip = self.skip.saturating_sub(1);
                }
            }
            self.part.clear();
        }
    }
}

/// The file after the one with this number and inode; the first, when there is none.
fn following(files: &[LogFileEntry], before: Option<(u64, u64)>) -> Option<&LogFileEntry> {
    let Some((number, ino)) = before else { return files.first() };
    let later = files.iter().find(|e| e.number.is_some_and(|n| n > number));
    // Numbers begin again when all full files were removed and the supervisor has restarted since.
    let again = || files.first().filter(|_| files.iter().all(|e| e.ino != ino));
    later.or_else(|| files.last().filter(|e| e.number.is_none() && e.ino != ino)).or_else(again)
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::file::LogFile;
    use super::*;

    const UNKNOWN: i64 = i64::MIN;
    const LIMITS: Limits = Limits { file: 60, files: 3, runs: 6, total: 0 };

    fn write(f: &mut LogFile, n: u32) {
        let text = format!("2026-01-01T00:{:02}:{:02}.000000000Z stdout F {n}\n", n / 60, n % 60);
        f.make_room(text.len() as u64, &LIMITS).unwrap();
        f.append(text.as_bytes()).unwrap();
    }

    /// The numbers, and for what was skipped `-N`; [`UNKNOWN`] when it is not known how much.
    fn read(r: &mut Reader) -> Vec<i64> {
        let (got, read) = try_read(r);
        read.unwrap();
        got
    }

    fn try_read(r: &mut Reader) -> (Vec<i64>, Result<()>) {
        let mut got = Vec::new();
        let read = r.read(|item| {
            got.push(match item {
                Item::Line(l) => std::str::from_utf8(l.text).unwrap().parse().unwrap(),
                Item::Skipped(n) => n.map_or(UNKNOWN, |n| -(n as i64)),
            });
        });
        (got, read)
    }

    #[test]
    fn queries_and_what_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let open = |query| Reader::open(dir.path(), query).unwrap();
        let mut follow = open(Query::default());
        assert_eq!(read(&mut follow), [0i64; 0]);
        let mut first = LogFile::new_run(dir.path(), &LIMITS).unwrap();
        (0..2).for_each(|n| write(&mut first, n));
        assert_eq!(read(&mut follow), [0, 1]);
        (2..3).for_each(|n| write(&mut first, n));
        let mut second = LogFile::new_run(dir.path(), &LIMITS).unwrap();
        write(&mut second, 5);
        assert_eq!(read(&mut follow), [2, 5]);
        write(&mut second, 6);
        assert_eq!(read(&mut follow), [6]);
        assert_eq!(read(&mut open(Query::default())), [5, 6]);
        assert_eq!(read(&mut open(Query { previous: true, ..Query::default() })), [0, 1, 2]);
        assert_eq!(read(&mut open(Query { previous: true, tail: Some(2), ..Query::default() })), [1, 2]);
        let since = Some("2026-01-01T00:00:02.000000000Z".to_owned());
        assert_eq!(read(&mut open(Query { since, ..Query::default() })), [2, 5, 6]);
        assert_eq!(read(&mut open(Query { tail: Some(0), ..Query::default() })), [0i64; 0]);
    }

    #[test]
    fn what_was_rotated_away_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut f = LogFile::new_run(dir.path(), &LIMITS).unwrap();
        write(&mut f, 0);
        let mut follow = Reader::open(dir.path(), Query::default()).unwrap();
        assert_eq!(read(&mut follow), [0]);
        // Each file has one line, and three files are kept.
        (1..10).for_each(|n| write(&mut f, n));
        assert_eq!(read(&mut follow), [-6, 7, 8, 9]);
        (10..13).for_each(|n| write(&mut f, n));
        assert_eq!(read(&mut follow), [10, 11, 12]);
        // A reader that begins in the middle knows where it is, too; so it continues after a restart of the writer.
        let mut late = Reader::open(dir.path(), Query { tail: Some(1), ..Query::default() }).unwrap();
        assert_eq!(read(&mut late), [12]);
        let mut f = LogFile::open(dir.path().join("0.log")).unwrap();
        (13..20).for_each(|n| write(&mut f, n));
        assert_eq!(read(&mut late), [-4, 17, 18, 19]);
    }

    #[test]
    fn an_earlier_workload_of_the_name_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        owner::claim(dir.path(), 1).unwrap();
        let mut f = LogFile::new_run(dir.path(), &LIMITS).unwrap();
        write(&mut f, 1);
        let of = |n| Reader::open(dir.path(), Query { of: Some(n), ..Query::default() }).unwrap();
        let mut new = of(2);
        assert_eq!((read(&mut of(1)), read(&mut new)), (vec![1], vec![]));
        owner::claim(dir.path(), 2).unwrap();
        let mut f = LogFile::new_run(dir.path(), &LIMITS).unwrap();
        write(&mut f, 2);
        assert_eq!((read(&mut of(1)), read(&mut new)), (vec![], vec![2]));
        let previous = Query { of: Some(2), previous: true, ..Query::default() };
        assert_eq!(read(&mut Reader::open(dir.path(), previous).unwrap()), [0i64; 0]);
    }

    /// Rotation at any instant of the reading: every line comes, once and in order, or is counted as skipped.
    #[test]
    fn a_burst_is_followed_without_a_gap_that_is_not_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut f = LogFile::new_run(dir.path(), &LIMITS).unwrap();
        write(&mut f, 0);
        let mut follow = Reader::open(dir.path(), Query::default()).unwrap();
        assert_eq!(read(&mut follow), [0]);
        let writer = std::thread::spawn(move || (1..3000).for_each(|n| write(&mut f, n)));
        let (mut next, mut unknown) = (1, false);
        while next < 3000 {
            // Files of one line may be gone faster than they can be opened: the next call continues.
            for n in try_read(&mut follow).0 {
                match n {
                    UNKNOWN => unknown = true,
                    n if n < 0 => next += -n,
                    n => {
                        assert!(n == next || unknown && n > next, "{n} after {next}");
                        (next, unknown) = (n + 1, false);
                    }
                }
            }
        }
        writer.join().unwrap();
        assert_eq!(next, 3000);
    }
}
