//! What only version 2 does.

use super::*;

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
    let mut child = t.started("exec sleep 60");
    assert!(!t.cgroup.pids().unwrap().is_empty());
    let e = update(r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap_err().to_string();
    assert!(e.contains("rejecting memory limit 4096 <= usage "), "{e}");
    assert!(t.cgroup.stats().unwrap().memory.usage.usage > 0);
    let usage = t.cgroup.usage().unwrap();
    assert!(usage.memory > 0 && usage.pids > 0, "{usage:?}");
    assert!(child.try_wait().unwrap().is_none());
    t.cgroup.kill_all(libc::SIGKILL).unwrap();
    child.wait().unwrap();
}

#[test]
fn huge_pages_are_limited_where_version_2_counts_them() {
    for facts in hosts() {
        let has = facts.v2.as_ref().is_some_and(|h| h.controllers.iter().any(|c| c == "hugetlb"));
        if !has || !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            skip("needs hugetlb in cgroup v2");
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
        c => return skip(&format!("needs memory or hugetlb, has {c:?}")),
    };
    let parent = Test::new("internal", facts.clone(), "{}");
    let mut child = parent.started("exec sleep 60");
    assert!(!parent.cgroup.pids().unwrap().is_empty());
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
    assert!(t.cgroup.exists(), "without a limit it does not matter");
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
    let mut child = t.started("exec sleep 60");
    assert!(!t.cgroup.pids().unwrap().is_empty());
    let mut watch = t.cgroup.oom_watch().unwrap();
    assert!(!t.spawn("tail /dev/zero").wait_with_output().unwrap().status.success());
    eventually("the event arrives", || watch.next_event().unwrap() == Some(OomEvent::Oom));
    assert!(t.cgroup.oom_count().unwrap() >= 1 && !watch.is_gone());
    t.cgroup.kill_all(libc::SIGKILL).unwrap();
    child.wait().unwrap();
    eventually("the end is reported", || watch.next_event().unwrap() == Some(OomEvent::Gone));
}
