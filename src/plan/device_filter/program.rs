//! The version 2 device filter: a `BPF_PROG_TYPE_CGROUP_DEVICE` program (Linux 4.15, bpf(2)).
//!
//! The kernel runs it with `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`, where the upper half of
//! `access_type` is the access and the lower half the type of the node, and lets the access pass when it returns 1.
//! The program goes through the rules from the last to the first. A rule that allows takes its bits off the access;
//! when none is left the answer is yes. A rule that denies one of the bits left is the answer no.

use super::{ALL, Devices, Kind, Rule, Violation, split};
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

/// A rule takes at most five instructions, and a jump reaches 32767 of them.
const MAX_RULES: usize = 4096;

/// Where a jump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Allow,
    Deny,
    /// A place in the program that is marked later.
    Mark(usize),
}

/// Rules of one kind that differ in nothing but the minor number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    access: u8,
    /// Empty is every minor number.
    minors: Vec<u32>,
}

/// Compiles `rules`; `None` when they allow everything.
///
/// # Errors
/// More rules than a program can hold.
pub fn program(rules: &[Rule]) -> Result<Option<Vec<Instruction>>, Violation> {
    let (default, rest) = split(rules);
    if rest.len() > MAX_RULES {
        let what = format!("{} rules are too many, {MAX_RULES} fit into a filter", rest.len());
        return Err(Violation::new("linux.resources.devices", what).hint("use rules with wildcards"));
    }
    let rest = prune(default, &rest);
    if default && rest.is_empty() {
        return Ok(None);
    }
    let groups = group(&rest);
    let mut b = Builder::default();
    b.prologue();
    for g in &groups {
        b.group(g);
    }
    let denies = !default || groups.iter().any(|g| !g.allow);
    Ok(Some(b.finish(default, denies)))
}

/// The rules that decide something, from the last to the first.
fn prune(default: bool, rules: &[(Devices, &Rule)]) -> Vec<(Devices, u8, bool)> {
    let mut out: Vec<(Devices, u8, bool)> = Vec::new();
    for (d, r) in rules.iter().rev() {
        let possible = d.major.is_none_or(|n| n <= MAJOR_MAX) && d.minor.is_none_or(|n| n <= MINOR_MAX);
        // Later rules that cover these devices have the last word on their bits.
        let decided = out.iter().filter(|(later, ..)| later.covers(*d)).fold(0, |sum, (_, a, _)| sum | a);
        if possible && r.access & !decided != 0 {
            out.push((*d, r.access, r.allow));
        }
    }
    // The first rules, when they say what would be said without them.
    while out.last().is_some_and(|(_, _, allow)| *allow == default) {
        out.pop();
    }
    out
}

/// Puts together what can be tested together. Neighbours with the same answer may change places.
fn group(rules: &[(Devices, u8, bool)]) -> Vec<Group> {
    let mut out: Vec<Group> = Vec::new();
    let mut run = 0;
    for &(d, access, allow) in rules {
        if out.last().is_some_and(|g| g.allow != allow) {
            run = out.len();
        }
        let same = |g: &&mut Group| {
            (g.kind, g.major, g.access) == (d.kind, d.major, access)
                && g.minors.is_empty() == d.minor.is_none()
        };
        match (out[run..].iter_mut().find(same), d.minor) {
            (Some(g), Some(minor)) => g.minors.push(minor),
            (Some(_), None) => {}
            (None, _) => {
                let minors = d.minor.into_iter().collect();
                out.push(Group { allow, kind: d.kind, major: d.major, access, minors });
            }
        }
    }
    out
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
        self.jump(JUMP_EQUAL, ACCESS, 0, Label::Allow);
    }

    fn group(&mut self, g: &Group) {
        let next = self.mark_later();
        self.jump(JUMP_NOT_EQUAL, TYPE, g.kind as u32, Label::Mark(next));
        if let Some(major) = g.major {
            self.jump(JUMP_NOT_EQUAL, MAJOR, major, Label::Mark(next));
        }
        let whole = g.access == ALL;
        let answer = if g.allow { Label::Allow } else { Label::Deny };
        match g.minors.as_slice() {
            // Something is left of the access here, so a rule about all of it is the answer.
            [] if whole => self.jump(JUMP, 0, 0, answer),
            minors if whole => {
                for minor in minors {
                    self.jump(JUMP_EQUAL, MINOR, *minor, answer);
                }
            }
            [] => self.part(g),
            [minor] => {
                self.jump(JUMP_NOT_EQUAL, MINOR, *minor, Label::Mark(next));
                self.part(g);
            }
            minors => {
                let found = self.mark_later();
                for minor in minors {
                    self.jump(JUMP_EQUAL, MINOR, *minor, Label::Mark(found));
                }
                self.jump(JUMP, 0, 0, Label::Mark(next));
                self.mark(found);
                self.part(g);
            }
        }
        self.mark(next);
    }

    /// The decision of a rule about some of the accesses.
    fn part(&mut self, g: &Group) {
        if g.allow {
            self.emit(AND, ACCESS, 0, 0, i32::from(ALL & !g.access));
            self.jump(JUMP_EQUAL, ACCESS, 0, Label::Allow);
        } else {
            self.jump(JUMP_ANY_BIT, ACCESS, g.access.into(), Label::Deny);
        }
    }

    /// Adds the two ends, the default one first, and fills the jumps in.
    fn finish(mut self, default: bool, denies: bool) -> Vec<Instruction> {
        let mut ends = [0; 2];
        for allow in [default, !default] {
            // The kernel refuses instructions that nothing leads to.
            if allow || denies {
                ends[usize::from(allow)] = self.code.len();
                self.emit(MOVE, R0, 0, 0, i32::from(allow));
                self.emit(EXIT, 0, 0, 0, 0);
            }
        }
        let marks = self.marks;
        let fill = |(at, (mut i, label)): (usize, (Instruction, Option<Label>))| {
            if let Some(label) = label {
                let target = match label {
                    Label::Allow => ends[1],
                    Label::Deny => ends[0],
                    Label::Mark(m) => marks[m],
                };
                i.offset = i16::try_from(target - at - 1).expect("MAX_RULES keeps jumps short");
            }
            i
        };
        self.code.into_iter().enumerate().map(fill).collect()
    }
}
