//! Capabilities (capabilities(7), linux/capability.h of Linux 6.18).

/// Names and numbers, sorted by name.
const BY_NAME: [(&str, u8); 41] = [
    ("CAP_AUDIT_CONTROL", 30),
    ("CAP_AUDIT_READ", 37),
    ("CAP_AUDIT_WRITE", 29),
    ("CAP_BLOCK_SUSPEND", 36),
    ("CAP_BPF", 39),
    ("CAP_CHECKPOINT_RESTORE", 40),
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_IPC_LOCK", 14),
    ("CAP_IPC_OWNER", 15),
    ("CAP_KILL", 5),
    ("CAP_LEASE", 28),
    ("CAP_LINUX_IMMUTABLE", 9),
    ("CAP_MAC_ADMIN", 33),
    ("CAP_MAC_OVERRIDE", 32),
    ("CAP_MKNOD", 27),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_BROADCAST", 11),
    ("CAP_NET_RAW", 13),
    ("CAP_PERFMON", 38),
    ("CAP_SETFCAP", 31),
    ("CAP_SETGID", 6),
    ("CAP_SETPCAP", 8),
    ("CAP_SETUID", 7),
    ("CAP_SYSLOG", 34),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_BOOT", 22),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_MODULE", 16),
    ("CAP_SYS_NICE", 23),
    ("CAP_SYS_PACCT", 20),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_RAWIO", 17),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_SYS_TIME", 25),
    ("CAP_SYS_TTY_CONFIG", 26),
    ("CAP_WAKE_ALARM", 35),
];

/// The number of the capability `name`, which is written as in capabilities(7): `CAP_CHOWN`.
pub fn number(name: &str) -> Option<u8> {
    let i = BY_NAME.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
    Some(BY_NAME[i].1)
}

/// The name of capability `number`.
pub fn name(number: u8) -> Option<&'static str> {
    BY_NAME.iter().find(|(_, n)| *n == number).map(|(name, _)| *name)
}

/// All names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    BY_NAME.iter().map(|(name, _)| *name)
}

/// A set as the kernel takes it: bit N is capability N. Unknown names are left out, because the
/// specification requires a warning for them instead of an error (config.md, "Linux Process").
pub fn mask<S: AsRef<str>>(names: &[S]) -> u64 {
    names.iter().filter_map(|n| number(n.as_ref())).fold(0, |m, bit| m | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_every_number_once() {
        assert!(BY_NAME.is_sorted_by(|a, b| a.0 < b.0));
        for n in 0..=40 {
            assert_eq!(number(name(n).unwrap()), Some(n));
        }
        assert_eq!(name(41), None);
        assert_eq!(names().count(), 41);
    }

    #[test]
    fn names_agree_with_the_caps_crate() {
        for c in caps::all() {
            assert_eq!(number(&c.to_string()), Some(c.index()), "{c}");
        }
    }

    #[test]
    fn a_name_needs_its_prefix_and_its_case() {
        for bad in ["CHOWN", "cap_chown", "", "CAP_", "CAP_CHOWN ", "CAP_ZZZ"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn masks_skip_unknown_names() {
        assert_eq!(mask(&["CAP_CHOWN", "CAP_NO_SUCH", "CAP_BPF"]), 1 | 1 << 39);
        assert_eq!(mask::<&str>(&[]), 0);
    }
}
