//! The view of a soak: the exits that the supervisor reports beside what the containers wrote, processes, memory, and what is left.

use crate::daemon::Daemon;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// From so many seconds before nobody lived, when the end of a supervisor may begin, to so many after, when another one has found
/// all that runs.
const ALONE: [i32; 2] = [-6, 12];

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

/// The output of a run.
struct Run {
    /// The number of its log file.
    number: u64,
    lines: usize,
    /// The code that it was about to exit with.
    end: Option<i64>,
}

/// Where the search for the log of an exit leads.
enum Match {
    /// To the log with this number, or without one to the same place.
    Next { next: u64, lines: usize, cut: bool },
    /// Its last lines may still be on their way.
    Wait,
    /// As [`Match::Wait`], if it leads nowhere else: there is a later log already.
    Late,
    /// To none.
    No,
}

/// The state of a replica of the workloads `mortal*`.
#[derive(Debug, Default)]
struct Slot {
    /// The instances whose exits were seen.
    seen: BTreeSet<u64>,
    /// Those whose run has not been compared with its log yet, the oldest first.
    open: Vec<Exit>,
    /// The possible numbers of the next log file: a start that failed, or that a kill interrupted, may have left an empty one.
    next: BTreeSet<u64>,
    /// The reason why the first open one waits.
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
    /// When neither a keeper nor a supervisor lived, or may not have: first and last second.
    alone: Vec<[String; 2]>,
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
            alone: Vec::new(),
        }
    }

    /// Neither a keeper nor a supervisor lived just now.
    pub fn nobody_lived(&mut self) {
        self.alone.push(ALONE.map(second));
    }

    /// How many exits were compared.
    pub fn exits(&self) -> u64 {
        self.compared
    }

    /// Whether all exits that were seen have been compared.
    pub fn is_settled(&self) -> bool {
        self.slots.values().all(|s| s.open.is_empty())
    }

    /// The reasons why exits are open.
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
        let open = self.slots.iter().filter(|(_, slot)| !slot.open.is_empty());
        let keys: Vec<_> = open.map(|(key, _)| key.clone()).collect();
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
        for exit in exits.iter().rev() {
            if !slot.seen.insert(exit["instance"].as_u64().unwrap()) {
                continue;
            }
            new += 1;
            let time = exit["time"].as_str().unwrap();
            let alone = self
                .alone
                .iter()
                .any(|[first, last]| (first.as_str()..=last).contains(&&time[..first.len()]));
            let end = match (exit["exitCode"].as_i64(), exit["signal"].as_str(), exit["reason"].as_str()) {
                // It never ran its program: it was not made, for want of space.
                (_, _, Some("StartError")) => continue,
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
        if slot.next.is_empty() {
            slot.next.insert(0);
        }
        let runs = runs(&dir, slot.next.first().copied().unwrap_or_default());
        while let Some(exit) = slot.open.first() {
            let all: Vec<Match> = slot.next.iter().flat_map(|from| matches(exit, &runs, *from)).collect();
            let text = || format!("{exit:?} of {key:?} at log {:?}", slot.next);
            if all.iter().any(|m| matches!(m, Match::Wait)) {
                slot.doubt = Some(text());
                break;
            }
            let found = all.iter().any(|m| matches!(m, Match::Next { .. }));
            if !found && all.iter().any(|m| matches!(m, Match::Late)) {
                slot.doubt = Some(text());
                break;
            }
            assert!(found, "{}: {:?} {:?}\n{}", text(), slot.open, slot.seen, written(&dir));
            slot.doubt = None;
            slot.next = all
                .iter()
                .filter_map(|m| if let Match::Next { next, .. } = m { Some(*next) } else { None })
                .collect();
            let whole = all.iter().find_map(|m| match m {
                Match::Next { lines, cut: false, .. } => Some(*lines),
                Match::Next { .. } | Match::Wait | Match::Late | Match::No => None,
            });
            self.cut += u64::from(whole.is_none());
            self.lines += whole.unwrap_or_default() as u64;
            self.compared += 1;
            slot.open.remove(0);
        }
    }
}

/// The second that is, or was, `offset` seconds from now, as the beginning of a time of RFC 3339.
fn second(offset: i32) -> String {
    let when = format!("{offset} seconds");
    let out = Command::new("date").args(["-u", "-d", &when, "+%FT%T"]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// The runs with a log at or after `from`, the oldest first.
fn runs(dir: &std::path::Path, from: u64) -> Vec<Run> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name());
    let numbers = names.filter_map(|n| n.to_str()?.strip_suffix(".log")?.parse().ok());
    let numbers: BTreeSet<u64> = numbers.filter(|n| *n >= from).collect();
    let read = |number: u64| {
        let text = fs::read_to_string(dir.join(format!("{number}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(|l| l.splitn(4, ' ').nth(3).unwrap_or_default()).collect();
        let (counted, last) = match lines.split_last() {
            Some((last, rest)) if last.starts_with("end ") => (rest, last.strip_prefix("end ")),
            _ => (&lines[..], None),
        };
        let expected: Vec<String> = (0..counted.len()).map(|n| n.to_string()).collect();
        assert_eq!(counted, expected, "log {number}: {}", written(dir));
        Run { number, lines: lines.len(), end: last.map(|code| code.parse().unwrap()) }
    };
    numbers.into_iter().map(read).collect()
}

/// Which logs at or after `from` may be those of the run that exited as `exit` says.
fn matches(exit: &Exit, runs: &[Run], from: u64) -> Vec<Match> {
    let mut found = Vec::new();
    let after = runs.iter().position(|run| run.number >= from).unwrap_or(runs.len());
    for (n, run) in runs.iter().enumerate().skip(after) {
        let is_last = n + 1 == runs.len();
        let this = |cut: bool| Match::Next { next: run.number + 1, lines: run.lines, cut };
        found.push(match (&exit.end, run.end) {
            (End::Killed | End::Unknown, _) => this(false),
            (End::Code(code), Some(end)) if *code == end => this(false),
            (End::Code(_), Some(_)) => Match::No,
            (End::Code(_), None) if exit.alone && !is_last => this(true),
            (End::Code(_), None) if is_last => Match::Wait,
            (End::Code(_), None) => Match::Late,
        });
        if run.lines > 0 {
            break;
        }
    }
    if after == runs.len() {
        found.push(Match::Wait);
    }
    // It may have started and exited while nobody read what it wrote.
    if exit.alone && after < runs.len() {
        found.push(Match::Next { next: from, lines: 0, cut: true });
    }
    found
}

/// The log files.
fn written(dir: &std::path::Path) -> String {
    let mut files: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    files.iter().map(|f| format!("{}: {:?}\n", f.display(), fs::read_to_string(f))).collect()
}

/// Private memory of a process, in kB.
pub fn memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = text.lines().filter(|l| l.starts_with("Private_"));
    lines.filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// The paths of the open files of a process.
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
