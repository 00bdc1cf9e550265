//! The cgroup in which an ordinary user's containers may have theirs: cgroups(7), "Delegation".

use crate::kernel::cgroup;
use crate::log;
use crate::plan::facts::CgroupMode;
use crate::sys::{self, file};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The environment variable with the parent of containers' cgroups. Empty: they have none.
pub const PARENT: &str = "ORUND_CGROUP_PARENT";

/// Reports that containers have no cgroups.
pub fn warn_missing() {
    log::warn(
        "containers have no cgroups, and so no limits: no cgroup v2 is delegated to this user; start orund with \
         \"systemd-run --user --scope -p Delegate=yes orund ...\" or as a service of \"systemd --user\"",
    );
}

/// The path of the parent of containers' cgroups, below the root of the hierarchy. None: no cgroup is delegated to the user.
pub fn find() -> Option<String> {
    let facts = cgroup::probe().ok()?;
    let v2 = facts.v2.as_ref().filter(|_| facts.mode == CgroupMode::Unified)?;
    let mount = Path::new(&v2.mount_point);
    let own = mount.join(v2.own_path.trim_start_matches('/'));
    let top = topmost(&own, mount, is_delegated)?;
    let below = |dir: &Path| format!("/{}", dir.strip_prefix(mount).unwrap_or(dir).display());
    if top == own && !leave(&own) {
        return None;
    }
    Some(below(&top.join("orund")))
}

/// The highest of `own` and the cgroups above it that is delegated, without a gap. The containers' own is beside those of services
/// there, so that it outlives them as root's does.
fn topmost(own: &Path, mount: &Path, is_delegated: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let above = own.ancestors().take_while(|dir| dir.starts_with(mount) && is_delegated(dir));
    above.last().map(Path::to_path_buf)
}

/// Whether this user may make cgroups in it and move processes there.
fn is_delegated(dir: &Path) -> bool {
    let writable = |path: PathBuf| {
        CString::new(path.as_os_str().as_bytes())
            .is_ok_and(|path| file::access(sys::CWD, &path, libc::W_OK).is_ok())
    };
    writable(dir.to_path_buf())
        && writable(dir.join("cgroup.procs"))
        && writable(dir.join("cgroup.subtree_control"))
}

/// Moves this process to a cgroup below its own: one with processes cannot give controllers to those below it.
fn leave(own: &Path) -> bool {
    let leaf = own.join("orund-supervisor");
    // It may exist since the last time.
    let _ = std::fs::create_dir(&leaf);
    std::fs::write(leaf.join("cgroup.procs"), std::process::id().to_string()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_the_highest_delegated_cgroup() {
        let mount = Path::new("/sys/fs/cgroup");
        let user = mount.join("user.slice/user-1000.slice/user@1000.service");
        let own = user.join("app.slice/orund.service");
        let delegated = |dir: &Path| dir.starts_with(&user);
        assert_eq!(topmost(&own, mount, delegated), Some(user.clone()));
        assert_eq!(topmost(&own, mount, |dir| dir == own), Some(own.clone()));
        assert_eq!(topmost(&own, mount, |dir| dir == user), None, "there is a gap");
        assert_eq!(topmost(mount, mount, |_| true), Some(mount.to_path_buf()));
    }
}
