//! Programs that are there when the container is created, and that the kernel refuses when it is started. Engines expect
//! of `start` what runc does: it has started the container, and the container ends at once, with a shell's exit status
//! and the reason on its standard error. They cannot clean up after a `start` that fails.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Done, Result, has, same};
use crate::command::{VERB_DEADLINE, poll, take_status};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::{Value, json};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

const ENGINES: &str = "what engines expect of a start whose program cannot be executed";

/// What is wrong with the program `/bin/broken`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Its content.
    Content(&'static str),
    /// It is no regular file.
    Fifo,
    /// It is removed between `create` and `start`.
    Removed,
    /// It loses its mode between `create` and `start`.
    NotExecutable,
    /// It becomes a link to itself between `create` and `start`.
    Loop,
    /// Somebody writes to it.
    Busy,
    /// An argument is longer than 128 kB.
    LongArgument,
}

const FAULTS: [(&str, Fault, i32, &str); 12] = [
    ("wrong-format", Fault::Content("\u{1}\u{2}garbage"), 126, "exec format error"),
    ("empty-file", Fault::Content(""), 126, "exec format error"),
    ("script-without-interpreter-line", Fault::Content("echo hello\n"), 126, "exec format error"),
    ("elf-cut-short", Fault::Content("\u{7f}ELF\u{2}\u{1}\u{1}"), 126, "exec format error"),
    ("interpreter-missing", Fault::Content("#!/none/such\n"), 127, "no such file or directory"),
    ("interpreter-is-a-directory", Fault::Content("#!/etc\n"), 126, "permission denied"),
    ("fifo", Fault::Fifo, 126, "permission denied"),
    ("removed", Fault::Removed, 127, "no such file or directory"),
    ("not-executable-any-more", Fault::NotExecutable, 126, "permission denied"),
    ("link-to-itself", Fault::Loop, 126, "too many levels of symbolic links"),
    ("written-to", Fault::Busy, 126, "text file busy"),
    ("long-argument", Fault::LongArgument, 126, "argument list too long"),
];

impl Fault {
    fn bundle(self, t: &T<'_>) -> Result<Bundle> {
        let content = if let Fault::Content(text) = self { text } else { "#!/bin/sh\n" };
        let bundle = t.bundle()?.file("/bin/broken", content, 0o755)?;
        let path = bundle.rootfs().join("bin/broken");
        match self {
            Fault::Fifo => {
                fs::remove_file(&path)?;
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o755))?;
            }
            Fault::LongArgument => return Ok(bundle.args(&["/bin/broken", &"x".repeat(200_000)])),
            _ => {}
        }
        Ok(bundle.args(&["/bin/broken"]))
    }

    /// What happens once `create` has found the program.
    fn strike(self, bundle: &Bundle) -> Result<Option<File>> {
        let path = bundle.rootfs().join("bin/broken");
        match self {
            Fault::Removed => fs::remove_file(path)?,
            Fault::NotExecutable => fs::set_permissions(path, Permissions::from_mode(0o644))?,
            Fault::Loop => {
                fs::remove_file(&path)?;
                std::os::unix::fs::symlink("broken", path)?;
            }
            Fault::Busy => return Ok(Some(File::options().append(true).open(path)?)),
            _ => {}
        }
        Ok(None)
    }
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for (name, fault, code, words) in FAULTS {
        m.case(format!("lifecycle/start-of-a-broken-program-{name}"), ENGINES, move |t| {
            starts(t, fault, code, words)
        });
        if matches!(fault, Fault::Content(_) | Fault::Fifo | Fault::LongArgument) {
            m.case(
                format!("exec/broken-program-{name}-is-an-error"),
                "runc contract: exit codes",
                move |t| {
                    let c = t.sleeper(fault.bundle(t)?)?;
                    let long = "x".repeat(100_000);
                    let args: &[&str] = match fault {
                        Fault::LongArgument => &["/bin/broken", &long, &long],
                        _ => &["/bin/broken"],
                    };
                    if fault == Fault::LongArgument {
                        return c.end();
                    }
                    c.exec(args)?.exits(255)?.fails_with(&[words])?;
                    c.end()
                },
            );
        }
        m.case(
            format!("cli/run-of-a-broken-program-{name}-is-an-error"),
            "runc contract: exit codes",
            move |t| {
                if matches!(fault, Fault::Removed | Fault::NotExecutable | Fault::Loop) {
                    // Without a moment between create and start the program is not found.
                    let bundle = fault.bundle(t)?;
                    fault.strike(&bundle)?;
                    t.run(&bundle)?.exits(1)?.fails_with(&[words])?;
                    return t.nothing_left();
                }
                let bundle = fault.bundle(t)?;
                let _busy = fault.strike(&bundle)?;
                t.run(&bundle)?.exits(1)?.fails_with(&[words])?;
                t.nothing_left()
            },
        );
    }
    others(m);
}

fn starts(t: &T<'_>, fault: Fault, code: i32, words: &str) -> Done {
    let bundle = fault.bundle(t)?;
    let log = t.path("log");
    let c = t.create(&bundle)?;
    let pid = c.pid()?;
    let _busy = fault.strike(&bundle)?;
    t.runtime().arg("--log").arg(&log).args(["--log-format", "json", "start", &c.id]).ok()?;
    let status = poll("the first process's end", VERB_DEADLINE, || take_status(pid))?;
    same("exit code", status.code(), code)?;
    c.is("stopped")?;
    let said = fs::read_to_string(&c.stderr)?;
    has("the container's standard error", &said, words)?;
    has("the container's standard error", &said, "error")?;
    has("the log", &crate::case::one_error(&log)?, words)?;
    c.delete()?;
    t.nothing_left()
}

fn others(m: &mut Matrix) {
    m.case("lifecycle/start-of-a-broken-program-on-a-terminal", ENGINES, |t| {
        let bundle = Fault::Content("garbage\u{1}").bundle(t)?.set("/process/terminal", true);
        let socket = crate::console::FdSocket::listen(&t.path("console"))?;
        let c = t.create_with(&bundle, |cmd| cmd.arg("--console-socket").arg(&socket.path))?;
        let mut master = crate::console::Master::from(socket.receive()?)?;
        let pid = c.pid()?;
        c.start()?;
        let status = poll("the first process's end", VERB_DEADLINE, || take_status(pid))?;
        same("exit code", status.code(), 126)?;
        master.await_text("exec format error\r\n")?;
        c.delete()?;
        t.nothing_left()
    });
    m.case("lifecycle/start-of-a-broken-program-runs-no-poststart-hook", "runtime.md Lifecycle", |t| {
        let volume = t.volume()?;
        let hook = |name: &str| json!({"path": "/bin/busybox", "args": ["touch", volume.join(name)]});
        let bundle = Fault::Content("garbage\u{1}").bundle(t)?;
        let bundle =
            bundle.push("/hooks/poststart", hook("poststart")).push("/hooks/poststop", hook("poststop"));
        let c = t.create(&bundle)?;
        c.start()?;
        c.becomes("stopped")?;
        c.delete()?;
        ensure!(!volume.join("poststart").exists(), "the poststart hook ran without a program");
        ensure!(volume.join("poststop").exists(), "the poststop hook did not run");
        t.nothing_left()
    });
    m.case("lifecycle/start-that-seccomp-kills-has-started", ENGINES, |t| {
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW",
                            "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}]});
        let c = t.create(&t.bundle()?.set("/linux/seccomp", filter))?;
        let pid = c.pid()?;
        c.start()?;
        let status = poll("the first process's end", VERB_DEADLINE, || take_status(pid))?;
        same("exit code", status.code(), 128 + libc::SIGSYS)?;
        c.becomes("stopped")?;
        c.delete()?;
        t.nothing_left()
    });
    m.case("lifecycle/start-that-seccomp-refuses-has-started", ENGINES, |t| {
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW",
                            "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM}]});
        let c = t.create(&t.bundle()?.set("/linux/seccomp", filter))?;
        let pid = c.pid()?;
        c.start()?;
        let status = poll("the first process's end", VERB_DEADLINE, || take_status(pid))?;
        same("exit code", status.code(), 126)?;
        has("standard error", &fs::read_to_string(&c.stderr)?, "operation not permitted")?;
        c.delete()?;
        t.nothing_left()
    });
    m.case("lifecycle/start-whose-hook-fails-leaves-a-reaped-process", "runtime.md Lifecycle", |t| {
        t.only("orun")?;
        let hook = json!({"path": "/bin/false", "args": ["false"]});
        let c = t.create(&t.bundle()?.sleeps().push("/hooks/startContainer", hook))?;
        let start = c.verb("start").spawn()?;
        // The harness is the one who reaps it.
        let out = start.wait()?.fails_with(&["error running startContainer hook #0"])?;
        let state: Value = c.state()?;
        same(&out.describe(), &state["status"], &json!("stopped"))?;
        c.delete()?;
        t.nothing_left()
    });
}
