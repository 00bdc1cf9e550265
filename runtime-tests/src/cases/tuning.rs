//! Scheduling, I/O priority, personality, sysctl, memory policy, network devices, resctrl.

use crate::check::{same, skip};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    scheduler(m);
    io_priority(m);
    personality(m);
    sysctl(m);
    memory_policy(m);
    network_devices(m);
    others(m);
}

fn scheduler(m: &mut Matrix) {
    const SPEC: &str = "config.md Scheduler";
    for (policy, number) in [("SCHED_OTHER", 0), ("SCHED_BATCH", 3), ("SCHED_IDLE", 5)] {
        m.case(format!("tuning/{}", policy.to_lowercase()), SPEC, move |t| {
            t.report(&t.bundle()?.set("/process/scheduler", json!({"policy": policy})))?
                .is("/scheduler/policy", number)
        });
    }
    m.case("tuning/nice", SPEC, |t| {
        let scheduler = json!({"policy": "SCHED_OTHER", "nice": 7});
        t.report(&t.bundle()?.set("/process/scheduler", scheduler))?.is("/scheduler/nice", 7)
    });
    m.case("tuning/sched_fifo", SPEC, |t| {
        if crate::cgroup::layout() == crate::cgroup::Layout::V2 && !real_time_is_possible(t)? {
            return skip("this kernel gives cgroups of v2 no real-time budget");
        }
        let scheduler = json!({"policy": "SCHED_FIFO", "priority": 10});
        // In a v1 cpu cgroup without real-time budget the kernel refuses.
        let bundle = t.bundle()?.set("/process/scheduler", scheduler);
        let bundle = if crate::cgroup::layout() == crate::cgroup::Layout::V1 {
            bundle
                .set("/linux/resources/cpu", json!({"realtimeRuntime": 10_000, "realtimePeriod": 1_000_000}))
        } else {
            bundle
        };
        t.report(&bundle)?.is("/scheduler/policy", 1)
    });
    m.case("tuning/scheduler-in-exec", SPEC, |t| {
        let c = t.sleeper(t.bundle()?.set("/process/scheduler", json!({"policy": "SCHED_BATCH"})))?;
        c.exec_report(&[])?.is("/scheduler/policy", 3)
    });
    m.case("tuning/scheduler-priority-of-other-is-an-error", SPEC, |t| {
        let scheduler = json!({"policy": "SCHED_OTHER", "priority": 10});
        t.refuses(&t.bundle()?.set("/process/scheduler", scheduler), &["scheduler"]).map(drop)
    });
    m.case("tuning/scheduler-flag-reset-on-fork", SPEC, |t| {
        // The probe's report is of the process itself, which keeps the policy; its children do not.
        let scheduler = json!({"policy": "SCHED_BATCH", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
        let bundle = t.bundle()?.set("/process/scheduler", scheduler);
        t.report(&bundle)?.is("/scheduler/policy", 3 | 0x4000_0000)
    });
    for (name, scheduler) in [
        ("flag-unknown", json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_MOON"]})),
        (
            "deadline-out-of-order",
            json!({"policy": "SCHED_DEADLINE", "runtime": 20_000, "deadline": 10_000, "period": 30_000}),
        ),
        ("nice-of-20", json!({"policy": "SCHED_OTHER", "nice": 20})),
        ("fifo-without-priority", json!({"policy": "SCHED_FIFO"})),
        ("deadline-of-others", json!({"policy": "SCHED_OTHER", "deadline": 10_000})),
    ] {
        m.case(format!("tuning/scheduler-{name}-is-an-error"), SPEC, move |t| {
            t.refuses(&t.bundle()?.set("/process/scheduler", scheduler.clone()), &["scheduler"]).map(drop)
        });
    }
    for (name, affinity) in [
        ("that-is-no-list", json!({"initial": "moon"})),
        ("with-a-final-that-is-no-list", json!({"final": "0-"})),
    ] {
        m.case(
            format!("tuning/exec-cpu-affinity-{name}-is-an-error"),
            "config.md execCPUAffinity",
            move |t| {
                t.refuses(&t.bundle()?.set("/process/execCPUAffinity", affinity.clone()), &["affinity"])
                    .map(drop)
            },
        );
    }
    m.case("tuning/affinity-of-the-runtime-is-not-inherited", "runc contract: init may use every CPU", |t| {
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return skip("one CPU only");
        }
        let bundle = t.bundle()?;
        bundle.save()?;
        let taskset = t.host("taskset").arg("0x1").arg(&t.runtime.path).arg("--root").arg(&t.root);
        let out = taskset.args(t.globals()).arg("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).ok()?;
        let report = crate::report::Report::parse(&out.stdout)?;
        ensure!(report.at("/affinity").as_array().is_some_and(|a| a.len() > 1), "{}", report.at("/affinity"));
        Ok(())
    });
    m.case("tuning/exec-cpu-affinity", "config.md execCPUAffinity", |t| {
        let affinity = json!({"initial": "0", "final": "0"});
        let c = t.sleeper(t.bundle()?.set("/process/execCPUAffinity", affinity))?;
        c.exec_report(&[])?.is("/affinity", json!([0]))
    });
}

/// Whether a program in a new v2 cgroup may be real-time: not so with CONFIG_RT_GROUP_SCHED, without any runtime.
fn real_time_is_possible(t: &crate::case::T<'_>) -> crate::check::Result<bool> {
    let dir = std::path::Path::new("/sys/fs/cgroup").join(format!("{}-rt", t.marker()));
    std::fs::create_dir(&dir)?;
    let script = "echo $$ > $0/cgroup.procs && exec chrt -f 10 true";
    let out = t.host("sh").args(["-c", script]).arg(&dir).output();
    crate::cgroup::remove(vec![dir]);
    Ok(out?.status.success())
}

fn io_priority(m: &mut Matrix) {
    const SPEC: &str = "config.md IOPriority";
    // ioprio_get(2): class << 13 | level.
    for (class, level, number) in [
        ("IOPRIO_CLASS_BE", 5, 2 << 13 | 5),
        ("IOPRIO_CLASS_IDLE", 0, 3 << 13),
        ("IOPRIO_CLASS_RT", 3, 1 << 13 | 3),
    ] {
        m.case(format!("tuning/{}", class.to_lowercase()), SPEC, move |t| {
            let priority = json!({"class": class, "priority": level});
            t.report(&t.bundle()?.set("/process/ioPriority", priority))?.is("/io_priority", number)
        });
    }
    m.case("tuning/io-priority-in-exec", SPEC, |t| {
        let priority = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        let c = t.sleeper(t.bundle()?.set("/process/ioPriority", priority))?;
        c.exec_report(&[])?.is("/io_priority", 2 << 13 | 6)
    });
}

fn personality(m: &mut Matrix) {
    const SPEC: &str = "config-linux.md Personality";
    for (domain, number) in [("LINUX", 0), ("LINUX32", 8)] {
        m.case(format!("tuning/personality-{}", domain.to_lowercase()), SPEC, move |t| {
            t.report(&t.bundle()?.set("/linux/personality", json!({"domain": domain})))?
                .is("/personality", number)
        });
    }
    m.case("tuning/personality-in-exec", SPEC, |t| {
        let c = t.sleeper(t.bundle()?.set("/linux/personality", json!({"domain": "LINUX32"})))?;
        c.exec_report(&[])?.is("/personality", 8)
    });
    m.case("tuning/personality-flags-are-an-error", SPEC, |t| {
        let value = json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]});
        t.refuses(&t.bundle()?.set("/linux/personality", value), &["personality"]).map(drop)
    });
}

fn sysctl(m: &mut Matrix) {
    const SPEC: &str = "config-linux.md Sysctl";
    for (key, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net/ipv4/ip_unprivileged_port_start", "80"),
        ("kernel.shmmax", "1000000"),
        ("kernel.msgmax", "16384"),
        ("fs.mqueue.msg_max", "20"),
    ] {
        m.case(format!("tuning/sysctl-{}", key.replace('/', ".")), SPEC, move |t| {
            let bundle = t.bundle()?.set("/linux/sysctl", json!({key: value}));
            let name = key.replace('/', ".");
            let report = t.report(&bundle.args(&["probe", "report", "--sysctl", &name]))?;
            same(key, report.0["sysctls"][&name].as_str(), Some(value))
        });
    }
    m.case("tuning/sysctl-domainname", SPEC, |t| {
        let bundle = t.bundle()?.set("/linux/sysctl", json!({"kernel.domainname": "example.org"}));
        t.report(&bundle)?.is("/domainname", "example.org")
    });
    m.case("tuning/sysctl-in-a-user-namespace", SPEC, |t| {
        let bundle =
            t.bundle()?.userns(100_000, 65_536).set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        let report = t.report(&bundle.args(&["probe", "report", "--sysctl", "net.ipv4.ip_forward"]))?;
        same("value", report.0["sysctls"]["net.ipv4.ip_forward"].as_str(), Some("1"))
    });
    m.case("tuning/sysctl-unknown-is-an-error", SPEC, |t| {
        t.refuses(
            &t.bundle()?.set("/linux/sysctl", json!({"net.moon.full": "1"})),
            &["sysctl", "net.moon.full", "net/moon"],
        )
        .map(drop)
    });
    m.case("tuning/sysctl-bad-value-is-an-error", SPEC, |t| {
        t.refuses(
            &t.bundle()?.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "moon"})),
            &["invalid argument"],
        )
        .map(drop)
    });
}

fn memory_policy(m: &mut Matrix) {
    const SPEC: &str = "config-linux.md Memory policy";
    m.case("tuning/memory-policy", SPEC, |t| {
        let bundle = t.bundle()?.set("/linux/memoryPolicy", json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}));
        if !std::path::Path::new("/proc/self/numa_maps").exists() {
            return skip("no NUMA in this kernel");
        }
        let out = t.run(&bundle.args(&["cat", "/proc/self/numa_maps"]))?.ok()?;
        ensure!(out.stdout.contains("interleave:0"), "numa_maps: {:?}", out.stdout.lines().next());
        Ok(())
    });
    for (name, policy) in [
        ("unknown-mode", json!({"mode": "MPOL_MOON", "nodes": "0"})),
        ("nodes-missing", json!({"mode": "MPOL_BIND"})),
        ("unknown-flag", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_MOON"]})),
    ] {
        m.case(format!("tuning/memory-policy-{name}-is-an-error"), SPEC, move |t| {
            t.refuses(&t.bundle()?.set("/linux/memoryPolicy", policy.clone()), &["memory"]).map(drop)
        });
    }
}

fn network_devices(m: &mut Matrix) {
    const SPEC: &str = "config-linux.md Network Devices";
    fn dummy(t: &crate::case::T<'_>, name: &str) -> crate::check::Done {
        for kind in ["dummy", "ifb"] {
            let out = t.host("/bin/busybox").args(["ip", "link", "add", name, "type", kind]).output()?;
            if out.status.success() {
                return Ok(());
            }
        }
        skip("no virtual network devices")
    }
    for (case, value, inside) in [
        ("moved", json!({"tst0": {}}), "tst0"),
        ("moved-and-renamed", json!({"tst0": {"name": "eth7"}}), "eth7"),
        ("with-a-numbered-name", json!({"tst0": {"name": "net%d"}}), "net0"),
    ] {
        m.case(format!("tuning/network-device-{case}"), SPEC, move |t| {
            dummy(t, "tst0")?;
            let report = t.report(&t.bundle()?.set("/linux/netDevices", value.clone()))?;
            ensure!(!report.at(&format!("/interfaces/{inside}")).is_null(), "{}", report.at("/interfaces"));
            Ok(())
        });
    }
    m.case("tuning/network-device-keeps-addresses-and-mtu", SPEC, |t| {
        dummy(t, "tst2")?;
        for args in [
            &["link", "set", "tst2", "mtu", "1400"][..],
            &["addr", "add", "198.51.100.7/24", "dev", "tst2"],
            &["addr", "add", "203.0.113.9/24", "scope", "link", "dev", "tst2"],
        ] {
            t.host("/bin/busybox").arg("ip").args(args).ok()?;
        }
        let bundle = t.bundle()?.set("/linux/netDevices", json!({"tst2": {"name": "eth0"}}));
        let out = t.run(&bundle.args(&["busybox", "ip", "addr", "show", "dev", "eth0"]))?.ok()?.stdout;
        for part in ["mtu 1400", "UP", "inet 198.51.100.7/24"] {
            ensure!(out.contains(part), "no {part:?} in {out}");
        }
        ensure!(!out.contains("203.0.113.9"), "an address of the link alone went with it: {out}");
        Ok(())
    });
    m.case("tuning/network-device-name-taken-is-an-error", SPEC, |t| {
        dummy(t, "tst3")?;
        let out = t.refuses(
            &t.bundle()?.set("/linux/netDevices", json!({"tst3": {"name": "lo"}})),
            &["tst3", "netDevices"],
        );
        t.host("/bin/busybox").args(["ip", "link", "del", "tst3"]).output()?;
        out.map(drop)
    });
    for (name, value) in [
        ("missing", json!({"none0": {}})),
        ("bad-name", json!({"lo": {"name": "a/b"}})),
        ("long-name", json!({"lo": {"name": "sixteen-letters-"}})),
    ] {
        m.case(format!("tuning/network-device-{name}-is-an-error"), SPEC, move |t| {
            t.refuses(
                &t.bundle()?.set("/linux/netDevices", value.clone()),
                &["netDevices", "network device", "net device"],
            )
            .map(drop)
        });
    }
    m.case("tuning/network-device-without-namespace-is-an-error", SPEC, |t| {
        dummy(t, "tst1")?;
        let bundle = t.bundle()?.without_ns("network").set("/linux/netDevices", json!({"tst1": {}}));
        let out = t.run(&bundle)?.fails().map(drop);
        t.host("/bin/busybox").args(["ip", "link", "del", "tst1"]).output()?;
        out
    });
}

fn others(m: &mut Matrix) {
    m.case("tuning/mount-label-without-selinux-is-an-error", "config-linux.md Mount Label", |t| {
        if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            return skip("SELinux is enabled");
        }
        let label = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811";
        t.refuses(&t.bundle()?.set("/linux/mountLabel", label), &["label", "selinux"]).map(drop)
    });
    for (name, value) in [
        ("without-resctrl", json!({"closID": "group"})),
        ("with-a-slash", json!({"closID": "a/b"})),
        ("that-climbs", json!({"closID": ".."})),
    ] {
        m.case(format!("tuning/intel-rdt-{name}-is-an-error"), "config-linux.md IntelRdt", move |t| {
            if std::path::Path::new("/sys/fs/resctrl/schemata").exists() && name == "without-resctrl" {
                return skip("resctrl is mounted");
            }
            t.refuses(&t.bundle()?.set("/linux/intelRdt", value.clone()), &["intelRdt", "resctrl"]).map(drop)
        });
    }
}
