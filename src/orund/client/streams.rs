//! Our end of the standard streams of a container, for `exec` and `attach`.

use std::io::Write;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::choose::Name;
use super::connection::{Call, Client};
use super::lookup;
use super::lookup::Target;
use crate::api::frame::Frame;
use crate::api::types::{List, ReplicaObject};
use crate::error::{Error, Kind, Result};
use crate::supervisor::shell::typing::read_keys;

pub fn lost(e: &impl std::fmt::Display) -> Error {
    Error::new(Kind::System, format!("lost the connection to the supervisor: {e}"))
}

/// The replica that is meant; of a workload, one that serves.
pub async fn target(client: &Client, name: &Name) -> Result<String> {
    if let Target::Replica(r) = lookup::target(client, name).await? {
        return Ok(r.name);
    }
    let name = &name.name;
    let call = Call::get("/v1/replicas").with("workload", name);
    let replicas = client.fetch::<List<ReplicaObject>>(call).await?.items;
    let found = replicas.iter().find(|r| r.ready).or(replicas.first());
    found.map(|r| r.name.clone()).ok_or_else(|| {
        Error::new(Kind::State, format!("workload {name:?} has no replica"))
            .hint(format!("`orund describe {name}` shows why"))
    })
}

/// Prints what the program writes, until it has exited.
pub async fn receive(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Result<u8> {
    loop {
        let written = match Frame::read(from).await.map_err(|e| lost(&e))? {
            Some(Frame::Stdout(bytes)) => {
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush())
            }
            Some(Frame::Stderr(bytes)) => std::io::stderr().lock().write_all(&bytes),
            Some(Frame::Exit(code)) => return Ok(code),
            Some(Frame::Error(text)) => return Err(Error::new(Kind::Program, text)),
            Some(_) => continue,
            None => return Err(lost(&"it was closed")),
        };
        match written {
            // The reader has left: with the connection the program loses its output, too.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(128 + libc::SIGPIPE as u8),
            r => r.map_err(|e| Error::sys("writing the output of the program", e))?,
        }
    }
}

/// Watches for a signal to us.
///
/// # Errors
/// The signal cannot be handled.
pub fn watch(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|e| Error::sys("waiting for signals", e))
}

/// Reads standard input in a thread of its own. An empty part is its end.
///
/// # Errors
/// The thread cannot be started.
pub fn standard_input() -> Result<mpsc::Receiver<Vec<u8>>> {
    let (keys, typed) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || read_keys(&keys))
        .map_err(|e| Error::sys("starting the thread that reads standard input", e))?;
    Ok(typed)
}

/// A standard input that is at its end.
pub fn closed_input() -> mpsc::Receiver<Vec<u8>> {
    let (keys, typed) = mpsc::channel(1);
    let _ = keys.try_send(Vec::new());
    typed
}
