//! The supervisor's interface: HTTP/1.1 with JSON on a unix socket. docs/api.md describes it.
//!
//! It has a thread and a loop of its own: whatever a client does, the supervisor's loop only sees finished requests.

mod apply;
pub mod attach;
mod context;
mod convert;
mod exec;
pub mod frame;
mod health;
pub mod jobs;
mod logs;
mod metrics;
mod ports;
mod request;
mod respond;
mod routes;
pub mod server;
mod stats;
pub mod status;
pub mod types;
mod view;
mod watch;

#[cfg(any(test, fuzzing))]
pub(crate) use request::fuzz;
