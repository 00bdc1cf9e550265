//! What the compile step knows about the host, as data. `kernel::probe` fills it; tests make it up.

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
    /// The highest capability that the kernel knows (/proc/sys/kernel/cap_last_cap).
    pub cap_last: u8,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// SELinux is enabled.
    pub selinux: bool,
    /// Kernel release, major and minor.
    pub kernel: (u32, u32),
}
