//! The life of a container: which verb is possible in which status, and the phrases of refusals.

use crate::check::{Context, Done, same};
use crate::command::{VERB_DEADLINE, poll};
use crate::container::Container;
use crate::ensure;
use crate::matrix::Matrix;
use crate::{cgroup, proc};
use serde_json::json;
use std::fs;

const SPEC: &str = "runtime.md Operations";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    statuses(m);
    refusals(m);
    states(m);
    identifiers(m);
    deletion(m);
    reparenting(m);
}

fn refuses(c: &Container<'_>, verb: &[&str], phrases: &[&str]) -> Done {
    let (verb, rest) = verb.split_first().unwrap_or((&"", &[]));
    c.verb(verb).args(rest.iter().copied()).output()?.fails_with(phrases).map(drop)
}

fn statuses(m: &mut Matrix) {
    m.case("lifecycle/created-program-does-not-run", SPEC, |t| {
        let bundle = t.bundle()?.args(&["probe", "touch", "/tmp/ran"]);
        let c = t.create(&bundle)?;
        ensure!(!bundle.rootfs().join("tmp/ran").exists(), "the program ran at create");
        c.is("created")?;
        c.start()?;
        c.becomes("stopped")?;
        ensure!(bundle.rootfs().join("tmp/ran").exists(), "the program did not run at start");
        Ok(())
    });
    m.case(
        "lifecycle/configuration-is-read-at-create-only",
        "runtime.md create: later changes have no effect",
        |t| {
            let bundle = t.bundle()?.args(&["probe", "echo", "first"]);
            let c = t.create(&bundle)?;
            bundle.args(&["probe", "echo", "second"]).save()?;
            c.start()?;
            c.await_output("first")
        },
    );
    m.case("lifecycle/config.json-may-go-after-create", SPEC, |t| {
        let bundle = t.bundle()?.sleeps();
        let c = t.create(&bundle)?;
        fs::remove_file(bundle.dir.join("config.json"))?;
        c.start()?;
        c.await_output("ready")?;
        c.end()
    });
    m.case("lifecycle/stopped-after-exit", SPEC, |t| {
        let c = t.start(&t.bundle()?.args(&["true"]))?;
        c.becomes("stopped")?;
        c.delete()?;
        t.nothing_left()
    });
    m.case("lifecycle/killed-from-outside-is-stopped", SPEC, |t| {
        let c = t.sleeper(t.bundle()?)?;
        crate::sys::pidfd_kill(&crate::sys::pidfd_open(c.pid()?)?, libc::SIGKILL)?;
        c.becomes("stopped")?;
        c.delete()?;
        t.nothing_left()
    });
    m.case("lifecycle/id-can-be-used-again", SPEC, |t| {
        let bundle = t.bundle()?.args(&["true"]);
        bundle.save()?;
        let id = t.id();
        for _ in 0..3 {
            t.verb("run").arg("--bundle").arg(&bundle.dir).arg(&id).ok()?;
        }
        t.nothing_left()
    });
}

fn refusals(m: &mut Matrix) {
    const PHRASES: &str = "runtime.md Operations; runc contract: error phrases";
    m.case("lifecycle/create-of-a-used-id", PHRASES, |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        let cmd = t.verb("create").arg("--bundle").arg(&c.bundle.dir).arg(&c.id);
        cmd.output()?.fails_with(&["already exists"])?;
        c.is("created")?;
        c.end()
    });
    m.case("lifecycle/run-of-a-used-id-leaves-it-running", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let other = t.bundle()?;
        other.save()?;
        let cmd = t.verb("run").arg("--bundle").arg(&other.dir).arg(&c.id);
        cmd.output()?.fails_with(&["already exists"])?;
        c.is("running")?;
        c.exec(&["true"])?.ok()?;
        c.end()
    });
    m.case("lifecycle/start-of-a-running-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        refuses(&c, &["start"], &["cannot start an already running container"])?;
        c.is("running")
    });
    m.case("lifecycle/start-of-a-stopped-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.stop()?;
        refuses(&c, &["start"], &["cannot start a container that has stopped"])
    });
    m.case("lifecycle/start-of-a-paused-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("pause").ok()?;
        refuses(&c, &["start"], &["cannot start a paused container"])?;
        c.verb("resume").ok().map(drop)
    });
    m.case("lifecycle/kill-of-a-stopped-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.stop()?;
        refuses(&c, &["kill", "TERM"], &["container not running"])
    });
    m.case("lifecycle/term-ends-a-created-one", "runc contract", |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        c.kill("TERM")?;
        c.becomes("stopped")?;
        c.delete()
    });
    m.case("lifecycle/kill-reaches-what-outlives-the-first", "runc contract", |t| {
        let c = t.sleeper(t.bundle()?.without_ns("pid"))?;
        let pid_file = t.path("second");
        let second = c.exec_cmd(&["--detach", "--pid-file", &pid_file.to_string_lossy()], &["sleep", "1000"]);
        second.ok()?;
        let second: i32 = fs::read_to_string(&pid_file)?.trim().parse().context("a pid")?;
        c.kill("TERM")?;
        c.becomes("stopped")?;
        ensure!(proc::lives(second), "the second process went with the first");
        c.kill("KILL")?;
        poll("the second process to end", VERB_DEADLINE, || (!proc::lives(second)).then_some(()))?;
        refuses(&c, &["kill", "KILL"], &["container not running"])?;
        c.delete()
    });
    m.case("lifecycle/delete-of-a-running-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        refuses(&c, &["delete"], &["that is not stopped"])?;
        c.is("running")?;
        c.exec(&["true"])?.ok().map(drop)
    });
    m.case("lifecycle/delete-of-a-paused-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("pause").ok()?;
        refuses(&c, &["delete"], &["that is not stopped"])?;
        c.verb("resume").ok().map(drop)
    });
    m.case("lifecycle/pause-of-a-stopped-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.stop()?;
        refuses(&c, &["pause"], &["stopped", "not running", "cannot be paused"])
    });
    m.case("lifecycle/resume-of-a-running-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        refuses(&c, &["resume"], &["not paused", "running"])?;
        c.is("running")
    });
    m.case("lifecycle/exec-in-a-stopped-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.stop()?;
        refuses(&c, &["exec", "true"], &["cannot exec in a stopped container"])
    });
    m.case("lifecycle/exec-in-a-paused-one", PHRASES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("pause").ok()?;
        refuses(&c, &["exec", "true"], &["cannot exec in a paused container"])?;
        c.verb("resume").ok().map(drop)
    });
    for verb in ["state", "start", "kill", "delete", "exec", "pause", "resume", "ps", "update"] {
        m.case(format!("lifecycle/{verb}-of-an-unknown-id"), PHRASES, move |t| {
            let cmd = t.verb(verb).arg(format!("{}-unknown", t.marker()));
            let cmd = match verb {
                "exec" => cmd.arg("true"),
                "kill" => cmd.arg("TERM"),
                _ => cmd,
            };
            cmd.output()?.fails_with(&["does not exist"]).map(drop)
        });
    }
    for verb in ["create", "state", "start", "delete", "run", "kill"] {
        m.case(format!("lifecycle/{verb}-without-an-id"), PHRASES, move |t| {
            t.verb(verb).output()?.fails().map(drop)
        });
    }
}

fn states(m: &mut Matrix) {
    const STATE: &str = "runtime.md State; runc contract: state JSON";
    m.case("lifecycle/state-properties", STATE, |t| {
        let bundle = t.bundle()?.set("/annotations", json!({"org.example.key": "value"}));
        let c = t.sleeper(bundle)?;
        let state = c.state()?;
        same("id", &state["id"], &json!(c.id))?;
        same("status", &state["status"], &json!("running"))?;
        same("bundle", &state["bundle"], &json!(c.bundle.dir))?;
        same("rootfs", &state["rootfs"], &json!(c.bundle.rootfs()))?;
        same("annotations", &state["annotations"], &json!({"org.example.key": "value"}))?;
        ensure!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "{}", state["ociVersion"]);
        let created = state["created"].as_str().unwrap_or("");
        ensure!(
            created.len() >= 20 && created.contains('T') && created.ends_with('Z'),
            "created is {created:?}"
        );
        ensure!(state["owner"].is_string() || state["owner"].is_null(), "owner is {}", state["owner"]);
        Ok(())
    });
    m.case("lifecycle/state-pid-is-the-first-process", STATE, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let report = c.exec_report(&[])?;
        same(
            "pid namespace",
            report.ns("pid"),
            proc::namespace(c.pid()?, "pid").unwrap_or_default().as_str(),
        )?;
        same("name", proc::process(c.pid()?).map(|p| p.name), Some("probe".to_owned()))
    });
    m.case("lifecycle/state-pid-is-zero-when-stopped", STATE, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.stop()?;
        same("pid", &c.state()?["pid"], &json!(0))
    });
    m.case("lifecycle/state-is-private", "state directory 0700", |t| {
        let c = t.sleeper(t.bundle()?)?;
        let dir = t.root.join(&c.id);
        for path in [&dir, &t.root] {
            let mode = proc::mode(path)?;
            ensure!(mode & 0o022 == 0, "{} has mode {mode:o}", path.display());
        }
        ensure!(
            proc::mode(&dir)? & 0o077 == 0 || proc::mode(&t.root)? & 0o077 == 0,
            "others can read the state"
        );
        Ok(())
    });
    m.case("lifecycle/state-is-private-under-umask-0", "state directory 0700", |t| {
        let bundle = t.bundle()?.sleeps();
        let c = t.create_with(&bundle, |cmd| cmd.umask(0))?;
        let dir = t.root.join(&c.id);
        ensure!(
            proc::mode(&dir)? & 0o077 == 0 || proc::mode(&t.root)? & 0o077 == 0,
            "others can read the state"
        );
        ensure!(proc::mode(&dir)? & 0o022 == 0, "others can write the state");
        Ok(())
    });
}

fn identifiers(m: &mut Matrix) {
    const ID: &str = "runc contract: container ids";
    for (name, id) in [
        ("slash", "a/b"),
        ("dot-dot", ".."),
        ("dot", "."),
        ("climbing", "../../tmp/x"),
        ("empty", ""),
        ("space", "a b"),
        ("newline", "a\nb"),
        ("star", "a*"),
    ] {
        m.case(format!("lifecycle/id-with-{name}-is-refused"), ID, move |t| {
            let bundle = t.bundle()?;
            bundle.save()?;
            let out =
                t.verb("create").arg("--bundle").arg(&bundle.dir).arg("--").arg(id).output()?.fails()?;
            ensure!(!out.stderr.contains("panic"), "{}", out.describe());
            t.nothing_left()
        });
    }
    m.case("lifecycle/id-with-all-allowed-characters", ID, |t| {
        let bundle = t.bundle()?.args(&["true"]);
        bundle.save()?;
        let id = format!("{}_A.b+c-9", t.marker());
        t.verb("run").arg("--bundle").arg(&bundle.dir).arg(id).ok()?;
        t.nothing_left()
    });
    m.case("lifecycle/id-is-long", ID, |t| {
        let bundle = t.bundle()?.args(&["true"]);
        bundle.save()?;
        let id = format!("{}-{}", t.marker(), "x".repeat(180));
        t.verb("run").arg("--bundle").arg(&bundle.dir).arg(id).ok()?;
        t.nothing_left()
    });
}

fn deletion(m: &mut Matrix) {
    m.case("lifecycle/delete-of-a-created-one", "runc contract: a created one may be deleted", |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        c.delete()?;
        t.nothing_left()
    });
    m.case("lifecycle/delete-force-of-a-running-one", "runc contract: delete --force", |t| {
        let c = t.start(&t.bundle()?.args(&["probe", "ignore-term"]))?;
        c.await_output("ready")?;
        c.delete_force()?;
        t.nothing_left()
    });
    m.case("lifecycle/delete-force-of-an-unknown-id-is-fine", "runc contract: delete --force", |t| {
        t.verb("delete").arg("--force").arg(format!("{}-unknown", t.marker())).ok().map(drop)
    });
    m.case("lifecycle/delete-leaves-what-is-not-its-own", "runtime.md delete: only own resources", |t| {
        let volume = t.volume()?;
        let c = t.sleeper(t.bundle()?.bind(&volume, "/mnt", &[]))?;
        fs::write(c.bundle.rootfs().join("etc/kept"), "x")?;
        fs::write(volume.join("kept"), "x")?;
        c.delete_force()?;
        ensure!(
            c.bundle.rootfs().join("etc/kept").exists() && volume.join("kept").exists(),
            "files are gone"
        );
        Ok(())
    });
    m.case("lifecycle/delete-removes-the-cgroups", "runtime.md delete", |t| {
        let c = t.sleeper(t.bundle()?)?;
        ensure!(!cgroup::dirs_with(t.marker()).is_empty(), "there is no cgroup while it runs");
        c.stop()?;
        c.delete()?;
        poll("the cgroups to go", VERB_DEADLINE, || cgroup::dirs_with(t.marker()).is_empty().then_some(()))
    });
    m.case("lifecycle/run-deletes-unless-told-to-keep", "runc contract: run --keep", |t| {
        let bundle = t.bundle()?.args(&["true"]);
        bundle.save()?;
        let id = t.id();
        t.verb("run").args(["--keep", "--bundle"]).arg(&bundle.dir).arg(&id).ok()?;
        t.verb("state").arg(&id).ok()?;
        t.verb("delete").arg(&id).ok()?;
        t.nothing_left()
    });
}

fn reparenting(m: &mut Matrix) {
    const REAPER: &str = "runc contract: the first process belongs to the caller's subreaper";
    m.case("lifecycle/first-process-is-our-child-after-create", REAPER, |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        same("parent", proc::process(c.pid()?).map(|p| p.parent), Some(std::process::id() as i32))?;
        c.end()
    });
    m.case("lifecycle/no-other-process-remains-after-create", REAPER, |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        let pid = c.pid()?;
        let others: Vec<_> =
            proc::descendants(std::process::id() as i32).into_iter().filter(|p| p.pid != pid).collect();
        ensure!(others.is_empty(), "also there: {others:?}");
        c.end()
    });
    m.case("lifecycle/exit-status-reaches-the-subreaper", REAPER, |t| {
        let c = t.create(&t.bundle()?.args(&["probe", "exit", "23"]))?;
        let pid = c.pid()?;
        c.start()?;
        let status = poll("the first process's end", VERB_DEADLINE, || crate::command::take_status(pid))?;
        same("exit code", status.code(), 23)
    });
}
