//! What shall run: one set of types, the tables of every format's fields, and the readers that turn files into the types.

pub mod annotations;
pub mod bundle;
pub mod check;
pub mod compose;
pub mod controller;
pub mod depends;
pub mod engine;
pub mod environment;
pub mod explain;
pub mod files;
mod fix;
pub mod health;
pub mod inputs;
pub mod job;
pub mod kept;
mod kinds;
mod kubernetes;
pub mod model;
mod native;
pub use native::image as absolute_image;
mod openshift;
pub mod pod;
pub mod read;
pub mod replica;
pub mod scalar;
pub mod schema;
pub mod semantic;
pub mod write;

#[cfg(test)]
mod tests;

pub use compose::build::{BUILD, Build, is_remote as is_remote_context};
pub use fix::apply as corrected;
pub use kept::{KeptKind, KeptObject};
pub use model::{ApiVersion, Kind, Metadata, Spec, Workload};
pub use read::{Object, Read, read};
