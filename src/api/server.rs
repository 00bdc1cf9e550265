//! The listening end: the clients that may connect, how many at once, and how long a connection may idle.

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::api::context::Api;
use crate::api::routes;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::supervisor::shell::handle::Handle;
use crate::sys::peer;

/// Connections at once.
const MOST_CONNECTIONS: usize = 256;
/// Time for the head of a request; an idle connection is closed after it.
const HEAD: Duration = Duration::from_secs(30);
/// How long a client may leave what was sent to it unread. A reader of logs or a terminal may pause for longer: it
/// delays only itself.
const UNREAD: u32 = 15;
/// For those, seconds.
const PAUSED: u32 = 24 * 3600;
/// Bytes of a request's head.
const LONGEST_HEAD: usize = 64 << 10;

/// Listens on `path`, for root, the supervisor's own user and the socket's group. What a dead supervisor left there is
/// replaced.
///
/// # Errors
/// Another supervisor serves there; the socket cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let fail = |what: &str, e: io::Error| Error::sys(format!("{what} {path:?}"), e);
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            let e = Error::new(Kind::Exists, format!("{path:?} exists and is not a socket"));
            return Err(e.hint("give another path with --socket"));
        }
        if UnixStream::connect(path).is_ok() {
            let e = Error::new(Kind::Exists, format!("another supervisor uses the socket {path:?}"));
            return Err(e.hint("stop it first, or give another path with --socket"));
        }
        std::fs::remove_file(path).map_err(|e| fail("removing the old socket", e))?;
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| fail("making the directory of", e))?;
    }
    let listener = UnixListener::bind(path).map_err(|e| fail("listening on", e))?;
    // By descriptor: by now the path may be another user's symlink to any file.
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
    let own = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())
        .map_err(|e| fail("opening", e.into()))?;
    let name = format!("/proc/self/fd/{}", own.as_raw_fd());
    let meta = std::fs::metadata(&name).map_err(|e| fail("looking at", e))?;
    if !meta.file_type().is_socket() {
        return Err(Error::new(Kind::Exists, format!("{path:?} was replaced by something else")));
    }
    std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o660))
        .map_err(|e| fail("setting the mode of", e))?;
    Ok(listener)
}

/// Serves on `listener` in a thread of its own until the process ends.
///
/// # Errors
/// The thread cannot be made.
pub fn start(handle: Handle, listener: UnixListener) -> Result<()> {
    let fail = |e: io::Error| Error::sys("starting the thread of the API", e);
    listener.set_nonblocking(true).map_err(fail)?;
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(32)
            .thread_keep_alive(Duration::from_secs(5))
            .build();
        let served =
            runtime.map(|rt| rt.block_on(tokio::task::LocalSet::new().run_until(accept(handle, listener))));
        if let Err(e) = served.and_then(|r| r) {
            log::error(Error::sys("serving the API", e));
        }
    };
    std::thread::Builder::new().name("api".to_owned()).spawn(serve).map_err(fail)?;
    Ok(())
}

async fn accept(handle: Handle, listener: UnixListener) -> io::Result<()> {
    let group = group_of(&listener);
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let api = Rc::new(Api::new(handle));
    let open = Rc::new(Cell::new(0));
    let mut idle: VecDeque<Weak<Idle>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // As when descriptors run out: open connections continue, and this one is accepted later.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let refusal = match peer::credentials(&stream) {
            Ok(peer) if !allowed(&peer, group) => {
                let message = format!("user {} is not in the group {group} of the socket", peer.uid);
                Some(("403 Forbidden", "Forbidden", message))
            }
            // One that has sent no request gives way.
            Ok(_) if open.get() >= MOST_CONNECTIONS && !close_oldest(&mut idle) => {
                let message = format!("{MOST_CONNECTIONS} connections are open already");
                Some(("503 Service Unavailable", "Unavailable", message))
            }
            Ok(_) => None,
            // It has gone already.
            Err(_) => continue,
        };
        match refusal {
            Some((status, code, message)) => refuse(stream, status, code, &message).await,
            None => {
                let count = Counted::new(&open);
                let api = Rc::clone(&api);
                let state = Rc::new(Idle::default());
                idle.retain(|c| c.upgrade().is_some_and(|c| !c.busy.get()));
                idle.push_back(Rc::downgrade(&state));
                tokio::task::spawn_local(async move {
                    tokio::select! {
                        () = connection(api, stream, &state) => {}
                        () = state.close.notified() => {}
                    }
                    drop(count);
                });
            }
        }
    }
}

/// A connection, as long as no request has come on it.
#[derive(Default)]
struct Idle {
    busy: Cell<bool>,
    close: Notify,
}

/// Closes the connection that has waited for its first request for longest. False when there is none.
fn close_oldest(idle: &mut VecDeque<Weak<Idle>>) -> bool {
    while let Some(oldest) = idle.pop_front() {
        if let Some(oldest) = oldest.upgrade().filter(|c| !c.busy.get()) {
            oldest.close.notify_one();
            return true;
        }
    }
    false
}

/// One connection that is open.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(open: &Rc<Cell<usize>>) -> Counted {
        open.set(open.get() + 1);
        Counted(Rc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The group that may connect besides root.
fn group_of(listener: &UnixListener) -> u32 {
    let address = listener.local_addr().ok();
    let path = address.as_ref().and_then(|a| a.as_pathname());
    path.and_then(|p| std::fs::metadata(p).ok()).map_or(0, |m| m.gid())
}

fn allowed(peer: &peer::Credentials, group: u32) -> bool {
    let own = crate::sys::cred::geteuid();
    peer.uid == 0 || peer.uid == own || peer.gid == group || peer.groups.contains(&group)
}

async fn refuse(mut stream: tokio::net::UnixStream, status: &str, code: &str, message: &str) {
    let body = serde_json::json!({"code": code, "message": message}).to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // A new socket has space for this; a client that does not read misses it.
    let _ =
        tokio::time::timeout(Duration::from_millis(100), stream.write_all((head + &body).as_bytes())).await;
}

async fn connection(api: Rc<Api>, stream: tokio::net::UnixStream, state: &Rc<Idle>) {
    let patience = Arc::new(AtomicU32::new(UNREAD));
    let longer = Arc::clone(&patience);
    let state = Rc::clone(state);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        state.busy.set(true);
        let api = Rc::clone(&api);
        let pauses = routes::may_pause(request.uri().path());
        longer.store(if pauses { PAUSED } else { UNREAD }, Ordering::Relaxed);
        async move { Ok::<_, std::convert::Infallible>(routes::answer(&api, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .half_close(false)
        .keep_alive(false)
        .serve_connection(TokioIo::new(Impatient { stream, patience, waiting: None }), service)
        .with_upgrades()
        .await;
    // Garbage, a client that went away or stopped reading: it is its own business.
    drop(served);
}

/// A connection whose writes fail when the other side has not read for so long.
struct Impatient {
    stream: tokio::net::UnixStream,
    /// Seconds.
    patience: Arc<AtomicU32>,
    /// Since a write had to wait.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = Duration::from_secs(self.patience.load(Ordering::Relaxed).into());
        let sleep = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
