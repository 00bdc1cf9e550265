//! The flags of `checkpoint` and `restore`: each with a container that needs it.

use crate::case::T;
use crate::cases::checkpoint::{Saved, count, counts_on, needs_criu};
use crate::cases::updates::is_pidfd_of;
use crate::cgroup;
use crate::check::{Context, Done, Result, same, skip};
use crate::command::{VERB_DEADLINE, poll};
use crate::console::FdSocket;
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Adds the cases of this file.
pub fn register(m: &mut Matrix) {
    of_restore(m);
    parents(m);
    resources(m);
    pages(m);
    host(m);
}

fn of_restore(m: &mut Matrix) {
    m.case("checkpoint/restore-with-a-pidfd-socket", "runc contract: --pidfd-socket", |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let path = t.path("pidfd");
        let socket = FdSocket::listen(&path)?;
        s.restore_cmd().args(["--detach", "--pidfd-socket"]).arg(&path).arg(&s.c.id).ok()?;
        is_pidfd_of(&socket, s.c.pid()?)?;
        s.c.end()
    });
    m.case("checkpoint/restore-with-another-configuration", "crun contract: --config", |t| {
        t.only("orun")?;
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let at = count(&s.c.bundle);
        // The hooks tell which of the two was read.
        let note = t.path("note");
        let hook = json!([{"path": "/bin/busybox", "args": ["touch", note]}]);
        s.c.bundle.clone().set("/hooks/poststart", hook).save()?;
        let other = t.path("other.json");
        fs::rename(s.c.bundle.dir.join("config.json"), &other)?;
        s.c.bundle.save()?;
        s.restore_cmd().args(["--detach", "--config"]).arg(&other).arg(&s.c.id).ok()?;
        ensure!(note.exists(), "the hook of the other configuration did not run");
        counts_on(&s.c.bundle, at)?;
        s.c.end()
    });
    m.case("checkpoint/restore-without-pivot-root", "runc contract: --no-pivot", |t| {
        let s = Saved::counter(t, t.bundle()?.file("/etc/mine", "of the container", 0o644)?)?;
        s.checkpoint(&[])?;
        let at = count(&s.c.bundle);
        s.restore_cmd().args(["--detach", "--no-pivot"]).arg(&s.c.id).ok()?;
        counts_on(&s.c.bundle, at)?;
        same("a file of the root", s.c.exec(&["cat", "/etc/mine"])?.ok()?.stdout, "of the container")?;
        // Nothing of the host is reachable from it.
        s.c.exec(&["ls", &t.dir.to_string_lossy()])?.fails()?;
        s.c.end()
    });
}

/// Who becomes the parent of an orphan in a restored container without a pid namespace of its own.
fn parents(m: &mut Matrix) {
    const SUBREAPER: &str = "runc contract: --no-subreaper";
    const SCRIPT: &str = "until test -e /tmp/end; do busybox sleep 0.05; done; \
         (busybox sh -c 'busybox sleep 0.4; busybox cut -d\" \" -f4 /proc/$$/stat > /tmp/parent' &); busybox sleep 1";
    for (name, options) in [("takes-in-orphans", &[][..]), ("with-no-subreaper", &["--no-subreaper"])] {
        m.case(format!("checkpoint/restore-{name}"), SUBREAPER, move |t| {
            needs_criu(t)?;
            let bundle = t.bundle()?.without_ns("pid").shell(SCRIPT);
            let s = Saved::of(t, t.start(&bundle)?);
            s.checkpoint(&[])?;
            let restore = s.restore_cmd().args(options.iter().copied()).arg(&s.c.id).spawn()?;
            s.c.becomes("running")?;
            let want = if options.is_empty() { restore.pid } else { std::process::id() as i32 };
            fs::write(bundle.rootfs().join("tmp/end"), "")?;
            restore.wait()?.ok()?;
            let parent = fs::read_to_string(bundle.rootfs().join("tmp/parent"))?;
            same("parent of the orphan", parent.trim(), want.to_string().as_str())?;
            s.c.verb("delete").arg("--force").output().map(drop)
        });
    }
}

fn resources(m: &mut Matrix) {
    m.case("checkpoint/a-stream-that-a-shell-has-set-aside", "runc contract: checkpoint and restore", |t| {
        needs_criu(t)?;
        // As long as the loop runs the container's standard output is descriptor 10 or so, and not 1.
        let script = "i=0; while ! test -e /tmp/end; do i=$((i+1)); echo $i > /tmp/count; sleep 0.05; done > /tmp/aside; \
             echo back; sleep 1000";
        let s = Saved::of(t, t.start(&t.bundle()?.shell(script))?);
        counts_on(&s.c.bundle, 2)?;
        s.checkpoint(&[])?;
        let at = count(&s.c.bundle);
        s.restore()?;
        counts_on(&s.c.bundle, at)?;
        fs::write(s.c.bundle.rootfs().join("tmp/end"), "")?;
        s.c.await_output("back")?;
        s.c.end()
    });
    m.case("checkpoint/file-locks", "runc contract: --file-locks", |t| {
        needs_criu(t)?;
        let s =
            Saved::of(t, t.start(&t.bundle()?.args(&["probe", "count-locked", "/tmp/lock", "/tmp/count"]))?);
        counts_on(&s.c.bundle, 2)?;
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        out.fails_with(&["criu failed: type DUMP"]).context("without the flag")?;
        s.checkpoint(&["--file-locks"])?;
        s.restore_cmd().args(["--detach", "--file-locks"]).arg(&s.c.id).ok()?;
        counts_on(&s.c.bundle, count(&s.c.bundle))?;
        let lock = s.c.exec(&["probe", "try", "lock", "/tmp/lock"])?.ok()?;
        same("the lock", lock.stdout.trim(), "EAGAIN")?;
        s.c.end()
    });
    m.case("checkpoint/tcp-connections", "runc contract: --tcp-established", |t| {
        needs_criu(t)?;
        let s = Saved::of(t, t.start(&t.bundle()?.args(&["probe", "count-over-tcp", "/tmp/count"]))?);
        counts_on(&s.c.bundle, 2)?;
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        out.fails_with(&["criu failed: type DUMP"]).context("without the flag")?;
        let out = s.paths(t.verb("checkpoint")).arg("--tcp-established").arg(&s.c.id).output()?;
        if out.stderr.contains("Can't get 1:16 opt: Operation not supported") {
            return skip("this kernel, Linux 6.16 or newer, refuses what CRIU asks of every socket");
        }
        out.ok()?;
        let at = count(&s.c.bundle);
        s.restore_cmd().args(["--detach", "--tcp-established"]).arg(&s.c.id).ok()?;
        counts_on(&s.c.bundle, at)?;
        s.c.end()
    });
}

/// A program of CRIU's own that runs beside the runtime, in the directory `dir`.
fn companion(t: &T<'_>, mode: &str, dir: &Path, port: u16) -> Result<crate::command::Running> {
    let line = format!("exec criu {mode} --images-dir {} --work-dir {0} --port {port}", dir.display());
    let running = t.host("/bin/busybox").args(["sh", "-c", &line]).spawn()?;
    t.own_process(running.pid);
    Ok(running)
}

fn listens(port: u16) -> Done {
    let hex = format!(":{port:04X} ");
    let seen = || {
        let text = fs::read_to_string("/proc/net/tcp").ok()?
            + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
        text.lines().any(|l| l.contains(&hex) && l.contains(" 0A ")).then_some(())
    };
    poll(&format!("a listener on port {port}"), VERB_DEADLINE, seen)
}

fn pages(m: &mut Matrix) {
    const PORT: u16 = 7001;
    m.case("checkpoint/page-server", "runc contract: --page-server", |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        let elsewhere = t.volume()?;
        let server = companion(t, "page-server", &elsewhere, PORT)?;
        listens(PORT)?;
        s.checkpoint(&["--page-server", &format!("127.0.0.1:{PORT}")])?;
        server.wait()?.ok()?;
        let pages = |dir: &Path| -> Result<Vec<std::path::PathBuf>> {
            let all = fs::read_dir(dir)?.flatten().map(|e| e.path());
            Ok(all.filter(|p| p.to_string_lossy().contains("/page")).collect())
        };
        ensure!(pages(&s.images)?.is_empty(), "pages were written here: {:?}", pages(&s.images)?);
        for file in pages(&elsewhere)? {
            fs::copy(&file, s.images.join(file.file_name().unwrap_or_default()))?;
        }
        let at = count(&s.c.bundle);
        s.restore()?;
        counts_on(&s.c.bundle, at)?;
        s.c.end()
    });
}

fn host(m: &mut Matrix) {
    m.case("checkpoint/the-hierarchy-keeps-its-options", "cgroups(7): nsdelegate is the host's", |t| {
        t.only("orun")?;
        let want = cgroup::options_at_start();
        let s = Saved::counter(t, t.bundle()?)?;
        // Another case's CRIU may take them off at this moment.
        let back = || {
            poll(&format!("the options {want:?}"), VERB_DEADLINE, || {
                (cgroup::options() == want).then_some(())
            })
        };
        s.checkpoint(&[])?;
        back().context("after the checkpoint")?;
        s.restore()?;
        back().context("after the restore")?;
        s.c.end()
    });
}
