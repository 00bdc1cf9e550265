//! Odd callers: what a process may have set before it becomes the runtime (execve(2) keeps all of this).

use crate::sys::{prctl, syscall};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::path::PathBuf;

/// One peculiarity of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Odd {
    /// Ignores these signals.
    Ignores(Vec<i32>),
    /// Blocks all signals that can be blocked.
    BlocksAll,
    /// Soft and hard limit of a resource; `None` leaves the hard one.
    Limit(u32, u64, Option<u64>),
    /// Has closed these descriptors.
    Closes(Vec<i32>),
    /// prctl(2) with one number.
    Prctl(i32, u64),
    /// The file creation mask.
    Umask(u32),
    /// Lacks a capability, by number.
    Without(u64),
    /// Its working directory is gone; this one is made for it.
    DeletedDirectory(PathBuf),
    /// Nothing is in its /dev.
    EmptyDev,
    /// Runs under a filter that answers these system calls, by number, with an errno.
    Filtered(Vec<i64>, i32),
}

const KILL_AND_STOP: [i32; 2] = [libc::SIGKILL, libc::SIGSTOP];

impl Odd {
    /// Every signal that can be ignored.
    pub fn ignores_all() -> Odd {
        Odd::Ignores((1..=64).filter(|n| !KILL_AND_STOP.contains(n)).collect())
    }

    /// Makes the calling process like this; it is about to become the runtime.
    pub fn apply(&self) -> io::Result<()> {
        match self {
            Odd::Ignores(signals) => signals.iter().try_for_each(|n| ignore(*n)),
            Odd::BlocksAll => {
                let all = u64::MAX;
                syscall(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as u64, address(&all), 0, 8, 0, 0])
                    .map(drop)
            }
            Odd::Limit(resource, soft, hard) => limit(*resource, *soft, *hard),
            Odd::Closes(numbers) => numbers
                .iter()
                .try_for_each(|n| syscall(libc::SYS_close, [*n as u64, 0, 0, 0, 0, 0]).map(drop)),
            Odd::Prctl(option, value) => prctl(*option, *value).map(drop),
            Odd::Umask(mask) => syscall(libc::SYS_umask, [(*mask).into(), 0, 0, 0, 0, 0]).map(drop),
            Odd::Without(number) => prctl(libc::PR_CAPBSET_DROP, *number).map(drop),
            Odd::DeletedDirectory(dir) => {
                std::fs::create_dir(dir)?;
                std::env::set_current_dir(dir)?;
                std::fs::remove_dir(dir)
            }
            Odd::EmptyDev => {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let none = None::<&str>;
                mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
                Ok(mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::empty(), none)?)
            }
            Odd::Filtered(numbers, errno) => filter(numbers, *errno),
        }
    }
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

/// By system call: the C library keeps two signals to itself.
fn ignore(signal: i32) -> io::Result<()> {
    // handler, flags, restorer, mask of the kernel's structure; SIG_IGN is 1.
    let action = [1u64, 0, 0, 0];
    syscall(libc::SYS_rt_sigaction, [signal as u64, action.as_ptr() as u64, 0, 8, 0, 0]).map(drop)
}

fn limit(resource: u32, soft: u64, hard: Option<u64>) -> io::Result<()> {
    let mut both = [0u64; 2];
    let get = [0, resource.into(), 0, both.as_mut_ptr() as u64, 0, 0];
    syscall(libc::SYS_prlimit64, get)?;
    both = [soft, hard.unwrap_or(both[1])];
    syscall(libc::SYS_prlimit64, [0, resource.into(), both.as_ptr() as u64, 0, 0, 0]).map(drop)
}

/// struct sock_filter.
#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

/// struct sock_fprog.
#[repr(C)]
struct Program {
    length: u16,
    first: *const Instruction,
}

fn filter(numbers: &[i64], errno: i32) -> io::Result<()> {
    let step = |code: u32, jump_true: u8, jump_false: u8, value: u32| Instruction {
        code: code as u16,
        jump_true,
        jump_false,
        value,
    };
    // The number of the system call is the first word of struct seccomp_data.
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for number in numbers {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *number as u32));
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    let loaded = Program { length: program.len() as u16, first: program.as_ptr() };
    let args = [libc::SECCOMP_SET_MODE_FILTER.into(), 0, address(&loaded), 0, 0, 0];
    syscall(libc::SYS_seccomp, args).map(drop)
}
