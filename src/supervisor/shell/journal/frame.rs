//! The records of a journal: `[length u32][CRC-32C u32][kind u8][version u8][payload]`, numbers in little-endian order.
//! The length is that of the payload; the checksum covers kind, version and payload.
//!
//! An append that was interrupted leaves an incomplete record at the end of the file. Everything else that cannot be read is
//! damage: it was on disk once, and may have been acknowledged.

/// Bytes before the payload.
const HEAD: usize = 10;
/// No record is longer: a length beyond it is damage.
const LONGEST: usize = 256 << 20;
/// Blocks that a file system had no time to write read as zeros; that many at the end of a record cannot be payload and checksum.
const UNWRITTEN: usize = 8;
/// The version of the payloads that this program writes. It grows when an older program could not read a newer record rightly.
/// 1: orund 0.1 up to November 2026. 2: a tag names its writer, and there is always a snapshot.
pub const VERSION: u8 = 2;

/// Kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// The owner of the journal, in JSON.
    Tag = 1,
    /// The state before the records that follow, in JSON.
    Snapshot = 2,
    /// One change of the state, in JSON.
    Record = 3,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<FrameKind> {
        [FrameKind::Tag, FrameKind::Snapshot, FrameKind::Record].into_iter().find(|k| *k as u8 == byte)
    }
}

/// A whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Kind of the record.
    pub kind: FrameKind,
    /// Version of its format.
    pub version: u8,
    /// Where it begins in the file.
    pub at: usize,
    /// Content, checked against the checksum.
    pub payload: &'a [u8],
}

/// The rest of a file after the complete records at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing: the file ends with a whole record.
    Nothing,
    /// An append that was interrupted: never acknowledged.
    Torn,
    /// The checksum does not match. `next`: where the next whole record begins.
    Damaged {
        /// Offset in the file; `None`: there is none.
        next: Option<usize>,
    },
    /// A whole record of a version that this program does not know.
    Newer {
        /// The version.
        version: u8,
    },
}

/// A file, record by record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The whole records from the beginning.
    pub records: Vec<Record<'a>>,
    /// Bytes that they take.
    pub end: usize,
    /// The rest after them.
    pub rest: Rest,
}

/// Appends a record to `out`.
pub fn encode(out: &mut Vec<u8>, kind: FrameKind, payload: &[u8]) {
    encode_version(out, kind, VERSION, payload);
}

/// Appends a record of another version.
pub fn encode_version(out: &mut Vec<u8>, kind: FrameKind, version: u8, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[kind as u8, version]);
    out.extend_from_slice(payload);
    let sum = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the whole records from `from` on, as far as they follow each other.
pub fn scan(bytes: &[u8], from: usize) -> Scan<'_> {
    let mut records = Vec::new();
    let mut at = from;
    let rest = loop {
        match whole(bytes, at) {
            Some((kind, version, payload)) => match FrameKind::from_byte(kind) {
                Some(kind) if version <= VERSION => {
                    records.push(Record { kind, version, at, payload });
                    at += HEAD + payload.len();
                }
                _ => break Rest::Newer { version },
            },
            None => break rest(bytes, at),
        }
    };
    Scan { records, end: at, rest }
}

/// FrameKind, version and payload of the record at `at`, when its checksum matches.
fn whole(bytes: &[u8], at: usize) -> Option<(u8, u8, &[u8])> {
    let head = Head::parse_head(bytes, at)?;
    let body = bytes.get(at + 8..at + HEAD + head.length)?;
    // A file of zeros has no records.
    let matches = head.length <= LONGEST && body[1] > 0 && crc32c::crc32c(body) == head.sum;
    matches.then(|| (body[0], body[1], &body[2..]))
}

struct Head {
    length: usize,
    sum: u32,
}

impl Head {
    fn parse_head(bytes: &[u8], at: usize) -> Option<Head> {
        let head = bytes.get(at..at + HEAD)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Some(Head { length: number(0) as usize, sum: number(4) })
    }
}

/// Classifies `bytes` from `at` on, where no complete record begins.
fn rest(bytes: &[u8], at: usize) -> Rest {
    let tail = &bytes[at..];
    if tail.is_empty() {
        return Rest::Nothing;
    }
    if let Some(next) = next_whole(bytes, at + 1) {
        return Rest::Damaged { next: Some(next) };
    }
    let Some(head) = Head::parse_head(bytes, at) else { return Rest::Torn };
    let unwritten = |part: &[u8]| part.len() >= UNWRITTEN && part.iter().all(|b| *b == 0);
    let incomplete = match tail.get(..HEAD + head.length) {
        // The checksum does not cover the length: the record may be whole, but for its length.
        None => !has_end(tail, head.sum),
        Some(record) => unwritten(&record[record.len().saturating_sub(UNWRITTEN)..]),
    };
    if incomplete { Rest::Torn } else { Rest::Damaged { next: None } }
}

/// Whether a record with this checksum ends anywhere in `tail`, at whose beginning it begins.
fn has_end(tail: &[u8], sum: u32) -> bool {
    let mut so_far = crc32c::crc32c(&tail[8..HEAD]);
    let mut ends = tail[HEAD..].iter().map(|byte| {
        so_far = crc32c::crc32c_append(so_far, &[*byte]);
        so_far
    });
    // The shortest has no payload.
    crc32c::crc32c(&tail[8..HEAD]) == sum || ends.any(|s| s == sum)
}

/// Where the next whole record begins.
pub fn next_whole(bytes: &[u8], from: usize) -> Option<usize> {
    // Looking at the kind first spares most checksums: the bytes of JSON are greater.
    let likely = |at: &usize| bytes.get(at + 8).is_some_and(|kind| FrameKind::from_byte(*kind).is_some());
    (from..bytes.len()).filter(likely).find(|at| whole(bytes, *at).is_some())
}

/// The record at `at` with the one flipped bit put right that keeps its checksum from matching, and where it ends.
pub fn mend(bytes: &[u8], at: usize, end: usize) -> Option<Vec<u8>> {
    /// Trying every bit takes the square of the length.
    const LONGEST_MENDED: usize = 64 << 10;
    let mut record = bytes.get(at..end)?.to_vec();
    if record.len() > LONGEST_MENDED {
        return None;
    }
    for bit in 0..record.len() * 8 {
        record[bit / 8] ^= 1 << (bit % 8);
        if whole(&record, 0).is_some_and(|(kind, version, payload)| {
            FrameKind::from_byte(kind).is_some() && version <= VERSION && HEAD + payload.len() == record.len()
        }) {
            return Some(record);
        }
        record[bit / 8] ^= 1 << (bit % 8);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        // JSON, as far as a checksum cares.
        proptest::collection::vec(proptest::collection::vec(0x20u8..0x7f, 0..40), 1..6)
    }

    fn file(list: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for payload in list {
            encode(&mut bytes, FrameKind::Record, payload);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn count(ends: &[usize], at: usize) -> usize {
        ends.iter().filter(|e| **e <= at).count()
    }

    proptest! {
        #[test]
        fn a_cut_is_torn_and_a_flip_is_damage_and_mended(list in payloads(), cut in 0usize..300, flip in 0usize..2400) {
            let (mut bytes, ends) = file(&list);
            let all = scan(&bytes, 0);
            prop_assert_eq!(all.records.iter().map(|r| r.payload.to_vec()).collect::<Vec<_>>(), list.clone());
            prop_assert_eq!((all.end, all.rest), (bytes.len(), Rest::Nothing));

            let cut = cut % bytes.len();
            let part = scan(&bytes[..cut], 0);
            prop_assert_eq!(part.records.len(), count(&ends, cut));
            let expected = if part.end == cut { Rest::Nothing } else { Rest::Torn };
            prop_assert_eq!(part.rest, expected, "cut at {}", cut);

            let flip = flip % (bytes.len() * 8);
            let right = bytes.clone();
            bytes[flip / 8] ^= 1 << (flip % 8);
            let hit = count(&ends, flip / 8);
            let part = scan(&bytes, 0);
            prop_assert_eq!(part.records.len(), hit);
            let next = ends.get(hit).copied().filter(|e| *e < bytes.len());
            prop_assert_eq!(part.rest, Rest::Damaged { next }, "bit {}", flip);
            let end = ends[hit];
            prop_assert_eq!(mend(&bytes, part.end, end), Some(right[part.end..end].to_vec()));
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), from in 0usize..20) {
            let from = from.min(bytes.len());
            let _ = scan(&bytes, from);
            let _ = mend(&bytes, from, bytes.len());
        }
    }

    #[test]
    fn blocks_that_were_not_written_are_torn() {
        let (bytes, ends) = file(&[b"first".to_vec(), vec![b'x'; 100]]);
        for written in [0, 4, 10, 50] {
            let mut bytes = bytes.clone();
            bytes[ends[0] + written..].fill(0);
            assert_eq!(scan(&bytes, 0).rest, Rest::Torn, "{written}");
        }
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + 4096, 0);
        assert_eq!((scan(&longer, 0).end, scan(&longer, 0).rest), (bytes.len(), Rest::Torn));
    }

    #[test]
    fn a_newer_version_is_neither_torn_nor_damaged() {
        let mut bytes = Vec::new();
        encode(&mut bytes, FrameKind::Tag, b"{}");
        let end = bytes.len();
        encode_version(&mut bytes, FrameKind::Record, VERSION + 1, b"{}");
        let found = scan(&bytes, 0);
        assert_eq!((found.end, found.rest), (end, Rest::Newer { version: VERSION + 1 }));
    }
}
