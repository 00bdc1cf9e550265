//! Datagrams of one socket: each client has a session with one replica, for as long as it sends.

use super::route::Route;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

/// A session without datagrams ends after this.
const IDLE: Duration = Duration::from_secs(60);
/// Sessions of one socket at most: further clients find no replica.
const SESSIONS: usize = 4096;
/// The longest datagram.
const LONGEST: usize = 65_535;

struct Session {
    target: SocketAddr,
    socket: UdpSocket,
    last: Cell<Instant>,
    over: Cell<bool>,
}

/// Passes datagrams on until it is aborted.
pub async fn serve(route: Rc<Route>, socket: Rc<UdpSocket>) {
    let mut sessions: HashMap<SocketAddr, Rc<Session>> = HashMap::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let Ok((n, client)) = socket.recv_from(&mut buffer).await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let live = |s: &Rc<Session>| !s.over.get() && route.has(&s.target);
        let known = sessions.get(&client).filter(|s| live(s)).map(Rc::clone);
        let session = match known {
            Some(session) => session,
            None => {
                if sessions.len() >= SESSIONS {
                    sessions.retain(|_, s| live(s));
                }
                if sessions.len() >= SESSIONS {
                    continue;
                }
                let Some(session) = begin(&route).await else { continue };
                tokio::task::spawn_local(answers(Rc::clone(&session), Rc::clone(&socket), client));
                sessions.insert(client, Rc::clone(&session));
                session
            }
        };
        session.last.set(Instant::now());
        // A datagram may always be lost; a refusal means that nobody listens.
        if session.socket.send(&buffer[..n]).await.is_err() {
            session.over.set(true);
        }
    }
}

async fn begin(route: &Route) -> Option<Rc<Session>> {
    let target = route.in_turn().first().copied()?;
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(target).await.ok()?;
    Some(Rc::new(Session { target, socket, last: Cell::new(Instant::now()), over: Cell::new(false) }))
}

/// Passes the answers of a replica on to the client.
async fn answers(session: Rc<Session>, to: Rc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; LONGEST];
    while !session.over.get() {
        match timeout_at(session.last.get() + IDLE, session.socket.recv(&mut buffer)).await {
            Ok(Ok(n)) => {
                session.last.set(Instant::now());
                let _ = to.send_to(&buffer[..n], client).await;
            }
            Ok(Err(_)) => break,
            Err(_) if session.last.get() + IDLE <= Instant::now() => break,
            Err(_) => {}
        }
    }
    session.over.set(true);
}
