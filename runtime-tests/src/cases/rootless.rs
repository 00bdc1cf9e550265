//! The runtime in the hands of an ordinary user: a user namespace is made without any privilege.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Done, Result, same, skip};
use crate::command::Cmd;
use crate::ensure;
use crate::matrix::Matrix;
use crate::report::Report;
use serde_json::json;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

const SPEC: &str = "runc contract: rootless";
const USER: u32 = 1000;

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    m.case("rootless/run", SPEC, |t| {
        let out = run(t, &bundle(t)?.reports())?.ok()?;
        let report = Report::parse(&out.stdout)?;
        report.is("/uids", json!([0, 0, 0, 0]))?;
        report.is("/pid", 1)?;
        same(
            "uid_map",
            report.list("/uid_map")[0].split_whitespace().collect::<Vec<_>>(),
            vec!["0", "1000", "1"],
        )
    });
    m.case("rootless/read-only-root-and-masks", SPEC, |t| {
        let bundle = bundle(t)?.set("/root/readonly", true);
        let out = run(t, &bundle.args(&["probe", "try", "create", "/x"]))?.ok()?;
        same("create", out.stdout.trim(), "EROFS")
    });
    m.case("rootless/exit-code", SPEC, |t| {
        run(t, &bundle(t)?.args(&["probe", "exit", "17"]))?.exits(17)?;
        t.nothing_left()
    });
    m.case("rootless/life-cycle-and-exec", SPEC, |t| {
        let bundle = bundle(t)?.sleeps();
        bundle.save()?;
        let id = t.id();
        as_user(t)?.args(["run", "--detach", "--bundle"]).arg(&bundle.dir).arg(&id).ok()?;
        let out = as_user(t)?.args(["exec", &id, "probe", "report"]).ok()?;
        Report::parse(&out.stdout)?.is("/uids", json!([0, 0, 0, 0]))?;
        as_user(t)?.args(["kill", &id, "KILL"]).ok()?;
        as_user(t)?.args(["delete", "--force", &id]).ok()?;
        t.nothing_left()
    });
    m.case("rootless/without-a-user-namespace-is-an-error", SPEC, |t| {
        let bundle = bundle(t)?.without_ns("user").unset("/linux/uidMappings").unset("/linux/gidMappings");
        run(t, &bundle.reports())?.fails()?;
        t.nothing_left()
    });
    m.case("rootless/somebody-else's-id-is-an-error", SPEC, |t| {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        let bundle = bundle(t)?.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        run(t, &bundle.reports())?.fails()?;
        t.nothing_left()
    });
}

/// A bundle that belongs to the user, with what an ordinary user may have.
fn bundle(t: &T<'_>) -> Result<Bundle> {
    if fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").is_ok_and(|t| t.trim() == "0") {
        return skip("this kernel gives user namespaces to root only");
    }
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let bundle =
        t.bundle()?.userns(USER, 1).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let bundle = bundle.unset("/linux/resources").unset("/linux/cgroupsPath").without_mount("/dev/pts");
    own(&bundle.dir)?;
    fs::create_dir_all(&t.root)?;
    chown(&t.root, Some(USER), Some(USER))?;
    Ok(bundle)
}

fn own(path: &Path) -> Done {
    if path.symlink_metadata()?.is_dir() {
        chown(path, Some(USER), Some(USER))?;
        for entry in fs::read_dir(path)? {
            own(&entry?.path())?;
        }
    }
    Ok(())
}

/// The runtime as the user would start it.
fn as_user(t: &T<'_>) -> Result<Cmd> {
    let runtime_dir = t.dir.join("xdg");
    fs::create_dir_all(&runtime_dir)?;
    chown(&runtime_dir, Some(USER), Some(USER))?;
    ensure!(t.runtime.path.exists(), "the runtime is gone");
    let cmd = t.host("setpriv").args(["--reuid=1000", "--regid=1000", "--clear-groups"]).arg(&t.runtime.path);
    Ok(cmd.env("XDG_RUNTIME_DIR", runtime_dir.to_string_lossy()).env("HOME", "/").arg("--root").arg(&t.root))
}

fn run(t: &T<'_>, bundle: &Bundle) -> Result<crate::command::Output> {
    bundle.save()?;
    as_user(t)?.args(["run", "--bundle"]).arg(&bundle.dir).arg(t.id()).output()
}
