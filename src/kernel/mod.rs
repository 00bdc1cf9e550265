//! Does what a plan says and owns no policy.

pub mod cgroup;
pub mod checkpoint;
pub mod child;
pub mod console;
pub mod foreground;
pub mod hooks;
pub mod idmap;
pub mod inroot;
pub mod late;
pub mod launch;
pub mod netdev;
pub mod notify;
pub mod output;
pub mod path;
pub mod prepare;
pub mod probe;
pub mod procfs;
pub mod protect;
pub mod protocol;
pub mod rdt;
pub mod sandbox;
pub mod sd_notify;
pub mod surroundings;
pub mod terminal;
