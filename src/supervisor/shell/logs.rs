//! What containers write.

use std::path::{Path, PathBuf};

/// The directory of the log files of one container of one replica.
pub fn directory(root: &Path, workload: &str, slot: u32, container: &str) -> PathBuf {
    root.join(workload).join(slot.to_string()).join(container)
}
