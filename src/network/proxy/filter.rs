//! The system calls that the proxy may make once it serves: what sockets and its loop need. Everything else fails with EPERM;
//! files can only be read, and new sockets are of IPv4 and IPv6.

use crate::plan::seccomp::own::{self, Limited, Values};
use crate::sys::{SysResult, prctl};

/// The most frequent ones first.
const ALLOWED: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_splice,
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_epoll_ctl,
    libc::SYS_futex,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_accept,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_memfd_create,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

const INTERNET: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];
const WRITING: u32 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u32;
const LIMITED: [Limited; 2] = [
    Limited { number: libc::SYS_socket, argument: 0, values: Values::In(INTERNET) },
    Limited { number: libc::SYS_openat, argument: 2, values: Values::Without(WRITING) },
];

/// Restricts the calling thread, and all that it makes, for good.
///
/// # Errors
/// The kernel has no seccomp, or the caller may gain privileges.
pub fn load() -> SysResult<()> {
    prctl::seccomp_load(&own::allow(ALLOWED, &LIMITED), 0).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::seccomp::{Arch, sim, verify};

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    /// The kernel's verdict on a system call: seccomp(2).
    fn judge(arch: u32, number: i64, [a, b, c]: [u32; 3]) -> u32 {
        let program = own::allow(ALLOWED, &LIMITED);
        verify(&program);
        let args = [a.into(), b.into(), c.into(), 0, 0, 0];
        sim::run(&program, &sim::Data { nr: number as u32, arch, args }, cfg!(target_endian = "big")).0
    }

    #[test]
    fn only_what_the_proxy_needs_is_allowed() {
        let own = |number: i64, arguments: [u32; 3]| judge(Arch::NATIVE.token(), number, arguments);
        for number in ALLOWED {
            assert_eq!(own(*number, [0; 3]), ALLOW, "{number}");
        }
        let others = [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_mount, libc::SYS_setns, libc::SYS_kill];
        for number in others.into_iter().chain([libc::SYS_clone3, libc::SYS_unlinkat, 0x4000_0000]) {
            assert_eq!(own(number, [0; 3]), REFUSE, "{number}");
        }
        for (family, answer) in [
            (libc::AF_INET, ALLOW),
            (libc::AF_INET6, ALLOW),
            (libc::AF_UNIX, REFUSE),
            (libc::AF_NETLINK, REFUSE),
        ] {
            assert_eq!(own(libc::SYS_socket, [family as u32, 1, 0]), answer, "{family}");
        }
        for (flags, answer) in
            [(libc::O_CLOEXEC, ALLOW), (libc::O_WRONLY, REFUSE), (libc::O_RDWR | libc::O_CREAT, REFUSE)]
        {
            assert_eq!(own(libc::SYS_openat, [0, 0, flags as u32]), answer, "{flags}");
        }
        assert_eq!(judge(1, libc::SYS_read, [0; 3]), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
