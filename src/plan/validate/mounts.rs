//! `mounts` (config.md, "Mounts").

use super::namespaces::listed;
use super::{Findings, Spec, idmap};
use crate::config::procfs;
use crate::config::spec::Mount;
use crate::plan::facts::HostFacts;
use crate::plan::tables::mount_options::{Idmap, MountOptions, parse_options};
use crate::plan::tables::namespaces::NamespaceKind;

pub fn check(spec: &Spec, facts: &HostFacts, f: &mut Findings) {
    for (i, m) in spec.mounts.iter().enumerate() {
        let options = parse_options(&m.options);
        strings(i, m, f);
        destination(i, m, f);
        kind(i, m, &options, f);
        options_apply(i, m, &options, f);
        proc_is_kept(i, m, &options, f);
        id_mapping(i, m, &options, spec, facts, f);
    }
}

/// Arguments of system calls must not contain a NUL byte.
fn strings(i: usize, m: &Mount, f: &mut Findings) {
    let fields = [("destination", &m.destination), ("type", &m.kind), ("source", &m.source)];
    for (name, value) in fields {
        if value.contains('\0') {
            f.violation(format!("mounts[{i}].{name}"), format!("mount field contains null byte: {value:?}"));
        }
    }
    for (j, option) in m.options.iter().enumerate() {
        f.no_nul(|| format!("mounts[{i}].options[{j}]"), option);
    }
}

/// A destination is required. A relative one is deprecated and means one below `/`.
fn destination(i: usize, m: &Mount, f: &mut Findings) {
    if m.destination.is_empty() {
        f.violation(format!("mounts[{i}].destination"), "it is required");
    } else if !m.destination.starts_with('/') {
        f.warning(format!(
            "mounts[{i}].destination: relative destination path is **deprecated**, using {:?} as relative to /",
            m.destination
        ));
    }
}

/// A mount is a bind mount if its options say so; every other one needs a file system type, and a bind mount
/// a source.
fn kind(i: usize, m: &Mount, options: &MountOptions, f: &mut Findings) {
    if options.bind {
        if m.source.is_empty() && !options.remount {
            f.violation(
                format!("mounts[{i}].source"),
                "a bind mount needs a source: no such file or directory",
            );
        }
    } else if m.kind == "bind" {
        f.hinted(
            format!("mounts[{i}].type"),
            "\"bind\" is not a file system type",
            "a mount is a bind mount when \"bind\" or \"rbind\" is among its options",
        );
    } else if m.kind.is_empty() && !options.remount {
        f.hinted(
            format!("mounts[{i}].type"),
            "a mount that is not a bind mount needs a file system type",
            "name one of /proc/filesystems, or add \"bind\" to the options",
        );
    }
}

/// The file system of a bind mount exists already, and the kernel ignores its other options: so does
/// mount(8) with parameters like `size=1m`, whose behaviour config.md asks for. A word alone is refused, as it may be
/// a flag with a slip in it, `readonly` say, without which the mount would be another one.
fn data_of_bind(i: usize, options: &MountOptions, f: &mut Findings) {
    let (parameters, words): (Vec<&str>, Vec<&str>) =
        options.data.iter().map(String::as_str).partition(|o| o.contains('='));
    if !words.is_empty() {
        f.hinted(
            format!("mounts[{i}].options"),
            format!(
                "bind mounts cannot have any filesystem-specific options applied, got {:?}",
                words.join(",")
            ),
            "the options that bind mounts can have are in the mountOptions of `orun features`",
        );
    }
    if !parameters.is_empty() {
        f.warning(format!(
            "mounts[{i}].options: {:?} has no effect on a bind mount, whose file system exists already",
            parameters.join(",")
        ));
    }
}

/// Options that have no effect on this mount are refused rather than dropped.
fn options_apply(i: usize, m: &Mount, options: &MountOptions, f: &mut Findings) {
    let at = || format!("mounts[{i}].options");
    for why in &options.invalid {
        f.violation(at(), format!("invalid option {why}"));
    }
    if options.bind {
        data_of_bind(i, options, f);
    }
    if options.tmpcopyup && (options.bind || m.kind != "tmpfs") {
        f.violation(at(), "\"tmpcopyup\" is for mounts of type tmpfs");
    }
    if options.src_nofollow && !options.bind {
        f.violation(at(), "\"src-nofollow\" is for bind mounts");
    }
}

/// A process that sees another /proc than the kernel's cannot be confined through it (CVE-2019-16884), so only a
/// proc file system or a bind mount of one goes there, and nothing below it but [`procfs::FILES`]. Whether the source
/// of a bind mount is one shows when it is opened, and symbolic links when the destination is.
fn proc_is_kept(i: usize, m: &Mount, options: &MountOptions, f: &mut Findings) {
    let path = procfs::lexical(&m.destination);
    if path == "/proc" {
        if !options.bind && m.kind != "proc" {
            f.violation(
                format!("mounts[{i}].destination"),
                "\"/proc\" cannot be mounted because it is not of type proc",
            );
        }
    } else if procfs::is_reserved(&path) {
        f.violation(
            format!("mounts[{i}].destination"),
            format!("{path:?} cannot be mounted because it is inside /proc"),
        );
    }
}

/// File systems that show a namespace, which has its own ids.
const OF_NAMESPACES: [&str; 6] = ["cgroup", "cgroup2", "devpts", "mqueue", "proc", "sysfs"];

/// config.md, "Mounts", `idmap`, `uidMappings`: mappings come in pairs, valid ones; an option without mappings takes
/// those of the container's user namespace, which is then required. Empty lists are the same as none.
fn id_mapping(i: usize, m: &Mount, options: &MountOptions, spec: &Spec, facts: &HostFacts, f: &mut Findings) {
    let at = |what: &str| format!("mounts[{i}].{what}");
    let uids = m.uid_mappings.as_deref().unwrap_or_default();
    let gids = m.gid_mappings.as_deref().unwrap_or_default();
    if options.idmap.is_none() && uids.is_empty() && gids.is_empty() {
        return;
    }
    if options.tmpcopyup {
        f.violation(at("options"), "\"tmpcopyup\" cannot be combined with an id-mapped mount");
    }
    if options.remount {
        f.violation(at("options"), "a remount cannot be id-mapped");
    }
    if !options.bind && OF_NAMESPACES.contains(&m.kind.as_str()) {
        f.violation(at("type"), format!("a file system of type {:?} cannot be id-mapped", m.kind));
    }
    if facts.euid != 0 {
        f.violation(at("options"), "id-mapped mounts are not supported for rootless containers");
    }
    if uids.is_empty() != gids.is_empty() {
        let missing = if uids.is_empty() { "uidMappings" } else { "gidMappings" };
        f.violation(at(missing), "id-mapped mounts must have both uid and gid mappings specified");
    }
    idmap::ranges(&at("uidMappings"), uids, f);
    idmap::ranges(&at("gidMappings"), gids, f);
    let own = options.idmap.as_ref().filter(|o| !o.uids.is_empty());
    if let Some(own) = own {
        option_ranges(&at("options"), own, spec, f);
        if !uids.is_empty() || !gids.is_empty() {
            f.violation(at("options"), "the option has its own ranges next to uidMappings and gidMappings");
        }
    } else if uids.is_empty() && gids.is_empty() && listed(&spec.linux, NamespaceKind::User).is_none() {
        f.hinted(
            at("options"),
            "an id-mapped mount without mappings takes those of the container's user namespace, and there is none",
            "give uidMappings and gidMappings to the mount",
        );
    }
}

/// The ranges of an `idmap=` option: valid ones, and relative ones lie in a mapping of the container.
fn option_ranges(at: &str, own: &Idmap, spec: &Spec, f: &mut Findings) {
    let lists = [(&own.uids, &spec.linux.uid_mappings), (&own.gids, &spec.linux.gid_mappings)];
    for (list, container) in lists {
        let absolute: Vec<_> = list.iter().filter_map(|r| r.absolute(container)).collect();
        if absolute.len() < list.len() {
            f.hinted(
                at,
                "could not find a user namespace mapping that holds a relative range",
                "linux.uidMappings and linux.gidMappings have to map the ids after \"@\"",
            );
        }
        idmap::ranges(at, &absolute, f);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::config::procfs::lexical;
    use crate::plan::facts::HostFacts;
    use serde_json::{Value, json};

    /// Adds a mount as number 7 to the default ones.
    fn with(mount: Value) -> impl FnOnce(&mut Value) {
        move |v| v["mounts"].as_array_mut().unwrap().push(mount)
    }

    fn bind(options: Value) -> Value {
        json!({"destination": "/d", "source": "/s", "options": options})
    }

    #[test]
    fn fields_have_no_null_bytes() {
        for (field, mount) in [
            ("destination", json!({"destination": "/d\0", "source": "s", "type": "tmpfs"})),
            ("source", json!({"destination": "/d", "source": "s\0", "type": "tmpfs"})),
            ("type", json!({"destination": "/d", "source": "s", "type": "tmpfs\0"})),
        ] {
            breaks(&format!("mounts[7].{field}: mount field contains null byte"), with(mount));
        }
        let mount = json!({"destination": "/d", "source": "s", "type": "tmpfs", "options": ["a", "b\0"]});
        breaks("mounts[7].options[1]: ", with(mount));
    }

    #[test]
    fn destinations() {
        breaks("mounts[7].destination: it is required", with(json!({"source": "/s", "options": ["bind"]})));
        let relative = || with(json!({"destination": "d", "source": "/s", "options": ["bind"]}));
        assert!(broken(relative()).is_empty());
        let warnings = warned(relative());
        assert!(warnings.len() == 1 && warnings[0].contains("relative destination path is **deprecated**"));
        passes(with(bind(json!(["rbind", "rw"]))));
    }

    #[test]
    fn types_and_sources() {
        breaks(
            "mounts[7].source: a bind mount needs a source",
            with(json!({"destination": "/d", "options": ["bind"]})),
        );
        breaks(
            "mounts[7].type: \"bind\" is not a file system type",
            with(json!({"destination": "/d", "type": "bind"})),
        );
        breaks("mounts[7].type: a mount that is not a bind mount needs", with(json!({"destination": "/d"})));
        passes(with(json!({"destination": "/d", "options": ["remount", "ro"]})));
        passes(with(json!({"destination": "/d", "type": "bind", "source": "s", "options": ["bind"]})));
        passes(with(json!({"destination": "/d", "type": "ext4", "source": "/dev/sda"})));
    }

    #[test]
    fn options_have_to_apply() {
        breaks(
            "mounts[7].options: bind mounts cannot have any filesystem-specific options applied, got \"x,readonly\"",
            with(bind(json!(["rbind", "size=1", "x", "readonly"]))),
        );
        let sized = || with(bind(json!(["bind", "size=1", "mode=755"])));
        assert!(broken(sized()).is_empty());
        assert!(warned(sized())[0].starts_with("mounts[7].options: \"size=1,mode=755\" has no effect"));
        breaks(
            "mounts[7].options: \"tmpcopyup\" is for mounts of type tmpfs",
            with(bind(json!(["bind", "tmpcopyup"]))),
        );
        breaks(
            "mounts[7].options: \"src-nofollow\" is for bind mounts",
            with(json!({"destination": "/d", "type": "tmpfs", "options": ["src-nofollow"]})),
        );
        breaks("mounts[7].options: invalid option \"idmap=x\": ", with(bind(json!(["bind", "idmap=x"]))));
        passes(with(
            json!({"destination": "/d", "type": "tmpfs", "options": ["tmpcopyup", "size=1m", "x=y"]}),
        ));
        passes(with(bind(json!(["bind", "src-nofollow", "rro", "rslave"]))));
    }

    #[test]
    fn nothing_covers_proc() {
        let at = |d: &str, kind: &str| with(json!({"destination": d, "type": kind, "source": "x"}));
        let text = "mounts[7].destination: \"/proc\" cannot be mounted because it is not of type proc";
        for d in ["/proc", "//proc/", "/./x/../proc", "proc/."] {
            assert!(broken(at(d, "tmpfs")).iter().any(|v| v == text), "{d}");
            assert!(broken(at(d, "proc")).is_empty(), "{d}");
        }
        breaks(
            "mounts[7].destination: \"/proc/self/attr\" cannot be mounted because it is inside /proc",
            at("/proc/self//attr", "tmpfs"),
        );
        breaks("mounts[7].destination: \"/proc/net/dev\" cannot", at("/proc/net/dev", "tmpfs"));
        passes(at("/proc/cpuinfo", "tmpfs"));
        passes(at("/process", "tmpfs"));
        // Whether the source is a proc file system shows when it is opened.
        passes(with(json!({"destination": "/proc", "source": "/proc", "options": ["rbind"]})));
    }

    #[test]
    fn paths_are_seen_from_the_root() {
        assert_eq!(lexical("../../proc"), "/proc");
        assert_eq!(lexical("/a/b/../../.."), "/");
        assert_eq!(lexical(""), "/");
    }

    fn mapped(uids: Value, gids: Value, options: Value) -> Value {
        let mut m = bind(options);
        m["uidMappings"] = uids;
        m["gidMappings"] = gids;
        m
    }

    fn range() -> Value {
        json!([{"containerID": 0, "hostID": 5, "size": 1}])
    }

    #[test]
    fn id_mappings_come_in_pairs() {
        passes(with(mapped(range(), range(), json!(["bind", "idmap"]))));
        passes(with(mapped(range(), range(), json!(["rbind", "ridmap"]))));
        passes(with(mapped(range(), range(), json!(["bind"]))));
        let both = "id-mapped mounts must have both uid and gid mappings specified";
        breaks(
            &format!("mounts[7].gidMappings: {both}"),
            with(mapped(range(), json!(null), json!(["bind", "idmap"]))),
        );
        breaks(&format!("mounts[7].uidMappings: {both}"), with(mapped(json!([]), range(), json!(["bind"]))));
        let overflow = json!([{"containerID": 0, "hostID": 4294967295_u32, "size": 1}]);
        breaks("mounts[7].uidMappings[0]: hostID", with(mapped(overflow, range(), json!(["bind", "idmap"]))));
    }

    #[test]
    fn an_option_without_mappings_takes_the_user_namespaces() {
        let plain = || with(bind(json!(["bind", "idmap"])));
        breaks("mounts[7].options: an id-mapped mount without mappings takes those", plain());
        breaks(
            "mounts[7].options: an id-mapped mount without",
            with(mapped(json!([]), json!([]), json!(["bind", "ridmap"]))),
        );
        passes(|v| {
            add_user_namespace(v);
            plain()(v);
        });
        passes(|v| {
            add_namespace(v, "user", "/proc/5/ns/user");
            plain()(v);
        });
    }

    #[test]
    fn ranges_inside_of_the_option() {
        let text = "idmap=uids=0-1-10;gids=0-1-10";
        passes(with(bind(json!(["bind", text]))));
        let relative = || with(bind(json!(["bind", "idmap=uids=@0-1-10;gids=0-1-10"])));
        breaks(
            "mounts[7].options: could not find a user namespace mapping that holds a relative",
            relative(),
        );
        passes(|v| {
            add_user_namespace(v);
            relative()(v);
        });
        breaks(
            "mounts[7].options[0].size: size 0",
            with(bind(json!(["bind", "idmap=uids=0-1-0;gids=0-1-1"]))),
        );
        breaks(
            "mounts[7].options: the option has its own ranges",
            with(mapped(range(), range(), json!(["bind", text]))),
        );
    }

    #[test]
    fn id_mapped_mounts_are_of_root_and_new() {
        let tmpfs = |options: Value| {
            json!({"destination": "/d", "type": "tmpfs", "options": options,
                   "uidMappings": range(), "gidMappings": range()})
        };
        passes(with(tmpfs(json!(["idmap"]))));
        breaks(
            "mounts[7].options: \"tmpcopyup\" cannot be combined",
            with(tmpfs(json!(["idmap", "tmpcopyup"]))),
        );
        for kind in super::OF_NAMESPACES {
            let mut mount = tmpfs(json!(["idmap"]));
            mount["type"] = json!(kind);
            breaks("mounts[7].type: a file system of type", with(mount));
        }
        breaks("mounts[7].options: a remount cannot be", with(tmpfs(json!(["idmap", "remount"]))));
        let user = HostFacts { euid: 1000, ..facts() };
        let all = broken_on(&user, |v| {
            *v = crate::config::defaults::rootless(1000, 1000);
            with(mapped(range(), range(), json!(["bind", "idmap"])))(v);
        });
        assert!(all.len() == 1 && all[0].ends_with("not supported for rootless containers"), "{all:?}");
    }
}
