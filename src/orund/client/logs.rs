//! `logs`.

use std::io::{IsTerminal, Write};

use super::args::Logs;
use super::change;
use super::connection::{Call, Client};
use crate::api::types::WorkloadObject;
use crate::error::{Error, Result};

/// One line of the supervisor's answer.
pub struct Entry<'a> {
    pub replica: &'a str,
    pub container: &'a str,
    pub time: &'a str,
    pub stderr: bool,
    /// The text was terminated by a line feed.
    pub full: bool,
    pub text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Takes a line apart: `REPLICA CONTAINER TIME STREAM TAG TEXT`.
    pub fn new(line: &'a [u8]) -> Option<Entry<'a>> {
        let mut parts = line.splitn(6, |b| *b == b' ');
        let mut word = || std::str::from_utf8(parts.next()?).ok();
        let (replica, container, time, stream, tag) = (word()?, word()?, word()?, word()?, word()?);
        let text = parts.next()?;
        Some(Entry { replica, container, time, stderr: stream == "stderr", full: tag == "F", text })
    }
}

/// `logs`.
pub async fn logs(client: &Client, a: &Logs) -> Result<u8> {
    let workload: Option<WorkloadObject> = client.find(Call::get(change::path(&a.name))).await?;
    let (filter, prefix) = match &workload {
        Some(w) => {
            let many = w.workload.spec.replicas > 1 || w.workload.spec.containers.len() > 1;
            ("workload", many)
        }
        None => ("replica", change::replica(client, &a.name).await?.containers.len() > 1),
    };
    let tail = a.tail.map(|n| n.to_string());
    let call = Call::get("/v1/logs")
        .with(filter, &a.name)
        .with_some("container", a.container.as_deref())
        .with_some("since", a.since.as_deref())
        .with_some("tail", tail.as_deref())
        .flag("follow", a.follow)
        .flag("previous", a.previous);
    let mut lines = client.lines(call).await?;
    let mut printer = Printer {
        prefix: prefix && a.container.is_none() || workload.is_some_and(|w| w.workload.spec.replicas > 1),
        timestamps: a.timestamps,
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        open: None,
    };
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    while let Some(line) = lines.next().await? {
        let Some(entry) = Entry::new(&line) else { continue };
        let text = printer.line(&entry);
        let to: &mut dyn Write = if entry.stderr { &mut err } else { &mut out };
        match to.write_all(&text).and_then(|()| to.flush()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => break,
            r => r.map_err(|e| Error::sys("writing to standard output", e))?,
        }
    }
    Ok(0)
}

/// Puts lines together.
struct Printer {
    /// Before each line who wrote it.
    prefix: bool,
    timestamps: bool,
    colour: bool,
    /// Who wrote the part of a line that was printed last.
    open: Option<String>,
}

impl Printer {
    fn line(&mut self, e: &Entry<'_>) -> Vec<u8> {
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

    fn head(&self, e: &Entry<'_>) -> String {
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
            text.extend(printer.line(&Entry::new(line).unwrap()));
        }
        assert_eq!(text, b"web-0 | hello\nweb-0 | a\nweb-1 | b \xff\nweb-0/log | \n");
        assert!(Entry::new(b"web-0 web T stdout").is_none());
    }
}
