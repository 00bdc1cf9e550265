//! `orund serve`.

use crate::api::server as api;
use crate::config::quantity;
use crate::error::{Error, Result};
use crate::network::{NetworkSettings, address::Range};
use crate::orund::client::connection;
use crate::orund::{places, rootless};
use crate::supervisor::shell::daemon::{self, Socket};
use crate::supervisor::shell::keeper::LINK;
use crate::supervisor::shell::logs::Limits;
use crate::supervisor::shell::outside;
use crate::supervisor::shell::pods::seccomp;
use crate::supervisor::shell::program;
use crate::supervisor::shell::settings::Settings;
use crate::sys::{fd, signalfd};
use clap::Args;
use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
pub struct Serve {
    /// Directory for the desired state (must be durable) [default: /var/lib/orund, or ~/.local/share/orund for a user]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory for runtime state (should be a tmpfs) [default: /run/orund, or $XDG_RUNTIME_DIR/orund for a user]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Directory for the logs of containers [default: /var/log/orund, or ~/.local/state/orund/log for a user]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Parent cgroup of all containers [default: /orund, or one in the cgroup that is delegated to the user]
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Maximum size of a log file before it is rotated, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().file)]
    pub log_file_size: u64,
    /// Maximum number of log files per run of a container
    #[arg(long, value_name = "N", default_value_t = Limits::default().files)]
    pub log_files: usize,
    /// Maximum total size of all log files, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().total)]
    pub log_total_size: u64,
    /// Time to keep unused images, except those pulled or loaded with `orund image`
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub image_max_age: Duration,
    /// Network of pods: bridge (one address per pod) or none (only loopback interfaces)
    #[arg(long, value_name = "KIND", default_value = "bridge", value_parser = ["bridge", "none"])]
    pub network: String,
    /// Name of the bridge
    #[arg(long, value_name = "NAME", default_value = "orun0", value_parser = interface_name)]
    pub network_bridge: String,
    /// Addresses of pods [default: a private range that overlaps no route of the host]
    #[arg(long, value_name = "CIDR")]
    pub network_range: Option<Range>,
    /// Directory of seccomp profiles for localhostProfile of pods
    #[arg(long, value_name = "DIR", default_value = seccomp::DIRECTORY)]
    pub seccomp_dir: PathBuf,
    /// Run without the keeper process: a crashed daemon is not restarted, and exit statuses may be lost
    #[arg(long)]
    pub no_keeper: bool,
}

/// A name that the kernel accepts for a network interface (dev_valid_name in net/core/dev.c), and that no path is made of.
fn interface_name(text: &str) -> std::result::Result<String, String> {
    let valid = |c: char| c.is_ascii_graphic() && !"/:".contains(c);
    if (1..=15).contains(&text.len()) && text.chars().all(valid) && ![".", ".."].contains(&text) {
        return Ok(text.to_owned());
    }
    Err("the name of an interface has 1 to 15 characters, without \"/\", \":\" and white space".to_owned())
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    quantity::duration(text).ok_or_else(|| "expected a duration such as 12h or 7d".to_owned())
}

impl Serve {
    /// Becomes the keeper, or the daemon itself.
    pub fn run(&self, socket: Option<PathBuf>, words: &[OsString]) -> Result<u8> {
        let settings = self.settings()?;
        signalfd::keep_ignored_signals();
        if !self.no_keeper && std::env::var_os(LINK).is_none() {
            std::fs::create_dir_all(&settings.run)
                .map_err(|e| Error::sys(format!("making the directory {:?}", settings.run), e))?;
            outside::pass_on()?;
            let mut keeper = std::process::Command::new(program());
            keeper.arg("keeper").arg(&settings.run).args(words);
            return Err(Error::sys("starting the keeper", keeper.exec()));
        }
        let begin = |handle, kept: Socket| {
            let listener = kept.get(|| listener(socket))?;
            let path = listener.local_addr().ok().and_then(|a| a.as_pathname().map(PathBuf::from));
            api::start(handle, listener)?;
            eprintln!("orund: ready, serving on {:?}", path.unwrap_or_default());
            Ok(())
        };
        daemon::run(&settings, begin, asked_to_end())?;
        Ok(0)
    }

    fn settings(&self) -> Result<Settings> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|e| Error::sys(format!("resolving {path:?}"), e))
        };
        let run = places::run(self.run_dir.as_ref())?;
        Ok(Settings {
            data: places::data(self.data_dir.as_ref())?,
            logs: places::logs(self.log_dir.as_ref())?,
            cgroup_parent: rootless::cgroup_parent(self.cgroup_parent.as_deref()),
            limits: Limits {
                file: self.log_file_size,
                files: self.log_files.max(1),
                total: self.log_total_size,
                ..Limits::default()
            },
            network: NetworkSettings {
                none: self.network == "none",
                bridge: self.network_bridge.clone(),
                range: self.network_range,
                owner: format!("orund {}", run.display()),
            },
            run,
            image_age: self.image_max_age,
            seccomp: absolute(&self.seccomp_dir)?,
        })
    }
}

/// How many sockets the service manager has passed (sd_listen_fds(3)).
pub(super) fn passed_sockets() -> u32 {
    let variable = |name: &str| std::env::var(name).ok();
    let own = std::process::id().to_string();
    let ours = variable("LISTEN_PID").is_some_and(|pid| pid == own || pid == "keeper");
    if ours { variable("LISTEN_FDS").and_then(|n| n.parse().ok()).unwrap_or(0) } else { 0 }
}

/// The socket that the service manager has passed, or one of our own at `path`.
fn listener(path: Option<PathBuf>) -> Result<UnixListener> {
    if passed_sockets() > 0 {
        let fd =
            fd::take_over(3).map_err(|e| Error::sys("taking over the socket of the service manager", e))?;
        return Ok(UnixListener::from(fd));
    }
    api::listen(&connection::socket(path, true))
}

/// Returns when a signal asks the daemon to exit. The containers keep running.
async fn asked_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::interface_name;

    #[test]
    fn names_of_interfaces_are_those_that_the_kernel_takes() {
        assert_eq!(interface_name("orun0").as_deref(), Ok("orun0"));
        for bad in ["", ".", "..", "a/b", "a b", "a:1", "sixteen-letters-x"] {
            assert!(interface_name(bad).is_err(), "{bad:?}");
        }
    }
}
