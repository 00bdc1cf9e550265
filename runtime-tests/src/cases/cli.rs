//! The command line: exit codes, logs, pid files, flags as engines give them.

use crate::case::one_error;
use crate::check::{Context, has, same};
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc;
use serde_json::Value;
use std::fs;

const CODES: &str = "runc contract: exit codes";
const LOGS: &str = "runc contract: log format";
const FLAGS: &str = "runc contract: flags as engines give them";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    codes(m);
    logs(m);
    pid_files(m);
    flags(m);
    engines(m);
    detached(m);
}

fn codes(m: &mut Matrix) {
    for code in [0, 1, 2, 77, 126, 127, 128, 255] {
        m.case(format!("cli/run-passes-exit-code-{code}"), CODES, move |t| {
            t.run(&t.bundle()?.args(&["probe", "exit", &code.to_string()]))?.exits(code).map(drop)
        });
    }
    m.case("cli/run-of-a-faulting-program-is-139", CODES, |t| {
        t.run(&t.bundle()?.args(&["probe", "fault"]))?.exits(139).map(drop)
    });
    m.case("cli/run-of-a-killed-program-is-137", CODES, |t| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let id = t.id();
        let running = t.verb("run").arg("--bundle").arg(&bundle.dir).arg(&id).spawn()?;
        let ready = || running.stdout().contains("ready").then_some(());
        crate::command::poll("the program", crate::command::VERB_DEADLINE, ready)?;
        t.verb("kill").args([&id, "KILL"]).ok()?;
        running.wait()?.exits(137)?;
        t.nothing_left()
    });
    m.case("cli/run-forwards-signals", "runc contract: run in the foreground", |t| {
        let running = t.run_cmd(&t.bundle()?.args(&["probe", "echo-signals"]))?.spawn()?;
        let shows = |text: &str| {
            crate::command::poll(text, crate::command::VERB_DEADLINE, || {
                running.stdout().contains(text).then_some(())
            })
        };
        shows("ready")?;
        running.signal(libc::SIGUSR2)?;
        shows("signal 12.")?;
        running.signal(libc::SIGTERM)?;
        running.wait()?.exits(0)?;
        t.nothing_left()
    });
    m.case("cli/failing-verb-is-1", CODES, |t| {
        t.verb("state").arg("none").output()?.exits(1)?;
        t.verb("start").arg("none").output()?.exits(1).map(drop)
    });
    m.case("cli/failing-run-is-1", CODES, |t| t.run(&t.bundle()?.args(&["none-such"]))?.exits(1).map(drop));
    m.case("cli/unknown-verb", CODES, |t| t.verb("moonwalk").output()?.fails().map(drop));
    m.case("cli/unknown-flag", CODES, |t| t.verb("state").arg("--moon").arg("x").output()?.fails().map(drop));
}

/// The words of a command line that fails.
const FAILING: [&[&str]; 12] = [
    &["state", "none"],
    &["start", "none"],
    &["kill", "none", "9"],
    &["delete", "none"],
    &["exec", "none", "true"],
    &["exec"],
    &["ps", "none"],
    &["pause", "none"],
    &["update", "--memory", "1", "none"],
    &["create", "--bundle", "/none/such", "x"],
    &["moonwalk"],
    &["state", "--moon", "x"],
];

fn logs(m: &mut Matrix) {
    m.case("cli/a-failure-says-error", "callers and test suites look for the word", |t| {
        for words in FAILING {
            let out = t.runtime().args(words.iter().copied()).output()?.fails()?;
            let text = format!("{}{}", out.stderr, out.stdout).to_lowercase();
            has(&out.describe(), &text, "error")?;
        }
        let out = t.run(&t.bundle()?.args(&["none-such"]))?.fails()?;
        has(&out.describe(), &out.stderr.to_lowercase(), "error")
    });
    m.case("cli/a-failure-is-one-line-with-the-word-error", "with every kind of log", |t| {
        t.only("orun")?;
        let log = t.path("log").display().to_string();
        let kinds: [&[&str]; 5] = [
            &[],
            &["--log", &log],
            &["--log", "/dev/null"],
            &["--log-format", "json"],
            &["--debug", "--log", &log, "--log-format", "json"],
        ];
        for (words, kind) in FAILING.iter().flat_map(|w| kinds.iter().map(move |k| (*w, *k))) {
            let out = t.runtime().args(kind.iter().chain(words).copied()).output()?.fails()?;
            same(&out.describe(), out.stderr.trim_end().lines().count(), 1)?;
            let start = if kind.contains(&"json") && kind.len() == 2 {
                "{\"level\":\"error\",\"msg\":\""
            } else {
                "orun: error: "
            };
            ensure!(out.stderr.starts_with(start), "{}", out.describe());
        }
        Ok(())
    });
    m.case("cli/a-warning-says-warning", "callers and test suites look for the word", |t| {
        let bundle = t.bundle()?.push("/process/capabilities/bounding", "CAP_MOONWALK").args(&["true"]);
        let out = t.run(&bundle)?.ok()?;
        let line = out.stderr.lines().find(|l| l.contains("CAP_MOONWALK")).unwrap_or_default();
        has(&out.describe(), &line.to_lowercase(), "warning")
    });
    for verb in ["state", "start", "delete", "exec", "kill"] {
        m.case(format!("cli/log-json-of-a-failing-{verb}"), LOGS, move |t| {
            let log = t.path("log");
            let cmd = t.runtime().arg("--log").arg(&log).args(["--log-format", "json"]).arg(verb).arg("none");
            let cmd = if verb == "exec" { cmd.arg("true") } else { cmd };
            let out = cmd.output()?.fails()?;
            let message = one_error(&log)?;
            ensure!(!out.stderr.trim().is_empty(), "nothing on standard error");
            ensure!(!message.contains('\n'), "message {message:?}");
            Ok(())
        });
    }
    m.case("cli/log-json-keys", LOGS, |t| {
        let log = t.path("log");
        t.runtime().arg("--log").arg(&log).args(["--log-format=json", "state", "none"]).output()?.fails()?;
        let entry: Value = serde_json::from_str(fs::read_to_string(&log)?.lines().last().unwrap_or(""))?;
        same("level", &entry["level"], &Value::from("error"))?;
        has("msg", entry["msg"].as_str().unwrap_or(""), "does not exist")?;
        let time = entry["time"].as_str().unwrap_or("");
        ensure!(time.len() >= 20 && time.contains('T') && time.ends_with('Z'), "time {time:?}");
        Ok(())
    });
    m.case("cli/log-is-appended", LOGS, |t| {
        let log = t.path("log");
        for _ in 0..2 {
            t.runtime()
                .arg("--log")
                .arg(&log)
                .args(["--log-format", "json", "state", "none"])
                .output()?
                .fails()?;
        }
        same("lines", fs::read_to_string(&log)?.lines().count(), 2)
    });
    m.case("cli/log-text", LOGS, |t| {
        let log = t.path("log");
        t.runtime()
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "text", "state", "none"])
            .output()?
            .fails()?;
        let text = fs::read_to_string(&log)?;
        has("log", &text, "none").or_else(|_| has("log", &text, "does not exist"))
    });
    m.case("cli/log-is-empty-on-success", LOGS, |t| {
        let log = t.path("log");
        let bundle = t.bundle()?.args(&["true"]);
        bundle.save()?;
        let cmd = t.runtime().arg("--log").arg(&log).args(["--log-format", "json", "run", "--bundle"]);
        cmd.arg(&bundle.dir).arg(t.id()).ok()?;
        for line in fs::read_to_string(&log).unwrap_or_default().lines() {
            let entry: Value = serde_json::from_str(line).context(line)?;
            ensure!(entry["level"] != "error", "{line}");
        }
        Ok(())
    });
    m.case("cli/log-json-with-hostile-text", LOGS, |t| {
        let log = t.path("log");
        let name = "quo\"te\\back\nline\u{7}";
        let bundle = t.bundle()?.args(&[name]);
        bundle.save()?;
        let cmd = t.runtime().arg("--log").arg(&log).args(["--log-format", "json", "create", "--bundle"]);
        cmd.arg(&bundle.dir).arg(t.id()).output()?.fails()?;
        one_error(&log).map(drop)
    });
    m.case("cli/log-to-an-impossible-place-is-an-error", LOGS, |t| {
        t.runtime().args(["--log", "/none/such/log", "list"]).output()?.fails().map(drop)
    });
    m.case("cli/debug-log-is-json-too", LOGS, |t| {
        let log = t.path("log");
        let bundle = t.bundle()?.args(&["true"]);
        bundle.save()?;
        let cmd = t.runtime().arg("--debug").arg("--log").arg(&log).args([
            "--log-format",
            "json",
            "run",
            "--bundle",
        ]);
        cmd.arg(&bundle.dir).arg(t.id()).ok()?;
        for line in fs::read_to_string(&log).unwrap_or_default().lines() {
            serde_json::from_str::<Value>(line).context(line)?;
        }
        Ok(())
    });
}

fn pid_files(m: &mut Matrix) {
    const PID: &str = "runc contract: --pid-file";
    m.case("cli/pid-file-of-create", PID, |t| {
        let file = t.path("pid");
        let c = t.create_with(&t.bundle()?.sleeps(), |cmd| cmd.arg("--pid-file").arg(&file))?;
        same("pid file", fs::read_to_string(&file)?, c.pid()?.to_string())?;
        c.end()
    });
    m.case("cli/pid-file-of-detached-run", PID, |t| {
        let file = t.path("pid");
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let id = t.id();
        let cmd = t.verb("run").arg("-d").arg("--pid-file").arg(&file).arg("--bundle").arg(&bundle.dir);
        cmd.arg(&id).ok()?;
        let pid: i32 = fs::read_to_string(&file)?.parse()?;
        ensure!(proc::lives(pid), "process {pid} does not live");
        t.verb("delete").args(["--force", &id]).ok().map(drop)
    });
    m.case("cli/pid-file-in-an-impossible-place-is-an-error", PID, |t| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let cmd = t.verb("create").args(["--pid-file", "/none/such/pid", "--bundle"]).arg(&bundle.dir);
        cmd.arg(t.id()).output()?.fails_with(&["no such file"])?;
        t.nothing_left()
    });
}

fn flags(m: &mut Matrix) {
    m.case("cli/global-flags-may-be-repeated", FLAGS, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let root = format!("--root={}", t.root.display());
        t.runtime().arg(&root).arg(&root).arg("state").arg(&c.id).ok().map(drop)
    });
    m.case("cli/values-with-equals", FLAGS, |t| {
        let bundle = t.bundle()?.args(&["true"]);
        bundle.save()?;
        t.verb("run").arg(format!("--bundle={}", bundle.dir.display())).arg(t.id()).ok().map(drop)
    });
    m.case("cli/rootless-flag-is-known", FLAGS, |t| {
        t.runtime().args(["--rootless=false", "list"]).ok()?;
        t.runtime().args(["--rootless", "auto", "list"]).ok().map(drop)
    });
    m.case("cli/empty-environment", FLAGS, |t| {
        let bundle = t.bundle()?;
        let out = t.run_cmd(&bundle)?.no_env().ok()?;
        crate::report::Report::parse(&out.stdout)?.is("/pid", 1)
    });
    m.case("cli/version", FLAGS, |t| {
        let out = t.runtime().arg("--version").ok()?;
        let first = out.stdout.lines().next().unwrap_or("").to_owned();
        ensure!(first.contains(" version "), "first line {first:?}");
        has("version", &out.stdout, "spec: 1.")
    });
    m.case("cli/help", FLAGS, |t| {
        let out = t.runtime().arg("--help").ok()?;
        for verb in ["create", "start", "state", "kill", "delete", "exec", "run"] {
            has("help", &out.stdout, verb)?;
        }
        Ok(())
    });
    m.case("cli/root-directory-is-made", FLAGS, |t| {
        let root = t.path("deep").join("er");
        let bundle = t.bundle()?.args(&["true"]);
        bundle.save()?;
        t.program().arg("--root").arg(&root).arg("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).ok()?;
        let left = fs::read_dir(&root).map(|d| d.flatten().map(|e| e.file_name()).collect::<Vec<_>>());
        let left: Vec<_> = left?.into_iter().filter(|n| n.to_string_lossy().contains(t.marker())).collect();
        ensure!(left.is_empty(), "left in the state directory: {left:?}");
        Ok(())
    });
    m.case("cli/two-roots-are-two-worlds", FLAGS, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let other = t.path("other-root");
        let cmd = t.program().arg("--root").arg(&other).arg("state").arg(&c.id);
        cmd.output()?.fails()?;
        c.is("running")
    });
    m.case("cli/root-that-is-a-file-is-an-error", FLAGS, |t| {
        let file = t.path("file");
        fs::write(&file, "")?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let cmd = t.program().arg("--root").arg(&file).arg("run").arg("--bundle").arg(&bundle.dir);
        cmd.arg(t.id()).output()?.fails()?;
        t.nothing_left()
    });
    m.case("cli/root-on-a-full-disk-is-an-error", "a full state directory", |t| {
        let root = t.volume()?;
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &root, Some("tmpfs"), none, Some("size=4k"))?;
        t.settle();
        fs::write(root.join("filler"), [0u8; 4096])?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let cmd = t.program().arg("--root").arg(&root).arg("run").arg("--bundle").arg(&bundle.dir);
        cmd.arg(t.id()).output()?.fails_with(&["no space left"])?;
        let left: Vec<_> = fs::read_dir(&root)?.flatten().map(|e| e.file_name()).collect();
        ensure!(left.len() == 1, "left in the state directory: {left:?}");
        t.nothing_left()
    });
    m.case("cli/root-that-is-read-only-is-an-error", "a read-only state directory", |t| {
        let root = t.volume()?;
        let flags = nix::mount::MsFlags::MS_RDONLY;
        nix::mount::mount(Some("tmpfs"), &root, Some("tmpfs"), flags, None::<&str>)?;
        t.settle();
        let bundle = t.bundle()?;
        bundle.save()?;
        let cmd = t.program().arg("--root").arg(&root).arg("run").arg("--bundle").arg(&bundle.dir);
        cmd.arg(t.id()).output()?.fails_with(&["read-only file system"])?;
        t.nothing_left()
    });
}

/// The command lines that engines really use, word by word.
fn engines(m: &mut Matrix) {
    m.case("cli/as-containerd-calls-it", "containerd's runc client", |t| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let (log, pid, id) = (bundle.dir.join("log.json"), bundle.dir.join("init.pid"), t.id());
        let call = || t.runtime().arg("--log").arg(&log).args(["--log-format", "json"]);
        call().args(["create", "--bundle"]).arg(&bundle.dir).arg("--pid-file").arg(&pid).arg(&id).ok()?;
        call().args(["start", &id]).ok()?;
        let spec = serde_json::json!({"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/",
                                      "env": ["PATH=/bin"]});
        let process = t.path("runc-process1");
        fs::write(&process, spec.to_string())?;
        let exec_pid = bundle.dir.join("exec.pid");
        let cmd = call()
            .arg("exec")
            .arg("--process")
            .arg(&process)
            .arg("--detach")
            .arg("--pid-file")
            .arg(&exec_pid);
        cmd.arg(&id).ok()?;
        call().args(["ps", "--format", "json", &id]).ok()?;
        call().args(["pause", &id]).ok()?;
        call().args(["resume", &id]).ok()?;
        call().args(["kill", "--all", &id, "9"]).ok()?;
        let stopped = || t.verb("state").arg(&id).ok().ok()?.stdout.contains("stopped").then_some(());
        crate::command::poll("the end", crate::command::VERB_DEADLINE, stopped)?;
        call().args(["delete", &id]).ok()?;
        t.nothing_left()
    });
    m.case("cli/as-podman-calls-it", "podman and conmon", |t| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let (pid, id) = (t.path("pidfile"), t.id());
        let call = || {
            let root = format!("--root={}", t.root.display());
            t.program().args(["--log-format=json", "--log"]).arg(bundle.dir.join("oci-log")).arg(root)
        };
        let cmd = call().args(["create", "--bundle"]).arg(&bundle.dir).arg("--pid-file").arg(&pid);
        cmd.args(["--no-new-keyring", &id]).ok()?;
        call().args(["start", &id]).ok()?;
        call().args(["state", &id]).ok()?;
        call().args(["kill", &id, "15"]).ok()?;
        let stopped = || t.verb("state").arg(&id).ok().ok()?.stdout.contains("stopped").then_some(());
        crate::command::poll("the end", crate::command::VERB_DEADLINE, stopped)?;
        call().args(["delete", "--force", &id]).ok()?;
        t.nothing_left()
    });
    m.case("cli/as-buildkit-calls-it", "buildkit's executor", |t| {
        let bundle = t.bundle()?.args(&["probe", "exit", "3"]);
        bundle.save()?;
        let (pid, id) = (t.path("pid"), t.id());
        let cmd = t.runtime().args(["--log-format", "json", "run", "--bundle"]).arg(&bundle.dir);
        cmd.arg("--keep").arg("--pid-file").arg(&pid).arg(&id).output()?.exits(3)?;
        t.verb("delete").arg(&id).ok()?;
        t.nothing_left()
    });
}

fn detached(m: &mut Matrix) {
    m.case("cli/detached-run-returns-at-once", "runc contract: run --detach", |t| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let id = t.id();
        t.verb("run").arg("--detach").arg("--bundle").arg(&bundle.dir).arg(&id).ok()?;
        has("state", &t.verb("state").arg(&id).ok()?.stdout, "\"running\"")?;
        t.verb("kill").args([&id, "TERM"]).ok()?;
        let stopped = || t.verb("state").arg(&id).ok().ok()?.stdout.contains("stopped").then_some(());
        crate::command::poll("the end", crate::command::VERB_DEADLINE, stopped)?;
        t.verb("delete").arg(&id).ok()?;
        t.nothing_left()
    });
}
