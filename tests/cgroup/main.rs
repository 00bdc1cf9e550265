//! Control groups on the real kernel, as root: version 1 and hybrid where the host has them, version 2 with the
//! controllers that it has. Every test has cgroups of its own and removes them.

#[path = "../common/skip.rs"]
mod skip;
mod v1;
mod v2;

use orun::config::resources::Resources;
use orun::kernel::cgroup::{Cgroup, OomEvent, SubCgroups, probe};
use orun::plan::cgroup::{CgroupPlan, Options, Version, compile, compile_update};
use orun::plan::facts::{CgroupFacts, CgroupMode};
use skip::{is_root, skip};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// The host as it is, the version 1 part of it, and the version 2 part of it alone.
fn hosts() -> Vec<CgroupFacts> {
    if !is_root() {
        return Vec::new();
    }
    let facts = probe().unwrap();
    let mut hosts = vec![facts.clone()];
    if facts.mode == CgroupMode::Hybrid {
        hosts.push(CgroupFacts { mode: CgroupMode::Unified, v1: Vec::new(), ..facts.clone() });
        hosts.push(CgroupFacts { mode: CgroupMode::Legacy, v2: None, ..facts });
    }
    hosts
}

fn v1_host() -> Option<CgroupFacts> {
    let found = hosts().into_iter().find(|f| !f.v1.is_empty());
    if found.is_none() {
        skip("needs cgroup v1");
    }
    found
}

fn v2_host(controllers: &[&str]) -> Option<CgroupFacts> {
    let all = |f: &CgroupFacts| {
        let have = f.v2.as_ref().map_or(&[][..], |h| &h.controllers);
        f.mode == CgroupMode::Unified && controllers.iter().all(|c| have.iter().any(|h| h == c))
    };
    let found = hosts().into_iter().find(all);
    if found.is_none() {
        skip(&format!("needs cgroup v2 with {controllers:?}"));
    }
    found
}

/// The cgroups of one test, removed at its end whatever happens.
struct Test {
    facts: CgroupFacts,
    path: String,
    plan: CgroupPlan,
    cgroup: Cgroup,
}

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

fn plan(facts: &CgroupFacts, path: &str, json: &str) -> CgroupPlan {
    compile("test", path, Some(&resources(json)), facts, &Options::default()).unwrap()
}

fn unique(name: &str, facts: &CgroupFacts) -> String {
    format!("/orun-unit-{}/{name}-{:?}", std::process::id(), facts.mode)
}

impl Test {
    fn new(name: &str, facts: CgroupFacts, json: &str) -> Test {
        let path = unique(name, &facts);
        let plan = plan(&facts, &path, json);
        let cgroup = Cgroup::create(&plan).unwrap();
        let t = Test { facts, path, plan, cgroup };
        t.cgroup.apply(&t.plan).unwrap();
        t
    }

    /// A file of the container's cgroup, of the controller (version 2: empty).
    fn read(&self, controller: &str, file: &str) -> String {
        let dir = &self.cgroup.paths()[controller];
        std::fs::read_to_string(format!("{dir}/{file}")).unwrap().trim().to_owned()
    }

    /// Starts a shell command that enters the cgroups by itself.
    fn spawn(&self, script: &str) -> Child {
        let join =
            "for d in $DIRS; do echo 0 > $d/cgroup.procs || exit 99; done; unset DIRS d; eval \"$SCRIPT\"";
        let dirs: Vec<String> = self.cgroup.paths().into_values().collect();
        let mut c = Command::new("/bin/sh");
        c.args(["-c", join]).env("DIRS", dirs.join(" ")).env("SCRIPT", script);
        c.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The same, seen to be in all of the cgroups: one that is in some of them only would still enter the others.
    fn started(&self, script: &str) -> Child {
        let mut child = self.spawn(&format!("echo ready; {script}"));
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        child
    }

    /// The output of a shell command in the cgroups.
    fn run(&self, script: &str) -> String {
        let out = self.spawn(script).wait_with_output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        let _ = self.cgroup.kill_all(libc::SIGKILL);
        let _ = self.cgroup.delete(5 * SECOND);
        clean(&self.facts, &self.path);
    }
}

/// Removes the directories above, which tests may share, once they are empty.
fn clean(facts: &CgroupFacts, path: &str) {
    let v1 = facts.v1.iter().map(|h| &h.mount_point);
    for mount in v1.chain(facts.v2.iter().map(|h| &h.mount_point)) {
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/').filter(|(p, _)| !p.is_empty()) {
            let _ = std::fs::remove_dir(format!("{mount}{parent}"));
            above = parent;
        }
    }
}

fn eventually(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + 5 * SECOND;
    while !f() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_process_enters_every_hierarchy_and_the_cgroup_goes_when_it_has() {
    for facts in hosts() {
        let t = Test::new("enter", facts, "{}");
        let seen = t.run("cat /proc/self/cgroup");
        for h in &t.plan.hierarchies {
            let name = if h.version == Version::V2 {
                ":".to_owned()
            } else {
                format!(":{}:", h.controllers.join(","))
            };
            let line = seen.lines().find(|l| l.contains(&name) && l.ends_with(&t.path));
            assert!(line.is_some(), "{name} in {seen}");
        }
        assert!(t.cgroup.exists());
        t.cgroup.delete(SECOND).unwrap();
        assert!(!t.cgroup.exists());
        assert!(t.cgroup.paths().values().all(|p| !Path::new(p).exists()));
        t.cgroup.delete(SECOND).unwrap();
        assert!(t.cgroup.pids_recursive().unwrap().is_empty());
    }
}

#[test]
fn a_record_is_enough_to_find_the_cgroups_again() {
    for facts in hosts() {
        let t = Test::new("record", facts, "{}");
        let again = Cgroup::open(&t.cgroup.paths(), None).unwrap();
        assert_eq!(again.paths(), t.cgroup.paths());
        let mut child = t.started("exec sleep 60");
        assert_eq!(again.pids().unwrap(), [child.id() as i32]);
        again.kill_all(libc::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(again.wait_empty(SECOND).unwrap());
        again.delete(SECOND).unwrap();
        assert!(!t.cgroup.exists());
    }
    let bad = BTreeMap::from([("pids".to_owned(), "/sys/fs/cgroup/../../etc".to_owned())]);
    assert!(Cgroup::open(&bad, None).is_err());
}

#[test]
fn an_occupied_or_frozen_cgroup_is_refused_and_left_alone() {
    for facts in hosts() {
        let t = Test::new("occupied", facts, "{}");
        let mut child = t.started("exec sleep 60");
        assert!(!t.cgroup.pids().unwrap().is_empty());
        let e = Cgroup::create(&t.plan).unwrap_err().to_string();
        assert!(e.contains("container's cgroup is not empty: 1 process(es) found"), "{e}");
        assert!(t.cgroup.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the child goes", || t.cgroup.pids().unwrap().is_empty());
        t.cgroup.freeze(SECOND).unwrap();
        let e = Cgroup::create(&t.plan).unwrap_err().to_string();
        assert!(e.contains("container's cgroup unexpectedly frozen"), "{e}");
        t.cgroup.thaw().unwrap();
        assert!(Cgroup::create(&t.plan).is_ok(), "an empty one may be used");
    }
}

#[test]
fn frozen_processes_stand_still_and_die_of_sigkill() {
    for facts in hosts() {
        let t = Test::new("freeze", facts, "{}");
        let mut child = t.started("while :; do :; done");
        assert!(!t.cgroup.pids().unwrap().is_empty());
        assert!(!t.cgroup.is_frozen().unwrap());
        t.cgroup.freeze(SECOND).unwrap();
        assert!(t.cgroup.is_frozen().unwrap());
        let time = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            stat.split(' ').nth(13).unwrap().parse::<u64>().unwrap()
        };
        let before = time();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(time(), before, "it used the CPU while it was frozen");
        t.cgroup.thaw().unwrap();
        assert!(!t.cgroup.is_frozen().unwrap());
        eventually("it runs again", || time() > before);
        t.cgroup.freeze(SECOND).unwrap();
        t.cgroup.kill_all(libc::SIGTERM).unwrap();
        assert!(t.cgroup.is_frozen().unwrap(), "a signal does not end a pause");
        t.cgroup.kill_all(libc::SIGKILL).unwrap();
        assert!(child.wait().unwrap().signal().is_some());
    }
}

#[test]
fn all_processes_get_a_signal_also_below_and_while_they_fork() {
    for facts in hosts() {
        let t = Test::new("kill", facts, "{}");
        for dir in t.cgroup.paths().values().collect::<std::collections::BTreeSet<_>>() {
            std::fs::create_dir(format!("{dir}/below")).unwrap();
        }
        let mut child =
            t.spawn("trap 'exit 7' TERM; echo ready; while :; do /bin/true & sleep 0.01 & wait; done");
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let mut other = t.started("exec sleep 60");
        let below = SubCgroups::from([(String::new(), "below".to_owned())]);
        assert!(t.cgroup.pids().unwrap().len() > 1);
        // A cpuset below has no CPUs yet, so that the kernel refuses to move a process there.
        for c in ["cpuset.cpus", "cpuset.mems"] {
            if let Some(dir) = t.cgroup.paths().get("cpuset") {
                std::fs::write(format!("{dir}/below/{c}"), t.read("cpuset", c)).unwrap();
            }
        }
        t.cgroup.attach(other.id() as i32, &below).unwrap();
        assert!(!t.cgroup.pids().unwrap().contains(&(other.id() as i32)));
        assert!(t.cgroup.pids_recursive().unwrap().contains(&(other.id() as i32)));
        t.cgroup.kill_all(libc::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGTERM));

        let mut bomb = t.started("while :; do (while :; do /bin/true; done) & sleep 0.02; done");
        std::thread::sleep(Duration::from_millis(100));
        t.cgroup.kill_all(libc::SIGKILL).unwrap();
        bomb.wait().unwrap();
        assert!(t.cgroup.wait_empty(5 * SECOND).unwrap(), "{:?}", t.cgroup.pids_recursive());
        t.cgroup.delete(5 * SECOND).unwrap();
    }
}

#[test]
fn sub_cgroups_are_below_the_container() {
    for facts in hosts() {
        let t = Test::new("sub", facts, "{}");
        for (sub, want) in
            [("../x", "bad sub cgroup path: ../x"), ("a/../../b", "bad sub cgroup path"), ("no", "no")]
        {
            let sub = SubCgroups::from([(String::new(), sub.to_owned())]);
            let e = t.cgroup.join(&sub, None).unwrap_err().to_string();
            assert!(e.contains(want), "{e}");
        }
        let unknown = SubCgroups::from([("nonsense".to_owned(), "a".to_owned())]);
        assert!(
            t.cgroup.join(&unknown, None).unwrap_err().to_string().contains("unknown controller nonsense")
        );
        let fds = t.cgroup.join(&SubCgroups::new(), None).unwrap();
        assert_eq!((fds.into.is_some(), fds.procs.len()), (t.facts.v2.is_some(), t.facts.v1.len()));
    }
}

#[test]
fn a_busy_cgroup_is_waited_for_and_then_named() {
    for facts in hosts() {
        let t = Test::new("busy", facts, "{}");
        let mut child = t.started("exec sleep 60");
        assert!(!t.cgroup.pids().unwrap().is_empty());
        let comm = format!("/proc/{}/comm", child.id());
        eventually("it is sleep", || std::fs::read_to_string(&comm).unwrap() == "sleep\n");
        let start = Instant::now();
        let e = t.cgroup.delete(Duration::from_millis(50)).unwrap_err().to_string();
        assert!(e.contains("still busy after 50 ms, with 1 process(es)") && e.contains("(sleep)"), "{e}");
        assert!(start.elapsed() < SECOND);
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                child.kill().unwrap();
                child.wait().unwrap()
            });
            t.cgroup.delete(5 * SECOND).unwrap();
        });
        assert!(!t.cgroup.exists());
    }
}

#[test]
fn device_rules_hold() {
    for facts in hosts() {
        // Where device nodes are sure to work: /tmp is often mounted nodev.
        let dir = tempfile::Builder::new().tempdir_in("/dev").unwrap();
        let node = |name: &str, minor: u64| {
            let path = dir.path().join(name);
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
            let dev = nix::sys::stat::makedev(1, minor);
            nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, dev).unwrap();
            path.display().to_string()
        };
        let (null, mem, kmsg) = (node("null", 3), node("mem", 1), node("kmsg", 11));
        let rules =
            r#"{"devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
        let t = Test::new("devices", facts, rules);
        assert_eq!(t.run(&format!("echo x > {null} && echo done")), "done\n");
        let denied = t.run(&format!("head -c1 {mem}"));
        assert!(denied.contains("Operation not permitted"), "{denied}");
        assert_eq!(t.run(&format!("(: < {kmsg}) && echo read")), "read\n");
        let denied = t.run(&format!(": > {kmsg}"));
        assert!(denied.contains("Operation not permitted"), "{denied}");
        let made = t.run(&format!("mknod {}/disk b 8 0 && head -c1 {0}/disk", dir.path().display()));
        assert!(dir.path().join("disk").exists() && made.contains("Operation not permitted"), "{made}");
        // The same cgroup again, with everything allowed.
        let all = plan(&t.facts, &t.path, r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
        let again = Cgroup::create(&all).unwrap();
        again.apply(&all).unwrap();
        assert!(!t.run(&format!("head -c1 {mem}")).contains("Operation not permitted"));
        // And with the filter back in its place, for a cgroup that has one already.
        for _ in 0..2 {
            let again = Cgroup::create(&t.plan).unwrap();
            again.apply(&t.plan).unwrap();
            assert!(t.run(&format!("head -c1 {mem}")).contains("Operation not permitted"));
        }
        let all_again = Cgroup::create(&all).unwrap();
        all_again.apply(&all).unwrap();
        let open = t.run(&format!("head -c1 {mem}"));
        assert!(!open.contains("Operation not permitted"), "a filter was left behind: {open}");
    }
}

#[test]
fn nothing_is_left_behind_after_a_failure() {
    for facts in hosts() {
        let path = unique("failure", &facts);
        // A name in the last component that the kernel refuses, after the others could be made.
        let mut p = plan(&facts, &format!("{path}/a/b"), "{}");
        let last = p.hierarchies.last_mut().unwrap();
        last.dir = last.dir.replace("/a/b", "/a/cgroup.procs/b");
        assert!(Cgroup::create(&p).is_err());
        let v1 = facts.v1.iter().map(|h| &h.mount_point);
        for mount in v1.chain(facts.v2.iter().map(|h| &h.mount_point)) {
            assert!(!Path::new(&format!("{mount}{path}")).exists(), "{mount}{path}");
        }
        clean(&facts, &path);
    }
}

#[test]
fn a_limit_without_permission_is_told_and_no_limit_is_no_matter() {
    let Some(facts) = hosts().into_iter().next() else { return };
    // Another user runs this program again, as the helper below.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let exe = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let run = |json: &str, path: &str| -> String {
        let mut c = Command::new(&exe);
        c.args(["--ignored", "--exact", "helper_without_permission", "--nocapture"]).uid(65534).gid(65534);
        let out = c.current_dir("/").env("RESOURCES", json).env("CGROUPS_PATH", path).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(run("{}", "").contains("result: stays"), "{}", run("{}", ""));
    let e = run("{}", &unique("denied", &facts));
    assert!(e.contains("permission denied") && e.contains("not delegated"), "a path is a demand: {e}");
    let v1 = facts.v1.iter().flat_map(|h| &h.controllers);
    let mut controllers = v1.chain(facts.v2.iter().flat_map(|h| &h.controllers));
    if controllers.any(|c| c == "pids") {
        let e = run(r#"{"pids":{"limit":5}}"#, "");
        let told = e.contains("cannot set pids limit: container could not join or create cgroup")
            || e.contains(
                "rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
            );
        assert!(told, "{e}");
    }
}

#[test]
#[ignore = "run by another test, as another user"]
fn helper_without_permission() {
    let var = |name| std::env::var(name).unwrap();
    let opts = Options { rootless: true, in_user_namespace: true, ..Options::default() };
    let facts = probe().unwrap();
    let plan =
        compile("denied", &var("CGROUPS_PATH"), Some(&resources(&var("RESOURCES"))), &facts, &opts).unwrap();
    match Cgroup::create(&plan) {
        Ok(c) if !c.is_some() && c.paths().is_empty() && !c.left_out.is_empty() => println!("result: stays"),
        r => println!("result: {}", r.map_or_else(|e| e.to_string(), |c| format!("{:?}", c.paths()))),
    }
}
