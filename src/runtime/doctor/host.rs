//! The kernel and the rights of the caller.

use super::Finding;
use crate::kernel::cgroup;
use crate::plan::facts::{CgroupFacts, CgroupMode};
use crate::plan::tables::capabilities;
use crate::sys::cred;
use std::fs;
use std::path::Path;

/// The oldest kernel with mount_setattr(2), without which no root file system is set up.
const OLDEST: (u32, u32) = (5, 12);
/// Controllers for the limits of containers.
const WANTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Findings about the host whose files are below `root`.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok().map(|t| t.trim().to_owned());
    let mut all = vec![kernel(&read("proc/sys/kernel/osrelease").unwrap_or_default()), rights()];
    all.push(namespaces(&root.join("proc/self/ns")));
    all.push(user_namespaces(read));
    all.push(match cgroup::probe() {
        Ok(facts) => cgroups(&facts),
        Err(e) => Finding::broken("cgroups", e.to_string(), "mount procfs on /proc"),
    });
    all.push(systemd());
    all.push(seccomp(read("proc/sys/kernel/seccomp/actions_avail").as_deref()));
    all.push(overlay(&read("proc/filesystems").unwrap_or_default(), read("proc/sys/kernel/osrelease")));
    all.push(lsm(read));
    all
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {
            Finding::works("kernel", format!("Linux {release}"))
        }
        (Some(_), Some(_)) => {
            let (major, minor) = OLDEST;
            let text = format!("Linux {release} has no mount_setattr(2)");
            Finding::broken("kernel", text, format!("boot Linux {major}.{minor} or newer"))
        }
        _ => Finding::broken("kernel", "/proc/sys/kernel/osrelease cannot be read", "mount procfs on /proc"),
    }
}

fn rights() -> Finding {
    let (euid, permitted) = (cred::geteuid(), cred::capget().map_or(0, |c| c.permitted));
    if euid != 0 {
        let text = format!("user {euid}, not root");
        let advice = "give every container a user namespace (orun spec --rootless writes such a config.json)";
        return Finding::limited("rights", text, advice);
    }
    let lacking: Vec<&str> = capabilities::names()
        .filter(|name| capabilities::mask(&[*name]) & permitted == 0 && *name != "CAP_CHECKPOINT_RESTORE")
        .collect();
    if lacking.is_empty() {
        return Finding::works("rights", "root with all capabilities");
    }
    let text = format!("root without {}", lacking.join(", "));
    let advice = "containers asking for these start without them, with a warning";
    Finding::limited("rights", text, advice)
}

fn namespaces(dir: &Path) -> Finding {
    let lacks = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().filter(|n| !dir.join(n).exists()).copied().collect()
    };
    let needed = lacks(&["mnt", "pid", "ipc", "uts", "net"]);
    if !needed.is_empty() {
        let text = format!("the kernel lacks the namespaces {}", needed.join(", "));
        return Finding::broken("namespaces", text, "use a kernel with CONFIG_NAMESPACES and these kinds");
    }
    let optional = lacks(&["user", "cgroup", "time"]);
    if optional.is_empty() {
        return Finding::works("namespaces", "all eight kinds");
    }
    let text = format!("the kernel lacks the namespaces {}", optional.join(", "));
    Finding::limited("namespaces", text, "containers that need one of them are refused")
}

fn user_namespaces(read: impl Fn(&str) -> Option<String>) -> Finding {
    let subject = "user namespaces";
    let is = |path: &str, value: &str| read(path).is_some_and(|v| v == value);
    let Some(most) = read("proc/sys/user/max_user_namespaces") else {
        return Finding::limited(subject, "the kernel has none", "use a kernel with CONFIG_USER_NS");
    };
    if most == "0" {
        let advice = "sysctl -w user.max_user_namespaces=15000";
        return Finding::limited(subject, "user.max_user_namespaces is 0", advice);
    }
    for (path, value, name) in [
        ("proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ] {
        if is(path, value) {
            let advice = format!("for rootless containers: sysctl -w {name}");
            return Finding::limited(subject, "for root only", advice);
        }
    }
    Finding::works(subject, format!("for all users, at most {most}"))
}

fn cgroups(facts: &CgroupFacts) -> Finding {
    let mut have: Vec<&str> = facts.v1.iter().flat_map(|h| &h.controllers).map(String::as_str).collect();
    have.extend(facts.v2.iter().flat_map(|h| &h.controllers).map(String::as_str));
    let mode = match facts.mode {
        CgroupMode::None => {
            let advice = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
            return Finding::broken("cgroups", "no hierarchy is mounted", advice);
        }
        CgroupMode::Legacy => "version 1",
        CgroupMode::Hybrid => "version 1, with version 2 beside it",
        CgroupMode::Unified => "version 2",
    };
    // The io controller of version 2 is blkio in version 1.
    let has = |c: &str| have.contains(&c) || c == "io" && have.contains(&"blkio");
    let lacking: Vec<&str> = WANTED.iter().filter(|c| !has(c)).copied().collect();
    have.retain(|c| !c.starts_with("name="));
    let text = format!("{mode}: {}", have.join(" "));
    if lacking.is_empty() {
        return Finding::works("cgroups", text);
    }
    let advice = if facts.mode == CgroupMode::Unified {
        "boot without cgroup_disable=, or have the service manager delegate it (Delegate=yes)"
    } else {
        "boot without cgroup_disable=, or mount the hierarchy"
    };
    let text = format!("{text}; no {}, so its limits are refused", lacking.join(", "));
    Finding::limited("cgroups", text, advice)
}

/// The cgroup manager that kubelets and Podman prefer; it is not needed without systemd.
fn systemd() -> Finding {
    let subject = "systemd cgroups";
    if !cgroup::systemd::booted() {
        return Finding::works(subject, "systemd does not run; orun manages cgroups itself");
    }
    match cgroup::systemd::running() {
        Ok(version) => Finding::works(subject, format!("systemd {version}: --systemd-cgroup works")),
        Err(e) => Finding::limited(
            subject,
            e.to_string(),
            "leave out --systemd-cgroup; orun then manages cgroups itself",
        ),
    }
}

fn seccomp(actions: Option<&str>) -> Finding {
    match actions {
        Some(actions) => Finding::works("seccomp", actions.to_owned()),
        None => Finding::limited(
            "seccomp",
            "the kernel has no filters",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn overlay(filesystems: &str, release: Option<String>) -> Finding {
    let modules = format!("/lib/modules/{}/kernel/fs/overlayfs", release.unwrap_or_default());
    if filesystems.lines().any(|l| l.ends_with("\toverlay")) {
        Finding::works("overlayfs", "overlay mounts work")
    } else if Path::new(&modules).exists() {
        Finding::works("overlayfs", "a module that the kernel loads on first use")
    } else {
        let advice = "orun does not need it; engines then copy images (vfs) or use fuse-overlayfs";
        Finding::limited("overlayfs", "not there", advice)
    }
}

fn lsm(read: impl Fn(&str) -> Option<String>) -> Finding {
    let apparmor = read("sys/module/apparmor/parameters/enabled").is_some_and(|v| v == "Y");
    let selinux = read("sys/fs/selinux/enforce");
    let mut names = Vec::new();
    if apparmor {
        names.push("AppArmor");
    }
    if let Some(mode) = &selinux {
        names.push(if mode == "1" { "SELinux, enforcing" } else { "SELinux, permissive" });
    }
    if names.is_empty() {
        let advice = "bundles with process.apparmorProfile or process.selinuxLabel are refused";
        return Finding::limited("security modules", "neither AppArmor nor SELinux", advice);
    }
    Finding::works("security modules", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn kernels() {
        for (release, verdict) in [
            ("5.12.0", Verdict::Works),
            ("6.1.0-37-amd64", Verdict::Works),
            ("5.11.22", Verdict::Broken),
            ("4.19.0", Verdict::Broken),
            ("", Verdict::Broken),
        ] {
            assert_eq!(kernel(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn user_namespaces_of_hosts() {
        let host = |files: &'static [(&str, &str)]| {
            user_namespaces(|p| files.iter().find(|(f, _)| *f == p).map(|(_, v)| (*v).to_owned()))
        };
        const MOST: &str = "proc/sys/user/max_user_namespaces";
        assert_eq!(host(&[]).verdict, Verdict::Limited);
        assert_eq!(host(&[(MOST, "0")]).text, "user.max_user_namespaces is 0");
        assert_eq!(host(&[(MOST, "99")]).verdict, Verdict::Works);
        let debian = host(&[(MOST, "99"), ("proc/sys/kernel/unprivileged_userns_clone", "0")]);
        assert_eq!(debian.text, "for root only");
    }

    #[test]
    fn controllers_that_are_not_there_are_named() {
        use crate::plan::facts::V2Hierarchy;
        let facts = |controllers: &[&str]| CgroupFacts {
            mode: CgroupMode::Unified,
            v2: Some(V2Hierarchy {
                controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
                ..V2Hierarchy::default()
            }),
            ..CgroupFacts::default()
        };
        assert_eq!(cgroups(&facts(&WANTED)).verdict, Verdict::Works);
        let some = cgroups(&facts(&["cpu", "memory"]));
        assert_eq!(some.text, "version 2: cpu memory; no cpuset, io, pids, so its limits are refused");
        assert_eq!(cgroups(&CgroupFacts::default()).verdict, Verdict::Broken);
    }
}
