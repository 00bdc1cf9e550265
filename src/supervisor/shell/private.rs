//! Files that only the supervisor and its keeper use.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a file for reading and writing, and creates it with mode 0600 if it does not exist. Symlinks are not followed.
///
/// # Errors
/// It cannot be opened.
pub fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(|e| Error::sys(format!("opening {path:?}"), e))
}
