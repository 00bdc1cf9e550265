//! Replicas of one bundle in the foreground: no daemon, no state that outlives it, and the output on the terminal.

use super::cleaner::{BRIDGE, Cleaner, bridge_of_run};
use super::event_loop::EventLoop;
use super::handle::{Apply, ChangeRequest, Handle};
use super::host::HostEffects;
use super::images::Images;
use super::job::{JobResult, Name, Shared};
use super::logs::pump::{Pump, Sink};
use super::logs::{Limits, Stream};
use super::pods::{Directories, seccomp};
use super::publish::Publisher;
use super::screen::Screen;
use super::typing::{self, Ended, Interactive};
use super::{daemon, settings};
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::network::Network;
use crate::runtime::embed::{Overlay, PreparedContainer};
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::model::{Next, Observed};
use crate::supervisor::core::spec::PodTemplate;
use crate::supervisor::core::time::Millis;
use crate::supervisor::driver::Supervisor;
use crate::sys::{prctl, sched};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Settings of `orund run`.
#[derive(Debug, Clone)]
pub struct Foreground {
    pub name: String,
    pub replicas: u32,
    pub template: PodTemplate,
    /// Where the runtime's records are kept meanwhile; should be on tmpfs.
    pub run: PathBuf,
    /// The store of images.
    pub images: PathBuf,
    pub cgroup_parent: String,
    /// Its only container has the caller's terminal or input.
    pub interactive: Option<Interactive>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every replica exited successfully, or was stopped.
    Well,
    /// A replica failed and is not restarted.
    Failed,
    /// Some did not end when they were asked to, and were killed.
    Killed,
    /// The only container of an interactive run has exited: its exit code, or 128 and the signal.
    Exited(u8),
}

/// Runs the replicas until they have terminated for good, or until a signal stops them: the first one gives them
/// their grace period, the second none. Nothing is left behind.
///
/// # Errors
/// Everything that is wrong with the bundle, before anything is started; what the host cannot do.
pub fn run(what: &Foreground) -> Result<Outcome> {
    let _ = prctl::set_name(c"orund");
    let open_files = sched::raise_limit(libc::RLIMIT_NOFILE).ok();
    let rt = settings::runtime(settings::containers(&what.run), &what.cgroup_parent);
    for container in &what.template.containers {
        let launch = &container.launch;
        if launch.image.is_some() {
            continue;
        }
        let overlay = Overlay {
            args: launch.args.clone().unwrap_or_default(),
            env: launch.env.clone(),
            resources: launch.resources.clone(),
            without_limits: what.cgroup_parent.is_empty(),
            open_files,
            ..Overlay::default()
        };
        PreparedContainer::load(&rt, launch.bundle.as_ref(), None, &overlay)?;
    }
    fs::create_dir_all(&what.run).map_err(|e| Error::sys(format!("making {:?}", what.run), e))?;
    // SIGKILL leaves no time to clean up.
    let cleaner = Cleaner::start(&what.run, &what.cgroup_parent)?;
    let network = network(what)?;
    let tokio = daemon::tokio()?;
    let _entered = tokio.enter();
    let outcome = in_loop(what, &tokio, rt, open_files, network.clone());
    if let Some(Err(e)) = network.map(|n| n.end()) {
        log::warn(e);
    }
    super::cgroups::remove_parents(&what.cgroup_parent);
    if let Err(e) = fs::remove_dir_all(&what.run) {
        log::warn(Error::sys(format!("removing {:?}", what.run), e));
    }
    drop(cleaner);
    outcome
}

/// The network of replicas whose ports are published: a bridge of their own, which goes with them.
fn network(what: &Foreground) -> Result<Option<Arc<Network>>> {
    if what.template.ports.is_empty() {
        return Ok(None);
    }
    // No two processes have the same number, and a bridge of `orund serve` has another name.
    let bridge = format!("or{:x}", std::process::id());
    let file = what.run.join(BRIDGE);
    fs::write(&file, &bridge).map_err(|e| Error::sys(format!("writing {file:?}"), e))?;
    Network::open(bridge_of_run(bridge)).map(|network| Some(Arc::new(network)))
}

/// Creates the publisher of the ports.
fn publisher(network: &Arc<Network>, done: mpsc::UnboundedSender<JobResult>) -> Result<Publisher> {
    let tell = move |news| {
        // Without a receiver everything is shutting down.
        let _ = done.send(JobResult::Ports(news));
    };
    Publisher::start(None, &mut BTreeMap::new(), Some(Arc::clone(network)), Box::new(tell))
}

fn in_loop(
    what: &Foreground,
    tokio: &tokio::runtime::Runtime,
    rt: crate::runtime::Runtime,
    open_files: Option<(u64, u64)>,
    network: Option<Arc<Network>>,
) -> Result<Outcome> {
    let screen = Arc::new(Mutex::new(Screen::new(&what.name)));
    let interactive = what.interactive.is_some();
    let (done, finished) = mpsc::unbounded_channel();
    let shared = shared(what, rt, open_files, network.clone(), Arc::clone(&screen))?;
    let signals = take_signals()?;
    let publisher = network.as_ref().map(|network| publisher(network, done.clone())).transpose()?;
    let mut linux = HostEffects::new(shared, done)?;
    linux.publisher = publisher;
    let supervisor = Supervisor::new(Desired::default(), Observed::default(), daemon::config(), linux);
    let (mut event_loop, handle) = EventLoop::new(supervisor, finished, vec![what.run.clone()])?;
    let mut notices = handle.notices();
    let asking = asked_to_end(handle.clone(), what.name.clone(), change_request(what), signals);
    let typing = async {
        if let Some(with) = what.interactive {
            typing::interact(handle, what.name.clone(), with).await;
        }
    };
    let mut outcome = Outcome::Well;
    let mut ended = Ended::default();
    let mut begun = false;
    tokio.block_on(async {
        let asking = async { tokio::join!(asking, typing).0 };
        tokio::pin!(asking);
        let ends = |s: &Supervisor<HostEffects>| {
            let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
            while let Ok(notice) = notices.try_recv() {
                if !interactive {
                    screen.notice(&notice);
                }
            }
            if interactive {
                ended.note(&s.observed);
            } else {
                screen.status(&s.desired, &s.observed);
            }
            note_outcome(&s.observed, &mut outcome);
            let over = s.desired.workloads.is_empty() || all_done(&s.desired, &s.observed);
            begun |= !s.desired.workloads.is_empty();
            begun && over
        };
        tokio::select! {
            r = event_loop.run(ends) => r,
            () = &mut asking => Ok(()),
        }
    })?;
    drop(event_loop);
    screen.lock().unwrap_or_else(PoisonError::into_inner).end();
    if interactive { exited(ended) } else { Ok(outcome) }
}

/// The outcome of an interactive run.
fn exited(ended: Ended) -> Result<Outcome> {
    ended.code.map(Outcome::Exited).ok_or_else(|| {
        let why = ended.error.unwrap_or_else(|| "the exit status is not known".to_owned());
        Error::new(Kind::Program, why)
    })
}

/// What the container writes, as it writes it. A reader that has gone away does not end it.
fn as_it_is(stream: Stream, bytes: &[u8]) {
    let _ = match stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => std::io::stderr().lock().write_all(bytes),
    };
}

/// What the jobs of the loop share: output goes to `screen`, or in an interactive run as it is to the caller.
fn shared(
    what: &Foreground,
    rt: crate::runtime::Runtime,
    open_files: Option<(u64, u64)>,
    network: Option<Arc<Network>>,
    screen: Arc<Mutex<Screen>>,
) -> Result<Shared> {
    let several = what.template.containers.len() > 1;
    let interactive = what.interactive.is_some();
    let sink = move |name: &Name| {
        let screen = Arc::clone(&screen);
        if interactive {
            return Ok(Sink::Live(Box::new(as_it_is)));
        }
        let (slot, container) = (name.key.slot, several.then(|| name.container.clone()));
        let mut lines = super::screen::Lines::default();
        Ok(Sink::Live(Box::new(move |stream, bytes| {
            let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
            lines.feed(stream, bytes, |line| screen.output(slot, container.as_deref(), stream, line));
        })))
    };
    Ok(Shared {
        rt,
        cgroup_parent: what.cgroup_parent.clone(),
        pods: Directories { disk: what.run.clone(), memory: what.run.clone() },
        network,
        images: Images::new(what.images.clone()),
        seccomp: seccomp::DIRECTORY.into(),
        // Nothing is kept, so no disk can be full.
        pump: Pump::start(&what.run, &what.run, Limits::default(), Box::new(|_, _| ()))?,
        sink: Box::new(sink),
        log_file: Box::new(|_| None),
        forget: Box::new(|_| ()),
        open_files,
    })
}

/// The change for the replicas.
fn change_request(what: &Foreground) -> ChangeRequest {
    ChangeRequest::Apply(Box::new(Apply {
        name: what.name.clone(),
        replicas: what.replicas,
        strategy: Default::default(),
        controller: Default::default(),
        paused: None,
        template: what.template.clone(),
        source: serde_json::Value::Null,
        cause: "run".to_owned(),
    }))
}

fn take_signals() -> Result<[Signal; 3]> {
    let take = |kind| signal(kind).map_err(|e| Error::sys("taking over signals", e));
    Ok([take(SignalKind::interrupt())?, take(SignalKind::terminate())?, take(SignalKind::hangup())?])
}

/// Asks for the replicas, then waits for signals. Does not end.
async fn asked_to_end(handle: Handle, name: String, change: ChangeRequest, signals: [Signal; 3]) {
    let [mut interrupt, mut terminate, mut hangup] = signals;
    // It cannot be refused: there is nothing else yet.
    let _ = handle.change(change).await;
    let mut grace = None;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        // It may have come to its end in this moment.
        let _ = handle.change(ChangeRequest::Delete { name: name.clone(), grace }).await;
        grace = Some(Millis(0));
    }
}

/// Whether every replica has exited and none is restarted.
fn all_done(desired: &Desired, observed: &Observed) -> bool {
    desired.workloads.iter().all(|(id, workload)| {
        let slots = observed.workloads.get(id).map(|w| &w.slots);
        let ended = |slot: u32| {
            let replica = slots.and_then(|s| s.get(&slot)?.replicas.last());
            replica.is_some_and(|r| {
                r.containers.iter().all(|c| {
                    c.instances.is_empty() && matches!(c.restart.next, Next::Done { .. } | Next::GivenUp)
                })
            })
        };
        workload.deletion.is_none() && workload.replicas > 0 && (0..workload.replicas).all(ended)
    })
}

/// The worst that has happened so far.
fn note_outcome(observed: &Observed, outcome: &mut Outcome) {
    for slot in observed.workloads.values().flat_map(|w| w.slots.values()) {
        for container in slot.replicas.iter().flat_map(|r| &r.containers) {
            if matches!(container.restart.next, Next::Done { failed: true } | Next::GivenUp) {
                *outcome = Outcome::Failed;
            }
            let killed =
                container.instances.iter().any(|i| i.stop.is_some() && i.exit.is_none() && i.kills > 0);
            if killed && *outcome == Outcome::Well {
                *outcome = Outcome::Killed;
            }
        }
    }
}
