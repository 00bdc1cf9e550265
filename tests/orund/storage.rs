//! Disks that fail and journals that are torn.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, pid_of, wait_for};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::process::Command;

const SLEEPER: &str = "while true; do sleep 1; done";

fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success());
}

#[test]
fn what_was_acknowledged_survives_a_torn_journal() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("torn", &[]);
    d.apply("one", 1, SLEEPER, json!({}));
    d.apply("two", 1, SLEEPER, json!({}));
    let pids = ["one-0", "two-0"].map(|r| pid_of(&d.wait_running(r)));
    d.stop();
    let journal = d.dir.join("data/journal.0");
    fs::OpenOptions::new().append(true).open(&journal).unwrap().write_all(b"\x50\0\0\0half a rec").unwrap();
    let verify = |d: &Daemon| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orund"));
        command.args(["journal", "verify", "--dir"]).arg(d.dir.join("data")).status().unwrap().code()
    };
    assert_eq!(verify(&d), Some(1));
    d.start_again();
    assert_eq!(["one-0", "two-0"].map(|r| pid_of(&d.wait_running(r))), pids);
    assert_eq!(verify(&d), Some(0));
    // A missing or damaged record of this boot is made again from the containers.
    d.stop();
    fs::remove_dir_all(d.dir.join("run/state")).unwrap();
    d.start_again();
    assert_eq!(["one-0", "two-0"].map(|r| pid_of(&d.wait_running(r))), pids);
    let adopted = d.api("GET", "/v1/events", "").1.to_string();
    assert!(adopted.contains("Adopted"), "{adopted}");
    d.stop();
    flip(&d.dir.join("run/state/journal.0"));
    d.start_again();
    assert_eq!(["one-0", "two-0"].map(|r| pid_of(&d.wait_running(r))), pids);
    assert!(d.dir.join("run/state/damaged.1/journal.0").exists());
    // They are known as before: they are restarted and go.
    crate::daemon::kill(pids[0].unwrap(), libc::SIGKILL);
    d.wait("one-0", "a restart", |r| pid_of(r).is_some() && pid_of(r) != pids[0]);
    d.delete("one", Some(0));
    d.delete("two", Some(0));
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn a_lost_run_directory_leaves_no_replica_running_twice() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("lostrun", &[]);
    d.apply("web", 2, SLEEPER, json!({}));
    let pids = ["web-0", "web-1"].map(|r| pid_of(&d.wait_running(r)));
    d.stop();
    fs::remove_dir_all(d.dir.join("run")).unwrap();
    d.start_again();
    for (name, before) in ["web-0", "web-1"].iter().zip(pids) {
        assert_ne!(pid_of(&d.wait_running(name)), before);
    }
    assert_eq!(d.processes().iter().filter(|p| pids.contains(&Some(**p))).count(), 0);
    let events = d.api("GET", "/v1/events", "").1.to_string();
    assert!(events.contains("StrayKilled"), "{events}");
    d.delete("web", Some(0));
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn a_revision_keeps_the_config_json_that_it_was_made_from() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("pinned", &[]);
    let script = "echo $WHICH; exec sleep 1000";
    let config = d.dir.join("bundle/config.json");
    let set = |which: &str| {
        let mut json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
        json["process"]["env"] = json!(["PATH=/bin", format!("WHICH={which}")]);
        fs::write(&config, json.to_string()).unwrap();
    };
    set("first");
    d.apply("web", 1, script, json!({"terminationGracePeriodSeconds": 0}));
    let first = pid_of(&d.wait_running("web-0")).unwrap();
    set("second");
    // A restart, and one by a supervisor that has nothing compiled.
    crate::daemon::kill(first, libc::SIGKILL);
    wait_for("the first twice", || (d.logged("web", 0) == ["first"; 2]).then_some(()));
    d.stop();
    d.start_again();
    let pid = pid_of(&d.wait_running("web-0")).unwrap();
    crate::daemon::kill(pid, libc::SIGKILL);
    wait_for("the first again", || (d.logged("web", 0) == ["first"; 3]).then_some(()));
    let revision = |d: &Daemon| d.api("GET", "/v1/workloads/web", "").1["status"]["revision"].clone();
    assert_eq!(revision(&d), 1);
    // The same file is another revision now, once.
    for _ in 0..2 {
        d.apply("web", 1, script, json!({"terminationGracePeriodSeconds": 0}));
    }
    wait_for("the second", || d.logged("web", 0).contains(&"second".to_owned()).then_some(()));
    assert_eq!(revision(&d), 2);
    d.delete("web", Some(0));
}

/// Flips a bit in the middle of the file.
fn flip(path: &std::path::Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, &bytes).unwrap();
    bytes
}

#[test]
fn a_flipped_bit_refuses_the_start_and_its_repair_loses_nothing() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("flipped", &[]);
    for name in ["one", "two", "three"] {
        d.apply(name, 1, SLEEPER, json!({}));
    }
    let replicas = ["one-0", "two-0", "three-0"];
    let pids = replicas.map(|r| pid_of(&d.wait_running(r)));
    d.stop();
    let path = d.dir.join("data/journal.0");
    let flipped = flip(&path);
    d.spawn();
    assert_eq!(d.exit_code(), Some(1));
    for part in ["error", "journal.0", "is damaged at byte", "orund journal verify", "orund journal repair"] {
        assert!(d.output().contains(part), "{part}: {}", d.output());
    }
    assert_eq!(fs::read(&path).unwrap(), flipped);
    for pid in pids.iter().flatten() {
        assert!(d.processes().contains(pid), "containers continue without orund");
    }
    let journal = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orund"));
        let output = command.args(["journal", verb, "--dir"]).arg(d.dir.join("data")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(journal("verify").0, Some(1));
    let (code, text) = journal("repair");
    assert!(code == Some(0) && text.contains("nothing is lost"), "{code:?} {text}");
    assert_eq!(fs::read(d.dir.join("data/backup.1/journal.0")).unwrap(), flipped);
    assert_eq!(journal("verify").0, Some(0));
    d.start_again();
    assert_eq!(replicas.map(|r| pid_of(&d.wait_running(r))), pids);
}

#[test]
fn a_full_disk_refuses_changes_and_nothing_else() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::prepare("full", &[]);
    let data = d.dir.join("data");
    fs::create_dir(&data).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=64k", "orund-test", data.to_str().unwrap()]);
    d.start_again();
    d.apply("web", 1, SLEEPER, json!({}));
    let first = pid_of(&d.wait_running("web-0")).unwrap();
    let mut file = fs::File::create(data.join("filler")).unwrap();
    while file.write(&[0; 4096]).is_ok() {}
    // The last block of the journal may have room left.
    let refused = (0..100).map(|n| d.try_apply(&format!("more-{n}"), 0, SLEEPER, json!({})));
    let (status, answer) = refused.into_iter().find(|(s, _)| *s != 200).unwrap();
    assert!(status >= 500 && answer.to_string().contains("no space left"), "{status} {answer}");
    // A restart needs no disk.
    crate::daemon::kill(first, libc::SIGKILL);
    d.wait("web-0", "a restart", |r| r["restarts"] == 1 && pid_of(r).is_some());
    drop(file);
    fs::remove_file(data.join("filler")).unwrap();
    d.apply("late", 1, SLEEPER, json!({}));
    d.wait_running("late-0");
}

#[test]
fn a_read_only_disk_keeps_what_there_is() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("readonly", &[]);
    d.apply("web", 1, SLEEPER, json!({}));
    let first = pid_of(&d.wait_running("web-0"));
    d.stop();
    let data = d.dir.join("data");
    let data = data.to_str().unwrap();
    mount(&["--bind", data, data]);
    mount(&["-o", "remount,bind,ro", data]);
    d.start_again();
    assert_eq!(pid_of(&d.wait_running("web-0")), first);
    let (status, answer) = d.try_apply("more", 1, SLEEPER, json!({}));
    assert!(status >= 500 && answer.to_string().contains("read-only"), "{status} {answer}");
}

#[test]
fn two_supervisors_do_not_share_a_state() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("twice", &["--no-keeper"]);
    let first = d.main();
    // Another socket, so that only the state directory is shared.
    let code = {
        fs::rename(d.dir.join("sock"), d.dir.join("moved")).unwrap();
        d.spawn();
        let code = d.exit_code();
        fs::rename(d.dir.join("moved"), d.dir.join("sock")).unwrap();
        code
    };
    assert_eq!(code, Some(1));
    assert!(d.output().contains("in use by another supervisor"), "{}", d.output());
    assert_eq!(d.api("GET", "/healthz", "").0, 200);
    crate::daemon::kill(first, libc::SIGKILL);
}

#[test]
fn logs_are_rotated_without_loss() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("rotate", &["--log-file-size", "20000", "--log-files", "1000"]);
    // Longer than what is moved at once, so that several files are filled.
    let pad = "x".repeat(100);
    let script = &format!("n=0; while [ $n -lt 5000 ]; do echo $n {pad}; n=$((n+1)); done; exec sleep 1000");
    d.apply("chatty", 2, script, json!({}));
    let last = |slot| {
        wait_for("the last line", || {
            d.logged("chatty", slot).last().cloned().filter(|l| l.starts_with("4999 "))
        })
    };
    for slot in 0..2 {
        wait_for("a log", || d.dir.join(format!("logs/chatty/{slot}/main/0.log")).exists().then_some(()));
        last(slot);
        let expected: Vec<String> = (0..5000).map(|n| format!("{n} {pad}")).collect();
        assert_eq!(d.logged("chatty", slot), expected);
        let files: Vec<_> =
            fs::read_dir(d.dir.join(format!("logs/chatty/{slot}/main"))).unwrap().flatten().collect();
        assert!(files.len() > 2);
        for f in files {
            assert!(f.metadata().unwrap().len() <= 200_000);
        }
    }
}

#[test]
fn what_cannot_be_logged_survives_a_killed_supervisor_and_the_end_of_the_container() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::prepare("logkill", &[]);
    let logs = d.dir.join("logs");
    fs::create_dir(&logs).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=1m", "orund-test", logs.to_str().unwrap()]);
    d.start_again();
    let count = "n=0; say() { while [ $n -lt $1 ]; do echo number $n; n=$((n+1)); done; }; wait() { while [ ! -e /$1 ]; do sleep 0.02; done; }";
    let once = json!({"restartPolicy": "Never", "sharedRoot": true});
    d.apply("once", 1, &format!("{count}; wait full; say 1000; wait killed; say 4000; exit 7"), once.clone());
    // The same, and it lives until the disk has space again.
    d.apply(
        "lives",
        1,
        &format!("{count}; wait full; say 1000; wait killed; say 4000; exec sleep 1000"),
        once,
    );
    d.wait_running("once-0");
    d.wait_running("lives-0");
    let mut file = fs::File::create(logs.join("filler")).unwrap();
    while file.write(&[0; 4096]).is_ok() {}
    let go = |name: &str| fs::write(d.dir.join("bundle/rootfs").join(name), "").unwrap();
    go("full");
    let events = |d: &Daemon| d.api("GET", "/v1/events", "").1.to_string();
    wait_for("the event", || (events(&d).matches("LogDiskFull").count() >= 2).then_some(()));
    for name in ["", "killed"] {
        if !name.is_empty() {
            go(name);
        }
        let old = d.supervisor().unwrap();
        crate::daemon::kill(old, libc::SIGKILL);
        wait_for("the next supervisor", || d.supervisor().filter(|pid| *pid != old));
        d.api("GET", "/healthz", "");
    }
    let r = d.wait("once-0", "its end", |r| r["phase"] == "Error");
    assert_eq!(crate::daemon::exits(&r)[0]["exitCode"], 7, "{r:#}");
    drop(file);
    fs::remove_file(logs.join("filler")).unwrap();
    let expected: Vec<String> = (0..4000).map(|n| format!("number {n}")).collect();
    for name in ["once", "lives"] {
        wait_for("all lines", || (d.logged(name, 0).len() >= expected.len()).then_some(()));
        assert_eq!(d.logged(name, 0), expected, "{name}");
    }
    let kept = || {
        fs::read_dir(d.dir.join("run"))
            .unwrap()
            .flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with("logs.left"))
    };
    wait_for("nothing to be kept", || (!kept()).then_some(()));
}

#[test]
fn a_full_log_disk_keeps_the_writer_waiting_and_loses_nothing() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::prepare("logfull", &[]);
    let logs = d.dir.join("logs");
    fs::create_dir(&logs).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=256k", "orund-test", logs.to_str().unwrap()]);
    d.start_again();
    let mut file = fs::File::create(logs.join("filler")).unwrap();
    file.write_all(&vec![0; 180 << 10]).unwrap();
    let script = "n=0; while [ $n -lt 3000 ]; do echo number $n; n=$((n+1)); done; exec sleep 1000";
    // It has its log directory before the disk is full: a start that cannot write there fails and is tried again.
    d.apply("quiet", 1, SLEEPER, json!({}));
    d.wait_running("quiet-0");
    d.apply("chatty", 1, script, json!({}));
    wait_for("the trouble", || d.output().contains("writing to the log file").then_some(()));
    let events = |d: &Daemon| d.api("GET", "/v1/events", "").1.to_string();
    wait_for("the event", || events(&d).contains("LogDiskFull").then_some(()));
    // What is so at present can be seen, too: in the interface, the tables and the description.
    let condition = |path: &str| d.api("GET", path, "").1["status"]["conditions"][0]["type"].clone();
    assert_eq!(condition("/v1/workloads/chatty"), "LogDiskFull");
    assert_eq!(d.replica("chatty-0")["conditions"][0]["container"], "main");
    assert!(ok(&d, "get replicas chatty").contains("Running,LogDiskFull"));
    assert!(ok(&d, "get workloads chatty").contains(",LogDiskFull"));
    assert!(
        ok(&d, "describe chatty")
            .contains("LogDiskFull: chatty-0: the output of container main cannot be written")
    );
    assert_eq!(condition("/v1/workloads/quiet"), json!(null));
    drop(file);
    fs::remove_file(logs.join("filler")).unwrap();
    wait_for("the event of its end", || events(&d).contains("LogDiskRecovered").then_some(()));
    assert_eq!(condition("/v1/workloads/chatty"), json!(null));
    let expected: Vec<String> = (0..3000).map(|n| format!("number {n}")).collect();
    wait_for("all lines", || (d.logged("chatty", 0) == expected).then_some(()));
}
