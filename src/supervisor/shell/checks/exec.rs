//! Programs of hooks and probes, run in the container by `orund oci exec`: joining a container changes the process that
//! does so for good.

use super::{Outcome, Target, exited};
use crate::error::{Error, Kind, Result};
use crate::kernel::cgroup::Cgroup;
use crate::runtime::Runtime;
use crate::runtime::container::Container;
use crate::supervisor::shell::{keeper, names, program};
use crate::sys::watched::Watched;
use crate::sys::{fd, process, wait};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How much of the output is kept, to be shown.
const SHOWN: usize = 4 << 10;
/// How much a probe may write: the loop that reads it has other things to do.
const MOST: usize = 1 << 20;
/// How long killed processes are waited for.
const GONE: Duration = Duration::from_secs(2);
/// How often the status of a helper is looked for.
const TURN: Duration = Duration::from_millis(20);
/// How often processes that appear meanwhile are looked for.
const ROUNDS: usize = 10;
/// The exit codes of `exec` when it fails itself, as of a program that does not exist, and how its message begins then.
const NOT_RUN: [i32; 3] = [126, 127, 255];
const MESSAGE: &str = "orun: error: ";

/// Runs `command`; after `timeout` it and what it has started are killed.
pub async fn run(target: &Target, command: &[String], timeout: Option<Duration>) -> Outcome {
    let started = start(target, command).await;
    let mut running = match started {
        Ok(running) => running,
        Err(e) => return Outcome::Unknown(format!("it cannot be executed: {e}")),
    };
    let most = if timeout.is_some() { MOST } else { usize::MAX };
    let ended = tokio::select! {
        quiet = running.ended(most) => Some(quiet),
        () = late(timeout) => None,
        // With the container its processes end, and then the helper does.
        () = exited(&target.pidfd) => tokio::time::timeout(GONE, running.ended(most)).await.ok(),
    };
    match ended {
        Some(true) => running.reap(target).await,
        Some(false) => {
            running.kill(target).await;
            Outcome::Failure(format!("it wrote more than {MOST} bytes"))
        }
        None => {
            running.kill(target).await;
            let limit = timeout.unwrap_or(GONE).as_secs_f64();
            Outcome::Failure(format!("it did not exit within {limit} s"))
        }
    }
}

async fn late(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// The helper, and the reading end of what the program writes.
struct Running {
    child: Child,
    pidfd: OwnedFd,
    output: Watched,
    said: Vec<u8>,
}

async fn start(target: &Target, command: &[String]) -> io::Result<Running> {
    let os = |e: crate::error::Errno| io::Error::from_raw_os_error(e.0);
    let mut helper = Command::new(program());
    helper.env_remove(keeper::LINK).arg("oci").arg("--root").arg(target.shared.rt.store.root()).arg("exec");
    let environment = names::environment(&target.name.workload, target.name.key.slot);
    helper.args(environment.iter().flat_map(|v| ["--env", v])).arg(&target.name.id).args(command);
    let (read, write) = fd::pipe().map_err(os)?;
    fd::set_nonblocking(read.as_raw_fd()).map_err(os)?;
    let output = Watched::new(read)?;
    helper.stdin(Stdio::null()).stdout(write.try_clone()?).stderr(write);
    // Starting a process takes a while; the loop does not wait for it.
    let spawned = tokio::task::spawn_blocking(move || {
        let mut child = helper.spawn()?;
        match wait::pidfd_open(child.id() as i32) {
            Ok(pidfd) => Ok((child, pidfd)),
            Err(e) => {
                // Nobody could wait for it, and it must not be left behind.
                let _ = child.kill();
                let _ = child.wait();
                Err(os(e))
            }
        }
    });
    let (child, pidfd) = spawned.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))?;
    Ok(Running { child, pidfd, output, said: Vec::new() })
}

impl Running {
    /// Ends when the helper has, and so the program. What that writes is read all the while; false: it is more than `most`.
    async fn ended(&mut self, most: usize) -> bool {
        let mut buf = [0; 4096];
        let mut total = 0usize;
        loop {
            tokio::select! {
                read = self.output.read(&mut buf) => match read {
                    Ok(n) if n > 0 => {
                        let room = SHOWN.saturating_sub(self.said.len());
                        self.said.extend_from_slice(&buf[..n.min(room)]);
                        total = total.saturating_add(n);
                        if total > most {
                            return false;
                        }
                    }
                    _ => {
                        exited(&self.pidfd).await;
                        return true;
                    }
                },
                () = exited(&self.pidfd) => {
                    self.last_words();
                    return true;
                }
            }
        }
    }

    /// The status of the helper. It has exited, unless waiting for it failed: the loop never waits for it.
    async fn reap(&mut self, target: &Target) -> Outcome {
        let deadline = tokio::time::Instant::now() + GONE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return self.outcome(status),
                Err(e) => return Outcome::Unknown(format!("waiting for it: {e}")),
                Ok(None) if tokio::time::Instant::now() < deadline => tokio::time::sleep(TURN).await,
                Ok(None) => {
                    self.kill(target).await;
                    return Outcome::Unknown("waiting for its exit failed".to_owned());
                }
            }
        }
    }

    /// Reads the rest of the pipe, which surviving processes may keep open.
    fn last_words(&mut self) {
        let mut buf = [0; SHOWN];
        if let Ok(n) = fd::read(self.output.as_raw_fd(), &mut buf) {
            let room = SHOWN.saturating_sub(self.said.len());
            self.said.extend_from_slice(&buf[..n.min(room)]);
        }
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        let text = String::from_utf8_lossy(&self.said);
        let last = text.trim().lines().last().unwrap_or_default();
        if status.success() {
            return Outcome::Success;
        }
        if status.code().is_some_and(|code| NOT_RUN.contains(&code))
            && let Some(why) = last.strip_prefix(MESSAGE)
        {
            return Outcome::Unknown(why.to_owned());
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
        };
        Outcome::Failure(if last.is_empty() { how } else { format!("{how}: {last}") })
    }

    /// Kills the program and what it has started, and the helper.
    async fn kill(&mut self, target: &Target) {
        let (helper, id) = (self.child.id() as i32, target.name.id.clone());
        let shared = Arc::clone(&target.shared);
        let killed = tokio::task::spawn_blocking(move || kill_all(&shared.rt, &id, helper)).await;
        if let Ok(Err(e)) = killed {
            crate::log::warn(e.context("killing a program that ran too long"));
        }
        if tokio::time::timeout(GONE, exited(&self.pidfd)).await.is_err() {
            let _ = wait::pidfd_send_signal(self.pidfd.as_raw_fd(), libc::SIGKILL);
            let _ = tokio::time::timeout(GONE, exited(&self.pidfd)).await;
        }
        // Reaped at once because it has exited.
        let _ = self.child.try_wait();
    }
}

/// Kills every process of the container that descends from the helper `helper`, or is of the session of one that does.
fn kill_all(rt: &Runtime, id: &str, helper: i32) -> Result<()> {
    let container = match Container::open(rt, id) {
        Err(e) if e.kind() == Kind::NotFound => return Ok(()),
        r => r?,
    };
    let cgroup = container.cgroup()?;
    let mut ours = BTreeSet::from([helper]);
    for _ in 0..ROUNDS {
        if !kill_family(&cgroup, &mut ours)? {
            return Ok(());
        }
    }
    Err(Error::new(
        Kind::State,
        format!("container {id}: it creates processes faster than they can be killed"),
    ))
}

/// Whether there were processes to kill.
fn kill_family(cgroup: &Cgroup, ours: &mut BTreeSet<i32>) -> Result<bool> {
    let mut family = Vec::new();
    let mut others = Vec::new();
    for pid in cgroup.pids_recursive()? {
        let stat = process::stat(pid).map_err(|e| Error::sys(format!("looking at process {pid}"), e))?;
        if let Some(stat) = stat.filter(|s| !s.has_ended()) {
            others.push((pid, stat));
        }
    }
    loop {
        let of_ours = |(_, s): &(i32, process::Stat)| ours.contains(&s.parent) || ours.contains(&s.session);
        let (found, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(of_ours);
        others = rest;
        if found.is_empty() {
            break;
        }
        ours.extend(found.iter().map(|(pid, _)| *pid));
        family.extend(found);
    }
    for (pid, stat) in &family {
        // The pid may be another process's by now: the descriptor is not, once the start time is the same.
        let Ok(pidfd) = wait::pidfd_open(*pid) else { continue };
        if process::stat(*pid).ok().flatten().is_some_and(|s| s.start_time == stat.start_time) {
            let _ = wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
        }
    }
    Ok(!family.is_empty())
}
