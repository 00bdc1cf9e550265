//! What the service manager and the host do to the daemon.

use crate::daemon::{Daemon, can_run, exits, kill, pid_of, wait_for};
use serde_json::json;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

#[test]
fn the_service_manager_is_told_and_its_socket_is_taken() {
    if !can_run() {
        return;
    }
    for flags in [&[][..], &["--no-keeper"][..]] {
        let mut d = Daemon::prepare(&format!("manager{}", flags.len()), flags);
        let manager = UnixDatagram::bind(d.dir.join("notify")).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        d.stdin = Some(UnixListener::bind(d.socket()).unwrap().into());
        // As sd_listen_fds(3) has it.
        let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
        d.wrapper = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
        d.environment = vec![
            ("NOTIFY_SOCKET".to_owned(), d.dir.join("notify").to_str().unwrap().to_owned()),
            ("WATCHDOG_USEC".to_owned(), "200000".to_owned()),
        ];
        d.start_again();
        let told = |what: &str| {
            wait_for(what, || {
                let mut buf = [0; 500];
                let n = manager.recv(&mut buf).unwrap();
                String::from_utf8_lossy(&buf[..n]).contains(what).then_some(())
            })
        };
        told("READY=1");
        told("WATCHDOG=1");
        if flags.is_empty() {
            kill(d.supervisor().unwrap(), libc::SIGKILL);
            told("READY=1");
            assert_eq!(d.api("GET", "/healthz", "").0, 200);
        }
        told("WATCHDOG=1");
        d.stop();
        told("STOPPING=1");
    }
}

#[test]
fn clients_only_wait_while_the_supervisor_is_started_again() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("wait", &[]);
    for _ in 0..3 {
        kill(d.supervisor().unwrap(), libc::SIGKILL);
        // The connection is taken, and answered by the next one; only what the dead one had accepted is lost.
        let answer = wait_for("an answer", || d.try_api("GET", "/healthz", ""));
        assert_eq!(answer.0, 200);
        wait_for("the next supervisor", || d.supervisor());
    }
}

#[test]
fn running_out_of_descriptors_is_told_and_passes() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::prepare("nofile", &[]);
    d.wrapper = vec!["prlimit".to_owned(), "--nofile=90:90".to_owned()];
    d.start_again();
    d.apply("many", 60, "while true; do sleep 1; done", json!({"terminationGracePeriodSeconds": 1}));
    wait_for("the trouble", || {
        d.api("GET", "/v1/events", "").1.to_string().contains("too many open files").then_some(())
    });
    let items = |d: &Daemon| d.api("GET", "/v1/replicas", "").1["items"].as_array().unwrap().clone();
    let told = |r: &serde_json::Value| exits(r).iter().any(|e| e.to_string().contains("too many open files"));
    wait_for("a replica with the reason", || items(&d).iter().any(told).then_some(()));
    let running = |d: &Daemon| items(d).iter().filter(|r| pid_of(r).is_some()).count();
    wait_for("some that run", || (running(&d) >= 2).then_some(()));
    assert_eq!(d.api("PATCH", "/v1/workloads/many", r#"{"spec":{"replicas":2}}"#).0, 200);
    wait_for("the others to go", || (items(&d).len() == 2).then_some(()));
    for left in items(&d) {
        d.wait_running(left["name"].as_str().unwrap());
    }
    d.delete("many", Some(0));
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn an_idle_supervisor_does_nothing() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("idle", &[]);
    d.apply("web", 3, "exec sleep 1000", json!({}));
    d.wait_running("web-2");
    // Voluntary switches are wake-ups: of all threads.
    let wakeups = || -> u64 {
        let supervisor = d.supervisor().unwrap();
        let tasks = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let count = |status: String| -> u64 {
            let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches"));
            line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        [d.main(), supervisor]
            .into_iter()
            .flat_map(tasks)
            .map(|t| count(std::fs::read_to_string(t.path().join("status")).unwrap_or_default()))
            .sum()
    };
    // Earlier work may still take a while.
    wait_for("a second without wake-ups", || {
        let before = wakeups();
        std::thread::sleep(Duration::from_secs(1));
        (wakeups().saturating_sub(before) <= 3).then_some(())
    });
}
