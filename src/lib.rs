//! orun: an OCI container runtime that compiles a bundle into a plan and then executes it.

#![deny(unsafe_code, missing_docs)]

pub(crate) mod api;
pub mod cli;
pub mod config;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod image;
pub mod kernel;
pub(crate) mod log;
#[cfg(feature = "mutants")]
mod mutant;
pub(crate) mod network;
pub mod orund;
pub mod plan;
pub mod runtime;
pub mod state;
pub mod supervisor;
pub mod sys;
pub mod workload;
