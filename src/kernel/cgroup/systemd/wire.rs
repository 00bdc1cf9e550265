//! The messages of D-Bus, as bytes (D-Bus specification, "Marshaling" and "Message Format"): little-endian, and as much
//! of it as calls to systemd and its answers need.

use crate::plan::cgroup::systemd::Value;

/// Bytes of the fixed part of a header.
pub(super) const FIXED: usize = 16;
/// Longer messages are refused; systemd's to us are far shorter.
pub(super) const LONGEST: usize = 1 << 24;

/// Kinds of messages.
pub(super) const CALL: u8 = 1;
pub(super) const RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// Puts values behind each other, each at its alignment.
#[derive(Debug, Default)]
pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    fn align(&mut self, n: usize) {
        self.0.resize(self.0.len().next_multiple_of(n), 0);
    }

    fn u32(&mut self, n: u32) {
        self.align(4);
        self.0.extend(n.to_le_bytes());
    }

    pub fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array of elements of the type `of`, which `fill` writes.
    pub fn array(&mut self, of: &str, fill: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        // The gap before the first element does not count, and exists even for an empty array.
        self.align(alignment(of));
        let start = self.0.len();
        fill(self);
        let length = (self.0.len() - start) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// A structure begins.
    pub fn structure(&mut self) {
        self.align(8);
    }

    pub fn variant(&mut self, v: &Value) {
        self.signature(&v.signature());
        self.value(v);
    }

    pub fn value(&mut self, v: &Value) {
        self.align(alignment(&v.signature()));
        match v {
            Value::Bool(b) => self.u32((*b).into()),
            Value::Byte(n) => self.0.push(*n),
            Value::I16(n) => self.0.extend(n.to_le_bytes()),
            Value::U16(n) => self.0.extend(n.to_le_bytes()),
            Value::I32(n) => self.0.extend(n.to_le_bytes()),
            Value::U32(n) => self.0.extend(n.to_le_bytes()),
            Value::I64(n) => self.0.extend(n.to_le_bytes()),
            Value::U64(n) => self.0.extend(n.to_le_bytes()),
            Value::Double(n) => self.0.extend(n.to_le_bytes()),
            Value::Str(text) => self.string(text),
            Value::Array(of, list) => self.array(of, |w| list.iter().for_each(|v| w.value(v))),
            Value::Struct(parts) => parts.iter().for_each(|v| self.value(v)),
        }
    }
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// `None` on a connection without a bus.
    pub destination: Option<&'a str>,
    pub path: &'a str,
    pub interface: &'a str,
}

/// The message of a call.
pub(super) fn call(serial: u32, to: Target, member: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut w = Writer(vec![b'l', CALL, 0, 1]);
    w.u32(body.len() as u32);
    w.u32(serial);
    w.array("(yv)", |w| {
        let mut field = |code: u8, kind: &str, text: &str| {
            w.structure();
            w.0.push(code);
            w.signature(kind);
            if kind == "g" { w.signature(text) } else { w.string(text) }
        };
        field(1, "o", to.path);
        field(2, "s", to.interface);
        field(3, "s", member);
        if let Some(d) = to.destination {
            field(6, "s", d);
        }
        if !signature.is_empty() {
            field(8, "g", signature);
        }
    });
    w.align(8);
    w.0.extend(body);
    w.0
}

/// A message that has come.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Message {
    pub kind: u8,
    /// The serial of the call that it answers.
    pub reply_to: u32,
    pub member: String,
    /// The name of an error.
    pub error: String,
    pub signature: String,
    pub body: Vec<u8>,
}

/// The length of a message after its fixed part, from that; `None` when the message cannot be read.
pub(super) fn rest(fixed: &[u8; FIXED]) -> Option<usize> {
    let n = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
    let (body, fields) = (n(4), n(12));
    let total = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    (fixed[0] == b'l' && fixed[3] == 1 && total <= LONGEST).then_some(total)
}

/// Reads a message; `None` when it is malformed.
pub(super) fn message(fixed: &[u8; FIXED], rest: &[u8]) -> Option<Message> {
    let fields = u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]) as usize;
    let mut m = Message { kind: fixed[1], ..Message::default() };
    // The fields begin at an offset that is a multiple of 8, as this slice does.
    let mut r = Reader { bytes: rest.get(..fields)?, at: 0 };
    while r.at < r.bytes.len() {
        r.align(8);
        let code = r.byte()?;
        let kind = r.signature()?;
        match (code, kind.as_str()) {
            (5, "u") => m.reply_to = r.u32()?,
            (3, "s") => m.member = r.string()?,
            (4, "s") => m.error = r.string()?,
            (8, "g") => m.signature = r.signature()?,
            (_, "s" | "o") => drop(r.string()?),
            (_, "g") => drop(r.signature()?),
            (_, "u") => drop(r.u32()?),
            _ => return None,
        }
    }
    m.body = rest.get(fields.next_multiple_of(8)..)?.to_vec();
    Some(m)
}

/// Takes values off the beginning of a body.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Message {
    pub fn reader(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }

    /// The text that a body begins with.
    pub fn text(&self) -> String {
        let begins = self.signature.starts_with(['s', 'o']);
        begins.then(|| self.reader().string()).flatten().unwrap_or_default()
    }
}

impl Reader<'_> {
    fn align(&mut self, n: usize) {
        self.at = self.at.next_multiple_of(n);
    }

    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let part = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(part)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A string or an object path.
    pub fn string(&mut self) -> Option<String> {
        let n = self.u32()? as usize;
        let text = String::from_utf8(self.take(n)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    pub fn signature(&mut self) -> Option<String> {
        let n = self.byte()? as usize;
        let text = String::from_utf8(self.take(n)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

/// A message as the bus sends it, and its first values.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    let Some((fixed, behind)) = data.split_first_chunk::<FIXED>() else { return };
    let Some(length) = rest(fixed) else { return };
    assert!(length <= LONGEST);
    if let Some(m) = message(fixed, behind.get(..length).unwrap_or(behind)) {
        let _ = m.text();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let to = Target { destination: Some("a.b"), path: "/x", interface: "i.f" };
        let m = call(7, to, "Get", "s", &{
            let mut w = Writer::default();
            w.string("hi");
            w.0
        });
        assert_eq!(m[..16], [b'l', 1, 0, 1, 7, 0, 0, 0, 7, 0, 0, 0, m[12], 0, 0, 0]);
        assert_eq!(m[16..28], [1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'x', 0, 0]);
        assert!(m.ends_with(&[2, 0, 0, 0, b'h', b'i', 0]));
        let fixed: [u8; FIXED] = m[..FIXED].try_into().unwrap();
        assert_eq!(rest(&fixed), Some(m.len() - FIXED));
        let back = message(&fixed, &m[FIXED..]).unwrap();
        assert_eq!((back.kind, back.member.as_str(), back.text().as_str()), (CALL, "Get", "hi"));
        // Cut short anywhere it is malformed, and nothing panics.
        for n in 0..m.len() - FIXED - 7 {
            assert!(message(&fixed, &m[FIXED..FIXED + n]).is_none(), "{n}");
        }
    }

    #[test]
    fn values_are_aligned_and_arrays_tell_their_length() {
        let mut w = Writer::default();
        w.variant(&Value::Array("(st)".into(), vec![Value::Struct(vec![Value::text("a"), Value::U64(1)])]));
        // signature, gap, length 16, gap to 8, "a", gap, 1
        let mut want = b"\x05a(st)\0".to_vec();
        want.resize(8, 0);
        want.extend([16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'a', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(w.0, want);
        let mut w = Writer::default();
        w.value(&Value::Array("t".into(), vec![]));
        assert_eq!(w.0, [0; 8]);
        let mut w = Writer::default();
        w.value(&Value::Bool(true));
        w.value(&Value::Array("y".into(), vec![Value::Byte(3)]));
        assert_eq!(w.0, [1, 0, 0, 0, 1, 0, 0, 0, 3]);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        let mut fixed = [b'l', 2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(rest(&fixed), None);
        fixed[0] = b'B';
        fixed[4..].fill(0);
        assert_eq!(rest(&fixed), None);
    }
}
