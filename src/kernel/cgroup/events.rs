//! Waits for the OOM killer.

use super::Cgroup;
use super::dir::Dir;
use crate::error::{Errno, Error, Kind, Result};
use crate::plan::cgroup::Version;
use crate::sys::fd::read;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// An event of a watched container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// The container ran out of memory, and on version 2 a process was killed for it.
    Oom,
    /// The container has no more processes, or its cgroup is gone.
    Gone,
}

/// Watches a container. Its descriptor becomes readable when [`OomWatch::next_event`] has an event.
#[derive(Debug)]
pub struct OomWatch {
    dir: Dir,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Version 1: an eventfd(2) registered in `cgroup.event_control`.
    Event { event: EventFd, _control: OwnedFd },
    /// Version 2: inotify(7) on `memory.events` and `cgroup.events`.
    Notify { notify: Inotify, memory: WatchDescriptor, kills: u64 },
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Event { event, .. } => event.as_fd(),
            Source::Notify { notify, .. } => notify.as_fd(),
        }
    }
}

impl Cgroup {
    /// Starts to watch the container.
    ///
    /// # Errors
    /// There is no memory cgroup.
    pub fn oom_watch(&self) -> Result<OomWatch> {
        let Some(d) = self.dir("memory").or(self.v2()) else {
            return Err(Error::new(Kind::Unsupported, "memory controller missing")
                .hint("the container has no memory cgroup of its own"));
        };
        let dir = Dir::new(d.version, d.controllers.clone(), d.path.clone());
        let source = match d.version {
            Version::V1 => watch_v1(&dir)?,
            Version::V2 => watch_v2(&dir)?,
        };
        Ok(OomWatch { dir, source })
    }
}

impl Cgroup {
    /// An eventfd(2) that becomes readable when the container runs out of memory; None unless it has a memory limit in
    /// a cgroup of version 1.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn oom_event(&self) -> Result<Option<OwnedFd>> {
        /// The kernel's value for "no limit" is a little less than this, in bytes.
        const UNLIMITED: u64 = 1 << 62;
        let Some(d) = self.dir("memory").filter(|d| d.version == Version::V1) else { return Ok(None) };
        let limit = d.number("memory.limit_in_bytes").ok();
        if limit.is_none_or(|l| l >= UNLIMITED) {
            return Ok(None);
        }
        match watch_v1(d)? {
            Source::Event { event, .. } => Ok(Some(event.into())),
            Source::Notify { .. } => Ok(None),
        }
    }

    /// The file of version 2 that is modified when a process is killed for lack of memory.
    pub fn oom_file(&self) -> Option<String> {
        let d = self.dir("memory").or(self.v2()).filter(|d| d.version == Version::V2)?;
        d.read("memory.events").is_ok().then(|| d.file("memory.events"))
    }
}

fn watch_v1(d: &Dir) -> Result<Source> {
    let control = d
        .open("memory.oom_control", libc::O_RDONLY)
        .map_err(|e| d.error("opening", "memory.oom_control", e))?;
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|e| Error::sys("making an eventfd", e))?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    d.write("cgroup.event_control", &line).map_err(|e| d.error("writing to", "cgroup.event_control", e))?;
    Ok(Source::Event { event, _control: control })
}

fn watch_v2(d: &Dir) -> Result<Source> {
    let notify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .map_err(|e| Error::sys("making an inotify instance", e))?;
    let watch = |file: &str| {
        notify
            .add_watch(d.file(file).as_str(), AddWatchFlags::IN_MODIFY)
            .map_err(|e| d.error("watching", file, e.into()))
    };
    let memory = watch("memory.events")?;
    watch("cgroup.events")?;
    let kills = d.keyed("memory.events", "oom_kill").map_err(|e| d.error("reading", "memory.events", e))?;
    Ok(Source::Notify { notify, memory, kills: kills.unwrap_or(0) })
}

impl OomWatch {
    /// The event since the last call; `None` without one. Never blocks.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn next_event(&mut self) -> Result<Option<OomEvent>> {
        match &mut self.source {
            Source::Event { event, .. } => {
                let mut count = [0; 8];
                match read(event.as_raw_fd(), &mut count) {
                    Err(Errno(libc::EAGAIN)) => return Ok(None),
                    r => r.map_err(|e| Error::sys("reading an eventfd", e))?,
                };
                // The kernel also signals when the cgroup is removed.
                let gone = self.dir.open("memory.oom_control", libc::O_RDONLY).is_err();
                Ok(Some(if gone { OomEvent::Gone } else { OomEvent::Oom }))
            }
            Source::Notify { notify, memory, kills } => {
                let events = match notify.read_events() {
                    Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                    r => r.map_err(|e| Error::sys("reading an inotify instance", e))?,
                };
                if events.iter().any(|e| e.wd == *memory) {
                    // Other counters of the file change too.
                    let now = self.dir.keyed("memory.events", "oom_kill");
                    if let Ok(Some(n)) = now
                        && n > *kills
                    {
                        *kills = n;
                        return Ok(Some(OomEvent::Oom));
                    }
                }
                // This file may say that the last process is gone, or have gone itself. It is asked in any case,
                // because an OOM event and this one may have come with one read.
                match self.dir.keyed("cgroup.events", "populated") {
                    Ok(Some(1)) => Ok(None),
                    Ok(_) | Err(Errno(libc::ENOENT | libc::ENODEV)) => Ok(Some(OomEvent::Gone)),
                    Err(e) => Err(self.dir.error("reading", "cgroup.events", e)),
                }
            }
        }
    }

    /// Whether the container has gone. To ask after an [`OomEvent::Oom`], because the end may have come with it.
    pub fn is_gone(&self) -> bool {
        match self.dir.version {
            Version::V1 => self.dir.open("memory.oom_control", libc::O_RDONLY).is_err(),
            Version::V2 => self.dir.keyed("cgroup.events", "populated") != Ok(Some(1)),
        }
    }
}
