//! Namespaces, mount propagation and the execution domain: the small sets of config-linux.md.

/// A kind of namespace (config-linux.md, "Namespaces").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceKind {
    /// `cgroup`, cgroup_namespaces(7).
    Cgroup,
    /// `ipc`, ipc_namespaces(7).
    Ipc,
    /// `mount`, mount_namespaces(7).
    Mount,
    /// `network`, network_namespaces(7).
    Network,
    /// `pid`, pid_namespaces(7).
    Pid,
    /// `time`, time_namespaces(7).
    Time,
    /// `user`, user_namespaces(7).
    User,
    /// `uts`, uts_namespaces(7).
    Uts,
}

/// `CLONE_NEWTIME` (Linux 5.6); clone3(2) and unshare(2) take it, clone(2) does not.
const CLONE_NEWTIME: u64 = 0x80;

impl NamespaceKind {
    /// All kinds, sorted by their names.
    pub const ALL: [NamespaceKind; 8] = [
        NamespaceKind::Cgroup,
        NamespaceKind::Ipc,
        NamespaceKind::Mount,
        NamespaceKind::Network,
        NamespaceKind::Pid,
        NamespaceKind::Time,
        NamespaceKind::User,
        NamespaceKind::Uts,
    ];

    /// The kind that config.json calls `name`.
    pub fn from_name(name: &str) -> Option<NamespaceKind> {
        NamespaceKind::ALL.into_iter().find(|k| k.name() == name)
    }

    /// The name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Mount => "mount",
            NamespaceKind::Network => "network",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Time => "time",
            NamespaceKind::User => "user",
            NamespaceKind::Uts => "uts",
        }
    }

    /// The file below /proc/PID/ns (namespaces(7)).
    pub fn proc_name(self) -> &'static str {
        match self {
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Network => "net",
            other => other.name(),
        }
    }

    /// The flag of clone3(2), unshare(2) and setns(2), which is also what `NS_GET_NSTYPE` (ioctl_nsfs(2)) answers.
    pub fn clone_flag(self) -> u64 {
        match self {
            NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP as u64,
            NamespaceKind::Ipc => libc::CLONE_NEWIPC as u64,
            NamespaceKind::Mount => libc::CLONE_NEWNS as u64,
            NamespaceKind::Network => libc::CLONE_NEWNET as u64,
            NamespaceKind::Pid => libc::CLONE_NEWPID as u64,
            NamespaceKind::Time => CLONE_NEWTIME,
            NamespaceKind::User => libc::CLONE_NEWUSER as u64,
            NamespaceKind::Uts => libc::CLONE_NEWUTS as u64,
        }
    }
}

/// Mount propagation (mount_namespaces(7)): names, and flags for mount(2).
const PROPAGATION: [(&str, u64); 8] = [
    ("private", libc::MS_PRIVATE),
    ("rprivate", libc::MS_PRIVATE | libc::MS_REC),
    ("rshared", libc::MS_SHARED | libc::MS_REC),
    ("rslave", libc::MS_SLAVE | libc::MS_REC),
    ("runbindable", libc::MS_UNBINDABLE | libc::MS_REC),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// The `MS_*` flags, with `MS_REC` for the names in `r`, of a propagation (a mount option, or
/// `linux.rootfsPropagation`).
pub fn propagation(name: &str) -> Option<u64> {
    PROPAGATION.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// All names of propagations, sorted.
pub fn propagation_names() -> impl Iterator<Item = &'static str> {
    PROPAGATION.iter().map(|(n, _)| *n)
}

/// The persona for personality(2) of `linux.personality.domain`.
pub fn personality(domain: &str) -> Option<u64> {
    match domain {
        "LINUX" => Some(0),
        "LINUX32" => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_distinct_names_and_flags() {
        assert!(NamespaceKind::ALL.is_sorted_by(|a, b| a.name() < b.name()));
        let all = NamespaceKind::ALL.iter().fold(0, |m, k| {
            assert_eq!(m & k.clone_flag(), 0, "{k:?}");
            assert_eq!(NamespaceKind::from_name(k.name()), Some(*k));
            m | k.clone_flag()
        });
        assert_eq!(all, 0x7e02_0080);
        assert_eq!(NamespaceKind::from_name("mnt"), None);
        assert_eq!(NamespaceKind::from_name("Pid"), None);
    }

    #[test]
    fn files_of_proc() {
        assert_eq!(NamespaceKind::Mount.proc_name(), "mnt");
        assert_eq!(NamespaceKind::Network.proc_name(), "net");
        assert_eq!(NamespaceKind::Cgroup.proc_name(), "cgroup");
    }

    #[test]
    fn propagation_and_personality() {
        assert_eq!(propagation("slave"), Some(0x80000));
        assert_eq!(propagation("rshared"), Some(0x100000 | 0x4000));
        assert_eq!(propagation("rw"), None);
        assert!(propagation_names().is_sorted());
        assert_eq!(personality("LINUX32"), Some(8));
        assert_eq!(personality("linux"), None);
    }
}
