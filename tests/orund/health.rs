//! Hooks and probes on the real kernel: programs, requests and connections from within the pod.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, exits, kill, pid_of, wait_for};
use serde_json::{Value, json};
use std::fs;

/// A workload of one pod with one container, which runs `script` and sees the directory of the test at /host.
fn apply(d: &Daemon, name: &str, script: &str, container: Value) {
    let mut main = json!({
        "name": "main", "bundle": d.dir.join("bundle"), "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "host", "mountPath": "/host"}],
    });
    for (key, value) in container.as_object().unwrap() {
        main[key] = value.clone();
    }
    let spec = json!({
        "terminationGracePeriodSeconds": 5, "pod": {"labels": {"app": name}}, "containers": [main],
        "volumes": [{"name": "host", "hostPath": {"path": d.dir}}],
    });
    let w =
        json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": name}, "spec": spec});
    let (status, answer) = d.api("POST", "/v1/workloads", &w.to_string());
    assert_eq!(status, 200, "{answer}\n{}", d.output());
}

fn story(d: &Daemon) -> Vec<String> {
    let text = fs::read_to_string(d.dir.join("story")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn events(d: &Daemon) -> String {
    d.api("GET", "/v1/events", "").1.to_string()
}

const SERVER: &str = "B=/bin/busybox; $B mkdir -p /www; echo ok > /www/ready; \
                      trap 'exit 0' TERM; $B httpd -f -p 8080 -h /www & wait";

#[test]
fn readiness_follows_the_answers_of_the_server() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("readiness", &[]);
    let script = format!("until [ -e /host/go ]; do /bin/busybox sleep 0.02; done; {SERVER}");
    let ports = json!([{"name": "http", "containerPort": 8080}]);
    let get = json!({"path": "/ready", "port": "http", "httpHeaders": [{"name": "Host", "value": "web"}]});
    let readiness = json!({"httpGet": get, "periodSeconds": 1, "failureThreshold": 2});
    apply(&d, "web", &script, json!({"ports": ports, "readinessProbe": readiness}));
    let replica = d.wait_running("web-0");
    assert_eq!((&replica["ready"], &replica["containers"][0]["ready"]), (&json!(false), &json!(false)));
    assert!(ok(&d, "get pods").contains("0/1"), "{}", ok(&d, "get pods"));
    fs::write(d.dir.join("go"), "").unwrap();
    let replica = d.wait("web-0", "it to be ready", |r| r["ready"] == true);
    let pid = pid_of(&replica).unwrap();
    // From now on the server has no such file.
    fs::remove_file(format!("/proc/{pid}/root/www/ready")).unwrap();
    d.wait("web-0", "it not to be ready", |r| r["ready"] == false);
    assert!(
        events(&d).contains("readiness probe failed: HTTP probe failed with statuscode: 404"),
        "{}",
        events(&d)
    );
    // A supervisor that is killed keeps what it knew, and continues.
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the supervisor to come back", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    assert_eq!(d.replica("web-0")["ready"], false);
    fs::write(format!("/proc/{pid}/root/www/ready"), "ok").unwrap();
    let replica = d.wait("web-0", "it to be ready again", |r| r["ready"] == true);
    assert_eq!((pid_of(&replica), &replica["restarts"]), (Some(pid), &json!(0)), "nothing was restarted");
    let described = ok(&d, "describe web");
    assert!(described.contains("Readiness:"), "{described}");
    let metrics = d.text("/metrics");
    let probes = metrics.lines().filter(|l| l.starts_with("prober_probe_total{")).collect::<Vec<_>>();
    assert!(probes.iter().any(|l| l.contains("Readiness") && l.contains("failed")), "{probes:?}");
    d.delete("web", None);
    assert_eq!(d.processes(), Vec::<i32>::new());
}

#[test]
fn a_container_that_fails_its_liveness_probe_is_started_again() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("liveness", &[]);
    let script = "echo start >> /host/story; B=/bin/busybox; $B mkdir -p /www; $B httpd -f -p 8080 -h /www & S=$!; \
                  trap 'exit 0' TERM; while :; do [ -e /host/kill ] && kill $S; $B sleep 0.05; done";
    let liveness = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 1});
    let pre_stop =
        json!({"preStop": {"exec": {"command": ["sh", "-c", "echo preStop >> /host/story; rm /host/kill"]}}});
    apply(&d, "web", script, json!({"livenessProbe": liveness, "lifecycle": pre_stop}));
    d.wait("web-0", "it to be ready", |r| r["ready"] == true);
    wait_for("a probe", || d.text("/metrics").contains("result=\"successful\"} 1").then_some(()));
    assert_eq!((d.replica("web-0")["restarts"].clone(), story(&d)), (json!(0), vec!["start".to_owned()]));
    // The server ends, and the program does not notice.
    fs::write(d.dir.join("kill"), "").unwrap();
    wait_for("the second start", || (story(&d).len() >= 3).then_some(()));
    assert_eq!(story(&d), ["start", "preStop", "start"]);
    let replica = d.replica("web-0");
    assert_eq!((exits(&replica)[0]["reason"].clone(), exits(&replica).len()), (json!("Unhealthy"), 1));
    assert!(events(&d).contains("liveness probe failed: connecting to"), "{}", events(&d));
    d.delete("web", None);
}

#[test]
fn programs_of_probes_run_in_the_container_and_are_killed_whole() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("exec-probe", &[]);
    let alive = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.05; done";
    // It hangs together with a child, as a shell does that waits for a pipeline.
    let hangs = "echo probe >> /host/story; /bin/busybox sleep 1000 | /bin/busybox sleep 1001";
    let liveness = json!({"exec": {"command": ["sh", "-c", hangs]}, "timeoutSeconds": 1, "failureThreshold": 2, "periodSeconds": 1});
    let startup = json!({"exec": {"command": ["sh", "-c", "[ -e /host/up ] || { echo not yet; exit 3; }"]}, "periodSeconds": 1, "failureThreshold": 100});
    apply(&d, "web", alive, json!({"livenessProbe": liveness, "startupProbe": startup}));
    wait_for("the reason", || {
        events(&d).contains("startup probe failed: exit code 3: not yet").then_some(())
    });
    assert_eq!((d.replica("web-0")["ready"].clone(), story(&d)), (json!(false), vec![]), "liveness waits");
    fs::write(d.dir.join("up"), "").unwrap();
    let replica = d.wait("web-0", "it to fail twice", |r| !exits(r).is_empty());
    assert_eq!(exits(&replica)[0]["reason"], "Unhealthy");
    assert_eq!(story(&d)[..2], ["probe", "probe"]);
    assert!(events(&d).contains("liveness probe failed: it did not exit within 1 s"), "{}", events(&d));
    d.delete("web", None);
    assert_eq!(d.processes(), Vec::<i32>::new());
    // What cannot be run has no result.
    let missing = json!({"exec": {"command": ["/no/such"]}, "failureThreshold": 1, "periodSeconds": 1});
    apply(&d, "missing", alive, json!({"livenessProbe": missing}));
    wait_for("the reason", || events(&d).contains("liveness probe could not run").then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(d.replica("missing-0")["restarts"], 0);
    d.delete("missing", None);
}

#[test]
fn hooks_run_before_a_container_is_ready_and_before_it_is_asked_to_end() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("post-start", &[]);
    let script = format!(
        "echo start >> /host/story; trap 'echo term >> /host/story; exit 0' TERM; {}",
        &SERVER.replace("trap 'exit 0' TERM; ", "")
    );
    let warm = "until [ -e /host/go ]; do /bin/busybox sleep 0.02; done; echo warm >> /host/story";
    let lifecycle = json!({
        "postStart": {"exec": {"command": ["sh", "-c", warm]}}, "preStop": {"httpGet": {"port": 8080, "path": "/ready"}},
    });
    apply(&d, "web", &script, json!({"lifecycle": lifecycle}));
    wait_for("the program", || (story(&d) == ["start"]).then_some(()));
    assert_eq!(d.replica("web-0")["ready"], false);
    fs::write(d.dir.join("go"), "").unwrap();
    d.wait("web-0", "it to be ready", |r| r["ready"] == true);
    assert_eq!(story(&d), ["start", "warm"]);
    d.delete("web", None);
    assert_eq!(story(&d), ["start", "warm", "term"]);
    assert!(!events(&d).contains("FailedPreStopHook"), "{}", events(&d));
    // One that fails stops the container, which its policy starts again; one that sleeps takes its time.
    let lifecycle = json!({"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 7"]}}});
    apply(&d, "bad", &script, json!({"lifecycle": lifecycle}));
    let replica = d.wait("bad-0", "its end", |r| !exits(r).is_empty());
    assert_eq!(exits(&replica)[0]["reason"], "PostStartHookError");
    assert!(events(&d).contains("postStart: exit code 7: no"), "{}", events(&d));
    d.delete("bad", None);
    apply(&d, "slow", &script, json!({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}));
    d.wait("slow-0", "it to be ready", |r| r["ready"] == true);
    let took = d.delete("slow", None);
    assert!(took.as_millis() >= 1000 && took.as_millis() < 4500, "{took:?}");
}

/// A server that never ends its answer, one that sends nothing, one that closes, one that sends no HTTP.
#[test]
fn a_hostile_server_only_fails_its_own_probe() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("hostile-server", &[]);
    let endless = "while :; do echo 'X-A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'; done";
    let cases = [
        ("endless", format!("echo 'HTTP/1.1 200 OK'; {endless}"), "exceeds 16384 bytes"),
        ("silent", "exec /bin/busybox sleep 1000".to_owned(), "no answer within 1 s"),
        ("closes", "exit 0".to_owned(), "closed"),
        ("noise", "echo SSH-2.0-hostile; echo".to_owned(), "not an answer of HTTP/1"),
        ("dripping", "while :; do printf H; /bin/busybox sleep 0.1; done".to_owned(), "no answer within 1 s"),
    ];
    for (name, serve, expected) in cases {
        let script = format!(
            "echo '#!/bin/sh\n{}' > /serve; /bin/busybox chmod 755 /serve; \
             trap 'exit 0' TERM; /bin/busybox nc -ll -p 8080 -e /serve & wait",
            serve.replace('\'', "'\\''")
        );
        let liveness = json!({"httpGet": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 1});
        apply(&d, name, &script, json!({"livenessProbe": liveness}));
        wait_for(name, || {
            let events = events(&d);
            let found = events.contains(expected) || events.contains("reset");
            found.then_some(())
        });
        assert_eq!(d.try_api("GET", "/healthz", "").map(|a| a.0), Some(200));
        ok(&d, &format!("delete {name} --grace-period=0"));
    }
    wait_for("all to be gone", || d.processes().is_empty().then_some(()));
}
