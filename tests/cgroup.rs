//! Control groups on the real kernel, as root: version 1 and hybrid where the host has them, version 2 with the
//! controllers that it has. Every test has cgroups of its own and removes them.

use orun::config::resources::Resources;
use orun::kernel::cgroup::{Cgroup, OomEvent, SubCgroups, probe};
use orun::plan::cgroup::{CgroupPlan, Options, Version, compile, compile_update};
use orun::plan::facts::{CgroupFacts, CgroupMode};
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
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
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
        println!("skipped: needs cgroup v1");
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
        println!("skipped: needs cgroup v2 with {controllers:?}");
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
        let again = Cgroup::open(&t.cgroup.paths()).unwrap();
        assert_eq!(again.paths(), t.cgroup.paths());
        let mut child = t.spawn("exec sleep 60");
        eventually("the child appears", || again.pids().unwrap() == [child.id() as i32]);
        again.kill_all(libc::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(again.wait_empty(SECOND).unwrap());
        again.delete(SECOND).unwrap();
        assert!(!t.cgroup.exists());
    }
    let bad = BTreeMap::from([("pids".to_owned(), "/sys/fs/cgroup/../../etc".to_owned())]);
    assert!(Cgroup::open(&bad).is_err());
}

#[test]
fn an_occupied_or_frozen_cgroup_is_refused_and_left_alone() {
    for facts in hosts() {
        let t = Test::new("occupied", facts, "{}");
        let mut child = t.spawn("exec sleep 60");
        eventually("the child appears", || !t.cgroup.pids().unwrap().is_empty());
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
        let mut child = t.spawn("while :; do :; done");
        eventually("the child appears", || !t.cgroup.pids().unwrap().is_empty());
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
        let mut ready = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let mut other = t.spawn("exec sleep 60");
        let below = SubCgroups::from([(String::new(), "below".to_owned())]);
        eventually("both are there", || t.cgroup.pids().unwrap().len() > 1);
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

        let mut bomb = t.spawn("while :; do (while :; do /bin/true; done) & sleep 0.02; done");
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
        let mut child = t.spawn("exec sleep 60");
        eventually("the child appears", || !t.cgroup.pids().unwrap().is_empty());
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
fn version_2_ownership_is_given_away() {
    let Some(facts) = v2_host(&[]) else { return };
    let path = unique("owner", &facts);
    let opts = Options { owner: Some(1234), ..Options::default() };
    let plan = compile("test", &path, None, &facts, &opts).unwrap();
    let cgroup = Cgroup::create(&plan).unwrap();
    let t = Test { facts, path, plan, cgroup };
    t.cgroup.apply(&t.plan).unwrap();
    let owner = |file: &str| std::fs::metadata(format!("{}/{file}", t.cgroup.paths()[""])).unwrap().uid();
    assert_eq!([owner("."), owner("cgroup.procs"), owner("cgroup.threads")], [1234; 3]);
    assert_eq!([owner("cgroup.freeze"), owner("cgroup.type")], [0; 2]);
}

#[test]
fn version_1_limits() {
    let Some(facts) = v1_host() else { return };
    let json = r#"{"memory":{"limit":33554432,"reservation":16777216,"swappiness":5},"pids":{"limit":77},
        "cpu":{"shares":512,"quota":50000,"period":20000,"burst":1000,"cpus":"0","mems":"0"}}"#;
    // Two new parents: a cpuset in an empty one can have no CPUs.
    let t = Test::new("new/parents/limits", facts, json);
    let want = [
        ("memory", "memory.limit_in_bytes", "33554432"),
        ("memory", "memory.soft_limit_in_bytes", "16777216"),
        ("memory", "memory.swappiness", "5"),
        ("pids", "pids.max", "77"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "20000"),
        ("cpu", "cpu.cfs_burst_us", "1000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
    ];
    for (controller, file, value) in want {
        assert_eq!(t.read(controller, file), value, "{file}");
    }
    let update = |json: &str| {
        let u = compile_update(Some(&resources("{}")), &resources(json), &t.facts).unwrap();
        t.cgroup.update(&u)
    };
    // Up and down again, whatever order the kernel wants.
    for (limit, swap) in [(1 << 27, 1 << 28), (1 << 24, 1 << 25), (1 << 28, 1 << 28), (1 << 24, 1 << 24)] {
        update(&format!(r#"{{"memory":{{"limit":{limit},"swap":{swap}}}}}"#)).unwrap();
        assert_eq!(t.read("memory", "memory.limit_in_bytes"), limit.to_string());
        assert_eq!(t.read("memory", "memory.memsw.limit_in_bytes"), swap.to_string());
    }
    for (quota, period, burst) in
        [(200_000, 100_000, 150_000), (2000, 4000, 1000), (900_000, 1_000_000, 800_000)]
    {
        update(&format!(r#"{{"cpu":{{"quota":{quota},"period":{period},"burst":{burst}}}}}"#)).unwrap();
        assert_eq!(t.read("cpu", "cpu.cfs_quota_us"), quota.to_string());
        assert_eq!(t.read("cpu", "cpu.cfs_burst_us"), burst.to_string());
    }
    update(r#"{"memory":{"limit":-1}}"#).unwrap();
    assert!(t.read("memory", "memory.memsw.limit_in_bytes").parse::<u64>().unwrap() > 1 << 60);
    update(r#"{"cpu":{"idle":1}}"#).unwrap();
    assert_eq!(t.read("cpu", "cpu.idle"), "1");
    update(r#"{"cpu":{"idle":0,"shares":300}}"#).unwrap();
    assert_eq!(t.read("cpu", "cpu.shares"), "300");
    let e = update(r#"{"cpu":{"cpus":"4095"}}"#).unwrap_err().to_string();
    assert!(e.contains("cpuset.cpus") && e.contains("linux.resources.cpu.cpus"), "{e}");
    let e =
        update(r#"{"blockIO":{"throttleReadBpsDevice":[{"major":4000,"minor":1,"rate":5}]}}"#).unwrap_err();
    assert!(e.to_string().contains("there is no such block device"), "{e}");
}

#[test]
fn version_1_memory_in_use_is_reported() {
    let Some(facts) = v1_host() else { return };
    let t = Test::new("usage", facts, r#"{"memory":{"limit":134217728}}"#);
    // Memory that cannot be given back: pages of a tmpfs, without swap.
    let dir = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    t.run(&format!("head -c 20000000 /dev/zero > {}/x", dir.path().display()));
    let u = compile_update(None, &resources(r#"{"memory":{"limit":1048576}}"#), &t.facts).unwrap();
    let e = t.cgroup.update(&u).unwrap_err().to_string();
    assert!(e.contains("unable to set memory limit to 1048576 (current usage: "), "{e}");
    assert!(e.contains(", peak usage: 2"), "{e}");
}

#[test]
fn statistics_and_the_oom_killer_of_version_1() {
    let Some(facts) = v1_host() else { return };
    let t = Test::new("oom", facts, r#"{"memory":{"limit":16777216},"pids":{"limit":50}}"#);
    let mut watch = t.cgroup.oom_watch().unwrap();
    assert_eq!(watch.take().unwrap(), None);
    let mut child = t.spawn("exec sleep 60");
    eventually("the child appears", || !t.cgroup.pids().unwrap().is_empty());
    let s = t.cgroup.stats().unwrap();
    assert_eq!((s.pids.current, s.pids.limit), (1, 50));
    assert_eq!(s.memory.usage.limit, 16_777_216);
    assert!(s.memory.usage.usage > 0 && s.memory.raw.contains_key("rss"));
    assert!(!s.cpu.usage.percpu.is_empty() && s.cpuset.cpus.len() == s.cpu.usage.percpu.len());
    let json = serde_json::to_value(&s).unwrap();
    assert_eq!(json["pids"]["limit"], 50);
    assert_eq!(json["memory"]["kernelTCP"]["failcnt"], 0);
    assert!(json["network_interfaces"].is_null() && json["intel_rdt"].is_object());
    assert!(
        json["blkio"].get("ioServiceBytesRecursive").is_none()
            || json["blkio"]["ioServiceBytesRecursive"].is_array()
    );

    let out = t.spawn("tail /dev/zero").wait_with_output().unwrap();
    assert!(!out.status.success());
    eventually("the event arrives", || watch.take().unwrap() == Some(OomEvent::Oom));
    assert!(t.cgroup.oom_count().unwrap() >= 1);
    let _ = child.kill();
    let _ = child.wait();
    t.cgroup.delete(5 * SECOND).unwrap();
    let mut last = None;
    eventually("the end is told", || {
        last = watch.take().unwrap().or(last);
        last == Some(OomEvent::Gone)
    });
    assert!(watch.as_fd().as_raw_fd() >= 0 && watch.is_gone());
}

#[test]
fn version_2_limits_need_their_controllers() {
    let Some(facts) = v2_host(&["memory", "pids", "cpu", "io"]) else { return };
    let json = r#"{"memory":{"limit":33554432,"swap":67108864,"reservation":16777216},"pids":{"limit":77},
        "cpu":{"shares":512,"quota":50000,"period":20000},"unified":{"memory.high":"30000000"}}"#;
    let t = Test::new("limits2", facts, json);
    for (file, value) in [
        ("memory.max", "33554432"),
        ("memory.low", "16777216"),
        ("memory.high", "29999104"),
        ("pids.max", "77"),
        ("cpu.weight", "59"),
        ("cpu.max", "50000 20000"),
    ] {
        assert_eq!(t.read("", file), value, "{file}");
    }
    let update = |json: &str| {
        let u = compile_update(
            Some(&resources(r#"{"cpu":{"quota":50000,"period":20000}}"#)),
            &resources(json),
            &t.facts,
        );
        t.cgroup.update(&u.unwrap())
    };
    update(r#"{"cpu":{"period":40000}}"#).unwrap();
    assert_eq!(t.read("", "cpu.max"), "50000 40000");
    update(r#"{"cpu":{"idle":1,"shares":5}}"#).unwrap();
    assert_eq!(t.read("", "cpu.idle"), "1");
    let mut child = t.spawn("exec sleep 60");
    eventually("the child appears", || !t.cgroup.pids().unwrap().is_empty());
    let e = update(r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap_err().to_string();
    assert!(e.contains("rejecting memory limit 4096 <= usage "), "{e}");
    assert!(t.cgroup.stats().unwrap().memory.usage.usage > 0);
    assert!(child.try_wait().unwrap().is_none());
    t.cgroup.kill_all(libc::SIGKILL).unwrap();
    child.wait().unwrap();
}

#[test]
fn huge_pages_are_limited_where_version_2_counts_them() {
    for facts in hosts() {
        let has = facts.v2.as_ref().is_some_and(|h| h.controllers.iter().any(|c| c == "hugetlb"));
        if !has || !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            println!("skipped: needs hugetlb in cgroup v2");
            continue;
        }
        // On a hybrid host too: version 1 does not have the controller.
        let t = Test::new("huge", facts, r#"{"hugepageLimits":[{"pageSize":"2048KB","limit":4194304}]}"#);
        assert_eq!(t.read("", "hugetlb.2MB.max"), "4194304");
        assert_eq!(t.read("", "hugetlb.2MB.rsvd.max"), "4194304");
        assert_eq!(t.cgroup.stats().unwrap().hugetlb["2MB"].usage, 0);
    }
}

#[test]
fn a_parent_with_processes_cannot_give_controllers() {
    let Some(facts) = v2_host(&[]) else { return };
    let (controller, json) = match facts.v2.as_ref().unwrap().controllers.as_slice() {
        c if c.iter().any(|c| c == "memory") => ("memory", r#"{"memory":{"limit":33554432}}"#),
        c if c.iter().any(|c| c == "hugetlb") => {
            ("hugetlb", r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#)
        }
        c => return println!("skipped: needs memory or hugetlb, has {c:?}"),
    };
    let parent = Test::new("internal", facts.clone(), "{}");
    let mut child = parent.spawn("exec sleep 60");
    eventually("the child appears", || !parent.cgroup.pids().unwrap().is_empty());
    let path = format!("{}/container", parent.path);
    let e = Cgroup::create(&plan(&facts, &path, json)).unwrap_err().to_string();
    assert!(e.contains(&format!("enabling controller \"{controller}\" in")), "{e}");
    assert!(e.contains("no internal processes") && e.contains("linux.resources."), "{e}");
    assert!(!Path::new(&format!("{}/container", parent.cgroup.paths()[""])).exists());
    let t = Test {
        plan: plan(&facts, &path, "{}"),
        cgroup: Cgroup::create(&plan(&facts, &path, "{}")).unwrap(),
        path,
        facts,
    };
    assert!(t.cgroup.exists(), "without a limit it is no matter");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_threaded_parent_makes_a_threaded_container_or_an_error() {
    let Some(facts) = v2_host(&[]) else { return };
    let parent = Test::new("threads", facts.clone(), "{}");
    let dir = parent.cgroup.paths()[""].clone();
    std::fs::create_dir(format!("{dir}/one")).unwrap();
    std::fs::write(format!("{dir}/one/cgroup.type"), "threaded").unwrap();
    let t = Test::new("threads-Unified/container", facts, "{}");
    assert_eq!(t.read("", "cgroup.type"), "domain invalid");
    assert!(
        t.run(":").contains("Operation not supported") || t.spawn(":").wait().unwrap().code() == Some(99)
    );
    let refused = orun::error::Errno(libc::EOPNOTSUPP);
    t.cgroup.after_failed_join(&t.plan, refused).unwrap();
    assert_eq!(t.read("", "cgroup.type"), "threaded");
    assert!(t.cgroup.pids().unwrap().is_empty(), "a threaded cgroup is listed by its threads");
    let mut plan = t.plan.clone();
    let memory = orun::plan::cgroup::Write::new("memory.max", 5, "linux.resources.memory.limit");
    plan.hierarchies[0].writes.push(memory);
    assert!(
        t.cgroup.after_failed_join(&plan, refused).is_err(),
        "it is valid now, so there must be another reason"
    );
}

#[test]
fn the_oom_killer_of_version_2() {
    let Some(facts) = v2_host(&["memory"]) else { return };
    let t = Test::new("oom2", facts, r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let mut child = t.spawn("exec sleep 60");
    eventually("the child appears", || !t.cgroup.pids().unwrap().is_empty());
    let mut watch = t.cgroup.oom_watch().unwrap();
    assert!(!t.spawn("tail /dev/zero").wait_with_output().unwrap().status.success());
    eventually("the event arrives", || watch.take().unwrap() == Some(OomEvent::Oom));
    assert!(t.cgroup.oom_count().unwrap() >= 1 && !watch.is_gone());
    t.cgroup.kill_all(libc::SIGKILL).unwrap();
    child.wait().unwrap();
    eventually("the end is told", || watch.take().unwrap() == Some(OomEvent::Gone));
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
