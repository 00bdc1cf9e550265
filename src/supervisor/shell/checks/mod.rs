//! Hooks and probes. They are tasks of the loop, which wait for sockets and processes and have deadlines; none has a
//! thread of its own. What a container answers is read up to a limit: it may be hostile.
//!
//! Sockets are made in the network namespace of the container's first process, by a thread that enters it and ends.

mod exec;
mod grpc;
mod http;
mod stream;

use super::host::HostEffects;
use super::job::{JobResult, Name, Shared};
use crate::error::Errno;
use crate::supervisor::core::checks::{HookKind, ProbeKind};
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::ids::Key;
use crate::supervisor::core::model::Observed;
use crate::supervisor::core::spec::{ContainerSpec, Endpoint, Handler, Probe};
use crate::sys::clone;
use crate::sys::watched::Watched;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time;

/// How long a request of a hook may take. A program may run for as long as the container does.
const HOOK: Duration = Duration::from_secs(60);

/// The stack of a thread that only makes a socket.
const STACK: usize = 64 << 10;

/// A container that runs.
pub struct Target {
    pub name: Name,
    pub shared: Arc<Shared>,
    /// Its first process.
    pub pidfd: OwnedFd,
}

impl HostEffects {
    /// Runs a hook.
    pub fn hook(&mut self, key: Key, kind: HookKind, desired: &Desired, observed: &Observed) {
        let handler = container_spec(key, desired, observed).and_then(|c| c.hook(kind).cloned());
        let handler = handler.map(|h| self.at_pod(key, h));
        match (handler, self.target(key)) {
            (Some(handler), Some(target)) => self.task(async move {
                let error = run_hook(&target, &handler).await.err();
                JobResult::Hook { key, kind, error }
            }),
            _ => self.answers.push(Event::HookDone { key, kind, error: None }),
        }
    }

    /// Carries out a probe.
    pub fn probe(&mut self, key: Key, kind: ProbeKind, n: u32, desired: &Desired, observed: &Observed) {
        let spec = container_spec(key, desired, observed);
        let probe = spec.zip(observed.instance(&key)).and_then(|(c, i)| i.probe(c, kind).cloned());
        let probe = probe.map(|p| Probe { handler: self.at_pod(key, p.handler.clone()), ..p });
        match (probe, self.target(key)) {
            (Some(probe), Some(target)) => self.task(async move {
                let (ok, error) = run_probe(&target, &probe).await.parts();
                JobResult::Probed { key, kind, n, ok, error }
            }),
            _ => {
                let error = Some("the container no longer exists".to_owned());
                self.answers.push(Event::Probed { key, kind, n, ok: None, error });
            }
        }
    }

    /// Where its requests and connections go when the file names no host: to the pod's address, as kubelet's do, and within
    /// the pod to localhost when it has none.
    fn at_pod(&self, key: Key, mut handler: Handler) -> Handler {
        let address = self.pods.get(&key.of_replica()).and_then(|pod| pod.address).map(IpAddr::V4);
        match &mut handler {
            Handler::Http(request) => request.endpoint.host = request.endpoint.host.or(address),
            Handler::Tcp(endpoint) => endpoint.host = endpoint.host.or(address),
            Handler::Grpc(request) => request.endpoint.host = request.endpoint.host.or(address),
            Handler::Exec(_) | Handler::Sleep(_) => {}
        }
        handler
    }

    /// A container that hooks and probes can reach.
    fn target(&self, key: Key) -> Option<Target> {
        let live = self.live.get(&key.instance)?;
        Some(Target {
            name: live.name.clone(),
            shared: Arc::clone(&self.shared),
            pidfd: live.pidfd.as_ref()?.try_clone().ok()?,
        })
    }
}

/// The specification of a container, by the revision of its replica.
fn container_spec<'d>(key: Key, desired: &'d Desired, observed: &Observed) -> Option<&'d ContainerSpec> {
    let replica = observed.replica(key.workload, key.slot, key.replica)?;
    let template = desired.workloads.get(&key.workload)?.revisions.get(&replica.revision)?;
    template.containers.get(key.container as usize)
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// It counts as a failure.
    Failure(String),
    /// It could not run, which says nothing about the container.
    Unknown(String),
}

impl Outcome {
    /// As the core's event has it.
    pub fn parts(self) -> (Option<bool>, Option<String>) {
        match self {
            Outcome::Success => (Some(true), None),
            Outcome::Failure(error) => (Some(false), Some(error)),
            Outcome::Unknown(error) => (None, Some(error)),
        }
    }
}

/// Carries out a probe.
pub async fn run_probe(target: &Target, probe: &Probe) -> Outcome {
    let timeout = Duration::from_millis(probe.timeout.0);
    if let Handler::Exec(command) = &probe.handler {
        return exec::run(target, command, Some(timeout)).await;
    }
    let answer = async {
        match &probe.handler {
            Handler::Http(request) => http::get(target, request).await,
            Handler::Tcp(endpoint) => connect(target, endpoint).await.map(drop).into(),
            Handler::Grpc(request) => grpc::check(target, &request.endpoint, &request.service).await,
            Handler::Exec(_) | Handler::Sleep(_) => Outcome::Success,
        }
    };
    match time::timeout(timeout, answer).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!("no answer within {}", probe.timeout)),
    }
}

/// Runs a hook.
///
/// # Errors
/// It failed, or could not be run.
pub async fn run_hook(target: &Target, handler: &Handler) -> Result<(), String> {
    let outcome = match handler {
        Handler::Exec(command) => exec::run(target, command, None).await,
        Handler::Http(request) => time::timeout(HOOK, http::send(target, request))
            .await
            .map_or_else(|_| Outcome::Failure(format!("no answer within {} s", HOOK.as_secs())), Into::into),
        Handler::Tcp(endpoint) => time::timeout(HOOK, connect(target, endpoint))
            .await
            .map_or_else(|_| Outcome::Failure("no connection".to_owned()), |c| c.map(drop).into()),
        Handler::Grpc(request) => {
            time::timeout(HOOK, grpc::check(target, &request.endpoint, &request.service))
                .await
                .unwrap_or_else(|_| Outcome::Failure("no answer".to_owned()))
        }
        // The core waits by itself.
        Handler::Sleep(_) => Outcome::Success,
    };
    match outcome {
        Outcome::Success => Ok(()),
        Outcome::Failure(error) | Outcome::Unknown(error) => Err(error),
    }
}

/// Why there is no connection.
enum Unconnected {
    /// There is no process to signal.
    Socket(String),
    Refused(String),
}

impl From<Result<(), Unconnected>> for Outcome {
    fn from(result: Result<(), Unconnected>) -> Outcome {
        match result {
            Ok(()) => Outcome::Success,
            Err(Unconnected::Socket(e)) => Outcome::Unknown(e),
            Err(Unconnected::Refused(e)) => Outcome::Failure(e),
        }
    }
}

fn address(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), endpoint.port)
}

async fn connect(target: &Target, endpoint: &Endpoint) -> Result<TcpStream, Unconnected> {
    let to = address(endpoint);
    let fail = |e: io::Error| Unconnected::Socket(format!("making a socket in the container's network: {e}"));
    let socket = socket_inside(target, to.is_ipv6()).await.map_err(fail)?;
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    socket.connect(to).await.map_err(|e| Unconnected::Refused(format!("connecting to {to}: {e}")))
}

/// A socket in the network of the container. The thread that makes it does not leave that again, and ends.
async fn socket_inside(target: &Target, v6: bool) -> io::Result<OwnedFd> {
    let pidfd = target.pidfd.try_clone()?;
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("socket".to_owned()).stack_size(STACK).spawn(move || {
        let make = || {
            clone::setns(pidfd.as_raw_fd(), libc::CLONE_NEWNET)?;
            let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(family, SockType::Stream, flags, None).map_err(|e| Errno(e as i32))
        };
        // Nobody waits any more after the deadline.
        let _ = tell.send(make().map_err(|e| io::Error::from_raw_os_error(e.0)));
    })?;
    told.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}

/// Ends when the process has exited.
async fn exited(pidfd: &OwnedFd) {
    if let Ok(watched) = pidfd.try_clone().and_then(Watched::new) {
        // Without a loop there is nothing to wait for.
        let _ = watched.readable().await;
    }
}
