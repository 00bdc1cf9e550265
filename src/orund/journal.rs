//! `orund journal`.

use crate::error::{Error, Kind, Result};
use crate::orund::examples;
use crate::supervisor::shell::daemon;
use crate::supervisor::shell::journal::frame::{self, Rest};
use crate::supervisor::shell::journal::repair;
use crate::supervisor::shell::journal::store::Content;
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = examples::JOURNAL)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Directory of the journal: the daemon's data directory, or "state" in its run directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/orund", global = true)]
    dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check every record, without changing anything
    Verify,
    /// Print every record as a line of JSON
    Dump,
    /// Repair a damaged journal: copy it to backup.N, restore all readable records, and report the lost workloads. Stop the
    /// daemon first
    Repair,
}

impl Arguments {
    /// Reads the files; the code is 1 when one is damaged.
    pub fn run(&self) -> Result<u8> {
        let content = Content::read(&self.dir)?;
        if content.files().next().is_none() {
            let what = format!("there is no journal in {:?}", self.dir);
            return Err(Error::new(Kind::NotFound, what).hint("name its directory with --dir"));
        }
        match self.verb {
            Verb::Verify => Ok(verify(&content)),
            Verb::Dump => Ok(dump(&content)),
            Verb::Repair => {
                let report = repair::repair(&self.dir, &daemon::config())?;
                print(&format!("{}\n", report.lines.join("\n")));
                Ok(0)
            }
        }
    }
}

/// A reader that has gone away, as in "| head -1", has seen enough.
fn print(text: &str) -> bool {
    std::io::stdout().lock().write_all(text.as_bytes()).is_ok()
}

fn verify(content: &Content) -> u8 {
    let mut code = 0;
    for (name, bytes) in content.files() {
        let scan = frame::scan(bytes, 0);
        let version = scan.records.iter().map(|r| r.version).max();
        let version = version.map_or(String::new(), |v| format!(", format {v}"));
        let mut text = format!("{name}: {} records{version}, {} bytes", scan.records.len(), bytes.len());
        // It cannot fail.
        let _ = match scan.rest {
            Rest::Nothing => Ok(()),
            Rest::Torn => write!(text, "; an incomplete record at byte {}: an interrupted write", scan.end),
            Rest::Damaged { next: None } => {
                write!(text, "; damaged at byte {}: no whole record follows", scan.end)
            }
            Rest::Damaged { next: Some(next) } => {
                let more = frame::scan(bytes, next).records.len();
                write!(
                    text,
                    "; damaged at byte {}: {more} whole records follow from byte {next} on",
                    scan.end
                )
            }
            Rest::Newer { version } => write!(
                text,
                "; a record of format {version} at byte {}: this orund reads formats up to {}",
                scan.end,
                frame::VERSION
            ),
        };
        if scan.rest != Rest::Nothing {
            code = 1;
        }
        text.push('\n');
        if !print(&text) {
            break;
        }
    }
    code
}

fn dump(content: &Content) -> u8 {
    let mut code = 0;
    for (name, bytes) in content.files() {
        let scan = frame::scan(bytes, 0);
        for record in &scan.records {
            let kind = format!("{:?}", record.kind).to_lowercase();
            let payload = String::from_utf8_lossy(record.payload);
            let line = format!(
                "{{\"file\":{name:?},\"at\":{},\"kind\":{kind:?},\"version\":{},\"payload\":{payload}}}\n",
                record.at, record.version
            );
            if !print(&line) {
                return code;
            }
        }
        if scan.rest != Rest::Nothing {
            code = 1;
        }
    }
    code
}
