//! Bytes to types: config.json, process.json, the resources document and the supervisor's workload files. No
//! look-ups on the host.

pub mod bundle;
pub mod defaults;
pub mod document;
pub mod linux;
pub mod parse;
pub mod quantity;
pub mod resources;
pub mod seccomp;
pub mod signals;
pub mod spec;
mod strict;
pub mod workload;
