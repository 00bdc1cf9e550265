//! A supervisor, or its keeper, that is killed.

use crate::daemon::{Daemon, can_run, exits, kill, pid_of, programs, wait_for};
use serde_json::json;
use std::time::{Duration, Instant};

/// Each run writes its number of lines, and ends with a status of its own.
const WORKER: &str =
    "n=0; while [ $n -lt 20 ]; do echo $n; n=$((n+1)); sleep 0.01; done; exit $((40+ORUN_REPLICA_INDEX))";

fn quick() -> serde_json::Value {
    json!({"backoff": {"initial": 0.05, "factor": 1, "max": 0.05}, "terminationGracePeriodSeconds": 2})
}

#[test]
fn a_supervisor_that_is_killed_again_and_again_loses_nothing() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("killed", &[]);
    const REPLICAS: u32 = 4;
    d.apply("work", REPLICAS, WORKER, quick());
    d.apply("stay", 2, "trap 'exit 0' TERM; while true; do sleep 0.05; done", quick());
    let stay = [0, 1].map(|n| pid_of(&d.wait_running(&format!("stay-{n}"))).unwrap());
    assert_eq!(programs(&d, "stay-0"), 1);
    let begun = Instant::now();
    let mut kills = 0;
    while begun.elapsed() < Duration::from_secs(6) || kills <= 10 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{kills} kills");
        std::thread::sleep(Duration::from_millis(50));
        if let Some(pid) = d.supervisor() {
            kill(pid, libc::SIGKILL);
            kills += 1;
        }
        for n in 0..REPLICAS {
            assert!(programs(&d, &format!("work-{n}")) <= 1, "replica {n} runs twice");
        }
    }
    for (n, pid) in stay.iter().enumerate() {
        let r = d.wait_running(&format!("stay-{n}"));
        assert_eq!((pid_of(&r), &r["restarts"]), (Some(*pid), &json!(0)), "{r:#}");
    }
    for n in 0..REPLICAS {
        let r = d.wait(&format!("work-{n}"), "restarts", |r| r["restarts"].as_u64() >= Some(5));
        for exit in exits(&r) {
            assert_eq!(exit["exitCode"], 40 + n, "{r:#}");
        }
    }
    d.delete("work", None);
    for n in 0..REPLICAS {
        check_lines(&d.logged("work", n));
    }
    d.delete("stay", None);
    assert_eq!(d.processes(), [0i32; 0]);
}

/// Every run but the last has written 0 to 19, each once and in order.
fn check_lines(lines: &[String]) {
    let mut expected = 0;
    for (at, line) in lines.iter().enumerate() {
        let n: u32 = line.parse().unwrap_or_else(|_| panic!("{line:?} at {at}"));
        // The last run may have been stopped anywhere, and old runs' files are gone from their beginning.
        assert!(n == expected || (n == 0 && at == 0), "{n} after {:?}", &lines[at.saturating_sub(3)..at]);
        expected = (n + 1) % 20;
    }
    assert!(lines.len() > 60, "{}", lines.len());
}

#[test]
fn a_deadline_is_not_moved_by_a_crash() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("deadline", &[]);
    d.apply(
        "web",
        1,
        "trap '' TERM; while true; do sleep 1; done",
        json!({"terminationGracePeriodSeconds": 10}),
    );
    d.wait_running("web-0");
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    assert_eq!(d.api("DELETE", "/v1/workloads/web", "").0, 200);
    std::thread::sleep(Duration::from_millis(8000));
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the workload to go", || (d.api("GET", "/v1/workloads/web", "").0 == 404).then_some(()));
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(9950) && took < Duration::from_millis(17_500), "{took:?}");
}

#[test]
fn deaths_while_nobody_looks_are_told_exactly() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("unseen", &[]);
    d.apply(
        "web",
        2,
        "while [ ! -e /go ]; do sleep 0.02; done; echo last words; exit 9",
        json!({"restartPolicy": "Never", "sharedRoot": true}),
    );
    d.wait_running("web-0");
    d.wait_running("web-1");
    die_unseen(&d);
}

/// The two replicas of `web` wait for a file, write their last words and exit with 9, while the supervisor cannot see it.
fn die_unseen(d: &Daemon) {
    // Stopped, it sees nothing; killed, it never will.
    let pid = d.supervisor().unwrap();
    kill(pid, libc::SIGSTOP);
    std::fs::write(d.dir.join("bundle/rootfs/go"), "").unwrap();
    wait_for("the containers to end", || d.processes().is_empty().then_some(()));
    kill(pid, libc::SIGKILL);
    for n in 0..2 {
        let r = d.wait(&format!("web-{n}"), "its end", |r| r["phase"] == "Error");
        assert_eq!(exits(&r)[0]["exitCode"], 9, "{r:#}");
        wait_for("its output", || (d.logged("web", n) == ["last words"]).then_some(()));
    }
}

#[test]
fn a_keeper_that_came_later_loses_nothing_either() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("later", &[]);
    let script = "while [ ! -e /go ]; do sleep 0.02; done; echo last words; exit 9";
    d.apply("web", 2, script, json!({"restartPolicy": "Never", "sharedRoot": true}));
    d.wait_running("web-0");
    d.wait_running("web-1");
    d.stop();
    d.start_again();
    d.wait_running("web-1");
    die_unseen(&d);
}

#[test]
fn without_its_keeper_the_supervisor_goes_on() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("keeper", &[]);
    d.apply("web", 1, "while true; do sleep 1; done", json!({}));
    let first = pid_of(&d.wait_running("web-0")).unwrap();
    kill(d.main(), libc::SIGKILL);
    wait_for("the event", || {
        d.api("GET", "/v1/events", "").1.to_string().contains("KeeperLost").then_some(())
    });
    assert_eq!(pid_of(&d.replica("web-0")), Some(first));
    kill(first, libc::SIGKILL);
    let r = d.wait("web-0", "a restart", |r| r["restarts"] == 1 && pid_of(r).is_some());
    assert_eq!(exits(&r)[0]["signal"], "SIGKILL");
    d.delete("web", Some(0));
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn containers_outlive_a_service_that_is_stopped_and_started() {
    if !can_run() {
        return;
    }
    for flags in [&[][..], &["--no-keeper"][..]] {
        let mut d = Daemon::start(&format!("service{}", flags.len()), flags);
        let script = "n=0; while true; do echo $n; n=$((n+1)); sleep 0.01; done";
        d.apply("web", 1, script, json!({}));
        let first = pid_of(&d.wait_running("web-0"));
        wait_for("output", || (d.logged("web", 0).len() > 10).then_some(()));
        d.stop();
        std::thread::sleep(Duration::from_millis(200));
        d.start_again();
        let r = d.wait_running("web-0");
        assert_eq!((pid_of(&r), &r["restarts"]), (first, &json!(0)));
        let before = d.logged("web", 0).len();
        wait_for("more output", || (d.logged("web", 0).len() > before).then_some(()));
        d.delete("web", Some(0));
        let lines = d.logged("web", 0);
        let expected: Vec<String> = (0..lines.len()).map(|n| n.to_string()).collect();
        assert_eq!(lines, expected);
    }
}

#[test]
fn without_a_keeper_the_next_supervisor_takes_over_from_a_killed_one() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("takeover", &["--no-keeper"]);
    let script = "n=0; while true; do echo $n; n=$((n+1)); sleep 0.01; done";
    d.apply("web", 1, script, json!({}));
    let first = pid_of(&d.wait_running("web-0"));
    for n in 1..4 {
        wait_for("output", || (d.logged("web", 0).len() > 10 * n).then_some(()));
        kill(d.main(), libc::SIGKILL);
        d.stop();
        d.start_again();
        let r = d.wait_running("web-0");
        assert_eq!((pid_of(&r), &r["restarts"]), (first, &json!(0)));
    }
    d.delete("web", Some(0));
    let lines = d.logged("web", 0);
    let expected: Vec<String> = (0..lines.len()).map(|n| n.to_string()).collect();
    assert_eq!(lines, expected);
}

/// The supervisor that comes after `old`.
fn next_supervisor(d: &Daemon, old: i32) -> i32 {
    wait_for("the next supervisor", || d.supervisor().filter(|pid| *pid != old))
}

#[test]
fn a_supervisor_that_is_stopped_is_killed_and_replaced() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("stopped", &[]);
    d.apply("web", 1, "while true; do sleep 1; done", json!({}));
    let first = pid_of(&d.wait_running("web-0"));
    let comm = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!((comm(d.main()), comm(d.supervisor().unwrap())), ("orund-keeper\n".into(), "orund\n".into()));
    let old = d.supervisor().unwrap();
    kill(old, libc::SIGSTOP);
    next_supervisor(&d, old);
    assert!(d.output().contains("has not responded for"), "{}", d.output());
    let r = d.wait_running("web-0");
    assert_eq!((pid_of(&r), &r["restarts"]), (first, &json!(0)));
    d.delete("web", Some(0));
}

#[test]
fn the_keeper_outlives_the_service_managers_watchdog_and_a_stop() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("abort", &[]);
    d.apply("web", 1, "while true; do sleep 1; done", json!({}));
    let first = pid_of(&d.wait_running("web-0"));
    let old = d.supervisor().unwrap();
    kill(d.main(), libc::SIGABRT);
    next_supervisor(&d, old);
    assert_eq!(pid_of(&d.wait_running("web-0")), first);
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", d.main())).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next()
    };
    // It has pinged once, so that the supervisor knows what to wait for.
    std::thread::sleep(Duration::from_secs(4));
    kill(d.main(), libc::SIGSTOP);
    wait_for("the keeper to stop", || (state() == Some('T')).then_some(()));
    wait_for("the keeper to continue", || (state() != Some('T')).then_some(()));
    wait_for("the event", || {
        d.api("GET", "/v1/events", "").1.to_string().contains("KeeperSilent").then_some(())
    });
    assert_eq!(pid_of(&d.wait_running("web-0")), first);
    d.delete("web", Some(0));
}
