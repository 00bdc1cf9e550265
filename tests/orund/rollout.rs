//! Rollouts on the real kernel: what counts, what a revision that cannot work costs, and the way back.

use crate::client::{fails, ok, run, write};
use crate::daemon::{Daemon, can_run, pid_of, wait_for};

fn web(script: &str, more: &str) -> String {
    format!(
        "apiVersion: orun.dev/v1
kind: Workload
metadata: {{name: web}}
spec:
  replicas: 3
  terminationGracePeriodSeconds: 5
  bundle: ./bundle
  args: [sh, -c, \"{script}\"]
{more}"
    )
}

const GOOD: &str = "trap 'exit 0' TERM; while true; do sleep 0.05; done";

fn status(d: &Daemon) -> serde_json::Value {
    d.api("GET", "/v1/workloads/web", "").1["status"].clone()
}

#[test]
fn a_revision_that_fails_takes_nothing_down_and_is_told() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("bad-revision", &[]);
    write(&d, "web.yaml", &web(GOOD, ""));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let before: Vec<_> = (0..3).map(|n| pid_of(&d.replica(&format!("web-{n}")))).collect();
    // It runs for a moment each time.
    write(&d, "bad.yaml", &web("echo no database; sleep 0.2; exit 3", ""));
    let (code, said) = fails(&d, "apply -f bad.yaml --wait --timeout 60");
    assert_eq!(code, 1, "{said}");
    for part in ["1 of 3 new replicas: CrashLoopBackOff", "exit code 3", "last line \"no database\""] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let now = status(&d);
    assert!(now["available"].as_u64() >= Some(3), "{now:#}");
    let (code, _) = fails(&d, "rollout status web --no-wait");
    assert_eq!(code, 1);
    // The way back keeps the old replicas.
    ok(&d, "rollout undo web --wait --timeout 60");
    let after: Vec<_> = (0..3).map(|n| pid_of(&d.replica(&format!("web-{n}")))).collect();
    assert_eq!(before, after);
    let history = ok(&d, "rollout history web");
    let numbers: Vec<&str> = history.lines().skip(1).filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(numbers, ["2", "3"], "{history}");
    assert!(history.contains("rollout undo to revision 1"), "{history}");
}

#[test]
fn a_failed_rollout_goes_back_by_itself() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("rollback", &[]);
    write(&d, "web.yaml", &web(GOOD, "  failureAction: rollback\n"));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    write(&d, "bad.yaml", &web("exit 3", "  failureAction: rollback\n"));
    let (code, said) = fails(&d, "apply -f bad.yaml --wait --timeout 60");
    assert_eq!(code, 1, "{said}");
    wait_for("the rollback", || {
        let s = status(&d);
        (s["phase"] == "Ready" && s["revision"] == 3 && s["rollout"]["failed"]["revision"] == 2).then_some(())
    });
    assert!(ok(&d, "rollout history web").contains("failed"));
}

#[test]
fn a_pause_that_a_failure_began_ends_with_the_next_revision() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("pause-of-failure", &[]);
    let pause = "  failureAction: pause\n";
    write(&d, "web.yaml", &web(GOOD, pause));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let bad = |script: &str| {
        write(&d, "bad.yaml", &web(script, pause));
        let (_, said) = fails(&d, "apply -f bad.yaml --wait --timeout 60");
        assert!(said.contains("the rollout is paused"), "{said}");
    };
    bad("exit 3");
    ok(&d, "rollout undo web --wait --timeout 60");
    assert_eq!(status(&d)["available"], 3);
    // Nobody asks for the revision that failed any more.
    assert!(ok(&d, "status").starts_with("healthy"));
    bad("exit 4");
    // As people do: the file that worked.
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let s = status(&d);
    assert_eq!((&s["phase"], &s["updated"]), (&"Ready".into(), &3.into()), "{s:#}");
    // A pause that somebody asked for stays.
    bad("exit 5");
    write(&d, "held.yaml", &web("exec sleep 1000", "  failureAction: pause\n  paused: true\n"));
    ok(&d, "apply -f held.yaml");
    let held = status(&d);
    ok(&d, "rollout resume web");
    ok(&d, "rollout status web --timeout 60s");
    let s = status(&d);
    assert!(held["revision"] != s["revision"] && held["updated"].as_u64() < Some(3), "{held:#}");
    assert_eq!((&s["phase"], &s["updated"]), (&"Ready".into(), &3.into()), "{s:#}");
}

#[test]
fn limits_and_grace_change_in_place() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("in-place", &[]);
    write(&d, "web.yaml", &web(GOOD, "  resources: {limits: {pids: 50}}\n"));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let pids = || (0..3).map(|n| pid_of(&d.replica(&format!("web-{n}")))).collect::<Vec<_>>();
    let before = pids();
    let changed =
        web(GOOD, "  resources: {limits: {pids: 40}}\n").replace("PeriodSeconds: 5", "PeriodSeconds: 7");
    write(&d, "web.yaml", &changed);
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    wait_for("the new limit", || {
        let stats = d.api("GET", "/v1/stats", "").1;
        let items = stats["items"].as_array()?.clone();
        (items.len() == 3 && items.iter().all(|s| s["pidsLimit"] == 40)).then_some(())
    });
    assert_eq!(pids(), before);
    assert_eq!(status(&d)["restarts"], 0);
}

#[test]
fn pause_resume_stop_and_start() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("pause", &[]);
    write(&d, "web.yaml", &web(GOOD, ""));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    ok(&d, "rollout pause web");
    write(&d, "web2.yaml", &web("trap 'exit 0' TERM; while :; do sleep 0.05; done", ""));
    ok(&d, "apply -f web2.yaml");
    assert_eq!(status(&d)["revision"], 1);
    assert!(fails(&d, "rollout undo web").1.contains("paused"));
    ok(&d, "rollout resume web");
    ok(&d, "rollout status web --timeout 60s");
    let s = status(&d);
    assert_eq!((&s["revision"], &s["updated"], &s["restarts"]), (&2.into(), &3.into(), &0.into()), "{s:#}");
    ok(&d, "stop web --wait --timeout 60s");
    assert_eq!(d.processes(), [0i32; 0]);
    ok(&d, "start web --wait --timeout 60s");
    assert_eq!(status(&d)["available"], 3);
    assert!(run(&d, "rollout undo web --to-revision 9").status.code() == Some(1));
}

#[test]
fn two_containers_of_which_one_ends_well_are_ready() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("two", &[]);
    let container = |name: &str, script: &str| {
        format!("  - name: {name}\n    bundle: ./bundle\n    args: [sh, -c, \"{script}\"]\n")
    };
    let text = format!(
        "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {{name: web}}\nspec:\n  restartPolicy: OnFailure\n  containers:\n{}{}",
        container("stays", GOOD),
        container("ends", "exit 0")
    );
    write(&d, "two.yaml", &text);
    ok(&d, "apply -f two.yaml --wait --timeout 60");
    let s = status(&d);
    assert_eq!((&s["ready"], &s["available"], &s["phase"]), (&1.into(), &1.into(), &"Ready".into()), "{s:#}");
}

#[test]
fn some_replicas_may_fail_and_the_way_back_has_numbers_of_its_own() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("max-failures", &[]);
    let more = "  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}
  minReadySeconds: 0.2
  failureAction: rollback
  maxFailures: 34%
  rollback: {rollingUpdate: {maxSurge: 0, maxUnavailable: 100%}, minReadySeconds: 0.2, failureAction: pause, maxFailures: 34%}
";
    write(&d, "web.yaml", &web(GOOD, more));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    // One of three fails: the rest is updated all the same.
    write(&d, "one.yaml", &web(&format!("[ $ORUN_REPLICA_INDEX != 0 ] || exit 3; {GOOD}"), more));
    ok(&d, "apply -f one.yaml");
    wait_for("the end of the rollout", || {
        let s = status(&d);
        let state = s["rollout"]["state"] == "Complete" && s["updated"] == 3 && s["available"] == 2;
        state.then_some(())
    });
    assert_eq!(run(&d, "status").status.code(), Some(1), "it is not well all the same");
    // Two of three are too many.
    write(&d, "two.yaml", &web(&format!("[ $ORUN_REPLICA_INDEX = 2 ] || exit 4; {GOOD}"), more));
    let (code, said) = fails(&d, "apply -f two.yaml --wait --timeout 60");
    assert_eq!(code, 1, "{said}");
    wait_for("the rollback", || {
        let s = status(&d);
        let back = s["revision"] == 4 && s["rollout"]["failed"]["revision"] == 3 && s["updated"] == 3;
        (back && s["rollout"]["state"] == "Complete").then_some(())
    });
}
