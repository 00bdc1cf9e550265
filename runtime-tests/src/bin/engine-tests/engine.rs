//! The engines: what they require, how they start, which cases they have.

use crate::env::{Cases, Env, IMAGE};
use crate::{containerd, docker, pages, podman, swarm};
use runtime_tests::check::{Context, Done, Result};
use runtime_tests::command::{Cmd, Running};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An engine with the configuration that its cases need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// dockerd, single containers.
    Docker,
    /// dockerd whose containers have a user namespace (userns-remap).
    DockerUserns,
    /// dockerd as the one node of a swarm.
    Swarm,
    /// containerd, by ctr and through CRI.
    Containerd,
    /// Podman.
    Podman,
    /// The pages of `docs/`, with the engines that they are about; for orun only.
    Pages,
}

/// Where the image is in the world.
pub const ARCHIVE: &str = "/keep/image.tar";

const IMAGE_SCRIPT: &str = include_str!("image.sh");

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 6] = [
        Engine::Docker,
        Engine::DockerUserns,
        Engine::Swarm,
        Engine::Containerd,
        Engine::Podman,
        Engine::Pages,
    ];

    /// What it is called on the command line and in the names of its cases.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::DockerUserns => "docker-userns",
            Engine::Swarm => "swarm",
            Engine::Containerd => "containerd",
            Engine::Podman => "podman",
            Engine::Pages => "pages",
        }
    }

    /// Its cases.
    pub fn cases(self) -> Cases {
        match self {
            Engine::Docker => docker::cases(),
            Engine::DockerUserns => docker::userns_cases(),
            Engine::Swarm => swarm::cases(),
            Engine::Containerd => containerd::cases(),
            Engine::Podman => podman::cases(),
            Engine::Pages => pages::cases(),
        }
    }

    /// What of the repository has to be in the world.
    pub fn files(self) -> Vec<PathBuf> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let names = ["scripts", "docs", "Cargo.toml", "LICENSE", "README.md"];
        if self == Engine::Pages { names.iter().map(|n| top.join(n)).collect() } else { Vec::new() }
    }

    /// Whether it has something to say about this runtime.
    pub fn takes(self, runtime: &str) -> bool {
        self != Engine::Pages || runtime == "orun"
    }

    /// The required programs.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Engine::Docker | Engine::DockerUserns | Engine::Swarm => {
                &["dockerd", "docker", "containerd", "iptables"]
            }
            Engine::Containerd => &["containerd", "ctr"],
            Engine::Podman => &["podman", "conmon", "/usr/lib/podman/netavark"],
            Engine::Pages => &["dockerd", "docker", "containerd", "podman", "jq", "dpkg-deb"],
        }
    }

    /// Starts the engine in its new world and gives it the image. The daemon, if there is one.
    pub fn start(self, env: &Env) -> Result<Option<Running>> {
        make_image(env, IMAGE, ARCHIVE, "sh")?;
        match self {
            Engine::Docker => docker::start(env, &["--experimental"]).map(Some),
            Engine::DockerUserns => {
                env.ok("useradd -r dockremap 2>/dev/null || true; echo dockremap:500000:65536 | tee /etc/subuid >/etc/subgid")?;
                docker::start(env, &["--userns-remap", "dockremap"]).map(Some)
            }
            Engine::Swarm => swarm::start(env).map(Some),
            Engine::Containerd => containerd::start(env).map(Some),
            Engine::Podman => podman::start(env).map(|()| None),
            Engine::Pages => pages::start(env).map(|()| None),
        }
    }

    /// Removes what one case has left.
    pub fn clean(self, env: &Env) -> Done {
        match self {
            Engine::Docker | Engine::DockerUserns => docker::clean(env),
            Engine::Swarm => swarm::clean(env),
            Engine::Containerd => containerd::clean(env),
            Engine::Podman => podman::clean(env),
            Engine::Pages => Ok(()),
        }
    }
}

/// Makes an archive with an image of this name, whose command is the shell's `command`.
pub fn make_image(env: &Env, name: &str, archive: &str, command: &str) -> Done {
    let script = format!("set -- '{name}' '{archive}' '{command}'\n{IMAGE_SCRIPT}");
    env.ok(&script).map(drop)
}

/// Starts a daemon, and waits until `ready` succeeds. Its output is in `/tmp/engine/daemon.log` of the world.
pub fn daemon(env: &Env, program: &str, args: &[&str], ready: &str) -> Result<Running> {
    let log = env.dir.join("daemon.log");
    let cmd: Cmd = env.command(&format!("exec {program} \"$@\"")).arg(program).args(args.iter().copied());
    let running = cmd.streams(&log, &log).deadline(Duration::from_secs(3600)).spawn()?;
    let tail = || format!("{program} did not become ready; the end of its log: {}", tail(&log));
    env.until(&format!("{ready} >/dev/null && echo ready"), "ready").map_err(|e| e.context(&tail()))?;
    Ok(running)
}

/// The last lines of a file, for messages.
pub fn tail(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join(" | ")
}

/// Demands that a daemon ends when it is asked to.
pub fn end_daemon(running: Running) -> Done {
    running.signal(libc::SIGTERM)?;
    let pid = running.pid;
    let ended = || runtime_tests::command::take_status(pid);
    runtime_tests::command::poll("the end of the daemon", Duration::from_secs(30), ended)
        .map(drop)
        .context("SIGTERM")
}
