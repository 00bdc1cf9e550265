//! Facts about the host that the compile step uses, as data. `kernel::probe` fills them; tests make them up.

use super::seccomp::{Arch, names};

/// Facts about the host and about the process that runs orun.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// Effective user id of orun.
    pub euid: u32,
    /// Effective group id of orun.
    pub egid: u32,
    /// orun runs in the initial user namespace (user_namespaces(7)).
    pub initial_userns: bool,
    /// Capabilities that orun may grant: its permitted set, bit N is capability N.
    pub capabilities: u64,
    /// How orun's capabilities follow its user id: `SECBIT_*` (capabilities(7)), 0 if unchanged.
    pub securebits: u32,
    /// The highest capability that the kernel knows (/proc/sys/kernel/cap_last_cap).
    pub cap_last: u8,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// SELinux is enabled.
    pub selinux: bool,
    /// Where resctrl is mounted; only looked for where the configuration asks for it.
    pub resctrl: Option<String>,
    /// Where control groups are mounted and which ones orun is in.
    pub cgroup: CgroupFacts,
    /// Seccomp features of the kernel.
    pub seccomp: SeccompFacts,
}

/// Which versions of control groups the host has mounted (cgroups(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// No control group file system is mounted.
    #[default]
    None,
    /// Only version 1 hierarchies.
    Legacy,
    /// Version 1 hierarchies, and version 2 for the controllers that are left.
    Hybrid,
    /// Only version 2.
    Unified,
}

/// The control groups of the host, as /proc/self/cgroup and /proc/self/mountinfo report them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupFacts {
    /// Which hierarchies are mounted.
    pub mode: CgroupMode,
    /// The mounted version 1 hierarchies.
    pub v1: Vec<V1Hierarchy>,
    /// The mounted version 2 hierarchy.
    pub v2: Option<V2Hierarchy>,
    /// The service manager that is to make the cgroups; only asked where it is to.
    pub systemd: Option<SystemdFacts>,
}

/// A running systemd: that of the host for root, that of the user for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemdFacts {
    /// 257 is `257.1-2`.
    pub version: u32,
    /// The cgroup that the root of its slices is, from the root of the hierarchy.
    pub control_group: String,
}

/// A mounted version 1 hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V1Hierarchy {
    /// Its controllers, `cpu` and `cpuacct`, or its name, `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount_point: String,
    /// The cgroup that is mounted there, `/` unless part of the hierarchy is bound.
    pub mount_root: String,
    /// The cgroup that orun is in, from the root of the hierarchy (or of the cgroup namespace).
    pub own_path: String,
}

/// The mounted version 2 hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V2Hierarchy {
    /// Where it is mounted.
    pub mount_point: String,
    /// The cgroup that is mounted there.
    pub mount_root: String,
    /// The cgroup that orun is in.
    pub own_path: String,
    /// The controllers that may be enabled below the mount point (`cgroup.controllers`).
    pub controllers: Vec<String>,
}

/// Seccomp features of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeccompFacts {
    /// The architecture of orun, whose system calls every filter covers.
    pub arch: Arch,
    /// The `SECCOMP_FILTER_FLAG_*` that seccomp(2) takes.
    pub flags: u32,
}

impl Default for SeccompFacts {
    /// The architecture this program is built for, and the flags of Linux 5.19.
    fn default() -> SeccompFacts {
        SeccompFacts { arch: Arch::NATIVE, flags: names::ALL_FLAGS }
    }
}
