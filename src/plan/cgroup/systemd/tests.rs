use super::super::tests::{V2, resources, unified};
use super::super::{Manager, compile, compile_update};
use super::*;
use crate::plan::facts::{CgroupFacts, CgroupMode, V1Hierarchy};

fn facts() -> CgroupFacts {
    let systemd = SystemdFacts { version: 257, control_group: "/".into() };
    CgroupFacts { systemd: Some(systemd), ..unified(V2) }
}

fn options() -> Options<'static> {
    Options { manager: Manager::Systemd, ..Options::default() }
}

fn plan_of(path: &str, json: &str, facts: &CgroupFacts, options: &Options) -> CgroupPlan {
    compile("c1", path, Some(&resources(json)), facts, options).unwrap()
}

fn plan(json: &str) -> CgroupPlan {
    plan_of("", json, &facts(), &options())
}

fn refused(path: &str, json: &str, options: &Options) -> String {
    let v = compile("c1", path, Some(&resources(json)), &facts(), options).unwrap_err();
    v.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// `Name=value` of what the limits have added.
fn limits(json: &str) -> Vec<String> {
    texts(&plan(json).unit.unwrap().properties)
}

fn texts(list: &[Property]) -> Vec<String> {
    let fixed =
        ["Description", "Slice", "Wants", "Delegate", "DefaultDependencies", "DevicePolicy", "DeviceAllow"];
    let limit = |p: &&Property| !fixed.contains(&p.name.as_str()) && !p.name.ends_with("Accounting");
    list.iter().filter(limit).map(|p| format!("{}={}", p.name, p.value)).collect()
}

fn value<'a>(plan: &'a CgroupPlan, name: &str) -> &'a Value {
    &plan.unit.as_ref().unwrap().properties.iter().find(|p| p.name == name).unwrap().value
}

#[test]
fn places() {
    let at = |path: &str| {
        let p = plan_of(path, "{}", &facts(), &options());
        (p.unit.unwrap().name, p.hierarchies[0].dir.clone())
    };
    let want = |unit: &str, dir: &str| (unit.to_owned(), format!("/sys/fs/cgroup{dir}"));
    assert_eq!(at(""), want("orun-c1.scope", "/system.slice/orun-c1.scope"));
    assert_eq!(at(":docker:1"), want("docker-1.scope", "/system.slice/docker-1.scope"));
    assert_eq!(at("-.slice:p:n"), want("p-n.scope", "/p-n.scope"));
    assert_eq!(at("a-b-c.slice:p:n"), want("p-n.scope", "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"));
    assert_eq!(at("x.slice::a-b.slice"), want("a-b.slice", "/a.slice/a-b.slice"));
    let user = SystemdFacts { version: 257, control_group: "/user.slice/user@1.service".into() };
    let facts = CgroupFacts { systemd: Some(user), ..facts() };
    let p = plan_of("", "{}", &facts, &Options { rootless: true, ..options() });
    assert_eq!(p.hierarchies[0].dir, "/sys/fs/cgroup/user.slice/user@1.service/user.slice/orun-c1.scope");
    assert!(!p.hierarchies.iter().any(|h| h.may_stay));
    assert!(!p.unit.unwrap().properties.iter().any(|p| p.name.starts_with("Device")));
}

#[test]
fn places_that_are_none() {
    for bad in [
        "/a/b",
        "a:b",
        "a:b:c:d",
        "a:b:c",
        "a/b.slice:b:c",
        "a--b.slice:b:c",
        "-a.slice:b:c",
        ".slice:b:c",
        "a.slice:b:",
        "a.slice:b:c/d",
        "a.slice:b:c\nd",
        "a.slice:b:..//",
        "a.slice::-.slice",
    ] {
        let told = refused(bad, "{}", &options());
        assert!(told.starts_with("linux.cgroupsPath"), "{bad:?}: {told}");
    }
    let long = format!("a.slice:b:{}", "x".repeat(255));
    assert!(refused(&long, "{}", &options()).contains("255 bytes"));
    assert!(refused("/a/b", "{}", &options()).contains("of format \"slice:prefix:name\""));
}

#[test]
fn a_slice_has_no_scope_s_properties() {
    let p = plan_of("x.slice::a.slice", "{}", &facts(), &options());
    assert_eq!(*value(&p, "Wants"), Value::texts(&["x.slice"]));
    let unit = p.unit.unwrap();
    assert!(!unit.is_scope() && !unit.properties.iter().any(|p| p.name == "Delegate" || p.name == "Slice"));
}

#[test]
fn limits_are_properties_and_files() {
    let json = r#"{"memory":{"limit":100,"swap":300,"reservation":50},"cpu":{"shares":1024,"cpus":"0-1,9","mems":"0"},
        "pids":{"limit":0},"blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}]},
        "hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
    assert_eq!(
        limits(json),
        [
            "TasksMax=1",
            "MemorySwapMax=200",
            "MemoryMax=100",
            "MemoryLow=50",
            "IOWeight=4950",
            "IOReadBandwidthMax=[(\"/dev/block/8:0\", 7)]",
            "CPUWeight=100",
            "AllowedCPUs=[0x03, 0x02]",
            "AllowedMemoryNodes=[0x01]",
        ]
    );
    // Settings without a property in systemd, and all others, are written to the files as without systemd.
    let by_hand = plan_of("/x", json, &unified(V2), &Options::default());
    assert_eq!(plan(json).hierarchies[0].writes, by_hand.hierarchies[0].writes);
    assert!(by_hand.hierarchies[0].writes.iter().any(|w| w.file.starts_with("hugetlb")));
}

#[test]
fn quotas_are_rounded_up_in_both_places() {
    let p = plan(r#"{"cpu":{"quota":500000,"period":900000}}"#);
    assert_eq!(*value(&p, "CPUQuotaPerSecUSec"), Value::U64(560_000));
    assert_eq!(*value(&p, "CPUQuotaPeriodUSec"), Value::U64(900_000));
    assert_eq!(p.hierarchies[0].writes[0].value, "504000 900000");
    assert_eq!(
        limits(r#"{"cpu":{"quota":-1,"period":5000}}"#),
        ["CPUQuotaPerSecUSec=infinity", "CPUQuotaPeriodUSec=5000"]
    );
    assert_eq!(limits(r#"{"cpu":{"quota":20000}}"#)[0], "CPUQuotaPerSecUSec=200000");
    assert_eq!(
        limits(r#"{"cpu":{"quota":9223372036854775807,"period":1000}}"#)[0],
        "CPUQuotaPerSecUSec=infinity"
    );
}

#[test]
fn idle_is_a_weight_of_newer_systemd() {
    assert_eq!(limits(r#"{"cpu":{"idle":1,"shares":512}}"#), ["CPUWeight=0"]);
    assert_eq!(limits(r#"{"cpu":{"idle":0,"shares":1024}}"#), ["CPUWeight=100"]);
    let old = SystemdFacts { version: 251, control_group: String::new() };
    let facts = CgroupFacts { systemd: Some(old), ..facts() };
    let p = plan_of("", r#"{"cpu":{"idle":1}}"#, &facts, &options());
    assert!(texts(&p.unit.unwrap().properties).is_empty());
    assert_eq!(p.hierarchies[0].writes[0].file, "cpu.idle");
}

#[test]
fn unified_keys_are_properties_too() {
    let json = r#"{"unified":{"memory.high":"5000","memory.min":"1","cpu.weight":"42","cpu.max":"max 50000",
        "io.max":"8:0 rbps=1 wiops=max\n8:16 wbps=2","io.weight":"default 7","pids.max":"max","memory.oom.group":"1"}}"#;
    assert_eq!(
        limits(json),
        [
            "CPUQuotaPerSecUSec=infinity",
            "CPUQuotaPeriodUSec=50000",
            "CPUWeight=42",
            "IOReadBandwidthMax=[(\"/dev/block/8:0\", 1)]",
            "IOWriteIOPSMax=[(\"/dev/block/8:0\", infinity)]",
            "IOWriteBandwidthMax=[(\"/dev/block/8:16\", 2)]",
            "IOWeight=7",
            "MemoryHigh=5000",
            "MemoryMin=1",
            "TasksMax=infinity",
        ]
    );
}

#[test]
fn version_1_has_properties_of_its_own() {
    let v1 = ["cpu,cpuacct", "memory", "pids", "devices", "blkio"].map(|names| V1Hierarchy {
        controllers: names.split(',').map(str::to_owned).collect(),
        mount_point: format!("/sys/fs/cgroup/{names}"),
        mount_root: "/".into(),
        own_path: "/".into(),
    });
    let facts = CgroupFacts { mode: CgroupMode::Legacy, v1: v1.into(), v2: None, ..facts() };
    let json = r#"{"memory":{"limit":100},"cpu":{"shares":512,"quota":4001,"period":10000},"pids":{"limit":5},
        "blockIO":{"weight":500}}"#;
    let p = plan_of("", json, &facts, &options());
    assert_eq!(p.hierarchies[1].dir, "/sys/fs/cgroup/memory/system.slice/orun-c1.scope");
    assert!(p.hierarchies[0].writes.iter().any(|w| w.file == "cpu.cfs_quota_us" && w.value == "4100"));
    assert_eq!(
        texts(&p.unit.unwrap().properties),
        [
            "CPUShares=512",
            "CPUQuotaPerSecUSec=410000",
            "CPUQuotaPeriodUSec=10000",
            "MemoryLimit=100",
            "TasksMax=5",
            "BlockIOWeight=500",
        ]
    );
}

#[test]
fn systemd_lets_through_no_less_than_the_rules() {
    let p = plan("{}");
    assert_eq!(*value(&p, "DevicePolicy"), Value::text("strict"));
    let allow = value(&p, "DeviceAllow").to_string();
    for want in ["(\"char-*\", \"m\")", "(\"/dev/char/1:3\", \"rwm\")", "(\"char-136\", \"rwm\")"] {
        assert!(allow.contains(want), "{allow}");
    }
    let rules = r#"{"devices":[{"allow":true,"type":"b","major":8,"access":"r"},
        {"allow":false,"type":"b","major":8,"minor":1,"access":"r"},{"allow":true,"type":"c","minor":7,"access":"w"}]}"#;
    let allow = value(&plan(rules), "DeviceAllow").to_string();
    assert!(allow.contains("(\"block-8\", \"r\")") && allow.contains("(\"char-*\", \"w\")"), "{allow}");
    let all = plan(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    assert_eq!(*value(&all, "DevicePolicy"), Value::text("auto"));
    assert_eq!(value(&all, "DeviceAllow").to_string(), "[]");
}

#[test]
fn annotations_are_properties() {
    let with = |list: &[(&'static str, &'static str)]| Options { annotations: list.to_vec(), ..options() };
    let p = plan_of(
        "",
        "{}",
        &facts(),
        &with(&[
            ("org.systemd.property.TimeoutStopUSec", "uint64 5000000"),
            ("org.systemd.property.TimeoutStartSec", "2.5"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("org.systemd.property.Delegate", "false"),
            ("org.systemd.other", "nonsense"),
        ]),
    );
    assert_eq!(*value(&p, "TimeoutStopUSec"), Value::U64(5_000_000));
    assert_eq!(*value(&p, "TimeoutStartUSec"), Value::U64(2_500_000));
    assert_eq!(*value(&p, "CollectMode"), Value::text("inactive-or-failed"));
    assert_eq!(*value(&p, "Delegate"), Value::Bool(false));
    assert_eq!(p.unit.unwrap().properties.iter().filter(|p| p.name == "Delegate").count(), 1);
    for (key, text) in [
        ("org.systemd.property.Ab", "1"),
        ("org.systemd.property.A-b-c", "1"),
        ("org.systemd.property.", "1"),
        ("org.systemd.property.KillMode", "control-group"),
        ("org.systemd.property.TimeoutStopSec", "'5s'"),
        ("org.systemd.property.TimeoutStopSec", "-5"),
    ] {
        let told = refused("", "{}", &with(&[(key, text)]));
        assert!(told.starts_with("annotations["), "{key}={text}: {told}");
    }
    // Without systemd they have no owner.
    let cgroupfs = Options { manager: Manager::Cgroupfs, ..with(&[("org.systemd.property.Ab", "1")]) };
    assert!(compile("c1", "", None, &facts(), &cgroupfs).is_ok());
}

#[test]
fn an_old_systemd_is_refused() {
    let old = SystemdFacts { version: 239, control_group: String::new() };
    let v = compile("c1", "", None, &CgroupFacts { systemd: Some(old), ..facts() }, &options()).unwrap_err();
    assert!(v[0].to_string().contains("systemd 239 is too old"));
}

#[test]
fn an_update_writes_what_systemd_sets_back() {
    let now = resources(r#"{"cpu":{"shares":512,"quota":10000,"period":100000},"memory":{"limit":100}}"#);
    let u = compile_update(Some(&now), &resources(r#"{"cpu":{"shares":1024}}"#), &facts()).unwrap();
    let files: Vec<_> = u.writes[0].1.iter().map(|w| format!("{}={}", w.file, w.value)).collect();
    assert_eq!(files, ["cpu.max=10000 100000", "cpu.weight=100"]);
    assert_eq!(
        texts(&u.properties),
        ["CPUQuotaPerSecUSec=100000", "CPUQuotaPeriodUSec=100000", "CPUWeight=100"]
    );
    let without = compile_update(Some(&now), &resources(r#"{"cpu":{"shares":1024}}"#), &unified(V2)).unwrap();
    assert!(without.properties.is_empty() && without.writes[0].1.len() == 1);
}

#[test]
fn idling_and_a_weight_exclude_each_other() {
    let update = |now: &str, new: &str| {
        let u = compile_update(Some(&resources(now)), &resources(new), &facts()).unwrap();
        let files: Vec<_> = u.writes[0].1.iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        (files.join(" "), texts(&u.properties).join(" "), u.warnings.len())
    };
    let is = |files: &str, properties: &str, warnings| (files.to_owned(), properties.to_owned(), warnings);
    assert_eq!(update("{}", r#"{"cpu":{"shares":200,"idle":1}}"#), is("cpu.idle=1", "CPUWeight=0", 1));
    let both = r#"{"unified":{"cpu.idle":"1","cpu.weight":"8"}}"#;
    assert_eq!(update("{}", both), is("cpu.idle=1", "CPUWeight=0", 1));
    assert_eq!(limits(both), ["CPUWeight=0"]);
    // A weight alone ends idling; another limit does not.
    let ended = is("cpu.idle=0 cpu.weight=8", "CPUWeight=8", 0);
    assert_eq!(update(r#"{"cpu":{"idle":1}}"#, r#"{"unified":{"cpu.weight":"8"}}"#), ended);
    assert_eq!(update(both, r#"{"unified":{"cpu.weight":"8"}}"#), ended);
    let quota = update(both, r#"{"cpu":{"quota":10000,"period":100000}}"#);
    assert_eq!(quota.0, "cpu.idle=1 cpu.max=10000 100000");
    assert!(quota.1.contains("CPUWeight=0"), "{}", quota.1);
    // Without systemd the weight waits until idling ends.
    let idle = resources(r#"{"cpu":{"idle":1}}"#);
    let later = compile_update(Some(&idle), &resources(r#"{"cpu":{"shares":1024}}"#), &unified(V2)).unwrap();
    assert!(later.writes.is_empty() && later.resources.cpu.idle == Some(1));
}
