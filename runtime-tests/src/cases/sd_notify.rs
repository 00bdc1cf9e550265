//! Readiness of a service: the service manager's socket has a stand-in in the container (sd_notify(3)).

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Result, same};
use crate::command::{VERB_DEADLINE, poll};
use crate::console::receive_fds;
use crate::ensure;
use crate::matrix::Matrix;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

const NOTIFY: &str = "runc contract: NOTIFY_SOCKET";

/// The service manager.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new(t: &T<'_>) -> Result<Manager> {
        let path = t.path("manager");
        let socket = UnixDatagram::bind(&path).context("the manager's socket")?;
        socket.set_nonblocking(true)?;
        Ok(Manager { socket, name: path.to_string_lossy().into_owned() })
    }

    /// The next message and the descriptors with it.
    fn next(&self) -> Result<(String, Vec<OwnedFd>)> {
        let message = || receive_fds(&self.socket).ok();
        let (text, fds) = poll("a message for the service manager", VERB_DEADLINE, message)?;
        Ok((String::from_utf8_lossy(&text).trim().to_owned(), fds))
    }

    fn is_told_nothing(&self) -> bool {
        self.socket.recv(&mut [0; 64]).is_err()
    }
}

fn told_later(t: &T<'_>, text: &str) -> Result<Bundle> {
    Ok(t.bundle()?.args(&["probe", "notify-on-signal", text]))
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    start(m);
    run(m);
    container(m);
}

fn start(m: &mut Matrix) {
    m.case("sd-notify/start-lasts-until-the-container-is-ready", NOTIFY, |t| {
        let manager = Manager::new(t)?;
        let c = t.create_with(&told_later(t, "STATUS=moon\nREADY=1")?, |cmd| {
            cmd.env("NOTIFY_SOCKET", &manager.name)
        })?;
        let mut start = c.verb("start").env("NOTIFY_SOCKET", &manager.name).spawn()?;
        c.await_output("waiting")?;
        std::thread::sleep(Duration::from_millis(300));
        ensure!(crate::proc::lives(start.pid), "start is over before the container is ready");
        ensure!(manager.is_told_nothing(), "the manager is notified before the container is ready");
        c.kill("USR1")?;
        same("first message", manager.next()?.0.as_str(), "READY=1")?;
        same("second message", manager.next()?.0, format!("MAINPID={}", c.pid()?))?;
        let (barrier, pipe) = manager.next()?;
        same("third message", barrier.as_str(), "BARRIER=1")?;
        same("descriptors with the barrier", pipe.len(), 1)?;
        std::thread::sleep(Duration::from_millis(200));
        ensure!(crate::proc::lives(start.pid), "start does not wait for the barrier");
        drop(pipe);
        start.deadline = Duration::from_secs(20);
        start.wait()?.ok()?;
        c.is("running")?;
        c.end()
    });
    m.case("sd-notify/start-ends-with-a-container-that-is-never-ready", NOTIFY, |t| {
        let manager = Manager::new(t)?;
        let bundle = t.bundle()?.args(&["probe", "exit", "3"]);
        let c = t.create_with(&bundle, |cmd| cmd.env("NOTIFY_SOCKET", &manager.name))?;
        c.verb("start").env("NOTIFY_SOCKET", &manager.name).output()?;
        ensure!(manager.is_told_nothing(), "the manager is notified that a dead container is ready");
        c.becomes("stopped")?;
        c.end()
    });
    m.case("sd-notify/other-verbs-are-not-held-up", NOTIFY, |t| {
        let manager = Manager::new(t)?;
        let c = t.create_with(&told_later(t, "READY=1")?, |cmd| cmd.env("NOTIFY_SOCKET", &manager.name))?;
        let start = c.verb("start").env("NOTIFY_SOCKET", &manager.name).spawn()?;
        c.await_output("waiting")?;
        same("exec", c.exec(&["probe", "echo", "hello"])?.ok()?.stdout.trim(), "hello")?;
        c.delete_force()?;
        start.wait().map(drop)
    });
}

fn run(m: &mut Matrix) {
    m.case("sd-notify/detached-run", NOTIFY, |t| {
        let manager = Manager::new(t)?;
        let bundle = t.bundle()?.args(&["probe", "notify", "READY=1"]);
        bundle.save()?;
        let id = t.id();
        let run = t.verb("run").args(["--detach", "--bundle"]).arg(&bundle.dir).arg(&id);
        let run = run.env("NOTIFY_SOCKET", &manager.name).spawn()?;
        same("first message", manager.next()?.0.as_str(), "READY=1")?;
        ensure!(manager.next()?.0.starts_with("MAINPID="), "no MAINPID");
        same("third message", manager.next()?.0.as_str(), "BARRIER=1")?;
        run.wait()?.ok().map(drop)
    });
    m.case("sd-notify/run-in-the-foreground", NOTIFY, |t| {
        let manager = Manager::new(t)?;
        let bundle = t.bundle()?.shell("probe notify-once READY=1; probe exit 5");
        let run = t.run_cmd(&bundle)?.env("NOTIFY_SOCKET", &manager.name).spawn()?;
        let pid = run.pid;
        same("first message", manager.next()?.0.as_str(), "READY=1")?;
        same("second message", manager.next()?.0, format!("MAINPID={pid}"))?;
        drop(manager.next()?);
        run.wait()?.exits(5).map(drop)
    });
    m.case("sd-notify/manager-with-an-abstract-address", "systemd: NOTIFY_SOCKET=@NAME", |t| {
        let name = format!("{}-manager", t.marker());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        let manager = Manager { socket, name: format!("@{name}") };
        let bundle = t.bundle()?.shell("probe notify-once READY=1; probe exit 0");
        let run = t.run_cmd(&bundle)?.env("NOTIFY_SOCKET", &manager.name).spawn()?;
        same("first message", manager.next()?.0.as_str(), "READY=1")?;
        for _ in 0..2 {
            drop(manager.next()?);
        }
        run.wait()?.ok().map(drop)
    });
}

fn container(m: &mut Matrix) {
    m.case("sd-notify/socket-in-the-container", NOTIFY, |t| {
        let manager = Manager::new(t)?;
        let bundle = t.bundle()?.set("/root/readonly", false);
        let out = t.run_cmd(&bundle)?.env("NOTIFY_SOCKET", &manager.name).output()?.ok()?;
        let report = crate::report::Report::parse(&out.stdout)?;
        report.is("/env/NOTIFY_SOCKET", "/run/notify/notify.sock")?;
        let mount = report.mount("/run/notify")?;
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            ensure!(mount.has(option), "{:?}", mount.options);
        }
        Ok(())
    });
    m.case("sd-notify/in-a-user-namespace", NOTIFY, |t| {
        let manager = Manager::new(t)?;
        let bundle = t.bundle()?.dir("/run/notify")?.userns(100_000, 65_536);
        let bundle = bundle.set("/process/user", serde_json::json!({"uid": 5, "gid": 5}));
        let run = t.run_cmd(&bundle.shell("probe notify-once READY=1; probe exit 0"))?;
        let run = run.env("NOTIFY_SOCKET", &manager.name).spawn()?;
        same("first message", manager.next()?.0.as_str(), "READY=1")?;
        for _ in 0..2 {
            drop(manager.next()?);
        }
        run.wait()?.ok().map(drop)
    });
    m.case("sd-notify/without-it-nothing-is-mounted", NOTIFY, |t| {
        let report = t.report(&t.bundle()?)?;
        ensure!(report.at("/env/NOTIFY_SOCKET").is_null(), "{}", report.at("/env"));
        ensure!(report.mount("/run/notify").is_err(), "/run/notify is mounted");
        Ok(())
    });
}
