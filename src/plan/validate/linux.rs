//! The rest of `linux`: paths, labels, propagation, personality, resctrl, memory policy (config-linux.md).

use super::Findings;
use super::namespaces::is_listed;
use crate::config::linux::{IntelRdt, Linux, MemoryPolicy, Personality};
use crate::plan::cpu_list;
use crate::plan::facts::HostFacts;
use crate::plan::tables::mempolicy::{self, Nodes};
use crate::plan::tables::namespaces::{self, NamespaceKind};
use crate::plan::text::in_root;

pub fn check(linux: &Linux, facts: &HostFacts, f: &mut Findings) {
    cgroups_path(&linux.cgroups_path, f);
    if let Some(rdt) = &linux.intel_rdt {
        intel_rdt(rdt, facts, f);
    }
    if let Some(policy) = &linux.memory_policy {
        memory_policy(policy, f);
    }
    rootfs_propagation(&linux.rootfs_propagation, f);
    restricted_paths(linux, f);
    mount_label(&linux.mount_label, facts, f);
    if let Some(p) = &linux.personality {
        personality(p, f);
    }
}

/// "Cgroups Path": a path that stays where it says.
fn cgroups_path(path: &str, f: &mut Findings) {
    if path.split('/').any(|part| part == "..") {
        f.violation("linux.cgroupsPath", format!("{path:?} leads upwards with \"..\""));
    }
    f.no_nul(|| "linux.cgroupsPath".into(), path);
}

/// "IntelRdt": a class is one directory below resctrl, or `/` for its root; a schema is one line.
fn intel_rdt(rdt: &IntelRdt, facts: &HostFacts, f: &mut Findings) {
    if facts.resctrl.is_none() {
        f.hinted(
            "linux.intelRdt",
            "no resctrl file system is mounted",
            "mount -t resctrl resctrl /sys/fs/resctrl, where processor and kernel have it",
        );
    }
    let clos = rdt.clos_id.as_deref().unwrap_or_default();
    if clos == "." || clos == ".." || (clos.len() > 1 && clos.contains('/')) || clos.contains(['\0', '\n']) {
        f.violation("linux.intelRdt.closID", format!("invalid intelRdt.ClosID {clos:?}"));
    }
    let mut line = |property: &dyn Fn() -> String, text: &str| {
        if text.contains(['\n', '\0']) {
            f.violation(property(), format!("{text:?} is not one line"));
        }
    };
    line(&|| "linux.intelRdt.l3CacheSchema".into(), rdt.l3_cache_schema.as_deref().unwrap_or_default());
    line(&|| "linux.intelRdt.memBwSchema".into(), rdt.mem_bw_schema.as_deref().unwrap_or_default());
    for (i, schema) in rdt.schemata.iter().flatten().enumerate() {
        line(&|| format!("linux.intelRdt.schemata[{i}]"), schema);
    }
    if let Some(schema) = rdt.mem_bw_schema.as_deref().filter(|s| !s.is_empty() && !s.starts_with("MB:")) {
        f.violation("linux.intelRdt.memBwSchema", format!("{schema:?} does not begin with \"MB:\""));
    }
}

/// "Memory policy" and the combinations that set_mempolicy(2) takes.
fn memory_policy(p: &MemoryPolicy, f: &mut Findings) {
    let nodes = match cpu_list::parse(&p.nodes) {
        Ok(mask) => Some(mask.count()),
        Err(why) => {
            f.hinted(
                "linux.memoryPolicy.nodes",
                format!("invalid memory policy nodes {:?}: {why}", p.nodes),
                "a list like 0-3,7",
            );
            None
        }
    };
    let mut flags = 0;
    for (i, flag) in p.flags.iter().enumerate() {
        match mempolicy::flag(flag) {
            Some(bit) => flags |= bit,
            None => f.hinted(
                format!("linux.memoryPolicy.flags[{i}]"),
                format!("invalid memory policy flag {flag:?}"),
                format!("one of {}", mempolicy::flags().collect::<Vec<_>>().join(", ")),
            ),
        }
    }
    let Some((mode, wants)) = mempolicy::mode(&p.mode) else {
        f.hinted(
            "linux.memoryPolicy.mode",
            format!("invalid memory policy mode {:?}", p.mode),
            format!("one of {}", mempolicy::modes().collect::<Vec<_>>().join(", ")),
        );
        return;
    };
    match (wants, nodes) {
        (Nodes::None, Some(n)) if n > 0 => f.violation(
            "linux.memoryPolicy.nodes",
            format!("memory policy {}: mode requires 0 nodes but got {n}", p.mode),
        ),
        (Nodes::Required, Some(0)) => f.violation(
            "linux.memoryPolicy.nodes",
            format!("memory policy {}: mode requires at least one node but got 0", p.mode),
        ),
        _ => {}
    }
    memory_policy_flags(mode, nodes.map(|n| n > 0), flags, f);
}

/// set_mempolicy(2): static and relative nodes exclude each other and need nodes to speak of; balancing is for modes
/// that bind.
fn memory_policy_flags(mode: u32, nodes: Option<bool>, flags: u32, f: &mut Findings) {
    let kind = flags & (mempolicy::MPOL_F_STATIC_NODES | mempolicy::MPOL_F_RELATIVE_NODES);
    let mut refuse = |why: &str| f.violation("linux.memoryPolicy.flags", why);
    if kind.count_ones() == 2 {
        refuse("MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    let nowhere =
        mode == mempolicy::MPOL_LOCAL || (mode == mempolicy::MPOL_PREFERRED && nodes == Some(false));
    if kind != 0 && nowhere {
        refuse("MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES need nodes");
    }
    let binds = mode == mempolicy::MPOL_BIND || mode == mempolicy::MPOL_PREFERRED_MANY;
    if flags & mempolicy::MPOL_F_NUMA_BALANCING != 0 && !binds {
        refuse("MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY");
    }
}

/// "Rootfs Mount Propagation": a known one.
fn rootfs_propagation(name: &str, f: &mut Findings) {
    if !name.is_empty() && namespaces::propagation(name).is_none() {
        f.hinted(
            "linux.rootfsPropagation",
            format!("rootfsPropagation={} is not supported", name.escape_debug()),
            format!("one of {}", namespaces::propagation_names().collect::<Vec<_>>().join(", ")),
        );
    }
}

/// "Masked Paths" and "Readonly Paths": in a mount namespace of the container. A relative one is below the container's
/// root too, as every runtime takes it.
fn restricted_paths(linux: &Linux, f: &mut Findings) {
    let lists = [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)];
    for (name, list) in lists {
        if !list.is_empty() && !is_listed(linux, NamespaceKind::Mount) {
            f.hinted(
                format!("linux.{name}"),
                "unable to restrict sys entries without a private MNT namespace",
                "add {\"type\": \"mount\"} to linux.namespaces",
            );
        }
        for (i, path) in list.iter().enumerate() {
            if path.is_empty() {
                f.violation(format!("linux.{name}[{i}]"), "it is empty");
            }
            if name == "maskedPaths" && !path.is_empty() && in_root(path).is_empty() {
                let what =
                    format!("{path:?} is the root directory, and nothing of the container would remain");
                f.violation(format!("linux.{name}[{i}]"), what);
            }
            f.no_nul(|| format!("linux.{name}[{i}]"), path);
        }
    }
}

/// "Mount Label": SELinux is required.
fn mount_label(label: &str, facts: &HostFacts, f: &mut Findings) {
    if !label.is_empty() && !facts.selinux {
        f.hinted(
            "linux.mountLabel",
            "selinux label is specified in config, but selinux is disabled or not supported",
            "remove it, or enable SELinux on the host",
        );
    }
    f.no_nul(|| "linux.mountLabel".into(), label);
}

/// "Personality": a known domain, and no flags, because none are defined.
fn personality(p: &Personality, f: &mut Findings) {
    if namespaces::personality(&p.domain).is_none() {
        f.hinted(
            "linux.personality.domain",
            format!("invalid personality domain {:?}", p.domain),
            "LINUX or LINUX32",
        );
    }
    if !p.flags.is_empty() {
        f.violation(
            "linux.personality.flags",
            format!("unsupported personality flags: {:?}; no flags are defined", p.flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::plan::facts::HostFacts;
    use serde_json::{Value, json};

    fn set(property: &'static str, value: Value) -> impl FnOnce(&mut Value) {
        move |v| v["linux"][property] = value
    }

    #[test]
    fn cgroup_paths() {
        for ok in ["/a/b", "a", "system.slice:orun:c1", "/a..b/..."] {
            passes(set("cgroupsPath", json!(ok)));
        }
        breaks("linux.cgroupsPath: \"/a/../../b\" leads upwards", set("cgroupsPath", json!("/a/../../b")));
        breaks("linux.cgroupsPath: \"a\\0\"", set("cgroupsPath", json!("a\0")));
    }

    #[test]
    fn resctrl() {
        passes(set("intelRdt", json!({"closID": "/", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"})));
        passes(set(
            "intelRdt",
            json!({"closID": "guaranteed", "schemata": ["L2:0=f", "MB:0=7"], "enableMonitoring": true}),
        ));
        let bare = HostFacts { resctrl: None, ..facts() };
        let told = broken_on(&bare, set("intelRdt", json!({})));
        assert!(told[0].starts_with("linux.intelRdt: no resctrl file system is mounted"), "{told:?}");
        assert!(broken_on(&bare, |_| ()).is_empty());
        for bad in [".", "..", "a/b", "/a", "a\n"] {
            breaks("linux.intelRdt.closID: invalid intelRdt.ClosID", set("intelRdt", json!({"closID": bad})));
        }
        breaks(
            "linux.intelRdt.memBwSchema: \"L3:0=f\" does not begin",
            set("intelRdt", json!({"memBwSchema": "L3:0=f"})),
        );
        breaks(
            "linux.intelRdt.memBwSchema: \"MB:0=1\\nL3:0=f\" is not one line",
            set("intelRdt", json!({"memBwSchema": "MB:0=1\nL3:0=f"})),
        );
        breaks("linux.intelRdt.l3CacheSchema: ", set("intelRdt", json!({"l3CacheSchema": "L3:0=f\n"})));
        breaks("linux.intelRdt.schemata[1]: ", set("intelRdt", json!({"schemata": ["L3:0=f", "a\nb"]})));
    }

    fn policy(mode: &str, nodes: &str, flags: &[&str]) -> impl FnOnce(&mut Value) {
        set("memoryPolicy", json!({"mode": mode, "nodes": nodes, "flags": flags}))
    }

    #[test]
    fn memory_policy_modes_and_nodes() {
        passes(policy("MPOL_INTERLEAVE", "2-3", &["MPOL_F_STATIC_NODES"]));
        passes(policy("MPOL_DEFAULT", "", &[]));
        passes(policy("MPOL_PREFERRED", "", &[]));
        passes(policy("MPOL_PREFERRED", "1", &["MPOL_F_RELATIVE_NODES"]));
        passes(policy("MPOL_BIND", "0", &["MPOL_F_NUMA_BALANCING"]));
        breaks("linux.memoryPolicy.mode: invalid memory policy mode \"bind\"", policy("bind", "0", &[]));
        breaks("linux.memoryPolicy.mode: invalid memory policy mode \"\"", set("memoryPolicy", json!({})));
        breaks(
            "linux.memoryPolicy.nodes: invalid memory policy nodes \"0-x\": ",
            policy("MPOL_BIND", "0-x", &[]),
        );
        breaks(
            "linux.memoryPolicy.nodes: memory policy MPOL_LOCAL: mode requires 0 nodes but got 3",
            policy("MPOL_LOCAL", "0,2-3", &[]),
        );
        for mode in ["MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED_MANY"] {
            let text =
                format!("linux.memoryPolicy.nodes: memory policy {mode}: mode requires at least one node");
            breaks(&text, policy(mode, "", &[]));
        }
    }

    #[test]
    fn memory_policy_flags() {
        let at = "linux.memoryPolicy.flags";
        breaks(&format!("{at}[0]: invalid memory policy flag \"X\""), policy("MPOL_BIND", "0", &["X"]));
        breaks(
            &format!("{at}: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude"),
            policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]),
        );
        breaks(
            &format!("{at}: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES need nodes"),
            policy("MPOL_PREFERRED", "", &["MPOL_F_STATIC_NODES"]),
        );
        breaks(
            &format!("{at}: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES need nodes"),
            policy("MPOL_LOCAL", "", &["MPOL_F_RELATIVE_NODES"]),
        );
        breaks(
            &format!("{at}: MPOL_F_NUMA_BALANCING is for"),
            policy("MPOL_INTERLEAVE", "0", &["MPOL_F_NUMA_BALANCING"]),
        );
    }

    #[test]
    fn propagation() {
        for ok in ["", "shared", "slave", "private", "unbindable", "rslave"] {
            passes(set("rootfsPropagation", json!(ok)));
        }
        breaks(
            "linux.rootfsPropagation: rootfsPropagation=Shared is not supported",
            set("rootfsPropagation", json!("Shared")),
        );
    }

    #[test]
    fn masked_and_read_only_paths() {
        passes(set("maskedPaths", json!(["/a", "/b/../c"])));
        passes(set("maskedPaths", json!(["/a", "proc/kcore"])));
        breaks("linux.maskedPaths[0]: \"a/..\" is the root directory", set("maskedPaths", json!(["a/.."])));
        breaks("linux.readonlyPaths[0]: it is empty", set("readonlyPaths", json!([""])));
        breaks("linux.readonlyPaths[0]: \"/a\\0\"", set("readonlyPaths", json!(["/a\0"])));
        let all = broken(|v| remove_namespace(v, "mount"));
        let phrase = "unable to restrict sys entries without a private MNT namespace";
        assert!(all.len() == 2, "{all:?}");
        assert!(all[0].starts_with(&format!("linux.maskedPaths: {phrase}")), "{all:?}");
        assert!(all[1].starts_with(&format!("linux.readonlyPaths: {phrase}")), "{all:?}");
    }

    #[test]
    fn mount_labels_need_selinux() {
        passes(set("mountLabel", json!("u:o:t:s0")));
        let bare = HostFacts { selinux: false, ..facts() };
        let all = broken_on(&bare, set("mountLabel", json!("l")));
        assert!(
            all.len() == 1 && all[0].starts_with("linux.mountLabel: selinux label is specified"),
            "{all:?}"
        );
        breaks("linux.mountLabel: \"l\\0\"", set("mountLabel", json!("l\0")));
    }

    #[test]
    fn personalities() {
        passes(set("personality", json!({"domain": "LINUX32"})));
        breaks("linux.personality.domain: invalid personality domain \"\"", set("personality", json!({})));
        breaks(
            "linux.personality.flags: unsupported personality flags: [\"X\"]",
            set("personality", json!({"domain": "LINUX", "flags": ["X"]})),
        );
    }
}
