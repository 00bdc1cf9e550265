//! Readiness of a service whose main process is a container: the service manager's socket (sd_notify(3)) has a stand-in
//! in the container, and forwards its messages to the manager under the container's pid.

use crate::config::spec::{Mount, Spec};
use crate::error::{Errno, Error, Result};
use crate::log;
use crate::sys::fd::{self, PollFd};
use crate::sys::socket;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// The directory of the stand-in in the state directory.
pub const DIRECTORY: &str = "notify";
/// Its name there, and in the container.
const SOCKET: &str = "notify.sock";
/// Where the container finds the directory, as with every runtime.
const IN_CONTAINER: &str = "/run/notify";
/// More messages than a socket holds (net.unix.max_dgram_qlen, which is 10 by default).
const MAX_WAITING: usize = 1024;
/// How long the manager may take to have read everything, in milliseconds.
const BARRIER: i32 = 30_000;

/// Adds to a configuration what the container needs: the mount of `directory` and the variable.
pub fn prepare(spec: &mut Spec, directory: &Path) {
    spec.mounts.push(Mount {
        destination: IN_CONTAINER.into(),
        source: directory.to_string_lossy().into_owned(),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process.env.push(format!("NOTIFY_SOCKET={IN_CONTAINER}/{SOCKET}"));
    }
}

/// Makes the directory of the stand-in in the state directory `state`.
///
/// # Errors
/// The file system is full, and the like.
pub fn make_directory(state: RawFd) -> Result<()> {
    let directory = format!("/proc/self/fd/{state}/{DIRECTORY}");
    std::fs::create_dir(&directory)
        .and_then(|()| std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)))
        .map_err(|e| Error::sys("making the directory of the container's NOTIFY_SOCKET", e))
}

/// The stand-in, and the way on to the manager.
#[derive(Debug)]
pub struct Proxy {
    inside: UnixDatagram,
    manager: OsString,
}

impl Proxy {
    /// Makes the socket in the state directory `state`; `manager` is the value of `NOTIFY_SOCKET`. `None` when the
    /// container was created without it.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn bind(state: RawFd, manager: &OsStr) -> Result<Option<Proxy>> {
        let directory = format!("/proc/self/fd/{state}/{DIRECTORY}");
        let path = Path::new(&directory).join(SOCKET);
        let fail = |e: std::io::Error| Error::sys("making the container's NOTIFY_SOCKET", e);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
            // One that a killed start has left would be in the way.
            _ => {}
        }
        let inside = match UnixDatagram::bind(&path) {
            Ok(socket) => socket,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        // The notification may come from any user of the container.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).map_err(fail)?;
        inside.set_nonblocking(true).map_err(fail)?;
        Ok(Some(Proxy { inside, manager: manager.to_owned() }))
    }

    /// For poll(2).
    pub fn fd(&self) -> RawFd {
        self.inside.as_raw_fd()
    }

    /// Reads what the container has said by now, so that one that never stops does not keep the caller. Once it is ready the manager is notified, and that `pid` is the service's main
    /// process; then the answer is `true`. Nothing else of the container reaches the manager.
    ///
    /// # Errors
    /// The manager cannot be notified.
    pub fn relay(&self, pid: i32) -> Result<bool> {
        let mut text = [0; 4096];
        for _ in 0..MAX_WAITING {
            let Ok(n) = self.inside.recv(&mut text) else { break };
            if text[..n].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
                return self.tell(pid).map(|()| true);
            }
        }
        Ok(false)
    }

    fn tell(&self, pid: i32) -> Result<()> {
        let fail = |e: Errno| {
            Error::sys(
                format!("notifying the service manager at {:?} that the container is ready", self.manager),
                e,
            )
            .hint("NOTIFY_SOCKET names a datagram socket")
        };
        let address = match self.manager.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&self.manager),
        };
        let socket = UnixDatagram::unbound().map_err(|e| fail(e.into()))?;
        address.and_then(|a| socket.connect_addr(&a)).map_err(|e| fail(e.into()))?;
        socket.send(b"READY=1\n").map_err(|e| fail(e.into()))?;
        socket.send(format!("MAINPID={pid}\n").as_bytes()).map_err(|e| fail(e.into()))?;
        // sd_notify_barrier(3): the manager closes the pipe when it has come to it.
        let (wait, held) = fd::pipe().map_err(fail)?;
        socket::send(socket.as_raw_fd(), b"BARRIER=1", Some(held.as_raw_fd())).map_err(fail)?;
        drop(held);
        if fd::poll(&mut [PollFd::new(wait.as_raw_fd(), libc::POLLIN)], BARRIER).map_err(fail)? == 0 {
            log::warn("the service manager has not answered the barrier (BARRIER=1) in 30 s");
        }
        Ok(())
    }

    /// Waits until the container is ready, or the process of `pidfd` has exited. The limit of this wait is the service
    /// manager's (TimeoutStartSec).
    ///
    /// # Errors
    /// As for [`relay`](Proxy::relay).
    pub fn until_ready(&self, pidfd: RawFd, pid: i32) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(self.fd(), libc::POLLIN), PollFd::new(pidfd, libc::POLLIN)];
            fd::poll(&mut fds, -1).map_err(|e| Error::sys("waiting for the container to be ready", e))?;
            // Messages from before its exit count.
            if self.relay(pid)? || fds[1].revents() != 0 {
                return Ok(());
            }
        }
    }
}
