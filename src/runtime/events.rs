//! `events`: what a container uses, and when it runs out of memory.

use serde::Serialize;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use super::Runtime;
use super::container::{Container, cgroup_of};
use super::process::Process;
use crate::error::{Error, Result};
use crate::kernel::cgroup::{Cgroup, OomEvent, OomWatch, Stats, Usage};
use crate::kernel::rdt;
use crate::log;
use crate::state::id::ContainerId;
use crate::state::lifecycle::Operation;
use crate::state::model::Record;
use crate::sys::fd::{self, PollFd};

/// Something that happened in a container.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The container's.
    pub id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Stats>>,
}

/// Kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The figures of a moment, in the event's data.
    Stats,
    /// A process was killed because there was no memory.
    Oom,
}

/// The figures of the container `id` at this moment.
///
/// # Errors
/// [`crate::error::Kind::State`], `container not running`.
pub fn stats<'a>(runtime: &Runtime, id: &'a str) -> Result<Event<'a>> {
    let container = Container::open(runtime, id)?;
    container.check(Operation::Events)?;
    figures(id, &container.record, &container.cgroup()?)
}

/// The current resource usage of the container `id`, cheap enough for many containers; zeros once it has exited. Also the
/// start time of its first process: `CLOCK_BOOTTIME`, in nanoseconds.
///
/// # Errors
/// There is no such container, or an existing file of its cgroup cannot be read.
pub fn usage(runtime: &Runtime, id: &str) -> Result<(Usage, Option<u64>)> {
    let record = runtime.store.open(&ContainerId::new(id)?)?.record()?;
    // Ticks of USER_HZ (time(7)).
    let started = record.init.map(|process| process.start_time * 10_000_000);
    Ok((cgroup_of(&record)?.usage()?, started))
}

/// Reports to `out` everything that happens in the container `id`, with statistics every `interval`, until the container
/// ends or `out` returns `false`.
///
/// # Errors
/// As [`stats`], and those of `out`.
pub fn follow(
    runtime: &Runtime,
    id: &str,
    interval: Duration,
    mut out: impl FnMut(&Event<'_>) -> Result<bool>,
) -> Result<()> {
    let container = Container::open(runtime, id)?;
    container.check(Operation::Events)?;
    let cgroup = container.cgroup()?;
    let Some(process) = Process::open(container.init()?)? else { return Ok(()) };
    let mut watch = match cgroup.oom_watch() {
        Ok(watch) => Some(watch),
        Err(e) => {
            log::warn(e.context("out-of-memory events will be missing"));
            None
        }
    };
    let mut next = Instant::now() + interval;
    loop {
        match wait(&process, watch.as_ref(), next)? {
            Woken::Ended => return Ok(()),
            Woken::Time => {
                next = Instant::now() + interval;
                if !out(&figures(id, &container.record, &cgroup)?)? {
                    return Ok(());
                }
            }
            Woken::Watch => match watch.as_mut().map(OomWatch::next_event).transpose()?.flatten() {
                Some(OomEvent::Oom) if !out(&Event { kind: EventKind::Oom, id, data: None })? => {
                    return Ok(());
                }
                Some(OomEvent::Gone) => return Ok(()),
                _ => {}
            },
        }
    }
}

fn figures<'a>(id: &'a str, record: &Record, cgroup: &Cgroup) -> Result<Event<'a>> {
    let mut stats = cgroup.stats()?;
    if let Some(group) = &record.intel_rdt {
        stats.intel_rdt = rdt::stats::read(&group.class, group.monitor.as_deref());
    }
    Ok(Event { kind: EventKind::Stats, id, data: Some(Box::new(stats)) })
}

enum Woken {
    /// The container's first process has exited.
    Ended,
    /// The watch has an event.
    Watch,
    /// It is time for figures.
    Time,
}

fn wait(process: &Process, watch: Option<&OomWatch>, until: Instant) -> Result<Woken> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let watched = watch.map_or(-1, |w| w.as_fd().as_raw_fd());
        let mut fds = [PollFd::new(watched, libc::POLLIN), PollFd::new(process.fd(), libc::POLLIN)];
        let timeout = left.as_millis().min(60_000) as i32 + 1;
        fd::poll(&mut fds, timeout).map_err(|e| Error::sys("waiting for events", e))?;
        // The reason is reported before the exit.
        if fds[0].revents() != 0 {
            return Ok(Woken::Watch);
        }
        if fds[1].revents() != 0 {
            return Ok(Woken::Ended);
        }
        if Instant::now() >= until {
            return Ok(Woken::Time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_envelope_of_runc() {
        let json = |e: &Event<'_>| serde_json::to_value(e).unwrap();
        let oom = json(&Event { kind: EventKind::Oom, id: "c1", data: None });
        assert_eq!(oom, serde_json::json!({ "type": "oom", "id": "c1" }));
        let stats = json(&Event { kind: EventKind::Stats, id: "c1", data: Some(Box::default()) });
        assert_eq!(stats["type"], "stats");
        for part in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"] {
            assert!(stats["data"][part].is_object(), "{part}");
        }
    }
}
