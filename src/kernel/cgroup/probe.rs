//! Fills [`CgroupFacts`].

use super::dir::{read_all, read_record};
use crate::error::{Context, Errno, Error, Result};
use crate::plan::facts::{CgroupFacts, CgroupMode, V1Hierarchy, V2Hierarchy};
use crate::sys::{self, SysResult, file, path};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};

const ROOT: &str = "/sys/fs/cgroup";

fn read(name: &str, all: fn(RawFd) -> SysResult<String>) -> Result<String> {
    let open = || -> SysResult<String> {
        let c = CString::new(name).map_err(|_| Errno(libc::EINVAL))?;
        all(path::openat(sys::CWD, &c, libc::O_RDONLY, 0)?.as_raw_fd())
    };
    open().map_err(|e| Error::sys(format!("reading {name:?}"), e))
}

/// Looks at the control groups of the host. A host with version 2 alone costs a statfs(2) and two files, one with version
/// 1 a statx(2) for each hierarchy: the list of mounts, which may be long, is only read where they are not where
/// systemd and others mount them.
///
/// # Errors
/// /proc is not there.
pub fn probe() -> Result<CgroupFacts> {
    let unified = statfs(ROOT).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let own = read("/proc/self/cgroup", read_record).context(|| "finding orun's own cgroup".into())?;
    let mut facts = if unified {
        let h = V2Hierarchy {
            mount_point: ROOT.to_owned(),
            mount_root: "/".to_owned(),
            own_path: own_path(&own, "").unwrap_or("/").to_owned(),
            controllers: Vec::new(),
        };
        CgroupFacts { mode: CgroupMode::Unified, v1: Vec::new(), v2: Some(h), ..CgroupFacts::default() }
    } else {
        match at_their_places(&own, is_mounted) {
            Some(facts) => facts,
            None => {
                let mounts = read("/proc/self/mountinfo", read_all)
                    .context(|| "finding the mounted cgroup hierarchies".into())?;
                parse(&mounts, &own)
            }
        }
    };
    if let Some(h) = &mut facts.v2 {
        let text = read(&format!("{}/cgroup.controllers", h.mount_point), read_record)?;
        h.controllers = text.split_whitespace().map(str::to_owned).collect();
    }
    Ok(facts)
}

/// Whether the root of a file system is mounted at `path`; with a type, of one of that type. The root of each hierarchy is
/// inode 1 (kernfs), and a cgroup below it is not.
fn is_mounted(path: &str, kind: Option<FsType>) -> bool {
    let Ok(c) = CString::new(path) else { return false };
    file::is_root_inode(sys::CWD, &c, 1).unwrap_or(false)
        && kind.is_none_or(|kind| statfs(path).is_ok_and(|s| s.filesystem_type() == kind))
}

/// The hierarchies of /proc/self/cgroup where each is mounted below /sys/fs/cgroup by its own name: `cpu,cpuacct`, `systemd`
/// for `name=systemd`, `unified` for version 2, with its root as the mount's. `None` when one is not, or there is none of
/// version 1. What is mounted there instead has no `cgroup.procs`, and is refused when it is used.
fn at_their_places(own: &str, is_mounted: impl Fn(&str, Option<FsType>) -> bool) -> Option<CgroupFacts> {
    let mut facts = CgroupFacts { mode: CgroupMode::Legacy, ..CgroupFacts::default() };
    for line in own.lines() {
        let (_, rest) = line.split_once(':')?;
        let (names, own_path) = rest.split_once(':')?;
        let (own_path, mount_root) = (own_path.to_owned(), "/".to_owned());
        if names.is_empty() {
            let mount_point = format!("{ROOT}/unified");
            // The line appears once it has been mounted.
            if !is_mounted(&mount_point, Some(CGROUP2_SUPER_MAGIC)) {
                return None;
            }
            facts.mode = CgroupMode::Hybrid;
            facts.v2 = Some(V2Hierarchy { mount_point, mount_root, own_path, controllers: Vec::new() });
            continue;
        }
        let mount_point = [ROOT, "/", names.strip_prefix("name=").unwrap_or(names)].concat();
        // One of them is asked about its type: that of the others shows when they are used.
        let kind = facts.v1.is_empty().then_some(CGROUP_SUPER_MAGIC);
        if !is_mounted(&mount_point, kind) {
            return None;
        }
        let controllers = names.split(',').map(str::to_owned).collect();
        facts.v1.push(V1Hierarchy { controllers, mount_point, mount_root, own_path });
    }
    (!facts.v1.is_empty()).then_some(facts)
}

/// The own cgroup in the hierarchy of `controller` (version 2: empty), from lines `ID:CONTROLLERS:PATH` of
/// /proc/PID/cgroup (cgroups(7)).
pub(super) fn own_path<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    memberships(text).find_map(|(names, path)| names.split(',').any(|n| n == controller).then_some(path))
}

/// Controllers and path of each line of /proc/PID/cgroup.
fn memberships(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|l| l.split_once(':')?.1.split_once(':'))
}

/// The hierarchies in mountinfo (proc_pid_mountinfo(5)) that also stand in /proc/self/cgroup. Of several mounts of
/// one, that below /sys/fs/cgroup counts, then the first.
fn parse(mounts: &str, own: &str) -> CgroupFacts {
    let mut facts = CgroupFacts::default();
    // Each controller with its path: a mount has many options, and most of them are not controllers.
    let own: Vec<(&str, &str)> =
        memberships(own).flat_map(|(names, path)| names.split(',').map(move |n| (n, path))).collect();
    let path_of = |controller: &str| own.iter().find(|(name, _)| *name == controller).map(|(_, path)| *path);
    for line in mounts.lines() {
        let Some((left, right)) = around_separator(line).filter(|(_, r)| r.starts_with("cgroup")) else {
            continue;
        };
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        let (Some(root), Some(point)) = (left.next(), left.next()) else { continue };
        let (Some(kind), Some(_), Some(options)) = (right.next(), right.next(), right.next()) else {
            continue;
        };
        let (mount_root, mount_point) = (unescape(root), unescape(point));
        match kind {
            "cgroup" => {
                let mut own_path = None;
                let mut controllers = Vec::new();
                for option in options.split(',') {
                    if let Some(path) = path_of(option) {
                        own_path = own_path.or(Some(path));
                        controllers.push(option.to_owned());
                    }
                }
                let Some(own_path) = own_path else { continue };
                let own_path = own_path.to_owned();
                let h = V1Hierarchy { controllers, mount_point, mount_root, own_path };
                match facts.v1.iter_mut().find(|have| have.controllers == h.controllers) {
                    Some(have) if preferred(&h.mount_point, &have.mount_point) => *have = h,
                    Some(_) => {}
                    None => facts.v1.push(h),
                }
            }
            "cgroup2" => {
                let Some(own_path) = path_of("") else { continue };
                let own_path = own_path.to_owned();
                let h = V2Hierarchy { mount_point, mount_root, own_path, controllers: Vec::new() };
                if facts.v2.as_ref().is_none_or(|have| preferred(&h.mount_point, &have.mount_point)) {
                    facts.v2 = Some(h);
                }
            }
            _ => {}
        }
    }
    facts.mode = match (facts.v1.is_empty(), &facts.v2) {
        (true, None) => CgroupMode::None,
        (true, Some(_)) => CgroupMode::Unified,
        (false, None) => CgroupMode::Legacy,
        (false, Some(_)) => CgroupMode::Hybrid,
    };
    facts
}

/// The parts before and after the separator ` - ` of a line of mountinfo.
fn around_separator(line: &str) -> Option<(&str, &str)> {
    let at = line.as_bytes().windows(3).position(|w| w == b" - ")?;
    Some((&line[..at], &line[at + 3..]))
}

fn preferred(new: &str, old: &str) -> bool {
    new.starts_with(ROOT) && !old.starts_with(ROOT)
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(decoded) if b == b'\\' => {
                out.push(decoded);
                rest = &tail[3..];
            }
            _ => {
                out.push(b);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 /docker/x /mnt/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:29 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            34 31 0:30 / /sys/fs/cgroup/sys\\040temd rw - cgroup cgroup rw,xattr,name=systemd\n\
            35 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "5:name=systemd:/s\n2:cpu,cpuacct:/docker/x/y\n0::/u:1\n";
        let f = parse(mounts, own);
        assert_eq!(f.mode, CgroupMode::Hybrid);
        assert_eq!(f.v1.len(), 2);
        assert_eq!(f.v1[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(f.v1[0].mount_point, "/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!((f.v1[0].mount_root.as_str(), f.v1[0].own_path.as_str()), ("/docker/x", "/docker/x/y"));
        assert_eq!(f.v1[1].controllers, ["name=systemd"]);
        assert_eq!(f.v1[1].mount_point, "/sys/fs/cgroup/sys temd");
        assert_eq!(f.v2.unwrap().own_path, "/u:1");
    }

    #[test]
    fn other_hosts() {
        assert_eq!(parse("", "").mode, CgroupMode::None);
        let v2 = "35 31 0:38 / /cg rw - cgroup2 none rw\n";
        assert_eq!(parse(v2, "0::/\n").mode, CgroupMode::Unified);
        let v1 = "33 31 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\nbroken line\n";
        let f = parse(v1, "1:pids:/\n0::/\n");
        assert_eq!((f.mode, f.v2), (CgroupMode::Legacy, None));
    }

    #[test]
    fn hierarchies_at_their_places_are_found_without_the_list_of_mounts() {
        let own = "5:name=systemd:/s\n2:cpu,cpuacct:/docker/x/y\n0::/u:1\n";
        let all = |path: &str, _: Option<FsType>| path.starts_with("/sys/fs/cgroup/");
        let f = at_their_places(own, all).unwrap();
        assert_eq!(f.mode, CgroupMode::Hybrid);
        let seen: Vec<_> =
            f.v1.iter()
                .map(|h| (h.controllers.join("+"), h.mount_point.as_str(), h.own_path.as_str()))
                .collect();
        assert_eq!(
            seen,
            [
                ("name=systemd".to_owned(), "/sys/fs/cgroup/systemd", "/s"),
                ("cpu+cpuacct".to_owned(), "/sys/fs/cgroup/cpu,cpuacct", "/docker/x/y"),
            ]
        );
        assert_eq!(
            f.v2.map(|h| (h.mount_point, h.own_path)),
            Some(("/sys/fs/cgroup/unified".into(), "/u:1".into()))
        );
        // One that is elsewhere, as in a container that sees only its own part.
        assert_eq!(at_their_places(own, |path, kind| all(path, kind) && !path.ends_with("/systemd")), None);
        assert_eq!(at_their_places(own, |path, kind| all(path, kind) && !path.ends_with("/unified")), None);
        let f = at_their_places("2:pids:/\n", |path, _| path.ends_with("/pids")).unwrap();
        assert_eq!((f.mode, f.v2), (CgroupMode::Legacy, None));
        assert_eq!(at_their_places("0::/\n", all), None);
    }

    #[test]
    fn both_ways_to_look_agree_on_this_host() {
        let own = read("/proc/self/cgroup", read_record).unwrap();
        let mut listed = parse(&read("/proc/self/mountinfo", read_all).unwrap(), &own);
        listed.v1.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
        let quick = at_their_places(&own, is_mounted).map(|mut facts| {
            facts.v1.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
            facts
        });
        assert!(quick.is_none_or(|quick| quick == listed));
    }

    #[test]
    fn this_host_has_the_cgroups_that_it_says_it_has() {
        let f = probe().unwrap();
        for point in f.v1.iter().map(|h| &h.mount_point).chain(f.v2.iter().map(|h| &h.mount_point)) {
            assert!(std::path::Path::new(point).join("cgroup.procs").exists(), "{point}");
        }
    }
}
