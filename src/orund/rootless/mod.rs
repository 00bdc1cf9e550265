//! The supervisor of an ordinary user. It runs as root of a user namespace with a mount and a network namespace of its own, and does
//! there what root's supervisor does on the host: pods with a bridge, images with files of many owners, overlays.
//!
//! The process that the user starts stays outside. It opens ports of the host for the supervisor, passes signals on and
//! returns its exit code.

mod cgroup;
mod holder;
mod ids;
mod way_out;

pub use holder::{VERB, main};

use super::places;
use crate::error::{Errno, Error, Result};
use crate::log;
use crate::supervisor::core::ports::HostPort;
use crate::supervisor::shell::{listen, outside, program, settings};
use crate::sys::fd::{self as descriptor, PollFd};
use crate::sys::wait::Exit;
use crate::sys::{cred, exec, signalfd, socket, wait};
use holder::{Holder, Plan};
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The namespaces for files alone, and those for containers.
const FILES: i32 = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
const CONTAINERS: i32 = FILES | libc::CLONE_NEWNET;

/// The purpose of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It keeps containers running, also without itself.
    Serve,
    /// It runs containers that end with it.
    Run,
    /// It reads and writes images.
    Images,
}

/// Runs the command `words` in a user namespace, if an ordinary user calls: its exit code. None: this process continues itself.
///
/// # Errors
/// The namespaces cannot be made, or the program cannot be started.
pub fn enter(what: Use, words: &[OsString], run_dir: Option<&PathBuf>) -> Result<Option<u8>> {
    let uid = cred::geteuid();
    if uid == 0 {
        return Ok(None);
    }
    let dir = places::run(run_dir)?;
    places::make_run(&dir, uid)?;
    let signals = signalfd::take_all().map_err(|e| Error::sys("taking over signals", e))?;
    // A terminal stops and continues this process as every other job.
    signalfd::unblock(&[libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGCONT])
        .map_err(|e| Error::sys("leaving signals of the terminal alone", e))?;
    let holder = match what {
        Use::Serve => Holder::find(&dir, CONTAINERS),
        Use::Run | Use::Images => None,
    };
    let stays = what == Use::Serve;
    let holder = holder.map_or_else(|| make(what, &dir, uid), Ok)?;
    if stays {
        holder.remember(&dir)?;
    }
    let code = Outside::start(what, words, &holder).and_then(|mut outside| outside.run(&signals));
    // Containers that keep running need their namespaces.
    let has_containers = || settings::containers(&dir).read_dir().is_ok_and(|mut all| all.next().is_some());
    if !stays || !has_containers() {
        holder.end();
    }
    code.map(Some)
}

/// The parent of containers' cgroups: the one `given`, or the default of this user. Empty: they have none.
pub fn cgroup_parent(given: Option<&str>) -> String {
    match (given, std::env::var(cgroup::PARENT)) {
        (Some(path), _) => format!("/{}", path.trim_matches('/')),
        (None, Ok(path)) if outside::is_inside() => path,
        (None, _) => "/orund".to_owned(),
    }
}

/// Makes the namespaces.
fn make(what: Use, dir: &Path, uid: u32) -> Result<Holder> {
    let maps = ids::of_user(uid, cred::getegid());
    if ids::is_single(&maps) {
        log::warn(
            "containers have the ID of root alone, which is this user: for others, and for images with files of others, install \
             the package \"uidmap\" and grant the user ranges in /etc/subuid and /etc/subgid",
        );
    }
    let mut plan = Plan { kinds: FILES, maps, resolv_conf: None, stays: what == Use::Serve };
    if what == Use::Images {
        return Holder::make(&plan, None);
    }
    plan.kinds = CONTAINERS;
    let way_out = way_out::find();
    match &way_out {
        Some(_) => plan.resolv_conf = Some(way_out::resolv_conf(dir)?),
        None => way_out::warn_missing(),
    }
    let (exit, held) = descriptor::pipe().map_err(|e| Error::sys("making a pipe", e))?;
    let holder = Holder::make(&plan, Some(&held))?;
    drop(held);
    if let Some(program) = way_out
        && let Err(e) = way_out::start(&program, holder.pid, &exit)
    {
        log::warn(e.context("pods reach each other, but nothing outside"));
    }
    Ok(holder)
}

/// The program inside, as this process sees it.
struct Outside {
    child: i32,
    pidfd: OwnedFd,
    link: OwnedFd,
}

impl Outside {
    fn start(what: Use, words: &[OsString], holder: &Holder) -> Result<Outside> {
        let fail = |e: Errno| Error::sys("starting the supervisor in its namespaces", e);
        let (link, theirs) = socket::seqpacket_pair().map_err(fail)?;
        let mut command = Command::new(program());
        command.args(words).env(outside::LINK, "");
        if what != Use::Images {
            command.env(outside::LINK, theirs.as_raw_fd().to_string());
            let given = words.iter().any(|w| w.as_encoded_bytes().starts_with(b"--cgroup-parent"));
            let parent = if given { None } else { cgroup::find() };
            if !given && parent.is_none() {
                cgroup::warn_missing();
            }
            command.env(cgroup::PARENT, parent.unwrap_or_default());
            descriptor::keep_on_exec(theirs.as_raw_fd()).map_err(fail)?;
        }
        // They name this process.
        command.env_remove("WATCHDOG_PID");
        let own = std::process::id().to_string();
        if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own) {
            command.env("LISTEN_PID", "keeper");
        }
        let dir = std::env::current_dir().map_err(|e| Error::sys("asking for the current directory", e))?;
        let dir = CString::new(dir.into_os_string().into_vec()).map_err(|_| fail(Errno(libc::EINVAL)))?;
        let joined = holder.pidfd.try_clone().map_err(|e| fail(e.into()))?;
        exec::joining(&mut command, joined, holder.kinds, dir);
        let child = command.spawn().map_err(|e| fail(e.into()))?.id() as i32;
        let pidfd = wait::pidfd_open(child).map_err(fail)?;
        Ok(Outside { child, pidfd, link })
    }

    /// Serves the program until it ends: its exit code.
    fn run(&mut self, signals: &OwnedFd) -> Result<u8> {
        let fail = |e| Error::sys("waiting for the supervisor in its namespaces", e);
        let mut link = self.link.as_raw_fd();
        loop {
            let mut fds = [
                PollFd::new(self.pidfd.as_raw_fd(), libc::POLLIN),
                PollFd::new(signals.as_raw_fd(), libc::POLLIN),
                PollFd::new(link, libc::POLLIN),
            ];
            descriptor::poll(&mut fds, -1).map_err(fail)?;
            if fds[2].revents() != 0 && !answer(link) {
                link = -1;
            }
            while let Ok(Some(signal)) = signalfd::next(signals.as_raw_fd()) {
                // The program is in the same process group: it has what comes from the terminal.
                if !signal.by_kernel && signal.number != libc::SIGCHLD {
                    // It may just have exited.
                    let _ = wait::pidfd_send_signal(self.pidfd.as_raw_fd(), signal.number);
                }
            }
            if fds[0].revents() != 0 {
                let exit = wait::wait_pid(self.child, true).map_err(fail)?;
                return Ok(exit.map_or(1, Exit::code) as u8);
            }
        }
    }
}

/// Opens one port of the host for the program inside. Whether it may ask again.
fn answer(link: RawFd) -> bool {
    let mut question = [0; outside::MESSAGE];
    let Ok((n @ 1.., _)) = socket::receive(link, &mut question) else { return false };
    let host = serde_json::from_slice::<HostPort>(&question[..n]).map_err(|e| e.to_string());
    let sent = match host.and_then(|host| listen::open(&host, None, &[])) {
        Ok(opened) => socket::send(link, b"opened", Some(opened.as_raw_fd())),
        Err(reason) => socket::send(link, &reason.as_bytes()[..reason.len().min(outside::MESSAGE)], None),
    };
    sent.is_ok()
}
