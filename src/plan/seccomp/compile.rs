//! From ranges of system calls to a program: a dispatch over the architectures, under each a binary tree over
//! its ranges, and at the leaves returns and comparisons of arguments.
//!
//! The kernel runs a new filter once for every system call of an architecture, to know which it always allows
//! (Linux 5.11, kernel/seccomp.c), so short ways through the program make it load fast.

use super::SockFilter;
use super::arch::{Arch, X32_BIT};
use super::asm::{Asm, Label, Test};
use super::names::{self, Op};
use super::profile::Condition;
use super::rules::{Check, Range, Verdict};

/// Offset of `nr` in `struct seccomp_data` (linux/seccomp.h).
const NR: u32 = 0;
/// Offset of `arch`.
const ARCH: u32 = 4;
/// Offset of `args`.
const ARGS: u32 = 16;
/// About as many system calls as an architecture has.
const TRIED: u32 = 512;

/// The ranges of the architectures that share a token.
pub(super) struct Section {
    token: u32,
    base: u32,
    ranges: Vec<Range>,
}

/// Joins the ranges of the architectures that share a token, which are x86_64 and x32. The sections are in the
/// order of `archs`.
pub(super) fn sections(archs: Vec<(Arch, Vec<Range>)>, default: u32) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::with_capacity(archs.len());
    let has = |arch| archs.iter().any(|(a, _)| *a == arch);
    let (x86_64, x32) = (has(Arch::X86_64), has(Arch::X32));
    for (arch, mut ranges) in archs {
        let token = arch.token();
        match arch {
            Arch::X86_64 => {
                ranges.retain(|r| r.start < X32_BIT);
                if !x32 {
                    ranges.push(Range { start: X32_BIT, verdict: Verdict::Return(BAD_ARCH) });
                    // A tracer sets -1 to have a system call skipped.
                    ranges.push(Range { start: u32::MAX, verdict: Verdict::Return(default) });
                }
            }
            Arch::X32 if !x86_64 => {
                ranges.insert(0, Range { start: 0, verdict: Verdict::Return(BAD_ARCH) });
            }
            _ => {}
        }
        match sections.iter_mut().find(|s| s.token == token) {
            Some(section) => {
                section.ranges.append(&mut ranges);
                section.ranges.sort_by_key(|r| r.start);
            }
            None => sections.push(Section { token, base: arch.base() & !X32_BIT, ranges }),
        }
    }
    for section in &mut sections {
        section.ranges.dedup_by(|later, first| later.verdict == first.verdict);
    }
    sections
}

/// The action for system calls of an architecture that the profile does not list, as in libseccomp.
const BAD_ARCH: u32 = names::KILL_THREAD;

/// Writes the program.
pub(super) fn program(sections: &[Section], checks: &[Check], default: u32, arch: Arch) -> Vec<SockFilter> {
    let mut writer = Writer {
        asm: Asm::default(),
        checks: checks.iter().map(|c| (c, None)).collect(),
        default,
        big_endian: arch.big_endian(),
    };
    let mut next = writer.asm.ret(BAD_ARCH);
    for section in sections.iter().rev() {
        let weights: Vec<u64> = section.weights();
        let tree = writer.tree(&section.ranges, &weights);
        let tree = writer.asm.load(NR, tree);
        next = writer.asm.branch(Test::Eq, section.token, tree, next);
    }
    let entry = writer.asm.load(ARCH, next);
    writer.asm.finish(entry)
}

impl Section {
    /// For every range, and behind the last, how many times the kernel reaches the ranges before it.
    fn weights(&self) -> Vec<u64> {
        let tried = |number: u32| u64::from(number.clamp(self.base, self.base + TRIED));
        let mut sum = 0;
        let mut weights = Vec::with_capacity(self.ranges.len() + 1);
        for (i, range) in self.ranges.iter().enumerate() {
            weights.push(sum);
            let end = self.ranges.get(i + 1).map_or(u32::MAX, |r| r.start);
            sum += 1 + tried(end) - tried(range.start);
        }
        weights.push(sum);
        weights
    }
}

/// Up to so many comparisons with single numbers are as fast as a tree, and shorter.
const MAX_HOLES: usize = 3;

/// The single numbers that differ from ranges which otherwise have one verdict.
fn holes(ranges: &[Range]) -> Option<impl DoubleEndedIterator<Item = &Range>> {
    let alike = ranges.iter().step_by(2).all(|r| r.verdict == ranges[0].verdict);
    let single = ranges[1..].chunks(2).all(|r| r.len() == 2 && r[0].start + 1 == r[1].start);
    (alike && single).then(|| ranges[1..].iter().step_by(2))
}

/// Where to split ranges so that the kernel reaches both parts about equally often.
fn middle(weights: &[u64]) -> usize {
    let last = weights.len() - 1;
    let half = (weights[0] + weights[last]) / 2;
    let above = weights.partition_point(|w| *w <= half).clamp(1, last - 1);
    match above > 1 && half.abs_diff(weights[above - 1]) <= half.abs_diff(weights[above]) {
        true => above - 1,
        false => above,
    }
}

struct Writer<'a> {
    asm: Asm,
    checks: Vec<(&'a Check, Option<Label>)>,
    default: u32,
    big_endian: bool,
}

impl Writer<'_> {
    /// A tree over `ranges`; `weights` has one entry more.
    fn tree(&mut self, ranges: &[Range], weights: &[u64]) -> Label {
        if ranges.len() <= MAX_HOLES * 2 + 1
            && let Some(holes) = holes(ranges)
        {
            let mut next = self.leaf(ranges[0].verdict);
            for hole in holes.rev() {
                let other = self.leaf(hole.verdict);
                next = self.asm.branch(Test::Eq, hole.start, other, next);
            }
            return next;
        }
        let middle = middle(weights);
        let right = self.tree(&ranges[middle..], &weights[middle..]);
        let left = self.tree(&ranges[..middle], &weights[..=middle]);
        self.asm.branch(Test::Ge, ranges[middle].start, right, left)
    }

    fn leaf(&mut self, verdict: Verdict) -> Label {
        match verdict {
            Verdict::Return(value) => self.asm.ret(value),
            Verdict::Check(i) => match self.checks[i] {
                (_, Some(label)) => label,
                (check, None) => {
                    let label = self.check(check);
                    self.checks[i].1 = Some(label);
                    label
                }
            },
        }
    }

    fn check(&mut self, check: &Check) -> Label {
        let mut next = self.asm.ret(self.default);
        for chain in check.chains.iter().rev() {
            let mut then = self.asm.ret(chain.action);
            for condition in chain.conditions.iter().rev() {
                then = self.condition(condition, check.wide, then, next);
            }
            next = then;
        }
        next
    }

    fn condition(&mut self, c: &Condition, wide: bool, yes: Label, no: Label) -> Label {
        match c.op {
            Op::Eq | Op::MaskedEq => self.equal(c, wide, yes, no),
            Op::Ne => self.equal(c, wide, no, yes),
            Op::Gt => self.above(Test::Gt, c, wide, yes, no),
            Op::Ge => self.above(Test::Ge, c, wide, yes, no),
            Op::Le => self.above(Test::Gt, c, wide, no, yes),
            Op::Lt => self.above(Test::Ge, c, wide, no, yes),
        }
    }

    fn equal(&mut self, c: &Condition, wide: bool, yes: Label, no: Label) -> Label {
        let (low, high) = self.offsets(c.index);
        let then = self.equal_word(low, c.mask as u32, c.value as u32, yes, no);
        match wide {
            true => self.equal_word(high, (c.mask >> 32) as u32, (c.value >> 32) as u32, then, no),
            false => then,
        }
    }

    fn equal_word(&mut self, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        let test = match (mask, value) {
            (0, _) => return yes,
            (u32::MAX, _) => self.asm.branch(Test::Eq, value, yes, no),
            (_, 0) => self.asm.branch(Test::AnyBit, mask, no, yes),
            _ if mask == value && mask.is_power_of_two() => self.asm.branch(Test::AnyBit, mask, yes, no),
            _ => {
                let equal = self.asm.branch(Test::Eq, value, yes, no);
                self.asm.and(mask, equal)
            }
        };
        self.asm.load(offset, test)
    }

    /// The argument is above the value: by `test`, which decides whether equality is enough.
    fn above(&mut self, test: Test, c: &Condition, wide: bool, yes: Label, no: Label) -> Label {
        let (low, high) = self.offsets(c.index);
        let then = self.asm.branch(test, c.value as u32, yes, no);
        let then = self.asm.load(low, then);
        if !wide {
            return then;
        }
        let then = self.asm.branch(Test::Eq, (c.value >> 32) as u32, then, no);
        let then = self.asm.branch(Test::Gt, (c.value >> 32) as u32, yes, then);
        self.asm.load(high, then)
    }

    /// Offsets of the low and the high word of an argument.
    fn offsets(&self, index: u32) -> (u32, u32) {
        let first = ARGS + 8 * index;
        match self.big_endian {
            true => (first + 4, first),
            false => (first, first + 4),
        }
    }
}
