//! The record of a container, its life cycle and the directory they are kept in.

pub(crate) mod id;
pub(crate) mod lifecycle;
pub mod model;
pub mod store;
