//! Settings of a container in files of container engines for which Kubernetes has no field.

use super::health_check::HealthCheck;
use serde::{Deserialize, Serialize};

/// `engine` of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Engine {
    /// `USER[:GROUP]` by name, looked up in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Limits of processes, by the names of getrlimit(2) in lower case: `nofile`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// From -1000 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// CPUs, as `0-3,5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Directories that the image declares as volumes are volumes of the replica. Kubernetes ignores them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub image_volumes: bool,
    /// The health check of the image counts, with these parts replaced. Kubernetes ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_health_check: Option<HealthCheck>,
}

impl Engine {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Engine::default()
    }
}

/// One limit; -1: unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// Of `r`, `w` and `m`.
    pub permissions: String,
}

/// The names of the limits.
pub const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
