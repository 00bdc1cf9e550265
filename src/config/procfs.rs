//! Which paths below /proc a mount may cover.

/// Files below /proc that a container may get its own versions of (LXCFS and the like).
pub const FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Whether `path`, as [`lexical`] returns it, is below /proc and none of [`FILES`].
pub fn is_reserved(path: &str) -> bool {
    path.starts_with("/proc/") && !FILES.contains(&path)
}

/// The path as seen from the root, without empty and dot parts.
pub fn lexical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
