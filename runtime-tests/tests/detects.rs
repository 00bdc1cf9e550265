//! The harness must see what a broken runtime does: runtimes of a few lines of shell, each with one fault.
//!
//! Needs root, as the harness does; without it the tests print SKIP.

#[path = "../../tests/common/skip.rs"]
mod skip;

use skip::is_root;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

struct Fake {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Fake {
    /// A runtime whose `run` does this; every other verb succeeds silently.
    fn new(run: &str) -> Fake {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("fake");
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && {{ echo fake version 1; exit 0; }}\n\
             case \"$*\" in *\" run \"*) {run} ;; esac\n"
        );
        std::fs::write(&path, text).expect("writing the fake runtime");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        Fake { dir, path }
    }

    fn examine(&self, filter: &str) -> Output {
        assert!(self.dir.path().exists());
        Command::new(env!("CARGO_BIN_EXE_runtime-tests"))
            .arg("--runtime")
            .arg(&self.path)
            // Nothing runs in a container here, so that any static program will do as the probe.
            .args(["--filter", filter, "--probe", "/bin/busybox"])
            .output()
            .expect("running the harness")
    }
}

#[track_caller]
fn finds(run: &str, words: &str) {
    if !is_root() {
        return;
    }
    let out = Fake::new(run).examine("basics/run-true");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(text.contains(words), "no {words:?} in {text}{errors}");
    assert!(text.contains("0 passed, 1 failed, 0 skipped"), "{text}{errors}");
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn a_runtime_that_does_nothing() {
    finds("exit 0", "the runtime does not even run a plain bundle");
}

#[test]
fn a_wrong_exit_code() {
    finds("exit 4", "exited with 4");
}

#[test]
fn a_process_left() {
    finds("setsid sleep 1000 >/dev/null 2>&1 &", "left behind: process");
}

#[test]
fn a_mount_left() {
    finds("mount -t tmpfs tmpfs /mnt", "left behind: mount of tmpfs on /mnt");
}

#[test]
fn a_mount_lost() {
    finds("umount /dev/shm", "the mount on /dev/shm is gone");
}

#[test]
fn a_changed_propagation() {
    finds("mount --make-private /dev/shm", "left behind: mount of tmpfs on /dev/shm");
}

#[test]
fn a_cgroup_left() {
    let find = "for id in \"$@\"; do :; done; for c in /sys/fs/cgroup/pids /sys/fs/cgroup; do \
                [ -e $c/cgroup.procs ] && mkdir $c/$id && break; done";
    finds(find, "left behind: cgroup");
}

#[test]
fn a_state_left() {
    finds("for id in \"$@\"; do :; done; mkdir -p \"$2/x\" && touch \"$2/$id.json\"", "left behind: state");
}

#[test]
fn a_network_namespace_left() {
    finds("mkdir -p /run/netns && touch /run/netns/x", "left behind: file /run/netns");
}

#[test]
fn a_hostname_changed() {
    finds("hostname broken", "host name \"broken\"");
}

#[test]
fn a_hang() {
    if !is_root() {
        return;
    }
    // The verb's own deadline is shorter than the case's, and the case's shorter than anybody's patience.
    finds("sleep 1000", "waited 40 s in vain");
}

#[test]
fn a_runner_that_is_told_to_end_cleans_up() {
    if !is_root() {
        return;
    }
    let fake = Fake::new(
        "for id in \"$@\"; do :; done; for c in /sys/fs/cgroup/pids /sys/fs/cgroup; do \
         [ -e $c/cgroup.procs ] && mkdir $c/$id && break; done; sleep 1000",
    );
    let mut runner = Command::new(env!("CARGO_BIN_EXE_runtime-tests"))
        .arg("--runtime")
        .arg(&fake.path)
        .args(["--filter", "basics/run-true", "--probe", "/bin/busybox"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("running the harness");
    let marker = format!("rt-{}-", runner.id());
    let cgroups = || runtime_tests::cgroup::dirs_with(&marker).len();
    let begin = std::time::Instant::now();
    while cgroups() == 0 && begin.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(cgroups(), 1, "the fake runtime made no cgroup");
    let pid = nix::unistd::Pid::from_raw(runner.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    assert_eq!(runner.wait().expect("wait").code(), Some(2));
    assert_eq!(cgroups(), 0, "the cgroup is left");
    let prefix = format!("runtime-tests.{pid}.");
    let left = std::fs::read_dir(std::env::temp_dir()).expect("listing").flatten();
    assert_eq!(left.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).count(), 0);
}
