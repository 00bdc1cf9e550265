//! Keeps the replicas of workloads alive.
//!
//! `core` decides and touches nothing: it is a function of the desired state, the observed state, and the time. Everything
//! that it decides is an `Action`, everything that happens is an `Event`.

pub mod core;
pub mod driver;
pub mod shell;
