//! The first process of a container, held by a descriptor so that nothing meant for it reaches another process.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::error::{Errno, Error, Result};
use crate::state::model::ProcessId;
use crate::sys::fd::{self, PollFd};
use crate::sys::wait;

/// A process that existed when it was opened.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    pid: i32,
}

impl Process {
    /// Opens the process `id`; `None` when it has exited.
    ///
    /// # Errors
    /// When the kernel has no pidfds, or /proc cannot be read.
    pub fn open(id: ProcessId) -> Result<Option<Process>> {
        let pidfd = match wait::pidfd_open(id.pid) {
            Ok(fd) => fd,
            // EINVAL: the pid is that of a thread now.
            Err(Errno(libc::ESRCH | libc::EINVAL)) => return Ok(None),
            Err(e) => return Err(Error::sys(format!("opening process {}", id.pid), e)),
        };
        // Only now does the pid stay what it is: see whether it still is the one that was meant.
        Ok(id.is_alive()?.then_some(Process { pidfd, pid: id.pid }))
    }

    /// The process of `pidfd`, which is the one that has `pid`.
    pub fn of(pidfd: OwnedFd, pid: i32) -> Process {
        Process { pidfd, pid }
    }

    /// The descriptor; it is readable once the process has exited (pidfd_open(2)).
    pub fn fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    /// The process's number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends `signal`; `false` when the process has exited.
    ///
    /// # Errors
    /// As of pidfd_send_signal(2): EPERM, or EINVAL for no signal.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        match wait::pidfd_send_signal(self.pidfd.as_raw_fd(), signal) {
            Ok(()) => Ok(true),
            Err(Errno(libc::ESRCH)) => Ok(false),
            Err(e) => Err(Error::sys(format!("sending signal {signal} to process {}", self.pid), e)),
        }
    }

    /// Waits until the process has exited, as a zombie too; `false` when it has not within `limit` (`None`: for
    /// ever).
    ///
    /// # Errors
    /// When poll(2) fails.
    pub fn wait(&self, limit: Option<Duration>) -> Result<bool> {
        self.poll(limit, libc::POLLIN)
    }

    /// The exit status of the process, once its parent has reaped it, which may take up to `limit` from now:
    /// its exit code, or 128 + N after signal N. `None` when the kernel does not report it (before Linux 6.15).
    ///
    /// # Errors
    /// When poll(2) fails.
    pub fn exit_code(&self, limit: Duration) -> Result<Option<i32>> {
        self.poll(Some(limit), libc::POLLHUP)?;
        Ok(wait::pidfd_exit(self.pidfd.as_raw_fd()).ok().flatten().map(wait::Exit::code))
    }

    fn poll(&self, limit: Option<Duration>, events: i16) -> Result<bool> {
        let deadline = limit.map(|l| Instant::now() + l);
        loop {
            let timeout = match deadline {
                None => -1,
                // Rounded up, so that the last wait does not end before the deadline and turn in circles.
                Some(d) => d.saturating_duration_since(Instant::now()).as_millis() as i32 + 1,
            };
            // POLLHUP is always reported; asking for nothing else keeps a zombie from ending the wait.
            let mut fds = [PollFd::new(self.pidfd.as_raw_fd(), events & libc::POLLIN)];
            fd::poll(&mut fds, timeout)
                .map_err(|e| Error::sys(format!("waiting for process {}", self.pid), e))?;
            if fds[0].revents() & events != 0 {
                return Ok(true);
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleep() -> (Child, ProcessId) {
        let child = Command::new("sleep").arg("100").spawn().unwrap();
        let id = ProcessId::read_process(child.id() as i32).unwrap().unwrap();
        (child, id)
    }

    #[test]
    fn a_process_is_killed_and_waited_for() {
        let (mut child, id) = sleep();
        let process = Process::open(id).unwrap().unwrap();
        assert!(!process.wait(Some(Duration::from_millis(5))).unwrap());
        assert!(process.signal(0).unwrap());
        assert!(process.signal(libc::SIGKILL).unwrap());
        assert!(process.wait(Some(Duration::from_secs(10))).unwrap());
        assert!(Process::open(id).unwrap().is_none(), "a zombie has exited");
        child.wait().unwrap();
        assert!(!process.signal(0).unwrap());
        assert!(Process::open(id).unwrap().is_none());
        // Linux 6.15 and later report it, earlier ones do not.
        assert!(matches!(process.exit_code(Duration::from_secs(10)).unwrap(), None | Some(137)));
    }

    #[test]
    fn another_process_of_the_same_pid_is_not_meant() {
        let (mut child, id) = sleep();
        let earlier = ProcessId { start_time: id.start_time - 1, ..id };
        assert!(Process::open(earlier).unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
