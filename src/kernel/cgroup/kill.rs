//! Signals to all processes of a container.

use super::{Cgroup, freeze};
use crate::error::{Errno, Error, Kind, Result};
use crate::plan::cgroup::Version;
use std::time::{Duration, Instant};

/// How long one round waits for the processes to freeze.
const FREEZE: Duration = Duration::from_millis(500);
/// How often processes that fork faster than they are killed are tried again, without a freezer.
const ROUNDS: u32 = 200;

impl Cgroup {
    /// Sends `signal` to every process of the container, also in cgroups below its own. SIGKILL also reaches
    /// processes that are frozen. A cgroup that is gone has no processes.
    ///
    /// # Errors
    /// A process cannot be signalled, or the list of processes cannot be read.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if self.is_foreign() {
            return Ok(());
        }
        if signal == libc::SIGKILL {
            return self.sigkill();
        }
        let paused = self.is_frozen()?;
        // Nobody can fork away while the list is worked off; without a freezer it is the best that can be done.
        let froze = !paused && self.freeze(FREEZE).is_ok();
        let result = self.pids_recursive().and_then(|pids| send(&pids, signal));
        if froze {
            self.thaw()?;
        }
        result
    }

    fn sigkill(&self) -> Result<()> {
        if let Some(d) = self.v2() {
            match d.write("cgroup.kill", "1") {
                Ok(()) if self.is_pure_v2() => return Ok(()),
                // Linux before 5.14, or a threaded cgroup.
                Ok(()) | Err(Errno(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)) => {}
                Err(e) => return Err(d.error("writing \"1\" to", "cgroup.kill", e)),
            }
        }
        let mut result = Ok(());
        for round in 0..ROUNDS {
            let pids = self.pids_recursive()?;
            if pids.is_empty() {
                return Ok(());
            }
            let frozen = self.is_frozen()? || self.freeze(FREEZE).is_ok();
            result = self.pids_recursive().and_then(|pids| send(&pids, libc::SIGKILL));
            if frozen {
                // Version 1 delivers the signal only now.
                self.thaw()?;
                // Frozen, they could not fork: all of them have got it.
                return result;
            }
            std::thread::sleep(Duration::from_micros(if round < 10 { 100 } else { 5000 }));
        }
        result
    }

    /// Waits until the container has no process. False after `timeout`.
    ///
    /// # Errors
    /// The state of the cgroup cannot be read.
    pub fn wait_empty(&self, timeout: Duration) -> Result<bool> {
        let end = Instant::now() + timeout;
        if let (true, Some(d)) = (self.is_pure_v2(), self.v2()) {
            return match freeze::wait_event(d, "populated", 0, timeout) {
                Err(e) if e.errno().is_some_and(|e| matches!(e.0, libc::ENOENT | libc::ENODEV)) => Ok(true),
                r => r,
            };
        }
        let mut pause = Duration::from_micros(200);
        while !self.pids_recursive()?.is_empty() {
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(true)
    }

    /// How many processes the OOM killer has killed in the container (`oom_kill` of memory.events or of
    /// memory.oom_control, Linux 4.13). 0 without a memory cgroup.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oom_count(&self) -> Result<u64> {
        let Some(d) = self.dir("memory").or(self.v2()) else { return Ok(0) };
        let file = if d.version == Version::V1 { "memory.oom_control" } else { "memory.events" };
        match d.keyed(file, "oom_kill") {
            Ok(n) => Ok(n.unwrap_or(0)),
            Err(Errno(libc::ENOENT | libc::ENODEV)) => Ok(0),
            Err(e) => Err(d.error("reading", file, e)),
        }
    }
}

fn send(pids: &[i32], signal: i32) -> Result<()> {
    let own = std::process::id();
    let mut result = Ok(());
    for pid in pids.iter().filter(|pid| pid.unsigned_abs() != own) {
        let signal = nix::sys::signal::Signal::try_from(signal)
            .map_err(|_| Error::new(Kind::Usage, format!("signal {signal} cannot be sent to all processes")));
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal?) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(e) => result = Err(Error::sys(format!("sending a signal to process {pid}"), e)),
        }
    }
    result
}
