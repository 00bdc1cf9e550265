//! `orund run`.

use crate::config::bundle::Bundle;
use crate::config::{quantity, signals};
use crate::error::{Error, Kind, Result};
use crate::supervisor::core::spec::{ContainerSpec, Launch, RestartPolicy, Template};
use crate::supervisor::core::time::Millis;
use crate::supervisor::shell::foreground::{self, Foreground, Outcome};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Run replicas of a bundle in the foreground, without a daemon
#[derive(Debug, Args)]
pub struct Run {
    /// Number of replicas
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub replicas: u32,
    /// Grace period between the stop signal and SIGKILL, such as 10s, 500ms or 1m30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub grace: Millis,
    /// Restart policy
    #[arg(long, value_enum, default_value_t = Restart::Always)]
    pub restart: Restart,
    /// Signal sent to stop a replica
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    pub stop_signal: i32,
    /// Environment variable for the replicas; may be repeated
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<String>,
    /// Name of the replicas [default: the name of the bundle directory]
    #[arg(long)]
    pub name: Option<String>,
    /// Directory for runtime state (should be a tmpfs)
    #[arg(long, value_name = "DIR", default_value = "/run/orund")]
    pub run_dir: PathBuf,
    /// Parent cgroup of the replicas
    #[arg(long, value_name = "PATH", default_value = "/orund")]
    pub cgroup_parent: String,
    /// Bundle directory
    pub bundle: PathBuf,
    /// Command to run instead of process.args of the bundle
    #[arg(trailing_var_arg = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Run {
    /// Runs the replicas.
    pub fn run(&self) -> Result<u8> {
        // Report an invalid bundle before anything is created.
        let bundle = Bundle::load(&self.bundle)?;
        let name = self.name(&bundle)?;
        let run = std::path::absolute(&self.run_dir)
            .map_err(|e| Error::sys(format!("resolving {:?}", self.run_dir), e))?;
        let own = format!("run-{}", std::process::id());
        let outcome = foreground::run(&Foreground {
            name,
            replicas: self.replicas,
            template: self.template(&bundle),
            run: run.join(&own),
            cgroup_parent: format!("/{}/{own}", self.cgroup_parent.trim_matches('/')),
        })?;
        Ok(match outcome {
            Outcome::Well => 0,
            Outcome::Failed => 1,
            Outcome::Killed => 3,
        })
    }

    fn name(&self, bundle: &Bundle) -> Result<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        match &self.name {
            Some(name) if !name.is_empty() && name.len() <= 63 && name.chars().all(plain) => Ok(name.clone()),
            Some(name) => Err(Error::new(Kind::Usage, format!("invalid name {name:?}"))
                .hint("a name has at most 63 letters, digits, \"_\" and \"-\"")),
            None => {
                let name = bundle.path.file_name().map(|n| n.to_string_lossy().into_owned());
                let name: String = name.unwrap_or_default().chars().filter(|c| plain(*c)).take(63).collect();
                Ok(if name.is_empty() { "replica".to_owned() } else { name })
            }
        }
    }

    fn template(&self, bundle: &Bundle) -> Template {
        Template {
            containers: vec![ContainerSpec {
                name: "main".to_owned(),
                launch: Launch {
                    container: None,
                    shared_root: false,
                    config: None,
                    bundle: bundle.path.to_string_lossy().into_owned(),
                    args: (!self.command.is_empty()).then(|| self.command.clone()),
                    env: self.env.clone(),
                    resources: None,
                },
                stop_signal: self.stop_signal,
                ..ContainerSpec::default()
            }],
            restart_policy: match self.restart {
                Restart::Always => RestartPolicy::Always,
                Restart::OnFailure => RestartPolicy::OnFailure,
                Restart::Never => RestartPolicy::Never,
            },
            grace: self.grace,
            ..Template::default()
        }
    }
}

/// A duration as everywhere in `orund`; a bare number is seconds.
fn duration(text: &str) -> std::result::Result<Millis, String> {
    match quantity::duration(text) {
        Some(duration) => Ok(Millis(duration.as_millis() as u64)),
        None => Err("expected a duration such as 10s or 1m30s".to_owned()),
    }
}

fn signal(text: &str) -> std::result::Result<i32, String> {
    signals::number(text).ok_or_else(|| "unknown signal".to_owned())
}

fn variable(text: &str) -> std::result::Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in
            [("10s", 10_000), ("500ms", 500), ("1.5m", 90_000), ("1m30s", 90_000), ("2", 2000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Millis(expected)), "{text}");
        }
        for bad in ["", "s", "5w", "1..2s", "-1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
