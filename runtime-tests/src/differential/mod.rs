//! The differential run: several hundred changes of config.json, process.json and the resources of `update`, made from tables, on
//! orun and on runc and crun. What comes of each is compared: refused, or accepted with what the probe then sees in the container.
//! Where the first runtime differs from runc, a row of `vendor-specs/differences.jsonl` must say why that is right; a difference
//! without a row, and a row without its difference, fail the run.
//!
//! A runtime has habits that no document states, and callers depend on them: this is how they are found.

mod compare;
mod effects;
mod mutations;
mod run;
mod tables;

pub use compare::{Compared, PAGE, ROWS, compare, page, rows};
pub use run::{Outcome, Results, collect, matrix};
