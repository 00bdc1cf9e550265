//! `orund run`: in the foreground.

use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::network::{BUSYBOX, Outside, get, has_tools, links, tables};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

struct Run {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    // Removes the bundle, at last.
    place: Daemon,
}

fn run(test: &str, flags: &[&str], script: &str) -> Run {
    let place = Daemon::prepare(test, &[]);
    run_by(&[env!("CARGO_BIN_EXE_orund")], place, flags, script)
}

/// The words of `caller` end with the program.
fn run_by(caller: &[&str], place: Daemon, flags: &[&str], script: &str) -> Run {
    let mut command = Command::new(caller[0]);
    command.args(&caller[1..]).arg("run").args(flags).arg("--run-dir").arg(place.dir.join("run"));
    command.arg("--cgroup-parent").arg(format!("/{}", place.dir.file_name().unwrap().to_str().unwrap()));
    command.arg(place.dir.join("bundle")).args(["--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (tx, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|l| tx.send(l)));
    Run { child, lines, place }
}

impl Run {
    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn lines(&self, n: usize) -> Vec<String> {
        let mut lines: Vec<String> = (0..n).map(|_| self.line()).collect();
        lines.sort();
        lines
    }

    fn signal(&self, signal: i32) {
        kill(self.child.id() as i32, signal);
    }

    fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = wait_for("the end", || self.child.try_wait().unwrap());
        assert_eq!(self.place.processes(), [0i32; 0]);
        let left = std::fs::read_dir(self.place.dir.join("run")).map_or(0, |d| d.flatten().count());
        assert_eq!(left, 0, "records are left");
        let cgroup = self.place.dir.file_name().unwrap().to_str().unwrap();
        assert!(!std::path::Path::new("/sys/fs/cgroup").join(cgroup).exists());
        (status, self.lines.iter().collect())
    }
}

/// A test that fails leaves nothing: of a run that is killed, the cleaner removes what it made.
impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn output_has_names_and_an_interrupt_ends_gracefully() {
    if !can_run() {
        return;
    }
    let script =
        "trap 'echo bye; exit 0' TERM; echo hello $ORUN_REPLICA_INDEX; while true; do sleep 0.02; done";
    let r = run("fg", &["--replicas", "3", "--grace", "10s"], script);
    let hello: Vec<String> = (0..3).map(|n| format!("bundle-{n} | hello {n}")).collect();
    assert_eq!(r.lines(3), hello);
    r.signal(libc::SIGINT);
    let (status, mut lines) = r.end();
    lines.sort();
    assert_eq!(lines, (0..3).map(|n| format!("bundle-{n} | bye")).collect::<Vec<_>>());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_interrupt_kills() {
    if !can_run() {
        return;
    }
    let r = run(
        "fgtwice",
        &["--grace", "1000s"],
        "trap 'echo no' TERM; echo up; while true; do sleep 0.02; done",
    );
    assert_eq!(r.line(), "bundle-0 | up");
    r.signal(libc::SIGINT);
    assert_eq!(r.line(), "bundle-0 | no");
    let begun = Instant::now();
    r.signal(libc::SIGINT);
    assert_eq!(r.end().0.code(), Some(3));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn replicas_are_started_again_and_the_policy_ends_the_run() {
    if !can_run() {
        return;
    }
    let r = run("fgagain", &[], "echo run; exit 1");
    assert_eq!(r.lines(2), ["bundle-0 | run", "bundle-0 | run"]);
    r.signal(libc::SIGTERM);
    r.end();
    let r = run("fgnever", &["--restart", "never", "-n", "2"], "echo run; exit $ORUN_REPLICA_INDEX");
    let (status, lines) = r.end();
    assert_eq!((status.code(), lines.len()), (Some(1), 2));
    let r = run("fgfail", &["--restart", "on-failure", "-n", "2"], "echo run; exit 0");
    assert_eq!(r.end().0.code(), Some(0));
}

#[test]
fn replicas_end_with_a_run_that_is_killed() {
    if !can_run() {
        return;
    }
    let script = "trap '' TERM; echo up; while true; do sleep 0.02; done";
    let r = run("fgkilled", &["--replicas", "2"], script);
    assert_eq!(r.lines(2), ["bundle-0 | up", "bundle-1 | up"]);
    r.signal(libc::SIGKILL);
    let left = || std::fs::read_dir(r.place.dir.join("run")).map_or(0, |d| d.flatten().count());
    wait_for("everything to go", || (r.place.processes().is_empty() && left() == 0).then_some(()));
    assert_eq!(r.end().0.code(), None);
}

#[test]
fn a_bundle_that_is_none_is_told_at_once() {
    if !can_run() {
        return;
    }
    let out = Command::new(env!("CARGO_BIN_EXE_orund")).args(["run", "/nonexistent"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("opening the bundle directory \"/nonexistent\""));
}

#[test]
fn a_caller_that_blocks_and_ignores_all_signals_changes_nothing() {
    if !can_run() {
        return;
    }
    let place = Daemon::prepare("fgodd", &[]);
    let caller = ["env", "--ignore-signal", "--block-signal", env!("CARGO_BIN_EXE_orund")];
    // A shell cannot trap what was ignored when it started.
    let script =
        "grep SigBlk /proc/1/status; trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.02; done";
    let r = run_by(&caller, place, &["--grace", "10s"], script);
    let begin: Vec<String> = (0..2).map(|_| r.line().replace('\t', " ")).collect();
    assert_eq!(begin, ["bundle-0 | SigBlk: 0000000000000000", "bundle-0 | up"]);
    r.signal(libc::SIGTERM);
    let (status, lines) = r.end();
    assert_eq!(lines, ["bundle-0 | bye"]);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn ports_are_published_without_a_daemon() {
    if !can_run() || !has_tools() {
        return;
    }
    let host = Outside::start();
    let (pid, before) = (host.pid().to_string(), links(host.pid()));
    let script = format!("echo page > /index.html; exec {BUSYBOX} httpd -f -p 8080 -h /");
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let caller = ["nsenter", "-n", "-t", &pid, env!("CARGO_BIN_EXE_orund")];
        let place = Daemon::prepare("fgports", &[]);
        let flags =
            ["--replicas", "2", "--grace", "1s", "--publish", "8080:8080", "-p", "127.0.0.1:8081:8080"];
        let r = run_by(&caller, place, &flags, &script);
        for port in ["127.0.0.1:8080", "127.0.0.1:8081"] {
            wait_for("the page", || get(host.pid(), port).filter(|page| page == "page"));
        }
        assert!(links(host.pid()).len() > before.len() + 2);
        r.signal(signal);
        if signal == libc::SIGTERM {
            r.end();
        }
        wait_for("the interfaces to go", || (links(host.pid()) == before).then_some(()));
        assert_eq!(tables(host.pid()), [""; 0]);
    }
}
