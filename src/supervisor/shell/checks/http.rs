//! `GET` over HTTP, as far as probes and hooks need it: what counts is the status.

use super::stream::Stream;
use super::{Outcome, Target, Unconnected, address, connect};
use crate::supervisor::core::spec::{Endpoint, HttpRequest};
use std::io;
use std::net::IpAddr;

/// How long the head of an answer may be, with those that only announce it.
const LONGEST_HEAD: usize = 16 << 10;
/// How often an answer may lead elsewhere.
const MOST_REDIRECTS: usize = 10;
/// Maximum number of body bytes to read from the connection, so that a server sees no reset.
const BODY: usize = 10 << 10;

/// A probe: any status from 200 to 399 is a success. It goes where the server sends it on the same host, as kubelet does.
pub async fn get(target: &Target, request: &HttpRequest) -> Outcome {
    let mut request = request.clone();
    for _ in 0..=MOST_REDIRECTS {
        let head = match exchange(target, &request).await {
            Ok(head) => head,
            Err(outcome) => return outcome,
        };
        match head.status {
            301 | 302 | 303 | 307 | 308 => match head.location.and_then(|to| follow(&request, &to)) {
                Some(next) => request = next,
                // It leads to another host, which says nothing about this one.
                None => return Outcome::Success,
            },
            200..=399 => return Outcome::Success,
            status => return Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Outcome::Failure(format!("stopped after {MOST_REDIRECTS} redirects"))
}

/// A hook: any answer will do.
pub async fn send(target: &Target, request: &HttpRequest) -> Outcome {
    exchange(target, request).await.map_or_else(|outcome| outcome, |_| Outcome::Success)
}

/// The relevant parts of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    location: Option<String>,
}

async fn exchange(target: &Target, request: &HttpRequest) -> Result<Head, Outcome> {
    let tcp = match connect(target, &request.endpoint).await {
        Ok(tcp) => tcp,
        Err(Unconnected::Socket(e)) => return Err(Outcome::Unknown(e)),
        Err(Unconnected::Refused(e)) => return Err(Outcome::Failure(e)),
    };
    let fail = |what: &str, e: io::Error| Outcome::Failure(format!("{what}: {e}"));
    let mut connection = match request.tls {
        true => Stream::secure(tcp, address(&request.endpoint).ip()).map_err(|e| fail("preparing TLS", e))?,
        false => Stream::plain(tcp),
    };
    connection.write_all(written(request).as_bytes()).await.map_err(|e| fail("sending the request", e))?;
    let head = answer(&mut connection).await?;
    let mut rest = [0; BODY];
    // Bytes that have not arrived yet are not waited for.
    connection.discard(&mut rest);
    Ok(head)
}

/// The request as text. Its parts were checked when the workload was applied.
fn written(request: &HttpRequest) -> String {
    let given = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut text = format!("GET {} HTTP/1.1\r\n", request.path);
    if !given("host") {
        text.push_str(&format!("Host: {}\r\n", super::address(&request.endpoint)));
    }
    if !given("user-agent") {
        text.push_str(concat!("User-Agent: kube-probe/orund-", env!("CARGO_PKG_VERSION"), "\r\n"));
    }
    if !given("accept") {
        text.push_str("Accept: */*\r\n");
    }
    for (name, value) in request.headers.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "Connection: close\r\n\r\n"
}

/// Reads the head of the answer, after those that only announce it.
async fn answer(connection: &mut Stream) -> Result<Head, Outcome> {
    let mut buf = Vec::new();
    let mut begin = 0;
    loop {
        if let Some(length) = end_of_head(&buf[begin..]) {
            let head = parse(&buf[begin..begin + length]).map_err(Outcome::Failure)?;
            if head.status >= 200 || head.status == 101 {
                return Ok(head);
            }
            begin += length;
            continue;
        }
        if buf.len() >= LONGEST_HEAD {
            return Err(Outcome::Failure(format!("the head of the answer exceeds {LONGEST_HEAD} bytes")));
        }
        let mut some = [0; 2048];
        match connection.read(&mut some).await {
            Ok(0) => return Err(Outcome::Failure("the connection was closed before the answer".to_owned())),
            Ok(n) => buf.extend_from_slice(&some[..n]),
            Err(e) => return Err(Outcome::Failure(format!("reading the answer: {e}"))),
        }
    }
}

/// Where the head ends, behind its empty line.
fn end_of_head(buf: &[u8]) -> Option<usize> {
    let of = |mark: &[u8]| buf.windows(mark.len()).position(|w| w == mark).map(|at| at + mark.len());
    [of(b"\r\n\r\n"), of(b"\n\n")].into_iter().flatten().min()
}

fn parse(head: &[u8]) -> Result<Head, String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).filter(|_| {
        first.as_bytes().get(8) == Some(&b' ') && first.as_bytes().get(12).is_none_or(|b| *b == b' ')
    });
    let status = status.and_then(|s| s.parse().ok()).filter(|s| (100..=999).contains(s));
    let Some(status) = status else {
        let shown: String = first.chars().take(40).collect();
        return Err(format!("not an answer of HTTP/1: {shown:?}"));
    };
    let location = lines.filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case("location"));
    Ok(Head { status, location: location.map(|(_, value)| value.trim().to_owned()) })
}

/// The request that `to` leads to. None: it is of another host, or of a scheme that is not spoken here.
fn follow(request: &HttpRequest, to: &str) -> Option<HttpRequest> {
    let clean = |path: &str| {
        let path = path.split('#').next().unwrap_or_default();
        path.bytes().all(|b| b.is_ascii_graphic()).then(|| path.to_owned())
    };
    let (endpoint, path) = match to.split_once("://") {
        Some((scheme, rest)) => {
            let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(at);
            let tls = scheme.eq_ignore_ascii_case("https");
            if !tls && !scheme.eq_ignore_ascii_case("http") {
                return None;
            }
            let port = same_host(request, authority, if tls { 443 } else { 80 })?;
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            let endpoint = Endpoint { port, ..request.endpoint.clone() };
            return Some(HttpRequest { endpoint, path: clean(&path)?, tls, ..request.clone() });
        }
        None if to.starts_with("//") => return None,
        None if to.starts_with('/') => (request.endpoint.clone(), to.to_owned()),
        None => {
            let own = request.path.split('?').next().unwrap_or("/");
            let dir = own.rfind('/').map_or("/", |at| &own[..=at]);
            (request.endpoint.clone(), format!("{dir}{to}"))
        }
    };
    Some(HttpRequest { endpoint, path: clean(&path)?, ..request.clone() })
}

/// The port of `authority` when it is the host of `request`; without one, `default`.
fn same_host(request: &HttpRequest, authority: &str, default: u16) -> Option<u16> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let own = super::address(&request.endpoint).ip();
    let same = host.parse::<IpAddr>().is_ok_and(|ip| ip == own);
    (same || (host.eq_ignore_ascii_case("localhost") && own.is_loopback())).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> HttpRequest {
        HttpRequest {
            endpoint: Endpoint { host: None, port: 8080 },
            path: path.to_owned(),
            headers: vec![("X-A".to_owned(), "b c".to_owned())],
            tls: false,
        }
    }

    #[test]
    fn a_request_has_the_headers_of_kubelet_and_those_of_the_file() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "GET /ok?x HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: kube-probe/orund-{version}\r\nAccept: */*\r\n\
             X-A: b c\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(written(&request("/ok?x")), expected);
        let own = HttpRequest { headers: vec![("host".to_owned(), "web".to_owned())], ..request("/") };
        assert!(written(&own).contains("\r\nhost: web\r\n") && !written(&own).contains("Host:"));
    }

    #[test]
    fn answers_are_read_or_refused() {
        let status = |text: &str| parse(text.as_bytes()).map(|h| h.status);
        assert_eq!(status("HTTP/1.1 200 OK\r\n\r\n"), Ok(200));
        assert_eq!(status("HTTP/1.0 503\n\n"), Ok(503));
        for bad in
            ["", "HTTP/2 200", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1  200", "SSH-2.0-x", "HTTP/1.1 +20 "]
        {
            assert!(status(bad).is_err(), "{bad:?}");
        }
        let moved = parse(b"HTTP/1.1 302 Found\r\nX: y\r\nLOCATION:  /there \r\n\r\n").unwrap();
        assert_eq!(moved, Head { status: 302, location: Some("/there".to_owned()) });
        assert_eq!(end_of_head(b"a\r\n\r\nb\n\n"), Some(5));
    }

    #[test]
    fn redirects_stay_on_the_host() {
        let to = |location: &str| follow(&request("/a/b?c"), location).map(|r| (r.endpoint.port, r.path));
        assert_eq!(to("/there"), Some((8080, "/there".to_owned())));
        assert_eq!(to("there#x"), Some((8080, "/a/there".to_owned())));
        assert_eq!(to("http://127.0.0.1:9090/x?y"), Some((9090, "/x?y".to_owned())));
        assert_eq!(to("http://localhost"), Some((80, "/".to_owned())));
        let secure = follow(&request("/"), "https://127.0.0.1/x").unwrap();
        assert_eq!((secure.tls, secure.endpoint.port, secure.path.as_str()), (true, 443, "/x"));
        for other in
            ["http://example.com/", "ftp://127.0.0.1/", "//127.0.0.1/", "http://127.0.0.1:x/", "/a\u{7}"]
        {
            assert_eq!(to(other), None, "{other}");
        }
    }
}
