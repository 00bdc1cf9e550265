//! Repair of a damaged journal, with a report of the losses.

use super::disk::Changed;
use super::frame::{self, FrameKind, Rest};
use super::store::{self, Content};
use super::{Durability, Head, Journal};
use crate::error::{Error, Kind, Result};
use crate::supervisor::core::Config;
use crate::supervisor::core::desired::{Change, Desired};
use crate::supervisor::core::ids::WorkloadId;
use crate::supervisor::core::refusal::Refusal;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The tag of the durable journal.
pub const DESIRED: &str = "desired";
/// So far behind the last known identity new ones begin after a loss, so that none is used twice: workloads that are lost
/// may still have containers.
const GAP: u64 = 1 << 32;

/// The report of a repair, in lines for a person.
#[derive(Debug, Default)]
pub struct Report {
    /// Findings and actions, one per line.
    pub lines: Vec<String>,
    /// Changes are lost that were acknowledged.
    pub lost: bool,
}

impl Report {
    fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    fn lose(&mut self, line: String) {
        self.lost = true;
        self.lines.push(format!("lost: {line}"));
    }
}

/// Repairs the journal in `dir` of the state that users want: copies it, keeps what is whole or can be mended, and writes the
/// result as a new snapshot.
///
/// # Errors
/// It is in use, or of a newer program; it cannot be read or written. Then only the backup may have been made.
pub fn repair(dir: &Path, config: &Config) -> Result<Report> {
    let mut report = Report::default();
    let lock = super::lock(dir)?;
    let content = Content::read(dir)?;
    if let Some(tag) = tag_of(&content).filter(|t| t != DESIRED) {
        // The state of one boot: orund recovers from its loss by looking at the containers.
        match content.check(dir, &tag, Durability::Process) {
            Ok(_) => report.say("nothing to repair".to_owned()),
            Err(_) => {
                let to = set_aside(dir)?;
                report.say(format!("moved to {to:?}; orund finds the containers again when it starts"));
            }
        }
        return Ok(report);
    }
    match content.check(dir, DESIRED, Durability::Host) {
        Ok(found) if found.torn == 0 => {
            report.say("nothing to repair".to_owned());
            return Ok(report);
        }
        Err(e) if content.is_newer() => return Err(e),
        _ => {}
    }
    report.say(format!("backup: {}", backup(dir)?.display()));
    let mut salvage = Salvage { report, desired: Desired::default(), config, certain: None };
    let number = salvage.read_files(dir, &content);
    let Salvage { mut report, desired, .. } = salvage;
    let mut journal = Journal::bare(dir, DESIRED, Durability::Host, number, lock);
    journal.compact(&desired)?;
    for (id, w) in &desired.workloads {
        let state = if w.deletion.is_some() { ", being deleted" } else { "" };
        report.say(format!("kept: workload {:?} (w{}), {} replicas{state}", w.name, id.0, w.replicas));
    }
    if !report.lost {
        report.say("nothing is lost".to_owned());
    }
    Ok(report)
}

/// Moves the files of a journal to a directory of their own, which it returns.
///
/// # Errors
/// They cannot be moved.
pub fn set_aside(dir: &Path) -> Result<PathBuf> {
    let to = new_dir(dir, "damaged")?;
    for (name, path) in files(dir)? {
        fs::rename(&path, to.join(name)).map_err(|e| Error::sys(format!("moving {path:?} to {to:?}"), e))?;
    }
    Ok(to)
}

fn backup(dir: &Path) -> Result<PathBuf> {
    let to = new_dir(dir, "backup")?;
    for (name, path) in files(dir)? {
        let fail = |e| Error::sys(format!("copying {path:?} to {to:?}"), e);
        fs::copy(&path, to.join(&name)).map_err(fail)?;
        File::open(to.join(&name)).and_then(|f| f.sync_all()).map_err(fail)?;
    }
    for synced in [&to, &dir.to_owned()] {
        File::open(synced)
            .and_then(|d| d.sync_all())
            .map_err(|e| Error::sys(format!("writing the directory {synced:?}"), e))?;
    }
    Ok(to)
}

fn new_dir(dir: &Path, name: &str) -> Result<PathBuf> {
    for number in 1.. {
        let to = dir.join(format!("{name}.{number}"));
        match fs::DirBuilder::new().mode(0o700).create(&to) {
            Ok(()) => return Ok(to),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::sys(format!("making the directory {to:?}"), e)),
        }
    }
    Err(Error::new(Kind::System, format!("no name is free for a {name} in {dir:?}")))
}

fn files(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = fs::read_dir(dir).map_err(|e| Error::sys(format!("reading {dir:?}"), e))?;
    let named = |path: PathBuf| Some((path.file_name()?.to_str()?.to_owned(), path));
    let of_journal = |(name, path): &(String, PathBuf)| {
        path.is_file() && (name.starts_with("snapshot") || name.starts_with("journal."))
    };
    Ok(entries.flatten().filter_map(|e| named(e.path())).filter(of_journal).collect())
}

/// The owner of the journal, if it can be read.
fn tag_of(content: &Content) -> Option<String> {
    content.files().find_map(|(_, bytes)| {
        let scan = frame::scan(bytes, 0);
        let head = scan.records.first().filter(|r| r.kind == FrameKind::Tag)?;
        serde_json::from_slice::<Head>(head.payload).ok().map(|h| h.tag)
    })
}

struct Salvage<'a> {
    report: Report,
    desired: Desired,
    config: &'a Config,
    /// After a loss: the last identity that is certain.
    certain: Option<u64>,
}

impl Salvage<'_> {
    /// Reads all files; the number of the journal that counts.
    fn read_files(&mut self, dir: &Path, content: &Content) -> u64 {
        let last = content.journals.last().map_or(0, |(n, _)| *n);
        let mut next = None;
        match &content.snapshot {
            Some(bytes) => self.read("snapshot", bytes, &mut next),
            None if last > 0 => self.lose_all("the snapshot and its content"),
            None => {}
        }
        let number = next.unwrap_or(last);
        match content.journal(number) {
            Some(bytes) => self.read(&format!("journal.{number}"), bytes, &mut None),
            None => self.lose_all(&format!(
                "{}, with all changes since the snapshot",
                store::path(dir, number).display()
            )),
        }
        number.max(last)
    }

    fn lose_all(&mut self, what: &str) {
        self.report.lose(what.to_owned());
        self.uncertain();
    }

    fn uncertain(&mut self) {
        self.certain.get_or_insert(self.desired.last_id);
        self.desired.last_id = self.desired.last_id.max(self.certain.unwrap_or(0) + GAP);
    }

    fn read(&mut self, file: &str, bytes: &[u8], next: &mut Option<u64>) {
        let mut at = 0;
        loop {
            let scan = frame::scan(bytes, at);
            for record in &scan.records {
                self.record(file, record.at, record.kind, record.payload, next);
            }
            let behind = match scan.rest {
                Rest::Nothing => return,
                Rest::Torn if file != "snapshot" => {
                    let n = bytes.len() - scan.end;
                    self.report.say(format!(
                        "{file}: the last {n} bytes are an incomplete record, never acknowledged"
                    ));
                    return;
                }
                Rest::Damaged { next: Some(next) } => next,
                // Nothing is refused that is newer: that was looked for before.
                Rest::Torn | Rest::Damaged { next: None } | Rest::Newer { .. } => bytes.len(),
            };
            match frame::mend(bytes, scan.end, behind) {
                Some(mended) => {
                    self.report.say(format!(
                        "{file}: one flipped bit in the record at byte {} is restored",
                        scan.end
                    ));
                    for record in &frame::scan(&mended, 0).records {
                        self.record(file, scan.end, record.kind, record.payload, next);
                    }
                }
                None => self.lose_bytes(file, bytes, scan.end, behind),
            }
            at = behind;
        }
    }

    fn record(&mut self, file: &str, at: usize, kind: FrameKind, payload: &[u8], next: &mut Option<u64>) {
        let understood = match kind {
            FrameKind::Tag => serde_json::from_slice::<Head>(payload).map(|head| *next = Some(head.next)),
            FrameKind::Snapshot => serde_json::from_slice(payload).map(|desired| self.desired = desired),
            FrameKind::Record => {
                serde_json::from_slice(payload).map(|changed| self.change(file, at, &changed))
            }
        };
        if let Err(e) = understood {
            self.report.lose(format!("{file}, byte {at}: an invalid record: {e}"));
            self.uncertain();
        }
    }

    fn change(&mut self, file: &str, at: usize, changed: &Changed) {
        let Changed { at: time, change } = changed;
        match self.desired.apply(change, *time, self.config) {
            Err(Refusal::NotFound) if self.certain.is_some() => {
                let what = match change {
                    Change::Scale { replicas, .. } => format!("scale to {replicas}"),
                    Change::Delete { .. } => "delete".to_owned(),
                    Change::Restart { .. } => "restart".to_owned(),
                    // The supervisor finds these out again.
                    _ => return,
                };
                self.report.lose(format!("{file}, byte {at}: {what}: its workload is no longer known"));
            }
            // A change that was refused is refused again.
            _ => {}
        }
    }

    /// Describes damaged bytes by the text in them.
    fn lose_bytes(&mut self, file: &str, bytes: &[u8], from: usize, to: usize) {
        let text = String::from_utf8_lossy(&bytes[from..to]).into_owned();
        let mut about: Vec<String> = Vec::new();
        let changes: Vec<&str> = text.split("\"change\":\"").skip(1).collect();
        for part in &changes {
            let kind = part.split('"').next().unwrap_or_default().escape_debug().to_string();
            let noun = match after(part, "\"kind\":\"", '"').filter(|_| matches!(&*kind, "keep" | "discard"))
            {
                Some(kind) => kind.escape_debug().to_string(),
                None => "workload".to_owned(),
            };
            let name = after(part, "\"name\":\"", '"').map(|n| format!("{noun} \"{}\"", n.escape_debug()));
            let id = || after(part, "\"workload\":", ',').and_then(|n| n.trim_end_matches('}').parse().ok());
            let known = |id: u64| {
                let name =
                    self.desired.workloads.get(&WorkloadId(id)).map(|w| format!("workload {:?}", w.name));
                name.unwrap_or_else(|| format!("workload w{id}"))
            };
            let of = name
                .or_else(|| id().map(known))
                .unwrap_or_else(|| "a workload whose name is damaged".to_owned());
            about.push(format!("{kind} of {of}"));
        }
        if file == "snapshot" {
            let names = text.split("\"generation\":").filter_map(|before| {
                let (_, name) = before.rsplit_once("\"name\":\"")?;
                Some(format!("workload \"{}\"", name.split('"').next()?.escape_debug()))
            });
            about.extend(names);
        }
        let about = if about.is_empty() { "of an unknown workload".to_owned() } else { about.join(", ") };
        self.report.lose(format!("{file}, bytes {from} to {to}: {about}"));
        self.uncertain();
    }
}

/// The text after `mark`, up to `end`.
fn after<'a>(text: &'a str, mark: &str, end: char) -> Option<&'a str> {
    text.split_once(mark)?.1.split(end).next()
}
