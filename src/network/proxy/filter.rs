//! The system calls that the proxy may make once it serves: what sockets and its loop need. Everything else fails with EPERM;
//! files can only be read, and new sockets are of IPv4 and IPv6.

use crate::sys::SysResult;
use crate::sys::prctl::{self, SockFilter};

/// Instructions of classic BPF (linux/bpf_common.h): load a word, compare and jump, return.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where `struct seccomp_data` has the number, the architecture, and the low halves of arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

/// linux/audit.h.
const OWN_ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

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

fn instruction(code: u16, k: u32, (jt, jf): (u8, u8)) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

fn end(with: u32) -> SockFilter {
    instruction(RETURN, with, (0, 0))
}

fn argument(n: u32) -> SockFilter {
    instruction(LOAD, ARGUMENTS + 8 * n, (0, 0))
}

fn program() -> Vec<SockFilter> {
    let mut all = vec![
        instruction(LOAD, ARCHITECTURE, (0, 0)),
        instruction(EQUAL, OWN_ARCHITECTURE, (1, 0)),
        end(libc::SECCOMP_RET_KILL_PROCESS),
        instruction(LOAD, NUMBER, (0, 0)),
    ];
    for number in ALLOWED {
        all.extend([instruction(EQUAL, *number as u32, (0, 1)), end(ALLOW)]);
    }
    let [inet, inet6] = [libc::AF_INET, libc::AF_INET6].map(|family| family as u32);
    let writing = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u32;
    all.extend([
        instruction(EQUAL, libc::SYS_socket as u32, (0, 5)),
        argument(0),
        instruction(EQUAL, inet, (1, 0)),
        instruction(EQUAL, inet6, (0, 1)),
        end(ALLOW),
        end(REFUSE),
        instruction(EQUAL, libc::SYS_openat as u32, (0, 3)),
        argument(2),
        instruction(ANY_BIT, writing, (1, 0)),
        end(ALLOW),
        end(REFUSE),
    ]);
    all
}

/// Restricts the calling thread, and all that it makes, for good.
///
/// # Errors
/// The kernel has no seccomp, or the caller may gain privileges.
pub fn load() -> SysResult<()> {
    prctl::seccomp_load(&program(), 0).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call: seccomp(2).
    fn judge(arch: u32, number: i64, arguments: [u32; 3]) -> u32 {
        let (program, mut at, mut word) = (program(), 0, 0);
        loop {
            let SockFilter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |hit: bool| usize::from(if hit { jt } else { jf });
            match code {
                LOAD => {
                    word = match k {
                        NUMBER => number as u32,
                        ARCHITECTURE => arch,
                        k => arguments[(k - ARGUMENTS) as usize / 8],
                    }
                }
                EQUAL => at += jump(word == k),
                ANY_BIT => at += jump(word & k != 0),
                _ => return k,
            }
        }
    }

    #[test]
    fn only_what_the_proxy_needs_is_allowed() {
        let own = |number: i64, arguments: [u32; 3]| judge(OWN_ARCHITECTURE, number, arguments);
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
