//! When the supervisor is asked whether it is alive, and when it is taken for hung. Times are milliseconds of the monotonic clock.

use crate::supervisor::shell::notify;
use crate::sys::time;

/// From one ping to the next.
const PERIOD: u64 = 3000;
/// Pings in a row that a supervisor may leave unanswered. Pings are counted and not time: one that was suspended together with
/// the keeper, as with the whole machine, has missed none.
const MISSED: u64 = 5;
/// The same, while it starts: replaying journals and looking at thousands of containers takes time.
const MISSED_AT_START: u64 = 40;

/// The watch over one supervisor.
#[derive(Debug)]
pub struct Watch {
    next: Option<u64>,
    unanswered: u64,
    limit: u64,
}

/// Action to take now.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Ping,
    /// It has not answered for so many milliseconds.
    Kill {
        silent: u64,
    },
}

impl Watch {
    pub fn new(now: u64) -> Watch {
        Watch { next: Some(now + PERIOD), unanswered: 0, limit: MISSED_AT_START }
    }

    /// When to call [`Watch::check`].
    pub fn due(&self) -> Option<u64> {
        self.next
    }

    pub fn check(&mut self, now: u64) -> Due {
        if self.next.is_none_or(|at| now < at) {
            return Due::Nothing;
        }
        if self.unanswered >= self.limit {
            return Due::Kill { silent: self.unanswered * PERIOD };
        }
        self.unanswered += 1;
        self.next = Some(now + PERIOD);
        Due::Ping
    }

    pub fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// It has started. One of an earlier version answers no pings.
    pub fn ready(&mut self, answers: bool) {
        self.unanswered = 0;
        self.limit = MISSED;
        if !answers {
            self.stop();
        }
    }

    pub fn stop(&mut self) {
        self.next = None;
    }
}

/// The service manager, when it watches (sd_watchdog_enabled(3)).
#[derive(Debug)]
pub struct Manager {
    period: u64,
    next: Option<u64>,
}

impl Manager {
    pub fn from_environment() -> Manager {
        let micros: Option<u64> = std::env::var("WATCHDOG_USEC").ok().and_then(|v| v.parse().ok());
        // Half of what it allows, as its manual advises.
        let period = micros.map_or(0, |m| (m / 2000).max(1));
        Manager { period, next: micros.map(|_| time::monotonic_ms()) }
    }

    /// When to notify the manager.
    pub fn due(&self) -> Option<u64> {
        self.next
    }

    /// Notifies it that the keeper is alive, when that is due.
    pub fn tell(&mut self, now: u64) {
        if self.next.is_some_and(|at| now >= at) {
            self.next = Some(now + self.period);
            notify::send("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_in_a_row_is_a_hang() {
        let mut w = Watch::new(0);
        w.ready(true);
        let mut now = 0;
        for _ in 0..20 {
            now += PERIOD;
            assert_eq!(w.check(now), Due::Ping);
            assert_eq!(w.check(now), Due::Nothing);
            w.answered();
        }
        // The machine slept: one ping is late, and that is all.
        now += 1000 * PERIOD;
        for _ in 0..MISSED {
            assert_eq!(w.check(now), Due::Ping);
            now += PERIOD;
        }
        assert_eq!(w.check(now), Due::Kill { silent: MISSED * PERIOD });
        w.stop();
        assert_eq!((w.check(now + 1), w.due()), (Due::Nothing, None));
    }

    #[test]
    fn a_start_takes_longer_and_an_old_supervisor_is_not_watched() {
        let mut w = Watch::new(0);
        for n in 1..=MISSED_AT_START {
            assert_eq!(w.check(n * PERIOD), Due::Ping);
        }
        assert!(matches!(w.check((MISSED_AT_START + 1) * PERIOD), Due::Kill { .. }));
        let mut w = Watch::new(0);
        w.ready(false);
        assert_eq!(w.due(), None);
    }
}
