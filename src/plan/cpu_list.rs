//! Lists of CPUs and memory nodes as cpuset(7) writes them (`0-3,7`), for `process.execCPUAffinity` and
//! `linux.memoryPolicy.nodes`.

/// The highest number that a list may hold: no kernel knows as many, and the mask stays at 8 KiB.
pub const MAX: u32 = 65535;

/// A set of CPUs or memory nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    /// Bit N of the whole is number N; no trailing zero words.
    words: Vec<u64>,
}

impl Mask {
    /// No number is in it.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many numbers are in it.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|w| w.count_ones()).sum()
    }

    /// The mask as machine words, as sched_setaffinity(2) and set_mempolicy(2) take it.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    fn add(&mut self, first: u32, last: u32) {
        let len = last as usize / 64 + 1;
        if self.words.len() < len {
            self.words.resize(len, 0);
        }
        for n in first..=last {
            self.words[n as usize / 64] |= 1 << (n % 64);
        }
    }
}

/// A mask of CPUs as one number; its lowest bit is CPU 0.
pub fn hex(words: &[u64]) -> String {
    let used = words.iter().rposition(|w| *w != 0).unwrap_or(0);
    let mut text = format!("{:#x}", words.get(used).unwrap_or(&0));
    for word in words[..used].iter().rev() {
        text.push_str(&format!("{word:016x}"));
    }
    text
}

/// Reads a list. Commas and white space part ranges, in any number; an empty text is the empty set.
///
/// # Errors
/// The error: not a number, a range that runs backwards, a number over [`MAX`], separators without any number.
pub fn parse(list: &str) -> Result<Mask, String> {
    let mut mask = Mask::default();
    for range in list.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|r| !r.is_empty()) {
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        if first > last {
            return Err(format!("invalid range: {range}"));
        }
        mask.add(first, last);
    }
    if mask.is_empty() && !list.is_empty() {
        return Err(format!("no members found in set {list:?}"));
    }
    Ok(mask)
}

fn number(text: &str) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} is not a number"));
    }
    match text.parse() {
        Ok(n) if n <= MAX => Ok(n),
        _ => Err(format!("values larger than {MAX} are not supported, got {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(m: &Mask, n: u32) -> bool {
        m.words().get(n as usize / 64).is_some_and(|w| w >> (n % 64) & 1 == 1)
    }

    fn numbers(list: &str) -> Vec<u32> {
        let m = parse(list).unwrap();
        (0..=MAX).filter(|n| contains(&m, *n)).collect()
    }

    #[test]
    fn lists_and_ranges() {
        assert_eq!(numbers("0-3,7"), [0, 1, 2, 3, 7]);
        assert_eq!(numbers(" 1 ,, 3-3 ,1"), [1, 3]);
        assert_eq!(numbers("0 2-3\n5"), [0, 2, 3, 5]);
        assert_eq!(numbers("63,64"), [63, 64]);
        assert!(numbers("").is_empty());
        assert_eq!(numbers("65535"), [65535]);
    }

    #[test]
    fn masks_as_one_number() {
        assert_eq!(hex(parse("0-1").unwrap().words()), "0x3");
        assert_eq!(hex(parse("4,64").unwrap().words()), "0x10000000000000010");
        assert_eq!(hex(&[2, 0]), "0x2");
        assert_eq!(hex(&[]), "0x0");
    }

    #[test]
    fn the_mask_has_the_kernels_form() {
        let m = parse("0-3,7,64").unwrap();
        assert_eq!(m.count(), 6);
        assert_eq!(m.words(), [0x8f, 1]);
        assert!(parse("").unwrap().words().is_empty());
    }

    #[test]
    fn what_is_no_list() {
        for (bad, why) in [
            ("a", "is not a number"),
            ("0-", "is not a number"),
            ("-1", "is not a number"),
            ("+1", "is not a number"),
            ("0x1", "is not a number"),
            ("1-2-3", "is not a number"),
            ("1 - 2", "is not a number"),
            ("3-1", "invalid range: 3-1"),
            ("65536", "values larger than 65535"),
            ("0-99999999999999999999", "values larger than 65535"),
            (",", "no members found"),
            (" ", "no members found"),
        ] {
            let e = parse(bad).unwrap_err();
            assert!(e.contains(why), "{bad:?}: {e}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_mask_holds_what_was_listed(set in proptest::collection::btree_set(0..=MAX, 1..20)) {
            let list = set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let m = parse(&list).unwrap();
            proptest::prop_assert_eq!(m.count() as usize, set.len());
            proptest::prop_assert!(set.iter().all(|n| contains(&m, *n)));
        }

        #[test]
        fn any_text_is_answered(text in "[0-9, -]{0,12}|.*") {
            let _ = parse(&text);
        }
    }
}
