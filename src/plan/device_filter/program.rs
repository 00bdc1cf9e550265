//! The version 2 device filter: a `BPF_PROG_TYPE_CGROUP_DEVICE` program (Linux 4.15, bpf(2)).
//!
//! The kernel runs it with `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`, where the upper half of
//! `access_type` is the access and the lower half the type of the node, and lets the access pass when it returns 1.
//! The program is a decision tree: the type, then the major numbers that rules name, then the minor numbers. Its leaves
//! are sets of accesses that were worked out beforehand, so that no branch carries state on: the kernel's verifier
//! follows every path, and a program that goes through the rules one by one has it follow a million instructions for
//! two thousand of them.

use super::{ALL, DeviceKind, Devices, Rule, Violation, split};
pub use crate::sys::bpf::Instruction;

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP: u8 = 0x05;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_ANY_BIT: u8 = 0x45;
const EXIT: u8 = 0x95;

/// Result, context, type, access that is left, major, minor.
const R0: u8 = 0;
const R1: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The kernel's device numbers are 12 and 20 bits wide: a rule with a larger one matches nothing.
const MAJOR_MAX: u32 = 0xfff;
const MINOR_MAX: u32 = 0xf_ffff;

/// A rule takes at most three instructions, and a jump reaches 32767 of them.
const MAX_RULES: usize = 4096;
/// Maximum number of instructions. Rules for one minor number of every device add one to each major number.
const MAX_INSTRUCTIONS: usize = 32_000;

/// Where a jump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    /// The leaf that allows these accesses and no others.
    Allow(u8),
    /// A place in the program that is marked later.
    Mark(usize),
}

/// The accesses to one set of devices that are allowed: to some minor numbers, and to all others.
#[derive(Debug, PartialEq, Eq)]
struct Section {
    minors: Vec<(u32, u8)>,
    others: u8,
}

/// The decisions about devices of one type: by major number, and for all others.
#[derive(Debug)]
struct Tree {
    majors: Vec<(u32, Section)>,
    others: Section,
}

/// Compiles `rules`; `None` when they allow everything.
///
/// # Errors
/// More rules than a program can hold.
pub fn program(rules: &[Rule]) -> Result<Option<Vec<Instruction>>, Violation> {
    let (default, rest) = split(rules);
    let too_many =
        |what: String| Violation::new("linux.resources.devices", what).hint("use rules with wildcards");
    if rest.len() > MAX_RULES {
        return Err(too_many(format!("{} rules are too many, {MAX_RULES} fit into a filter", rest.len())));
    }
    let too_long =
        || too_many(format!("{} rules make a filter of over {MAX_INSTRUCTIONS} instructions", rest.len()));
    // Each of these minor numbers is looked at below each major number.
    let count = |of: &dyn Fn(&Devices) -> bool| rest.iter().filter(|(d, _)| of(d)).count();
    let everywhere = count(&|d| d.major.is_none() && d.minor.is_some());
    if count(&|d| d.major.is_some()) * everywhere > MAX_INSTRUCTIONS {
        return Err(too_long());
    }
    let default = if default { ALL } else { 0 };
    let trees = [DeviceKind::Block, DeviceKind::Char].map(|kind| (kind, tree(kind, default, &rest)));
    let all = Section { minors: Vec::new(), others: ALL };
    if trees.iter().all(|(_, t)| t.majors.is_empty() && t.others == all) {
        return Ok(None);
    }
    let mut b = Builder::default();
    b.prologue();
    let [(_, block), (kind, char)] = &trees;
    let otherwise = b.mark_later();
    b.jump(JUMP_NOT_EQUAL, TYPE, *kind as u32, Label::Mark(otherwise));
    b.tree(char);
    b.mark(otherwise);
    b.tree(block);
    b.finish().map(Some).ok_or_else(too_long)
}

/// The decisions about devices of `kind`. What decides the same as what surrounds it is left out.
fn tree(kind: DeviceKind, default: u8, rules: &[(Devices, &Rule)]) -> Tree {
    let mine: Vec<(Devices, &Rule)> = rules.iter().copied().filter(|(d, _)| d.kind == kind).collect();
    // A rule with a number that no device can have matches nothing.
    let mut majors: Vec<u32> = mine.iter().filter_map(|(d, _)| d.major).filter(|n| *n <= MAJOR_MAX).collect();
    majors.sort_unstable();
    majors.dedup();
    let others = section(None, default, &mine);
    let majors =
        majors.into_iter().map(|n| (n, section(Some(n), default, &mine))).filter(|(_, s)| *s != others);
    Tree { majors: majors.collect(), others }
}

/// The decisions about the devices with one major number, or with one that no rule names.
fn section(major: Option<u32>, default: u8, rules: &[(Devices, &Rule)]) -> Section {
    let mine: Vec<(Devices, &Rule)> =
        rules.iter().copied().filter(|(d, _)| d.major.is_none() || d.major == major).collect();
    let mut minors: Vec<u32> = mine.iter().filter_map(|(d, _)| d.minor).filter(|n| *n <= MINOR_MAX).collect();
    minors.sort_unstable();
    minors.dedup();
    let others = allowed(None, default, &mine);
    let minors =
        minors.into_iter().map(|n| (n, allowed(Some(n), default, &mine))).filter(|(_, a)| *a != others);
    Section { minors: minors.collect(), others }
}

/// The accesses that `rules`, which are all about the device's type and major number, allow to a minor number, or to
/// one that no rule names: of each access the last rule about it decides.
fn allowed(minor: Option<u32>, default: u8, rules: &[(Devices, &Rule)]) -> u8 {
    let (mut allowed, mut undecided) = (0, ALL);
    for (_, r) in rules.iter().rev().filter(|(d, _)| d.minor.is_none() || d.minor == minor) {
        if r.allow {
            allowed |= r.access & undecided;
        }
        undecided &= !r.access;
        if undecided == 0 {
            break;
        }
    }
    allowed | default & undecided
}

#[derive(Default)]
struct Builder {
    code: Vec<(Instruction, Option<Label>)>,
    /// Positions of the marks.
    marks: Vec<usize>,
}

impl Builder {
    fn emit(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
        self.code.push((Instruction { code, registers, offset, immediate }, None));
    }

    fn jump(&mut self, code: u8, register: u8, value: u32, label: Label) {
        self.emit(code, register, 0, 0, value as i32);
        self.code.last_mut().expect("one was just pushed").1 = Some(label);
    }

    fn mark_later(&mut self) -> usize {
        self.marks.push(usize::MAX);
        self.marks.len() - 1
    }

    fn mark(&mut self, mark: usize) {
        self.marks[mark] = self.code.len();
    }

    fn prologue(&mut self) {
        self.emit(LOAD_WORD, TYPE, R1, 0, 0);
        self.emit(MOVE_REGISTER, ACCESS, TYPE, 0, 0);
        self.emit(AND, TYPE, 0, 0, 0xffff);
        self.emit(SHIFT_RIGHT, ACCESS, 0, 0, 16);
        self.emit(LOAD_WORD, MAJOR, R1, 4, 0);
        self.emit(LOAD_WORD, MINOR, R1, 8, 0);
        // access(2) with F_OK asks for nothing.
        self.jump(JUMP_EQUAL, ACCESS, 0, Label::Allow(ALL));
    }

    fn tree(&mut self, t: &Tree) {
        for (major, section) in &t.majors {
            let next = self.mark_later();
            self.jump(JUMP_NOT_EQUAL, MAJOR, *major, Label::Mark(next));
            self.section(section);
            self.mark(next);
        }
        self.section(&t.others);
    }

    fn section(&mut self, s: &Section) {
        for (minor, allowed) in &s.minors {
            self.jump(JUMP_EQUAL, MINOR, *minor, Label::Allow(*allowed));
        }
        self.jump(JUMP, 0, 0, Label::Allow(s.others));
    }

    /// Adds the leaves that something leads to (the kernel refuses other instructions) and fills the jumps in. `None`
    /// if the program is too long.
    fn finish(mut self) -> Option<Vec<Instruction>> {
        let wanted = |code: &[(Instruction, Option<Label>)], allowed| {
            code.iter().any(|(_, label)| *label == Some(Label::Allow(allowed)))
        };
        let mut leaves = [0; ALL as usize + 1];
        for some in 1..ALL {
            if wanted(&self.code, some) {
                leaves[usize::from(some)] = self.code.len();
                self.jump(JUMP_ANY_BIT, ACCESS, (ALL & !some).into(), Label::Allow(0));
                self.jump(JUMP, 0, 0, Label::Allow(ALL));
            }
        }
        for (allowed, answer) in [(0, 0), (ALL, 1)] {
            if wanted(&self.code, allowed) {
                leaves[usize::from(allowed)] = self.code.len();
                self.emit(MOVE, R0, 0, 0, answer);
                self.emit(EXIT, 0, 0, 0, 0);
            }
        }
        if self.code.len() > MAX_INSTRUCTIONS {
            return None;
        }
        let marks = self.marks;
        let fill = |(at, (mut i, label)): (usize, (Instruction, Option<Label>))| {
            if let Some(label) = label {
                let target = match label {
                    Label::Allow(accesses) => leaves[usize::from(accesses)],
                    Label::Mark(m) => marks[m],
                };
                i.offset = i16::try_from(target - at - 1).expect("MAX_INSTRUCTIONS keeps jumps short");
            }
            i
        };
        Some(self.code.into_iter().enumerate().map(fill).collect())
    }
}
