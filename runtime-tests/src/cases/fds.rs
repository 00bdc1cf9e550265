//! Open files: what the container gets, and what it must not get.

use crate::check::{Done, Result, same, same_set};
use crate::command::Cmd;
use crate::ensure;
use crate::matrix::Matrix;
use crate::report::Report;
use serde_json::json;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

const SPEC: &str = "runc contract: only 0 to 2, LISTEN_FDS and --preserve-fds";

fn numbers(report: &Report) -> Vec<String> {
    report.map("/fds").into_keys().collect()
}

fn file(path: &str) -> Result<OwnedFd> {
    Ok(File::open(path)?.into())
}

fn only(report: &Report, want: &[&str]) -> Done {
    same_set(&format!("descriptors ({:?})", report.map("/fds")), &numbers(report), want)
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    m.case("fds/only-the-standard-ones", SPEC, |t| only(&t.report(&t.bundle()?)?, &["0", "1", "2"]));
    m.case("fds/those-of-the-caller-do-not-leak", SPEC, |t| {
        let bundle = t.bundle()?;
        let mut cmd = t.run_cmd(&bundle)?;
        for number in 3..13 {
            cmd = cmd.fd(file("/etc/passwd")?, number);
        }
        only(&Report::parse(&cmd.ok()?.stdout)?, &["0", "1", "2"])
    });
    m.case("fds/host-directory-does-not-leak", "CVE-2024-21626", |t| {
        let bundle = t.bundle()?;
        let cmd = t.run_cmd(&bundle)?.fd(file("/")?, 7).fd(file("/sys/fs/cgroup")?, 100);
        only(&Report::parse(&cmd.ok()?.stdout)?, &["0", "1", "2"])
    });
    m.case("fds/high-numbers-do-not-leak", SPEC, |t| {
        let bundle = t.bundle()?;
        let cmd = t.run_cmd(&bundle)?.fd(file("/etc/passwd")?, 390).fd(file("/etc/passwd")?, 64);
        only(&Report::parse(&cmd.ok()?.stdout)?, &["0", "1", "2"])
    });
    m.case("fds/first-process-of-a-created-container", SPEC, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let report = c.exec_report(&[])?;
        only(&report, &["0", "1", "2"])?;
        let mut open: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", c.pid()?))? {
            open.push(entry?.file_name().to_string_lossy().into_owned());
        }
        same_set("descriptors of pid 1", &open, &["0", "1", "2"])
    });
    by_name(m);
    preserved(m);
    activated(m);
    m.case("fds/exec-does-not-leak", SPEC, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let cmd = c.exec_cmd(&[], &["probe", "report"]).fd(file("/")?, 5).fd(file("/etc/passwd")?, 9);
        only(&Report::parse(&cmd.ok()?.stdout)?, &["0", "1", "2"])
    });
    m.case("fds/output-ends-with-the-container", "runc contract: create keeps no copy of stdio", |t| {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let bundle = t.bundle()?.sleeps();
        let c = t.create_with(&bundle, |cmd| match (writer.try_clone(), writer.try_clone()) {
            (Ok(out), Ok(err)) => cmd.pipes(out, err),
            _ => cmd,
        })?;
        drop(writer);
        c.start()?;
        c.becomes("running")?;
        c.stop()?;
        nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        // With every copy of the writing end closed, read gives 0 and not EAGAIN.
        crate::command::poll("the end of the output", crate::command::VERB_DEADLINE, || {
            let mut bytes = [0u8; 512];
            (nix::unistd::read(&reader, &mut bytes) == Ok(0)).then_some(())
        })
    });
}

/// `/dev/stdout` is another name of the pipe, and opening it takes the rights of its owner.
fn by_name(m: &mut Matrix) {
    const NAMES: &str = "runc contract: standard streams belong to the program's user";
    const WRITES: &str = "echo out >/dev/stdout; echo err >/dev/stderr";
    /// Runs the command with pipes and demands that both lines come through them.
    fn both(cmd: Cmd) -> Done {
        let (out, write_out) = std::io::pipe()?;
        let (err, write_err) = std::io::pipe()?;
        cmd.pipes(write_out.into(), write_err.into()).ok()?;
        same("standard output", std::io::read_to_string(out)?.as_str(), "out\n")?;
        same("standard error", std::io::read_to_string(err)?.as_str(), "err\n")
    }
    let user = json!({"uid": 1000, "gid": 1000});
    for (name, early) in [("a-user", false), ("a-user-under-a-filter", true)] {
        let user = user.clone();
        m.case(format!("fds/{name}-opens-its-output-by-name"), NAMES, move |t| {
            let filter = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["fchown"], "action": "SCMP_ACT_KILL_PROCESS"}],
            });
            let bundle = t.bundle()?.set("/process/user", user.clone()).shell(WRITES);
            let bundle = if early { bundle.set("/linux/seccomp", filter) } else { bundle };
            both(t.run_cmd(&bundle.set("/process/noNewPrivileges", !early))?)
        });
    }
    m.case("fds/a-user-of-exec-opens-its-output-by-name", NAMES, |t| {
        let c = t.sleeper(t.bundle()?)?;
        both(c.exec_cmd(&["--user", "1000:1000"], &["sh", "-c", WRITES]))
    });
    m.case("fds/a-file-that-is-read-stays-whose-it-is", "no change of the host's files", move |t| {
        t.only("orun")?;
        let (input, output) = (t.path("input"), t.path("output"));
        fs::write(&input, "text\n")?;
        let bundle = t.bundle()?.set("/process/user", user.clone()).shell("cat; echo out >>/dev/stdout");
        bundle.save()?;
        let shell = t.host("/bin/sh").args(["-c", "exec \"$@\" <\"$IN\" >\"$OUT\"", "sh"]);
        let shell = shell.env("IN", input.to_string_lossy()).env("OUT", output.to_string_lossy());
        let run = shell.arg(&t.runtime.path).args(t.globals()).arg("--root").arg(t.root());
        run.arg("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).ok()?;
        same("output", fs::read_to_string(&output)?.as_str(), "text\nout\n")?;
        same("owner of the input", fs::metadata(&input)?.uid(), 0)
    });
}

fn preserved(m: &mut Matrix) {
    m.case("fds/preserve", SPEC, |t| {
        let bundle = t.bundle()?;
        bundle.save()?;
        let cmd = t.verb("run").args(["--preserve-fds", "2", "--bundle"]).arg(&bundle.dir).arg(t.id());
        let cmd = cmd.fd(file("/etc/hostname")?, 3).fd(file("/etc/passwd")?, 4).fd(file("/etc/group")?, 5);
        let report = Report::parse(&cmd.ok()?.stdout)?;
        only(&report, &["0", "1", "2", "3", "4"])?;
        ensure!(report.str("/fds/4").ends_with("passwd"), "fd 4 is {:?}", report.str("/fds/4"));
        Ok(())
    });
    m.case("fds/preserve-more-than-are-open-is-an-error", SPEC, |t| {
        let bundle = t.bundle()?;
        bundle.save()?;
        let cmd = t.verb("run").args(["--preserve-fds", "200", "--bundle"]).arg(&bundle.dir).arg(t.id());
        cmd.output()?.fails()?;
        t.nothing_left()
    });
    m.case("fds/preserve-in-exec", SPEC, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let cmd = c.exec_cmd(&["--preserve-fds", "1"], &["probe", "report"]);
        let cmd = cmd.fd(file("/etc/hostname")?, 3).fd(file("/etc/passwd")?, 4);
        only(&Report::parse(&cmd.ok()?.stdout)?, &["0", "1", "2", "3"])
    });
}

fn activated(m: &mut Matrix) {
    const LISTEN: &str = "sd_listen_fds(3)";
    m.case("fds/listen-fds", LISTEN, |t| {
        let bundle = t.bundle()?;
        let socket = std::os::unix::net::UnixListener::bind(t.path("listen"))?;
        let cmd =
            t.run_cmd(&bundle)?.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web").fd(socket.into(), 3);
        let report = Report::parse(&cmd.listen_pid().ok()?.stdout)?;
        only(&report, &["0", "1", "2", "3"])?;
        same("LISTEN_FDS", report.env("LISTEN_FDS").as_deref(), Some("1"))?;
        same("LISTEN_PID", report.env("LISTEN_PID").as_deref(), Some("1"))?;
        ensure!(report.str("/fds/3").starts_with("socket:"), "fd 3 is {:?}", report.str("/fds/3"));
        Ok(())
    });
    m.case("fds/listen-fds-and-preserve-fds", LISTEN, |t| {
        let bundle = t.bundle()?;
        bundle.save()?;
        let cmd = t.verb("run").args(["--preserve-fds", "1", "--bundle"]).arg(&bundle.dir).arg(t.id());
        let cmd = cmd.env("LISTEN_FDS", "1").fd(file("/etc/hostname")?, 3).fd(file("/etc/passwd")?, 4);
        let cmd = cmd.fd(file("/etc/group")?, 5).listen_pid();
        only(&Report::parse(&cmd.ok()?.stdout)?, &["0", "1", "2", "3", "4"])
    });
}
