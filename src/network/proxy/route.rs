//! Connections of one listening socket: which replica takes each, and what happens while none does.

use super::budget::{Budget, Share};
use super::counts::{Counter, Counts, Report};
use super::stay::Stays;
use super::{header, relay};
use crate::error::Errno;
use crate::sys::fd::{self, PollFd};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long a connection waits for a replica that takes it.
const HOLD: Duration = Duration::from_secs(30);
/// How many wait at most at one port, and how many more of those whose client has closed its direction: it may have
/// sent its request and wait for the answer, or be gone.
const HELD_MOST: usize = 1024;
const HALF_CLOSED_MOST: u64 = 256;
/// How often a connection that waits is looked at: its client may have gone.
const WAITING_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a replica may take to accept, in the first round over all of them, in the second and in all others.
const CONNECT: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(1000), Duration::from_millis(3000)];
/// How long after a round in which every replica refused they are asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long after accept(2) has failed, as for want of descriptors, it is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Descriptors of a connection: the client's and the replica's.
const DESCRIPTORS: usize = 2;

/// State that all routes share.
pub struct State {
    /// Connections by target.
    load: RefCell<HashMap<SocketAddr, usize>>,
    pub(super) open: Cell<usize>,
    pub budget: Rc<Budget>,
    pub report: Report,
    changes: watch::Sender<u64>,
}

impl State {
    /// `descriptors`: how many connections may have.
    pub fn new(descriptors: usize) -> State {
        State {
            load: RefCell::default(),
            open: Cell::new(0),
            budget: Rc::new(Budget::new(descriptors)),
            report: Report::default(),
            changes: watch::channel(0).0,
        }
    }

    /// A new map is used: connections that wait for a replica look again.
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

/// Extra behaviour of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// How long a client stays with its replica.
    pub affinity: Option<Duration>,
    /// Connections begin with the address of the client: [`header::version_2`].
    pub proxy_protocol: bool,
}

/// Where the connections of a socket go.
pub struct Route {
    targets: RefCell<Vec<SocketAddr>>,
    options: Cell<Options>,
    stays: Stays,
    pub counter: Counter,
    turn: Cell<usize>,
    /// Connections that wait, and how many of all that did were half closed.
    pub(super) held: Cell<usize>,
    half_closed: Cell<u64>,
    /// No map has it any more.
    removed: Cell<bool>,
    pub share: Share,
}

impl Route {
    pub fn new(targets: Vec<SocketAddr>) -> Route {
        Route {
            targets: RefCell::new(targets),
            options: Cell::default(),
            stays: Stays::default(),
            counter: Counter::default(),
            turn: Cell::new(0),
            held: Cell::new(0),
            half_closed: Cell::new(0),
            removed: Cell::new(false),
            share: Share::default(),
        }
    }

    pub fn set_targets(&self, targets: Vec<SocketAddr>, options: Options) {
        self.targets.replace(targets);
        self.options.set(options);
    }

    pub fn count(&self, state: &State, change: impl FnOnce(&mut Counts)) {
        self.counter.count(&state.report, change);
    }

    /// Leads no connection anywhere any more. Those that wait are closed, those that have a replica live on.
    pub fn remove(&self) {
        self.removed.set(true);
        self.targets.take();
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

    /// All targets, those with the fewest connections first; before them that which the client has to stay with.
    fn by_load(&self, state: &State, client: IpAddr) -> Vec<SocketAddr> {
        let mut targets = self.in_turn();
        let own = self.sticky_replica(client);
        targets.sort_by_key(|t| (own != Some(*t), state.load(t)));
        targets
    }

    /// The target for a client's first datagram.
    pub fn for_datagrams(&self, client: IpAddr) -> Option<SocketAddr> {
        let targets = self.in_turn();
        let target =
            self.sticky_replica(client).filter(|own| targets.contains(own)).or(targets.first().copied())?;
        self.note(client, target);
        Some(target)
    }

    fn sticky_replica(&self, client: IpAddr) -> Option<SocketAddr> {
        self.options.get().affinity.and_then(|limit| self.stays.replica_of(client, limit))
    }

    fn note(&self, client: IpAddr, target: SocketAddr) {
        if let Some(limit) = self.options.get().affinity {
            self.stays.note(client, target, limit);
        }
    }
}

/// Takes connections until it is aborted. Those that it has taken live on.
pub async fn serve(state: Rc<State>, route: Rc<Route>, listener: TcpListener) {
    loop {
        // Until there is room for it a connection waits in the kernel.
        let room = Budget::take(&state.budget, &route.share, DESCRIPTORS).await;
        match listener.accept().await {
            Ok((client, from)) => {
                let (state, route) = (Rc::clone(&state), Rc::clone(&route));
                tokio::task::spawn_local(async move {
                    let _room = room;
                    connection(&state, &route, client, from).await;
                });
            }
            Err(_) => sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn connection(state: &State, route: &Route, client: TcpStream, from: SocketAddr) {
    let _open = Counted::new(&state.open);
    let Some((server, load)) = connect(state, route, &client, from.ip()).await else {
        // A client that is still there finds its connection closed.
        if !ends(&client).is_ok_and(|seen| seen & GONE != 0) {
            route.count(state, |c| c.refused += 1);
        }
        return;
    };
    route.note(from.ip(), load.1);
    let taken = Taken::new(state, route);
    if route.options.get().proxy_protocol {
        let port = client.local_addr().unwrap_or(from);
        // A new connection has room for it.
        if !server.try_write(&header::version_2(from, port)).is_ok_and(|n| n > 0) {
            return;
        }
    }
    relay::relay(client, server, |received, sent| {
        taken.0.count(taken.1, |c| (c.received, c.sent) = (c.received + received, c.sent + sent));
    })
    .await;
}

/// A connection that a replica has taken, in the counts.
struct Taken<'a>(&'a Route, &'a State);

impl<'a> Taken<'a> {
    fn new(state: &'a State, route: &'a Route) -> Taken<'a> {
        route.count(state, |c| (c.accepted, c.open) = (c.accepted + 1, c.open + 1));
        Taken(route, state)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.count(self.1, |c| c.open -= 1);
    }
}

/// A connection to a replica that takes it; None if none does in time.
async fn connect<'a>(
    state: &'a State,
    route: &Route,
    client: &TcpStream,
    from: IpAddr,
) -> Option<(TcpStream, Load<'a>)> {
    let end = Instant::now() + HOLD;
    let mut changes = state.changes.subscribe();
    let mut waiting = Waiting { state, route, counted: false, held: None, half_closed: None };
    let mut round = 0;
    loop {
        changes.mark_unchanged();
        let targets = route.by_load(state, from);
        for target in &targets {
            let limit = CONNECT[round.min(CONNECT.len() - 1)];
            if let Some(found) = reach(state, route, *target, limit).await {
                return Some(found);
            }
        }
        round += usize::from(!targets.is_empty());
        if route.removed.get() || Instant::now() >= end || !waiting.may_wait(client) {
            return None;
        }
        let again = Instant::now() + if targets.is_empty() { WAITING_CHECK_INTERVAL } else { AGAIN };
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(end.min(again)) => {}
        }
    }
}

/// A connection to `target`, unless it has been taken out of the map meanwhile: then it may be about to end.
async fn reach<'a>(
    state: &'a State,
    route: &Route,
    target: SocketAddr,
    limit: Duration,
) -> Option<(TcpStream, Load<'a>)> {
    if !route.has(&target) {
        return None;
    }
    let load = Load::new(state, target);
    let server = timeout(limit, TcpStream::connect(target)).await.ok()?.ok()?;
    route.has(&target).then_some((server, load))
}

/// A peer that has closed both directions, or reset its connection.
const GONE: i16 = libc::POLLERR | libc::POLLHUP;

/// Which directions of a connection are closed: poll(2).
fn ends(stream: &TcpStream) -> Result<i16, Errno> {
    let mut seen = [PollFd::new(stream.as_raw_fd(), libc::POLLRDHUP)];
    fd::poll(&mut seen, 0)?;
    Ok(seen[0].revents())
}

/// The place of a connection among those that wait.
struct Waiting<'a> {
    state: &'a State,
    route: &'a Route,
    counted: bool,
    held: Option<Counted<'a>>,
    /// Its number among the half closed.
    half_closed: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.route.count(self.state, |c| c.waiting -= 1);
        }
    }
}

impl Waiting<'_> {
    /// Whether a slot is free, and the other end is open.
    fn may_wait(&mut self, client: &TcpStream) -> bool {
        let may = self.find_place(client);
        if may && !self.counted {
            self.counted = true;
            self.route.count(self.state, |c| (c.held, c.waiting) = (c.held + 1, c.waiting + 1));
        }
        may
    }

    fn find_place(&mut self, client: &TcpStream) -> bool {
        let route = self.route;
        let Some(seen) = ends(client).ok().filter(|seen| seen & GONE == 0) else { return false };
        if seen & libc::POLLRDHUP != 0 {
            self.held = None;
            let number = *self.half_closed.get_or_insert_with(|| {
                route.half_closed.set(route.half_closed.get() + 1);
                route.half_closed.get()
            });
            return number + HALF_CLOSED_MOST > route.half_closed.get();
        }
        if self.held.is_none() && route.held.get() < HELD_MOST {
            self.held = Some(Counted::new(&route.held));
        }
        self.held.is_some()
    }
}
