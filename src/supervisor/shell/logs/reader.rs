//! Reading log files: from some point on, the last lines, and what comes.

use super::file;
use super::format::{self, Line};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The requested part of a container's logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// That of the run before the last.
    pub previous: bool,
    /// Not what is older (RFC 3339, UTC, as [`format::now`] writes it).
    pub since: Option<String>,
    /// Only so many lines from the end.
    pub tail: Option<usize>,
}

/// Reads the log files of one container. It can be asked for more at any time.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    query: Query,
    /// The run that is read, and what of it.
    run: Option<u64>,
    open: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet.
    part: Vec<u8>,
    /// Lines to pass over.
    skip: usize,
}

impl Reader {
    /// Prepares to read the logs in `dir`.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(dir: &Path, query: Query) -> Result<Reader> {
        let runs = file::runs(dir)?;
        let run = match query.previous {
            true => runs.len().checked_sub(2).map(|n| runs[n]),
            false if query.tail.is_none() && query.since.is_some() => runs.first().copied(),
            false => runs.last().copied(),
        };
        let mut reader = Reader { dir: dir.to_owned(), query, run, open: None, part: Vec::new(), skip: 0 };
        if let Some(tail) = reader.query.tail {
            let mut count = 0usize;
            let mut counting = reader.again();
            counting.read_run(&mut |_| count += 1)?;
            reader.skip = count.saturating_sub(tail);
        }
        Ok(reader)
    }

    /// From the start.
    fn again(&self) -> Reader {
        Reader {
            dir: self.dir.clone(),
            query: self.query.clone(),
            run: self.run,
            open: None,
            part: Vec::new(),
            skip: 0,
        }
    }

    /// Passes every new line to `line`; also those of later runs, unless the
    /// previous one was asked for.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(&mut self, mut line: impl FnMut(Line)) -> Result<()> {
        loop {
            if self.run.is_none() && !self.query.previous {
                self.run = file::runs(&self.dir)?.last().copied();
            }
            // Checked before reading: output of this run until the next began must not be missed.
            let next = match self.run {
                Some(run) if !self.query.previous => file::runs(&self.dir)?.into_iter().find(|n| *n > run),
                _ => None,
            };
            self.read_run(&mut line)?;
            if next.is_none() {
                return Ok(());
            }
            (self.run, self.open) = (next, None);
            self.part.clear();
        }
    }

    fn read_run(&mut self, line: &mut dyn FnMut(Line)) -> Result<()> {
        let Some(run) = self.run else { return Ok(()) };
        loop {
            if self.open.is_none() {
                let Some(first) = file::files(&self.dir, run)?.into_iter().next() else { return Ok(()) };
                self.open = Some(open(&first)?);
            }
            // Asked before the end is found: once it has another name, nothing more is written to it.
            let after = self.after(run)?;
            self.read_file(line)?;
            let Some(after) = after else { return Ok(()) };
            self.open = Some(open(&after)?);
        }
    }

    /// The file that was begun after the open one.
    fn after(&self, run: u64) -> Result<Option<PathBuf>> {
        let Some(open) = &self.open else { return Ok(None) };
        let ino = open.get_ref().metadata().map_err(|e| Error::sys("looking at a log file", e))?.ino();
        let files = file::files(&self.dir, run)?;
        let at = files.iter().position(|p| std::fs::metadata(p).is_ok_and(|m| m.ino() == ino));
        // One that has been removed was the oldest.
        Ok(files.into_iter().nth(at.map_or(0, |n| n + 1)))
    }

    fn read_file(&mut self, line: &mut dyn FnMut(Line)) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        loop {
            let n = open
                .read_until(b'\n', &mut self.part)
                .map_err(|e| Error::sys(format!("reading a log file in {:?}", self.dir), e))?;
            let Some(text) = self.part.strip_suffix(b"\n") else {
                if n == 0 {
                    return Ok(());
                }
                continue;
            };
            if let Some(decoded) = format::decode(text) {
                let old = self.query.since.as_deref().is_some_and(|since| decoded.time < since);
                if !old && self.skip == 0 {
                    line(decoded);
                }
                if !old {
                    self.skip = self.skip.saturating_sub(1);
                }
            }
            self.part.clear();
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|e| Error::sys(format!("opening the log file {path:?}"), e))?;
    Ok(BufReader::with_capacity(64 << 10, file))
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::file::LogFile;
    use super::*;

    fn write(f: &mut LogFile, n: u32) {
        let limits = Limits { file: 60, ..Limits::default() };
        let text = format!("2026-01-01T00:00:{n:02}.000000000Z stdout F {n}\n");
        f.make_room(text.len() as u64, &limits).unwrap();
        f.append(text.as_bytes()).unwrap();
    }

    fn read(r: &mut Reader) -> Vec<u32> {
        let mut got = Vec::new();
        r.read(|l| got.push(std::str::from_utf8(l.text).unwrap().parse().unwrap())).unwrap();
        got
    }

    #[test]
    fn queries_and_what_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let open = |query| Reader::open(dir.path(), query).unwrap();
        let mut follow = open(Query::default());
        assert_eq!(read(&mut follow), [0u32; 0]);
        let mut first = LogFile::new_run(dir.path(), &Limits::default()).unwrap();
        (0..3).for_each(|n| write(&mut first, n));
        assert_eq!(read(&mut follow), [0, 1, 2]);
        (3..5).for_each(|n| write(&mut first, n));
        let mut second = LogFile::new_run(dir.path(), &Limits::default()).unwrap();
        write(&mut second, 5);
        assert_eq!(read(&mut follow), [3, 4, 5]);
        write(&mut second, 6);
        assert_eq!(read(&mut follow), [6]);
        assert_eq!(read(&mut open(Query::default())), [5, 6]);
        assert_eq!(read(&mut open(Query { previous: true, ..Query::default() })), [0, 1, 2, 3, 4]);
        assert_eq!(read(&mut open(Query { previous: true, tail: Some(2), ..Query::default() })), [3, 4]);
        let since = Some("2026-01-01T00:00:04.000000000Z".to_owned());
        assert_eq!(read(&mut open(Query { since, ..Query::default() })), [4, 5, 6]);
        assert_eq!(read(&mut open(Query { tail: Some(0), ..Query::default() })), [0u32; 0]);
    }
}
