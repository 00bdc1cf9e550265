//! The health protocol of gRPC: one unary call, `grpc.health.v1.Health/Check`, over HTTP/2 without TLS, as kubelet makes it.
//!
//! Only the message of the answer counts. A failed call has none, only headers, which need not be decoded for that
//! (RFC 9113, RFC 7541; the mapping is in gRPC's PROTOCOL-HTTP2).

use super::stream::Stream;
use super::{Outcome, Target, Unconnected, address, connect};
use crate::supervisor::core::spec::Endpoint;
use std::io;

/// The longest payload of a frame that is accepted without an announcement (RFC 9113, section 4.2).
const LONGEST_FRAME: usize = 16 << 10;
/// How much the server may send in all.
const MOST: usize = 64 << 10;
/// The value of `status` when all is well.
const SERVING: u64 = 1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
const FLAG_END: u8 = 1;
const FLAG_END_HEADERS: u8 = 4;
const FLAG_PADDED: u8 = 8;

/// Asks whether `service` is well; without a name, the server.
pub async fn check(target: &Target, endpoint: &Endpoint, service: &str) -> Outcome {
    let tcp = match connect(target, endpoint).await {
        Ok(tcp) => tcp,
        Err(Unconnected::Socket(e)) => return Outcome::Unknown(e),
        Err(Unconnected::Refused(e)) => return Outcome::Failure(e),
    };
    let mut stream = Stream::plain(tcp);
    let request = call(&address(endpoint).to_string(), service);
    let answer = async {
        stream.write_all(&request).await?;
        message(&mut stream).await
    };
    match answer.await {
        Ok(Some(message)) => match status(&message) {
            Some(SERVING) => Outcome::Success,
            Some(n) => Outcome::Failure(format!("the service is {}", word(n))),
            None => Outcome::Failure("the response is not one of grpc.health.v1.Health".to_owned()),
        },
        Ok(None) => Outcome::Failure(match service {
            "" => "the call failed: the server may not have the health service".to_owned(),
            service => format!("the call failed: the server may not know the service {service:?}"),
        }),
        Err(e) => Outcome::Failure(format!("asking by gRPC: {e}")),
    }
}

fn word(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "in a state that the protocol does not have",
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Everything that is sent for one call. The headers are literals without an index and without Huffman codes.
fn call(authority: &str, service: &str) -> Vec<u8> {
    let agent = concat!("kube-probe/orund-", env!("CARGO_PKG_VERSION"));
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", agent),
    ] {
        headers.push(0);
        literal(&mut headers, name);
        literal(&mut headers, value);
    }
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let data: Vec<u8> = [0].into_iter().chain(length.to_be_bytes()).chain(message).collect();
    let mut all = PREFACE.to_vec();
    all.extend(frame(SETTINGS, 0, 0, &[]));
    all.extend(frame(HEADERS, FLAG_END_HEADERS, 1, &headers));
    all.extend(frame(DATA, FLAG_END, 1, &data));
    all
}

/// A string of HPACK (RFC 7541, section 5.2): its length has a prefix of seven bits.
fn literal(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        n if n < 127 => out.push(n as u8),
        n => {
            out.push(127);
            varint(out, (n - 127) as u64);
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Seven bits at a time, the lowest first: of HPACK and of protocol buffers.
fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

/// The message of the answer. None: the call failed.
async fn message(stream: &mut Stream) -> io::Result<Option<Vec<u8>>> {
    let mut incoming = Incoming { stream, buf: Vec::new(), total: 0 };
    let mut data = Vec::new();
    loop {
        let (kind, flags, id, payload) = incoming.frame().await?;
        match kind {
            SETTINGS if flags & FLAG_END == 0 => {
                incoming.stream.write_all(&frame(SETTINGS, FLAG_END, 0, &[])).await?;
            }
            PING if flags & FLAG_END == 0 => {
                incoming.stream.write_all(&frame(PING, FLAG_END, 0, &payload)).await?;
            }
            DATA if id == 1 => {
                data.extend_from_slice(unpadded(flags, &payload).ok_or(io::ErrorKind::InvalidData)?);
                if let Some(message) = whole(&data)? {
                    return Ok(Some(message));
                }
            }
            GOAWAY => return Err(io::Error::other("the server closes the connection")),
            _ => {}
        }
        let over = matches!(kind, DATA | HEADERS) && flags & FLAG_END != 0;
        if id == 1 && (over || kind == RST_STREAM) {
            return Ok(None);
        }
    }
}

fn unpadded(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if flags & FLAG_PADDED == 0 {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// The message of gRPC that `data` begins with, once all of it has arrived.
fn whole(data: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Some((head, rest)) = data.split_first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || length > LONGEST_FRAME {
        return Err(io::Error::other("the answer is compressed or too long"));
    }
    Ok(rest.get(..length).map(<[u8]>::to_vec))
}

/// The first field of the message, `status`; without it, 0.
fn status(message: &[u8]) -> Option<u64> {
    if message.is_empty() {
        return Some(0);
    }
    let rest = message.strip_prefix(&[0x08])?;
    let mut n = 0;
    for (at, byte) in rest.iter().take(9).enumerate() {
        n |= u64::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Some(n);
        }
    }
    None
}

struct Incoming<'s> {
    stream: &'s mut Stream,
    buf: Vec<u8>,
    total: usize,
}

impl Incoming<'_> {
    /// The next frame: its type, flags, stream and payload.
    async fn frame(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some((head, rest)) = self.buf.split_first_chunk::<9>() {
                let [a, b, c, kind, flags, id @ ..] = *head;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if length > LONGEST_FRAME {
                    return Err(io::Error::other("not HTTP/2, or a frame that is too long"));
                }
                if let Some(payload) = rest.get(..length) {
                    let payload = payload.to_vec();
                    self.buf.drain(..9 + length);
                    return Ok((kind, flags, u32::from_be_bytes(id) & 0x7fff_ffff, payload));
                }
            }
            if self.total > MOST {
                return Err(io::Error::other(format!("the answer exceeds {MOST} bytes")));
            }
            let mut some = [0; 2048];
            match self.stream.read(&mut some).await? {
                0 => return Err(io::Error::other("the connection was closed before the answer")),
                n => {
                    self.total += n;
                    self.buf.extend_from_slice(&some[..n]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_request_of_http_2() {
        let bytes = call("127.0.0.1:50051", "db");
        let rest = bytes.strip_prefix(PREFACE).unwrap();
        assert_eq!(rest[..9], [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
        let length = usize::from(rest[11]) | usize::from(rest[10]) << 8;
        assert_eq!(rest[12..18], [HEADERS, FLAG_END_HEADERS, 0, 0, 0, 1]);
        let headers = &rest[18..18 + length];
        assert!(headers.starts_with(b"\0\x07:method\x04POST\0\x07:scheme\x04http"));
        // A service is field 1 of the message.
        let data = &rest[18 + length..];
        assert_eq!(data, [0, 0, 9, DATA, FLAG_END, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
    }

    #[test]
    fn the_status_is_read() {
        for (message, expected) in [
            (&b"\x08\x01"[..], Some(1)),
            (b"\x08\x02", Some(2)),
            (b"", Some(0)),
            (b"\x10\x01", None),
            (b"\x08\xff", None),
        ] {
            assert_eq!(status(message), expected, "{message:?}");
        }
        assert_eq!(whole(b"\0\0\0\0\x02\x08").unwrap(), None);
        assert_eq!(whole(b"\0\0\0\0\x02\x08\x01x").unwrap(), Some(b"\x08\x01".to_vec()));
        assert!(whole(b"\x01\0\0\0\x02\x08\x01").is_err() && whole(b"\0\xff\0\0\0").is_err());
        assert_eq!(unpadded(FLAG_PADDED, b"\x02ab\0\0"), Some(&b"ab"[..]));
        assert_eq!(unpadded(FLAG_PADDED, b"\x09ab"), None);
    }
}
