//! Where the cgroup is, what it lets through, freezing, and which cgroups are refused.

use crate::case::T;
use crate::cgroup::{self, Layout};
use crate::check::{Done, Result, same};
use crate::command::{VERB_DEADLINE, poll};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const PATHS: &str = "config-linux.md Cgroups Path";
const FILTER: &str = "config-linux.md Allowed Device list";
const CHECKS: &str = "runc contract: a used or frozen cgroup is refused";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    paths(m);
    mounts(m);
    devices(m);
    freezer(m);
    refused(m);
    emptied(m);
}

const NO_PATH: &str = "with systemd cgroupsPath is a slice, a prefix and a name";

fn anywhere() -> &'static str {
    if cgroup::layout() == Layout::V2 { "" } else { "pids" }
}

fn paths(m: &mut Matrix) {
    m.case("cgroup-rules/absolute-path", PATHS, |t| {
        t.without_systemd(NO_PATH)?;
        let path = format!("/{}-abs", t.marker());
        let c = t.sleeper(t.bundle()?.set("/linux/cgroupsPath", path.clone()))?;
        let dir = cgroup::dir_of(c.pid()?, anywhere())?;
        same("cgroup", dir.strip_prefix(cgroup::mount_point(anywhere())?)?.to_string_lossy(), &path[1..])?;
        c.end()
    });
    m.case("cgroup-rules/nested-path", PATHS, |t| {
        t.without_systemd(NO_PATH)?;
        let path = format!("/{}-outer/inner", t.marker());
        let c = t.sleeper(t.bundle()?.set("/linux/cgroupsPath", path))?;
        let dir = cgroup::dir_of(c.pid()?, anywhere())?;
        ensure!(dir.ends_with(format!("{}-outer/inner", t.marker())), "cgroup {}", dir.display());
        c.delete_force()?;
        // Who makes parents is nobody's contract; the leaf must go.
        let gone = || (!dir.exists()).then_some(());
        poll("the cgroup to go", VERB_DEADLINE, gone)?;
        cgroup::remove(cgroup::dirs_with(t.marker()));
        t.nothing_left()
    });
    m.case("cgroup-rules/relative-path", PATHS, |t| {
        t.without_systemd(NO_PATH)?;
        let path = format!("{}-rel", t.marker());
        let c = t.sleeper(t.bundle()?.set("/linux/cgroupsPath", path))?;
        let dir = cgroup::dir_of(c.pid()?, anywhere())?;
        ensure!(dir.to_string_lossy().contains("-rel"), "cgroup {}", dir.display());
        c.end()
    });
    m.case("cgroup-rules/absent-path-uses-the-id", PATHS, |t| {
        let c = t.sleeper(t.bundle()?.unset("/linux/cgroupsPath"))?;
        let dir = cgroup::dir_of(c.pid()?, anywhere())?;
        ensure!(dir.to_string_lossy().contains(&c.id), "cgroup {}", dir.display());
        c.end()
    });
    m.case("cgroup-rules/dot-dot-does-not-climb", PATHS, |t| {
        t.without_systemd(NO_PATH)?;
        // Either an error, or the same as without the dots.
        let path = format!("/../../{}-climb", t.marker());
        let bundle = t.bundle()?.set("/linux/cgroupsPath", path).args(&["cat", "/proc/self/cgroup"]);
        let out = t.run(&bundle)?;
        ensure!(!out.stdout.contains(".."), "{}", out.describe());
        t.nothing_left()
    });
    m.case("cgroup-rules/every-controller", PATHS, |t| {
        let c = t.sleeper(t.bundle()?)?;
        if cgroup::layout() == Layout::V1 {
            for controller in ["cpu", "memory", "pids", "devices", "freezer", "cpuset", "blkio"] {
                t.controller(controller)?;
                let dir = cgroup::dir_of(c.pid()?, controller)?;
                ensure!(dir.to_string_lossy().contains(t.marker()), "{controller}: {}", dir.display());
            }
        }
        c.end()
    });
    m.case("cgroup-rules/children-are-in-it", PATHS, |t| {
        let c = t.start(&t.bundle()?.args(&["probe", "children", "3"]))?;
        c.await_output("ready")?;
        let procs = cgroup::read(&cgroup::dir_of(c.pid()?, anywhere())?, "cgroup.procs")?;
        ensure!(procs.lines().count() >= 4, "cgroup.procs holds {procs:?}");
        c.end()
    });
    m.case("cgroup-rules/exec-is-in-it", PATHS, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let out = c.exec(&["cat", "/proc/self/cgroup"])?.ok()?;
        let mine = fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?;
        same("cgroups of exec", out.stdout, mine)?;
        c.end()
    });
    m.case("cgroup-rules/no-resources-touch-nothing", "config-linux.md: resources absent", |t| {
        t.controller("pids")?;
        t.without_systemd(super::cgroups::DEFAULT_TASKS)?;
        let c = t.sleeper(t.bundle()?.unset("/linux/resources"))?;
        same("pids.max", cgroup::read(&super::cgroups::dir(c.pid()?, "pids")?, "pids.max")?.as_str(), "max")?;
        c.end()
    });
}

fn mounts(m: &mut Matrix) {
    const MOUNT: &str = "config-linux.md: mounts of type cgroup";
    for (name, namespace) in [("shared-namespace", false), ("own-namespace", true)] {
        m.case(format!("cgroup-rules/mount-in-{name}"), MOUNT, move |t| {
            let bundle = t.bundle()?.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "nodev", "ro"]);
            let bundle = if namespace { bundle.ns("cgroup") } else { bundle };
            let report = t.report(&bundle.clone())?;
            if cgroup::layout() == Layout::V1 {
                let mount = report.mount("/sys/fs/cgroup/pids")?;
                same("type", mount.fstype.as_str(), "cgroup")?;
                ensure!(mount.has("ro"), "{:?}", mount.options);
            } else {
                let mount = report.mount("/sys/fs/cgroup")?;
                same("type", mount.fstype.as_str(), "cgroup2")?;
                ensure!(mount.has("ro"), "{:?}", mount.options);
            }
            if cgroup::layout() == Layout::V2 && !namespace {
                // A cgroup2 mount shows the hierarchy from the root of the mounter's cgroup namespace: the host's.
                let find = "read own < /proc/self/cgroup; cat /sys/fs/cgroup${own#0::}/cgroup.procs";
                let bundle = bundle.args(&["sh", "-c", find]);
                bundle.save()?;
                let out = t.verb("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).ok()?;
                return same("first process of the own cgroup", out.stdout.lines().next(), Some("1"));
            }
            let file = match cgroup::layout() {
                Layout::V1 => "/sys/fs/cgroup/pids/cgroup.procs",
                Layout::V2 => "/sys/fs/cgroup/cgroup.procs",
            };
            same(
                "processes of the container's own cgroup",
                t.attempt(bundle, &["read", file])?.as_str(),
                "ok 1",
            )
        });
    }
    m.case("cgroup-rules/mount-of-type-cgroup2", MOUNT, |t| {
        // Beside version 1 it is the hierarchy of version 2, of which the container sees its own part.
        let bundle =
            t.bundle()?.mount("/sys/fs/cgroup", "cgroup2", "cgroup2", &["nosuid", "noexec", "nodev", "ro"]);
        let bundle = bundle.ns("cgroup");
        let report = t.report(&bundle.clone())?;
        let mount = report.mount("/sys/fs/cgroup")?;
        same("type", mount.fstype.as_str(), "cgroup2")?;
        for flag in ["ro", "nosuid", "noexec", "nodev"] {
            ensure!(mount.has(flag), "lacks {flag}: {:?}", mount.options);
        }
        let own = t.attempt(bundle, &["read", "/sys/fs/cgroup/cgroup.procs"])?;
        same("processes of the container's own cgroup", own.as_str(), "ok 1")
    });
    m.case("cgroup-rules/namespace-hides-the-path", "cgroup_namespaces(7)", |t| {
        let report = t.report(&t.bundle()?.ns("cgroup"))?;
        for line in report.list("/cgroup") {
            ensure!(!line.contains(t.marker()), "the container sees {line:?}");
        }
        Ok(())
    });
    m.case("cgroup-rules/read-only-mount-refuses", MOUNT, |t| {
        let bundle = t.bundle()?.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]).ns("cgroup");
        let dir =
            if cgroup::layout() == Layout::V1 { "/sys/fs/cgroup/pids/new" } else { "/sys/fs/cgroup/new" };
        same("mkdir", t.attempt(bundle, &["mkdir", dir])?.as_str(), "EROFS")
    });
    m.case("cgroup-rules/delegated-to-the-user", "config-linux.md Cgroup ownership", |t| {
        if cgroup::layout() == Layout::V1 {
            return crate::check::skip("only for v2");
        }
        let bundle = t.bundle()?.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]).ns("cgroup");
        let c = t.sleeper(bundle.userns(100_000, 65_536))?;
        let dir = cgroup::dir_of(c.pid()?, "")?;
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(dir.join(file))?);
            same(&format!("owner of {file:?}"), owner, 100_000)?;
        }
        c.end()
    });
}

/// Makes node 1:11 (kmsg) and opens it: what the device filter is asked about.
fn open_kmsg(t: &T<'_>, rules: Value) -> Result<String> {
    let device = json!({"path": "/dev/tested", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666});
    let bundle = t.bundle()?.push("/linux/devices", device).set("/linux/resources/devices", rules);
    // The kernel's log asks for this capability besides.
    t.attempt(bundle.capabilities(&["CAP_SYSLOG"]), &["open-read", "/dev/tested"])
}

fn devices(m: &mut Matrix) {
    let deny = json!({"allow": false, "access": "rwm"});
    let cases: [(&str, Value, &str); 7] = [
        ("denied-by-default-rule", json!([deny]), "EPERM"),
        (
            "allowed-by-rule",
            json!([deny, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]),
            "ok",
        ),
        (
            "allowed-by-wildcard-minor",
            json!([deny, {"allow": true, "type": "c", "major": 1, "access": "rw"}]),
            "ok",
        ),
        (
            "allowed-for-reading-only",
            json!([deny, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]),
            "ok",
        ),
        (
            "allowed-for-other-access",
            json!([deny, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "m"}]),
            "EPERM",
        ),
        (
            "later-rule-wins",
            json!([deny, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
            {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]),
            "EPERM",
        ),
        ("everything-allowed", json!([{"allow": true, "access": "rwm"}]), "ok"),
    ];
    for (name, rules, want) in cases {
        m.case(format!("cgroup-rules/device-{name}"), FILTER, move |t| {
            same("open", open_kmsg(t, rules.clone())?.as_str(), want)
        });
    }
    m.case("cgroup-rules/device-write-needs-w", FILTER, move |t| {
        let rules = json!([{"allow": false, "access": "rwm"},
                           {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
        let device = json!({"path": "/dev/tested", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666});
        let bundle = t.bundle()?.push("/linux/devices", device).set("/linux/resources/devices", rules);
        same("open", t.attempt(bundle, &["open-write", "/dev/tested"])?.as_str(), "EPERM")
    });
    m.case("cgroup-rules/device-defaults-stay-usable", "config-linux.md: default devices", |t| {
        for (words, want) in [
            (["write", "/dev/null", "x"].as_slice(), "ok"),
            (&["open-read", "/dev/zero"], "ok"),
            (&["open-read", "/dev/urandom"], "ok"),
            (&["open-read", "/dev/ptmx"], "ok"),
        ] {
            same(words[1], t.attempt(t.bundle()?, words)?.as_str(), want)?;
        }
        Ok(())
    });
    m.case(
        "cgroup-rules/device-nodes-can-be-made-but-not-opened",
        "runc contract: mknod of any is allowed",
        |t| {
            let bundle = t.bundle()?.capabilities(&["CAP_MKNOD"]);
            let path = "/tmp/disk";
            let make = ["mknod", path, "b", "254", "0"];
            same("mknod", t.attempt(bundle.clone(), &make)?.as_str(), "ok")?;
            same("open", t.attempt(bundle, &["open-read", path])?.as_str(), "EPERM")
        },
    );
    m.case(
        "cgroup-rules/device-filter-without-resources",
        "runc contract: the default filter is always there",
        |t| {
            let bundle = t.bundle()?.capabilities(&["CAP_MKNOD"]).unset("/linux/resources");
            let device = json!({"path": "/dev/tested", "type": "b", "major": 254, "minor": 0});
            let seen = t.attempt(bundle.push("/linux/devices", device), &["open-read", "/dev/tested"])?;
            ensure!(["EPERM", "ENXIO"].contains(&seen.as_str()) || seen == "ok", "{seen}");
            Ok(())
        },
    );
    m.case("cgroup-rules/device-bad-access-is-an-error", FILTER, |t| {
        let rules = json!([{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "xyz"}]);
        t.refuses(&t.bundle()?.set("/linux/resources/devices", rules), &["access", "xyz"]).map(drop)
    });
    m.case("cgroup-rules/device-bad-type-is-an-error", FILTER, |t| {
        let rules = json!([{"allow": true, "type": "z", "major": 1, "minor": 11, "access": "r"}]);
        t.refuses(&t.bundle()?.set("/linux/resources/devices", rules), &["type"]).map(drop)
    });
}

fn freezer_file(dir: &std::path::Path) -> (PathBuf, &'static str, &'static str) {
    match cgroup::layout() {
        Layout::V1 => (dir.join("freezer.state"), "FROZEN", "THAWED"),
        Layout::V2 => (dir.join("cgroup.freeze"), "1", "0"),
    }
}

fn freezer(m: &mut Matrix) {
    const PAUSE: &str = "runc contract: pause and resume";
    m.case("cgroup-rules/pause-freezes-and-resume-thaws", PAUSE, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let (file, frozen, thawed) = freezer_file(&super::cgroups::dir(c.pid()?, "freezer")?);
        c.verb("pause").ok()?;
        same("frozen", fs::read_to_string(&file)?.trim(), frozen)?;
        c.is("paused")?;
        c.verb("resume").ok()?;
        same("thawed", fs::read_to_string(&file)?.trim(), thawed)?;
        c.is("running")?;
        c.end()
    });
    m.case("cgroup-rules/kill-of-a-paused-container-takes-effect", PAUSE, |t| {
        let c = t.sleeper(t.bundle()?)?;
        c.verb("pause").ok()?;
        c.kill("KILL")?;
        // A frozen v1 cgroup delivers the signal when it is thawed; delete --force must manage by itself.
        c.delete_force()?;
        t.nothing_left()
    });
}

/// Makes the cgroup of this name in every hierarchy; the returned directories are the v1 ones or the v2 one.
fn make_everywhere(name: &str) -> Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for root in cgroup::hierarchies() {
        let dir = root.join(name);
        fs::create_dir(&dir)?;
        // An empty v1 cpuset takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if root.join(file).exists() && cgroup::layout() == Layout::V1 {
                fs::write(dir.join(file), fs::read_to_string(root.join(file))?)?;
            }
        }
        dirs.push(dir);
    }
    Ok(dirs)
}

fn refused(m: &mut Matrix) {
    m.case("cgroup-rules/empty-cgroup-is-taken", CHECKS, |t| {
        t.without_systemd(NO_PATH)?;
        let name = format!("{}-there", t.marker());
        let dirs = make_everywhere(&name)?;
        let result = t.report(&t.bundle()?.set("/linux/cgroupsPath", format!("/{name}")));
        cgroup::remove(dirs);
        result.map(drop)
    });
    m.case("cgroup-rules/non-empty-cgroup-is-refused", CHECKS, |t| {
        t.without_systemd(NO_PATH)?;
        let name = format!("{}-used", t.marker());
        let dirs = make_everywhere(&name)?;
        let holder = t.host("sleep").arg("1000").spawn()?;
        for dir in &dirs {
            fs::write(dir.join("cgroup.procs"), holder.pid.to_string())?;
        }
        t.own_process(holder.pid);
        let bundle = t.bundle()?.set("/linux/cgroupsPath", format!("/{name}"));
        let out = t.run(&bundle);
        let alive = crate::proc::lives(holder.pid);
        let _ = holder.signal(libc::SIGKILL);
        holder.wait()?;
        cgroup::remove(dirs);
        ensure!(alive, "the other process of the cgroup was killed");
        out?.fails_with(&["cgroup is not empty"]).map(drop)
    });
    m.case("cgroup-rules/frozen-cgroup-is-refused", CHECKS, |t| -> Done {
        t.without_systemd(NO_PATH)?;
        t.controller("freezer").or_else(|e| if cgroup::layout() == Layout::V2 { Ok(()) } else { Err(e) })?;
        let name = format!("{}-frozen", t.marker());
        let dirs = make_everywhere(&name)?;
        let dir = dirs.iter().find(|d| freezer_file(d).0.exists()).cloned().unwrap_or_default();
        let (file, frozen, thawed) = freezer_file(&dir);
        fs::write(&file, frozen)?;
        let out = t.run(&t.bundle()?.set("/linux/cgroupsPath", format!("/{name}")));
        let _ = fs::write(&file, thawed);
        cgroup::remove(dirs);
        out?.fails_with(&["frozen"]).map(drop)
    });
}

fn emptied(m: &mut Matrix) {
    m.case(
        "cgroup-rules/children-of-the-cgroup-go-too",
        "runc contract: delete removes nested cgroups",
        |t| {
            let bundle = t.bundle()?.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]).ns("cgroup");
            let dir = if cgroup::layout() == Layout::V1 { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" };
            let bundle = bundle.shell(&format!("mkdir -p {dir}/a/b; probe sleep"));
            let bundle = bundle.link("/bin/mkdir", "busybox")?;
            let c = t.start(&bundle)?;
            c.await_output("ready")?;
            c.stop()?;
            c.delete()?;
            t.nothing_left()
        },
    );
    m.case(
        "cgroup-rules/processes-without-own-pid-namespace-are-killed",
        "runc contract: KILL kills the cgroup",
        |t| {
            let bundle = t.bundle()?.without_ns("pid").args(&["probe", "children", "3"]);
            let c = t.start(&bundle)?;
            c.await_output("ready")?;
            c.kill("KILL")?;
            c.becomes("stopped")?;
            c.delete()?;
            t.nothing_left()
        },
    );
    m.case(
        "cgroup-rules/delete-force-kills-all-of-a-shared-pid-namespace",
        "runc contract: delete --force",
        |t| {
            let bundle = t.bundle()?.without_ns("pid").args(&["probe", "children", "3"]);
            let c = t.start(&bundle)?;
            c.await_output("ready")?;
            c.delete_force()?;
            t.nothing_left()
        },
    );
}
