//! Workloads: one set of types, the tables of every format's fields, and the readers that turn files into the types.

pub(crate) mod annotations;
pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod compose;
pub(crate) mod controller;
pub mod cron;
mod cronjob;
pub mod depends;
mod document;
pub(crate) mod engine;
pub(crate) mod environment;
pub(crate) mod exit_codes;
pub(crate) mod explain;
pub(crate) mod files;
mod fix;
pub(crate) mod health;
pub(crate) mod health_check;
pub(crate) mod inputs;
pub(crate) mod job;
pub(crate) mod kept;
mod kinds;
mod kubernetes;
pub(crate) mod model;
mod native;
pub use native::image as absolute_image;
pub(crate) mod object;
mod openshift;
pub(crate) mod pod;
pub(crate) mod probe;
pub(crate) mod read;
pub(crate) mod replica;
pub(crate) mod scalar;
pub mod schedule;
pub(crate) mod schema;
pub(crate) mod semantic;
mod strategy;
pub(crate) mod write;

#[cfg(test)]
mod tests;

pub use compose::build::{BUILD, Build, is_remote as is_remote_context};
pub use fix::apply as corrected;
pub use kept::{KeptKind, KeptObject};
pub use model::{ApiVersion, Kind, Metadata, Spec, Workload};
pub use object::{Object, Read};
pub use read::read;
