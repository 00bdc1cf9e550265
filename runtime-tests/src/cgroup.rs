//! The host's cgroup hierarchies, read as files.

use crate::check::{Context, Result, fail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Which hierarchies the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Only cgroup2, on /sys/fs/cgroup.
    V2,
    /// v1 hierarchies, perhaps with an extra cgroup2 for tracking.
    V1,
}

/// The host's layout.
pub fn layout() -> Layout {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { Layout::V2 } else { Layout::V1 }
}

/// The mount points of all hierarchies.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = crate::proc::mounts("self");
    let mut dirs: Vec<PathBuf> = mounts
        .into_iter()
        .filter(|m| matches!(m.fstype.as_str(), "cgroup" | "cgroup2") && m.root == "/")
        .map(|m| m.target.into())
        .collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

/// Every cgroup directory whose name holds `marker`.
pub fn dirs_with(marker: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for root in hierarchies() {
        walk(&root, marker, 0, &mut found);
    }
    found
}

/// These directories and all below them.
pub fn dirs_below(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = dirs.to_vec();
    for dir in dirs {
        walk(dir, "", 0, &mut found);
    }
    found
}

fn walk(dir: &Path, marker: &str, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(marker) {
            found.push(entry.path());
        }
        if depth < 8 {
            walk(&entry.path(), marker, depth + 1, found);
        }
    }
}

/// Removes cgroup directories, the deepest first. They must be empty of processes.
pub fn remove(mut dirs: Vec<PathBuf>) {
    dirs.sort_by_key(|d| std::cmp::Reverse(d.components().count()));
    for dir in dirs {
        let mut below = Vec::new();
        walk(&dir, "", 0, &mut below);
        below.reverse();
        for child in below {
            let _ = fs::remove_dir(child);
        }
        let _ = fs::remove_dir(dir);
    }
}

static OPTIONS_AT_START: OnceLock<Vec<String>> = OnceLock::new();

/// The options of the version 2 hierarchy, `nsdelegate` and so on; none where there is no such hierarchy.
pub fn options() -> Vec<String> {
    let found = crate::proc::mounts("self").into_iter().find(|m| m.fstype == "cgroup2");
    found.map(|m| m.super_options).unwrap_or_default()
}

/// Those that it had when this was called first, which the harness does before any case.
pub fn options_at_start() -> &'static [String] {
    OPTIONS_AT_START.get_or_init(options)
}

/// The directory of a process in the hierarchy of a v1 controller, or in the v2 hierarchy for `""`.
pub fn dir_of(pid: i32, controller: &str) -> Result<PathBuf> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/cgroup")).context("reading the cgroups of a process")?;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next(), fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        if names.split(',').any(|n| n == controller) {
            return Ok(mount_point(controller)?.join(path.trim_start_matches('/')));
        }
    }
    fail(format!("process {pid} is in no cgroup of controller {controller:?}"))
}

/// Where the hierarchy of a v1 controller, or the v2 hierarchy for `""`, is mounted.
pub fn mount_point(controller: &str) -> Result<PathBuf> {
    let found = crate::proc::mounts("self").into_iter().find(|m| match controller {
        "" => m.fstype == "cgroup2",
        name => m.fstype == "cgroup" && m.super_has(name),
    });
    match found {
        Some(m) => Ok(m.target.into()),
        None => fail(format!("no hierarchy of controller {controller:?} is mounted")),
    }
}

/// Whether a resource of this controller can be limited here.
pub fn has_controller(name: &str) -> bool {
    match layout() {
        Layout::V2 => fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|text| text.split_whitespace().any(|c| c == name)),
        Layout::V1 => mount_point(name).is_ok(),
    }
}

/// A file of a cgroup, without the newline at its end.
pub fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).context(&format!("reading {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}
