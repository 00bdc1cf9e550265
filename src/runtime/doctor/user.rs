//! Requirements of a user without privileges: more IDs than the own one, and delegated cgroups.

use super::Finding;
use crate::kernel::cgroup::{self, OWN_SCOPE};
use crate::plan::facts::{CgroupFacts, CgroupMode};
use crate::sys::{self, cred, file};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

/// Findings about the caller; none for root.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let uid = cred::geteuid();
    if uid == 0 {
        return Vec::new();
    }
    let dirs: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    let mut all = vec![ids(root, uid, &dirs)];
    // Without the facts the finding about cgroups says why.
    all.extend(cgroup::probe().ok().map(|facts| delegation(&facts, uid)));
    all
}

/// Ids beside the own one, which newuidmap(1) and newgidmap(1) map for whom subuid(5) and subgid(5) grant them.
fn ids(root: &Path, uid: u32, dirs: &[PathBuf]) -> Finding {
    let subject = "ids of users";
    let lacks = |program: &&&str| !dirs.iter().any(|dir| dir.join(program).is_file());
    if let Some(program) = ["newuidmap", "newgidmap"].iter().find(lacks) {
        let text = format!("{program} is not in $PATH, so a container only has the ID of its user");
        return Finding::limited(subject, text, "install the package \"uidmap\"");
    }
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let name = name(&read("etc/passwd"), uid);
    let [uids, gids] = ["subuid", "subgid"].map(|f| granted(&read(&format!("etc/{f}")), &name, uid));
    for (file, count) in [("subuid", uids), ("subgid", gids)] {
        if count == 0 {
            let text =
                format!("/etc/{file} grants {name} no IDs, so a container only has the ID of its user");
            let advice = format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}");
            return Finding::limited(subject, text, advice);
        }
    }
    Finding::works(subject, format!("{uids} user IDs and {gids} group IDs in addition to the own ones"))
}

/// The name that passwd(5) has for a user, or the number, which subuid(5) knows as well.
fn name(passwd: &str, uid: u32) -> String {
    let mut lines = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let line = lines.find(|l| l.get(2).is_some_and(|n| n.parse() == Ok(uid)));
    line.map_or_else(|| uid.to_string(), |l| l[0].to_owned())
}

/// How many ids a file of ranges, NAME:FIRST:COUNT, grants.
fn granted(ranges: &str, name: &str, uid: u32) -> u64 {
    let number = uid.to_string();
    let count = |line: &str| {
        let mut fields = line.trim().split(':');
        let own = fields.next().is_some_and(|who| who == name || who == number);
        fields.nth(1).filter(|_| own)?.parse::<u64>().ok()
    };
    ranges.lines().filter_map(count).sum()
}

/// Whether the cgroup that orun was started in is the user's, so that containers have limits without systemd.
fn delegation(facts: &CgroupFacts, uid: u32) -> Finding {
    let subject = "own cgroups";
    let advice = format!("for containers with limits use --systemd-cgroup, or start orun with {OWN_SCOPE}");
    let none = |text: String| Finding::limited(subject, text, advice.clone());
    if facts.mode != CgroupMode::Unified {
        let text = "version 1 is not delegated to users, so linux.resources are refused".to_owned();
        return Finding::limited(subject, text, "boot with systemd.unified_cgroup_hierarchy=1");
    }
    let Some(v2) = &facts.v2 else { return none("no hierarchy is mounted".to_owned()) };
    let below = v2.own_path.strip_prefix(&v2.mount_root).unwrap_or(&v2.own_path);
    let dir = Path::new(&v2.mount_point).join(below.trim_start_matches('/'));
    let writable = |path: PathBuf| {
        CString::new(path.into_os_string().into_encoded_bytes())
            .is_ok_and(|path| file::access(sys::CWD, &path, libc::W_OK).is_ok())
    };
    if !writable(dir.clone()) || !writable(dir.join("cgroup.procs")) {
        return none(format!("{} is not delegated to user {uid}", dir.display()));
    }
    let controllers = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    match controllers.trim() {
        "" => none(format!("{} is delegated without a controller", dir.display())),
        list => Finding::works(subject, format!("{} is delegated, with {list}", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn ids_of_users() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        for dir in ["etc", "bin"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        let dirs = [root.path().join("bin")];
        let see = || ids(root.path(), 1000, &dirs);
        assert!(see().text.starts_with("newuidmap is not in"), "{:?}", see());
        write("bin/newuidmap", "");
        assert!(see().text.starts_with("newgidmap is not in"), "{:?}", see());
        write("bin/newgidmap", "");
        write("etc/passwd", "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n");
        write("etc/subuid", "bob:1:2\nann:100000:65536\n1000:300000:10\n");
        assert!(see().text.starts_with("/etc/subgid grants ann no IDs"), "{:?}", see());
        assert!(see().advice.unwrap().ends_with(" ann"));
        write("etc/subgid", "ann:100000:65536\nann:broken\n");
        assert_eq!(see().text, "65546 user IDs and 65536 group IDs in addition to the own ones");
        assert_eq!(see().verdict, Verdict::Works);
        write("etc/passwd", "");
        assert!(see().text.starts_with("/etc/subgid grants 1000 no IDs"), "{:?}", see());
    }
}
