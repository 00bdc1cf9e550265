//! The runtime in the hands of an ordinary user: a user namespace is made without any privilege, or with the ranges of
//! ids that /etc/subuid grants; limits take a cgroup that was given to the user.

use crate::bundle::Bundle;
use crate::case::T;
use crate::cgroup::{self, Layout};
use crate::check::{Context, Done, Result, fail, has, has_not, same, skip};
use crate::command::{Cmd, Output};
use crate::console::FdSocket;
use crate::ensure;
use crate::matrix::Matrix;
use crate::notify;
use crate::report::Report;
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

const SPEC: &str = "runc contract: rootless";
const MAPPINGS: &str = "config-linux.md User namespace mappings; newuidmap(1)";
const CGROUPS: &str = "config-linux.md Control groups; cgroups(7), delegation";
const USER: u32 = 1000;
/// What /etc/subuid and /etc/subgid grant, and how many.
const GRANTED: (u32, u32) = (100_000, 65_536);

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    one_id(m);
    several_ids(m);
    ids_refused(m);
    without_cgroup(m);
    delegated(m);
    given(m);
    not_delegated(m);
}

fn one_id(m: &mut Matrix) {
    m.case("rootless/run", SPEC, |t| {
        let out = run(t, &bundle(t)?.reports())?.ok()?;
        let report = Report::parse(&out.stdout)?;
        report.is("/uids", json!([0, 0, 0, 0]))?;
        report.is("/pid", 1)?;
        // user_namespaces(7): whoever maps a group without privileges gives up setgroups(2).
        same("setgroups", report.str("/setgroups").trim(), "deny")?;
        same("uid_map", words(&report, "/uid_map"), ["0 1000 1"])
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
        let id = start(t, &bundle(t)?, None)?;
        let out = as_user(t)?.args(["exec", &id, "probe", "report"]).ok()?;
        Report::parse(&out.stdout)?.is("/uids", json!([0, 0, 0, 0]))?;
        as_user(t)?.args(["kill", &id, "KILL"]).ok()?;
        as_user(t)?.args(["delete", "--force", &id]).ok()?;
        t.nothing_left()
    });
    m.case("rootless/exec-in-a-created-container", "runc contract: exec works before start", |t| {
        let bundle = bundle(t)?.sleeps();
        bundle.save()?;
        let (id, out) = (t.id(), t.path("out"));
        as_user(t)?.arg("create").arg("--bundle").arg(&bundle.dir).streams(&out, &out).arg(&id).ok()?;
        as_user(t)?.args(["exec", &id, "true"]).ok()?;
        as_user(t)?.args(["delete", "--force", &id]).ok()?;
        t.nothing_left()
    });
    m.case("rootless/seccomp-listener", "config-linux.md The Container Process State", |t| {
        let socket = FdSocket::listen(&t.path("notify"))?;
        fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o777))?;
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket.path,
            "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
        let bundle = bundle(t)?.set("/linux/seccomp", profile);
        let bundle = bundle.args(&["probe", "try", "syscall", "mkdirat", "0", "0"]);
        bundle.save()?;
        let run = as_user(t)?.args(["run", "--bundle"]).arg(&bundle.dir).arg(t.id()).spawn()?;
        let mut message = socket.receive()?;
        notify::answer_one(&message.fds.remove(0), |_| Ok(6))?;
        has("output", &run.wait()?.ok()?.stdout, "ok 6")
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
    m.case("rootless/additional-groups-with-one-id-are-an-error", SPEC, |t| {
        let bundle = bundle(t)?.set("/process/user/additionalGids", json!([0]));
        run(t, &bundle.reports())?.fails_with(&["additional groups", "setgroups"])?;
        t.nothing_left()
    });
}

fn several_ids(m: &mut Matrix) {
    m.case("rootless/several-ids", MAPPINGS, |t| {
        let bundle =
            with_ranges(t)?.set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": [0, 9]}));
        let out = run(t, &bundle.reports())?.ok()?;
        let report = Report::parse(&out.stdout)?;
        for map in ["/uid_map", "/gid_map"] {
            same(map, words(&report, map), ["0 1000 1", "1 100000 65536"])?;
        }
        report.is("/uids", json!([7, 7, 7, 7]))?;
        report.is("/gids", json!([8, 8, 8, 8]))?;
        report.is("/groups", json!([0, 9]))?;
        same("setgroups", report.str("/setgroups").trim(), "allow")
    });
    m.case("rootless/several-ids-and-a-terminal's-group", MAPPINGS, |t| {
        // gid=5 of the usual /dev/pts is mapped here.
        let bundle = with_ranges(t)?.mount("/dev/pts", "devpts", "devpts", &["newinstance", "gid=5"]);
        let out = run(t, &bundle.reports())?.ok()?;
        Report::parse(&out.stdout)?.mount("/dev/pts").map(drop)
    });
    m.case("rootless/several-ids-and-exec-as-another", MAPPINGS, |t| {
        let bundle = with_ranges(t)?;
        let id = start(t, &bundle, None)?;
        let out = as_user(t)?.args(["exec", "--user", "1000:1000", &id, "probe", "report"]).ok()?;
        Report::parse(&out.stdout)?.is("/uids", json!([1000, 1000, 1000, 1000]))?;
        as_user(t)?.args(["delete", "--force", &id]).ok()?;
        t.nothing_left()
    });
    m.case("rootless/a-file-of-another-id", MAPPINGS, |t| {
        let bundle = with_ranges(t)?
            .shell("touch /tmp/x && busybox chown 33:44 /tmp/x && stat -c %u:%g /tmp/x")
            .capabilities(&["CAP_CHOWN"]);
        same("owner inside", run(t, &bundle)?.ok()?.stdout.trim(), "33:44")?;
        let st = fs::metadata(bundle.rootfs().join("tmp/x"))?;
        use std::os::unix::fs::MetadataExt;
        same("owner outside", (st.uid(), st.gid()), (GRANTED.0 + 32, GRANTED.0 + 43))
    });
}

fn ids_refused(m: &mut Matrix) {
    m.case("rootless/ids-that-are-not-granted-are-an-error", MAPPINGS, |t| {
        let ranges = json!([{"containerID": 0, "hostID": USER, "size": 1},
                            {"containerID": 1, "hostID": GRANTED.0 + 1, "size": GRANTED.1}]);
        let bundle = with_ranges(t)?.set("/linux/uidMappings", ranges);
        let out = run(t, &bundle.reports())?.fails_with(&["newuidmap"])?;
        if t.runtime.is("orun") {
            has("error", &out.stderr, "linux.uidMappings")?;
            has("error", &out.stderr, "/etc/subuid")?;
        }
        t.nothing_left()
    });
    m.case("rootless/groups-that-are-not-granted-are-an-error", MAPPINGS, |t| {
        let ranges = json!([{"containerID": 0, "hostID": USER, "size": 1},
                            {"containerID": 1, "hostID": 5, "size": 1}]);
        let bundle = with_ranges(t)?.set("/linux/gidMappings", ranges);
        let out = run(t, &bundle.reports())?.fails_with(&["newgidmap"])?;
        if t.runtime.is("orun") {
            has("error", &out.stderr, "linux.gidMappings")?;
            has("error", &out.stderr, "/etc/subgid")?;
        }
        t.nothing_left()
    });
    m.case("rootless/several-ids-without-newuidmap-are-an-error", MAPPINGS, |t| {
        t.only("orun")?;
        let bundle = with_ranges(t)?.reports();
        bundle.save()?;
        let cmd = as_user(t)?.env("PATH", "/nowhere").args(["run", "--bundle"]).arg(&bundle.dir).arg(t.id());
        let out = cmd.output()?.fails_with(&["newuidmap"])?;
        has("error", &out.stderr, "linux.uidMappings")?;
        has("error", &out.stderr, "uidmap")?;
        t.nothing_left()
    });
}

fn without_cgroup(m: &mut Matrix) {
    m.case("rootless/a-limit-without-a-cgroup-is-an-error", CGROUPS, |t| {
        let bundle = bundle(t)?.set("/linux/resources/pids/limit", 20);
        let out = run(t, &bundle.reports())?.fails()?;
        if t.runtime.is("orun") {
            has("error", &out.stderr, "linux.resources.pids.limit")?;
            has("error", &out.stderr, "delegate")?;
        }
        t.nothing_left()
    });
    m.case("rootless/a-path-without-permission-is-an-error", CGROUPS, |t| {
        let bundle = bundle(t)?.set("/linux/cgroupsPath", format!("/{}-forbidden", t.marker()));
        let out = run(t, &bundle.reports())?.fails()?;
        if t.runtime.is("orun") {
            has("error", &out.stderr, "linux.cgroupsPath")?;
            has("error", &out.stderr, "delegate")?;
            has("error", &out.stderr, "unable to apply cgroup configuration")?;
        }
        t.nothing_left()
    });
    m.case("rootless/neither-cgroup-nor-pid-namespace-is-warned-about", SPEC, |t| {
        let out = run(t, &beside_the_host(t)?)?.ok()?;
        has("warning", &out.stderr, "strongly discouraged")?;
        t.nothing_left()
    });
}

fn delegated(m: &mut Matrix) {
    m.case("rootless/limits-in-a-delegated-cgroup", CGROUPS, |t| {
        let given = delegate(t, &["memory", "pids", "cpu"])?;
        let resources = json!({"memory": {"limit": 50_331_648}, "pids": {"limit": 33},
                               "cpu": {"quota": 20_000, "period": 100_000}});
        let id = start(t, &bundle(t)?.set("/linux/resources", resources), Some(&given))?;
        let dir = cgroup_of(t, &id)?;
        ensure!(dir.starts_with(&given), "{} is not below {}", dir.display(), given.display());
        same("memory.max", cgroup::read(&dir, "memory.max")?, "50331648")?;
        same("pids.max", cgroup::read(&dir, "pids.max")?, "33")?;
        same("cpu.max", cgroup::read(&dir, "cpu.max")?, "20000 100000")?;
        in_cgroup(t, &given)?.args(["update", "--memory", "64M", &id]).ok()?;
        same("memory.max", cgroup::read(&dir, "memory.max")?, "67108864")?;
        in_cgroup(t, &given)?.args(["exec", &id, "true"]).ok()?;
        in_cgroup(t, &given)?.args(["delete", "--force", &id]).ok()?;
        ensure!(!dir.exists(), "{} is left", dir.display());
        leave(&given)
    });
    m.case("rootless/a-cgroup-without-a-pid-namespace-is-not-warned-about", SPEC, |t| {
        let given = delegate(t, &["pids"])?;
        let bundle = beside_the_host(t)?;
        bundle.save()?;
        let out = in_cgroup(t, &given)?.args(["run", "--bundle"]).arg(&bundle.dir).arg(t.id()).ok()?;
        has_not("warning", &out.stderr, "discouraged")?;
        leave(&given)
    });
    m.case("rootless/pause-and-kill-in-a-delegated-cgroup", CGROUPS, |t| {
        let given = delegate(t, &["pids"])?;
        let id = start(t, &bundle(t)?, Some(&given))?;
        let dir = cgroup_of(t, &id)?;
        let state = |t: &T<'_>| -> Result<Value> {
            Ok(serde_json::from_str(&as_user(t)?.args(["state", &id]).ok()?.stdout)?)
        };
        in_cgroup(t, &given)?.args(["pause", &id]).ok()?;
        same("status", &state(t)?["status"], "paused")?;
        has("cgroup.events", &cgroup::read(&dir, "cgroup.events")?, "frozen 1")?;
        in_cgroup(t, &given)?.args(["resume", &id]).ok()?;
        same("status", &state(t)?["status"], "running")?;
        in_cgroup(t, &given)?.args(["kill", "--all", &id, "KILL"]).ok()?;
        in_cgroup(t, &given)?.args(["delete", "--force", &id]).ok()?;
        leave(&given)
    });
    m.case("rootless/exec-from-outside-of-a-delegated-cgroup", CGROUPS, |t| {
        let given = delegate(t, &["pids"])?;
        let id = start(t, &bundle(t)?, Some(&given))?;
        let dir = cgroup_of(t, &id)?;
        // As from another login: the new process cannot be moved, but the container is not out of reach.
        let out = as_user(t)?.args(["exec", &id, "probe", "report"]).ok()?;
        Report::parse(&out.stdout)?.is("/uids", json!([0, 0, 0, 0]))?;
        if t.runtime.is("orun") {
            has("warning", &out.stderr, "without the container's limits")?;
        }
        same("the container's cgroup", cgroup_of(t, &id)?, dir)?;
        in_cgroup(t, &given)?.args(["delete", "--force", &id]).ok()?;
        leave(&given)
    });
    m.case("rootless/a-cgroup-path-in-a-delegated-cgroup", CGROUPS, |t| {
        let given = delegate(t, &["pids"])?;
        let below = given.strip_prefix("/sys/fs/cgroup")?.join("deep/er");
        let bundle = bundle(t)?.set("/linux/cgroupsPath", format!("/{}", below.display()));
        let id = start(t, &bundle.set("/linux/resources/pids/limit", 21), Some(&given))?;
        same("cgroup", cgroup_of(t, &id)?, given.join("deep/er"))?;
        same("pids.max", cgroup::read(&given.join("deep/er"), "pids.max")?, "21")?;
        in_cgroup(t, &given)?.args(["delete", "--force", &id]).ok()?;
        let _ = fs::remove_dir(given.join("deep"));
        leave(&given)
    });
    // CVE-2023-25809: without a cgroup namespace the host's hierarchy, part of which is the user's, is in reach.
    m.case("rootless/the-host's-cgroups-cannot-be-written", "security: CVE-2023-25809", |t| {
        let given = delegate(t, &["pids"])?;
        let bundle =
            bundle(t)?.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
        let bundle = bundle.shell(
            "for f in $(busybox find /sys/fs/cgroup -name cgroup.procs); do (echo 0 >$f) 2>/dev/null && echo $f; done; true",
        );
        bundle.save()?;
        let cmd = in_cgroup(t, &given)?.args(["run", "--bundle"]).arg(&bundle.dir).arg(t.id());
        same("writable", cmd.ok()?.stdout.as_str(), "")?;
        leave(&given)
    });
}

fn given(m: &mut Matrix) {
    m.case("rootless/a-path-in-given-cgroups-of-version-1", CGROUPS, |t| {
        if cgroup::layout() == Layout::V2 {
            return skip("no version 1");
        }
        // The directories of version 1 only: nobody needs that of version 2 beside them.
        let mut dirs = Vec::new();
        for entry in fs::read_dir("/sys/fs/cgroup")? {
            let hierarchy = entry?.path();
            if hierarchy.join("tasks").exists() {
                let dir = hierarchy.join(format!("{}-given", t.marker()));
                fs::create_dir_all(&dir)?;
                for file in ["", "cgroup.procs", "tasks", "cpuset.cpus", "cpuset.mems"] {
                    let file = dir.join(file);
                    if file.exists() {
                        chown(&file, Some(USER), Some(USER))?;
                    }
                }
                dirs.push(dir);
            }
        }
        let path = format!("/{}-given/inner", t.marker());
        let bundle = bundle(t)?.set("/linux/cgroupsPath", path).set("/linux/resources/pids/limit", 33);
        let id = start(t, &bundle, None)?;
        let given = dirs.iter().find(|d| d.starts_with("/sys/fs/cgroup/pids"));
        if let Some(dir) = given {
            same("pids.max", cgroup::read(&dir.join("inner"), "pids.max")?, "33")?;
        }
        as_user(t)?.args(["exec", &id, "true"]).ok()?;
        as_user(t)?.args(["delete", "--force", &id]).ok()?;
        dirs.iter().try_for_each(|dir| Ok(fs::remove_dir(dir)?))
    });
}

fn not_delegated(m: &mut Matrix) {
    m.case("rootless/a-controller-that-is-not-delegated-is-an-error", CGROUPS, |t| {
        let given = delegate(t, &["pids"])?;
        let bundle = bundle(t)?.set("/linux/resources/memory/limit", 50_331_648).reports();
        bundle.save()?;
        let cmd = in_cgroup(t, &given)?.args(["run", "--bundle"]).arg(&bundle.dir).arg(t.id());
        let out = cmd.output()?.fails()?;
        if t.runtime.is("orun") {
            has("error", &out.stderr, "linux.resources.memory.limit")?;
            has("error", &out.stderr, "memory")?;
            // How to get it, for whoever has systemd.
            has("error", &out.stderr, "Delegate=")?;
            has_not("error", &out.stderr, "panicked")?;
        }
        leave(&given)
    });
}

/// A bundle that belongs to the user, with what an ordinary user may have.
pub(super) fn bundle(t: &T<'_>) -> Result<Bundle> {
    if fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").is_ok_and(|t| t.trim() == "0") {
        return skip("this kernel gives user namespaces to root only");
    }
    let bundle = t.bundle()?.userns(USER, 1);
    let bundle = bundle.unset("/linux/resources").unset("/linux/cgroupsPath").without_mount("/dev/pts");
    own(&bundle.dir)?;
    fs::create_dir_all(&t.root)?;
    chown(&t.root, Some(USER), Some(USER))?;
    Ok(bundle)
}

/// A container that ends at once and sees the processes of the host: without a pid namespace of its own the user may not
/// mount a proc.
fn beside_the_host(t: &T<'_>) -> Result<Bundle> {
    let bundle = bundle(t)?.without_ns("pid").without_mount("/proc");
    Ok(bundle
        .mount("/proc", "bind", "/proc", &["rbind", "nosuid", "nodev", "noexec"])
        .args(&["probe", "exit", "0"]))
}

/// The same with the user's id and all ids that are granted to it.
fn with_ranges(t: &mut T<'_>) -> Result<Bundle> {
    let passwd = format!("root:x:0:0::/root:/bin/sh\ntester:x:{USER}:{USER}::/:/bin/sh\n");
    let ranges = format!("tester:{}:{}\n", GRANTED.0, GRANTED.1);
    for (name, text) in [("passwd", &passwd), ("subuid", &ranges), ("subgid", &ranges)] {
        let file = t.path(name);
        fs::write(&file, text)?;
        let target = Path::new("/etc").join(name);
        ensure!(target.exists(), "there is no {}: install uidmap", target.display());
        mount(Some(&file), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .context(&format!("covering {}", target.display()))?;
    }
    t.settle();
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1},
                     {"containerID": 1, "hostID": GRANTED.0, "size": GRANTED.1}]);
    Ok(bundle(t)?.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map))
}

fn words(report: &Report, map: &str) -> Vec<String> {
    let line = |l: String| l.split_whitespace().collect::<Vec<_>>().join(" ");
    report.list(map).into_iter().map(line).collect()
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
pub(super) fn as_user(t: &T<'_>) -> Result<Cmd> {
    as_user_by(t, &[])
}

/// The same, started by these words.
pub(super) fn as_user_by(t: &T<'_>, words: &[&str]) -> Result<Cmd> {
    let setpriv = ["/usr/bin/setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    user_command(t, t.host(setpriv[0]).args(&setpriv[1..]).args(words.iter().copied()))
}

/// The same, started in the cgroup `manager` below `given`.
fn in_cgroup(t: &T<'_>, given: &Path) -> Result<Cmd> {
    let script = "echo 0 >\"$0\" && exec /usr/bin/setpriv --reuid=1000 --regid=1000 --clear-groups \"$@\"";
    let cmd = t.host("/bin/busybox").args(["sh", "-c", script]).arg(given.join("manager/cgroup.procs"));
    user_command(t, cmd)
}

fn user_command(t: &T<'_>, cmd: Cmd) -> Result<Cmd> {
    let runtime_dir = t.dir.join("xdg");
    fs::create_dir_all(&runtime_dir)?;
    chown(&runtime_dir, Some(USER), Some(USER))?;
    ensure!(t.runtime.path.exists(), "the runtime is gone");
    let cmd = cmd.arg(&t.runtime.path).env("XDG_RUNTIME_DIR", runtime_dir.to_string_lossy()).env("HOME", "/");
    Ok(cmd.arg("--root").arg(&t.root))
}

fn run(t: &T<'_>, bundle: &Bundle) -> Result<Output> {
    bundle.save()?;
    as_user(t)?.args(["run", "--bundle"]).arg(&bundle.dir).arg(t.id()).output()
}

/// Starts a container that waits, in the background, and returns its id.
fn start(t: &T<'_>, bundle: &Bundle, given: Option<&Path>) -> Result<String> {
    let bundle = bundle.clone().sleeps();
    bundle.save()?;
    let id = t.id();
    let cmd = given.map_or_else(|| as_user(t), |g| in_cgroup(t, g))?;
    cmd.args(["run", "--detach", "--bundle"]).arg(&bundle.dir).arg(&id).ok()?;
    Ok(id)
}

/// The cgroup of a running container.
fn cgroup_of(t: &T<'_>, id: &str) -> Result<PathBuf> {
    let state: Value = serde_json::from_str(&as_user(t)?.args(["state", id]).ok()?.stdout)?;
    match state["pid"].as_i64() {
        Some(pid) if pid > 0 => cgroup::dir_of(pid as i32, ""),
        _ => fail(format!("no pid in {state}")),
    }
}

/// Gives the user a cgroup with these controllers, as a manager of the host would, with a cgroup in it for the
/// programs of the user.
fn delegate(t: &T<'_>, controllers: &[&str]) -> Result<PathBuf> {
    if cgroup::layout() != Layout::V2 {
        return skip("no delegation in this layout");
    }
    let top = Path::new("/sys/fs/cgroup");
    let given = top.join(format!("{}-given", t.marker()));
    fs::create_dir_all(given.join("manager"))?;
    for c in controllers {
        t.controller(c)?;
        fs::write(top.join("cgroup.subtree_control"), format!("+{c}")).context(&format!("enabling {c}"))?;
    }
    // All that the cgroup above enables can be used: the others are taken away again, one level down.
    let inner = given.join("inner");
    fs::create_dir_all(inner.join("manager"))?;
    for c in controllers {
        fs::write(given.join("cgroup.subtree_control"), format!("+{c}"))?;
    }
    for dir in [&inner, &inner.join("manager")] {
        chown(dir, Some(USER), Some(USER))?;
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(dir.join(file), Some(USER), Some(USER))?;
        }
    }
    fs::remove_dir(given.join("manager"))?;
    Ok(inner)
}

/// Takes it back: whatever the runtime has left in it is a leak.
fn leave(given: &Path) -> Done {
    let left: Vec<PathBuf> = cgroup::dirs_below(&[given.to_owned()]);
    let left: Vec<_> = left.iter().filter(|d| *d != given && !d.ends_with("manager")).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    fs::remove_dir(given.join("manager"))?;
    fs::remove_dir(given)?;
    if let Some(above) = given.parent() {
        fs::remove_dir(above)?;
    }
    Ok(())
}
