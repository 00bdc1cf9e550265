//! The caller's keys and terminal for a container in the foreground.

use super::handle::{Handle, View};
use super::names;
use super::streams::Attached;
use crate::error::{Error, Result};
use crate::kernel::terminal::{self, Raw};
use crate::log;
use crate::supervisor::core::exit::ExitClass;
use crate::supervisor::core::model::{Observed, Phase};
use crate::sys::tty;
use crate::sys::watched::Watched;
use std::io::Read;
use std::os::fd::AsRawFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What of the caller's a container gets. Its output is the caller's, byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interactive {
    /// Its standard input is the caller's.
    pub stdin: bool,
    /// It has a terminal, of the size of the caller's.
    pub tty: bool,
}

/// How the only container exited, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, or 128 and the signal.
    pub code: Option<u8>,
    /// Why it could not be started.
    pub error: Option<String>,
}

impl Ended {
    /// From what is observed.
    pub fn note(&mut self, observed: &Observed) {
        let slots = observed.workloads.values().flat_map(|w| w.slots.values());
        let last = slots.flat_map(|s| s.history.values()).filter_map(|h| h.exits.back()).next_back();
        let Some(last) = last else { return };
        let status = last.status.filter(|_| !matches!(last.class, ExitClass::StartError { .. }));
        let code = status.and_then(|s| s.code().or(s.signal().map(|n| 128 + n)));
        self.code = code.and_then(|code| u8::try_from(code).ok());
        self.error.clone_from(&last.error);
    }
}

/// Connects the caller with the container once it runs. Returns when there is nothing more to pass on.
pub async fn interact(handle: Handle, workload: String, with: Interactive) {
    if let Err(e) = pass_on(&handle, &workload, with).await {
        log::warn(e);
    }
}

async fn pass_on(handle: &Handle, workload: &str, with: Interactive) -> Result<()> {
    let mut resized =
        signal(SignalKind::window_change()).map_err(|e| Error::sys("waiting for signals", e))?;
    // Before the program runs: keys that answer its first words must not reach the terminal's own line editing, or be flushed.
    let _raw = with.tty.then(|| if with.stdin { Raw::enter() } else { Raw::screen() });
    let (keys, mut typed) = mpsc::channel(1);
    if with.stdin {
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_keys(&keys))
            .map_err(|e| Error::sys("starting the thread that reads standard input", e))?;
    }
    let Some((id, attached)) = attached(handle, workload).await else { return Ok(()) };
    let once = attached.ends_input();
    let Attached { input, terminal, .. } = attached;
    let watched = input.map(Watched::new).transpose();
    let mut input = watched.map_err(|e| Error::sys("watching the input of a container", e))?;
    let size = || {
        if let (Some(terminal), Some((rows, columns))) = (&terminal, terminal::size()) {
            // A terminal whose program has exited has no size.
            let _ = tty::set_size(terminal.as_raw_fd(), rows, columns);
        }
    };
    size();
    loop {
        let bytes = tokio::select! {
            Some(bytes) = typed.recv() => bytes,
            Some(()) = next(&mut resized), if with.tty => {
                size();
                continue;
            }
            else => return Ok(()),
        };
        match input.as_ref().filter(|_| !bytes.is_empty()) {
            // A program that has exited, or closed its input, takes no more.
            Some(to) => {
                if to.write_all(&bytes).await.is_err() {
                    input = None;
                }
            }
            None => {
                input = None;
                if once {
                    handle.end_input(id.clone()).await;
                }
            }
        }
    }
}

async fn next(signal: &mut Signal) -> Option<()> {
    signal.recv().await
}

/// The container, as soon as its program runs; None: it never will.
async fn attached(handle: &Handle, workload: &str) -> Option<(String, Attached)> {
    let mut turns = handle.turns();
    loop {
        let find = |v: &View| {
            let runs = v.observed.instances().find(|(_, i)| i.phase == Phase::Running && i.exit.is_none());
            runs.map(|(key, _)| key)
        };
        if let Some(key) = handle.look(find).await.ok()? {
            let id = names::container_id(workload, key);
            let attached = handle.attach(id.clone()).await.ok()?;
            return attached.map(|attached| (id, attached));
        }
        turns.changed().await.ok()?;
    }
}

/// Standard input, part by part; an empty part at its end.
pub fn read_keys(to: &mpsc::Sender<Vec<u8>>) {
    let mut input = std::io::stdin().lock();
    let mut buf = [0; 8192];
    loop {
        let n = match input.read(&mut buf) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            r => r.unwrap_or(0),
        };
        if to.blocking_send(buf[..n].to_vec()).is_err() || n == 0 {
            return;
        }
    }
}
