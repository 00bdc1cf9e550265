//! A file of objects, before and after it is read.

use std::path::PathBuf;

use crate::workload::Read;

/// A file, and what is in it.
pub struct Manifest {
    /// As the user gave it.
    pub name: String,
    pub text: String,
    pub read: Read,
    /// Where its relative paths start. None: no file that the user gave, but one that such a file names.
    pub base: Option<PathBuf>,
}

/// A file before it is read.
pub struct Content {
    pub name: String,
    pub text: String,
    pub base: PathBuf,
}
