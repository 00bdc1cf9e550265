//! Inputs that are nearly right: where an input of the corpus is changed a little, most of it still means something.

/// Numbers that follow from a seed (xorshift64*), so that a run can be repeated.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }
}

/// Bytes that mean something to a parser.
const WORDS: &[&[u8]] = &[
    b"",
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"  ",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{}",
    b"[]",
    b":",
    b": ",
    b",",
    b"- ",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!int ",
    b"---\n",
    b"#",
    b"|",
    b">",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e9",
    b"0x7f",
    b"4294967296",
    b"18446744073709551616",
    b"9007199254740993",
    b"/",
    b"..",
    b"/../",
    b"//",
    b"$",
    b"${",
    b"${A:-${B}}",
    b"$$",
    b"%",
    b"%s",
    b"\xe2\x80\xae",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x80\0\0\0",
];

/// An input that is made of `all` and is not longer than `longest`.
pub fn input(all: &[Vec<u8>], numbers: &mut Numbers, longest: usize) -> Vec<u8> {
    let mut data = all[numbers.below(all.len())].clone();
    for _ in 0..=numbers.below(6) {
        change(&mut data, all, numbers);
    }
    data.truncate(longest);
    data
}

fn change(data: &mut Vec<u8>, all: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(data.len() + 1);
    let end = (at + 1 + numbers.below(16)).min(data.len());
    match numbers.below(8) {
        0 => data.truncate(at),
        1 => drop(data.drain(at..end)),
        2 if at < data.len() => data[at] ^= 1 << numbers.below(8),
        3 if at < data.len() => data[at] = numbers.below(256) as u8,
        4 => {
            let again = data[at..end].to_vec();
            (0..=numbers.below(8)).for_each(|_| drop(data.splice(at..at, again.iter().copied())));
        }
        5 => {
            let other = &all[numbers.below(all.len())];
            let from = numbers.below(other.len() + 1);
            let to = (from + numbers.below(64)).min(other.len());
            data.splice(at..end, other[from..to].iter().copied());
        }
        6 => drop(data.splice(at..end, WORDS[numbers.below(WORDS.len())].iter().copied())),
        _ => drop(data.splice(at..at, WORDS[numbers.below(WORDS.len())].iter().copied())),
    }
}
