//! Invented hosts, so that a plan is the same wherever it is compiled.

use orun::plan::facts::{CgroupFacts, CgroupMode, HostFacts, SeccompFacts, V1Hierarchy, V2Hierarchy};
use orun::plan::seccomp::Arch;

fn host(cgroup: CgroupFacts) -> HostFacts {
    HostFacts {
        initial_userns: true,
        capabilities: (1 << 41) - 1,
        cap_last: 40,
        cgroup,
        seccomp: SeccompFacts { arch: Arch::X86_64, ..SeccompFacts::default() },
        ..HostFacts::default()
    }
}

fn v2_at(mount_point: &str, own_path: &str, controllers: &[&str]) -> V2Hierarchy {
    V2Hierarchy {
        mount_point: mount_point.into(),
        mount_root: "/".into(),
        own_path: own_path.into(),
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
    }
}

/// Root on a host with cgroup version 2 only, as distributions boot it.
pub fn unified() -> HostFacts {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    let v2 = Some(v2_at("/sys/fs/cgroup", "/system.slice/engine.service", &controllers));
    host(CgroupFacts { mode: CgroupMode::Unified, v1: Vec::new(), v2, ..CgroupFacts::default() })
}

/// Root on a host with version 1 hierarchies and an empty version 2 one beside them.
pub fn hybrid() -> HostFacts {
    let v1 = |controllers: &[&str], dir: &str| V1Hierarchy {
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        mount_point: format!("/sys/fs/cgroup/{dir}"),
        mount_root: "/".into(),
        own_path: "/".into(),
    };
    let v1 = vec![
        v1(&["cpu", "cpuacct"], "cpu,cpuacct"),
        v1(&["cpuset"], "cpuset"),
        v1(&["memory"], "memory"),
        v1(&["devices"], "devices"),
        v1(&["freezer"], "freezer"),
        v1(&["blkio"], "blkio"),
        v1(&["pids"], "pids"),
        v1(&["name=systemd"], "systemd"),
    ];
    let v2 = Some(v2_at("/sys/fs/cgroup/unified", "/", &[]));
    host(CgroupFacts { mode: CgroupMode::Hybrid, v1, v2, ..CgroupFacts::default() })
}

/// An unprivileged user in a session of a version 2 host.
pub fn user() -> HostFacts {
    let own = "/user.slice/user-1000.slice/session-1.scope";
    let v2 = Some(v2_at("/sys/fs/cgroup", own, &["memory", "pids"]));
    HostFacts {
        euid: 1000,
        egid: 1000,
        capabilities: 0,
        ..host(CgroupFacts { mode: CgroupMode::Unified, v1: Vec::new(), v2, ..CgroupFacts::default() })
    }
}
