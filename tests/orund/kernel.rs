//! Ports that the kernel leads to pods (`orun.dev/publish: kernel`), on the real kernel.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::network::{get, has_tools, in_network, start, tables, within};
use crate::ports::{Clients, draining, proxy, server};
use serde_json::{Value, json};
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const PORT: &str = "203.0.113.2:80";

fn apply(d: &Daemon, page: &str, replicas: u32) {
    let ports = json!([{"containerPort": 8080, "hostPort": 80}, {"containerPort": 9000, "hostPort": 90}]);
    let mut spec = draining(server(d, page, ports));
    // The shell writes the page before it becomes the server.
    spec["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    spec["replicas"] = replicas.into();
    spec["terminationGracePeriodSeconds"] = 10.into();
    spec["pod"] = json!({"labels": {"app": "web"}, "annotations": {"orun.dev/publish": "kernel"}});
    let w =
        json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": "web"}, "spec": spec});
    let (status, answer) = d.api("POST", "/v1/workloads", &w.to_string());
    assert_eq!(status, 200, "{answer}");
    ok(d, "rollout status web --timeout 120");
}

/// Whom a program in the pod of process `pid` sees when `from` connects.
fn seen(pid: i32, from: i32, address: &str) -> Option<IpAddr> {
    let listener = in_network(pid, || TcpListener::bind("0.0.0.0:9000").unwrap());
    let address: SocketAddr = address.parse().unwrap();
    let client = std::thread::spawn(move || {
        in_network(from, move || {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok()?;
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            // Until the other end is closed.
            stream.read_to_end(&mut Vec::new()).ok()
        })
    });
    listener.set_nonblocking(true).unwrap();
    let found = wait_for("a connection", || match listener.accept() {
        Ok((_, client)) => Some(Some(client.ip())),
        Err(_) if client.is_finished() => Some(None),
        Err(_) => None,
    });
    let _ = client.join();
    found
}

#[test]
fn the_kernel_leads_connections_to_pods_that_are_ready() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("kernel", &["--network", "bridge"]);
    let host = d.main();
    within(host, "echo 1 > /proc/sys/net/ipv4/ip_forward");
    apply(&d, "page-0", 1);
    wait_for("the page", || get(outside.pid(), PORT).filter(|page| page == "page-0"));
    assert_eq!(tables(host), ["orund_orun0", "orund_orun0_ports"]);
    let pod = d.wait_running("web-0")["containers"][0]["pid"].as_i64().unwrap() as i32;
    assert_eq!(seen(pod, outside.pid(), "203.0.113.2:90"), Some("203.0.113.1".parse().unwrap()));
    // The host's own connections come by the proxy.
    assert_eq!(seen(pod, host, "127.0.0.1:90"), Some("10.89.0.1".parse().unwrap()));
    assert_eq!(get(pod, "203.0.113.2:80").as_deref(), Some("page-0"), "a pod reaches its own port");
    // Without the proxy those from outside reach the pods as before.
    apply(&d, "page-1", 3);
    let clients = Clients::start(4, outside.pid(), PORT);
    clients.wait(50);
    for n in 2..5 {
        apply(&d, &format!("page-{n}"), 3);
        kill(wait_for("the proxy", || proxy(&d)), libc::SIGKILL);
        clients.wait(50);
    }
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    clients.wait(50);
    wait_for("the supervisor to come back", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    let (asked, lost) = clients.end();
    assert!(lost.is_empty(), "{} of {asked} lost: {:?}\n{}", lost.len(), lost.first(), d.output());
    // While there is no pod, connections wait at the proxy.
    ok(&d, "stop web");
    wait_for("the rules to go", || (!tables(host).contains(&"orund_orun0_ports".to_owned())).then_some(()));
    ok(&d, "start web");
    wait_for("the page", || get(outside.pid(), PORT).filter(|page| page == "page-4"));
    d.delete("web", Some(0));
    wait_for("the rules to go", || tables(host).is_empty().then_some(()));
    let (status, answer) = d.api("POST", "/v1/workloads", &wrong().to_string());
    assert!(status == 422 && answer.to_string().contains("write kernel"), "{answer}");
    d.stop();
}

fn wrong() -> Value {
    let pod = json!({"annotations": {"orun.dev/publish": "hardware"}});
    let spec = json!({"pod": pod, "containers": [{"name": "a", "image": "oci:/x"}]});
    json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": "w"}, "spec": spec})
}
