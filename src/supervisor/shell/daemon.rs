//! The daemon: state that outlives it, a keeper that outlives it, and clients.

use super::clock;
use super::event_loop::EventLoop;
use super::handle::Handle;
use super::host::HostEffects;
use super::images::Images;
use super::job::{JobResult, Name, Shared};
use super::journal::disk::{Changed, Disk};
use super::journal::store::Content;
use super::journal::{Durability, Journal, Replay, repair};
use super::keeper::link::Link;
use super::keeper::ring::Ring;
use super::logs;
use super::logs::file::LogFile;
use super::logs::pump::{Pump, Sink};
use super::pods::Directories;
use super::publish::Publisher;
use super::settings::Settings;
use super::{cgroups, recover};
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::network::Network;
use crate::supervisor::core::Config;
use crate::supervisor::core::action::Notice;
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::event::Record;
use crate::supervisor::core::model::Observed;
use crate::supervisor::core::observe::on_event;
use crate::supervisor::driver::Supervisor;
use crate::sys::{heap, prctl, sched};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Threads for what may take a while.
const WORKERS: usize = 8;

/// The loop of tokio, and threads for what may take a while.
///
/// # Errors
/// It cannot be made.
pub fn tokio() -> Result<tokio::runtime::Runtime> {
    heap::share();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .thread_name("worker")
        .build()
        .map_err(|e| Error::sys("setting up the loop", e))
}

/// A listening socket that outlives the supervisor, so that clients only wait while it is started again.
pub struct Socket<'a> {
    kept: Option<OwnedFd>,
    keeper: Option<&'a Link>,
}

/// By what name the keeper has it.
const SOCKET: &str = "api";

impl Socket<'_> {
    /// The socket that the keeper has, or that `make` makes.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get(self, make: impl FnOnce() -> Result<UnixListener>) -> Result<UnixListener> {
        if let Some(fd) = self.kept {
            return Ok(UnixListener::from(fd));
        }
        let socket = make()?;
        if let Some(keeper) = self.keeper {
            keeper.put(SOCKET, socket.as_raw_fd());
        }
        Ok(socket)
    }
}

/// Runs the daemon until `end` is done. `begin` is called when the supervisor knows everything that there is and
/// before it says that it is ready.
///
/// # Errors
/// The daemon cannot start.
pub fn run(
    settings: &Settings,
    begin: impl FnOnce(Handle, Socket) -> Result<()>,
    end: impl Future<Output = ()>,
) -> Result<()> {
    // Started by its file's descriptor, it would be called "exe".
    let _ = prctl::set_name(c"orund");
    let open_files = sched::raise_limit(libc::RLIMIT_NOFILE).ok();
    make_directories(settings)?;
    let link = Link::from_environment()?;
    let tokio = tokio()?;
    let _entered = tokio.enter();
    let (desired_journal, desired) = load_desired(&settings.data)?;
    let LoadedObserved { journal: runtime_journal, mut observed, told } = load_observed(&settings.run)?;
    let (done, finished) = mpsc::unbounded_channel();
    let shared = shared(settings, open_files, done.clone())?;
    let network = shared.network.clone();
    let mut linux = HostEffects::new(shared, done.clone())?;
    let mut kept = link.as_ref().map(Link::list).transpose()?.unwrap_or_default();
    let kept_socket = kept.remove(SOCKET);
    linux.ring = Some(Ring::open(&settings.run)?);
    linux.publisher = Some(publisher(link.as_ref(), &mut kept, (&observed, network), done.clone())?);
    linux.keeper = link;
    linux.runtime_journal = Some(runtime_journal);
    for mut notice in told {
        if let Some(workload) = desired.workloads.get(&notice.workload) {
            notice.workload_name.clone_from(&workload.name);
        }
        linux.remember(notice.into());
    }
    let writable = desired_journal.is_writable();
    linux.disk = Some(Disk::start(desired_journal, move |written| {
        let _ = done.send(JobResult::Written(Box::new(written)));
    })?);
    if !writable {
        log::warn("changes are refused because they cannot be stored durably");
    }
    let cgroups = cgroups::lock_parent(&settings.cgroup_parent);
    let found = recover::recover(&mut linux, &desired, &mut observed, settings, (kept, cgroups.is_some()))?;
    // Some may have gone while no supervisor ran.
    linux.forget_images(&desired);
    linux.collect_images(settings.image_age);
    let mut supervisor = Supervisor::new(desired, observed, config(), linux);
    supervisor.events(found, clock::now());
    let (mut event_loop, handle) = EventLoop::new(
        supervisor,
        finished,
        vec![settings.logs.clone(), settings.data.clone(), settings.run.clone()],
    )?;
    begin(handle, Socket { kept: kept_socket, keeper: event_loop.supervisor().world.keeper.as_ref() })?;
    event_loop.tell_manager("READY=1\nSTATUS=Keeping containers alive");
    event_loop.ready();
    let ended = tokio.block_on(async {
        tokio::select! {
            r = event_loop.run(|_| false) => r,
            () = end => Ok(()),
        }
    });
    event_loop.tell_manager("STOPPING=1");
    drop(event_loop);
    // As long as there are containers these are not empty, and stay.
    cgroups::remove_parents(&settings.cgroup_parent);
    ended
}

/// Creates the publisher of ports. It begins with the last map.
fn publisher(
    link: Option<&Link>,
    kept: &mut BTreeMap<String, OwnedFd>,
    (observed, network): (&Observed, Option<Arc<Network>>),
    done: mpsc::UnboundedSender<JobResult>,
) -> Result<Publisher> {
    let tell = move |news| {
        // Without a receiver the supervisor is shutting down.
        let _ = done.send(JobResult::Ports(news));
    };
    let publisher = Publisher::start(link.map(Link::another).transpose()?, kept, network, Box::new(tell))?;
    let endpoints = &observed.endpoints;
    if endpoints.generation > 0 {
        publisher.publish(endpoints.generation, &endpoints.map, &endpoints.names);
    }
    Ok(publisher)
}

/// The numbers for this process and this host.
pub fn config() -> Config {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    Config { seed: std::process::id().into(), booted: clock::epoch_ms(), ..Config::default() }.for_cpus(cpus)
}

fn make_directories(settings: &Settings) -> Result<()> {
    let make = |dir: &Path, mode: u32| {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(dir);
        made.map_err(|e| Error::sys(format!("making the directory {dir:?}"), e))
    };
    make(&settings.run, 0o755)?;
    make(&settings.run.join("logs"), 0o700)?;
    make(&settings.logs, 0o750)
}

/// The desired state when the last supervisor exited.
fn load_desired(dir: &Path) -> Result<(Journal, Desired)> {
    let (mut journal, replay): (_, Replay<Desired, Changed>) =
        Journal::open(dir, repair::DESIRED, Durability::Host)?;
    let mut desired = replay.snapshot.unwrap_or_default();
    for Changed { at, change } in &replay.records {
        // A change that was refused is refused again.
        let _ = desired.apply(change, *at, &config());
    }
    if replay.old {
        upgrade(&mut journal, &desired);
    }
    Ok((journal, desired))
}

/// Rewrites what an older program wrote. It can be read without that, but only older programs would cut it.
fn upgrade<S: serde::Serialize>(journal: &mut Journal, state: &S) {
    if let Err(e) = journal.compact(state) {
        log::warn(e.context("the journal cannot be written in the format of this version"));
    }
}

/// The known state of this boot's containers when the last supervisor exited.
struct LoadedObserved {
    journal: Journal,
    observed: Observed,
    told: Vec<Notice>,
}

fn load_observed(run_dir: &Path) -> Result<LoadedObserved> {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let boot = fs::read_to_string(BOOT_ID).map_err(|e| Error::sys(format!("reading {BOOT_ID}"), e))?;
    let dir = run_dir.join("state");
    let open = || Journal::open(&dir, boot.trim(), Durability::Process);
    let opened: Result<(Journal, Replay<Observed, Record>)> = open();
    let (mut journal, replay) = match opened {
        // The containers keep running for inspection: nothing is stopped for it.
        Err(e) if e.kind() == Kind::Config && !Content::read(&dir)?.is_newer() => {
            let aside = repair::set_aside(&dir)?;
            log::warn(format!(
                "the record of this boot's containers in {dir:?} is damaged and was moved to {aside:?}; \
                 searching for the containers instead"
            ));
            open()?
        }
        r => r?,
    };
    let mut observed = replay.snapshot.unwrap_or_default();
    let mut told = Vec::new();
    for Record { at, event } in &replay.records {
        on_event(&mut observed, event, *at, &mut told);
    }
    if replay.old {
        upgrade(&mut journal, &observed);
    }
    Ok(LoadedObserved { journal, observed, told })
}

fn shared(
    settings: &Settings,
    open_files: Option<(u64, u64)>,
    done: mpsc::UnboundedSender<JobResult>,
) -> Result<Shared> {
    let blocked = move |instance, error| {
        // Without a receiver the supervisor is shutting down.
        let _ = done.send(JobResult::Logs { instance, error });
    };
    let pump = Pump::start(&settings.run, &settings.logs, settings.limits, Box::new(blocked))?;
    let (root, run, limits) = (settings.logs.clone(), settings.run.clone(), settings.limits);
    let sink = move |name: &Name| {
        let dir = logs::directory(&root, &name.workload, name.key.slot, &name.container);
        logs::owner::claim(&dir, name.key.workload.0)?;
        let file = LogFile::new_run(&dir, &limits)?;
        let note = recover::log_note(&run, name.key);
        symlink(file.path(), &note).map_err(|e| Error::sys(format!("noting the log file in {note:?}"), e))?;
        Ok(Sink::File(file))
    };
    let (gone, noted) = (settings.run.clone(), settings.run.clone());
    Ok(Shared {
        rt: settings.runtime(),
        cgroup_parent: settings.cgroup_parent.clone(),
        pods: Directories { disk: settings.data.clone(), memory: settings.run.clone() },
        network: (!settings.network.none)
            .then(|| Network::open(settings.network.clone()))
            .transpose()?
            .map(Arc::new),
        images: Images::new(settings.data.join("images")),
        seccomp: settings.seccomp.clone(),
        pump,
        sink: Box::new(sink),
        log_file: Box::new(move |name| fs::read_link(recover::log_note(&noted, name.key)).ok()),
        forget: Box::new(move |name| {
            // One that is left over means nothing without its instance.
            let _ = fs::remove_file(recover::log_note(&gone, name.key));
        }),
        open_files,
    })
}
