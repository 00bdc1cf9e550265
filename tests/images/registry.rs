//! Images of registries: Debian's docker-registry, and one of ours that cuts, refuses, redirects and lies.

use crate::made::{Entry, Image, Layer, digest};
use crate::stalls::{HEAD, stall};
use crate::{is_root, skip};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the registry of ours misbehaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// Answers of blobs end after some bytes, once each.
    Cut,
    /// As `Cut`, without ranges.
    CutWhole,
    /// As `CutWhole`, after half and a quarter of the bytes in turn, many times.
    Waver,
    Busy,
    /// Blobs are at another host.
    Redirect,
    /// A blob has other bytes of the same length.
    Lie,
    LongManifest,
    Schema1,
    /// It accepts the request, and sends nothing; the head of an answer; one byte of the body now and then.
    Silent,
    Head,
    Drip,
    /// The same for layers only.
    SilentLayers,
    HeadLayers,
    DripLayers,
    /// 401, whatever the credentials.
    Never,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Access {
    Open,
    Basic,
    Bearer,
}

pub struct Server {
    pub port: u16,
    /// Request lines with their `Authorization`.
    seen: Arc<Mutex<Vec<String>>>,
}

struct Content {
    files: BTreeMap<String, Vec<u8>>,
    manifest: String,
    fault: Fault,
    access: Access,
    elsewhere: u16,
    times: Mutex<BTreeMap<String, u32>>,
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

impl Server {
    pub fn start(image: &Image, fault: Fault, access: Access, elsewhere: u16) -> Server {
        let mut files = BTreeMap::new();
        for file in fs::read_dir(image.layout().join("blobs/sha256")).unwrap().flatten() {
            let bytes = fs::read(file.path()).unwrap();
            files.insert(digest(&bytes), bytes);
        }
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(image.layout().join("index.json")).unwrap()).unwrap();
        let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let content =
            Arc::new(Content { files, manifest, fault, access, elsewhere, times: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (content, seen) = (Arc::clone(&content), Arc::clone(&told));
                std::thread::spawn(move || content.serve(stream, port, &seen));
            }
        });
        Server { port, seen }
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Content {
    /// One request for each connection.
    fn serve(&self, mut stream: TcpStream, port: u16, seen: &Mutex<Vec<String>>) -> Option<()> {
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let (mut authorization, mut range, mut length) = (String::new(), 0, 0);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => value.clone_into(&mut authorization),
                "content-length" => length = value.parse().ok()?,
                "range" => range = value.trim_start_matches("bytes=").trim_end_matches('-').parse().ok()?,
                _ => {}
            }
        }
        seen.lock().unwrap().push(format!("{path} {range} {authorization}"));
        let large = path.rsplit('/').next().and_then(|w| self.files.get(w)).is_some_and(|b| b.len() > 10_000);
        match self.fault {
            Fault::Silent => return stall(&mut stream, "", false),
            Fault::Head => return stall(&mut stream, HEAD, false),
            Fault::Drip => return stall(&mut stream, HEAD, true),
            Fault::SilentLayers if large => return stall(&mut stream, "", false),
            Fault::HeadLayers if large => return stall(&mut stream, HEAD, false),
            Fault::DripLayers if large => return stall(&mut stream, HEAD, true),
            _ => {}
        }
        let mut answer = |status: &str, headers: &str, body: &[u8], sent: usize| {
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body[..sent.min(body.len())]);
        };
        if path.starts_with("/token") {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let form = String::from_utf8_lossy(&body);
            let grants =
                ["grant_type=refresh_token", "refresh_token=identity%2F1", "scope=repository", "service=s"];
            let ok = match line.starts_with("POST") {
                true => authorization.is_empty() && grants.iter().all(|g| form.contains(g)),
                false => authorization == BASIC && path.contains("scope=repository"),
            };
            let status = if ok { "200 OK" } else { "401 Unauthorized" };
            answer(status, "", br#"{"token":"ticket","expires_in":60}"#, usize::MAX);
            return None;
        }
        let (granted, challenge) = match self.access {
            Access::Open => (true, String::new()),
            Access::Basic => (authorization == BASIC, "Basic realm=\"x\"".to_owned()),
            Access::Bearer => {
                let challenge = format!(
                    "Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\",scope=\"repository:app:pull\""
                );
                (authorization == "Bearer ticket", challenge)
            }
        };
        if !granted || self.fault == Fault::Never {
            answer("401 Unauthorized", &format!("www-authenticate: {challenge}\r\n"), b"", 0);
            return None;
        }
        let wanted = path.rsplit('/').next()?;
        let time = {
            let mut times = self.times.lock().unwrap();
            let time = times.entry(path.clone()).or_default();
            *time += 1;
            *time
        };
        if path.contains("/manifests/") {
            let key = if wanted == "1" { &self.manifest } else { wanted };
            match (self.fault, self.files.get(key)) {
                (Fault::LongManifest, _) => answer("200 OK", "", &vec![b' '; 100 << 20], usize::MAX),
                (Fault::Schema1, _) => {
                    answer("200 OK", "", br#"{"schemaVersion":1,"fsLayers":[]}"#, usize::MAX)
                }
                (Fault::Busy, _) if time < 3 => answer("429 Too Many Requests", "retry-after: 0\r\n", b"", 0),
                (_, Some(body)) => answer("200 OK", "", body, usize::MAX),
                (_, None) => answer("404 Not Found", "", b"", 0),
            }
            return None;
        }
        let body = self.files.get(wanted)?;
        let large = body.len() > 10_000;
        let half = body.len() / 2;
        match self.fault {
            Fault::Redirect => {
                let to = format!("location: http://127.0.0.1:{}{path}\r\n", self.elsewhere);
                answer("307 Temporary Redirect", &to, b"", 0);
            }
            Fault::Lie if large => answer("200 OK", "", &vec![7; body.len()], usize::MAX),
            Fault::Cut if range == 0 && large => answer("200 OK", "", body, half),
            Fault::CutWhole if time == 1 && large => answer("200 OK", "", body, half),
            Fault::Waver if large && time < 30 => {
                answer("200 OK", "", body, if time % 2 == 1 { half } else { half / 2 });
            }
            Fault::Waver => answer("200 OK", "", body, usize::MAX),
            Fault::CutWhole => answer("200 OK", "", body, usize::MAX),
            _ if range > 0 => answer("206 Partial Content", "", &body[range..], usize::MAX),
            _ => answer("200 OK", "", body, usize::MAX),
        }
        None
    }
}

pub fn image(test: &str) -> (Image, Vec<Layer>) {
    let image = Image::new(test);
    let mut chance = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (chance >> 24) as u8
    })
    .take(300_000)
    .collect();
    let layers = vec![
        Layer::gzip(&[Entry::file("a", &noise)]),
        Layer::zstd(&[Entry::file("b", b"2")]),
        Layer::plain(&[Entry::file("c", b"3")]),
        Layer::gzip(&[Entry::file("d", b"4")]),
    ];
    image.write(&layers);
    (image, layers)
}

fn name(server: &Server) -> String {
    format!("127.0.0.1:{}/app:1", server.port)
}

fn log_in(image: &Image, port: u16) {
    let text = format!(r#"{{"auths":{{"127.0.0.1:{port}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#);
    fs::write(image.dir.join("auth.json"), text).unwrap();
}

#[test]
fn an_image_is_pulled_whatever_the_registry_demands() {
    if !is_root() {
        return;
    }
    let (image, layers) = image("registry-access");
    let digest = image.fetch().unwrap();
    for (fault, access) in [
        (Fault::None, Access::Open),
        (Fault::None, Access::Basic),
        (Fault::None, Access::Bearer),
        (Fault::Cut, Access::Bearer),
        (Fault::CutWhole, Access::Open),
        (Fault::Busy, Access::Basic),
    ] {
        let _ = fs::remove_dir_all(&image.store);
        let server = Server::start(&image, fault, access, 0);
        log_in(&image, server.port);
        assert_eq!(image.fetch_from(&name(&server)).as_ref(), Ok(&digest));
        assert!(layers.iter().all(|l| image.layer(l).is_dir()));
        let blobs = fs::read_dir(image.store.join("blobs/sha256")).unwrap().count();
        assert_eq!(blobs, 2, "the compressed layers are not kept");
        if fault == Fault::Cut {
            let continued = |s: &String| s.contains("/blobs/") && !s.contains(" 0 ");
            assert!(server.seen().iter().any(continued), "{:?}", server.seen());
        }
        if access == Access::Open {
            assert!(server.seen().iter().all(|s| !s.contains("Basic")), "nobody asked for the password");
        }
        let before = server.seen().len();
        let pinned = format!("127.0.0.1:{}/app@{digest}", server.port);
        assert_eq!(image.fetch_from(&pinned).as_ref(), Ok(&digest));
        assert!(server.seen().len() > before);
    }
}

#[test]
fn a_token_in_place_of_a_password_is_for_the_token_server() {
    if !is_root() {
        return;
    }
    let (image, _) = image("registry-identity");
    let server = Server::start(&image, Fault::None, Access::Bearer, 0);
    let text = |token: &str| {
        let port = server.port;
        let auth =
            format!(r#"{{"auths":{{"127.0.0.1:{port}":{{"auth":"MDo=","identitytoken":"{token}"}}}}}}"#);
        fs::write(image.dir.join("auth.json"), auth).unwrap();
    };
    text("wrong");
    let e = image.fetch_from(&name(&server)).unwrap_err();
    assert!(e.contains("refuses access (401)") && e.contains("the credentials are wrong"), "{e}");
    text("identity/1");
    image.fetch_from(&name(&server)).unwrap();
    assert!(
        server.seen().iter().all(|s| !s.contains("Basic") && !s.contains("identity")),
        "{:?}",
        server.seen()
    );
}

#[test]
fn a_pull_reports_each_layer() {
    if !is_root() {
        return;
    }
    let (image, layers) = image("registry-lines");
    let server = Server::start(&image, Fault::None, Access::Open, 0);
    let pull = |terminal: bool| {
        let words = [
            env!("CARGO_BIN_EXE_orund"),
            "image",
            "--dir",
            &image.store.to_string_lossy(),
            "pull",
            &name(&server),
        ]
        .map(str::to_owned);
        let mut command = Command::new(if terminal { "script" } else { &words[0] });
        match terminal {
            true => command.args(["-qec", &words.join(" "), "/dev/null"]),
            false => command.args(&words[1..]),
        };
        let out = command.output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8_lossy(if terminal { &out.stdout } else { &out.stderr }).into_owned()
    };
    let text = pull(false);
    let of = format!(" of {}: ", layers.len());
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("layer ") && l.contains(&of)).collect();
    assert_eq!(lines.len(), layers.len(), "{text}");
    assert_eq!(pull(false), "", "nothing is missing");
    fs::remove_dir_all(&image.store).unwrap();
    let text = pull(true);
    assert!(
        text.contains("\r\u{1b}[K[") && text.contains(&format!(" of {} layers", layers.len())),
        "{text:?}"
    );
    assert!(!text.contains("layer 1 of"), "{text:?}");
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    if !is_root() {
        return;
    }
    let (image, _) = image("registry-redirect");
    let other = Server::start(&image, Fault::None, Access::Open, 0);
    let server = Server::start(&image, Fault::Redirect, Access::Basic, other.port);
    log_in(&image, server.port);
    image.fetch_from(&name(&server)).unwrap();
    assert!(other.seen().len() >= 5, "{:?}", other.seen());
    assert!(other.seen().iter().all(|s| s.ends_with(' ')), "{:?}", other.seen());
    assert!(server.seen().iter().any(|s| s.contains(BASIC)));
}

#[test]
fn a_download_that_only_begins_again_comes_to_an_end() {
    if !is_root() {
        return;
    }
    let (image, _) = image("registry-waver");
    let server = Server::start(&image, Fault::Waver, Access::Open, 0);
    let e = image.fetch_from(&name(&server)).unwrap_err();
    assert!(e.contains("the download was interrupted") && e.lines().count() == 1, "{e}");
    assert!(server.seen().len() < 12, "{:?}", server.seen());
}

#[test]
fn what_is_left_of_an_earlier_attempt_may_be_damaged() {
    if !is_root() {
        return;
    }
    let (image, layers) = image("registry-part");
    let server = Server::start(&image, Fault::None, Access::Open, 0);
    let large = layers.iter().max_by_key(|l| l.bytes.len()).unwrap();
    let digest = digest(&large.bytes);
    let blobs = image.store.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for damaged in [&[7; 1000][..], &vec![7; large.bytes.len()], &vec![7; large.bytes.len() + 1]] {
        fs::write(blobs.join(format!("{}.part", &digest[7..])), damaged).unwrap();
        image.fetch_from(&name(&server)).unwrap();
        assert!(image.layer(large).is_dir());
        fs::remove_dir_all(image.layer(large).parent().unwrap()).unwrap();
    }
}

/// A small file system at the store of a test.
struct Small<'a>(&'a Image);

impl<'a> Small<'a> {
    fn mount(image: &'a Image) -> Small<'a> {
        fs::create_dir_all(&image.store).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&image.store);
        assert!(command.status().unwrap().success());
        Small(image)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(&self.0.store).status();
        assert!(done.is_ok_and(|s| s.success()), "a mount is left at {:?}", self.0.store);
    }
}

#[test]
fn a_full_disk_keeps_nothing_of_a_layer() {
    if !is_root() {
        return;
    }
    let image = Image::new("registry-full");
    // Small enough for the check before.
    let layer = Layer::gzip(&[Entry::file("zeros", &vec![0; 16 << 20])]);
    assert!(layer.bytes.len() < 1 << 20);
    image.write(std::slice::from_ref(&layer));
    let server = Server::start(&image, Fault::None, Access::Open, 0);
    let _small = Small::mount(&image);
    let e = image.fetch_from(&name(&server)).unwrap_err();
    assert!(e.contains("no space left on device; hint: free some space") && e.lines().count() == 1, "{e}");
    for dir in ["blobs/sha256", "tmp", "layers"] {
        let left: Vec<_> = fs::read_dir(image.store.join(dir)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn registries_that_misbehave_get_one_clear_error() {
    if !is_root() {
        return;
    }
    let (image, _) = image("registry-faults");
    for (fault, access, known, expected) in [
        (Fault::None, Access::Basic, false, "does not exist there, or needs credentials"),
        (Fault::Never, Access::Basic, true, "the credentials are wrong"),
        (Fault::Never, Access::Bearer, true, "refuses access (401)"),
        (Fault::Lie, Access::Open, true, "the registry sent wrong content: the digest of a layer is"),
        (Fault::LongManifest, Access::Open, true, "exceeds 4194304 bytes"),
        (Fault::Schema1, Access::Open, true, "schema 1"),
    ] {
        let server = Server::start(&image, fault, access, 0);
        log_in(&image, if known { server.port } else { 1 });
        let e = image.fetch_from(&name(&server)).unwrap_err();
        assert!(e.contains(expected) && e.lines().count() == 1, "{expected}: {e}");
        assert!(server.seen().len() < 12, "{:?}", server.seen());
        for dir in ["blobs/sha256", "tmp"] {
            let left: Vec<_> = fs::read_dir(image.store.join(dir)).unwrap().flatten().collect();
            assert!(left.is_empty(), "{expected}: {left:?}");
        }
    }
    let server = Server::start(&image, Fault::None, Access::Open, 0);
    let e = image.fetch_from(&format!("127.0.0.1:{}/app:none", server.port)).unwrap_err();
    assert!(e.contains("has no image \"app:none\"; hint: check the name"), "{e}");
    let e = image.fetch_from("127.0.0.1:1/app:1").unwrap_err();
    assert!(
        e.contains("cannot reach registry 127.0.0.1:1 (http://127.0.0.1:1): connection refused; hint:"),
        "{e}"
    );
    let conf = "[[registry]]\nprefix = \"evil.example\"\nblocked = true\n";
    fs::write(image.dir.join("registries.conf"), conf).unwrap();
    let e = image.fetch_from("evil.example/app").unwrap_err();
    assert!(e.contains("is blocked"), "{e}");
    let conf = format!(
        "[[registry]]\nlocation = \"main.example\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:{}\"\n",
        server.port
    );
    fs::write(image.dir.join("registries.conf"), conf).unwrap();
    image.fetch_from("main.example/app:1").unwrap();
}

#[test]
fn what_speaks_to_registries_has_few_capabilities() {
    if !is_root() {
        return;
    }
    let image = Image::new("registry-capabilities");
    // It accepts a connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orund"));
    command.arg("image-fetch").arg(&image.store);
    command.arg(format!("{}/app:1", silent.local_addr().unwrap())).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.env("HOME", &image.dir).spawn().unwrap();
    let _connection = silent.accept().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Those to make files, to confine and to mark; not CAP_NET_ADMIN, CAP_SYS_MODULE, CAP_SYS_PTRACE, CAP_BPF ...
    for line in ["CapBnd:\t000000008820011b", "CapEff:\t000000008820011b", "CapInh:\t0000000000000000"] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

#[test]
fn credentials_do_not_go_where_the_target_of_a_redirect_says() {
    if !is_root() {
        return;
    }
    let (image, _) = image("registry-redirect-401");
    // Its challenge names its own token server.
    let other = Server::start(&image, Fault::None, Access::Bearer, 0);
    for access in [Access::Open, Access::Basic, Access::Bearer] {
        let server = Server::start(&image, Fault::Redirect, access, other.port);
        log_in(&image, server.port);
        let e = image.fetch_from(&name(&server)).unwrap_err();
        let expected = format!("redirects to http://127.0.0.1:{}, which refuses access (401)", other.port);
        assert!(e.contains(&expected) && e.lines().count() == 1, "{e}");
        assert!(!other.seen().is_empty());
        assert!(other.seen().iter().all(|s| s.ends_with(' ')), "{:?}", other.seen());
    }
}

/// Debian's docker-registry with a user; killed in the end.
struct Debian(Child);

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(port: u16, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\nauthorization: {BASIC}\r\n\
         content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[test]
fn debians_registry_is_pulled_from() {
    if !is_root() {
        return;
    }
    if Command::new("docker-registry").arg("--version").output().is_err() {
        return skip("docker-registry is not installed");
    }
    let (image, layers) = image("registry-debian");
    let digest = image.fetch().unwrap();
    fs::remove_dir_all(&image.store).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let password = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
    fs::write(image.dir.join("htpasswd"), password).unwrap();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/registry}}}}\n\
         http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: r, path: {0}/htpasswd}}}}\n",
        image.dir.display()
    );
    fs::write(image.dir.join("registry.yml"), config).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(image.dir.join("registry.yml")).stdout(Stdio::null()).stderr(Stdio::null());
    let _registry = Debian(command.spawn().unwrap());
    let begun = std::time::Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed().as_secs() < 30, "docker-registry does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    for file in fs::read_dir(image.layout().join("blobs/sha256")).unwrap().flatten() {
        let bytes = fs::read(file.path()).unwrap();
        let (status, text) = send(port, "POST", "/v2/team/app/blobs/uploads/", "", b"");
        assert_eq!(status, 202, "{text}");
        let place = text.lines().find_map(|l| l.strip_prefix("Location: ")).unwrap();
        let path = &place[place.find("/v2/").unwrap()..];
        let path = format!("{path}&digest={}", crate::made::digest(&bytes));
        let (status, text) = send(port, "PUT", &path, "application/octet-stream", &bytes);
        assert_eq!(status, 201, "{text}");
    }
    let manifest = fs::read(image.layout().join("blobs").join(digest.replace(':', "/"))).unwrap();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let (status, text) = send(port, "PUT", "/v2/team/app/manifests/1", kind, &manifest);
    assert_eq!(status, 201, "{text}");
    let name = format!("localhost:{port}/team/app:1");
    let e = image.fetch_from(&name).unwrap_err();
    assert!(e.contains("does not exist there, or needs credentials"), "{e}");
    let text = format!(r#"{{"auths":{{"localhost:{port}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#);
    fs::write(image.dir.join("auth.json"), text).unwrap();
    assert_eq!(image.fetch_from(&name).as_ref(), Ok(&digest));
    assert!(layers.iter().all(|l| image.layer(l).is_dir()));
}
