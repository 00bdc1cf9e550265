//! `linux.netDevices` (config-linux.md, "Network Devices").

use super::Findings;
use super::namespaces::is_listed;
use crate::config::linux::Linux;
use crate::plan::facts::HostFacts;
use crate::plan::tables::namespaces::NamespaceKind;

pub fn check(linux: &Linux, facts: &HostFacts, f: &mut Findings) {
    if linux.net_devices.is_empty() {
        return;
    }
    if !is_listed(linux, NamespaceKind::Network) {
        f.hinted(
            "linux.netDevices",
            "unable to move network devices without a NET namespace",
            "add {\"type\": \"network\"} to linux.namespaces",
        );
    }
    if facts.euid != 0 {
        f.violation("linux.netDevices", "network devices are not supported for rootless containers");
    }
    names(linux, f);
}

/// Names are ones of the kernel, and no two devices get the same; with `%d` at its end a name is a template that the
/// kernel completes.
fn names(linux: &Linux, f: &mut Findings) {
    let mut taken: Vec<&str> = Vec::new();
    for (host, device) in &linux.net_devices {
        if !valid(host) {
            f.violation("linux.netDevices", format!("invalid network device name {host:?}"));
        }
        let template = device.name.strip_suffix("%d");
        let new = if device.name.is_empty() { host } else { &device.name };
        if !device.name.is_empty() && (!valid(new) || template.unwrap_or(new).contains('%')) {
            f.violation(
                format!("linux.netDevices[{host:?}].name"),
                format!("invalid network device name {new:?}"),
            );
        }
        if template.is_none() {
            if taken.contains(&new.as_str()) {
                f.violation(
                    format!("linux.netDevices[{host:?}].name"),
                    format!("another device is named {new:?} already"),
                );
            }
            taken.push(new);
        }
    }
}

/// The kernel's rule (`dev_valid_name`): 1 to 15 bytes, not `.` or `..`, no slash, colon or white space.
fn valid(name: &str) -> bool {
    (1..16).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::plan::facts::HostFacts;
    use serde_json::{Value, json};

    fn with(devices: Value) -> impl FnOnce(&mut Value) {
        move |v| v["linux"]["netDevices"] = devices
    }

    #[test]
    fn names_are_the_kernels() {
        passes(with(json!({"eth0": {"name": "ctr_eth0"}, "a": {}, "eth1.100": {"name": "eth%d"}})));
        for bad in ["", "a b", "a/b", "a:b", "..", "sixteen_bytes_xx", "a\tb"] {
            breaks("linux.netDevices: invalid network device name", with(json!({bad: {}})));
        }
        for bad in ["a b", ".", "sixteen_bytes_xx", "%d%d", "e%dx", "%s"] {
            breaks(
                "linux.netDevices[\"eth0\"].name: invalid network device name",
                with(json!({"eth0": {"name": bad}})),
            );
        }
    }

    #[test]
    fn no_two_devices_get_one_name() {
        breaks(
            "linux.netDevices[\"b\"].name: another device is named \"x\" already",
            with(json!({"a": {"name": "x"}, "b": {"name": "x"}})),
        );
        breaks(
            "linux.netDevices[\"b\"].name: another device is named \"a\"",
            with(json!({"a": {}, "b": {"name": "a"}})),
        );
        passes(with(json!({"a": {"name": "x%d"}, "b": {"name": "x%d"}})));
    }

    #[test]
    fn devices_need_a_network_namespace_and_privilege() {
        breaks("linux.netDevices: unable to move network devices without a NET namespace", |v| {
            with(json!({"eth0": {}}))(v);
            remove_namespace(v, "network");
        });
        let user = HostFacts { euid: 1000, ..facts() };
        let all = broken_on(&user, |v| {
            *v = crate::config::defaults::rootless(1000, 1000);
            add_namespace(v, "network", "");
            with(json!({"eth0": {}}))(v);
        });
        assert_eq!(all, ["linux.netDevices: network devices are not supported for rootless containers"]);
    }
}
