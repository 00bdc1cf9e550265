//! Network interfaces (netdevice(7)).

use super::{SysResult, owned, unit};
use std::os::fd::AsRawFd;

/// Brings the loopback interface of the caller's network namespace up: SIOCSIFFLAGS.
pub fn loopback_up() -> SysResult<()> {
    // SAFETY: no memory is passed.
    let socket =
        owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: ifreq is plain data, for which all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: this request reads an ifreq.
    unit(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
}
