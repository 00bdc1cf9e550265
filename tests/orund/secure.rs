//! Probes of servers that speak TLS and gRPC. The servers are threads of the test on the host's loopback interface, where a pod
//! with `hostNetwork` finds them.

use crate::daemon::{Daemon, can_run, wait_for};
use crate::skip::skip;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A pod of one container that sleeps, in the network of the host.
fn apply(d: &Daemon, probe: &Value) {
    let main = json!({
        "name": "main", "bundle": d.dir.join("bundle"), "command": ["sleep", "1000"], "readinessProbe": probe,
    });
    let spec = json!({
        "terminationGracePeriodSeconds": 0, "hostNetwork": true, "pod": {"labels": {"app": "web"}},
        "containers": [main],
    });
    let metadata = json!({"name": "web"});
    let w = json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": metadata, "spec": spec});
    let (status, answer) = d.api("POST", "/v1/workloads", &w.to_string());
    assert_eq!(status, 200, "{answer}\n{}", d.output());
}

/// Serves each connection in turn until the test is over. Its port.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    port
}

fn events(d: &Daemon) -> String {
    d.api("GET", "/v1/events", "").1.to_string()
}

/// Follows readiness while `state` changes: 1 is well.
fn follow(d: &Daemon, state: &AtomicU8, bad: u8, expected: &str) {
    d.wait("web-0", "it to be ready", |r| r["ready"] == true);
    state.store(bad, Ordering::SeqCst);
    d.wait("web-0", "it not to be ready", |r| r["ready"] == false);
    wait_for("the reason", || events(d).contains(expected).then_some(()));
    state.store(1, Ordering::SeqCst);
    d.wait("web-0", "it to be ready again", |r| r["ready"] == true);
}

#[test]
fn a_server_with_a_certificate_of_its_own_is_asked_over_tls() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("https", &[]);
    let (key, cert) = (d.dir.join("key.pem"), d.dir.join("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=nobody", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|s| s.success()) {
        d.stop();
        return skip("needs openssl");
    }
    let chain = vec![CertificateDer::from_pem_slice(&fs::read(&cert).unwrap()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&fs::read(&key).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let state = Arc::new(AtomicU8::new(1));
    let now = Arc::clone(&state);
    let port = serve(move |tcp| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
        let mut request = Vec::new();
        let mut some = [0; 512];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut some) {
                Ok(n) if n > 0 => request.extend_from_slice(&some[..n]),
                _ => return,
            }
        }
        let well = now.load(Ordering::SeqCst) == 1 && request.starts_with(b"GET /ready HTTP/1.1\r\n");
        let head = if well { "HTTP/1.1 200 OK\r\n\r\n" } else { "HTTP/1.1 503 Busy\r\n\r\n" };
        let _ = stream.write_all(head.as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let get = json!({"path": "/ready", "port": port, "host": "127.0.0.1", "scheme": "HTTPS"});
    apply(&d, &json!({"httpGet": get, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 1}));
    follow(&d, &state, 2, "HTTP probe failed with statuscode: 503");
    d.stop();
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let head = [0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
    [&head, payload].concat()
}

/// One call of HTTP/2, in the bytes of RFC 9113: settings, a ping, then the answer with its trailers, or trailers alone.
fn grpc(mut tcp: TcpStream, state: u8) {
    let mut request = Vec::new();
    let mut some = [0; 512];
    while !request.windows(12).any(|w| w == b"grpc.health.") {
        match tcp.read(&mut some) {
            Ok(n) if n > 0 => request.extend_from_slice(&some[..n]),
            _ => return,
        }
    }
    assert!(request.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    let status = b"\x88\x5f\x10application/grpc";
    let ok = b"\x40\x0bgrpc-status\x010";
    let not_found = b"\x88\x5f\x10application/grpc\x40\x0bgrpc-status\x015";
    let mut answer =
        [frame(4, 0, 0, b"\0\x03\0\0\0\x64"), frame(4, 1, 0, b""), frame(6, 0, 0, b"12345678")].concat();
    if state == 5 {
        answer.extend(frame(1, 5, 1, not_found));
    } else {
        answer.extend(frame(1, 4, 1, status));
        // In two pieces, the second with padding.
        answer.extend(frame(0, 0, 1, b"\0\0\0\0"));
        answer.extend(frame(0, 8, 1, &[3, 2, 8, state, 0, 0, 0]));
        answer.extend(frame(1, 5, 1, ok));
    }
    let _ = tcp.write_all(&answer);
    let _ = tcp.read(&mut some);
}

#[test]
fn a_server_is_asked_by_the_health_protocol_of_grpc() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("grpc", &[]);
    let state = Arc::new(AtomicU8::new(1));
    let now = Arc::clone(&state);
    let port = serve(move |tcp| grpc(tcp, now.load(Ordering::SeqCst)));
    let grpc = json!({"port": port, "service": "db"});
    apply(&d, &json!({"grpc": grpc, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 1}));
    follow(&d, &state, 2, "the service is NOT_SERVING");
    follow(&d, &state, 5, "the server may not know the service");
    let shown = crate::client::ok(&d, "describe replica/web-0");
    assert!(shown.contains(&format!("grpc :{port} db")), "{shown}");
    d.stop();
}
