//! The credentials for a registry: the files that `docker login` and `podman login` write (containers-auth.json(5)), and credential helpers.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a helper may take.
const HELPER: Duration = Duration::from_secs(20);

/// The user whose password is a token that a token server takes (docker-credential-helpers, "Protocol").
pub const TOKEN_USER: &str = "<token>";

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

/// A password is not for logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials of {:?}", self.user)
    }
}

/// Content of a Secret of `imagePullSecrets`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginSecret {
    pub name: String,
    /// It has the type `kubernetes.io/dockercfg`, and no `auths` around the registries.
    pub legacy: bool,
    pub text: String,
}

impl fmt::Debug for LoginSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginSecret {:?}", self.name)
    }
}

impl LoginSecret {
    /// Only what is in it: a helper would be a program of this host that a manifest names.
    fn config(&self) -> serde_json::Result<Config> {
        let auths = match self.legacy {
            true => serde_json::from_str(&self.text)?,
            false => serde_json::from_str::<Config>(&self.text)?.auths,
        };
        Ok(Config { auths, ..Config::default() })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    /// Instead of a password: for the token server.
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

fn files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut files = Vec::new();
    files.extend(variable("REGISTRY_AUTH_FILE"));
    files.push("/etc/orun/auth.json".into());
    files.extend(variable("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")));
    files.extend(variable("DOCKER_CONFIG").map(|d| d.join("config.json")));
    files.extend(variable("HOME").map(|d| d.join(".docker/config.json")));
    files
}

/// The credentials for the repository `location` (host and path), or its host: of the secrets, else of the files of this host.
///
/// # Errors
/// A secret or a file is damaged, or a helper fails.
pub fn find(host: &str, location: &str, secrets: &[LoginSecret]) -> Result<Option<Credentials>> {
    for secret in secrets {
        let what = || format!("secret {:?} of imagePullSecrets", secret.name);
        let config = secret.config().map_err(|e| {
            Error::new(Kind::Config, format!("{} is damaged: {e}", what()))
                .hint("\"kubectl create secret docker-registry\" prints a valid one")
        })?;
        if let Some(found) = find_credentials(&config, host, location).map_err(|e| e.context(what()))? {
            return Ok(Some(found));
        }
    }
    for path in files() {
        let text = match std::fs::read(&path) {
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                continue;
            }
            r => r.map_err(|e| Error::sys(format!("reading {path:?}"), e))?,
        };
        let config: Config = serde_json::from_slice(&text)
            .map_err(|e| Error::new(Kind::Config, format!("{path:?} is damaged: {e}")))?;
        let found = find_credentials(&config, host, location)
            .map_err(|e| e.context(format!("credentials of {path:?}")))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The names that a registry or a part of it has in such a file, the most exact first.
fn keys(host: &str, location: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let mut part = location;
    loop {
        keys.push(part.to_owned());
        match part.rsplit_once('/') {
            Some((above, _)) => part = above,
            None => break,
        }
    }
    keys.extend([format!("https://{host}"), format!("http://{host}"), format!("https://{host}/v1/")]);
    if host == "docker.io" {
        keys.extend(
            ["https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"].map(str::to_owned),
        );
    }
    keys
}

/// Whether the pattern of a registry, such as `*.example.com/team`, is for `location`: each part of the host for itself, as in
/// Kubernetes ("Images", "Interpretation of config.json").
fn fits(pattern: &str, location: &str) -> bool {
    let pattern = pattern.strip_prefix("https://").or(pattern.strip_prefix("http://")).unwrap_or(pattern);
    let split = |text: &str| {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
        let parts: Vec<String> = host.split('.').map(str::to_owned).collect();
        (parts, port.to_owned(), path.trim_end_matches('/').to_owned())
    };
    let ((hosts, port, path), (own, own_port, own_path)) = (split(pattern), split(location));
    let below = own_path
        .strip_prefix(path.as_str())
        .is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'));
    let same =
        hosts.len() == own.len() && hosts.iter().zip(&own).all(|(p, n)| glob(p.as_bytes(), n.as_bytes()));
    same && port == own_port && below
}

/// Whether `pattern` stands for `name`; `*` is for any number of characters and `?` for one.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and what it stands for ends there.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, n));
            }
            Some(c) if *c == b'?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((behind, end)) = star else { return false };
                (p, n) = (behind, end + 1);
                star = Some((behind, n));
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

fn find_credentials(config: &Config, host: &str, location: &str) -> Result<Option<Credentials>> {
    let keys = keys(host, location);
    if let Some((key, name)) = keys.iter().find_map(|k| Some((k, config.cred_helpers.get(k)?))) {
        return helper(name, key);
    }
    let exact = keys.iter().filter_map(|k| config.auths.get(k));
    // The longest pattern is the most exact one.
    let mut patterns: Vec<(&String, &Auth)> =
        config.auths.iter().filter(|(k, _)| k.contains(['*', '?']) && fits(k, location)).collect();
    patterns.sort_by_key(|(k, _)| std::cmp::Reverse(k.len()));
    for auth in exact.chain(patterns.into_iter().map(|(_, auth)| auth)) {
        if let Some(token) = auth.identity_token.as_ref().filter(|t| !t.is_empty()) {
            return Ok(Some(Credentials { user: TOKEN_USER.to_owned(), password: token.clone() }));
        }
        if let (Some(user), Some(password)) = (&auth.username, &auth.password) {
            return Ok(Some(Credentials { user: user.clone(), password: password.clone() }));
        }
        let Some(text) = auth.auth.as_ref().filter(|a| !a.is_empty()) else { continue };
        let pair = base64::decode(text).and_then(|b| String::from_utf8(b).ok());
        let pair = pair.and_then(|p| {
            p.trim_end_matches('\0').split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned()))
        });
        let Some((user, password)) = pair else {
            return Err(Error::new(
                Kind::Config,
                format!("\"auth\" of {host:?} is not USER:PASSWORD in base64"),
            ));
        };
        return Ok(Some(Credentials { user, password }));
    }
    match &config.creds_store {
        Some(name) => helper(name, if host == "docker.io" { "https://index.docker.io/v1/" } else { host }),
        None => Ok(None),
    }
}

/// Asks `docker-credential-NAME`.
fn helper(name: &str, server: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{name}");
    if name.contains('/') {
        return Err(Error::new(Kind::Config, format!("{name:?} is not the name of a credential helper")));
    }
    let fail = |e: std::io::Error| Error::sys(format!("asking {program:?}"), e);
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may have exited without reading.
        let _ = stdin.write_all(server.as_bytes());
    }
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(fail)? {
            Some(status) => break status,
            None if begun.elapsed() > HELPER => {
                let _ = child.kill();
                let _ = child.wait();
                let what = format!("{program:?} does not answer for {} seconds", HELPER.as_secs());
                return Err(Error::new(Kind::Timeout, what));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(64 << 10).read_to_end(&mut text).map_err(fail)?;
    }
    if !status.success() {
        // It has none, as its protocol says.
        return Ok(None);
    }
    let helped: Helped = serde_json::from_slice(&text)
        .map_err(|e| Error::new(Kind::Config, format!("the answer of {program:?} is not JSON: {e}")))?;
    Ok(Some(Credentials { user: helped.username, password: helped.secret }))
}

/// RFC 4648.
pub mod base64 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub fn encode(bytes: &[u8]) -> String {
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().fold(0_u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
            for n in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * n) & 63) as usize];
                text.push(if n <= chunk.len() { digit as char } else { '=' });
            }
        }
        text
    }

    pub fn decode(text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let (mut word, mut bits) = (0_u32, 0);
        for digit in text.trim().trim_end_matches('=').bytes() {
            word = word << 6 | DIGITS.iter().position(|d| *d == digit)? as u32;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.push((word >> bits) as u8);
                word &= (1 << bits) - 1;
            }
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_both_ways() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64::encode(bytes.as_bytes()), text);
            assert_eq!(base64::decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(base64::decode("!"), None);
    }

    #[test]
    fn secrets_of_both_types_are_read_and_name_no_helper() {
        let secret = |legacy, text: &str| LoginSecret { name: "s".into(), legacy, text: text.into() };
        let found = |s: LoginSecret| {
            let config = s.config().unwrap();
            find_credentials(&config, "r.io", "r.io/a").unwrap().map(|c| format!("{} {}", c.user, c.password))
        };
        let new =
            r#"{"auths": {"r.io": {"auth": "YTpi"}}, "credsStore": "evil", "credHelpers": {"r.io": "evil"}}"#;
        assert_eq!(found(secret(false, new)).as_deref(), Some("a b"));
        assert_eq!(found(secret(true, r#"{"https://r.io": {"auth": "YTpi"}}"#)).as_deref(), Some("a b"));
        assert_eq!(found(secret(false, r#"{"credHelpers": {"r.io": "evil"}}"#)), None);
        let damaged = find("r.io", "r.io/a", &[secret(false, "x")]).unwrap_err().to_string();
        assert!(damaged.starts_with("secret \"s\" of imagePullSecrets is damaged"), "{damaged}");
        assert!(!format!("{:?}", secret(false, "hidden")).contains("hidden"));
    }

    #[test]
    fn a_pattern_is_for_the_parts_of_a_host() {
        let text = r#"{"auths": {"*.example.com": {"auth": "YTpi"}, "*.example.com/team": {"auth": "YzpkOmU="},
            "https://r?.io:5000/v1/": {"auth": "YTpi"}, "x.example.com": {"auth": "eDp5"}}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let user = |location: &str| {
            let host = location.split('/').next().unwrap();
            find_credentials(&config, host, location).unwrap().map(|c| c.user)
        };
        assert_eq!(user("a.example.com/x").as_deref(), Some("a"));
        assert_eq!(user("a.example.com/team/x").as_deref(), Some("c"));
        assert_eq!(user("a.example.com/teams/x").as_deref(), Some("a"));
        assert_eq!(user("x.example.com/team/x").as_deref(), Some("x"), "a name goes before a pattern");
        for other in [
            "example.com/x",
            "a.b.example.com/x",
            "a.example.com:5000/x",
            "a.example.com.evil/x",
            "r10.io:5000/v1/x",
        ] {
            assert_eq!(user(other), None, "{other}");
        }
        assert_eq!(user("r1.io:5000/v1/x").as_deref(), Some("a"));
        assert!(fits("a*c*", "abbcbc") && !fits(&format!("{}b", "*a".repeat(30)), &"a".repeat(63)));
    }

    #[test]
    fn the_most_exact_entry_counts() {
        let text = r#"{"auths": {"quay.io": {"auth": "YTpi"}, "quay.io/x": {"auth": "YzpkOmU="},
            "https://index.docker.io/v1/": {"username": "u", "password": "p"}, "empty.io": {}, "azure.io": {"auth": "MDo=", "identitytoken": "t"}}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let pair = |host: &str, location: &str| {
            find_credentials(&config, host, location).unwrap().map(|c| format!("{} {}", c.user, c.password))
        };
        assert_eq!(pair("quay.io", "quay.io/y/z").as_deref(), Some("a b"));
        assert_eq!(pair("quay.io", "quay.io/x/z").as_deref(), Some("c d:e"));
        assert_eq!(pair("docker.io", "docker.io/library/nginx").as_deref(), Some("u p"));
        assert_eq!(pair("empty.io", "empty.io/x"), None);
        assert_eq!(pair("azure.io", "azure.io/x").as_deref(), Some("<token> t"));
        assert_eq!(pair("quay.io.evil", "quay.io.evil/x"), None);
        let debug = format!("{:?}", Credentials { user: "u".into(), password: "secret".into() });
        assert!(!debug.contains("secret"), "{debug}");
    }
}
