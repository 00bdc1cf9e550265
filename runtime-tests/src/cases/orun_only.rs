//! What orun has beyond the common command line.

use crate::check::{Context, has, same};
use crate::ensure;
use crate::matrix::Matrix;
use crate::report::Report;
use serde_json::{Value, json};
use std::fs;

const ORUN: &str = "orun --help";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    positional(m);
    plans(m);
    waits(m);
    errors(m);
    m.case("orun/version", ORUN, |t| {
        t.only("orun")?;
        let out = t.runtime().arg("--version").ok()?;
        let lines: Vec<&str> = out.stdout.lines().collect();
        ensure!(lines.first().is_some_and(|l| l.starts_with("orun version ")), "{lines:?}");
        ensure!(lines.contains(&"spec: 1.3.0"), "{lines:?}");
        Ok(())
    });
    m.case("orun/a-memory-limit-that-is-too-small-is-named", ORUN, |t| {
        t.only("orun")?;
        t.controller("memory")?;
        let bundle = t.bundle()?.set("/linux/resources/memory/limit", 16 << 10);
        let out = t.run(&bundle)?.fails_with(&["linux.resources.memory.limit"])?;
        has("message", &out.stderr, "raise the limit")?;
        t.nothing_left()
    });
    m.case("orun/bad-usage-is-1", ORUN, |t| {
        t.only("orun")?;
        t.verb("moonwalk").output()?.exits(1).map(drop)
    });
}

fn positional(m: &mut Matrix) {
    m.case("orun/run-of-a-bundle-by-position", ORUN, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?;
        bundle.save()?;
        Report::parse(&t.verb("run").arg(&bundle.dir).ok()?.stdout)?.is("/pid", 1)?;
        t.nothing_left()
    });
    m.case("orun/run-of-an-id-by-position", ORUN, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?;
        bundle.save()?;
        Report::parse(&t.verb("run").arg(t.id()).cwd(&bundle.dir).ok()?.stdout)?.is("/pid", 1)
    });
    m.case("orun/run-of-a-relative-bundle-by-position", ORUN, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let (parent, name) = (bundle.dir.parent(), bundle.dir.file_name());
        let (Some(parent), Some(name)) = (parent, name) else {
            return crate::check::fail("a bundle without parent");
        };
        Report::parse(&t.verb("run").arg(name).cwd(parent).ok()?.stdout)?.is("/pid", 1)
    });
}

fn plans(m: &mut Matrix) {
    m.case("orun/plan-as-text", ORUN, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?.mount("/planned", "tmpfs", "tmpfs", &[]);
        bundle.save()?;
        let out = t.verb("plan").arg(&bundle.dir).ok()?;
        has("plan", &out.stdout, "/planned")?;
        has("plan", &out.stdout, "mounts[6]")?;
        t.nothing_left()
    });
    m.case("orun/plan-as-json", ORUN, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let out = t.verb("plan").arg("--json").arg(&bundle.dir).ok()?;
        let plan: Value = serde_json::from_str(&out.stdout).context("the plan")?;
        ensure!(plan.is_object() || plan.is_array(), "{plan}");
        t.nothing_left()
    });
    m.case("orun/plan-without-root", ORUN, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let cmd =
            t.host("setpriv").args(["--reuid=1000", "--regid=1000", "--clear-groups"]).arg(&t.runtime.path);
        cmd.arg("plan").arg(&bundle.dir).ok().map(drop)
    });
    m.case("orun/plan-of-a-bad-bundle-names-every-violation", ORUN, |t| {
        t.only("orun")?;
        let bundle =
            t.bundle()?.set("/process/cwd", "relative").push("/linux/namespaces", json!({"type": "ipc"}));
        bundle.save()?;
        let out = t.verb("plan").arg(&bundle.dir).output()?.fails()?;
        has("message", &out.stderr, "cwd")?;
        has("message", &out.stderr, "linux.namespaces")
    });
    m.case("orun/plan-does-nothing", ORUN, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let before = fs::read_dir(bundle.rootfs())?.count();
        t.verb("plan").arg(&bundle.dir).ok()?;
        same("entries of the root", fs::read_dir(bundle.rootfs())?.count(), before)?;
        t.nothing_left()
    });
}

fn waits(m: &mut Matrix) {
    m.case("orun/wait-tells-the-exit-code", ORUN, |t| {
        t.only("orun")?;
        // Before PIDFD_GET_INFO reports it, only the parent knows the exit status of a process.
        t.kernel(6, 15)?;
        let c = t.create(&t.bundle()?.args(&["sh", "-c", "sleep 1; exit 9"]))?;
        let waiting = c.verb("wait").spawn()?;
        c.start()?;
        let out = waiting.wait()?;
        ensure!(out.status.code() == 9 || out.stdout.trim() == "9", "{}", out.describe());
        c.end()
    });
    m.case("orun/wait-for-an-unknown-id-is-an-error", ORUN, |t| {
        t.only("orun")?;
        t.verb("wait").arg("none").output()?.fails_with(&["does not exist"]).map(drop)
    });
}

fn errors(m: &mut Matrix) {
    m.case("orun/all-violations-at-once", ORUN, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?.set("/process/cwd", "relative").set("/process/args", json!([]));
        let bundle = bundle.push("/process/rlimits", json!({"type": "RLIMIT_MOON", "soft": 1, "hard": 1}));
        let out = t.refuses(&bundle, &["cwd"])?;
        for property in ["process.cwd", "process.args", "process.rlimits"] {
            has("message", &out.stderr, property)?;
        }
        Ok(())
    });
    m.case("orun/debug-log-has-the-cpus-of-exec", ORUN, |t| {
        t.only("orun")?;
        let affinity = json!({"initial": "0", "final": "0"});
        let c = t.sleeper(t.bundle()?.set("/process/execCPUAffinity", affinity))?;
        let out = t.verb("exec").args(["--debug", &c.id, "true"]).ok()?;
        has("debug log", &out.stderr, "process.execCPUAffinity.initial: affinity: 0x1\"")
    });
    for (pointer, value, property) in [
        ("/hostname", json!("n".repeat(65)), "hostname"),
        ("/linux/namespaces/0/type", json!("moon"), "linux.namespaces[0]"),
        ("/mounts/6", json!({"destination": "/mnt", "type": "nonefs", "source": "x"}), "mounts[6]"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
    ] {
        m.case(format!("orun/error-names-{}", property.to_lowercase()), ORUN, move |t| {
            t.only("orun")?;
            let bundle = if pointer == "/mounts/6" {
                t.bundle()?.push("/mounts", value.clone())
            } else {
                t.bundle()?.set(pointer, value.clone())
            };
            t.refuses(&bundle, &[property]).map(drop)
        });
    }
}
