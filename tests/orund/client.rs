//! The verbs of the command line, on a real supervisor.

use crate::daemon::{Daemon, can_run, kill, pid_of, wait_for};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const ORUND: &str = env!("CARGO_BIN_EXE_orund");

pub fn command(d: &Daemon, words: &str) -> Command {
    let mut command = Command::new(ORUND);
    command.arg("--socket").arg(d.dir.join("sock")).args(words.split_whitespace()).current_dir(&d.dir);
    if let Some(user) = d.user {
        command.uid(user).gid(user);
    }
    command
}

pub fn run(d: &Daemon, words: &str) -> Output {
    command(d, words).stdin(Stdio::null()).output().unwrap()
}

/// Standard output of a verb that must succeed.
pub fn ok(d: &Daemon, words: &str) -> String {
    let done = run(d, words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{words}: {}{}\n{}", text(&done.stdout), text(&done.stderr), d.output());
    text(&done.stdout)
}

/// Exit code and standard error of a verb that must fail.
pub fn fails(d: &Daemon, words: &str) -> (i32, String) {
    let done = run(d, words);
    assert!(!done.status.success(), "{words}");
    (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
}

pub fn write(d: &Daemon, file: &str, text: &str) {
    fs::write(d.dir.join(file), text).unwrap();
}

const WEB: &str = "apiVersion: orun.dev/v1
kind: Workload
metadata: {name: web}
spec:
  replicas: 2
  terminationGracePeriodSeconds: 60
  bundle: ./bundle
  args: [sh, -c, \"trap 'echo bye; exit 0' TERM; echo hello $ORUN_REPLICA_INDEX; echo oops >&2; while true; do sleep 0.05; done\"]
";

#[test]
fn from_apply_to_delete() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("verbs", &[]);
    write(&d, "web.yaml", WEB);
    assert_eq!(ok(&d, "apply -f web.yaml --dry-run"), "workload/web created (dry run)\n");
    assert_eq!(ok(&d, "get -o name"), "");
    let said = ok(&d, "apply -f web.yaml --wait --timeout 60");
    assert_eq!(said, "workload/web created\nworkload/web ready: 2/2 replicas available\n");
    assert_eq!(ok(&d, "apply -f web.yaml"), "workload/web unchanged\n");
    let table = ok(&d, "get");
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["web", "2/2", "2", "Ready", "0"]);
    assert_eq!(ok(&d, "get replicas -o name"), "replica/web-0\nreplica/web-1\n");
    write(&d, "web.yaml", &WEB.replace("replicas: 2", "replicas: 3"));
    // A preview changes nothing, and says by its exit code whether there is something to change.
    let diff = run(&d, "apply -f web.yaml --diff");
    let text = String::from_utf8(diff.stdout).unwrap();
    assert_eq!(diff.status.code(), Some(1), "{text}");
    assert!(text.contains("\n@@ -") && text.contains("\n-  replicas: 2\n+  replicas: 3\n"), "{text}");
    assert_eq!(d.api("GET", "/v1/workloads/web", "").1["spec"]["replicas"], 2);
    let said = ok(&d, "apply -f web.yaml --wait --timeout 60");
    assert_eq!(said, "workload/web configured\nworkload/web ready: 3/3 replicas available\n");
    assert_eq!(ok(&d, "apply -f web.yaml --diff"), "");
    assert_eq!(fails(&d, "apply -f no-such.yaml --diff").0, 2);
    ok(&d, "scale web=1 --wait --timeout 60");
    assert_eq!(ok(&d, "get replicas web -o name"), "replica/web-0\n");
    // What is printed reads back.
    write(&d, "back.yaml", ok(&d, "get workloads web -o yaml").split("status:").next().unwrap());
    assert_eq!(ok(&d, "apply -f back.yaml"), "workload/web unchanged\n");
    let before = pid_of(&d.replica("web-0"));
    ok(&d, "restart web-0 --wait --timeout 60");
    ok(&d, "restart web --wait --timeout 60");
    assert_ne!(pid_of(&d.replica("web-0")), before);
    let events = ok(&d, "events web-0");
    for reason in ["SuccessfulCreate", "Started", "Killing"] {
        assert!(events.contains(reason), "{events}");
    }
    assert!(ok(&d, "top web").contains("web-0"));
    let begun = Instant::now();
    assert_eq!(ok(&d, "delete web --wait --timeout 60"), "workload/web deleting\nworkload/web deleted\n");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(fails(&d, "get workloads web").0, 1);
    assert_eq!(ok(&d, "wait web --for=delete"), "workload/web deleted\n");
    assert_eq!(d.processes(), [0i32; 0]);
}

#[test]
fn logs_and_why_it_restarted() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("logs", &[]);
    write(&d, "web.yaml", WEB);
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let all = wait_for("the logs", || Some(ok(&d, "logs web")).filter(|t| t.lines().count() == 2));
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["web-0 | hello 0", "web-1 | hello 1"]);
    let errors = || String::from_utf8(run(&d, "logs web-1").stderr).unwrap();
    wait_for("the errors", || (errors() == "oops\n").then_some(()));
    // Follow over a restart; a new replica joins.
    let mut follow = command(&d, "logs web -f --tail 2").stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(follow.stdout.take().unwrap());
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|l| tx.send(l)));
    let mut got: Vec<String> = Vec::new();
    let mut until = |wanted: &[(&str, usize)]| {
        let enough = |got: &[String]| wanted.iter().all(|(w, n)| got.iter().filter(|l| l == w).count() >= *n);
        while !enough(&got) {
            let line = rx.recv_timeout(Duration::from_secs(60));
            got.push(line.unwrap_or_else(|_| panic!("{wanted:?} are not in {got:?}")));
        }
    };
    // With the last lines of each it exists.
    until(&[("web-0 | hello 0", 1), ("web-1 | hello 1", 1)]);
    kill(pid_of(&d.replica("web-0")).unwrap(), libc::SIGKILL);
    ok(&d, "scale web=3 --wait --timeout 60");
    until(&[("web-0 | hello 0", 2), ("web-2 | hello 2", 1)]);
    follow.kill().unwrap();
    follow.wait().unwrap();
    let told = ok(&d, "describe web-0");
    for part in ["Exits:    killed by SIGKILL after", "| hello 0", "Restarts: 1"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(ok(&d, "logs web-0 --previous"), "hello 0\n");
    assert_eq!(ok(&d, "logs web-0 --since 1h"), "hello 0\nhello 0\n");
    assert_eq!(fails(&d, "logs web-7").0, 1);
    ok(&d, "delete web --now --wait --timeout 60");
}

#[test]
fn programs_in_containers() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("exec", &[]);
    write(&d, "web.yaml", WEB);
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let mut shell = command(&d, "exec -e A=b web-0 -- sh -c");
    let done = shell.arg("echo out $A; echo err >&2; exit 7").output().unwrap();
    assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (&b"out b\n"[..], &b"err\n"[..]));
    assert_eq!(done.status.code(), Some(7));
    // What the workload adds to the environment of the program, it adds to theirs.
    let mut shell = command(&d, "exec web-0 -- sh -c");
    let done = shell.arg("echo $ORUN_WORKLOAD $ORUN_REPLICA_INDEX").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "web 0\n");
    let mut cat =
        command(&d, "exec -i web -- cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let (mut stdin, copy) = (cat.stdin.take().unwrap(), sent.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&copy));
    let mut got = Vec::new();
    cat.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    writer.join().unwrap().unwrap();
    assert!(cat.wait().unwrap().success() && got == sent, "{} bytes of {}", got.len(), sent.len());
    // Signals are forwarded; the exit code is that of a killed program.
    let mut sleep = command(&d, "exec web-0 -- sh -c")
        .arg("echo up; exec sleep 60")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    sleep.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    kill(sleep.id() as i32, libc::SIGTERM);
    assert_eq!(sleep.wait().unwrap().code(), Some(128 + libc::SIGTERM));
    // A client that is gone takes its program along.
    let mut gone = command(&d, "exec web-0 -- sh -c")
        .arg("echo up; exec sleep 61")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gone.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    gone.kill().unwrap();
    gone.wait().unwrap();
    wait_for("the program to end", || {
        let runs = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == b"sleep\x0061\0");
        (!d.processes().iter().any(runs)).then_some(())
    });
    let (code, said) = fails(&d, "exec web-0 -- /none");
    assert_eq!(code, 127);
    assert_eq!(fails(&d, "exec web-0 -- none").0, 127);
    assert_eq!(fails(&d, "exec web-0 -- /bin").0, 126);
    assert!(said.contains("/none") && said.contains("no such file"), "{said}");
    assert_eq!(fails(&d, "exec web-0 -c none -- true").0, 255);
    ok(&d, "delete web --now --wait --timeout 60");
}

#[test]
fn a_terminal_needs_a_file_system_for_it() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("no-devpts", &[]);
    write(&d, "web.yaml", WEB);
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let (code, e) = fails(&d, "exec -t web-0 -- true");
    assert!(code != 0 && e.contains("mount one of type devpts at /dev/pts"), "{code} {e}");
    ok(&d, "delete web --now --wait");
}

#[test]
fn a_terminal_has_a_size_and_ends_with_its_program() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("tty", &[]);
    let file = d.dir.join("bundle/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}));
    let options = ["newinstance", "ptmxmode=0666"];
    mounts.push(json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options}));
    fs::write(&file, config.to_string()).unwrap();
    write(&d, "web.yaml", WEB);
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let size = nix::pty::Winsize { ws_row: 41, ws_col: 123, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    let copy = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut exec = command(&d, "exec -it web-0 -- /bin/busybox sh -c");
    exec.arg("test -t 0 && test -t 1 && busybox stty size; read x; echo got $x; exit 5");
    let mut running = exec.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
    drop(exec);
    let mut master = fs::File::from(pty.master.try_clone().unwrap());
    // Only the program's own end is left: it ends when that does.
    drop(pty.slave);
    let mut got = String::new();
    let mut until = |wanted: &str| {
        let mut buf = [0; 4096];
        while !got.contains(wanted) {
            let n = master.read(&mut buf).unwrap_or(0);
            assert!(n > 0, "{wanted:?} is not in {got:?}");
            got.push_str(&String::from_utf8_lossy(&buf[..n]));
        }
    };
    until("41 123");
    fs::File::from(pty.master).write_all(b"typed\r").unwrap();
    until("got typed");
    assert_eq!(running.wait().unwrap().code(), Some(5));
    ok(&d, "delete web --now --wait --timeout 60");
}

/// A file of Kubernetes, whose image is a bundle of the host.
const KUBERNETES: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: kube, labels: {app: kube}}
spec:
  replicas: 2
  selector: {matchLabels: {app: kube}}
  template:
    metadata: {labels: {app: kube}}
    spec:
      terminationGracePeriodSeconds: 7
      nodeSelector: {disk: ssd}
      containers:
      - name: main
        image: bundle:./bundle
        command: [sh, -c]
        args: [\"trap 'exit 0' TERM; echo $GREETING; while true; do sleep 0.05; done\"]
        env: [{name: GREETING, value: hello}]
        resources: {limits: {memory: 64Mi}}
";

#[test]
fn files_of_kubernetes_are_run_corrected_explained_and_converted() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("kubernetes", &[]);
    write(&d, "kube.yaml", KUBERNETES);
    assert_eq!(ok(&d, "validate -f kube.yaml"), "deployment/kube is valid\n");
    let applied = "deployment/kube created\ndeployment/kube ready: 2/2 replicas available\n";
    assert_eq!(ok(&d, "apply -f kube.yaml --wait --timeout 60"), applied);
    assert_eq!(ok(&d, "get replicas -o name"), "replica/kube-0\nreplica/kube-1\n");
    wait_for("the output", || (ok(&d, "logs kube-1") == "hello\n").then_some(()));
    assert!(ok(&d, "get workloads kube -o yaml").contains("terminationGracePeriodSeconds: 7\n"));
    // Both formats are the same workload.
    write(&d, "native.yaml", &ok(&d, "convert --to orun -f kube.yaml"));
    assert_eq!(ok(&d, "apply -f native.yaml"), "deployment/kube unchanged\n");
    write(&d, "back.yaml", &ok(&d, "convert --to kubernetes -f native.yaml"));
    assert_eq!(ok(&d, "apply -f back.yaml"), "deployment/kube unchanged\n");
    write(
        &d,
        "wrong.yaml",
        &KUBERNETES
            .replace("    metadata", "    terminationGracePeriodSeconds: 7\n    metadata")
            .replace("      terminationGrace", "      # terminationGrace"),
    );
    let said = fails(&d, "validate -f wrong.yaml").1;
    assert!(said.contains("it belongs in spec.template.spec, two columns further right"), "{said}");
    write(&d, "fixed.yaml", &ok(&d, "apply --fix -f wrong.yaml"));
    assert_eq!(ok(&d, "apply -f fixed.yaml"), "deployment/kube unchanged\n");
    assert!(ok(&d, "explain deployment.spec.replicas").contains("  default: 1\n"));
    assert!(fails(&d, "explain deployment.spec.replica").1.contains("did you mean \"replicas\"?"));
    let found: serde_json::Value = serde_json::from_str(&ok(&d, "validate --json -f kube.yaml")).unwrap();
    assert_eq!(found["files"][0]["objects"], json!([{"kind": "Deployment", "name": "kube"}]));
}

#[test]
fn what_is_wrong_is_told_with_the_way_out() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("wrong", &[]);
    write(&d, "bad.yaml", &WEB.replace("replicas", "replica").replace("bundle:", "image:"));
    let (code, said) = fails(&d, "apply -f bad.yaml");
    assert_eq!(code, 1);
    for part in [
        "--> bad.yaml:5:3 (spec)",
        "did you mean \"replicas\"?",
        "unknown field \"image\"",
        "nothing was applied",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let missing = Command::new(ORUND).args(["--socket", "/nonexistent", "get"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("orund serve"));
    write(&d, "gone.yaml", &WEB.replace("./bundle", "/nowhere"));
    let (code, said) = fails(&d, "apply -f gone.yaml --wait --timeout 3");
    assert!(code == 1 && said.contains("there is no bundle at \"/nowhere\""), "{said}");
    assert_eq!(fails(&d, "scale web=x").0, 2);
}

#[test]
fn names_selectors_and_files_choose_what_they_say() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("choose", &[]);
    for (file, name, app) in [("a.yaml", "web", "web"), ("b.yaml", "web-1", "web"), ("c.yaml", "api", "api")]
    {
        let text = WEB.replace("{name: web}", &format!("{{name: {name}, labels: {{app: {app}}}}}"));
        write(&d, file, &text);
        ok(&d, &format!("apply -f {file} --wait --timeout 60"));
    }
    assert_eq!(ok(&d, "get web -o name"), "workload/web\n");
    assert_eq!(ok(&d, "get web-0 -o name"), "replica/web-0\n");
    assert_eq!(ok(&d, "get pods -l app=api -o name"), "replica/api-0\nreplica/api-1\n");
    assert_eq!(ok(&d, "get -l app!=web -o name"), "workload/api\n");
    assert_eq!(ok(&d, "kill -s TERM api-1"), "replica/api-1: SIGTERM sent\n");
    d.wait("api-1", "the program to end by it and run again", |r| r["restarts"] == 1);
    assert!(fails(&d, "kill -s NONE api-1").1.contains("expected a signal"));
    // The replica web-1 of web, and the workload web-1.
    for verb in ["describe", "logs", "restart"] {
        let (_, said) = fails(&d, &format!("{verb} web-1"));
        assert!(said.contains("write workload/web-1 or replica/web-1"), "{said}");
    }
    assert!(ok(&d, "describe replica/web-1").starts_with("Replica web-1:"));
    assert!(ok(&d, "describe workload/web-1").starts_with("Name:         web-1"));
    // What is printed is taken.
    for name in ok(&d, "get -o name").lines().chain(ok(&d, "get replicas -o name").lines()) {
        ok(&d, &format!("describe {name}"));
        ok(&d, &format!("logs {name}"));
        ok(&d, &format!("events {name}"));
    }
    ok(&d, "scale workload/api 1 --wait --timeout 60");
    ok(&d, "wait workload/api --timeout 60");
    assert_eq!(ok(&d, "get pods api -o name"), "replica/api-0\n");
    assert_eq!(ok(&d, "delete -f c.yaml --now --wait"), "workload/api deleting\nworkload/api deleted\n");
    assert_eq!(ok(&d, "delete -l app=web,!tier --now --wait").lines().count(), 4);
    assert_eq!(ok(&d, "get -o name"), "");
    ok(&d, "apply -f a.yaml");
    ok(&d, "delete --all --now --wait");
    assert_eq!(ok(&d, "get -o name"), "");
}

#[test]
fn a_bundle_that_does_not_exist_is_refused_before_anything_is_applied() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("nobundle", &[]);
    write(&d, "web.yaml", &WEB.replace("./bundle", "./bundel"));
    for verb in ["validate", "apply --dry-run", "apply --diff", "apply"] {
        let (_, said) = fails(&d, &format!("{verb} -f web.yaml"));
        assert!(
            said.contains("error") && said.contains("there is no bundle at") && said.contains("bundel"),
            "{said}"
        );
    }
    assert_eq!(ok(&d, "get -o name"), "");
}

#[test]
fn idle_connections_lock_nobody_out() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("idleconn", &[]);
    let open = || std::os::unix::net::UnixStream::connect(d.socket()).unwrap();
    let idle: Vec<_> = (0..300).map(|_| open()).collect();
    assert_eq!(ok(&d, "get -o name"), "");
    drop(idle);
}

/// A verb that runs on, and the lines of its standard output.
fn follow(d: &Daemon, words: &str) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let mut child = command(d, words).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

#[test]
fn followers_survive_a_restart_of_the_daemon() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("follow", &[]);
    let script = "n=0; while [ $n -lt 400 ]; do echo line $n; n=$((n+1)); sleep 0.01; done";
    d.apply("count", 1, script, json!({"restartPolicy": "Never"}));
    d.wait_running("count-0");
    let (mut logs, mut out) = follow(&d, "logs -f count");
    let (mut events, mut seen) = follow(&d, "events -w");
    let (mut table, mut rows) = follow(&d, "get -w");
    let mut lines = Vec::new();
    let mut line = String::new();
    for _ in 0..2 {
        for _ in 0..50 {
            line.clear();
            out.read_line(&mut line).unwrap();
            lines.push(line.trim().to_owned());
        }
        kill(d.supervisor().unwrap(), libc::SIGKILL);
    }
    // It ends by itself, when nothing more can come.
    lines.extend(out.lines().map(|l| l.unwrap()));
    assert!(logs.wait().unwrap().success());
    let expected: Vec<String> = (0..400).map(|n| format!("line {n}")).collect();
    assert_eq!(lines, expected);
    d.apply("last", 1, "exec sleep 1000", json!({}));
    let mut got = Vec::new();
    while !got.iter().any(|l: &String| l.contains("last-0") && l.contains("Started")) {
        line.clear();
        assert!(seen.read_line(&mut line).unwrap() > 0, "{got:?}");
        got.push(line.split_once(' ').unwrap().1.to_owned());
    }
    let started = got.iter().filter(|l| l.contains("count-0") && l.contains(" Started")).count();
    assert_eq!(started, 1, "{got:?}");
    let mut printed = Vec::new();
    while !printed.iter().any(|l: &String| l.starts_with("last ") && l.contains("Ready")) {
        line.clear();
        assert!(rows.read_line(&mut line).unwrap() > 0, "{printed:?}");
        printed.push(line.trim().to_owned());
    }
    assert_eq!(printed.iter().filter(|l| l.starts_with("NAME")).count(), 1, "{printed:?}");
    for child in [&mut events, &mut table] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn logs_of_a_deleted_workload_end_and_are_not_its_namesakes() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("namesake", &[]);
    d.apply("web", 1, "echo secret of the old; exec sleep 1000", json!({"terminationGracePeriodSeconds": 0}));
    d.wait_running("web-0");
    let (mut logs, out) = follow(&d, "logs -f web");
    let mut out = out.lines();
    assert_eq!(out.next().unwrap().unwrap(), "secret of the old");
    d.delete("web", Some(0));
    assert!(out.next().is_none());
    assert!(logs.wait().unwrap().success());
    d.apply("web", 1, "echo new; exec sleep 1000", json!({"terminationGracePeriodSeconds": 0}));
    d.wait_running("web-0");
    wait_for("its output", || (ok(&d, "logs web") == "new\n").then_some(()));
    assert_eq!(ok(&d, "logs -p web"), "");
}
