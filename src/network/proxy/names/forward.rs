//! Questions that the host's resolvers answer.

use super::zone::{question, set_id};
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// Where the host says which they are, and how many of them are used (resolv.conf(5)).
pub const FILE: &str = "/etc/resolv.conf";
const SERVERS_MOST: usize = 3;
/// How long one of them may take, and all together: programs ask again after five seconds.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);
const ALL_SERVERS_TIMEOUT: Duration = Duration::from_millis(4500);
/// How often the file is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
const PORT: u16 = 53;
/// `SERVFAIL` and `REFUSED`: another one may know.
const NO_HELP: [u8; 2] = [2, 5];

/// The host's resolvers.
pub struct Upstream {
    file: String,
    port: u16,
    servers: RefCell<Vec<IpAddr>>,
    looked: Cell<Option<Instant>>,
    /// Inode, and when it was changed: seconds and nanoseconds.
    version: Cell<Option<(u64, i64, i64)>>,
    random: RandomState,
    count: Cell<u64>,
}

impl Default for Upstream {
    fn default() -> Upstream {
        Upstream::new(FILE, PORT)
    }
}

impl Upstream {
    pub fn new(file: &str, port: u16) -> Upstream {
        Upstream {
            file: file.to_owned(),
            port,
            servers: RefCell::default(),
            looked: Cell::new(None),
            version: Cell::new(None),
            random: RandomState::new(),
            count: Cell::new(0),
        }
    }

    /// The answer of a resolver of the host; None if none answers in time.
    pub async fn ask(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        question(query)?;
        let end = Instant::now() + ALL_SERVERS_TIMEOUT;
        let mut last = None;
        let servers = self.servers();
        for server in servers.iter().chain(&servers) {
            let until = end.min(Instant::now() + SERVER_TIMEOUT);
            let asked = async {
                match tcp {
                    true => self.by_connection(query, *server).await,
                    false => self.by_datagram(query, *server).await,
                }
            };
            match timeout_at(until, asked).await {
                Ok(Ok(answer)) if !NO_HELP.contains(&(answer[3] & 0x0f)) => return Some(answer),
                Ok(Ok(answer)) => last = Some(answer),
                Ok(Err(_)) | Err(_) => {}
            }
            if Instant::now() >= end {
                break;
            }
        }
        last
    }

    /// From a separate port, with a random ID: packets of others are not accepted as the answer.
    async fn by_datagram(&self, query: &[u8], server: IpAddr) -> std::io::Result<Vec<u8>> {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(SocketAddr::new(server, self.port)).await?;
        let mut own = query.to_vec();
        set_id(&mut own, self.number());
        socket.send(&own).await?;
        loop {
            socket.readable().await?;
            let answer = super::BUFFER.with_borrow_mut(|buffer| match socket.try_recv(buffer) {
                Ok(n) => Ok(Some(buffer[..n].to_vec())),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
                Err(e) => Err(e),
            })?;
            if let Some(answer) = answer.and_then(|answer| accept(answer, &own, query)) {
                return Ok(answer);
            }
        }
    }

    async fn by_connection(&self, query: &[u8], server: IpAddr) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(SocketAddr::new(server, self.port)).await?;
        let mut own = query.to_vec();
        set_id(&mut own, self.number());
        super::send(&mut stream, &own).await?;
        let answer = super::receive(&mut stream).await?;
        accept(answer, &own, query).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }

    fn number(&self) -> u16 {
        self.count.set(self.count.get() + 1);
        self.random.hash_one(self.count.get()) as u16
    }

    /// The addresses in the file, which is read again when it has changed.
    fn servers(&self) -> Vec<IpAddr> {
        let now = Instant::now();
        if self.looked.get().is_none_or(|at| now >= at + RELOAD_INTERVAL) {
            self.looked.set(Some(now));
            let version = std::fs::metadata(&self.file).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
            if version.is_none() || version != self.version.get() {
                self.version.set(version);
                self.servers.replace(read(&std::fs::read_to_string(&self.file).unwrap_or_default()));
            }
        }
        self.servers.borrow().clone()
    }
}

/// The servers that a resolv.conf names; without any it is the host itself.
fn read(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let word = words.next().filter(|key| *key == "nameserver").and(words.next())?;
        // An address of a link needs its interface, which a pod's question does not change.
        word.parse().ok()
    };
    let mut servers: Vec<IpAddr> = text.lines().filter_map(server).take(SERVERS_MOST).collect();
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers
}

/// The answer with the number of the client's question, if it is one to ours.
fn accept(mut answer: Vec<u8>, own: &[u8], query: &[u8]) -> Option<Vec<u8>> {
    let is_answer = answer.get(..2)? == own.get(..2)? && answer.get(2)? & 0x80 != 0 && answer.len() >= 12;
    let same = question(&answer)?.eq_ignore_ascii_case(question(own)?);
    (is_answer && same).then(|| {
        answer[..2].copy_from_slice(&query[..2]);
        answer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_the_file_or_the_host_itself() {
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 1.1.1.1\nnameserver ::1\nnameserver x\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n";
        let expected: Vec<IpAddr> = ["1.1.1.1", "::1", "2.2.2.2"].map(|a| a.parse().unwrap()).into();
        assert_eq!(read(text), expected);
        assert_eq!(read(""), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }

    #[test]
    fn only_an_answer_to_the_question_is_taken() {
        let query =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02io\x00\x00\x01\x00\x01".to_vec();
        let mut own = query.clone();
        set_id(&mut own, 0x5678);
        let mut answer = own.clone();
        assert_eq!(accept(answer.clone(), &own, &query), None, "a question");
        answer[2] |= 0x80;
        assert_eq!(accept(answer.clone(), &own, &query).unwrap()[..2], query[..2]);
        let mut forged = answer.clone();
        set_id(&mut forged, 0x5679);
        assert_eq!(accept(forged, &own, &query), None, "another number");
        let mut forged = answer.clone();
        forged[13] = b'b';
        assert_eq!(accept(forged, &own, &query), None, "another name");
        answer.truncate(20);
        assert_eq!(accept(answer, &own, &query), None);
    }
}
