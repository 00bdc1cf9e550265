//! The display of replicas in the foreground: their output with their names, their events, and on a terminal a status line
//! at the bottom.

use super::logs::Stream;
use crate::supervisor::core::action::{Notice, Reason, Severity};
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::model::{Observed, Phase};
use std::io::{IsTerminal, Write};

/// Colours of replicas, by slot: SGR parameters that show on dark and on light ground.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
/// A line that does not end is shown in parts of this length.
const LONGEST: usize = 64 << 10;

/// The screen.
pub struct Screen {
    name: String,
    coloured: bool,
    /// Standard error is a terminal, where the last line can be written again.
    live: bool,
    status: String,
    shown: bool,
}

impl Screen {
    /// The caller's standard output and standard error, for the replicas of `name`.
    pub fn new(name: &str) -> Screen {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Screen {
            name: name.to_owned(),
            coloured: std::io::stdout().is_terminal() && !plain,
            live: std::io::stderr().is_terminal(),
            status: String::new(),
            shown: false,
        }
    }

    fn hide(&mut self) {
        if self.shown {
            // A terminal that is gone needs no cleaning.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
            self.shown = false;
        }
    }

    fn show(&mut self) {
        if self.live && !self.status.is_empty() && !self.shown {
            let _ = write!(std::io::stderr(), "{}", self.status);
            self.shown = true;
        }
    }

    fn prefix(&self, slot: u32, container: Option<&str>) -> String {
        let within = container.map(|c| format!("/{c}")).unwrap_or_default();
        let name = format!("{}{within}", super::names::replica(&self.name, slot));
        if self.coloured {
            let colour = COLOURS[slot as usize % COLOURS.len()];
            format!("\x1b[{colour}m{name} |\x1b[0m ")
        } else {
            format!("{name} | ")
        }
    }

    /// A line that a container wrote.
    pub fn output(&mut self, slot: u32, container: Option<&str>, stream: Stream, line: &[u8]) {
        self.hide();
        let text = [self.prefix(slot, container).as_bytes(), line, b"\n"].concat();
        // A reader that has gone away does not end the containers.
        let _ = match stream {
            Stream::Stdout => std::io::stdout().lock().write_all(&text),
            Stream::Stderr => std::io::stderr().lock().write_all(&text),
        };
        self.show();
    }

    /// Something that happened to a replica.
    pub fn notice(&mut self, notice: &Notice) {
        let usual = [Reason::Created, Reason::SuccessfulCreate, Reason::SuccessfulDelete];
        if notice.severity == Severity::Normal && usual.contains(&notice.reason) {
            return;
        }
        // It has been logged.
        if notice.reason == Reason::NetworkDegraded {
            return;
        }
        self.hide();
        let who = notice.slot.map_or(self.name.clone(), |s| super::names::replica(&self.name, s));
        let (dim, plain) = if self.live { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let level = if notice.severity == Severity::Warning { "warning: " } else { "" };
        let _ = writeln!(std::io::stderr(), "{dim}{who}: {level}{}{plain}", notice.message);
        self.show();
    }

    /// How things are now.
    pub fn status(&mut self, desired: &Desired, observed: &Observed) {
        if !self.live {
            return;
        }
        let wanted: u32 = desired.workloads.values().map(|w| w.replicas).sum();
        let deleting = desired.workloads.values().any(|w| w.deletion.is_some());
        let running =
            observed.instances().filter(|(_, i)| i.phase == Phase::Running && i.exit.is_none()).count();
        let replicas = observed.workloads.values().flat_map(|w| w.slots.values()).flat_map(|s| &s.replicas);
        let restarts: u64 = replicas.flat_map(|r| &r.containers).map(|c| u64::from(c.restarts())).sum();
        let hint = if deleting { "stopping; press Ctrl-C to kill them" } else { "press Ctrl-C to stop them" };
        let status =
            format!("\x1b[7m {}: {running}/{wanted} running, {restarts} restarts; {hint} \x1b[0m", self.name);
        if status != self.status {
            self.hide();
            self.status = status;
            self.show();
        }
    }

    /// Leaves the terminal as it was.
    pub fn end(&mut self) {
        self.hide();
        self.status.clear();
    }
}

/// Makes lines of what comes in pieces.
#[derive(Debug, Default)]
pub struct Lines {
    parts: [Vec<u8>; 2],
}

impl Lines {
    /// Takes `bytes`; gives every line that is whole by now to `line`.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        let part = &mut self.parts[stream as usize];
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            part.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            if piece.ends_with(b"\n") || part.len() >= LONGEST {
                line(part);
                part.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_each_stream_are_put_together() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        let feeds: [(Stream, &str); 4] = [
            (Stream::Stdout, "a"),
            (Stream::Stderr, "x\n"),
            (Stream::Stdout, "b\n\nc"),
            (Stream::Stdout, "d\n"),
        ];
        for (stream, text) in feeds {
            lines.feed(stream, text.as_bytes(), |l| got.push(String::from_utf8_lossy(l).into_owned()));
        }
        assert_eq!(got, ["x", "ab", "", "cd"]);
    }
}
