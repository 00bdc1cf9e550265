//! The floor: the system calls that a container cannot do without, and nothing else.
//!
//! `scripts/bench` divides the cost of a runtime by the cost of this program. It reads no config.json, verifies nothing,
//! keeps no state, follows whatever symbolic link is in its way and cleans up nothing when it fails: it is a measure, not
//! a runtime. Everything that a runtime would find out is an argument.
//!
//!     floor run  [--hierarchies a:b:c] [--docker DIR] CGROUP ROOTFS PROGRAM [ARG...]
//!     floor exec [--hierarchies a:b:c] [--docker DIR] CGROUP PID PROGRAM [ARG...]
//!     floor keep [--hierarchies a:b:c] [--network host|PATH] CGROUP ROOTFS PROGRAM [ARG...]
//!     floor respawn PROGRAM [ARG...]
//!     floor stamp SOCKET [exit]
//!
//! `keep` restarts the container whenever it has exited, `respawn` a program without a container, and `stamp` is the
//! program (see `keep.rs`). PATH is the network namespace to join.
//! CGROUP is a name below the root of each hierarchy. `--hierarchies` lists the cgroup v1 hierarchies below
//! /sys/fs/cgroup; without it /sys/fs/cgroup is cgroup2. DIR holds what the Docker-like bundle adds: `filter`, a seccomp
//! program as an array of `struct sock_filter`, and the files to bind, `hosts`, `hostname` and `resolv.conf`.
//!
//! The C runtime calls `main`: Rust's own start-up makes a dozen system calls that are not a container's.
#![no_main]

mod cgroup;
mod keep;
mod rootfs;
mod sys;

use std::ffi::{CStr, CString};

use sys::{call, ptr, try_call};

/// The parameters of a run or an exec.
pub struct Options {
    /// Names below /sys/fs/cgroup; empty for cgroup2.
    pub hierarchies: Vec<String>,
    /// The directory of the Docker-like bundle's extras.
    pub docker: Option<String>,
    pub cgroup: String,
    /// `host`, or the network namespace to join; a new one without.
    pub network: Option<String>,
}

/// Capabilities of the plain bundle: kill, net_bind_service, audit_write (the default of `runc spec`).
const PLAIN_CAPABILITIES: u64 = 1 << 5 | 1 << 10 | 1 << 29;
/// Docker's fourteen: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
/// sys_chroot, mknod, audit_write, setfcap.
const DOCKER_CAPABILITIES: u64 = 1 << 0
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 13
    | 1 << 18
    | 1 << 27
    | 1 << 29
    | 1 << 31;
/// CAP_CHECKPOINT_RESTORE, the highest number since Linux 5.9.
const LAST_CAPABILITY: u64 = 40;

const NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET | libc::CLONE_NEWPID;

/// linux/sched.h; libc's constant is of a type too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Called by the C runtime; the arguments come from `std::env`, which glibc fills before main.
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let mut args = std::env::args().skip(1);
    let verb = args.next().unwrap_or_default();
    let mut options = Options { hierarchies: Vec::new(), docker: None, cgroup: String::new(), network: None };
    let mut rest = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--hierarchies" if rest.is_empty() => {
                options.hierarchies = args.next().unwrap_or_default().split(':').map(String::from).collect()
            }
            "--docker" if rest.is_empty() => options.docker = args.next(),
            "--network" if rest.is_empty() => options.network = args.next(),
            _ => rest.push(arg),
        }
    }
    match (verb.as_str(), rest.as_slice()) {
        ("stamp", [socket, more @ ..]) => return keep::stamp(socket, !more.is_empty()),
        ("respawn", [_, ..]) => return keep::respawn(&c_strings(rest)),
        ("run" | "exec" | "keep", [_, _, _, ..]) => {}
        _ => {
            eprintln!(
                "usage: floor run|exec|keep [--hierarchies a:b:c] [--docker DIR] [--network host|PATH] CGROUP ROOTFS|PID \
                 PROGRAM [ARG...] | respawn PROGRAM [ARG...] | stamp SOCKET [exit]"
            );
            return 2;
        }
    }
    options.cgroup = rest.remove(0);
    let place = rest.remove(0);
    let argv = c_strings(rest);
    // Read before the root changes.
    let filter = options.docker.as_ref().map(|dir| sys::read_file(&format!("{dir}/filter")));
    match verb.as_str() {
        "run" => run(&options, &place, &argv, filter.as_deref()),
        "keep" => keep::keep(&mut options, &place, &argv),
        _ => exec(&options, &place, &argv, filter.as_deref()),
    }
}

fn c_strings(words: Vec<String>) -> Vec<CString> {
    words.into_iter().map(|a| CString::new(a).expect("an argument has no NUL")).collect()
}

fn run(options: &Options, rootfs: &str, argv: &[CString], filter: Option<&[u8]>) -> i32 {
    let pid = start(options, rootfs, argv, filter);
    let status = wait(pid);
    cgroup::remove(options);
    status
}

/// Makes the container; its pid.
fn start(options: &Options, rootfs: &str, argv: &[CString], filter: Option<&[u8]>) -> usize {
    let group = cgroup::create(options);
    let network = if options.network.is_some() { libc::CLONE_NEWNET } else { 0 };
    let pid = clone(NAMESPACES & !network, group);
    if pid == 0 {
        if let Some(path) = options.network.as_deref().filter(|n| *n != "host") {
            let namespace = sys::open(path, libc::O_RDONLY);
            call("setns", libc::SYS_setns, &[namespace, libc::CLONE_NEWNET as usize]);
        }
        // The root of the new cgroup namespace is the cgroup that the process is in: on version 1 it moves itself there.
        cgroup::attach(options, 0);
        call("unshare", libc::SYS_unshare, &[libc::CLONE_NEWCGROUP as usize]);
        rootfs::build(options, rootfs);
        become_program(options, argv, filter);
    }
    if let Some(group) = group {
        sys::close(group);
    }
    pid
}

fn exec(options: &Options, target: &str, argv: &[CString], filter: Option<&[u8]>) -> i32 {
    let target: usize = target.parse().expect("PID is a number");
    let pidfd = call("pidfd_open", libc::SYS_pidfd_open, &[target, 0]);
    // A pid namespace is joined for the children only.
    call("setns", libc::SYS_setns, &[pidfd, libc::CLONE_NEWPID as usize]);
    let pid = clone(0, cgroup::open(options));
    if pid == 0 {
        cgroup::attach(options, 0);
        let others = NAMESPACES & !libc::CLONE_NEWPID | libc::CLONE_NEWCGROUP;
        call("setns", libc::SYS_setns, &[pidfd, others as usize]);
        call("chdir", libc::SYS_chdir, &[c"/".as_ptr() as usize]);
        become_program(options, argv, filter);
    }
    wait(pid)
}

/// clone3(2) like fork(2); `cgroup` is a cgroup2 directory to start in. Returns the child's pid, 0 in the child.
fn clone(flags: i32, cgroup: Option<usize>) -> usize {
    // struct clone_args (linux/sched.h), version 2 of 88 bytes: flags is [0], exit_signal [4], cgroup [10].
    let mut args = [0u64; 11];
    args[0] = flags as u64;
    args[4] = libc::SIGCHLD as u64;
    if let Some(fd) = cgroup {
        args[0] |= CLONE_INTO_CGROUP;
        args[10] = fd as u64;
    }
    call("clone3", libc::SYS_clone3, &[ptr(&mut args), std::mem::size_of_val(&args)])
}

fn wait(pid: usize) -> i32 {
    let mut status = 0i32;
    call("wait4", libc::SYS_wait4, &[pid, ptr(&mut status), 0, 0]);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// The last steps, in the order that keeps the privilege each one needs; does not come back.
fn become_program(options: &Options, argv: &[CString], filter: Option<&[u8]>) -> ! {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    call("prlimit64", libc::SYS_prlimit64, &[0, libc::RLIMIT_NOFILE as usize, ptr(&mut limit), 0]);
    if let Some(filter) = filter {
        let mut program =
            libc::sock_fprog { len: (filter.len() / 8) as u16, filter: filter.as_ptr() as *mut _ };
        call("seccomp", libc::SYS_seccomp, &[libc::SECCOMP_SET_MODE_FILTER as usize, 0, ptr(&mut program)]);
    }
    let keep = if options.docker.is_some() { DOCKER_CAPABILITIES } else { PLAIN_CAPABILITIES };
    for capability in (0..=LAST_CAPABILITY).filter(|c| keep & (1 << c) == 0) {
        call("prctl", libc::SYS_prctl, &[libc::PR_CAPBSET_DROP as usize, capability as usize]);
    }
    call("prctl", libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS as usize, 1]);
    call("setgroups", libc::SYS_setgroups, &[0, 0]);
    call("setresgid", libc::SYS_setresgid, &[0, 0, 0]);
    call("setresuid", libc::SYS_setresuid, &[0, 0, 0]);
    // struct __user_cap_header_struct and two of __user_cap_data_struct: effective, permitted, inheritable.
    let mut header = [0x2008_0522u32, 0];
    let (low, high) = (keep as u32, (keep >> 32) as u32);
    let mut data = [low, low, 0, high, high, 0];
    call("capset", libc::SYS_capset, &[ptr(&mut header), ptr(&mut data)]);
    if options.docker.is_none() {
        call("prctl", libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]);
    }
    let close = libc::CLOSE_RANGE_CLOEXEC as usize;
    call("close_range", libc::SYS_close_range, &[3, u32::MAX as usize, close]);
    execve(argv)
}

fn execve(argv: &[CString]) -> ! {
    let mut pointers: Vec<usize> = argv.iter().map(|a| a.as_ptr() as usize).chain([0]).collect();
    let path: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut environment = [path.as_ptr() as usize, c"TERM=xterm".as_ptr() as usize, 0];
    let error =
        try_call(libc::SYS_execve, &[pointers[0], pointers.as_mut_ptr() as usize, ptr(&mut environment)]);
    eprintln!("floor: execve: {error:?}");
    std::process::exit(127)
}
