//! One run's log file: appending, starting the next one when it is full, and what must go for that.

use super::Limits;
use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file that a run is written to.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// The last full file of the run, when it was made here: it may be removed by now.
    last: Option<Full>,
}

/// The end of the name of a full file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Full {
    number: u64,
    /// How many lines of the run end with it. None: an earlier version has not counted them.
    lines: Option<u64>,
}

/// A log file of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFileEntry {
    pub path: PathBuf,
    pub ino: u64,
    /// Of a full one. None: it is being written.
    pub number: Option<u64>,
    /// How many lines of the run end with it, when that is known.
    pub lines: Option<u64>,
}

impl LogFile {
    /// Opens the file of a new run in `dir`, and removes the files of runs that are too old.
    ///
    /// # Errors
    /// The directory or the file cannot be made.
    pub fn new_run(dir: &Path, limits: &Limits) -> Result<LogFile> {
        fs::create_dir_all(dir).map_err(|e| Error::sys(format!("making the log directory {dir:?}"), e))?;
        let mut runs = runs(dir)?;
        let next = runs.last().map_or(0, |n| n + 1);
        let path = dir.join(format!("{next}.log"));
        let new = LogFile::open(path)?;
        runs.push(next);
        for old in &runs[..runs.len().saturating_sub(limits.runs)] {
            for path in files(dir, *old)? {
                // It may be gone already, and a file too much does no harm.
                let _ = fs::remove_file(path);
            }
        }
        Ok(new)
    }

    /// Opens `path`, to append to it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: PathBuf) -> Result<LogFile> {
        let fail = |e| Error::sys(format!("opening the log file {path:?}"), e);
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW)
            .clone();
        let file = options.open(&path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        Ok(LogFile { path, file, size, last: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes room for `more` bytes: a file that would become too large gets another name, and a new one is begun.
    ///
    /// # Errors
    /// A file cannot be renamed or made.
    pub fn make_room(&mut self, more: u64, limits: &Limits) -> Result<bool> {
        if self.size == 0 || self.size + more <= limits.file {
            return Ok(false);
        }
        let (dir, run) = self.place();
        let full = files(dir, run)?;
        let last = full.iter().filter_map(|p| rotated(p)).max_by_key(|f| f.number).or(self.last);
        let number = last.map_or(0, |f| f.number) + 1;
        let before = last.map_or(Some(0), |f| f.lines);
        // A file that cannot be read is renamed all the same.
        let lines = before.zip(count_lines(&self.file).ok()).map(|(before, own)| before + own);
        let counted = lines.map(|n| format!(".{n}")).unwrap_or_default();
        let to = dir.join(format!("{run}.log.{number:06}{counted}"));
        let to_remove = (full.len() + 1).saturating_sub(limits.files);
        fs::rename(&self.path, &to).map_err(|e| Error::sys(format!("renaming the log file to {to:?}"), e))?;
        let last = Some(Full { number, lines });
        *self = LogFile { last, ..LogFile::open(self.path.clone())? };
        for old in full.iter().filter(|p| rotated(p).is_some()).take(to_remove) {
            let _ = fs::remove_file(old);
        }
        Ok(true)
    }

    /// Appends `bytes`. After an error the file is as it was.
    ///
    /// # Errors
    /// As when the disk is full.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match self.file.write_all_at(bytes, self.size) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(e) => {
                // The part already written would be duplicated.
                let _ = self.file.set_len(self.size);
                Err(Error::sys(format!("writing to the log file {:?}", self.path), e))
            }
        }
    }

    /// Takes away what is behind the first `size` bytes.
    ///
    /// # Errors
    /// ftruncate(2) fails.
    pub fn cut(&mut self, size: u64) -> Result<()> {
        self.file
            .set_len(size)
            .map_err(|e| Error::sys(format!("cutting the log file {:?}", self.path), e))?;
        self.size = size;
        Ok(())
    }

    fn place(&self) -> (&Path, u64) {
        let run = self.path.file_stem().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
        (self.path.parent().unwrap_or(Path::new(".")), run.unwrap_or(0))
    }
}

/// The numbers of the runs that have files in `dir`, in order.
///
/// # Errors
/// The directory cannot be read; one that is not there has none.
pub fn runs(dir: &Path) -> Result<Vec<u64>> {
    let mut all: Vec<u64> = names(dir)?.iter().filter_map(|n| n.split_once(".log")?.0.parse().ok()).collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The files of run `run` in the order in which they were written.
///
/// # Errors
/// As for [`runs`].
pub fn files(dir: &Path, run: u64) -> Result<Vec<PathBuf>> {
    let current = format!("{run}.log");
    let mut all: Vec<String> = names(dir)?
        .into_iter()
        .filter(|n| n.strip_prefix(&current).is_some_and(|r| r.starts_with('.')))
        .collect();
    all.sort();
    all.push(current);
    Ok(all.into_iter().map(|n| dir.join(n)).filter(|p| p.exists()).collect())
}

/// The files of run `run` with what they are known by, in the order in which they were written. What is removed at this
/// moment is left out.
///
/// # Errors
/// As for [`runs`].
pub fn entries(dir: &Path, run: u64) -> Result<Vec<LogFileEntry>> {
    let mut all: Vec<LogFileEntry> = files(dir, run)?
        .into_iter()
        .filter_map(|path| {
            let ino = fs::metadata(&path).ok()?.ino();
            let full = rotated(&path);
            Some(LogFileEntry {
                path,
                ino,
                number: full.map(|f| f.number),
                lines: full.and_then(|f| f.lines),
            })
        })
        .collect();
    // A file that was renamed in between was seen by both of its names, or by the next one's.
    all.dedup_by(|b, a| a.ino == b.ino);
    Ok(all)
}

/// The number of lines in a file.
///
/// # Errors
/// It cannot be read.
pub fn count_lines(file: &File) -> std::io::Result<u64> {
    let (mut buf, mut at, mut lines) = (vec![0; 256 << 10], 0, 0);
    loop {
        match file.read_at(&mut buf, at)? {
            0 => return Ok(lines),
            n => {
                lines += buf[..n].iter().filter(|b| **b == b'\n').count() as u64;
                at += n as u64;
            }
        }
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let fail = |e| Error::sys(format!("reading the log directory {dir:?}"), e);
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(fail(e)),
    }
}

/// Parses the name of a full file.
fn rotated(path: &Path) -> Option<Full> {
    let (_, end) = path.file_name()?.to_str()?.split_once(".log.")?;
    let (number, lines) = end.split_once('.').map_or((end, None), |(number, lines)| (number, Some(lines)));
    let lines = match lines {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    Some(Full { number: number.parse().ok()?, lines })
}

/// Removes full files, the oldest first, until all below `root` take at most `total` bytes.
///
/// # Errors
/// A directory cannot be read.
pub fn keep_within(root: &Path, total: u64) -> Result<()> {
    let mut used = 0;
    let mut full = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let path = entry.path();
            if meta.is_dir() {
                todo.push(path);
                continue;
            }
            used += meta.len();
            if rotated(&path).is_some() {
                full.push((meta.modified().ok(), path, meta.len()));
            }
        }
    }
    full.sort();
    for (_, path, size) in full {
        if used <= total {
            break;
        }
        fs::remove_file(&path).map_err(|e| Error::sys(format!("removing the log file {path:?}"), e))?;
        used -= size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { file: 10, files: 3, runs: 2, total: 0 };

    #[test]
    fn full_files_get_another_name_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut f = LogFile::new_run(dir.path(), &LIMITS).unwrap();
        for n in 0..5 {
            let text = format!("{n}234567\n");
            assert_eq!(f.make_room(text.len() as u64, &LIMITS).unwrap(), n > 0);
            f.append(text.as_bytes()).unwrap();
        }
        let names = names(dir.path()).unwrap();
        assert!(names.contains(&"0.log.000004.4".to_owned()), "{names:?}");
        let text: Vec<String> =
            files(dir.path(), 0).unwrap().iter().map(|p| fs::read_to_string(p).unwrap()).collect();
        assert_eq!(text, ["2234567\n", "3234567\n", "4234567\n"]);
    }

    #[test]
    fn old_runs_go() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..4 {
            let f = LogFile::new_run(dir.path(), &LIMITS).unwrap();
            assert_eq!(f.path(), dir.path().join(format!("{n}.log")));
        }
        assert_eq!(runs(dir.path()).unwrap(), [2, 3]);
        assert_eq!(runs(&dir.path().join("none")).unwrap(), [0u64; 0]);
    }

    #[test]
    fn the_budget_takes_full_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut f = LogFile::new_run(&dir.path().join("a"), &LIMITS).unwrap();
        for _ in 0..3 {
            f.make_room(8, &LIMITS).unwrap();
            f.append(b"1234567\n").unwrap();
        }
        keep_within(dir.path(), 16).unwrap();
        assert_eq!(files(&dir.path().join("a"), 0).unwrap().len(), 2);
        keep_within(dir.path(), 0).unwrap();
        assert_eq!(files(&dir.path().join("a"), 0).unwrap(), [dir.path().join("a/0.log")]);
    }
}
