//! What the containers of a pod share besides its network: processes, limits; and the last words of each.

use crate::client::{ok, run, write};
use crate::daemon::{Daemon, can_run, exits, kill, pid_of, wait_for};
use serde_json::{Value, json};
use std::fs;

fn pod(containers: &str, more: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
{more}      containers:
{containers}"
    )
}

/// The first process of the pod's pid namespace.
fn init(d: &Daemon) -> Option<i32> {
    let is_init = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "pod-init")
    };
    d.processes().into_iter().find(is_init)
}

fn logged(d: &Daemon, container: &str) -> String {
    let done = run(d, &format!("logs web-0 -c {container}"));
    String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
}

#[test]
fn containers_that_share_processes_see_each_other_and_nothing_of_the_host() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("processes", &[]);
    let look = "all() { for p in /proc/[0-9]*; do read name < $p/comm && echo $name; done; }; \
                until all | while read name; do [ $name != busybox ] || exit 9; done; [ $? = 9 ]; do sleep 0.05; done; all; \
                read pid rest < /proc/self/stat; echo me $pid; echo root $(/bin/busybox ls -A /proc/1/root 2>&1); \
                trap 'exit 0' TERM; while true; do sleep 0.05; done";
    let containers = format!(
        "      - {{name: app, image: 'bundle:./bundle', command: [/bin/busybox, sleep, '1000']}}
      - {{name: side, image: 'bundle:./bundle', command: [sh, -c, {look:?}]}}
"
    );
    write(&d, "web.yaml", &pod(&containers, "      shareProcessNamespace: true\n"));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    wait_for("what it sees", || logged(&d, "side").contains("root ").then_some(()));
    let seen = logged(&d, "side");
    assert!(seen.contains("pod-init\n") && seen.contains("busybox\n"), "{seen}");
    assert!(!seen.contains("me 1\n") && !seen.contains("orund"), "{seen}");
    let root = seen.lines().find_map(|l| l.strip_prefix("root ")).unwrap();
    assert!(root.contains("ermission denied") || root.is_empty(), "the root of the first process: {root}");
    let first = init(&d).unwrap();
    assert_eq!(fs::read_dir(format!("/proc/{first}/root")).unwrap().count(), 0, "its root is empty");
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("Uid:\t65534"), "{status}");

    // The end of one container is not that of the other.
    let side = || d.replica("web-0")["containers"][1]["pid"].as_i64();
    let other = side();
    kill(pid_of(&d.replica("web-0")).unwrap(), libc::SIGKILL);
    d.wait("web-0", "a restart", |r| r["restarts"] == 1 && pid_of(r).is_some());
    assert_eq!((side(), init(&d)), (other, Some(first)));
    // Nor is that of the supervisor.
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the supervisor to come back", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    assert_eq!((side(), init(&d)), (other, Some(first)));
    assert_eq!(ok(&d, "exec web-0 -c app -- cat /proc/1/comm"), "pod-init\n");
    // Without the first process no container can be made: the pod gets another one.
    kill(first, libc::SIGKILL);
    d.wait("web-0", "another sandbox", |r| {
        r["restarts"].as_u64() >= Some(2) && pid_of(r).is_some() && r["containers"][1]["pid"].is_i64()
    });
    assert_ne!(init(&d), Some(first));
    let events = ok(&d, "events");
    assert!(events.contains("SandboxChanged") && !events.contains("annot allocate memory"), "{events}");
    d.delete("web", Some(0));
    assert_eq!(d.processes(), Vec::<i32>::new());
}

#[test]
fn last_words_come_from_the_file_or_the_log() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("words", &[]);
    let one = |script: &str, more: &str| {
        format!("      - {{name: app, image: 'bundle:./bundle', command: [sh, -c, {script:?}]{more}}}\n")
    };
    let message = |text: &str| -> Value {
        let of = |r: &Value| exits(r).into_iter().find_map(|e| e["message"].as_str().map(str::to_owned));
        let r = d.wait("web-0", "last words", |r| of(r).is_some_and(|m| m.contains(text)));
        r["containers"][0]["exits"].clone()
    };
    write(
        &d,
        "web.yaml",
        &pod(&one("echo -n no database > /dev/termination-log; sleep 0.1; exit 3", ""), ""),
    );
    ok(&d, "apply -f web.yaml");
    let seen = message("no database");
    assert_eq!(seen[0]["exitCode"], 3, "{seen:#}");
    assert!(ok(&d, "describe web-0").contains("exit code 3"), "{}", ok(&d, "describe web-0"));
    assert!(ok(&d, "describe web-0").contains(": no database"), "{}", ok(&d, "describe web-0"));

    let script =
        "busybox=/bin/busybox; echo first; $busybox printf '\\033[31mcannot bind\\n'; sleep 0.1; exit 4";
    let policy = ", terminationMessagePolicy: FallbackToLogsOnError, terminationMessagePath: /tmp/words";
    write(&d, "web.yaml", &pod(&one(script, policy), ""));
    ok(&d, "apply -f web.yaml");
    let seen = message("cannot bind");
    assert!(seen[0]["message"].as_str().unwrap().starts_with("first\n"), "{seen:#}");
    // What a program writes must not steer the terminal of the reader.
    let described = ok(&d, "describe web-0");
    assert!(described.contains("\\u{1b}[31mcannot bind"), "{described}");
    d.delete("web", Some(0));
    assert_eq!(fs::read_dir(d.dir.join("data/pods")).unwrap().count(), 0);
}

#[test]
fn a_standard_input_that_stays_open_keeps_a_shell_alive() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("stdin", &[]);
    let container = "      - {name: app, image: 'bundle:./bundle', command: [sh], stdin: true, tty: true}\n";
    write(&d, "web.yaml", &pod(container, ""));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let replica = d.wait_running("web-0");
    assert_eq!((&replica["restarts"], exits(&replica)), (&json!(0), Vec::new()));
    assert_eq!(pid_of(&d.replica("web-0")), pid_of(&replica));
}

#[test]
fn a_pod_has_limits_of_its_own() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("pod-limits", &[]);
    // Each would be within it alone.
    let script = "for n in 1 2 3 4 5; do sleep 100 & done; echo all; wait";
    let one = |name: &str| {
        format!("      - {{name: {name}, image: 'bundle:./bundle', command: [sh, -c, {script:?}]}}\n")
    };
    let file =
        pod(&format!("{}{}", one("a"), one("b")), "      resources: {limits: {pids: 9, memory: 64Mi}}\n");
    write(&d, "web.yaml", &file);
    ok(&d, "apply -f web.yaml");
    wait_for("the limit", || {
        let all = ["a", "b"].map(|name| logged(&d, name)).concat();
        all.contains("can't fork").then_some(())
    });
    assert!(d.processes().len() <= 9);
    d.delete("web", Some(0));
    assert_eq!(d.processes(), Vec::<i32>::new());

    let words = json!({"resources": {"limits": {"pids": 9}}, "containers": [
        {"name": "a", "bundle": d.dir.join("bundle"), "command": ["sh", "-c", "sleep 100"]}]});
    let w =
        json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": "own"}, "spec": words});
    assert_eq!(d.api("POST", "/v1/workloads", &w.to_string()).0, 200);
    d.wait_running("own-0");
    assert_eq!(d.workload("own")["spec"]["resources"]["limits"]["pids"], 9);
}
