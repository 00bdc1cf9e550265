//! Device rules as properties. systemd knows allowances only, so that the properties let through a little more than
//! rules with exceptions do; the filter of orun is loaded in addition to systemd's and is exact. Both must let an access through.

use super::{Property, Value};
use crate::plan::device_filter::{self, DeviceKind, Rule};

const BECAUSE: &str = "linux.resources.devices";

/// `DevicePolicy` and `DeviceAllow` (systemd.resource-control(5)).
pub(super) fn properties(rules: &[Rule]) -> Vec<Property> {
    let (all, rest) = match rules.iter().rposition(|r| r.devices.is_none()) {
        Some(i) => (rules[i].allow, &rules[i + 1..]),
        None => (false, rules),
    };
    let mut allow: Vec<Value> = Vec::new();
    for r in rest.iter().filter(|r| r.allow && !all) {
        let Some(d) = r.devices else { continue };
        let (path, group) = match d.kind {
            DeviceKind::Block => ("/dev/block", "block"),
            DeviceKind::Char => ("/dev/char", "char"),
        };
        let node = match (d.major, d.minor) {
            (Some(major), Some(minor)) => format!("{path}/{major}:{minor}"),
            (Some(major), None) => format!("{group}-{major}"),
            // systemd cannot express one minor number of all majors.
            (None, _) => format!("{group}-*"),
        };
        let entry = Value::Struct(vec![Value::Str(node), Value::Str(access(r.access))]);
        if !allow.contains(&entry) {
            allow.push(entry);
        }
    }
    let policy = if all { "auto" } else { "strict" };
    vec![
        Property::new("DevicePolicy", Value::text(policy), BECAUSE),
        Property::new("DeviceAllow", Value::Array("(ss)".into(), allow), BECAUSE),
    ]
}

fn access(bits: u8) -> String {
    [(device_filter::READ, 'r'), (device_filter::WRITE, 'w'), (device_filter::MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}
