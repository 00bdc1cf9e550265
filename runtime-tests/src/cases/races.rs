//! Volumes that change while a container starts: a racer puts something else in the place of what the runtime has made or
//! looked at.

use super::security::{bait, untouched};
use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Done, Result, same};
use crate::command::{Running, patience, poll};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RACE: &str = "CVE-2021-30465, CVE-2024-45310: a volume changes while a container starts";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for (kind, options) in [("tmpfs", &["size=1m"][..]), ("mqueue", &[]), ("sysfs", &["ro"]), ("proc", &[])] {
        m.case(format!("security/racing-link-for-a-new-{kind}"), RACE, move |t| {
            new_place(t, |bundle, _| Ok(bundle.mount("/vol/new", kind, kind, options)))
        });
    }
    m.case("security/racing-link-for-a-new-bind-of-a-directory", RACE, |t| {
        let source = t.volume()?;
        new_place(t, |bundle, _| Ok(bundle.bind(&source, "/vol/new", &[])))
    });
    m.case("security/racing-link-for-a-new-directory-above", RACE, |t| {
        new_place(t, |bundle, _| Ok(bundle.mount("/vol/new/below", "tmpfs", "tmpfs", &[])))
    });
    m.case("security/racing-link-for-a-working-directory", RACE, |t| {
        new_place(t, |bundle, _| Ok(bundle.set("/process/cwd", "/vol/new/work")))
    });
    m.case("security/racing-exchange-below-masked-directories", RACE, |t| {
        // What covers the first one covers the others too: never what the racer has put there.
        let volume = t.volume()?;
        for name in ["a", "b"] {
            fs::create_dir(volume.join(name))?;
            fs::write(volume.join(name).join("of-the-volume"), "x")?;
        }
        let racer = exchange(t, &volume.join("a"), &volume.join("b"))?;
        let bundle = t.bundle()?.bind(&volume, "/vol", &[]).file("/etc/private/key", "x", 0o644)?;
        let bundle =
            bundle.set("/linux/maskedPaths", json!(["/vol/a", "/etc/private"])).shell("ls /etc/private");
        let end = Instant::now() + patience(Duration::from_secs(4));
        while Instant::now() < end {
            same("entries of a masked directory", t.run(&bundle)?.ok()?.stdout.as_str(), "")?;
        }
        stop(racer)?;
        t.nothing_left()
    });
    m.case("security/racing-exchange-below-a-copied-directory", RACE, |t| {
        let (bait, volume) = (bait(t)?, t.volume()?);
        fs::create_dir_all(volume.join("data"))?;
        fs::write(volume.join("data/a"), "of the volume")?;
        symlink(bait.join("only"), volume.join("link"))?;
        let racer = exchange(t, &volume.join("data/a"), &volume.join("link"))?;
        let bundle =
            t.bundle()?.bind(&volume, "/vol", &[]).mount("/vol/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        let bundle = bundle.shell("cat /vol/data/a 2>/dev/null; true");
        let end = Instant::now() + patience(Duration::from_secs(3));
        while Instant::now() < end {
            let out = t.run(&bundle)?.ok()?.stdout;
            ensure!(!out.contains("untouched"), "the file of the host was copied");
        }
        stop(racer)?;
        t.nothing_left()
    });
    inside_proc(m);
}

fn exchange(t: &T<'_>, a: &Path, b: &Path) -> Result<Running> {
    let racer = t.host(t.host_probe()).arg("exchange").arg(a).arg(b).arg("100000").spawn()?;
    t.own_process(racer.pid);
    Ok(racer)
}

fn stop(racer: Running) -> Done {
    racer.signal(libc::SIGKILL)?;
    racer.wait().map(drop)
}

/// As soon as the runtime has made `new` in the volume, a symlink to a directory of the host takes its place. Nothing may
/// be mounted there, not even in the container's own mount namespace, into which a hook looks before the root is entered.
fn new_place(t: &T<'_>, change: impl Fn(Bundle, &PathBuf) -> Result<Bundle>) -> Done {
    let (bait, volume, seen) = (bait(t)?, t.volume()?, t.path("seen"));
    let racer = t.host(t.host_probe()).arg("swap-new").arg(&volume).arg("new").arg(&bait).spawn()?;
    t.own_process(racer.pid);
    poll("the racer", patience(Duration::from_secs(10)), || racer.stdout().contains("ready").then_some(()))?;
    let look = format!("grep ' {} ' /proc/self/mountinfo >> {}; exit 0", bait.display(), seen.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", look]}]);
    let bundle = t.bundle()?.bind(&volume, "/vol", &[]).args(&["true"]).set("/hooks/createContainer", hook);
    let bundle = change(bundle, &volume)?;
    let end = Instant::now() + patience(Duration::from_secs(6));
    let mut rounds = 0;
    while Instant::now() < end || !racer.stdout().contains("won") {
        // It may fail: the racer may have taken away what was made.
        t.run(&bundle)?;
        untouched(&bait)?;
        let found = fs::read_to_string(&seen).unwrap_or_default();
        ensure!(found.is_empty(), "round {rounds}: mounted on the host's directory: {found}");
        rounds += 1;
        ensure!(rounds < 5000, "the racer never won, so that this shows nothing");
    }
    stop(racer)?;
    t.nothing_left()
}

fn inside_proc(m: &mut Matrix) {
    const PROC: &str = "CVE-2019-16884: nothing takes the place of /proc, by no name";
    for (name, link, destination) in [
        ("proc", "/proc", "/data"),
        ("relative-proc", "proc", "/data"),
        ("proc-sys", "/proc/sys", "/data"),
        ("below-proc", "/proc", "/data/sys"),
        ("link-to-a-link", "/more", "/data"),
    ] {
        m.case(format!("security/mount-through-a-link-to-{name}"), PROC, move |t| {
            let volume = t.volume()?;
            let with = |link: &str, destination: &str| -> Result<Bundle> {
                Ok(t.bundle()?.link("/more", "/proc")?.link("/data", link)?.bind(&volume, destination, &[]))
            };
            t.refuses(&with(link, destination)?, &["inside /proc", "not of type proc", "to type proc"])?;
            let tmpfs = t.bundle()?.link("/more", "/proc")?.link("/data", link)?;
            t.refuses(
                &tmpfs.mount(destination, "tmpfs", "tmpfs", &[]),
                &["inside /proc", "not of type proc"],
            )?;
            // The same through a link to somewhere else works.
            let control = with("/srv", &destination.replace("/data/sys", "/data/sub"))?;
            t.run(&control.args(&["true"]))?.ok()?;
            t.nothing_left()
        });
    }
}
