//! Output on its way from a pipe to a log file, stored where a killed supervisor does not lose it.
//!
//! The kernel moves bytes from the pipe to the stage, a file on tmpfs; from there they are written to the log file, and
//! then the stage is emptied. A shared mapping beside it says whose bytes they are and how far the writing has come, so
//! that the next supervisor knows what is left to do after a kill at any instant: nothing is lost, nothing is written twice.

use super::super::private;
use super::left::{Left, Owner};
use super::{Limits, Stream, file::LogFile, format};
use crate::error::{Errno, Error, Result};
use crate::log;
use crate::sys::map::SharedWords;
use crate::sys::splice;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;

/// Bytes that are moved at once.
pub const CHUNK: usize = 64 << 10;
/// Bytes that are read from a terminal at once.
const PAGE: usize = 4096;
const STAGE: &str = "logs.stage";
const NOTE: &str = "logs.note";
const WORDS: usize = 1024;
/// The words: length of the text that is being written, 0 when that has not begun; size of the log file before it;
/// the stream, and a flag; bytes of the path; the path, eight bytes a word.
const LENGTH: usize = 0;
const BEFORE: usize = 1;
const STREAM: usize = 2;
/// In the word of the stream: the stage may have zeros behind the bytes of a terminal.
const UNMEASURED: u64 = 2;
const PATH_LEN: usize = 3;
const PATH: usize = 4;

/// The stage. There is one for each thread that writes logs.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
    file: File,
    left: Left,
    note: SharedWords,
    buf: Vec<u8>,
    text: Vec<u8>,
}

impl Stage {
    /// Opens the stage in `dir`, and finishes what a killed supervisor left on it, or keeps it until that can be written.
    ///
    /// # Errors
    /// The files cannot be made.
    pub fn open(dir: &Path) -> Result<Stage> {
        let (file, note) = (open(dir, STAGE)?, open(dir, NOTE)?);
        let fail = |e: Errno| Error::sys("mapping the note on log files", e);
        note.set_len((WORDS * 8) as u64).map_err(|e| fail(e.into()))?;
        let note = SharedWords::map(note.as_raw_fd(), WORDS).map_err(fail)?;
        let left = Left::open(dir)?;
        let mut stage =
            Stage { dir: dir.to_owned(), file, left, note, buf: vec![0; CHUNK], text: Vec::new() };
        stage.finish_left()?;
        Ok(stage)
    }

    fn get(&self, at: usize) -> u64 {
        self.note.words()[at].load(SeqCst)
    }

    fn set(&self, at: usize, value: u64) {
        self.note.words()[at].store(value, SeqCst);
    }

    /// Notes whose bytes come next. The stage is empty then.
    pub fn belongs_to(&self, log: &Path, stream: Stream) -> bool {
        let bytes = log.as_os_str().as_bytes();
        if bytes.len() > (WORDS - PATH) * 8 {
            return false;
        }
        self.set(LENGTH, 0);
        self.set(STREAM, stream as u64);
        self.set(PATH_LEN, bytes.len() as u64);
        for (at, eight) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.set(PATH + at, u64::from_ne_bytes(word));
        }
        true
    }

    fn owner(&self) -> (PathBuf, Stream) {
        let len = (self.get(PATH_LEN) as usize).min((WORDS - PATH) * 8);
        let mut bytes: Vec<u8> =
            (0..len.div_ceil(8)).flat_map(|at| self.get(PATH + at).to_ne_bytes()).collect();
        bytes.truncate(len);
        let stream = if self.get(STREAM) & 1 == 0 { Stream::Stdout } else { Stream::Stderr };
        (std::ffi::OsString::from_vec(bytes).into(), stream)
    }

    /// Moves a chunk from `from`, a pipe or the master of a terminal, to the stage. `Ok(0)`: no writer is left; EAGAIN: no
    /// data is available now.
    ///
    /// # Errors
    /// An error of splice(2) or read(2).
    pub fn take(&mut self, from: RawFd) -> Result<usize, Errno> {
        match splice::pipe_to_file(from, self.file.as_raw_fd(), 0, CHUNK) {
            Err(Errno(libc::EINVAL)) => self.take_from_terminal(from),
            r => r,
        }
    }

    fn take_from_terminal(&mut self, master: RawFd) -> Result<usize, Errno> {
        let len = match self.read_terminal(master) {
            // Its program has exited.
            Err(Errno(libc::EIO)) => Ok(0),
            r => r,
        };
        self.file.set_len(len.unwrap_or(0) as u64)?;
        self.set(STREAM, self.get(STREAM) & !UNMEASURED);
        len
    }

    /// splice(2) takes only pipes. read(2) writes into a mapping of the stage, so that a kill loses no byte;
    /// their number is known by the zeros behind them.
    fn read_terminal(&self, master: RawFd) -> Result<usize, Errno> {
        self.set(STREAM, self.get(STREAM) | UNMEASURED);
        self.file.write_all_at(&[0; PAGE], 0)?;
        let page = SharedWords::map(self.file.as_raw_fd(), PAGE / 8)?;
        // With the page in place read(2) cannot fail on it once the bytes have left the terminal.
        page.words()[0].store(0, SeqCst);
        page.read(master)
    }

    /// Removes the zeros that a kill after reading a terminal left on the stage.
    fn measure(&mut self) -> Result<()> {
        if self.get(STREAM) & UNMEASURED == 0 {
            return Ok(());
        }
        let fail = |e| Error::sys("looking at the stage of the logs", e);
        let len = (self.file.metadata().map_err(fail)?.len() as usize).min(PAGE);
        let bytes = self.bytes(len)?;
        let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        self.file.set_len(end as u64).map_err(fail)
    }

    /// The first `len` bytes on the stage.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn bytes(&mut self, len: usize) -> Result<&[u8]> {
        let Stage { file, buf, .. } = self;
        file.read_exact_at(&mut buf[..len], 0).map_err(|e| Error::sys("reading the stage of the logs", e))?;
        Ok(&buf[..len])
    }

    /// Writes the first `len` bytes on the stage to `log`, and empties it. Whether a new file was begun for that.
    ///
    /// # Errors
    /// The log file cannot be written, as when the disk is full. The bytes are then still on the stage.
    pub fn write(&mut self, len: usize, stream: Stream, log: &mut LogFile, limits: &Limits) -> Result<bool> {
        self.bytes(len)?;
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        format::encode(&mut text, &format::now(), stream, &self.buf[..len]);
        let written = self.append(&text, log, limits);
        self.text = text;
        let rotated = written?;
        self.clear()?;
        Ok(rotated)
    }

    fn append(&self, text: &[u8], log: &mut LogFile, limits: &Limits) -> Result<bool> {
        let rotated = log.make_room(text.len() as u64, limits)?;
        self.set(BEFORE, log.size());
        self.set(LENGTH, text.len() as u64);
        log.append(text).inspect_err(|_| self.set(LENGTH, 0))?;
        Ok(rotated)
    }

    /// Empties the stage.
    ///
    /// # Errors
    /// ftruncate(2) fails.
    pub fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::sys("emptying the stage of the logs", e))?;
        self.set(LENGTH, 0);
        Ok(())
    }

    /// Keeps what is on the stage until `log` can be written.
    ///
    /// # Errors
    /// There is no space for it. It is still on the stage.
    pub fn put_aside(&mut self, log: &Path, stream: Stream) -> Result<()> {
        self.left.put(&self.dir.join(STAGE), Owner { log: log.to_owned(), stream })?;
        self.file = open(&self.dir, STAGE)?;
        self.set(LENGTH, 0);
        Ok(())
    }

    /// Output that is kept because its log file could not be written.
    pub fn left(&mut self) -> &mut Left {
        &mut self.left
    }

    /// Writes what is kept for `log`.
    ///
    /// # Errors
    /// It still cannot be written, and is kept.
    pub fn write_left(&mut self, log: &mut LogFile, limits: &Limits) -> Result<()> {
        let path = log.path().to_owned();
        while let Some((len, stream)) = self.left.first(&path) {
            self.belongs_to(&path, stream);
            self.left.take(&path, &self.dir.join(STAGE))?;
            self.file = open(&self.dir, STAGE)?;
            let len = (len as usize).min(CHUNK);
            if let Err(e) = self.write(len, stream, log, limits) {
                self.put_aside(&path, stream)?;
                return Err(e);
            }
            self.left.done();
        }
        Ok(())
    }

    /// A log file that cannot be opened or written now has its bytes kept.
    fn finish_left(&mut self) -> Result<()> {
        let (path, stream) = self.owner();
        if let Err(e) = self.finish() {
            log::warn(e);
            if path.parent().is_some_and(Path::exists) {
                self.put_aside(&path, stream)?;
            }
        }
        self.left.done();
        self.clear()
    }

    fn finish(&mut self) -> Result<()> {
        self.measure()?;
        let fail = |e| Error::sys("looking at the stage of the logs", e);
        let len = self.file.metadata().map_err(fail)?.len() as usize;
        let (path, stream) = self.owner();
        // Without a path they were on their way to a terminal that is gone.
        if len > 0 && len <= CHUNK && !path.as_os_str().is_empty() {
            let mut log = LogFile::open(path)?;
            let (before, text) = (self.get(BEFORE), self.get(LENGTH));
            if text == 0 || log.size() != before + text {
                if text != 0 && log.size() > before {
                    // Killed in the middle of the write.
                    log.cut(before)?;
                }
                self.write(len, stream, &mut log, &Limits::default())?;
            }
        }
        Ok(())
    }
}

fn open(dir: &Path, name: &str) -> Result<File> {
    private::open(&dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd;

    /// A supervisor that is killed after each step of moving "b\n" to a log that has "a" already.
    #[test]
    fn a_kill_at_any_step_neither_loses_nor_doubles() {
        for step in 0..6 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("0.log");
            std::fs::write(&path, "T stdout F a\n").unwrap();
            let (r, w) = fd::pipe().unwrap();
            fd::write_all(w.as_raw_fd(), b"b\n").unwrap();
            let mut stage = Stage::open(dir.path()).unwrap();
            let mut log = LogFile::open(path.clone()).unwrap();
            // The steps of `write`.
            type Step<'a> = &'a dyn Fn(&mut Stage, &mut LogFile);
            let steps: [Step<'_>; 5] = [
                &|s, _| assert!(s.belongs_to(&path, Stream::Stdout)),
                &|s, _| assert_eq!(s.take(r.as_raw_fd()), Ok(2)),
                &|s, l| {
                    s.set(BEFORE, l.size());
                    s.set(LENGTH, 13);
                },
                &|_, l| l.append(&b"T stdout F b\n"[..if step == 5 { 4 } else { 13 }]).unwrap(),
                &|s, _| s.clear().unwrap(),
            ];
            for s in &steps[..if step == 5 { 4 } else { step }] {
                s(&mut stage, &mut log);
            }
            drop((stage, log));
            let mut stage = Stage::open(dir.path()).unwrap();
            let mut log = LogFile::open(path.clone()).unwrap();
            if step < 2 {
                assert!(stage.belongs_to(&path, Stream::Stdout));
                let n = stage.take(r.as_raw_fd()).unwrap();
                stage.write(n, Stream::Stdout, &mut log, &Limits::default()).unwrap();
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let texts: Vec<_> = text.lines().map(|l| l.rsplit(' ').next().unwrap()).collect();
            assert_eq!(texts, ["a", "b"], "killed after step {step}");
            assert_eq!(stage.take(r.as_raw_fd()), Err(Errno(libc::EAGAIN)));
        }
    }

    #[test]
    fn what_a_terminal_said_survives_a_kill_after_each_step() {
        for measured in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("0.log");
            let pty = nix::pty::openpty(None, None).unwrap();
            let master = pty.master.as_raw_fd();
            fd::set_nonblocking(master).unwrap();
            fd::write_all(pty.slave.as_raw_fd(), b"a\0b\n").unwrap();
            let mut stage = Stage::open(dir.path()).unwrap();
            assert!(stage.belongs_to(&path, Stream::Stderr));
            let len = if measured { stage.take(master) } else { stage.read_terminal(master) };
            assert_eq!(len, Ok(5));
            drop(stage);
            let mut stage = Stage::open(dir.path()).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.ends_with(" stderr F a\0b\r\n"), "{text:?}");
            // Nothing was said: nothing is written.
            assert!(stage.belongs_to(&path, Stream::Stdout));
            let none = if measured { stage.take(master) } else { stage.read_terminal(master) };
            assert_eq!(none, Err(Errno(libc::EAGAIN)));
            drop(stage);
            let mut stage = Stage::open(dir.path()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            drop(pty.slave);
            assert!(stage.belongs_to(&path, Stream::Stdout));
            assert_eq!(stage.take(master), Ok(0), "its end");
        }
    }
}
