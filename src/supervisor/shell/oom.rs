//! Processes of containers that are killed for lack of memory while the first one keeps running. The kernel reports it; nothing polls.

use super::host::HostEffects;
use super::job::JobResult;
use super::memory::{INOTIFY_MARK, MEMORY_MARK};
use crate::error::Result;
use crate::kernel::cgroup::Cgroup;
use crate::log;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::ids::Key;
use crate::sys::fd;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// From the kernel's event until the counter is read: version 1 reports before it kills, and the death of a first
/// process is reported as such.
const COUNTER_DELAY: Duration = Duration::from_millis(200);

impl HostEffects {
    /// Watches a container whose program runs.
    pub fn watch_memory(&mut self, instance: u64) {
        let HostEffects { live, memory, pidfds, .. } = self;
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
        let instances =
            if mark == INOTIFY_MARK { self.memory.take_reports() } else { vec![mark & !MEMORY_MARK] };
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
                    // Without a receiver the supervisor is shutting down.
                    let _ = done.send(JobResult::Memory { key });
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
