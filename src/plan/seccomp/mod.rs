//! `linux.seccomp` (config-linux.md, "Seccomp") to a filter program for seccomp(2).
//!
//! The rules mean what they mean to runc and libseccomp:
//! * The native architecture is always covered; a system call of an architecture that the profile does not
//!   list kills the thread. x32 counts as an architecture of its own.
//! * A rule without conditions decides for its system call, the first such rule if there are several. Among
//!   rules with conditions the order in the profile has no meaning; `rules::in_order` says which one wins.
//! * The conditions of a rule must all hold, unless two look at the same argument: then any is enough.
//! * A rule whose action is the default action is skipped.
//! * Names that no architecture knows are skipped. Sockets and System V IPC are also filtered where they go
//!   through socketcall(2) and ipc(2).
//! * Unless the default action lets system calls pass, those newer than the newest that the profile names
//!   return `ENOSYS`, so that a C library falls back to older ones.

mod arch;
mod asm;
mod compile;
pub mod names;
pub(crate) mod own;
mod profile;
mod rules;
mod syscalls;
mod table;

#[cfg(test)]
mod oracle;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))]
pub(crate) mod sim;
#[cfg(any(test, fuzzing))]
pub(crate) use sim::verify;
#[cfg(test)]
mod tests;

pub use arch::Arch;

use super::Violation;
use super::facts::SeccompFacts;
use crate::config::seccomp::Seccomp;
use rules::{Checks, Named};
use syscalls::Syscall;

/// `BPF_MAXINSNS` (linux/bpf_common.h).
const MAX_INSTRUCTIONS: usize = 4096;

pub use crate::sys::prctl::SockFilter;

/// Where the descriptor of the listener goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Path of the agent's socket.
    pub path: String,
    /// The `metadata` for the agent.
    pub metadata: String,
}

/// A filter and how to load it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The instructions.
    pub filter: Vec<SockFilter>,
    /// `SECCOMP_FILTER_FLAG_*` for seccomp(2), with `NEW_LISTENER` where a rule notifies.
    pub flags: u32,
    /// seccomp(2) returns the descriptor of a listener.
    pub notify: bool,
    /// The agent that gets it; there is one exactly where `notify` is set.
    pub listener: Option<Listener>,
    /// Skipped names.
    pub warnings: Vec<String>,
}

/// Compiles a profile.
pub fn compile(profile: &Seccomp, facts: &SeccompFacts) -> Result<Option<Program>, Vec<Violation>> {
    if profile.default_action.is_empty() {
        let v = Violation::new("linux.seccomp.defaultAction", "is required");
        return Err(vec![v.hint("leave out linux.seccomp to filter nothing")]);
    }
    let mut checked = profile::check(profile, facts)?;
    let mut named = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    for rule in &checked.rules {
        for name in rule.names {
            match Syscall::from_name(name) {
                Some(call) => named.push(Named { call, rule }),
                None => unknown.push(name),
            }
        }
    }
    if !unknown.is_empty() {
        let message =
            format!("linux.seccomp.syscalls: unknown system calls are skipped: {}", unknown.join(", "));
        checked.warnings.push(message);
    }
    let (mut checks, mut violations) = (Checks::default(), Vec::new());
    let mut ranges = Vec::with_capacity(checked.archs.len());
    for arch in &checked.archs {
        // On other architectures rules may meet that differ in the profile.
        let v = (*arch == facts.arch).then_some(&mut violations);
        ranges.push((*arch, rules::ranges(*arch, &checked, &named, &mut checks, v)));
    }
    let sections = compile::sections(ranges, checked.default);
    let filter = compile::program(&sections, &checks.0, checked.default, facts.arch);
    if filter.len() > MAX_INSTRUCTIONS {
        violations.push(Violation::new(
            "linux.seccomp.syscalls",
            format!("take {} instructions, the kernel allows {MAX_INSTRUCTIONS}", filter.len()),
        ));
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let listener = checked.notify.then(|| Listener {
        path: profile.listener_path.clone(),
        metadata: profile.listener_metadata.clone(),
    });
    let (flags, notify, warnings) = (checked.flags, checked.notify, checked.warnings);
    Ok(Some(Program { filter, flags, notify, listener, warnings }))
}
