//! `linux.namespaces` and `linux.timeOffsets` (config-linux.md, "Namespaces" and "Offset for Time Namespace").

use super::Findings;
use crate::config::linux::{Linux, Namespace};
use crate::plan::facts::HostFacts;
use crate::plan::tables::namespaces::NamespaceKind;

/// The entry for `kind`, if the container does not stay in the runtime's namespace.
pub fn listed(linux: &Linux, kind: NamespaceKind) -> Option<&Namespace> {
    linux.namespaces.iter().find(|n| n.kind == kind.name())
}

/// The container has a namespace of this kind, new or joined.
pub fn is_listed(linux: &Linux, kind: NamespaceKind) -> bool {
    listed(linux, kind).is_some()
}

pub fn check(linux: &Linux, facts: &HostFacts, f: &mut Findings) {
    kinds(linux, f);
    paths(linux, f);
    user_namespace(linux, facts, f);
    time_offsets(linux, f);
}

/// Types are known, and each appears once.
fn kinds(linux: &Linux, f: &mut Findings) {
    for (i, n) in linux.namespaces.iter().enumerate() {
        if NamespaceKind::from_name(&n.kind).is_none() {
            let names: Vec<_> = NamespaceKind::ALL.iter().map(|k| k.name()).collect();
            f.hinted(
                format!("linux.namespaces[{i}].type"),
                format!("namespace {:?} does not exist", n.kind),
                format!("one of {}", names.join(", ")),
            );
        } else if linux.namespaces[..i].iter().any(|m| m.kind == n.kind) {
            f.violation(
                format!("linux.namespaces[{i}].type"),
                format!("malformed spec file: duplicated ns {:?}", n.kind),
            );
        }
    }
}

/// A path is absolute in the runtime's mount namespace.
fn paths(linux: &Linux, f: &mut Findings) {
    for (i, n) in linux.namespaces.iter().enumerate() {
        if !n.path.is_empty() && !n.path.starts_with('/') {
            f.violation(format!("linux.namespaces[{i}].path"), format!("path {:?} is not absolute", n.path));
        }
        f.no_nul(|| format!("linux.namespaces[{i}].path"), &n.path);
    }
}

/// config-linux.md, "User namespace mappings": mappings belong to a user namespace, and a new one needs both.
/// Mappings next to a path are taken: containerd and CRI-O write both, and joining compares them.
fn user_namespace(linux: &Linux, facts: &HostFacts, f: &mut Findings) {
    let add = "add {\"type\": \"user\"} to linux.namespaces";
    let Some(ns) = listed(linux, NamespaceKind::User) else {
        for (property, map) in
            [("linux.uidMappings", &linux.uid_mappings), ("linux.gidMappings", &linux.gid_mappings)]
        {
            if !map.is_empty() {
                f.hinted(
                    property,
                    "user namespace mappings specified, but user namespace isn't enabled in the config",
                    add,
                );
            }
        }
        if facts.euid != 0 {
            f.hinted("linux.namespaces", "rootless container requires user namespaces", add);
        }
        return;
    };
    if !ns.path.is_empty() {
        return;
    }
    match (linux.uid_mappings.is_empty(), linux.gid_mappings.is_empty()) {
        (true, true) => f.hinted(
            "linux.uidMappings",
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
            "for example [{\"containerID\": 0, \"hostID\": 100000, \"size\": 65536}], and linux.gidMappings",
        ),
        (true, false) => {
            f.violation("linux.uidMappings", "user namespaces enabled, but no uid mappings found")
        }
        (false, true) => {
            f.violation("linux.gidMappings", "user namespaces enabled, but no gid mappings found")
        }
        (false, false) => {}
    }
}

/// time_namespaces(7): offsets are for the clocks of a new time namespace, with less than a second in `nanosecs`.
fn time_offsets(linux: &Linux, f: &mut Findings) {
    if linux.time_offsets.is_empty() {
        return;
    }
    match listed(linux, NamespaceKind::Time) {
        None => f.hinted(
            "linux.timeOffsets",
            "time namespace offsets specified, but time namespace isn't enabled in the config",
            "add {\"type\": \"time\"} to linux.namespaces",
        ),
        Some(n) if !n.path.is_empty() => f.violation(
            "linux.timeOffsets",
            "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
        ),
        Some(_) => {}
    }
    for (clock, offset) in &linux.time_offsets {
        if clock != "monotonic" && clock != "boottime" {
            f.violation("linux.timeOffsets", format!("clock {clock:?} is not monotonic or boottime"));
        }
        if offset.nanosecs >= 1_000_000_000 {
            f.violation(
                format!("linux.timeOffsets[{clock:?}].nanosecs"),
                format!("{} is a second or more", offset.nanosecs),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::plan::facts::HostFacts;
    use serde_json::json;

    #[test]
    fn unknown_and_repeated_types() {
        breaks(
            "linux.namespaces[6].type: namespace \"mnt\" does not exist (hint: one of cgroup, ipc,",
            |v| add_namespace(v, "mnt", ""),
        );
        breaks("linux.namespaces[6].type: malformed spec file: duplicated ns \"pid\"", |v| {
            v["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "pid"}))
        });
        passes(|v| add_namespace(v, "time", ""));
    }

    #[test]
    fn paths_are_absolute() {
        breaks("linux.namespaces[5].path: path \"run/ns\" is not absolute", |v| {
            add_namespace(v, "network", "run/ns")
        });
        breaks("linux.namespaces[5].path: \"/a\\0\"", |v| add_namespace(v, "network", "/a\0"));
        passes(|v| add_namespace(v, "network", "/run/netns/a"));
        passes(|v| add_namespace(v, "network", ""));
    }

    #[test]
    fn mappings_and_the_user_namespace_go_together() {
        passes(add_user_namespace);
        let outside = "user namespace mappings specified, but user namespace isn't enabled in the config";
        let all = broken(|v| {
            add_user_namespace(v);
            remove_namespace(v, "user");
        });
        assert_eq!(all.len(), 2);
        assert!(all[0].starts_with(&format!("linux.uidMappings: {outside}")), "{all:?}");
        assert!(all[1].starts_with(&format!("linux.gidMappings: {outside}")), "{all:?}");
        breaks(
            "linux.uidMappings: user namespaces enabled, but no namespace path to join nor mappings",
            |v| add_namespace(v, "user", ""),
        );
        breaks("linux.gidMappings: user namespaces enabled, but no gid mappings found", |v| {
            add_user_namespace(v);
            v["linux"]["gidMappings"] = json!([]);
        });
        breaks("linux.uidMappings: user namespaces enabled, but no uid mappings found", |v| {
            add_user_namespace(v);
            v["linux"]["uidMappings"] = json!(null);
        });
    }

    #[test]
    fn a_joined_user_namespace_needs_no_mappings_and_takes_them() {
        passes(|v| add_namespace(v, "user", "/proc/5/ns/user"));
        passes(|v| {
            add_user_namespace(v);
            add_namespace(v, "user", "/proc/5/ns/user");
        });
    }

    #[test]
    fn without_privilege_a_user_namespace_is_needed() {
        let user = HostFacts { euid: 1000, egid: 1000, ..facts() };
        let all = broken_on(&user, |_| {});
        assert!(all.len() == 1, "{all:?}");
        assert!(
            all[0].starts_with("linux.namespaces: rootless container requires user namespaces"),
            "{all:?}"
        );
        assert!(broken_on(&user, |v| *v = crate::config::defaults::rootless(1000, 1000)).is_empty());
    }

    #[test]
    fn time_offsets() {
        let offsets = json!({"monotonic": {"secs": -5}, "boottime": {"nanosecs": 999_999_999}});
        passes(|v| {
            add_namespace(v, "time", "");
            v["linux"]["timeOffsets"] = offsets.clone();
        });
        breaks("linux.timeOffsets: time namespace offsets specified, but time namespace isn't", |v| {
            v["linux"]["timeOffsets"] = offsets.clone()
        });
        breaks("linux.timeOffsets: time namespace enabled, but both namespace path and time offsets", |v| {
            add_namespace(v, "time", "/proc/5/ns/time");
            v["linux"]["timeOffsets"] = offsets.clone();
        });
        breaks("linux.timeOffsets: clock \"realtime\" is not monotonic or boottime", |v| {
            add_namespace(v, "time", "");
            v["linux"]["timeOffsets"] = json!({"realtime": {"secs": 1}});
        });
        breaks("linux.timeOffsets[\"boottime\"].nanosecs: 1000000000 is a second or more", |v| {
            add_namespace(v, "time", "");
            v["linux"]["timeOffsets"] = json!({"boottime": {"nanosecs": 1_000_000_000}});
        });
    }
}
