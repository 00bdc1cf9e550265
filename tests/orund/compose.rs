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
    // Another project cannot take the names of this one.
    let (_, e) = fails(d, "apply -f compose.yaml -p other");
    assert!(e.contains("belongs to project \"vote\", not to \"other\""), "{e}");
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
