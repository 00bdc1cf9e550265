//! The supervisor on Linux: the world that the core's decisions are done in.

pub mod handle;
pub mod logs;
pub mod names;
