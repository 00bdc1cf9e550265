//! `exec`: our end of the process in a container.

use hyper::Method;
use hyper_util::rt::TokioIo;
use std::io::IsTerminal;
use tokio::io::{AsyncWrite, split};
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::mpsc;

use super::args::Exec;
use super::connection::{Call, Client, encoded};
use super::streams::{self, lost, receive, target};
use crate::api::frame::{Frame, PROTOCOL};
use crate::api::types::ExecRequest;
use crate::error::{Error, Kind, Result};
use crate::kernel::terminal::{self, Raw};

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

/// Sends what we read, signals that we get, and the size of our terminal.
fn send(
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    stdin: bool,
    tty: bool,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut resized = streams::watch(SignalKind::window_change())?;
    // With a terminal the keys are the program's, and only its own terminal makes signals of them.
    let mut passed: Vec<(u8, Signal)> = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
        passed.push((kind.as_raw_value() as u8, streams::watch(kind)?));
    }
    let mut typed = match (stdin, tty) {
        (true, _) => streams::standard_input()?,
        // No keys will be pressed.
        (false, true) => mpsc::channel(1).1,
        (false, false) => streams::closed_input(),
    };
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
