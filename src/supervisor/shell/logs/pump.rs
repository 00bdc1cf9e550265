//! The thread that moves what containers write from their pipes to their log files.
//!
//! It has the pipes for itself, so that a container that writes a lot delays no decision. A log file that cannot be
//! written blocks its container, like a full pipe, and no other.

use super::stage::{CHUNK, Stage};
use super::{Limits, Stream, file, file::LogFile};
use crate::error::{Errno, Error, Result};
use crate::log;
use crate::sys::tty;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long after a failure a log file is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The mark of the descriptor that wakes the thread.
const WAKE: u64 = u64::MAX;

/// Where output goes.
pub enum Sink {
    File(LogFile),
    /// To a terminal. Nothing is kept.
    Live(Show),
}

/// A part of what an instance writes.
pub type Piece = (Stream, Vec<u8>);

/// Shows what comes.
pub type Show = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// Called when the output of an instance cannot be written, with the reason, and when it can again.
pub type Blocked = Box<dyn Fn(u64, Option<String>) + Send>;

/// Where else the output of an instance goes.
type Tap = tokio::sync::mpsc::Sender<Piece>;

enum Command {
    Add { id: u64, pipes: [Option<OwnedFd>; 2], sink: Sink },
    Finish { id: u64, done: Box<dyn FnOnce() + Send> },
    Tap { id: u64, to: Tap, tapped: oneshot::Sender<()> },
    End,
}

/// The thread, as others see it. It ends, after what is in the pipes at that moment, when this is dropped.
pub struct Pump {
    commands: mpsc::Sender<Command>,
    wake: Arc<EventFd>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pump {
    /// Starts the thread. `dir`, on tmpfs, keeps what is on its way; `root` is where all log files are.
    ///
    /// # Errors
    /// Output that was on its way when the last one was killed cannot be written; the thread cannot be started.
    pub fn start(dir: &Path, root: &Path, limits: Limits, blocked: Blocked) -> Result<Pump> {
        let fail = |e: nix::errno::Errno| Error::sys("starting the thread that writes logs", e);
        let mut stage = Stage::open(dir)?;
        let retry = (!stage.left().logs().is_empty()).then(|| Instant::now() + RETRY);
        let wake =
            Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(fail)?);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fail)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).map_err(fail)?;
        let (commands, receiver) = mpsc::channel();
        let mut worker = Worker {
            epoll,
            wake: Arc::clone(&wake),
            commands: receiver,
            sources: BTreeMap::new(),
            stage,
            root: root.to_owned(),
            limits,
            retry,
            blocked,
        };
        let thread = std::thread::Builder::new()
            .name("logs".into())
            .spawn(move || worker.run())
            .map_err(|e| Error::sys("starting the thread that writes logs", e))?;
        Ok(Pump { commands, wake, thread: Some(thread) })
    }

    fn send(&self, command: Command) {
        // The thread lives as long as this.
        let _ = self.commands.send(command);
        let _ = self.wake.write(1);
    }

    /// Moves what comes out of `pipes` to `sink` from now on.
    pub fn add(&self, id: u64, pipes: [Option<OwnedFd>; 2], sink: Sink) {
        self.send(Command::Add { id, pipes, sink });
    }

    /// Sends what comes from `id` to `to` as well, until its end, or until that is full: nobody waits for it. The answer comes once
    /// nothing is read without it any more.
    pub fn tap(&self, id: u64, to: Tap) -> oneshot::Receiver<()> {
        let (tapped, answer) = oneshot::channel();
        self.send(Command::Tap { id, to, tapped });
        answer
    }

    /// Moves what is in the pipes of `id`, closes them and then calls `done`.
    pub fn finish(&self, id: u64, done: impl FnOnce() + Send + 'static) {
        self.send(Command::Finish { id, done: Box::new(done) });
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.send(Command::End);
        if let Some(thread) = self.thread.take() {
            // It panics only by ending the whole process.
            let _ = thread.join();
        }
    }
}

struct Source {
    pipes: [Option<OwnedFd>; 2],
    sink: Sink,
    /// Nothing is taken out of the pipes until what is kept of it is written.
    stuck: bool,
    taps: Vec<Tap>,
    /// The program's end of its terminal: without one that is open, reading from ours would end.
    _peer: Option<OwnedFd>,
}

struct Worker {
    epoll: Epoll,
    wake: Arc<EventFd>,
    commands: mpsc::Receiver<Command>,
    sources: BTreeMap<u64, Source>,
    stage: Stage,
    root: PathBuf,
    limits: Limits,
    retry: Option<Instant>,
    blocked: Blocked,
}

/// Result of one attempt to move a chunk.
#[derive(PartialEq, Eq)]
enum Moved {
    Some,
    /// No data is available now.
    None,
    /// Nobody can write any more.
    End,
    /// The log file cannot be written.
    Stuck,
}

impl Worker {
    fn run(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let wait = self.retry.map_or(EpollTimeout::NONE, |at| {
                let left = at.saturating_duration_since(Instant::now());
                EpollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(EpollTimeout::ZERO)
            });
            let n = self.epoll.wait(&mut events, wait).unwrap_or(0);
            for event in &events[..n] {
                match event.data() {
                    WAKE => drop(self.wake.read()),
                    mark => self.ready(mark >> 1, (mark & 1) as usize),
                }
            }
            if self.retry.is_some_and(|at| Instant::now() >= at) {
                self.unstick();
            }
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Add { id, pipes, sink } => self.add(id, pipes, sink),
                    Command::Finish { id, done } => {
                        self.finish(id);
                        done();
                    }
                    Command::Tap { id, to, tapped } => {
                        self.sources.entry(id).and_modify(|source| source.taps.push(to));
                        // The client may have left already.
                        let _ = tapped.send(());
                    }
                    Command::End => {
                        while let Some(id) = self.sources.keys().next().copied() {
                            self.finish(id);
                        }
                        return;
                    }
                }
            }
        }
    }

    fn add(&mut self, id: u64, pipes: [Option<OwnedFd>; 2], sink: Sink) {
        // Output that a killed supervisor could not write comes first.
        let stuck = matches!(&sink, Sink::File(f) if self.stage.left().first(f.path()).is_some());
        let peer = pipes[0].as_ref().and_then(|end| tty::peer(end.as_raw_fd()).ok());
        self.sources.insert(id, Source { pipes, sink, stuck, taps: Vec::new(), _peer: peer });
        if !stuck {
            self.watch(id);
        }
    }

    fn watch(&self, id: u64) {
        let Some(source) = self.sources.get(&id) else { return };
        for (n, pipe) in source.pipes.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, id << 1 | n as u64);
            if let Some(Err(e)) = pipe.as_ref().map(|p| self.epoll.add(p, event)) {
                log::warn(Error::sys("watching the output of a container", e));
            }
        }
    }

    fn ready(&mut self, id: u64, n: usize) {
        match self.step(id, n) {
            Moved::Some | Moved::None => {}
            Moved::End => self.close(id, n),
            Moved::Stuck => {
                self.retry.get_or_insert(Instant::now() + RETRY);
                let pipes = self.sources.get(&id).into_iter().flat_map(|s| s.pipes.iter().flatten());
                for pipe in pipes {
                    // It is watched again once it can be written.
                    let _ = self.epoll.delete(pipe);
                }
            }
        }
    }

    /// Moves one chunk.
    fn step(&mut self, id: u64, n: usize) -> Moved {
        let Some(source) = self.sources.get_mut(&id) else { return Moved::None };
        let Some(pipe) = &source.pipes[n] else { return Moved::End };
        let stream = Stream::ALL[n];
        let known = match &source.sink {
            Sink::File(f) => self.stage.belongs_to(f.path(), stream),
            Sink::Live(_) => self.stage.belongs_to(Path::new(""), stream),
        };
        debug_assert!(known, "log paths are short");
        let len = match self.stage.take(pipe.as_raw_fd()) {
            Ok(0) => return Moved::End,
            Ok(len) => len,
            Err(Errno(libc::EAGAIN)) => return Moved::None,
            // The stage is on a disk that is full.
            Err(Errno(libc::ENOSPC)) => {
                source.stuck = true;
                return Moved::Stuck;
            }
            Err(e) => {
                log::warn(Error::sys("reading the output of a container", e));
                return Moved::End;
            }
        };
        if !source.taps.is_empty() {
            let bytes = self.stage.bytes(len).map(<[u8]>::to_vec).unwrap_or_default();
            source.taps.retain(|tap| tap.try_send((stream, bytes.clone())).is_ok());
        }
        let done = match &mut source.sink {
            Sink::File(f) => self.stage.write(len, stream, f, &self.limits),
            Sink::Live(show) => {
                let shown = self.stage.bytes(len).map(|bytes| show(stream, bytes));
                shown.and_then(|()| self.stage.clear()).map(|()| false)
            }
        };
        match done {
            Ok(rotated) => {
                if rotated {
                    self.tidy();
                }
                Moved::Some
            }
            Err(e) => {
                (self.blocked)(id, Some(e.to_string()));
                log::warn(e);
                source.stuck = true;
                if let Sink::File(f) = &source.sink {
                    put_aside(&mut self.stage, f.path(), stream);
                } else if let Err(e) = self.stage.clear() {
                    log::warn(e);
                }
                self.tidy();
                Moved::Stuck
            }
        }
    }

    fn tidy(&self) {
        if let Err(e) = file::keep_within(&self.root, self.limits.total) {
            log::warn(e);
        }
    }

    /// Tries again what could not be written: also what is kept of containers that have exited.
    fn unstick(&mut self) {
        self.retry = None;
        let stuck = self.sources.iter().filter(|(_, s)| s.stuck).map(|(id, _)| *id);
        for id in stuck.collect::<Vec<_>>() {
            if self.write_left(id) {
                (self.blocked)(id, None);
                self.watch(id);
            } else {
                self.retry = Some(Instant::now() + RETRY);
            }
        }
        for path in self.stage.left().logs() {
            let is_live = |s: &Source| matches!(&s.sink, Sink::File(f) if f.path() == path);
            if self.sources.values().any(is_live) {
                continue;
            }
            if !path.parent().is_some_and(Path::exists) {
                self.stage.left().forget(&path);
            } else if LogFile::open(path)
                .and_then(|mut f| self.stage.write_left(&mut f, &self.limits))
                .is_err()
            {
                self.retry = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Whether nothing is kept of it any more.
    fn write_left(&mut self, id: u64) -> bool {
        let Some(source) = self.sources.get_mut(&id) else { return true };
        let written = match &mut source.sink {
            Sink::File(f) => self.stage.write_left(f, &self.limits).is_ok(),
            Sink::Live(_) => true,
        };
        source.stuck = !written;
        written
    }

    fn close(&mut self, id: u64, n: usize) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        if let Some(pipe) = source.pipes[n].take() {
            // Others may have it too, so that closing alone would not end the watch.
            let _ = self.epoll.delete(pipe.as_fd());
        }
    }

    /// All that was written before is in the pipes by now.
    fn finish(&mut self, id: u64) {
        self.write_left(id);
        for n in 0..2 {
            // Others may still write; more than a full pipe is not waited for.
            let mut left = (1 << 20) / CHUNK + 16;
            while left > 0 && self.drain(id, n) {
                left -= 1;
            }
            self.close(id, n);
        }
        if self.sources.remove(&id).is_some_and(|s| s.stuck) {
            self.retry.get_or_insert(Instant::now() + RETRY);
        }
    }

    /// Moves one chunk of a container that has exited to its log file, or to what is kept. Whether there may be more.
    fn drain(&mut self, id: u64, n: usize) -> bool {
        let Some(source) = self.sources.get(&id) else { return false };
        let (true, Sink::File(f)) = (source.stuck, &source.sink) else {
            return matches!(self.step(id, n), Moved::Some | Moved::Stuck);
        };
        let Some(pipe) = &source.pipes[n] else { return false };
        let stream = Stream::ALL[n];
        if self.stage.left().is_full() {
            log::warn("the last output of a container is lost: its log file cannot be written");
            return false;
        }
        self.stage.belongs_to(f.path(), stream);
        let moved = self.stage.take(pipe.as_raw_fd()).is_ok_and(|len| len > 0);
        if moved {
            put_aside(&mut self.stage, f.path(), stream);
        }
        moved
    }
}

/// Keeps what is on the stage. With no space for that either it is lost: the stage has to be empty for the next output.
fn put_aside(stage: &mut Stage, log: &Path, stream: Stream) {
    if let Err(e) = stage.put_aside(log, stream) {
        log::warn(e.context(format!("output for {log:?} is lost")));
        if let Err(e) = stage.clear() {
            log::warn(e);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format;
    use super::*;
    use crate::sys::fd;

    #[test]
    fn what_is_written_gets_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("logs");
        let limits = Limits { file: 2000, ..Limits::default() };
        let pump = Pump::start(dir.path(), &root, limits, Box::new(|_, _| ())).unwrap();
        let (out, w_out) = fd::pipe().unwrap();
        let (err, w_err) = fd::pipe().unwrap();
        let sink = Sink::File(LogFile::new_run(&root, &limits).unwrap());
        pump.add(7, [Some(out), Some(err)], sink);
        for n in 0..50 {
            fd::write_all(w_out.as_raw_fd(), format!("line {n}\n").as_bytes()).unwrap();
        }
        fd::write_all(w_err.as_raw_fd(), b"no end").unwrap();
        drop((w_out, w_err));
        let (tx, rx) = mpsc::channel();
        pump.finish(7, move || tx.send(()).unwrap());
        rx.recv().unwrap();
        let all: Vec<u8> =
            file::files(&root, 0).unwrap().iter().flat_map(|p| std::fs::read(p).unwrap()).collect();
        let lines: Vec<_> = all.split(|b| *b == b'\n').filter_map(format::decode).collect();
        let texts = |s| lines.iter().filter(move |l| l.stream == s).map(|l| String::from_utf8_lossy(l.text));
        let expected: Vec<_> = (0..50).map(|n| format!("line {n}")).collect();
        assert_eq!(texts(Stream::Stdout).collect::<Vec<_>>(), expected);
        assert_eq!(texts(Stream::Stderr).collect::<Vec<_>>(), ["no end"]);
        assert!(!lines.iter().find(|l| l.stream == Stream::Stderr).unwrap().full);
    }
}
