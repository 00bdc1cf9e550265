//! Files that the runtime writes at paths of its caller, in a directory that belongs to somebody else: that user's symlinks
//! lead nowhere.

use super::checkpoint::needs_criu;
use crate::case::T;
use crate::check::{Done, Result, fail, same};
use crate::command::{Cmd, Output};
use crate::ensure;
use crate::matrix::Matrix;
use nix::sys::stat::Mode;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

const SECURITY: &str = "symlink(7): a file of root's is written in a directory of another user";
const LOG: &str = "runc contract: --log";
const USER: u32 = 65534;

/// A directory of another user, and a file of root's that he would like to be written to.
struct Trap {
    dir: PathBuf,
    victim: PathBuf,
}

impl Trap {
    fn set(t: &T<'_>) -> Result<Trap> {
        let (dir, victim) = (t.volume()?, t.path("victim"));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
        lchown(&dir, Some(USER), Some(USER))?;
        fs::write(&victim, "precious")?;
        Ok(Trap { dir, victim })
    }

    /// That user's link; its path.
    fn link(&self, name: &str, target: &Path) -> Result<PathBuf> {
        let link = self.dir.join(name);
        symlink(target, &link)?;
        lchown(&link, Some(USER), Some(USER))?;
        Ok(link)
    }

    fn untouched(&self) -> Done {
        same("root's file", fs::read_to_string(&self.victim)?.as_str(), "precious")
    }
}

/// `run` with one more option, whose value is this path.
fn run_with(t: &T<'_>, global: bool, option: &str, path: &Path) -> Result<Output> {
    let bundle = t.bundle()?.args(&["probe", "exit", "7"]);
    bundle.save()?;
    let cmd = if global {
        t.runtime().arg(option).arg(path).arg("run")
    } else {
        t.verb("run").arg(option).arg(path)
    };
    cmd.arg("--bundle").arg(&bundle.dir).arg(t.id()).output()
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    pid_files(m);
    logs(m);
    images(m);
}

/// How a pid file is asked for: the verb that writes one, called with this path.
type Writes = fn(&T<'_>, &Path) -> Result<Output>;

fn pid_files(m: &mut Matrix) {
    let run: Writes = |t, path| run_with(t, false, "--pid-file", path);
    let create: Writes = |t, path| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let out = t.path("out");
        let cmd = t.verb("create").arg("--pid-file").arg(path).arg("--bundle").arg(&bundle.dir);
        cmd.streams(&out, &out).arg(t.id()).output()
    };
    let exec: Writes = |t, path| {
        let c = t.sleeper(t.bundle()?)?;
        t.verb("exec").arg("--pid-file").arg(path).args([&c.id, "true"]).output()
    };
    for (verb, write) in [("run", run), ("create", create), ("exec", exec)] {
        m.case(format!("callers/{verb}-replaces-a-link-at-the-pid-file"), SECURITY, move |t| {
            let trap = Trap::set(t)?;
            let path = trap.link("x.pid", &trap.victim)?;
            // What runtimes write to before the file gets its name.
            for name in [".x.pid", "x.pid.tmp", ".x.pid.tmp"] {
                trap.link(name, &trap.victim)?;
            }
            write(t, &path)?;
            trap.untouched()
        });
        m.case(
            format!("callers/{verb}-follows-no-foreign-link-to-the-directory-of-the-pid-file"),
            SECURITY,
            move |t| {
                t.only("orun")?;
                let trap = Trap::set(t)?;
                let inner = t.volume()?;
                let link = trap.link("dir", &inner)?;
                write(t, &link.join("x.pid"))?.fails_with(&["belongs to user 65534"])?;
                ensure!(fs::read_dir(&inner)?.next().is_none(), "a file was made behind the link");
                // The same link of root's is followed.
                lchown(&link, Some(0), Some(0))?;
                write(t, &link.join("x.pid"))?;
                ensure!(inner.join("x.pid").exists(), "no pid file behind a link of root's");
                Ok(())
            },
        );
    }
    m.case("callers/a-pid-file-is-new-whatever-was-there", SECURITY, |t| {
        let trap = Trap::set(t)?;
        let path = trap.dir.join("x.pid");
        fs::hard_link(&trap.victim, &path)?;
        run_with(t, false, "--pid-file", &path)?.exits(7)?;
        trap.untouched()?;
        same("names of the file", fs::metadata(&path)?.nlink(), 1)?;
        fs::remove_file(&path)?;
        nix::unistd::mkfifo(&path, Mode::S_IRWXU)?;
        run_with(t, false, "--pid-file", &path)?.exits(7)?;
        ensure!(fs::read_to_string(&path)?.parse::<u32>().is_ok(), "no pid in the file");
        Ok(())
    });
    m.case("callers/a-pid-file-with-the-longest-name", SECURITY, |t| {
        t.only("orun")?;
        let path = t.volume()?.join("n".repeat(255));
        run_with(t, false, "--pid-file", &path)?.exits(7)?;
        ensure!(path.exists(), "no pid file");
        Ok(())
    });
}

fn logs(m: &mut Matrix) {
    m.case("callers/the-log-does-not-follow-a-foreign-link", SECURITY, |t| {
        let trap = Trap::set(t)?;
        let link = trap.link("log", &trap.victim)?;
        let out = t.runtime().arg("--log").arg(&link).args(["state", "none"]).output()?.fails()?;
        trap.untouched()?;
        ensure!(out.stderr.contains("belongs to user 65534"), "{}", out.describe());
        let new = t.path("new");
        let dangling = trap.link("dangling", &new)?;
        t.runtime().arg("--log").arg(&dangling).args(["state", "none"]).output()?.fails()?;
        ensure!(!new.exists(), "a file was made behind the link");
        let hard = trap.dir.join("hard");
        fs::hard_link(&trap.victim, &hard)?;
        t.runtime().arg("--log").arg(&hard).args(["state", "none"]).output()?.fails_with(&["hard link"])?;
        trap.untouched()
    });
    m.case("callers/the-log-follows-links-of-root", LOG, |t| {
        let (real, link) = (t.path("real"), t.path("link"));
        fs::write(&real, "before\n")?;
        symlink(&real, &link)?;
        t.runtime().arg("--log").arg(&link).args(["state", "none"]).output()?.fails()?;
        let text = fs::read_to_string(&real)?;
        ensure!(text.starts_with("before\n") && text.lines().count() > 1, "the log: {text:?}");
        Ok(())
    });
    for (name, path) in
        [("dev-stderr", "/dev/stderr"), ("proc-self-fd", "/proc/self/fd/2"), ("dev-fd", "/dev/fd/2")]
    {
        m.case(format!("callers/the-log-is-{name}"), LOG, move |t| {
            if !Path::new(path).exists() {
                symlink("/proc/self/fd/2", "/dev/stderr")?;
            }
            let cmd = |t: &T<'_>| -> Cmd {
                t.runtime().args(["--log", path, "--log-format", "json", "state", "none"])
            };
            let lines = cmd(t).output()?.fails()?.stderr;
            let json = |text: &str| {
                text.lines().any(|l| serde_json::from_str::<Value>(l).is_ok_and(|v| v["level"] == "error"))
            };
            ensure!(json(&lines), "no line of the log in {lines:?}");
            let (reader, writer) = std::io::pipe()?;
            cmd(t).pipes(writer.try_clone()?.into(), writer.into()).output()?;
            let text = std::io::read_to_string(reader)?;
            ensure!(json(&text), "no line of the log in the pipe: {text:?}");
            Ok(())
        });
    }
    m.case("callers/the-log-is-a-fifo-without-a-reader", "no wait for ever", |t| {
        t.only("orun")?;
        let fifo = t.path("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU)?;
        t.runtime()
            .arg("--log")
            .arg(&fifo)
            .args(["state", "none"])
            .output()?
            .fails_with(&["no such device"])
            .map(drop)
    });
    m.case("callers/the-log-is-made-with-the-usual-mode", LOG, |t| {
        let path = t.path("log");
        let cmd = t.runtime().arg("--log").arg(&path).args(["state", "none"]);
        cmd.umask(0).output()?.fails()?;
        same("mode", fs::metadata(&path)?.mode() & 0o777, 0o644)
    });
}

fn images(m: &mut Matrix) {
    for (name, mode, owner) in [("of-another-user", 0o755, USER), ("that-all-may-write-to", 0o777, 0)] {
        m.case(format!("callers/images-do-not-go-to-a-directory-{name}"), SECURITY, move |t| {
            t.only("orun")?;
            needs_criu(t)?;
            let c = t.sleeper(t.bundle()?)?;
            let dir = t.volume()?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode))?;
            lchown(&dir, Some(owner), Some(owner))?;
            let own = t.volume()?;
            for (images, work) in [(&dir, &own), (&own, &dir)] {
                let cmd = t.verb("checkpoint").arg("--image-path").arg(images).arg("--work-path").arg(work);
                cmd.arg(&c.id).output()?.fails_with(&["who could put symlinks there"])?;
                if fs::read_dir(&dir)?.next().is_some() {
                    return fail("something was written there");
                }
            }
            c.is("running")
        });
    }
}
