//! Scheduling policies and I/O priorities (sched_setattr(2), ioprio_set(2)).

/// `SCHED_ISO` has a number and no implementation in any kernel.
pub const SCHED_ISO: u32 = 4;

const POLICIES: [(&str, u32); 7] = [
    ("SCHED_BATCH", libc::SCHED_BATCH as u32),
    ("SCHED_DEADLINE", libc::SCHED_DEADLINE as u32),
    ("SCHED_FIFO", libc::SCHED_FIFO as u32),
    ("SCHED_IDLE", libc::SCHED_IDLE as u32),
    ("SCHED_ISO", SCHED_ISO),
    ("SCHED_OTHER", libc::SCHED_OTHER as u32),
    ("SCHED_RR", libc::SCHED_RR as u32),
];

/// Flags of `struct sched_attr` (linux/sched.h).
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
];

const IO_CLASSES: [(&str, u16); 3] =
    [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3), ("IOPRIO_CLASS_RT", 1)];

/// The number of a policy (`process.scheduler.policy`).
pub fn policy(name: &str) -> Option<u32> {
    POLICIES.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// The bit of a flag (`process.scheduler.flags`).
pub fn flag(name: &str) -> Option<u64> {
    FLAGS.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// All names of policies, sorted.
pub fn policies() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|(n, _)| *n)
}

/// All names of flags, sorted.
pub fn flags() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|(n, _)| *n)
}

/// All names of I/O scheduling classes, sorted.
pub fn io_classes() -> impl Iterator<Item = &'static str> {
    IO_CLASSES.iter().map(|(n, _)| *n)
}

/// The I/O scheduling class `name`.
pub fn io_class(name: &str) -> Option<u16> {
    IO_CLASSES.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// The value for ioprio_set(2): the class from bit 13 on, the priority (0 to 7) below.
pub fn io_priority(class: &str, priority: i32) -> Option<u16> {
    let priority = u16::try_from(priority).ok().filter(|p| *p <= 7)?;
    Some(io_class(class)? << 13 | priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_numbers_are_distinct() {
        assert!(policies().is_sorted());
        assert!(flags().is_sorted());
        assert!(io_classes().is_sorted());
        assert_eq!(POLICIES.iter().fold(0, |m, (_, n)| m | 1 << n), 0x7f);
        assert_eq!(FLAGS.iter().fold(0, |m, (_, n)| m | n), 0x7f);
    }

    #[test]
    fn values_are_the_kernels() {
        assert_eq!(policy("SCHED_OTHER"), Some(0));
        assert_eq!(policy("SCHED_DEADLINE"), Some(6));
        assert_eq!(policy("SCHED_NORMAL"), None);
        assert_eq!(flag("SCHED_FLAG_RECLAIM"), Some(2));
        assert_eq!(flag("RECLAIM"), None);
        assert_eq!(io_priority("IOPRIO_CLASS_BE", 4), Some(2 << 13 | 4));
        assert_eq!(io_priority("IOPRIO_CLASS_RT", 0), Some(1 << 13));
        assert_eq!(io_priority("IOPRIO_CLASS_BE", 8), None);
        assert_eq!(io_priority("IOPRIO_CLASS_BE", -1), None);
        assert_eq!(io_priority("BE", 1), None);
    }
}
