//! Where the container's cgroup is: `linux.cgroupsPath`, or the container's id.

use super::Violation;
use crate::plan::facts::{CgroupMode, V1Hierarchy, V2Hierarchy};

/// A cleaned path below a mount point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inner {
    /// `/a/b` or `a/b`.
    pub path: String,
    /// Whether it counts from the mount point, and not from orun's own cgroup.
    pub absolute: bool,
}

const PROPERTY: &str = "linux.cgroupsPath";
/// NAME_MAX: a longer name cannot be a directory.
const NAME_MAX: usize = 255;

/// The path of `cgroups_path` without empty and `.` components, or the container's id.
pub(super) fn inner(id: &str, cgroups_path: &str) -> Result<Inner, Violation> {
    let text = if cgroups_path.is_empty() { id } else { cgroups_path };
    let absolute = text.starts_with('/');
    let mut path = String::new();
    for part in text.split('/').filter(|p| !p.is_empty() && *p != ".") {
        let bad = match part {
            ".." => Some("must not contain \"..\""),
            p if p.len() > NAME_MAX => Some("has a component longer than 255 bytes"),
            p if p.bytes().any(|b| b == 0 || b == b'\n') => Some("must not contain a line break or a NUL"),
            _ => None,
        };
        if let Some(why) = bad {
            return Err(Violation::new(PROPERTY, format!("{text:?} {why}")));
        }
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() {
        // The root has all processes of the host, and they would get this container's limits and signals.
        let v = Violation::new(PROPERTY, format!("{text:?} is not a cgroup that the container can own"));
        return Err(v.hint("name one below it, or leave cgroupsPath out"));
    }
    if !absolute {
        path.remove(0);
    }
    Ok(Inner { path, absolute })
}

/// A path that was written for another cgroup manager is a valid path, but hardly what was meant.
pub(super) fn notes(cgroups_path: &str) -> Vec<Violation> {
    let parts: Vec<&str> = cgroups_path.split(':').collect();
    if parts.len() == 3 && !cgroups_path.contains('/') {
        let what =
            format!("{cgroups_path:?} has the form slice:prefix:name, but is taken as the name of a cgroup");
        return vec![
            Violation::new(PROPERTY, what).hint("give --systemd-cgroup for the systemd cgroup manager"),
        ];
    }
    Vec::new()
}

/// The directory in a version 1 hierarchy: an absolute path counts from the mount point, another one from orun's
/// own cgroup, as containers in containers without a cgroup namespace need.
pub(super) fn v1_dir(inner: &Inner, h: &V1Hierarchy) -> String {
    if inner.absolute {
        return format!("{}{}", h.mount_point, inner.path);
    }
    join(&h.mount_point, below(&h.own_path, &h.mount_root), &inner.path)
}

/// The directory in the version 2 hierarchy. A relative path counts from the parent of orun's own cgroup: that one
/// has processes, so that no controller can be enabled for its children (cgroups(7), "no internal processes").
pub(super) fn v2_dir(inner: &Inner, h: &V2Hierarchy, mode: CgroupMode) -> String {
    if inner.absolute {
        return format!("{}{}", h.mount_point, inner.path);
    }
    let own = below(&h.own_path, &h.mount_root);
    let base = match mode {
        CgroupMode::Unified => own.rfind('/').map_or("", |i| &own[..i]),
        _ => own,
    };
    join(&h.mount_point, base, &inner.path)
}

/// The directory of orun's own cgroup.
pub(super) fn own_dir(mount_point: &str, own_path: &str, mount_root: &str) -> String {
    format!("{mount_point}{}", below(own_path, mount_root).trim_end_matches('/'))
}

fn join(mount_point: &str, base: &str, inner: &str) -> String {
    format!("{mount_point}{}/{inner}", base.trim_end_matches('/'))
}

/// `own` as seen below a mount of `root`; the mount point itself when it is not below, as in a cgroup namespace
/// whose root is elsewhere.
fn below<'a>(own: &'a str, root: &str) -> &'a str {
    let rest = match root {
        "/" | "" => Some(own),
        _ => own.strip_prefix(root).filter(|r| r.is_empty() || r.starts_with('/')),
    };
    rest.filter(|r| !r.split('/').any(|p| p == "..")).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(own: &str, root: &str) -> V1Hierarchy {
        V1Hierarchy {
            controllers: vec!["pids".into()],
            mount_point: "/sys/fs/cgroup/pids".into(),
            mount_root: root.into(),
            own_path: own.into(),
        }
    }

    #[test]
    fn absolute_counts_from_the_mount_point_and_relative_from_the_own_cgroup() {
        let abs = inner("c1", "/a//b/./c/").unwrap();
        assert_eq!(v1_dir(&abs, &v1("/me", "/")), "/sys/fs/cgroup/pids/a/b/c");
        let rel = inner("c1", "a/b").unwrap();
        assert_eq!(v1_dir(&rel, &v1("/me", "/")), "/sys/fs/cgroup/pids/me/a/b");
        let default = inner("c1", "").unwrap();
        assert_eq!(v1_dir(&default, &v1("/", "/")), "/sys/fs/cgroup/pids/c1");
        // A bound part of the hierarchy, and a process outside it.
        assert_eq!(v1_dir(&default, &v1("/docker/x/y", "/docker/x")), "/sys/fs/cgroup/pids/y/c1");
        assert_eq!(v1_dir(&default, &v1("/docker/xy", "/docker/x")), "/sys/fs/cgroup/pids/c1");
        assert_eq!(v1_dir(&default, &v1("/../../out", "/")), "/sys/fs/cgroup/pids/c1");
    }

    #[test]
    fn version_2_takes_the_parent_of_the_own_cgroup() {
        let h = |own: &str| V2Hierarchy {
            mount_point: "/sys/fs/cgroup".into(),
            mount_root: "/".into(),
            own_path: own.into(),
            controllers: vec![],
        };
        let c = inner("c1", "").unwrap();
        assert_eq!(
            v2_dir(&c, &h("/user.slice/session-1.scope"), CgroupMode::Unified),
            "/sys/fs/cgroup/user.slice/c1"
        );
        assert_eq!(v2_dir(&c, &h("/top"), CgroupMode::Unified), "/sys/fs/cgroup/c1");
        assert_eq!(v2_dir(&c, &h("/"), CgroupMode::Unified), "/sys/fs/cgroup/c1");
        assert_eq!(v2_dir(&c, &h("/a/b"), CgroupMode::Hybrid), "/sys/fs/cgroup/a/b/c1");
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in ["/a/../../b", "..", "a/..", "/a\nb", ".", "./.", "/", "//"] {
            assert!(inner("c1", bad).is_err(), "{bad:?}");
        }
        assert!(inner("c1", &format!("/{}", "x".repeat(256))).is_err());
        assert!(inner("c1", &format!("/{}", "x".repeat(255))).is_ok());
    }

    #[test]
    fn a_systemd_path_is_a_name_with_a_note() {
        assert_eq!(inner("c1", "system.slice:docker:1").unwrap().path, "system.slice:docker:1");
        assert_eq!(notes("system.slice:docker:1").len(), 1);
        assert!(notes("/a:b:c/d").is_empty());
    }
}
