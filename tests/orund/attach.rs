//! Clients that are attached to the standard streams of a container, with and without a terminal.

use crate::client::{command, fails, ok, write};
use crate::daemon::{Daemon, can_run, kill, pid_of, wait_for};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn pod(fields: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: app, image: 'bundle:./bundle', {fields}}}
"
    )
}

/// A client with a terminal of its own.
struct Typist {
    client: Child,
    terminal: File,
    got: String,
}

impl Typist {
    fn attach(d: &Daemon, rows: u16) -> Typist {
        let mut typist = Typist::start(command(d, "attach web-0"), rows);
        typist.until("attached to web-0");
        typist
    }

    /// A client in a terminal of that height.
    fn start(mut command: Command, rows: u16) -> Typist {
        let size = nix::pty::Winsize { ws_row: rows, ws_col: 123, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(Some(&size), None).unwrap();
        let copy = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        let slave = &pty.slave;
        let client = command.stdin(copy(slave)).stdout(copy(slave)).stderr(copy(slave)).spawn().unwrap();
        Typist { client, terminal: pty.master.into(), got: String::new() }
    }

    fn until(&mut self, wanted: &str) {
        let mut buf = [0; 4096];
        while !self.got.contains(wanted) {
            use std::os::fd::AsFd;
            let mut fds = [nix::poll::PollFd::new(self.terminal.as_fd(), nix::poll::PollFlags::POLLIN)];
            let ready = nix::poll::poll(&mut fds, nix::poll::PollTimeout::from(60_000u16)).unwrap();
            assert!(ready > 0, "waited 60 s for {wanted:?}: {:?}", self.got);
            let n = self.terminal.read(&mut buf).unwrap_or(0);
            assert!(n > 0, "{wanted:?} is not in {:?}", self.got);
            self.got.push_str(&String::from_utf8_lossy(&buf[..n]));
        }
        let at = self.got.find(wanted).unwrap_or_default();
        self.got.drain(..at + wanted.len());
    }

    fn write(&mut self, keys: &[u8]) {
        self.terminal.write_all(keys).unwrap();
    }
}

#[test]
fn a_terminal_gets_keys_and_sizes_and_survives_its_clients_and_a_killed_supervisor() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("attach", &[]);
    write(&d, "web.yaml", &pod("command: [sh], stdin: true, tty: true"));
    ok(&d, "apply -f web.yaml --wait --timeout 60");
    let pid = pid_of(&d.wait_running("web-0"));
    let mut first = Typist::attach(&d, 41);
    // What is typed is echoed, so that it must differ from what is waited for.
    first.write(b"/bin/busybox stty size; echo $TERM-$((40 + 2))\r");
    first.until("41 123");
    first.until("xterm-42");
    // Another one sees the same.
    let mut second = Typist::attach(&d, 17);
    second.write(b"echo both-$((1 + 1))\r");
    second.until("both-2");
    first.until("both-2");
    first.write(&[16, 17]);
    assert_eq!(first.client.wait().unwrap().code(), Some(0));
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    assert_eq!(second.client.wait().unwrap().code(), Some(255));
    wait_for("the next supervisor", || d.try_api("GET", "/v1/replicas/web-0", ""));
    assert_eq!(pid_of(&d.wait_running("web-0")), pid);
    let mut third = Typist::attach(&d, 30);
    third.write(b"/bin/busybox stty size; echo after-$((1 + 2))\r");
    third.until("30 123");
    third.until("after-3");
    let logs = ok(&d, "logs web-0");
    assert!(logs.contains("41 123\r\n") && logs.contains("after-3\r\n"), "{logs:?}");
    third.write(b"exit 5\r");
    assert_eq!(third.client.wait().unwrap().code(), Some(5));
    d.wait("web-0", "its end", |r| r["phase"] == "Error");
    d.delete("web", Some(0));
}

/// Runs `attach` with this input, to its end.
fn pipe_to(d: &Daemon, words: &str, input: &str) -> (Option<i32>, String) {
    let mut attach = command(d, words);
    let mut client = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    client.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = client.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap())
}

#[test]
fn a_standard_input_ends_with_its_first_client_only_where_the_file_says_so() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("attach-once", &[]);
    write(
        &d,
        "web.yaml",
        &pod("command: [sh, -c, 'while read x; do echo got $x; done; exit 7'], stdin: true, stdinOnce: true"),
    );
    ok(&d, "apply -f web.yaml");
    d.wait_running("web-0");
    // The keeper has the other end of its input, too.
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the next supervisor", || d.try_api("GET", "/v1/replicas/web-0", ""));
    d.wait_running("web-0");
    let mut client = command(&d, "attach web-0").stdin(Stdio::piped()).spawn().unwrap();
    client.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
    wait_for("its answer", || (ok(&d, "logs web-0") == "got word\n").then_some(()));
    kill(client.id() as i32, libc::SIGKILL);
    client.wait().unwrap();
    let ended = d.wait("web-0", "the end of its input", |r| r["phase"] == "Error");
    assert_eq!(ended["containers"][0]["exits"][0]["exitCode"], 7);
    d.delete("web", Some(0));
    // Without `stdinOnce` it is read until the program has enough.
    write(&d, "web.yaml", &pod("command: [sh, -c, 'read a; read b; echo got $a $b; exit 3'], stdin: true"));
    ok(&d, "apply -f web.yaml");
    d.wait_running("web-0");
    let mut client = command(&d, "attach web-0").stdin(Stdio::piped()).spawn().unwrap();
    client.stdin.take().unwrap().write_all(b"one\n").unwrap();
    let (code, said) = pipe_to(&d, "attach web-0", "two\n");
    assert!(code == Some(3) && said.contains("got ") && said.contains("one"), "{code:?} {said}");
    assert_eq!(client.wait().unwrap().code(), Some(3));
    d.delete("web", Some(0));
    // One without an input shows its output.
    write(&d, "web.yaml", &pod("command: [sh, -c, 'while sleep 0.1; do echo tick; done']"));
    ok(&d, "apply -f web.yaml");
    d.wait_running("web-0");
    let mut client =
        command(&d, "attach web-0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut tick = [0; 5];
    client.stdout.as_mut().unwrap().read_exact(&mut tick).unwrap();
    assert_eq!(&tick, b"tick\n");
    client.kill().unwrap();
    client.wait().unwrap();
    let (code, said) = fails(&d, "attach web-0 -c none");
    assert!(code == 255 && said.contains("web-0 has no container \"none\""), "{said}");
    d.delete("web", Some(0));
}

#[test]
fn the_answer_to_what_is_typed_first_is_shown() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("attach-first", &[]);
    write(&d, "web.yaml", &pod("command: [sh, -c, 'while read x; do echo got $x; done'], stdin: true"));
    ok(&d, "apply -f web.yaml");
    d.wait_running("web-0");
    for n in 0..30 {
        let mut client =
            command(&d, "attach web-0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        client.stdin.as_mut().unwrap().write_all(format!("{n}\n").as_bytes()).unwrap();
        // What is lost never comes: the next line would be of nobody.
        let logged = || ok(&d, "logs web-0 --tail 1") == format!("got {n}\n");
        wait_for("the answer in the log", || logged().then_some(()));
        let expected = format!("got {n}\n");
        let mut shown = vec![0; expected.len()];
        crate::daemon::read_within(client.stdout.as_mut().unwrap(), &mut shown);
        assert_eq!(String::from_utf8_lossy(&shown), expected);
        client.kill().unwrap();
        client.wait().unwrap();
    }
    d.delete("web", Some(0));
}

#[test]
fn an_input_outlives_the_service_and_a_killed_supervisor() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("attach-service", &[]);
    let program = "while read x; do echo got $x; [ $x = two ] && exit 4; done; exit 9";
    write(&d, "web.yaml", &pod(&format!("command: [sh, -c, '{program}'], stdin: true")));
    ok(&d, "apply -f web.yaml");
    let pid = pid_of(&d.wait_running("web-0"));
    d.stop();
    d.start_again();
    d.wait_running("web-0");
    let mut client = command(&d, "attach web-0").stdin(Stdio::piped()).spawn().unwrap();
    client.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    wait_for("its answer", || (ok(&d, "logs web-0") == "got one\n").then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the next supervisor", || d.try_api("GET", "/v1/replicas/web-0", ""));
    assert_eq!(pid_of(&d.wait_running("web-0")), pid);
    let (code, said) = pipe_to(&d, "attach web-0", "two\n");
    assert!(code == Some(4) && said == "got two\n", "{code:?} {said}");
    d.delete("web", Some(0));
    // A terminal hangs up with the service, as docs/kubernetes-files.md says.
    write(&d, "web.yaml", &pod("command: [sh, -c, 'while read x; do :; done'], stdin: true, tty: true"));
    ok(&d, "apply -f web.yaml");
    let pid = pid_of(&d.wait_running("web-0")).unwrap();
    d.stop();
    wait_for("its end", || (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(()));
    d.start_again();
    d.wait("web-0", "its end", |r| r["phase"] != "Running");
    d.delete("web", Some(0));
}

/// Gives the bundle a file system for terminals.
fn with_terminals(d: &Daemon) {
    let file = d.dir.join("bundle/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(serde_json::json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}));
    let options = ["newinstance", "ptmxmode=0666", "gid=5"];
    mounts.push(serde_json::json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options}));
    std::fs::write(&file, config.to_string()).unwrap();
}

/// `orund run` with these flags, of a bundle.
fn run(d: &Daemon, flags: &str, script: &str) -> Command {
    let mut run = Command::new(env!("CARGO_BIN_EXE_orund"));
    run.arg("run").args(flags.split_whitespace()).arg("--run-dir").arg(d.dir.join("run"));
    run.arg("--cgroup-parent").arg(format!("/{}", d.dir.file_name().unwrap().to_str().unwrap()));
    run.arg(d.dir.join("bundle")).args(["--", "sh", "-c", script]);
    run
}

#[test]
fn an_interactive_run_is_the_callers_terminal() {
    if !can_run() {
        return;
    }
    let d = Daemon::prepare("run-it", &[]);
    with_terminals(&d);
    let mut shell = Typist::start(run(&d, "-it", "/bin/busybox stty size; echo ready; exec sh"), 37);
    shell.until("ready");
    // A shell that starts drops keys that were typed before its prompt.
    shell.until("# ");
    shell.write(b"/bin/busybox stty size; tty; echo sum-$((40 + 2))\r");
    shell.until("37 123");
    shell.until("sum-42");
    shell.until("# ");
    // An interrupt is the program's.
    shell.write(b"trap 'echo caught-$((1 + 1))' INT\r");
    shell.until("# ");
    shell.write(&[3]);
    shell.write(b"\r");
    shell.until("caught-2");
    shell.until("# ");
    shell.write(b"exit 7\r");
    assert_eq!(shell.client.wait().unwrap().code(), Some(7));
    assert!(std::fs::read_dir(d.dir.join("run")).map_or(0, Iterator::count) == 0, "records are left");
}

#[test]
fn an_interactive_run_passes_its_input_on_and_has_the_exit_code_of_the_program() {
    if !can_run() {
        return;
    }
    let d = Daemon::prepare("run-i", &[]);
    let mut cat = run(&d, "-i", "cat; echo over >&2; exit 3");
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let much = "0123456789\n".repeat(20_000);
    let (mut to, text) = (cat.stdin.take().unwrap(), much.clone());
    let writer = std::thread::spawn(move || to.write_all(text.as_bytes()));
    let out = cat.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(out.status.code(), Some(3));
    assert!(out.stdout == much.as_bytes(), "{} of {} bytes", out.stdout.len(), much.len());
    assert_eq!(String::from_utf8_lossy(&out.stderr), "over\n");

    let done = |flags: &str, script: &str| {
        let out = run(&d, flags, script).stdin(Stdio::null()).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    assert_eq!(done("-i", "exit 42").0, 42);
    let (code, e) = done("-i -n 2", "true");
    assert!(code == 2 && e.contains("an interactive run has one replica"), "{code} {e}");
    let (code, e) = done("-it", "true");
    assert!(code == 2 && e.contains("standard input is not a terminal"), "{code} {e}");
    let (code, e) = done("-i --restart always", "true");
    assert!(code == 2 && e.contains("--restart"), "{code} {e}");
    // A program that does not exist.
    let mut none = run(&d, "-i", "true");
    let bundle = d.dir.join("bundle");
    none = {
        let mut run = Command::new(none.get_program());
        run.args(none.get_args().take_while(|a| *a != bundle.as_os_str())).arg(&bundle).arg("/nowhere");
        run
    };
    let out = none.stdin(Stdio::null()).output().unwrap();
    let e = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(255) && e.contains("/nowhere"), "{:?} {e}", out.status);
}
