use super::*;
use frame::VERSION;

fn open(dir: &Path, tag: &str) -> (Journal, Replay<String, u32>) {
    Journal::open(dir, tag, Durability::Host).unwrap()
}

fn refused(dir: &Path) -> String {
    let e = Journal::open::<String, u32>(dir, "t", Durability::Host).unwrap_err();
    assert_eq!(e.kind(), Kind::Config, "{e}");
    e.to_string()
}

/// Everything in a directory but the lock.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().flatten().filter(|e| e.file_name() != "lock");
    let mut all: Vec<_> = entries
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap_or_default()))
        .collect();
    all.sort();
    all
}

fn write(dir: &Path, files: &[(String, Vec<u8>)]) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

#[test]
fn what_was_appended_is_there_and_what_was_torn_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, replay) = open(dir.path(), "t");
    assert!(replay.snapshot.is_none() && replay.records.is_empty());
    j.append(&[1, 2]).unwrap();
    j.append(&[3]).unwrap();
    let e = Journal::open::<String, u32>(dir.path(), "t", Durability::Host).unwrap_err();
    assert_eq!(e.kind(), Kind::State);
    drop(j);
    let path = dir.path().join("journal.0");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let (mut j, replay) = open(dir.path(), "t");
    assert_eq!(replay.records, [1, 2]);
    j.append(&[4]).unwrap();
    drop(j);
    assert_eq!(open(dir.path(), "t").1.records, [1, 2, 4]);
}

#[test]
fn only_the_state_of_a_boot_is_dropped_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let boot = |tag| Journal::open::<String, u32>(dir.path(), tag, Durability::Process).unwrap();
    let (mut j, _) = boot("one");
    j.append(&[1]).unwrap();
    j.compact(&"state").unwrap();
    drop(j);
    let (mut j, replay) = boot("two");
    assert_eq!((replay.snapshot, replay.records), (None, vec![]));
    j.append(&[2]).unwrap();
    drop(j);
    assert_eq!(boot("two").1.records, [2]);

    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), "another"));
    let before = files(dir.path());
    assert!(refused(dir.path()).contains("belongs to another kind of state"));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_snapshot_takes_the_place_of_records() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, _) = open(dir.path(), "t");
    j.append(&[1]).unwrap();
    j.compact(&"one").unwrap();
    j.append(&[2]).unwrap();
    drop(j);
    let (j, replay) = open(dir.path(), "t");
    assert_eq!((replay.snapshot.as_deref(), replay.records), (Some("one"), vec![2]));
    drop(j);
    // A new journal that was begun before a crash, without its snapshot.
    fs::write(dir.path().join("journal.2"), b"x").unwrap();
    let (_, replay) = open(dir.path(), "t");
    assert_eq!((replay.snapshot.as_deref(), replay.records), (Some("one"), vec![2]));
    assert!(!dir.path().join("journal.2").exists());
}

/// A small journal with a snapshot and records behind it.
fn small(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut j, _) = open(dir, "t");
    j.append(&[1]).unwrap();
    j.compact(&"one").unwrap();
    for n in [2, 3, 4] {
        j.append(&[n]).unwrap();
    }
    drop(j);
    files(dir)
}

#[test]
fn every_flipped_bit_refuses_the_start_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let right = small(dir.path());
    for file in 0..right.len() {
        for bit in 0..right[file].1.len() * 8 {
            let mut flipped = right.clone();
            flipped[file].1[bit / 8] ^= 1 << (bit % 8);
            write(dir.path(), &flipped);
            let text = refused(dir.path());
            assert!(text.contains("orund journal repair") && text.contains(&right[file].0), "{text}");
            assert_eq!(files(dir.path()), flipped, "{} bit {bit}", right[file].0);
        }
    }
}

#[test]
fn every_truncation_is_torn_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let right = small(dir.path());
    let [journal, snapshot] = right.as_slice() else { panic!() };
    for length in 0..snapshot.1.len() {
        write(dir.path(), &[journal.clone(), ("snapshot".into(), snapshot.1[..length].to_vec())]);
        refused(dir.path());
    }
    let first = frame::scan(&journal.1, 0).records[1].at;
    for length in 0..journal.1.len() {
        let cut = [(journal.0.clone(), journal.1[..length].to_vec()), snapshot.clone()];
        write(dir.path(), &cut);
        if length < first {
            // The tag existed before the snapshot that names this journal.
            refused(dir.path());
            assert_eq!(files(dir.path()), cut);
            continue;
        }
        let whole = frame::scan(&cut[0].1, 0).records.len() - 1;
        let (mut j, replay) = open(dir.path(), "t");
        assert_eq!(replay.records, [2, 3, 4][..whole]);
        j.append(&[9]).unwrap();
        drop(j);
        assert_eq!(open(dir.path(), "t").1.records.last(), Some(&9));
    }
    for left in &right {
        write(dir.path(), std::slice::from_ref(left));
        assert!(refused(dir.path()).contains("is missing or empty"));
    }
}

#[test]
fn a_newer_version_is_refused_with_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), "t"));
    let path = dir.path().join("journal.0");
    let mut bytes = fs::read(&path).unwrap();
    frame::encode_version(&mut bytes, FrameKind::Record, VERSION + 1, b"5");
    fs::write(&path, &bytes).unwrap();
    assert!(refused(dir.path()).contains("install the version of orund that wrote it"));

    let mut bytes = Vec::new();
    let tag = br#"{"tag":"t","next":0,"writer":"orund 9.1.0"}"#;
    frame::encode_version(&mut bytes, FrameKind::Tag, VERSION + 1, tag);
    fs::write(&path, &bytes).unwrap();
    let text = refused(dir.path());
    assert!(text.contains("install orund 9.1.0, which wrote it, or a newer version"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_compaction_that_is_killed_at_any_step_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before = small(dir.path());
    let (mut j, _) = open(dir.path(), "t");
    j.compact(&"four").unwrap();
    drop(j);
    let after = files(dir.path());
    let steps: [Vec<_>; 4] = [
        before.clone(),
        [before.clone(), vec![after[0].clone()]].concat(),
        [before.clone(), vec![after[0].clone(), ("snapshot.new".into(), after[1].1.clone())]].concat(),
        vec![before[0].clone(), after[0].clone(), after[1].clone()],
    ];
    for (n, step) in steps.iter().enumerate() {
        write(dir.path(), step);
        let (_, replay) = open(dir.path(), "t");
        let expected = if n < 3 { (Some("one"), vec![2, 3, 4]) } else { (Some("four"), vec![]) };
        assert_eq!((replay.snapshot.as_deref(), replay.records), expected, "step {n}");
    }
}
