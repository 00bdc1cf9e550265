//! The life of replicas.

use crate::daemon::{Daemon, can_run, exits, pid_of, wait_for};
use crate::skip::skip;
use serde_json::json;
use std::time::{Duration, Instant};

/// Restarts come fast, so that tests do.
fn quick() -> serde_json::Value {
    json!({"backoff": {"initial": 0.1, "factor": 1, "max": 0.1}})
}

fn with(mut spec: serde_json::Value, key: &str, value: impl Into<serde_json::Value>) -> serde_json::Value {
    spec[key] = value.into();
    spec
}

#[test]
fn policies_decide_what_is_started_again() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("policies", &[]);
    let script = "echo run; sleep 0.05; exit $CODE";
    let env = |code: &str| format!("CODE={code}; {script}");
    d.apply("always", 1, &env("3"), quick());
    d.apply("bad", 1, &env("3"), with(quick(), "restartPolicy", "OnFailure"));
    d.apply("good", 1, &env("0"), with(quick(), "restartPolicy", "OnFailure"));
    d.apply("never", 1, &env("7"), with(quick(), "restartPolicy", "Never"));
    for name in ["always-0", "bad-0"] {
        let r = d.wait(name, "three restarts", |r| r["restarts"].as_u64() >= Some(3));
        assert!(exits(&r).iter().all(|e| e["exitCode"] == 3 && e["reason"] == "Error"), "{r:#}");
    }
    let r = d.wait("good-0", "its end", |r| r["phase"] == "Completed");
    assert_eq!((&r["restarts"], &exits(&r)[0]["exitCode"]), (&json!(0), &json!(0)));
    let r = d.wait("never-0", "its end", |r| r["phase"] == "Error");
    assert_eq!((&r["restarts"], &exits(&r)[0]["exitCode"]), (&json!(0), &json!(7)));
    wait_for("its output", || (d.logged("never", 0) == ["run"]).then_some(()));
    for name in ["always", "bad", "good", "never"] {
        d.delete(name, None);
    }
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn a_program_that_ends_when_asked_is_not_killed() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("graceful", &[]);
    let script = "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.02; done";
    d.apply("web", 3, script, json!({"terminationGracePeriodSeconds": 100}));
    for n in 0..3 {
        d.wait_running(&format!("web-{n}"));
        wait_for("it to be up", || (d.logged("web", n) == ["up"]).then_some(()));
    }
    let took = d.delete("web", None);
    assert!(took < Duration::from_secs(50), "{took:?}");
    for n in 0..3 {
        assert_eq!(d.logged("web", n), ["up", "bye"]);
    }
}

#[test]
fn what_ignores_the_signal_dies_at_the_deadline_with_all_its_processes() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("ignores", &[]);
    // Also children in sessions of their own, and orphans.
    let script = "trap '' TERM; (setsid sleep 1000 &) ; setsid sh -c \"trap '' TERM; sleep 1000\" & sleep 1000 & \
                  while true; do sleep 1000; done";
    d.apply("stubborn", 1, script, json!({"terminationGracePeriodSeconds": 1}));
    d.wait_running("stubborn-0");
    wait_for("its children", || (d.processes().len() >= 5).then_some(()));
    let took = d.delete("stubborn", None);
    assert!(took > Duration::from_millis(950) && took < Duration::from_secs(30), "{took:?}");
    assert_eq!(d.processes(), [0i32; 0]);
    // Without grace at once; a second request shortens the first.
    let long = json!({"terminationGracePeriodSeconds": 1000});
    d.apply("stubborn", 1, script, long);
    d.wait_running("stubborn-0");
    assert_eq!(d.api("DELETE", "/v1/workloads/stubborn", "").0, 200);
    std::thread::sleep(Duration::from_millis(200));
    assert!(pid_of(&d.replica("stubborn-0")).is_some());
    let took = d.delete("stubborn", Some(0));
    assert!(took < Duration::from_secs(50), "{took:?}");
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn processes_without_a_pid_namespace_end_with_the_first() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("nopid", &[]);
    let config = d.dir.join("bundle/config.json");
    let text = std::fs::read_to_string(&config).unwrap().replace(r#"{"type":"pid"},"#, "");
    std::fs::write(&config, text).unwrap();
    let script = "(setsid sleep 1000 &); sleep 0.2; exit 4";
    d.apply("leaver", 1, script, with(quick(), "restartPolicy", "Never"));
    let r = d.wait("leaver-0", "its end", |r| r["phase"] == "Error");
    assert_eq!(exits(&r)[0]["exitCode"], 4);
    wait_for("the orphan to go", || d.processes().is_empty().then_some(()));
}

#[test]
fn the_pre_stop_command_runs_before_the_signal() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("prestop", &[]);
    let script = "trap 'echo signal; exit 0' TERM; mkdir -p /tmp; echo up; while true; do sleep 0.02; done";
    let hook = json!({"preStop": {"exec": {"command": ["sh", "-c", "echo hook >/proc/1/fd/1; sleep 0.3"]}}});
    d.apply("web", 1, script, json!({"lifecycle": hook, "terminationGracePeriodSeconds": 10}));
    wait_for("it to be up", || {
        (d.wait_running("web-0") != json!(null) && d.logged("web", 0) == ["up"]).then_some(())
    });
    d.delete("web", None);
    assert_eq!(d.logged("web", 0), ["up", "hook", "signal"]);
}

#[test]
fn a_container_that_takes_too_much_memory_is_seen_to() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("oom", &[]);
    let script = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    let spec = json!({"restartPolicy": "Never", "resources": {"limits": {"memory": "20Mi"}}});
    let (status, answer) = d.try_apply("big", 1, &format!("exec {script}"), spec);
    assert_eq!(status, 200, "{answer}");
    let r = d.wait("big-0", "its end", |r| !exits(r).is_empty());
    if exits(&r)[0]["reason"] == "StartError" && r.to_string().contains("memory") {
        skip("needs a memory controller");
        return;
    }
    assert_eq!((&exits(&r)[0]["reason"], &exits(&r)[0]["signal"]), (&json!("OOMKilled"), &json!("SIGKILL")));
}

#[test]
fn a_child_that_takes_too_much_memory_is_told_while_the_container_goes_on() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("oomchild", &[]);
    let script = "while [ ! -e /go ]; do sleep 0.05; done; dd if=/dev/zero of=/dev/null bs=200M count=1; \
                  while true; do sleep 1; done";
    let spec = json!({"resources": {"limits": {"memory": "20Mi"}}, "sharedRoot": true});
    d.apply("big", 1, script, spec);
    let r = d.wait("big-0", "it to run", |r| pid_of(r).is_some() || !exits(r).is_empty());
    if r.to_string().contains("StartError") {
        skip("needs a memory controller");
        return;
    }
    let first = pid_of(&d.wait_running("big-0"));
    std::fs::write(d.dir.join("bundle/rootfs/go"), "").unwrap();
    wait_for("the event", || {
        d.api("GET", "/v1/events?replica=big-0", "").1.to_string().contains("OOMKilling").then_some(())
    });
    assert_eq!(pid_of(&d.replica("big-0")), first);
    d.delete("big", Some(0));
}

#[test]
fn hooks_that_hang_do_not_keep_a_workload_from_going() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("hook", &[]);
    let file = d.dir.join("bundle/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let begun = d.dir.join("begun");
    let hang = format!("echo >{}; exec sleep 1000", begun.display());
    config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hang]}]});
    std::fs::write(&file, config.to_string()).unwrap();
    d.apply("web", 1, "while true; do sleep 1; done", json!({"terminationGracePeriodSeconds": 1}));
    wait_for("the hook", || begun.exists().then_some(()));
    let took = d.delete("web", None);
    assert!(took < Duration::from_secs(50), "{took:?}");
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn a_spare_takes_over() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("spare", &[]);
    let made =
        |d: &Daemon| d.api("GET", "/v1/events?replica=web-0", "").1.to_string().matches("Created").count();
    d.apply("web", 1, "while true; do sleep 1; done", json!({"spares": 1}));
    let first = pid_of(&d.wait_running("web-0")).unwrap();
    wait_for("the spare", || (made(&d) == 2).then_some(()));
    // It waits, and is not the one that counts.
    let programs = || crate::daemon::programs(&d, "web-0");
    assert_eq!((programs(), pid_of(&d.replica("web-0"))), (1, Some(first)));
    let waiting: Vec<i32> = d.processes().into_iter().filter(|p| *p != first).collect();
    crate::daemon::kill(first, libc::SIGKILL);
    let r = d.wait("web-0", "the spare to run", |r| r["phase"] == "Running" && pid_of(r) != Some(first));
    assert!(waiting.contains(&pid_of(&r).unwrap()), "{waiting:?} {r:#}");
    wait_for("another spare", || (made(&d) == 3).then_some(()));
    d.delete("web", None);
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn replicas_come_and_go_with_their_number() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("scale", &[]);
    d.apply("web", 2, "trap 'exit 0' TERM; while true; do sleep 0.05; done", json!({}));
    d.wait_running("web-1");
    let first = pid_of(&d.wait_running("web-0"));
    assert_eq!(d.api("PATCH", "/v1/workloads/web", r#"{"spec":{"replicas":4}}"#).0, 200);
    d.wait_running("web-3");
    assert_eq!(d.api("PATCH", "/v1/workloads/web", r#"{"spec":{"replicas":1}}"#).0, 200);
    wait_for("the others to go", || {
        (d.api("GET", "/v1/replicas", "").1["items"].as_array().unwrap().len() == 1).then_some(())
    });
    assert_eq!(pid_of(&d.replica("web-0")), first);
    assert_eq!(d.processes().iter().filter(|p| Some(**p) == first).count(), 1);
    d.delete("web", Some(0));
}

#[test]
fn a_broken_bundle_waits_and_others_go_on() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("broken", &[]);
    d.apply("good", 1, "while true; do sleep 1; done", json!({}));
    let workload = json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": "bad"},
        "spec": {"containers": [{"name": "main", "bundle": d.dir.join("none")}]}});
    assert_eq!(d.api("POST", "/v1/workloads", &workload.to_string()).0, 200);
    let r = d.wait("bad-0", "the reason", |r| !exits(r).is_empty());
    assert!(r.to_string().contains("opening the bundle directory"), "{r:#}");
    d.apply("noprog", 1, "x", json!({}));
    let missing = json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": "noprog"},
        "spec": {"containers": [{"name": "main", "bundle": d.dir.join("bundle"), "args": ["/bin/nothing"]}]}});
    assert_eq!(d.api("POST", "/v1/workloads", &missing.to_string()).0, 200);
    let r = d.wait("noprog-0", "the reason", |r| r.to_string().contains("/bin/nothing"));
    assert!(pid_of(&r).is_none(), "{r:#}");
    d.wait_running("good-0");
}

#[test]
fn a_death_is_answered_in_milliseconds() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("fast", &[]);
    d.apply("web", 10, "while true; do sleep 1000; done", json!({}));
    // No benchmark: only that no timer, time-out or poll is in the way, which would show every time.
    let quick = (0..10).any(|n| {
        let name = format!("web-{n}");
        let first = pid_of(&d.wait_running(&name)).unwrap();
        let begun = Instant::now();
        crate::daemon::kill(first, libc::SIGKILL);
        d.wait(&name, "another process", |r| pid_of(r).is_some_and(|p| p != first));
        begun.elapsed() < Duration::from_millis(500)
    });
    assert!(quick);
}

#[test]
fn programs_of_other_users_can_open_their_output_anew() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("user", &[]);
    let config = d.dir.join("bundle/config.json");
    let text = std::fs::read_to_string(&config).unwrap().replace(r#""uid":0"#, r#""uid":1000"#);
    assert!(text.contains("1000"));
    std::fs::write(&config, text).unwrap();
    d.apply("web", 1, "echo one; echo two >/proc/self/fd/1", json!({"restartPolicy": "Never"}));
    let r = d.wait("web-0", "its end", |r| !exits(r).is_empty());
    assert_eq!(exits(&r)[0]["exitCode"], 0, "{r:#}");
    wait_for("its output", || (d.logged("web", 0) == ["one", "two"]).then_some(()));
}
