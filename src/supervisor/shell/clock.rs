//! The clocks of the supervisor, in the core's units.

use crate::error::Error;
use crate::log;
use crate::supervisor::core::model::Clock;
use crate::supervisor::core::time::Time;
use crate::sys::{time, watched};
use crate::workload::schedule::Zone;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// When the timer that notices the setting of the clock expires: never.
const FAR: Duration = Duration::from_secs(200 * 366 * 86_400);

/// `CLOCK_BOOTTIME`, as the core counts.
pub fn now() -> Time {
    Time(time::boottime_ns() / 1_000_000)
}

/// Offset from a [`Time`] to milliseconds since 1970.
pub fn epoch_ms() -> i64 {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    wall.as_millis() as i64 - now().0 as i64
}

/// Milliseconds since 1970, by the wall clock.
pub fn wall_ms() -> i64 {
    epoch_ms().saturating_add_unsigned(now().0)
}

/// The host's time zone: a name of the tz database, by TZ or the link /etc/localtime (localtime(5)). `None`: UTC, or unknown.
pub fn zone() -> Option<String> {
    let named = |name: &str| Zone::named(name).map(|_| name.to_owned());
    if let Ok(name) = std::env::var("TZ") {
        return named(name.trim_start_matches(':'));
    }
    let link = std::fs::read_link("/etc/localtime").ok()?;
    let (_, name) = link.to_str()?.split_once("/zoneinfo/")?;
    named(name)
}

/// The wall clock as the core counts it.
pub fn clock() -> Clock {
    Clock { offset: epoch_ms(), zone: zone() }
}

/// Notices when the wall clock is set (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`).
pub struct Wall {
    timer: TimerFd,
    ready: AsyncFd<OwnedFd>,
}

impl Wall {
    /// # Errors
    /// There are no descriptors left.
    pub fn new() -> io::Result<Wall> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        let ready = watched::register_readable(timer.as_fd().try_clone_to_owned()?)?;
        let wall = Wall { timer, ready };
        wall.arm()?;
        Ok(wall)
    }

    fn arm(&self) -> io::Result<()> {
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(self.timer.set(Expiration::OneShot(FAR.into()), flags)?)
    }

    /// Returns when it was set.
    pub async fn set(&self) {
        let Ok(mut ready) = self.ready.readable().await else { return std::future::pending().await };
        // The read reports ECANCELED; the timer itself is set again for the case that it has expired.
        let _ = self.timer.wait();
        ready.clear_ready();
        if let Err(e) = self.arm() {
            log::warn(Error::sys("watching the wall clock", e));
        }
    }
}
