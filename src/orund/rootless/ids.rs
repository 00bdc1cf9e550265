//! The ids that an ordinary user may map into a user namespace: subuid(5), subgid(5).

use crate::config::linux::IdMapping;
use crate::plan::namespaces::IdMaps;
use std::path::Path;

/// Ids that images use; more are of no use.
const MOST: u32 = 1 << 24;

/// The user is root inside, and the ids that are granted to the user are all others. Without `newuidmap` and grants for both kinds
/// of ids there is root alone.
pub fn of_user(uid: u32, gid: u32) -> IdMaps {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let names = names(uid, &read("/etc/passwd"));
    let uids = ranges(&read("/etc/subuid"), &names);
    let gids = ranges(&read("/etc/subgid"), &names);
    if uids.is_empty() || gids.is_empty() || !has_helpers() {
        return IdMaps { uids: map(uid, &[]), gids: map(gid, &[]) };
    }
    IdMaps { uids: map(uid, &uids), gids: map(gid, &gids) }
}

/// Whether only root is mapped.
pub fn is_single(maps: &IdMaps) -> bool {
    maps.uids.len() == 1
}

fn has_helpers() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    found("newuidmap") && found("newgidmap")
}

/// By what names a user may be granted ids. The helpers check them again: a wrong one gives nothing.
fn names(uid: u32, passwd: &str) -> Vec<String> {
    let mut names = vec![uid.to_string()];
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let own = lines.filter(|l| l.get(2).is_some_and(|id| *id == names[0]));
    let own: Vec<String> = own.map(|l| l[0].to_owned()).collect();
    names.extend(own);
    // Users of a directory service.
    names.extend(std::env::var("USER"));
    names
}

/// First id and number of each range that `text` grants to one of `names`.
fn ranges(text: &str, names: &[String]) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(':').collect();
        if let [name, first, size] = words[..]
            && names.iter().any(|n| n == name)
            && let (Ok(first), Ok(size)) = (first.parse(), size.trim().parse())
            && size > 0
        {
            found.push((first, size));
        }
    }
    found
}

fn map(own: u32, ranges: &[(u32, u32)]) -> Vec<IdMapping> {
    let mut map = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let mut next = 1;
    for (first, size) in ranges {
        let size = (*size).min(MOST - next);
        if size > 0 {
            map.push(IdMapping { container_id: next, host_id: *first, size });
            next += size;
        }
    }
    map
}

/// Whether the kernel lets this user make user namespaces; the reason, if not.
pub fn forbidden() -> Option<String> {
    let value = |name: &str| {
        let path = Path::new("/proc/sys").join(name);
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let off = |name: &str, bad: &str| value(name).filter(|v| v == bad).map(|v| (name.replace('/', "."), v));
    let found = off("user/max_user_namespaces", "0")
        .or_else(|| off("kernel/unprivileged_userns_clone", "0"))
        .or_else(|| off("kernel/apparmor_restrict_unprivileged_userns", "1"));
    found.map(|(name, value)| format!("{name} is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granted_ranges_follow_root() {
        let names = names(1000, "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n");
        assert!(names.starts_with(&["1000".to_owned(), "ann".to_owned()]));
        let text = "bob:100000:65536\nann:165536:65536\n1000:300000:10\nann:x:1\nann:5\nann:7:0\n";
        let ranges = ranges(text, &names);
        assert_eq!(ranges, [(165_536, 65536), (300_000, 10)]);
        let map = map(1000, &ranges);
        assert_eq!(IdMaps::text(&map), "0 1000 1\n1 165536 65536\n65537 300000 10\n");
    }

    #[test]
    fn ranges_beyond_all_use_are_cut() {
        let map = map(7, &[(100, u32::MAX), (1, 5)]);
        assert_eq!(IdMaps::text(&map), format!("0 7 1\n1 100 {}\n", MOST - 1));
    }
}
