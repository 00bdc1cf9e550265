//! `POST /v1/replicas/NAME/attach`: the standard streams of a container, at the other end of the connection.

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::{ReadHalf, split};

use crate::api::context::Api;
use crate::api::exec::{self, ready};
use crate::api::frame::Frame;
use crate::api::request;
use crate::api::respond::{Answer, Problem};
use crate::api::types::ReplicaObject;
use crate::api::view;
use crate::config::signals;
use crate::supervisor::shell::handle::{Handle, View};
use crate::supervisor::shell::logs::Stream;
use crate::supervisor::shell::names;
use crate::supervisor::shell::streams::Attached;
use crate::sys::tty;
use crate::sys::watched::Watched;

/// Header of the answer: `true` when the container has a terminal.
pub const TERMINAL: &str = "orun-terminal";
/// Header of the answer: `true` when its standard input can be written to.
pub const INPUT: &str = "orun-input";
/// How long to wait for the exit status once nothing more can be written.
const EXIT: Duration = Duration::from_secs(5);

/// Which container to attach to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AttachRequest {
    /// By name; the first one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Which container a client is attached to.
struct Whose {
    replica: String,
    id: String,
}

/// Answers the request: `101 Switching Protocols`, then frames.
pub async fn answer(api: &Api, replica: &str, mut request: Request<Incoming>) -> Result<Answer, Problem> {
    exec::require_upgrade(&request, "attach")?;
    let upgrade = hyper::upgrade::on(&mut request);
    let asked: AttachRequest = request::parse(&request::body(request).await?)?;
    let (id, _) = exec::container(api, replica, asked.container).await?;
    let attached = api.handle.attach(id.clone()).await?;
    let Some(mut attached) = attached else {
        let message = format!("the container of {replica} has exited");
        return Err(Problem::new(StatusCode::CONFLICT, "Conflict", message));
    };
    attached.tapped().await;
    let mut answer = exec::switching();
    for (name, is) in [(TERMINAL, attached.terminal.is_some()), (INPUT, attached.input.is_some())] {
        answer.headers_mut().insert(name, HeaderValue::from_static(if is { "true" } else { "false" }));
    }
    let (handle, whose) = (api.handle.clone(), Whose { replica: replica.to_owned(), id });
    tokio::task::spawn_local(async move {
        if let Ok(connection) = upgrade.await {
            serve(handle, &whose, attached, connection).await;
        }
    });
    Ok(answer)
}

/// Carries everything between the client and the container until one of both has gone.
async fn serve(handle: Handle, whose: &Whose, attached: Attached, connection: Upgraded) {
    let once = attached.ends_input();
    let Attached { input, terminal, mut output, .. } = attached;
    let (from, mut to) = split(TokioIo::new(connection));
    let mut client = tokio::task::spawn_local(listen(from, input, terminal));
    let mut last = None;
    loop {
        let (stream, bytes) = tokio::select! {
            piece = output.recv() => match piece {
                Some(piece) => piece,
                None => {
                    last = Some(end(&handle, whose).await);
                    break;
                }
            },
            _ = &mut client => break,
        };
        let frame = if stream == Stream::Stdout { Frame::Stdout(bytes) } else { Frame::Stderr(bytes) };
        if frame.write(&mut to).await.is_err() {
            break;
        }
    }
    // With it goes its descriptor of the input.
    if !client.is_finished() {
        client.abort();
        let _ = client.await;
    }
    if once {
        handle.end_input(whose.id.clone()).await;
    }
    if let Some(frame) = last {
        // The client may have left at the same moment.
        let _ = frame.write(&mut to).await;
    }
}

/// The last frame: how the container exited.
async fn end(handle: &Handle, whose: &Whose) -> Frame {
    let mut turns = handle.turns();
    let told = async {
        loop {
            let name = whose.replica.clone();
            let find = move |v: &View| view::replicas(v).into_iter().filter(|r| r.name == name).collect();
            let all: Vec<ReplicaObject> = handle.look(find).await.unwrap_or_default();
            let of_id = |r: &ReplicaObject| {
                r.containers.iter().any(|c| c.id.as_deref() == Some(&whose.id) && c.pid.is_some())
            };
            if !all.iter().any(of_id) {
                return all;
            }
            if turns.changed().await.is_err() {
                return Vec::new();
            }
        }
    };
    let Ok(all) = tokio::time::timeout(EXIT, told).await else {
        return Frame::Error("the output was not read fast enough: attach again".to_owned());
    };
    let index = names::key_of(&whose.id).map_or(0, |key| key.container as usize);
    let ended = all.iter().rev().find_map(|r| r.containers.get(index)?.exits.first());
    let code = ended.and_then(|e| {
        let signal = e.signal.as_deref().and_then(signals::number).map(|n| 128 + n);
        signal.or(e.exit_code).and_then(|code| u8::try_from(code).ok())
    });
    code.map_or_else(
        || Frame::Error("the container has exited, and its status is not known".to_owned()),
        Frame::Exit,
    )
}

/// Does what the client says, until it has gone.
async fn listen(mut from: ReadHalf<TokioIo<Upgraded>>, input: Option<OwnedFd>, terminal: Option<OwnedFd>) {
    let mut input: Option<Watched> = input.and_then(|fd| ready(fd).ok());
    while let Ok(Some(frame)) = Frame::read(&mut from).await {
        match frame {
            // Others may attach, and write more.
            Frame::Stdin(bytes) if bytes.is_empty() => input = None,
            Frame::Stdin(bytes) => {
                let Some(to) = &input else { continue };
                if to.write_all(&bytes).await.is_err() {
                    input = None;
                }
            }
            Frame::Resize(rows, columns) => {
                if let Some(terminal) = &terminal {
                    // A terminal whose program has exited has no size.
                    let _ = tty::set_size(terminal.as_raw_fd(), rows, columns);
                }
            }
            _ => return,
        }
    }
}
