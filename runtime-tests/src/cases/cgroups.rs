//! Resources of cgroups, read back from the kernel: v1 files or their v2 counterparts.

use crate::bundle::Bundle;
use crate::case::T;
use crate::cgroup::{self, Layout};
use crate::check::{Done, Result, same, skip};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::{Value, json};
use std::path::PathBuf;

const SPEC: &str = "config-linux.md Control groups";

/// One resource: its name, what the configuration says below `linux.resources`, and what the kernel must show.
struct Resource {
    name: &'static str,
    config: fn() -> Value,
    /// v1 controller, file, value.
    v1: Option<(&'static str, &'static str, &'static str)>,
    /// v2 controller, file, value.
    v2: Option<(&'static str, &'static str, &'static str)>,
}

const RESOURCES: &[Resource] = &[
    Resource {
        name: "memory-limit",
        config: || json!({"memory": {"limit": 67_108_864}}),
        v1: Some(("memory", "memory.limit_in_bytes", "67108864")),
        v2: Some(("memory", "memory.max", "67108864")),
    },
    Resource {
        name: "memory-unlimited",
        config: || json!({"memory": {"limit": -1}}),
        v1: Some(("memory", "memory.limit_in_bytes", "9223372036854771712")),
        v2: Some(("memory", "memory.max", "max")),
    },
    Resource {
        name: "memory-reservation",
        config: || json!({"memory": {"limit": 67_108_864, "reservation": 33_554_432}}),
        v1: Some(("memory", "memory.soft_limit_in_bytes", "33554432")),
        v2: Some(("memory", "memory.low", "33554432")),
    },
    Resource {
        name: "memory-swap",
        config: || json!({"memory": {"limit": 67_108_864, "swap": 134_217_728}}),
        v1: Some(("memory", "memory.memsw.limit_in_bytes", "134217728")),
        v2: Some(("memory", "memory.swap.max", "67108864")),
    },
    Resource {
        name: "memory-swap-equal-to-limit",
        config: || json!({"memory": {"limit": 67_108_864, "swap": 67_108_864}}),
        v1: Some(("memory", "memory.memsw.limit_in_bytes", "67108864")),
        v2: Some(("memory", "memory.swap.max", "0")),
    },
    Resource {
        name: "memory-swap-unlimited",
        config: || json!({"memory": {"limit": 67_108_864, "swap": -1}}),
        v1: Some(("memory", "memory.memsw.limit_in_bytes", "9223372036854771712")),
        v2: Some(("memory", "memory.swap.max", "max")),
    },
    Resource {
        name: "memory-swappiness",
        config: || json!({"memory": {"swappiness": 10}}),
        v1: Some(("memory", "memory.swappiness", "10")),
        v2: None,
    },
    Resource {
        name: "memory-disable-oom-killer",
        config: || json!({"memory": {"limit": 67_108_864, "disableOOMKiller": true}}),
        v1: Some(("memory", "memory.oom_control", "oom_kill_disable 1")),
        v2: None,
    },
    Resource {
        name: "memory-deprecated-kernel-limits-are-ignored",
        config: || json!({"memory": {"limit": 67_108_864, "kernel": 33_554_432, "kernelTCP": 33_554_432}}),
        v1: Some(("memory", "memory.limit_in_bytes", "67108864")),
        v2: Some(("memory", "memory.max", "67108864")),
    },
    Resource {
        name: "cpu-shares-default",
        config: || json!({"cpu": {"shares": 1024}}),
        v1: Some(("cpu", "cpu.shares", "1024")),
        v2: Some(("cpu", "cpu.weight", "100")),
    },
    Resource {
        name: "cpu-shares-least",
        config: || json!({"cpu": {"shares": 2}}),
        v1: Some(("cpu", "cpu.shares", "2")),
        v2: Some(("cpu", "cpu.weight", "1")),
    },
    Resource {
        name: "cpu-shares-most",
        config: || json!({"cpu": {"shares": 262_144}}),
        v1: Some(("cpu", "cpu.shares", "262144")),
        v2: Some(("cpu", "cpu.weight", "10000")),
    },
    Resource {
        name: "cpu-quota-and-period",
        config: || json!({"cpu": {"quota": 50_000, "period": 200_000}}),
        v1: Some(("cpu", "cpu.cfs_quota_us", "50000")),
        v2: Some(("cpu", "cpu.max", "50000 200000")),
    },
    Resource {
        name: "cpu-period-alone",
        config: || json!({"cpu": {"period": 200_000}}),
        v1: Some(("cpu", "cpu.cfs_period_us", "200000")),
        v2: Some(("cpu", "cpu.max", "max 200000")),
    },
    Resource {
        name: "cpu-quota-unlimited",
        config: || json!({"cpu": {"quota": -1, "period": 100_000}}),
        v1: Some(("cpu", "cpu.cfs_quota_us", "-1")),
        v2: Some(("cpu", "cpu.max", "max 100000")),
    },
    Resource {
        name: "cpu-burst",
        config: || json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 20_000}}),
        v1: Some(("cpu", "cpu.cfs_burst_us", "20000")),
        v2: Some(("cpu", "cpu.max.burst", "20000")),
    },
    Resource {
        name: "cpu-idle",
        config: || json!({"cpu": {"idle": 1}}),
        v1: Some(("cpu", "cpu.idle", "1")),
        v2: Some(("cpu", "cpu.idle", "1")),
    },
    Resource {
        name: "cpuset-cpus",
        config: || json!({"cpu": {"cpus": "0"}}),
        v1: Some(("cpuset", "cpuset.cpus", "0")),
        v2: Some(("cpuset", "cpuset.cpus", "0")),
    },
    Resource {
        name: "cpuset-mems",
        config: || json!({"cpu": {"mems": "0"}}),
        v1: Some(("cpuset", "cpuset.mems", "0")),
        v2: Some(("cpuset", "cpuset.mems", "0")),
    },
    Resource {
        name: "pids-limit",
        config: || json!({"pids": {"limit": 50}}),
        v1: Some(("pids", "pids.max", "50")),
        v2: Some(("pids", "pids.max", "50")),
    },
    Resource {
        name: "pids-unlimited",
        config: || json!({"pids": {"limit": -1}}),
        v1: Some(("pids", "pids.max", "max")),
        v2: Some(("pids", "pids.max", "max")),
    },
    Resource {
        name: "pids-without-limit-is-untouched",
        config: || json!({"pids": {}}),
        v1: Some(("pids", "pids.max", "max")),
        v2: Some(("pids", "pids.max", "max")),
    },
    Resource {
        name: "block-io-weight",
        config: || json!({"blockIO": {"weight": 500}}),
        v1: Some(("blkio", "blkio.bfq.weight", "500")),
        v2: None,
    },
];

/// The directory of a running container in the hierarchy of a controller.
pub fn dir(pid: i32, controller: &str) -> Result<PathBuf> {
    match cgroup::layout() {
        Layout::V1 => cgroup::dir_of(pid, controller),
        Layout::V2 => cgroup::dir_of(pid, ""),
    }
}

fn shows(t: &T<'_>, bundle: Bundle, controller: &str, file: &str, want: &str) -> Done {
    t.controller(controller)?;
    let c = t.sleeper(bundle)?;
    let dir = dir(c.pid()?, controller)?;
    ensure!(dir.to_string_lossy().contains(t.marker()), "the container is in {}", dir.display());
    let seen = cgroup::read(&dir, file)?;
    // memory.oom_control has several lines; the others have one.
    ensure!(seen.lines().any(|l| l == want), "{file} is {seen:?} instead of {want:?}");
    c.end()
}

/// Why a container under systemd has a limit that its bundle does not name.
pub const DEFAULT_TASKS: &str = "systemd limits the tasks of every unit (DefaultTasksMax=)";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for resource in RESOURCES {
        m.case(format!("cgroups/{}", resource.name), SPEC, move |t| {
            let expected = match cgroup::layout() {
                Layout::V1 => resource.v1,
                Layout::V2 => resource.v2,
            };
            let Some((controller, file, want)) = expected else {
                return skip("no counterpart in this layout");
            };
            if resource.name == "pids-without-limit-is-untouched" {
                t.without_systemd(DEFAULT_TASKS)?;
            }
            let mut bundle = t.bundle()?;
            if let (Some(all), Value::Object(part)) =
                (bundle.spec["linux"]["resources"].as_object_mut(), (resource.config)())
            {
                all.extend(part);
            }
            shows(t, bundle, controller, file, want)
        });
    }
    devices_of_block_io(m);
    enforced(m);
    unified(m);
    refusals(m);
}

/// The number of some whole disk of this machine.
fn a_disk() -> Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/partitions")?;
    for line in text.lines().skip(2) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [major, minor, _, name] = fields[..]
            && std::path::Path::new("/sys/block").join(name).exists()
        {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    skip("no disk")
}

fn devices_of_block_io(m: &mut Matrix) {
    for (property, v1, v2) in [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
    ] {
        m.case(format!("cgroups/block-io-{}", property.to_lowercase()), SPEC, move |t| {
            let (major, minor) = a_disk()?;
            let rate = json!([{"major": major, "minor": minor, "rate": 1_048_576}]);
            let bundle = t.bundle()?.set(&format!("/linux/resources/blockIO/{property}"), rate);
            match cgroup::layout() {
                Layout::V1 => shows(t, bundle, "blkio", v1, &format!("{major}:{minor} 1048576")),
                Layout::V2 => {
                    t.controller("io")?;
                    let c = t.sleeper(bundle)?;
                    let seen = cgroup::read(&dir(c.pid()?, "io")?, "io.max")?;
                    ensure!(seen.contains(&format!("{v2}=1048576")), "io.max is {seen:?}");
                    c.end()
                }
            }
        });
    }
    m.case("cgroups/block-io-weight-device", SPEC, |t| {
        let (major, minor) = a_disk()?;
        let scheduler = format!("/sys/dev/block/{major}:{minor}/queue/scheduler");
        if !std::fs::read_to_string(scheduler)?.contains("[bfq]") {
            return skip("the disk's scheduler is not bfq");
        }
        let weight = json!([{"major": major, "minor": minor, "weight": 400}]);
        let bundle = t.bundle()?.set("/linux/resources/blockIO/weightDevice", weight);
        match cgroup::layout() {
            Layout::V1 => {
                shows(t, bundle, "blkio", "blkio.bfq.weight_device", &format!("{major}:{minor} 400"))
            }
            Layout::V2 => skip("bfq is not the scheduler of every disk"),
        }
    });
    m.case("cgroups/hugepage-limit", SPEC, |t| {
        t.controller("hugetlb")?;
        let limit = json!([{"pageSize": "2MB", "limit": 4_194_304}]);
        let bundle = t.bundle()?.set("/linux/resources/hugepageLimits", limit);
        match cgroup::layout() {
            Layout::V1 => shows(t, bundle, "hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"),
            Layout::V2 => shows(t, bundle, "hugetlb", "hugetlb.2MB.rsvd.max", "4194304"),
        }
    });
    m.case("cgroups/network-class-id", SPEC, |t| {
        t.controller("net_cls")?;
        let bundle = t.bundle()?.set("/linux/resources/network/classID", 1_048_577);
        shows(t, bundle, "net_cls", "net_cls.classid", "1048577")
    });
    m.case("cgroups/rdma", SPEC, |t| {
        t.controller("rdma")?;
        let bundle = t.bundle()?.set("/linux/resources/rdma", json!({"none0": {"hcaHandles": 3}}));
        t.run(&bundle.args(&["true"]))?.fails().map(drop)
    });
}

fn enforced(m: &mut Matrix) {
    m.case("cgroups/memory-limit-is-enforced", SPEC, |t| {
        t.controller("memory")?;
        let memory = json!({"limit": 33_554_432, "swap": 33_554_432});
        let bundle = t.bundle()?.set("/linux/resources/memory", memory);
        let out = t.run(&bundle.clone().args(&["probe", "mem", "4M"]))?.ok()?;
        same("little", out.stdout.trim(), "used")?;
        t.run(&bundle.args(&["probe", "mem", "200M"]))?.exits(137).map(drop)
    });
    m.case("cgroups/pids-limit-is-enforced", SPEC, |t| {
        t.controller("pids")?;
        let bundle = t.bundle()?.set("/linux/resources/pids/limit", 20);
        let out = t.run(&bundle.args(&["probe", "fork", "100"]))?.ok()?;
        let count: i32 = out.stdout.trim().trim_start_matches("forked=").parse()?;
        ensure!((10..20).contains(&count), "{count} children were possible");
        Ok(())
    });
    pids_of_zero(m);
    m.case("cgroups/cpuset-with-white-space", "cpuset(7) List format, as the kernel reads it", |t| {
        t.controller("cpuset")?;
        for (cpus, mems) in [("0, 0", "0 , 0"), (" 0,0-0 ", "0\t"), ("0 0", " 0")] {
            let bundle = t.bundle()?.set("/linux/resources/cpu", json!({"cpus": cpus, "mems": mems}));
            t.report(&bundle)?.is("/affinity", json!([0]))?;
            let c = t.sleeper(t.bundle()?)?;
            c.verb_with("update", &["--cpuset-cpus", cpus, "--cpuset-mems", mems]).ok()?;
            let read = cgroup::read(&dir(c.pid()?, "cpuset")?, "cpuset.cpus")?;
            same(&format!("{cpus:?}"), read.as_str(), "0")?;
            c.end()?;
        }
        Ok(())
    });
    m.case("cgroups/cpuset-is-enforced", SPEC, |t| {
        t.controller("cpuset")?;
        let report = t.report(&t.bundle()?.set("/linux/resources/cpu/cpus", "0"))?;
        report.is("/affinity", json!([0]))
    });
    m.case("cgroups/first-limit-holds-before-the-program-starts", SPEC, |t| {
        t.controller("pids")?;
        let c = t.create(&t.bundle()?.set("/linux/resources/pids/limit", 33).sleeps())?;
        same("pids.max", cgroup::read(&dir(c.pid()?, "pids")?, "pids.max")?.as_str(), "33")?;
        c.end()
    });
}

/// Engines of before specification 1.3 write 0 for "unlimited"; since then it is a limit.
fn pids_of_zero(m: &mut Matrix) {
    let max = |t: &T, version: &str| -> Result<String> {
        t.controller("pids")?;
        let bundle = t.bundle()?.set("/ociVersion", version).set("/linux/resources/pids/limit", 0);
        let c = t.create(&bundle.sleeps())?;
        let max = cgroup::read(&dir(c.pid()?, "pids")?, "pids.max")?;
        c.end()?;
        Ok(max)
    };
    m.case("cgroups/pids-of-0-is-unlimited-before-1.3", "config-linux.md of 1.2, PIDs", move |t| {
        for version in ["1.0.0", "1.0.2-dev", "1.2.1"] {
            same(version, max(t, version)?.as_str(), "max")?;
        }
        Ok(())
    });
    m.case("cgroups/pids-of-0-is-a-limit-since-1.3", "config-linux.md PIDs", move |t| {
        same("pids.max", max(t, "1.3.0")?.as_str(), "1")
    });
    m.case("cgroups/update-to-0-pids-follows-the-bundle's-version", "runc contract: update", |t| {
        t.controller("pids")?;
        for (version, after) in [("1.0.2", "33"), ("1.3.0", "1")] {
            let bundle = t.bundle()?.set("/ociVersion", version).set("/linux/resources/pids/limit", 33);
            let c = t.create(&bundle.sleeps())?;
            let resources = br#"{"pids": {"limit": 0}}"#;
            c.verb_with("update", &["--resources", "-"]).stdin(resources).ok()?;
            let read = cgroup::read(&dir(c.pid()?, "pids")?, "pids.max")?;
            same(version, read.as_str(), after)?;
            c.end()?;
        }
        Ok(())
    });
}

fn unified(m: &mut Matrix) {
    const UNIFIED: &str = "config-linux.md Unified";
    fn on_v2() -> Done {
        if cgroup::layout() == Layout::V2 { Ok(()) } else { skip("needs a pure v2 host") }
    }
    m.case("cgroups/unified-file", UNIFIED, |t| {
        on_v2()?;
        let bundle = t.bundle()?.set("/linux/resources/unified", json!({"memory.high": "50000000"}));
        shows(t, bundle, "memory", "memory.high", "49999872")
    });
    m.case("cgroups/unified-wins-over-the-v1-form", UNIFIED, |t| {
        on_v2()?;
        let bundle = t.bundle()?.set("/linux/resources/memory/limit", 67_108_864);
        let bundle = bundle.set("/linux/resources/unified", json!({"memory.max": "134217728"}));
        shows(t, bundle, "memory", "memory.max", "134217728")
    });
    m.case("cgroups/unified-of-an-absent-controller-is-an-error", UNIFIED, |t| {
        on_v2()?;
        let bundle = t.bundle()?.set("/linux/resources/unified", json!({"moon.max": "1"}));
        t.refuses(&bundle, &["moon"]).map(drop)
    });
    m.case("cgroups/unified-key-with-slash-is-an-error", UNIFIED, |t| {
        let bundle = t.bundle()?.set("/linux/resources/unified", json!({"../pids.max": "1"}));
        t.refuses(&bundle, &["unified", "pids.max"]).map(drop)
    });
}

fn refusals(m: &mut Matrix) {
    for (name, config) in [
        ("swap-below-limit", json!({"memory": {"limit": 67_108_864, "swap": 33_554_432}})),
        ("memory-limit-of-one-byte", json!({"memory": {"limit": 1}})),
        ("cpuset-of-absent-cpus", json!({"cpu": {"cpus": "4000-4001"}})),
        ("cpuset-that-is-no-list", json!({"cpu": {"cpus": "moon"}})),
        ("hugepages-of-absent-size", json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]})),
        ("burst-above-quota", json!({"cpu": {"quota": 10_000, "period": 100_000, "burst": 90_000}})),
        ("swappiness-above-100", json!({"memory": {"swappiness": 300}})),
        ("accounting-that-is-not-hierarchical", json!({"memory": {"useHierarchy": false}})),
        ("quota-below-1000", json!({"cpu": {"quota": 10}})),
        ("period-out-of-range", json!({"cpu": {"period": 2_000_000}})),
        (
            "real-time-budget-above-the-period",
            json!({"cpu": {"realtimeRuntime": 2_000_000, "realtimePeriod": 1_000_000}}),
        ),
        ("cpuset-of-absent-nodes", json!({"cpu": {"mems": "900"}})),
        ("idle-of-2", json!({"cpu": {"idle": 2}})),
        ("block-io-weight-out-of-range", json!({"blockIO": {"weight": 5}})),
        ("leaf-weight-without-cfq", json!({"blockIO": {"leafWeight": 300}})),
        (
            "throttle-of-a-device-that-is-not-there",
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 7, "rate": 1000}]}}),
        ),
        ("rdma-without-limits", json!({"rdma": {"mlx5_1": {}}})),
    ] {
        m.case(format!("cgroups/{name}-is-an-error"), SPEC, move |t| {
            let mut bundle = t.bundle()?;
            if let (Some(all), Value::Object(part)) =
                (bundle.spec["linux"]["resources"].as_object_mut(), config.clone())
            {
                all.extend(part);
            }
            // A limit that the kernel takes kills the first process.
            let mut names = vec!["OOM"];
            properties(&config, &mut names);
            t.refuses(&bundle, &names).map(drop)
        });
    }
}

/// The names of all properties in `value`: an error names one of them.
fn properties<'v>(value: &'v Value, names: &mut Vec<&'v str>) {
    match value {
        Value::Object(object) => {
            names.extend(object.keys().map(String::as_str));
            object.values().for_each(|v| properties(v, names));
        }
        Value::Array(list) => list.iter().for_each(|v| properties(v, names)),
        _ => {}
    }
}
