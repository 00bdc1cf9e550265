//! `POST /v1/replicas/NAME/exec`: a process in a container, at the other end of the connection.
//!
//! The process is started by `orund oci exec`, a program of its own: joining a container changes the process that does
//! it, which must not be the supervisor.

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{Interest, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;

use crate::api::context::{Api, missing};
use crate::api::frame::{Frame, PROTOCOL};
use crate::api::request;
use crate::api::respond::{self, Answer, Problem, typed};
use crate::api::types::{ExecRequest, KillRequest, Role};
use crate::api::view;
use crate::config::quantity::Signal;
use crate::kernel::terminal::EndOfInput;
use crate::supervisor::shell::handle::View;
use crate::supervisor::shell::names;
use crate::sys::watched::Watched;
use crate::sys::{fd, socket, tty, wait};

/// How long the process may take to hand over its terminal.
const TERMINAL: Duration = Duration::from_secs(30);
/// How long to wait for output once the process has exited: others may hold it open forever.
const DRAIN: Duration = Duration::from_millis(200);
/// Bytes of output in a frame.
const CHUNK: usize = 32 << 10;

/// Answers the request: `101 Switching Protocols`, then frames.
pub async fn answer(api: &Api, replica: &str, mut request: Request<Incoming>) -> Result<Answer, Problem> {
    require_upgrade(&request, "exec")?;
    let upgrade = hyper::upgrade::on(&mut request);
    let mut exec: ExecRequest = request::parse(&request::body(request).await?)?;
    if exec.command.is_empty() {
        return Err(Problem::bad_request("command must not be empty"));
    }
    let (id, environment) = container(api, replica, exec.container.clone()).await?;
    exec.env.splice(..0, environment);
    let root = api.handle.runtime().store.root().to_owned();
    let process = start(&root, &id, &exec).map_err(|e| Problem::internal(format!("starting exec: {e}")))?;
    tokio::task::spawn_local(async move {
        match upgrade.await {
            Ok(connection) => serve(process, connection).await,
            Err(_) => process.abandon().await,
        }
    });
    Ok(switching())
}

/// Refuses a request that does not ask for frames. `verb`: for people.
pub fn require_upgrade(request: &Request<Incoming>, verb: &str) -> Result<(), Problem> {
    let asked = request.headers().get(UPGRADE).and_then(|v| v.to_str().ok());
    if asked == Some(PROTOCOL) {
        return Ok(());
    }
    let message = format!("{verb} needs the header \"Upgrade: {PROTOCOL}\"");
    Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "BadRequest", message))
}

/// The answer after which both sides send frames.
pub fn switching() -> Answer {
    let mut answer = typed(StatusCode::SWITCHING_PROTOCOLS, "application/octet-stream", Vec::new());
    *answer.headers_mut() = Response::<()>::default().headers().clone();
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer
}

/// `POST /v1/replicas/NAME/kill`: sends a signal to the first process of a container.
pub async fn kill(api: &Api, replica: &str, body: &[u8]) -> Result<Answer, Problem> {
    let request: KillRequest = request::parse(body)?;
    let Some(Signal(number)) = Signal::parse(&request.signal) else {
        return Err(Problem::bad_request(format!("{:?} is not a signal", request.signal)));
    };
    let (id, _) = container(api, replica, request.container).await?;
    let runtime = api.handle.runtime().clone();
    let killed =
        tokio::task::spawn_blocking(move || crate::runtime::kill::kill(&runtime, &id, number, false)).await;
    let killed = killed.map_err(|e| Problem::internal(e.to_string()))?;
    killed.map_err(|e| Problem::new(StatusCode::CONFLICT, "Conflict", e.to_string()))?;
    respond::json(&serde_json::json!({}))
}

/// The runtime's id of a container that runs, and what its replica adds to the environment.
pub async fn container(
    api: &Api,
    replica: &str,
    name: Option<String>,
) -> Result<(String, [String; 2]), Problem> {
    let wanted = replica.to_owned();
    let find = move |v: &View| view::replicas(v).into_iter().rfind(|r| r.name == wanted);
    let found = api.look(find).await?.ok_or_else(|| missing("replica", replica))?;
    let chosen = match &name {
        Some(name) => found.containers.iter().find(|c| c.name == *name),
        None => found.containers.iter().find(|c| c.role == Role::Main),
    };
    let Some(chosen) = chosen else {
        let names: Vec<&str> = found.containers.iter().map(|c| c.name.as_str()).collect();
        let message = format!("{replica} has no container {:?}", name.unwrap_or_default());
        let hint = format!("it has {}", names.join(", "));
        return Err(Problem::hinted(StatusCode::NOT_FOUND, "NotFound", message, &hint));
    };
    let id = chosen.id.clone().filter(|_| chosen.pid.is_some()).ok_or_else(|| {
        let message = format!("container {} of {replica} does not run: {}", chosen.name, found.phase);
        let hint = format!("`orund describe {replica}` shows why");
        Problem::hinted(StatusCode::CONFLICT, "Conflict", message, &hint)
    })?;
    Ok((id, names::environment(&found.workload, found.slot)))
}

/// The helper, and its ends of what the process reads and writes.
struct Process {
    child: Child,
    pidfd: OwnedFd,
    /// Where the terminal's master end comes from.
    console: Option<Console>,
    size: Option<(u16, u16)>,
}

/// A socket that is removed in the end.
struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn start(root: &std::path::Path, id: &str, exec: &ExecRequest) -> io::Result<Process> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("oci").arg("--root").arg(root).arg("exec");
    let console = match exec.tty {
        false => None,
        true => {
            let name = format!(".exec-{}-{}", std::process::id(), crate::sys::time::boottime_ns());
            let path = root.join(name);
            let listener = UnixListener::bind(&path)?;
            listener.set_nonblocking(true)?;
            command.arg("--tty").arg("--console-socket").arg(&path);
            Some(Console { listener, path })
        }
    };
    for var in &exec.env {
        command.arg("--env").arg(var);
    }
    if let Some(cwd) = &exec.cwd {
        command.arg("--cwd").arg(cwd);
    }
    if let Some(user) = &exec.user {
        command.arg("--user").arg(user);
    }
    command.arg(id).args(&exec.command);
    let stdin = if exec.tty { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    let pidfd = wait::pidfd_open(child.id() as i32).map_err(|e| io::Error::from_raw_os_error(e.0))?;
    Ok(Process { child, pidfd, console, size: exec.size })
}

impl Process {
    /// The client has left: the process loses its input and gets SIGHUP.
    async fn abandon(mut self) {
        drop(self.child.stdin.take());
        let _ = wait::pidfd_send_signal(self.pidfd.as_raw_fd(), libc::SIGHUP);
        drop(self.child.stdout.take());
        drop(self.child.stderr.take());
        self.reap().await;
    }

    /// The exit code, once it has exited.
    async fn reap(&mut self) -> u8 {
        if let Ok(pidfd) = self.pidfd.try_clone().and_then(Watched::new) {
            let _ = pidfd.readable().await;
        }
        use std::os::unix::process::ExitStatusExt;
        match self.child.wait() {
            Ok(status) => {
                status.code().or(status.signal().map(|n| 128 + n)).unwrap_or(255).try_into().unwrap_or(255)
            }
            Err(_) => 255,
        }
    }
}

type Writer = WriteHalf<TokioIo<Upgraded>>;

/// Carries everything between the client and the process until the process has exited.
async fn serve(mut process: Process, connection: Upgraded) {
    let (from, mut to) = split(TokioIo::new(connection));
    let (frames, output) = mpsc::channel(4);
    let input = match wire(&mut process, frames).await {
        Ok(input) => input,
        Err(said) => {
            for frame in said {
                if frame.write(&mut to).await.is_err() {
                    break;
                }
            }
            return;
        }
    };
    let pidfd = process.pidfd.try_clone();
    let mut client = tokio::task::spawn_local(listen(from, input, pidfd));
    let sent = send(&mut process, output, &mut to, &mut client).await;
    if sent.is_err() {
        client.abort();
        // A write to a pipe without reader kills the process; a terminal hangs up.
        process.abandon().await;
        return;
    }
    client.abort();
}

/// Where the client's input goes.
struct Input {
    stdin: Option<Watched>,
    terminal: Option<OwnedFd>,
    /// Presses the key that ends the input of a terminal.
    ending: Option<tokio::task::AbortHandle>,
}

impl Input {
    /// Nothing more comes from the client.
    fn end(&mut self) {
        self.stdin = None;
        let both = self.terminal.as_ref().map(|t| (t.try_clone(), tty::peer(t.as_raw_fd())));
        if let (Some((Ok(master), Ok(slave))), None) = (both, &self.ending) {
            let task = tokio::task::spawn_local(async move {
                let mut end = EndOfInput::begin();
                loop {
                    tokio::time::sleep(Duration::from_millis(end.wait())).await;
                    end.press(master.as_raw_fd(), slave.as_raw_fd());
                }
            });
            self.ending = Some(task.abort_handle());
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.ending.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// Connects the process's ends: its output becomes frames.
///
/// # Errors
/// The frames that say why there is nothing to connect.
async fn wire(process: &mut Process, frames: mpsc::Sender<Frame>) -> Result<Input, Vec<Frame>> {
    let fail = |e: io::Error| vec![Frame::Error(format!("exec: {e}"))];
    if let Some(console) = process.console.take() {
        return terminal(process, console, frames).await;
    }
    let stdin = process.child.stdin.take().map(|p| ready(OwnedFd::from(p))).transpose().map_err(fail)?;
    let stdout = process.child.stdout.take().map(|p| ready(OwnedFd::from(p))).transpose().map_err(fail)?;
    let stderr = process.child.stderr.take().map(|p| ready(OwnedFd::from(p))).transpose().map_err(fail)?;
    if let Some(stdout) = stdout {
        tokio::task::spawn_local(pump(stdout, frames.clone(), Frame::Stdout));
    }
    if let Some(stderr) = stderr {
        tokio::task::spawn_local(pump(stderr, frames, Frame::Stderr));
    }
    Ok(Input { stdin, terminal: None, ending: None })
}

/// What a process that has failed wrote. As without a terminal, its errors come on standard error.
async fn last_words(process: &mut Process) -> Vec<Frame> {
    let mut said = String::new();
    if let Some(stderr) = process.child.stderr.take() {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    vec![Frame::Stderr(said.into_bytes()), Frame::Exit(process.reap().await)]
}

/// Waits for the terminal that the process gets, or for the reason why there is none.
async fn terminal(
    process: &mut Process,
    console: Console,
    frames: mpsc::Sender<Frame>,
) -> Result<Input, Vec<Frame>> {
    let error = |text: &str| vec![Frame::Error(text.to_owned())];
    let fail = |e: io::Error| error(&format!("receiving the terminal: {e}"));
    let listener = console.listener.try_clone().and_then(tokio::net::UnixListener::from_std).map_err(fail)?;
    let ended = process.pidfd.try_clone().and_then(Watched::new).map_err(fail)?;
    let stream = tokio::select! {
        stream = listener.accept() => stream.map_err(fail)?.0,
        _ = ended.readable() => {
            return Err(last_words(process).await);
        }
        () = tokio::time::sleep(TERMINAL) => return Err(error("timed out waiting for the terminal")),
    };
    let receive = || {
        let mut buf = [0; 4096];
        socket::receive(stream.as_raw_fd(), &mut buf).map_err(|e| io::Error::from_raw_os_error(e.0))
    };
    // The descriptor comes with the message, so tokio cannot read it.
    let received = tokio::time::timeout(TERMINAL, stream.async_io(Interest::READABLE, receive)).await;
    let (_, master) = received.map_err(|_| error("timed out waiting for the terminal"))?.map_err(fail)?;
    let Some(master) = master else {
        // It has failed after it connected, and is about to exit.
        let over = tokio::time::timeout(TERMINAL, ended.readable()).await;
        return Err(if over.is_ok() {
            last_words(process).await
        } else {
            error("the terminal was not received")
        });
    };
    if let Some((rows, columns)) = process.size {
        // A terminal without a size keeps the one it has.
        let _ = tty::set_size(master.as_raw_fd(), rows, columns);
    }
    let reading = ready(master.try_clone().map_err(fail)?).map_err(fail)?;
    tokio::task::spawn_local(pump(reading, frames, Frame::Stdout));
    let stdin = ready(master.try_clone().map_err(fail)?).map_err(fail)?;
    Ok(Input { stdin: Some(stdin), terminal: Some(master), ending: None })
}

/// Makes a descriptor one that the loop can wait for.
pub fn ready(descriptor: OwnedFd) -> io::Result<Watched> {
    fd::set_nonblocking(descriptor.as_raw_fd()).map_err(|e| io::Error::from_raw_os_error(e.0))?;
    Watched::new(descriptor)
}

/// Makes frames of what can be read, until its end.
async fn pump(from: Watched, frames: mpsc::Sender<Frame>, frame: fn(Vec<u8>) -> Frame) {
    let mut buf = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buf) => read,
            () = frames.closed() => return,
        };
        match read {
            // A terminal without processes says EIO.
            Ok(0) | Err(_) => return,
            Ok(n) if frames.send(frame(buf[..n].to_vec())).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

/// Sends the output, and in the end the exit code.
///
/// # Errors
/// The client has gone.
async fn send(
    process: &mut Process,
    mut output: mpsc::Receiver<Frame>,
    to: &mut Writer,
    client: &mut tokio::task::JoinHandle<()>,
) -> io::Result<()> {
    let ended = Watched::new(process.pidfd.try_clone()?)?;
    loop {
        tokio::select! {
            frame = output.recv() => match frame {
                Some(frame) => frame.write(to).await?,
                None => break,
            },
            _ = ended.readable() => break,
            _ = &mut *client => return Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
    let code = process.reap().await;
    while let Ok(Some(frame)) = tokio::time::timeout(DRAIN, output.recv()).await {
        frame.write(to).await?;
    }
    Frame::Exit(code).write(to).await
}

/// Does what the client says, until it has gone.
async fn listen(mut from: ReadHalf<TokioIo<Upgraded>>, mut input: Input, pidfd: io::Result<OwnedFd>) {
    while let Ok(Some(frame)) = Frame::read(&mut from).await {
        match frame {
            Frame::Stdin(bytes) if bytes.is_empty() => input.end(),
            Frame::Stdin(bytes) => {
                let Some(stdin) = &input.stdin else { continue };
                if stdin.write_all(&bytes).await.is_err() {
                    input.stdin = None;
                }
            }
            Frame::Resize(rows, columns) => {
                if let Some(terminal) = &input.terminal {
                    let _ = tty::set_size(terminal.as_raw_fd(), rows, columns);
                }
            }
            Frame::Signal(number) => {
                if let Ok(pidfd) = &pidfd {
                    let _ = wait::pidfd_send_signal(pidfd.as_fd().as_raw_fd(), number.into());
                }
            }
            _ => return,
        }
    }
}
