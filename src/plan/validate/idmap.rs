//! Id mappings (config-linux.md, "User namespace mappings"; user_namespaces(7)).

use super::namespaces::listed;
use super::{Findings, Spec};
use crate::config::linux::IdMapping;
use crate::plan::facts::HostFacts;
use crate::plan::tables::namespaces::NamespaceKind;
use crate::plan::user::MAX_ID;

/// Lines that the kernel takes in uid_map and gid_map (since Linux 4.15).
const MAX_LINES: usize = 340;

pub fn check(spec: &Spec, facts: &HostFacts, f: &mut Findings) {
    ranges("linux.uidMappings", &spec.linux.uid_mappings, f);
    ranges("linux.gidMappings", &spec.linux.gid_mappings, f);
    if listed(&spec.linux, NamespaceKind::User).is_some_and(|n| n.path.is_empty()) {
        root_is_mapped(spec, f);
        user_is_mapped(spec, facts, f);
    }
}

/// The rules of user_namespaces(7) for one list: at most 340 ranges, none empty, none past the last id, no two that
/// overlap on either side.
pub fn ranges(property: &str, map: &[IdMapping], f: &mut Findings) {
    if map.len() > MAX_LINES {
        f.violation(property, format!("{} ranges, the kernel takes {MAX_LINES}", map.len()));
        return;
    }
    for (i, m) in map.iter().enumerate() {
        let at = || format!("{property}[{i}]");
        if m.size == 0 {
            f.violation(at() + ".size", "size 0 maps no id");
        }
        for (side, first) in [("containerID", m.container_id), ("hostID", m.host_id)] {
            if first.checked_add(m.size).is_none() {
                f.violation(
                    at(),
                    format!("{side} {first} with size {} goes past the last id {MAX_ID}", m.size),
                );
            }
        }
        for (j, n) in map[..i].iter().enumerate() {
            for (side, a, b) in
                [("containerID", m.container_id, n.container_id), ("hostID", m.host_id, n.host_id)]
            {
                if overlap((a, m.size), (b, n.size)) {
                    f.violation(at(), format!("the {side} range overlaps the one of {property}[{j}]"));
                }
            }
        }
    }
}

fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    let end = |r: (u32, u32)| u64::from(r.0) + u64::from(r.1);
    a.1 > 0 && b.1 > 0 && u64::from(a.0) < end(b) && u64::from(b.0) < end(a)
}

fn has(map: &[IdMapping], id: u32) -> bool {
    map.iter().any(|m| id >= m.container_id && id - m.container_id < m.size)
}

/// The container's root sets the container up and owns its devices, so it has to exist.
fn root_is_mapped(spec: &Spec, f: &mut Findings) {
    let l = &spec.linux;
    for (property, what, map) in
        [("linux.uidMappings", "uid", &l.uid_mappings), ("linux.gidMappings", "gid", &l.gid_mappings)]
    {
        if !map.is_empty() && !has(map, 0) {
            f.violation(property, format!("user namespaces enabled, but no mapping found for {what} 0"));
        }
    }
}

/// config.md, "User": ids are ids of the container's user namespace. setgroups(2) needs a mapped group for each
/// additional one, and is denied altogether to an unprivileged user who maps a single group.
fn user_is_mapped(spec: &Spec, facts: &HostFacts, f: &mut Findings) {
    let Some(process) = &spec.process else { return };
    let (uids, gids, user) = (&spec.linux.uid_mappings, &spec.linux.gid_mappings, &process.user);
    if !uids.is_empty() && !has(uids, user.uid) {
        f.violation(
            "process.user.uid",
            format!("cannot setuid to unmapped uid {} in user namespace", user.uid),
        );
    }
    if gids.is_empty() {
        return;
    }
    if !has(gids, user.gid) {
        f.violation(
            "process.user.gid",
            format!("cannot setgid to unmapped gid {} in user namespace", user.gid),
        );
    }
    for (i, gid) in user.additional_gids.iter().enumerate() {
        if !has(gids, *gid) {
            f.violation(
                format!("process.user.additionalGids[{i}]"),
                format!("cannot set additional gid {gid}, which is unmapped in user namespace"),
            );
        }
    }
    if facts.euid != 0 && gids.len() == 1 && gids[0].size == 1 && !user.additional_gids.is_empty() {
        f.violation(
            "process.user.additionalGids",
            "cannot set any additional groups in a rootless container that maps a single group",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::plan::facts::HostFacts;
    use serde_json::{Value, json};

    fn maps(uids: Value) -> impl FnOnce(&mut Value) {
        move |v| {
            add_user_namespace(v);
            v["linux"]["uidMappings"] = uids;
        }
    }

    fn range(container: u32, host: u32, size: u32) -> Value {
        json!({"containerID": container, "hostID": host, "size": size})
    }

    #[test]
    fn ranges_of_sensible_size() {
        passes(maps(json!([range(0, 1000, 1), range(1, 100000, 65536)])));
        passes(maps(json!([range(0, 0, u32::MAX)])));
        breaks("linux.uidMappings[1].size: size 0 maps no id", maps(json!([range(0, 1, 1), range(5, 5, 0)])));
        breaks(
            "linux.uidMappings[1]: hostID 4294967295 with size 1 goes past the last id 4294967294",
            maps(json!([range(0, 1, 1), range(5, u32::MAX, 1)])),
        );
        breaks(
            "linux.uidMappings[1]: containerID 10 with size 4294967290",
            maps(json!([range(0, 1, 1), range(10, 2, u32::MAX - 5)])),
        );
    }

    #[test]
    fn ranges_do_not_overlap_on_either_side() {
        passes(maps(json!([range(0, 10, 10), range(10, 20, 10), range(20, 0, 10)])));
        breaks(
            "linux.uidMappings[1]: the containerID range overlaps the one of linux.uidMappings[0]",
            maps(json!([range(0, 10, 10), range(9, 20, 10)])),
        );
        breaks(
            "linux.uidMappings[1]: the hostID range overlaps the one of linux.uidMappings[0]",
            maps(json!([range(0, 10, 10), range(10, 19, 10)])),
        );
    }

    #[test]
    fn the_kernel_takes_340_lines() {
        let lines = |n: u32| (0..n).map(|i| range(i, 1000 + i, 1)).collect::<Value>();
        passes(maps(lines(340)));
        breaks("linux.uidMappings: 341 ranges, the kernel takes 340", maps(lines(341)));
    }

    #[test]
    fn root_and_the_user_are_mapped() {
        breaks("linux.uidMappings: user namespaces enabled, but no mapping found for uid 0", |v| {
            maps(json!([range(1000, 1000, 1)]))(v);
            v["process"]["user"]["uid"] = json!(1000);
        });
        breaks("process.user.uid: cannot setuid to unmapped uid 70000 in user namespace", |v| {
            add_user_namespace(v);
            v["process"]["user"]["uid"] = json!(70000);
        });
        breaks("process.user.gid: cannot setgid to unmapped gid 65536 in user namespace", |v| {
            add_user_namespace(v);
            v["process"]["user"]["gid"] = json!(65536);
        });
        breaks("process.user.additionalGids[1]: cannot set additional gid 65536", |v| {
            add_user_namespace(v);
            v["process"]["user"]["additionalGids"] = json!([65535, 65536]);
        });
        passes(|v| {
            add_namespace(v, "user", "/proc/5/ns/user");
            v["process"]["user"]["uid"] = json!(70000);
        });
    }

    #[test]
    fn a_user_with_one_group_sets_no_others() {
        let user = HostFacts { euid: 1000, egid: 1000, ..facts() };
        let with_groups = |groups: Value| {
            broken_on(&user, |v| {
                *v = crate::config::defaults::rootless(1000, 1000);
                v["process"]["user"]["additionalGids"] = groups;
            })
        };
        assert_eq!(with_groups(json!([0])).len(), 1);
        assert!(with_groups(json!([])).is_empty());
    }
}
