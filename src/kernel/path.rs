//! Paths for system calls.

use crate::error::{Error, Kind, Result};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path as a C string.
pub fn cpath(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(Kind::Config, format!("the path {path:?} holds a NUL byte")))
}
