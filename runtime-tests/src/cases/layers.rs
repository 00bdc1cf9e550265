//! The root file system as an overlay of layers, which annotations ask for.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Done, Result, has, same};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const SOURCE: &str = "orun: docs/annotations.md, run.orun.rootfs.*";
const LOWER: &str = "run.orun.rootfs.lower";
const UPPER: &str = "run.orun.rootfs.upper";
const WORK: &str = "run.orun.rootfs.work";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    writable(m);
    layers(m);
    refused(m);
    m.case("layers/killed-runtime-leaves-no-mount", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let c = t.sleeper(stack.bundle(true))?;
        let init = c.pid()?;
        let target = format!("/proc/{init}/mountinfo");
        has("mounts of the container", &fs::read_to_string(target)?, " - overlay ")?;
        nothing_on_the_host(&stack)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL)?;
        c.becomes("stopped")?;
        nothing_on_the_host(&stack)?;
        c.end()
    });
    m.case("layers/plan-names-them", SOURCE, |t| {
        t.only("orun")?;
        let stack = Stack::new(t)?;
        let bundle = stack.bundle(true);
        bundle.save()?;
        let out = t.verb("plan").arg(&bundle.dir).ok()?;
        has("plan", &out.stdout, "as an overlay: 2 layers on each other, topmost first: ")?;
        has("plan", &out.stdout, &stack.upper.to_string_lossy())
    });
}

/// A bundle of two layers, the upper of which has only a few files, and directories for changes.
struct Stack {
    base: Bundle,
    top: PathBuf,
    upper: PathBuf,
    work: PathBuf,
}

impl Stack {
    fn new(t: &T<'_>) -> Result<Stack> {
        t.only("orun")?;
        let base = t.bundle()?.file("/etc/both", "base", 0o644)?.file("/etc/gone", "base", 0o644)?;
        let (top, upper, work) = (t.volume()?, t.volume()?, t.volume()?);
        fs::create_dir(top.join("etc"))?;
        fs::write(top.join("etc/both"), "top")?;
        Ok(Stack { base, top, upper, work })
    }

    /// The layers, and the upper directory when `kept`.
    fn bundle(&self, kept: bool) -> Bundle {
        let layers = [self.top.clone(), self.base.rootfs()];
        let mut annotations = json!({LOWER: list(&layers)});
        if kept {
            annotations[UPPER] = json!(self.upper);
            annotations[WORK] = json!(self.work);
        }
        self.base.clone().set("/annotations", annotations)
    }
}

fn list(paths: &[PathBuf]) -> String {
    let all: Vec<_> = paths.iter().map(|p| p.to_string_lossy().replace(':', "\\:")).collect();
    all.join(":")
}

/// Neither a mount nor an open file on the host.
fn nothing_on_the_host(stack: &Stack) -> Done {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let dir = stack.base.dir.to_string_lossy().into_owned();
    ensure!(!mounts.contains(&dir), "a mount below {dir} on the host:\n{mounts}");
    Ok(())
}

fn writable(m: &mut Matrix) {
    m.case("layers/changes-go-to-the-upper-directory", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let script = "cat /etc/both && echo new > /etc/both && rm /etc/gone && echo kept > /made";
        let out = t.run(&stack.bundle(true).shell(script))?.ok()?;
        same("stdout", out.stdout.as_str(), "top")?;
        same("the layer", fs::read_to_string(stack.top.join("etc/both"))?, "top".to_owned())?;
        same("the base", fs::read_to_string(stack.base.rootfs().join("etc/gone"))?, "base".to_owned())?;
        ensure!(!stack.base.rootfs().join("made").exists(), "a file appeared in a layer");
        same("changed", fs::read_to_string(stack.upper.join("etc/both"))?, "new\n".to_owned())?;
        same("made", fs::read_to_string(stack.upper.join("made"))?, "kept\n".to_owned())?;
        nothing_on_the_host(&stack)?;
        // The next one with the same directories finds them.
        let script = "test ! -e /etc/gone && cat /etc/both /made";
        same("again", t.run(&stack.bundle(true).shell(script))?.ok()?.stdout.as_str(), "new\nkept\n")?;
        t.nothing_left()
    });
    m.case("layers/without-an-upper-directory-changes-end-with-the-container", SOURCE, |t| {
        let stack = Stack::new(t)?;
        for _ in 0..2 {
            let script = "cat /etc/both && echo x > /etc/both && test ! -e /made && touch /made";
            same("stdout", t.run(&stack.bundle(false).shell(script))?.ok()?.stdout.as_str(), "top")?;
        }
        ensure!(fs::read_dir(&stack.upper)?.next().is_none(), "the upper directory was used");
        nothing_on_the_host(&stack)?;
        t.nothing_left()
    });
    m.case("layers/root-path-is-the-only-layer", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let bundle = stack.bundle(true).set("/annotations", json!({UPPER: stack.upper, WORK: stack.work}));
        same("stdout", t.run(&bundle.shell("cat /etc/both; touch /made"))?.ok()?.stdout.as_str(), "base")?;
        ensure!(stack.upper.join("made").exists(), "the file is not in the upper directory");
        ensure!(!stack.base.rootfs().join("made").exists(), "the file is in root.path");
        Ok(())
    });
    m.case("layers/two-containers-do-not-see-each-other", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let one = t.sleeper(stack.bundle(true))?;
        one.exec(&["sh", "-c", "echo one > /who"])?.ok()?;
        let (upper, work) = (t.volume()?, t.volume()?);
        let other = stack.bundle(true).with(|v| {
            v["annotations"][UPPER] = json!(upper);
            v["annotations"][WORK] = json!(work);
            v["linux"]["cgroupsPath"] =
                json!(format!("{}-b", v["linux"]["cgroupsPath"].as_str().unwrap_or_default()));
        });
        same("the other", t.run(&other.shell("test ! -e /who && echo ok"))?.ok()?.stdout.as_str(), "ok\n")?;
        one.end()
    });
    m.case("layers/read-only-root", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let bundle = stack.bundle(false).set("/root/readonly", true);
        let out = t.run(&bundle.shell("touch /x 2>/dev/null || echo refused"))?.ok()?;
        same("stdout", out.stdout.as_str(), "refused\n")
    });
    m.case("layers/masked-paths-hold", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let bundle = stack.bundle(false).push("/linux/maskedPaths", "/etc/both");
        let out = t.run(&bundle.shell("cat /etc/both; echo end"))?.ok()?;
        same("stdout", out.stdout.as_str(), "end\n")
    });
    m.case("layers/in-a-user-namespace", SOURCE, |t| {
        t.kernel(5, 11)?;
        let stack = Stack::new(t)?;
        for dir in [&stack.upper, &stack.work, &stack.top] {
            chown_all(dir)?;
        }
        chown_all(&stack.base.rootfs())?;
        let script = "echo new > /etc/both && rm /etc/gone && test ! -e /etc/gone && stat -c %u /etc/both";
        let out = t.run(&stack.bundle(true).userns(100_000, 65_536).shell(script))?.ok()?;
        same("owner", out.stdout.as_str(), "0\n")?;
        same("owner on the host", fs::metadata(stack.upper.join("etc/both"))?.uid(), 100_000)?;
        nothing_on_the_host(&stack)
    });
    m.case("layers/upper-directory-on-an-overlay", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let (low, up, work, at) = (t.volume()?, t.volume()?, t.volume()?, t.volume()?);
        let options =
            format!("lowerdir={},upperdir={},workdir={}", low.display(), up.display(), work.display());
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("overlay"), &at, Some("overlay"), none, Some(options.as_str()))?;
        t.settle();
        fs::create_dir(at.join("upper"))?;
        fs::create_dir(at.join("work"))?;
        let bundle = stack.bundle(true).with(|v| {
            v["annotations"][UPPER] = json!(at.join("upper"));
            v["annotations"][WORK] = json!(at.join("work"));
        });
        let out = t.run(&bundle.shell("touch /made && cat /etc/both"))?.ok()?;
        same("stdout", out.stdout.as_str(), "top")?;
        has("warning", &out.stderr, "stored in memory")?;
        ensure!(!at.join("upper/made").exists(), "the upper directory was used");
        Ok(())
    });
}

fn chown_all(dir: &Path) -> Done {
    std::os::unix::fs::lchown(dir, Some(100_000), Some(100_000))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            chown_all(&entry.path())?;
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(100_000), Some(100_000))?;
        }
    }
    Ok(())
}

fn layers(m: &mut Matrix) {
    for count in [100, 300] {
        m.case(format!("layers/{count}-of-them"), SOURCE, move |t| {
            let stack = Stack::new(t)?;
            let parent = t.volume()?;
            let mut all = Vec::new();
            for n in 0..count - 1 {
                let layer = parent.join(format!("{n}: a layer with a name of its own"));
                fs::create_dir(&layer)?;
                fs::write(layer.join(format!("file{n}")), "")?;
                fs::write(layer.join("which"), n.to_string())?;
                all.push(layer);
            }
            all.push(stack.base.rootfs());
            let bundle = stack.bundle(true).with(|v| v["annotations"][LOWER] = json!(list(&all)));
            let out = t.run(&bundle.shell("cat /which; ls / | grep -c '^file'"))?.ok()?;
            same("stdout", out.stdout, format!("0{}\n", count - 1))
        });
    }
    m.case("layers/whiteouts-and-opaque-directories", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let bundle = stack.bundle(false).file("/home/base", "", 0o644)?;
        // The kernel writes them, where a file goes and a directory takes the place of another.
        let at = t.volume()?;
        let of = |dir: &Path| dir.display().to_string();
        let (low, up, work) = (of(&stack.base.rootfs()), of(&stack.top), of(&stack.work));
        let options = format!("lowerdir={low},upperdir={up},workdir={work}");
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("overlay"), &at, Some("overlay"), none, Some(options.as_str()))?;
        fs::remove_file(at.join("etc/gone"))?;
        fs::remove_dir_all(at.join("home"))?;
        fs::create_dir(at.join("home"))?;
        fs::write(at.join("home/top"), "")?;
        nix::mount::umount(&at)?;
        same("whiteout", fs::metadata(stack.top.join("etc/gone"))?.rdev(), 0)?;
        let out = t.run(&bundle.shell("test ! -e /etc/gone && ls /home"))?.ok()?;
        same("stdout", out.stdout.as_str(), "top\n")
    });
    m.case("layers/root-has-the-mode-of-the-topmost-layer", SOURCE, |t| {
        let stack = Stack::new(t)?;
        fs::set_permissions(&stack.top, fs::Permissions::from_mode(0o751))?;
        same("mode", t.run(&stack.bundle(false).shell("stat -c %a /"))?.ok()?.stdout.as_str(), "751\n")
    });
    m.case("layers/paths-of-the-host-do-not-show", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let out = t.run(&stack.bundle(true).shell("cat /proc/self/mountinfo"))?.ok()?;
        let dir = t.dir.to_string_lossy().into_owned();
        let root = out.stdout.lines().find(|l| l.contains(" - overlay ")).unwrap_or_default().to_owned();
        ensure!(!root.is_empty() && !root.contains(&dir), "{root}");
        Ok(())
    });
}

fn refused(m: &mut Matrix) {
    fn refuses(t: &T<'_>, change: impl FnOnce(&mut serde_json::Value, &Stack), words: &[&str]) -> Done {
        let stack = Stack::new(t)?;
        let bundle = stack.bundle(true).with(|v| change(v, &stack));
        t.refuses(&bundle, words)?;
        nothing_on_the_host(&stack)?;
        t.nothing_left()
    }
    m.case("layers/missing-layer-is-an-error", SOURCE, |t| {
        refuses(
            t,
            |v, _| v["annotations"][LOWER] = json!("/nowhere/at/all"),
            &["opening the layer", "/nowhere"],
        )
    });
    m.case("layers/symlinks-are-errors", SOURCE, |t| {
        for key in [LOWER, UPPER, WORK] {
            let link = t.path("link");
            symlink("/", &link)?;
            refuses(t, |v, _| v["annotations"][key] = json!(link), &["not a symlink"]).context(key)?;
        }
        Ok(())
    });
    m.case("layers/upper-directory-inside-a-layer-harms-nobody", SOURCE, |t| {
        // The kernel warns or refuses; the container is not to hang or to leave anything.
        let stack = Stack::new(t)?;
        let inside = stack.top.join("etc");
        let bundle = stack.bundle(true).with(|v| v["annotations"][UPPER] = json!(inside));
        t.run(&bundle.shell("true"))?;
        nothing_on_the_host(&stack)?;
        t.nothing_left()
    });
    m.case("layers/upper-and-work-on-two-file-systems", SOURCE, |t| {
        let other = t.volume()?;
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &other, Some("tmpfs"), none, None::<&str>)?;
        t.settle();
        refuses(t, |v, _| v["annotations"][WORK] = json!(other), &["must be on one file system"])
    });
    m.case("layers/links-in-a-layer-do-not-lead-out", SOURCE, |t| {
        let stack = Stack::new(t)?;
        let victim = t.volume()?;
        for name in ["proc", "dev", "sys"] {
            symlink(&victim, stack.top.join(name))?;
        }
        let _ = t.run(&stack.bundle(true).shell("true"))?;
        ensure!(fs::read_dir(&victim)?.next().is_none(), "something was made outside of the root");
        nothing_on_the_host(&stack)
    });
}
