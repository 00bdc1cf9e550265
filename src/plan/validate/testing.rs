//! Helpers for the tests of the rules: a valid configuration, and ways to make it invalid.

use super::*;
use crate::config::{defaults, parse};
use serde_json::Value;

/// Facts of a host that offers everything.
pub fn facts() -> HostFacts {
    HostFacts {
        initial_userns: true,
        capabilities: (1 << 41) - 1,
        cap_last: 40,
        apparmor: true,
        selinux: true,
        resctrl: Some("/sys/fs/resctrl".into()),
        ..HostFacts::default()
    }
}

/// The default configuration, changed by `change`.
pub fn spec(change: impl FnOnce(&mut Value)) -> Spec {
    let mut v = defaults::spec();
    change(&mut v);
    parse::json(v.to_string().as_bytes(), "config.json").unwrap()
}

/// The violations of the default configuration after `change`, rendered.
pub fn broken(change: impl FnOnce(&mut Value)) -> Vec<String> {
    broken_on(&facts(), change)
}

/// As [`broken`], on a host with these facts.
pub fn broken_on(facts: &HostFacts, change: impl FnOnce(&mut Value)) -> Vec<String> {
    validate(&spec(change), facts).0.iter().map(ToString::to_string).collect()
}

/// The warnings about the default configuration after `change`.
pub fn warned(change: impl FnOnce(&mut Value)) -> Vec<String> {
    validate(&spec(change), &facts()).1
}

/// Asserts that `change` breaks exactly one rule, whose text begins with `text`.
#[track_caller]
pub fn breaks(text: &str, change: impl FnOnce(&mut Value)) {
    let all = broken(change);
    assert!(all.len() == 1 && all[0].starts_with(text), "expected one violation {text:?}, got {all:#?}");
}

/// Asserts that `change` breaks no rule and warns of nothing.
#[track_caller]
pub fn passes(change: impl FnOnce(&mut Value)) {
    let (violations, warnings) = validate(&spec(change), &facts());
    assert!(violations.is_empty() && warnings.is_empty(), "{violations:#?} {warnings:#?}");
}

/// Adds a namespace to the configuration, with a path unless it is empty.
pub fn add_namespace(v: &mut Value, kind: &str, path: &str) {
    remove_namespace(v, kind);
    v["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": kind, "path": path }));
}

/// Takes a namespace out of the configuration.
pub fn remove_namespace(v: &mut Value, kind: &str) {
    v["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != kind);
}

/// Gives the configuration a user namespace that maps the ids 0 to 65535 to 100000 and on.
pub fn add_user_namespace(v: &mut Value) {
    add_namespace(v, "user", "");
    let map = serde_json::json!([{ "containerID": 0, "hostID": 100000, "size": 65536 }]);
    v["linux"]["uidMappings"] = map.clone();
    v["linux"]["gidMappings"] = map;
}
