//! Resource limits that are too small for orun: getrlimit(2), prlimit(2).
//!
//! A caller may have small limits that are meant for the program and not for orun. It gives itself more where it may, and
//! what it runs finds the caller's again.

use super::{SysResult, sched};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// A limit that orun runs into.
struct Limit {
    resource: u32,
    /// For people.
    name: &'static str,
    /// Limits of orun itself.
    enough: u64,
    /// Without as much it cannot work.
    least: u64,
    /// No command can: it would end at the first page that the kernel does not give.
    always: bool,
}

const MIB: u64 = 1 << 20;

const fn row(resource: u32, name: &'static str, enough: u64, least: u64, always: bool) -> Limit {
    Limit { resource, name, enough, least, always }
}

const LIMITS: [Limit; 5] = [
    row(libc::RLIMIT_STACK, "RLIMIT_STACK", 8 * MIB, MIB / 2, true),
    row(libc::RLIMIT_AS, "RLIMIT_AS", 1024 * MIB, 64 * MIB, true),
    row(libc::RLIMIT_DATA, "RLIMIT_DATA", 1024 * MIB, 32 * MIB, true),
    row(libc::RLIMIT_NOFILE, "RLIMIT_NOFILE", 1024, 64, false),
    // A file over this limit fails with an error of its own.
    row(libc::RLIMIT_FSIZE, "RLIMIT_FSIZE", 1024 * MIB, 0, false),
];

/// Original limits of the caller, where they were changed.
struct Before {
    changed: AtomicBool,
    soft: AtomicU64,
    hard: AtomicU64,
}

static BEFORE: [Before; LIMITS.len()] =
    [const { Before { changed: AtomicBool::new(false), soft: AtomicU64::new(0), hard: AtomicU64::new(0) } };
        LIMITS.len()];

/// Which of [`LIMITS`] are too small to work with, a bit each.
static SHORT: AtomicU32 = AtomicU32::new(0);

/// Gives this process enough of each resource, as far as it may. Before there are threads.
pub fn widen() {
    for (n, (limit, before)) in LIMITS.iter().zip(&BEFORE).enumerate() {
        let Ok((soft, hard)) = sched::limit(limit.resource) else { continue };
        if soft >= limit.enough {
            continue;
        }
        if limit.resource == libc::RLIMIT_FSIZE {
            // A write beyond it is an error then, and not the end of the program.
            // SAFETY: SIG_IGN runs no code.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        }
        let wider = [(limit.enough, hard.max(limit.enough)), (hard.min(limit.enough), hard)];
        let given =
            wider.into_iter().find(|(s, h)| *s > soft && sched::prlimit(0, limit.resource, *s, *h).is_ok());
        if given.is_some() {
            before.soft.store(soft, Ordering::Relaxed);
            before.hard.store(hard, Ordering::Relaxed);
            before.changed.store(true, Ordering::Relaxed);
        }
        if given.map_or(soft, |(s, _)| s) < limit.least {
            SHORT.fetch_or(1 << n, Ordering::Relaxed);
        }
    }
}

/// Puts the caller's limits back, for a program that is run next; those whose bit is set in `but` stay as they are.
pub fn restore(but: u32) -> SysResult<()> {
    for (limit, before) in LIMITS.iter().zip(&BEFORE) {
        if before.changed.load(Ordering::Relaxed) && but >> limit.resource & 1 == 0 {
            let (soft, hard) = (before.soft.load(Ordering::Relaxed), before.hard.load(Ordering::Relaxed));
            sched::prlimit(0, limit.resource, soft, hard)?;
        }
    }
    Ok(())
}

/// A limit that is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    pub name: &'static str,
    /// The limit that the caller has set.
    pub hard: u64,
    pub least: u64,
}

/// The first limit that is too small after [`widen`]; `launches`: for a command that makes a process of a container.
pub fn shortage(launches: bool) -> Option<Shortage> {
    let short = SHORT.load(Ordering::Relaxed);
    let mut all = LIMITS.iter().enumerate().filter(|(n, _)| short >> n & 1 == 1).map(|(_, l)| l);
    let l = all.find(|l| launches || l.always)?;
    let (_, hard) = sched::limit(l.resource).ok()?;
    Some(Shortage { name: l.name, hard, least: l.least })
}
