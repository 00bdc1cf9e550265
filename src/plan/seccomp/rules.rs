//! The rules of a profile for each system call of one architecture, as ranges of numbers.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::arch::{Arch, X32_BIT};
use super::names::{self, Op};
use super::profile::{Condition, Profile};
use super::syscalls::{self, Syscall};
use crate::plan::Violation;

/// The action for a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The filter returns this.
    Return(u32),
    /// It depends on the arguments: an index into [`Checks`].
    Check(usize),
}

/// From `start` to the next range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub start: u32,
    pub verdict: Verdict,
}

/// A rule that looks at arguments: all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub conditions: Vec<Condition>,
    pub action: u32,
    /// The entry of the profile that it comes from.
    entry: usize,
}

/// The rules of one system call; the first that holds wins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Arguments are compared in 64 bits.
    pub wide: bool,
    pub chains: Vec<Chain>,
}

/// The checks of a program. Equal ones are one.
#[derive(Default)]
pub(super) struct Checks(pub Vec<Check>);

impl Checks {
    fn add(&mut self, check: Check) -> usize {
        self.0.iter().position(|c| *c == check).unwrap_or_else(|| {
            self.0.push(check);
            self.0.len() - 1
        })
    }
}

/// Numbers of the table are below this.
const ROWS: usize = 1024;

/// The rules that apply to a system call.
enum Slot {
    /// Whatever its arguments are.
    Always(u32),
    When(Vec<Chain>),
}

/// The rules of one architecture by number.
struct Calls {
    arch: Arch,
    /// Position in `slots` plus one, by row of the table.
    index: [u16; ROWS],
    slots: Vec<Slot>,
    /// The newest system call that the profile names.
    newest: Option<u16>,
}

/// A system call that the profile names, known on some architecture.
pub(super) struct Named<'a> {
    pub call: Syscall,
    /// The entry of the profile.
    pub rule: &'a super::profile::CheckedRule<'a>,
}

/// The ranges of `arch`, which cover its part of the numbers that share its token: from 0, or for x32 from
/// its bit. Rules that contradict each other go to `v`.
pub(super) fn ranges(
    arch: Arch,
    profile: &Profile,
    named: &[Named],
    checks: &mut Checks,
    v: Option<&mut Vec<Violation>>,
) -> Vec<Range> {
    let mut calls = Calls { arch, index: [0; ROWS], slots: Vec::with_capacity(named.len()), newest: None };
    for n in named {
        calls.apply(n, profile.default);
    }
    calls.ranges(profile.default, checks, v)
}

impl Calls {
    fn apply(&mut self, named: &Named, default: u32) {
        let row = named.call.row(self.arch);
        if let Some(row) = row
            && !self.arch.out_of_sequence(row)
        {
            self.newest = self.newest.max(Some(row));
        }
        if named.rule.action == default {
            return;
        }
        let multiplexed = named.call.multiplexed(self.arch);
        for conditions in &named.rule.alternatives {
            if let Some((row, number)) = multiplexed {
                // The first argument chooses the call. The others are compared as they are although the
                // kernel takes the call's arguments from memory: libseccomp has it so.
                let chooser = Condition { index: 0, op: Op::Eq, mask: u64::MAX, value: u64::from(number) };
                let rest = conditions.iter().filter(|c| c.index != 0).copied();
                self.add(row, std::iter::once(chooser).chain(rest), named);
            }
            if let Some(row) = row {
                self.add(row, conditions.iter().copied(), named);
            }
        }
    }

    fn add(&mut self, row: u16, conditions: impl Iterator<Item = Condition>, named: &Named) {
        let wide = self.arch.wide();
        let conditions: Vec<Condition> =
            conditions.map(|c| if wide { c } else { low_word(c) }).filter(|c| c.mask != 0).collect();
        let action = named.rule.action;
        let at = &mut self.index[usize::from(row)];
        if *at == 0 {
            // Mostly the first rule is the only one, and has no conditions.
            let slot = if conditions.is_empty() { Slot::Always(action) } else { Slot::When(Vec::new()) };
            self.slots.push(slot);
            *at = self.slots.len() as u16;
        }
        let slot = &mut self.slots[usize::from(*at) - 1];
        match slot {
            // The first rule that looks at no argument decides, wherever it appears.
            Slot::Always(_) => {}
            _ if conditions.is_empty() => *slot = Slot::Always(action),
            Slot::When(chains) => chains.push(Chain { conditions, action, entry: named.rule.entry }),
        }
    }

    fn ranges(mut self, default: u32, checks: &mut Checks, mut v: Option<&mut Vec<Violation>>) -> Vec<Range> {
        let background = self.background(default);
        let mut out = Ranges { list: Vec::with_capacity(self.slots.len()), background, next: 0 };
        if self.arch == Arch::X32 {
            out.next = X32_BIT;
        }
        for row in 0..ROWS as u16 {
            let at = usize::from(self.index[usize::from(row)]);
            if at == 0 {
                continue;
            }
            let verdict = match &mut self.slots[at - 1] {
                Slot::Always(action) => Verdict::Return(*action),
                Slot::When(chains) => {
                    let mut chains = std::mem::take(chains);
                    // Rules of different calls meet at a multiplexer without contradiction.
                    let v = v.as_deref_mut().filter(|_| !syscalls::is_multiplexer(self.arch, row));
                    in_order(&mut chains, self.arch.wide(), v);
                    Verdict::Check(checks.add(Check { wide: self.arch.wide(), chains }))
                }
            };
            out.set(self.arch.number(row), verdict);
        }
        out.finish()
    }

    /// The action for numbers without a rule: the default action, and `ENOSYS` for system calls that are newer than the profile,
    /// so that a C library falls back to older ones.
    fn background(&self, default: u32) -> Vec<Range> {
        let default_range = |start| Range { start, verdict: Verdict::Return(default) };
        let enosys_range =
            |start| Range { start, verdict: Verdict::Return(names::ERRNO | self.arch.enosys()) };
        let first = if self.arch == Arch::X32 { X32_BIT } else { 0 };
        let mut list = vec![default_range(first)];
        // A permissive profile lets the kernel answer, and a tracer answers for itself.
        let permissive = matches!(default & !0xffff, names::ALLOW | names::LOG | names::TRACE);
        let Some(newest) = self.newest.filter(|_| !permissive) else {
            return list;
        };
        if matches!(self.arch, Arch::S390 | Arch::S390x) {
            // The kernel calls number 0 when it does not know a number that is passed in a register.
            list = vec![enosys_range(0), default_range(1)];
        }
        list.push(enosys_range(self.arch.number(newest) + 1));
        match self.arch {
            Arch::Arm => list.push(default_range(super::arch::ARM_PRIVATE)),
            // Numbers 512 to 547 are calls as old as x32.
            Arch::X32 => {
                list.push(default_range(self.arch.number(512)));
                list.push(enosys_range(self.arch.number(547) + 1));
                list.push(default_range(X32_BIT << 1));
            }
            _ => {}
        }
        list
    }
}

/// Ranges in the making.
struct Ranges {
    list: Vec<Range>,
    background: Vec<Range>,
    /// The first number without a verdict.
    next: u32,
}

impl Ranges {
    fn set(&mut self, number: u32, verdict: Verdict) {
        self.fill(number);
        self.push(number, verdict);
        self.next = number + 1;
    }

    fn finish(mut self) -> Vec<Range> {
        self.fill(u32::MAX);
        self.list
    }

    /// Fills up to `end` with the background.
    fn fill(&mut self, end: u32) {
        if self.next >= end {
            return;
        }
        let current = self.background.partition_point(|r| r.start <= self.next) - 1;
        for i in current..self.background.len() {
            let Range { start, verdict } = self.background[i];
            if start >= end {
                break;
            }
            self.push(start.max(self.next), verdict);
        }
    }

    fn push(&mut self, start: u32, verdict: Verdict) {
        if self.list.last().is_none_or(|last| last.verdict != verdict) {
            self.list.push(Range { start, verdict });
        }
    }
}

/// A condition where arguments have 32 bits.
fn low_word(c: Condition) -> Condition {
    Condition { mask: c.mask & 0xffff_ffff, value: c.value & 0xffff_ffff, ..c }
}

/// Puts the rules of one system call into the order in which libseccomp tries them, word by word of their
/// arguments: later arguments first, equality before upper before lower bounds, then the narrower bound or the
/// larger value, then the order of the profile; a rule before the rules that add conditions to it. It matters
/// only where rules with different actions overlap.
fn in_order(chains: &mut Vec<Chain>, wide: bool, mut v: Option<&mut Vec<Violation>>) {
    if chains.len() < 2 {
        return;
    }
    let mut seen = BTreeMap::new();
    chains.sort_by_cached_key(|chain| ranks(chain, wide, &mut seen));
    chains.dedup_by(|later, first| {
        let same = later.conditions == first.conditions;
        if same
            && later.action != first.action
            && let Some(v) = &mut v
        {
            v.push(Violation::new(
                format!("linux.seccomp.syscalls[{}]", later.entry),
                format!("has the conditions of linux.seccomp.syscalls[{}] and another action", first.entry),
            ));
        }
        same
    });
}

/// A comparison of a word: the word, how it is compared, the mask and the value.
type Word = (u32, Op, u32, u32);

/// The sort key of a rule: for each word the number of the word, the class of the operator, the value, and when
/// such a comparison was first seen.
fn ranks(chain: &Chain, wide: bool, seen: &mut BTreeMap<Word, usize>) -> Vec<(Reverse<u32>, u8, u32, usize)> {
    let words: &[u32] = if wide { &[1, 0] } else { &[0] };
    let mut ranks = Vec::with_capacity(chain.conditions.len() * words.len());
    for c in &chain.conditions {
        for high in words {
            let (mask, value) = ((c.mask >> (32 * high)) as u32, (c.value >> (32 * high)) as u32);
            // A comparison and its negation are one, and so are bounds in their high words.
            let (class, op, rank) = match c.op {
                Op::MaskedEq => (0, Op::MaskedEq, !value),
                Op::Eq | Op::Ne => (0, Op::Eq, !value),
                Op::Lt if *high == 0 => (1, Op::Ge, value),
                Op::Le | Op::Lt => (1, Op::Gt, value),
                Op::Ge if *high == 0 => (2, Op::Ge, !value),
                Op::Gt | Op::Ge => (2, Op::Gt, !value),
            };
            let word = 2 * c.index + high;
            let next = seen.len();
            let first = *seen.entry((word, op, mask, value)).or_insert(next);
            ranks.push((Reverse(word), class, rank, first));
        }
    }
    ranks
}
