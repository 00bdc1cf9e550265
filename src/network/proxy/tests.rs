//! The proxy's parts with real sockets of the loopback interface.

use super::*;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

/// Runs `work` in a loop as the proxy has it.
fn in_loop<T>(work: impl AsyncFnOnce(&mut Proxy) -> T) -> T {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&tokio, async { work(&mut Proxy::new(1000)).await })
}

fn map(udp: bool, targets: &[SocketAddr]) -> Map {
    let (name, targets) = ("port".to_owned(), targets.to_vec());
    let routes = vec![MapRoute { name, udp, targets, affinity: None, proxy_protocol: false }];
    Map { routes, ..Map::default() }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server that sends `name` to each client.
fn server(name: &'static str) -> SocketAddr {
    let (listener, address) = listener();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            client.write_all(name.as_bytes()).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            // Closing with bytes unread would reset the connection.
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    address
}

/// A port that the proxy serves.
async fn publish(proxy: &mut Proxy, targets: &[SocketAddr]) -> SocketAddr {
    let (listener, address) = listener();
    proxy.waiting.insert("port".to_owned(), listener.into());
    proxy.serve(map(false, targets)).await;
    address
}

/// The greeting of a server that runs in a thread of its own.
fn ask(address: SocketAddr) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    })
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "it does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_replica_that_was_taken_out_gets_no_connection_that_began_before() {
    in_loop(async |proxy| {
        // One that accepts nothing: the queue of its socket is full.
        let (full, hangs) = listener();
        socket::listen(full.as_raw_fd(), 0).unwrap();
        let _queued = TcpStream::connect(hangs).unwrap();
        let (old, new) = (server("old"), server("new"));
        let port = publish(proxy, &[hangs, old]).await;
        let answer = ask(port);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!answer.is_finished(), "it tries the one that hangs");
        proxy.serve(map(false, &[new])).await;
        wait_for(|| answer.is_finished()).await;
        assert_eq!(answer.join().unwrap(), "new");
    });
}

#[test]
fn connections_that_wait_end_with_their_port_or_their_client() {
    in_loop(async |proxy| {
        let port = publish(proxy, &[]).await;
        let route = Rc::clone(&proxy.served["port"].route);
        let answer = ask(port);
        let clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(port).unwrap()).collect();
        wait_for(|| route.held.get() == 21).await;
        drop(clients);
        wait_for(|| route.held.get() == 1).await;
        proxy.serve(Map::default()).await;
        wait_for(|| answer.is_finished() && proxy.state.budget.used() == 0).await;
        assert_eq!(answer.join().unwrap(), "");
        assert!(TcpStream::connect(port).is_err(), "the port is closed");
    });
}

#[test]
fn a_client_that_has_closed_its_direction_still_gets_its_answer() {
    in_loop(async |proxy| {
        let port = publish(proxy, &[]).await;
        let mut client = TcpStream::connect(port).unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        proxy.serve(map(false, &[server("answer")])).await;
        let answer = std::thread::spawn(move || {
            let mut text = String::new();
            client.read_to_string(&mut text).map(|_| text)
        });
        wait_for(|| answer.is_finished()).await;
        assert_eq!(answer.join().unwrap().unwrap(), "answer");
    });
}

#[test]
fn a_busy_connection_leaves_others_their_turn() {
    in_loop(async |proxy| {
        let (source, address) = listener();
        std::thread::spawn(move || {
            // Never less than a chunk: the proxy always has something to read.
            let (mut stream, _) = source.accept().unwrap();
            while stream.write_all(&[0; 1 << 20]).is_ok() {}
        });
        let port = publish(proxy, &[address]).await;
        let mut busy = TcpStream::connect(port).unwrap();
        let sink = std::thread::spawn(move || {
            let mut buffer = vec![0; 4 << 20];
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end && busy.read(&mut buffer).is_ok_and(|n| n > 0) {}
        });
        wait_for(|| proxy.state.budget.used() > 0).await;
        let begin = Instant::now();
        let mut turns = 0;
        while begin.elapsed() < Duration::from_secs(1) {
            tokio::task::yield_now().await;
            turns += 1;
        }
        assert!(turns > 20, "{turns} turns of others");
        wait_for(|| sink.is_finished()).await;
    });
}

/// A server that answers each datagram with `name`.
fn udp_server(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((_, client)) = socket.recv_from(&mut [0; 64]) {
            socket.send_to(name.as_bytes(), client).unwrap();
        }
    });
    address
}

async fn answer(socket: &tokio::net::UdpSocket) -> String {
    socket.send(b"?").await.unwrap();
    let mut buffer = [0; 64];
    let n = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

#[test]
fn a_session_outlives_maps_and_ends_with_its_port() {
    in_loop(async |proxy| {
        let (a, b) = (udp_server("a"), udp_server("b"));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap();
        let client = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.connect(port).await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..6 {
            // Each map comes with a copy of the socket.
            proxy.waiting.insert("port".to_owned(), socket.try_clone().unwrap().into());
            proxy.serve(map(true, &[a, b])).await;
            answers.push(answer(&client).await);
        }
        assert!(answers.iter().all(|name| *name == answers[0]), "one replica serves it: {answers:?}");
        assert_eq!(proxy.state.budget.used(), 1, "one session");
        let other = if answers[0] == "a" { b } else { a };
        proxy.serve(map(true, &[other])).await;
        assert_ne!(answer(&client).await, answers[0], "its replica is gone");
        drop(socket);
        proxy.serve(Map::default()).await;
        assert_eq!(proxy.state.budget.used(), 0, "all sessions are over");
        UdpSocket::bind(port).unwrap();
    });
}

#[test]
fn forged_clients_do_not_keep_others_out() {
    in_loop(async |proxy| {
        let (silent, real) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), udp_server("real"));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap();
        proxy.waiting.insert("port".to_owned(), socket.into());
        proxy.serve(map(true, &[silent.local_addr().unwrap()])).await;
        let mut clients = Vec::new();
        for _ in 0..600 {
            let client = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            client.connect(port).await.unwrap();
            client.send(b"?").await.unwrap();
            clients.push(client);
            tokio::task::yield_now().await;
        }
        wait_for(|| proxy.state.budget.used() > 400).await;
        proxy.serve(map(true, &[real])).await;
        let client = clients.pop().unwrap();
        assert_eq!(answer(&client).await, "real");
    });
}

#[test]
fn what_a_port_does_is_counted() {
    in_loop(async |proxy| {
        let port = publish(proxy, &[]).await;
        let counts = |proxy: &Proxy| proxy.served["port"].route.counter.take();
        let answer = ask(port);
        wait_for(|| proxy.served["port"].route.held.get() == 1).await;
        let waiting = Counts { held: 1, waiting: 1, ..Counts::default() };
        assert_eq!(counts(proxy), Some(waiting));
        proxy.state.report.wait().await;
        assert_eq!(counts(proxy), None, "nothing has changed");
        proxy.serve(map(false, &[server("answer")])).await;
        wait_for(|| answer.is_finished() && proxy.state.open.get() == 0).await;
        assert_eq!(counts(proxy), Some(Counts { held: 1, accepted: 1, sent: 6, ..Counts::default() }));
        // Clients that leave are not refused, those whose port is closed are.
        let route = Rc::clone(&proxy.served["port"].route);
        proxy.serve(map(false, &[])).await;
        let gone = TcpStream::connect(port).unwrap();
        let stays = TcpStream::connect(port).unwrap();
        wait_for(|| route.held.get() == 2).await;
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&gone, nix::sys::socket::sockopt::Linger, &linger).unwrap();
        drop(gone);
        wait_for(|| route.held.get() == 1).await;
        assert_eq!(route.counter.take().map(|c| (c.held, c.waiting, c.refused)), Some((3, 1, 0)));
        proxy.serve(Map::default()).await;
        wait_for(|| route.held.get() == 0).await;
        assert_eq!(route.counter.take().map(|c| (c.held, c.waiting, c.refused)), Some((3, 0, 1)));
        drop(stays);
    });
}

#[test]
fn a_client_stays_with_its_replica_where_that_is_asked_for() {
    in_loop(async |proxy| {
        let targets = [server("a"), server("b"), server("c")];
        let mut map = map(false, &targets);
        map.routes[0].affinity = Some(100);
        let (listener, port) = listener();
        proxy.waiting.insert("port".to_owned(), listener.into());
        proxy.serve(map.clone()).await;
        let mut answers = Vec::new();
        for _ in 0..6 {
            let answer = ask(port);
            wait_for(|| answer.is_finished()).await;
            answers.push(answer.join().unwrap());
        }
        assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
        // Its replica is gone.
        map.routes[0].targets.remove(["a", "b", "c"].iter().position(|n| *n == answers[0]).unwrap());
        proxy.serve(map).await;
        let answer = ask(port);
        wait_for(|| answer.is_finished()).await;
        assert_ne!(answer.join().unwrap(), answers[0]);
    });
}

#[test]
fn a_replica_is_told_whose_connection_it_is() {
    in_loop(async |proxy| {
        let (listener, target) = listener();
        let server = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let mut map = map(false, &[target]);
        map.routes[0].proxy_protocol = true;
        let (published, port) = self::listener();
        proxy.waiting.insert("port".to_owned(), published.into());
        proxy.serve(map).await;
        let mut client = TcpStream::connect(port).unwrap();
        let from = client.local_addr().unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        wait_for(|| server.is_finished()).await;
        assert_eq!(server.join().unwrap(), [&header::version_2(from, port)[..], b"hello"].concat());
    });
}

#[test]
fn idle_clients_beyond_the_limit_keep_nobody_out() {
    // Two descriptors of each are in this process.
    sched::raise_limit(libc::RLIMIT_NOFILE).unwrap();
    in_loop(async |proxy| {
        // The test's loop has room for 1,000 descriptors: the rest waits in the kernel.
        let (waiting, idle) = listener();
        socket::listen(waiting.as_raw_fd(), 4096).unwrap();
        proxy.waiting.insert("port".to_owned(), waiting.into());
        proxy.serve(map(false, &[server("idle")])).await;
        let clients: Vec<TcpStream> = (0..1200).filter_map(|_| TcpStream::connect(idle).ok()).collect();
        wait_for(|| proxy.state.budget.used() >= 400).await;
        assert!(proxy.state.budget.used() <= 500, "half of all: {}", proxy.state.budget.used());
        let (listener, other) = listener();
        proxy.waiting.insert("other".to_owned(), listener.into());
        let mut both = map(false, &[server("idle")]);
        both.routes
            .push(MapRoute { name: "other".to_owned(), ..map(false, &[server("other")]).routes.remove(0) });
        proxy.serve(both).await;
        let answer = ask(other);
        wait_for(|| answer.is_finished()).await;
        assert_eq!(answer.join().unwrap(), "other");
        drop(clients);
    });
}

#[test]
fn no_file_is_read_but_those_of_resolvers() {
    let Ok(version) = crate::sys::landlock::version() else {
        println!("SKIP: the kernel has no Landlock");
        return;
    };
    let work = move || {
        crate::sys::prctl::set_no_new_privs().unwrap();
        super::read_only_resolvers().unwrap();
        let denied =
            |file: &str| std::fs::File::open(file).is_err_and(|e| e.raw_os_error() == Some(libc::EACCES));
        assert!(std::fs::File::open("/etc/hostname").is_ok() && version > 0);
        assert!(denied("/proc/self/environ") && denied("/usr") && denied("/proc/1/status"));
        // Connections are what it is for.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    };
    std::thread::spawn(work).join().unwrap();
}
