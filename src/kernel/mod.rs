//! Does what a plan says, on the kernel, and owns no policy.

pub mod cgroup;
