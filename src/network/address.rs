//! Ranges of addresses, and which of them are used. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range of IPv4 addresses, as `10.89.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: u32,
    prefix: u8,
}

/// Larger ranges are useless: a bridge has 1023 ports. Smaller ones have no room for the bridge and two pods.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=29;

impl Range {
    /// Whatever `address` and `prefix` (0 to 32) stand for.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Range {
        let prefix = prefix.min(32);
        let range = Range { first: 0, prefix };
        Range { first: u32::from(address) & range.mask(), prefix }
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn first(&self) -> Ipv4Addr {
        self.first.into()
    }

    /// The bits that all addresses of the range have in common.
    pub fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    fn last(&self) -> u32 {
        self.first | !self.mask()
    }

    /// The address of the bridge: the first that a host can have.
    pub fn gateway(&self) -> Ipv4Addr {
        (self.first + 1).into()
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.first
    }

    pub fn overlaps(&self, other: &Range) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    /// The first range of our own choice that overlaps none of `taken`; None if all of them do.
    pub fn choose(taken: &[Range]) -> Option<Range> {
        let tens = (89..=127).map(|n| Range::new(Ipv4Addr::new(10, n, 0, 0), 16));
        let others = (24..=31).map(|n| Range::new(Ipv4Addr::new(172, n, 0, 0), 16));
        let small = (192..=255).map(|n| Range::new(Ipv4Addr::new(192, 168, n, 0), 24));
        tens.chain(others).chain(small).find(|r| !taken.iter().any(|t| t.overlaps(r)))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

impl FromStr for Range {
    type Err = String;

    /// The form that `Display` writes, of a range that pods can have.
    fn from_str(text: &str) -> Result<Range, String> {
        let bad = || format!("expected a range such as 10.89.0.0/16, not {text:?}");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if !PREFIXES.contains(&prefix) {
            return Err(format!(
                "the prefix of {text:?} must be from {} to {}",
                PREFIXES.start(),
                PREFIXES.end()
            ));
        }
        let range = Range::new(address, prefix);
        if range.first() != address {
            return Err(format!("{text:?} has bits set behind the prefix; did you mean {range}?"));
        }
        if address.is_loopback()
            || address.is_multicast()
            || address.is_link_local()
            || address.octets()[0] == 0
        {
            return Err(format!("{text:?} is not a range for hosts"));
        }
        Ok(range)
    }
}

/// The addresses of a range. One that was given back is not given out again before all others were, so that no client talks
/// to a pod that has just taken the place of another.
#[derive(Debug)]
pub struct Pool {
    range: Range,
    used: BTreeSet<u32>,
    last: u32,
}

impl Pool {
    pub fn new(range: Range) -> Pool {
        Pool { range, used: BTreeSet::new(), last: range.first + 1 }
    }

    pub fn range(&self) -> Range {
        self.range
    }

    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// The addresses of services: the last eighth of the range.
    pub fn services(&self) -> Range {
        let prefix = (self.range.prefix + 3).min(32);
        Range::new(self.range.last().into(), prefix)
    }

    /// The address of each of the services with these identities, the oldest first: the same one as long as no older service
    /// has it. Those that there is no room for have none.
    pub fn of_services(&self, uids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, Ipv4Addr> {
        let part = self.services();
        // The last one is for broadcasts.
        let count = u64::from(part.last() - part.first);
        let mut used = BTreeSet::new();
        let mut found = BTreeMap::new();
        for uid in uids {
            let free = (0..count)
                .map(|n| part.first + (uid.wrapping_add(n) % count) as u32)
                .find(|a| used.insert(*a));
            found.extend(free.map(|address| (uid, address.into())));
        }
        found
    }

    /// A free address; None if all are used.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        // The first is that of the network, the second the bridge's, the last are those of services.
        let (low, high) = (self.range.first + 2, self.services().first - 1);
        if self.used.len() as u32 > high - low {
            return None;
        }
        let mut next = self.last;
        loop {
            next = if next >= high { low } else { next + 1 };
            if self.used.insert(next) {
                self.last = next;
                return Some(next.into());
            }
        }
    }

    /// Reserves the address of an existing pod. False if it was taken.
    pub fn note(&mut self, address: Ipv4Addr) -> bool {
        let number = u32::from(address);
        if self.range.contains(address) {
            self.last = self.last.max(number.min(self.services().first - 1));
        }
        self.used.insert(number)
    }

    pub fn give_back(&mut self, address: Ipv4Addr) {
        self.used.remove(&u32::from(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_with_their_reasons() {
        assert_eq!(range("10.89.0.0/16").to_string(), "10.89.0.0/16");
        assert_eq!(range("10.89.0.0/16").gateway(), Ipv4Addr::new(10, 89, 0, 1));
        for (text, reason) in [
            ("10.89.0.0", "expected a range"),
            ("10.89.0.0/x", "expected a range"),
            ("10.89.0/16", "expected a range"),
            ("10.89.0.0/33", "the prefix"),
            ("10.89.0.0/30", "the prefix"),
            ("0.0.0.0/0", "the prefix"),
            ("10.89.3.0/16", "did you mean 10.89.0.0/16?"),
            ("127.0.0.0/16", "not a range for hosts"),
            ("224.0.0.0/8", "not a range for hosts"),
        ] {
            let e = text.parse::<Range>().unwrap_err();
            assert!(e.contains(reason), "{text}: {e}");
        }
    }

    #[test]
    fn the_chosen_range_overlaps_no_other() {
        assert_eq!(Range::choose(&[]), Some(range("10.89.0.0/16")));
        let taken =
            [Range::new(Ipv4Addr::new(10, 88, 0, 0), 15), Range::new(Ipv4Addr::new(10, 90, 7, 7), 32)];
        assert_eq!(Range::choose(&taken), Some(range("10.91.0.0/16")));
        let taken = [Range::new(Ipv4Addr::new(10, 0, 0, 0), 8), Range::new(Ipv4Addr::new(172, 16, 0, 0), 12)];
        assert_eq!(Range::choose(&taken), Some(range("192.168.192.0/24")));
        assert_eq!(Range::choose(&[Range::new(Ipv4Addr::UNSPECIFIED, 0)]), None);
    }

    #[test]
    fn services_have_addresses_of_their_own() {
        let pool = Pool::new(range("10.89.0.0/16"));
        assert_eq!(pool.services().to_string(), "10.89.224.0/19");
        let at = |c, d| Ipv4Addr::new(10, 89, c, d);
        let found = pool.of_services([7, 8191 + 7, 9]);
        assert_eq!(found, [(7, at(224, 7)), (8198, at(224, 8)), (9, at(224, 9))].into());
        assert_eq!(pool.of_services([7, 9])[&9], at(224, 9), "the same one");
        let mut small = Pool::new(range("10.0.0.0/28"));
        assert_eq!(
            small.of_services([1, 2, 3]).into_values().collect::<Vec<_>>(),
            [Ipv4Addr::new(10, 0, 0, 14)]
        );
        let pods: Vec<u8> = std::iter::from_fn(|| small.take()).map(|a| a.octets()[3]).collect();
        assert_eq!(pods, (2..14).collect::<Vec<u8>>());
        assert!(Pool::new(range("10.0.0.0/29")).of_services([1]).is_empty(), "there is no room");
    }

    #[test]
    fn no_address_is_given_out_twice() {
        let mut pool = Pool::new(range("10.0.0.0/29"));
        assert!(pool.note(Ipv4Addr::new(10, 0, 0, 4)));
        assert!(!pool.note(Ipv4Addr::new(10, 0, 0, 4)), "two pods have it");
        let taken: Vec<u8> = std::iter::from_fn(|| pool.take()).map(|a| a.octets()[3]).collect();
        assert_eq!(taken, [5, 6, 2, 3]);
        pool.give_back(Ipv4Addr::new(10, 0, 0, 6));
        pool.give_back(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(pool.take(), Some(Ipv4Addr::new(10, 0, 0, 6)), "after the last that was given out");
        assert_eq!(pool.take(), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(pool.take(), None);
        for n in 2..7 {
            pool.give_back(Ipv4Addr::new(10, 0, 0, n));
        }
        assert!(pool.is_empty());
    }
}
