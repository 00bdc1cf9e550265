//! Talking to the supervisor: HTTP/1.1 on its socket.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::api::types::Failure;
use crate::error::{Errno, Error, Kind, Result};
use crate::orund::places;

/// How long a restart of the supervisor may take.
const RESTART: Duration = Duration::from_secs(60);
/// How long a supervisor that is being started may take until it listens.
const STARTING: Duration = Duration::from_secs(1);
/// Between two attempts to reach it.
const RETRY: Duration = Duration::from_millis(100);

/// The supervisor at the other end of a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// How long an answer may take to begin, and a whole one to arrive.
    patience: Duration,
}

/// Longer than a keeper takes to replace a supervisor that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    body: Vec<u8>,
    upgrade: Option<&'static str>,
}

impl Call {
    /// `path` begins with `/v1`.
    pub fn new(method: Method, path: impl Into<String>) -> Call {
        Call { method, path: path.into(), body: Vec::new(), upgrade: None }
    }

    pub fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    /// Adds a parameter.
    pub fn with(mut self, name: &str, value: &str) -> Call {
        let sign = if self.path.contains('?') { '&' } else { '?' };
        let _ = write!(self.path, "{sign}{name}={}", encoded(value));
        self
    }

    /// Adds a parameter that may be absent.
    pub fn with_some(self, name: &str, value: Option<&str>) -> Call {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds a parameter when it is true.
    pub fn flag(self, name: &str, value: bool) -> Call {
        if value { self.with(name, "true") } else { self }
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Call {
        self.body = body.into();
        self
    }

    pub fn json(self, body: &impl Serialize) -> Call {
        self.body(serde_json::to_vec(body).unwrap_or_default())
    }

    /// Asks for another protocol.
    pub fn upgrade(mut self, protocol: &'static str) -> Call {
        self.upgrade = Some(protocol);
        self
    }
}

/// All but the characters that RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Text as a part of a path or a parameter (RFC 3986).
pub fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

impl Client {
    /// The supervisor at `socket`; without one, at the usual place.
    pub fn new(socket: Option<PathBuf>) -> Client {
        Client { socket: self::socket(socket, false), patience: PATIENCE }
    }

    /// Sends a request and gives the answer as soon as its head has arrived.
    ///
    /// # Errors
    /// Nobody listens; the supervisor refuses, or does not answer ([`Kind::Timeout`]).
    pub async fn send(&self, call: Call) -> Result<Response<Incoming>> {
        self.in_time(self.ask(call)).await
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.patience, answer).await.unwrap_or_else(|_| {
            let what = format!(
                "the supervisor on {:?} has not answered for {} s",
                self.socket,
                self.patience.as_secs_f32()
            );
            Err(Error::new(Kind::Timeout, what).hint(
                "it may be stopped, or the host overloaded; its keeper replaces a supervisor that does not answer; \
                 `systemctl status orund` may say more",
            ))
        })
    }

    /// One that was started a moment ago does not listen yet.
    async fn connect(&self) -> std::io::Result<UnixStream> {
        let until = Instant::now() + STARTING.min(self.patience);
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(e)
                    if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
                        && Instant::now() < until =>
                {
                    tokio::time::sleep(RETRY / 2).await;
                }
                r => return r,
            }
        }
    }

    async fn ask(&self, call: Call) -> Result<Response<Incoming>> {
        let stream = self.connect().await.map_err(|e| self.unreachable(&e))?;
        let fail = |e: hyper::Error| {
            Error::new(Kind::System, format!("talking to the supervisor on {:?}: {e}", self.socket))
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(fail)?;
        // It ends with the answer's body; what fails there fails at the body, too.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        let mut request = Request::builder().method(call.method).uri(&call.path).header(HOST, "orund");
        if let Some(protocol) = call.upgrade {
            request = request.header(CONNECTION, "Upgrade").header(UPGRADE, protocol);
        }
        let request = request
            .body(Full::new(Bytes::from(call.body)))
            .map_err(|e| Error::new(Kind::Usage, format!("not a valid request: {e}")))?;
        let answer = sender.send_request(request).await.map_err(fail)?;
        if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(fail)?.to_bytes();
        Err(refused(status, &body))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As [`Client::send`]; an answer that is not as expected.
    pub async fn fetch<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let answer = self.send(call).await?;
        let body = self.in_time(async { Ok(answer.into_body().collect().await) }).await?;
        let body = body.map_err(|e| Error::new(Kind::System, format!("reading the answer: {e}")))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|e| {
            Error::new(Kind::System, format!("unexpected answer of the supervisor: {e}"))
                .hint("check that this program and the supervisor have the same version")
        })
    }

    /// As [`Client::fetch`], but `None` for what is not there.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn find<T: DeserializeOwned>(&self, call: Call) -> Result<Option<T>> {
        match self.fetch(call).await {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends a request whose answer is read line by line.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn lines(&self, call: Call) -> Result<Lines> {
        Ok(Lines { body: self.send(call).await?.into_body(), waiting: Vec::new(), start: 0 })
    }

    /// As [`Client::lines`] after the connection was lost: while the supervisor restarts, it is waited for, but not longer
    /// than [`RESTART`] and not beyond `deadline`.
    ///
    /// # Errors
    /// As [`Client::lines`].
    pub async fn lines_again(&self, call: Call, deadline: Instant) -> Result<Lines> {
        let until = deadline.min(Instant::now() + RESTART);
        loop {
            match self.lines(call.clone()).await {
                Err(e) if e.kind() == Kind::System && Instant::now() < until => {
                    tokio::time::sleep(RETRY).await;
                }
                r => return r,
            }
        }
    }

    /// As [`Client::lines_again`], for a stream without a deadline.
    ///
    /// # Errors
    /// As [`Client::lines`].
    pub async fn resume(&self, call: Call) -> Result<Lines> {
        self.lines_again(call, Instant::now() + RESTART).await
    }

    fn unreachable(&self, e: &std::io::Error) -> Error {
        let message = format!("cannot connect to orund at {:?}", self.socket);
        let errno = Errno(e.raw_os_error().unwrap_or(libc::EIO));
        match e.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::new(Kind::System, message)
                .hint("start it with `orund serve` or `systemctl start orund`, or set its socket with --socket or ORUND_SOCKET"),
            ErrorKind::PermissionDenied => Error::sys(format!("connecting to {:?}", self.socket), errno)
                .hint("only root and members of the socket's group have access: use sudo, or join the group"),
            _ => Error::sys(format!("connecting to {:?}", self.socket), errno),
        }
    }
}

/// The socket: the named one, that of the environment, or the default; `serves`: of the supervisor itself.
pub fn socket(named: Option<PathBuf>, serves: bool) -> PathBuf {
    let named = named.or_else(|| std::env::var_os("ORUND_SOCKET").map(PathBuf::from));
    named.unwrap_or_else(|| places::socket(serves))
}

fn refused(status: StatusCode, body: &[u8]) -> Error {
    let Ok(failure) = serde_json::from_slice::<Failure>(body) else {
        return Error::new(Kind::System, format!("the supervisor answered {status}"));
    };
    let kind = match failure.code.as_str() {
        "NotFound" => Kind::NotFound,
        "Conflict" => Kind::State,
        "Invalid" => Kind::Config,
        "BadRequest" => Kind::Usage,
        _ => Kind::System,
    };
    let e = Error::new(kind, failure.message);
    match failure.hint {
        Some(hint) => e.hint(hint),
        None => e,
    }
}

/// An answer, line by line.
pub struct Lines {
    body: Incoming,
    /// Received bytes; those from `start` on are not returned yet.
    waiting: Vec<u8>,
    start: usize,
}

impl Lines {
    /// The next line without its line feed; `None` at the end.
    ///
    /// # Errors
    /// The connection's.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let rest = &self.waiting[self.start..];
            if let Some(at) = rest.iter().position(|b| *b == b'\n') {
                let line = rest[..at].to_vec();
                self.start += at + 1;
                return Ok(Some(line));
            }
            self.waiting.drain(..self.start);
            self.start = 0;
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.waiting.extend(frame.into_data().unwrap_or_default()),
                Some(Err(e)) => {
                    let e = Error::new(Kind::System, format!("lost the connection to the supervisor: {e}"));
                    return Err(e.hint("`systemctl status orund` may show why"));
                }
            }
        }
    }

    /// The next line as an object.
    ///
    /// # Errors
    /// As [`Lines::next`]; a line that is not as expected.
    pub async fn object<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(line) = self.next().await? else { return Ok(None) };
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|e| Error::new(Kind::System, format!("unexpected answer of the supervisor: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_the_way() {
        let call = Call::get("/v1/logs").with("a", "x y/&=ä").flag("b", true).flag("c", false);
        assert_eq!(call.path, "/v1/logs?a=x%20y%2F%26%3D%C3%A4&b=true");
    }

    #[test]
    fn refusals_keep_their_words() {
        let body = br#"{"code":"NotFound","message":"no such workload","hint":"look"}"#;
        let e = refused(StatusCode::NOT_FOUND, body);
        assert_eq!((e.kind(), e.to_string().as_str()), (Kind::NotFound, "no such workload; hint: look"));
        assert!(refused(StatusCode::BAD_GATEWAY, b"<html>").to_string().contains("502"));
    }

    #[test]
    fn a_supervisor_that_does_not_answer_is_not_waited_for_in_vain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let client = Client { patience: Duration::from_millis(50), ..Client::new(Some(path)) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let e = runtime.block_on(client.send(Call::get("/version"))).unwrap_err();
        assert_eq!(e.kind(), Kind::Timeout);
        assert!(e.to_string().contains("has not answered for 0.05 s"), "{e}");
    }

    #[test]
    fn nobody_there_is_told_with_the_way_out() {
        let client = Client::new(Some("/nonexistent/orund.sock".into()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let e = runtime.block_on(client.send(Call::get("/version"))).unwrap_err().to_string();
        assert!(
            e.starts_with("cannot connect to orund at \"/nonexistent/orund.sock\"; hint: start it with"),
            "{e}"
        );
    }
}
