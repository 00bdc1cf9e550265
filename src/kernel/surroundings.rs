//! Restrictions of the environment: missing capabilities, a seccomp filter, an old kernel, small limits.

use crate::error::{Errno, Error, Kind, Result};
use crate::plan::explain;
use crate::plan::tables::capabilities;
use crate::sys::{cred, limits, prctl};

/// Capabilities that orun needs as root (capabilities(7)).
const USED: [&str; 12] = [
    "CAP_SYS_ADMIN",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
];

/// Demands enough memory and descriptors to work, and to clean up after a failure; `launches` as for
/// [`limits::shortage`].
///
/// # Errors
/// The first limit that is too small.
pub fn check_limits(launches: bool) -> Result<()> {
    let Some(short) = limits::shortage(launches) else { return Ok(()) };
    let what =
        format!("{} is limited to {}, and orun needs at least {}", short.name, short.hard, short.least);
    Err(Error::new(Kind::System, what)
        .hint("start orun with a higher hard limit (ulimit -H, systemd's Limit...=)"))
}

/// Adds to an error what around orun may have made the kernel refuse.
pub fn explain(e: Error) -> Error {
    let why = match e.errno() {
        Some(Errno(libc::ENOSYS)) => Some(explain::HIDDEN.to_owned()),
        Some(Errno(libc::EPERM | libc::EACCES)) => refused(e.hint_text().is_none()),
        _ => None,
    };
    match (e.hint_text().map(str::to_owned), why) {
        (Some(hint), Some(why)) => e.hint(format!("{hint}; {why}")),
        (None, Some(why)) => e.hint(why),
        (_, None) => e,
    }
}

/// Why a system call may have been refused; `guess`: also where nothing is known to be missing.
fn refused(guess: bool) -> Option<String> {
    if cred::geteuid() == 0 {
        let held = cred::capget().ok()?.effective;
        let missing: Vec<_> =
            USED.iter().copied().filter(|name| capabilities::mask(&[*name]) & held == 0).collect();
        if !missing.is_empty() {
            return Some(format!("orun runs without {}, which this may need", missing.join(", ")));
        }
    }
    (guess && prctl::has_seccomp_filter()).then(|| "a seccomp filter around orun may forbid it".to_owned())
}
