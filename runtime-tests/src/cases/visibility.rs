//! What the processes of a container see of the runtime's own processes while these enter it (CVE-2016-9962).

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Done, Result};
use crate::container::Container;
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc;
use serde_json::json;
use std::fs;

const SOURCE: &str = "CVE-2016-9962: what enters a container holds nothing of the host";
/// What the attacker may do: look into every process of its pid namespace.
const ATTACKER: [&str; 4] = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_CHROOT"];

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    m.case("security/exec-shows-nothing-of-the-host", SOURCE, |t| {
        let attacker = attacker(t, t.bundle()?, "capabilities")?;
        rounds(t, &attacker, || attacker.exec_cmd(&[], &["true"]).env("SECRET", SECRET).ok().map(drop))
    });
    m.case("security/exec-as-another-user-shows-nothing-of-the-host", SOURCE, |t| {
        let attacker = attacker(t, t.bundle()?, "capabilities")?;
        let options = ["--user", "1000:1000", "--cwd", "/tmp"];
        rounds(t, &attacker, || attacker.exec_cmd(&options, &["true"]).env("SECRET", SECRET).ok().map(drop))
    });
    m.case("security/exec-into-a-user-namespace-shows-nothing-of-the-host", SOURCE, |t| {
        let attacker = attacker(t, t.bundle()?.userns(100_000, 65536), "capabilities")?;
        rounds(t, &attacker, || attacker.exec_cmd(&[], &["true"]).env("SECRET", SECRET).ok().map(drop))
    });
    m.case("security/exec-without-a-mount-namespace-ends-well", SOURCE, |t| {
        // There the root is the host's to begin with: only that it works.
        let bundle = t.bundle()?.set("/linux/namespaces", json!([{"type": "pid"}])).unset("/hostname");
        let c = t.sleeper(bundle.unset("/linux/maskedPaths").unset("/linux/readonlyPaths"))?;
        let out = c.exec(&["sh", "-c", "echo in $PPID"])?.ok()?;
        ensure!(out.stdout.trim() == "in 0", "the parent shows: {}", out.stdout);
        c.end()
    });
    m.case("security/create-in-a-shared-pid-namespace-shows-nothing-of-the-host", SOURCE, |t| {
        neighbour(t, Ok)
    });
    m.case("security/hooks-in-a-shared-pid-namespace-show-nothing-of-the-host", SOURCE, |t| {
        let hook = json!([{"path": t.host_probe(), "args": ["probe", "exit", "0"]}]);
        neighbour(t, |bundle| {
            let inside = json!([{"path": "/bin/probe", "args": ["probe", "exit", "0"]}]);
            Ok(bundle
                .set("/hooks/prestart", hook.clone())
                .set("/hooks/createRuntime", hook.clone())
                .set("/hooks/createContainer", hook.clone())
                .set("/hooks/startContainer", inside))
        })
    });
    m.case("security/a-new-user-namespace-in-a-shared-pid-namespace-shows-nothing", SOURCE, |t| {
        neighbour(t, |bundle| Ok(bundle.userns(100_000, 65536)))
    });
    m.case("security/shared-pid-namespace-has-its-own-procfs", "linux.namespaces, mounts: proc", |t| {
        let first = t.sleeper(t.bundle()?)?;
        let path = format!("/proc/{}/ns/pid", first.pid()?);
        let second = t.start(&t.bundle()?.join_ns("pid", &path).sleeps())?;
        let out = second
            .exec(&["sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; grep -c . /proc/self/mountinfo"])?
            .ok()?;
        ensure!(out.stdout.starts_with("probe sleep"), "pid 1 in /proc: {}", out.stdout);
        second.delete_force()?;
        first.end()
    });
}

/// Stands in the environment of every command; the probe looks for it.
const SECRET: &str = "secret-of-the-caller";

/// A container that looks into every process that shows up: for the host, and with "capabilities" for those that it lacks.
fn attacker<'t>(t: &'t T<'t>, bundle: Bundle, compare: &str) -> Result<Container<'t>> {
    let canary = t.volume()?.join("canary");
    fs::write(&canary, "of the host")?;
    let path = canary.to_string_lossy().into_owned();
    let c = t.start(&bundle.args(&["probe", "peek", &path, compare]).capabilities(&ATTACKER))?;
    c.await_output("ready")?;
    Ok(c)
}

/// Does `act` until the attacker has met processes of it often enough, and demands that nothing was seen.
fn rounds(t: &T<'_>, attacker: &Container<'_>, mut act: impl FnMut() -> Done) -> Done {
    for _ in 0..40 {
        act()?;
    }
    for _ in 0..400 {
        if attacker.output().contains("met") {
            break;
        }
        act()?;
    }
    let seen = attacker.output();
    ensure!(seen.contains("met"), "the attacker met no process, so that this shows nothing");
    ensure!(!seen.contains("saw"), "the attacker says:\n{seen}");
    attacker.delete_force()?;
    t.nothing_left()
}

/// Creates containers in the attacker's pid namespace.
fn neighbour(t: &T<'_>, change: impl Fn(Bundle) -> Result<Bundle>) -> Done {
    // Before Linux 6.17 only a process in the namespace can make its procfs, and that needs capabilities there.
    let compare = if proc::kernel_version() >= (6, 17) { "capabilities" } else { "the host" };
    let attacker = attacker(t, t.bundle()?, compare)?;
    let path = format!("/proc/{}/ns/pid", attacker.pid()?);
    let bundle = t.bundle()?.args(&["true"]).capabilities(&ATTACKER).join_ns("pid", &path);
    let bundle = change(bundle)?;
    rounds(t, &attacker, || t.run_cmd(&bundle)?.env("SECRET", SECRET).ok().map(drop))
}
