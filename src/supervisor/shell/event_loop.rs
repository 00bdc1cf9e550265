//! The loop: waits for whatever happens, gives it to the core, and does what that decides.

use super::clock::{self, Wall, epoch_ms, now, wall_ms};
use super::handle::{Accepted, BACKLOG, ChangeError, ChangeRequest, Handle, Request, View};
use super::host::HostEffects;
use super::job::JobResult;
use super::journal::disk::Written;
use super::keeper::link::Heard;
use super::notify;
use super::publish_news::News;
use crate::error::{Error, Result};
use crate::log;
use crate::supervisor::core::action::{Notice, Reason};
use crate::supervisor::core::desired::Change;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::ids::WorkloadId;
use crate::supervisor::core::time::Time;
use crate::supervisor::driver::{Answer, Supervisor, World};
use crate::sys::{heap, watched};
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval};

/// Records of the runtime journal, in bytes, after which a snapshot takes their place.
const JOURNAL_COMPACT_BYTES: u64 = 4 << 20;

/// By how much the wall clock may differ from what the core knows, milliseconds.
const CLOCK_JITTER_MS: u64 = 100;

/// Events after which memory is worth giving back.
const EVENTS_BEFORE_TRIM: usize = 300;

/// How long nothing happens before the memory of what happened last is given back.
const IDLE_BEFORE_TRIM: Duration = Duration::from_secs(1);

/// How long a keeper may be silent that has sent pings.
const KEEPER_SILENCE: Duration = Duration::from_secs(15);

/// A client that waits for a change to become durable.
struct Waiter {
    change: Change,
    /// Of the workload, if it is about one.
    name: Option<String>,
    reply: oneshot::Sender<Result<Accepted, ChangeError>>,
}

/// The loop and all that it owns.
pub struct EventLoop {
    supervisor: Supervisor<HostEffects>,
    requests: mpsc::Receiver<Request>,
    done: mpsc::UnboundedReceiver<JobResult>,
    /// Copies of descriptors that others own, to wait for.
    pidfds: AsyncFd<OwnedFd>,
    timer_ready: AsyncFd<OwnedFd>,
    keeper: Option<AsyncFd<OwnedFd>>,
    /// When it is taken for hung. None before its first ping: an earlier version sends none.
    keeper_late: Option<Instant>,
    timer: TimerFd,
    wall: Wall,
    waiters: Vec<Waiter>,
    turns: watch::Sender<u64>,
    events_since_trim: usize,
    /// When the last turn asked to be called again.
    due: Option<Time>,
    /// When to notify the service manager that the loop runs.
    watchdog: Option<Interval>,
}

impl EventLoop {
    /// A loop around `supervisor`, whose jobs answer to `done`, and the handle to it. `places`: what it writes to, logs first.
    ///
    /// # Errors
    /// A descriptor cannot be made or watched.
    pub fn new(
        supervisor: Supervisor<HostEffects>,
        done: mpsc::UnboundedReceiver<JobResult>,
        places: Vec<PathBuf>,
    ) -> Result<(EventLoop, Handle)> {
        let fail = |e: std::io::Error| Error::sys("setting up the loop", e);
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).map_err(|e| fail(e.into()))?;
        let world = &supervisor.world;
        let keeper = match &world.keeper {
            Some(link) => {
                link.listen();
                Some(copy(link.as_fd()).map_err(fail)?)
            }
            None => None,
        };
        let pidfds = copy(world.pidfds.0.as_fd()).map_err(fail)?;
        let timer_ready = copy(timer.as_fd()).map_err(fail)?;
        let (sender, requests) = mpsc::channel(BACKLOG);
        let (turns, turns_seen) = watch::channel(0);
        let handle = Handle {
            requests: sender,
            notices: world.told.clone(),
            turns: turns_seen,
            runtime: world.shared.rt.clone(),
            log_dir: places.first().cloned().unwrap_or_default(),
            places,
        };
        let this = EventLoop {
            pidfds,
            timer_ready,
            keeper,
            keeper_late: None,
            timer,
            wall: Wall::new().map_err(fail)?,
            supervisor,
            requests,
            done,
            waiters: Vec::new(),
            turns,
            events_since_trim: 0,
            due: None,
            watchdog: watchdog(),
        };
        Ok((this, handle))
    }

    /// Runs until `end` says so, and gives the state back.
    ///
    /// # Errors
    /// The descriptors of the loop fail.
    pub async fn run(&mut self, mut end: impl FnMut(&Supervisor<HostEffects>) -> bool) -> Result<()> {
        let mut only_looked = false;
        loop {
            let acted = self.turn()?;
            // A consumer polled on every turn must not itself wake the loop, but a timer may have expired meanwhile.
            if acted || !only_looked {
                self.turns.send_modify(|n| *n += 1);
            }
            if end(&self.supervisor) {
                return Ok(());
            }
            only_looked = false;
            let mut events = Vec::new();
            tokio::select! {
                biased;
                ready = self.pidfds.readable() => {
                    let mut ready = ready.map_err(|e| Error::sys("waiting for containers", e))?;
                    events = self.supervisor.world.ended();
                    ready.clear_ready();
                }
                Some(done) = self.done.recv() => self.finished(done, &mut events),
                ready = self.timer_ready.readable() => {
                    let mut ready = ready.map_err(|e| Error::sys("waiting for a timer", e))?;
                    // Its count says nothing that the clock does not.
                    let _ = self.timer.wait();
                    ready.clear_ready();
                }
                () = self.wall.set() => {}
                heard = heard(&mut self.keeper, &self.supervisor.world) => match heard {
                    Heard::Lost => {
                        (self.keeper, self.keeper_late) = (None, None);
                        self.supervisor.world.keeper = None;
                        events.push(Event::KeeperLost);
                    }
                    Heard::Ping => {
                        self.keeper_late = Some(Instant::now() + KEEPER_SILENCE);
                        only_looked = true;
                    }
                    Heard::Ended | Heard::Nothing => {}
                },
                () = late(self.keeper_late) => {
                    self.keeper_late = Some(Instant::now() + KEEPER_SILENCE);
                    self.supervisor.world.keeper_is_silent(now());
                }
                () = quiet(self.events_since_trim) => {
                    self.events_since_trim = 0;
                    heap::trim();
                    only_looked = true;
                }
                () = tick(&mut self.watchdog) => self.tell_manager("WATCHDOG=1"),
                Some(request) = self.requests.recv() => {
                    only_looked = !matches!(request, Request::Change(..) | Request::Drain(..));
                    self.request(request);
                }
            }
            // Whatever else has arrived by now goes into the same decision.
            events.extend(self.supervisor.world.ended());
            while let Ok(done) = self.done.try_recv() {
                only_looked = false;
                self.finished(done, &mut events);
            }
            only_looked &= events.is_empty();
            self.events_since_trim += events.len();
            self.supervisor.events(events, now());
        }
    }

    /// Jobs leave holes in the heap. Once much has happened and the loop is idle, they are given back.
    fn trim(&mut self) {
        if self.events_since_trim > EVENTS_BEFORE_TRIM && self.supervisor.world.jobs == 0 {
            self.events_since_trim = 0;
            heap::trim();
        }
    }

    /// Decides, acts, and sets the timer for the next decision. Whether anything has happened since the last turn.
    fn turn(&mut self) -> Result<bool> {
        // Facts that depend on time, such as availability, have changed when that time has come.
        let due = self.due.take().is_some_and(|at| now() >= at);
        self.look_at_clock(due);
        let wake = loop {
            let wake = self.supervisor.turn(now());
            let answers = std::mem::take(&mut self.supervisor.world.answers);
            if answers.is_empty() {
                break wake;
            }
            self.supervisor.events(answers, now());
        };
        let supervisor = &mut self.supervisor;
        supervisor.world.count_workloads(&supervisor.desired);
        let fail = |e: nix::errno::Errno| Error::sys("setting the timer", e);
        self.due = wake;
        match wake {
            Some(at) => {
                let at = Duration::from_millis(at.0.max(1));
                let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
                self.timer.set(Expiration::OneShot(at.into()), flags).map_err(fail)?;
            }
            None => self.timer.unset().map_err(fail)?,
        }
        self.compact();
        self.trim();
        Ok(std::mem::take(&mut self.supervisor.world.happened) || due)
    }

    /// Reports to the core what the wall clock shows, if that is new. Only schedules depend on it.
    fn look_at_clock(&mut self, due: bool) {
        let Supervisor { desired, observed, .. } = &self.supervisor;
        if !desired.workloads.values().any(|w| w.controller.cron.is_some()) {
            return;
        }
        let known = observed.clock.as_ref();
        let set = known.is_none_or(|c| c.offset.abs_diff(epoch_ms()) > CLOCK_JITTER_MS);
        let other_zone = || due && known.is_some_and(|c| c.zone != clock::zone());
        if set || other_zone() {
            self.supervisor.events([Event::ClockSet { clock: clock::clock() }], now());
        }
    }

    fn compact(&mut self) {
        let Supervisor { world, observed, .. } = &mut self.supervisor;
        if let Some(journal) = world.runtime_journal.as_mut().filter(|j| j.size() > JOURNAL_COMPACT_BYTES)
            && world.unrecorded.is_empty()
            && let Err(e) = journal.compact(observed)
        {
            log::warn(e);
        }
    }

    fn finished(&mut self, done: JobResult, events: &mut Vec<Event>) {
        match done {
            JobResult::Written(written) => self.written(*written),
            JobResult::Image { key, reason, message } => {
                self.supervisor.world.image_told(key, reason, message, now());
            }
            JobResult::Ports(News::Used(generation, taken)) => {
                events.push(Event::Published { generation, taken })
            }
            JobResult::Ports(news) => self.tell_of_port(&news),
            JobResult::Logs { instance, error } => {
                self.supervisor.world.logs_blocked(instance, error, events)
            }
            done => self.supervisor.world.finished(done, events),
        }
    }

    /// Reports that connections to a port wait, or found no replica.
    fn tell_of_port(&mut self, news: &News) {
        let (port, reason, what) = match news {
            News::Used(..) => return,
            News::Held(port) => {
                (port, Reason::ConnectionsHeld, "connections wait for a ready replica".to_owned())
            }
            News::Refused(port, count) => {
                let text =
                    format!("{count} connections were closed because no replica accepted them in time");
                (port, Reason::ConnectionsRefused, text)
            }
        };
        let Supervisor { world, observed, desired, .. } = &mut self.supervisor;
        let Some(route) = observed.endpoints.map.iter().find(|r| r.host.to_string() == *port) else { return };
        let place = match &route.service {
            Some(name) => format!("port {} of service {name:?}", route.host.port),
            None => format!("port {port}"),
        };
        let workload = route.workload;
        let workload_name = desired.workloads.get(&workload).map(|w| w.name.clone()).unwrap_or_default();
        let notice = Notice::of_the_daemon(now(), reason, format!("{place}: {what}"));
        world.emit(Notice { workload, workload_name, ..notice });
    }

    /// A change is durable, or will never be.
    fn written(&mut self, written: Written) {
        let Written { changed, result, long } = written;
        let answer = self.supervisor.persisted(&changed.change, changed.at, result.is_ok());
        let waiter = self.waiters.iter().position(|w| w.change == changed.change);
        if let Err(e) = &result {
            log::warn(e.clone().context("a change cannot be made durable"));
        }
        if let Some(Waiter { name, reply, .. }) = waiter.map(|at| self.waiters.remove(at)) {
            let answer = self.accepted(name.as_deref(), answer, result.err());
            // The requester may have disconnected.
            let _ = reply.send(answer);
        }
        if long && !self.supervisor.is_writing() {
            let desired = self.supervisor.desired.clone();
            if let Some(disk) = &self.supervisor.world.disk {
                disk.compact(desired);
            }
        }
    }

    fn accepted(
        &self,
        name: Option<&str>,
        answer: Answer,
        error: Option<Error>,
    ) -> Result<Accepted, ChangeError> {
        match answer {
            Answer::Refused(refusal) => Err(ChangeError::Refused(refusal)),
            Answer::NotDurable => {
                Err(ChangeError::NotDurable(error.map(|e| e.to_string()).unwrap_or_default()))
            }
            Answer::Accepted | Answer::Pending => {
                let Some(name) = name else {
                    return Ok(Accepted {
                        workload: WorkloadId(0),
                        generation: 0,
                        revision: 0,
                        kind: String::new(),
                    });
                };
                let (workload, w) = self.supervisor.desired.by_name(name).ok_or(ChangeError::Ending)?;
                let revision = w.number(w.applied());
                Ok(Accepted { workload, generation: w.generation, revision, kind: w.kind() })
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Look(look) => look(&View {
                desired: &self.supervisor.desired,
                observed: &self.supervisor.observed,
                now: now(),
                epoch_ms: epoch_ms(),
                notices: &self.supervisor.world.notices,
                publisher: self.supervisor.world.publisher.as_ref(),
            }),
            Request::Attach(id, reply) => {
                // The requester may have disconnected.
                let _ = reply.send(self.supervisor.world.attach(&id));
            }
            Request::EndInput(id) => self.supervisor.world.end_input(&id),
            Request::Check(change, reply) => {
                let checked = change.change(&self.supervisor.desired, wall_ms()).and_then(|change| {
                    self.supervisor.desired.check(&change, &self.supervisor.config).map(drop)
                });
                let _ = reply.send(checked.map_err(ChangeError::Refused));
            }
            Request::Drain(on, reply) => {
                if self.supervisor.observed.draining != on {
                    self.supervisor.events([Event::Draining { on }], now());
                }
                // The requester may have disconnected.
                let _ = reply.send(());
            }
            Request::Change(change, reply) => self.apply_change(&change, reply),
        }
    }

    /// Applies a requested change.
    pub fn apply_change(
        &mut self,
        change: &ChangeRequest,
        reply: oneshot::Sender<Result<Accepted, ChangeError>>,
    ) {
        let name = change.name().map(str::to_owned);
        let answer = match change.change(&self.supervisor.desired, wall_ms()) {
            Err(refusal) => Answer::Refused(refusal),
            Ok(change) => match self.supervisor.request(change.clone(), now()) {
                Answer::Pending => return self.waiters.push(Waiter { change, name, reply }),
                answer => answer,
            },
        };
        // The requester may have disconnected.
        let _ = reply.send(self.accepted(name.as_deref(), answer, None));
    }

    /// Notifies the service manager (sd_notify(3)): through the keeper, which is the service's main process.
    pub fn tell_manager(&self, text: &str) {
        match &self.supervisor.world.keeper {
            Some(link) => link.notify(text),
            None => notify::send(text),
        }
    }

    /// Notifies the keeper that this supervisor is worth restarting.
    pub fn ready(&self) {
        if let Some(link) = &self.supervisor.world.keeper {
            link.ready();
        }
    }

    pub fn supervisor(&mut self) -> &mut Supervisor<HostEffects> {
        &mut self.supervisor
    }
}

fn copy(fd: BorrowedFd<'_>) -> std::io::Result<AsyncFd<OwnedFd>> {
    watched::register_readable(fd.try_clone_to_owned()?)
}

/// The messages of the keeper; the last one, once there was one. Pings are answered.
async fn heard(keeper: &mut Option<AsyncFd<OwnedFd>>, world: &HostEffects) -> Heard {
    let (Some(fd), Some(link)) = (keeper, &world.keeper) else { return std::future::pending().await };
    let Ok(mut ready) = fd.readable().await else { return Heard::Lost };
    let mut said = Heard::Nothing;
    loop {
        match link.hear() {
            Heard::Lost => return Heard::Lost,
            Heard::Nothing => {
                ready.clear_ready();
                return said;
            }
            Heard::Ping => {
                link.pong();
                said = Heard::Ping;
            }
            Heard::Ended if said == Heard::Ping => {}
            Heard::Ended => said = Heard::Ended,
        }
    }
}

/// Ends at that time; never without one.
async fn late(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Ends when nothing has happened for a while since `events` did; never without any.
async fn quiet(events: usize) {
    match events {
        0 => std::future::pending().await,
        _ => tokio::time::sleep(IDLE_BEFORE_TRIM).await,
    }
}

/// Half of the time after which the service manager takes the supervisor for hung (sd_watchdog_enabled(3)).
fn watchdog() -> Option<Interval> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(tokio::time::interval(Duration::from_micros(micros.max(2) / 2)))
}

async fn tick(watchdog: &mut Option<Interval>) {
    match watchdog {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
