//! NUMA memory policies (set_mempolicy(2), linux/mempolicy.h).

/// Requirement of a mode on its node list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    None,
    Optional,
    Required,
}

/// Default policy of the system.
pub const MPOL_DEFAULT: u32 = 0;
/// One preferred node; without a node the same as [`MPOL_LOCAL`].
pub const MPOL_PREFERRED: u32 = 1;
/// Only these nodes.
pub const MPOL_BIND: u32 = 2;
/// The node of the CPU that allocates.
pub const MPOL_LOCAL: u32 = 4;
/// Several preferred nodes (Linux 5.15).
pub const MPOL_PREFERRED_MANY: u32 = 5;

const MODES: [(&str, u32, Nodes); 7] = [
    ("MPOL_BIND", MPOL_BIND, Nodes::Required),
    ("MPOL_DEFAULT", MPOL_DEFAULT, Nodes::None),
    ("MPOL_INTERLEAVE", 3, Nodes::Required),
    ("MPOL_LOCAL", MPOL_LOCAL, Nodes::None),
    ("MPOL_PREFERRED", MPOL_PREFERRED, Nodes::Optional),
    ("MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY, Nodes::Required),
    ("MPOL_WEIGHTED_INTERLEAVE", 6, Nodes::Required),
];

/// The nodes are physical ones, whatever cpuset(7) allows.
pub const MPOL_F_STATIC_NODES: u32 = 1 << 15;
/// The nodes are relative to the allowed ones.
pub const MPOL_F_RELATIVE_NODES: u32 = 1 << 14;
/// The kernel may move pages between the nodes (Linux 5.12).
pub const MPOL_F_NUMA_BALANCING: u32 = 1 << 13;

const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING),
    ("MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES),
    ("MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES),
];

/// The number of a mode and what it requires of its node list.
pub fn mode(name: &str) -> Option<(u32, Nodes)> {
    MODES.iter().find(|(n, ..)| *n == name).map(|(_, v, nodes)| (*v, *nodes))
}

/// The bit of a mode flag, to be or-ed to the mode.
pub fn flag(name: &str) -> Option<u32> {
    FLAGS.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// All names of modes, sorted.
pub fn modes() -> impl Iterator<Item = &'static str> {
    MODES.iter().map(|(n, ..)| *n)
}

/// All names of mode flags, sorted.
pub fn flags() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|(n, _)| *n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_the_kernels() {
        assert!(modes().is_sorted());
        assert!(flags().is_sorted());
        assert_eq!(MODES.iter().fold(0, |m, (_, n, _)| m | 1 << n), 0x7f);
        assert_eq!(mode("MPOL_BIND"), Some((2, Nodes::Required)));
        assert_eq!(mode("bind"), None);
        assert_eq!(flag("MPOL_F_STATIC_NODES"), Some(0x8000));
        assert_eq!(flag("STATIC_NODES"), None);
    }
}
