//! The systemd cgroup manager: the unit as systemd shows it, the files of its cgroup, and that limits hold.

use crate::bundle::Bundle;
use crate::case::T;
use crate::cgroup::{self, Layout};
use crate::check::{Context, Done, Result, fail, has, same, skip};
use crate::command::{Cmd, VERB_DEADLINE, poll};
use crate::container::Container;
use crate::matrix::Matrix;
use serde_json::json;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

const SPEC: &str = "runc contract: --systemd-cgroup";
const PATH: &str = "runc contract: cgroupsPath slice:prefix:name";
const PROPERTIES: &str = "runc contract: org.systemd.property.*";
const USER: u32 = 1000;

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    limits(m);
    changes(m);
    devices(m);
    places(m);
    life(m);
    others(m);
    user(m);
}

/// Leaves the case where systemd is not pid 1.
fn needs_systemd() -> Done {
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    if first.trim() == "systemd" { Ok(()) } else { skip("systemd is not pid 1") }
}

/// A bundle whose unit is `p-NAME.scope` in system.slice.
fn bundle(t: &T<'_>) -> Result<(Bundle, String)> {
    needs_systemd()?;
    let bundle = t.bundle()?;
    let name = bundle.dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = format!("{}-{name}", t.marker());
    let unit = format!("p-{name}.scope");
    Ok((bundle.set("/linux/cgroupsPath", format!("system.slice:p:{name}")), unit))
}

fn verb(t: &T<'_>, verb: &str) -> Cmd {
    t.runtime().arg("--systemd-cgroup").arg(verb)
}

fn sleeper<'t>(t: &'t T<'_>, bundle: Bundle) -> Result<Container<'t>> {
    let bundle = bundle.sleeps();
    bundle.save()?;
    let c = Container::new(t, t.id(), &bundle);
    verb(t, "create").arg("--bundle").arg(&bundle.dir).streams(&c.stdout, &c.stderr).arg(&c.id).ok()?;
    c.start()?;
    c.await_output("ready")?;
    Ok(c)
}

fn run(t: &T<'_>, bundle: &Bundle) -> Result<crate::command::Output> {
    bundle.save()?;
    verb(t, "run").arg("--bundle").arg(&bundle.dir).arg(t.id()).output()
}

/// A property as `systemctl show` has it.
fn property(t: &T<'_>, unit: &str, name: &str) -> Result<String> {
    let out = t.host("systemctl").args(["show", "--value", "-p", name, unit]).ok()?;
    Ok(out.stdout.trim().to_owned())
}

fn shows(t: &T<'_>, unit: &str, wanted: &[(&str, &str)]) -> Done {
    wanted.iter().try_for_each(|(name, value)| same(name, property(t, unit, name)?.as_str(), *value))
}

/// The directory of a container's cgroup for a controller.
fn dir(c: &Container<'_>, controller: &str) -> Result<PathBuf> {
    let name = if cgroup::layout() == Layout::V2 { "" } else { controller };
    cgroup::dir_of(c.pid()?, name)
}

fn file(c: &Container<'_>, name: &str, want: &str) -> Done {
    let controller = name.split('.').next().unwrap_or("");
    same(name, cgroup::read(&dir(c, controller)?, name)?.as_str(), want)
}

/// Leaves the case where the limits of version 2 are not there to be read.
fn needs_v2() -> Done {
    if cgroup::layout() == Layout::V2 { Ok(()) } else { skip("the files are those of cgroup version 2") }
}

/// Deletes the container, and demands that systemd knows nothing of it any more.
fn end(t: &T<'_>, c: Container<'_>, unit: &str) -> Done {
    c.end()?;
    same("LoadState", property(t, unit, "LoadState")?.as_str(), "not-found")
}

fn limits(m: &mut Matrix) {
    m.host_case("systemd/limits-are-in-the-unit-and-in-the-files", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        let b = b.set("/linux/resources/memory", json!({"limit": 67108864, "reservation": 33554432}));
        let b = b.set("/linux/resources/pids", json!({"limit": 30}));
        let b = b.set("/linux/resources/cpu", json!({"shares": 262144, "quota": 20000, "period": 100000}));
        let c = sleeper(t, b)?;
        shows(t, &unit, &[("MemoryMax", "67108864"), ("MemoryLow", "33554432"), ("TasksMax", "30")])?;
        shows(t, &unit, &[("CPUWeight", "10000"), ("CPUQuotaPerSecUSec", "200ms")])?;
        shows(t, &unit, &[("CPUQuotaPeriodUSec", "100ms"), ("Delegate", "yes"), ("Slice", "system.slice")])?;
        file(&c, "memory.max", "67108864")?;
        file(&c, "memory.low", "33554432")?;
        file(&c, "pids.max", "30")?;
        file(&c, "cpu.weight", "10000")?;
        file(&c, "cpu.max", "20000 100000")?;
        end(t, c, &unit)
    });
    m.host_case("systemd/quota-is-rounded-up-to-10-ms", "runc contract: CPUQuotaPerSecUSec", |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        let c = sleeper(t, b.set("/linux/resources/cpu", json!({"quota": 500000, "period": 900000})))?;
        shows(t, &unit, &[("CPUQuotaPerSecUSec", "560ms")])?;
        if t.runtime.is("orun") {
            // As runc has it since 1.4: the file says what the unit says.
            file(&c, "cpu.max", "504000 900000")?;
        }
        end(t, c, &unit)
    });
    m.host_case("systemd/what-systemd-lacks-is-in-the-files", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        let cpu = json!({"quota": 50000, "period": 100000, "burst": 10000});
        let c = sleeper(t, b.set("/linux/resources/cpu", cpu))?;
        file(&c, "cpu.max.burst", "10000")?;
        end(t, c, &unit)
    });
    m.host_case("systemd/cpus-and-memory-nodes", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        t.controller("cpuset")?;
        let c = sleeper(t, b.set("/linux/resources/cpu", json!({"cpus": "0", "mems": "0"})))?;
        shows(t, &unit, &[("AllowedCPUs", "0"), ("AllowedMemoryNodes", "0")])?;
        file(&c, "cpuset.cpus", "0")?;
        file(&c, "cpuset.mems", "0")?;
        same("cpus of the program", c.exec_report(&[])?.at("/affinity"), &json!([0]))?;
        if std::thread::available_parallelism()?.get() > 1 {
            c.verb_with("update", &["--cpuset-cpus", "1"]).ok()?;
            shows(t, &unit, &[("AllowedCPUs", "1"), ("AllowedMemoryNodes", "0")])?;
            file(&c, "cpuset.cpus", "1")?;
        }
        end(t, c, &unit)
    });
    m.host_case("systemd/huge-pages-are-in-the-files", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        t.controller("hugetlb")?;
        let limit = json!([{"pageSize": "2MB", "limit": 4_194_304}]);
        let c = sleeper(t, b.set("/linux/resources/hugepageLimits", limit))?;
        file(&c, "hugetlb.2MB.rsvd.max", "4194304")?;
        end(t, c, &unit)
    });
    m.host_case("systemd/unified-keys-are-properties", "runc contract: unified with systemd", |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        let unified = json!({"memory.high": "50331648", "cpu.weight": "42", "memory.oom.group": "1"});
        let c = sleeper(t, b.set("/linux/resources/unified", unified))?;
        shows(t, &unit, &[("MemoryHigh", "50331648"), ("CPUWeight", "42")])?;
        file(&c, "memory.high", "50331648")?;
        file(&c, "memory.oom.group", "1")?;
        end(t, c, &unit)
    });
}

fn changes(m: &mut Matrix) {
    m.host_case("systemd/update", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        let cpu = json!({"quota": 50000, "period": 100000, "burst": 10000});
        let c = sleeper(t, b.set("/linux/resources/cpu", cpu))?;
        c.verb_with("update", &["--memory", "67108864", "--pids-limit", "9", "--cpu-share", "2048"]).ok()?;
        shows(t, &unit, &[("MemoryMax", "67108864"), ("TasksMax", "9"), ("CPUQuotaPerSecUSec", "500ms")])?;
        file(&c, "memory.max", "67108864")?;
        file(&c, "pids.max", "9")?;
        file(&c, "cpu.max", "50000 100000")?;
        file(&c, "cpu.max.burst", "10000")?;
        end(t, c, &unit)
    });
    m.host_case("systemd/limits-outlive-a-daemon-reload", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        let c = sleeper(t, b.set("/linux/resources/memory", json!({"limit": 67108864})))?;
        c.verb_with("update", &["--memory", "50331648"]).ok()?;
        t.host("systemctl").arg("daemon-reload").ok()?;
        file(&c, "memory.max", "50331648")?;
        end(t, c, &unit)
    });
}

fn devices(m: &mut Matrix) {
    // The same node each time; only the rules differ.
    let one = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"});
    let all = json!({"allow": true, "type": "c", "major": 1, "access": "rwm"});
    let but = json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rw"});
    for (name, rules, want) in [
        ("allows", vec![one], "ok"),
        ("denies", vec![], "EPERM"),
        ("allows-a-group", vec![all.clone()], "ok"),
        ("denies-one-of-a-group", vec![all, but], "EPERM"),
    ] {
        m.host_case(format!("systemd/device-filter-{name}"), SPEC, move |t| {
            let (b, _) = bundle(t)?;
            let mut list = vec![json!({"allow": false, "access": "rwm"})];
            list.extend(rules.clone());
            let device = json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 11});
            let b = b.set("/linux/resources/devices", list).push("/linux/devices", device);
            let out = run(t, &b.args(&["probe", "try", "open-write", "/dev/mine"]))?.ok()?;
            same("open", out.stdout.trim(), want)?;
            t.nothing_left()
        });
    }
}

fn places(m: &mut Matrix) {
    m.host_case("systemd/absent-path-uses-the-id", PATH, |t| {
        let (b, _) = bundle(t)?;
        let c = sleeper(t, b.unset("/linux/cgroupsPath"))?;
        let dir = dir(&c, "pids")?;
        let want = format!("system.slice/{}-{}.scope", t.runtime.name, c.id);
        has("cgroup", &dir.to_string_lossy(), &want)?;
        end(t, c, &dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default())
    });
    m.host_case("systemd/slices-lie-in-each-other", PATH, |t| {
        let (b, _) = bundle(t)?;
        let name = t.marker().replace('-', "");
        let c = sleeper(t, b.set("/linux/cgroupsPath", format!("{name}-in.slice:p:{}", t.marker())))?;
        let want = format!("/{name}.slice/{name}-in.slice/p-{}.scope", t.marker());
        has("cgroup", &dir(&c, "pids")?.to_string_lossy(), &want)?;
        c.delete_force()?;
        t.host("systemctl").args(["stop", &format!("{name}.slice")]).ok()?;
        t.nothing_left()
    });
    for path in ["/a/b", "a:b", "a:b:c:d", "a.service:b:c", "a--b.slice:b:c", "system.slice:b:c/d"] {
        m.host_case(format!("systemd/bad-path-{}", path.replace('/', "|")), PATH, move |t| {
            let (b, _) = bundle(t)?;
            let b = b.set("/linux/cgroupsPath", path).args(&["true"]);
            run(t, &b)?.fails()?;
            t.nothing_left()
        });
    }
    m.host_case("systemd/annotations-are-properties", PROPERTIES, |t| {
        let (b, unit) = bundle(t)?;
        let b = b.set(
            "/annotations",
            json!({"org.systemd.property.TimeoutStopSec": "uint64 7",
            "org.systemd.property.CollectMode": "'inactive-or-failed'"}),
        );
        let c = sleeper(t, b)?;
        shows(t, &unit, &[("TimeoutStopUSec", "7s"), ("CollectMode", "inactive-or-failed")])?;
        end(t, c, &unit)
    });
    for (name, key, value) in
        [("unknown", "Nonsense", "true"), ("bad-name", "A-b", "true"), ("bad-value", "KillMode", "process")]
    {
        m.host_case(format!("systemd/{name}-annotation-is-an-error"), PROPERTIES, move |t| {
            let (b, unit) = bundle(t)?;
            let key = format!("org.systemd.property.{key}");
            let b = b.set("/annotations", json!({key: value})).args(&["true"]);
            run(t, &b)?.fails()?;
            same("LoadState", property(t, &unit, "LoadState")?.as_str(), "not-found")?;
            t.nothing_left()
        });
    }
}

fn life(m: &mut Matrix) {
    m.host_case("systemd/exec-and-children-are-in-it", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        let c = sleeper(t, b)?;
        let mine = fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?;
        same("cgroups of exec", c.exec(&["cat", "/proc/self/cgroup"])?.ok()?.stdout, mine)?;
        end(t, c, &unit)
    });
    m.host_case("systemd/pause-and-resume", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        let c = sleeper(t, b)?;
        c.verb("pause").ok()?;
        c.is("paused")?;
        c.verb("resume").ok()?;
        c.is("running")?;
        end(t, c, &unit)
    });
    m.host_case("systemd/unit-goes-with-the-program", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        run(t, &b.args(&["probe", "exit", "17"]))?.exits(17)?;
        same("LoadState", property(t, &unit, "LoadState")?.as_str(), "not-found")?;
        t.nothing_left()
    });
    m.host_case("systemd/failed-create-leaves-no-unit", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        run(t, &b.args(&["/not/there"]))?.fails()?;
        same("LoadState", property(t, &unit, "LoadState")?.as_str(), "not-found")?;
        t.nothing_left()
    });
    m.host_case("systemd/out-of-memory-leaves-no-failed-unit", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        t.controller("memory")?;
        let b = b.set("/linux/resources/memory", json!({"limit": 16777216, "swap": 16777216}));
        run(t, &b.args(&["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"]))?
            .exits(137)?;
        same("LoadState", property(t, &unit, "LoadState")?.as_str(), "not-found")?;
        t.nothing_left()
    });
    m.host_case("systemd/used-unit-is-refused-and-lives-on", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        let c = sleeper(t, b.clone())?;
        run(t, &b.args(&["true"]))?.fails()?;
        c.is("running")?;
        shows(t, &unit, &[("ActiveState", "active")])?;
        end(t, c, &unit)
    });
    m.host_case("systemd/frozen-cgroup-is-refused", "runc contract: create", |t| {
        let (b, unit) = bundle(t)?;
        needs_v2()?;
        let dir = Path::new("/sys/fs/cgroup/system.slice").join(&unit);
        fs::create_dir(&dir)?;
        fs::write(dir.join("cgroup.freeze"), "1")?;
        let out = run(t, &b.args(&["true"]));
        fs::remove_dir(&dir)?;
        out?.fails_with(&["container's cgroup unexpectedly frozen"])?;
        same("LoadState", property(t, &unit, "LoadState")?.as_str(), "not-found")?;
        t.nothing_left()
    });
    m.host_case("systemd/unit-of-a-dead-container-can-be-had-again", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        let c = sleeper(t, b.clone())?;
        c.stop()?;
        run(t, &b.args(&["true"]))?.ok()?;
        end(t, c, &unit)
    });
}

fn others(m: &mut Matrix) {
    m.case("systemd/without-systemd-is-an-error", SPEC, |t| {
        // The world of a case has an empty /run.
        let b = t.bundle()?.set("/linux/cgroupsPath", "system.slice:p:n").args(&["true"]);
        run(t, &b)?.fails_with(&["systemd not running on this host, cannot use systemd cgroups manager"])?;
        t.nothing_left()
    });
    m.host_case("systemd/without-a-bus-by-systemd-s-own-socket", SPEC, |t| {
        let (b, unit) = bundle(t)?;
        let none = None::<&str>;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), "/run/dbus", Some("tmpfs"), flags, none)
            .context("hiding the bus")?;
        t.settle();
        let c = sleeper(t, b)?;
        c.delete_force()?;
        nix::mount::umount("/run/dbus").context("showing the bus")?;
        t.settle();
        same("LoadState", property(t, &unit, "LoadState")?.as_str(), "not-found")
    });
    m.host_case("systemd/delegated-subtree-without-a-unit-for-each", "systemd: Delegate=", |t| {
        let (b, _) = bundle(t)?;
        needs_v2()?;
        let unit = format!("{}-pool.service", t.marker());
        let b = b.set("/linux/cgroupsPath", format!("/system.slice/{unit}/c"));
        let b = b.set("/linux/resources/memory", json!({"limit": 67108864}));
        let b = b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]).ns("cgroup");
        let b = b.args(&["cat", "/sys/fs/cgroup/memory.max"]);
        b.save()?;
        let cmd = t.host("systemd-run").args(["--quiet", "--pipe", "--wait", "-p", "Delegate=yes"]);
        let cmd = cmd.args(["-p", "DelegateSubgroup=supervisor", "--unit", &unit]);
        // The service is not in the mount namespace of the case, but sees the same files through this one.
        let inside = format!("--mount=/proc/{}/ns/mnt", std::process::id());
        let cmd = cmd.arg("nsenter").arg(inside).arg(&t.runtime.path).arg("--root").arg(&t.root);
        let out = cmd.args(["run", "--bundle"]).arg(&b.dir).arg(t.id()).ok()?;
        same("memory.max", out.stdout.trim(), "67108864")
    });
}

/// The runtime in the hands of an ordinary user who has a `systemd --user`.
fn as_user(t: &T<'_>) -> Result<Cmd> {
    let cmd = t.host("setpriv").args(["--reuid=1000", "--regid=1000", "--clear-groups"]).arg(&t.runtime.path);
    let cmd = cmd.env("XDG_RUNTIME_DIR", "/run/user/1000").env("HOME", "/").arg("--root").arg(&t.root);
    Ok(cmd.arg("--systemd-cgroup"))
}

fn user_bundle(t: &T<'_>) -> Result<Bundle> {
    needs_systemd()?;
    needs_v2()?;
    if !fs::read_to_string("/etc/passwd")?.contains(&format!(":x:{USER}:")) {
        return skip("there is no user 1000");
    }
    t.host("systemctl").args(["start", "user@1000.service"]).ok()?;
    poll("the user's bus", VERB_DEADLINE, || Path::new("/run/user/1000/bus").exists().then_some(()))?;
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let b = t.bundle()?.userns(USER, 1).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let b = b.unset("/linux/resources").without_mount("/dev/pts").sleeps();
    let b = b.set("/linux/cgroupsPath", format!("user.slice:p:{}", t.marker()));
    own(&b.dir)?;
    chown(&t.root, Some(USER), Some(USER))?;
    Ok(b)
}

fn own(path: &Path) -> Done {
    chown(path, Some(USER), Some(USER))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            if !path.is_symlink() {
                own(&path)?;
            }
        }
    }
    Ok(())
}

fn user(m: &mut Matrix) {
    m.host_case("systemd/rootless-limits-exec-and-end", "runc contract: rootless with systemd --user", |t| {
        let b = user_bundle(t)?;
        let b = b.set("/linux/resources/memory", json!({"limit": 67108864}));
        let b = b.set("/linux/resources/pids", json!({"limit": 30}));
        b.save()?;
        let id = t.id();
        as_user(t)?.args(["run", "--detach", "--bundle"]).arg(&b.dir).arg(&id).ok()?;
        let state = as_user(t)?.args(["state", &id]).ok()?.stdout;
        let state: serde_json::Value = serde_json::from_str(&state).context(&state)?;
        let Some(pid) = state["pid"].as_i64() else { return fail(format!("no pid in {state}")) };
        let dir = cgroup::dir_of(pid as i32, "")?;
        has(
            "cgroup",
            &dir.to_string_lossy(),
            &format!("user@1000.service/user.slice/p-{}.scope", t.marker()),
        )?;
        same("memory.max", cgroup::read(&dir, "memory.max")?.as_str(), "67108864")?;
        same("pids.max", cgroup::read(&dir, "pids.max")?.as_str(), "30")?;
        let mine = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        same(
            "cgroup of exec",
            as_user(t)?.args(["exec", &id, "cat", "/proc/self/cgroup"]).ok()?.stdout,
            mine,
        )?;
        as_user(t)?.args(["update", "--memory", "50331648", &id]).ok()?;
        same("memory.max", cgroup::read(&dir, "memory.max")?.as_str(), "50331648")?;
        as_user(t)?.args(["delete", "--force", &id]).ok()?;
        t.nothing_left()
    });
}
