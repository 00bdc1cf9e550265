//! The specification of one workload, in the core's own types. Manifests are converted into it; the core never reads
//! a file.

use super::exit::ExitClass;
use super::ports::PublishedPort;
pub use super::strategy::{Back, Fenceposts, MIN_READY, PROGRESS_DEADLINE, Strategy};
use super::time::Millis;
// Identical in files and in journals.
pub use crate::config::quantity::IntOrPercent;
use crate::workload::inputs::Input;
use crate::workload::model::Container;
pub use crate::workload::model::{FailureAction, RestartPolicy};
use serde::{Deserialize, Deserializer, Serialize};

/// The template of every replica of one revision. A changed template is a new revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// At least one; the index is the container's identity within its replica. Containers of role Init and Sidecar come
    /// first, in the order in which they start.
    pub containers: Vec<ContainerSpec>,
    /// The sandbox that the containers of a replica share, created before the first of them. None: they share nothing.
    #[serde(default)]
    pub sandbox: Option<SandboxSpec>,
    /// Of containers that have none of their own.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// Delays between restarts.
    #[serde(default)]
    pub backoff: Backoff,
    /// When set, a container that restarts more often is given up and its replica counts as failed.
    #[serde(default)]
    pub restart_limit: Option<RestartLimit>,
    /// From the decision to stop until SIGKILL. Zero: killed at once, without preStop and stop signal.
    #[serde(default = "default_grace")]
    pub grace: Millis,
    /// A replica that has existed for so long is stopped, and has failed. None: it may run forever.
    #[serde(default)]
    pub active_deadline: Option<Millis>,
    /// Keep one more instance of every container created, waiting to be released when the running one dies.
    #[serde(default)]
    pub spare: bool,
    /// Published on the host, by all replicas together.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
    /// The ConfigMaps and Secrets that it is made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Pinned>,
}

/// An input with what it held when the template was made: other content is another template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// Which object, and what of it.
    #[serde(flatten)]
    pub input: Input,
    /// See [`super::objects::digest`]. None: there was no such object.
    #[serde(default)]
    pub digest: Option<String>,
    /// Why no container can be made.
    #[serde(default)]
    pub lack: Option<String>,
}

impl PodTemplate {
    /// Missing inputs of its containers: a ConfigMap, a Secret, or a key of one.
    #[must_use]
    pub fn lack(&self) -> Option<&str> {
        self.inputs.iter().find_map(|i| i.lack.as_deref())
    }

    /// The role of each container; empty when all are main ones.
    #[must_use]
    pub fn roles(&self) -> Vec<Role> {
        let mains = self.containers.iter().all(|c| c.role == Role::Main);
        self.containers.iter().filter(|_| !mains).map(|c| c.role).collect()
    }

    /// Whether container `index` is started again after an exit of that class.
    #[must_use]
    pub fn restarts(&self, index: usize, class: ExitClass) -> bool {
        let spec = self.containers.get(index);
        if matches!(class, ExitClass::StartError { image: Some(_), .. }) {
            // It never ran, and the next attempt may find the image.
            return true;
        }
        let rules = spec.into_iter().flat_map(|c| &c.restart_rules);
        if let ExitClass::Exited(code) = class
            && rules.into_iter().any(|r| r.codes.contains(&code) != r.others)
        {
            return true;
        }
        let own = spec.and_then(|c| c.restart_policy).unwrap_or(self.restart_policy);
        let policy = match spec.map_or(Role::Main, |c| c.role) {
            Role::Main => own,
            Role::Sidecar => RestartPolicy::Always,
            Role::Init if own == RestartPolicy::Never => RestartPolicy::Never,
            Role::Init => RestartPolicy::OnFailure,
        };
        match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => class.is_failure(),
            RestartPolicy::Never => false,
        }
    }

    /// Whether a replica of this template can go over to `other` without a restart: the same programs in the same
    /// places. What remains (limits, grace, signals, hooks, delays) is looked up when it is needed, or written to
    /// the cgroup.
    #[must_use]
    pub fn runs_as(&self, other: &PodTemplate) -> bool {
        let same = |(a, b): (&ContainerSpec, &ContainerSpec)| {
            let program = |l: &ContainerSource| ContainerSource { resources: None, ..l.clone() };
            (&a.name, a.role, &a.probes) == (&b.name, b.role, &b.probes)
                && program(&a.launch) == program(&b.launch)
        };
        self.containers.len() == other.containers.len()
            && self.sandbox == other.sandbox
            && self.inputs == other.inputs
            && self.containers.iter().zip(&other.containers).all(same)
    }
}

impl Default for PodTemplate {
    /// No container; always restarted, 30 seconds to end.
    fn default() -> PodTemplate {
        PodTemplate {
            containers: Vec::new(),
            sandbox: None,
            restart_policy: RestartPolicy::Always,
            backoff: Backoff::default(),
            restart_limit: None,
            grace: default_grace(),
            active_deadline: None,
            spare: false,
            ports: Vec::new(),
            inputs: Vec::new(),
        }
    }
}

fn default_grace() -> Millis {
    Millis::secs(30)
}

/// One container of a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    /// Unique in the replica.
    pub name: String,
    /// When it runs, beside the others.
    #[serde(default)]
    pub role: Role,
    /// None: the template's. A sidecar is always restarted, an init container until it succeeds.
    #[serde(default)]
    pub restart_policy: Option<RestartPolicy>,
    /// The first that matches an exit code goes before the policy.
    #[serde(default)]
    pub restart_rules: Vec<RestartRule>,
    /// How the runtime makes it.
    pub launch: ContainerSource,
    /// Signal number that asks the container to end, or [`SIGNAL_OF_IMAGE`].
    #[serde(default = "default_stop_signal")]
    pub stop_signal: i32,
    /// The hook after the program starts, before the container counts as ready.
    #[serde(default)]
    pub post_start: Option<Handler>,
    /// The hook before the stop signal, bounded by the grace period.
    #[serde(default, deserialize_with = "pre_stop")]
    pub pre_stop: Option<Handler>,
    /// How its health is found out.
    #[serde(default)]
    pub probes: Option<Box<Probes>>,
}

/// The action of a hook or a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// Runs a command in the container.
    Exec(Vec<String>),
    /// Sends a request, from within the network of the container.
    Http(HttpRequest),
    /// Connects, from within the network of the container.
    Tcp(Endpoint),
    /// Asks a server by the health protocol of gRPC, from within the network of the container.
    Grpc(GrpcRequest),
    /// Waits.
    Sleep(Millis),
}

/// A call of `grpc.health.v1.Health/Check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRequest {
    /// Where the server listens.
    pub endpoint: Endpoint,
    /// Empty: the server as a whole.
    #[serde(default)]
    pub service: String,
}

/// `GET` over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequest {
    /// Where the server listens.
    pub endpoint: Endpoint,
    /// Path and query, from the first `/`.
    pub path: String,
    /// Names and values, in the order of the file.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Over TLS; the certificate is not verified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// None: the container's own.
    #[serde(default)]
    pub host: Option<core::net::IpAddr>,
    /// Port number.
    pub port: u16,
}

/// The probes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probes {
    /// Until it has succeeded, the others wait; its failure restarts the container.
    pub startup: Option<Probe>,
    /// Its failure takes the replica out of Services and published ports.
    pub readiness: Option<Probe>,
    /// Its failure restarts the container.
    pub liveness: Option<Probe>,
}

/// How the health of a container is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Its action.
    pub handler: Handler,
    /// From the start of the program until the first one.
    pub initial_delay: Millis,
    /// Between two of them.
    pub period: Millis,
    /// How long one may take.
    pub timeout: Millis,
    /// How many in a row count as success, and as failure.
    pub success_threshold: u32,
    /// How many in a row count as failure.
    pub failure_threshold: u32,
    /// Instead of the template's, when it has the container stopped.
    #[serde(default)]
    pub grace: Option<Millis>,
}

/// A hook as journals have it; those of the first format have the command alone.
fn pre_stop<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Handler>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Recorded {
        Command(Vec<String>),
        Handler(Handler),
    }
    let recorded = Option::<Recorded>::deserialize(from)?;
    Ok(recorded.map(|r| match r {
        Recorded::Command(command) => Handler::Exec(command),
        Recorded::Handler(handler) => handler,
    }))
}

impl Default for ContainerSpec {
    /// A main container without a name and a program.
    fn default() -> ContainerSpec {
        ContainerSpec {
            name: String::new(),
            role: Role::Main,
            restart_policy: None,
            restart_rules: Vec::new(),
            launch: ContainerSource::default(),
            stop_signal: default_stop_signal(),
            post_start: None,
            pre_stop: None,
            probes: None,
        }
    }
}

/// How a sandbox is made. The core compares it and never looks inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SandboxSpec {
    /// Namespaces, volumes, names and addresses, as the shell reads them.
    pub config: serde_json::Value,
}

/// When a container of a replica runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Role {
    /// Before those after it: it must exit successfully first.
    Init,
    /// From before those after it are started until all main containers have exited.
    Sidecar,
    /// From after the init containers until the end of the replica.
    #[default]
    Main,
}

/// Instead of a stop signal: the one that the image names, which is known when the container exists; else SIGTERM.
pub const SIGNAL_OF_IMAGE: i32 = 0;

fn default_stop_signal() -> i32 {
    libc::SIGTERM
}

/// Which image, and what the container changes of it. The core compares it and never looks inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSource {
    /// As it was written.
    pub name: String,
    /// When it is pulled.
    pub policy: PullPolicy,
    /// The digest of the manifest, where the caller knows it. None: the name is resolved once for a revision.
    pub digest: Option<String>,
    /// Instead of the image's entrypoint.
    pub command: Vec<String>,
    /// Instead of the image's arguments.
    pub args: Option<Vec<String>>,
    /// Names of Secrets with credentials for its registry. They are looked at when it is pulled: what they hold does not belong to
    /// a revision.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
}

/// When an image is looked for elsewhere, although it may be on this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Also when it is on this host: once for a revision, and not for a digest.
    Always,
    /// When it is not on this host.
    #[default]
    IfNotPresent,
    /// The image must be on this host.
    Never,
}

/// Facts that only the image of a container has. They are known when the container exists, and belong to that one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageFacts {
    /// Instead of the probes of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Box<Probes>>,
    /// The ports that its programs use, as `80/tcp`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

impl ImageFacts {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == ImageFacts::default()
    }
}

/// How the runtime makes the container. The core compares it and never looks inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSource {
    /// Absolute path of the OCI bundle.
    pub bundle: String,
    /// The image that its root file system and its defaults come from; there is no bundle then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// Its config.json as it was when the workload was applied, which all replicas of the revision are made from. None: it
    /// could not be read then, or an older version applied it; it is read when it is needed.
    #[serde(default)]
    pub config: Option<String>,
    /// Takes the place of the whole of `process.args`.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// `NAME=VALUE`, added to `process.env`.
    #[serde(default)]
    pub env: Vec<String>,
    /// A `linux.resources` object of the runtime specification, laid over the bundle's.
    #[serde(default)]
    pub resources: Option<serde_json::Value>,
    /// A container of a pod, as the workload describes it, without what changes while it runs.
    #[serde(default)]
    pub container: Option<Box<Container>>,
    /// It writes to the bundle's own root file system.
    #[serde(default)]
    pub shared_root: bool,
}

/// A container that exits with one of these codes, or with another one, is started again whatever its policy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartRule {
    /// Exit codes, 0 to 255.
    pub codes: Vec<i32>,
    /// The rule is about all codes but these.
    #[serde(default)]
    pub others: bool,
}

/// Delays before restarts. After a failure the first restart comes after `first`, the next after `initial`, and every
/// further one `factor` times later, up to `max`; each is lengthened by up to `jitter_percent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backoff {
    /// Before the first restart.
    pub first: Millis,
    /// Before the second restart.
    pub initial: Millis,
    /// How much longer each further delay is.
    pub factor: f64,
    /// The longest delay.
    pub max: Millis,
    /// By how much a delay may be longer, in percent.
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
    /// Restarts.
    pub count: u32,
    /// How far back they count.
    pub window: Option<Millis>,
}
