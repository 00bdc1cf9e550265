//! Registries that stop sending.

use crate::is_root;
use crate::registry::{Access, Fault, Server, image};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// Of an answer that never ends.
pub const HEAD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 300000\r\n\r\n";

/// Answers with `head`, and after it with nothing or with a byte at a time, until the client has had enough.
pub fn stall(stream: &mut TcpStream, head: &str, drip: bool) -> Option<()> {
    stream.write_all(head.as_bytes()).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
    loop {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(_) => return None,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return None,
        }
        if drip {
            stream.write_all(b" ").ok()?;
        }
    }
}

#[test]
fn a_registry_that_stalls_is_given_up() {
    if !is_root() {
        return;
    }
    let (image, layers) = image("registry-stalls");
    let pull = |port: u16, patience: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orund"));
        command.args(["image", "--dir"]).arg(&image.store).args(["pull", &format!("127.0.0.1:{port}/app:1")]);
        command.env("ORUND_REGISTRY_TIMEOUT", patience).env("HOME", &image.dir);
        let out = command.output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        let errors = text.lines().filter(|l| !l.starts_with("layer ")).count();
        (out.status.success(), errors, text)
    };
    for (fault, expected) in [
        (Fault::Silent, "no answer in time; hint: the registry may be busy"),
        (Fault::Head, "reading the answer of the registry: the registry sent nothing for 1 s"),
        (Fault::Drip, "reading the answer of the registry: the registry sent "),
        (Fault::SilentLayers, "bytes, after 0: cannot reach registry"),
        (Fault::HeadLayers, "the download was interrupted: the registry sent nothing for 1 s"),
        (Fault::DripLayers, "the download was interrupted: the registry sent "),
    ] {
        let server = Server::start(&image, fault, Access::Open, 0);
        let (done, errors, text) = pull(server.port, "1");
        assert!(!done && errors == 1 && text.contains(expected), "{expected}: {text}");
        assert!(server.seen().len() < 12, "{:?}", server.seen());
        let large = layers.iter().max_by_key(|l| l.bytes.len()).unwrap();
        assert!(!image.layer(large).exists());
        let left = |dir: &str| fs::read_dir(image.store.join(dir)).map_or(0, Iterator::count);
        // What came of a layer is for the next attempt to continue; of an image there is nothing.
        assert!(left("tmp") == 0 && left("blobs/sha256") <= 1, "{expected}");
        let _ = fs::remove_dir_all(&image.store);
    }
    let (done, _, text) = pull(1, "soon");
    assert!(!done && text.contains("must be a number of seconds from 1 to 3600, not \"soon\""), "{text}");
}
