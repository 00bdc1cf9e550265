//! How a program reports that it runs: by a datagram with the time, to which the kernel adds its pid.

use std::collections::HashSet;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg, setsockopt, sockopt,
};
use nix::time::{ClockId, clock_gettime};

/// A socket that programs send their first instruction's time to.
pub struct Stamps(UnixDatagram);

/// One program.
#[derive(Clone, Copy)]
pub struct Stamp {
    /// As this process sees it.
    pub pid: i32,
    /// Since the boot, `CLOCK_MONOTONIC`.
    pub at: Duration,
}

/// The time, as in [`Stamp`].
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

impl Stamps {
    pub fn bind(path: &Path) -> Result<Stamps, String> {
        let socket = UnixDatagram::bind(path).map_err(|e| format!("binding {}: {e}", path.display()))?;
        setsockopt(&socket, sockopt::PassCred, &true).map_err(|e| format!("SO_PASSCRED: {e}"))?;
        Ok(Stamps(socket))
    }

    /// The next one, if there is one within `limit`.
    pub fn next(&self, limit: Duration) -> Option<Stamp> {
        self.0.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).ok()?;
        let mut bytes = [0u8; 16];
        let mut space = nix::cmsg_space!(UnixCredentials);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).ok()?;
        let pid = message.cmsgs().ok()?.find_map(|m| match m {
            ControlMessageOwned::ScmCredentials(who) => Some(who.pid()),
            _ => None,
        })?;
        let number = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        Some(Stamp { pid, at: Duration::new(number(0), number(8) as u32) })
    }

    /// The next one of a working machine.
    pub fn wait(&self) -> Result<Stamp, String> {
        self.next(Duration::from_secs(20)).ok_or_else(|| "a program did not start within 20 s".to_owned())
    }

    /// Waits until `n` programs have reported, and returns when the last of them did.
    pub fn wait_for(&self, n: usize, limit: Duration) -> Result<Duration, String> {
        let deadline = Instant::now() + limit;
        let (mut pids, mut last) = (HashSet::new(), Duration::ZERO);
        while pids.len() < n {
            let left = deadline.saturating_duration_since(Instant::now());
            let stamp = self.next(left).ok_or_else(|| format!("{} of {n} started", pids.len()))?;
            pids.insert(stamp.pid);
            last = last.max(stamp.at);
        }
        Ok(last)
    }

    /// Drops pending datagrams.
    pub fn drain(&self) {
        while self.next(Duration::from_millis(1)).is_some() {}
    }
}
