//! Published ports under load: many rollouts, and the end of each process that takes part. And what is left afterwards.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::network::{apply, get, has_tools, links, start, tables, within};
use crate::ports::{Clients, apply_with_grace, draining, proxy, server};
use serde_json::{Value, json};
use std::fs;

const PORT: &str = "203.0.113.2:80";
/// Rollouts when the variable does not say how many; `scripts/bench network` makes 100.
const ROLLOUTS: u32 = 8;
/// Rounds of 40 pods when `ORUN_TEST_PODS` does not say how many pods there are in all.
const ROUNDS: usize = 3;

fn page(d: &Daemon, n: u32) -> Value {
    let ports = json!([{"containerPort": 8080, "hostPort": 80}]);
    let mut spec = draining(server(d, &format!("page-{n}"), ports));
    spec["minReadySeconds"] = 0.into();
    // The shell writes the page before it becomes the server.
    let probe = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    spec["containers"][0]["readinessProbe"] = probe;
    spec
}

#[test]
fn many_rollouts_lose_nothing() {
    if !can_run() || !has_tools() {
        return;
    }
    let wanted = std::env::var("ORUN_TEST_ROLLOUTS").ok().and_then(|n| n.parse().ok());
    let rollouts = wanted.unwrap_or(ROLLOUTS);
    let (mut d, outside) = start("lossless", &["--network", "bridge"]);
    apply_with_grace(&d, "web", 3, page(&d, 0));
    wait_for("the first page", || get(outside.pid(), PORT));
    let clients = Clients::start(8, outside.pid(), PORT);
    let begin = std::time::Instant::now();
    for n in 1..=rollouts {
        apply_with_grace(&d, "web", 3, page(&d, n));
        ok(&d, "rollout status web --timeout 120");
    }
    let took = begin.elapsed();
    let (asked, lost) = clients.end();
    let first = &lost[..lost.len().min(5)];
    eprintln!("{rollouts} rollouts in {took:.1?}: {} of {asked} requests lost", lost.len());
    assert!(lost.is_empty(), "{} of {asked} lost: {first:?}\n{}", lost.len(), d.output());
    assert!(asked > u64::from(rollouts) * 20, "only {asked} requests");
    d.delete("web", None);
    d.stop();
}

#[test]
fn the_end_of_proxy_supervisor_or_keeper_fails_no_new_connection() {
    if !can_run() || !has_tools() {
        return;
    }
    let (d, outside) = start("ends", &["--network", "bridge"]);
    apply_with_grace(&d, "web", 3, page(&d, 0));
    wait_for("the first page", || get(outside.pid(), PORT));
    let clients = Clients::start(8, outside.pid(), PORT);
    clients.wait(50);
    let supervisor = || wait_for("the supervisor", || d.supervisor());
    let answers = || wait_for("an answer", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    let mut killed = 0;
    for round in 1..=3 {
        let old = wait_for("the proxy", || proxy(&d));
        kill(old, libc::SIGKILL);
        killed += 1;
        wait_for("another proxy", || proxy(&d).filter(|pid| *pid != old));
        clients.wait(50);
        kill(supervisor(), libc::SIGKILL);
        answers();
        clients.wait(50);
        // Both at once: the ports are the keeper's.
        let (old, main) = (wait_for("the proxy", || proxy(&d)), supervisor());
        kill(old, libc::SIGKILL);
        kill(main, libc::SIGKILL);
        killed += 1;
        answers();
        wait_for("another proxy", || proxy(&d).filter(|pid| *pid != old));
        apply_with_grace(&d, "web", 3, page(&d, round));
        ok(&d, "rollout status web --timeout 120");
        clients.wait(50);
    }
    let last = supervisor();
    kill(d.main(), libc::SIGKILL);
    clients.wait(100);
    apply_with_grace(&d, "web", 3, page(&d, 9));
    ok(&d, "rollout status web --timeout 120");
    let (asked, lost) = clients.end();
    let refused: Vec<&String> = lost.iter().filter(|e| e.starts_with("connecting")).collect();
    assert!(
        refused.is_empty(),
        "{} of {asked} connections failed: {:?}\n{}",
        refused.len(),
        refused[0],
        d.output()
    );
    // Those that a killed proxy had.
    assert!(lost.len() <= killed * 8, "{} of {asked} requests lost: {:?}", lost.len(), lost.last());
    d.delete("web", None);
    kill(last, libc::SIGTERM);
}

#[test]
fn nothing_is_left_of_many_pods() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, _outside) = start("many-pods", &["--network", "bridge"]);
    let before = (links(d.main()), descriptors(d.main()));
    let container = json!({"name": "main", "bundle": d.dir.join("bundle"), "command": ["sleep", "1000"],
        "ports": [{"containerPort": 8080, "hostPort": 80}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]});
    let wanted: Option<usize> = std::env::var("ORUN_TEST_PODS").ok().and_then(|n| n.parse().ok());
    let rounds = wanted.map_or(ROUNDS, |pods| pods.div_ceil(40));
    for _ in 0..rounds {
        apply(&d, "many", 40, json!({"containers": [container]}));
        ok(&d, "wait many --for replicas=40 --timeout 120");
        assert!(links(d.main()).len() > before.0.len() + 40);
        d.delete("many", Some(0));
    }
    wait_for("the interfaces to go", || (links(d.main()) == before.0).then_some(()));
    wait_for("the proxy to go", || proxy(&d).is_none().then_some(()));
    assert_eq!(tables(d.main()), [""; 0]);
    wait_for("the keeper to close its descriptors", || (descriptors(d.main()) <= before.1).then_some(()));
    for dir in ["run/pods", "data/pods", "data/roots"] {
        let left: Vec<_> = fs::read_dir(d.dir.join(dir)).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    eprintln!("{} pods, and nothing is left of them", rounds * 40);
    let (_, routes) = within(d.main(), "ip route; ip rule");
    assert!(!routes.contains("orun0"), "{routes}");
    d.stop();
}

/// How many descriptors a process has.
fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
