//! Datagrams of one socket: each client has a session with one replica, for as long as it sends.

use super::budget::{Budget, Room};
use super::route::{Route, State};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// A session without datagrams ends after this.
const IDLE: Duration = Duration::from_secs(60);
/// How long the answers of a replica are still passed on after its client has been given another one.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Sessions of one socket at most, and the part of them that ends when there is room for no more.
const SESSIONS: usize = 4096;
const MAKE_ROOM: usize = 8;
/// The longest datagram.
const LONGEST: usize = 65_535;
/// How many datagrams are passed on before others get a turn.
const TURN: u32 = 64;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LONGEST]);
}

struct Session {
    target: SocketAddr,
    socket: UdpSocket,
    last: Cell<Instant>,
    /// The replica has answered: its client has not been forged.
    answered: Cell<bool>,
    /// It ends then, whatever happens.
    end: Cell<Option<Instant>>,
    wake: Notify,
    _room: Room,
}

impl Session {
    fn end_in(&self, delay: Duration) {
        self.end.set(Some(Instant::now() + delay));
        self.wake.notify_one();
    }

    fn ends(&self) -> Instant {
        let idle = self.last.get() + IDLE;
        self.end.get().map_or(idle, |end| end.min(idle))
    }
}

type Sessions = Rc<RefCell<HashMap<SocketAddr, Rc<Session>>>>;

/// Passes datagrams on until it is aborted; all sessions end with it.
pub async fn serve(state: Rc<State>, route: Rc<Route>, socket: UdpSocket) {
    let socket = Rc::new(socket);
    let sessions = Sessions::default();
    let mut tasks = JoinSet::new();
    let mut turn = 0;
    loop {
        while tasks.try_join_next().is_some() {}
        turn = (turn + 1) % TURN;
        if turn == 0 {
            tokio::task::yield_now().await;
        }
        if socket.readable().await.is_err() {
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        let received = BUFFER.with_borrow_mut(|buffer| {
            let (n, client) = socket.try_recv_from(buffer)?;
            let known = sessions.borrow().get(&client).filter(|s| s.end.get().is_none()).map(Rc::clone);
            Ok::<_, std::io::Error>(match known.filter(|s| route.has(&s.target)) {
                Some(session) => {
                    pass(&session, &buffer[..n]);
                    route.count(&state, |c| c.received += n as u64);
                    None
                }
                None => Some((client, buffer[..n].to_vec())),
            })
        });
        let Ok(Some((client, first))) = received else { continue };
        let Some(session) = begin(&state, &route, &sessions, client).await else { continue };
        pass(&session, &first);
        route.count(&state, |c| (c.accepted, c.received) = (c.accepted + 1, c.received + first.len() as u64));
        let old = sessions.borrow_mut().insert(client, Rc::clone(&session));
        if let Some(old) = old {
            old.end_in(LAST_ANSWERS);
        }
        let (socket, sessions) = (Rc::clone(&socket), Rc::clone(&sessions));
        let (state, route) = (Rc::clone(&state), Rc::clone(&route));
        tasks.spawn_local(async move {
            answers(&session, &socket, client, |n| route.count(&state, |c| c.sent += n as u64)).await;
            let mut sessions = sessions.borrow_mut();
            if sessions.get(&client).is_some_and(|s| Rc::ptr_eq(s, &session)) {
                sessions.remove(&client);
            }
        });
    }
}

/// Passes a datagram on. It may always be lost; a refusal means that no process listens.
fn pass(session: &Session, datagram: &[u8]) {
    session.last.set(Instant::now());
    match session.socket.try_send(datagram) {
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => session.end_in(Duration::ZERO),
        Ok(_) | Err(_) => {}
    }
}

async fn begin(state: &State, route: &Route, sessions: &Sessions, client: SocketAddr) -> Option<Rc<Session>> {
    let Some(target) = route.for_datagrams(client.ip()) else {
        route.count(state, |c| c.refused += 1);
        return None;
    };
    let take = || Budget::try_take(&state.budget, &route.share, 1);
    let room = match take().filter(|_| sessions.borrow().len() < SESSIONS) {
        Some(room) => room,
        None => {
            make_room(sessions);
            // They need a moment to end.
            tokio::task::yield_now().await;
            take()?
        }
    };
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(target).await.ok()?;
    // Else the first datagram would wait for the loop to find that it can be sent.
    socket.writable().await.ok()?;
    Some(Rc::new(Session {
        target,
        socket,
        last: Cell::new(Instant::now()),
        answered: Cell::new(false),
        end: Cell::new(None),
        wake: Notify::new(),
        _room: room,
    }))
}

/// Ends sessions: first those that no replica has answered, the oldest of them first.
fn make_room(sessions: &Sessions) {
    let mut sessions = sessions.borrow_mut();
    let mut all: Vec<_> =
        sessions.iter().map(|(client, s)| (s.answered.get(), s.last.get(), *client)).collect();
    all.sort_unstable();
    let count = all.len().div_ceil(MAKE_ROOM);
    for (_, _, client) in all.into_iter().take(count) {
        if let Some(session) = sessions.remove(&client) {
            session.end_in(Duration::ZERO);
        }
    }
}

/// Passes the answers of a replica on to the client, until the session is over.
async fn answers(session: &Session, to: &UdpSocket, client: SocketAddr, count: impl Fn(usize)) {
    let mut turn = 0;
    while Instant::now() < session.ends() {
        tokio::select! {
            ready = session.socket.readable() => if ready.is_err() { return },
            () = sleep_until(session.ends()) => continue,
            () = session.wake.notified() => continue,
        }
        let passed = BUFFER.with_borrow_mut(|buffer| {
            let n = session.socket.try_recv(buffer)?;
            session.last.set(Instant::now());
            session.answered.set(true);
            // A datagram may always be lost.
            let _ = to.try_send_to(&buffer[..n], client);
            count(n);
            Ok::<_, std::io::Error>(())
        });
        match passed {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
            Ok(()) => {}
        }
        turn = (turn + 1) % TURN;
        if turn == 0 {
            tokio::task::yield_now().await;
        }
    }
}
