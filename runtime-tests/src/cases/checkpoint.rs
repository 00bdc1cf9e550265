//! `checkpoint` and `restore` through CRIU, on hosts where CRIU itself works.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Done, Result, fail, has, same, skip};
use crate::command::{Cmd, VERB_DEADLINE, poll};
use crate::console::{FdSocket, Master};
use crate::container::Container;
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const SPEC: &str = "runc contract: checkpoint and restore";
const SECURITY: &str = "security: images of a checkpoint are hostile input";

/// Counts in a variable, and shows the count in a file.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.05; done";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    round_trips(m);
    what_is_kept(m);
    ways(m);
    refusals(m);
}

/// Leaves the case where CRIU is missing or does not work on this kernel.
pub(super) fn needs_criu(t: &T<'_>) -> Done {
    let Ok(out) = t.host("/bin/busybox").args(["sh", "-c", "exec criu check"]).output() else {
        return skip("no criu");
    };
    if out.status.success() { Ok(()) } else { skip("`criu check` fails on this host") }
}

pub(super) fn count(bundle: &Bundle) -> i64 {
    let text = fs::read_to_string(bundle.rootfs().join("tmp/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Waits until the program has counted further than `from`; how far it has come.
pub(super) fn counts_on(bundle: &Bundle, from: i64) -> Result<i64> {
    poll(&format!("a count above {from}"), VERB_DEADLINE, || Some(count(bundle)).filter(|n| *n > from))
}

/// A container and where it is saved.
pub(super) struct Saved<'t> {
    t: &'t T<'t>,
    pub(super) c: Container<'t>,
    pub(super) images: PathBuf,
    work: PathBuf,
}

impl<'t> Saved<'t> {
    pub(super) fn of(t: &'t T<'t>, c: Container<'t>) -> Saved<'t> {
        Saved { t, c, images: t.path("images"), work: t.path("work") }
    }

    pub(super) fn counter(t: &'t T<'t>, bundle: Bundle) -> Result<Saved<'t>> {
        needs_criu(t)?;
        let c = t.start(&bundle.shell(COUNTER))?;
        counts_on(&c.bundle, 2)?;
        Ok(Saved::of(t, c))
    }

    pub(super) fn paths(&self, cmd: Cmd) -> Cmd {
        cmd.arg("--image-path").arg(&self.images).arg("--work-path").arg(&self.work)
    }

    pub(super) fn checkpoint(&self, options: &[&str]) -> Done {
        self.paths(self.t.verb("checkpoint")).args(options).arg(&self.c.id).ok().map(drop)
    }

    pub(super) fn restore_cmd(&self) -> Cmd {
        let cmd = self.paths(self.t.verb("restore")).arg("--bundle").arg(&self.c.bundle.dir);
        cmd.streams(&self.c.stdout, &self.c.stderr)
    }

    pub(super) fn restore(&self) -> Done {
        self.restore_cmd().arg("--detach").arg(&self.c.id).ok().map(drop)
    }

    fn is_gone(&self) -> Done {
        self.c.verb("state").output()?.fails_with(&["does not exist"])?;
        self.t.nothing_left()
    }
}

pub(super) fn again_and_again(s: Saved<'_>) -> Done {
    for round in 0..3 {
        let at = counts_on(&s.c.bundle, count(&s.c.bundle))?;
        s.checkpoint(&[]).context(&format!("checkpoint {round}"))?;
        s.restore().context(&format!("restore {round}"))?;
        counts_on(&s.c.bundle, at)?;
    }
    s.c.end()
}

/// Saves a program on a terminal; its restored self reads and writes another one.
pub(super) fn with_a_terminal(t: &T<'_>, bundle: Bundle) -> Done {
    needs_criu(t)?;
    let bundle = bundle.set("/process/terminal", true).shell("echo hello; exec cat");
    let socket = FdSocket::listen(&t.path("console"))?;
    let c = t.create_with(&bundle, |cmd| cmd.arg("--console-socket").arg(&socket.path))?;
    let mut master = Master::from(socket.receive()?)?;
    c.start()?;
    master.await_text("hello")?;
    let s = Saved::of(t, c);
    s.checkpoint(&[])?;
    drop(master);
    s.restore_cmd().arg("--console-socket").arg(&socket.path).arg("--detach").arg(&s.c.id).ok()?;
    let mut master = Master::from(socket.receive()?)?;
    master.write("typed\n")?;
    master.await_text("typed\r\ntyped")?;
    s.c.end()
}

fn round_trips(m: &mut Matrix) {
    m.case("checkpoint/the-program-goes-on-where-it-was", SPEC, |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let at = count(&s.c.bundle);
        s.is_gone().context("after the checkpoint")?;
        // A restarted program would count from 1.
        let pid_file = t.path("pid");
        s.restore_cmd().arg("--detach").arg("--pid-file").arg(&pid_file).arg(&s.c.id).ok()?;
        s.c.is("running")?;
        let now = counts_on(&s.c.bundle, at)?;
        ensure!(now < at + 200, "from {at} to {now}");
        same("pid file", fs::read_to_string(&pid_file)?, s.c.pid()?.to_string())?;
        s.c.end()
    });
    m.case("checkpoint/a-restored-container-is-one-like-any-other", SPEC, |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        s.restore()?;
        let out = s.c.exec(&["sh", "-c", "cat /proc/uptime; echo said"])?.ok()?;
        has("exec", &out.stdout, "said")?;
        let report = s.c.exec_report(&[])?;
        same("hostname", report.at("/hostname"), &json!("container"))?;
        let ps = s.c.verb_with("ps", &["--format", "json"]).ok()?;
        has("ps", &ps.stdout, &s.c.pid()?.to_string())?;
        s.c.verb("pause").ok()?;
        s.c.is("paused")?;
        s.c.verb("resume").ok()?;
        s.c.kill("KILL")?;
        s.c.becomes("stopped")?;
        s.c.delete()?;
        t.nothing_left()
    });
    m.case("checkpoint/again-and-again", SPEC, |t| again_and_again(Saved::counter(t, t.bundle()?)?));
    m.case("checkpoint/leave-running", SPEC, |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        let pid = s.c.pid()?;
        s.checkpoint(&["--leave-running"])?;
        s.c.is("running")?;
        same("pid", s.c.pid()?, pid)?;
        counts_on(&s.c.bundle, count(&s.c.bundle))?;
        // A second one from the same files.
        s.c.delete_force()?;
        s.restore()?;
        counts_on(&s.c.bundle, count(&s.c.bundle))?;
        s.c.end()
    });
    m.case("checkpoint/of-a-paused-container", SPEC, |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        s.c.verb("pause").ok()?;
        let at = count(&s.c.bundle);
        s.checkpoint(&[])?;
        s.is_gone()?;
        s.restore()?;
        if s.c.status()? == "paused" {
            s.c.verb("resume").ok()?;
        }
        counts_on(&s.c.bundle, at)?;
        s.c.end()
    });
    m.case("checkpoint/pre-dump", "runc contract: --pre-dump, --parent-path", |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        let feature = t.host("/bin/busybox").args(["sh", "-c", "exec criu check --feature mem_dirty_track"]);
        if !feature.output()?.status.success() {
            return skip("this kernel does not track which pages are written to");
        }
        let parent = t.path("parent");
        t.verb("checkpoint").args(["--pre-dump", "--image-path"]).arg(&parent).arg(&s.c.id).ok()?;
        s.c.is("running")?;
        let name = parent.file_name().unwrap_or_default().to_string_lossy().into_owned();
        s.checkpoint(&["--parent-path", &format!("../{name}")])?;
        ensure!(s.images.join("parent").exists(), "no link to the earlier images");
        s.restore()?;
        counts_on(&s.c.bundle, count(&s.c.bundle))?;
        s.c.end()
    });
}

fn what_is_kept(m: &mut Matrix) {
    m.case("checkpoint/mounts", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "on the host")?;
        let bundle = t.bundle()?.bind(&volume, "/mnt/volume", &["ro"]);
        let bundle = bundle.mount("/mnt/tmp", "tmpfs", "tmpfs", &["noexec", "size=1m"]);
        let s = Saved::counter(t, bundle)?;
        s.c.exec(&["sh", "-c", "echo kept > /mnt/tmp/file"])?.ok()?;
        let mounts = |c: &Container<'_>| {
            let out = c.exec(&["cat", "/proc/self/mountinfo"])?.ok()?;
            // Of a masked file only the words about access times may change.
            let masked = |path: &str| path.starts_with("/proc/") && path.matches('/').count() == 2;
            let one = |l: &str| {
                let f: Vec<_> = l.split(' ').collect();
                let options = |o: &str| if masked(f[4]) { o.replace(",relatime", "") } else { o.to_owned() };
                (f.len() > 5).then(|| format!("{} {}", f[4], options(f[5])))
            };
            let mut all: Vec<String> = out.stdout.lines().filter_map(one).collect();
            all.sort();
            Ok::<_, crate::check::Fail>(all)
        };
        let before = mounts(&s.c)?;
        s.checkpoint(&[])?;
        s.restore()?;
        same("mount points and their options", mounts(&s.c)?, before)?;
        same("the volume", s.c.exec(&["cat", "/mnt/volume/file"])?.ok()?.stdout, "on the host")?;
        same("the tmpfs", s.c.exec(&["cat", "/mnt/tmp/file"])?.ok()?.stdout.trim(), "kept")?;
        let masked = s.c.exec(&["cat", "/proc/keys"])?;
        same("a masked file", masked.stdout.as_str(), "")?;
        s.c.exec(&["sh", "-c", "echo x > /mnt/volume/new"])?.fails()?;
        s.c.end()
    });
    m.case("checkpoint/missing-mount-points-are-made", SPEC, |t| {
        let (outer, inner) = (t.volume()?, t.volume()?);
        fs::write(inner.join("file"), "deep")?;
        let bundle = t.bundle()?.bind(&outer, "/mnt/a", &[]).bind(&inner, "/mnt/a/for/nested", &[]);
        let s = Saved::counter(t, bundle)?;
        s.checkpoint(&[])?;
        fs::remove_dir_all(outer.join("for"))?;
        fs::remove_dir_all(s.c.bundle.rootfs().join("mnt/a"))?;
        s.restore()?;
        same("the file", s.c.exec(&["cat", "/mnt/a/for/nested/file"])?.ok()?.stdout, "deep")?;
        s.c.end()
    });
    m.case("checkpoint/a-bind-mount-behind-a-symlink", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "linked")?;
        let bundle = t.bundle()?.dir("/var/real")?.link("/conf", "/var/real")?;
        let s = Saved::counter(t, bundle.bind(&volume, "/conf", &[]))?;
        s.checkpoint(&[])?;
        s.restore()?;
        same("the file", s.c.exec(&["cat", "/var/real/file"])?.ok()?.stdout, "linked")?;
        s.c.end()
    });
    m.case("checkpoint/limits-and-cgroup", SPEC, |t| {
        t.controller("pids")?;
        let s = Saved::counter(t, t.bundle()?.set("/linux/resources/pids", json!({"limit": 33})))?;
        s.checkpoint(&[])?;
        s.restore()?;
        let events = s.c.verb_with("events", &["--stats"]).ok()?;
        let stats: Value = serde_json::from_str(&events.stdout)?;
        same("pids limit", &stats["data"]["pids"]["limit"], &json!(33))?;
        s.c.end()
    });
    m.case("checkpoint/loopback-is-up", "a new network namespace has lo up, restored or not", |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        s.restore()?;
        let flags = s.c.exec(&["cat", "/proc/net/if_inet6"])?;
        let text = s.c.exec(&["cat", "/proc/net/fib_trie"])?.ok()?.stdout;
        ensure!(text.contains("127.0.0.1") || flags.stdout.contains(" lo"), "lo is down: {text:?}");
        s.c.end()
    });
    m.case("checkpoint/pipes", SPEC, |t| {
        needs_criu(t)?;
        let bundle = t.bundle()?.shell("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done");
        bundle.save()?;
        let (read, write) = nix::unistd::pipe()?;
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        let s = Saved::of(t, Container::new(t, t.id(), &bundle));
        let run = t.verb("run").args(["--detach", "--bundle"]).arg(&bundle.dir).arg(&s.c.id);
        run.pipes(write.try_clone()?, write.try_clone()?).ok()?;
        let mut seen = String::new();
        let mut wait_for = |part: &str| {
            let mut file = fs::File::from(read.try_clone()?);
            poll(&format!("{part:?} from the pipe"), VERB_DEADLINE, || {
                let mut bytes = [0; 4096];
                if let Ok(n) = std::io::Read::read(&mut file, &mut bytes) {
                    seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
                }
                seen.contains(part).then_some(())
            })
        };
        wait_for("line 3\n")?;
        s.checkpoint(&[])?;
        let restore = s.paths(t.verb("restore")).args(["--detach", "--bundle"]).arg(&bundle.dir).arg(&s.c.id);
        restore.pipes(write.try_clone()?, write.try_clone()?).ok()?;
        wait_for("line 20\n")?;
        s.c.end()
    });
    m.case("checkpoint/terminal", SPEC, |t| with_a_terminal(t, t.bundle()?));
}

fn ways(m: &mut Matrix) {
    m.case("checkpoint/restore-in-the-foreground", "runc contract: restore without --detach", |t| {
        needs_criu(t)?;
        let bundle = t.bundle()?.shell("while ! test -e /tmp/end; do sleep 0.05; done; exit 7");
        let s = Saved::of(t, t.start(&bundle)?);
        s.checkpoint(&[])?;
        let running = s.restore_cmd().arg(&s.c.id).spawn()?;
        s.c.becomes("running")?;
        fs::write(bundle.rootfs().join("tmp/end"), "")?;
        running.wait()?.exits(7)?;
        s.is_gone()
    });
    m.case("checkpoint/joined-network-namespace", SPEC, |t| {
        needs_criu(t)?;
        let holder = t.sleeper(t.bundle()?)?;
        let path = format!("/proc/{}/ns/net", holder.pid()?);
        let inode = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net"));
        let s = Saved::counter(t, t.bundle()?.join_ns("network", &path))?;
        s.checkpoint(&[])?;
        s.restore()?;
        same("the network namespace", inode(s.c.pid()?)?, inode(holder.pid()?)?)?;
        s.c.delete_force()?;
        holder.delete_force()
    });
    m.case("checkpoint/hooks-of-a-restore", "config.md POSIX-platform Hooks", |t| {
        let note = t.path("hooks");
        let hook = |name: &str| {
            let script = format!("cat > /dev/null; echo {name} >> {}", note.display());
            json!([{"path": "/bin/busybox", "args": ["sh", "-c", script]}])
        };
        let mut bundle = t.bundle()?;
        for name in ["prestart", "createRuntime", "poststart", "poststop"] {
            bundle = bundle.set(&format!("/hooks/{name}"), hook(name));
        }
        let s = Saved::counter(t, bundle)?;
        s.checkpoint(&[])?;
        fs::write(&note, "")?;
        s.restore()?;
        same("hooks", fs::read_to_string(&note)?, "prestart\ncreateRuntime\npoststart\n")?;
        s.c.delete_force()?;
        has("hooks", &fs::read_to_string(&note)?, "poststop")
    });
    m.case("checkpoint/a-configuration-of-criu", "runc contract: annotation org.criu.config", |t| {
        let file = t.path("criu.conf");
        fs::write(&file, "log-file=other.log\n")?;
        let bundle = t.bundle()?.set("/annotations", json!({"org.criu.config": file}));
        let s = Saved::counter(t, bundle)?;
        s.checkpoint(&[])?;
        ensure!(s.work.join("other.log").exists(), "CRIU did not read the file");
        s.restore()?;
        s.c.end()
    });
}

fn refusals(m: &mut Matrix) {
    m.case("checkpoint/without-criu", SPEC, |t| {
        let empty = t.volume()?;
        let c = t.sleeper(t.bundle()?)?;
        let cmd = t.verb("checkpoint").arg("--image-path").arg(t.path("images")).arg(&c.id);
        cmd.env("PATH", empty.to_string_lossy()).output()?.fails_with(&["criu"])?;
        c.is("running")?;
        c.end()
    });
    m.case("checkpoint/criu's-own-words-are-told", SPEC, |t| {
        t.only("orun")?;
        needs_criu(t)?;
        // CRIU cannot save one end of a connection whose other end is on the host.
        let bundle = t.bundle()?.shell(COUNTER);
        bundle.save()?;
        let (inside, _outside) = std::os::unix::net::UnixStream::pair()?;
        let s = Saved::of(t, Container::new(t, t.id(), &bundle));
        let run = t.verb("run").args(["--detach", "--bundle"]).arg(&bundle.dir).arg(&s.c.id);
        run.pipes(inside.try_clone()?.into(), inside.into()).ok()?;
        counts_on(&bundle, 2)?;
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        let out = out.fails_with(&["criu failed: type DUMP"])?;
        has("CRIU's error", &out.stderr, "Error (criu/")?;
        has("CRIU's error", &out.stderr, "unix")?;
        same("errors", out.stderr.lines().filter(|l| !l.contains("warning: ")).count(), 1)?;
        s.c.is("running")?;
        counts_on(&bundle, count(&bundle)).context("after the failure")?;
        s.c.end()
    });
    m.case("checkpoint/a-restore-that-fails-leaves-nothing", SPEC, |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let mut files = fs::read_dir(&s.images)?.flatten().map(|e| e.path());
        let core = files.find(|p| p.to_string_lossy().contains("/core-"));
        let Some(core) = core else { return fail("there is no image of a process") };
        fs::write(core, "damaged")?;
        s.restore_cmd().arg("--detach").arg(&s.c.id).output()?.fails_with(&["criu failed: type RESTORE"])?;
        s.is_gone()
    });
    m.case("checkpoint/of-one-that-does-not-run", SPEC, |t| {
        needs_criu(t)?;
        let c = t.create(&t.bundle()?)?;
        let out = c.verb_with("checkpoint", &["--image-path", "/nonexistent/images"]).output()?;
        out.fails()?;
        c.is("created")
    });
    for (name, options, phrase) in [
        ("absolute-parent-path", &["--parent-path", "/nowhere"][..], "--parent-path"),
        ("missing-parent-path", &["--parent-path", "nowhere"], "--parent-path"),
        ("bad-cgroups-mode", &["--manage-cgroups-mode", "hard"], "manage-cgroups-mode"),
        ("bad-page-server", &["--page-server", "nowhere"], "--page-server"),
        ("bad-empty-ns", &["--empty-ns", "mount"], "is not supported"),
    ] {
        m.case(format!("checkpoint/{name}"), SPEC, move |t| {
            needs_criu(t)?;
            let s = Saved::of(t, t.sleeper(t.bundle()?)?);
            let out = s.paths(t.verb("checkpoint")).args(options.iter().copied()).arg(&s.c.id).output()?;
            out.fails_with(&[phrase])?;
            s.c.is("running")
        });
    }
    m.case("checkpoint/no-images", SPEC, |t| {
        needs_criu(t)?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let images = t.volume()?;
        let cmd = t.verb("restore").arg("--bundle").arg(&bundle.dir).arg("--image-path").arg(&images);
        cmd.arg("--detach").arg(t.id()).output()?.fails_with(&["descriptors.json"])?;
        t.nothing_left()
    });
    hostile(m);
}

fn hostile(m: &mut Matrix) {
    m.case("checkpoint/no-link-in-the-images-is-followed", SECURITY, |t| {
        t.only("orun")?;
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let victim = t.path("victim");
        fs::write(&victim, "untouched")?;
        for name in ["restore.log", "stats-restore"] {
            let _ = fs::remove_file(s.work.join(name));
            symlink(&victim, s.work.join(name))?;
        }
        s.restore()?;
        same("the file that was linked to", fs::read_to_string(&victim)?, "untouched")?;
        s.c.delete_force()?;
        fs::rename(s.images.join("inventory.img"), t.path("inventory"))?;
        symlink(&victim, s.images.join("inventory.img"))?;
        let out = s.restore_cmd().arg("--detach").arg(&s.c.id).output()?;
        out.fails_with(&["not a regular file"])?;
        s.is_gone()
    });
    m.case("checkpoint/a-fifo-in-the-images-stops-nothing", SECURITY, |t| {
        t.only("orun")?;
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        for name in ["descriptors.json", "pstree.img"] {
            let path = s.images.join(name);
            let kept = fs::read(&path)?;
            replace_by_fifo(&path)?;
            let cmd = s.restore_cmd().arg("--detach").arg(&s.c.id).deadline(Duration::from_secs(20));
            cmd.output()?.fails_with(&["not a regular file"])?;
            fs::remove_file(&path)?;
            fs::write(&path, kept)?;
        }
        s.is_gone()
    });
}

fn replace_by_fifo(path: &Path) -> Done {
    fs::remove_file(path)?;
    Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR)?)
}
