//! `run`: create and start in one, and stay with the container unless detached.

use super::Runtime;
use super::container;
use super::create::{self, CreateOptions, Created};
use crate::error::Result;
use crate::kernel::foreground::{self, Signals};
use crate::kernel::hooks;
use crate::kernel::sd_notify::Proxy;
use crate::log;
use crate::state::lifecycle::Phase;
use crate::sys::prctl;
use std::os::fd::AsRawFd;

/// How `run` behaves beyond `create`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Do not wait for the container.
    pub detach: bool,
    /// Keep the state of a container that has exited.
    pub keep: bool,
    /// Leave orphans of the container to the current subreaper.
    pub no_subreaper: bool,
}

/// Runs the container `id`; the exit status of its program, or 0 when detached.
///
/// # Errors
/// As for `create` and `start`; the container is then gone.
pub fn run(rt: &Runtime, id: &str, options: &CreateOptions, run: RunOptions) -> Result<u8> {
    let options = CreateOptions { detached: run.detach, ..options.clone() };
    let signals = if run.detach { None } else { Some(Signals::take()?) };
    let made = create::make(rt, id, &options, false)?;
    let notify = match &rt.notify_socket {
        Some(manager) => match Proxy::bind(made.entry.fd(), manager) {
            Ok(notify) => notify,
            Err(e) => {
                made.destroy();
                return Err(e);
            }
        },
        None => None,
    };
    if !run.detach && !run.no_subreaper && !made.record.own_pid_namespace {
        // Without a pid namespace the container's orphans would come to the caller.
        let _ = prctl::set_child_subreaper(true);
    }
    let mut made = made.complete(Phase::Running, &options)?;
    let started = made.launch.until_running(&made.plan).and_then(|()| poststart(&made));
    if let Err(e) = started {
        made.destroy();
        return Err(e);
    }
    let Some(signals) = signals else {
        made.entry.unlock();
        let ready = notify.map_or(Ok(()), |n| n.until_ready(made.launch.pidfd.as_raw_fd(), made.launch.pid));
        // The container runs all the same.
        ready.unwrap_or_else(log::warn);
        return Ok(0);
    };
    // Other commands may act on the container as long as it runs.
    made.entry.unlock();
    let terminal = made.launch.terminal.take().filter(|_| options.console_socket.is_none());
    let exit = foreground::wait_for_exit(&made.launch.pidfd, &signals, terminal, notify);
    if !run.keep {
        made.finish();
    }
    // As for the rest of the launch: the process ends now.
    std::mem::forget(signals);
    exit.map(|e| e.code() as u8)
}

fn poststart(made: &Created) -> Result<()> {
    if made.record.poststart.is_empty() {
        return Ok(());
    }
    let document = container::hook_document(&made.record, "running", made.launch.pid);
    let mut all = made.record.poststart.iter().enumerate();
    all.try_for_each(|(i, h)| hooks::run("poststart", i, h, &made.record.bundle, &document))
}
