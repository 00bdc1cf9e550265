//! A supervisor that is killed every 50 ms while pods with probes are replaced by new revisions again and again.
//!
//! `ORUN_KILL_SECONDS` is how long; the gate's 8 seconds are a short version.

use crate::client::{ok, run, write};
use crate::daemon::{Daemon, can_run, kill, pid_of, wait_for};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const REPLICAS: u32 = 3;

/// Seconds that a run has to exit by itself.
const GRACE: u32 = 10;

/// Each run makes a file of its own, so that no run is missed whatever becomes of its supervisor: the time by the clock since the
/// boot, again and again, and last that it was asked to end.
fn web(d: &Daemon, revision: u32) -> String {
    let script = format!(
        "# {}\nf=/story/$REVISION.$(cat /proc/sys/kernel/random/uuid); trap 'echo end >> $f; exit 0' TERM; \
         beat() {{ read now rest < /proc/uptime; echo $now >> $f; }}; beat; echo ok > /tmp/ready; \
         while true; do sleep 0.05; beat; done",
        d.dir.display()
    );
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {REPLICAS}
  minReadySeconds: 0
  selector: {{matchLabels: {{app: web}}}}
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 1}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: {GRACE}
      volumes: [{{name: story, hostPath: {{path: {story:?}}}}}]
      containers:
      - name: app
        image: bundle:./bundle
        command: [sh, -c, {script:?}]
        env: [{{name: REVISION, value: \"{revision}\"}}]
        volumeMounts: [{{name: story, mountPath: /story}}]
        readinessProbe: {{exec: {{command: [cat, /tmp/ready]}}, periodSeconds: 1}}
        livenessProbe: {{exec: {{command: [cat, /tmp/ready]}}, periodSeconds: 1, failureThreshold: 60}}
      - name: side
        image: bundle:./bundle
        command: [sh, -c, \"trap 'exit 0' TERM; while true; do sleep 0.05; done\"]
",
        story = d.dir.join("story"),
    )
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A run of `web` that has begun.
#[derive(Debug)]
struct Run {
    /// It was asked to end, and exited by itself.
    ended: bool,
    /// Seconds.
    lived: f64,
}

/// The runs of `web` that have begun, by the name of their file.
fn runs(d: &Daemon) -> BTreeMap<String, Run> {
    let entries = fs::read_dir(d.dir.join("story")).into_iter().flatten().flatten();
    let run = |e: fs::DirEntry| {
        let text = fs::read_to_string(e.path()).unwrap_or_default();
        let mut times = text.lines().filter_map(|l| l.parse::<f64>().ok());
        let first = times.next().unwrap_or_default();
        let lived = times.next_back().unwrap_or(first) - first;
        (e.file_name().to_string_lossy().into_owned(), Run { ended: text.ends_with("end\n"), lived })
    };
    entries.map(run).collect()
}

/// The runs of `web` that live, by process: their revisions. A look takes a while.
fn living(d: &Daemon) -> BTreeMap<i32, u32> {
    let script = format!("sh\0-c\0# {}\n", d.dir.display());
    let revision = |pid: i32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // The first process of the container, and none of its children.
        let first = read("status").lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t1"));
        (first && read("cmdline").starts_with(&script))
            .then(|| read("environ").split('\0').find_map(|v| v.strip_prefix("REVISION=")?.parse().ok()))?
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, revision(pid)?))).collect()
}

/// At the moment between two looks those of both lived, and at most those of either.
fn check_number(d: &Daemon) {
    let (before, after) = (living(d), living(d));
    let least = before.keys().filter(|pid| after.contains_key(pid)).count();
    let most = before.len() + after.len() - least;
    let replicas = REPLICAS as usize;
    assert!(least <= replicas + 1 && most >= replicas - 1, "{before:?}, then {after:?}: {:#?}", runs(d));
}

#[test]
fn rollouts_with_probes_survive_a_supervisor_that_is_killed_every_50_ms() {
    if !can_run() {
        return;
    }
    let seconds = std::env::var("ORUN_KILL_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    let d = Daemon::start("rollouts", &[]);
    fs::create_dir(d.dir.join("story")).unwrap();
    fs::create_dir_all(d.dir.join("bundle/rootfs/tmp")).unwrap();
    let quick = json!({"terminationGracePeriodSeconds": 5});
    d.apply("stay", 2, "trap 'exit 0' TERM; while true; do sleep 0.05; done", quick);
    let stay = [0, 1].map(|n| pid_of(&d.wait_running(&format!("stay-{n}"))).unwrap());
    write(&d, "web.yaml", &web(&d, 0));
    ok(&d, "apply -f web.yaml --wait --timeout 60");

    let (over, revision) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut kills = 0;
    std::thread::scope(|scope| {
        // Also when a check below fails: the scope waits for the thread, whatever ends it.
        let ends = SetOnDrop(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                write(&d, "web.yaml", &web(&d, revision.fetch_add(1, Ordering::Relaxed) + 1));
                // It may have been accepted although nobody was left to say so: applied again it is unchanged.
                while !over.load(Ordering::Relaxed) {
                    if run(&d, "apply -f web.yaml").status.success() {
                        break;
                    }
                }
                std::thread::sleep(Duration::from_millis(1500));
            }
        });
        let begun = Instant::now();
        let enough = |kills| kills > 20 && runs(&d).keys().any(|run| run.starts_with("2."));
        while begun.elapsed() < Duration::from_secs(seconds) || !enough(kills) {
            assert!(begun.elapsed() < Duration::from_secs(seconds + 300), "{kills} kills, {:#?}", runs(&d));
            // The keeper starts one that was never ready after a longer and longer delay.
            if kills % 2 == 1 {
                wait_for("a supervisor that answers", || run(&d, "get").status.success().then_some(()));
            }
            std::thread::sleep(Duration::from_millis(50));
            if let Some(pid) = d.supervisor() {
                kill(pid, libc::SIGKILL);
                kills += 1;
            }
            check_number(&d);
        }
        drop(ends);
    });
    let last = revision.load(Ordering::Relaxed);
    ok(&d, "apply -f web.yaml --wait --timeout 120");
    for (n, pid) in stay.iter().enumerate() {
        let r = d.wait_running(&format!("stay-{n}"));
        assert_eq!((pid_of(&r), &r["restarts"]), (Some(*pid), &json!(0)), "{r:#}");
    }
    // Nothing failed, nothing was restarted, and whoever lives is of the last revision.
    for n in 0..REPLICAS {
        let r = d.wait(&format!("web-{n}"), "the last revision", |r| {
            r["ready"] == true && r["stopping"].is_null()
        });
        assert_eq!(r["restarts"], 0, "{r:#}");
    }
    wait_for("the old ones to be gone", || {
        living(&d).into_values().eq([last; REPLICAS as usize]).then_some(())
    });
    ok(&d, "delete web --wait --timeout 120");
    let all = runs(&d);
    let events = ok(&d, "events");
    let of_last = || all.iter().filter(|(run, _)| run.starts_with(&format!("{last}.")));
    assert!(of_last().count() >= REPLICAS as usize && of_last().all(|(_, run)| run.ended), "{all:#?}");
    // An earlier one may have been asked before it had a trap. Nothing else ends without an answer, or long before its time.
    let short = all.iter().find(|(_, run)| !run.ended && run.lived < f64::from(GRACE) / 2.0);
    assert!(short.is_none(), "{short:?} did not exit by itself: {all:#?}\n{events}");
    d.delete("stay", None);
    assert_eq!(d.processes(), [0i32; 0]);
    println!("{kills} kills, {last} revisions, {} runs", all.len());
}
