//! `top`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use super::args::Top;
use super::connection::{Call, Client};
use super::{print_while_read, render};
use crate::api::types::{List, StatsObject};
use crate::error::Result;

/// The time between two refreshes.
const REFRESH: Duration = Duration::from_secs(2);

/// `top`.
pub async fn top(client: &Client, a: &Top) -> Result<u8> {
    let live = std::io::stdout().is_terminal() && !a.once;
    let mut before = look(client, a).await?;
    if !live && a.interval.is_none() {
        let start: Vec<StatsObject> = before.iter().filter_map(at_the_start).collect();
        print_while_read(&table(&start, &before))?;
        return Ok(0);
    }
    loop {
        tokio::time::sleep(a.interval.unwrap_or(REFRESH)).await;
        let now = look(client, a).await?;
        let mut text = table(&before, &now);
        if live {
            // Home, and each line cleared to its end: nothing flickers.
            text = format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
        }
        if !print_while_read(&text)? || !live {
            return Ok(0);
        }
        before = now;
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

fn table(before: &[StatsObject], now: &[StatsObject]) -> String {
    let key = |s: &StatsObject| (s.replica.clone(), s.container.clone());
    let old: BTreeMap<_, _> = before.iter().map(|s| (key(s), s)).collect();
    let mut rows = vec![
        ["REPLICA", "CONTAINER", "CPU", "MEMORY", "LIMIT", "PIDS", "RESTARTS"].map(str::to_owned).to_vec(),
    ];
    rows.extend(now.iter().map(|s| {
        vec![
            s.replica.clone(),
            s.container.clone(),
            old.get(&key(s)).and_then(|o| percent(o, s)).unwrap_or_else(|| "-".to_owned()),
            size(s.memory),
            s.memory_limit.map_or("-".to_owned(), size),
            s.pids.to_string(),
            s.restarts.to_string(),
        ]
    }));
    render::table(&rows)
}

/// Of one CPU. None for another run of the container, whose counter started over.
fn percent(old: &StatsObject, now: &StatsObject) -> Option<String> {
    let time = now.at.checked_sub(old.at).filter(|t| *t > 0)?;
    let used = now.cpu.checked_sub(old.cpu)?;
    Some(format!("{:.1}%", used as f64 * 100.0 / time as f64))
}

fn size(bytes: u64) -> String {
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
}
