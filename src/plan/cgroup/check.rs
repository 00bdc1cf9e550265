//! Values of `linux.resources` that no host can apply.

use std::collections::BTreeMap;

use super::Violation;
use super::convert;
use crate::config::resources::{BlockIo, Cpu, Memory, Resources};

fn property_path(name: &str) -> String {
    format!("linux.resources.{name}")
}

/// Checks what holds for both versions.
pub(super) fn resources(r: &Resources, out: &mut Vec<Violation>) {
    memory(&r.memory, out);
    cpu(&r.cpu, out);
    block_io(&r.block_io, out);
    for (i, h) in r.hugepage_limits.iter().enumerate() {
        if convert::page_size(&h.page_size).is_none() {
            let what = format!("{:?} is not a valid page size", h.page_size);
            out.push(
                Violation::new(property_path(&format!("hugepageLimits[{i}].pageSize")), what)
                    .hint("use 64KB, 2MB or 1GB"),
            );
        }
    }
    for (name, limits) in &r.rdma {
        if name.is_empty() || name.contains(char::is_whitespace) {
            out.push(Violation::new(property_path("rdma"), format!("{name:?} is not a valid device name")));
        }
        if limits.hca_handles.is_none() && limits.hca_objects.is_none() {
            out.push(Violation::new(
                property_path(&format!("rdma.{name}")),
                "needs hcaHandles or hcaObjects",
            ));
        }
    }
    for (i, p) in r.network.priorities.iter().enumerate() {
        if p.name.is_empty() || p.name.contains(char::is_whitespace) {
            let what = format!("{:?} is not a valid interface name", p.name);
            out.push(Violation::new(property_path(&format!("network.priorities[{i}].name")), what));
        }
    }
}

/// Properties that are accepted and have no effect.
pub(super) fn notes(r: &Resources, out: &mut Vec<Violation>) {
    for (name, value) in [("memory.kernel", r.memory.kernel), ("memory.kernelTCP", r.memory.kernel_tcp)] {
        if value.is_some_and(|v| v > 0) {
            out.push(Violation::new(
                property_path(name),
                "is ignored: the kernel has no separate limit for kernel memory",
            ));
        }
    }
}

fn memory(m: &Memory, out: &mut Vec<Violation>) {
    let values = [("memory.limit", m.limit), ("memory.reservation", m.reservation), ("memory.swap", m.swap)];
    for (name, value) in values {
        if let Some(v) = value.filter(|v| *v < -1) {
            out.push(
                Violation::new(property_path(name), format!("{v} is negative")).hint("-1 means no limit"),
            );
        }
    }
    if let Some(v) = swappiness(m).filter(|v| *v > 100) {
        let what = format!("invalid memory swappiness value: {v} (valid range is 0-100)");
        out.push(Violation::new(property_path("memory.swappiness"), what));
    }
    let (swap, limit) = (m.swap.unwrap_or(0), m.limit.unwrap_or(0));
    if swap >= -1
        && limit >= -1
        && let Err(why) = convert::swap_max(swap, limit)
    {
        out.push(
            Violation::new(property_path("memory.swap"), why)
                .hint("swap is memory plus swap; memory.limit is part of it"),
        );
    }
}

/// `memory.swappiness`; Docker writes -1 for "not set" into the unsigned property.
pub(super) fn swappiness(m: &Memory) -> Option<u64> {
    m.swappiness.filter(|v| *v != u64::MAX)
}

fn cpu(c: &Cpu, out: &mut Vec<Violation>) {
    let quota = c.quota.filter(|q| *q > 0);
    if let Some(q) = quota.filter(|q| *q < 1000) {
        out.push(Violation::new(
            property_path("cpu.quota"),
            format!("{q} is below the least quota, 1000 microseconds"),
        ));
    }
    if let Some(p) = c.period.filter(|p| *p != 0 && !(1000..=1_000_000).contains(p)) {
        out.push(Violation::new(
            property_path("cpu.period"),
            format!("{p} is not within 1000 and 1000000 microseconds"),
        ));
    }
    if let (Some(q), Some(b)) = (quota, c.burst)
        && b > q as u64
    {
        out.push(Violation::new(property_path("cpu.burst"), format!("{b} is larger than cpu.quota, {q}")));
    }
    if let Some(i) = c.idle.filter(|i| !(0..=1).contains(i)) {
        out.push(Violation::new(property_path("cpu.idle"), format!("{i} is neither 0 nor 1")));
    }
    for (name, list) in [("cpu.cpus", &c.cpus), ("cpu.mems", &c.mems)] {
        if !list.is_empty() && !is_list(list) {
            out.push(Violation::new(
                property_path(name),
                format!("{list:?} is not a list such as \"0-3,7\""),
            ));
        }
    }
}

/// The list format of cpuset(7) as the kernel reads it (bitmap_parselist): with strides (`0-31:2/8`), `N` for the last
/// one and `all`; white space and commas may be repeated between ranges. What else is wrong with it, the kernel says.
fn is_list(text: &str) -> bool {
    let mut ranges = text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|r| !r.is_empty());
    ranges.all(|range| {
        range.eq_ignore_ascii_case("all") || range.bytes().all(|b| b.is_ascii_digit() || b"-:/N".contains(&b))
    })
}

fn block_io(b: &BlockIo, out: &mut Vec<Violation>) {
    let mut weight = |name: String, value: Option<u16>| {
        if let Some(w) = value.filter(|w| *w != 0 && !(10..=1000).contains(w)) {
            out.push(Violation::new(property_path(&name), format!("{w} is not within 10 and 1000")));
        }
    };
    weight("blockIO.weight".into(), b.weight);
    weight("blockIO.leafWeight".into(), b.leaf_weight);
    for (i, d) in b.weight_device.iter().enumerate() {
        weight(format!("blockIO.weightDevice[{i}].weight"), d.weight);
        weight(format!("blockIO.weightDevice[{i}].leafWeight"), d.leaf_weight);
    }
    let mut device = |name: String, major: i64, minor: i64| {
        for (part, n) in [("major", major), ("minor", minor)] {
            if !(0..=i64::from(u32::MAX)).contains(&n) {
                out.push(Violation::new(
                    property_path(&format!("{name}.{part}")),
                    format!("{n} is not a valid device number"),
                ));
            }
        }
    };
    let lists = [
        ("throttleReadBpsDevice", &b.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &b.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &b.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &b.throttle_write_iops_device),
    ];
    for (name, list) in lists {
        for (i, d) in list.iter().enumerate() {
            device(format!("blockIO.{name}[{i}]"), d.major, d.minor);
        }
    }
    for (i, d) in b.weight_device.iter().enumerate() {
        device(format!("blockIO.weightDevice[{i}]"), d.major, d.minor);
    }
    for (i, d) in b.weight_device.iter().enumerate() {
        if d.weight.is_none() && d.leaf_weight.is_none() {
            out.push(Violation::new(
                property_path(&format!("blockIO.weightDevice[{i}]")),
                "needs weight or leafWeight",
            ));
        }
    }
}

/// Keys of `unified` are file names whose controller must exist.
pub(super) fn unified(files: &BTreeMap<String, String>, have: &[String], out: &mut Vec<Violation>) {
    for key in files.keys() {
        let property = property_path(&format!("unified[{key:?}]"));
        if key.contains('/') || key.contains('\0') {
            let what = format!("unified resource {key:?} must be a file name (no slashes)");
            out.push(Violation::new(property, what));
            continue;
        }
        if !key.contains('.') || key.starts_with('.') {
            let what = format!("unified resource {key:?} must be in the form CONTROLLER.PARAMETER");
            out.push(Violation::new(property, what));
            continue;
        }
        if let Some(c) = super::write::controller(key)
            && !have.iter().any(|h| h == c)
        {
            let what = format!("unified resource {key:?} can't be set: controller {c:?} not available");
            out.push(Violation::new(property, what));
        }
    }
}
