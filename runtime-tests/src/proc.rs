//! `/proc` as data: descendants, mounts, namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The mount's number.
    pub id: u64,
    /// The number of the parent mount.
    pub parent: u64,
    /// Which directory of the file system is its root.
    pub root: String,
    /// The mount point.
    pub target: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// Optional fields: `shared:N`, `master:N`, `unbindable`.
    pub propagation: Vec<String>,
    /// The type of the file system.
    pub fstype: String,
    /// Its source.
    pub source: String,
    /// Options of the file system itself.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Reads one line; `None` when it has too few fields.
    pub fn parse(line: &str) -> Option<Mount> {
        let fields: Vec<&str> = line.split(' ').collect();
        let dash = fields.iter().skip(6).position(|f| *f == "-")? + 6;
        let list = |s: &str| s.split(',').map(str::to_owned).collect();
        Some(Mount {
            id: fields[0].parse().ok()?,
            parent: fields[1].parse().ok()?,
            root: unescape(fields[3]),
            target: unescape(fields[4]),
            options: list(fields[5]),
            propagation: fields[6..dash].iter().map(|s| (*s).to_owned()).collect(),
            fstype: (*fields.get(dash + 1)?).to_owned(),
            source: unescape(fields.get(dash + 2)?),
            super_options: list(fields.get(dash + 3)?),
        })
    }

    /// Whether the mount has an option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Whether the file system has an option.
    pub fn super_has(&self, option: &str) -> bool {
        self.super_options.iter().any(|o| o == option)
    }

    /// Whether the mount is in a peer group.
    pub fn is_shared(&self) -> bool {
        self.propagation.iter().any(|p| p.starts_with("shared:"))
    }

    /// Whether the mount receives from a peer group.
    pub fn is_slave(&self) -> bool {
        self.propagation.iter().any(|p| p.starts_with("master:"))
    }

    /// Whether the mount cannot be bound.
    pub fn is_unbindable(&self) -> bool {
        self.propagation.iter().any(|p| p == "unbindable")
    }
}

fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The mounts of a process, `self` or a pid.
pub fn mounts(pid: &str) -> Vec<Mount> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(Mount::parse).collect()
}

/// A process as its `stat` file shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// `R`, `S`, `Z`, ...
    pub state: char,
    /// Its short name.
    pub name: String,
}

/// What `/proc/PID/stat` says, `None` when there is no such process.
pub fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Process { pid, parent: fields.next()?.parse().ok()?, state, name })
}

/// All processes that can be seen.
pub fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| process(e.file_name().to_str()?.parse().ok()?)).collect()
}

/// The living processes that `ancestor` has started, and their descendants.
pub fn descendants(ancestor: i32) -> Vec<Process> {
    let all = processes();
    let parents: BTreeMap<i32, i32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    let descends = |pid: i32| {
        let mut at = pid;
        // The bound only guards against a chain that changes while it is read.
        for _ in 0..4096 {
            match parents.get(&at) {
                Some(&parent) if parent == ancestor => return true,
                Some(&parent) if parent != 0 => at = parent,
                _ => return false,
            }
        }
        false
    };
    all.into_iter().filter(|p| p.state != 'Z' && p.state != 'X' && descends(p.pid)).collect()
}

/// Whether a process lives: it exists and is not a zombie.
pub fn lives(pid: i32) -> bool {
    process(pid).is_some_and(|p| p.state != 'Z' && p.state != 'X')
}

/// A namespace of a process, as `pid:[4026531836]`.
pub fn namespace(pid: i32, kind: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Whether the harness has the effective capability of this number (capabilities(7)).
pub fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    set.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & 1 << number != 0)
}

/// The kernel's version as (major, minor).
pub fn kernel_version() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = text.split(['.', '-']).map_while(|p| p.parse().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Whether the kernel has a file system type.
pub fn has_filesystem(name: &str) -> bool {
    let text = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    text.lines().any(|l| l.split_whitespace().last() == Some(name))
}

/// The mode bits of a file, without its type.
pub fn mode(path: &Path) -> std::io::Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::symlink_metadata(path)?.permissions().mode() & 0o7777)
}
