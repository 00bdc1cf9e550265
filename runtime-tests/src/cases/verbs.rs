//! The other verbs: kill, ps, list, events, update, pause and resume, spec, features.

use crate::cgroup::{self, Layout};
use crate::check::{Context, Result, has, same};
use crate::command::{Output, VERB_DEADLINE, poll};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::{Value, json};

const CONTRACT: &str = "runc contract";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    kill(m);
    ps(m);
    list(m);
    events(m);
    update(m);
    pause(m);
    spec_and_features(m);
}

fn parsed(out: &Output) -> Result<Value> {
    serde_json::from_str(out.stdout.trim()).context(&out.describe())
}

fn kill(m: &mut Matrix) {
    const KILL: &str = "runc contract: kill ID [SIGNAL]";
    for (given, number) in [
        ("USR1", 10),
        ("SIGUSR1", 10),
        ("10", 10),
        ("HUP", 1),
        ("sighup", 1),
        ("WINCH", 28),
        ("RTMIN+1", 35),
        ("RTMAX", 64),
    ] {
        m.case(format!("verbs/kill-{}", given.to_lowercase()), KILL, move |t| {
            let c = t.start(&t.bundle()?.args(&["probe", "echo-signals"]))?;
            c.await_output("ready")?;
            c.kill(given)?;
            c.await_output(&format!("signal {number}."))?;
            c.is("running")
        });
    }
    m.case("verbs/kill-default-is-term", KILL, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("kill").ok()?;
        c.becomes("stopped")
    });
    m.case("verbs/kill-of-a-created-container", KILL, |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        c.kill("KILL")?;
        c.becomes("stopped")
    });
    for signal in ["MOON", "0x9", "-9", "65", "SIG", "9999999999"] {
        m.case(format!("verbs/kill-{signal}-is-an-error"), KILL, move |t| {
            let c = t.sleeper(t.bundle()?)?;
            t.verb("kill").arg("--").arg(&c.id).arg(signal).output()?.fails()?;
            c.is("running")
        });
    }
    m.case("verbs/kill-all", "runc contract: kill --all", |t| {
        let c = t.start(&t.bundle()?.args(&["probe", "children", "2"]))?;
        c.await_output("ready")?;
        t.verb("kill").args(["--all", &c.id, "KILL"]).ok()?;
        c.becomes("stopped")
    });
    m.case("verbs/kill-all-of-a-stopped-one-is-fine", "runc contract: kill --all", |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.stop()?;
        t.verb("kill").args(["-a", &c.id, "9"]).ok().map(drop)
    });
}

fn ps(m: &mut Matrix) {
    m.case("verbs/ps-json", "runc contract: ps --format json", |t| {
        let c = t.start(&t.bundle()?.args(&["probe", "children", "2"]))?;
        c.await_output("ready")?;
        let pids = parsed(&t.verb("ps").args(["--format", "json", &c.id]).ok()?)?;
        let pids: Vec<i64> = pids.as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        same("processes", pids.len(), 3)?;
        ensure!(pids.contains(&i64::from(c.pid()?)), "{pids:?} lacks the first process");
        Ok(())
    });
    m.case("verbs/ps-table", "runc contract: ps", |t| {
        let c = t.sleeper(t.bundle()?)?;
        let out = c.verb("ps").ok()?;
        has("table", &out.stdout, "PID")?;
        has("table", &out.stdout, &c.pid()?.to_string())
    });
    m.case("verbs/ps-with-options-of-ps", "runc contract: ps ID OPTIONS", |t| {
        let c = t.sleeper(t.bundle()?)?;
        let out = t.verb("ps").args([&c.id, "-o", "pid,comm"]).ok()?;
        has("table", &out.stdout, "probe")
    });
}

fn list(m: &mut Matrix) {
    m.case("verbs/list-json", "runc contract: list --format json", |t| {
        let first = t.sleeper(t.bundle()?)?;
        let second = t.create(&t.bundle()?.sleeps())?;
        let all = parsed(&t.verb("list").args(["--format", "json"]).ok()?)?;
        let all = all.as_array().cloned().unwrap_or_default();
        same("containers", all.len(), 2)?;
        for (c, status) in [(&first, "running"), (&second, "created")] {
            let entry = all.iter().find(|e| e["id"] == *c.id).cloned().unwrap_or_default();
            same("status", &entry["status"], &json!(status))?;
            same("pid", &entry["pid"], &json!(c.pid()?))?;
            same("bundle", &entry["bundle"], &json!(c.bundle.dir))?;
            ensure!(entry["created"].is_string() && entry["owner"].is_string(), "{entry}");
        }
        Ok(())
    });
    m.case("verbs/list-quiet", "runc contract: list --quiet", |t| {
        let c = t.sleeper(t.bundle()?)?;
        same("ids", t.verb("list").arg("-q").ok()?.stdout.trim(), c.id.as_str())
    });
    m.case("verbs/list-table", "runc contract: list", |t| {
        let c = t.sleeper(t.bundle()?)?;
        let out = t.verb("list").ok()?;
        for word in ["PID", "STATUS", "BUNDLE", "CREATED", "OWNER", &c.id, "running"] {
            has("table", &out.stdout, word)?;
        }
        Ok(())
    });
    m.case("verbs/list-of-nothing", "runc contract: list", |t| {
        t.verb("list").ok()?;
        let all = parsed(&t.verb("list").args(["-f", "json"]).ok()?)?;
        ensure!(all.is_null() || all == json!([]), "{all}");
        Ok(())
    });
    m.case("verbs/list-of-a-missing-root-is-an-error", "runc contract, from 1.2 on: list", |t| {
        std::fs::remove_dir(t.root())?;
        t.verb("list").output()?.fails_with(&["no such file or directory"]).map(drop)
    });
    m.case("verbs/list-unknown-format-is-an-error", CONTRACT, |t| {
        t.verb("list").args(["--format", "moon"]).output()?.fails().map(drop)
    });
}

fn events(m: &mut Matrix) {
    const EVENTS: &str = "runc contract: events";
    m.case("verbs/events-stats", EVENTS, |t| {
        // It works until it is seen to: where time is counted in ticks, a start may cost none.
        let c = t.start(&t.bundle()?.set("/linux/resources/pids/limit", 55).shell("while :; do :; done"))?;
        let stats = || {
            let event = parsed(&t.verb("events").args(["--stats", &c.id]).ok().ok()?).ok()?;
            event["data"]["cpu"]["usage"]["total"].as_u64().is_some_and(|n| n > 0).then_some(event)
        };
        let event = poll("CPU time in the statistics", VERB_DEADLINE, stats)?;
        same("type", &event["type"], &json!("stats"))?;
        same("id", &event["id"], &json!(c.id))?;
        let data = &event["data"];
        same("pids.current", &data["pids"]["current"], &json!(1))?;
        same("pids.limit", &data["pids"]["limit"], &json!(55))?;
        ensure!(
            data["memory"]["usage"]["usage"].as_u64().is_some_and(|n| n > 0),
            "memory {}",
            data["memory"]
        );
        c.end()
    });
    m.case("verbs/events-of-a-stopped-one-is-an-error", EVENTS, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.stop()?;
        t.verb("events").args(["--stats", &c.id]).output()?.fails_with(&["not running"]).map(drop)
    });
    m.case("verbs/events-until-the-end", EVENTS, |t| {
        let c = t.sleeper(t.bundle()?)?;
        t.verb("events").args(["--stats", &c.id]).ok()?;
        let running = t.verb("events").args(["--interval", "1s", &c.id]).spawn()?;
        poll("two events", VERB_DEADLINE, || (running.stdout().lines().count() >= 2).then_some(()))?;
        c.delete_force()?;
        let out = running.wait()?.ok()?;
        for line in out.stdout.lines() {
            serde_json::from_str::<Value>(line).context(line)?;
        }
        Ok(())
    });
    m.case("verbs/events-tell-of-oom", EVENTS, |t| {
        t.controller("memory")?;
        let limit = json!({"limit": 33_554_432, "swap": 33_554_432});
        let bundle = t.bundle()?.set("/linux/resources/memory", limit).sleeps();
        let c = t.sleeper(bundle)?;
        t.verb("events").args(["--stats", &c.id]).ok()?;
        let running = t.verb("events").arg(&c.id).spawn()?;
        // Again and again, because nobody knows when the listener has begun to listen.
        poll("an oom event", VERB_DEADLINE, || {
            if running.stdout().contains("\"oom\"") {
                return Some(());
            }
            let _ = c.exec(&["probe", "mem", "300M"]);
            None
        })?;
        c.delete_force()?;
        running.wait().map(drop)
    });
}

/// Name, options, controller, v1 file, v2 file, what the file begins with afterwards.
type Updated =
    (&'static str, &'static [&'static str], &'static str, &'static str, &'static str, &'static str);

fn update(m: &mut Matrix) {
    const UPDATE: &str = "runc contract: update";
    let table: [Updated; 6] = [
        ("memory", &["--memory", "50331648"], "memory", "memory.limit_in_bytes", "memory.max", "50331648"),
        ("pids", &["--pids-limit", "77"], "pids", "pids.max", "pids.max", "77"),
        (
            "quota",
            &["--cpu-period", "100000", "--cpu-quota", "30000"],
            "cpu",
            "cpu.cfs_quota_us",
            "cpu.max",
            "30000",
        ),
        ("cpus", &["--cpuset-cpus", "0"], "cpuset", "cpuset.cpus", "cpuset.cpus", "0"),
        ("shares", &["--cpu-share", "1024"], "cpu", "cpu.shares", "cpu.weight", "1024"),
        (
            "reservation",
            &["--memory-reservation", "25165824"],
            "memory",
            "memory.soft_limit_in_bytes",
            "memory.low",
            "25165824",
        ),
    ];
    for (name, options, controller, v1, v2, want) in table {
        m.case(format!("verbs/update-{name}"), UPDATE, move |t| {
            t.controller(controller)?;
            let c = t.sleeper(t.bundle()?.set("/linux/resources/memory/limit", 67_108_864))?;
            c.verb_with("update", options).ok()?;
            let dir = super::cgroups::dir(c.pid()?, controller)?;
            let file = if cgroup::layout() == Layout::V1 { v1 } else { v2 };
            let seen = cgroup::read(&dir, file)?;
            let want = if file == "cpu.weight" { "100" } else { want };
            same(file, seen.split_whitespace().next(), Some(want))?;
            c.end()
        });
    }
    for (name, dash) in [("dash", true), ("file", false)] {
        m.case(format!("verbs/update-resources-from-{name}"), UPDATE, move |t| {
            t.controller("pids")?;
            let c = t.sleeper(t.bundle()?)?;
            let resources = json!({"pids": {"limit": 66}, "memory": {"limit": 50_331_648}}).to_string();
            if dash {
                t.verb("update").arg("--resources=-").arg(&c.id).stdin(resources).ok()?;
            } else {
                let file = t.path("resources.json");
                std::fs::write(&file, resources)?;
                t.verb("update").arg("--resources").arg(file).arg(&c.id).ok()?;
            }
            same(
                "pids.max",
                cgroup::read(&super::cgroups::dir(c.pid()?, "pids")?, "pids.max")?.as_str(),
                "66",
            )?;
            c.end()
        });
    }
    m.case("verbs/update-leaves-the-rest-alone", UPDATE, |t| {
        t.controller("pids")?;
        let c = t.sleeper(t.bundle()?.set("/linux/resources/pids/limit", 44))?;
        c.verb_with("update", &["--memory", "50331648"]).ok()?;
        same("pids.max", cgroup::read(&super::cgroups::dir(c.pid()?, "pids")?, "pids.max")?.as_str(), "44")?;
        c.end()
    });
    m.case("verbs/update-with-a-bad-value-changes-nothing", UPDATE, |t| {
        t.controller("memory")?;
        let c = t.sleeper(t.bundle()?.set("/linux/resources/memory/limit", 67_108_864))?;
        c.verb_with("update", &["--memory", "moon"]).output()?.fails()?;
        let file = if cgroup::layout() == Layout::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        same(file, cgroup::read(&super::cgroups::dir(c.pid()?, "memory")?, file)?.as_str(), "67108864")?;
        c.end()
    });
    m.case("verbs/update-with-damaged-json-is-an-error", UPDATE, |t| {
        let c = t.sleeper(t.bundle()?)?;
        t.verb("update").arg("--resources=-").arg(&c.id).stdin("{\"pids\":").output()?.fails().map(drop)
    });
}

fn pause(m: &mut Matrix) {
    m.case("verbs/pause-stops-the-program", "runc contract: pause", |t| {
        let c = t.start(&t.bundle()?.shell("while :; do echo tick; sleep 0.05; done"))?;
        c.await_output("tick")?;
        c.verb("pause").ok()?;
        let before = c.output().len();
        std::thread::sleep(std::time::Duration::from_millis(400));
        let after = c.output().len();
        c.verb("resume").ok()?;
        same("output while paused", after - before, 0)?;
        poll("output after resume", VERB_DEADLINE, || (c.output().len() > after).then_some(()))
    });
    m.case("verbs/delete-force-of-a-paused-one", "runc contract: delete --force", |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("pause").ok()?;
        c.delete_force()?;
        t.nothing_left()
    });
}

fn spec_and_features(m: &mut Matrix) {
    m.case("verbs/spec-can-be-run", "runc contract: spec", |t| {
        let mut bundle = t.bundle()?;
        let cgroup = bundle.spec["linux"]["cgroupsPath"].clone();
        t.verb("spec").cwd(&bundle.dir).ok()?;
        let text = std::fs::read_to_string(bundle.dir.join("config.json"))?;
        bundle.spec = serde_json::from_str(&text)?;
        let bundle = bundle.set("/process/terminal", false).set("/linux/cgroupsPath", cgroup).reports();
        let report = t.report(&bundle)?;
        ensure!(report.list("/caps/inheritable").is_empty(), "spec puts capabilities into inheritable");
        Ok(())
    });
    m.case("verbs/spec-does-not-overwrite", "runc contract: spec", |t| {
        let bundle = t.bundle()?;
        t.verb("spec").arg("--bundle").arg(&bundle.dir).ok()?;
        t.verb("spec").arg("--bundle").arg(&bundle.dir).output()?.fails_with(&["exists"]).map(drop)
    });
    m.case("verbs/spec-rootless", "runc contract: spec --rootless", |t| {
        let bundle = t.bundle()?;
        t.verb("spec").arg("--rootless").cwd(&bundle.dir).ok()?;
        let spec: Value = serde_json::from_str(&std::fs::read_to_string(bundle.dir.join("config.json"))?)?;
        let namespaces = spec["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
        ensure!(namespaces.iter().any(|n| n["type"] == "user"), "no user namespace in {namespaces:?}");
        ensure!(spec["linux"]["uidMappings"].is_array(), "no mappings");
        Ok(())
    });
    m.case("verbs/features", "features.md", |t| {
        let features = parsed(&t.verb("features").ok()?)?;
        ensure!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string(), "{features}");
        for (pointer, word) in [
            ("/hooks", "createContainer"),
            ("/mountOptions", "rro"),
            ("/linux/namespaces", "pid"),
            ("/linux/capabilities", "CAP_CHOWN"),
            ("/linux/seccomp/actions", "SCMP_ACT_NOTIFY"),
        ] {
            let list = features.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
            ensure!(list.iter().any(|w| w == word), "{pointer} lacks {word}");
        }
        Ok(())
    });
    m.case("verbs/features-announce-idmap-and-cgroups", "features-linux.md", |t| {
        let features = parsed(&t.verb("features").ok()?)?;
        for pointer in ["/linux/mountExtensions/idmap/enabled", "/linux/cgroup/v1", "/linux/cgroup/v2"] {
            same(pointer, features.pointer(pointer), Some(&json!(true)))?;
        }
        Ok(())
    });
}
