//! What a user wants of one workload, in the core's own words. Manifests are converted into it; the core never reads
//! a file.

use super::time::Millis;
use serde::{Deserialize, Serialize};

/// What every replica of one revision is made of. A changed template is a new revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// At least one; the index is the container's identity within its replica.
    pub containers: Vec<ContainerSpec>,
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    #[serde(default)]
    pub backoff: Backoff,
    /// When set, a container that restarts more often is given up and its replica counts as failed.
    #[serde(default)]
    pub restart_limit: Option<RestartLimit>,
    /// From the decision to stop until SIGKILL. Zero: killed at once, without preStop and stop signal.
    #[serde(default = "default_grace")]
    pub grace: Millis,
    /// Keep one more instance of every container created, waiting to be released when the running one dies.
    #[serde(default)]
    pub spare: bool,
}

fn default_grace() -> Millis {
    Millis::secs(30)
}

/// One container of a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    pub name: String,
    pub launch: Launch,
    /// Signal number that asks the container to end.
    #[serde(default = "default_stop_signal")]
    pub stop_signal: i32,
    /// Command run in the container before the stop signal, bounded by the grace period.
    #[serde(default)]
    pub pre_stop: Option<Vec<String>>,
}

fn default_stop_signal() -> i32 {
    libc::SIGTERM
}

/// How the runtime makes the container. The core compares it and never looks inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// Absolute path of the OCI bundle.
    pub bundle: String,
    /// Takes the place of the whole of `process.args`.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// `NAME=VALUE`, added to `process.env`.
    #[serde(default)]
    pub env: Vec<String>,
    /// A `linux.resources` object of the runtime specification, laid over the bundle's.
    #[serde(default)]
    pub resources: Option<serde_json::Value>,
}

/// After which ends a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// Delays before restarts. After a failure the first restart comes after `first`, the next after `initial`, and every
/// further one `factor` times later, up to `max`; each is lengthened by up to `jitter_percent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backoff {
    pub first: Millis,
    pub initial: Millis,
    pub factor: f64,
    pub max: Millis,
    pub jitter_percent: u32,
    /// A container that ran, ready, for this long starts the sequence again.
    pub reset: Millis,
    /// The delay after an exit with status 0 under `Always`, without growth; the first such restart comes after
    /// `first`. None: such an exit counts as a failure.
    pub clean: Option<Millis>,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            first: Millis(0),
            initial: Millis::secs(1),
            factor: 2.0,
            max: Millis::secs(60),
            jitter_percent: 10,
            reset: Millis::secs(300),
            clean: Some(Millis::secs(1)),
        }
    }
}

/// At most `count` restarts within any `window`; without a window, since the sequence of delays began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartLimit {
    pub count: u32,
    pub window: Option<Millis>,
}

/// How replicas of an old revision give way to the new one. Numbers of replicas; percentages are resolved before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Strategy {
    pub max_surge: u32,
    pub max_unavailable: u32,
    /// How long a replica must have been ready before it counts as available.
    pub min_ready: Millis,
}

impl Default for Strategy {
    fn default() -> Strategy {
        Strategy { max_surge: 0, max_unavailable: 1, min_ready: Millis(0) }
    }
}
