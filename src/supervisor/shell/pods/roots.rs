//! The directories that take what a container writes to its root file system: its own, gone with it.

use super::{Directories, directory, remove_tree};
use crate::error::{Error, Result};
use crate::plan::overlay::{UPPER, VOLATILE, WORK};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

fn place(dirs: &Directories, id: &str) -> PathBuf {
    dirs.disk.join("roots").join(id)
}

/// Makes them for container `id` with the root file system `rootfs`; the annotations that have it use them.
///
/// # Errors
/// They cannot be made.
pub fn make(dirs: &Directories, id: &str, rootfs: &Path) -> Result<Vec<(String, String)>> {
    let at = place(dirs, id);
    remove_tree(&at)?;
    let (upper, work) = (at.join("upper"), at.join("work"));
    directory(&at, 0o700)?;
    directory(&upper, 0o755)?;
    directory(&work, 0o700)?;
    // The root has the owner and permissions of the topmost layer.
    let fail = |e| Error::sys(format!("setting the permissions of {upper:?}"), e);
    if let Ok(like) = fs::metadata(rootfs) {
        match chown(&upper, Some(like.uid()), Some(like.gid())) {
            // The owner of a bundle need not have an ID in the user namespace of an ordinary user.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
            r => r.map_err(fail)?,
        }
        fs::set_permissions(&upper, fs::Permissions::from_mode(like.mode() & 0o7777)).map_err(fail)?;
    }
    Ok(annotations(&upper, &work))
}

fn annotations(upper: &Path, work: &Path) -> Vec<(String, String)> {
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let volatile = (VOLATILE.to_owned(), "true".to_owned());
    vec![(UPPER.to_owned(), text(upper)), (WORK.to_owned(), text(work)), volatile]
}

/// The annotations of a template, in which the directories are not known yet.
pub fn unknown() -> Vec<(String, String)> {
    annotations(Path::new("/.orund-upper"), Path::new("/.orund-work"))
}

/// Removes them.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(dirs: &Directories, id: &str) -> Result<()> {
    remove_tree(&place(dirs, id))
}
