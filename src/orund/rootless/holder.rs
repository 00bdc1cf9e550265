//! The process that holds a user's namespaces, for as long as containers are in them: a supervisor that is started again finds
//! them by it.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::idmap;
use crate::plan::namespaces::IdMaps;
use crate::supervisor::shell::program;
use crate::sys::clone::{self, Clone};
use crate::sys::fd::PollFd;
use crate::sys::{cred, exec, fd, file, mount, netif, prctl, process, signalfd, wait};
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The internal verb.
pub const VERB: &str = "holder";
/// The message on its pipe when the namespaces are ready.
const READY: &[u8] = b"ready";
/// How long it may take until then, in milliseconds.
const START: i32 = 30_000;

/// The namespaces to make.
#[derive(Debug)]
pub struct Plan {
    /// `CLONE_NEW*`.
    pub kinds: i32,
    pub maps: IdMaps,
    /// In place of /etc/resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// It outlives this process.
    pub stays: bool,
}

/// A process that holds namespaces.
#[derive(Debug)]
pub struct Holder {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub kinds: i32,
}

impl Holder {
    /// Makes the namespaces and the process. `keep` stays open in it.
    ///
    /// # Errors
    /// What the kernel, or newuidmap, refuses.
    pub fn make(plan: &Plan, keep: Option<&OwnedFd>) -> Result<Holder> {
        let fail = |e: Errno| Error::sys("making the namespaces of the supervisor", e);
        let (go_read, go_write) = fd::pipe().map_err(fail)?;
        let (ready_read, ready_write) = fd::pipe().map_err(fail)?;
        match clone::clone3(plan.kinds as u64, None).map_err(|e| forbidden(fail(e)))? {
            // This program has one thread so far: there is no lock to fear.
            Clone::Child => {
                drop((go_write, ready_read));
                let mut go = [0];
                if fd::read(go_read.as_raw_fd(), &mut go) != Ok(1) {
                    exec::exit(1);
                }
                let e = become_holder(plan, keep, ready_write);
                crate::log::error(&e);
                exec::exit(1)
            }
            Clone::Parent { pid, pidfd } => {
                drop((go_read, ready_write));
                let holder = Holder { pid, pidfd, kinds: plan.kinds };
                let made = idmap::write(pid, &plan.maps)
                    .and_then(|()| fd::write_all(go_write.as_raw_fd(), b"g").map_err(fail))
                    .and_then(|()| holder.wait_ready(&ready_read));
                match made {
                    Ok(()) => Ok(holder),
                    Err(e) => {
                        holder.end();
                        Err(e)
                    }
                }
            }
        }
    }

    fn wait_ready(&self, ready: &OwnedFd) -> Result<()> {
        let mut said = Vec::with_capacity(64);
        while !said.starts_with(READY) {
            let waited = fd::poll(&mut [PollFd::new(ready.as_raw_fd(), libc::POLLIN)], START);
            if waited.is_ok_and(|n| n == 0) {
                let what = "the namespaces of the supervisor were not ready within 30 s";
                return Err(Error::new(Kind::Timeout, what));
            }
            match fd::append(ready.as_raw_fd(), &mut said) {
                Ok(1..) => {}
                // The reason is on standard error.
                _ => {
                    return Err(Error::new(
                        Kind::System,
                        "the namespaces of the supervisor cannot be prepared",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The one on record in `dir`, if it is alive.
    pub fn find(dir: &Path, kinds: i32) -> Option<Holder> {
        let text = std::fs::read_to_string(record(dir)).ok()?;
        let (pid, start_time) = text.trim().split_once(' ')?;
        let (pid, start_time) = (pid.parse().ok()?, start_time.parse::<u64>().ok()?);
        // Opened first: from then on the number is its own, or the start time differs.
        let pidfd = wait::pidfd_open(pid).ok()?;
        let stat = process::stat(pid).ok()??;
        (stat.start_time == start_time && !stat.has_ended()).then_some(Holder { pid, pidfd, kinds })
    }

    /// Puts it on record in `dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(&self, dir: &Path) -> Result<()> {
        let file = record(dir);
        let start_time = process::stat(self.pid).ok().flatten().map_or(0, |s| s.start_time);
        std::fs::write(&file, format!("{} {start_time}\n", self.pid))
            .map_err(|e| Error::sys(format!("writing {file:?}"), e))
    }

    /// Ends it, and with it the namespaces, when nobody else is in them.
    pub fn end(&self) {
        // It may have exited already. One that another process has made is not ours to wait for.
        let _ = wait::pidfd_send_signal(self.pidfd.as_raw_fd(), libc::SIGKILL);
        let _ = wait::wait_pidfd(self.pidfd.as_raw_fd(), true);
    }
}

fn record(dir: &Path) -> PathBuf {
    dir.join("holder")
}

fn forbidden(e: Error) -> Error {
    match (e.errno(), super::ids::forbidden()) {
        (Some(Errno(libc::EPERM | libc::ENOSPC | libc::EACCES)), Some(why)) => {
            e.hint(format!("users may not make user namespaces here: {why}"))
        }
        _ => e,
    }
}

/// Becomes the holder, in its namespaces. Returns only on failure.
fn become_holder(plan: &Plan, keep: Option<&OwnedFd>, ready: OwnedFd) -> Error {
    let fail = |e: Errno| Error::sys("starting the holder of the namespaces", e);
    let prepared = keep
        .map_or(Ok(()), |keep| fd::keep_on_exec(keep.as_raw_fd()))
        .and_then(|()| fd::keep_on_exec(ready.as_raw_fd()))
        .and_then(|()| if plan.stays { Ok(()) } else { prctl::set_parent_death_signal(libc::SIGKILL) });
    if let Err(e) = prepared {
        return fail(e);
    }
    let mut command = Command::new(program());
    command.arg(VERB).arg(ready.as_raw_fd().to_string()).args(plan.resolv_conf.as_deref());
    fail(command.exec().into())
}

/// `orund holder FD [RESOLV_CONF]`: prepares the namespaces that it is in, says so on FD, and waits for its end.
///
/// # Errors
/// The kernel's.
pub fn main(words: &[OsString]) -> Result<()> {
    let bad = || Error::new(Kind::Usage, "holder is for orund itself").hint("use \"orund serve\"");
    let (ready, resolv_conf) = match words {
        [ready] => (ready, None),
        [ready, file] => (ready, Some(file)),
        _ => return Err(bad()),
    };
    let ready: i32 = ready.to_str().and_then(|n| n.parse().ok()).ok_or_else(bad)?;
    let step =
        |what: &'static str| move |e: Errno| Error::sys(format!("preparing the namespaces: {what}"), e);
    // Mounts inside stay inside; later mounts of the host are seen.
    mount::set_propagation(c"/", libc::MS_SLAVE | libc::MS_REC).map_err(step("mounts of their own"))?;
    if let Some(file) = resolv_conf {
        let from = CString::new(file.as_bytes()).map_err(|_| bad())?;
        // A symbolic link, as systemd-resolved has it, is followed. A host without the file does not need it.
        let at = std::fs::canonicalize("/etc/resolv.conf").ok();
        let at = at.and_then(|at| CString::new(at.as_os_str().as_bytes()).ok());
        if let Some(at) = at {
            mount::mount(&from, &at, c"", libc::MS_BIND, c"").map_err(step("its own resolv.conf"))?;
        }
    }
    // A user namespace alone has no network of its own, and then the first write is refused.
    if cred::geteuid() == 0 && std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").is_ok() {
        netif::loopback_up().map_err(step("the loopback interface"))?;
    }
    prctl::set_name(c"orund-holder").map_err(step("its name"))?;
    prctl::setsid().map_err(step("a session"))?;
    fd::write_all(ready, READY).map_err(step("reporting that they are ready"))?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| Error::sys("opening /dev/null", e))?;
    for number in 0..=2 {
        fd::dup2(null.as_raw_fd(), number).map_err(step("its standard descriptors"))?;
    }
    fd::close_range(ready as u32, ready as u32).map_err(step("closing a pipe"))?;
    file::chdir(c"/").map_err(step("its directory"))?;
    loop {
        signalfd::pause();
    }
}
