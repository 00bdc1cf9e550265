//! Processes of containers that are killed for lack of memory while the first one keeps running. The kernel reports it; nothing polls.

use super::jobs::Done;
use super::linux::Linux;
use crate::error::Result;
use crate::kernel::cgroup::Cgroup;
use crate::log;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::ids::Key;
use crate::sys::fd;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// In a mark of the descriptors that the loop waits for: it is about memory, and the rest is the number of the instance.
pub const MEMORY_MARK: u64 = 1 << 63;
/// The mark of the one inotify instance, of which a user may have few.
const INOTIFY_MARK: u64 = u64::MAX;
/// From the kernel's event until the counter is read: version 1 reports before it kills, and the death of a first
/// process is reported as such.
const COUNTER_DELAY: Duration = Duration::from_millis(200);

/// What is watched of all containers on cgroup version 2.
#[derive(Debug, Default)]
pub struct Watches {
    notify: Option<Inotify>,
    instances: HashMap<WatchDescriptor, u64>,
}

/// What is watched of one container.
#[derive(Debug, Default)]
pub struct Watch {
    /// Version 1: readable when the container ran out of memory.
    event: Option<OwnedFd>,
    /// Version 2: until it has reported.
    notify: Option<WatchDescriptor>,
    /// The counter will be looked at.
    pending: bool,
    /// The counter when it was last looked at.
    seen: u64,
}

impl Watches {
    fn add(&mut self, path: &str, instance: u64, epoll: &Epoll) -> nix::Result<WatchDescriptor> {
        if self.notify.is_none() {
            let notify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            epoll.add(&notify, EpollEvent::new(EpollFlags::EPOLLIN, INOTIFY_MARK))?;
            self.notify = Some(notify);
        }
        let notify = self.notify.as_ref().ok_or(nix::errno::Errno::EBADF)?;
        // Once, so that a container which is always short of memory does not keep us busy.
        let watch = notify.add_watch(path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT)?;
        self.instances.insert(watch, instance);
        Ok(watch)
    }

    /// The instances with something to report.
    fn told(&mut self) -> Vec<u64> {
        let events = self.notify.as_ref().and_then(|n| n.read_events().ok()).unwrap_or_default();
        events.iter().filter_map(|e| self.instances.remove(&e.wd)).collect()
    }
}

impl Linux {
    /// Watches a container whose program runs.
    pub fn watch_memory(&mut self, instance: u64) {
        let Linux { live, memory, pidfds, .. } = self;
        let Some(live) = live.get_mut(&instance) else { return };
        let Some(cgroup) = &live.cgroup else { return };
        let mut watch = || -> Result<()> {
            if live.memory.event.is_none()
                && let Some(event) = cgroup.oom_event()?
            {
                let mark = EpollEvent::new(EpollFlags::EPOLLIN, MEMORY_MARK | instance);
                pidfds
                    .add(&event, mark)
                    .map_err(|e| crate::error::Error::sys("waiting for an eventfd", e))?;
                live.memory.event = Some(event);
            }
            if let Some(path) = cgroup.oom_file() {
                let added = memory.add(&path, instance, pidfds);
                live.memory.notify =
                    Some(added.map_err(|e| crate::error::Error::sys(format!("watching {path:?}"), e))?);
            }
            Ok(())
        };
        if let Err(e) = watch() {
            log::warn(e.context(format!("container {} is not watched for lack of memory", live.name.id)));
        }
    }

    /// Takes what was killed so far as known: it was reported by an earlier supervisor, or is lost.
    pub fn forget_memory(&mut self, instance: u64) {
        if let Some(live) = self.live.get_mut(&instance) {
            live.memory.seen = count(live.cgroup.as_ref());
        }
    }

    /// Lets the watch of a container go that is removed.
    pub fn unwatch_memory(&mut self, instance: u64) {
        let Some(live) = self.live.get_mut(&instance) else { return };
        if let Some(event) = live.memory.event.take() {
            let _ = self.pidfds.delete(&event);
        }
        if let (Some(watch), Some(notify)) = (live.memory.notify.take(), &self.memory.notify)
            && self.memory.instances.remove(&watch).is_some()
        {
            // It may be gone with its file.
            let _ = notify.rm_watch(watch);
        }
    }

    /// The kernel has reported an event on the descriptor of this mark.
    pub fn memory_told(&mut self, mark: u64) {
        let instances = if mark == INOTIFY_MARK { self.memory.told() } else { vec![mark & !MEMORY_MARK] };
        for instance in instances {
            let Some(live) = self.live.get_mut(&instance) else { continue };
            live.memory.notify = None;
            if let Some(event) = &live.memory.event {
                // The number of events means nothing.
                let _ = fd::read(event.as_raw_fd(), &mut [0; 8]);
            }
            if !std::mem::replace(&mut live.memory.pending, true) {
                let (key, done) = (live.name.key, self.done.clone());
                self.jobs += 1;
                tokio::spawn(async move {
                    tokio::time::sleep(COUNTER_DELAY).await;
                    // Without a receiver the supervisor is ending.
                    let _ = done.send(Done::Memory { key });
                });
            }
        }
    }

    /// Looks whether a process was killed.
    pub fn look_at_memory(&mut self, key: Key, events: &mut Vec<Event>) {
        let Some(live) = self.live.get_mut(&key.instance) else { return };
        live.memory.pending = false;
        if live.pidfd.is_none() {
            // Its exit reports it.
            return;
        }
        // Before reading the counter: later kills are reported.
        self.watch_memory(key.instance);
        let Some(live) = self.live.get_mut(&key.instance) else { return };
        let now = count(live.cgroup.as_ref());
        if now > live.memory.seen {
            live.memory.seen = now;
            events.push(Event::OomKilled { key });
        }
    }
}

fn count(cgroup: Option<&Cgroup>) -> u64 {
    cgroup.and_then(|c| c.oom_count().ok()).unwrap_or(0)
}
