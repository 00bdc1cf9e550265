//! `attach`: our end of the standard streams of a container.

use hyper::{HeaderMap, Method};
use hyper_util::rt::TokioIo;
use std::io::IsTerminal;
use tokio::io::{AsyncWrite, split};
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;

use super::args::Attach;
use super::connection::{Call, Client, encoded};
use super::keys::Detach;
use super::streams::{self, lost, receive, target};
use crate::api::attach::{AttachRequest, INPUT, TERMINAL};
use crate::api::frame::{Frame, PROTOCOL};
use crate::error::Result;
use crate::kernel::terminal::{self, Raw};

/// `attach`; the program's exit code, or 0 after detaching.
pub async fn attach(client: &Client, a: &Attach) -> Result<u8> {
    let replica = target(client, &a.name).await?;
    let request = AttachRequest { container: a.container.clone() };
    let path = format!("/v1/replicas/{}/attach", encoded(&replica));
    let call = Call::new(Method::POST, path).json(&request).upgrade(PROTOCOL);
    let answer = client.send(call).await?;
    let is = |headers: &HeaderMap, name: &str| headers.get(name).is_some_and(|v| v == "true");
    let (tty, open) = (is(answer.headers(), TERMINAL), is(answer.headers(), INPUT));
    let stdin = open && !a.no_stdin;
    let connection = hyper::upgrade::on(answer).await.map_err(|e| lost(&e))?;
    let (mut from, to) = split(TokioIo::new(connection));
    let typed = tty && stdin && std::io::stdin().is_terminal();
    if typed {
        eprintln!("attached to {replica}: press enter for a prompt, and the detach keys to leave");
    } else if !open && !a.no_stdin {
        eprintln!("attached to {replica}, whose standard input is closed: only output is shown");
    }
    // The program's terminal processes its output, so that ours must not.
    let raw = tty.then(|| if typed { Raw::enter() } else { Raw::screen() });
    let detach = typed.then(|| Detach { keys: a.detach_keys.0.clone(), typed: 0 });
    let mut sending = tokio::spawn(send(to, stdin, tty, detach)?);
    let code = tokio::select! {
        code = receive(&mut from) => code,
        // A connection that is lost is one for the receiver, too.
        Ok(true) = &mut sending => Ok(0),
    };
    sending.abort();
    drop(raw);
    code
}

/// Sends what we read, and the size of our terminal. True: it was left by its keys.
fn send(
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    stdin: bool,
    tty: bool,
    mut detach: Option<Detach>,
) -> Result<impl Future<Output = bool> + Send + 'static> {
    let mut resized = streams::watch(SignalKind::window_change())?;
    let mut typed = if stdin { streams::standard_input()? } else { mpsc::channel(1).1 };
    let size = move || terminal::size().filter(|_| tty).map(|(rows, columns)| Frame::Resize(rows, columns));
    let first = size();
    Ok(async move {
        if let Some(frame) = first
            && frame.write(&mut to).await.is_err()
        {
            return false;
        }
        loop {
            let (frame, left) = tokio::select! {
                Some(bytes) = typed.recv() => match detach.as_mut().filter(|_| !bytes.is_empty()) {
                    None => (Some(Frame::Stdin(bytes)), false),
                    Some(detach) => {
                        let (bytes, left) = detach.feed(&bytes);
                        (Some(bytes).filter(|b| !b.is_empty()).map(Frame::Stdin), left)
                    }
                },
                _ = resized.recv(), if tty => (size(), false),
                // Its input is closed, and it has no terminal: nothing more is sent.
                else => return false,
            };
            if let Some(frame) = frame
                && frame.write(&mut to).await.is_err()
            {
                return false;
            }
            if left {
                return true;
            }
        }
    })
}
