//! The command line of `orun`: arguments in, text and exit code out.

pub mod args;
pub mod log;
pub mod parse;
mod values;
