//! The model of workloads (programs, replicas, restarts): the one set of types that all formats are read into.
//!
//! The names are those of Kubernetes' PodSpec. The serialised form is the format `orun.dev/v1`: it reads back to the same
//! value.

use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::controller::Controller;
use super::depends::Dependency;
use super::engine::Engine;
use super::exit_codes::ExitCodes;
use super::pod::{
    ConfigRef, DnsConfig, FieldRef, HostAlias, PodMetadata, PodSecurity, Port, ResourceRef, Security, Volume,
    VolumeMount,
};
use super::probe::{Handler, Probe};
use super::strategy;
pub use super::strategy::{FailureAction, Rollback, RollingUpdate, Strategy, StrategyType};
use crate::config::quantity::{Bytes, Factor, IntOrPercent, MilliCpu, Signal, seconds};

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ApiVersion {
    /// `orun.dev/v1`.
    #[default]
    #[serde(rename = "orun.dev/v1")]
    V1,
}

/// The kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Kind {
    /// `Workload`.
    #[default]
    Workload,
}

/// One document of a workload file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// Version of the format.
    pub api_version: ApiVersion,
    /// Always a workload.
    pub kind: Kind,
    /// Name, labels and annotations.
    pub metadata: Metadata,
    /// The desired replicas.
    pub spec: Spec,
}

/// `metadata`: the name and what people attach to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// A DNS label (RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`, neither first nor last `-`.
    pub name: String,
    /// Keys and values to select objects by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Keys and values for people and programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// When an exited container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// After every exit.
    #[default]
    Always,
    /// After an exit with another status than 0.
    OnFailure,
    /// After no exit.
    Never,
}

/// `spec`: the desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// How many replicas; 0 keeps the workload and runs nothing.
    pub replicas: u32,
    /// When containers are started again.
    pub restart_policy: RestartPolicy,
    /// Time between the beginning of termination and SIGKILL; 0 kills at once.
    #[serde(rename = "terminationGracePeriodSeconds", with = "seconds")]
    pub termination_grace_period: Duration,
    /// The stop signal. `None`: SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<Signal>,
    /// Delays before restarts.
    pub backoff: Backoff,
    /// How a new revision replaces an old one.
    #[serde(default, skip_serializing_if = "Strategy::is_default")]
    pub strategy: Strategy,
    /// How long a new replica must have been ready before it counts as available. `None`: the supervisor's own choice.
    #[serde(
        rename = "minReadySeconds",
        default,
        skip_serializing_if = "Option::is_none",
        with = "seconds::option"
    )]
    pub min_ready: Option<Duration>,
    /// How long a rollout may make no progress before it has failed. `None`: 10 minutes.
    #[serde(
        rename = "progressDeadlineSeconds",
        default,
        skip_serializing_if = "Option::is_none",
        with = "seconds::option"
    )]
    pub progress_deadline: Option<Duration>,
    /// The action after a failed rollout.
    #[serde(default, skip_serializing_if = "FailureAction::is_none")]
    pub failure_action: FailureAction,
    /// How many new replicas may fail before a rollout has failed.
    #[serde(default = "strategy::no_failures", skip_serializing_if = "strategy::is_no_failures")]
    pub max_failures: IntOrPercent,
    /// How the workload goes back to an earlier revision. `None`: as it goes forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// No replica changes its revision. `None`: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// How many old revisions are kept to go back to. `None`: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<u32>,
    /// How many more of every container are kept created, to run when one exits: 0 or 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spares: u32,
    /// Host name in the containers. `None`: the bundle's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Namespaces of the host instead of those of the bundle.
    #[serde(default, skip_serializing_if = "is_false")]
    pub host_network: bool,
    /// The containers are in one pid namespace.
    #[serde(default, skip_serializing_if = "is_false")]
    pub share_process_namespace: bool,
    /// Of all containers of a replica together.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Use the host's pid namespace.
    #[serde(rename = "hostPID", default, skip_serializing_if = "is_false")]
    pub host_pid: bool,
    /// Use the host's ipc namespace.
    #[serde(rename = "hostIPC", default, skip_serializing_if = "is_false")]
    pub host_ipc: bool,
    /// Part of the pod's full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    /// The host name is the full name.
    #[serde(rename = "setHostnameAsFQDN", default, skip_serializing_if = "is_false")]
    pub set_hostname_as_fqdn: bool,
    /// Lines for /etc/hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// `None`: only `dnsConfig` says how names are resolved; else as on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_policy: Option<String>,
    /// Content of /etc/resolv.conf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfig>,
    /// User, groups and sysctls of all containers.
    #[serde(default, skip_serializing_if = "PodSecurity::is_empty")]
    pub security_context: PodSecurity,
    /// Directories and files that containers mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Secrets with credentials for the registries of the images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<NameReference>,
    /// Workloads that must have started, be ready or have completed before replicas are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// Settings of a kind of Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
    /// The replicas are pods, with these labels. `None`: a single container without anything of a pod is run as its bundle
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodMetadata>,
    /// The containers write to the bundle's own root file system, which all replicas share.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared_root: bool,
    /// How long a replica may run. `None`: forever.
    #[serde(
        rename = "activeDeadlineSeconds",
        default,
        skip_serializing_if = "Option::is_none",
        with = "seconds::option"
    )]
    pub active_deadline: Option<Duration>,
    /// Run one after another before the others. Those with `restartPolicy: Always` are sidecars: they keep running until
    /// the containers have exited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
    /// At least one; names are unique.
    pub containers: Vec<Container>,
}

impl Spec {
    /// All containers, in the order in which they start.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Default for Spec {
    /// One replica that is always restarted, 30 seconds to end, no container.
    fn default() -> Spec {
        Spec {
            replicas: 1,
            restart_policy: RestartPolicy::Always,
            termination_grace_period: Duration::from_secs(30),
            stop_signal: None,
            backoff: Backoff::default(),
            strategy: Strategy::default(),
            min_ready: None,
            progress_deadline: None,
            failure_action: FailureAction::None,
            max_failures: strategy::no_failures(),
            rollback: None,
            paused: None,
            revision_history_limit: None,
            spares: 0,
            hostname: None,
            host_network: false,
            share_process_namespace: false,
            resources: Resources::default(),
            host_pid: false,
            host_ipc: false,
            subdomain: None,
            set_hostname_as_fqdn: false,
            host_aliases: Vec::new(),
            dns_policy: None,
            dns_config: None,
            depends_on: Vec::new(),
            controller: None,
            pod: None,
            shared_root: false,
            security_context: PodSecurity::default(),
            volumes: Vec::new(),
            image_pull_secrets: Vec::new(),
            active_deadline: None,
            init_containers: Vec::new(),
            containers: Vec::new(),
        }
    }
}

/// `spec.backoff`: the delays between failure and restart. The first restart is immediate; the second waits for
/// `initial`, each further one `factor` times as long, up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    #[serde(with = "seconds")]
    pub initial: Duration,
    pub factor: Factor,
    #[serde(with = "seconds")]
    pub max: Duration,
    /// A container that has run for this long starts over with an immediate restart.
    #[serde(with = "seconds")]
    pub reset: Duration,
    /// More restarts than this within `window` and the replica is given up. `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// Only together with `max_restarts`; without it all restarts since the last reset count.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "seconds::option")]
    pub window: Option<Duration>,
}

impl Default for Backoff {
    /// 0, 1, 2, 4 ... 60 seconds; starts over after 5 minutes; never gives up.
    fn default() -> Backoff {
        Backoff {
            initial: Duration::from_secs(1),
            factor: Factor::TWO,
            max: Duration::from_secs(60),
            reset: Duration::from_secs(300),
            max_restarts: None,
            window: None,
        }
    }
}

/// An object by its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NameReference {
    pub name: String,
}

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// One entry of `spec.containers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// A DNS label. In the short form, the name of the workload.
    pub name: String,
    /// Absolute path of the bundle's directory; empty when there is an image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bundle: String,
    /// The name of an image, instead of a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When the image is pulled. `None`: by its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Before `args`. With either, the bundle's `process.args` are not used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Where the program starts. `None`: the bundle's `process.cwd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Added to the bundle's `process.env`; the same name replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Variables from whole ConfigMaps and Secrets; those of `env` replace them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFrom>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    #[serde(default, skip_serializing_if = "Security::is_empty")]
    pub security_context: Security,
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// `None`: the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Rules that take precedence over the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_policy_rules: Vec<RestartRule>,
    /// Its standard input stays open, and clients that are attached write to it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin: bool,
    /// Its standard input ends with the first client that was attached. Not that of a terminal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin_once: bool,
    /// It has a terminal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tty: bool,
    /// The file with its last words. `None`: /dev/termination-log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message_path: Option<String>,
    /// `None`: that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message_policy: Option<MessagePolicy>,
    /// Settings that only files of container engines have.
    #[serde(default, skip_serializing_if = "Engine::is_empty")]
    pub engine: Engine,
}

impl Container {
    /// Whether it, an init container, is a sidecar.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }
}

/// Where the last words of a container come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessagePolicy {
    File,
    /// From the end of its log, when it has failed and the file is empty.
    FallbackToLogsOnError,
}

/// Consequence of some exit codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestartRule {
    pub action: RestartAction,
    pub exit_codes: ExitCodes,
}

/// Action of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartAction {
    /// The container is started again, whatever its policy says.
    Restart,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    pub name: String,
    /// `$(NAME)` is an earlier variable.
    #[serde(default)]
    pub value: String,
    /// Instead of `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::enum_variant_names, reason = "the names of the API")]
pub enum EnvSource {
    ConfigMapKeyRef(ConfigRef),
    SecretKeyRef(ConfigRef),
    FieldRef(FieldRef),
    ResourceFieldRef(ResourceRef),
}

/// Variables from all keys of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvFrom {
    /// Before each name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ConfigRef>,
}

/// `resources` of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// The weight against others, and the memory that is taken from them last.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub requests: Limits,
}

impl Resources {
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }
}

/// Upper limits; they replace those of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Number of tasks (threads and processes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

impl Limits {
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

/// `lifecycle` of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lifecycle {
    /// Runs once the program does; until then the container is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Handler>,
    /// Runs before the stop signal is sent; its time counts against the grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Handler>,
    /// Instead of the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<Signal>,
}

impl Lifecycle {
    pub fn is_empty(&self) -> bool {
        *self == Lifecycle::default()
    }
}
