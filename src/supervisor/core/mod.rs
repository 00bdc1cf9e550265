//! The pure part of the supervisor: no file, clock, thread, chance or environment. Given the same state, time and
//! configuration it decides the same, to the byte.
//!
//! * [`desired::Desired`]: the desired state; changed by [`desired::Change`]s only (durable journal).
//! * [`model::Observed`]: what was seen and decided; changed by [`event::Event`]s only (runtime journal, one boot).
//! * [`reconcile::reconcile`]: the two and the time in, [`action::Action`]s out. Level-triggered: it looks at what is, never at
//!   what just happened. Recording its actions and asking again ends, after a few rounds, with none.
//!
//! The two logs do not depend on each other, so each is replayed alone.

pub mod action;
pub(crate) mod adopt;
pub mod checks;
mod config;
pub(crate) mod containers;
pub mod controller;
pub mod cron;
pub(crate) mod depends;
pub mod desired;
pub mod endpoints;
pub mod event;
pub mod exit;
pub(crate) mod gate;
pub mod health;
pub mod history;
pub mod ids;
pub mod job;
pub mod model;
pub(crate) mod names;
pub(crate) mod notice;
pub(crate) mod objects;
pub mod observe;
pub(crate) mod order;
pub(crate) mod pass;
pub(crate) mod phase;
pub mod ports;
pub(crate) mod probes;
pub mod progress;
pub mod publication;
pub mod reconcile;
pub mod refusal;
pub(crate) mod replicas;
pub(crate) mod restart;
pub mod revision;
pub mod rollout;
pub mod runs;
pub(crate) mod sandbox;
pub(crate) mod services;
pub mod spec;
pub(crate) mod status;
pub mod strategy;
pub mod time;

#[cfg(test)]
mod tests;

pub use config::Config;
