//! The records of a journal: `[length u32][CRC-32C u32][kind u8][version u8][payload]`, numbers in little-endian order.
//! The length is that of the payload; the checksum covers kind, version and payload.

/// Bytes before the payload.
const HEAD: usize = 10;
/// No record is longer: a length beyond it is damage.
const LONGEST: usize = 256 << 20;
/// The version of the payloads that this program writes.
pub const VERSION: u8 = 1;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Whose journal it is: a JSON string.
    Tag = 1,
    /// The state before the records that follow, in JSON.
    Snapshot = 2,
    /// One change of the state, in JSON.
    Record = 3,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Tag, Kind::Snapshot, Kind::Record].into_iter().find(|k| *k as u8 == byte)
    }
}

/// Appends a record to `out`.
pub fn encode(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[kind as u8, VERSION]);
    out.extend_from_slice(payload);
    let sum = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// The whole records at the beginning of `bytes`, and how many bytes they take. What follows is torn, or damaged.
pub fn decode(bytes: &[u8]) -> (Vec<(Kind, &[u8])>, usize) {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some((kind, payload)) = one(&bytes[at..]) {
        records.push((kind, payload));
        at += HEAD + payload.len();
    }
    (records, at)
}

fn one(bytes: &[u8]) -> Option<(Kind, &[u8])> {
    let head = bytes.get(..HEAD)?;
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = number(0) as usize;
    if length > LONGEST {
        return None;
    }
    let rest = bytes.get(8..HEAD + length)?;
    let whole = crc32c::crc32c(rest) == number(4) && head[9] <= VERSION;
    whole.then(|| Kind::of(head[8])).flatten().map(|kind| (kind, &rest[2..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6)
    }

    proptest! {
        #[test]
        fn a_torn_or_damaged_record_ends_the_journal(list in payloads(), cut in 0usize..300, flip in 0usize..300) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for payload in &list {
                encode(&mut bytes, Kind::Record, payload);
                ends.push(bytes.len());
            }
            let (all, end) = decode(&bytes);
            prop_assert_eq!(all.iter().map(|(_, p)| p.to_vec()).collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(end, bytes.len());

            let cut = cut % bytes.len();
            let whole = ends.iter().filter(|e| **e <= cut).count();
            prop_assert_eq!(decode(&bytes[..cut]).0.len(), whole);

            let flip = flip % bytes.len();
            bytes[flip] ^= 0x10;
            let whole = ends.iter().filter(|e| **e <= flip).count();
            prop_assert_eq!(decode(&bytes).0.len(), whole);
        }
    }
}
