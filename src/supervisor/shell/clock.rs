//! The clocks of the supervisor, in the core's units.

use crate::supervisor::core::time::Time;
use crate::sys::time;

/// `CLOCK_BOOTTIME`, as the core counts.
pub fn now() -> Time {
    Time(time::boottime_ns() / 1_000_000)
}

/// What to add to a [`Time`] for milliseconds since 1970.
pub fn epoch_ms() -> i64 {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    wall.as_millis() as i64 - now().0 as i64
}

/// Milliseconds since 1970, by the wall clock.
pub fn wall_ms() -> i64 {
    epoch_ms().saturating_add_unsigned(now().0)
}
