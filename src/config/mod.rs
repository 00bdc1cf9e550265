//! Bytes to types: config.json, process.json and the resources document. No
//! look-ups on the host.

pub mod bundle;
pub mod defaults;
pub mod document;
pub mod linux;
mod nullable;
pub mod parse;
pub mod procfs;
pub mod quantity;
pub mod resources;
pub mod seccomp;
pub mod signals;
pub mod spec;
mod strict;
