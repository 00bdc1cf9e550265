//! The supervisor on Linux: the world that the core's decisions are done in.

pub mod cgroups;
pub mod daemon;
pub mod event_loop;
pub mod foreground;
pub mod handle;
pub mod jobs;
pub mod journal;
pub mod keeper;
pub mod linux;
pub mod logs;
pub mod names;
pub mod notify;
pub mod oom;
pub mod recover;
pub mod screen;
