//! `orund run`.

use crate::config::bundle::Bundle;
use crate::config::signals;
use crate::error::{Error, Kind, Result};
use crate::supervisor::core::spec::{Backoff, ContainerSpec, Launch, RestartPolicy, Template};
use crate::supervisor::core::time::Millis;
use crate::supervisor::shell::foreground::{self, Foreground, Outcome};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Exit codes: 0: every replica ended well, or when it was asked to; 1: one failed for good; 3: some had to be killed.
#[derive(Debug, Args)]
#[command(after_help = "Ctrl-C asks the replicas to end, a second one kills them.\n\
    Exit codes: 0 all ended well or when asked to, 1 one failed for good or could not be started, \
    2 wrong arguments, 3 some had to be killed.")]
pub struct Run {
    /// How many replicas
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub replicas: u32,
    /// From the request to end until SIGKILL: "10s", "500ms", "2m"
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub grace: Millis,
    /// When a replica that has ended is started again
    #[arg(long, value_enum, default_value_t = Restart::Always)]
    pub restart: Restart,
    /// The signal that asks for the end
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    pub stop_signal: i32,
    /// A variable for the replicas; may be given several times
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<String>,
    /// The name of the replicas; that of the bundle's directory unless given
    #[arg(long)]
    pub name: Option<String>,
    /// Where the records of the containers are kept meanwhile; should be on tmpfs
    #[arg(long, value_name = "DIR", default_value = "/run/orund")]
    pub run_dir: PathBuf,
    /// The cgroup that the replicas have theirs in
    #[arg(long, value_name = "PATH", default_value = "/orund")]
    pub cgroup_parent: String,
    /// The directory of the bundle
    pub bundle: PathBuf,
    /// A command in place of the bundle's
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
        // The words for a bundle that is none, before there is anything.
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
                    bundle: bundle.path.to_string_lossy().into_owned(),
                    args: (!self.command.is_empty()).then(|| self.command.clone()),
                    env: self.env.clone(),
                    resources: None,
                },
                stop_signal: self.stop_signal,
                pre_stop: None,
            }],
            restart_policy: match self.restart {
                Restart::Always => RestartPolicy::Always,
                Restart::OnFailure => RestartPolicy::OnFailure,
                Restart::Never => RestartPolicy::Never,
            },
            backoff: Backoff::default(),
            restart_limit: None,
            grace: self.grace,
            spare: false,
        }
    }
}

/// A time such as `10s`, `500ms`, `2m`; a bare number is seconds.
fn duration(text: &str) -> std::result::Result<Millis, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 1.0,
        "s" | "" => 1000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return Err("the units are ms, s, m and h".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "it is a number and a unit, such as 10s".to_owned())?;
    Ok(Millis((number * scale).min(1e12) as u64))
}

fn signal(text: &str) -> std::result::Result<i32, String> {
    signals::number(text).ok_or_else(|| "there is no such signal".to_owned())
}

fn variable(text: &str) -> std::result::Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("it has the form NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [("10s", 10_000), ("500ms", 500), ("1.5m", 90_000), ("2", 2000), ("0", 0)] {
            assert_eq!(duration(text), Ok(Millis(expected)), "{text}");
        }
        for bad in ["", "s", "5d", "1..2s", "-1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
