//! Stops and continues all processes of a container at once.

use super::dir::Dir;
use super::{Cgroup, v1, v2};
use crate::error::{Errno, Error, Kind, Result};
use crate::plan::cgroup::Version;
use crate::sys::fd;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

impl Cgroup {
    /// Freezes the container and waits until every process is frozen.
    ///
    /// # Errors
    /// The host has no freezer, or not all processes froze within `timeout`; then they are thawed again.
    pub fn freeze(&self, timeout: Duration) -> Result<()> {
        let d = self.freezer()?;
        let result = match d.version {
            Version::V1 => freeze_v1(d, timeout),
            Version::V2 => freeze_v2(d, timeout),
        };
        if result.is_err() {
            // Half frozen is worse than not frozen.
            let _ = self.thaw();
        }
        result
    }

    /// Lets the container's processes run on. A cgroup that is gone has none: systemd removes it with the last one.
    ///
    /// # Errors
    /// The host has no freezer.
    pub fn thaw(&self) -> Result<()> {
        let d = self.freezer()?;
        let (file, value) = match d.version {
            Version::V1 => ("freezer.state", "THAWED"),
            Version::V2 => ("cgroup.freeze", "0"),
        };
        match d.write(file, value) {
            Err(Errno(libc::ENOENT | libc::ENODEV)) => Ok(()),
            r => r.map_err(|e| d.error(&format!("writing {value:?} to"), file, e)),
        }
    }

    /// Whether the container has been frozen, and not only a cgroup above it. A cgroup that is gone, and a host
    /// without a freezer, are not frozen.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let Ok(d) = self.freezer() else { return Ok(false) };
        let state = match d.version {
            Version::V1 => v1::is_frozen(d),
            Version::V2 => v2::is_frozen(d),
        };
        match state {
            Err(e) if e.errno().is_some_and(|e| matches!(e.0, libc::ENOENT | libc::ENODEV)) => Ok(false),
            r => r,
        }
    }

    /// The directory of the cgroup that freezes, for other ways to stop the processes.
    pub fn freezer_path(&self) -> Option<&str> {
        self.freezer().ok().map(|d| d.path.as_str())
    }

    /// The cgroup that freezes: version 1's where it is mounted, because then it has all processes for sure.
    fn freezer(&self) -> Result<&Dir> {
        self.dir("freezer").or(self.v2()).ok_or_else(|| {
            let what = "cannot toggle freezer: cgroups not configured for container";
            Error::new(Kind::Unsupported, what)
                .hint("the container has no cgroup of its own that can be frozen")
        })
    }
}

fn timed_out(d: &Dir, timeout: Duration) -> Error {
    let what =
        format!("unable to freeze {:?}: not all processes stopped within {} ms", d.path, timeout.as_millis());
    Error::new(Kind::Timeout, what).hint("a process may be in an uninterruptible system call")
}

/// Version 1 may stay in FREEZING as long as new processes appear, and gets on when it is written again.
fn freeze_v1(d: &Dir, timeout: Duration) -> Result<()> {
    let end = Instant::now() + timeout;
    let write = |value| {
        d.write("freezer.state", value)
            .map_err(|e| d.error(&format!("writing {value:?} to"), "freezer.state", e))
    };
    for round in 1.. {
        write("FROZEN")?;
        if v1::freezer(d)? == v1::Freezer::Frozen {
            return Ok(());
        }
        if Instant::now() >= end {
            break;
        }
        if round % 50 == 0 {
            write("THAWED")?;
        }
        std::thread::sleep(Duration::from_micros(if round < 10 { 50 } else { 1000 }));
    }
    Err(timed_out(d, timeout))
}

/// Version 2 reports in `cgroup.events` when it is done, and wakes its pollers.
fn freeze_v2(d: &Dir, timeout: Duration) -> Result<()> {
    d.write("cgroup.freeze", "1").map_err(|e| d.error("writing \"1\" to", "cgroup.freeze", e))?;
    if wait_event(d, "frozen", 1, timeout)? { Ok(()) } else { Err(timed_out(d, timeout)) }
}

/// Waits until `key` of `cgroup.events` has `value`; false after `timeout`.
pub(super) fn wait_event(d: &Dir, key: &str, value: u64, timeout: Duration) -> Result<bool> {
    let end = Instant::now() + timeout;
    let fail = |e| d.error("reading", "cgroup.events", e);
    let file = d.open("cgroup.events", libc::O_RDONLY).map_err(fail)?;
    loop {
        let mut buf = [0; 256];
        // The position is at the start only once, but the file is one record that fits.
        let n = nix::sys::uio::pread(&file, &mut buf, 0).map_err(|e| fail(e.into()))?;
        let text = String::from_utf8_lossy(&buf[..n]);
        if super::dir::pairs(&text).any(|(k, v)| k == key && v == value) {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [fd::PollFd::new(file.as_raw_fd(), libc::POLLPRI)];
        let ms = left.as_millis().clamp(1, 60_000) as i32;
        fd::poll(&mut fds, ms).map_err(|e| d.error("polling", "cgroup.events", e))?;
    }
}
