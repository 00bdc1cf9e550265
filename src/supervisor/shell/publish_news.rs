//! Which counts of the proxy are worth an event: connections that wait, or that no replica took.

use crate::network::proxy::Counts;
use crate::supervisor::core::publication::Taken;
use std::collections::BTreeMap;

/// News for the loop.
#[derive(Debug)]
pub enum News {
    /// This map is used, without the ports that cannot be opened.
    Used(u64, Vec<Taken>),
    /// Connections to this port have begun to wait for a replica.
    Held(String),
    /// So many connections to this port were closed because no replica took them.
    Refused(String, u64),
}

/// The shortest time between two events of a kind about a port, in milliseconds.
const BETWEEN: u64 = 60_000;

/// Reported news.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<String, Last>);

#[derive(Debug, Default)]
struct Last {
    held: Option<u64>,
    refused: Option<u64>,
    /// Refused connections that no event has named yet.
    unreported: u64,
}

impl Told {
    /// The news when the counts of `port` change from `before` to `now`. `at`: by the monotonic clock.
    pub fn compare(&mut self, port: &str, before: Counts, now: Counts, at: u64) -> Vec<News> {
        let last = self.0.entry(port.to_owned()).or_default();
        let due = |last: Option<u64>| last.is_none_or(|last| at >= last + BETWEEN);
        let mut news = Vec::new();
        if before.waiting == 0 && now.waiting > 0 && due(last.held) {
            last.held = Some(at);
            news.push(News::Held(port.to_owned()));
        }
        last.unreported += now.refused.saturating_sub(before.refused);
        if last.unreported > 0 && due(last.refused) {
            last.refused = Some(at);
            news.push(News::Refused(port.to_owned(), std::mem::take(&mut last.unreported)));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_reported_once_in_a_while() {
        let mut told = Told::default();
        let counts = |waiting, refused| Counts { waiting, refused, ..Counts::default() };
        let mut look = |before, now, at| {
            let news = told.compare("tcp *:80", before, now, at);
            news.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(look(counts(0, 0), counts(2, 0), 5), "Held(\"tcp *:80\")");
        assert_eq!(look(counts(2, 0), counts(5, 3), 1000), "Refused(\"tcp *:80\", 3)");
        assert_eq!(look(counts(0, 3), counts(1, 7), 2000), "", "within the minute");
        assert_eq!(look(counts(0, 7), counts(1, 8), 62_000), "Held(\"tcp *:80\") Refused(\"tcp *:80\", 5)");
    }
}
