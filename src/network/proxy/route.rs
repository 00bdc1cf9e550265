//! Connections of one listening socket: which replica takes each, and what happens while none does.

use super::relay;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long a connection waits for a replica that takes it.
const HOLD: Duration = Duration::from_secs(30);
/// How many wait at most.
const HELD_MOST: usize = 1024;
/// How long a replica may take to accept, in the first round over all of them, in the second and in all others.
const CONNECT: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(1000), Duration::from_millis(3000)];
/// How long after a round in which every replica refused they are asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long after accept(2) has failed, as for want of descriptors, it is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What all routes share.
pub struct State {
    /// Connections by target.
    load: RefCell<HashMap<SocketAddr, usize>>,
    held: Cell<usize>,
    open: Cell<usize>,
    changes: watch::Sender<u64>,
}

impl State {
    pub fn new() -> State {
        State {
            load: RefCell::default(),
            held: Cell::new(0),
            open: Cell::new(0),
            changes: watch::channel(0).0,
        }
    }

    /// A new map is used: whoever waits for a replica looks again.
    pub fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Waits until no connection is left, for `longest` at most.
    pub async fn drained(&self, longest: Duration) {
        let end = Instant::now() + longest;
        while self.open.get() > 0 && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn load(&self, target: &SocketAddr) -> usize {
        self.load.borrow().get(target).copied().unwrap_or(0)
    }
}

/// Counts as long as it lives.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(cell: &'a Cell<usize>) -> Counted<'a> {
        cell.set(cell.get() + 1);
        Counted(cell)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection that a target has.
struct Load<'a>(&'a State, SocketAddr);

impl<'a> Load<'a> {
    fn new(state: &'a State, target: SocketAddr) -> Load<'a> {
        *state.load.borrow_mut().entry(target).or_default() += 1;
        Load(state, target)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let mut load = self.0.load.borrow_mut();
        if let Some(n) = load.get_mut(&self.1) {
            *n -= 1;
            if *n == 0 {
                load.remove(&self.1);
            }
        }
    }
}

/// Where the connections of a socket go.
pub struct Route {
    targets: RefCell<Vec<SocketAddr>>,
    turn: Cell<usize>,
}

impl Route {
    pub fn new(targets: Vec<SocketAddr>) -> Route {
        Route { targets: RefCell::new(targets), turn: Cell::new(0) }
    }

    pub fn set_targets(&self, targets: Vec<SocketAddr>) {
        self.targets.replace(targets);
    }

    pub fn has(&self, target: &SocketAddr) -> bool {
        self.targets.borrow().contains(target)
    }

    /// All targets, each time beginning with the next one.
    pub fn in_turn(&self) -> Vec<SocketAddr> {
        let mut targets = self.targets.borrow().clone();
        if !targets.is_empty() {
            let turn = self.turn.get() % targets.len();
            self.turn.set(turn + 1);
            targets.rotate_left(turn);
        }
        targets
    }

    /// All targets, those with the fewest connections first.
    fn by_load(&self, state: &State) -> Vec<SocketAddr> {
        let mut targets = self.in_turn();
        targets.sort_by_key(|t| state.load(t));
        targets
    }
}

/// Takes connections until it is aborted. Those that it has taken live on.
pub async fn serve(state: Rc<State>, route: Rc<Route>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let (state, route) = (Rc::clone(&state), Rc::clone(&route));
                tokio::task::spawn_local(async move { connection(&state, &route, client).await });
            }
            Err(_) => sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn connection(state: &State, route: &Route, client: TcpStream) {
    let _open = Counted::new(&state.open);
    // A client that is not taken finds its connection closed.
    let Some((server, _load)) = connect(state, route).await else { return };
    relay::relay(client, server).await;
}

/// A connection to a replica that takes it; None if none does in time.
async fn connect<'a>(state: &'a State, route: &Route) -> Option<(TcpStream, Load<'a>)> {
    let end = Instant::now() + HOLD;
    let mut changes = state.changes.subscribe();
    let mut held = None;
    let mut round = 0;
    loop {
        changes.mark_unchanged();
        let targets = route.by_load(state);
        for target in &targets {
            let load = Load::new(state, *target);
            let limit = CONNECT[round.min(CONNECT.len() - 1)];
            if let Ok(Ok(server)) = timeout(limit, TcpStream::connect(*target)).await {
                return Some((server, load));
            }
            // It may have been taken out of the map meanwhile.
        }
        round += usize::from(!targets.is_empty());
        if held.is_none() {
            if state.held.get() >= HELD_MOST {
                return None;
            }
            held = Some(Counted::new(&state.held));
        }
        let again = if targets.is_empty() { end } else { end.min(Instant::now() + AGAIN) };
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(again) => {}
        }
        if Instant::now() >= end {
            return None;
        }
    }
}
