//! The shape of the example voting application in a network of the test's own: five services, health checks,
//! dependencies, two published ports. They find each other by name, and an update under load loses no request.

use crate::client::{ok, write};
use crate::daemon::{Daemon, can_run, wait_for};
use crate::names::look_up;
use crate::network::{get, has_tools, start};
use crate::ports::Clients;
use std::net::Ipv4Addr;

/// Servers that keep serving for a moment after SIGTERM, and programs that do nothing.
const VOTE: &str = "name: vote
x-app: &app
  image: bundle:./bundle
  entrypoint: [sh, -c]
  restart: always
  stop_grace_period: 5s
x-check: &check {test: /bin/busybox wget -q -O- http://127.0.0.1:8080/, interval: 1s, timeout: 5s, start_period: 30s}
services:
  vote:
    <<: *app
    command: &serve
    - |
      echo page $$TEXT > /index.html
      /bin/busybox httpd -f -p 8080 -h / &
      trap '/bin/busybox sleep 0.5; exit 0' TERM
      wait
    environment: {TEXT: 'vote-${COLOUR:-blue}'}
    ports: ['80:8080']
    networks: [front, back]
    depends_on: {redis: {condition: service_healthy}}
    healthcheck: *check
    deploy: {replicas: 2, update_config: {order: start-first, parallelism: 1, monitor: 0.2s}}
  result:
    <<: *app
    command: *serve
    environment: {TEXT: result}
    ports: ['81:8080']
    networks: [front, back]
    depends_on: {db: {condition: service_healthy}}
  worker:
    <<: *app
    command: [exec sleep 1000]
    networks: [back]
    depends_on: {redis: {condition: service_healthy}, db: {condition: service_healthy}}
  redis:
    <<: *app
    command: *serve
    environment: {TEXT: redis}
    networks: {back: {aliases: [queue, cache.internal]}}
    healthcheck: *check
  db:
    <<: *app
    command: *serve
    container_name: vote_db
    environment: {TEXT: db}
    networks: [back]
    healthcheck: *check
networks: {front: , back: }
";

fn pod(d: &Daemon, replica: &str) -> (i32, Ipv4Addr) {
    let object = d.wait_running(replica);
    let pid = object["containers"][0]["pid"].as_i64().unwrap() as i32;
    (pid, object["podIP"].as_str().unwrap().parse().unwrap())
}

#[test]
fn five_services_find_each_other_and_an_update_under_load_loses_no_request() {
    if !can_run() || !has_tools() {
        return;
    }
    let (mut d, outside) = start("voting", &["--network", "bridge"]);
    write(&d, "compose.yaml", VOTE);
    ok(&d, "apply -f compose.yaml --wait --timeout 60");
    let seen = |port: u16| get(outside.pid(), &format!("203.0.113.2:{port}"));
    assert!(wait_for("the page", || seen(80)).contains("vote-blue"));
    assert!(wait_for("the results", || seen(81)).contains("result"));
    // From one service to others, by each of their names.
    let (worker, _) = pod(&d, "worker-0");
    let ((_, redis), (_, db)) = (pod(&d, "redis-0"), pod(&d, "db-0"));
    for (name, address) in
        [("redis", redis), ("queue", redis), ("cache.internal", redis), ("db", db), ("vote_db", db)]
    {
        let found = look_up(worker, name).unwrap_or_else(|| panic!("no answer for {name}"));
        assert!(found.1.contains(&address), "{name}: {found:?}, not {address}");
    }
    assert_eq!(look_up(worker, "vote").map(|f| f.1.len()), Some(2), "both replicas");
    let clients = Clients::start(4, outside.pid(), "203.0.113.2:80");
    clients.wait(30);
    for colour in ["green", "red"] {
        write(&d, ".env", &format!("COLOUR={colour}\n"));
        let said = ok(&d, "apply -f compose.yaml --wait --timeout 120");
        assert!(
            said.contains("workload/vote configured") && said.contains("workload/db unchanged"),
            "{said}"
        );
        clients.wait(10);
    }
    let (asked, lost) = clients.end();
    assert!(lost.is_empty(), "{} of {asked} lost: {:?}\n{}", lost.len(), lost.first(), d.output());
    assert!(seen(80).is_some_and(|page| page.contains("vote-red")), "{:?}", seen(80));
    assert!(ok(&d, "status").starts_with("healthy: 5 workloads"), "{}", ok(&d, "status"));
    ok(&d, "delete -f compose.yaml --wait");
    d.stop();
}
