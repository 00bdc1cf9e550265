//! Output of containers: from their pipes into files, and from there to clients.
//!
//! `LOGS/WORKLOAD/SLOT/CONTAINER/N.log` has what run N of a container wrote, in the format of the Kubernetes container
//! runtime interface: `TIME STREAM TAG TEXT`, with the time in RFC 3339 with nanoseconds, `stdout` or `stderr`, and `F`
//! for a text terminated by a line feed or `P` for a part of a line. A file that is full becomes `N.log.000001.LINES`,
//! `N.log.000002.LINES` and so on, where LINES says how many lines of the run end with it.

pub mod file;
pub mod format;
pub mod left;
pub mod owner;
pub mod pump;
pub mod reader;
pub mod stage;

use std::path::{Path, PathBuf};

/// Which of a container's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Both, in the order of their descriptors.
    pub const ALL: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    /// The word for it in log files.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub file: u64,
    /// Files of one run.
    pub files: usize,
    /// Runs of one container.
    pub runs: usize,
    /// Bytes of all log files; the oldest full ones go first.
    pub total: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { file: 10 << 20, files: 5, runs: 6, total: 4 << 30 }
    }
}

/// The directory of the log files of one container of one replica.
pub fn directory(root: &Path, workload: &str, slot: u32, container: &str) -> PathBuf {
    root.join(workload).join(slot.to_string()).join(container)
}
