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

/// Each run writes that it began and, when it is asked to end, that it did: into a file of its own, so that no run is lost
/// whatever becomes of its supervisor.
fn web(d: &Daemon, revision: u32) -> String {
    let script = "f=/story/$(cat /etc/hostname).$REVISION.$$.$(cat /proc/sys/kernel/random/uuid); echo begin > $f; \
                  trap 'echo end >> $f; exit 0' TERM; echo ok > /tmp/ready; while true; do sleep 0.02; done";
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
      terminationGracePeriodSeconds: 10
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

/// The runs of `web`: whether each has exited as it should.
fn runs(d: &Daemon) -> BTreeMap<String, bool> {
    let entries = fs::read_dir(d.dir.join("story")).into_iter().flatten().flatten();
    let run = |e: fs::DirEntry| {
        let text = fs::read_to_string(e.path()).unwrap_or_default();
        (e.file_name().to_string_lossy().into_owned(), text.ends_with("end\n"))
    };
    entries.map(run).collect()
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
        let applier = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let next = revision.load(Ordering::Relaxed) + 1;
                write(&d, "web.yaml", &web(&d, next));
                // It may have been accepted although nobody was left to say so: applied again it is unchanged.
                while !run(&d, "apply -f web.yaml").status.success() {}
                revision.store(next, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1500));
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) || kills <= 20 {
            assert!(begun.elapsed() < Duration::from_secs(seconds + 60), "{kills} kills");
            std::thread::sleep(Duration::from_millis(50));
            if let Some(pid) = d.supervisor() {
                kill(pid, libc::SIGKILL);
                kills += 1;
            }
            let living = runs(&d).values().filter(|ended| !**ended).count() as u32;
            assert!((REPLICAS - 1..=REPLICAS + 1).contains(&living), "{living} of {REPLICAS} replicas live");
        }
        over.store(true, Ordering::Relaxed);
        applier.join().unwrap();
    });
    let last = revision.load(Ordering::Relaxed);
    ok(&d, "wait web --timeout 60");
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
        (runs(&d).values().filter(|ended| !**ended).count() == REPLICAS as usize).then_some(())
    });
    let all = runs(&d);
    for (name, _) in all.iter().filter(|(_, ended)| !**ended) {
        assert!(name.contains(&format!(".{last}.")), "{name} of revision {last}: {all:#?}");
    }
    assert!(last >= 2 && all.len() as u32 > REPLICAS, "{last} revisions, {} runs", all.len());
    ok(&d, "delete web --wait --timeout 60");
    assert!(runs(&d).values().all(|ended| *ended), "{:#?}", runs(&d));
    d.delete("stay", None);
    assert_eq!(d.processes(), [0i32; 0]);
    println!("{kills} kills, {last} revisions, {} runs", all.len());
}
