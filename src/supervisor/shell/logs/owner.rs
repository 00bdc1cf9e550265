//! The owner of the log files in a directory: a deleted workload and a later one of the same name have the same directory,
//! but not the same logs.

use super::file;
use crate::error::{Error, Result};
use std::fs;
use std::path::Path;

/// The file with the number of the workload.
const NAME: &str = "workload";

/// Makes the directory that of workload `id`: the files of an earlier one are removed. Files without an owner, of an
/// earlier version, are kept.
///
/// # Errors
/// The directory cannot be written.
pub fn claim(dir: &Path, id: u64) -> Result<()> {
    let of = read_owner(dir);
    if of == Some(id) {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| Error::sys(format!("making the log directory {dir:?}"), e))?;
    if of.is_some() {
        for run in file::runs(dir)? {
            for path in file::files(dir, run)? {
                // It may be gone already.
                let _ = fs::remove_file(path);
            }
        }
    }
    let path = dir.join(NAME);
    fs::write(&path, format!("{id}\n")).map_err(|e| Error::sys(format!("writing {path:?}"), e))
}

/// Whether the files are those of another workload than `id`.
pub fn is_foreign(dir: &Path, id: Option<u64>) -> bool {
    id.is_some() && read_owner(dir).is_some_and(|of| Some(of) != id)
}

fn read_owner(dir: &Path) -> Option<u64> {
    fs::read_to_string(dir.join(NAME)).ok()?.trim().parse().ok()
}
