//! Bytes to types: config.json, process.json and the resources document. No
//! look-ups on the host.

pub(crate) mod bundle;
pub mod defaults;
pub(crate) mod document;
pub(crate) mod linux;
mod nullable;
pub mod parse;
pub(crate) mod procfs;
pub(crate) mod quantity;
pub mod resources;
pub(crate) mod seccomp;
pub(crate) mod signals;
pub mod spec;
mod strict;
