//! What only version 1 does.

use super::*;

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
    // Up and down again, whatever order the kernel requires.
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
    assert_eq!(watch.next_event().unwrap(), None);
    let mut child = t.started("exec sleep 60");
    assert!(!t.cgroup.pids().unwrap().is_empty());
    let s = t.cgroup.stats().unwrap();
    assert_eq!((s.pids.current, s.pids.limit), (1, 50));
    assert_eq!(s.memory.usage.limit, 16_777_216);
    assert!(s.memory.usage.usage > 0 && s.memory.raw.contains_key("rss"));
    let usage = t.cgroup.usage().unwrap();
    assert_eq!((usage.pids, usage.pids_limit, usage.memory_limit), (1, Some(50), Some(16_777_216)));
    assert!(usage.memory > 0 && usage.cpu >= s.cpu.usage.total, "{usage:?} after {:?}", s.cpu.usage);
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
    eventually("the event arrives", || watch.next_event().unwrap() == Some(OomEvent::Oom));
    assert!(t.cgroup.oom_count().unwrap() >= 1);
    let _ = child.kill();
    let _ = child.wait();
    t.cgroup.delete(5 * SECOND).unwrap();
    let mut last = None;
    eventually("the end is reported", || {
        last = watch.next_event().unwrap().or(last);
        last == Some(OomEvent::Gone)
    });
    assert!(watch.as_fd().as_raw_fd() >= 0 && watch.is_gone());
}
