//! Does what a plan says and owns no policy.

pub mod cgroup;
pub(crate) mod checkpoint;
pub(crate) mod child;
pub(crate) mod console;
pub(crate) mod foreground;
pub(crate) mod hooks;
pub(crate) mod idmap;
pub(crate) mod inroot;
pub(crate) mod late;
pub(crate) mod launch;
pub(crate) mod netdev;
pub(crate) mod output;
pub(crate) mod path;
pub(crate) mod prepare;
pub(crate) mod probe;
pub(crate) mod procfs;
pub(crate) mod protect;
pub(crate) mod protocol;
pub(crate) mod rdt;
pub(crate) mod sandbox;
pub(crate) mod sd_notify;
pub(crate) mod seccomp_listener;
pub(crate) mod surroundings;
pub(crate) mod terminal;
