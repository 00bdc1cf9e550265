use super::*;
use crate::state::lifecycle::Phase;
use crate::state::model::{Cgroup, CgroupManager, Hierarchy, ProcessId, StartNotes};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("deep/er/orun"));
    (dir, store)
}

fn record(id: &str) -> Record {
    Record {
        version: VERSION,
        id: id.to_owned(),
        phase: Phase::Creating,
        bundle: "/bundle".into(),
        rootfs: "/bundle/rootfs".into(),
        created: "2026-11-23T21:34:57.5Z".to_owned(),
        owner: 0,
        creator: ProcessId { pid: 1, start_time: 2 },
        init: None,
        own_pid_namespace: true,
        cgroup: Cgroup {
            manager: CgroupManager::Cgroupfs,
            hierarchies: vec![Hierarchy { controllers: vec![], dir: "/sys/fs/cgroup/c1".into() }],
            unit: None,
        },
        resources: None,
        intel_rdt: None,
        terminal: false,
        rootless: false,
        restored: false,
        annotations: BTreeMap::from([("a".to_owned(), "b\"\n".to_owned())]),
        start: Some(StartNotes { program: "/bin/true".to_owned(), hooks_ms: 7 }),
        poststart: vec![],
        poststop: vec![],
    }
}

#[test]
fn a_record_is_what_was_written() {
    let (_dir, store) = store();
    assert!(store.ids().unwrap().is_empty(), "a store that was never made is empty");
    let entry = store.create(&id("c1")).unwrap();
    let mut r = record("c1");
    entry.write_record(&r).unwrap();
    entry.write_config(b"{}").unwrap();
    assert_eq!(store.open(&id("c1")).unwrap().record().unwrap(), r);
    r.phase = Phase::Running;
    r.init = Some(ProcessId { pid: 42, start_time: 1 << 40 });
    r.resources = Some(crate::config::resources::Resources::default());
    entry.write_record(&r).unwrap();
    let reader = store.open(&id("c1")).unwrap();
    assert_eq!(reader.record().unwrap(), r);
    assert_eq!(reader.config().unwrap(), b"{}");
    entry.remove().unwrap();
    assert_eq!(store.open(&id("c1")).unwrap_err().to_string(), "container does not exist: c1");
    assert_eq!(reader.record().unwrap_err().kind(), Kind::NotFound, "an open entry of a removed container");
}

#[test]
fn directories_and_files_are_for_their_owner_only() {
    let (dir, store) = store();
    let entry = store.create(&id("c1")).unwrap();
    entry.write_record(&record("c1")).unwrap();
    entry.write_config(b"{}").unwrap();
    let mode = |p: PathBuf| std::fs::metadata(p).unwrap().permissions().mode() & 0o7777;
    for d in ["deep", "deep/er", "deep/er/orun", "deep/er/orun/c1"] {
        assert_eq!(mode(dir.path().join(d)), 0o700, "{d}");
    }
    for f in ["state.json", "config.json"] {
        assert_eq!(mode(store.root().join("c1").join(f)), 0o600, "{f}");
    }
}

#[test]
fn of_two_creators_one_wins() {
    let (_dir, store) = store();
    let results: Vec<_> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..8).map(|_| s.spawn(|| store.create(&id("c1")))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    for e in results.into_iter().filter_map(Result::err) {
        assert_eq!(e.kind(), Kind::Exists);
        assert!(e.to_string().starts_with("container with given ID already exists"), "{e}");
    }
}

#[test]
fn a_half_made_container_is_there_and_has_no_record() {
    let (_dir, store) = store();
    drop(store.create(&id("c1")).unwrap());
    let mut entry = store.find(&id("c1")).unwrap().unwrap();
    assert_eq!(entry.find_record().unwrap(), None);
    assert!(entry.try_lock(Duration::ZERO).unwrap(), "nobody makes it any more");
    std::fs::write(store.root().join("c1/state.json.new"), "cut").unwrap();
    entry.remove().unwrap();
    assert!(store.find(&id("c1")).unwrap().is_none());
}

#[test]
fn a_creator_whose_directory_is_removed_fails() {
    let (_dir, store) = store();
    let entry = store.create(&id("c1")).unwrap();
    store.find(&id("c1")).unwrap().unwrap().remove().unwrap();
    let e = entry.write_record(&record("c1")).unwrap_err();
    assert_eq!(e.to_string(), "container c1 was deleted while it was being created");
}

#[test]
fn the_lock_excludes_and_its_wait_ends() {
    let (_dir, store) = store();
    let mut first = store.create(&id("c1")).unwrap();
    first.write_record(&record("c1")).unwrap();
    let mut second = store.open(&id("c1")).unwrap();
    let start = Instant::now();
    let e = second.lock(Duration::from_millis(50)).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(e.kind(), Kind::Timeout);
    assert!(second.record().is_ok(), "readers need no lock");
    first.unlock();
    second.lock(Duration::ZERO).unwrap();
    assert!(!first.try_lock(Duration::ZERO).unwrap());
    drop(second);
    first.lock(Duration::ZERO).unwrap();
}

#[test]
fn readers_never_see_half_a_record() {
    let (_dir, store) = store();
    let entry = store.create(&id("c1")).unwrap();
    let mut r = record("c1");
    entry.write_record(&r).unwrap();
    std::thread::scope(|s| {
        let reader = s.spawn(|| {
            for _ in 0..300 {
                let seen = store.open(&id("c1")).unwrap().record().unwrap();
                let filler = &seen.annotations["a"];
                assert!(filler == "b\"\n" || filler.len() == 100_000);
            }
        });
        let mut long = false;
        while !reader.is_finished() {
            long = !long;
            r.annotations.insert("a".to_owned(), if long { "x".repeat(100_000) } else { "b\"\n".to_owned() });
            entry.write_record(&r).unwrap();
        }
    });
}

#[test]
fn damaged_records_say_so() {
    let (_dir, store) = store();
    let entry = store.create(&id("c1")).unwrap();
    let path = store.root().join("c1/state.json");
    for (text, words) in [
        ("", "is damaged: EOF"),
        ("{\"version\":1", "is damaged: EOF"),
        ("[]", "is damaged: invalid"),
        ("\u{0}", "is damaged: expected value"),
    ] {
        std::fs::write(&path, text).unwrap();
        let e = entry.record().unwrap_err().to_string();
        assert!(e.contains(words) && e.contains("the state of container c1 in"), "{e}");
    }
    entry.write_record(&record("other")).unwrap();
    assert!(entry.record().unwrap_err().to_string().contains("is damaged: it is that of \"other\""));
    entry.write_record(&Record { version: VERSION + 1, ..record("c1") }).unwrap();
    assert_eq!(entry.record().unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn symlinks_are_not_containers() {
    let (dir, store) = store();
    store.create(&id("real")).unwrap().write_record(&record("real")).unwrap();
    symlink(store.root().join("real"), store.root().join("link")).unwrap();
    assert_eq!(store.open(&id("link")).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.create(&id("link")).unwrap_err().kind(), Kind::Exists);
    // Nor is a record that is one followed, for reading or for writing.
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "keep").unwrap();
    let entry = store.create(&id("c1")).unwrap();
    symlink(&outside, store.root().join("c1/state.json")).unwrap();
    assert!(entry.find_record().is_err());
    symlink(&outside, store.root().join("c1/config.json")).unwrap();
    assert!(entry.write_config(b"x").is_err());
    entry.remove().unwrap();
    assert_eq!(std::fs::read(&outside).unwrap(), b"keep");
}

#[test]
fn listing_passes_over_what_is_no_container() {
    let (_dir, store) = store();
    for name in ["b", "a", "c.d"] {
        drop(store.create(&id(name)).unwrap());
    }
    std::fs::create_dir(store.root().join("not an id")).unwrap();
    std::fs::write(store.root().join("file"), "").unwrap();
    assert_eq!(store.ids().unwrap(), [id("a"), id("b"), id("c.d"), id("file")]);
    assert!(store.find(&id("file")).unwrap().is_none());
}

#[test]
fn a_record_of_another_user_is_not_trusted() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let (_dir, store) = store();
    store.create(&id("c1")).unwrap().write_record(&record("c1")).unwrap();
    std::os::unix::fs::chown(store.root().join("c1"), Some(1234), None).unwrap();
    let e = store.open(&id("c1")).unwrap_err().to_string();
    assert!(e.ends_with("belongs to user 1234, not to user 0"), "{e}");
}

#[test]
fn directories_that_cannot_be_made_have_clear_errors() {
    let e = Store::new("/proc/orun".into()).create(&id("c1")).unwrap_err().to_string();
    assert!(e.starts_with("making the state directory \"/proc/orun\": no such file or directory"), "{e}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let store = Store::new(dir.path().join("file"));
    for e in
        [store.create(&id("c1")).unwrap_err(), store.open(&id("c1")).unwrap_err(), store.ids().unwrap_err()]
    {
        assert!(e.to_string().ends_with("/file\": not a directory"), "{e}");
    }
}
