//! What a runtime puts into a container on its own account, and what root in there can change about it: the table of
//! docs/security.md, row by row.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Done, same};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

const SOURCE: &str = "an object of the host has no more rights inside than it needs";
/// The capabilities of Docker's containers.
const DOCKER: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    masks(m);
    devices(m);
    m.case("security/belongings-notify-socket", SOURCE, |t| {
        t.only("orun")?;
        let socket = t.path("manager");
        let _manager = std::os::unix::net::UnixDatagram::bind(&socket)?;
        let tried = attempts("/run/notify");
        let bundle = t.bundle()?.capabilities(&DOCKER).shell(&tried);
        let out = t.run_cmd(&bundle)?.env("NOTIFY_SOCKET", socket.to_string_lossy()).ok()?;
        refused("/run/notify", &out.stdout)
    });
    m.case("security/belongings-own-executable", SOURCE, |t| {
        // What a process of exec still runs from can at most be read: see security/own-executable-cannot-be-overwritten.
        let before = fs::metadata(&t.runtime.path)?;
        let c = t.sleeper(t.bundle()?.capabilities(&DOCKER))?;
        let script = "for i in 1 2 3 4 5 6 7 8 9; do chmod 755 /proc/$$/exe; done; stat -c %i /proc/self/exe";
        c.exec(&["sh", "-c", script])?.ok()?;
        let after = fs::metadata(&t.runtime.path)?;
        same(
            "mode, owner and change time",
            (after.mode(), after.uid(), after.ctime()),
            (before.mode(), before.uid(), before.ctime()),
        )?;
        c.end()
    });
}

/// A script that tries to change what is at `path` to what it is already, so that success does no harm.
fn attempts(path: &str) -> String {
    [
        format!("chmod {path} $(stat -c %a {path})"),
        format!("chown {path} 0 0"),
        format!("touch {path}"),
        format!("setxattr {path} security.orun"),
        format!("setxattr {path} trusted.orun"),
    ]
    .map(|words| format!("echo $(probe try {words});"))
    .concat()
}

/// Demands that every attempt was refused.
fn refused(path: &str, answers: &str) -> Done {
    let answers: Vec<_> = answers.lines().collect();
    same("answers", answers.len(), 5).context(&format!("{answers:?}"))?;
    let refusals = ["EROFS", "EPERM", "EOPNOTSUPP"];
    let all = answers.iter().all(|a| refusals.contains(a));
    ensure!(all, "chmod, chown, utimes, setxattr, setxattr of {path}: {answers:?}");
    Ok(())
}

fn tries(t: &T<'_>, bundle: Bundle, path: &str) -> Done {
    let out = t.run(&bundle.capabilities(&DOCKER).shell(&attempts(path)))?.ok()?;
    refused(path, &out.stdout).context(&out.stderr)
}

fn masks(m: &mut Matrix) {
    m.case("security/belongings-attempts-work-on-an-own-file", SOURCE, |t| {
        // The control of all others: what they try works where nothing forbids it.
        let bundle = t.bundle()?.file("/etc/own", "x", 0o644)?.capabilities(&DOCKER);
        let out = t.run(&bundle.shell(&attempts("/etc/own")))?.ok()?;
        let answers: Vec<_> = out.stdout.lines().collect();
        same("chmod, chown, utimes", &answers[..3], &["ok", "ok", "ok"][..])
    });
    m.case("masks/null-of-a-masked-file-cannot-be-changed", SOURCE, |t| {
        let before = fs::metadata("/dev/null")?;
        tries(
            t,
            t.bundle()?.set("/linux/maskedPaths", json!(["/proc/keys", "/proc/timer_list"])),
            "/proc/keys",
        )?;
        tries(
            t,
            t.bundle()?.set("/linux/maskedPaths", json!(["/proc/keys", "/proc/timer_list"])),
            "/proc/timer_list",
        )?;
        let after = fs::metadata("/dev/null")?;
        same("mode and owner of the host's", (after.mode(), after.uid()), (before.mode(), before.uid()))
    });
    m.case("masks/a-masked-file-is-not-the-host's-node", SOURCE, |t| {
        // flock(2) and the like work on every node that can be opened: it must be the container's own.
        let bundle = t.bundle()?.set("/linux/maskedPaths", json!(["/proc/keys"]));
        let out = t.run(&bundle.shell("stat -c %d:%i /proc/keys"))?.ok()?;
        let host = fs::metadata("/dev/null")?;
        ensure!(out.stdout.trim() != format!("{}:{}", host.dev(), host.ino()), "it is the host's /dev/null");
        Ok(())
    });
    m.case("masks/masked-file-has-no-set-id-and-no-programs", SOURCE, |t| {
        let report =
            t.report(&t.bundle()?.set("/linux/maskedPaths", json!(["/proc/keys", "/proc/timer_list"])))?;
        for path in ["/proc/keys", "/proc/timer_list"] {
            let mount = report.mount(path)?;
            for flag in ["ro", "nosuid", "noexec"] {
                ensure!(mount.has(flag), "{path} lacks {flag}: {:?}", mount.options);
            }
        }
        Ok(())
    });
    m.case("masks/masked-directory-cannot-be-changed", SOURCE, |t| {
        let bundle = t.bundle()?.file("/etc/private/key", "secret", 0o644)?;
        tries(t, bundle.set("/linux/maskedPaths", json!(["/etc/private"])), "/etc/private")
    });
    m.case("masks/masked-file-without-the-host's-null-device", SOURCE, |t| {
        let bundle =
            t.bundle()?.set("/linux/maskedPaths", json!(["/proc/keys"])).args(&["probe", "exit", "7"]);
        bundle.save()?;
        // mount(8) of the host would leave a file in /run.
        let busybox = t.dir.join("programs/busybox");
        let script = format!("{} mount -t tmpfs none /dev && exec \"$@\"", busybox.display());
        let unshare = t.host("/usr/bin/unshare").args(["-m", "/bin/sh", "-c", &script, "sh"]);
        let cmd = unshare.arg(&t.runtime.path).args(t.globals()).arg("--root").arg(&t.root);
        cmd.arg("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).output()?.exits(7)?;
        t.nothing_left()
    });
    m.case("masks/masked-file-in-a-bound-dev-without-null", SOURCE, |t| {
        let dev = t.volume()?;
        let bundle = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"]
            .iter()
            .fold(t.bundle()?, |bundle, path| bundle.without_mount(path));
        tries(
            t,
            bundle.bind(&dev, "/dev", &[]).set("/linux/maskedPaths", json!(["/proc/keys"])),
            "/proc/keys",
        )
    });
}

fn devices(m: &mut Matrix) {
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        m.case(format!("security/belongings-device-{name}-in-a-user-namespace"), SOURCE, move |t| {
            let path = format!("/dev/{name}");
            let bundle = t.bundle()?.userns(100_000, 65536);
            tries(t, bundle.clone(), &path)?;
            let report = t.report(&bundle)?;
            let mount = report.mount(&path)?;
            for flag in ["nosuid", "noexec"] {
                ensure!(mount.has(flag), "{path} lacks {flag}: {:?}", mount.options);
            }
            same("write", t.attempt(bundle, &["write", "/dev/null", "x"])?.as_str(), "ok")
        });
    }
    m.case("security/belongings-listed-device-in-a-user-namespace", SOURCE, |t| {
        let device = json!({"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237});
        if !std::path::Path::new("/dev/loop-control").exists() {
            return crate::check::skip("the host has no /dev/loop-control");
        }
        tries(t, t.bundle()?.userns(100_000, 65536).push("/linux/devices", device), "/dev/loop-control")
    });
    m.case("security/belongings-default-devices-are-own-nodes", SOURCE, |t| {
        let out =
            t.run(&t.bundle()?.shell("stat -c %d /dev /dev/null /dev/zero /dev/tty | sort -u | wc -l"))?;
        same("file systems below /dev", out.ok()?.stdout.trim(), "1")
    });
}
