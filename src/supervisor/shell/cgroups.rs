//! The cgroups that those of containers are in.

use crate::kernel::cgroup;
use std::path::Path;

/// Removes the cgroup `parent`, an absolute path, and those above it in every hierarchy, as far as they are empty.
pub fn remove_parents(parent: &str) {
    let Ok(facts) = cgroup::probe() else { return };
    let mounts = facts.v1.iter().map(|h| &h.mount_point).chain(facts.v2.iter().map(|h| &h.mount_point));
    for mount in mounts {
        for path in Path::new(parent).ancestors().filter(|p| p.parent().is_some()) {
            let Ok(below) = path.strip_prefix("/") else { continue };
            // One that others use stays, and so do those above it.
            if std::fs::remove_dir(Path::new(mount).join(below)).is_err() {
                break;
            }
        }
    }
}
