//! The resolver of each pod: sockets in the pod's network that answer for Services and their pods, and ask the host's
//! resolvers for everything else.

mod forward;
mod zone;

#[cfg(any(test, fuzzing))]
pub(crate) use zone::fuzz;

use super::budget::{Budget, Share};
use super::route::State;
pub use forward::FILE as RESOLVERS;
use std::cell::RefCell;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
pub use zone::Zone;
use zone::{Reply, UDP_SHORTEST};

/// The longest message, and how many are taken before others get a turn.
const LONGEST: usize = 65_535;
const TURN: u32 = 64;
/// Questions of one pod that others are asked at a time, and its connections: further ones fail or wait.
const ASKED_MOST: usize = 64;
const CONNECTIONS_MOST: usize = 16;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LONGEST]);
}

/// State that the resolvers of all pods share.
#[derive(Clone)]
pub struct Names {
    pub zone: Rc<RefCell<Zone>>,
    state: Rc<State>,
    upstream: Rc<forward::Upstream>,
    /// Of the pod that asks.
    networks: Rc<[String]>,
    /// The Compose project of the pod that asks.
    project: Option<Rc<str>>,
}

impl Names {
    pub fn new(state: Rc<State>) -> Names {
        let (zone, upstream) = (Rc::default(), Rc::default());
        Names { zone, state, upstream, networks: Rc::new([]), project: None }
    }

    /// Serves one socket of a pod that is in `networks`, and of `project`.
    pub fn serve(
        &self,
        udp: bool,
        socket: OwnedFd,
        networks: Vec<String>,
        project: Option<&str>,
    ) -> std::io::Result<JoinHandle<()>> {
        let names = Names { networks: networks.into(), project: project.map(Rc::from), ..self.clone() };
        Ok(if udp {
            let socket = tokio::net::UdpSocket::from_std(UdpSocket::from(socket))?;
            tokio::task::spawn_local(datagrams(names, Rc::new(socket)))
        } else {
            let listener = tokio::net::TcpListener::from_std(TcpListener::from(socket))?;
            tokio::task::spawn_local(connections(names, listener))
        })
    }

    /// The answer to a question, where that takes no waiting.
    fn answer(&self, query: &[u8], longest: usize) -> Reply {
        self.zone.borrow().answer(query, longest, &self.networks, self.project.as_deref())
    }
}

async fn datagrams(names: Names, socket: Rc<tokio::net::UdpSocket>) {
    let mut asked = JoinSet::new();
    let share = Share::default();
    let mut turn = 0;
    loop {
        turn = (turn + 1) % TURN;
        if turn == 0 {
            tokio::task::yield_now().await;
        }
        while asked.try_join_next().is_some() {}
        if socket.readable().await.is_err() {
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        let taken = BUFFER.with_borrow_mut(|buffer| {
            let (n, client) = socket.try_recv_from(buffer)?;
            match names.answer(&buffer[..n], UDP_SHORTEST) {
                Reply::None => {}
                // A datagram may always be lost.
                Reply::Known(answer) => drop(socket.try_send_to(&answer, client)),
                Reply::Ask => return Ok(Some((client, buffer[..n].to_vec()))),
            }
            Ok::<_, std::io::Error>(None)
        });
        let Ok(Some((client, query))) = taken else { continue };
        let room = Budget::try_take(&names.state.budget, &share, 1).filter(|_| asked.len() < ASKED_MOST);
        let Some(room) = room else {
            let _ = socket.try_send_to(&zone::failure(&query), client);
            continue;
        };
        let (names, socket) = (names.clone(), Rc::clone(&socket));
        asked.spawn_local(async move {
            let _room = room;
            let answer = names.upstream.ask(&query, false).await;
            let _ = socket.try_send_to(&answer.unwrap_or_else(|| zone::failure(&query)), client);
        });
    }
}

async fn connections(names: Names, listener: tokio::net::TcpListener) {
    let mut open = JoinSet::new();
    let share = Share::default();
    loop {
        while open.try_join_next().is_some() {}
        if open.len() >= CONNECTIONS_MOST {
            open.join_next().await;
        }
        // The client's, and that to another resolver.
        let room = Budget::take(&names.state.budget, &share, 2).await;
        match listener.accept().await {
            Ok((client, _)) => {
                let names = names.clone();
                open.spawn_local(async move {
                    let _room = room;
                    // Clients may leave at any time.
                    let _ = conversation(&names, client).await;
                });
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Answers one question after another.
async fn conversation(names: &Names, mut client: TcpStream) -> std::io::Result<()> {
    loop {
        let query = timeout(IDLE, receive(&mut client)).await??;
        let answer = match names.answer(&query, LONGEST) {
            Reply::None => return Ok(()),
            Reply::Known(answer) => answer,
            Reply::Ask => names.upstream.ask(&query, true).await.unwrap_or_else(|| zone::failure(&query)),
        };
        timeout(IDLE, send(&mut client, &answer)).await??;
    }
}

/// A message on a connection: its length, then itself (RFC 1035, 4.2.2).
async fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}
