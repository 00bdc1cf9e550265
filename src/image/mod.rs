//! Images: how they are named, and what their configuration makes of a container. Pure so far.

pub mod bundle;
pub mod configuration;
pub mod reference;
