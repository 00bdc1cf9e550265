//! What clients may do to the supervisor: garbage, floods, requests that never end, answers that nobody reads.

use crate::daemon::{Daemon, can_run, pid_of, wait_for};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const SLEEP: &str = "trap 'exit 0' TERM; while true; do sleep 0.05; done";

fn connect(d: &Daemon) -> UnixStream {
    let s = UnixStream::connect(d.dir.join("sock")).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    s
}

/// Sends `bytes`; what comes back until the end.
fn raw(d: &Daemon, bytes: &[u8]) -> Vec<u8> {
    let mut s = connect(d);
    // The other side may refuse it in the middle.
    let _ = s.write_all(bytes).and_then(|()| s.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    let _ = s.read_to_end(&mut answer);
    answer
}

#[test]
fn wrong_requests_are_refused_in_words() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("refusals", &[]);
    for (method, path, body, status, code) in [
        ("GET", "/", "", 404, "NotFound"),
        ("GET", "/v1/workloads/none", "", 404, "NotFound"),
        ("GET", "/v1/replicas/none-0", "", 404, "NotFound"),
        ("PUT", "/v1/workloads", "", 405, "BadRequest"),
        ("GET", "/v1/workloads?what=1", "", 400, "BadRequest"),
        ("GET", "/v1/workloads?watch=maybe", "", 400, "BadRequest"),
        ("GET", "/v1/logs", "", 400, "BadRequest"),
        ("GET", "/v1/logs?workload=none", "", 404, "NotFound"),
        ("GET", "/v1/logs?workload=none&tail=-1", "", 400, "BadRequest"),
        ("PATCH", "/v1/workloads/none", "{\"spec\":{\"replicas\":1}}", 404, "NotFound"),
        ("PATCH", "/v1/workloads/none", "{\"spec\":{\"replicas\":1,\"x\":2}}", 400, "BadRequest"),
        ("PATCH", "/v1/workloads/none", "[[[", 400, "BadRequest"),
        ("DELETE", "/v1/workloads/none", "", 404, "NotFound"),
        ("DELETE", "/v1/workloads/none?gracePeriodSeconds=-1", "", 400, "BadRequest"),
        ("POST", "/v1/workloads/none/restart", "", 404, "NotFound"),
        ("POST", "/v1/workloads", "", 422, "Invalid"),
        ("POST", "/v1/replicas/none-0/exec", "{}", 426, "BadRequest"),
    ] {
        let (got, answer) = d.api(method, path, body);
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{method} {path}: {answer}");
        assert!(!answer["message"].as_str().unwrap().is_empty(), "{answer}");
    }
    let file =
        "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {name: X}\nspec: {bundle: rel, replica: 2}\n";
    let (status, answer) = d.api("POST", "/v1/workloads?file=web.yaml", file);
    assert_eq!((status, answer["message"].as_str()), (422, Some("web.yaml: 3 errors")), "{answer}");
    let lines: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|e| e["line"].as_u64()).collect();
    assert_eq!(lines, [Some(3), Some(4), Some(4)]);
    // All or nothing.
    let bundle = d.dir.join("bundle");
    let good = json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": "good"}, "spec": {"bundle": bundle}});
    let (status, _) = d.api("POST", "/v1/workloads", &format!("{good}\n---\n{file}"));
    assert_eq!(status, 422);
    assert_eq!(d.api("GET", "/v1/workloads", "").1["items"], json!([]));
}

#[test]
fn garbage_and_floods_disturb_nobody() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("garbage", &[]);
    d.apply("web", 2, SLEEP, json!({}));
    let before = [0, 1].map(|n| pid_of(&d.wait_running(&format!("web-{n}"))));
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    raw(&d, &noise);
    raw(&d, b"GET");
    raw(&d, b"\0\0\0\0");
    let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    assert!(raw(&d, &endless).starts_with(b"HTTP/1.1 431"), "a head without an end is refused");
    let huge = b"POST /v1/workloads HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999999\r\n\r\n".to_vec();
    let answer = raw(&d, &[huge, vec![b' '; 2 << 20]].concat());
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    let bomb = format!(
        "a: &a [x]\nb: &b [{}]\nc: &c [{}]\nd: [{}]\n",
        "*a,".repeat(99),
        "*b,".repeat(99),
        "*c,".repeat(99)
    );
    assert_eq!(d.api("POST", "/v1/workloads", &bomb).0, 422);
    // Connections that say nothing, up to the limit and beyond, give way to one that has a request.
    let idle: Vec<UnixStream> =
        (0..400).filter_map(|_| UnixStream::connect(d.dir.join("sock")).ok()).collect();
    let mut asking = connect(&d);
    let _ = asking.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut answer = Vec::new();
    let _ = asking.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    drop(idle);
    // A flood of requests: those of others are still answered in time.
    let flood = |d: &Daemon| {
        let mut s = connect(d);
        let requests = b"GET /v1/replicas HTTP/1.1\r\nhost: x\r\n\r\n".repeat(3000);
        std::thread::spawn(move || {
            let _ = s.set_write_timeout(Some(Duration::from_secs(1)));
            let _ = s.write_all(&requests);
            std::thread::sleep(Duration::from_secs(2));
        })
    };
    let floods: Vec<_> = (0..4).map(|_| flood(&d)).collect();
    let begun = Instant::now();
    assert_eq!(d.api("GET", "/v1/workloads", "").0, 200);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // The supervisor itself is not slowed down: a death is answered.
    crate::daemon::kill(before[0].unwrap(), libc::SIGKILL);
    let begun = Instant::now();
    let changed = |r: &Value| r["restarts"] == 1 && pid_of(r).is_some();
    d.wait("web-0", "a restart", changed);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(pid_of(&d.replica("web-1")), before[1]);
    for f in floods {
        f.join().unwrap();
    }
}

#[test]
fn a_watch_tells_changes_only() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("watch", &[]);
    d.apply("web", 1, SLEEP, json!({}));
    d.wait_running("web-0");
    let mut watch = connect(&d);
    watch.write_all(b"GET /v1/workloads?watch=true HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(watch).lines();
    let mut next = move || loop {
        let line = lines.next().unwrap().unwrap();
        if line.starts_with("{") {
            return serde_json::from_str::<Value>(&line).unwrap();
        }
    };
    let mut last = next();
    assert_eq!(last["type"], "ADDED");
    std::thread::sleep(Duration::from_millis(500));
    d.api("PATCH", "/v1/workloads/web", "{\"spec\":{\"replicas\":2}}");
    // Whatever is reported before is a change, too.
    while last["object"]["spec"]["replicas"] != 2 {
        let change = next();
        assert_eq!(change["type"], "MODIFIED");
        assert_ne!(change["object"], last["object"]);
        last = change;
    }
    d.wait_running("web-1");
    d.delete("web", Some(0));
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("deaf", &[]);
    let mut deaf = connect(&d);
    deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // More answers than the socket can hold.
    let _ = deaf.write_all(&b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(3000));
    std::thread::sleep(Duration::from_secs(20));
    deaf.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut got = Vec::new();
    let end = deaf.read_to_end(&mut got).map_err(|e| e.kind());
    assert!(!matches!(end, Err(std::io::ErrorKind::WouldBlock)), "still connected after {} bytes", got.len());
    assert!(got.len() > 1000 && got.len() < 2_000_000, "{} bytes", got.len());
    assert_eq!(d.api("GET", "/v1/workloads", "").0, 200);
}

#[test]
fn figures_are_in_prometheus_format() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("metrics", &[]);
    d.apply("web", 1, SLEEP, json!({"resources": {"limits": {"memory": "32Mi", "pids": 20}}}));
    d.wait_running("web-0");
    let mut asked = connect(&d);
    asked.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    asked.read_to_string(&mut text).unwrap();
    for sample in [
        "kube_deployment_spec_replicas{namespace=\"default\",deployment=\"web\"} 1\n",
        "kube_pod_container_status_ready{namespace=\"default\",pod=\"web-0\",container=\"main\"} 1\n",
        "kube_pod_container_status_restarts_total{namespace=\"default\",pod=\"web-0\",container=\"main\"} 0\n",
    ] {
        assert!(text.contains(sample), "{sample}{text}");
    }
    for (name, value) in [("container_spec_memory_limit_bytes", "33554432"), ("container_threads_max", "20")]
    {
        let line = text.lines().find(|l| l.starts_with(&format!("{name}{{")));
        let own = line.is_some_and(|l| {
            l.contains("{namespace=\"default\",pod=\"web-0\",container=\"main\",")
                && l.ends_with(&format!("}} {value}"))
        });
        assert!(own, "{name}: {line:?}");
    }
    let stats = d.api("GET", "/v1/stats?workload=web", "").1;
    assert!(stats["items"][0]["memory"].as_u64().unwrap() > 4096, "{stats}");
    assert!(stats["items"][0]["pids"].as_u64().unwrap() >= 1, "{stats}");
    d.delete("web", Some(0));
    wait_for("no figures", || (d.api("GET", "/v1/stats", "").1["items"] == json!([])).then_some(()));
}
