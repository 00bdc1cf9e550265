//! Archives that no layer should be made of, and what other tools make of them.

use crate::made::{Entry, Image, Layer};
use crate::{is_root, skip};
use std::process::{Command, Stdio};

/// What it is, its entries, and a part of the error.
pub fn kit() -> Vec<(&'static str, Vec<Entry>, &'static str)> {
    let deep = vec!["d"; 300].join("/");
    let long = "x".repeat(300);
    let huge = vec![(0, 1), (u64::MAX - 5, 10)];
    vec![
        ("dots", vec![Entry::file("../escape", b"")], "leads out of the layer"),
        ("dots inside", vec![Entry::file("a/../../escape", b"")], "leads out of the layer"),
        ("dots in PAX", vec![Entry::file("a", b"").pax("path", "../escape")], "leads out of the layer"),
        (
            "links that never end",
            vec![Entry::symlink("a", "b"), Entry::symlink("b", "/a"), Entry::file("a/x", b"")],
            "too many symlinks",
        ),
        (
            "depth through links",
            vec![
                Entry::dir("d").pax("path", &deep[..400]),
                Entry::symlink("l", "").pax("linkpath", &deep[..399]),
                Entry::file("x", b"").pax("path", &format!("l/{}/x", &deep[..399])),
            ],
            "more than 256 directories deep",
        ),
        (
            "a file in the place of a directory",
            vec![Entry::file("a", b""), Entry::file("a/x", b"")],
            "\"a\" is not a directory",
        ),
        ("a hard link out", vec![Entry::link("a", "../etc/passwd")], "leads out of the layer"),
        ("a hard link to nothing", vec![Entry::link("a", "etc/passwd")], "the layer does not have it"),
        (
            "a hard link through a link",
            vec![Entry::symlink("e", "/etc"), Entry::link("a", "e/passwd")],
            "the layer does not have it",
        ),
        ("a whiteout of ..", vec![Entry::file("a/.wh...", b"")], "a whiteout of"),
        ("a whiteout of .", vec![Entry::file(".wh..", b"")], "a whiteout of"),
        ("a whiteout of nothing", vec![Entry::file(".wh.", b"")], "a whiteout of"),
        ("a hidden whiteout", vec![Entry::device("a", b'3', 0, 0)], "the device 0:0"),
        (
            "an attribute of overlayfs",
            vec![Entry::dir("a").pax("SCHILY.xattr.trusted.overlay.redirect", "/etc")],
            "would change how layers are put together",
        ),
        ("a root that is a file", vec![Entry::file("./", b"")], "the root of the layer is not a directory"),
        ("depth", vec![Entry::file("a", b"").pax("path", &deep)], "more than 256 directories deep"),
        ("a long name", vec![Entry::file("a", b"").pax("path", &long)], "longer than 255 bytes"),
        ("a long path", vec![Entry::file("a", b"").pax("path", &"y/".repeat(3000))], "exceeds 4096 bytes"),
        (
            "attributes",
            vec![Entry::file("a", b"").pax("comment", &"z".repeat(2 << 20))],
            "exceed 1048576 bytes",
        ),
        ("a null byte", vec![Entry::file("a", b"").pax("path", "a\0b")], "contains a null byte"),
        (
            "a wide owner",
            vec![Entry::file("a", b"").pax("uid", "4294967296")],
            "user ID 4294967296 is too large",
        ),
        ("an owner of -1", vec![Entry::file("a", b"").pax("gid", "4294967295")], "group ID 4294967295"),
        (
            "a size",
            vec![Entry::file("a", b"").pax("size", "99999999999999999999")],
            "extended header is invalid",
        ),
        (
            "a size that is not there",
            vec![Entry::file("a", b"x").pax("size", "999999")],
            "in the middle of a file",
        ),
        ("a sparse bomb", vec![Entry::file("a", b"A").sparse(&[(0, 1)], 1 << 60)], "exceed the limit"),
        ("a sparse map", vec![Entry::file("a", b"AB").sparse(&huge, 9)], "map of a sparse file is invalid"),
        ("a type", vec![Entry::kind("a", b'Q')], "its type 'Q' is unknown"),
        (
            "a full directory",
            vec![Entry::file("a/b", b""), Entry::symlink("a", "/")],
            "replacing \"a\": directory not empty",
        ),
    ]
}

/// Whether a tool takes the image within ten seconds and 64 MiB a file: a sparse file may seem to have an exabyte.
fn takes(words: &[&str]) -> bool {
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "--propagation",
        "private",
        "timeout",
        "10",
        "prlimit",
        "--fsize=67108864",
        "--core=0",
    ]);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

/// `cargo test --test images the_kit_bites -- --nocapture` prints the table of docs/images.md.
#[test]
fn the_kit_bites_others() {
    if !is_root() {
        return;
    }
    let is_there = |tool: &str| Command::new(tool).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there("umoci") || !is_there("podman") {
        return skip("umoci or podman is not installed");
    }
    let (mut of_umoci, mut of_podman) = (0, 0);
    println!("| archive | orund | umoci | podman |\n|---|---|---|---|");
    for (what, entries, _) in kit() {
        let image = Image::new("bites");
        image.write(&[Layer::gzip(&entries)]);
        let (layout, dir) = (image.layout().display().to_string(), image.dir.display().to_string());
        let ours = image.fetch().is_ok();
        let umoci = takes(&[
            "umoci",
            "raw",
            "unpack",
            "--image",
            &format!("{layout}:latest"),
            &format!("{dir}/umoci"),
        ]);
        let (root, run, source) =
            (format!("{dir}/podman"), format!("{dir}/podman-run"), format!("oci:{layout}"));
        let podman = takes(&[
            "podman",
            "--root",
            &root,
            "--runroot",
            &run,
            "--storage-driver",
            "vfs",
            "pull",
            "--quiet",
            &source,
        ]);
        let word = |takes: bool| if takes { "unpacks" } else { "refuses" };
        println!("| {what} | {} | {} | {} |", word(ours), word(umoci), word(podman));
        assert!(!ours, "{what}");
        of_umoci += u32::from(umoci);
        of_podman += u32::from(podman);
    }
    assert!(of_umoci > 0 && of_podman > 0, "an archive that everybody refuses proves little");
}
