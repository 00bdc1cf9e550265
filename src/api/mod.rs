//! The supervisor's interface: HTTP/1.1 with JSON on a unix socket. docs/api.md describes it.
//!
//! It has a thread and a loop of its own: whatever a client does, the supervisor's loop only sees finished requests.

pub mod convert;
pub mod frame;
pub mod types;
pub mod view;
