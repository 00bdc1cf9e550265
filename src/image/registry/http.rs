//! Requests to one registry: authentication, redirects, refusals and their deadlines.

use super::credentials::{Credentials, TOKEN_USER, base64};
use super::reach;
use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// How long a registry may be silent: until there is a connection, an answer, and each part of its body.
const PATIENCE: Duration = Duration::from_secs(30);
/// Instead of it, in seconds.
const VARIABLE: &str = "ORUND_REGISTRY_TIMEOUT";
/// Bytes a second below which an answer does not get on: one that drips would take forever.
const SLOWEST: u64 = 1000;
/// Redirects that follow each other.
const MOST_REDIRECTS: usize = 5;
/// Attempts at a request that is refused for the moment.
const ATTEMPTS: u32 = 4;
/// The longest pause that a registry may ask for.
const LONGEST_PAUSE: u64 = 60;
/// Bytes of an answer of a token server.
const LONGEST_TOKEN: u64 = 256 << 10;

/// A request for a path of the registry.
pub struct Request<'a> {
    pub path: &'a str,
    pub accept: &'a str,
    /// The first byte to send.
    pub from: u64,
}

impl Request<'_> {
    pub fn new(path: &str) -> Request<'_> {
        Request { path, accept: "*/*", from: 0 }
    }
}

/// An answer of status 200 or 206.
pub struct Answer {
    response: ureq::http::Response<Body>,
    patience: Duration,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<String> {
        self.response.headers().get(name)?.to_str().ok().map(str::to_owned)
    }

    pub fn is_partial(&self) -> bool {
        self.response.status().as_u16() == 206
    }

    /// The body, which ends with an error behind `most` bytes, and when it does not get on.
    pub fn reader(self, most: u64) -> impl Read {
        let from = self.response.into_body().into_with_config().limit(most).reader();
        Steady { from, patience: self.patience, waited: Duration::ZERO, bytes: 0 }
    }

    /// # Errors
    /// The body is longer than `most`, or cut.
    pub fn bytes(self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.reader(most + 1).take(most + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::new(Kind::Timeout, format!("reading the answer of the registry: {e}")))?;
        if bytes.len() as u64 > most {
            return Err(Error::new(Kind::Config, format!("the answer of the registry exceeds {most} bytes")));
        }
        Ok(bytes)
    }
}

/// A body that ends with an error when it comes too slowly.
struct Steady<R> {
    from: R,
    patience: Duration,
    /// How long this part of it has been waited for, and how much of it came: what the reader itself needs does not count.
    waited: Duration,
    bytes: u64,
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let read = self.from.read(buf);
        let seconds = self.patience.as_secs();
        let n = read.map_err(|e| match e.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(ureq::Error::Timeout(_)) => {
                io::Error::other(format!("the registry sent nothing for {seconds} s"))
            }
            _ => e,
        })?;
        self.waited += begun.elapsed();
        self.bytes += n as u64;
        if self.waited >= self.patience {
            if n > 0 && self.bytes < least(self.patience) {
                let what = format!("the registry sent {} bytes in {seconds} s", self.bytes);
                return Err(io::Error::other(what));
            }
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        Ok(n)
    }
}

/// Bytes that must have come in that time.
fn least(patience: Duration) -> u64 {
    SLOWEST.saturating_mul(patience.as_secs())
}

/// # Errors
/// The variable has no number of seconds.
fn patience() -> Result<Duration> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) else { return Ok(PATIENCE) };
    let seconds = text.to_str().and_then(|t| t.parse().ok()).filter(|s| (1..=3600).contains(s));
    let wrong = || format!("${VARIABLE} must be a number of seconds from 1 to 3600, not {text:?}");
    seconds.map(Duration::from_secs).ok_or_else(|| Error::new(Kind::Usage, wrong()))
}

/// A registry.
pub struct Client {
    agent: Agent,
    patience: Duration,
    /// `https://host:port`.
    base: String,
    host: String,
    credentials: Option<Credentials>,
    /// The value of `Authorization`.
    authorization: Mutex<Option<String>>,
}

/// Waits before attempt `n`.
pub fn pause(n: u32) {
    std::thread::sleep(Duration::from_millis(250 << n.min(5)));
}

fn is_of_this_host(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // 127.evil.com is a name like others.
    let is_loopback = |name: &str| name.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback());
    name == "localhost" || is_loopback(name) || host == "[::1]" || host.starts_with("[::1]:")
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let from = url.find("://").map_or(0, |at| at + 3);
    let end = url[from..].find(['/', '?', '#']).map_or(url.len(), |at| from + at);
    &url[..end]
}

/// Describes the object at a path of a registry.
fn described(path: &str) -> String {
    let path = path.trim_start_matches("/v2/");
    match (path.split_once("/manifests/"), path.split_once("/blobs/")) {
        (Some((repository, digest)), _) if digest.contains(':') => {
            format!("image \"{repository}@{digest}\"")
        }
        (Some((repository, tag)), _) => format!("image \"{repository}:{tag}\""),
        (None, Some((repository, digest))) => format!("blob {digest} of \"{repository}\""),
        (None, None) => path.to_owned(),
    }
}

impl Client {
    /// # Errors
    /// A variable of the environment is invalid.
    pub fn new(host: &str, insecure: bool, credentials: Option<Credentials>) -> Result<Client> {
        let patience = patience()?;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(patience))
            .timeout_connect(Some(patience))
            .timeout_send_request(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .user_agent(concat!("orund/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        // The registry of docker.io has another name than the images.
        let server = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let scheme = if insecure || is_of_this_host(host) { "http" } else { "https" };
        Ok(Client {
            agent: config.into(),
            patience,
            base: format!("{scheme}://{server}"),
            host: host.to_owned(),
            credentials,
            authorization: Mutex::default(),
        })
    }

    /// Bytes of a layer that count as progress.
    pub fn least(&self) -> u64 {
        least(self.patience)
    }

    /// # Errors
    /// [`Kind::NotFound`]: there is no such image. [`Kind::Timeout`]: another attempt may do. Otherwise it was refused.
    pub fn get(&self, request: &Request) -> Result<Answer> {
        let mut asked = false;
        let mut attempt = 0;
        loop {
            let (at, response) = self.follow(request)?;
            let status = response.status().as_u16();
            match status {
                200 | 206 => return Ok(Answer { response, patience: self.patience }),
                // A challenge of another host would say where the credentials of the registry go.
                401 | 403 if at != self.base => {
                    let what =
                        format!("registry {} redirects to {at}, which refuses access ({status})", self.host);
                    return Err(Error::new(Kind::State, what));
                }
                401 if !asked => {
                    asked = true;
                    self.authenticate(&response, request)?;
                }
                401 | 403 => return Err(self.refused(status)),
                404 => {
                    let what = format!("registry {} has no {}", self.host, described(request.path));
                    return Err(Error::new(Kind::NotFound, what).hint("check the name and the tag"));
                }
                429 | 500..=599 if attempt + 1 < ATTEMPTS => {
                    attempt += 1;
                    let after =
                        response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
                    match after {
                        Some(seconds) => {
                            std::thread::sleep(Duration::from_secs(u64::min(seconds, LONGEST_PAUSE)))
                        }
                        None => pause(attempt),
                    }
                }
                429 | 500..=599 => {
                    let what = format!("registry {} answered {status}, {ATTEMPTS} times", self.host);
                    return Err(Error::new(Kind::Timeout, what));
                }
                _ => {
                    return Err(Error::new(Kind::State, format!("registry {} answered {status}", self.host)));
                }
            }
        }
    }

    fn refused(&self, status: u16) -> Error {
        let what = format!("registry {} refuses access ({status})", self.host);
        Error::new(Kind::State, what).hint(match self.credentials {
            Some(_) => "the credentials are wrong, or not valid for this image".to_owned(),
            None => format!(
                "the image does not exist there, or needs credentials: \"docker login {0}\" or \"podman login {0}\"",
                self.host
            ),
        })
    }

    /// Sends a request and follows redirects. Only the registry itself gets the credentials. The origin of the answer comes with it.
    fn follow(&self, request: &Request) -> Result<(String, ureq::http::Response<Body>)> {
        let mut url = format!("{}{}", self.base, request.path);
        for _ in 0..=MOST_REDIRECTS {
            let mut get = self.agent.get(&url).header("accept", request.accept);
            if request.from > 0 {
                get = get.header("range", format!("bytes={}-", request.from));
            }
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(value) = authorization.filter(|_| origin(&url) == self.base) {
                get = get.header("authorization", value);
            }
            let what = format!("registry {}", self.host);
            let response = get.call().map_err(|e| reach::failed(&what, origin(&url), &e))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((origin(&url).to_owned(), response));
            }
            let to = response.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or_default();
            let next = match to {
                to if to.starts_with("http://") || to.starts_with("https://") => to.to_owned(),
                to if to.starts_with('/') && !to.starts_with("//") => format!("{}{to}", origin(&url)),
                to => {
                    return Err(Error::new(
                        Kind::State,
                        format!("registry {} redirects to {to:?}", self.host),
                    ));
                }
            };
            if url.starts_with("https://") && next.starts_with("http://") {
                let what = format!("registry {} redirects from https to {:?}", self.host, origin(&next));
                return Err(Error::new(Kind::State, what));
            }
            url = next;
        }
        Err(Error::new(
            Kind::State,
            format!("registry {} redirects more than {MOST_REDIRECTS} times", self.host),
        ))
    }

    /// Does what a 401 asks for (RFC 7235; Docker's "Token Authentication Specification").
    fn authenticate(&self, response: &ureq::http::Response<Body>, request: &Request) -> Result<()> {
        let challenge =
            response.headers().get("www-authenticate").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let basic = || self.credentials.as_ref().map(Credentials::basic);
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        let value = if scheme.eq_ignore_ascii_case("basic") {
            basic().ok_or_else(|| self.refused(401))?
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let part = |name: &str| parameter(rest, name);
            let realm = part("realm").ok_or_else(|| self.refused(401))?;
            if !(realm.starts_with("https://")
                || realm.starts_with("http://") && self.base.starts_with("http://"))
            {
                let what = format!("registry {} has tokens at {realm:?}, which is not https", self.host);
                return Err(Error::new(Kind::State, what));
            }
            let repository = request.path.trim_start_matches("/v2/");
            let repository = repository.rsplitn(3, '/').nth(2).unwrap_or_default();
            let scope = part("scope").unwrap_or_else(|| format!("repository:{repository}:pull"));
            let fail = |e: String| Error::new(Kind::Timeout, format!("asking for a token at {realm:?}: {e}"));
            let what = format!("the token server of registry {}", self.host);
            let answer = self.ask_for_token(&realm, &scope, part("service").as_deref().unwrap_or_default());
            let answer = answer.map_err(|e| reach::failed(&what, origin(&realm), &e))?;
            match answer.status().as_u16() {
                200 => {}
                401 | 403 => return Err(self.refused(answer.status().as_u16())),
                status => return Err(fail(format!("it answered {status}"))),
            }
            let token: Token = serde_json::from_slice(
                &Answer { response: answer, patience: self.patience }.bytes(LONGEST_TOKEN)?,
            )
            .map_err(|e| fail(format!("its answer is not JSON: {e}")))?;
            let token = token.token.or(token.access_token).ok_or_else(|| fail("it gives none".to_owned()))?;
            if token.chars().any(char::is_control) {
                return Err(fail("it is not a token".to_owned()));
            }
            format!("Bearer {token}")
        } else {
            let what = format!("registry {} asks for the unknown authentication {scheme:?}", self.host);
            return Err(Error::new(Kind::Unsupported, what));
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }
}

impl Client {
    /// Asks the token server at `realm`, with the password or, as OAuth 2 has it, with the token that stands for one.
    fn ask_for_token(
        &self,
        realm: &str,
        scope: &str,
        service: &str,
    ) -> std::result::Result<ureq::http::Response<Body>, ureq::Error> {
        if let Some(c) = self.credentials.as_ref().filter(|c| c.user == TOKEN_USER) {
            return self.agent.post(realm).send_form([
                ("grant_type", "refresh_token"),
                ("service", service),
                ("scope", scope),
                ("client_id", "orund"),
                ("refresh_token", c.password.as_str()),
            ]);
        }
        let mut get = self.agent.get(realm).query("scope", scope);
        if !service.is_empty() {
            get = get.query("service", service);
        }
        if let Some(c) = &self.credentials {
            get = get.header("authorization", c.basic());
        }
        get.call()
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// A parameter of a challenge: `name="value"`.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_matches([' ', ',']);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

impl Credentials {
    fn basic(&self) -> String {
        format!("Basic {}", base64::encode(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

/// A challenge, and an address that a registry redirects to.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(text: &str) {
    for name in ["realm", "service", "scope"] {
        let _ = parameter(text, name);
    }
    assert!(text.starts_with(origin(text)));
    let _ = described(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let text = r#"realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(parameter(text, "realm").as_deref(), Some("https://auth.docker.io/token"));
        assert_eq!(parameter(text, "scope").as_deref(), Some("repository:a/b:pull,push"));
        assert_eq!(parameter(text, "none"), None);
        assert_eq!(parameter("realm=x, service=y", "service").as_deref(), Some("y"));
        assert_eq!(parameter("realm=\"x", "realm"), None);
    }

    #[test]
    fn paths_are_described_as_people_name_them() {
        assert_eq!(described("/v2/library/nginx/manifests/1.27"), "image \"library/nginx:1.27\"");
        assert_eq!(described("/v2/a/manifests/sha256:0"), "image \"a@sha256:0\"");
        assert_eq!(described("/v2/a/b/blobs/sha256:0"), "blob sha256:0 of \"a/b\"");
    }

    #[test]
    fn origins_are_compared_as_a_whole() {
        assert_eq!(origin("https://a.b:5000/v2/x"), "https://a.b:5000");
        assert_eq!(origin("http://a?x"), "http://a");
        assert_ne!(origin("https://a.evil/"), origin("https://a/"));
        assert!(
            is_of_this_host("localhost:5000")
                && is_of_this_host("[::1]:80")
                && !is_of_this_host("localhost.evil")
        );
        assert!(is_of_this_host("127.0.0.1:5000") && is_of_this_host("127.3.2.1"));
        for evil in ["127.evil.com", "127.0.0.1.evil.com:5000", "[::1].evil", "[::1]evil:80"] {
            assert!(!is_of_this_host(evil), "{evil}");
        }
    }
}
