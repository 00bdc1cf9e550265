//! The peer of a unix socket (unix(7), SO_PEERCRED; SO_PEERGROUPS since Linux 4.13).

use super::{SysResult, unit};
use crate::error::Errno;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// The credentials that the peer had when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// The credentials of the peer of `socket`.
pub fn credentials(socket: &impl AsFd) -> SysResult<Credentials> {
    let socket = socket.as_fd();
    let cred = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?;
    let groups = match groups(socket.as_raw_fd()) {
        Err(Errno(libc::ENOPROTOOPT | libc::ENODATA)) => Vec::new(),
        r => r?,
    };
    Ok(Credentials { pid: cred.pid(), uid: cred.uid(), gid: cred.gid(), groups })
}

fn groups(socket: RawFd) -> SysResult<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut bytes = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        let to = groups.as_mut_ptr().cast();
        // SAFETY: `to` has room for `bytes` bytes.
        let got = unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, to, &mut bytes) };
        let length = bytes as usize / size_of::<u32>();
        match unit(got.into()) {
            Ok(()) => {
                groups.truncate(length);
                return Ok(groups);
            }
            // The kernel has said how many there are.
            Err(Errno(libc::ERANGE)) if length > groups.len() => groups.resize(length, 0),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = credentials(&one).unwrap();
        assert_eq!(peer.pid, std::process::id() as i32);
        assert_eq!(peer.uid, crate::sys::cred::geteuid());
        let own = nix::unistd::getgroups().unwrap();
        assert_eq!(peer.groups, own.iter().map(|g| g.as_raw()).collect::<Vec<_>>());
    }
}
