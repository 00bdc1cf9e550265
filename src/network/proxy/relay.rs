//! Bytes between two connections, both ways, until both directions are closed. What one peer does is done to the other: an
//! end of one direction, or a reset.

use super::io_error;
use crate::sys::splice;
use nix::sys::socket::{setsockopt, sockopt};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes that are read at once. A connection that is idle has no buffer of its own.
const CHUNK: usize = 64 << 10;
/// Pipes that bulk transfers have at most at a time: others copy. And those that are kept for the next.
const PIPES_MOST: usize = 64;
const PIPES_KEPT: usize = 16;
/// How many bytes a connection moves before others get a turn.
const TURN: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static PIPES: Cell<usize> = const { Cell::new(0) };
}

/// A pipe, counted.
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    fn take() -> Option<Pipe> {
        POOL.with_borrow_mut(Vec::pop).or_else(|| {
            let free = PIPES.get() < PIPES_MOST;
            let (out, into) = free.then(|| nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).ok())??;
            PIPES.set(PIPES.get() + 1);
            Some(Pipe { out, into })
        })
    }

    /// Keeps an empty one for the next.
    fn give_back(self) {
        POOL.with_borrow_mut(|pool| {
            if pool.len() < PIPES_KEPT {
                pool.push(self);
            }
        });
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.set(PIPES.get() - 1);
    }
}

/// Connects the two. `moved` gets the numbers of bytes that came from the client, and that went to it.
pub async fn relay(client: TcpStream, server: TcpStream, moved: impl Fn(u64, u64)) {
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        // A peer whose host has crashed would keep both forever.
        let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    }
    let both = async {
        tokio::try_join!(
            pump(&client, &server, |n| moved(n as u64, 0)),
            pump(&server, &client, |n| moved(0, n as u64))
        )
    };
    if both.await.is_err() {
        for stream in [&client, &server] {
            // Closed with bytes missing, they must not look complete.
            let _ = setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
        }
    }
}

/// Both ends of a busy connection are always ready: it would never wait for anything, and so keep all others waiting.
#[derive(Default)]
struct Turn(usize);

impl Turn {
    async fn moved(&mut self, bytes: usize) {
        self.0 += bytes;
        if self.0 >= TURN {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Result of a read.
enum Read {
    /// The end.
    End,
    /// So many bytes, of which these could not be written at once.
    Some(usize, Vec<u8>),
    NotReady,
}

async fn pump(from: &TcpStream, to: &TcpStream, count: impl Fn(usize)) -> io::Result<()> {
    let mut turn = Turn::default();
    loop {
        from.readable().await?;
        match pass(from, to)? {
            Read::End => break,
            Read::NotReady => {}
            Read::Some(n, rest) => {
                write_all(to, &rest).await?;
                count(n);
                turn.moved(n).await;
                if n == CHUNK && bulk(from, to, &count).await? {
                    break;
                }
            }
        }
    }
    // The peer may have closed already.
    shut_down(to);
    Ok(())
}

/// Reads once and writes what it can.
fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<Read> {
    BUFFER.with_borrow_mut(|buffer| {
        let n = match from.try_read(buffer) {
            Ok(0) => return Ok(Read::End),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Read::NotReady),
            Err(e) => return Err(e),
        };
        let written = match to.try_write(&buffer[..n]) {
            Ok(written) => written,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        Ok(Read::Some(n, buffer[written..n].to_vec()))
    })
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Moves bytes without copying them for as long as there are many. Whether the end was reached.
async fn bulk(from: &TcpStream, to: &TcpStream, count: &impl Fn(usize)) -> io::Result<bool> {
    let Some(pipe) = Pipe::take() else { return Ok(false) };
    let mut turn = Turn::default();
    loop {
        let read = from.try_io(Interest::READABLE, || {
            splice::splice(from.as_raw_fd(), pipe.into.as_raw_fd(), CHUNK).map_err(io_error)
        });
        let n = match read {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        let mut left = n;
        while left > 0 {
            to.writable().await?;
            let moved = to.try_io(Interest::WRITABLE, || {
                splice::splice(pipe.out.as_raw_fd(), to.as_raw_fd(), left).map_err(io_error)
            });
            match moved {
                Ok(moved) => left -= moved,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        count(n);
        turn.moved(n).await;
        if n < CHUNK / 4 {
            // Few, none for now, or the end: the next read finds out which.
            pipe.give_back();
            return Ok(false);
        }
    }
}

fn shut_down(stream: &TcpStream) {
    let _ = nix::sys::socket::shutdown(stream.as_raw_fd(), nix::sys::socket::Shutdown::Write);
}
