//! Instants and durations in milliseconds. An instant is a reading of `CLOCK_BOOTTIME` (clock_gettime(2)): it advances
//! while the host sleeps and no one can set it, so steps of the wall clock change nothing.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};

/// An instant: milliseconds of `CLOCK_BOOTTIME`. Comparable only within one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Time {
    /// The time from `earlier` to this; zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Millis {
    /// Whole seconds.
    pub const fn secs(n: u64) -> Millis {
        Millis(n * 1000)
    }
}

impl Add<Millis> for Time {
    type Output = Time;
    fn add(self, d: Millis) -> Time {
        Time(self.0.saturating_add(d.0))
    }
}

impl Sub<Millis> for Time {
    type Output = Time;
    fn sub(self, d: Millis) -> Time {
        Time(self.0.saturating_sub(d.0))
    }
}
