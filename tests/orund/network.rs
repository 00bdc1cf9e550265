//! The network of pods, on the real kernel. The supervisor runs in a network namespace of its own, beside another one that
//! stands for the rest of the world: nothing of the host's network is touched.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::skip::skip;
use orun::sys::netlink::{Request, Socket};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const BUSYBOX: &str = "/bin/busybox";

/// The rest of the world: a network namespace that a process is in.
pub struct Outside(Child);

impl Outside {
    pub fn start() -> Outside {
        let mut command = Command::new("unshare");
        let script = "ip link set lo up; echo ready; exec sleep 1000";
        let command = command.args(["-n", "sh", "-c", script]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        Outside(child)
    }

    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `script` in the network of process `pid`: what it printed, and whether it succeeded.
pub fn within(pid: i32, script: &str) -> (bool, String) {
    let target = pid.to_string();
    let out = Command::new("nsenter").args(["-n", "-t", &target, "sh", "-c", script]).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
}

/// Whether these tests can run here.
pub fn has_tools() -> bool {
    let found = |name: &str| {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|d| Path::new(d).join(name).exists())
    };
    let all = ["ip", "unshare", "nsenter"].iter().all(|name| found(name));
    if !all {
        skip("needs ip, unshare and nsenter");
    }
    all
}

/// A supervisor with a network of its own, which has one link to the outside.
pub fn start(test: &str, flags: &[&str]) -> (Daemon, Outside) {
    let outside = Outside::start();
    let mut d = Daemon::prepare(test, flags);
    let script = format!(
        "ip link set lo up && ip link add up0 type veth peer name world0 netns {} && ip addr add 203.0.113.2/24 dev up0 && \
         ip link set up0 up && ip route add default via 203.0.113.1 && exec \"$@\"",
        outside.pid()
    );
    d.wrapper = ["unshare", "-n", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    d.start_again();
    let (up, text) = within(outside.pid(), "ip addr add 203.0.113.1/24 dev world0 && ip link set world0 up");
    assert!(up, "{text}");
    (d, outside)
}

fn container(d: &Daemon, name: &str, script: &str) -> Value {
    let env = json!([{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]);
    json!({"name": name, "bundle": d.dir.join("bundle"), "command": ["sh", "-c", script], "env": env})
}

pub fn apply(d: &Daemon, name: &str, replicas: u32, mut spec: Value) {
    spec["replicas"] = replicas.into();
    spec["terminationGracePeriodSeconds"] = 0.into();
    spec["pod"] = json!({"labels": {"app": name}});
    let w =
        json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": name}, "spec": spec});
    let (status, answer) = d.api("POST", "/v1/workloads", &w.to_string());
    assert_eq!(status, 200, "{answer}\n{}", d.output());
}

/// The address of a replica that runs, and the process of its first container.
fn address(d: &Daemon, replica: &str) -> (String, i32) {
    let object = d.wait_running(replica);
    let address = object["podIP"].as_str().unwrap_or_else(|| panic!("{object:#}\n{}", d.output()));
    (address.to_owned(), object["containers"][0]["pid"].as_i64().unwrap() as i32)
}

/// The names of the interfaces in the network of process `pid`.
pub fn links(pid: i32) -> BTreeSet<String> {
    let (_, text) = within(pid, "ip -o link");
    text.lines().filter_map(|l| Some(l.split(": ").nth(1)?.split('@').next()?.to_owned())).collect()
}

/// The names of the tables of nf_tables there.
pub fn tables(pid: i32) -> Vec<String> {
    in_network(pid, || {
        let mut found = Vec::new();
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETTABLE) as u16;
        let all = Request::new(kind, libc::NLM_F_DUMP, &[0; 4]);
        let asked = Socket::open_netfilter().unwrap().ask(all, |_, content| {
            let name = orun::sys::netlink::attributes(&content[4..]).find(|(kind, _)| *kind == 1);
            found.extend(name.map(|(_, v)| String::from_utf8_lossy(v).trim_end_matches('\0').to_owned()));
        });
        asked.unwrap();
        found
    })
}

/// Runs `work` in a thread in the network of process `pid`.
pub fn in_network<T: Send + 'static>(pid: i32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let network = OwnedFd::from(fs::File::open(format!("/proc/{pid}/ns/net")).unwrap());
    let thread = std::thread::spawn(move || {
        nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// The content of `http://ADDRESS/`, as the network of process `from` sees it.
pub fn get(from: i32, address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    in_network(from, move || {
        let limit = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
        stream.set_read_timeout(Some(limit)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned())
    })
}

#[test]
fn pods_have_addresses_and_reach_each_other_and_the_outside() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("pod-network", &["--network", "bridge"]);
    let host = d.main();
    assert_eq!(links(host), ["lo", "up0"].map(str::to_owned).into(), "nothing before the first pod");
    let script = format!(
        "echo $POD_IP $HOST_IP > /index.html; cat /etc/hosts >> /index.html; exec {BUSYBOX} httpd -f -p 8080 -h /"
    );
    apply(&d, "web", 2, json!({"containers": [container(&d, "main", &script)]}));
    let (a, in_a) = address(&d, "web-0");
    let (b, _) = address(&d, "web-1");
    assert_ne!(a, b);
    assert_eq!(ok(&d, "get pods -o wide").matches("10.89.0.").count(), 2);
    let page = wait_for("the other pod", || get(in_a, &format!("{b}:8080")));
    assert!(page.starts_with(&format!("{b} 203.0.113.2")), "{page}");
    assert!(page.contains(&format!("{b}\tweb-1")), "{page}");
    assert!(get(host, &format!("{a}:8080")).is_some(), "the host reaches pods");
    assert!(links(host).contains("orun0"));
    assert_eq!(tables(host), ["orund_orun0"]);
    // No pod can advertise itself as a router to the host or to another pod.
    for (pid, ours) in [(host, "orun0"), (in_a, "eth0")] {
        let (_, text) = within(pid, "ip -6 -o addr");
        assert!(!text.contains(ours), "IPv6 addresses of {ours}: {text}");
    }
    // The outside has no route to pods, so that only the host's address is answered.
    let served = within(
        outside.pid(),
        &format!("mkdir -p {0} && echo outside > {0}/index.html", d.dir.join("www").display()),
    );
    assert!(served.0, "{served:?}");
    let target = outside.pid().to_string();
    let mut server = Command::new("nsenter");
    let server =
        server.args(["-n", "-t", &target, BUSYBOX, "httpd", "-f", "-p", "80", "-h"]).arg(d.dir.join("www"));
    let mut server = server.spawn().unwrap();
    within(host, "echo 0 > /proc/sys/net/ipv4/ip_forward");
    wait_for("the server outside", || get(outside.pid(), "203.0.113.1:80"));
    assert_eq!(get(in_a, "203.0.113.1:80"), None, "nothing is forwarded");
    within(host, "echo 1 > /proc/sys/net/ipv4/ip_forward");
    assert_eq!(get(in_a, "203.0.113.1:80").as_deref(), Some("outside"));
    let _ = server.kill();
    let _ = server.wait();
    // After a crash everybody keeps the address, whatever a pod has done with its network, and a new pod gets another one.
    let (done, text) = within(in_a, &format!("ip addr add {b}/16 dev eth0 && ip addr del {a}/16 dev eth0"));
    assert!(done, "{text}");
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the supervisor to come back", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    ok(&d, "scale web=3 --wait --timeout 60");
    let all: Vec<String> = (0..3).map(|n| address(&d, &format!("web-{n}")).0).collect();
    assert!(all[0] == a && all[1] == b && all[2] != a && all[2] != b, "{all:?}");
    d.delete("web", None);
    wait_for("all interfaces to go", || (links(host).len() == 2).then_some(()));
    assert_eq!(tables(host), Vec::<String>::new());
    d.stop();
}

#[test]
fn what_the_host_does_not_allow_is_reported_and_pods_still_run() {
    if !can_run() || !has_tools() {
        return;
    }
    // A range that the host has a route to, and no forwarding.
    let (mut d, _outside) =
        start("bad-network", &["--network-range", "203.0.113.0/24", "--network-bridge", "br7"]);
    let host = d.main();
    within(host, "echo 0 > /proc/sys/net/ipv4/ip_forward");
    let sleeper = json!({"containers": [container(&d, "main", "exec sleep 1000")]});
    apply(&d, "web", 1, sleeper.clone());
    assert!(address(&d, "web-0").0.starts_with("203.0.113."));
    let events = d.api("GET", "/v1/events", "").1.to_string();
    for text in ["overlaps the route 203.0.113.0/24", "ip_forward=1"] {
        assert!(events.contains(text), "{text}: {events}");
    }
    d.delete("web", None);
    wait_for("all interfaces to go", || (links(host).len() == 2).then_some(()));
    // An interface of that name that somebody else has made is left alone.
    within(host, "ip link add br7 type bridge");
    apply(&d, "web", 1, sleeper.clone());
    wait_for("the reason", || {
        d.api("GET", "/v1/events", "").1.to_string().contains("was not created by orund").then_some(())
    });
    d.delete("web", None);
    assert!(links(host).contains("br7"));
    d.stop();
    // A pod in the host's network needs none of it, and without a network pods have their loopback interface.
    let (mut d, _outside) = start("no-network", &["--network", "none"]);
    apply(&d, "web", 1, sleeper);
    let object = d.wait_running("web-0");
    assert_eq!(object["podIP"], Value::Null);
    assert_eq!(links(object["containers"][0]["pid"].as_i64().unwrap() as i32), ["lo".to_owned()].into());
    d.delete("web", None);
    d.stop();
}

#[test]
fn a_changed_range_waits_for_the_last_pod_and_no_range_at_all_is_no_reason_to_exit() {
    if !can_run() || !has_tools() {
        return;
    }
    let host = Outside::start();
    let mut d = Daemon::prepare("range", &["--network", "bridge"]);
    d.wrapper = ["nsenter", "-n", "-t", &host.pid().to_string()].map(str::to_owned).to_vec();
    d.start_again();
    let script = format!("echo page > /index.html; exec {BUSYBOX} httpd -f -p 8080 -h /");
    let spec = json!({"containers": [container(&d, "main", &script)]});
    apply(&d, "web", 1, spec.clone());
    let (a, _) = address(&d, "web-0");
    d.stop();
    d.set_flags(&["--network-range", "10.77.0.0/24"]);
    d.start_again();
    assert_eq!(address(&d, "web-0").0, a);
    ok(&d, "scale web=2 --wait --timeout 60");
    let (b, in_b) = address(&d, "web-1");
    assert!(b.starts_with("10.89."), "{b}");
    assert!(get(in_b, &format!("{a}:8080")).is_some(), "both are in one network");
    let events = d.api("GET", "/v1/events", "").1.to_string();
    assert!(events.contains("is used once they are gone"), "{events}");
    d.delete("web", None);
    wait_for("all interfaces to go", || (links(host.pid()).len() == 1).then_some(()));
    apply(&d, "web", 1, spec.clone());
    assert!(address(&d, "web-0").0.starts_with("10.77.0."));
    d.delete("web", None);
    d.stop();
    let routes =
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(|r| format!("ip route add {r} dev far"));
    let (done, text) = within(
        host.pid(),
        &format!(
            "ip link add far type veth peer name near && ip link set near up && ip link set far up && {}",
            routes.join(" && ")
        ),
    );
    assert!(done, "{text}");
    d.set_flags(&["--network", "bridge"]);
    d.start_again();
    apply(&d, "web", 1, spec);
    assert_eq!(d.wait_running("web-0")["podIP"], Value::Null);
    let events = d.api("GET", "/v1/events", "").1.to_string();
    assert!(events.contains("routes of the host cover all private addresses"), "{events}");
    d.delete("web", None);
    d.stop();
}

#[test]
fn pods_reach_as_much_as_their_annotation_says() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, _outside) = start("annotated", &["--network", "bridge"]);
    for network in ["none", "internal", "else"] {
        let pod = json!({"annotations": {"orun.dev/network": network}});
        let container = json!({"name": "main", "bundle": d.dir.join("bundle"), "command": ["sleep", "1000"]});
        let spec = json!({"terminationGracePeriodSeconds": 0, "pod": pod, "containers": [container]});
        let w = json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": network}, "spec": spec});
        let (status, answer) = d.api("POST", "/v1/workloads", &w.to_string());
        if network == "else" {
            assert!(status == 422 && answer.to_string().contains("write none or internal"), "{answer}");
            continue;
        }
        assert_eq!(status, 200, "{answer}");
        let replica = d.wait_running(&format!("{network}-0"));
        let pid = replica["containers"][0]["pid"].as_i64().unwrap() as i32;
        let (_, routes) = within(pid, "ip route");
        if network == "none" {
            assert!(!links(pid).contains("eth0") && replica["podIP"].is_null(), "{replica:#}");
        } else {
            assert!(routes.contains("dev eth0") && !routes.contains("default"), "{routes}");
        }
        d.delete(network, None);
    }
    d.stop();
}
