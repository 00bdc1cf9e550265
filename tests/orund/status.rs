//! What a user sees of things that are not well: `rollout status`, `status`, and the page of the dashboard.

use crate::client::{command, fails, ok, run, write};
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::skip::skip;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Creates a pod whose container runs `script`; `spec` and `container` have more of either.
fn apply(d: &Daemon, name: &str, script: &str, container: Value, spec: Value) {
    let mut main = json!({"name": "main", "bundle": d.dir.join("bundle"), "command": ["sh", "-c", script]});
    for (key, value) in container.as_object().unwrap() {
        main[key] = value.clone();
    }
    if container.get("image").is_some() {
        main.as_object_mut().unwrap().remove("bundle");
    }
    let mut all = json!({
        "replicas": 1, "terminationGracePeriodSeconds": 0, "pod": {"labels": {"app": name}}, "containers": [main],
        "backoff": {"initial": 0.1, "factor": 1, "max": 0.1},
    });
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    let w = json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": name}, "spec": all});
    let (status, answer) = d.api("POST", "/v1/workloads", &w.to_string());
    assert_eq!(status, 200, "{answer}\n{}", d.output());
}

const SLEEP: &str = "exec sleep 1000";

/// One failure of each kind, and the words that name its cause.
fn failures(d: &Daemon) -> Vec<(&'static str, &'static [&'static str])> {
    let quick = || json!({"progressDeadlineSeconds": 2, "minReadySeconds": 0});
    let exec =
        |program: &str| json!({"exec": {"command": [program]}, "periodSeconds": 1, "failureThreshold": 1});
    apply(d, "crash", "echo no database; exit 3", json!({}), json!({}));
    apply(d, "program", "", json!({"command": ["/nowhere"]}), json!({}));
    apply(d, "never", "", json!({"image": "127.0.0.1:9/none:1", "imagePullPolicy": "Never"}), json!({}));
    apply(d, "pull", "", json!({"image": "127.0.0.1:9/none:1"}), quick());
    let source = json!([{"configMapRef": {"name": "settings"}}]);
    apply(d, "config", SLEEP, json!({"envFrom": source}), quick());
    apply(d, "readiness", SLEEP, json!({"readinessProbe": exec("/unready")}), quick());
    // A program that is missing would be no verdict.
    let dead =
        json!({"exec": {"command": ["sh", "-c", "exit 1"]}, "periodSeconds": 1, "failureThreshold": 1});
    apply(d, "liveness", SLEEP, json!({"livenessProbe": dead}), json!({"minReadySeconds": 3}));
    let limits = json!({"limits": {"memory": "16Mi"}});
    apply(
        d,
        "memory",
        "exec dd if=/dev/zero of=/dev/null bs=64M count=9",
        json!({"resources": limits}),
        json!({}),
    );
    apply(d, "hook", SLEEP, json!({"lifecycle": {"postStart": {"exec": {"command": ["/hook"]}}}}), json!({}));
    let init = json!([{"name": "first", "bundle": d.dir.join("bundle"), "command": ["sh", "-c", "echo no schema; exit 4"]}]);
    apply(d, "init", SLEEP, json!({}), json!({"initContainers": init}));
    let needs = json!([{"workload": "readiness", "condition": "Ready"}]);
    apply(
        d,
        "waits",
        SLEEP,
        json!({}),
        json!({"dependsOn": needs, "progressDeadlineSeconds": 2, "minReadySeconds": 0}),
    );
    vec![
        ("crash", &["CrashLoopBackOff", "exit code 3", "last line \"no database\""]),
        ("program", &["StartError", "/nowhere"]),
        ("never", &["ErrImageNeverPull", "127.0.0.1:9/none:1"]),
        ("pull", &["ImagePull", "127.0.0.1:9"]),
        ("config", &["CreateContainerConfigError", "settings"]),
        ("readiness", &["container main is not ready", "/unready"]),
        ("liveness", &["Unhealthy"]),
        ("memory", &["OOMKilled"]),
        ("hook", &["PostStartHookError"]),
        ("init", &["exit code 4", "last line \"no schema\""]),
        ("waits", &["waiting for workload \"readiness\""]),
    ]
}

#[test]
fn rollout_status_and_status_name_the_cause_of_each_failure() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("causes", &[]);
    write(
        &d,
        "well.yaml",
        "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {name: well}\nspec: {bundle: ./bundle, args: [sleep, \"1000\"], sharedRoot: true}\n",
    );
    assert!(run(&d, "status").status.success(), "{:?}", run(&d, "status"));
    let mut said = Vec::new();
    for (name, words) in failures(&d) {
        let done = run(&d, &format!("rollout status {name} --timeout 40s"));
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        for word in words {
            assert!(text.contains(word), "{name}: {word}: {text}");
        }
        let code = done.status.code();
        assert!(code == Some(1) || code == Some(3), "{name}: {code:?}");
        said.push((name, words));
    }
    ok(&d, "apply -f well.yaml --wait");
    let out = run(&d, "status");
    let page = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{page}");
    assert!(page.lines().next().is_some_and(|l| l.ends_with(": 11 of 12 workloads unhealthy")), "{page}");
    for (name, words) in said {
        let block = page.split("\n\n").find(|b| b.starts_with(&format!("workload/{name}\n")));
        let block = block.unwrap_or_else(|| panic!("{name}: {page}"));
        // The page has the words of the kubelet for probes, and quotes nothing.
        let first = words[0].replace("container main is not ready", "NotReady");
        assert!(block.to_lowercase().contains(&first.to_lowercase()), "{first}: {block}");
    }
    assert!(
        page.contains("last line: no database") && page.contains("`orund logs crash-0 -c main"),
        "{page}"
    );
    let json: Value = serde_json::from_slice(&run(&d, "status -o json").stdout).unwrap();
    assert!(
        json["problems"].as_array().unwrap().len() >= 11 && json["host"]["memory"].as_u64() > Some(0),
        "{json}"
    );
}

/// The page as a process, with its address and token.
struct Page {
    child: Child,
    address: String,
    token: String,
}

impl Page {
    fn open(d: &Daemon) -> Page {
        Page::with(d, "")
    }

    fn with(d: &Daemon, flags: &str) -> Page {
        let mut child =
            command(d, &format!("dashboard --port 0 {flags}")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let (address, token) = line.trim().strip_prefix("http://").unwrap().split_once("/#").unwrap();
        Page { address: address.to_owned(), token: token.to_owned(), child }
    }

    /// Head and body of the answer to a request with these headers.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (String, String) {
        let mut s = TcpStream::connect(&self.address).unwrap();
        write!(s, "{method} {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").unwrap();
        let mut bytes = Vec::new();
        s.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (String, String) {
        let headers = format!("host: {}\r\nauthorization: Bearer {}\r\n", self.address, self.token);
        self.ask("GET", path, &headers)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        kill(self.child.id() as i32, libc::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
fn the_dashboard_shows_itself_to_its_user_only() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("dashboard", &[]);
    apply(
        &d,
        "web",
        "echo hello; exec sleep 1000",
        json!({"env": [{"name": "PASSWORD", "value": "hidden"}]}),
        json!({}),
    );
    write(&d, "secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: pw}\nstringData: {a: hidden}\n");
    ok(&d, "apply -f secret.yaml");
    d.wait_running("web-0");
    let page = Page::open(&d);
    let own = format!("host: {}\r\n", page.address);
    let (head, body) = page.ask("GET", "/", &own);
    assert!(head.starts_with("http/1.1 200") && body.starts_with("<!DOCTYPE html>"), "{head}");
    for part in [
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "x-frame-options: deny",
        "nosniff",
        "no-store",
    ] {
        assert!(head.contains(part), "{part}: {head}");
    }
    let (head, body) = page.get("/data");
    let data: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {head} {body}"));
    assert_eq!(
        (&data["workloads"][0]["name"], &data["replicas"][0]["name"]),
        (&json!("web"), &json!("web-0"))
    );
    assert!(!body.contains("hidden") && !body.contains("PASSWORD"), "{body}");
    let lines =
        wait_for("the log", || Some(page.get("/logs?workload=web&tail=5").1).filter(|t| t.contains("hello")));
    assert!(lines.contains("web-0 main "), "{lines}");
    assert!(page.get("/events?workload=web").1.contains("items"));
    assert!(page.get("/revisions?workload=web").1.contains("revision"));
    let (head, metrics) = page.get("/metrics");
    assert!(head.contains("version=0.0.4") && metrics.contains("kube_pod_info{"), "{head}");
    let wrong = "0".repeat(page.token.len());
    for (method, path, headers, status) in [
        ("GET", "/data", own.clone(), 401),
        ("GET", "/data", format!("{own}authorization: Bearer {wrong}\r\n"), 401),
        ("GET", "/data", format!("{own}authorization: Bearer {}0\r\n", page.token), 401),
        ("GET", "/data", format!("host: evil.example\r\nauthorization: Bearer {}\r\n", page.token), 421),
        ("GET", "/", "host: evil.example:80\r\n".to_owned(), 421),
        ("POST", "/data", format!("{own}authorization: Bearer {}\r\n", page.token), 405),
        ("DELETE", "/v1/workloads/web", format!("{own}authorization: Bearer {}\r\n", page.token), 405),
    ] {
        let (head, body) = page.ask(method, path, &headers);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{method} {path} {headers}: {head}");
        assert!(!body.contains("web-0"), "{body}");
    }
    for path in ["/v1/objects/secret/pw", "/v1/workloads", "/nothing"] {
        assert!(page.get(path).0.starts_with("http/1.1 404"), "{path}");
    }
    for path in
        ["/logs?workload=web&follow=true", "/logs?workload=web&tail=9999", "/revisions?workload=../objects"]
    {
        assert!(page.get(path).0.starts_with("http/1.1 400"), "{path}");
    }
    assert!(page.get("/logs?workload=none").0.starts_with("http/1.1 502"));
    assert_eq!(d.workload("web")["status"]["generation"], 1);
    // A token that is kept.
    let first = Page::with(&d, "--token-file token").token.clone();
    assert_eq!(Page::with(&d, "--token-file token").token, first);
    assert_ne!(first, page.token);
    write(&d, "open", &first);
    assert!(fails(&d, "dashboard --token-file open").1.contains("accessible to other users"));
}

/// The page in a browser, with a hundred workloads, some of which write what would be elements if anybody took it for such.
#[test]
fn the_dashboard_shows_a_hundred_workloads_in_a_browser() {
    if !can_run() {
        return;
    }
    if !Path::new("/usr/bin/chromium").exists() {
        skip("needs /usr/bin/chromium");
        return;
    }
    let d = Daemon::start("browser", &[]);
    let hostile = "<img src=x onerror=document.title=1>";
    for n in 0..98 {
        apply(&d, &format!("web-{n}"), SLEEP, json!({}), json!({"replicas": u32::from(n < 40)}));
    }
    apply(&d, "crash", &format!("echo '{hostile}'; exit 3"), json!({}), json!({}));
    apply(
        &d,
        "unready",
        SLEEP,
        json!({"readinessProbe": {"exec": {"command": ["sh", "-c", format!("echo '{hostile}'; exit 1")]}, "periodSeconds": 1}}),
        json!({}),
    );
    wait_for("the problems", || {
        let problems = d.api("GET", "/v1/status", "").1["problems"].to_string();
        (problems.contains("NotReady") && problems.contains("CrashLoopBackOff")).then_some(())
    });
    let page = Page::open(&d);
    let out = Command::new("timeout")
        .args([
            "60",
            "/usr/bin/chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .arg(format!("--user-data-dir={}", d.dir.join("browser").display()))
        .args(["--virtual-time-budget=6000", "--dump-dom"])
        .arg(format!("http://{}/#{}", page.address, page.token))
        .env("HOME", &d.dir)
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&out.stdout);
    let seen =
        |part: &str| assert!(dom.contains(part), "{part}: {dom}\n{}", String::from_utf8_lossy(&out.stderr));
    seen("Workloads (100)");
    seen("data-name=\"web-97\"");
    seen("CrashLoopBackOff");
    seen("&lt;img src=x onerror");
    assert!(!dom.contains("<img"), "{dom}");
    assert!(!dom.contains(&page.token), "the token stays out of the page");
}
