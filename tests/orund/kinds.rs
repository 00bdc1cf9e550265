//! Kinds of Kubernetes that differ in more than their name: Jobs, StatefulSets, DaemonSets.

use crate::client::{fails, ok, write};
use crate::daemon::{Daemon, can_run, wait_for};
use std::collections::BTreeSet;
use std::fs;

fn job(name: &str, spec: &str, script: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {spec}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers:
      - {{name: main, image: 'bundle:./bundle', command: [sh, -c], args: ['{script}']}}
"
    )
}

#[test]
fn a_job_completes_once_for_each_index() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("jobs", &[]);
    let text = job(
        "sum",
        "completions: 3\n  parallelism: 1\n  completionMode: Indexed",
        "echo index $JOB_COMPLETION_INDEX",
    );
    write(&d, "sum.yaml", &text);
    assert_eq!(ok(&d, "apply -f sum.yaml"), "job/sum created\n");
    let said = ok(&d, "wait job/sum --for=condition=complete --timeout 60");
    assert_eq!(said, "job/sum complete: 3/3 replicas succeeded\n");
    let lines: BTreeSet<String> = ok(&d, "logs sum").lines().map(str::to_owned).collect();
    let ends: Vec<&str> = lines.iter().filter_map(|l| l.rsplit_once("index ")).map(|(_, n)| n).collect();
    assert_eq!(ends.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["0", "1", "2"]));
    let table = ok(&d, "get jobs");
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["sum", "Complete", "3/3"]);
    assert_eq!(ok(&d, "get jobs -o name"), "job/sum\n");
    assert!(ok(&d, "describe job/sum").contains("Kind:         Job\n"));
    // What has begun cannot become something else.
    write(&d, "sum.yaml", &text.replace("completions: 3", "completions: 4"));
    let (_, e) = fails(&d, "apply -f sum.yaml");
    assert!(e.contains("the number of completions of a Job cannot be changed"), "{e}");
    assert!(fails(&d, "scale sum=5").1.contains("cannot be changed"));
    // It fails as a whole, and is deleted after its time.
    write(&d, "bad.yaml", &job("bad", "backoffLimit: 0\n  ttlSecondsAfterFinished: 0", "exit 3"));
    write(&d, "worse.yaml", &job("worse", "backoffLimit: 0", "exit 3"));
    ok(&d, "apply -f bad.yaml -f worse.yaml");
    assert_eq!(ok(&d, "wait worse --for=failed --timeout 60"), "job/worse failed: 1/1 replicas failed\n");
    ok(&d, "wait bad --for=delete --timeout 60");
    let table = ok(&d, "get job worse");
    assert!(table.contains("Failed") && table.contains("0/1"), "{table}");
    ok(&d, "delete --all --wait");
    d.stop();
}

#[test]
fn the_policies_of_a_job_decide_on_its_end() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("job-policies", &[]);
    let failed = |name: &str| {
        ok(&d, &format!("wait job/{name} --for=failed --timeout 60"));
        ok(&d, &format!("describe job/{name}"))
    };
    let rules = |first: &str| {
        format!(
            "podFailurePolicy: {{rules: [{{{first}, onExitCodes: {{containerName: main, operator: In, values: [42]}}}}]}}"
        )
    };
    let spec = format!("completions: 4\n  parallelism: 2\n  backoffLimit: 6\n  {}", rules("action: FailJob"));
    write(&d, "code.yaml", &job("code", &spec, "exit 42"));
    ok(&d, "apply -f code.yaml");
    assert!(failed("code").contains("PodFailurePolicy: replica "), "{}", failed("code"));
    // It fails at once, although there are six more attempts.
    let restarts = |name: &str| d.workload(name)["status"]["restarts"].clone();
    assert_eq!(restarts("code"), 0);
    // Each index for itself: odd ones succeed.
    let spec = "completions: 4\n  parallelism: 4\n  completionMode: Indexed\n  backoffLimitPerIndex: 0";
    let script = "case $JOB_COMPLETION_INDEX in 1|3) exit 0;; esac; exit 1";
    write(&d, "index.yaml", &job("index", spec, script));
    ok(&d, "apply -f index.yaml");
    assert!(failed("index").contains("FailedIndexes: 2 of 4 indexes have failed"), "{}", failed("index"));
    assert_eq!(d.workload("index")["status"]["succeeded"], 2);
    // The time of all of it.
    let spec = "completions: 2\n  parallelism: 1\n  activeDeadlineSeconds: 1";
    write(&d, "late.yaml", &job("late", spec, "exec sleep 1000"));
    ok(&d, "apply -f late.yaml");
    assert!(failed("late").contains("DeadlineExceeded: "), "{}", failed("late"));
    wait_for("the end of what ran", || (d.workload("late")["status"]["replicas"] == 0).then_some(()));
    assert!(ok(&d, "get job late").contains("Failed"));
    // A queue: one success and the end of the others.
    write(&d, "queue.yaml", &job("queue", "parallelism: 2", "sleep 0.3"));
    ok(&d, "apply -f queue.yaml");
    ok(&d, "wait job/queue --for=complete --timeout 60");
    // Suspended, and resumed.
    let spec = |on: bool| format!("completions: 1\n  suspend: {on}");
    write(&d, "later.yaml", &job("later", &spec(true), "exit 0"));
    ok(&d, "apply -f later.yaml");
    wait_for("the word", || ok(&d, "get job later").contains("Suspended").then_some(()));
    write(&d, "later.yaml", &job("later", &spec(false), "exit 0"));
    ok(&d, "apply -f later.yaml");
    ok(&d, "wait job/later --for=complete --timeout 60");
    ok(&d, "delete --all --wait");
    d.stop();
}

const STATEFUL: &str = "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce]}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: bundle:./bundle
        command: [sh, -c]
        args: ['hostname >> /data/names; echo $(cat /data/names); exec sleep 1000']
        volumeMounts: [{name: data, mountPath: /data}]
";

#[test]
fn each_replica_of_a_stateful_set_keeps_its_directory() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("stateful", &[]);
    write(&d, "db.yaml", STATEFUL);
    assert!(ok(&d, "apply -f db.yaml --wait --timeout 60").starts_with("statefulset/db created\n"));
    let names = |n: u32| {
        fs::read_to_string(d.dir.join(format!("data/volumes/default/data-db-{n}/names"))).unwrap_or_default()
    };
    wait_for("both names", || (names(0) == "db-0\n" && names(1) == "db-1\n").then_some(()));
    ok(&d, "scale sts/db=1 --wait --timeout 60");
    assert_eq!(ok(&d, "get replicas db -o name"), "replica/db-0\n");
    ok(&d, "scale db=2 --wait --timeout 60");
    wait_for("the directory again", || (names(1) == "db-1\ndb-1\n").then_some(()));
    assert_eq!(names(0), "db-0\n");
    // The partition keeps its revision, and the rollout is complete.
    let partition = "spec:\n  updateStrategy: {rollingUpdate: {partition: 1}}\n  replicas: 2";
    let changed = STATEFUL.replacen("spec:\n  replicas: 2", partition, 1).replace("1000", "1001");
    write(&d, "db.yaml", &changed);
    ok(&d, "apply -f db.yaml --wait --timeout 60");
    let revision = |n: u32| d.replica(&format!("db-{n}"))["revision"].clone();
    assert_eq!((revision(0), revision(1)), (1.into(), 2.into()));
    ok(&d, "delete sts db --wait");
    assert_eq!(names(0), "db-0\n", "the directories stay");
    d.stop();
}

#[test]
fn on_delete_waits_for_a_restart() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("daemonset", &[]);
    let text = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  updateStrategy: {type: OnDelete}
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: 'bundle:./bundle', command: [sleep, '1000']}]
";
    write(&d, "agent.yaml", text);
    ok(&d, "apply -f agent.yaml --wait --timeout 60");
    write(&d, "agent.yaml", &text.replace("1000", "1001"));
    ok(&d, "apply -f agent.yaml");
    let revision = || d.replica("agent-0")["revision"].clone();
    ok(&d, "rollout status agent --timeout 60");
    assert_eq!(revision(), 1);
    ok(&d, "restart replica/agent-0 --wait --timeout 60");
    wait_for("the new revision", || (revision() == 2).then_some(()));
    ok(&d, "delete --all --wait");
    d.stop();
}
