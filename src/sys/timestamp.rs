//! Points in time, in the form that states and logs carry (RFC 3339, UTC).

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time: seconds since 1970-01-01T00:00:00Z and the nanoseconds after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: u64,
    pub nanos: u32,
}

impl Timestamp {
    /// The system's clock; a clock before 1970 reads as 1970.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { seconds: since.as_secs(), nanos: since.subsec_nanos() }
    }

    /// `2026-11-23T21:34:57Z`.
    pub fn rfc3339(self) -> String {
        let (year, month, day) = civil_from_days(self.seconds / 86_400);
        let s = self.seconds % 86_400;
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
    }

    /// `2026-11-23T21:34:57.000120034Z`, trailing zeros of the fraction left out.
    pub fn rfc3339_nanos(self) -> String {
        let mut text = self.rfc3339();
        if self.nanos != 0 {
            text.truncate(text.len() - 1);
            let fraction = format!("{:09}", self.nanos);
            text.push('.');
            text.push_str(fraction.trim_end_matches('0'));
            text.push('Z');
        }
        text
    }
}

/// Year, month and day of the day that is `days` after 1970-01-01 (proleptic Gregorian calendar).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // Years begin in March here, so that the leap day is the last of its year; day 0 is 0000-03-01.
    let z = days + 719_468;
    let era = z / DAYS_OF_400_YEARS;
    let day_of_era = z % DAYS_OF_400_YEARS;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (DAYS_OF_400_YEARS - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Seconds since 1970 of a time in UTC as the supervisor writes it (RFC 3339), without the fraction.
pub fn seconds(time: &str) -> Option<u64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is the last day.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    #[test]
    fn dates_of_leap_years_and_ends_of_months() {
        // The seconds are those that date(1) -u -d TEXT +%s prints.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_469_697, "2026-11-23T21:34:57Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(at(seconds, 0).rfc3339(), text);
        }
    }

    #[test]
    fn the_fraction_has_no_trailing_zeros() {
        assert_eq!(at(0, 0).rfc3339_nanos(), "1970-01-01T00:00:00Z");
        assert_eq!(at(0, 120_034).rfc3339_nanos(), "1970-01-01T00:00:00.000120034Z");
        assert_eq!(at(0, 500_000_000).rfc3339_nanos(), "1970-01-01T00:00:00.5Z");
    }
}
