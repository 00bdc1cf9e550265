//! The journals of every format that was ever released: each is read, and rewritten in today's.
//!
//! `VERSION/CASE/data` is a data directory and `VERSION/CASE/run` the directory `state` of a run directory, as a daemon of that
//! version has left them. `plain` has every kind of change and nearly every kind of event, `snapshot` a snapshot of both. A new
//! field of a type that is in a journal needs a serde default: without it these tests fail. What a released format writes
//! never changes; a release with another format adds a directory.

use orun::error::Kind;
use orun::supervisor::core::Config;
use orun::supervisor::core::desired::Desired;
use orun::supervisor::core::event::{Event, Record};
use orun::supervisor::core::model::{Observed, Phase};
use orun::supervisor::core::observe::on_event;
use orun::supervisor::shell::journal::disk::Changed;
use orun::supervisor::shell::journal::repair::{DESIRED, repair};
use orun::supervisor::shell::journal::store::Content;
use orun::supervisor::shell::journal::{Durability, Head, Journal, Replay, frame};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal").join(name)
}

fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

/// Everything in a directory but the lock, the backups and what was moved aside.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().flatten().filter(|e| e.file_name() != "lock");
    entries
        .filter(|e| e.path().is_file())
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .collect()
}

fn wanted(dir: &Path) -> Result<(Journal, Desired, bool), orun::error::Error> {
    let (journal, replay): (_, Replay<Desired, Changed>) = Journal::open(dir, DESIRED, Durability::Host)?;
    let mut desired = replay.snapshot.unwrap_or_default();
    for Changed { at, change } in &replay.records {
        let _ = desired.apply(change, *at, &Config::default());
    }
    Ok((journal, desired, replay.old))
}

/// The boot that a directory is of.
fn boot(dir: &Path) -> String {
    let content = Content::read(dir).unwrap();
    let (_, bytes) = content.files().next().unwrap();
    serde_json::from_slice::<Head>(frame::scan(bytes, 0).records[0].payload).unwrap().tag
}

fn seen(dir: &Path) -> (Journal, Observed, bool) {
    let (journal, replay): (_, Replay<Observed, Record>) =
        Journal::open(dir, &boot(dir), Durability::Process).unwrap();
    let mut observed = replay.snapshot.unwrap_or_default();
    for Record { at, event } in &replay.records {
        on_event(&mut observed, event, *at, &mut Vec::new());
    }
    (journal, observed, replay.old)
}

/// Name, replicas, revision and number of revisions, as the daemon that wrote it showed them.
fn summary(desired: &Desired) -> Vec<(&str, u32, u32, usize)> {
    let mut all: Vec<_> = desired
        .workloads
        .values()
        .map(|w| (w.name.as_str(), w.replicas, w.revision.0, w.revisions.len()))
        .collect();
    all.sort_unstable();
    all
}

fn running(desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let name = |key: &orun::supervisor::core::ids::Key| {
        format!("{}-{}/{}", desired.workloads[&key.workload].name, key.slot, key.container)
    };
    observed.instances().filter(|(_, i)| i.phase == Phase::Running).map(|(key, _)| name(&key)).collect()
}

#[test]
fn the_journals_of_0_1_0_are_read_and_upgraded() {
    let expected: [(&str, &[_], &[&str]); 2] = [
        (
            "plain",
            &[
                ("bad", 1, 1, 1),
                ("job", 2, 1, 1),
                ("once", 2, 1, 1),
                ("oom", 1, 1, 1),
                ("rev", 1, 14, 11),
                ("web", 2, 2, 2),
            ],
            &["rev-0/0", "web-0/0", "web-0/1", "web-1/0", "web-1/1"],
        ),
        (
            "snapshot",
            &[("job", 2, 1, 1), ("late", 1, 1, 1), ("once", 3, 1, 1), ("web", 1, 2, 2)],
            &["late-0/0", "web-0/0", "web-0/1"],
        ),
    ];
    for (case, workloads, containers) in expected {
        let from = golden("0.1.0").join(case);
        let (data, run) = (copy(&from.join("data")), copy(&from.join("run")));
        let (mut journal, desired, old) = wanted(data.path()).unwrap();
        assert!(old, "{case}");
        assert_eq!(summary(&desired), workloads, "{case}");
        journal.compact(&desired).unwrap();
        drop(journal);
        let (mut journal, observed, old) = seen(run.path());
        assert!(old, "{case}");
        if case == "plain" {
            assert_eq!(
                running(&desired, &observed).iter().map(String::as_str).collect::<Vec<_>>(),
                containers
            );
        }
        journal.compact(&observed).unwrap();
        drop(journal);
        let (_, again, old) = wanted(data.path()).unwrap();
        assert_eq!((again, old), (desired, false), "{case}");
        let (_, again, old) = seen(run.path());
        assert_eq!((again, old), (observed, false), "{case}");
        for dir in [&data, &run] {
            for (name, bytes) in files(dir.path()) {
                assert!(frame::scan(&bytes, 0).records.iter().all(|r| r.version == frame::VERSION), "{name}");
            }
        }
    }
}

/// A golden journal that lacks a kind of record could not show that it is not read any more.
#[test]
fn the_golden_journals_have_every_kind_of_record() {
    let payloads = |dir: &str| -> Vec<serde_json::Value> {
        let content = Content::read(&golden("0.1.0/plain").join(dir)).unwrap();
        let bytes = content.journal(0).unwrap();
        let records = frame::scan(bytes, 0).records;
        records.iter().map(|r| serde_json::from_slice(r.payload).unwrap()).collect()
    };
    let kinds = |list: &[serde_json::Value], path: &str| -> BTreeSet<String> {
        list.iter().filter_map(|v| v.pointer(path)?.as_str().map(str::to_owned)).collect()
    };
    let changes = kinds(&payloads("data"), "/change/change");
    let all = ["apply", "completed", "delete", "pruned", "removed", "restart", "scale", "vacated"];
    assert_eq!(changes.iter().map(String::as_str).collect::<Vec<_>>(), all);
    let events = payloads("run");
    // Of this boot only: an old daemon's oomKilled and keeperLost have no fields but the key.
    for kind in [
        "prepared",
        "started",
        "startFailed",
        "exited",
        "cgroupEmpty",
        "signalled",
        "hookDone",
        "removed",
        "found",
    ] {
        assert!(kinds(&events, "/event/event").contains(kind), "{kind}");
    }
    for kind in [
        "addReplica",
        "dropReplica",
        "dropSlot",
        "dropWorkload",
        "stopReplica",
        "stop",
        "abandonHook",
        "settle",
        "prepare",
        "release",
        "signal",
        "killCgroup",
        "runHook",
        "remove",
    ] {
        assert!(kinds(&events, "/event/action/action").contains(kind), "{kind}");
    }
    for (kind, key) in [("oomKilled", true), ("keeperLost", false)] {
        let mut event = serde_json::json!({"event": kind});
        if key {
            event["key"] =
                serde_json::json!({"workload": 1, "slot": 0, "replica": 1, "container": 0, "instance": 1});
        }
        serde_json::from_value::<Event>(event).unwrap();
    }
}

/// The first records of the durable journal of 0.1.0: small enough for every bit.
fn first_records() -> tempfile::TempDir {
    let dir = copy(&golden("0.1.0/plain/data"));
    let path = dir.path().join("journal.0");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..frame::scan(&bytes, 0).records[3].at]).unwrap();
    dir
}

#[test]
fn every_flipped_bit_of_an_old_journal_is_refused_and_repaired_without_loss() {
    let dir = first_records();
    let right = fs::read(dir.path().join("journal.0")).unwrap();
    let (journal, expected, _) = wanted(dir.path()).unwrap();
    drop(journal);
    for bit in 0..right.len() * 8 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.0");
        let mut flipped = right.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        let e = wanted(dir.path()).unwrap_err();
        assert_eq!(e.kind(), Kind::Config, "bit {bit}: {e}");
        assert_eq!(fs::read(&path).unwrap(), flipped, "bit {bit}");
        // It takes a while, and one bit of a byte is like another.
        if bit % 499 == 0 {
            let report = repair(dir.path(), &Config::default()).unwrap();
            assert!(
                !report.lost && report.lines.iter().any(|l| l.contains("is restored")),
                "{:?}",
                report.lines
            );
            assert_eq!(fs::read(dir.path().join("backup.1/journal.0")).unwrap(), flipped);
            assert_eq!(wanted(dir.path()).unwrap().1, expected, "bit {bit}");
        }
    }
}

#[test]
fn every_truncation_of_an_old_journal_keeps_what_is_whole() {
    let dir = first_records();
    let right = fs::read(dir.path().join("journal.0")).unwrap();
    for length in 0..=right.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal.0"), &right[..length]).unwrap();
        let whole = frame::scan(&right[..length], 0).records.len();
        let (_, desired, _) = wanted(dir.path()).unwrap();
        assert_eq!(desired.workloads.len(), whole.saturating_sub(1), "{length}");
    }
}

#[test]
fn a_repair_says_what_is_lost_and_mixes_nothing_up() {
    let dir = copy(&golden("0.1.0/plain/data"));
    let path = dir.path().join("journal.0");
    let mut bytes = fs::read(&path).unwrap();
    let record = |bytes: &[u8], text: &str| {
        let found = frame::scan(bytes, 0)
            .records
            .iter()
            .find(|r| String::from_utf8_lossy(r.payload).contains(text))
            .map(|r| r.at);
        found.unwrap()
    };
    // "once", the third one, is lost; its name stays readable.
    let at = record(&bytes, r#""name":"once""#);
    bytes[at + 4..at + 8].fill(0xee);
    fs::write(&path, &bytes).unwrap();
    assert!(wanted(dir.path()).is_err());
    let report = repair(dir.path(), &Config::default()).unwrap();
    let text = report.lines.join("\n");
    assert!(report.lost && text.contains(r#"apply of workload "once""#), "{text}");
    // Changes of it name a number that nobody has now.
    assert!(text.contains("scale to 1: its workload is no longer known"), "{text}");
    assert_eq!(fs::read(dir.path().join("backup.1/journal.0")).unwrap(), bytes);
    let (_, desired, _) = wanted(dir.path()).unwrap();
    let names: Vec<_> = summary(&desired).into_iter().map(|w| (w.0, w.1, w.2)).collect();
    // The restart of "web" came before, and what came after by name is kept; "stubborn" was deleted by a number.
    assert_eq!(
        names,
        [("bad", 1, 1), ("job", 2, 1), ("oom", 1, 1), ("rev", 1, 14), ("stubborn", 1, 1), ("web", 2, 2)]
    );
    let known: Vec<u64> = desired.workloads.keys().map(|id| id.0).filter(|id| *id < 1000).collect();
    assert_eq!(known, [1, 2], "no number is used again");
    assert_eq!(repair(dir.path(), &Config::default()).unwrap().lines, ["nothing to repair"]);
}

#[test]
fn a_repair_of_a_lost_snapshot_names_what_was_in_it() {
    let dir = copy(&golden("0.1.0/snapshot/data"));
    let path = dir.path().join("snapshot");
    let mut bytes = fs::read(&path).unwrap();
    let state = frame::scan(&bytes, 0).records[1].at;
    bytes[state + 4..state + 8].fill(0xee);
    fs::write(&path, &bytes).unwrap();
    assert!(wanted(dir.path()).unwrap_err().to_string().contains("snapshot"));
    let text = repair(dir.path(), &Config::default()).unwrap().lines.join("\n");
    for name in ["job", "once", "web"] {
        assert!(text.contains(&format!("workload \"{name}\"")), "{text}");
    }
    let (_, desired, _) = wanted(dir.path()).unwrap();
    // "loop" was deleted by its number, and which that was is lost.
    assert_eq!(summary(&desired), [("late", 1, 1, 1), ("loop", 8, 1, 1)]);
    assert!(text.contains("delete: its workload is no longer known"), "{text}");
}

#[test]
fn a_repair_leaves_what_is_newer_alone() {
    let dir = copy(&golden("0.1.0/plain/data"));
    let path = dir.path().join("journal.0");
    let mut bytes = fs::read(&path).unwrap();
    frame::encode_version(&mut bytes, frame::FrameKind::Record, frame::VERSION + 1, br#"{"new":true}"#);
    fs::write(&path, &bytes).unwrap();
    let e = repair(dir.path(), &Config::default()).unwrap_err();
    assert!(e.to_string().contains("has a record of format"), "{e}");
    assert_eq!(files(dir.path()), BTreeMap::from([("journal.0".to_owned(), bytes)]));
}
