//! The supervisor on Linux: the world that the core's decisions are done in.

pub mod cgroups;
pub mod checks;
pub mod cleaner;
pub mod compiled;
pub mod daemon;
pub mod event_loop;
pub mod foreground;
pub mod handle;
pub mod images;
pub mod jobs;
pub mod journal;
pub mod keeper;
pub mod linux;
mod linux_images;
mod linux_pods;
mod listen;
pub mod logs;
pub mod names;
pub mod notify;
pub mod oom;
pub mod pods;
pub mod publish;
mod publish_news;
pub mod recover;
pub mod screen;

/// The file of the program that runs, or what has taken its place since, as an upgrade does.
pub fn program() -> std::path::PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    let path = this.to_str().and_then(|p| p.strip_suffix(" (deleted)")).map_or(this.clone(), Into::into);
    if path.is_file() { path } else { "/proc/self/exe".into() }
}
