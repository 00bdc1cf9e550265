//! The schedule of a CronJob: five fields of times, or one of the words that begin with `@`, read in a time zone.
//!
//! A minute belongs to the schedule when the local time that it has in the zone matches the fields. So a local time that
//! a change of the clocks leaves out has no run that day, and one that occurs twice has two. All calculation is pure: the
//! rules of time zones are those of the tz database that the program was built with.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use crate::config::quantity;

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
/// Beyond this no further run is looked for: 29 February may be eight years away (1896 and 1904, 2096 and 2104).
const HORIZON: i64 = 9 * 366 * DAY;
/// More missed runs than this are not counted one by one.
pub const MANY_MISSED: u32 = 100;

/// When something runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Times);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Times {
    Fields(Fields),
    /// Seconds after the last one.
    Every(i64),
}

/// A bit for each value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// 0 is Sunday.
    weekdays: u64,
    /// Either of the two must match when both are restricted.
    restricted: (bool, bool),
}

/// The runs that were due in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The last of them, seconds since 1970.
    pub at: i64,
    /// How many there were; [`MANY_MISSED`] and one: more.
    pub count: u32,
}

/// The rules of a time zone.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of that name in the tz database, such as `Europe/Berlin`.
    #[must_use]
    pub fn named(name: &str) -> Option<Zone> {
        // Paths, and the word for "as the host has it", are not names of the database.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
        let valid = name.chars().all(plain) && !name.eq_ignore_ascii_case("local");
        if !valid || name.is_empty() { None } else { TimeZone::get(name).ok().map(Zone) }
    }

    /// Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// Seconds east of UTC at `t`, and when that changes next.
    fn offset(&self, t: i64) -> (i64, Option<i64>) {
        let Ok(at) = Timestamp::from_second(t) else { return (0, None) };
        let next = self.0.following(at).next().map(|change| change.timestamp().as_second());
        (i64::from(self.0.to_offset(at).seconds()), next)
    }
}

impl Schedule {
    /// Reads `text` as Kubernetes does.
    ///
    /// # Errors
    /// The field that is not valid, and why.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let text = text.trim();
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            return Err("a schedule has no time zone: write `timeZone: NAME` beside it".to_owned());
        }
        if let Some(period) = text.strip_prefix("@every ") {
            let period = quantity::duration(period.trim()).filter(|d| d.as_secs() >= 60);
            let period = period.ok_or("@every requires a duration of at least 1m, such as 90m or 1h30m")?;
            return Ok(Schedule(Times::Every(i64::try_from(period.as_secs()).unwrap_or(i64::MAX))));
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            word if word.starts_with('@') => {
                return Err(format!(
                    "unknown word {word:?}: words are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and @every DURATION"
                ));
            }
            fields => fields,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!(
                "a schedule has 5 fields (minute, hour, day of the month, month, day of the week), not {}",
                fields.len()
            ));
        };
        let fields = Fields {
            minutes: parse_field("minute", minutes, (0, 59), &[])?,
            hours: parse_field("hour", hours, (0, 23), &[])?,
            days: parse_field("day of the month", days, (1, 31), &[])?,
            months: parse_field("month", months, (1, 12), &MONTHS)?,
            weekdays: parse_field("day of the week", weekdays, (0, 6), &WEEKDAYS)?,
            restricted: (!is_any(days), !is_any(weekdays)),
        };
        let schedule = Schedule(Times::Fields(fields));
        if schedule.next(&Zone::utc(), 0).is_none() {
            return Err("no date matches the schedule".to_owned());
        }
        Ok(schedule)
    }

    /// The first run after `after`; both are seconds since 1970.
    #[must_use]
    pub fn next(&self, zone: &Zone, after: i64) -> Option<i64> {
        let fields = match &self.0 {
            Times::Every(period) => return Some(after.saturating_add(*period)),
            Times::Fields(fields) => fields,
        };
        let mut from = after.saturating_add(1);
        let end = after.saturating_add(HORIZON);
        while from < end {
            let (offset, change) = zone.offset(from);
            let until = change.unwrap_or(end).min(end);
            let local = fields.next(from + offset, until + offset);
            if let Some(local) = local {
                return Some(local - offset);
            }
            from = until;
        }
        None
    }

    /// The runs after `after`, up to and with `until`. None: there was none.
    #[must_use]
    pub fn due(&self, zone: &Zone, after: i64, until: i64) -> Option<Due> {
        if let Times::Every(period) = self.0 {
            let count = until.saturating_sub(after).max(0) / period;
            let at = after.saturating_add(count.saturating_mul(period));
            let count = u32::try_from(count).unwrap_or(u32::MAX).min(MANY_MISSED + 1);
            return (count > 0).then_some(Due { at, count });
        }
        let within = |t: i64| self.next(zone, t).filter(|next| *next <= until);
        let mut due = Due { at: within(after)?, count: 1 };
        while let Some(at) = within(due.at) {
            due = Due { at, count: due.count + 1 };
            if due.count > MANY_MISSED {
                due.at = self.last(zone, due.at, until);
                break;
            }
        }
        Some(due)
    }

    /// The last run up to `until`, when `known` is one: looked for backwards in spans that grow.
    fn last(&self, zone: &Zone, known: i64, until: i64) -> i64 {
        let mut span = 3600;
        let mut at = loop {
            let from = until.saturating_sub(span).max(known);
            match self.next(zone, from).filter(|next| *next <= until) {
                Some(found) => break found,
                None if from == known => return known,
                None => span *= 2,
            }
        };
        while let Some(later) = self.next(zone, at).filter(|next| *next <= until) {
            at = later;
        }
        at
    }
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Fields {
    /// The first minute from `from` on, and before `until`, that matches; all in local seconds.
    fn next(&self, from: i64, until: i64) -> Option<i64> {
        let mut minute = from.saturating_add(MINUTE - 1).div_euclid(MINUTE);
        while minute * MINUTE < until {
            let (day, of_day) = ((minute * MINUTE).div_euclid(DAY), minute.rem_euclid(DAY / MINUTE));
            let found = self.matches(day).then(|| self.in_day(of_day)).flatten();
            if let Some(found) = found {
                let at = day * DAY + found * MINUTE;
                return (at < until).then_some(at);
            }
            minute = (day + 1) * (DAY / MINUTE);
        }
        None
    }

    /// Whether that day, counted from 1970 on, matches.
    fn matches(&self, day: i64) -> bool {
        let Ok(midnight) = Timestamp::from_second(day * DAY) else { return false };
        let date = Offset::UTC.to_datetime(midnight).date();
        let has = |set: u64, n: i8| set & (1 << n) != 0;
        let of_month = has(self.days, date.day());
        let of_week = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let either = match self.restricted {
            (true, true) => of_month || of_week,
            (true, false) | (false, true) | (false, false) => of_month && of_week,
        };
        has(self.months, date.month()) && either
    }

    /// The first minute of a day from `from` on.
    fn in_day(&self, from: i64) -> Option<i64> {
        let has = |set: u64, n: i64| set & (1 << n) != 0;
        let minutes = (from..DAY / MINUTE).filter(|m| has(self.hours, m / 60));
        minutes.into_iter().find(|m| has(self.minutes, m % 60))
    }
}

fn is_any(field: &str) -> bool {
    field.split(',').any(|part| matches!(part, "*" | "?" | "*/1" | "?/1"))
}

/// The values of a field such as `*`, `5`, `1-5`, `*/15`, `10-30/5` or several of them with commas between.
fn parse_field(what: &str, text: &str, (low, high): (u32, u32), names: &[&str]) -> Result<u64, String> {
    text.split(',').try_fold(0, |set, part| {
        let values = parse_part(part, (low, high), names);
        let values = values.map_err(|why| format!("{what} {part:?}: {why}"))?;
        Ok(set | values)
    })
}

fn parse_part(part: &str, (low, high): (u32, u32), names: &[&str]) -> Result<u64, String> {
    let value = |text: &str| -> Result<u32, String> {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        if let Some(n) = named.and_then(|n| u32::try_from(n).ok()) {
            return Ok(n + low);
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.filter(|n| (low..=high).contains(n)).ok_or_else(|| match (high, text) {
            (6, "7") => "Sunday is 0".to_owned(),
            _ => format!("expected {low} to {high}"),
        })
    };
    let (range, step) = match part.split_once('/') {
        None => (part, None),
        Some((range, step)) => (range, Some(step)),
    };
    let step = step.map(|step| {
        let number = step.bytes().all(|b| b.is_ascii_digit()).then(|| step.parse::<u32>().ok()).flatten();
        number.filter(|n| *n > 0).ok_or("a step is a number from 1 on")
    });
    let step = step.transpose()?;
    let (first, last) = match range.split_once('-') {
        _ if matches!(range, "*" | "?") => (low, high),
        None => {
            let one = value(range)?;
            (one, if step.is_some() { high } else { one })
        }
        Some((first, last)) => (value(first)?, value(last)?),
    };
    if first > last {
        return Err("the range ends before it begins".to_owned());
    }
    let values = (first..=last).step_by(step.unwrap_or(1) as usize);
    Ok(values.fold(0, |set, n| set | 1 << n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn text(t: i64) -> String {
        Timestamp::from_second(t).unwrap().to_string()
    }

    /// The next runs after `from`, as UTC.
    fn runs(schedule: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule).unwrap();
        let zone = Zone::named(zone).unwrap();
        let first = schedule.next(&zone, seconds(from));
        let all = std::iter::successors(first, |t| schedule.next(&zone, *t));
        all.take(count).map(text).collect()
    }

    #[test]
    fn fields_and_words_give_the_next_runs() {
        for (schedule, from, expected) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("* * * * *", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"),
            ("5/20 * * * *", "2026-01-01T00:06:00Z", "2026-01-01T00:25:00Z"),
            ("10-30/10 1,13 * * *", "2026-01-01T01:30:00Z", "2026-01-01T13:10:00Z"),
            ("0 0 * * SUN", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("0 0 * * mon-fri", "2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("0 0 1 feb *", "2026-03-01T00:00:00Z", "2027-02-01T00:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@daily", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
            ("@midnight", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@monthly", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@annually", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:07Z", "2026-01-01T01:30:07Z"),
        ] {
            assert_eq!(runs(schedule, "UTC", from, 1), [expected], "{schedule}");
        }
    }

    #[test]
    fn of_two_restricted_days_either_is_enough() {
        // The 13th, and each Friday.
        let both = runs("0 0 13 * 5", "UTC", "2026-01-01T00:00:00Z", 4);
        assert_eq!(
            both,
            ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z", "2026-01-16T00:00:00Z"]
        );
        // A star with a step restricts.
        let stepped = runs("0 0 */10 * 5", "UTC", "2026-01-01T00:00:00Z", 3);
        assert_eq!(stepped, ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-11T00:00:00Z"]);
        let question = runs("0 0 13 * ?", "UTC", "2026-01-01T00:00:00Z", 2);
        assert_eq!(question, ["2026-01-13T00:00:00Z", "2026-02-13T00:00:00Z"]);
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_has_no_run() {
        // 02:30 does not exist in Berlin on 2026-03-29.
        let night = runs("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(night, ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"]);
        let hourly = runs("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3);
        assert_eq!(hourly, ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"]);
    }

    #[test]
    fn a_time_that_occurs_twice_has_two_runs() {
        // 01:30 occurs twice in New York on 2026-11-01: -04:00, then -05:00.
        let night = runs("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", 3);
        assert_eq!(night, ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z"]);
        let hourly = runs("0 * * * *", "America/New_York", "2026-11-01T04:30:00Z", 3);
        assert_eq!(hourly, ["2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"]);
    }

    #[test]
    fn zones_have_offsets_of_half_hours_and_days_of_their_own() {
        assert_eq!(runs("0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", 1), ["2026-01-01T03:30:00Z"]);
        assert_eq!(runs("0 9 * * *", "Pacific/Chatham", "2026-07-01T00:00:00Z", 1), ["2026-07-01T20:15:00Z"]);
        // Monday begins on Sunday, UTC.
        assert_eq!(runs("0 1 * * 1", "Asia/Tokyo", "2026-01-01T00:00:00Z", 1), ["2026-01-04T16:00:00Z"]);
        for bad in ["", "Local", "local", "Mars/Olympus", "../../etc/passwd", "Europe/Berlin\0"] {
            assert!(Zone::named(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn what_was_missed_is_counted_and_the_last_is_found() {
        let due = |schedule: &str, after: &str, until: &str| {
            let schedule = Schedule::parse(schedule).unwrap();
            let due = schedule.due(&Zone::utc(), seconds(after), seconds(until));
            due.map(|d| (text(d.at), d.count))
        };
        let some = |at: &str, count| Some((at.to_owned(), count));
        let start = "2026-01-01T00:00:00Z";
        assert_eq!(due("0 * * * *", start, "2026-01-01T00:59:59Z"), None);
        assert_eq!(due("0 * * * *", start, "2026-01-01T01:00:00Z"), some("2026-01-01T01:00:00Z", 1));
        assert_eq!(due("0 * * * *", start, "2026-01-01T05:10:00Z"), some("2026-01-01T05:00:00Z", 5));
        let many = MANY_MISSED + 1;
        assert_eq!(due("* * * * *", start, "2027-01-01T00:00:30Z"), some("2027-01-01T00:00:00Z", many));
        let once_a_year = due("* * 1 1 *", start, "2026-12-31T00:00:00Z");
        assert_eq!(once_a_year, some("2026-01-01T23:59:00Z", many));
        assert_eq!(due("@every 1m", start, "2026-01-01T00:03:30Z"), some("2026-01-01T00:03:00Z", 3));
        assert_eq!(due("@every 1m", start, "2025-01-01T00:00:00Z"), None, "the clock went back");
        assert_eq!(due("* * * * *", start, "2025-01-01T00:00:00Z"), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bad, part) in [
            ("", "5 fields"),
            ("* * * *", "not 4"),
            ("0 * * * * *", "not 6"),
            ("60 * * * *", "minute \"60\": expected 0 to 59"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of the month \"0\": expected 1 to 31"),
            ("* * * 13 *", "month"),
            ("* * * * 7", "Sunday is 0"),
            ("* * * * 5-1", "ends before it begins"),
            ("*/0 * * * *", "a step"),
            ("a * * * *", "expected"),
            ("+1 * * * *", "expected"),
            ("1, * * * *", "expected"),
            ("* * * foo *", "month"),
            ("0 0 30 2 *", "no date"),
            ("@never", "unknown word"),
            ("@every 5s", "at least 1m"),
            ("@every x", "at least 1m"),
            ("TZ=UTC * * * * *", "timeZone"),
            ("CRON_TZ=UTC * * * * *", "timeZone"),
        ] {
            let error = Schedule::parse(bad).unwrap_err();
            assert!(error.contains(part), "{bad:?}: {error}");
        }
    }

    proptest::proptest! {
        /// The next run is after the given time, and no minute in between matches.
        #[test]
        fn no_run_lies_between(minute in 0u32..60, hour in 0u32..24, after in 1_700_000_000i64..1_900_000_000) {
            let zone = Zone::named("America/New_York").unwrap();
            let schedule = Schedule::parse(&format!("{minute} {hour} * * *")).unwrap();
            let found = schedule.next(&zone, after).unwrap();
            proptest::prop_assert!(found > after && found - after <= 2 * DAY + 3600);
            let matches = |t: i64| {
                let local = t + zone.offset(t).0;
                (local / 60 % 60, local / 3600 % 24) == (i64::from(minute), i64::from(hour))
            };
            proptest::prop_assert!(matches(found));
            let first = (after / 60 + 1) * 60;
            proptest::prop_assert!(!(first..found).step_by(60).any(matches));
        }

        #[test]
        fn any_text_is_answered(text in "[0-9*/,@a-z -]{0,30}") {
            let _ = Schedule::parse(&text);
        }
    }
}
