//! Published ports, on the real kernel, in a network namespace of the test's own: nothing is lost while replicas are
//! replaced, scaled, restarted, or while the supervisor is killed; after the end of the proxy connections wait for a new one.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::network::{BUSYBOX, apply, get, has_tools, in_network, start, within};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A pod whose server answers with the text `page`.
pub fn server(d: &Daemon, page: &str, ports: Value) -> Value {
    let script = format!("echo {page} > /index.html; exec {BUSYBOX} httpd -f -p 8080 -h /");
    let container = json!({"name": "main", "bundle": d.dir.join("bundle"), "command": ["sh", "-c", script], "ports": ports});
    json!({"containers": [container], "minReadySeconds": 0.2})
}

fn port_80() -> Value {
    json!([{"containerPort": 8080, "hostPort": 80}])
}

/// The process of the proxy.
pub fn proxy(d: &Daemon) -> Option<i32> {
    let mut found = None;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let same = fs::read_link(format!("/proc/{pid}/ns/net")).ok()
            == fs::read_link(format!("/proc/{}/ns/net", d.main())).ok();
        if same && read("comm").trim() == "orund-proxy" && !read("stat").contains(") Z ") {
            found = Some(pid);
        }
    }
    found
}

/// Whether nobody listens there: a connection that is held is taken.
fn is_closed(from: i32, address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    let made = in_network(from, move || TcpStream::connect_timeout(&address, Duration::from_secs(3)));
    made.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Clients that ask for one page after another, each with a connection of its own.
pub struct Clients {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Clients {
    pub fn start(count: usize, from: i32, address: &str) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let address: SocketAddr = address.parse().unwrap();
        let client = |_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                in_network(from, move || {
                    let mut lost = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        if let Err(e) = ask(address) {
                            lost.push(e.to_string());
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    lost
                })
            })
        };
        let threads = (0..count).map(client).collect();
        Clients { stop, asked, threads }
    }

    pub fn wait(&self, more: u64) {
        let goal = self.asked.load(Ordering::Relaxed) + more;
        wait_for("requests", || (self.asked.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    /// How many requests were made, and what became of those that failed.
    pub fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self.threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        (self.asked.load(Ordering::Relaxed), lost)
    }
}

fn ask(address: SocketAddr) -> std::io::Result<()> {
    let connected = TcpStream::connect_timeout(&address, Duration::from_secs(10));
    let mut stream = connected.map_err(|e| std::io::Error::other(format!("connecting: {e}")))?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.contains("page") {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("the answer is {answer:?}"))),
    }
}

/// busybox httpd ends at once when it is asked to, with requests in its hands: the pods wait a moment before that.
pub fn draining(mut spec: Value) -> Value {
    spec["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": [BUSYBOX, "sleep", "0.3"]}}});
    spec
}

pub fn apply_with_grace(d: &Daemon, name: &str, replicas: u32, mut spec: Value) {
    spec["replicas"] = replicas.into();
    spec["terminationGracePeriodSeconds"] = 5.into();
    spec["pod"] = json!({"labels": {"app": name}});
    let w =
        json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": name}, "spec": spec});
    let (status, answer) = d.api("POST", "/v1/workloads", &w.to_string());
    assert_eq!(status, 200, "{answer}\n{}", d.output());
}

#[test]
fn no_connection_is_lost_while_replicas_are_replaced() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("ports", &["--network", "bridge"]);
    apply_with_grace(&d, "web", 3, draining(server(&d, "page-0", port_80())));
    for n in 0..3 {
        d.wait_running(&format!("web-{n}"));
    }
    wait_for("the first page", || get(outside.pid(), "203.0.113.2:80"));
    assert!(get(d.main(), "127.0.0.1:80").is_some(), "the host itself reaches it by its loopback address");
    let clients = Clients::start(8, outside.pid(), "203.0.113.2:80");
    clients.wait(50);
    for n in 1..=4 {
        apply_with_grace(&d, "web", 3, draining(server(&d, &format!("page-{n}"), port_80())));
        ok(&d, "rollout status web --timeout 120");
    }
    ok(&d, "scale web=1 --wait --timeout 60");
    ok(&d, "scale web=3 --wait --timeout 60");
    // The supervisor, then the proxy: connections that it has are lost, new ones wait.
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    clients.wait(50);
    wait_for("the supervisor to come back", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    apply_with_grace(&d, "web", 3, draining(server(&d, "page-9", port_80())));
    ok(&d, "rollout status web --timeout 120");
    clients.wait(50);
    let (asked, lost) = clients.end();
    assert!(
        lost.is_empty(),
        "{} of {asked} lost: {:?}\n{}",
        lost.len(),
        &lost[..lost.len().min(5)],
        d.output()
    );
    let old = proxy(&d).unwrap();
    let status = fs::read_to_string(format!("/proc/{old}/status")).unwrap();
    let field = |name: &str| {
        let line =
            status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}"));
        line.trim().to_owned()
    };
    for name in ["Uid:", "Gid:"] {
        assert_eq!(field(name), "65534\t65534\t65534\t65534", "{name}");
    }
    for name in ["CapPrm:", "CapInh:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(name), "0000000000000000", "{name}");
    }
    assert_eq!((field("Groups:").as_str(), field("NoNewPrivs:").as_str()), ("", "1"));
    kill(old, libc::SIGKILL);
    wait_for("a new proxy", || proxy(&d).filter(|pid| *pid != old));
    assert!(get(outside.pid(), "203.0.113.2:80").is_some(), "the new proxy answers");
    d.delete("web", None);
    wait_for("the proxy to end", || proxy(&d).is_none().then_some(()));
    wait_for("the port to be closed", || is_closed(outside.pid(), "203.0.113.2:80").then_some(()));
    d.stop();
}

#[test]
fn a_proxy_that_hangs_is_replaced() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("hang", &["--network", "bridge"]);
    apply(&d, "web", 1, server(&d, "page", port_80()));
    wait_for("the page", || get(outside.pid(), "203.0.113.2:80"));
    let mut old = proxy(&d).unwrap();
    for adopted in [false, true] {
        if adopted {
            kill(d.supervisor().unwrap(), libc::SIGKILL);
            wait_for("the supervisor", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
            assert_eq!(proxy(&d), Some(old), "it outlives the supervisor");
        }
        kill(old, libc::SIGSTOP);
        // The supervisor answers all the while.
        for replicas in [2, 3, 1] {
            let begin = std::time::Instant::now();
            ok(&d, &format!("scale web={replicas}"));
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        }
        let new = wait_for("another proxy", || proxy(&d).filter(|pid| *pid != old));
        assert!(get(outside.pid(), "203.0.113.2:80").is_some(), "{}", d.output());
        old = new;
    }
    // Without any change it is found out as well.
    std::thread::sleep(Duration::from_secs(1));
    kill(old, libc::SIGSTOP);
    wait_for("another proxy", || proxy(&d).filter(|pid| *pid != old));
    assert!(get(outside.pid(), "203.0.113.2:80").is_some(), "{}", d.output());
    d.delete("web", None);
    d.stop();
}

#[test]
fn connections_wait_for_a_replica_and_ports_that_are_taken_are_reported() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("hold", &["--network", "bridge"]);
    let mut late = server(&d, "page", port_80());
    let script = format!("sleep 1; echo page > /index.html; exec {BUSYBOX} httpd -f -p 8080 -h /");
    late["containers"][0]["command"] = json!(["sh", "-c", script]);
    apply(&d, "web", 1, late);
    wait_for("the port", || proxy(&d));
    // Nobody listens yet in the pod: the connection is held until somebody does.
    assert!(get(outside.pid(), "203.0.113.2:80").is_some(), "{}", d.output());
    wait_for("the event", || {
        d.api("GET", "/v1/events", "").1.to_string().contains("ConnectionsHeld").then_some(())
    });
    // A second workload with the same port, and one whose port another process has.
    apply(&d, "other", 1, server(&d, "other", port_80()));
    let (up, text) = within(d.main(), &format!("{BUSYBOX} nc -l -p 81 >/dev/null 2>&1 & echo $!"));
    assert!(up, "{text}");
    apply(&d, "taken", 1, server(&d, "taken", json!([{"containerPort": 8080, "hostPort": 81}])));
    let said = wait_for("the reason", || {
        let events = d.api("GET", "/v1/events", "").1.to_string();
        events.contains("has it open").then_some(events)
    });
    assert!(said.contains("tcp *:81") && said.contains("process"), "{said}");
    let conditions =
        |name: &str| d.api("GET", &format!("/v1/workloads/{name}"), "").1["status"]["conditions"].to_string();
    assert!(conditions("other").contains("workload \\\"web\\\" publishes it"), "{}", conditions("other"));
    assert!(conditions("taken").contains("has it open"), "{}", conditions("taken"));
    kill(text.trim().parse().unwrap(), libc::SIGKILL);
    wait_for("the port to be free", || get(outside.pid(), "203.0.113.2:81"));
    assert_eq!(conditions("taken"), "null");
    d.delete("web", None);
    wait_for("the other workload to get the port", || {
        get(outside.pid(), "203.0.113.2:80").filter(|page| page == "other")
    });
    // A Service on a port of the host, with the pods' port by its name.
    let spec = "type: LoadBalancer, selector: {app: named}, ports: [{port: 90, targetPort: http}]";
    let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: front}}\nspec: {{{spec}}}\n");
    fs::write(d.dir.join("service.yaml"), text).unwrap();
    ok(&d, "apply -f service.yaml");
    assert_eq!(get(outside.pid(), "203.0.113.2:90"), None, "it selects nothing");
    apply(&d, "named", 2, server(&d, "named", json!([{"containerPort": 8080, "name": "http"}])));
    wait_for("the service", || get(outside.pid(), "203.0.113.2:90").filter(|page| page == "named"));
    d.stop();
}

#[test]
fn datagrams_reach_a_replica_and_its_answers_the_client() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("datagrams", &["--network", "bridge"]);
    let ports = json!([{"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]);
    let container =
        json!({"name": "main", "bundle": d.dir.join("bundle"), "command": ["sleep", "1000"], "ports": ports});
    apply(&d, "echo", 1, json!({"containers": [container]}));
    let pod = d.wait_running("echo-0")["containers"][0]["pid"].as_i64().unwrap() as i32;
    // What a program of the pod would do.
    let echo = in_network(pod, || UdpSocket::bind("0.0.0.0:53").unwrap());
    echo.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let server = std::thread::spawn(move || {
        let mut buf = [0; 16];
        while let Ok((n, client)) = echo.recv_from(&mut buf) {
            echo.send_to(&buf[..n], client).unwrap();
        }
    });
    let answered = in_network(outside.pid(), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("203.0.113.2:5353").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut buf = [0; 16];
        (0..100).any(|_| {
            let _ = socket.send(b"hello");
            matches!(socket.recv(&mut buf), Ok(5))
        })
    });
    assert!(answered, "{}", d.output());
    d.delete("echo", None);
    d.stop();
    server.join().unwrap();
}
