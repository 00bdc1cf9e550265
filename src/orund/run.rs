//! `orund run`.

use super::publish::{self, Published};
use super::{places, rootless};
use crate::config::bundle::Bundle;
use crate::config::{quantity, signals};
use crate::error::{Error, Kind, Result};
use crate::image::store::{Image, Lock, Store};
use crate::log;
use crate::supervisor::core::ports::PublishedPort;
use crate::supervisor::core::spec::{
    ContainerSource, ContainerSpec, ImageSource, PodTemplate, PullPolicy, RestartPolicy, SandboxSpec,
};
use crate::supervisor::core::time::Millis;
use crate::supervisor::shell::cgroups;
use crate::supervisor::shell::foreground::{self, Foreground, Outcome};
use crate::supervisor::shell::images::{Access, Images};
use crate::supervisor::shell::typing::Interactive;
use crate::workload;
use crate::workload::model::{Container, EnvVar};
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// The exit code of an interactive run that failed itself.
const NO_RUN: u8 = 255;

/// Run replicas of an image or a bundle in the foreground, without a daemon
#[derive(Debug, Args)]
pub struct Run {
    /// Number of replicas
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub replicas: u32,
    /// Grace period between the stop signal and SIGKILL, such as 10s, 500ms or 1m30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub grace: Millis,
    /// Restart policy [default: always; never with -i or -t]
    #[arg(long, value_enum, conflicts_with_all = ["interactive", "tty"])]
    pub restart: Option<Restart>,
    /// Pass standard input to the replica, and print its output as it is; the exit code is that of the program
    #[arg(long, short = 'i')]
    pub interactive: bool,
    /// Give the replica a terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// Signal sent to stop a replica [default: the one in the image, or TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub stop_signal: Option<i32>,
    /// Environment variable for the replicas; may be repeated
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<String>,
    /// Publish a port of the replicas on the host; gives each replica its own network; may be repeated
    #[arg(long, short = 'p', value_name = "[IP:]HOST:PORT[/udp]", value_parser = publish::parse)]
    pub publish: Vec<Published>,
    /// Name of the replicas [default: the name of the bundle directory or of the image]
    #[arg(long)]
    pub name: Option<String>,
    /// Directory for runtime state (should be a tmpfs) [default: /run/orund, or $XDG_RUNTIME_DIR/orund for a user]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Parent cgroup of the replicas [default: /orund, or one in the cgroup that is delegated to the user]
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Directory of the image store [default: /var/lib/orund/images, or ~/.local/share/orund/images for a user]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// When to pull an image
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pub pull: Pull,
    /// Image (nginx:1.27, oci:DIR, oci-archive:FILE, docker-archive:FILE), or the directory of a bundle
    #[arg(value_name = "IMAGE|BUNDLE")]
    pub what: String,
    /// Command that replaces process.args of the bundle, or arguments that replace the image's command
    #[arg(trailing_var_arg = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    Always,
    Missing,
    Never,
}

/// Source of the replicas.
enum Origin {
    Bundle(Box<Bundle>),
    /// An image of the store, and its name for people.
    Image(Box<Image>, String),
}

impl Run {
    /// Runs the replicas.
    pub fn run(&self) -> Result<u8> {
        // Report all that is invalid before anything is created.
        let ports = publish::ports(&self.publish)?;
        let interactive = self.interactive()?;
        let origin = self.origin()?;
        let _held = match &origin {
            Origin::Bundle(_) => None,
            Origin::Image(image, name) => Some(self.lock_image(image, name)?),
        };
        let name = self.name(&origin)?;
        let (run, images) = (places::run(self.run_dir.as_ref())?, places::images(self.images.as_ref())?);
        let own = format!("run-{}", std::process::id());
        let outcome = foreground::run(&Foreground {
            interactive,
            name,
            replicas: self.replicas,
            template: self.template(&origin, ports),
            run: run.join(&own),
            images,
            cgroup_parent: cgroups::below(&rootless::cgroup_parent(self.cgroup_parent.as_deref()), &own),
        });
        let outcome = match outcome {
            // Other exit codes are the program's.
            Err(e) if interactive.is_some() => {
                log::error(&e);
                return Ok(NO_RUN);
            }
            outcome => outcome?,
        };
        Ok(match outcome {
            Outcome::Exited(code) => code,
            Outcome::Well => 0,
            Outcome::Failed => 1,
            Outcome::Killed => 3,
        })
    }

    /// What of the caller's the replica gets.
    fn interactive(&self) -> Result<Option<Interactive>> {
        let with = Interactive { stdin: self.interactive, tty: self.tty };
        if !with.stdin && !with.tty {
            return Ok(None);
        }
        if self.replicas != 1 {
            let e = Error::new(Kind::Usage, "an interactive run has one replica");
            return Err(e.hint("leave --replicas out, or -i and -t"));
        }
        if with.stdin && with.tty && !std::io::stdin().is_terminal() {
            let e = Error::new(Kind::Usage, "standard input is not a terminal");
            return Err(e.hint("leave -t out"));
        }
        Ok(Some(with))
    }

    /// Keeps the image while replicas run. It may have been removed between being found and being held.
    fn lock_image(&self, image: &Image, name: &str) -> Result<Lock> {
        let store = Store::open(&places::images(self.images.as_ref())?)?;
        let _adding = store.adding()?;
        let held = store.lock_image(&image.digest)?;
        match store.image(&image.digest)? {
            Some(_) => Ok(held),
            None => Err(Error::new(Kind::State, format!("image {name:?} has been removed"))),
        }
    }

    fn origin(&self) -> Result<Origin> {
        let dir = self.what.strip_prefix("bundle:").unwrap_or(&self.what);
        let is_path = self.what.starts_with(['/', '.', '~']) || dir.len() != self.what.len();
        if is_path || Path::new(dir).join("config.json").is_file() {
            return Bundle::load(Path::new(dir)).map(|bundle| Origin::Bundle(Box::new(bundle)));
        }
        let base = std::env::current_dir().map_err(|e| Error::sys("getting the current directory", e))?;
        let name = workload::absolute_image(&self.what, Some(&base)).unwrap_or_else(|| self.what.clone());
        let policy = match self.pull {
            Pull::Always => PullPolicy::Always,
            Pull::Missing => PullPolicy::IfNotPresent,
            Pull::Never => PullPolicy::Never,
        };
        let source = ImageSource { name: name.clone(), policy, ..ImageSource::default() };
        let tell = |_: bool, message: String| eprintln!("orund: {message}");
        let images = Images::new(places::images(self.images.as_ref())?);
        let image = images
            .ready(&source, None, &Access::default(), &AtomicBool::new(false), &tell)
            .map_err(|t| t.error)?;
        Ok(Origin::Image(Box::new(image), name))
    }

    fn name(&self, origin: &Origin) -> Result<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        match &self.name {
            Some(name) if !name.is_empty() && name.len() <= 63 && name.chars().all(plain) => Ok(name.clone()),
            Some(name) => Err(Error::new(Kind::Usage, format!("invalid name {name:?}"))
                .hint("a name has at most 63 letters, digits, \"_\" and \"-\"")),
            None => {
                let name = match origin {
                    Origin::Bundle(bundle) => {
                        bundle.path.file_name().map(|n| n.to_string_lossy().into_owned())
                    }
                    // library/nginx:1.27@sha256:... is called nginx.
                    Origin::Image(_, name) => {
                        let last = name.split('@').next().unwrap_or_default().rsplit('/').next();
                        last.and_then(|last| last.split(':').next()).map(str::to_owned)
                    }
                };
                let name: String = name.unwrap_or_default().chars().filter(|c| plain(*c)).take(63).collect();
                Ok(if name.is_empty() { "replica".to_owned() } else { name })
            }
        }
    }

    /// Whether replicas are pods: those have an address, to which connections are led.
    fn in_pods(&self) -> bool {
        !self.publish.is_empty()
    }

    fn default_restart(&self) -> Restart {
        if self.interactive || self.tty { Restart::Never } else { Restart::Always }
    }

    /// The container of a pod, or one with a terminal or input.
    fn container(&self, origin: &Origin) -> Container {
        let variable = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            EnvVar { name: name.to_owned(), value: value.to_owned(), value_from: None }
        };
        let of_image = matches!(origin, Origin::Image(..));
        Container {
            name: "main".to_owned(),
            stdin: self.interactive,
            stdin_once: self.interactive,
            tty: self.tty,
            env: self.env.iter().map(variable).collect(),
            command: if of_image { Vec::new() } else { self.command.clone() },
            args: (of_image && !self.command.is_empty()).then(|| self.command.clone()),
            ..Container::default()
        }
    }

    fn template(&self, origin: &Origin, ports: Vec<PublishedPort>) -> PodTemplate {
        let mut launch = ContainerSource { env: self.env.clone(), ..ContainerSource::default() };
        let mut stop_signal = None;
        match origin {
            Origin::Bundle(bundle) => {
                launch.bundle = bundle.path.to_string_lossy().into_owned();
                launch.args = (!self.command.is_empty() && !self.in_pods()).then(|| self.command.clone());
            }
            Origin::Image(image, name) => {
                launch.image = Some(ImageSource {
                    name: name.clone(),
                    digest: Some(image.digest.clone()),
                    args: (!self.command.is_empty() && !self.in_pods()).then(|| self.command.clone()),
                    ..ImageSource::default()
                });
                stop_signal = signals::number(&image.configuration.config.stop_signal);
            }
        }
        if self.in_pods() || self.interactive || self.tty {
            launch.container = Some(Box::new(self.container(origin)));
        }
        PodTemplate {
            containers: vec![ContainerSpec {
                name: "main".to_owned(),
                launch,
                stop_signal: self.stop_signal.or(stop_signal).unwrap_or(libc::SIGTERM),
                ..ContainerSpec::default()
            }],
            ports,
            sandbox: self.in_pods().then(|| SandboxSpec { config: serde_json::json!({}) }),
            restart_policy: match self.restart.unwrap_or(self.default_restart()) {
                Restart::Always => RestartPolicy::Always,
                Restart::OnFailure => RestartPolicy::OnFailure,
                Restart::Never => RestartPolicy::Never,
            },
            grace: self.grace,
            ..PodTemplate::default()
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
