//! The floor of a supervisor: a loop that restarts a program when it has exited, and a program that reports when it was
//! started.

use std::ffi::CString;

use super::sys::{self, call, ptr};
use super::{Options, cgroup, start};

/// Sends the time to a datagram socket, and waits for SIGTERM, or with `exit` ends at once: with an error, since a
/// supervisor may wait before it runs a program again that was done.
pub fn stamp(socket: &str, exit: bool) -> i32 {
    let mut now = [0u64; 2];
    // Through libc, which needs no system call for it.
    sys::monotonic(&mut now);
    // struct sockaddr_un (unix(7)): the family, then the path.
    let mut address = [0u8; 110];
    address[0] = libc::AF_UNIX as u8;
    address[2..2 + socket.len()].copy_from_slice(socket.as_bytes());
    let fd = call("socket", libc::SYS_socket, &[libc::AF_UNIX as usize, libc::SOCK_DGRAM as usize, 0]);
    call("sendto", libc::SYS_sendto, &[fd, ptr(&mut now), 16, 0, ptr(&mut address), address.len()]);
    sys::close(fd);
    if !exit {
        // A signal that is blocked reaches a pid 1, too, which has no handler for it (pid_namespaces(7)).
        let mut set = 1u64 << (libc::SIGTERM - 1);
        call("sigprocmask", libc::SYS_rt_sigprocmask, &[libc::SIG_BLOCK as usize, ptr(&mut set), 0, 8]);
        call("sigtimedwait", libc::SYS_rt_sigtimedwait, &[ptr(&mut set), 0, 0, 8]);
        return 0;
    }
    1
}

/// Runs a program again and again, without a container.
pub fn respawn(argv: &[CString]) -> i32 {
    loop {
        let pid = super::clone(0, None);
        if pid == 0 {
            super::execve(argv);
        }
        super::wait(pid);
    }
}

/// Runs containers, one after the other. What is left of one is cleared away when the next one runs.
pub fn keep(options: &mut Options, rootfs: &str, argv: &[CString]) -> i32 {
    let name = std::mem::take(&mut options.cgroup);
    let next = || {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        format!("{name}-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    };
    options.cgroup = next();
    let mut pid = start(options, rootfs, argv, None);
    loop {
        super::wait(pid);
        let ended = std::mem::replace(&mut options.cgroup, next());
        pid = start(options, rootfs, argv, None);
        let now = std::mem::replace(&mut options.cgroup, ended);
        cgroup::remove(options);
        options.cgroup = now;
    }
}
