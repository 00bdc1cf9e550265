//! What the network of pods and published ports cost: `scripts/bench network`. The supervisor, its pods and the clients run in
//! network namespaces of their own; programs in pods are threads of this process.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::network::{apply, get, has_tools, in_network, start, within};
use crate::ports::{Clients, apply_with_grace, draining, proxy, server};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const SHORT: Duration = Duration::from_secs(3);
const BULK: usize = 256 << 20;
const PORT: &str = "203.0.113.2:80";

/// CPU time of a process and its threads, from the scheduler: proc(5).
fn cpu_of(pid: i32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|t| fs::read_to_string(t.path().join("schedstat")).ok());
    Duration::from_nanos(times.filter_map(|t| t.split(' ').next()?.parse::<u64>().ok()).sum())
}

/// CPU time of this process, with threads that have exited, in steps of 10 ms: proc(5).
fn own_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let words: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = words[11..13].iter().map(|w| w.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// A program in the pod of process `pid` that answers each 64 bytes with them; a first byte `B` asks for bulk.
fn echo(pid: i32) {
    let listener = in_network(pid, || TcpListener::bind("0.0.0.0:8080").unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let (mut buffer, chunk) = ([0; 64], vec![0; 1 << 16]);
                while stream.read_exact(&mut buffer).is_ok() {
                    if buffer[0] == b'B' {
                        let _ = (0..BULK / chunk.len()).try_for_each(|_| stream.write_all(&chunk));
                        break;
                    }
                    if stream.write_all(&buffer).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn ask(stream: &mut TcpStream) {
    let mut buffer = [b'x'; 64];
    stream.write_all(&buffer).unwrap();
    stream.read_exact(&mut buffer).unwrap();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Requests a second, and CPU time for each, of client, server and proxy; and of the proxy alone.
fn requests(from: i32, address: SocketAddr, keep: bool, proxy: Option<i32>) -> String {
    let done = Arc::new(AtomicU64::new(0));
    let (own, of_proxy, begin) = (own_cpu(), proxy.map(cpu_of), Instant::now());
    let client = |_| {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            in_network(from, move || {
                let mut kept = keep.then(|| connect(address));
                while begin.elapsed() < SHORT {
                    match &mut kept {
                        Some(stream) => ask(stream),
                        None => ask(&mut connect(address)),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        })
    };
    let threads: Vec<_> = (0..CLIENTS).map(client).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let count = done.load(Ordering::Relaxed) as f64;
    let proxied = proxy.zip(of_proxy).map_or(Duration::ZERO, |(pid, before)| cpu_of(pid) - before);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
    let all = each(own_cpu() - own + proxied);
    format!("{:.0} | {all:.0} | {:.0}", count / begin.elapsed().as_secs_f64(), each(proxied))
}

/// Seconds, and CPU seconds of all.
fn bulk(from: i32, address: SocketAddr, proxy: Option<i32>) -> String {
    let (own, of_proxy, begin) = (own_cpu(), proxy.map(cpu_of), Instant::now());
    in_network(from, move || {
        let mut stream = connect(address);
        stream.write_all(&[b'B'; 64]).unwrap();
        let (mut buffer, mut left) = (vec![0; 1 << 16], BULK);
        while left > 0 {
            left -= stream.read(&mut buffer).unwrap();
        }
    });
    let proxied = proxy.zip(of_proxy).map_or(Duration::ZERO, |(pid, before)| cpu_of(pid) - before);
    let all = own_cpu() - own + proxied;
    format!("{:.2} | {:.2}", begin.elapsed().as_secs_f64(), all.as_secs_f64())
}

#[test]
#[ignore = "a measurement: scripts/bench network"]
fn cost_of_a_published_port() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("cost", &["--network", "bridge"]);
    let ports = json!([{"containerPort": 8080, "hostPort": 80}]);
    let container =
        json!({"name": "main", "bundle": d.dir.join("bundle"), "command": ["sleep", "1000"], "ports": ports});
    apply(&d, "echo", 1, json!({"containers": [container]}));
    let pod = d.wait_running("echo-0");
    let address = format!("{}:8080", pod["podIP"].as_str().unwrap());
    echo(pod["containers"][0]["pid"].as_i64().unwrap() as i32);
    let proxy = wait_for("the proxy", || proxy(&d));
    let range = address.rsplit_once(':').unwrap().0;
    within(outside.pid(), &format!("ip route add {range} via 203.0.113.2"));
    let rule = format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward; \
         iptables -w -t nat -A PREROUTING -d 203.0.113.2 -p tcp --dport 81 -j DNAT --to-destination {address}"
    );
    let (dnat, text) = within(d.main(), &rule);
    if !dnat {
        println!("no DNAT here: {text}");
    }
    println!(
        "| way | requests/s, a connection each | CPU us of all | of the proxy | requests/s, kept | CPU us of all | of the proxy | 256 MiB, s | CPU s |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let ways = [
        ("direct", address.as_str(), None, true),
        ("DNAT", "203.0.113.2:81", None, dnat),
        ("proxy", PORT, Some(proxy), true),
    ];
    for (name, to, proxy, _) in ways.into_iter().filter(|way| way.3) {
        let to: SocketAddr = to.parse().unwrap();
        let [new, kept] = [false, true].map(|keep| requests(outside.pid(), to, keep, proxy));
        println!("| {name} | {new} | {kept} | {} |", bulk(outside.pid(), to, proxy));
    }
    d.delete("echo", None);
    d.stop();
}

#[test]
#[ignore = "a measurement: scripts/bench network"]
fn requests_lost_in_events() {
    if !can_run() || !has_tools() {
        return;
    }
    let rollouts = std::env::var("ORUN_TEST_ROLLOUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let (mut d, outside) = start("events", &["--network", "bridge"]);
    let page = |d: &Daemon, n: u32, recreate: bool| {
        let ports = json!([{"containerPort": 8080, "hostPort": 80}]);
        let mut spec = draining(server(d, &format!("page-{n}"), ports));
        spec["minReadySeconds"] = 0.into();
        spec["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
        if recreate {
            spec["strategy"] = json!({"type": "Recreate"});
        }
        spec
    };
    apply_with_grace(&d, "web", 3, page(&d, 0, false));
    wait_for("the first page", || get(outside.pid(), PORT));
    println!("| event | requests | failed connections | failed requests | time |\n|---|---:|---:|---:|---:|");
    let row = |name: &str, event: &mut dyn FnMut()| {
        let (clients, begin) = (Clients::start(CLIENTS, outside.pid(), PORT), Instant::now());
        clients.wait(50);
        event();
        clients.wait(50);
        let (asked, lost) = clients.end();
        let refused = lost.iter().filter(|e| e.starts_with("connecting")).count();
        let time = begin.elapsed().as_secs_f64();
        println!("| {name} | {asked} | {refused} | {} | {time:.1} s |", lost.len() - refused);
    };
    row(&format!("{rollouts} rolling updates of 3 replicas"), &mut || {
        for n in 1..=rollouts {
            apply_with_grace(&d, "web", 3, page(&d, n, false));
            ok(&d, "rollout status web --timeout 120");
        }
    });
    row("10 replicas killed", &mut || {
        for n in 0..10 {
            let replica = d.wait_running(&format!("web-{}", n % 3));
            kill(replica["containers"][0]["pid"].as_i64().unwrap() as i32, libc::SIGKILL);
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    row("4 ends of orund", &mut || {
        for _ in 0..4 {
            kill(wait_for("the supervisor", || d.supervisor()), libc::SIGKILL);
            wait_for("an answer", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
        }
    });
    row("4 ends of the proxy", &mut || {
        for _ in 0..4 {
            let old = wait_for("the proxy", || proxy(&d));
            kill(old, libc::SIGKILL);
            wait_for("another", || proxy(&d).filter(|pid| *pid != old));
        }
    });
    row("5 Recreate rollouts", &mut || {
        for n in 1000..1005 {
            apply_with_grace(&d, "web", 3, page(&d, n, true));
            ok(&d, "rollout status web --timeout 120");
        }
    });
    d.delete("web", None);
    d.stop();
}

#[test]
#[ignore = "a measurement: scripts/bench network"]
fn cost_of_many_pods_and_services() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("many", &["--network", "bridge"]);
    let container = |name: &str, ports: serde_json::Value| json!({"name": name, "bundle": d.dir.join("bundle"), "command": ["sleep", "1000"], "ports": ports});
    let one = |ports| json!({"containers": [container("a", ports), container("b", json!([]))]});
    // The bridge, the images of programs: what only the first one needs.
    apply(&d, "first", 1, one(json!([])));
    ok(&d, "wait first --for replicas=1 --timeout 120");
    for _ in 0..3 {
        let begin = Instant::now();
        apply(&d, "many", 100, one(json!([])));
        ok(&d, "wait many --for replicas=100 --timeout 120");
        println!("100 pods of two containers: {:.2} s", begin.elapsed().as_secs_f64());
        d.delete("many", Some(0));
    }
    let text: String = (0..100)
        .map(|n| format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}}}\nspec: {{selector: {{app: echo}}, ports: [{{port: 80, targetPort: 8080}}]}}\n"))
        .collect();
    fs::write(d.dir.join("services.yaml"), text).unwrap();
    ok(&d, "apply -f services.yaml");
    apply(&d, "echo", 1, one(json!([{"containerPort": 8080, "hostPort": 80}])));
    echo(d.wait_running("echo-0")["containers"][0]["pid"].as_i64().unwrap() as i32);
    let to: SocketAddr = PORT.parse().unwrap();
    let idle = in_network(outside.pid(), move || {
        (0..1000)
            .map(|_| {
                let mut stream = connect(to);
                ask(&mut stream);
                stream
            })
            .collect::<Vec<_>>()
    });
    let pid = wait_for("the proxy", || proxy(&d));
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let kilobytes = |name: &str| {
        let line = rollup.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().unwrap_or_default().to_owned()
    };
    println!(
        "the proxy with 100 services and {} idle connections: {} kB, of it its own {} kB",
        idle.len(),
        kilobytes("Rss:"),
        kilobytes("Private_Dirty:")
    );
    drop(idle);
    for name in ["echo", "first"] {
        d.delete(name, Some(0));
    }
    d.stop();
}
