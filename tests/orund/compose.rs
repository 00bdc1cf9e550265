//! Compose files: a project of five services that wait for each other, applied, killed, changed and deleted.

use crate::client::{fails, ok, run, write};
use crate::daemon::{Daemon, can_run, kill, wait_for};
use std::fs;

/// The shape of the example voting application, with programs of the test's bundle: a database and a queue with health
/// checks, a seed that completes, a worker and a page.
const VOTE: &str = "name: vote
x-app: &app
  image: bundle:./bundle
  entrypoint: [sh, -c]
  restart: always
  stop_grace_period: 0s
services:
  page:
    <<: *app
    command: ['echo page >> /shared/order; exec sleep 1000']
    volumes: ['./shared:/shared']
    depends_on: {worker: {condition: service_started}, seed: {condition: service_completed_successfully}}
    deploy: {replicas: '${PAGES:-2}'}
  worker:
    <<: *app
    command: ['echo worker >> /shared/order; exec sleep 1000']
    volumes: ['./shared:/shared']
    depends_on:
      queue: {condition: service_healthy}
      db: {condition: service_healthy}
  queue:
    <<: *app
    command: ['echo queue >> /shared/order; touch /tmp/up; exec sleep 1000']
    tmpfs: /tmp
    volumes: ['./shared:/shared']
    healthcheck: &check {test: test -e /tmp/up, interval: 1s, timeout: 5s, retries: 3, start_period: 30s}
  db:
    <<: *app
    command: ['echo db >> /shared/order; sleep 1; cat /run/secrets/pw /conf > /data/got; touch /tmp/up; exec sleep 1000']
    tmpfs: [/tmp]
    volumes: ['./shared:/shared', 'data:/data']
    secrets: [pw]
    configs: [{source: conf, target: /conf}]
    healthcheck: *check
  seed:
    image: bundle:./bundle
    entrypoint: sh -c
    command: ['echo seed >> /shared/order; exit 0']
    volumes: ['./shared:/shared']
    depends_on: {db: {condition: service_healthy}}
volumes: {data: }
secrets: {pw: {environment: PASSWORD}}
configs: {conf: {content: '-plain'}}
";

fn order(d: &Daemon) -> Vec<String> {
    let text = fs::read_to_string(d.dir.join("shared/order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The services in the order in which their programs began to run were what they depend on.
fn check_order(lines: &[String]) {
    let at = |name: &str| lines.iter().position(|l| l == name).unwrap_or_else(|| panic!("{name}: {lines:?}"));
    for (first, then) in
        [("db", "seed"), ("db", "worker"), ("queue", "worker"), ("seed", "page"), ("worker", "page")]
    {
        assert!(at(first) < at(then), "{first} before {then}: {lines:?}");
    }
}

#[test]
fn the_services_of_a_project_start_in_their_order() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("compose", &[]);
    write(&d, "compose.yaml", VOTE);
    write(&d, ".env", "PASSWORD=hidden\n");
    fs::create_dir_all(d.dir.join("shared")).unwrap();
    let said = ok(&d, "validate -f compose.yaml");
    assert!(said.contains("workload/page is valid\n"), "{said}");
    let said = ok(&d, "apply -f compose.yaml");
    assert!(said.contains("workload/db created\n") && said.contains("secret/vote-pw created\n"), "{said}");
    let waits = ok(&d, "describe worker") + &ok(&d, "describe page");
    assert!(waits.contains("waiting for workload"), "{waits}");
    // The supervisor dies while they wait.
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("all services", || {
        let list = run(&d, "wait page --for=ready --timeout 60");
        list.status.success().then_some(())
    });
    check_order(&order(&d));
    assert_eq!(fs::read_to_string(claim(&d, "vote-data").join("got")).unwrap(), "hidden-plain");
    let said = ok(&d, "apply -f compose.yaml");
    assert!(said.lines().all(|l| l.ends_with(" unchanged")), "{said}");
    // A program that dies is started again, and nobody else is.
    let before = order(&d).len();
    ok(&d, "kill db-0");
    wait_for("db", || (order(&d).len() > before).then_some(()));
    ok(&d, "wait db --for=ready --timeout 60");
    assert_eq!(order(&d)[before..], ["db"]);
    changes(&d);
    d.stop();
}

/// Scales, leaves a service out, and deletes.
fn changes(d: &Daemon) {
    assert_eq!(ok(d, "scale page=3"), "workload/page scaled to 3\n");
    ok(d, "wait page --for=ready --timeout 60");
    let rest = VOTE.replace("seed: {condition: service_completed_successfully}", "db: ");
    let (first, seed) = rest.split_once("  seed:\n").unwrap();
    let volumes = seed.split_once("volumes: {data").unwrap().1;
    write(d, "compose.yaml", &format!("{first}volumes: {{data{volumes}"));
    let out = run(d, "apply -f compose.yaml --dry-run");
    assert!(String::from_utf8_lossy(&out.stderr).contains("--prune deletes them"), "{out:?}");
    let said = ok(d, "apply -f compose.yaml --prune");
    assert!(said.contains("workload/seed deleted\n") && said.contains("service/seed deleted\n"), "{said}");
    ok(d, "wait seed --for=delete --timeout 60");
    ok(d, "delete -f compose.yaml --wait");
    assert!(!ok(d, "get").contains("page"));
}

/// The directory of a claim.
fn claim(d: &Daemon, name: &str) -> std::path::PathBuf {
    let found =
        std::process::Command::new("find").arg(&d.dir).args(["-type", "d", "-name", name]).output().unwrap();
    String::from_utf8(found.stdout)
        .unwrap()
        .lines()
        .next()
        .unwrap_or_else(|| panic!("no claim {name}"))
        .into()
}

#[test]
fn a_converted_project_is_the_same_in_other_formats() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("compose-convert", &[]);
    write(&d, "compose.yaml", VOTE);
    write(&d, ".env", "PASSWORD=hidden\n");
    let text = ok(&d, "convert -f compose.yaml --to orun");
    write(&d, "orun.yaml", &text);
    // What has no meaning on one host is not kept.
    let plain = text
        .replace("  clusterIP: None\n", "")
        .replace("spec:\n  accessModes:\n  - ReadWriteOnce\n", "spec: {}\n");
    let again = ok(&d, "convert -f orun.yaml --to orun").replace("  clusterIP: None\n", "");
    assert!(again == plain, "{again}\n\n{plain}");
    let text = ok(&d, "convert -f compose.yaml --to kubernetes");
    write(&d, "kubernetes.yaml", &text);
    let objects = |d: &Daemon| {
        let all = d.api("GET", "/v1/workloads", "").1["items"].as_array().cloned().unwrap_or_default();
        // The kind of the file does not change what runs.
        let spec = |w: &serde_json::Value| {
            let mut spec = w["spec"].clone();
            // And Kubernetes has no word for what a workload waits for.
            for field in ["controller", "dependsOn"] {
                spec.as_object_mut().unwrap().remove(field);
            }
            (w["metadata"]["name"].as_str().unwrap().to_owned(), spec)
        };
        all.iter().map(spec).collect::<std::collections::BTreeMap<_, _>>()
    };
    fs::create_dir_all(d.dir.join("shared")).unwrap();
    ok(&d, "apply -f compose.yaml");
    let before = objects(&d);
    ok(&d, "apply -f kubernetes.yaml");
    let after = objects(&d);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, spec) in &before {
        assert_eq!(spec, &after[name], "{name}: {text}");
    }
    let said = ok(&d, "validate -f kubernetes.yaml");
    assert!(
        said.contains("deployment/page is valid\n") && said.contains("secret/vote-pw is valid\n"),
        "{said}"
    );
}

/// A service that another service of the same project asks for by its name.
fn pair(word: &str) -> String {
    format!(
        "services:
  db: {{image: 'bundle:./bundle', command: [sh, -c, 'echo {word}; exec sleep 1000'], restart: always, stop_grace_period: 0s}}
  web:
    image: bundle:./bundle
    command: [sleep, '1000']
    restart: always
    stop_grace_period: 0s
    depends_on: [db]
"
    )
}

#[test]
fn two_projects_have_services_of_the_same_name() {
    if !can_run() || !crate::network::has_tools() {
        return;
    }
    let d = crate::names::start("two-projects", "");
    write(&d, "one.yaml", &pair("first"));
    write(&d, "two.yaml", &pair("second"));
    ok(&d, "apply -f one.yaml -p one --wait --timeout 60");
    let out = run(&d, "apply -f two.yaml -p two --wait --timeout 60");
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("workload/two-db created"), "{said}");
    assert!(said.contains("service \"db\" of project \"two\" is workload \"two-db\""), "{said}");
    // Each finds its own.
    let address = |replica: &str| d.wait_running(replica)["podIP"].as_str().unwrap().parse().unwrap();
    let pid = |replica: &str| d.wait_running(replica)["containers"][0]["pid"].as_i64().unwrap() as i32;
    for (asks, finds) in [("web-0", "db-0"), ("two-web-0", "two-db-0")] {
        let found = crate::names::look_up(pid(asks), "db").unwrap().1;
        assert_eq!(found, [address(finds)].into(), "{asks}");
    }
    // The names that verbs take.
    assert_eq!(ok(&d, "logs two/db").trim(), "second");
    assert_eq!(ok(&d, "logs one/db-0").trim(), "first");
    ok(&d, "scale two/db=2 --wait --timeout 60");
    assert_eq!(ok(&d, "exec two/db-1 -- /bin/busybox hostname").trim(), "two-db-1");
    let (_, e) = fails(&d, "restart three/db");
    assert!(e.contains("no workload and no replica is called \"three/db\""), "{e}");
    // The second time they are the same, and what one project deletes the other one keeps.
    let said = ok(&d, "apply -f two.yaml -p two");
    assert!(
        said.contains("workload/two-web unchanged") && said.contains("workload/two-db configured"),
        "{said}"
    );
    ok(&d, "delete -f one.yaml -p one --wait");
    let said = ok(&d, "apply -f two.yaml -p two --prune");
    assert!(said.lines().all(|l| l.ends_with(" unchanged")), "{said}");
    ok(&d, "delete -f two.yaml -p two --wait");
    assert!(!ok(&d, "get").contains("db"));
}

/// Two services in one network, of which one waits until the other is healthy.
const JOINED: &str = "name: joined
x-app: &app {image: 'bundle:./bundle', entrypoint: [sh, -c], restart: always, stop_grace_period: 0s}
services:
  gate:
    <<: *app
    command: ['echo gate >> /shared/order; sleep 1; echo served > /index.html; touch /tmp/up; exec /bin/busybox httpd -f -p 8080 -h /']
    volumes: ['./shared:/shared']
    tmpfs: /tmp
    healthcheck: {test: test -e /tmp/up, interval: 1s, timeout: 5s, retries: 30, start_interval: 1s}
  inside:
    <<: *app
    network_mode: service:gate
    command: ['echo $WORD >> /shared/order; /bin/busybox wget -q -O- http://localhost:8080/index.html; exec sleep 1000']
    environment: {WORD: '${WORD}'}
    volumes: ['./shared:/shared']
    depends_on: {gate: {condition: service_healthy}}
  after:
    <<: *app
    command: ['echo after >> /shared/order; exec sleep 1000']
    volumes: ['./shared:/shared']
    depends_on: {inside: {condition: service_healthy}}
";

#[test]
fn services_that_share_a_network_reach_each_other_at_localhost_in_their_order() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("compose-joined", &[]);
    fs::create_dir_all(d.dir.join("shared")).unwrap();
    write(&d, "compose.yaml", &JOINED.replace("$WORD >>", "$$WORD >>"));
    write(&d, ".env", "WORD=inside\n");
    let said = ok(&d, "apply -f compose.yaml --wait --timeout 60");
    assert!(said.contains("workload/gate ready") && !said.contains("inside"), "{said}");
    assert_eq!(order(&d), ["gate", "inside", "after"]);
    let served = |d: &Daemon| ok(d, "logs gate -c inside").trim() == "served";
    wait_for("the page of the other service", || served(&d).then_some(()));
    // An update of one is one of the pod, in the same order.
    write(&d, ".env", "WORD=changed\n");
    let said = ok(&d, "apply -f compose.yaml --wait --timeout 60");
    assert!(said.contains("workload/gate configured") && said.contains("workload/after unchanged"), "{said}");
    wait_for("the new program", || (order(&d)[3..] == ["gate", "changed"]).then_some(()));
    wait_for("the page again", || served(&d).then_some(()));
    // One that crashes is restarted alone.
    let pid = |d: &Daemon, name: &str| {
        let replica = d.wait_running("gate-0");
        let all = replica["containers"].as_array().unwrap();
        all.iter().find(|c| c["name"] == name).and_then(|c| c["pid"].as_i64())
    };
    let before = (pid(&d, "gate").unwrap(), pid(&d, "inside").unwrap());
    kill(before.1 as i32, libc::SIGKILL);
    wait_for("the second run", || (order(&d)[3..] == ["gate", "changed", "changed"]).then_some(()));
    assert_eq!(pid(&d, "gate"), Some(before.0));
    ok(&d, "delete -f compose.yaml --wait");
    assert_eq!(d.processes(), [0i32; 0]);
    d.stop();
}
