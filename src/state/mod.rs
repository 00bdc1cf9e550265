//! The record of a container, its life cycle and the directory they are kept in.

pub mod id;
pub mod lifecycle;
pub mod model;
pub mod store;
