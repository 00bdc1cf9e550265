//! The lines of log files.

use super::Stream;
use crate::sys::timestamp::Timestamp;

/// A longer line is written in parts.
const LONGEST: usize = 16 << 10;

/// The time, in RFC 3339 with nine digits of the second, so that texts compare like times.
pub fn now() -> String {
    let now = Timestamp::now();
    let mut text = now.rfc3339();
    text.truncate(text.len() - 1);
    format!("{text}.{:09}Z", now.nanos)
}

/// Appends `data`, which came at `time` (RFC 3339), to `out`. Text without a line feed at its end is marked as a part:
/// the rest of the line may come any time later, or never.
pub fn encode(out: &mut Vec<u8>, time: &str, stream: Stream, data: &[u8]) {
    for line in data.split_inclusive(|b| *b == b'\n') {
        let (text, ended) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        let mut rest = text;
        loop {
            let (part, after) = rest.split_at(rest.len().min(LONGEST));
            let last = after.is_empty();
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
            out.extend_from_slice(stream.name().as_bytes());
            out.extend_from_slice(if last && ended { b" F " } else { b" P " });
            out.extend_from_slice(part);
            out.push(b'\n');
            if last {
                break;
            }
            rest = after;
        }
    }
}

/// One line of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// RFC 3339, UTC, nine digits of the second: texts compare like times.
    pub time: &'a str,
    pub stream: Stream,
    /// The text was terminated by a line feed.
    pub full: bool,
    pub text: &'a [u8],
}

/// Takes a line apart, without its line feed; None for what no supervisor wrote.
pub fn decode(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let full = match parts.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Line { time, stream, full, text: parts.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, "T", Stream::Stderr, data);
        out
    }

    #[test]
    fn lines_and_parts_of_lines() {
        assert_eq!(lines(b"a b\n\nc"), b"T stderr F a b\nT stderr F \nT stderr P c\n");
        assert_eq!(lines(b""), b"");
        let long = vec![b'x'; LONGEST + 1];
        let got = lines(&long);
        let parts: Vec<Line> = got.split(|b| *b == b'\n').filter_map(decode).collect();
        assert_eq!(
            parts.iter().map(|l| (l.text.len(), l.full)).collect::<Vec<_>>(),
            [(LONGEST, false), (1, false)]
        );
        assert_eq!(decode(b"T stdin F x"), None);
        assert_eq!(decode(b"T stdout F"), None);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(data in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300)) {
            let mut text = Vec::new();
            for line in lines(&data).split_inclusive(|b| *b == b'\n') {
                let line = decode(line.strip_suffix(b"\n").unwrap()).unwrap();
                text.extend_from_slice(line.text);
                text.extend(line.full.then_some(b'\n'));
            }
            prop_assert_eq!(text, data);
        }
    }
}
