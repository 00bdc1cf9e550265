//! `linux.resources` (config-linux.md, "Control groups"): errors on every host. Conversions between the two
//! hierarchies, and what one of them lacks, are the business of the cgroup compiler.

use super::Findings;
use crate::config::resources::{DeviceRule, Memory, Resources};

pub fn check(r: &Resources, f: &mut Findings) {
    device_rules(&r.devices, f);
    memory(&r.memory, f);
    block_io(r, f);
    hugepages(r, f);
    lists_of_names(r, f);
    unified(r, f);
    for (name, list) in [("cpus", &r.cpu.cpus), ("mems", &r.cpu.mems)] {
        // The kernel reads up to the first newline and ignores the rest; one at the end does no harm.
        if list.trim_end().contains(['\0', '\n']) {
            f.violation(format!("linux.resources.cpu.{name}"), format!("{list:?} is not a list of numbers"));
        }
    }
}

/// "Allowed Device list": types and letters of the known sets. -1 is a wildcard, as an absent number is.
fn device_rules(rules: &[DeviceRule], f: &mut Findings) {
    for (i, d) in rules.iter().enumerate() {
        let at = |property: &str| format!("linux.resources.devices[{i}].{property}");
        if !matches!(d.kind.as_str(), "" | "a" | "c" | "b") {
            f.hinted(at("type"), format!("invalid cgroup device type {:?}", d.kind), "one of a, c, b");
        }
        // The letter of a rule for all types means nothing here; runc passes over it too.
        if d.access.is_empty() {
            // Nobody says what a rule without it would allow.
            f.hinted(at("access"), format!("device access at {i} field cannot be empty"), "letters of rwm");
        }
        if d.access.contains('a') {
            f.warning(format!("{}: ignoring 'a', which is not of \"rwm\"", at("access")));
        }
        if d.access.chars().any(|c| !"rwma".contains(c)) {
            f.hinted(at("access"), format!("invalid device access {:?}", d.access), "letters of rwm");
        }
        for (name, number) in [("major", d.major), ("minor", d.minor)] {
            if let Some(n) = number.filter(|n| *n < -1 || *n > i64::from(u32::MAX)) {
                f.violation(at(name), format!("{n} is not a valid device number"));
            }
        }
    }
}

/// "Memory": -1 is unlimited, and no other negative number is anything.
fn memory(m: &Memory, f: &mut Findings) {
    let values = [
        ("limit", m.limit),
        ("reservation", m.reservation),
        ("swap", m.swap),
        ("kernel", m.kernel),
        ("kernelTCP", m.kernel_tcp),
    ];
    for (name, value) in values {
        if let Some(n) = value.filter(|n| *n < -1) {
            f.hinted(
                format!("linux.resources.memory.{name}"),
                format!("{n} is negative"),
                "-1 means unlimited",
            );
        }
    }
    // Docker writes its -1 for "leave it" into the unsigned property.
    if let Some(n) = m.swappiness.filter(|n| *n > 100 && *n != u64::MAX) {
        f.violation("linux.resources.memory.swappiness", format!("{n} is not in the range 0 to 100"));
    }
}

/// "Block IO": device numbers, and at least one of the weights.
fn block_io(r: &Resources, f: &mut Findings) {
    let b = &r.block_io;
    let mut numbers = |list: &str, i: usize, major: i64, minor: i64| {
        for (name, n) in [("major", major), ("minor", minor)] {
            if n < 0 {
                f.violation(
                    format!("linux.resources.blockIO.{list}[{i}].{name}"),
                    format!("{n} is negative"),
                );
            }
        }
    };
    for (i, d) in b.weight_device.iter().enumerate() {
        numbers("weightDevice", i, d.major, d.minor);
    }
    let throttles = [
        ("throttleReadBpsDevice", &b.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &b.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &b.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &b.throttle_write_iops_device),
    ];
    for (name, list) in throttles {
        for (i, d) in list.iter().enumerate() {
            numbers(name, i, d.major, d.minor);
        }
    }
    for (i, d) in b.weight_device.iter().enumerate() {
        if d.weight.is_none() && d.leaf_weight.is_none() {
            f.violation(
                format!("linux.resources.blockIO.weightDevice[{i}]"),
                "at least one of weight and leafWeight is required",
            );
        }
    }
}

/// "Huge page limits": a size is a number and a unit, and each size appears once.
fn hugepages(r: &Resources, f: &mut Findings) {
    for (i, h) in r.hugepage_limits.iter().enumerate() {
        let at = || format!("linux.resources.hugepageLimits[{i}].pageSize");
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| h.page_size.strip_suffix(unit));
        let valid = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) && !n.starts_with('0');
        if !number.is_some_and(valid) {
            f.hinted(at(), format!("{:?} is not a huge page size", h.page_size), "for example 2MB or 1GB");
        } else if r.hugepage_limits[..i].iter().any(|g| g.page_size == h.page_size) {
            f.violation(at(), format!("{} is limited twice", h.page_size));
        }
    }
}

/// Names that are written into a line of `NAME VALUE` have no white space in them.
fn lists_of_names(r: &Resources, f: &mut Findings) {
    let bad = |name: &str| name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control());
    for (i, p) in r.network.priorities.iter().enumerate() {
        if bad(&p.name) {
            f.violation(
                format!("linux.resources.network.priorities[{i}].name"),
                format!("{:?} is not a network device", p.name),
            );
        }
    }
    for device in r.rdma.keys().filter(|d| bad(d)) {
        f.violation("linux.resources.rdma", format!("{device:?} is not an RDMA device"));
    }
}

/// "Unified": keys are names of files in the container's own cgroup.
fn unified(r: &Resources, f: &mut Findings) {
    for (key, value) in &r.unified {
        let at = || format!("linux.resources.unified[{key:?}]");
        if key.is_empty() || key == "." || key == ".." || key.contains(['/', '\0']) {
            f.violation(at(), "not a valid file name");
        }
        f.no_nul(at, value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use serde_json::{Value, json};

    fn with(resources: Value) -> impl FnOnce(&mut Value) {
        move |v| v["linux"]["resources"] = resources
    }

    #[test]
    fn no_resources_and_ordinary_ones() {
        passes(with(Value::Null));
        passes(with(json!({
            "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": -1, "minor": 5, "access": "rw"}],
            "memory": {"limit": -1, "swap": 1 << 30, "swappiness": 100, "kernel": -1},
            "cpu": {"cpus": "0-3", "quota": -1}, "pids": {"limit": -1},
            "blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
                        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 0}],
            "network": {"priorities": [{"name": "eth0", "priority": 5}]}, "rdma": {"mlx5_1": {"hcaHandles": 3}},
            "unified": {"memory.high": "1", "io.max": "8:0 rbps=1\n8:16 wbps=2"},
        })));
    }

    #[test]
    fn device_rules() {
        let at = "linux.resources.devices[0]";
        breaks(
            &format!("{at}.type: invalid cgroup device type \"p\""),
            with(json!({"devices": [{"type": "p", "access": "r"}]})),
        );
        breaks(
            &format!("{at}.access: device access at 0 field cannot be empty"),
            with(json!({"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3}]})),
        );
        breaks(
            &format!("{at}.access: invalid device access \"rwx\""),
            with(json!({"devices": [{"access": "rwx"}]})),
        );
        breaks(
            &format!("{at}.major: -2 is not a valid device number"),
            with(json!({"devices": [{"major": -2, "access": "r"}]})),
        );
    }

    #[test]
    fn negative_limits() {
        for name in ["limit", "reservation", "swap", "kernel", "kernelTCP"] {
            breaks(
                &format!("linux.resources.memory.{name}: -2 is negative"),
                with(json!({"memory": {name: -2}})),
            );
        }
        breaks("linux.resources.memory.swappiness: 101", with(json!({"memory": {"swappiness": 101}})));
        passes(with(json!({"memory": {"swappiness": u64::MAX}})));
    }

    #[test]
    fn block_devices() {
        breaks(
            "linux.resources.blockIO.weightDevice[0]: at least one of",
            with(json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}})),
        );
        breaks(
            "linux.resources.blockIO.throttleWriteIOPSDevice[0].minor: -1 is negative",
            with(json!({"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": -1, "rate": 1}]}})),
        );
        breaks(
            "linux.resources.blockIO.weightDevice[0].major: -8",
            with(json!({"blockIO": {"weightDevice": [{"major": -8, "minor": 0, "weight": 10}]}})),
        );
    }

    #[test]
    fn huge_page_sizes() {
        for bad in ["2M", "MB", "2mb", "02MB", "-2MB", "2 MB", "", "../2MB"] {
            breaks(
                "linux.resources.hugepageLimits[0].pageSize: ",
                with(json!({"hugepageLimits": [{"pageSize": bad, "limit": 1}]})),
            );
        }
        breaks("linux.resources.hugepageLimits[1].pageSize: 2MB is limited twice", {
            with(
                json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "2MB", "limit": 2}]}),
            )
        });
    }

    #[test]
    fn names_in_lines() {
        breaks(
            "linux.resources.network.priorities[0].name: \"eth0 5\\neth1\"",
            with(json!({"network": {"priorities": [{"name": "eth0 5\neth1", "priority": 1}]}})),
        );
        breaks("linux.resources.rdma: \"a b\" is not an RDMA device", with(json!({"rdma": {"a b": {}}})));
        breaks("linux.resources.cpu.cpus: ", with(json!({"cpu": {"cpus": "0\n1"}})));
        breaks("linux.resources.cpu.mems: ", with(json!({"cpu": {"mems": "0\0"}})));
    }

    #[test]
    fn unified_keys_stay_in_the_cgroup() {
        for key in ["../memory.max", "/memory.max", "a/b", "", "..", "."] {
            breaks(
                &format!("linux.resources.unified[{key:?}]: not a valid file name"),
                with(json!({"unified": {key: "1"}})),
            );
        }
        breaks(
            "linux.resources.unified[\"memory.max\"]: \"1\\0\"",
            with(json!({"unified": {"memory.max": "1\0"}})),
        );
    }
}
