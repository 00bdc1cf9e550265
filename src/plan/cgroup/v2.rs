//! `linux.resources` for version 2 (Documentation/admin-guide/cgroup-v2.rst): the properties are version 1's, so
//! they are converted, and one that has no counterpart is an error (config-linux.md, "Unified").

use super::{MemoryCheck, Violation, Write};
use super::{check, convert, v1};
use crate::config::resources::{BlockIo, Cpu, Memory, Resources};

/// The default period, in microseconds.
const PERIOD: u64 = 100_000;

/// Every write, in order. What cannot be converted goes to `out`.
pub(super) fn writes(r: &Resources, out: &mut Vec<Violation>) -> Vec<Write> {
    unconvertible(r, out);
    let mut w = v1::pids(r);
    memory(&r.memory, &mut w);
    block_io(&r.block_io, &mut w);
    cpu(&r.cpu, &mut w);
    if !r.cpu.cpus.is_empty() {
        w.push(Write::new("cpuset.cpus", &r.cpu.cpus, "linux.resources.cpu.cpus"));
    }
    if !r.cpu.mems.is_empty() {
        w.push(Write::new("cpuset.mems", &r.cpu.mems, "linux.resources.cpu.mems"));
    }
    w.extend(v1::hugetlb(r, "max"));
    w.extend(v1::rdma(r));
    for (key, value) in &r.unified {
        // Files such as io.max take one line for each write(2).
        for line in value.lines() {
            w.push(Write::new(key.clone(), line, format!("linux.resources.unified[{key:?}]")));
        }
    }
    w
}

/// Limits to compare with the usage before they are written, as version 1 kernels do themselves.
pub(super) fn memory_check(r: &Resources) -> Option<MemoryCheck> {
    let m = &r.memory;
    let positive = |v: Option<i64>| v.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
    let check = MemoryCheck { limit: positive(m.limit), swap: positive(m.swap) };
    (m.check_before_update == Some(true) && (check.limit.is_some() || check.swap.is_some())).then_some(check)
}

fn unconvertible(r: &Resources, out: &mut Vec<Violation>) {
    let (m, c, b) = (&r.memory, &r.cpu, &r.block_io);
    let leaf = |d: &crate::config::resources::WeightDevice| d.leaf_weight.is_some_and(|w| w != 0);
    let asked = [
        (
            "memory.swappiness",
            check::swappiness(m).is_some(),
            "leave it out; vm.swappiness of the host applies",
        ),
        ("memory.disableOOMKiller", m.disable_oom_killer == Some(true), "set memory.reservation instead"),
        ("memory.useHierarchy", m.use_hierarchy == Some(false), "accounting is always hierarchical"),
        (
            "cpu.realtimeRuntime",
            c.realtime_runtime.is_some_and(|v| v != 0),
            "real-time groups are version 1's",
        ),
        ("cpu.realtimePeriod", c.realtime_period.is_some_and(|v| v != 0), "real-time groups are version 1's"),
        (
            "blockIO.leafWeight",
            b.leaf_weight.is_some_and(|v| v != 0),
            "leaf weights are of the CFQ scheduler",
        ),
        ("blockIO.weightDevice", b.weight_device.iter().any(leaf), "leaf weights are of the CFQ scheduler"),
        (
            "network.classID",
            r.network.class_id.is_some_and(|v| v != 0),
            "match the cgroup with nftables or eBPF",
        ),
        ("network.priorities", !r.network.priorities.is_empty(), "use eBPF"),
    ];
    for (name, asked, hint) in asked {
        if asked {
            let v = Violation::new(format!("linux.resources.{name}"), "cgroup v2 has no such setting");
            out.push(v.hint(hint));
        }
    }
}

fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn memory(m: &Memory, w: &mut Vec<Write>) {
    let (limit, swap) = (m.limit.unwrap_or(0), m.swap.unwrap_or(0));
    // Swap first: a lower memory.max pushes pages out at once, and they shall go where they may stay.
    if let Ok(Some(value)) = convert::swap_max(swap, limit) {
        let property = if swap == 0 { "linux.resources.memory.limit" } else { "linux.resources.memory.swap" };
        // A kernel that counts no swap has none to limit or to turn off.
        let harmless = value == "max" || value == "0";
        let write = Write::new("memory.swap.max", value, property);
        w.push(if harmless { write.optional() } else { write });
    }
    if limit != 0 {
        w.push(Write::new("memory.max", max_or(limit), "linux.resources.memory.limit"));
    }
    if let Some(v) = m.reservation.filter(|v| *v != 0) {
        w.push(Write::new("memory.low", max_or(v), "linux.resources.memory.reservation"));
    }
}

fn cpu(c: &Cpu, w: &mut Vec<Write>) {
    // The weight of an idle cgroup cannot be set, and the kernel resets it at the end of idling.
    let idle = c.idle == Some(1);
    if c.idle == Some(0) {
        w.push(Write::new("cpu.idle", 0, "linux.resources.cpu.idle").optional());
    }
    if let Some(v) = c.shares.filter(|v| *v != 0 && !idle) {
        w.push(Write::new("cpu.weight", convert::shares_to_weight(v), "linux.resources.cpu.shares"));
    }
    let (quota, period) = (c.quota.filter(|v| *v != 0), c.period.filter(|v| *v != 0));
    if quota.is_some() || period.is_some() {
        let property =
            if quota.is_some() { "linux.resources.cpu.quota" } else { "linux.resources.cpu.period" };
        let value = format!("{} {}", max_or(quota.unwrap_or(-1)), period.unwrap_or(PERIOD));
        w.push(Write::new("cpu.max", value, property).retry());
    }
    if let Some(v) = c.burst {
        let write = Write::new("cpu.max.burst", v, "linux.resources.cpu.burst").retry();
        w.push(if v == 0 { write.optional() } else { write });
    }
    if idle {
        w.push(Write::new("cpu.idle", 1, "linux.resources.cpu.idle"));
    }
}

fn block_io(b: &BlockIo, w: &mut Vec<Write>) {
    // BFQ has its own file in its own, version 1, unit.
    if let Some(v) = b.weight.filter(|v| *v != 0) {
        w.push(
            Write::new("io.bfq.weight", v, "linux.resources.blockIO.weight")
                .instead("io.weight", convert::blkio_to_io_weight(v)),
        );
    }
    for (i, d) in b.weight_device.iter().enumerate() {
        if let Some(v) = d.weight.filter(|v| *v != 0) {
            let number = v1::device(d.major, d.minor);
            let property = format!("linux.resources.blockIO.weightDevice[{i}]");
            w.push(
                Write::new("io.bfq.weight", format!("{number} {v}"), property)
                    .instead("io.weight", format!("{number} {}", convert::blkio_to_io_weight(v))),
            );
        }
    }
    for ((name, list), key) in v1::throttles(b).into_iter().zip(["rbps", "wbps", "riops", "wiops"]) {
        for (i, d) in list.iter().enumerate() {
            // 0 takes the limit away, as it does in version 1.
            let rate = if d.rate == 0 { "max".to_owned() } else { d.rate.to_string() };
            let value = format!("{} {key}={rate}", v1::device(d.major, d.minor));
            w.push(Write::new("io.max", value, format!("linux.resources.blockIO.{name}[{i}]")));
        }
    }
}
