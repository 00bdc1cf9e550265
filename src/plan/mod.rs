//! The compile step: a configuration and facts about the host become a flat list of operations. Everything here
//! is pure: no I/O, no clock, no randomness.

pub mod cgroup;
pub mod checkpoint;
pub mod compile;
pub mod cpu_list;
pub mod device_filter;
pub mod exec;
pub mod explain;
pub mod facts;
pub mod hooks;
pub mod instance;
pub mod mounts;
pub mod namespaces;
pub mod netdev;
pub mod op;
pub mod options;
pub mod overlay;
pub mod process;
pub mod rdt;
pub mod rootfs;
pub mod seccomp;
pub mod step;
pub mod tables;
mod text;
pub mod user;
pub mod validate;

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
