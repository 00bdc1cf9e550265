//! The cases, one file per area.

mod basics;

use crate::matrix::Matrix;

/// Adds every case.
pub fn register(m: &mut Matrix) {
    basics::register(m);
}
