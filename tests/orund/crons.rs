//! CronJobs on the real clock.

use crate::client::{fails, ok, write};
use crate::daemon::{Daemon, can_run, kill, wait_for};
use serde_json::Value;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const TICK: &str = "apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: '* * * * *'
  timeZone: Asia/Kolkata
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  jobTemplate:
    metadata: {labels: {tier: batch}}
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - {name: main, image: 'bundle:./bundle', command: [sh, -c], args: ['echo it is time']}
";

fn minute() -> (u64, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    (now / 60, now % 60)
}

/// The job for a scheduled time.
fn scheduled(d: &Daemon) -> Option<Value> {
    let (_, all) = d.api("GET", "/v1/workloads", "");
    let items = all["items"].as_array().unwrap().clone();
    items.into_iter().find(|w| w["metadata"]["name"].as_str().unwrap().starts_with("tick-"))
}

#[test]
fn a_cronjob_makes_jobs_by_the_clock_and_by_hand() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("crons", &[]);
    write(&d, "tick.yaml", TICK);
    // Its minute comes within the patience of a test.
    wait_for("a later second of a minute", || (15..50).contains(&minute().1).then_some(()));
    let said = ok(&d, "apply -f tick.yaml --wait --timeout 30");
    assert!(said.starts_with("cronjob/tick created\n"), "{said}");
    let (applied, _) = minute();
    let row = |table: &str| -> Vec<String> {
        table.lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect()
    };
    let shown = row(&ok(&d, "get cronjobs"));
    assert_eq!(shown[..10], ["tick", "*", "*", "*", "*", "*", "Asia/Kolkata", "false", "0", "<none>"]);
    assert!(ok(&d, "get replicas").is_empty(), "it runs nothing itself");
    assert!(fails(&d, "scale tick=3").1.contains("the number of replicas of a CronJob cannot be changed"));

    // By hand.
    assert_eq!(ok(&d, "create job now --from=cronjob/tick"), "job/now created\n");
    ok(&d, "wait job/now --for=complete --timeout 50");
    assert!(ok(&d, "logs now").contains("it is time"));
    assert!(ok(&d, "describe job/now").contains("Made by:      cronjob/tick\n"));
    assert!(fails(&d, "create job now --from=tick").1.contains("\"now\" exists"));
    assert!(fails(&d, "create job N --from=tick").1.contains("not a valid name"));
    assert!(fails(&d, "create job other --from=now").1.contains("it is not a CronJob"));
    assert!(fails(&d, "create job other --from=nobody").1.contains("no such workload"));
    let typed =
        Command::new(env!("CARGO_BIN_EXE_orund")).args(["create", "-f", "tick.yaml"]).output().unwrap();
    assert!(String::from_utf8_lossy(&typed.stderr).contains("use `orund apply -f tick.yaml`"));

    // By the clock, though the supervisor was killed meanwhile.
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    let job = wait_for("a job of the schedule", || scheduled(&d));
    let name = job["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(name, format!("tick-{}", applied + 1));
    assert_eq!(
        (&job["status"]["owner"], &job["metadata"]["labels"]["tier"]),
        (&"tick".into(), &"batch".into())
    );
    assert_eq!(minute().0, applied + 1, "at its time");
    ok(&d, &format!("wait job/{name} --for=complete --timeout 50"));
    let described = ok(&d, "describe cronjob/tick");
    assert!(described.contains("Schedule:     * * * * * (Asia/Kolkata)\n"), "{described}");
    assert!(described.contains("Last:         20"), "{described}");
    // Of the two that have succeeded one is kept.
    wait_for("the older job to go", || d.try_api("GET", "/v1/workloads/now", "").filter(|(s, _)| *s == 404));
    assert!(ok(&d, "events tick").contains("SuccessfulCreate"));
    assert!(
        d.text("/metrics").contains("kube_cronjob_status_active{namespace=\"default\",cronjob=\"tick\"} 0")
    );

    ok(&d, "stop tick");
    let shown = row(&ok(&d, "get cronjobs"));
    assert_eq!((shown[7].as_str(), shown.last().unwrap().as_str()), ("true", "<none>"));
    ok(&d, "delete tick --wait");
    wait_for("the jobs to go with it", || scheduled(&d).is_none().then_some(()));
    d.stop();
}

#[test]
fn a_cronjob_is_converted_and_checked() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("cron-files", &[]);
    write(&d, "tick.yaml", TICK);
    let text = ok(&d, "convert -f tick.yaml --to kubernetes");
    for part in
        ["kind: CronJob", "schedule: '* * * * *'", "timeZone: Asia/Kolkata", "concurrencyPolicy: Forbid"]
    {
        assert!(text.replace('"', "'").contains(part), "{part}: {text}");
    }
    write(&d, "back.yaml", &text);
    assert!(ok(&d, "validate -f back.yaml").contains("tick"));
    write(
        &d,
        "bad.yaml",
        &TICK.replace("'* * * * *'", "'* * * * 7'").replace("Asia/Kolkata", "Asia/Atlantis"),
    );
    let (_, e) = fails(&d, "validate -f bad.yaml");
    assert!(e.contains("bad.yaml:5:13 (spec.schedule)") && e.contains("Sunday is 0"), "{e}");
    assert!(e.contains("unknown time zone \"Asia/Atlantis\""), "{e}");
    d.stop();
}
