//! The names that a bundle may use, and the kernel's numbers behind them. Data and look-ups, nothing else.

pub(crate) mod capabilities;
pub(crate) mod mempolicy;
pub(crate) mod mount_options;
pub mod namespaces;
pub(crate) mod rlimits;
pub(crate) mod sched;
pub(crate) use crate::config::signals;
pub(crate) mod sysctl;
