//! Groups of flags that several verbs share, and those of `status` and `dashboard`. Comments on fields are the help texts.

use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::quantity;

/// `drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Start the replicas again
    #[arg(long)]
    pub undo: bool,
    /// Maximum time to wait [default: 30 s longer than the longest grace period]
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "undo")]
    pub timeout: Option<Duration>,
}

/// Options for Compose files.
#[derive(Debug, Clone, Default, Args)]
pub struct Project {
    /// Name of the project [default: COMPOSE_PROJECT_NAME, the file's `name`, or its directory]
    #[arg(short = 'p', long = "project-name", value_name = "NAME", help_heading = "Compose files")]
    pub project_name: Option<String>,
    /// Include the services with this profile; may be repeated
    #[arg(long = "profile", value_name = "NAME", help_heading = "Compose files")]
    pub profiles: Vec<String>,
    /// File with variables instead of .env; may be repeated
    #[arg(long = "env-file", value_name = "FILE", help_heading = "Compose files")]
    pub env_files: Vec<PathBuf>,
}

/// How long to wait for the result of a change.
#[derive(Debug, Clone, Args)]
pub struct Waiting {
    /// Wait until the change is complete
    #[arg(long)]
    pub wait: bool,
    /// Maximum time to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

/// How images of Compose files are built.
#[derive(Debug, Args)]
pub struct Building {
    /// Build the images of services with a `build` section, and roll out changed images
    #[arg(long, conflicts_with_all = ["dry_run", "diff", "fix"], help_heading = "Images of Compose files")]
    pub build: bool,
    /// Builder to use [default: the first installed one, in this order]
    #[arg(long, value_name = "NAME", requires = "build", help_heading = "Images of Compose files")]
    pub builder: Option<Builder>,
    /// Directory of the daemon's image store [default: /var/lib/orund/images]
    #[arg(long, value_name = "DIR", requires = "build", help_heading = "Images of Compose files")]
    pub image_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Builder {
    Buildah,
    Podman,
    Docker,
}

#[derive(Debug, Args)]
pub struct Dashboard {
    /// Port of 127.0.0.1 to listen on; 0 chooses a free port
    #[arg(long, value_name = "PORT", default_value_t = 9180)]
    pub port: u16,
    /// File that stores the access token; created with mode 0600 if it does not exist [default: a new token each time]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Refresh every 2 seconds; q quits
    #[arg(short, long)]
    pub watch: bool,
    /// Print the problems and the resources of the host as JSON or YAML
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<StatusOutput>,
}

/// The output format of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusOutput {
    Json,
    Yaml,
}

/// The column that rows are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    #[default]
    Name,
    Cpu,
    Memory,
    Pids,
    Restarts,
}

/// A duration that is not 0.
///
/// # Errors
/// It is 0 or not a valid duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    any_duration(text)
        .and_then(|d| if d.is_zero() { Err("must be greater than 0".to_owned()) } else { Ok(d) })
}

/// Any duration.
///
/// # Errors
/// The text is not a valid duration.
pub fn any_duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).ok_or_else(|| "expected a duration such as 30, 500ms or 1m30s".to_owned())
}
