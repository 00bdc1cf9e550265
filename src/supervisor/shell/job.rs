//! Inputs and results of jobs. [`super::jobs`] executes them.

use super::images::{Access, Images, Prepared};
use super::journal::disk::Written;
use super::logs::pump::{Pump, Sink};
use super::names;
use super::pods::{Directories, Pod};
use super::publish_news::News;
use super::streams::Ours;
use crate::error::{Error, Kind, Result};
use crate::kernel::cgroup::Cgroup;
use crate::network::Network;
use crate::runtime::Runtime;
use crate::runtime::embed::{PreparedContainer, Waiting};
use crate::supervisor::core::action::Reason;
use crate::supervisor::core::checks::{HookKind, ProbeKind};
use crate::supervisor::core::exit::StartError;
use crate::supervisor::core::ids::{Key, ReplicaKey, Revision, WorkloadId};
use crate::supervisor::core::model::Process;
use crate::supervisor::core::spec::{ContainerSource, ImageFacts};
use crate::workload::bundle::Source as Show;
use crate::workload::environment::Objects;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Makes the place for the output of a container's new run.
pub type MakeSink = Box<dyn Fn(&Name) -> Result<Sink> + Send + Sync>;

/// Finds the log file of a run of a container.
pub type FindLog = Box<dyn Fn(&Name) -> Option<PathBuf> + Send + Sync>;

/// State that all jobs share.
pub struct Shared {
    pub rt: Runtime,
    /// The absolute path in each hierarchy below which containers have their cgroups.
    pub cgroup_parent: String,
    pub pods: Directories,
    /// That of pods. None: each has only its loopback interface.
    pub network: Option<Arc<Network>>,
    pub images: Images,
    /// Where seccomp profiles of the host are.
    pub seccomp: PathBuf,
    pub pump: Pump,
    pub sink: MakeSink,
    /// The log file of the container's run, if it has one.
    pub log_file: FindLog,
    /// Called when nothing of a container is left.
    pub forget: Box<dyn Fn(&Name) + Send + Sync>,
    /// The limits of open files that containers get, where they ask for none.
    pub open_files: Option<(u64, u64)>,
}

/// A container, as people and the host know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub key: Key,
    pub workload: String,
    pub container: String,
    /// For the runtime.
    pub id: String,
}

impl Name {
    pub fn new(key: Key, workload: &str, container: &str) -> Name {
        Name {
            key,
            workload: workload.to_owned(),
            container: container.to_owned(),
            id: names::container_id(workload, key),
        }
    }
}

/// A container in the state `created`.
pub struct CreatedContainer {
    pub waiting: Waiting,
    pub process: Process,
    /// Facts from its image.
    pub image: Option<Box<ImageFacts>>,
    pub pidfd: OwnedFd,
    pub cgroup: Cgroup,
    pub streams: Ours,
    pub sink: Sink,
}

/// Result of a job.
pub enum JobResult {
    Prepared {
        key: Key,
        result: Result<Box<CreatedContainer>, StartError>,
    },
    Released {
        key: Key,
        result: Result<(), StartError>,
    },
    Killed {
        key: Key,
        empty: bool,
    },
    Hook {
        key: Key,
        kind: HookKind,
        error: Option<String>,
    },
    Probed {
        key: Key,
        kind: ProbeKind,
        n: u32,
        ok: Option<bool>,
        error: Option<String>,
    },
    Updated {
        key: Key,
        error: Option<String>,
    },
    /// A container was short of memory a moment ago.
    Memory {
        key: Key,
    },
    /// `words`: the last ones, from its log.
    Removed {
        key: Key,
        words: Option<String>,
        error: Option<String>,
    },
    SandboxMade {
        replica: ReplicaKey,
        result: Result<Box<Pod>, String>,
    },
    SandboxGone {
        replica: ReplicaKey,
        error: Option<String>,
    },
    Written(Box<Written>),
    /// An image is being pulled for a container, or was.
    Image {
        key: Key,
        reason: Reason,
        message: String,
    },
    /// About published ports.
    Ports(News),
    /// The output of an instance cannot be written, for that reason; or can again.
    Logs {
        instance: u64,
        error: Option<String>,
    },
}

/// The error of a container that cannot be made or started.
pub fn start_error(e: &Error) -> StartError {
    let unrecoverable = matches!(e.kind(), Kind::Config | Kind::Program);
    StartError { message: e.to_string(), unrecoverable, image: None }
}

/// Inputs for creating a container.
pub struct Source {
    pub cached: Arc<Cached>,
    pub launch: ContainerSource,
    pub revision: Revision,
    /// The sandbox that it joins.
    pub pod: Option<Arc<Pod>>,
    /// The ConfigMaps and Secrets that its variables come from.
    pub objects: Objects,
    /// Access for pulling its image.
    pub access: Access,
    /// Nobody waits for the container any more.
    pub cancelled: Arc<AtomicBool>,
    /// Reports what happens meanwhile.
    pub tell: Box<dyn Fn(JobResult) + Send + Sync>,
}

/// Which compiled bundle: the workload, the revision and the index of the container.
pub type BundleKey = (WorkloadId, Revision, u32);

/// A bundle that is compiled, or being compiled.
#[derive(Default)]
pub struct Cached {
    pub compiled: Mutex<Option<Arc<Compiled>>>,
    /// Held while it is compiled.
    pub making: Mutex<Option<Failed>>,
}

/// A failure that other waiters for the same bundle need not repeat.
pub struct Failed {
    pub at: Instant,
    pub error: StartError,
}

/// A compiled bundle.
pub struct Compiled {
    pub template: Arc<PreparedContainer>,
    /// The sources of its given mounts, in their order.
    pub given: Vec<(usize, Show)>,
    pub image: Option<Prepared>,
}
