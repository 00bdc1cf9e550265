//! The names that a bundle may use, and the kernel's numbers behind them. Data and look-ups, nothing else.

pub mod capabilities;
pub mod mempolicy;
pub mod mount_options;
pub mod namespaces;
pub mod rlimits;
pub mod sched;
pub use crate::config::signals;
pub mod sysctl;
