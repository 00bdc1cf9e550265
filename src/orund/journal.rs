//! `orund journal`.

use crate::error::{Error, Result};
use crate::supervisor::shell::journal::frame;
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The directory of the journal: the daemon's data directory, or "state" in its run directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/orund", global = true)]
    dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check that every record is whole
    Verify,
    /// Write every record as a line of JSON
    Dump,
}

impl Arguments {
    /// Reads the files; the code is 1 when one is damaged.
    pub fn run(&self) -> Result<u8> {
        let mut out = std::io::stdout().lock();
        let mut code = 0;
        for path in self.files()? {
            let bytes = std::fs::read(&path).map_err(|e| Error::sys(format!("reading {path:?}"), e))?;
            let (records, end) = frame::decode(&bytes);
            let text = match self.verb {
                Verb::Verify => {
                    let torn = bytes.len() - end;
                    if torn > 0 {
                        code = 1;
                    }
                    format!(
                        "{}: {} records, {torn} bytes of an incomplete record\n",
                        path.display(),
                        records.len()
                    )
                }
                Verb::Dump => {
                    let name = name(&path);
                    let line = |(kind, payload): &(frame::Kind, &[u8])| {
                        let kind = format!("{kind:?}").to_lowercase();
                        format!(
                            "{{\"file\":{name:?},\"kind\":{kind:?},\"payload\":{}}}\n",
                            String::from_utf8_lossy(payload)
                        )
                    };
                    records.iter().map(line).collect()
                }
            };
            // A reader that has gone away, as in "| head -1", has seen enough.
            if out.write_all(text.as_bytes()).is_err() {
                break;
            }
        }
        Ok(code)
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let fail = |e| Error::sys(format!("reading the directory {:?}", self.dir), e);
        let entries = std::fs::read_dir(&self.dir).map_err(fail)?;
        let of_journal = |p: &PathBuf| name(p) == "snapshot" || name(p).starts_with("journal.");
        let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(of_journal).collect();
        // The snapshot comes before the journal that continues it.
        files.sort_by_key(|p| (name(p) != "snapshot", p.clone()));
        Ok(files)
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
