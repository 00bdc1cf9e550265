//! `exec`: our end of the process in a container.

use hyper::Method;
use hyper_util::rt::TokioIo;
use std::io::{IsTerminal, Write};
use tokio::io::{AsyncWrite, split};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::args::Exec;
use super::choose::Name;
use super::connection::{Call, Client, encoded};
use super::lookup;
use super::lookup::Target;
use crate::api::frame::{Frame, PROTOCOL};
use crate::api::types::{ExecRequest, List, ReplicaObject};
use crate::error::{Error, Kind, Result};
use crate::kernel::terminal::{self, Raw};
use crate::supervisor::shell::typing::read_keys;

/// `exec`; the program's exit code.
pub async fn exec(client: &Client, a: &Exec) -> Result<u8> {
    if a.tty && !std::io::stdin().is_terminal() && a.stdin {
        let e = Error::new(Kind::Usage, "standard input is not a terminal");
        return Err(e.hint("leave --tty out"));
    }
    let replica = target(client, &a.name).await?;
    let size = if a.tty { terminal::size() } else { None };
    let request = ExecRequest {
        container: a.container.clone(),
        command: a.command.clone(),
        tty: a.tty,
        size,
        env: a.env.clone(),
        cwd: a.workdir.clone(),
        user: a.user.clone(),
    };
    let path = format!("/v1/replicas/{}/exec", encoded(&replica));
    let call = Call::new(Method::POST, path).json(&request).upgrade(PROTOCOL);
    let answer = client.send(call).await?;
    let connection = hyper::upgrade::on(answer).await.map_err(|e| lost(&e))?;
    let (mut from, to) = split(TokioIo::new(connection));
    // The program's terminal processes its output, so that ours must not.
    let raw = a.tty.then(|| if a.stdin { Raw::enter() } else { Raw::screen() });
    let sending = tokio::spawn(send(to, a.stdin, a.tty)?);
    let code = receive(&mut from).await;
    sending.abort();
    drop(raw);
    code
}

pub fn lost(e: &impl std::fmt::Display) -> Error {
    Error::new(Kind::System, format!("the connection to the supervisor is lost: {e}"))
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
            .hint(format!("`orund describe {name}` says why"))
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
            r => r.map_err(|e| Error::sys("writing what the program printed", e))?,
        }
    }
}

/// Sends what we read, signals that we get, and the size of our terminal.
fn send(
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    stdin: bool,
    tty: bool,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let watch = |kind| signal(kind).map_err(|e| Error::sys("waiting for signals", e));
    let mut resized = watch(SignalKind::window_change())?;
    // With a terminal the keys are the program's, and only its own terminal makes signals of them.
    let mut passed: Vec<(u8, Signal)> = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
        passed.push((kind.as_raw_value() as u8, watch(kind)?));
    }
    let (keys, mut typed) = mpsc::channel(1);
    if stdin {
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_keys(&keys))
            .map_err(|e| Error::sys("starting the thread that reads standard input", e))?;
    } else if !tty {
        // Nothing will come. (A terminal just has no keys pressed.)
        let _ = keys.try_send(Vec::new());
    }
    Ok(async move {
        loop {
            let [(i, interrupt), (t, terminate), (h, hangup), (q, quit)] = &mut passed[..] else { return };
            let frame = tokio::select! {
                Some(bytes) = typed.recv() => Frame::Stdin(bytes),
                _ = resized.recv(), if tty => match terminal::size() {
                    Some((rows, columns)) => Frame::Resize(rows, columns),
                    None => continue,
                },
                _ = interrupt.recv() => Frame::Signal(*i),
                _ = terminate.recv() => Frame::Signal(*t),
                _ = hangup.recv() => Frame::Signal(*h),
                _ = quit.recv() => Frame::Signal(*q),
            };
            if frame.write(&mut to).await.is_err() {
                return;
            }
        }
    })
}
