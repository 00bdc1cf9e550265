//! Readers that others wrote. What they make of a bundle, a cgroup or a process does not depend on our reading of the
//! specifications.

use crate::cgroup::{self, Layout};
use crate::check::{Context, Done, Result, fail};
use cgroups_rs::{Cgroup, hierarchies};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Valid in runtime-spec 1.3, and refused or dropped by oci-spec 0.10: one flag has another name there, and properties that
/// nobody knows, which some cases have, are not kept.
const NOT_KNOWN: [&str; 5] =
    ["/process/scheduler/flags", "/moon", "/process/moon", "/linux/moon", "/linux/resources/moon"];

/// Demands that oci-spec reads this configuration and, written again, has every value that is in it.
///
/// # Errors
/// It does not.
pub fn reads_with_oci_spec(config: &Value) -> Done {
    let mut config = config.clone();
    for pointer in NOT_KNOWN {
        let (object, key) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(object) = config.pointer_mut(object).and_then(Value::as_object_mut) {
            object.remove(key);
        }
    }
    for set in
        config["process"]["capabilities"].as_object_mut().into_iter().flat_map(|sets| sets.values_mut())
    {
        crate::bundle::retain(set, |name| name != "CAP_MOON");
    }
    // It demands a user, who is root in the specification when there is none.
    if let Some(process) = config["process"].as_object_mut() {
        process.entry("user").or_insert_with(|| json!({"uid": 0, "gid": 0}));
    }
    let spec: Spec = serde_json::from_value(config.clone()).context("oci-spec does not read config.json")?;
    let back = serde_json::to_value(&spec).context("oci-spec does not write what it has read")?;
    match lost(&config, &back, "") {
        Some(place) => fail(format!("oci-spec reads another value at {place}")),
        None => Ok(()),
    }
}

/// The first place at which `back` lacks a value of `config`, or has another one.
fn lost(config: &Value, back: &Value, at: &str) -> Option<String> {
    match (config, back) {
        (Value::Object(a), Value::Object(b)) => a.iter().find_map(|(key, value)| {
            let place = format!("{at}/{key}");
            match b.get(key) {
                Some(other) => lost(value, other, &place),
                // Not written when they say nothing.
                None if value.is_null() || value == &json!([]) || value == &json!({}) => None,
                None => Some(place),
            }
        }),
        // Capabilities are sets there, without an order.
        (Value::Array(a), Value::Array(b)) if at.starts_with("/process/capabilities/") => {
            let all = |list: &[Value]| list.iter().map(Value::to_string).collect::<BTreeSet<_>>();
            (all(a) != all(b)).then(|| at.to_owned())
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(n, (a, b))| lost(a, b, &format!("{at}/{n}")))
        }
        _ if config == back => None,
        _ => Some(format!("{at} ({config} became {back})")),
    }
}

/// The cgroup of a process, as cgroups-rs finds it.
///
/// # Errors
/// The process is in no cgroup of the controller `memory`, or of version 2.
pub fn cgroup_of(pid: i32) -> Result<Cgroup> {
    let controller = if cgroup::layout() == Layout::V2 { "" } else { "memory" };
    let dir = cgroup::dir_of(pid, controller)?;
    let path = dir.strip_prefix(cgroup::mount_point(controller)?).context("the path of a cgroup")?.to_owned();
    Ok(Cgroup::load(hierarchies::auto(), path))
}
