//! Does what a plan says and owns no policy.

pub mod child;
pub mod inroot;
pub mod protocol;
