//! The compile step: a configuration and facts about the host become a flat list of operations. Everything here
//! is pure: no I/O, no clock, no randomness.

pub mod cgroup;
pub(crate) mod checkpoint;
pub mod compile;
pub(crate) mod cpu_list;
pub(crate) mod device_filter;
pub(crate) mod exec;
pub(crate) mod explain;
pub mod facts;
pub(crate) mod hooks;
pub(crate) mod instance;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod netdev;
pub mod op;
pub(crate) mod options;
pub(crate) mod overlay;
pub(crate) mod process;
pub(crate) mod rdt;
pub(crate) mod rootfs;
pub mod seccomp;
pub(crate) mod step;
pub mod tables;
mod text;
pub(crate) mod user;
pub(crate) mod validate;

use std::fmt;

/// A rule of the specification that a configuration breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the property: `linux.namespaces[2].type`.
    pub property: String,
    /// The problem, in lower case, with the offending value.
    pub message: String,
    /// The way out, where there is one.
    pub hint: Option<String>,
}

impl Violation {
    /// A violation at `property`.
    pub fn new(property: impl Into<String>, message: impl Into<String>) -> Violation {
        Violation { property: property.into(), message: message.into(), hint: None }
    }

    /// Adds the way out.
    pub fn hint(mut self, h: impl Into<String>) -> Violation {
        self.hint = Some(h.into());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.message)?;
        match &self.hint {
            Some(h) => write!(f, " (hint: {h})"),
            None => Ok(()),
        }
    }
}
