//! The calls of engines, made as each engine makes them: the order and the form of the flags, the environment, the
//! descriptors, and what the engine reads out of the answer. The lines are those of the engines' sources and of
//! recordings: containerd's shim and go-runc, BuildKit, conmon, Podman, CRI-O, conmon-rs, Buildah, dockerd.

use crate::bundle::Bundle;
use crate::case::{T, one_error};
use crate::check::{Context, Done, Result, has, same};
use crate::command::{Cmd, Output, VERB_DEADLINE, poll};
use crate::console::{FdSocket, Master};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

const SHIM: &str = "containerd shim runc.v2 and go-runc";
const CONMON: &str = "conmon and Podman";
const CRIO: &str = "CRI-O";

/// One caller with one container.
struct Caller<'t> {
    t: &'t T<'t>,
    bundle: Bundle,
    id: String,
    /// The words before the verb.
    global: &'static str,
}

impl<'t> Caller<'t> {
    fn new(t: &'t T<'t>, global: &'static str, bundle: Bundle) -> Result<Caller<'t>> {
        bundle.save()?;
        Ok(Caller { t, bundle, id: t.id(), global })
    }

    /// A file of the bundle.
    fn file(&self, name: &str) -> PathBuf {
        self.bundle.dir.join(name)
    }

    /// The runtime with these words, in which `R` (state directory), `B` (bundle) and `ID` are filled in.
    fn call(&self, line: &str) -> Cmd {
        let (root, bundle) = (self.t.root().display().to_string(), self.bundle.dir.display().to_string());
        let fill = |word: &str| match word {
            "ID" => self.id.clone(),
            _ => word.replace("%R", &root).replace("%B", &bundle),
        };
        let words = self.global.split_whitespace().chain(line.split_whitespace()).map(fill);
        self.t.program().args(words)
    }

    fn ok(&self, line: &str) -> Result<Output> {
        self.call(line).ok()
    }

    /// What conmon and the shim find in a pid file: they take the whole text for a number.
    fn pid(&self, name: &str) -> Result<i32> {
        let text = fs::read_to_string(self.file(name)).context(name)?;
        text.parse().context(&format!("the pid file holds {text:?}"))
    }

    fn process(&self, args: &[&str], terminal: bool) -> Done {
        let process = json!({"terminal": terminal, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
                             "env": ["PATH=/bin", "TERM=xterm"]});
        Ok(fs::write(self.file("process"), process.to_string())?)
    }

    /// Waits for a status in the form in which CRI-O and Buildah read it.
    fn becomes(&self, status: &str) -> Done {
        let line = format!("{} state ID", if self.global.contains("--root") { "" } else { "--root %R" });
        poll(&format!("status {status}"), VERB_DEADLINE, || {
            let state: Value = serde_json::from_str(&self.ok(&line).ok()?.stdout).ok()?;
            (state["status"] == status).then_some(())
        })
    }
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    shim(m);
    shim_errors(m);
    buildkit(m);
    conmon(m);
    podman(m);
    crio(m);
    others(m);
}

/// The program has its standard streams and nothing else. As it starts it may have a file of its own open for a moment.
fn has_three_descriptors(pid: i32) -> Done {
    let names = || -> Vec<_> {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        all.map(|f| f.file_name()).collect()
    };
    let seen = poll("three descriptors", VERB_DEADLINE, || (names().len() == 3).then_some(()));
    seen.context(&format!("the program has the descriptors {:?}", names()))
}

const SHIM_GLOBAL: &str = "--root %R --log %B/log.json --log-format json";

fn shim(m: &mut Matrix) {
    m.case("contract/shim-life", SHIM, |t| {
        let c = Caller::new(t, SHIM_GLOBAL, t.bundle()?.sleeps())?;
        let shim = |line: &str| c.call(line).env("TTRPC_ADDRESS", "/run/none").env("GOMAXPROCS", "2");
        // The shim has a socket as 3 and a pipe as 4; Go closes them on exec, but nothing obliges it to.
        let (read, write) = nix::unistd::pipe()?;
        let create = shim("create --bundle %B --pid-file %B/init.pid --no-new-keyring ID");
        create.fd(read, 3).fd(write, 4).ok()?;
        let init = c.pid("init.pid")?;
        let reaper = std::process::id() as i32;
        same("the parent of the first process", crate::proc::process(init).map(|p| p.parent), Some(reaper))?;
        shim("start ID").ok()?;
        has_three_descriptors(init)?;
        let pids: Vec<i32> = serde_json::from_str(&shim("ps --format json ID").ok()?.stdout)?;
        same("ps", pids, vec![init])?;
        shim("pause ID").ok()?;
        shim("resume ID").ok()?;
        c.process(&["sleep", "1000"], false)?;
        shim("exec --process %B/process --detach --pid-file %B/e1.pid ID").ok()?;
        ensure!(crate::proc::lives(c.pid("e1.pid")?), "the further process does not run");
        shim("kill ID 15").ok()?;
        shim("kill --all ID 9").output()?;
        c.becomes("stopped")?;
        shim("delete ID").ok()?;
        // A second shim does it always.
        let out = shim("delete --force ID").ok()?;
        same("standard error", out.stderr.as_str(), "")?;
        same("the log", fs::read_to_string(c.file("log.json"))?.contains("\"error\""), false)?;
        t.nothing_left()
    });
    m.case("contract/shim-terminal", SHIM, |t| {
        let c =
            Caller::new(t, SHIM_GLOBAL, t.bundle()?.set("/process/terminal", true).shell("echo first; cat"))?;
        let socket = FdSocket::listen(&c.file("pty.sock"))?;
        c.ok("create --bundle %B --pid-file %B/init.pid --console-socket %B/pty.sock ID")?;
        let mut first = Master::from(socket.receive()?)?;
        c.ok("start ID")?;
        first.await_text("first")?;
        c.process(&["sh", "-c", "echo second; cat"], true)?;
        c.ok("exec --process %B/process --console-socket %B/pty.sock --detach --pid-file %B/e.pid ID")?;
        let mut second = Master::from(socket.receive()?)?;
        second.await_text("second")?;
        c.ok("kill --all ID 9")?;
        c.becomes("stopped")?;
        c.ok("delete ID")?;
        t.nothing_left()
    });
    m.case("contract/shim-update", SHIM, |t| {
        t.controller("memory")?;
        let c = Caller::new(t, SHIM_GLOBAL, t.bundle()?.sleeps())?;
        c.ok("create --bundle %B --pid-file %B/init.pid ID")?;
        c.ok("start ID")?;
        // dockerd's zeros mean "as it is"; the device rule of CRI's must not take the devices away.
        let resources = json!({"memory": {"limit": 67108864, "reservation": 0, "swap": 0},
                               "cpu": {"shares": 0, "quota": 0, "period": 0},
                               "devices": [{"allow": false, "access": "rwm"}]})
        .to_string();
        c.call("update --resources - ID").stdin(resources.clone()).ok()?;
        c.call("update --resources=- ID").stdin(resources).ok()?;
        c.process(&["sh", "-c", "echo written >/dev/null"], false)?;
        c.ok("exec --process %B/process ID")?;
        let stats: Value = serde_json::from_str(&c.ok("events --stats ID")?.stdout)?;
        same("the limit", &stats["data"]["memory"]["usage"]["limit"], &json!(67108864))?;
        c.ok("delete --force ID")?;
        t.nothing_left()
    });
    m.case("contract/shim-death-signal", SHIM, |t| {
        // The shim lets its children die with it; a container has to outlive the command that made it.
        let c = Caller::new(t, SHIM_GLOBAL, t.bundle()?.args(&["probe", "report"]))?;
        let line = format!("{SHIM_GLOBAL} run --bundle %B ID");
        let words = line.split(' ').map(|w| match w {
            "ID" => c.id.clone(),
            _ => w
                .replace("%R", &t.root().display().to_string())
                .replace("%B", &c.bundle.dir.display().to_string()),
        });
        let setpriv = t.host("/usr/bin/setpriv").args(["--pdeathsig", "KILL"]).arg(&t.runtime.path);
        let out = setpriv.args(t.globals()).args(words).ok()?;
        let report = crate::report::Report::parse(&out.stdout)?;
        same("the program's signal", report.at("/parent_death_signal"), &json!(0))
    });
}

/// The text that the shim shows: the last entry of level error.
fn last_error(c: &Caller<'_>) -> Result<String> {
    let text = fs::read_to_string(c.file("log.json"))?;
    let mut last = String::new();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).context(&format!("the line {line:?}"))?;
        if entry["level"] == "error" {
            last = entry["msg"].as_str().unwrap_or("").to_owned();
        }
    }
    Ok(last)
}

fn shim_errors(m: &mut Matrix) {
    m.case("contract/shim-reads-the-reason-of-a-failed-create", SHIM, |t| {
        let c = Caller::new(t, SHIM_GLOBAL, t.bundle()?.args(&["/none/such"]))?;
        c.call("create --bundle %B --pid-file %B/init.pid ID").output()?.fails()?;
        has("the reason", &last_error(&c)?, "no such file or directory")?;
        c.ok("delete --force ID")?;
        t.nothing_left()
    });
    m.case("contract/shim-knows-what-is-gone-by-standard-error", SHIM, |t| {
        let c = Caller::new(t, SHIM_GLOBAL, t.bundle()?.args(&["true"]))?;
        for line in ["kill ID 9", "delete ID"] {
            has("standard error", &c.call(line).output()?.fails()?.stderr, "does not exist")?;
        }
        c.ok("create --bundle %B --pid-file %B/init.pid ID")?;
        c.ok("start ID")?;
        c.becomes("stopped")?;
        let stderr = c.call("kill ID 9").output()?.fails()?.stderr.to_lowercase();
        let gone = ["os: process already finished", "container not running", "no such process"];
        ensure!(gone.iter().any(|text| stderr.contains(text)), "{stderr:?} does not say that it is gone");
        c.ok("kill --all ID 9")?;
        c.ok("delete ID")?;
        t.nothing_left()
    });
    m.case("contract/shim-exec-error", SHIM, |t| {
        let c = Caller::new(t, SHIM_GLOBAL, t.bundle()?.sleeps())?;
        c.ok("create --bundle %B --pid-file %B/init.pid ID")?;
        c.ok("start ID")?;
        c.process(&["none-such"], false)?;
        c.call("exec --process %B/process --detach --pid-file %B/e.pid ID").output()?.fails()?;
        has("the reason", &last_error(&c)?, "executable file not found in $PATH")?;
        c.ok("delete --force ID")?;
        t.nothing_left()
    });
}

fn buildkit(m: &mut Matrix) {
    m.case("contract/buildkit", "BuildKit's executor", |t| {
        let c = Caller::new(t, "--root %R --log %B/log.json --log-format json", t.bundle()?.sleeps())?;
        let running = c.call("run --bundle %B --keep --pid-file %B/pid ID").spawn()?;
        poll("the program", VERB_DEADLINE, || running.stdout().contains("ready").then_some(()))?;
        c.process(&["sh", "-c", "exit 5"], false)?;
        c.call("exec --process %B/process --pid-file %B/exec.pid ID").output()?.exits(5)?;
        c.becomes("running")?;
        c.ok("kill ID 9")?;
        running.wait()?.exits(137)?;
        c.ok("delete ID")?;
        t.nothing_left()
    });
}

fn conmon(m: &mut Matrix) {
    m.case("contract/conmon", CONMON, |t| {
        let c = Caller::new(t, "--root=%R --log-format=json --log %B/oci-log", t.bundle()?.sleeps())?;
        let (read, write) = nix::unistd::pipe()?;
        let create = c.call("create --bundle %B --pid-file %B/pidfile --no-new-keyring ID");
        let env = |cmd: Cmd| cmd.env("_OCI_SYNCPIPE", "3").env("_OCI_STARTPIPE", "4");
        env(create).fd(read, 3).fd(write, 4).ok()?;
        let init = c.pid("pidfile")?;
        c.ok("start ID")?;
        has_three_descriptors(init)?;
        c.process(&["sh", "-c", "cat <&3 >/tmp/passed"], false)?;
        let (read, write) = nix::unistd::pipe()?;
        nix::unistd::write(write.as_fd(), b"through 3")?;
        drop(write);
        let exec = c.call("exec --pid-file %B/exec.pid --process %B/process --preserve-fds 1 --detach ID");
        exec.fd(read, 3).ok()?;
        let passed = c.bundle.rootfs().join("tmp/passed");
        let read = || fs::read_to_string(&passed).is_ok_and(|text| text == "through 3").then_some(());
        poll("what came through descriptor 3", VERB_DEADLINE, read)?;
        c.ok("delete --force ID")?;
        t.nothing_left()
    });
    m.case("contract/podman-reads-the-log-as-one-document", CONMON, |t| {
        let c = Caller::new(
            t,
            "--log-format=json --log %B/oci-log --root=%R",
            t.bundle()?.args(&["/none/such"]),
        )?;
        c.call("create --bundle %B --pid-file %B/pidfile ID").output()?.fails()?;
        let document: Value = serde_json::from_str(&fs::read_to_string(c.file("oci-log"))?)?;
        has("msg", document["msg"].as_str().unwrap_or(""), "no such file or directory")?;
        t.nothing_left()
    });
    m.case("contract/conmon-reads-standard-error-without-a-log", CONMON, |t| {
        let c = Caller::new(t, "--root %R", t.bundle()?.args(&["/none/such"]))?;
        let out = c.call("create --bundle %B --pid-file %B/pidfile ID").output()?.fails()?;
        has("standard error", &out.stderr, "no such file or directory")?;
        ensure!(out.stderr.len() < 8192, "conmon reads 8 KiB, not {}", out.stderr.len());
        t.nothing_left()
    });
}

fn podman(m: &mut Matrix) {
    m.case("contract/podman", CONMON, |t| {
        let c = Caller::new(t, "--root %R", t.bundle()?.sleeps())?;
        // All that Podman gives its runtime.
        let podman =
            |line: &str| c.call(line).no_env().env("XDG_RUNTIME_DIR", "/run").env("PATH", "/usr/bin:/bin");
        podman("create --bundle %B --pid-file %B/pidfile ID").ok()?;
        podman("start ID").ok()?;
        podman("pause ID").ok()?;
        podman("resume ID").ok()?;
        fs::write(c.file("resources"), json!({"cpu": {"shares": 512}}).to_string())?;
        podman(&format!("update --resources={} ID", c.file("resources").display())).ok()?;
        podman("kill --all ID 9").ok()?;
        c.becomes("stopped")?;
        podman("delete --force ID").ok()?;
        podman("delete --force ID").ok()?;
        has("--version", &podman("--version").ok()?.stdout, "version")?;
        t.nothing_left()
    });
}

fn crio(m: &mut Matrix) {
    m.case("contract/cri-o", CRIO, |t| {
        let c = Caller::new(t, "--root %R", t.bundle()?.sleeps())?;
        c.ok("create --bundle %B --pid-file %B/pidfile ID")?;
        c.ok("start ID")?;
        let state: Value = serde_json::from_str(&c.ok("state ID")?.stdout)?;
        same("pid", state["pid"].as_i64(), Some(c.pid("pidfile")?.into()))?;
        let created = state["created"].as_str().unwrap_or("");
        ensure!(
            created.len() >= 20 && created.contains('T') && created.ends_with('Z'),
            "created {created:?}"
        );
        // Its process has no cwd.
        fs::write(
            c.file("process"),
            json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "pwd"], "env": ["PATH=/bin"]})
                .to_string(),
        )?;
        same("cwd", c.ok("exec --process %B/process ID")?.stdout.trim(), "/")?;
        c.call("update --resources - ID").stdin(json!({"cpu": {"shares": 512}}).to_string()).ok()?;
        c.ok("kill ID KILL")?;
        c.becomes("stopped")?;
        c.ok("kill -a ID 9")?;
        c.ok("delete --force ID")?;
        t.nothing_left()
    });
    m.case("contract/cri-o-features", CRIO, |t| {
        let c = Caller::new(t, "", t.bundle()?)?;
        let features: Value = serde_json::from_str(&c.ok("features")?.stdout)?;
        ensure!(features["ociVersionMax"].is_string() && features["linux"].is_object(), "{features}");
        Ok(())
    });
    m.case("contract/conmon-rs", "conmon-rs", |t| {
        // It gives --root twice, and the command of exec behind the id.
        let c = Caller::new(t, "--root=%R --root=%R", t.bundle()?.sleeps())?;
        c.ok("create --bundle %B --pid-file %B/pidfile ID")?;
        c.ok("start ID")?;
        c.ok("exec -d --pid-file=%B/exec.pid ID sleep 1000")?;
        ensure!(crate::proc::lives(c.pid("exec.pid")?), "the further process does not run");
        c.ok("delete --force ID")?;
        t.nothing_left()
    });
}

fn others(m: &mut Matrix) {
    m.case("contract/buildah", "Buildah", |t| {
        let c = Caller::new(t, "--root %R", t.bundle()?.args(&["probe", "sleep"]))?;
        c.ok("create --bundle %B --pid-file %B/pid --no-new-keyring ID")?;
        c.ok("start ID")?;
        c.becomes("running")?;
        c.ok("kill ID SIGKILL")?;
        c.becomes("stopped")?;
        c.call("kill ID").output()?.fails()?;
        c.ok("delete ID")?;
        t.nothing_left()
    });
    m.case("contract/dockerd-version", "dockerd", |t| {
        let c = Caller::new(t, "", t.bundle()?)?;
        let text = c.ok("--version")?.stdout;
        let line = text.lines().find(|l| l.contains("version")).unwrap_or("");
        let (name, version) = line.split_once("version").unwrap_or(("", ""));
        ensure!(
            !name.trim().is_empty() && version.trim().starts_with(|c: char| c.is_ascii_digit()),
            "{text:?}"
        );
        has("--version", &text, "\nspec: 1.")
    });
    m.case("contract/an-empty-environment", "all engines", |t| {
        let c = Caller::new(t, "--root %R --log %B/log --log-format json", t.bundle()?.args(&["true"]))?;
        c.call("create --bundle %B ID").no_env().ok()?;
        c.call("start ID").no_env().ok()?;
        c.becomes("stopped")?;
        c.call("delete ID").no_env().ok()?;
        c.call("start ID").no_env().output()?.fails()?;
        one_error(&c.file("log")).map(drop)?;
        t.nothing_left()
    });
}
