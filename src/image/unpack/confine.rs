//! Where a layer is unpacked: a process that sees nothing but the layer's directory, without network, with the capabilities that
//! making files of any kind needs and no others, and with a filter of system calls; where the kernel has Landlock, it can make,
//! change and remove files in there, but neither read nor run them. What an archive makes of the code that
//! reads it stays in there.

use super::Limits;
use crate::error::{Error, Result};
use crate::plan::seccomp::own;
use crate::sys::{self, cred, fd, file, landlock, mount, path, prctl, sched};
use libc::{CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

/// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD and CAP_SETFCAP (capabilities(7)).
const CAPABILITIES: u64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;
/// Allowed operations below its root. Hard links between directories are REFER, which the first version of Landlock cannot allow.
const ALLOWED: u64 = landlock::WRITE_FILE
    | landlock::READ_DIR
    | landlock::REMOVE_DIR
    | landlock::REMOVE_FILE
    | landlock::MAKE_CHAR
    | landlock::MAKE_DIR
    | landlock::MAKE_REG
    | landlock::MAKE_FIFO
    | landlock::MAKE_BLOCK
    | landlock::MAKE_SYM
    | landlock::REFER
    | landlock::TRUNCATE;
const OLDEST_LANDLOCK: u32 = 2;
/// The namespaces that the process has for itself.
pub const NAMESPACES: u64 = (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) as u64;
/// Mount flags of the directory.
const WITHOUT_DEVICES: u64 =
    libc::MS_BIND | libc::MS_REMOUNT | libc::MS_NODEV | libc::MS_NOSUID | libc::MS_NOEXEC;
/// Bytes of memory: the window of zstd takes most.
const MEMORY: u64 = 512 << 20;
/// Seconds of the processor.
const CPU: u64 = 3600;

/// System calls of unpacking, including the allocator.
const CALLS: [i64; 50] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_readlinkat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_fsetxattr,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_prlimit64,
];

/// Confines the calling process, which is alone in its [`NAMESPACES`], to the directory `dir`. The directory itself.
///
/// # Errors
/// A step fails: nothing may be unpacked then.
pub fn confine(dir: &CString, limits: &Limits) -> Result<OwnedFd> {
    let step =
        |what: &'static str| move |e| Error::sys(format!("confining the unpacking of a layer: {what}"), e);
    prctl::set_parent_death_signal(libc::SIGKILL).map_err(step("setting the parent death signal"))?;
    mount::set_propagation(c"/", libc::MS_REC | libc::MS_PRIVATE).map_err(step("private mounts"))?;
    mount::mount(dir, dir, c"none", libc::MS_BIND, c"").map_err(step("a mount of the directory"))?;
    // Devices can be made in there, by name; code of the archive must not open one.
    mount::mount(c"none", dir, c"none", WITHOUT_DEVICES, c"").map_err(step("a mount without devices"))?;
    file::chdir(dir).map_err(step("entering the directory"))?;
    mount::pivot_root_here().map_err(step("making the directory the root"))?;
    mount::detach(c".").map_err(step("detaching the host's root"))?;
    file::chdir(c"/").map_err(step("entering the root"))?;
    fd::close_range(3, u32::MAX).map_err(step("closing files"))?;
    file::umask(0);
    let root = path::openat(sys::CWD, c"/", libc::O_DIRECTORY, 0).map_err(step("opening the root"))?;
    for (resource, most) in [
        (libc::RLIMIT_AS, MEMORY),
        (libc::RLIMIT_CPU, CPU),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_NOFILE, 64),
        (libc::RLIMIT_FSIZE, limits.bytes),
    ] {
        sched::prlimit(0, resource as _, most, most).map_err(step("setting resource limits"))?;
    }
    prctl::limit_bounding(CAPABILITIES).map_err(step("limiting capabilities"))?;
    let sets = cred::CapSets { effective: CAPABILITIES, permitted: CAPABILITIES, inheritable: 0 };
    cred::capset(sets).map_err(step("setting capabilities"))?;
    prctl::set_no_new_privs().map_err(step("forbidding new privileges"))?;
    if let Some(version) = landlock::version().ok().filter(|v| *v >= OLDEST_LANDLOCK) {
        let allowed = [(ALLOWED, root.as_raw_fd())];
        landlock::restrict(version, &allowed, false).map_err(step("Landlock"))?;
    }
    prctl::seccomp_load(&own::allow(&CALLS, &[]), 0).map_err(step("the filter of system calls"))?;
    Ok(root)
}
