//! What a soak looks at: the exits that the supervisor reports beside what the containers wrote, processes, memory, and what is left.

use crate::daemon::Daemon;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// An exit of that time is seen so much later at most.
const RECENT: Duration = Duration::from_secs(15);

/// How a run exited.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Code(i64),
    Killed,
    /// It exited while neither a keeper nor a supervisor lived.
    Unknown,
}

/// An exit that was reported.
#[derive(Debug, Clone)]
struct Exit {
    end: End,
    /// Perhaps nobody held its pipes when it exited: then what was in them is gone.
    alone: bool,
}

/// What is known of a replica of the workloads `mortal*`.
#[derive(Debug, Default)]
struct Slot {
    /// The instances whose exits were seen.
    seen: BTreeSet<u64>,
    /// Those whose run has not been compared with its log yet, the oldest first.
    open: Vec<Exit>,
    /// The number of the next log file.
    next: u64,
    /// Starts that failed, and whose log was not met yet.
    failed_starts: u64,
    /// What the first open one waits for.
    doubt: Option<String>,
}

/// The exits of the workloads `mortal*`, compared with their logs.
pub struct Audit {
    socket: PathBuf,
    logs: PathBuf,
    slots: BTreeMap<(String, u64), Slot>,
    compared: u64,
    lines: u64,
    unknown: u64,
    cut: u64,
    unanswered: u64,
    /// When neither a keeper nor a supervisor lived last.
    alone: Option<Instant>,
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: usize = self.slots.values().map(|s| s.open.len()).sum();
        let Audit { compared, lines, unknown, cut, unanswered, .. } = self;
        write!(
            f,
            "{compared} exits and {lines} lines compared, {open} open, {unknown} unknown and {cut} cut while nobody lived, {unanswered} times no answer"
        )
    }
}

impl Audit {
    pub fn new(socket: PathBuf, logs: PathBuf) -> Audit {
        Audit {
            socket,
            logs,
            slots: BTreeMap::new(),
            compared: 0,
            lines: 0,
            unknown: 0,
            cut: 0,
            unanswered: 0,
            alone: None,
        }
    }

    /// Neither a keeper nor a supervisor lived just now.
    pub fn nobody_lived(&mut self) {
        self.alone = Some(Instant::now());
    }

    /// How many exits were compared.
    pub fn exits(&self) -> u64 {
        self.compared
    }

    /// Whether all exits that were seen have been compared.
    pub fn is_settled(&self) -> bool {
        self.slots.values().all(|s| s.open.is_empty())
    }

    /// What is not settled.
    pub fn doubts(&self) -> Vec<String> {
        let open = self.slots.iter().filter(|(_, s)| !s.open.is_empty());
        open.map(|(key, s)| s.doubt.clone().unwrap_or_else(|| format!("{:?} of {key:?} has no log", s.open)))
            .collect()
    }

    /// Asks for the exits since the last time. A supervisor that does not answer is asked the next time.
    pub fn look(&mut self) {
        let Some(list) = self.replicas() else {
            return self.unanswered += 1;
        };
        for replica in list["items"].as_array().into_iter().flatten() {
            let workload = replica["workload"].as_str().unwrap_or_default();
            if workload.starts_with("mortal") {
                self.exits_of(workload, replica);
            }
        }
        let keys: Vec<_> = self.slots.keys().cloned().collect();
        for key in keys {
            self.compare(&key);
        }
    }

    fn replicas(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /v1/replicas HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let text = String::from_utf8(answer).ok()?;
        let body = &text[text.find('{')?..=text.rfind('}')?];
        serde_json::from_str(body).ok()
    }

    fn exits_of(&mut self, workload: &str, replica: &Value) {
        let key = (workload.to_owned(), replica["slot"].as_u64().unwrap());
        let slot = self.slots.entry(key).or_default();
        let container = &replica["containers"][0];
        let exits = container["exits"].as_array().cloned().unwrap_or_default();
        let mut new = 0;
        let alone = self.alone.is_some_and(|at| at.elapsed() < RECENT);
        for exit in exits.iter().rev() {
            if !slot.seen.insert(exit["instance"].as_u64().unwrap()) {
                continue;
            }
            new += 1;
            let end = match (exit["exitCode"].as_i64(), exit["signal"].as_str(), exit["reason"].as_str()) {
                // It never ran its program: it was not made, for want of space.
                (_, _, Some("StartError")) => {
                    slot.failed_starts += 1;
                    continue;
                }
                (None, None, Some("Unknown")) if alone => End::Unknown,
                (_, Some("SIGKILL"), _) => End::Killed,
                (Some(code), None, _) => End::Code(code),
                _ => panic!("an exit that nothing explains: {replica:#}"),
            };
            self.unknown += u64::from(end == End::Unknown);
            slot.open.push(Exit { end, alone });
        }
        assert!(new < 5 || slot.seen.len() == 5, "exits may have been missed: {replica:#}");
    }

    /// Compares the open exits of a replica with its log files. What is not yet in a file is compared the next time.
    fn compare(&mut self, key: &(String, u64)) {
        let dir = self.logs.join(&key.0).join(key.1.to_string()).join("main");
        let slot = self.slots.get_mut(key).unwrap();
        while let Some(Exit { end, alone }) = slot.open.first().cloned() {
            let Some(number) = next_log(&dir, slot.next) else { return };
            let text = fs::read_to_string(dir.join(format!("{number}.log"))).unwrap_or_default();
            let lines: Vec<&str> =
                text.lines().map(|l| l.splitn(4, ' ').nth(3).unwrap_or_default()).collect();
            let (numbers, last) = match lines.split_last() {
                Some((last, rest)) if last.starts_with("end ") => (rest, last.strip_prefix("end ")),
                _ => (&lines[..], None),
            };
            let expected: Vec<String> = (0..numbers.len()).map(|n| n.to_string()).collect();
            assert_eq!(numbers, expected, "of run {number} of {key:?}: {}", written(&dir));
            let coded = last.map(|code| code.parse::<i64>().unwrap());
            let doubt = slot.doubt.take();
            match (&end, coded) {
                (End::Code(code), Some(wrote)) => {
                    assert_eq!(
                        *code,
                        wrote,
                        "of run {number} of {key:?}: {doubt:?} {:?} {:?}\n{}",
                        slot.open,
                        slot.seen,
                        written(&dir)
                    );
                }
                (End::Killed | End::Unknown, _) => {}
                // A start that failed leaves the log of a run that was not.
                (End::Code(_), None) if slot.failed_starts > 0 && next_log(&dir, number + 1).is_some() => {
                    slot.failed_starts -= 1;
                    slot.next = number + 1;
                    continue;
                }
                // A start that a kill interrupted leaves the log of a run that was not.
                (End::Code(code), None) if lines.is_empty() && ends_with(&dir, number + 1, *code) => {
                    slot.next = number + 1;
                    continue;
                }
                (End::Code(_), None) if alone && next_log(&dir, number + 1).is_some() => self.cut += 1,
                // Its last lines are still on their way.
                (End::Code(code), None) => {
                    slot.doubt =
                        Some(format!("exit code {code} of run {number} of {key:?}, which wrote {lines:?}"));
                    break;
                }
            }
            slot.open.remove(0);
            slot.next = number + 1;
            self.compared += 1;
            self.lines += lines.len() as u64;
        }
    }
}

/// Whether the run at or after `from` has written that it ends with `code`.
fn ends_with(dir: &std::path::Path, from: u64, code: i64) -> bool {
    let text = next_log(dir, from).and_then(|n| fs::read_to_string(dir.join(format!("{n}.log"))).ok());
    text.is_some_and(|t| t.ends_with(&format!(" end {code}\n")))
}

/// The log files.
fn written(dir: &std::path::Path) -> String {
    let mut files: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    files.iter().map(|f| format!("{}: {:?}\n", f.display(), fs::read_to_string(f))).collect()
}

/// The first run at or after `from` that has a log.
fn next_log(dir: &std::path::Path, from: u64) -> Option<u64> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name());
    names.filter_map(|n| n.to_str()?.strip_suffix(".log")?.parse().ok()).filter(|n| *n >= from).min()
}

/// Private memory of a process, in kB.
pub fn memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = text.lines().filter(|l| l.starts_with("Private_"));
    lines.filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// What the open files of a process are.
pub fn open_files(pid: i32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|e| fs::read_link(e.path()).ok()).collect()
}

/// The mounts below a directory of the supervisor.
pub fn mounts_below(d: &Daemon, name: &str) -> usize {
    let below = format!("{}/", d.dir.join(name).display());
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    text.lines().filter(|l| l.split(' ').nth(1).is_some_and(|at| at.starts_with(&below))).count()
}

/// How many containers run their program, by replica.
pub fn programs_by_replica(d: &Daemon) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for pid in d.processes() {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let is_first = read("status").lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t1"));
        if is_first && read("cmdline").starts_with("sh\0") {
            let cgroup = read("cgroup");
            let last = cgroup.lines().filter_map(|l| l.rsplit('/').next()).find(|n| n.contains('.'));
            let replica = last.and_then(|n| n.split('.').next()).unwrap_or_default();
            *found.entry(replica.to_owned()).or_default() += 1;
        }
    }
    found
}
