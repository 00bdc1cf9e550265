//! Init containers, sidecars, and pods that end after a time, on the real kernel.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, wait_for};
use std::fs;

/// What all containers of the pod `name` have written, in the order of time.
fn story(d: &Daemon, name: &str) -> Vec<String> {
    let text = fs::read_to_string(d.dir.join("story")).unwrap_or_default();
    text.lines().filter_map(|l| l.strip_prefix(&format!("{name} "))).map(str::to_owned).collect()
}

/// A pod whose containers write what happens into one file of the host.
fn pod(d: &Daemon, name: &str, fields: &str, inits: &[(&str, &str, &str)], mains: &[(&str, &str, &str)]) {
    let image = format!("bundle:{}", d.dir.join("bundle").display());
    let list = |containers: &[(&str, &str, &str)]| -> String {
        let one = |(container, script, more): &(&str, &str, &str)| {
            format!(
                "  - {{name: {container}, image: \"{image}\", command: [sh, -c, {}], {more} \
                 volumeMounts: [{{name: host, mountPath: /host}}]}}\n",
                serde_json::json!(format!("say() {{ echo {name} $* >> /host/story; }}; {script}"))
            )
        };
        containers.iter().map(one).collect()
    };
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {fields}\n  volumes: [{{name: host, hostPath: {{path: {}}}}}]\n  initContainers:\n{}  containers:\n{}",
        d.dir.display(),
        list(inits),
        list(mains)
    );
    fs::write(d.dir.join("pod.yaml"), text).unwrap();
    ok(d, "apply -f pod.yaml");
}

const PROXY: &str =
    "trap 'say proxy ends; exit 0' TERM; say proxy; while :; do /bin/busybox sleep 0.02; done";
const APP: &str = "trap 'say app ends; exit 0' TERM; say app; while :; do /bin/busybox sleep 0.02; done";

#[test]
fn init_containers_run_one_by_one_and_sidecars_from_first_to_last() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("roles", &[]);
    let wait_for_go = "say first; until [ -e /host/go ]; do /bin/busybox sleep 0.02; done; say first ends";
    let inits = [
        ("first", wait_for_go, ""),
        ("proxy", PROXY, "restartPolicy: Always,"),
        ("second", "say second; echo words", ""),
    ];
    pod(&d, "web", "terminationGracePeriodSeconds: 20", &inits, &[("app", APP, "")]);
    wait_for("the first container", || story(&d, "web").contains(&"first".to_owned()).then_some(()));
    let replica = d.wait("web-0", "Init:0/3", |r| r["initializing"] == "Init:0/3");
    assert_eq!(
        (replica["ready"].as_bool(), &replica["containers"][0]["role"]),
        (Some(false), &"Init".into())
    );
    assert!(ok(&d, "get pods").contains("0/2     Init:0/3"), "{}", ok(&d, "get pods"));
    assert_eq!(story(&d, "web"), ["first"], "nothing else runs");
    fs::write(d.dir.join("go"), "").unwrap();
    d.wait("web-0", "it to be ready", |r| r["ready"] == true);
    wait_for("the application", || story(&d, "web").contains(&"app".to_owned()).then_some(()));
    assert_eq!(story(&d, "web"), ["first", "first ends", "proxy", "second", "app"]);
    assert!(ok(&d, "get pods").contains("2/2     Running"), "{}", ok(&d, "get pods"));
    assert!(ok(&d, "logs web -c second").contains("words"));
    let described = ok(&d, "describe web");
    assert!(
        described.contains("Init container first:") && described.contains("Sidecar proxy:"),
        "{described}"
    );
    d.delete("web", None);
    assert_eq!(story(&d, "web")[5..], ["app ends", "proxy ends"], "the sidecar is the last");
    assert_eq!(d.processes(), Vec::<i32>::new());
}

#[test]
fn an_init_container_that_fails_is_shown_and_a_job_ends_its_sidecars() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("roles-fail", &[]);
    pod(&d, "bad", "restartPolicy: Never", &[("first", "exit 3", "")], &[("app", APP, "")]);
    d.wait("bad-0", "Init:Error", |r| r["initializing"] == "Init:Error");
    assert_eq!(story(&d, "bad"), Vec::<String>::new());
    d.delete("bad", None);
    let sidecar = ("proxy", PROXY, "restartPolicy: Always,");
    pod(&d, "job", "restartPolicy: OnFailure", &[sidecar], &[("app", "say work; exit 0", "")]);
    d.wait("job-0", "it to be complete", |r| r["phase"] == "Completed");
    wait_for("the end of the sidecar", || story(&d, "job").contains(&"proxy ends".to_owned()).then_some(()));
    assert_eq!(story(&d, "job"), ["proxy", "work", "proxy ends"]);
    d.delete("job", None);
    let rule = "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [7]}}],";
    let script = "say run; [ -e /host/again ] && exit 1; : > /host/again; exit 7";
    pod(&d, "rule", "restartPolicy: Always", &[], &[("app", script, rule)]);
    d.wait("rule-0", "its failure", |r| r["phase"] == "Error");
    assert_eq!(story(&d, "rule"), ["run", "run"]);
    d.delete("rule", None);
}

#[test]
fn a_pod_that_is_active_for_too_long_fails() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("roles-deadline", &[]);
    pod(&d, "late", "activeDeadlineSeconds: 1", &[], &[("app", APP, "")]);
    let replica = d.wait("late-0", "the deadline", |r| r["phase"] == "DeadlineExceeded");
    assert_eq!(replica["restarts"], 0);
    assert_eq!(story(&d, "late"), ["app", "app ends"]);
    let events = d.api("GET", "/v1/events", "").1.to_string();
    assert!(events.contains("activeDeadlineSeconds"), "{events}");
    d.delete("late", None);
}
