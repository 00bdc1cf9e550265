//! Images on the real kernel, as root: layers of every kind and every hostile one that we could think of, unpacked by the
//! program itself into a store of the test's own.

mod hostile;
mod made;
mod registry;
#[path = "../common/skip.rs"]
mod skip;
mod stalls;
mod sweep;
mod trees;

use made::{Entry, Image, Layer};
use skip::{is_root, skip};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The one layer with these entries, unpacked; where it is.
fn unpacked(image: &Image, entries: &[Entry]) -> std::path::PathBuf {
    let layer = Layer::plain(entries);
    image.write(std::slice::from_ref(&layer));
    image.fetch().unwrap();
    image.layer(&layer)
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

#[test]
fn a_layer_has_files_of_every_kind() {
    if !is_root() {
        return;
    }
    let image = Image::new("kinds");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(150));
    let fs = unpacked(
        &image,
        &[
            Entry::dir("./").mode(0o751).owner(7, 8).time(1_000_000_000),
            Entry::file("etc/passwd", b"root:x:0:0::/:/bin/sh\n").time(1_234_567_890),
            Entry::file("/bin/su", b"su").mode(0o4755).owner(0, 50),
            Entry::link("bin/also", "bin/su"),
            Entry::symlink("lib", "usr/lib"),
            Entry::symlink("out", "/etc/../../../etc/passwd").owner(3, 4),
            Entry::dir("usr/lib"),
            Entry::file("lib/through", b"x"),
            Entry::device("dev/null", b'3', 1, 3).mode(0o666),
            Entry::device("dev/disk", b'4', 8, 1),
            Entry::fifo("run/pipe"),
            Entry::file(&long, b"long").pax("path", &long),
            Entry::file("big", b"").pax("mtime", "1.5").pax("uid", "3000000").pax("SCHILY.xattr.user.a", "v"),
            Entry::file("sparse", b"AB").sparse(&[(0, 1), (1 << 20, 1)], 2 << 20),
        ],
    );
    let meta = |name: &str| fs.join(name).symlink_metadata().unwrap();
    let of = |name: &str| (meta(name).mode() & 0o7777, meta(name).uid(), meta(name).gid());
    assert_eq!((of("."), meta(".").mtime()), ((0o751, 7, 8), 1_000_000_000));
    assert_eq!(meta("etc/passwd").mtime(), 1_234_567_890);
    assert_eq!(of("bin/su"), (0o4755, 0, 50));
    assert_eq!(meta("bin/su").ino(), meta("bin/also").ino());
    assert_eq!(of("etc"), (0o755, 0, 0), "a directory without an entry");
    assert_eq!(fs::read_link(fs.join("out")).unwrap(), Path::new("/etc/../../../etc/passwd"));
    assert_eq!((meta("out").uid(), meta("out").gid()), (3, 4));
    assert!(fs.join("usr/lib/through").exists());
    assert!(meta("dev/null").file_type().is_char_device() && meta("dev/null").rdev() == libc::makedev(1, 3));
    assert!(meta("dev/disk").file_type().is_block_device() && meta("run/pipe").file_type().is_fifo());
    assert_eq!(fs::read(fs.join(&long)).unwrap(), b"long");
    assert_eq!(
        (meta("big").mtime(), meta("big").mtime_nsec(), meta("big").uid()),
        (1, 500_000_000, 3_000_000)
    );
    let sparse = fs::read(fs.join("sparse")).unwrap();
    assert_eq!((sparse.len(), sparse[0], sparse[1], sparse[1 << 20]), (2 << 20, b'A', 0, b'B'));
    assert!(meta("sparse").blocks() * 512 < 1 << 20, "holes stay holes");
}

#[test]
fn symlinks_are_followed_in_the_layer() {
    if !is_root() {
        return;
    }
    let image = Image::new("symlinks");
    let fs = unpacked(
        &image,
        &[
            Entry::symlink("lib", "/usr/lib"),
            Entry::file("lib/a", b"1"),
            Entry::symlink("up", "../../../tmp/escape"),
            Entry::file("up/b", b"2"),
            Entry::link("c", "lib/a"),
            Entry::dir("x"),
            Entry::symlink("x", "/"),
            Entry::file("x/etc/escape", b"3"),
            Entry::dir("lib/d").time(1_000_000_000),
            Entry::file("lib/d/.wh..wh..opq", b""),
            Entry::file("lib/d/e", b""),
            Entry::file(".wh.f", b""),
            Entry::file("f/g", b"4"),
        ],
    );
    assert_eq!(fs::read(fs.join("usr/lib/a")).unwrap(), b"1");
    assert_eq!(fs::read(fs.join("tmp/escape/b")).unwrap(), b"2");
    assert_eq!(fs::read(fs.join("c")).unwrap(), b"1");
    assert_eq!(fs::read(fs.join("etc/escape")).unwrap(), b"3");
    assert_eq!(fs::read(fs.join("f/g")).unwrap(), b"4");
    assert_eq!(names(&fs), ["c", "etc", "f", "lib", "tmp", "up", "usr", "x"]);
    let meta = fs.join("usr/lib/d").symlink_metadata().unwrap();
    assert_eq!(meta.mtime(), 1_000_000_000, "times of directories behind a symlink");
    for opaque in ["usr/lib/d", "f"] {
        assert_eq!(made::xattr(&fs.join(opaque), "trusted.overlay.opaque"), Some(b"y".to_vec()), "{opaque}");
    }
    for outside in ["/tmp/escape", "/etc/escape"] {
        assert!(!Path::new(outside).exists(), "{outside}");
    }
}

#[test]
fn whiteouts_have_the_form_of_overlayfs() {
    if !is_root() {
        return;
    }
    let image = Image::new("whiteouts");
    let fs = unpacked(
        &image,
        &[
            Entry::dir("a"),
            Entry::file("a/.wh.gone", b""),
            Entry::file("a/.wh..wh..opq", b""),
            Entry::file("b/.wh.replaced", b""),
            Entry::dir("b/replaced"),
            Entry::file("c/kept", b"new"),
            Entry::file("c/.wh.kept", b""),
            Entry::file(".wh..wh.plnk", b""),
        ],
    );
    let gone = fs.join("a/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(names(&fs.join("a")), ["gone"]);
    for opaque in ["a", "b/replaced"] {
        assert_eq!(made::xattr(&fs.join(opaque), "trusted.overlay.opaque"), Some(b"y".to_vec()), "{opaque}");
    }
    assert_eq!(fs::read(fs.join("c/kept")).unwrap(), b"new", "whiteouts are for layers below");
    assert_eq!(names(&fs), ["a", "b", "c"]);
}

#[test]
fn hostile_archives_are_refused_whole() {
    if !is_root() {
        return;
    }
    let image = Image::new("hostile");
    let before = names(Path::new("/tmp"));
    for (what, entries, expected) in hostile::kit() {
        image.write(&[Layer::gzip(&entries)]);
        let e = image.fetch().expect_err(what);
        assert!(e.contains(expected), "{what}: {e}");
        assert!(e.lines().count() == 1 && e.len() < 1000, "{what}: {e}");
        image.assert_empty(what);
    }
    let escaped = |n: &String| n.contains("escape") && !before.contains(n);
    assert!(!names(Path::new("/tmp")).iter().any(escaped), "something left the layer");
}

/// The child of a process, once it has one.
fn child_of(pid: u32) -> String {
    let path = format!("/proc/{pid}/task/{pid}/children");
    wait_for("a child", || {
        let children = fs::read_to_string(&path).unwrap_or_default();
        children.split_whitespace().next().map(str::to_owned)
    })
}

fn wait_for<T>(what: &str, find: impl Fn() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        match find() {
            Some(found) => return found,
            None => assert!(begun.elapsed().as_secs() < 20, "{what} does not come"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn what_unpacks_a_layer_cannot_open_the_devices_that_it_makes() {
    if !is_root() {
        return;
    }
    let image = Image::new("nodev");
    let dir = image.dir.join("fs");
    fs::create_dir(&dir).unwrap();
    let archive = made::tar(&[Entry::device("null", b'3', 1, 3).mode(0o666)]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orund"));
    command.arg("image-layer").arg(&dir).args([archive.len().to_string().as_str(), "10", "100000"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // The end of the archive is kept back, so that the process stays.
    stdin.write_all(&archive[..1024]).unwrap();
    let child = child_of(process.id());
    let node = wait_for("the device", || {
        let node = dir.join("null");
        node.symlink_metadata().is_ok_and(|m| m.file_type().is_char_device()).then_some(node)
    });
    let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    // Through its root it is seen with the options of its mount.
    let within = fs::File::open(format!("/proc/{child}/root/null"));
    let mounts = fs::read_to_string(format!("/proc/{child}/mountinfo")).unwrap();
    let outside = fs::File::open(node);
    drop(stdin);
    process.wait().unwrap();
    assert_eq!(within.unwrap_err().raw_os_error(), Some(libc::EACCES), "{mounts}");
    assert!(outside.is_ok(), "the test needs a file system with devices");
    let options = mounts.lines().next().unwrap_or_default();
    for option in ["nodev", "nosuid", "noexec"] {
        assert!(options.contains(option), "{option}: {mounts}");
    }
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    for line in ["CapBnd:\t000000008800001b", "CapEff:\t000000008800001b", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

#[test]
fn without_root_the_reason_is_reported() {
    if !is_root() {
        return;
    }
    let image = Image::new("rootless");
    image.write(&[Layer::plain(&[Entry::file("a", b"")])]);
    let mut command = std::process::Command::new("setpriv");
    command.args([
        "--bounding-set",
        "-sys_admin",
        "--inh-caps",
        "-all",
        env!("CARGO_BIN_EXE_orund"),
        "image-fetch",
    ]);
    let out = command.arg(&image.store).arg(format!("oci:{}", image.layout().display())).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        text.contains("making namespaces to unpack a layer in") && text.contains("CAP_SYS_ADMIN"),
        "{text}"
    );
    image.assert_empty("without CAP_SYS_ADMIN");
}

#[test]
fn tiny_layers_are_no_large_image() {
    if !is_root() {
        return;
    }
    let image = Image::new("budget");
    let hole = |name: &str| Layer::gzip(&[Entry::file(name, b"A").sparse(&[(0, 1)], 500 << 20)]);
    image.write(&["a", "b", "c"].map(hole));
    let e = image.fetch().unwrap_err();
    assert!(e.contains("layer 3 of 3") && e.contains("exceed the limit of"), "{e}");
    image.write(&["a", "b"].map(hole));
    image.fetch().unwrap();
}

#[test]
fn damaged_layers_are_refused_whole() {
    if !is_root() {
        return;
    }
    let image = Image::new("damaged");
    let entries = [Entry::file("a", &[7; 100_000]), Entry::file("b", b"x")];
    let good = Layer::gzip(&entries);
    let cut = good.bytes[..good.bytes.len() / 2].to_vec();
    let bomb = Layer::gzip(&[Entry::file("zeros", &[]).pax("size", "1200000000")]).with_zeros(1_200_000_000);
    let mut other = Layer::gzip(&entries);
    other.diff_id = Layer::gzip(&[Entry::file("c", b"")]).diff_id;
    let mut header = Layer::plain(&entries);
    header.bytes[10] ^= 1;
    header.rehash();
    let mut xz = Layer::plain(&entries);
    xz.bytes = b"\xfd7zXZ\0rest".to_vec();
    for (what, layer, expected) in [
        ("cut", Layer { bytes: cut, ..good.clone() }, "reading the archive"),
        ("a bomb", bomb, "the limit of 1073741824 bytes"),
        ("another archive", other, "its diff ID is sha256:"),
        ("a changed header", header, "the checksum of a header is wrong"),
        ("xz", xz, "compressed with bzip2 or xz"),
    ] {
        image.write(&[layer]);
        let e = image.fetch().expect_err(what);
        assert!(e.contains(expected), "{what}: {e}");
        image.assert_empty(what);
    }
    // A blob that is not what its name says: the same files, with another time in the header of gzip.
    image.write(std::slice::from_ref(&good));
    let mut changed = good.bytes.clone();
    changed[4] ^= 1;
    image.replace_blob(&good, &changed);
    let e = image.fetch().unwrap_err();
    assert!(e.contains("its digest is sha256:"), "{e}");
    image.assert_empty("a changed blob");
}

#[test]
fn layers_are_shared_and_made_once() {
    if !is_root() {
        return;
    }
    let image = Image::new("shared");
    let (below, above) = (Layer::zstd(&[Entry::file("a", b"1")]), Layer::gzip(&[Entry::file("b", b"2")]));
    image.write(&[below.clone(), above.clone()]);
    let all: Vec<_> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..4).map(|_| s.spawn(|| image.fetch())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let digest = all[0].clone().unwrap();
    assert!(all.iter().all(|d| d.as_ref() == Ok(&digest)), "{all:?}");
    let made = image.layer(&below).metadata().unwrap().ino();
    image.write(std::slice::from_ref(&below));
    image.fetch().unwrap();
    assert_eq!(image.layer(&below).metadata().unwrap().ino(), made, "it is not unpacked again");
    assert_eq!(names(&image.store.join("layers")).len(), 2);
    assert_eq!(names(&image.store.join("tmp")), [""; 0]);
}

#[test]
fn archives_are_read_where_they_are() {
    if !is_root() {
        return;
    }
    let image = Image::new("archives");
    let layers = [Layer::gzip(&[Entry::file("a", b"1")]), Layer::plain(&[Entry::file("b", b"2")])];
    image.write(&layers);
    let digest = image.fetch().unwrap();
    let from = |kind: &str, bytes: &[u8]| {
        fs::write(image.dir.join("x.tar"), bytes).unwrap();
        fs::remove_dir_all(&image.store).unwrap();
        image.fetch_from(&format!("{kind}:{}", image.dir.join("x.tar").display()))
    };
    let oci = image.archive();
    assert_eq!(from("oci-archive", &oci).as_ref(), Ok(&digest));
    assert_eq!(from("oci-archive", &made::gzip(&oci)).as_ref(), Ok(&digest), "compressed as a whole");
    assert!(from("docker-archive", &oci).unwrap_err().contains("manifest.json"));
    let docker = image.docker_archive(&layers, &["web:1"]);
    from("docker-archive", &docker).unwrap();
    assert!(image.layer(&layers[1]).join("b").exists());
    let e = from("oci-archive", &docker).unwrap_err();
    assert!(e.contains("index.json"), "{e}");
    let e = from("oci-archive", &oci[..oci.len() / 2]).unwrap_err();
    assert!(e.contains("the archive is truncated") || e.contains("in the middle"), "{e}");
    image.assert_empty("cut");
}
