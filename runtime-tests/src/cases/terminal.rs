//! Terminals: the console socket, the controlling terminal, its size, and /dev/console.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Result, has, same};
use crate::command::{Cmd, Running, Status, VERB_DEADLINE, poll, take_status};
use crate::console::{FdSocket, Master};
use crate::container::Container;
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;
use std::os::fd::AsFd;

const SPEC: &str = "config.md Process: terminal";
const SOCKET: &str = "runc contract: --console-socket";

fn with_terminal(t: &T<'_>) -> Result<Bundle> {
    Ok(t.bundle()?.set("/process/terminal", true))
}

/// Creates a container with a console socket and returns the master that it was sent.
fn create<'t>(t: &'t T<'t>, bundle: &Bundle) -> Result<(Container<'t>, Master, Vec<u8>)> {
    let socket = FdSocket::listen(&t.path("console"))?;
    let container = t.create_with(bundle, |cmd| cmd.arg("--console-socket").arg(&socket.path))?;
    let message = socket.receive()?;
    let name = message.data.clone();
    Ok((container, Master::from(message)?, name))
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    through_socket(m);
    of_exec(m);
    of_the_caller(m);
    refusals(m);
}

fn through_socket(m: &mut Matrix) {
    m.case("terminal/socket-is-sent-the-master", SOCKET, |t| {
        let (c, mut master, name) = create(t, &with_terminal(t)?.shell("echo hello; cat"))?;
        let name = String::from_utf8_lossy(&name).into_owned();
        ensure!(!name.is_empty() && name.len() < 4096, "the payload is {name:?}");
        c.start()?;
        master.await_text("hello")?;
        master.write("typed\n")?;
        master.await_text("typed\r\ntyped")?;
        c.end()
    });
    m.case("terminal/is-the-controlling-terminal", SPEC, |t| {
        let (c, mut master, _) = create(t, &with_terminal(t)?)?;
        c.start()?;
        let report = master.report()?;
        for fd in 0..3 {
            ensure!(!report.at(&format!("/tty/{fd}")).is_null(), "fd {fd} is not a terminal");
            same("session", report.at(&format!("/tty/{fd}/session")), report.at("/sid"))?;
        }
        c.becomes("stopped")
    });
    m.case("terminal/belongs-to-the-container's-devpts", "CVE-2025-52565", |t| {
        let (c, mut master, _) = create(t, &with_terminal(t)?)?;
        c.start()?;
        let report = master.report()?;
        let target = report.str("/fds/0").to_owned();
        ensure!(target.starts_with("/dev/pts/") || target == "/dev/console", "fd 0 is {target:?}");
        Ok(())
    });
    m.case("terminal/console-device", "config-linux.md Default Devices: /dev/console", |t| {
        let (c, mut master, _) = create(t, &with_terminal(t)?)?;
        c.start()?;
        let report = master.report()?;
        report.is("/dev/console/type", "char")?;
        let rdev = report.str("/dev/console/rdev");
        ensure!(rdev.starts_with("136:"), "/dev/console is device {rdev}");
        Ok(())
    });
    m.case("terminal/console-size", "config.md Process: consoleSize", |t| {
        let bundle = with_terminal(t)?.set("/process/consoleSize", json!({"height": 33, "width": 77}));
        let (c, mut master, _) = create(t, &bundle)?;
        c.start()?;
        let report = master.report()?;
        report.is("/tty/0/rows", 33)?;
        report.is("/tty/0/columns", 77)
    });
    m.case("terminal/resize-through-the-master", SPEC, |t| {
        let (c, master, _) = create(t, &with_terminal(t)?.args(&["probe", "echo-signals"]))?;
        c.start()?;
        let mut master = master;
        master.await_text("ready")?;
        crate::sys::set_winsize(master.file.as_fd(), 20, 60)?;
        master.await_text("signal 28.")?;
        c.end()
    });
    m.case("terminal/owner-is-the-user", SPEC, |t| {
        let bundle = with_terminal(t)?.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let (c, mut master, _) = create(t, &bundle.args(&["probe", "report", "--path", "/dev/pts/0"]))?;
        c.start()?;
        master.report()?.path_is("/dev/pts/0", "uid", 1000)
    });
    m.case("terminal/in-a-user-namespace", SPEC, |t| {
        let (c, mut master, _) = create(t, &with_terminal(t)?.userns(100_000, 65_536))?;
        c.start()?;
        ensure!(!master.report()?.at("/tty/0").is_null(), "fd 0 is not a terminal");
        Ok(())
    });
    m.case("terminal/read-only-root", SPEC, |t| {
        let (c, mut master, _) = create(t, &with_terminal(t)?.set("/root/readonly", true))?;
        c.start()?;
        master.report()?.is("/dev/console/type", "char")
    });
    m.case("terminal/consoleSize-without-terminal-is-ignored", "config.md Process: consoleSize", |t| {
        t.report(&t.bundle()?.set("/process/consoleSize", json!({"height": 33, "width": 77}))).map(drop)
    });
    m.case("terminal/ctrl-c-interrupts", SPEC, |t| {
        let (c, mut master, _) = create(t, &with_terminal(t)?.sleeps())?;
        c.start()?;
        master.await_text("ready")?;
        master.write("\u{3}")?;
        c.becomes("stopped")
    });
}

fn of_exec(m: &mut Matrix) {
    m.case("terminal/exec-with-socket", SOCKET, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let socket = FdSocket::listen(&t.path("console"))?;
        let path = socket.path.to_string_lossy().into_owned();
        let options = ["--tty", "--detach", "--console-socket", &path];
        c.exec_cmd(&options, &["probe", "report", "--then", "sleep"]).ok()?;
        let mut master = Master::from(socket.receive()?)?;
        let report = master.report()?;
        ensure!(!report.at("/tty/0").is_null(), "fd 0 is not a terminal");
        same("session", report.at("/tty/0/session"), report.at("/sid"))?;
        c.end()
    });
    m.case("terminal/exec-process-json-with-size", SOCKET, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let socket = FdSocket::listen(&t.path("console"))?;
        let process = t.path("process.json");
        let spec = json!({"terminal": true, "consoleSize": {"height": 11, "width": 22}, "user": {"uid": 0, "gid": 0},
                          "args": ["/bin/probe", "report", "--then", "sleep"], "cwd": "/", "env": ["PATH=/bin"]});
        std::fs::write(&process, spec.to_string())?;
        let cmd = t.verb("exec").arg("--process").arg(&process).arg("--detach");
        cmd.arg("--console-socket").arg(&socket.path).arg(&c.id).ok()?;
        let report = Master::from(socket.receive()?)?.report()?;
        report.is("/tty/0/rows", 11)?;
        report.is("/tty/0/columns", 22)?;
        c.end()
    });
}

/// `run` on the caller's own terminal: a pair of ours, as a shell would give it.
fn on_a_terminal(cmd: Cmd) -> Result<(Running, Master)> {
    let pair = nix::pty::openpty(None, None)?;
    crate::sys::set_winsize(pair.master.as_fd(), 44, 99)?;
    let running = cmd.terminal(pair.slave).spawn()?;
    Ok((running, Master::new(pair.master)?))
}

/// Reads the terminal until the program has exited.
fn end(running: &Running, master: &mut Master) -> Result<Status> {
    poll("the end of the command", VERB_DEADLINE, || {
        master.shown();
        take_status(running.pid)
    })
}

fn of_the_caller(m: &mut Matrix) {
    const CALLER: &str = "runc contract: run with a terminal in the foreground";
    m.case("terminal/run-in-the-foreground", CALLER, |t| {
        let (running, mut master) =
            on_a_terminal(t.run_cmd(&with_terminal(t)?.shell("echo hello; read x; echo got $x"))?)?;
        master.await_text("hello")?;
        master.write("typed\n")?;
        master.await_text("got typed")?;
        end(&running, &mut master).map(drop)
    });
    m.case("terminal/run-takes-over-the-caller's-size", CALLER, |t| {
        let (running, mut master) = on_a_terminal(t.run_cmd(&with_terminal(t)?)?)?;
        let report = master.report()?;
        report.is("/tty/0/rows", 44)?;
        report.is("/tty/0/columns", 99)?;
        end(&running, &mut master).map(drop)
    });
    m.case("terminal/run-forwards-resizing", CALLER, |t| {
        let bundle = with_terminal(t)?.args(&["probe", "echo-signals"]);
        let (running, mut master) = on_a_terminal(t.run_cmd(&bundle)?)?;
        master.await_text("ready")?;
        crate::sys::set_winsize(master.file.as_fd(), 20, 60)?;
        master.await_text("signal 28.")?;
        running.signal(libc::SIGTERM)?;
        end(&running, &mut master).map(drop)
    });
    m.case("terminal/run-restores-the-caller's-modes", CALLER, |t| {
        let pair = nix::pty::openpty(None, None)?;
        let before = nix::sys::termios::tcgetattr(&pair.master)?.local_flags;
        let (master, slave) = (pair.master.try_clone()?, pair.slave);
        let running =
            t.run_cmd(&with_terminal(t)?.shell("echo hello"))?.terminal(slave.try_clone()?).spawn()?;
        end(&running, &mut Master::new(pair.master)?)?;
        same("local modes", nix::sys::termios::tcgetattr(&master)?.local_flags, before)
    });
    m.case("terminal/run-passes-the-exit-code", CALLER, |t| {
        let (running, mut master) = on_a_terminal(t.run_cmd(&with_terminal(t)?.shell("exit 7"))?)?;
        same("exit code", end(&running, &mut master)?.code(), 7)
    });
    m.case("terminal/exec-tty-on-the-caller's-terminal", CALLER, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let (running, mut master) = on_a_terminal(c.exec_cmd(&["--tty"], &["probe", "report"]))?;
        let report = master.report()?;
        report.is("/tty/0/rows", 44)?;
        report.is("/tty/0/columns", 99)?;
        end(&running, &mut master)?;
        c.end()
    });
}

fn refusals(m: &mut Matrix) {
    m.case("terminal/create-without-socket-is-an-error", SOCKET, |t| {
        t.refuses_create(&with_terminal(t)?, &["console"]).map(drop)
    });
    m.case("terminal/socket-without-terminal-is-an-error", SOCKET, |t| {
        let socket = FdSocket::listen(&t.path("console"))?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let cmd = t.verb("create").arg("--bundle").arg(&bundle.dir).arg("--console-socket").arg(&socket.path);
        cmd.arg(t.id()).output()?.fails_with(&["console", "terminal"])?;
        t.nothing_left()
    });
    m.case("terminal/detached-run-without-socket-is-an-error", SOCKET, |t| {
        let bundle = with_terminal(t)?;
        bundle.save()?;
        let cmd = t.verb("run").arg("--detach").arg("--bundle").arg(&bundle.dir).arg(t.id());
        cmd.output()?.fails_with(&["console"])?;
        t.nothing_left()
    });
    m.case("terminal/socket-that-is-missing-is-an-error", SOCKET, |t| {
        let bundle = with_terminal(t)?;
        bundle.save()?;
        let cmd = t.verb("create").arg("--bundle").arg(&bundle.dir).args(["--console-socket", "/none/such"]);
        cmd.arg(t.id()).output()?.fails_with(&["no such file"])?;
        t.nothing_left()
    });
    m.case("terminal/socket-that-nobody-reads-does-not-hang", SOCKET, |t| {
        // The listener never accepts; the one message fits into the socket's buffer, so create may succeed.
        let socket = FdSocket::listen(&t.path("console"))?;
        let bundle = with_terminal(t)?.sleeps();
        bundle.save()?;
        let id = t.id();
        let cmd = t.verb("create").arg("--bundle").arg(&bundle.dir).arg("--console-socket").arg(&socket.path);
        let out = cmd.arg(&id).output().context("create with a console socket that nobody reads")?;
        if out.status.success() {
            t.verb("delete").args(["--force", &id]).ok()?;
        }
        t.nothing_left()
    });
    m.case("terminal/socket-that-is-a-file-is-an-error", SOCKET, |t| {
        let file = t.path("file");
        std::fs::write(&file, "")?;
        let bundle = with_terminal(t)?;
        bundle.save()?;
        let cmd = t.verb("create").arg("--bundle").arg(&bundle.dir).arg("--console-socket").arg(&file);
        let out = cmd.arg(t.id()).output()?.fails()?;
        has("message", &out.stderr.to_lowercase(), "connection refused")?;
        t.nothing_left()
    });
    m.case("terminal/without-devpts-is-an-error", SPEC, |t| {
        let socket = FdSocket::listen(&t.path("console"))?;
        let bundle = with_terminal(t)?.without_mount("/dev/pts");
        bundle.save()?;
        let cmd = t.verb("create").arg("--bundle").arg(&bundle.dir).arg("--console-socket").arg(&socket.path);
        cmd.arg(t.id()).output()?.fails()?;
        t.nothing_left()
    });
}
