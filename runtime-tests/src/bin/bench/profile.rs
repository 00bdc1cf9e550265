//! A seccomp profile of the size and shape of an engine's default one: some 350 names, a few rules on arguments.

use libseccomp::{ScmpArch, ScmpSyscall};
use serde_json::{Value, json};

/// What an ordinary program may ask the kernel for, by subject. The 32-bit names are listed as engines have them: the
/// profile covers the compatibility architecture too.
const ALLOWED: &[&str] = &[
    // Files: open, read, write, move.
    "open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2",
    "lseek _llseek dup dup2 dup3 pipe pipe2 fcntl fcntl64 flock ioctl readahead splice tee vmsplice sendfile sendfile64",
    "copy_file_range fallocate fadvise64 fadvise64_64 ftruncate ftruncate64 truncate truncate64",
    "fsync fdatasync sync syncfs sync_file_range memfd_create memfd_secret remap_file_pages",
    // Names and attributes of files.
    "access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs",
    "fstatfs64 chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 utime utimes utimensat",
    "utimensat_time64 futimesat umask link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat",
    "renameat2 mkdir mkdirat mknod mknodat rmdir getdents getdents64 getcwd chdir fchdir chroot name_to_handle_at",
    "getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr lremovexattr",
    "fremovexattr inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    // Waiting for files.
    "select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old",
    "epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime",
    "timerfd_settime64 timerfd_gettime timerfd_gettime64 io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents",
    "io_pgetevents_time64",
    // Sockets.
    "socketpair socketcall bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt",
    "send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
    // Memory.
    "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall membarrier",
    "pkey_alloc pkey_free pkey_mprotect map_shadow_stack cachestat process_mrelease",
    // Processes, threads and their identity.
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill pidfd_open pidfd_send_signal",
    "getpid getppid gettid getpgid getpgrp setpgid getsid setsid set_tid_address set_thread_area get_thread_area arch_prctl",
    "modify_ldt set_robust_list get_robust_list rseq prctl seccomp restart_syscall",
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32",
    "getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32",
    "setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset",
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self ptrace process_vm_readv process_vm_writev",
    "getrlimit ugetrlimit setrlimit prlimit64 getrusage getpriority setpriority ioprio_get ioprio_set getcpu",
    "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam",
    "sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval",
    "sched_rr_get_interval_time64",
    // Signals, time, locks, messages.
    "rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigreturn rt_sigqueueinfo rt_tgsigqueueinfo rt_sigtimedwait",
    "rt_sigtimedwait_time64 sigaltstack sigprocmask sigreturn pause alarm",
    "time times gettimeofday adjtimex nanosleep getitimer setitimer clock_gettime clock_gettime64 clock_getres",
    "clock_getres_time64 clock_nanosleep clock_nanosleep_time64 clock_adjtime clock_adjtime64 timer_create timer_delete",
    "timer_settime timer_settime64 timer_gettime timer_gettime64 timer_getoverrun",
    "futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv",
    "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget",
    "mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64",
    "uname sysinfo getrandom",
];

/// Allowed for some arguments only; the floor's filter allows them altogether.
const CONDITIONAL: &[&str] = &["clone", "personality", "socket"];

fn names() -> impl Iterator<Item = &'static str> {
    ALLOWED.iter().flat_map(|line| line.split(' '))
}

/// The architectures of a profile: the kernel's own and the 32-bit one that it also runs.
fn architectures() -> (ScmpArch, Option<ScmpArch>) {
    let native = ScmpArch::native();
    let compatible = match native {
        ScmpArch::X8664 => Some(ScmpArch::X86),
        ScmpArch::Aarch64 => Some(ScmpArch::Arm),
        _ => None,
    };
    (native, compatible)
}

/// `linux.seccomp` of config.json.
pub fn json() -> Value {
    let architectures: &[&str] = match ScmpArch::native() {
        ScmpArch::X8664 => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        ScmpArch::Aarch64 => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    };
    let equal = |value: u64| json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]);
    let personality =
        |value: u64| json!({ "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": equal(value) });
    // Namespaces are for the privileged: any of the CLONE_NEW* flags is refused, and clone3, whose flags a filter
    // cannot see, is said not to exist.
    let namespaces = 0x7e02_0000u64;
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": architectures,
        "syscalls": [
            { "names": names().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW" },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }] },
            personality(0), personality(8), personality(0x20000), personality(0x20008), personality(0xffff_ffff),
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": namespaces, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    })
}

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;

/// One instruction of classic BPF, `struct sock_filter`.
#[derive(Clone, Copy)]
struct Instruction(u16, u8, u8, u32);

/// The profile as the floor loads it: the numbers of each architecture as ranges in a balanced tree.
pub fn filter() -> Vec<u8> {
    let (native, compatible) = architectures();
    let mut program = vec![Instruction(LOAD, 0, 0, 4)];
    for architecture in [Some(native), compatible].into_iter().flatten() {
        let tree = tree(&boundaries(architecture), false);
        // AUDIT_ARCH_*, which libseccomp uses as its architectures' numbers.
        program.push(Instruction(JUMP_EQUAL, 1, 0, audit_architecture(architecture)));
        program.push(Instruction(JUMP, 0, 0, tree.len() as u32 + 1));
        program.push(Instruction(LOAD, 0, 0, 0));
        program.extend(tree);
    }
    program.push(Instruction(RETURN, 0, 0, REFUSE));
    program
        .iter()
        .flat_map(|i| {
            let (code, value) = (i.0.to_ne_bytes(), i.3.to_ne_bytes());
            [code[0], code[1], i.1, i.2, value[0], value[1], value[2], value[3]]
        })
        .collect()
}

/// linux/audit.h
fn audit_architecture(architecture: ScmpArch) -> u32 {
    match architecture {
        ScmpArch::X8664 => 0xc000_003e,
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Arm => 0x4000_0028,
        other => panic!("the bench knows no filter for {other:?}"),
    }
}

/// The numbers at which "allowed" begins and ends, in turn.
fn boundaries(architecture: ScmpArch) -> Vec<u32> {
    let mut numbers: Vec<u32> = names()
        .chain(CONDITIONAL.iter().copied())
        .filter_map(|name| ScmpSyscall::from_name_by_arch(name, architecture).ok())
        // A negative number stands for a call that the architecture has not got.
        .filter_map(|call| u32::try_from(i32::from(call)).ok())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut boundaries: Vec<u32> = Vec::new();
    for number in numbers {
        if boundaries.last() == Some(&number) {
            boundaries.pop();
        } else {
            boundaries.push(number);
        }
        boundaries.push(number + 1);
    }
    boundaries
}

/// `allowed` says what holds below the first boundary.
fn tree(boundaries: &[u32], allowed: bool) -> Vec<Instruction> {
    if boundaries.is_empty() {
        return vec![Instruction(RETURN, 0, 0, if allowed { ALLOW } else { REFUSE })];
    }
    let middle = boundaries.len() / 2;
    let below = tree(&boundaries[..middle], allowed);
    let above = tree(&boundaries[middle + 1..], allowed ^ middle.is_multiple_of(2));
    let mut program = match u8::try_from(below.len()) {
        Ok(jump) => vec![Instruction(JUMP_AT_LEAST, jump, 0, boundaries[middle])],
        Err(_) => vec![
            Instruction(JUMP_AT_LEAST, 0, 1, boundaries[middle]),
            Instruction(JUMP, 0, 0, below.len() as u32),
        ],
    };
    program.extend(below);
    program.extend(above);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program of the four kinds of instruction that `filter` emits.
    fn verdict(program: &[u8], architecture: u32, number: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let i = &program[at * 8..at * 8 + 8];
            let value = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
            let taken = match u16::from_ne_bytes([i[0], i[1]]) {
                RETURN => return value,
                LOAD => {
                    accumulator = if value == 0 { number } else { architecture };
                    0
                }
                JUMP => value as usize,
                JUMP_EQUAL => usize::from(if accumulator == value { i[2] } else { i[3] }),
                JUMP_AT_LEAST => usize::from(if accumulator >= value { i[2] } else { i[3] }),
                other => panic!("instruction {other:#x}"),
            };
            at += taken + 1;
        }
    }

    #[test]
    fn filter_allows_what_the_list_names_on_each_architecture() {
        let program = filter();
        let (native, compatible) = architectures();
        for architecture in [Some(native), compatible].into_iter().flatten() {
            let listed: Vec<i32> = names()
                .chain(CONDITIONAL.iter().copied())
                .filter_map(|name| ScmpSyscall::from_name_by_arch(name, architecture).ok())
                .map(i32::from)
                .collect();
            let mut allowed = 0;
            for number in 0..1000 {
                let expected = if listed.contains(&(number as i32)) { ALLOW } else { REFUSE };
                assert_eq!(verdict(&program, audit_architecture(architecture), number), expected, "{number}");
                allowed += u32::from(expected == ALLOW);
            }
            assert!(allowed > 250, "only {allowed} calls of {architecture:?} are allowed");
        }
        assert_eq!(verdict(&program, 1, 0), REFUSE, "an architecture that is not in the profile");
        assert_eq!(verdict(&program, audit_architecture(native), 0x4000_0001), REFUSE, "x32");
    }
}
