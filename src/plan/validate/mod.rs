//! The rules of runtime-spec 1.3 for Linux: every one that a configuration breaks is found, not only the first.
//!
//! Errors that depend on the host beyond [`HostFacts`] (a missing path, a namespace file of another type, a limit that the
//! kernel refuses) occur when the plan is executed. Seccomp profiles and the conversion of resources have
//! their own compilers, which report their own violations.

mod devices;
mod hooks;
mod idmap;
mod linux;
mod mounts;
mod namespaces;
mod network;
mod process;
mod resources;
mod root;
mod sched;
mod sysctl;

#[cfg(test)]
mod fuzz;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))]
pub(crate) mod testing;

use super::Violation;
use super::facts::HostFacts;
use crate::config::spec::{Process, Spec};

/// Findings so far.
#[derive(Debug, Default)]
struct Findings {
    violations: Vec<Violation>,
    warnings: Vec<String>,
}

impl Findings {
    /// A rule that `property` breaks.
    fn violation(&mut self, property: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation::new(property, message));
    }

    /// A rule that `property` breaks, with the way out.
    fn hinted(&mut self, property: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.violations.push(Violation::new(property, message).hint(hint));
    }

    /// A message for the user that does not stop the command.
    fn warning(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// A string that becomes a C string ends at its first NUL byte, so none may be in it.
    fn no_nul(&mut self, property: impl FnOnce() -> String, value: &str) {
        if value.contains('\0') {
            self.violation(property(), format!("{value:?} contains a null byte"));
        }
    }
}

/// Where the process object stands in its document.
#[derive(Clone, Copy)]
struct At(&'static str);

impl At {
    /// The path of a property of the process.
    fn path_of(self, property: &str) -> String {
        format!("{}{property}", self.0)
    }
}

/// The process that a `process` object describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessUse {
    /// The container's first one: the object is `process` of config.json.
    Create,
    /// One more in a running container: the object is a document of its own, in which `cwd` may be missing and is `/` then,
    /// as CRI-O writes it.
    Exec,
}

/// Checks a whole configuration. Returns the violations, in the order of config.md and config-linux.md, and the
/// warnings; with no violation the configuration may be compiled.
pub fn validate(spec: &Spec, facts: &HostFacts) -> (Vec<Violation>, Vec<String>) {
    let mut f = Findings::default();
    root::check(spec, &mut f);
    mounts::check(spec, facts, &mut f);
    process::check_init(spec, facts, &mut f);
    hooks::check(&spec.hooks, &mut f);
    namespaces::check(&spec.linux, facts, &mut f);
    idmap::check(spec, facts, &mut f);
    devices::check(&spec.linux, &mut f);
    network::check(&spec.linux, facts, &mut f);
    if let Some(resources) = &spec.linux.resources {
        resources::check(resources, &mut f);
    }
    sysctl::check(&spec.linux, &mut f);
    linux::check(&spec.linux, facts, &mut f);
    (f.violations, f.warnings)
}

/// Checks a `process` object alone; `context` says whose. Returns violations and warnings as [`validate`] does.
pub fn validate_process(
    process: &Process,
    facts: &HostFacts,
    context: ProcessUse,
) -> (Vec<Violation>, Vec<String>) {
    let mut f = Findings::default();
    process::check(process, facts, context, &mut f);
    (f.violations, f.warnings)
}
