//! System calls by name.

use super::arch::Arch;
use super::table::{self, COLUMNS, TABLE};

/// A name, filled up with zeros, as numbers that sort as the names do. An array of them needs no relocations, and is
/// searched without looking at single bytes.
type Key = [u64; 4];

/// Bytes of a name at most.
const LONGEST: usize = 32;

/// As [`key`], at run time.
fn key_of(name: &str) -> Option<Key> {
    let mut bytes = [0; LONGEST];
    bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    let mut key = [0; 4];
    for (word, part) in key.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_be_bytes(*part);
    }
    Some(key)
}

/// Where to look for a key first in [`PLACES`].
const fn place(key: &Key) -> usize {
    let mixed = key[0] ^ key[1].rotate_left(21) ^ key[2].rotate_left(42) ^ key[3];
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as usize
}

/// Position in [`KEYS`] plus one of the key that belongs here or before, 0 for none: an open hash table.
static PLACES: [u16; 2048] = {
    let mut places = [0; 2048];
    let mut i = 0;
    while i < KEYS.len() {
        let mut at = place(&KEYS[i]);
        while places[at] != 0 {
            at = (at + 1) % places.len();
        }
        places[at] = i as u16 + 1;
        i += 1;
    }
    places
};

/// `None` for names longer than any system call's.
const fn key(name: &str) -> Option<Key> {
    let name = name.as_bytes();
    let mut key = [0u64; 4];
    if name.len() > 8 * key.len() {
        return None;
    }
    let mut i = 0;
    while i < name.len() {
        key[i / 8] |= (name[i] as u64) << (56 - 8 * (i % 8));
        i += 1;
    }
    Some(key)
}

static KEYS: [Key; TABLE.len()] = {
    let mut keys = [[0; 4]; TABLE.len()];
    let mut i = 0;
    while i < keys.len() {
        keys[i] = key(TABLE[i].0).expect("a short name");
        i += 1;
    }
    keys
};

static ROWS: [[u16; COLUMNS]; TABLE.len()] = {
    let mut rows = [[0; COLUMNS]; TABLE.len()];
    let mut i = 0;
    while i < rows.len() {
        rows[i] = TABLE[i].1;
        i += 1;
    }
    rows
};

/// Name, multiplexer and number there, as in [`MULTIPLEXED`].
static MULTIPLEXED_KEYS: [(Key, u16, u32); MULTIPLEXED.len()] = {
    let mut keys = [([0; 4], 0, 0); MULTIPLEXED.len()];
    let mut i = 0;
    while i < keys.len() {
        let (name, row, number) = MULTIPLEXED[i];
        keys[i] = (key(name).expect("a short name"), row, number);
        i += 1;
    }
    keys
};

/// A system call of some architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syscall(usize);

impl Syscall {
    /// The system call with that name on any architecture.
    pub(super) fn from_name(name: &str) -> Option<Syscall> {
        let key = key_of(name)?;
        let mut at = place(&key);
        loop {
            let found = usize::from(PLACES[at]).checked_sub(1)?;
            if KEYS[found] == key {
                return Some(Syscall(found));
            }
            at = (at + 1) % PLACES.len();
        }
    }

    /// Its number in the table's column for `arch`; see [`Arch::number`].
    pub(super) fn row(self, arch: Arch) -> Option<u16> {
        let row = ROWS[self.0][arch.column()];
        (row != table::X).then_some(row)
    }

    /// The row of the call that multiplexes this one on `arch`, and this one's number there.
    pub(super) fn multiplexed(self, arch: Arch) -> Option<(u16, u32)> {
        if !arch.multiplexes() {
            return None;
        }
        let found = MULTIPLEXED_KEYS.binary_search_by_key(&KEYS[self.0], |(k, ..)| *k).ok()?;
        let (_, row, number) = MULTIPLEXED_KEYS[found];
        Some((row, number))
    }
}

/// Whether a row of the table is a call that multiplexes others on `arch`.
pub(super) fn is_multiplexer(arch: Arch, row: u16) -> bool {
    arch.multiplexes() && matches!(row, SOCKETCALL | IPC)
}

/// socketcall(2), in every ABI that has it.
const SOCKETCALL: u16 = 102;
/// ipc(2), in every ABI that has it.
const IPC: u16 = 117;

/// Name, multiplexer, and number of the call there (linux/net.h, linux/ipc.h), sorted by name.
const MULTIPLEXED: [(&str, u16, u32); 32] = [
    ("accept", SOCKETCALL, 5),
    ("accept4", SOCKETCALL, 18),
    ("bind", SOCKETCALL, 2),
    ("connect", SOCKETCALL, 3),
    ("getpeername", SOCKETCALL, 7),
    ("getsockname", SOCKETCALL, 6),
    ("getsockopt", SOCKETCALL, 15),
    ("listen", SOCKETCALL, 4),
    ("msgctl", IPC, 14),
    ("msgget", IPC, 13),
    ("msgrcv", IPC, 12),
    ("msgsnd", IPC, 11),
    ("recv", SOCKETCALL, 10),
    ("recvfrom", SOCKETCALL, 12),
    ("recvmmsg", SOCKETCALL, 19),
    ("recvmsg", SOCKETCALL, 17),
    ("semctl", IPC, 3),
    ("semget", IPC, 2),
    ("semop", IPC, 1),
    ("semtimedop", IPC, 4),
    ("send", SOCKETCALL, 9),
    ("sendmmsg", SOCKETCALL, 20),
    ("sendmsg", SOCKETCALL, 16),
    ("sendto", SOCKETCALL, 11),
    ("setsockopt", SOCKETCALL, 14),
    ("shmat", IPC, 21),
    ("shmctl", IPC, 24),
    ("shmdt", IPC, 22),
    ("shmget", IPC, 23),
    ("shutdown", SOCKETCALL, 13),
    ("socket", SOCKETCALL, 1),
    ("socketpair", SOCKETCALL, 8),
];

#[cfg(test)]
mod tests {
    use libseccomp::{ScmpArch, ScmpSyscall};

    use super::*;

    #[test]
    fn the_tables_are_sorted() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        assert!(MULTIPLEXED.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn every_name_is_found_and_no_other() {
        for (i, (name, _)) in TABLE.iter().enumerate() {
            assert_eq!(Syscall::from_name(name), Some(Syscall(i)), "{name}");
            assert_eq!(key_of(name), key(name), "{name}");
            assert_eq!(
                Syscall::from_name(&format!("{name}x")),
                TABLE.iter().position(|(n, _)| *n == format!("{name}x")).map(Syscall)
            );
        }
        assert_eq!(Syscall::from_name(""), None);
        assert_eq!(Syscall::from_name(&"x".repeat(LONGEST)), None);
        assert_eq!(Syscall::from_name(&"x".repeat(LONGEST + 1)), None);
    }

    #[test]
    fn no_architecture_gives_one_number_to_two_calls() {
        for arch in Arch::ALL {
            let mut rows: Vec<u16> = (0..TABLE.len()).filter_map(|i| Syscall(i).row(arch)).collect();
            let all = rows.len();
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), all, "{}", arch.name());
        }
    }

    #[test]
    fn multiplexers_stand_where_the_table_has_them() {
        for arch in Arch::ALL.into_iter().filter(|a| a.multiplexes()) {
            assert_eq!(Syscall::from_name("socketcall").unwrap().row(arch), Some(SOCKETCALL));
            assert_eq!(Syscall::from_name("ipc").unwrap().row(arch), Some(IPC));
        }
    }

    #[test]
    fn every_row_of_the_newest_calls_is_the_same_everywhere() {
        for name in ["pidfd_send_signal", "openat2", "landlock_create_ruleset", "cachestat", "mseal"] {
            let call = Syscall::from_name(name).unwrap();
            let rows: Vec<u16> = Arch::ALL.into_iter().filter_map(|a| call.row(a)).collect();
            assert!(rows.len() == Arch::ALL.len() && rows.iter().all(|r| *r == rows[0]), "{name}: {rows:?}");
        }
    }

    #[test]
    fn the_numbers_are_libseccomps() {
        let mut architectures = 0;
        for arch in Arch::ALL {
            let Ok(theirs) = arch.name().parse::<ScmpArch>() else { continue };
            let mut known = 0;
            for (name, _) in &TABLE {
                let Ok(number) = ScmpSyscall::from_name_by_arch(name, theirs) else { continue };
                // Negative numbers stand for calls that the architecture lacks or multiplexes.
                let theirs = u32::try_from(number.as_raw_syscall()).ok();
                let ours = Syscall::from_name(name).and_then(|c| c.row(arch)).map(|row| arch.number(row));
                let multiplexed = theirs.is_none() && MULTIPLEXED.iter().any(|(n, ..)| n == name);
                // A call that Linux took out of this ABI.
                let gone = arch == Arch::Parisc64 && *name == "_llseek";
                if multiplexed || gone {
                    continue;
                }
                // Architectures got the calls from 424 on at different times.
                if theirs.is_some() || ours.is_some_and(|n| n < arch.base() + 424) {
                    assert_eq!(ours, theirs, "{name} of {}", arch.name());
                }
                known += usize::from(theirs.is_some());
            }
            architectures += usize::from(known > 250);
        }
        // libseccomp 2.5.4 does not know LoongArch, 68000 and SuperH.
        assert!(architectures >= 19, "{architectures}");
    }
}
