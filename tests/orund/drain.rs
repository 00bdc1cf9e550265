//! The host goes down: everything is stopped with its preStop and its grace, and the next boot starts it again.

use crate::client::{command, fails, ok};
use crate::daemon::{Daemon, can_run, kill, pid_of, wait_for};
use serde_json::json;
use std::fs;
use std::process::Stdio;

/// Takes a while to end when it is asked to, and says that it did so by itself.
const GRACEFUL: &str = "trap 'sleep 1; echo by itself >>/ended-$ORUN_REPLICA_INDEX; exit 0' TERM
    echo up >>/up
    while true; do sleep 0.05; done";

fn graceful(d: &Daemon, name: &str) {
    let pre_stop = json!({"preStop": {"exec": {"command": ["sh", "-c", "echo preStop >>/hooks"]}}});
    let spec = json!({"terminationGracePeriodSeconds": 50, "lifecycle": pre_stop, "sharedRoot": true});
    d.apply(name, 2, GRACEFUL, spec);
    wait_for("both programs to be ready for their stop signal", || (lines(d, "up") == 2).then_some(()));
}

fn lines(d: &Daemon, file: &str) -> usize {
    fs::read_to_string(d.dir.join("bundle/rootfs").join(file)).unwrap_or_default().lines().count()
}

#[test]
fn a_drain_stops_everything_with_its_grace_and_changes_no_workload() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("drain", &[]);
    graceful(&d, "web");
    d.apply("job", 1, "exit 0", json!({"restartPolicy": "Never"}));
    ok(&d, "wait job --for complete --timeout 60");
    let before = ok(&d, "get workloads web -o json");
    let said = ok(&d, "drain");
    assert!(
        said.contains("draining: 2 replicas are still running, for ") && said.contains(": web-0, web-1"),
        "{said}"
    );
    assert!(said.ends_with("drained: no replica runs\n"), "{said}");
    assert_eq!((lines(&d, "hooks"), lines(&d, "ended-0"), lines(&d, "ended-1")), (2, 1, 1));
    assert_eq!(d.processes(), [0i32; 0]);
    let table = ok(&d, "get");
    assert!(table.lines().all(|l| !l.starts_with("web ") || l.contains(",Draining")), "{table}");
    // What is applied meanwhile is kept and does not run.
    d.apply("late", 1, "exec sleep 1000", json!({}));
    let (code, said) = fails(&d, "wait late --timeout 300ms");
    assert!(code == 3 && said.contains("the host is drained"), "{code} {said}");
    // Nor does a drain end with the supervisor.
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    assert_eq!(ok(&d, "drain"), "drained: no replica runs\n");
    assert_eq!(d.processes(), [0i32; 0]);
    let spec = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["spec"].clone();
    assert_eq!(spec(&ok(&d, "get workloads web -o json")), spec(&before));
    assert_eq!(ok(&d, "drain --undo"), "drain undone: starting the replicas again\n");
    ok(&d, "wait web late --timeout 60");
    assert!(pid_of(&d.replica("web-1")).is_some());
    // It has run, and does not run again.
    assert!(ok(&d, "get").lines().any(|l| l.starts_with("job ") && l.contains("Complete")));
}

#[test]
fn a_drain_continues_when_the_supervisor_dies_in_it() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("draincrash", &[]);
    graceful(&d, "web");
    let drain = command(&d, "drain").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first hook", || (lines(&d, "hooks") > 0).then_some(()));
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    let done = drain.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.ends_with("drained: no replica runs\n"), "{done:?}");
    // A preStop that the supervisor's death has cut off is not run again; the programs end by themselves all the same.
    let counts = (lines(&d, "ended-0"), lines(&d, "ended-1"));
    assert_eq!(counts, (1, 1), "{}\n{}", ok(&d, "events"), d.output());
    assert_eq!(d.processes(), [0i32; 0]);
}
