//! Resource limits (getrlimit(2)).

/// Names and resource numbers, sorted by name.
const BY_NAME: [(&str, u32); 16] = [
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// The resource number of `name` (`RLIMIT_NOFILE`), for prlimit(2).
pub fn number(name: &str) -> Option<u32> {
    let i = BY_NAME.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
    Some(BY_NAME[i].1)
}

/// The name of resource `number`.
pub fn name(number: u32) -> Option<&'static str> {
    BY_NAME.iter().find(|(_, n)| *n == number).map(|(name, _)| *name)
}

/// All names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    BY_NAME.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_every_number_once() {
        assert!(BY_NAME.is_sorted_by(|a, b| a.0 < b.0));
        for n in 0..16 {
            assert_eq!(number(name(n).unwrap()), Some(n));
        }
        assert_eq!(name(16), None);
    }

    #[test]
    fn names_are_exact() {
        assert_eq!(number("RLIMIT_NOFILE"), Some(7));
        for bad in ["NOFILE", "rlimit_nofile", "RLIMIT_", "", "RLIMIT_NLIMITS"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}
