use super::*;
use crate::plan::facts::{V1Hierarchy, V2Hierarchy};

pub(in crate::plan::cgroup) fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

pub(in crate::plan) fn unified(controllers: &[&str]) -> CgroupFacts {
    let h = V2Hierarchy {
        mount_point: "/sys/fs/cgroup".into(),
        mount_root: "/".into(),
        own_path: "/".into(),
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
    };
    CgroupFacts { mode: CgroupMode::Unified, v1: vec![], v2: Some(h), ..CgroupFacts::default() }
}

fn legacy(hierarchies: &[&str]) -> CgroupFacts {
    let v1 = hierarchies.iter().map(|names| V1Hierarchy {
        controllers: names.split(',').map(str::to_owned).collect(),
        mount_point: format!("/sys/fs/cgroup/{names}"),
        mount_root: "/".into(),
        own_path: "/".into(),
    });
    CgroupFacts { mode: CgroupMode::Legacy, v1: v1.collect(), v2: None, ..CgroupFacts::default() }
}

pub(in crate::plan::cgroup) const V2: &[&str] = &["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"];
const V1: &[&str] = &[
    "cpu,cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls,net_prio",
    "hugetlb",
    "rdma",
];

fn plan(json: &str, facts: &CgroupFacts) -> CgroupPlan {
    compile("c1", "/t/c1", Some(&resources(json)), facts, &Options::default()).unwrap()
}

fn fails(json: &str, facts: &CgroupFacts) -> String {
    let v = compile("c1", "", Some(&resources(json)), facts, &Options::default()).unwrap_err();
    v.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// `file=value` of every limit, without devices.
fn lines(plan: &CgroupPlan) -> Vec<String> {
    let all = plan.hierarchies.iter().flat_map(|h| h.before_join.iter().chain(&h.writes));
    all.filter(|w| !w.file.starts_with("devices.")).map(|w| format!("{}={}", w.file, w.value)).collect()
}

fn v2_lines(json: &str) -> Vec<String> {
    lines(&plan(json, &unified(V2)))
}

fn v1_lines(json: &str) -> Vec<String> {
    lines(&plan(json, &legacy(V1)))
}

#[test]
fn without_resources_there_are_only_directories_and_the_device_rules() {
    let p = compile("c1", "", None, &unified(V2), &Options::default()).unwrap();
    assert_eq!(p.hierarchies.len(), 1);
    assert_eq!(p.hierarchies[0].dir, "/sys/fs/cgroup/c1");
    assert_eq!(p.hierarchies[0].enable, V2);
    assert!(lines(&p).is_empty() && p.hierarchies[0].required().is_empty());
    assert!(p.device_filter.unwrap().program.is_some());

    let p = compile("c1", "", None, &legacy(V1), &Options::default()).unwrap();
    assert_eq!(p.hierarchies.len(), V1.len());
    assert_eq!(p.hierarchies[0].dir, "/sys/fs/cgroup/cpu,cpuacct/c1");
    assert!(lines(&p).is_empty() && p.device_filter.is_none());
    assert_eq!(p.hierarchies[3].writes[0].file, "devices.deny");
}

#[test]
fn memory_of_both_versions() {
    let all = r#"{"memory":{"limit":100,"swap":300,"reservation":50,"kernel":7,"kernelTCP":8}}"#;
    assert_eq!(v2_lines(all), ["memory.swap.max=200", "memory.max=100", "memory.low=50"]);
    assert_eq!(
        v1_lines(all),
        ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=300", "memory.soft_limit_in_bytes=50"]
    );
    assert_eq!(plan(all, &unified(V2)).notes.len(), 2, "kernel memory is ignored, with a note");
    assert_eq!(v2_lines(r#"{"memory":{"limit":-1}}"#), ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(
        v1_lines(r#"{"memory":{"limit":-1}}"#),
        ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]
    );
    assert_eq!(v2_lines(r#"{"memory":{"limit":0,"swap":0,"reservation":0}}"#), [""; 0], "0 is not set");
    assert_eq!(
        v1_lines(r#"{"memory":{"swappiness":0,"disableOOMKiller":true,"useHierarchy":true}}"#),
        ["memory.use_hierarchy=1", "memory.oom_control=1", "memory.swappiness=0"]
    );
    for facts in [unified(V2), legacy(V1)] {
        assert!(
            fails(r#"{"memory":{"swap":5}}"#, &facts)
                .contains("unable to set swap limit without memory limit")
        );
        let e = fails(r#"{"memory":{"limit":9,"swap":5}}"#, &facts);
        assert!(e.contains("memory+swap limit should be >= memory limit"), "{e}");
        assert!(fails(r#"{"memory":{"limit":-2}}"#, &facts).starts_with("linux.resources.memory.limit: -2"));
        assert!(
            fails(r#"{"memory":{"swappiness":101}}"#, &facts)
                .contains("invalid memory swappiness value: 101")
        );
    }
}

#[test]
fn cpu_of_both_versions() {
    let all = r#"{"cpu":{"shares":1024,"quota":50000,"period":20000,"burst":1000,"cpus":"0-1","mems":"0"}}"#;
    assert_eq!(
        v2_lines(all),
        ["cpu.weight=100", "cpu.max=50000 20000", "cpu.max.burst=1000", "cpuset.cpus=0-1", "cpuset.mems=0"]
    );
    let v1 = v1_lines(all);
    let want =
        ["cpu.shares=1024", "cpu.cfs_period_us=20000", "cpu.cfs_quota_us=50000", "cpu.cfs_burst_us=1000"];
    assert_eq!(v1[..4], want);
    assert_eq!(v1[4..], ["cpuset.cpus=0-1", "cpuset.mems=0"]);
    let p = plan(all, &legacy(V1));
    assert_eq!(p.hierarchies[1].before_join.len(), 2, "a cpuset must have CPUs before a process joins");
    assert_eq!(v2_lines(r#"{"cpu":{"quota":-1}}"#), ["cpu.max=max 100000"]);
    assert_eq!(v2_lines(r#"{"cpu":{"period":5000}}"#), ["cpu.max=max 5000"]);
    assert_eq!(v2_lines(r#"{"cpu":{"quota":5000,"period":0,"shares":0}}"#), ["cpu.max=5000 100000"]);
    assert_eq!(v2_lines(r#"{"cpu":{"idle":1,"shares":5}}"#), ["cpu.idle=1"]);
    assert_eq!(v2_lines(r#"{"cpu":{"idle":0,"shares":2}}"#), ["cpu.idle=0", "cpu.weight=1"]);
    let rt = r#"{"cpu":{"realtimePeriod":1000000,"realtimeRuntime":950000}}"#;
    let p = plan(rt, &legacy(V1));
    assert_eq!(p.hierarchies[0].before_join.len(), 2, "a real-time process needs bandwidth before it joins");
    assert_eq!(fails(rt, &unified(V2)).lines().count(), 2);
    for bad in [
        r#"{"cpu":{"quota":10}}"#,
        r#"{"cpu":{"period":10}}"#,
        r#"{"cpu":{"quota":1000,"burst":1001}}"#,
        r#"{"cpu":{"idle":2}}"#,
        r#"{"cpu":{"cpus":"0;1"}}"#,
    ] {
        assert_eq!(fails(bad, &unified(V2)).lines().count(), 1, "{bad}");
    }
}

#[test]
fn pids_zero_is_a_limit_and_absent_is_none() {
    for facts in [unified(V2), legacy(V1)] {
        let value = |json| lines(&plan(json, &facts));
        assert_eq!(value(r#"{"pids":{"limit":7}}"#), ["pids.max=7"]);
        assert_eq!(value(r#"{"pids":{"limit":0}}"#), ["pids.max=1"]);
        assert_eq!(value(r#"{"pids":{"limit":-1}}"#), ["pids.max=max"]);
        assert_eq!(value(r#"{"pids":{}}"#), [""; 0]);
    }
}

#[test]
fn block_io_of_both_versions() {
    let all = r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}],
        "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],"throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#;
    assert_eq!(
        v2_lines(all),
        ["io.bfq.weight=500", "io.bfq.weight=8:0 10", "io.max=8:0 rbps=1000", "io.max=8:16 wiops=max"]
    );
    let p = plan(all, &unified(V2));
    assert_eq!(p.hierarchies[0].writes[0].instead, Some(("io.weight".into(), "4950".into())));
    assert_eq!(p.hierarchies[0].writes[1].instead, Some(("io.weight".into(), "8:0 1".into())));
    assert_eq!(p.hierarchies[0].required(), [("io", "linux.resources.blockIO.weight")]);
    assert_eq!(
        v1_lines(all),
        [
            "blkio.weight=500",
            "blkio.weight_device=8:0 10",
            "blkio.throttle.read_bps_device=8:0 1000",
            "blkio.throttle.write_iops_device=8:16 0"
        ]
    );
    let e = fails(r#"{"blockIO":{"weight":5,"weightDevice":[{"major":8,"minor":-1}]}}"#, &unified(V2));
    assert_eq!(e.lines().count(), 3, "{e}");
}

#[test]
fn hugetlb_rdma_and_network() {
    let all = r#"{"hugepageLimits":[{"pageSize":"2048KB","limit":9}],"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10}}}"#;
    assert_eq!(
        v2_lines(all),
        ["hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9", "rdma.max=mlx5_1 hca_handle=3 hca_object=10"]
    );
    assert_eq!(v1_lines(all)[..2], ["hugetlb.2MB.limit_in_bytes=9", "hugetlb.2MB.rsvd.limit_in_bytes=9"]);
    let net = r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}}"#;
    assert_eq!(v1_lines(net), ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"]);
    assert_eq!(fails(net, &unified(V2)).lines().count(), 2);
    assert!(
        fails(r#"{"hugepageLimits":[{"pageSize":"2M","limit":9}]}"#, &unified(V2))
            .contains("not a valid page size")
    );
    assert!(fails(r#"{"rdma":{"a":{}}}"#, &unified(V2)).contains("needs hcaHandles"));
}

#[test]
fn unified_files_are_written_line_by_line() {
    let json = r#"{"unified":{"io.max":"8:0 rbps=1\n8:16 rbps=2\n","memory.high":"5","cpu.pressure":"x","cgroup.max.depth":"2"}}"#;
    let p = plan(json, &unified(V2));
    assert_eq!(
        lines(&p),
        ["cgroup.max.depth=2", "cpu.pressure=x", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=5"]
    );
    let required: Vec<&str> = p.hierarchies[0].required().into_iter().map(|(c, _)| c).collect();
    assert_eq!(required, ["io", "memory"]);
    let e = fails(r#"{"unified":{"misc.max":"x","a/b.c":"1","plain":"1"}}"#, &unified(V2));
    assert!(
        e.contains("unified resource \"misc.max\" can't be set: controller \"misc\" not available"),
        "{e}"
    );
    assert!(e.contains("must be a file name (no slashes)") && e.contains("CONTROLLER.PARAMETER"), "{e}");
    let e = fails(r#"{"unified":{"memory.high":"5"}}"#, &legacy(V1));
    assert!(e.contains("cannot use unified on cgroup v1"), "{e}");
}

#[test]
fn a_limit_without_its_controller_is_named() {
    let e = fails(r#"{"pids":{"limit":5},"memory":{"limit":5,"swap":9}}"#, &unified(&["cpu"]));
    assert_eq!(e.lines().count(), 2, "{e}");
    assert!(
        e.contains("linux.resources.pids.limit: cannot be set: controller \"pids\" not available"),
        "{e}"
    );
    let e = fails(r#"{"pids":{"limit":5}}"#, &legacy(&["cpu", "devices"]));
    assert!(e.contains("controller \"pids\" not available (this host has: cpu devices)"), "{e}");
}

#[test]
fn a_hybrid_host_gets_the_rest_in_version_2() {
    let mut facts = legacy(&["memory", "devices"]);
    facts.mode = CgroupMode::Hybrid;
    facts.v2 =
        unified(&["hugetlb"]).v2.map(|h| V2Hierarchy { mount_point: "/sys/fs/cgroup/unified".into(), ..h });
    let json = r#"{"memory":{"limit":5},"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#;
    let p = plan(json, &facts);
    assert_eq!(lines(&p), ["memory.limit_in_bytes=5", "hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9"]);
    assert_eq!(p.hierarchies[2].dir, "/sys/fs/cgroup/unified/t/c1");
    assert_eq!(p.hierarchies[2].enable, ["hugetlb"]);
    assert!(plan("{}", &facts).hierarchies[2].enable.is_empty(), "nothing is enabled that nobody asked for");
    let e = fails(r#"{"pids":{"limit":5}}"#, &facts);
    assert_eq!(e.lines().count(), 1, "{e}");
    // A property that version 2 has no file for is fine where version 1 has the controller.
    assert_eq!(lines(&plan(r#"{"memory":{"swappiness":5}}"#, &facts)), ["memory.swappiness=5"]);
}

#[test]
fn a_user_with_a_path_can_do_without_version_2_beside_version_1() {
    let mut hybrid = legacy(&["pids"]);
    hybrid.mode = CgroupMode::Hybrid;
    hybrid.v2 = unified(&[]).v2;
    let stays = |path: &str, rootless: bool, facts: &CgroupFacts| -> Vec<bool> {
        let opts = Options { rootless, in_user_namespace: true, ..Options::default() };
        compile("c1", path, None, facts, &opts).unwrap().hierarchies.iter().map(|h| h.may_stay).collect()
    };
    assert_eq!(stays("/given/c1", true, &hybrid), [false, true]);
    assert_eq!(stays("", true, &hybrid), [true, true]);
    assert_eq!(stays("/given/c1", false, &hybrid), [false, false]);
    assert_eq!(stays("/given/c1", true, &unified(V2)), [false]);
}

#[test]
fn what_version_2_cannot_do_is_an_error() {
    for bad in [
        r#"{"memory":{"swappiness":60}}"#,
        r#"{"memory":{"disableOOMKiller":true}}"#,
        r#"{"memory":{"useHierarchy":false}}"#,
        r#"{"blockIO":{"leafWeight":10}}"#,
    ] {
        assert!(fails(bad, &unified(V2)).contains("cgroup v2 has no such setting"), "{bad}");
    }
    assert_eq!(v2_lines(r#"{"memory":{"swappiness":18446744073709551615}}"#), [""; 0], "Docker's -1");
    assert_eq!(v2_lines(r#"{"memory":{"disableOOMKiller":false,"useHierarchy":true}}"#), [""; 0]);
}

#[test]
fn without_cgroups_only_what_asks_for_them_fails() {
    let none = CgroupFacts::default();
    let rootless = Options { rootless: true, ..Options::default() };
    assert!(compile("c1", "", None, &none, &rootless).unwrap().hierarchies.is_empty());
    let v = compile("c1", "/x", Some(&resources(r#"{"pids":{"limit":1}}"#)), &none, &rootless).unwrap_err();
    assert_eq!(v.len(), 2, "{v:?}");
    assert!(compile("c1", "", None, &none, &Options::default()).is_err(), "devices would be open");
    let off = Options { manager: Manager::Disabled, ..Options::default() };
    assert!(compile("c1", "/x", None, &unified(V2), &off).unwrap().hierarchies.is_empty());
    assert!(compile("c1", "", Some(&resources(r#"{"pids":{"limit":1}}"#)), &unified(V2), &off).is_err());
}

#[test]
fn device_rules_need_the_devices_controller_or_the_right_to_load_them() {
    let v = compile("c1", "", None, &legacy(&["pids"]), &Options::default()).unwrap_err();
    assert_eq!(v[0].property, "linux.resources.devices");
    let inside = Options { rootless: true, in_user_namespace: true, ..Options::default() };
    let p = compile("c1", "", None, &legacy(V1), &inside).unwrap();
    assert!(p.hierarchies.iter().all(|h| h.writes.is_empty()));
    let p = compile("c1", "", None, &unified(V2), &inside).unwrap();
    assert!(p.device_filter.unwrap().best_effort && p.hierarchies[0].may_stay);
}

fn update(current: &str, new: &str, facts: &CgroupFacts) -> Result<(Vec<String>, Update), String> {
    let u = compile_update(Some(&resources(current)), &resources(new), facts)
        .map_err(|v| v.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let lines =
        u.writes.iter().flat_map(|(_, list)| list).map(|w| format!("{}={}", w.file, w.value)).collect();
    Ok((lines, u))
}

#[test]
fn an_update_writes_what_it_names_and_what_belongs_to_it() {
    let current = r#"{"memory":{"limit":100,"swap":200},"cpu":{"quota":5000,"period":10000,"shares":10},
        "pids":{"limit":9},"devices":[{"allow":true}]}"#;
    let v2 = |new| update(current, new, &unified(V2)).unwrap();
    assert_eq!(v2(r#"{"memory":{"limit":150}}"#).0, ["memory.swap.max=50", "memory.max=150"]);
    assert_eq!(v2(r#"{"memory":{"swap":500}}"#).0, ["memory.swap.max=400", "memory.max=100"]);
    assert_eq!(v2(r#"{"memory":{"limit":-1}}"#).0, ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(v2(r#"{"cpu":{"quota":7000}}"#).0, ["cpu.max=7000 10000"]);
    assert_eq!(v2(r#"{"cpu":{"period":50000}}"#).0, ["cpu.max=5000 50000"]);
    assert_eq!(v2(r#"{"cpu":{"idle":0}}"#).0, ["cpu.idle=0", "cpu.weight=4"], "idling loses the weight");
    assert_eq!(v2(r#"{"pids":{"limit":-1}}"#).0, ["pids.max=max"]);
    let zeros = r#"{"memory":{"limit":0,"swap":0,"reservation":0,"kernel":0},"cpu":{"shares":0,"quota":0,"period":0,
        "cpus":"","mems":""},"blockIO":{"weight":0},"pids":{},"devices":[{"allow":false}]}"#;
    let (lines, u) = v2(zeros);
    assert_eq!(lines, [""; 0], "zeros and device rules change nothing");
    assert_eq!(u.resources, resources(current));
    let e = update(current, r#"{"memory":{"limit":300}}"#, &unified(V2)).unwrap_err();
    assert!(e.contains("memory+swap limit should be >= memory limit"), "{e}");
    let (_, u) = v2(r#"{"pids":{"limit":20}}"#);
    assert_eq!(u.resources.pids.unwrap().limit, Some(20));
}

#[test]
fn an_update_on_version_1_names_the_controller_of_each_write() {
    let (lines, u) = update("{}", r#"{"memory":{"limit":100},"pids":{"limit":3}}"#, &legacy(V1)).unwrap();
    assert_eq!(lines, ["memory.limit_in_bytes=100", "pids.max=3"]);
    assert_eq!(u.writes.iter().map(|(c, _)| c.as_str()).collect::<Vec<_>>(), ["memory", "pids"]);
    assert!(u.memory_check.is_none(), "the kernel checks by itself");
    let check = r#"{"memory":{"limit":100,"checkBeforeUpdate":true}}"#;
    let (_, u) = update("{}", check, &unified(V2)).unwrap();
    assert_eq!(u.memory_check, Some(MemoryCheck { limit: Some(100), swap: None }));
}

#[test]
fn an_update_replaces_the_entry_of_a_device_and_keeps_the_others() {
    let current = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":16,"rate":2}]}}"#;
    let new = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#;
    let (lines, u) = update(current, new, &unified(V2)).unwrap();
    assert_eq!(lines, ["io.max=8:0 rbps=5"]);
    let rates: Vec<u64> = u.resources.block_io.throttle_read_bps_device.iter().map(|d| d.rate).collect();
    assert_eq!(rates, [5, 2]);
}

#[test]
fn shares_that_version_1_does_not_have_are_refused_there_only() {
    for (shares, why) in
        [(1, "the minimum allowed cpu-shares is 2"), (262_145, "the maximum allowed cpu-shares is 262144")]
    {
        let json = format!(r#"{{"cpu":{{"shares":{shares}}}}}"#);
        assert_eq!(fails(&json, &legacy(V1)), format!("linux.resources.cpu.shares: {why}"));
        assert!(compile_update(None, &resources(&json), &legacy(V1)).is_err());
        assert!(compile("c1", "", Some(&resources(&json)), &unified(V2), &Options::default()).is_ok());
    }
}
