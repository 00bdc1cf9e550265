//! `logs`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use super::args::Logs;
use super::connection::{Call, Client};
use super::lookup;
use super::lookup::Target;
use crate::error::{Error, Result};
use crate::sys::timestamp::Timestamp;

/// One line of the supervisor's answer.
pub struct LogLine<'a> {
    pub replica: &'a str,
    pub container: &'a str,
    pub time: &'a str,
    pub stderr: bool,
    /// It is about the log: by the supervisor, not by the container.
    pub note: bool,
    /// The text was terminated by a line feed.
    pub full: bool,
    pub text: &'a [u8],
}

impl<'a> LogLine<'a> {
    /// Takes a line apart: `REPLICA CONTAINER TIME STREAM TAG TEXT`.
    pub fn new(line: &'a [u8]) -> Option<LogLine<'a>> {
        let mut parts = line.splitn(6, |b| *b == b' ');
        let mut word = || std::str::from_utf8(parts.next()?).ok();
        let (replica, container, time, stream, tag) = (word()?, word()?, word()?, word()?, word()?);
        let text = parts.next()?;
        Some(LogLine {
            replica,
            container,
            time,
            stderr: stream == "stderr",
            note: stream == "orund",
            full: tag == "F",
            text,
        })
    }
}

/// `logs`.
pub async fn logs(client: &Client, a: &Logs) -> Result<u8> {
    let (filter, many, containers) = match lookup::target(client, &a.name).await? {
        Target::Workload(w) => {
            ("workload", w.workload.spec.replicas > 1, w.workload.spec.all_containers().count())
        }
        Target::Replica(r) => ("replica", false, r.containers.len()),
    };
    let tail = a.tail.map(|n| n.to_string());
    let selection = || {
        Call::get("/v1/logs")
            .with(filter, &a.name.name)
            .with_some("container", a.container.as_deref())
            .flag("follow", a.follow)
            .flag("previous", a.previous)
    };
    let call = selection().with_some("since", a.since.as_deref()).with_some("tail", tail.as_deref());
    let mut seen = Seen::new();
    let mut lines = client.lines(call).await?;
    let mut printer = Printer {
        prefix: many || containers > 1 && a.container.is_none(),
        timestamps: a.timestamps,
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        open: None,
    };
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(0),
            // The supervisor restarts, and the containers write on.
            Err(_) if a.follow => {
                lines = client.resume(selection().with("since", &seen.since())).await?;
                seen.again();
                continue;
            }
            Err(e) => return Err(e),
        };
        let Some(entry) = LogLine::new(&line) else { continue };
        if entry.note {
            let text = String::from_utf8_lossy(entry.text);
            crate::log::warn(format!("the log of {}/{}: {text}", entry.replica, entry.container));
            continue;
        }
        if seen.is_new(&entry) && !show(&printer.line(&entry), entry.stderr)? {
            return Ok(0);
        }
    }
}

/// Whether there is still a reader.
fn show(text: &[u8], stderr: bool) -> Result<bool> {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let to: &mut dyn Write = if stderr { &mut err } else { &mut out };
    match to.write_all(text).and_then(|()| to.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        r => r.map(|()| true).map_err(|e| Error::sys("writing to standard output", e)),
    }
}

/// The printed lines: the time of the last line of each container, and the number of lines with that time. After a lost
/// connection, the lines from that time on are requested again, and printed ones are skipped.
struct Seen {
    began: String,
    last: BTreeMap<String, (String, u32)>,
    /// Lines of that time that will come once more.
    known: BTreeMap<String, u32>,
}

impl Seen {
    fn new() -> Seen {
        let now = Timestamp::now().rfc3339_nanos();
        Seen { began: now, last: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// The earliest time of a line that may not have been shown.
    fn since(&self) -> String {
        self.last.values().map(|(time, _)| time.clone()).chain([self.began.clone()]).min().unwrap_or_default()
    }

    fn again(&mut self) {
        self.known = self.last.iter().map(|(who, (_, count))| (who.clone(), *count)).collect();
    }

    fn is_new(&mut self, e: &LogLine<'_>) -> bool {
        let who = format!("{} {}", e.replica, e.container);
        let last = self.last.entry(who.clone()).or_insert_with(|| (String::new(), 0));
        match e.time.cmp(last.0.as_str()) {
            // The clock may have been set back: only lines that are requested again can be old.
            Ordering::Less if self.known.contains_key(&who) => return false,
            Ordering::Equal => {
                if let Some(left) = self.known.get_mut(&who).filter(|left| **left > 0) {
                    *left -= 1;
                    return false;
                }
                last.1 += 1;
            }
            _ => *last = (e.time.to_owned(), 1),
        }
        self.known.remove(&who);
        true
    }
}

/// Puts lines together.
struct Printer {
    /// Print the source before each line.
    prefix: bool,
    timestamps: bool,
    colour: bool,
    /// The source of the part of a line that was printed last.
    open: Option<String>,
}

impl Printer {
    fn line(&mut self, e: &LogLine<'_>) -> Vec<u8> {
        let who = format!("{} {}", e.replica, e.container);
        let mut out = Vec::new();
        let goes_on = self.open.as_ref() == Some(&who);
        if self.open.is_some() && !goes_on {
            out.push(b'\n');
        }
        if !goes_on {
            if self.prefix {
                out.extend(self.head(e).into_bytes());
            }
            if self.timestamps {
                out.extend(format!("{} ", e.time).into_bytes());
            }
        }
        out.extend(e.text);
        self.open = if e.full { None } else { Some(who) };
        if e.full {
            out.push(b'\n');
        }
        out
    }

    fn head(&self, e: &LogLine<'_>) -> String {
        // Replicas of one workload have one container most often; its name adds nothing then.
        let name = match e.replica.rsplit_once('-') {
            Some((workload, _)) if workload == e.container => e.replica.to_owned(),
            _ => format!("{}/{}", e.replica, e.container),
        };
        if !self.colour {
            return format!("{name} | ");
        }
        let sum: u32 = name.bytes().map(u32::from).sum();
        let colours = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];
        format!("\x1b[{}m{name} |\x1b[0m ", colours[sum as usize % colours.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_shown_twice_and_none_is_lost() {
        let mut seen = Seen::new();
        let entry = |who: &'static str, time: &'static str| LogLine {
            replica: who,
            container: "c",
            time,
            stderr: false,
            note: false,
            full: true,
            text: b"",
        };
        let mut new = |who, time| seen.is_new(&entry(who, time));
        assert!(new("a", "1") && new("a", "2") && new("a", "2") && new("b", "3"));
        assert_eq!(seen.since(), "2");
        seen.again();
        let mut new = |who, time| seen.is_new(&entry(who, time));
        // Repeated lines, and then more of the same time.
        assert!(!new("a", "2") && !new("a", "2") && new("a", "2") && new("a", "4"));
        assert!(!new("b", "2") && !new("b", "3") && new("b", "3") && new("c", "2"));
    }

    #[test]
    fn parts_are_joined_and_writers_kept_apart() {
        let mut printer = Printer { prefix: true, timestamps: false, colour: false, open: None };
        let mut text = Vec::new();
        for line in [
            &b"web-0 web T stdout P he"[..],
            b"web-0 web T stdout F llo",
            b"web-0 web T stdout P a",
            b"web-1 web T stderr F b \xff",
            b"web-0 log T stdout F ",
        ] {
            text.extend(printer.line(&LogLine::new(line).unwrap()));
        }
        assert_eq!(text, b"web-0 | hello\nweb-0 | a\nweb-1 | b \xff\nweb-0/log | \n");
        assert!(LogLine::new(b"web-0 web T stdout").is_none());
    }
}
