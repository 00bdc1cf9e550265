//! `dashboard`: a page for a browser on this host, served by the client itself, so that the supervisor opens no port.
//!
//! It can only look: everything but GET is refused, and what the page gets is composed here, without specifications of
//! workloads, whose variables may hold passwords. The caller's token is asked for with every request; other users of the
//! host can connect to the port, too. The page comes from one file, and its policy allows no script but its own.

mod data;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use super::args::Dashboard;
use super::connection::{Call, Client};
use super::print;
use crate::api::types::{Failure, Version};
use crate::error::{Error, Kind, Result};
use crate::workload::scalar::to_base64;
use data::Snapshot;

const PAGE: &str = include_str!("page.html");
/// Connections at once: a browser opens six.
const MOST_CONNECTIONS: usize = 64;
/// Time for the head of a request, and until an idle connection is closed.
const HEAD: Duration = Duration::from_secs(30);
const SHORTEST_TOKEN: usize = 32;
/// Lines of a log that the page may ask for.
const MOST_LINES: u32 = 1000;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// State for answering requests.
struct Site {
    client: Client,
    token: String,
    policy: HeaderValue,
    snapshot: Snapshot,
}

/// `dashboard`.
pub async fn dashboard(client: &Client, a: &Dashboard) -> Result<u8> {
    // Whether there is a supervisor is said now, not by the page.
    client.fetch::<Version>(Call::get("/version")).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, a.port));
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::sys(format!("listening on {address}"), e)
            .hint("give another port with --port, or 0 for a free one")
    })?;
    let port = listener.local_addr().map_or(a.port, |own| own.port());
    let token = match &a.token_file {
        None => token()?,
        Some(path) => kept_token(path)?,
    };
    print(&format!(
        "http://127.0.0.1:{port}/#{token}\n\
         The page is read-only and only reachable from this host. From another host, use: ssh -L {port}:127.0.0.1:{port} HOST\n\
         Press Ctrl-C to stop.\n"
    ))?;
    let site = Site { client: client.clone(), token, policy: policy()?, snapshot: Snapshot::default() };
    tokio::task::LocalSet::new().run_until(serve(listener, Rc::new(site))).await
}

async fn serve(listener: TcpListener, site: Rc<Site>) -> Result<u8> {
    let open = Rc::new(Cell::new(0));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // As when descriptors run out.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if open.get() >= MOST_CONNECTIONS {
            continue;
        }
        open.set(open.get() + 1);
        let (site, open) = (Rc::clone(&site), Rc::clone(&open));
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let site = Rc::clone(&site);
                async move { Ok::<_, std::convert::Infallible>(answer(&site, &request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            // A browser that went away.
            drop(served);
            open.set(open.get() - 1);
        });
    }
}

/// 32 random bytes in hexadecimal.
fn token() -> Result<String> {
    let mut bytes = [0; 32];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(|e| Error::sys("making a token from /dev/urandom", e))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The token in the file `path`, which is made if it is missing.
fn kept_token(path: &Path) -> Result<String> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(mut file) => {
            let token = token()?;
            let written = writeln!(file, "{token}");
            written.map_err(|e| Error::sys(format!("writing {path:?}"), e))?;
            Ok(token)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let fail = |e| Error::sys(format!("reading {path:?}"), e);
            let text = std::fs::read_to_string(path).map_err(fail)?;
            let mode = std::fs::metadata(path).map_err(fail)?.permissions().mode();
            if mode & 0o077 != 0 {
                let what = format!("{path:?} is accessible to other users (mode {:04o})", mode & 0o7777);
                return Err(Error::new(Kind::State, what).hint("chmod 600 it, and write a new token"));
            }
            let token = text.trim();
            let usable = token.len() >= SHORTEST_TOKEN && token.bytes().all(|b| b.is_ascii_alphanumeric());
            usable.then(|| token.to_owned()).ok_or_else(|| {
                let what = format!("{path:?} must hold at least {SHORTEST_TOKEN} letters and digits");
                Error::new(Kind::Config, what).hint("remove it to have a new one created")
            })
        }
        Err(e) => Err(Error::sys(format!("making {path:?}"), e)),
    }
}

/// The Content-Security-Policy of the page: its own script and style by their digests, and requests to where it came from.
fn policy() -> Result<HeaderValue> {
    let digest = |tag: &str| -> Option<String> {
        let (_, rest) = PAGE.split_once(&format!("<{tag}>"))?;
        let (inner, _) = rest.split_once(&format!("</{tag}>"))?;
        Some(format!("'sha256-{}'", to_base64(Sha256::digest(inner.as_bytes()).as_slice())))
    };
    let text = digest("script").zip(digest("style")).map(|(script, style)| {
        format!(
            "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    text.and_then(|t| HeaderValue::from_str(&t).ok())
        .ok_or_else(|| Error::new(Kind::System, "the dashboard page has no script or no style"))
}

async fn answer(site: &Site, request: &Request<Incoming>) -> Answer {
    let mut answer = route(site, request).await.unwrap_or_else(|(status, message)| refuse(status, message));
    let headers = answer.headers_mut();
    let fixed: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_SECURITY_POLICY, site.policy.clone()),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    headers.extend(fixed);
    answer
}

type Refusal = (StatusCode, String);

async fn route(site: &Site, request: &Request<Incoming>) -> std::result::Result<Answer, Refusal> {
    let header = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    if !header(HOST).is_some_and(is_own_host) {
        // A foreign name that points to this address (DNS rebinding).
        return Err((StatusCode::MISDIRECTED_REQUEST, "the address must be that of this host".to_owned()));
    }
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "the dashboard is read-only".to_owned()));
    }
    let path = request.uri().path();
    if path == "/" {
        return Ok(typed("text/html; charset=utf-8", PAGE.into()));
    }
    let given = header(AUTHORIZATION).and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
    if !bool::from(given.as_bytes().ct_eq(site.token.as_bytes())) {
        let message = "the token is missing or wrong: open the address that `orund dashboard` printed";
        return Err((StatusCode::UNAUTHORIZED, message.to_owned()));
    }
    let query = request.uri().query().unwrap_or_default();
    let failed = |e: Error| (StatusCode::BAD_GATEWAY, e.to_string());
    match path {
        "/data" => Ok(typed("application/json", site.snapshot.get(&site.client).await.map_err(failed)?)),
        "/events" => pass(site, call("/v1/events", query, &["workload"])?).await.map_err(failed),
        "/logs" => {
            let known = ["workload", "replica", "container", "previous", "tail"];
            let call = call("/v1/logs", query, &known)?;
            pass(site, call).await.map_err(failed)
        }
        "/metrics" => pass(site, Call::get("/metrics")).await.map_err(failed),
        "/revisions" => {
            let name = query.strip_prefix("workload=").unwrap_or_default();
            let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !bare {
                return Err((StatusCode::BAD_REQUEST, "expected workload=NAME".to_owned()));
            }
            let call = Call::get(format!("/v1/workloads/{name}/revisions"));
            pass(site, call).await.map_err(failed)
        }
        _ => Err((StatusCode::NOT_FOUND, "not found".to_owned())),
    }
}

/// Whether `Host` is an address of loopback. Its port may be that of a tunnel.
fn is_own_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

/// A call with those parameters of `query` that are `known`, and no others.
fn call(path: &str, query: &str, known: &[&str]) -> std::result::Result<Call, Refusal> {
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let many = name == "tail" && !value.parse::<u32>().is_ok_and(|n| n <= MOST_LINES);
        if !known.contains(&name) || many {
            return Err((StatusCode::BAD_REQUEST, format!("parameter {name:?} is not allowed")));
        }
        kept.push(pair);
    }
    Ok(Call::get(format!("{path}?{}", kept.join("&"))))
}

/// The supervisor's answer, as it comes.
async fn pass(site: &Site, call: Call) -> Result<Answer> {
    let (head, body) = site.client.send(call).await?.into_parts();
    let mut answer = Response::new(body.boxed());
    // Never what a browser would take for a page.
    let known = ["application/json", "text/plain; version=0.0.4; charset=utf-8"];
    let given = head.headers.get(CONTENT_TYPE).and_then(|t| t.to_str().ok());
    let kind = known.into_iter().find(|k| Some(*k) == given).unwrap_or("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(answer)
}

fn typed(kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn refuse(status: StatusCode, message: String) -> Answer {
    let failure = Failure { code: "Refused".to_owned(), message, hint: None };
    let mut answer = typed("application/json", serde_json::to_vec(&failure).unwrap_or_default().into());
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_are_served() {
        for good in ["127.0.0.1:9180", "localhost", "localhost:1", "[::1]:9180"] {
            assert!(is_own_host(good), "{good}");
        }
        for bad in ["evil.example", "evil.example:9180", "127.0.0.1.evil.example", "localhost:x", "", ":1"] {
            assert!(!is_own_host(bad), "{bad}");
        }
    }

    #[test]
    fn the_policy_allows_one_script_and_one_style() {
        let policy = policy().expect("the page has both");
        let policy = policy.to_str().expect("it is ASCII");
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        for tag in ["<script", "<style", "</script", "</style"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
        // Nothing from elsewhere, and nothing that turns text into elements.
        for bad in
            ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacent", "eval(", "document.write"]
        {
            let namespaces =
                if bad == "http://" { PAGE.matches("http://www.w3.org/2000/svg").count() } else { 0 };
            assert_eq!(PAGE.matches(bad).count(), namespaces, "{bad}");
        }
        assert!(PAGE.len() < 40 << 10);
    }

    #[test]
    fn only_known_parameters_are_passed_on() {
        assert!(call("/v1/logs", "workload=web&tail=200", &["workload", "tail"]).is_ok());
        for bad in ["follow=true", "workload=web&watch=true", "tail=1001", "tail=-1"] {
            let refused = call("/v1/logs", bad, &["workload", "tail"]);
            assert_eq!(refused.err().map(|r| r.0), Some(StatusCode::BAD_REQUEST), "{bad}");
        }
    }
}
