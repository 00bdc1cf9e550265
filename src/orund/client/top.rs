//! `top`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use super::args::{SortBy, Top};
use super::connection::{Call, Client};
use super::screen::{ENTER, ERASE, ESCAPE, Pause, Screen, quits};
use super::{print_while_read, render};
use crate::api::types::{List, StatsObject};
use crate::error::Result;

/// The time between two refreshes.
const REFRESH: Duration = Duration::from_secs(2);

/// Which rows are shown, and in which order.
#[derive(Debug, Clone, Default)]
struct Choice {
    sort: SortBy,
    filter: String,
    /// The filter is being typed.
    typing: bool,
}

/// `top`.
pub async fn top(client: &Client, a: &Top) -> Result<u8> {
    let choice = Choice { sort: a.sort_by, filter: a.filter.clone(), typing: false };
    if std::io::stdout().is_terminal() && !a.once {
        return live(client, a, choice).await;
    }
    let now = look(client, a).await?;
    let Some(interval) = a.interval else {
        let start: Vec<StatsObject> = now.iter().filter_map(at_the_start).collect();
        print_while_read(&table(&start, &now, &choice))?;
        return Ok(0);
    };
    tokio::time::sleep(interval).await;
    print_while_read(&table(&now, &look(client, a).await?, &choice))?;
    Ok(0)
}

async fn live(client: &Client, a: &Top, mut choice: Choice) -> Result<u8> {
    let refresh = a.interval.unwrap_or(REFRESH);
    let mut now = look(client, a).await?;
    let mut before: Vec<StatsObject> = now.iter().filter_map(at_the_start).collect();
    let mut screen = Screen::enter();
    let mut due = tokio::time::Instant::now() + refresh;
    loop {
        screen.draw(&table(&before, &now, &choice), &choice.keys());
        let left = due.saturating_duration_since(tokio::time::Instant::now());
        match screen.pause(left).await {
            Pause::Key(key) if !choice.press(key) => return Ok(0),
            Pause::Key(_) => {}
            Pause::Over => {
                before = std::mem::replace(&mut now, look(client, a).await?);
                due = tokio::time::Instant::now() + refresh;
            }
        }
    }
}

impl Choice {
    /// Takes a key. False: it ends the program.
    fn press(&mut self, key: u8) -> bool {
        if self.typing {
            match key {
                ESCAPE => *self = Choice { sort: self.sort, ..Choice::default() },
                3 => return false,
                _ if ENTER.contains(&key) => self.typing = false,
                _ if ERASE.contains(&key) => drop(self.filter.pop()),
                b' '..=b'~' => self.filter.push(key.into()),
                _ => {}
            }
            return true;
        }
        match key {
            b'c' => self.sort = SortBy::Cpu,
            b'm' => self.sort = SortBy::Memory,
            b'p' => self.sort = SortBy::Pids,
            b'r' => self.sort = SortBy::Restarts,
            b'n' => self.sort = SortBy::Name,
            b'/' => self.typing = true,
            ESCAPE => self.filter.clear(),
            _ => {}
        }
        !quits(key)
    }

    /// The last line of the screen.
    fn keys(&self) -> String {
        if self.typing {
            return format!("/{}_", self.filter);
        }
        let filter =
            if self.filter.is_empty() { String::new() } else { format!("filter {:?}, ", self.filter) };
        format!("{filter}c CPU  m memory  p pids  r restarts  n name  / filter  q quit")
    }
}

/// The figures of a container when its first process started.
fn at_the_start(now: &StatsObject) -> Option<StatsObject> {
    Some(StatsObject { at: now.started?, cpu: 0, ..now.clone() })
}

async fn look(client: &Client, a: &Top) -> Result<Vec<StatsObject>> {
    let call = Call::get("/v1/stats").with_some("workload", a.name.as_deref());
    Ok(client.fetch::<List<StatsObject>>(call).await?.items)
}

fn table(before: &[StatsObject], now: &[StatsObject], choice: &Choice) -> String {
    let key = |s: &StatsObject| (s.replica.clone(), s.container.clone());
    let old: BTreeMap<_, _> = before.iter().map(|s| (key(s), s)).collect();
    let share = |s: &StatsObject| old.get(&key(s)).and_then(|o| percent(o, s));
    let shown = |s: &&StatsObject| s.replica.contains(&choice.filter) || s.container.contains(&choice.filter);
    let mut list: Vec<(&StatsObject, Option<f64>)> =
        now.iter().filter(shown).map(|s| (s, share(s))).collect();
    // Rows that are equal stay in the order of their names.
    list.sort_by(|(a, share_a), (b, share_b)| match choice.sort {
        SortBy::Name => std::cmp::Ordering::Equal,
        SortBy::Cpu => share_b.unwrap_or(-1.0).total_cmp(&share_a.unwrap_or(-1.0)),
        SortBy::Memory => b.memory.cmp(&a.memory),
        SortBy::Pids => b.pids.cmp(&a.pids),
        SortBy::Restarts => b.restarts.cmp(&a.restarts),
    });
    let mut rows = vec![
        ["REPLICA", "CONTAINER", "CPU", "MEMORY", "LIMIT", "PIDS", "RESTARTS"].map(str::to_owned).to_vec(),
    ];
    rows.extend(list.iter().map(|(s, share)| {
        vec![
            s.replica.clone(),
            s.container.clone(),
            share.map_or("-".to_owned(), |p| format!("{p:.1}%")),
            size(s.memory),
            s.memory_limit.map_or("-".to_owned(), size),
            s.pids.to_string(),
            s.restarts.to_string(),
        ]
    }));
    render::table(&rows)
}

/// Of one CPU. None for another run of the container, whose counter started over.
fn percent(old: &StatsObject, now: &StatsObject) -> Option<f64> {
    let time = now.at.checked_sub(old.at).filter(|t| *t > 0)?;
    let used = now.cpu.checked_sub(old.cpu)?;
    Some(used as f64 * 100.0 / time as f64)
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.1}{}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_what_was_used_between_two_looks() {
        let at = |at: u64, cpu: u64| StatsObject {
            replica: "web-0".into(),
            container: "web".into(),
            at,
            cpu,
            memory: 3 << 19,
            pids: 2,
            ..StatsObject::default()
        };
        let table = |a: &[StatsObject], b: &[StatsObject]| super::table(a, b, &Choice::default());
        let text = table(&[at(1000, 100)], &[at(2000, 350)]);
        let expected = "REPLICA   CONTAINER   CPU     MEMORY   LIMIT   PIDS   RESTARTS\n\
                        web-0     web         25.0%   1.5MiB   -       2      0\n";
        assert_eq!(text, expected);
        let started = StatsObject { started: Some(500), ..at(1000, 100) };
        let text = table(&[at_the_start(&started).expect("its start is known")], &[started]);
        assert!(text.contains("20.0%"), "{text}");
        // Restarted in between.
        assert!(table(&[at(1000, 900)], &[at(2000, 10)]).contains(" -  "), "{text}");
        assert_eq!(size(1023), "1023B");
        assert_eq!(size(1 << 40), "1.0TiB");
    }
    #[test]
    fn keys_sort_and_filter() {
        let of = |replica: &str, memory, restarts| StatsObject {
            replica: replica.into(),
            container: "main".into(),
            memory,
            restarts,
            ..StatsObject::default()
        };
        let now = [of("api-0", 5, 0), of("db-0", 9, 1), of("web-0", 7, 3)];
        let mut choice = Choice::default();
        let order = |choice: &Choice| -> Vec<String> {
            let text = table(&[], &now, choice);
            text.lines().skip(1).map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(order(&choice), ["api-0", "db-0", "web-0"]);
        assert!(choice.press(b'm'));
        assert_eq!(order(&choice), ["db-0", "web-0", "api-0"]);
        assert!(choice.press(b'r'));
        assert_eq!(order(&choice), ["web-0", "db-0", "api-0"]);
        for key in b"/wqx\x7f\x7fe\r" {
            assert!(choice.press(*key));
        }
        assert_eq!(order(&choice), ["web-0"]);
        assert!(choice.keys().starts_with("filter \"we\""));
        assert!(choice.press(ESCAPE));
        assert_eq!(order(&choice).len(), 3);
        assert!(!choice.press(b'q'));
    }
}
