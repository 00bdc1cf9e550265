//! Watches of containers that may run out of memory.

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// In a mark of the descriptors that the loop waits for: it is about memory, and the rest is the number of the instance.
pub const MEMORY_MARK: u64 = 1 << 63;

/// The mark of the one inotify instance, of which a user may have few.
pub const INOTIFY_MARK: u64 = u64::MAX;

/// The watch of all containers on cgroup version 2.
#[derive(Debug, Default)]
pub struct Watches {
    pub notify: Option<Inotify>,
    pub instances: HashMap<WatchDescriptor, u64>,
}

/// The watch of one container.
#[derive(Debug, Default)]
pub struct Watch {
    /// Version 1: readable when the container ran out of memory.
    pub event: Option<OwnedFd>,
    /// Version 2: until it has reported.
    pub notify: Option<WatchDescriptor>,
    /// The counter will be looked at.
    pub pending: bool,
    /// The counter when it was last looked at.
    pub seen: u64,
}

impl Watches {
    /// Watches the events of a cgroup on version 2 once.
    pub fn add(&mut self, path: &str, instance: u64, epoll: &Epoll) -> nix::Result<WatchDescriptor> {
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
    pub fn take_reports(&mut self) -> Vec<u64> {
        let events = self.notify.as_ref().and_then(|n| n.read_events().ok()).unwrap_or_default();
        events.iter().filter_map(|e| self.instances.remove(&e.wd)).collect()
    }
}
