//! As much of gRPC as one call at a time needs, on a unix socket: HTTP/2 (RFC 9113) without compression of header
//! fields, and protocol buffers as lists of fields. The daemon's half of the field table is never read, so that a
//! failed call says that it has failed; the words are in the daemon's log.

use runtime_tests::check::{Context, Result, fail};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(60);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A message of protocol buffers that is being written.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// No fields yet.
    pub fn new() -> Message {
        Message::default()
    }

    /// A field of text or bytes.
    pub fn text(mut self, field: u32, text: impl AsRef<[u8]>) -> Message {
        let text = text.as_ref();
        varint(&mut self.0, u64::from(field << 3 | 2));
        varint(&mut self.0, text.len() as u64);
        self.0.extend(text);
        self
    }

    /// A repeated field of text.
    pub fn texts(self, field: u32, texts: &[&str]) -> Message {
        texts.iter().fold(self, |m, text| m.text(field, text))
    }

    /// A number; negative ones in the form of int64.
    pub fn number(mut self, field: u32, value: i64) -> Message {
        varint(&mut self.0, u64::from(field << 3));
        varint(&mut self.0, value as u64);
        self
    }

    /// A message in the message.
    pub fn message(self, field: u32, inner: &Message) -> Message {
        self.text(field, &inner.0)
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A message that has been received.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// The fields in order: number, value of a number, bytes of anything else.
    fn all(&self) -> Vec<(u32, u64, &[u8])> {
        let (mut rest, mut found) = (self.0.as_slice(), Vec::new());
        while let Some(tag) = take_varint(&mut rest) {
            let field = (tag >> 3) as u32;
            let Some(value) = (if tag & 7 == 1 || tag & 7 == 5 { Some(0) } else { take_varint(&mut rest) })
            else {
                break;
            };
            let length = match tag & 7 {
                0 => 0,
                1 => 8,
                5 => 4,
                _ => value as usize,
            };
            let Some((bytes, after)) = rest.split_at_checked(length) else { break };
            rest = after;
            found.push((field, value, bytes));
        }
        found
    }

    /// A number; 0 when it is absent, as the format has it.
    pub fn number(&self, field: u32) -> u64 {
        self.all().iter().find(|(f, ..)| *f == field).map_or(0, |(_, value, _)| *value)
    }

    /// Text; empty when it is absent.
    pub fn text(&self, field: u32) -> String {
        String::from_utf8_lossy(&self.message(field).0).into_owned()
    }

    /// A message in the message; an empty one when it is absent.
    pub fn message(&self, field: u32) -> Fields {
        Fields(
            self.all()
                .iter()
                .find(|(f, ..)| *f == field)
                .map(|(_, _, bytes)| bytes.to_vec())
                .unwrap_or_default(),
        )
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Calls `path` (`/package.Service/Method`) of the daemon at `socket`.
pub fn call(socket: &Path, path: &str, request: &Message) -> Result<Fields> {
    let mut stream = UnixStream::connect(socket).context(&format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    let mut fields = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal field that is not kept in the table (RFC 7541, 6.2.2).
        fields.push(0);
        for text in [name, value] {
            runtime_tests::ensure!(text.len() < 127, "{text:?} is too long");
            fields.push(text.len() as u8);
            fields.extend(text.bytes());
        }
    }
    frame(&mut out, HEADERS, END_HEADERS, 1, &fields);
    let mut body = vec![0];
    body.extend((request.0.len() as u32).to_be_bytes());
    body.extend(&request.0);
    frame(&mut out, DATA, END_STREAM, 1, &body);
    stream.write_all(&out)?;
    let answer = receive(&mut stream).context(path)?;
    match answer.split_at_checked(5) {
        Some((_, message)) => Ok(Fields(message.to_vec())),
        None => fail(format!("{path} has failed")),
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// The data of the answer, up to its end.
fn receive(stream: &mut UnixStream) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        match (head[3], head[4]) {
            (SETTINGS, flags) if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, ACK, 0, &[]);
                stream.write_all(&ack)?;
            }
            (RST_STREAM | GOAWAY, _) => return fail("the daemon has closed the call"),
            (DATA, flags) => {
                data.extend(payload);
                if flags & END_STREAM != 0 {
                    return Ok(data);
                }
            }
            (HEADERS, flags) if flags & END_STREAM != 0 => return Ok(data),
            _ => {}
        }
    }
}
