//! `exec`: a second process in a running container.

use crate::cgroup::{self, Layout};
use crate::check::{has, same, same_set};
use crate::command::{VERB_DEADLINE, poll};
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc;
use crate::report::Report;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const CONTRACT: &str = "runc contract: exec";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    plain(m);
    options(m);
    cgroups(m);
    process_json(m);
    detached(m);
    errors(m);
}

fn plain(m: &mut Matrix) {
    m.case("exec/output-and-exit-code", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let out = c.exec(&["sh", "-c", "echo out; echo err >&2; exit 19"])?.exits(19)?;
        same("stdout", out.stdout.as_str(), "out\n")?;
        has("stderr", &out.stderr, "err")
    });
    m.case("exec/standard-input", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let out = c.exec_cmd(&[], &["probe", "stdin"]).stdin("typed").ok()?;
        has("stdout", &out.stdout, "stdin=\"typed\"")
    });
    m.case("exec/namespaces-of-the-container", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?.ns("cgroup"))?;
        let report = c.exec_report(&[])?;
        for kind in ["pid", "net", "mnt", "ipc", "uts", "cgroup"] {
            same(kind, report.ns(kind), proc::namespace(c.pid()?, kind).unwrap_or_default().as_str())?;
        }
        report.is("/root", "/")
    });
    m.case("exec/sees-the-first-process", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        has("name of pid 1", &c.exec(&["cat", "/proc/1/comm"])?.ok()?.stdout, "probe")
    });
    m.case("exec/process-of-the-configuration-is-the-model", CONTRACT, |t| {
        let bundle = t.bundle()?.set("/process/env", json!(["PATH=/bin", "MODEL=yes"]));
        let bundle =
            bundle.set("/process/cwd", "/etc").set("/process/user", json!({"uid": 1000, "gid": 1001}));
        let c = t.sleeper(bundle.set("/process/oomScoreAdj", 77))?;
        let report = c.exec_report(&[])?;
        same("MODEL", report.env("MODEL").as_deref(), Some("yes"))?;
        report.is("/cwd", "/etc")?;
        report.is("/uids/0", 1000)?;
        report.is("/gids/0", 1001)?;
        report.is("/rlimits/RLIMIT_NOFILE", json!([1024, 1024]))?;
        report.is("/no_new_privs", 1)?;
        report.is("/oom_score_adj", "77")
    });
    m.case("exec/own-session", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let report = c.exec_report(&[])?;
        same("session", report.at("/sid"), report.at("/pid"))
    });
    m.case("exec/killed-by-a-signal-is-128-plus-n", "exit codes", |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.exec(&["sh", "-c", "kill -9 $$"])?.exits(137)?;
        c.exec(&["probe", "fault"])?.exits(139).map(drop)
    });
    m.case("exec/signals-are-forwarded", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let running = c.exec_cmd(&[], &["probe", "echo-signals"]).spawn()?;
        poll("the program", VERB_DEADLINE, || running.stdout().contains("ready").then_some(()))?;
        running.signal(libc::SIGUSR1)?;
        poll("the signal", VERB_DEADLINE, || running.stdout().contains("signal 10.").then_some(()))?;
        running.signal(libc::SIGTERM)?;
        running.wait()?.exits(0).map(drop)
    });
    m.case("exec/arguments-after-the-id-are-the-program's", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let out = c.exec(&["probe", "echo", "--help", "-d", "--tty"])?.ok()?;
        same("stdout", out.stdout.as_str(), "--help -d --tty\n")
    });
    m.case("exec/in-a-created-container", "runc contract: exec works before start", |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        c.exec(&["true"])?.ok()?;
        c.end()
    });
    m.case("exec/fifty-times", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        for _ in 0..50 {
            c.exec(&["true"])?.ok()?;
        }
        same(
            "processes in the container",
            c.exec(&["sh", "-c", "ls -d /proc/[0-9]* | cat"])?.ok()?.stdout.lines().count() <= 5,
            true,
        )
    });
}

fn options(m: &mut Matrix) {
    m.case("exec/cwd", CONTRACT, |t| {
        t.sleeper(t.bundle()?)?.exec_report(&["--cwd", "/etc"])?.is("/cwd", "/etc")
    });
    m.case("exec/env", CONTRACT, |t| {
        let report = t.sleeper(t.bundle()?)?.exec_report(&["--env", "A=1", "--env", "B=2"])?;
        same("A", report.env("A").as_deref(), Some("1"))?;
        same("B", report.env("B").as_deref(), Some("2"))
    });
    for (user, uid, gid) in [("1000", 1000, 0), ("1000:1001", 1000, 1001), ("1", 1, 0), ("1:1", 1, 1)] {
        m.case(format!("exec/user-{}", user.replace(':', "-")), "CVE-2026-30892", move |t| {
            let report = t.sleeper(t.bundle()?)?.exec_report(&["--user", user])?;
            report.is("/uids", json!([uid, uid, uid, uid]))?;
            report.is("/gids", json!([gid, gid, gid, gid]))
        });
    }
    for user in ["4294967296", "-1", "1:", "1:x", "moon", "4294967295"] {
        m.case(format!("exec/user-{user}-is-an-error"), "uid_t has 32 bits, -1 is not an ID", move |t| {
            let c = t.sleeper(t.bundle()?)?;
            let option = format!("--user={user}");
            let out = c.exec_cmd(&[&option], &["id", "-u"]).output()?.fails()?;
            ensure!(out.stdout.trim() != "0", "the program ran as root: {}", out.describe());
            Ok(())
        });
    }
    m.case("exec/additional-gids", CONTRACT, |t| {
        let report =
            t.sleeper(t.bundle()?)?.exec_report(&["--additional-gids", "7", "--additional-gids", "8"])?;
        let mut groups: Vec<_> = report.at("/groups").as_array().cloned().unwrap_or_default();
        groups.retain(|g| *g != 0);
        same("groups", groups, vec![json!(7), json!(8)])
    });
    m.case("exec/no-new-privs", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?.set("/process/noNewPrivileges", false))?;
        c.exec_report(&[])?.is("/no_new_privs", 0)?;
        c.exec_report(&["--no-new-privs"])?.is("/no_new_privs", 1)
    });
    m.case("exec/ignore-paused", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("pause").ok()?;
        let running = c.exec_cmd(&["--ignore-paused"], &["true"]).spawn()?;
        // The program is frozen with the rest until the container is resumed.
        std::thread::sleep(std::time::Duration::from_millis(200));
        c.verb("resume").ok()?;
        running.wait()?.exits(0).map(drop)
    });
    m.case("exec/selinux-and-apparmor-options-are-known", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let out = c.exec_cmd(&["--process-label", "", "--apparmor", ""], &["true"]).output()?;
        out.ok().map(drop)
    });
}

fn cgroups(m: &mut Matrix) {
    const CGROUP: &str = "runc contract: exec --cgroup";
    fn option() -> &'static str {
        if cgroup::layout() == Layout::V1 { "pids:/sub" } else { "/sub" }
    }
    m.case("exec/sub-cgroup", CGROUP, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let controller = if cgroup::layout() == Layout::V1 { "pids" } else { "" };
        let dir = cgroup::dir_of(c.pid()?, controller)?.join("sub");
        fs::create_dir(&dir)?;
        let out = c.exec_cmd(&["--cgroup", option()], &["cat", "/proc/self/cgroup"]).ok()?;
        ensure!(out.stdout.lines().any(|l| l.ends_with("/sub")), "{:?}", out.stdout);
        c.end()
    });
    // cgroups(7): a cgroup whose children have controllers takes no process.
    m.case(
        "exec/into-a-container-with-cgroups-of-its-own",
        "runc contract: exec, systemd in a container",
        |t| {
            if cgroup::layout() == Layout::V1 {
                return crate::check::skip("only for v2");
            }
            let script = "cd /sys/fs/cgroup && busybox mkdir init && echo 1 >init/cgroup.procs && \
                      echo +pids >cgroup.subtree_control && echo ready && sleep 100";
            let bundle = t.bundle()?.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]).ns("cgroup");
            let c = t.start(&bundle.shell(script))?;
            c.await_output("ready")?;
            let out = c.exec(&["cat", "/proc/self/cgroup"])?.ok()?;
            same("cgroup", out.stdout.trim(), "0::/init")?;
            c.end()
        },
    );
    m.case("exec/sub-cgroup-that-is-missing-is-an-error", CGROUP, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.exec_cmd(&["--cgroup", option()], &["true"]).output()?.fails()?;
        c.is("running")
    });
    m.case("exec/sub-cgroup-does-not-climb", CGROUP, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let option = option().replace("/sub", "/../..");
        let out = c.exec_cmd(&["--cgroup", &option], &["cat", "/proc/self/cgroup"]).output()?;
        let outside = |l: &str| !l.contains(t.marker());
        let controller = if cgroup::layout() == Layout::V1 { ":pids:" } else { "0::" };
        let climbed = out.stdout.lines().any(|l| l.contains(controller) && outside(l));
        ensure!(!climbed, "{}", out.describe());
        Ok(())
    });
}

fn process(t: &crate::case::T<'_>, change: impl FnOnce(&mut Value)) -> crate::check::Result<PathBuf> {
    let mut spec = json!({"user": {"uid": 0, "gid": 0}, "args": ["/bin/probe", "report"], "cwd": "/",
                          "env": ["PATH=/bin", "FROM=json"]});
    change(&mut spec);
    let path = t.path("process.json");
    fs::write(&path, spec.to_string())?;
    Ok(path)
}

fn process_json(m: &mut Matrix) {
    m.case("exec/added-capability-is-ambient-where-it-is-inheritable", "runc contract", |t| {
        let bundle =
            t.bundle()?.capabilities(&["CAP_KILL"]).push("/process/capabilities/bounding", "CAP_SYSLOG");
        let c = t.sleeper(bundle.set("/process/capabilities/inheritable", json!(["CAP_SYSLOG"])))?;
        for (added, ambient) in [("CAP_SYSLOG", &["CAP_SYSLOG"][..]), ("CAP_CHOWN", &[])] {
            same_set(added, &c.exec_report(&["--cap", added])?.list("/caps/ambient"), ambient)?;
        }
        c.end()
    });
    m.case("exec/process-json", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let path = process(t, |p| {
            p["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7]});
            p["cwd"] = json!("/tmp");
            p["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}]);
            p["noNewPrivileges"] = json!(true);
            p["capabilities"] = json!({"bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
        })?;
        let report = Report::parse(&t.verb("exec").arg("--process").arg(path).arg(&c.id).ok()?.stdout)?;
        report.is("/uids/0", 5)?;
        report.is("/gids/0", 6)?;
        report.is("/cwd", "/tmp")?;
        report.is("/rlimits/RLIMIT_NOFILE", json!([99, 100]))?;
        report.is("/no_new_privs", 1)?;
        same("FROM", report.env("FROM").as_deref(), Some("json"))?;
        for set in ["bounding", "inheritable", "permitted", "effective", "ambient"] {
            same_set(set, &report.list(&format!("/caps/{set}")), &["CAP_KILL"])?;
        }
        Ok(())
    });
    for (name, property, value, pointer, want) in [
        ("umask", "user", json!({"uid": 0, "gid": 0, "umask": 0o27}), "/umask", "0027"),
        ("oom-score-adj", "oomScoreAdj", json!(55), "/oom_score_adj", "55"),
    ] {
        m.case(format!("exec/process-json-with-{name}"), CONTRACT, move |t| {
            let c = t.sleeper(t.bundle()?)?;
            let path = process(t, |p| p[property] = value.clone())?;
            Report::parse(&t.verb("exec").arg("--process").arg(path).arg(&c.id).ok()?.stdout)?
                .is(pointer, want)
        });
    }
    m.case("exec/process-json-without-capabilities-has-the-container's", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?.capabilities(&["CAP_KILL", "CAP_CHOWN"]))?;
        let path = process(t, |_| {})?;
        let report = Report::parse(&t.verb("exec").arg("--process").arg(path).arg(&c.id).ok()?.stdout)?;
        same_set("effective", &report.list("/caps/effective"), &["CAP_KILL", "CAP_CHOWN"])
    });
    for (name, change) in [("relative-cwd", "cwd"), ("no-args", "args"), ("unknown-rlimit", "rlimits")] {
        m.case(format!("exec/process-json-with-{name}-is-an-error"), CONTRACT, move |t| {
            let c = t.sleeper(t.bundle()?)?;
            let path = process(t, |p| match change {
                "cwd" => p["cwd"] = json!("tmp"),
                "args" => p["args"] = json!([]),
                _ => p["rlimits"] = json!([{"type": "RLIMIT_MOON", "soft": 1, "hard": 1}]),
            })?;
            t.verb("exec").arg("--process").arg(path).arg(&c.id).output()?.fails()?;
            c.is("running")
        });
    }
    for (name, text) in
        [("missing", None), ("empty", Some("")), ("damaged", Some("{\"args\": [")), ("a-list", Some("[]"))]
    {
        m.case(format!("exec/process-json-that-is-{name}-is-an-error"), CONTRACT, move |t| {
            let c = t.sleeper(t.bundle()?)?;
            let path = t.path("process.json");
            if let Some(text) = text {
                fs::write(&path, text)?;
            }
            t.verb("exec").arg("--process").arg(&path).arg(&c.id).output()?.fails()?;
            c.is("running")
        });
    }
}

fn detached(m: &mut Matrix) {
    m.case("exec/detach-and-pid-file", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let file = t.path("pid");
        let path = file.to_string_lossy().into_owned();
        c.exec_cmd(&["--detach", "--pid-file", &path], &["probe", "sleep"]).ok()?;
        let text = fs::read_to_string(&file)?;
        let pid: i32 = text.parse()?;
        ensure!(proc::lives(pid), "process {pid} of the pid file does not live");
        let mine = proc::namespace(c.pid()?, "pid");
        same("pid namespace", proc::namespace(pid, "pid"), mine)?;
        same("parent", proc::process(pid).map(|p| p.parent), Some(std::process::id() as i32))?;
        c.end()
    });
    m.case("exec/detached-exit-status-reaches-the-subreaper", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let file = t.path("pid");
        let path = file.to_string_lossy().into_owned();
        c.exec_cmd(&["--detach", "--pid-file", &path], &["sh", "-c", "sleep 1; exit 33"]).ok()?;
        let pid: i32 = fs::read_to_string(&file)?.parse()?;
        let status = poll("the detached program's end", VERB_DEADLINE, || crate::command::take_status(pid))?;
        same("exit code", status.code(), 33)
    });
}

fn errors(m: &mut Matrix) {
    const CODES: &str = "runc contract: exec's own failures are 255";
    for (name, program, phrase) in [
        ("missing", "none-such", "executable file not found in $PATH"),
        ("missing-absolute", "/bin/none-such", "no such file or directory"),
        ("not-executable", "/etc/passwd", "permission denied"),
    ] {
        m.case(format!("exec/program-{name}"), CODES, move |t| {
            let c = t.sleeper(t.bundle()?)?;
            let out = c.exec(&[program])?.exits(255)?;
            has("message", &out.stderr, phrase)?;
            c.is("running")
        });
    }
    m.case("exec/unknown-container-is-255", CODES, |t| {
        let out = t.verb("exec").args(["no-such-container", "true"]).output()?.exits(255)?;
        has("message", &out.stderr, "does not exist")
    });
    m.case("exec/stopped-container-is-255", CODES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.stop()?;
        c.exec(&["true"])?.exits(255).map(drop)
    });
    m.case("exec/paused-container-is-255", CODES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("pause").ok()?;
        let out = c.exec(&["true"])?;
        c.verb("resume").ok()?;
        out.exits(255).map(drop)
    });
    m.case("exec/without-a-program", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("exec").output()?.fails().map(drop)
    });
}
