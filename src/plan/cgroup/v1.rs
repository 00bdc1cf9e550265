//! `linux.resources` for version 1 controllers (Documentation/admin-guide/cgroup-v1).

use super::{Violation, Write, check, convert};
use crate::config::resources::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// The controllers that have limits in `linux.resources`.
pub(super) const CONTROLLERS: &[&str] =
    &["cpuset", "memory", "cpu", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma"];

/// Every write of every controller.
pub(super) fn resource_writes(r: &Resources) -> Vec<Write> {
    CONTROLLERS.iter().flat_map(|c| before_join(c, r).into_iter().chain(writes(c, r))).collect()
}

/// Requirements for a process to join: a cpuset without CPUs or memory nodes refuses tasks, and a cpu cgroup without
/// real-time bandwidth refuses real-time tasks.
pub(super) fn before_join(controller: &str, r: &Resources) -> Vec<Write> {
    let mut out = Vec::new();
    match controller {
        "cpuset" => {
            let c = &r.cpu;
            if !c.cpus.is_empty() {
                out.push(Write::new("cpuset.cpus", &c.cpus, "linux.resources.cpu.cpus"));
            }
            if !c.mems.is_empty() {
                out.push(Write::new("cpuset.mems", &c.mems, "linux.resources.cpu.mems"));
            }
        }
        "cpu" => {
            if let Some(p) = r.cpu.realtime_period.filter(|p| *p != 0) {
                out.push(Write::new("cpu.rt_period_us", p, "linux.resources.cpu.realtimePeriod").retry());
            }
            if let Some(t) = r.cpu.realtime_runtime.filter(|t| *t != 0) {
                out.push(Write::new("cpu.rt_runtime_us", t, "linux.resources.cpu.realtimeRuntime").retry());
            }
        }
        _ => {}
    }
    out
}

/// The limits of one controller, without those of [`before_join`] and without devices.
pub(super) fn writes(controller: &str, r: &Resources) -> Vec<Write> {
    match controller {
        "memory" => memory(&r.memory),
        "cpu" => cpu(&r.cpu),
        "pids" => pids(r),
        "blkio" => block_io(&r.block_io),
        "hugetlb" => hugetlb(r, "limit_in_bytes"),
        "net_cls" => net_cls(r),
        "net_prio" => net_prio(r),
        "rdma" => rdma(r),
        _ => Vec::new(),
    }
}

fn memory(m: &Memory) -> Vec<Write> {
    let mut out = Vec::new();
    let limit = m.limit.filter(|v| *v != 0);
    // Memory without a limit includes swap without a limit, where the kernel counts swap.
    let (swap, implied) = match (m.swap.filter(|v| *v != 0), limit) {
        (None, Some(-1)) => (Some(-1), true),
        (s, _) => (s, false),
    };
    // The kernel keeps limit <= memsw at every moment. Which one goes first depends on the current values.
    if let Some(v) = limit {
        out.push(Write::new("memory.limit_in_bytes", v, "linux.resources.memory.limit").retry());
    }
    if let Some(v) = swap {
        let property = if implied { "linux.resources.memory.limit" } else { "linux.resources.memory.swap" };
        let w = Write::new("memory.memsw.limit_in_bytes", v, property).retry();
        out.push(if implied { w.optional() } else { w });
    }
    if let Some(v) = m.reservation.filter(|v| *v != 0) {
        out.push(Write::new("memory.soft_limit_in_bytes", v, "linux.resources.memory.reservation"));
    }
    if let Some(yes) = m.use_hierarchy {
        // 1 is the default since Linux 5.11, where the file takes nothing else; gone with the last kernels of version 1.
        let w = Write::new("memory.use_hierarchy", u8::from(yes), "linux.resources.memory.useHierarchy");
        out.push(if yes { w.optional() } else { w });
    }
    if m.disable_oom_killer == Some(true) {
        out.push(Write::new("memory.oom_control", 1, "linux.resources.memory.disableOOMKiller"));
    }
    if let Some(v) = check::swappiness(m) {
        out.push(Write::new("memory.swappiness", v, "linux.resources.memory.swappiness"));
    }
    out
}

/// The kernel would take the nearest value that it knows instead of another one, without an error.
pub(super) fn check_shares(c: &Cpu, out: &mut Vec<Violation>) {
    let why = match c.shares {
        Some(1) => "the minimum allowed cpu-shares is 2",
        Some(shares) if shares > 262_144 => "the maximum allowed cpu-shares is 262144",
        _ => return,
    };
    out.push(Violation::new("linux.resources.cpu.shares", why));
}

fn cpu(c: &Cpu) -> Vec<Write> {
    let mut out = Vec::new();
    // An idle cgroup has no shares: the kernel refuses to set them.
    let idle = c.idle == Some(1);
    if c.idle == Some(0) {
        out.push(Write::new("cpu.idle", 0, "linux.resources.cpu.idle").optional());
    }
    if let Some(v) = c.shares.filter(|v| *v != 0 && !idle) {
        out.push(Write::new("cpu.shares", v, "linux.resources.cpu.shares"));
    }
    // Quota over period must fit the parent's, and burst the quota, after each of the three.
    if let Some(v) = c.period.filter(|v| *v != 0) {
        out.push(Write::new("cpu.cfs_period_us", v, "linux.resources.cpu.period").retry());
    }
    if let Some(v) = c.quota.filter(|v| *v != 0) {
        out.push(Write::new("cpu.cfs_quota_us", v.max(-1), "linux.resources.cpu.quota").retry());
    }
    if let Some(v) = c.burst {
        let w = Write::new("cpu.cfs_burst_us", v, "linux.resources.cpu.burst").retry();
        out.push(if v == 0 { w.optional() } else { w });
    }
    if idle {
        out.push(Write::new("cpu.idle", 1, "linux.resources.cpu.idle"));
    }
    out
}

/// `pids.max` of both versions. A limit of 0 becomes 1: the container's first process exists already and may not
/// fork with either, and with 0 it could not be cloned into the cgroup.
pub(super) fn pids(r: &Resources) -> Vec<Write> {
    let Some(limit) = r.pids.as_ref().and_then(|p| p.limit) else { return Vec::new() };
    let value = if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() };
    vec![Write::new("pids.max", value, "linux.resources.pids.limit")]
}

/// `MAJOR:MINOR`.
pub(super) fn device(major: i64, minor: i64) -> String {
    format!("{major}:{minor}")
}

/// The four throttle lists, with their property names.
pub(super) fn throttles(b: &BlockIo) -> [(&'static str, &[ThrottleDevice]); 4] {
    [
        ("throttleReadBpsDevice", &b.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &b.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &b.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &b.throttle_write_iops_device),
    ]
}

fn block_io(b: &BlockIo) -> Vec<Write> {
    let mut out = Vec::new();
    // CFQ, until Linux 5.0, has blkio.weight; BFQ has a name of its own.
    if let Some(v) = b.weight.filter(|v| *v != 0) {
        out.push(
            Write::new("blkio.weight", v, "linux.resources.blockIO.weight").instead("blkio.bfq.weight", v),
        );
    }
    if let Some(v) = b.leaf_weight.filter(|v| *v != 0) {
        out.push(Write::new("blkio.leaf_weight", v, "linux.resources.blockIO.leafWeight"));
    }
    for (i, d) in b.weight_device.iter().enumerate() {
        let property = format!("linux.resources.blockIO.weightDevice[{i}]");
        let number = device(d.major, d.minor);
        if let Some(v) = d.weight.filter(|v| *v != 0) {
            let value = format!("{number} {v}");
            out.push(
                Write::new("blkio.weight_device", &value, property.clone())
                    .instead("blkio.bfq.weight_device", &value),
            );
        }
        if let Some(v) = d.leaf_weight.filter(|v| *v != 0) {
            out.push(Write::new("blkio.leaf_weight_device", format!("{number} {v}"), property));
        }
    }
    let files = ["read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device"];
    for ((name, list), file) in throttles(b).into_iter().zip(files) {
        for (i, d) in list.iter().enumerate() {
            let value = format!("{} {}", device(d.major, d.minor), d.rate);
            let property = format!("linux.resources.blockIO.{name}[{i}]");
            out.push(Write::new(format!("blkio.throttle.{file}"), value, property));
        }
    }
    out
}

/// hugetlb of both versions; `suffix` is the last part of the file name. Reservations are counted since Linux 5.7.
pub(super) fn hugetlb(r: &Resources, suffix: &str) -> Vec<Write> {
    let mut out = Vec::new();
    for (i, h) in r.hugepage_limits.iter().enumerate() {
        let Some(size) = convert::page_size(&h.page_size) else { continue };
        let property = format!("linux.resources.hugepageLimits[{i}]");
        out.push(Write::new(format!("hugetlb.{size}.{suffix}"), h.limit, property.clone()));
        out.push(Write::new(format!("hugetlb.{size}.rsvd.{suffix}"), h.limit, property).optional());
    }
    out
}

fn net_cls(r: &Resources) -> Vec<Write> {
    let id = r.network.class_id.filter(|id| *id != 0);
    id.map(|id| Write::new("net_cls.classid", id, "linux.resources.network.classID")).into_iter().collect()
}

fn net_prio(r: &Resources) -> Vec<Write> {
    let write = |(i, p): (usize, &crate::config::resources::NetPriority)| {
        let property = format!("linux.resources.network.priorities[{i}]");
        Write::new("net_prio.ifpriomap", format!("{} {}", p.name, p.priority), property)
    };
    r.network.priorities.iter().enumerate().map(write).collect()
}

/// rdma of both versions.
pub(super) fn rdma(r: &Resources) -> Vec<Write> {
    let write = |(name, limits): (&String, &crate::config::resources::Rdma)| {
        let mut value = name.clone();
        if let Some(n) = limits.hca_handles {
            value.push_str(&format!(" hca_handle={n}"));
        }
        if let Some(n) = limits.hca_objects {
            value.push_str(&format!(" hca_object={n}"));
        }
        Write::new("rdma.max", value, format!("linux.resources.rdma.{name}"))
    };
    r.rdma.iter().map(write).collect()
}
