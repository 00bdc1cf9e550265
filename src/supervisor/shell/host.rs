//! The world of Linux: decisions become system calls, and what happens becomes events.

use super::clock;
use super::images;
use super::job::{self, BundleKey, Cached, CreatedContainer, JobResult, Name, Shared};
use super::jobs;
use super::journal::Journal;
use super::journal::disk::{Changed, Disk};
use super::keeper::link::Link;
use super::keeper::ring::Ring;
use super::memory;
use super::names::process_name;
use super::pods::{Pod, words};
use super::publish::Publisher;
use super::streams::{self, ForClients};
use crate::error::Error;
use crate::kernel::cgroup::Cgroup;
use crate::kernel::launch::Reaper;
use crate::log;
use crate::network::Network;
use crate::runtime::embed::Waiting;
use crate::supervisor::core::action::{Action, Notice, Reason};
use crate::supervisor::core::desired::{Change, Desired};
use crate::supervisor::core::event::{Event, Record};
use crate::supervisor::core::exit::{StartError, WaitStatus};
use crate::supervisor::core::ids::{Key, ReplicaKey, Revision};
use crate::supervisor::core::model::{Instance, Observed, Process};
use crate::supervisor::core::spec::SIGNAL_OF_IMAGE;
use crate::supervisor::core::time::Time;
use crate::supervisor::driver::{Persisted, World};
use crate::sys::{process, wait};
use crate::workload::model::{Container, MessagePolicy};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{broadcast, mpsc};

/// Of the marks of init processes of pods, beside the numbers of instances.
pub const INIT_MARK: u64 = 1 << 61;
/// Notices that are remembered.
const NOTICES: usize = 4096;

/// A container that is not removed yet.
pub struct Live {
    pub name: Name,
    pub process: Option<Process>,
    /// None once it has exited.
    pub pidfd: Option<OwnedFd>,
    pub cgroup: Option<Cgroup>,
    /// Its processes end with the first, before that can be reaped (pid_namespaces(7)).
    pub own_pid_namespace: bool,
    /// It is created and not released.
    pub waiting: Option<Box<Waiting>>,
    /// Its start was requested and has not been confirmed yet.
    pub releasing: bool,
    /// Its exit status, while it cannot be reported yet.
    pub ended: Option<Ended>,
    /// It was to be killed while it was being created.
    pub doomed: bool,
    /// As `doomed`, for the job that creates it.
    pub cancelled: Arc<AtomicBool>,
    pub memory: memory::Watch,
    pub clients: ForClients,
}

/// The observation of a container whose first process has exited.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub status: Option<WaitStatus>,
    pub oom: bool,
    pub empty: bool,
}

impl Live {
    pub fn new(name: Name) -> Live {
        Live {
            name,
            process: None,
            pidfd: None,
            cgroup: None,
            own_pid_namespace: false,
            waiting: None,
            releasing: false,
            ended: None,
            doomed: false,
            cancelled: Arc::default(),
            memory: memory::Watch::default(),
            clients: ForClients::default(),
        }
    }
}

/// The world.
pub struct HostEffects {
    pub shared: Arc<Shared>,
    /// None in the foreground, which has no successor.
    pub runtime_journal: Option<Journal>,
    /// Records that could not be written yet.
    pub unrecorded: Vec<Record>,
    pub disk: Option<Disk>,
    pub keeper: Option<Link>,
    /// None in the foreground.
    pub publisher: Option<Publisher>,
    pub ring: Option<Ring>,
    /// By number of the instance.
    pub live: HashMap<u64, Live>,
    pub templates: HashMap<BundleKey, Arc<Cached>>,
    /// The number of workloads when the store of images was last notified of the revisions that exist.
    pub workloads: usize,
    /// The sandboxes that there are.
    pub pods: HashMap<ReplicaKey, Arc<Pod>>,
    /// Of containers that run; the mark is the number of the instance.
    pub pidfds: Epoll,
    pub memory: memory::Watches,
    pub done: mpsc::UnboundedSender<JobResult>,
    /// Jobs that have not answered.
    pub jobs: usize,
    /// Something has happened or was decided since this was last looked at.
    pub happened: bool,
    /// Answers that are known at once.
    pub answers: Vec<Event>,
    pub notices: VecDeque<Arc<Notice>>,
    pub told: broadcast::Sender<Arc<Notice>>,
}

impl HostEffects {
    /// A world in which nothing runs.
    ///
    /// # Errors
    /// epoll(7) is not to be had.
    pub fn new(shared: Shared, done: mpsc::UnboundedSender<JobResult>) -> crate::error::Result<HostEffects> {
        let pidfds = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|e| Error::sys("making an epoll instance", e))?;
        Ok(HostEffects {
            shared: Arc::new(shared),
            runtime_journal: None,
            unrecorded: Vec::new(),
            disk: None,
            keeper: None,
            publisher: None,
            ring: None,
            live: HashMap::new(),
            templates: HashMap::new(),
            workloads: 0,
            pods: HashMap::new(),
            pidfds,
            memory: memory::Watches::default(),
            done,
            jobs: 0,
            happened: false,
            answers: Vec::new(),
            notices: VecDeque::new(),
            told: broadcast::channel(1024).0,
        })
    }

    pub(super) fn job(&mut self, job: impl FnOnce(&Shared) -> JobResult + Send + 'static) {
        self.jobs += 1;
        let (shared, done) = (Arc::clone(&self.shared), self.done.clone());
        tokio::task::spawn_blocking(move || {
            // Without a receiver the supervisor is shutting down.
            let _ = done.send(job(&shared));
        });
    }

    /// As [`Linux::job`], in a thread of its own: for what may take so long that others would wait for a worker.
    fn long_job(
        &mut self,
        job: impl FnOnce(&Shared) -> JobResult + Send + 'static,
        failed: impl FnOnce(String) -> JobResult,
    ) {
        self.jobs += 1;
        let (shared, done) = (Arc::clone(&self.shared), self.done.clone());
        let told = done.clone();
        let work = move || {
            // Without a receiver the supervisor is shutting down.
            let _ = done.send(job(&shared));
        };
        if let Err(e) = std::thread::Builder::new().name("image".to_owned()).spawn(work) {
            let _ = told.send(failed(format!("starting a thread: {e}")));
        }
    }

    /// Those that have exited since.
    pub fn ended(&mut self) -> Vec<Event> {
        let mut marks = [EpollEvent::empty(); 64];
        let mut events = Vec::new();
        loop {
            let n = self.pidfds.wait(&mut marks, EpollTimeout::ZERO).unwrap_or(0);
            for mark in &marks[..n] {
                match mark.data() {
                    mark if mark & memory::MEMORY_MARK != 0 => self.memory_told(mark),
                    mark if mark & INIT_MARK != 0 => self.init_ended(mark, &mut events),
                    instance => self.end(instance, &mut events),
                }
            }
            if n < marks.len() {
                return events;
            }
        }
    }

    fn end(&mut self, instance: u64, events: &mut Vec<Event>) {
        let Some(live) = self.live.get_mut(&instance) else { return };
        let Some(pidfd) = live.pidfd.take() else { return };
        // Others may have the descriptor too, so that closing alone would not end the watch.
        let _ = self.pidfds.delete(&pidfd);
        let status = live.process.and_then(|p| how_it_ended(Some(&pidfd), p, self.ring.as_ref()));
        let oom = live.cgroup.as_ref().is_some_and(|c| c.oom_count().is_ok_and(|n| n > 0));
        // Asking the kernel may take long: on version 1 it waits for every other change of a cgroup.
        let none = |c: &Cgroup| c.pids_recursive().is_ok_and(|p| p.is_empty());
        let empty = live.own_pid_namespace || live.cgroup.as_ref().is_none_or(none);
        let ended = Ended { status, oom, empty };
        if live.releasing {
            live.ended = Some(ended);
        } else {
            let (key, id) = (live.name.key, live.name.id.clone());
            events.extend(self.last_words(key, &id));
            tell_end(key, ended, events);
        }
    }

    /// The termination message of an exited container of a pod.
    pub fn last_words(&self, key: Key, id: &str) -> Option<Event> {
        let text = words::read(&self.shared.pods, key.of_replica(), id)?;
        Some(Event::LastWords { key, text })
    }

    /// Handles the result of a job.
    pub fn finished(&mut self, done: JobResult, events: &mut Vec<Event>) {
        self.jobs -= 1;
        match done {
            JobResult::Prepared { key, result: Ok(made) } => self.prepared(key, *made, events),
            JobResult::Prepared { key, result: Err(error) } => {
                self.live.remove(&key.instance);
                // In a pid namespace whose first process has exited nothing can be made (ENOMEM): the container has not
                // failed, and its exit is reported once that of the sandbox has been acted on.
                match self.pods.get(&key.of_replica()).is_some_and(|pod| pod.has_lost_init()) {
                    true => {
                        self.init_ended(INIT_MARK | key.replica, events);
                        self.answers.push(Event::StartFailed { key, error });
                    }
                    false => events.push(Event::StartFailed { key, error }),
                }
            }
            JobResult::Released { key, result } => self.released(key, result, events),
            JobResult::Killed { key, empty: true } => events.push(Event::CgroupEmpty { key }),
            JobResult::Killed { empty: false, .. } => {}
            JobResult::Memory { key } => self.look_at_memory(key, events),
            JobResult::Hook { key, kind, error } => events.push(Event::HookDone { key, kind, error }),
            JobResult::Probed { key, kind, n, ok, error } => {
                events.push(Event::Probed { key, kind, n, ok, error });
            }
            JobResult::Updated { key, error } => events.push(Event::Updated { key, error }),
            JobResult::Removed { key, words, error } => {
                events.extend(words.map(|text| Event::LastWords { key, text }));
                if error.is_none() {
                    self.forget(key);
                }
                events.push(Event::Removed { key, error });
            }
            JobResult::SandboxMade { replica, result: Ok(pod) } => {
                let address = pod.replica.pod_ip.clone();
                self.store_pod_descriptors(replica, *pod);
                self.warn_of_network();
                events.push(Event::SandboxMade { replica, address });
            }
            JobResult::SandboxMade { replica, result: Err(error) } => {
                self.warn_of_network();
                events.push(Event::SandboxFailed { replica, error });
            }
            JobResult::SandboxGone { replica, error } => events.push(Event::SandboxGone { replica, error }),
            // No jobs, and the loop has taken them.
            JobResult::Image { .. }
            | JobResult::Written(_)
            | JobResult::Logs { .. }
            | JobResult::Ports(_) => {}
        }
    }

    /// Reports what the network of pods cannot do.
    pub fn warn_of_network(&mut self) {
        let warnings = self.shared.network.as_deref().map(Network::take_warnings).unwrap_or_default();
        for message in warnings {
            log::warn(message.clone());
            self.emit(Notice::of_the_daemon(clock::now(), Reason::NetworkDegraded, message));
        }
    }

    fn prepared(&mut self, key: Key, made: CreatedContainer, events: &mut Vec<Event>) {
        let CreatedContainer { waiting, process, image, pidfd, cgroup, streams, sink } = made;
        let Some(live) = self.live.get_mut(&key.instance) else { return };
        if live.doomed {
            self.job(move |_| {
                waiting.destroy();
                let error = StartError {
                    message: "stopped while it was being created".to_owned(),
                    unrecoverable: false,
                    image: None,
                };
                JobResult::Prepared { key, result: Err(error) }
            });
            return;
        }
        if let Some(keeper) = &self.keeper {
            streams.keep(keeper, key);
        }
        live.clients = ForClients::start(&self.shared.pump, key, streams, sink);
        live.process = Some(process);
        live.own_pid_namespace = waiting.own_pid_namespace();
        live.cgroup = Some(cgroup);
        live.waiting = Some(Box::new(waiting));
        watch(&self.pidfds, key.instance, &pidfd);
        live.pidfd = Some(pidfd);
        events.push(Event::Prepared { key, process, image });
    }

    fn released(&mut self, key: Key, result: Result<(), StartError>, events: &mut Vec<Event>) {
        let Some(live) = self.live.get_mut(&key.instance) else { return };
        live.releasing = false;
        match result {
            Ok(()) => {
                events.push(Event::Started { key });
                match live.ended.take() {
                    Some(ended) => {
                        let id = live.name.id.clone();
                        events.extend(self.last_words(key, &id));
                        tell_end(key, ended, events);
                    }
                    None => self.watch_memory(key.instance),
                }
            }
            Err(error) => {
                live.ended = None;
                if let Some(pidfd) = live.pidfd.take() {
                    let _ = self.pidfds.delete(pidfd.as_fd());
                }
                events.push(Event::StartFailed { key, error });
            }
        }
    }

    /// The output of an instance cannot be written, or can again.
    pub fn logs_blocked(&self, instance: u64, error: Option<String>, events: &mut Vec<Event>) {
        if let Some(live) = self.live.get(&instance) {
            events.push(Event::LogsBlocked { key: live.name.key, error });
        }
    }

    /// Keeps the notices for later requests.
    pub fn remember(&mut self, notice: Arc<Notice>) {
        self.notices.push_back(notice);
        if self.notices.len() > NOTICES {
            self.notices.pop_front();
        }
    }

    /// The keeper sends no pings: it may have been stopped by a signal.
    pub fn keeper_is_silent(&mut self, at: Time) {
        let Some(link) = &self.keeper else { return };
        link.wake();
        let message = "the keeper does not answer: sent it SIGCONT".to_owned();
        log::warn(message.clone());
        self.emit(Notice::of_the_daemon(at, Reason::KeeperSilent, message));
    }

    fn forget(&mut self, key: Key) {
        self.unwatch_memory(key.instance);
        self.live.remove(&key.instance);
        if let Some(keeper) = &self.keeper {
            streams::let_go(keeper, key);
            keeper.drop(&process_name(key));
        }
    }

    fn prepare(&mut self, key: Key, which: BundleKey, desired: &Desired) {
        let workload = desired.workloads.get(&key.workload);
        let spec = workload.and_then(|w| w.revisions.get(&which.1)?.containers.get(key.container as usize));
        let (Some(workload), Some(spec)) = (workload, spec) else { return };
        let name = Name::new(key, &workload.name, &spec.name);
        let live = Live::new(name.clone());
        let cancelled = Arc::clone(&live.cancelled);
        self.live.insert(key.instance, live);
        let before = self.templates.len();
        self.templates.retain(|(id, revision, _), _| {
            desired.workloads.get(id).is_some_and(|w| w.revisions.contains_key(revision))
        });
        if self.templates.len() < before {
            self.forget_images(desired);
        }
        let cached = Arc::clone(self.templates.entry(which).or_default());
        let waits = spec.launch.image.is_some() && !cached.is_ready();
        let pod = self.pods.get(&key.of_replica()).map(Arc::clone);
        let template = workload.revisions.get(&which.1);
        let objects = template.map(|t| desired.objects.inputs_of(t)).unwrap_or_default();
        let source = job::Source {
            cached,
            launch: spec.launch.clone(),
            revision: which.1,
            pod,
            objects,
            access: images::access(desired, &spec.launch),
            cancelled,
            tell: self.teller(),
        };
        // Without a keeper whatever would take its place might know nothing of exit statuses.
        let reaper = if self.keeper.is_some() { Reaper::Keeper } else { Reaper::Caller };
        if waits {
            let failed = move |message| {
                let error = StartError { message, unrecoverable: false, image: None };
                JobResult::Prepared { key, result: Err(error) }
            };
            return self.long_job(move |shared| jobs::prepare(shared, &source, &name, reaper), failed);
        }
        self.job(move |shared| jobs::prepare(shared, &source, &name, reaper));
    }

    fn release(&mut self, key: Key) {
        let Some(live) = self.live.get_mut(&key.instance) else { return };
        live.releasing = true;
        let (name, waiting) = (live.name.clone(), live.waiting.take());
        self.job(move |shared| jobs::release(shared, &name, waiting.map(|w| *w)));
    }

    fn signal(&mut self, key: Key, signal: i32) {
        if let Some(live) = self.live.get(&key.instance)
            && let Some(pidfd) = &live.pidfd
        {
            let signal = match signal {
                SIGNAL_OF_IMAGE => jobs::stop_signal(&self.shared, &live.name),
                signal => signal,
            };
            for signal in [signal, libc::SIGCONT] {
                if let Err(e) = wait::pidfd_send_signal(pidfd.as_raw_fd(), signal)
                    && e.0 != libc::ESRCH
                {
                    log::warn(Error::sys(
                        format!("sending signal {signal} to container {}", live.name.id),
                        e,
                    ));
                }
            }
            if let Some(cgroup) = &live.cgroup
                && cgroup.is_frozen().unwrap_or(false)
                && let Err(e) = cgroup.thaw()
            {
                log::warn(e);
            }
        }
        self.answers.push(Event::Signalled { key });
    }

    fn kill(&mut self, key: Key) {
        let Some(live) = self.live.get_mut(&key.instance) else {
            self.answers.push(Event::CgroupEmpty { key });
            return;
        };
        live.doomed = live.process.is_none();
        live.cancelled.store(live.doomed, Ordering::Relaxed);
        let name = live.name.clone();
        self.job(move |shared| jobs::kill(shared, &name));
    }

    /// A task that answers once.
    pub fn task(&mut self, answer: impl Future<Output = JobResult> + Send + 'static) {
        self.jobs += 1;
        let done = self.done.clone();
        tokio::spawn(async move {
            // Without a receiver the supervisor is shutting down.
            let _ = done.send(answer.await);
        });
    }

    /// Gives a container the limits of another revision.
    fn update(&mut self, key: Key, revision: Revision, desired: &Desired) {
        let spec = desired.workloads.get(&key.workload).and_then(|w| w.revisions.get(&revision));
        let spec = spec.and_then(|t| t.containers.get(key.container as usize));
        match (spec, self.live.get(&key.instance)) {
            (Some(spec), Some(live)) => {
                let (name, launch) = (live.name.clone(), spec.launch.clone());
                self.job(move |shared| jobs::update(shared, &name, &launch));
            }
            _ => self.answers.push(Event::Updated { key, error: None }),
        }
    }

    fn remove(&mut self, key: Key, from_log: bool) {
        match self.live.get_mut(&key.instance) {
            Some(live) => {
                // A created container that was never released goes with what it holds.
                live.waiting = None;
                let name = live.name.clone();
                self.job(move |shared| jobs::remove(shared, &name, from_log));
            }
            None => self.answers.push(Event::Removed { key, error: None }),
        }
    }
}

/// Watches a container's first process for its end.
pub fn watch(pidfds: &Epoll, instance: u64, pidfd: &OwnedFd) {
    if let Err(e) = pidfds.add(pidfd, EpollEvent::new(EpollFlags::EPOLLIN, instance)) {
        log::warn(Error::sys("watching a container for its end", e));
    }
}

/// Whether the last words of a container come from its log: it has failed and left none.
fn wants_log(key: Key, desired: &Desired, observed: &Observed) -> bool {
    let spec = || {
        let revision = observed.replica_of(&key.of_replica())?.revision;
        let template = desired.workloads.get(&key.workload)?.revisions.get(&revision)?;
        template.containers.get(key.container as usize)?.launch.container.as_ref()
    };
    let from_log = |c: &Container| c.termination_message_policy == Some(MessagePolicy::FallbackToLogsOnError);
    let failed = |i: &Instance| {
        let status = i.exit.as_ref().and_then(|e| e.status);
        i.last_words.is_none() && i.started.is_some() && status.is_none_or(|s| s.code() != Some(0))
    };
    spec().is_some_and(|c| from_log(c)) && observed.instance(&key).is_some_and(failed)
}

fn tell_end(key: Key, ended: Ended, events: &mut Vec<Event>) {
    events.push(Event::Exited { key, status: ended.status, oom: ended.oom });
    if ended.empty {
        events.push(Event::CgroupEmpty { key });
    }
}

/// The exit status of a process that is gone or a zombie. Its parent may reap it at this moment, and notes
/// the status in `ring` before that.
pub fn how_it_ended(pidfd: Option<&OwnedFd>, process: Process, ring: Option<&Ring>) -> Option<WaitStatus> {
    let own = || match wait::wait_pidfd(pidfd?.as_raw_fd(), false) {
        Ok(Some(exit)) => Some(exit.encode()),
        _ => None,
    };
    let told = || wait::pidfd_exit(pidfd?.as_raw_fd()).ok().flatten().map(wait::Exit::encode);
    let zombie = || {
        let stat = process::stat(process.pid).ok().flatten()?;
        (stat.start_time == process.start_time && stat.has_ended()).then_some(stat.exit_code)
    };
    let noted = || ring?.find(process.pid, process.start_time).map(|d| d.status);
    own().or_else(zombie).or_else(told).or_else(noted).map(WaitStatus)
}

impl World for HostEffects {
    fn record(&mut self, records: &[Record]) {
        self.happened |= !records.is_empty();
        let Some(journal) = &mut self.runtime_journal else { return };
        self.unrecorded.extend_from_slice(records);
        match journal.append(&self.unrecorded) {
            Ok(()) => self.unrecorded.clear(),
            Err(e) => {
                log::warn(e.context("cannot record events now; they will be recorded with the next ones"))
            }
        }
    }

    fn persist(&mut self, change: &Change, at: Time) -> Persisted {
        match &self.disk {
            Some(disk) => {
                disk.append(Changed { at, change: change.clone() });
                Persisted::Later
            }
            None => Persisted::Yes,
        }
    }

    fn act(&mut self, action: &Action, desired: &Desired, observed: &Observed) {
        match action {
            Action::Prepare { key, revision, .. } => {
                self.prepare(*key, (key.workload, *revision, key.container), desired);
            }
            Action::Release { key, .. } => self.release(*key),
            Action::Signal { key, signal, .. } => self.signal(*key, *signal),
            Action::KillCgroup { key } => self.kill(*key),
            Action::RunHook { key, kind } => self.hook(*key, *kind, desired, observed),
            Action::Probe { key, kind, n, .. } => self.probe(*key, *kind, *n, desired, observed),
            Action::Update { key, revision } => self.update(*key, *revision, desired),
            Action::Remove { key } => self.remove(*key, wants_log(*key, desired, observed)),
            Action::MakeSandbox { replica, revision, .. } => self.make_sandbox(*replica, *revision, desired),
            Action::Publish { generation, map, names } => match &self.publisher {
                Some(publisher) => publisher.publish(*generation, map, names),
                // In the foreground nothing is published.
                None => self.answers.push(Event::Published { generation: *generation, taken: Vec::new() }),
            },
            Action::RemoveSandbox { replica } => self.remove_sandbox(*replica),
            // Notes, which are recorded already, and what comes by the other methods.
            _ => {}
        }
    }

    fn emit(&mut self, notice: Notice) {
        let notice = Arc::new(notice);
        self.remember(Arc::clone(&notice));
        // Nobody has to listen.
        let _ = self.told.send(notice);
    }
}
