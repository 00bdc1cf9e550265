//! The log of a command: lines that engines parse in `--log FILE`, and the same failure for people on standard
//! error.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::kernel::output;
use crate::log::Level;
use crate::sys::timestamp::Timestamp;

/// Form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="..." level=error msg="..."`.
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`.
    Json,
}

enum Target {
    /// No log of its own: standard error gets everything.
    Stderr,
    File(File),
    /// journald (systemd.journal-fields(7)), under this identifier.
    Journal(String),
    /// syslog(3), under this identifier.
    Syslog(String),
}

/// An open log.
pub struct Log {
    /// The program's name, which lines for people begin with.
    program: &'static str,
    format: Format,
    target: Target,
}

impl Log {
    /// Opens what `--log` and `--log-format` of `orun` name; the file is created, and written to at its end.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an unknown format; [`Kind::System`] when the file cannot be opened for writing.
    pub fn open(log: Option<&str>, format: Option<&str>) -> Result<Log> {
        let format = match format {
            None | Some("" | "text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                let e = Error::new(Kind::Usage, format!("invalid log-format: {other}"));
                return Err(e.hint("the formats are text and json"));
            }
        };
        let target = match log {
            None | Some("") => Target::Stderr,
            Some(to) => match to.split_once(':') {
                Some(("journald", id)) => Target::Journal(id.to_owned()),
                Some(("syslog", id)) => Target::Syslog(id.to_owned()),
                Some(("file", path)) => Target::File(open_file(path)?),
                _ => Target::File(open_file(to)?),
            },
        };
        Ok(Log { program: "orun", format, target })
    }

    /// Standard error only: for `program` without a log, and for when the log itself cannot be opened.
    pub fn stderr(program: &'static str) -> Log {
        Log { program, format: Format::Text, target: Target::Stderr }
    }

    /// Writes one line. A log that cannot be written must not fail the command: the line goes to standard error.
    pub fn write(&self, level: Level, message: &str) {
        #[cfg(feature = "mutants")]
        let message = if crate::mutant::is("message") { "error" } else { message };
        let sent = match &self.target {
            Target::Stderr => false,
            Target::File(file) => {
                let line = format_line(self.format, level, message, Timestamp::now());
                // One write(2), so that lines of concurrent commands do not mix.
                (&*file).write_all(line.as_bytes()).is_ok()
            }
            Target::Journal(id) => send("/run/systemd/journal/socket", &journal_entry(id, level, message)),
            Target::Syslog(id) => send("/dev/log", syslog_line(id, level, message).as_bytes()),
        };
        // The failure itself always reaches standard error: engines match its words there.
        if !sent || level == Level::Error {
            let alone = matches!(self.target, Target::Stderr);
            let line = match self.format {
                Format::Json if alone => format_line(Format::Json, level, message, Timestamp::now()),
                // Readers of debug lines look at the time.
                Format::Text if level < Level::Warning => {
                    format_line(Format::Text, level, message, Timestamp::now())
                }
                // Callers and test suites look for the word "error" on the line.
                _ => format!("{}: {}: {message}\n", self.program, level.name()),
            };
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

fn open_file(path: &str) -> Result<File> {
    output::append(Path::new(path), 0o644, &format!("opening the log file {path:?}")).map(File::from)
}

fn send(socket: &str, datagram: &[u8]) -> bool {
    UnixDatagram::unbound().and_then(|s| s.send_to(datagram, socket)).is_ok()
}

/// The importance of a level for syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

fn journal_entry(id: &str, level: Level, message: &str) -> Vec<u8> {
    let mut entry = format!("PRIORITY={}\n", priority(level)).into_bytes();
    for (field, value) in [("SYSLOG_IDENTIFIER", id), ("MESSAGE", message)] {
        // The binary form, which takes values with line ends.
        entry.extend_from_slice(field.as_bytes());
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
    entry
}

fn syslog_line(id: &str, level: Level, message: &str) -> String {
    const DAEMON: u8 = 3 << 3;
    format!("<{}>{id}[{}]: {}", DAEMON | priority(level), std::process::id(), message.replace('\n', " "))
}

/// A line of the log with its line end.
fn format_line(format: Format, level: Level, message: &str, now: Timestamp) -> String {
    let (level, time) = (level.name(), now.rfc3339());
    match format {
        Format::Json => {
            let message = serde_json::Value::from(message);
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        }
        Format::Text => format!("time=\"{time}\" level={level} msg={}\n", quoted(message)),
    }
}

/// `text` in double quotes, with special characters escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The level that `--log-level` names, in the spellings of runc, crun and youki.
///
/// # Errors
/// [`Kind::Usage`] for any other word.
pub fn level(name: &str) -> Result<Level> {
    match name.to_ascii_lowercase().as_str() {
        "trace" | "debug" => Ok(Level::Debug),
        "info" => Ok(Level::Info),
        "warn" | "warning" => Ok(Level::Warning),
        "error" | "fatal" | "panic" => Ok(Level::Error),
        _ => {
            let e = Error::new(Kind::Usage, format!("invalid log-level: {name}"));
            Err(e.hint("the levels are debug, info, warning and error"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { seconds: 1_795_469_697, nanos: 5 };

    #[test]
    fn a_json_line_is_one_document_whatever_the_message() {
        let nasty = "a \"b\" \\ \n\t\r \u{0} \u{7f} \u{2028} \u{1f600} </script>";
        let line = format_line(Format::Json, Level::Error, nasty, NOW);
        assert_eq!(line.matches('\n').count(), 1, "the only line end is the last byte: {line:?}");
        assert!(line.ends_with("}\n"));
        let v: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(v["level"], "error");
        assert_eq!(v["msg"], nasty);
        assert_eq!(v["time"], "2026-11-23T21:34:57Z");
        assert_eq!(v.as_object().unwrap().len(), 3);
    }

    #[test]
    fn a_text_line_is_logfmt() {
        assert_eq!(
            format_line(Format::Text, Level::Warning, "a \"b\"\nc\u{1b}[0m", NOW),
            "time=\"2026-11-23T21:34:57Z\" level=warning msg=\"a \\\"b\\\"\\nc\\u001b[0m\"\n"
        );
    }

    #[test]
    fn journal_fields_hold_any_text() {
        let entry = journal_entry("c1", Level::Error, "a\nb");
        let expected = [
            b"PRIORITY=3\nSYSLOG_IDENTIFIER\n".as_slice(),
            &2u64.to_le_bytes(),
            b"c1\nMESSAGE\n",
            &3u64.to_le_bytes(),
            b"a\nb\n",
        ];
        assert_eq!(entry, expected.concat());
        assert!(syslog_line("c1", Level::Error, "a\nb").starts_with("<27>c1["));
    }

    #[test]
    fn lines_are_appended_and_the_file_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let path = path.to_str().unwrap();
        Log::open(Some(path), Some("json")).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"", "an empty file says that nothing failed");
        for text in ["one", "two"] {
            Log::open(Some(&format!("file:{path}")), Some("json")).unwrap().write(Level::Warning, text);
        }
        let text = std::fs::read_to_string(path).unwrap();
        let messages: Vec<String> = text
            .lines()
            .map(|l| {
                serde_json::from_str::<serde_json::Value>(l).unwrap()["msg"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(messages, ["one", "two"]);
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_an_error_of_its_own() {
        let e = Log::open(Some("/proc/nowhere/log"), None).err().unwrap().to_string();
        assert_eq!(e, "opening the log file \"/proc/nowhere/log\": no such file or directory");
        let e = Log::open(None, Some("xml")).err().unwrap();
        assert!(e.to_string().starts_with("invalid log-format: xml"));
        assert_eq!(e.kind(), Kind::Usage);
        assert!(level("loud").is_err());
        assert_eq!(level("WARN").unwrap(), Level::Warning);
    }
}
