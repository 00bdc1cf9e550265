//! The supervisor on Linux: the world that the core's decisions are done in.

pub(crate) mod cgroups;
pub(crate) mod checks;
pub(crate) mod cleaner;
pub(crate) mod clock;
pub(crate) mod compiled;
pub(crate) mod daemon;
pub(crate) mod event_loop;
pub(crate) mod foreground;
pub(crate) mod handle;
pub(crate) mod host;
mod host_images;
mod host_pods;
mod host_streams;
pub(crate) mod images;
pub(crate) mod job;
pub(crate) mod jobs;
pub mod journal;
pub(crate) mod keeper;
pub mod listen;
pub(crate) mod logs;
mod memory;
pub(crate) mod names;
pub(crate) mod notify;
pub(crate) mod oom;
pub(crate) mod outside;
pub(crate) mod pods;
mod private;
pub(crate) mod publish;
mod publish_news;
pub(crate) mod recover;
pub(crate) mod screen;
pub(crate) mod settings;
pub(crate) mod streams;
pub(crate) mod typing;

/// The file of the program that runs, or what has taken its place since, as an upgrade does.
pub fn program() -> std::path::PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    let path = this.to_str().and_then(|p| p.strip_suffix(" (deleted)")).map_or(this.clone(), Into::into);
    if path.is_file() { path } else { "/proc/self/exe".into() }
}
