//! Trees that orun makes of layers, compared with those of umoci and podman.

use crate::made::{Entry, Image, Layer, xattr};
use crate::{is_root, skip};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that makes a file, by path.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(root, root, &mut found);
    found
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let m = path.symlink_metadata().unwrap();
        let link = fs::read_link(&path).unwrap_or_default();
        let content =
            if m.is_file() { crate::made::digest(&fs::read(&path).unwrap()) } else { String::new() };
        let attribute = if m.is_file() { xattr(&path, "security.capability") } else { None };
        let times = if m.is_dir() { 0 } else { m.mtime() };
        let text = format!(
            "{:o} {}:{} {:x} {times} {link:?} {content} {attribute:?}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.rdev()
        );
        found.insert(path.strip_prefix(root).unwrap().display().to_string(), text);
        if m.is_dir() {
            collect(root, &path, found);
        }
    }
}

#[test]
fn trees_are_those_of_umoci_and_podman() {
    if !is_root() {
        return;
    }
    if Command::new("umoci").arg("--version").output().is_err() {
        return skip("umoci is not installed");
    }
    let capability = "\u{1}\0\0\u{2}\u{20}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for seed in 0..30_u32 {
        let image = Image::new(&format!("umoci{seed}"));
        let mut entries = vec![Entry::dir("./").time(1_500_000_000)];
        let mut chance = u64::from(seed) + 1;
        let mut next = |most: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) % most
        };
        for n in 0..60 {
            let path = format!("d{}/e{}/n{n}", next(4), next(3));
            let body = vec![n as u8; next(70_000) as usize];
            let entry = match next(9) {
                0 => Entry::dir(&path),
                1 => Entry::symlink(&path, "../somewhere/else"),
                2 => Entry::fifo(&path),
                3 => Entry::device(&path, b'3', 5, n),
                4 => Entry::device(&path, b'4', 6, n),
                5 => Entry::file(&path, &body).pax("SCHILY.xattr.security.capability", capability),
                6 => Entry::file(&path, &body).pax("mtime", "1600000000.25"),
                _ => Entry::file(&path, &body),
            };
            let file = matches!(next(3), 0);
            entries.push(
                entry.mode(0o400 + next(0o377)).owner(next(70_000), next(9)).time(1_000_000_000 + next(999)),
            );
            if file {
                entries.push(Entry::file(&format!("{path}.x"), b"linked").mode(0o6755));
                entries.push(Entry::link(&format!("{path}.y"), &format!("{path}.x")).mode(0o6755));
            }
        }
        let layer = if seed % 2 == 0 { Layer::gzip(&entries) } else { Layer::plain(&entries) };
        image.write(std::slice::from_ref(&layer));
        image.fetch().unwrap();
        let other = image.dir.join("umoci");
        let out = Command::new("umoci")
            .args(["raw", "unpack", "--image"])
            .arg(format!("{}:latest", image.layout().display()))
            .arg(&other)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let ours = tree(&image.layer(&layer));
        assert_same(&ours, &tree(&other), &format!("umoci, {seed}"));
        if let Some(other) = of_podman(&image) {
            assert_same(&ours, &tree(&other), &format!("podman, {seed}"));
        }
    }
}

fn assert_same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>, what: &str) {
    for (path, text) in ours {
        assert_eq!(Some(text), theirs.get(path), "{what}: {path}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}");
}

/// The tree that podman makes of the image, if it is installed: with the driver vfs it is a directory.
fn of_podman(image: &Image) -> Option<PathBuf> {
    let root = image.dir.join("podman");
    let mut command = Command::new("unshare");
    command
        .args(["-m", "--propagation", "private", "podman", "--storage-driver", "vfs", "--root"])
        .arg(&root);
    command.arg("--runroot").arg(image.dir.join("podman-run")).args(["pull", "--quiet"]);
    let out = command.arg(format!("oci:{}", image.layout().display())).output().unwrap();
    if out.status.code() == Some(127) {
        skip("podman is not installed");
        return None;
    }
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let trees: Vec<_> = fs::read_dir(root.join("vfs/dir")).unwrap().flatten().map(|e| e.path()).collect();
    assert_eq!(trees.len(), 1);
    trees.into_iter().next()
}
