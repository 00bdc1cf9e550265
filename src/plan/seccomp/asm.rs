//! An assembler for classic BPF that writes a program from its end to its beginning.
//!
//! Classic BPF only jumps forwards, and a conditional jump reaches 255 instructions. Written backwards, the
//! target of every jump is emitted before the jump, so that distances are known and a target out of reach is
//! brought near by one more instruction right behind the branch.

use super::SockFilter;

const LD_W_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const JMP_JA: u16 = 0x05;
const RET_K: u16 = 0x06;

/// The farthest a conditional jump goes.
const REACH: usize = 255;

/// A conditional jump that compares the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Test {
    /// Equal.
    Eq = 0x15,
    /// Greater, unsigned.
    Gt = 0x25,
    /// Greater or equal, unsigned.
    Ge = 0x35,
    /// Any of these bits is set.
    AnyBit = 0x45,
}

/// An instruction of the program: its distance from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program that grows towards its beginning.
#[derive(Default)]
pub(super) struct Asm {
    reversed: Vec<SockFilter>,
    /// The latest return of each value.
    returns: Vec<(u32, Label)>,
}

impl Asm {
    /// A return of `value`: one that is near enough, or a new one.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        self.near_return(value, 0)
    }

    /// Loads the word at `offset` of `struct seccomp_data` and continues at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_to(next);
        self.push(LD_W_ABS, 0, 0, offset)
    }

    /// Clears the bits of the accumulator that are not in `mask` and continues at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.fall_to(next);
        self.push(ALU_AND_K, 0, 0, mask)
    }

    /// Continues at `yes` or at `no`.
    pub(super) fn branch(&mut self, test: Test, value: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // The trampoline for `yes` lies between the branch and the trampoline for `no`.
        let no = self.near(no, 1);
        let yes = self.near(yes, 0);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        debug_assert!(jt <= REACH && jf <= REACH);
        self.push(test as u16, jt as u8, jf as u8, value)
    }

    /// The program from its beginning, which is `entry`.
    pub(super) fn finish(mut self, entry: Label) -> Vec<SockFilter> {
        self.fall_to(entry);
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(SockFilter { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// How far `label` lies behind the instruction that comes next.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    /// Makes `label` the instruction that follows the next one.
    fn fall_to(&mut self, label: Label) {
        let distance = self.distance(label);
        if distance == 0 {
            return;
        }
        match self.reversed[label.0] {
            ret @ SockFilter { code: RET_K, .. } => self.push(RET_K, 0, 0, ret.k),
            _ => self.push(JMP_JA, 0, 0, distance as u32),
        };
    }

    /// An instruction that does what `label` does, within reach of a branch with `between` more instructions
    /// before it.
    fn near(&mut self, label: Label, between: usize) -> Label {
        if self.distance(label) + between <= REACH {
            return label;
        }
        let target = self.reversed[label.0];
        if target.code == RET_K {
            return self.near_return(target.k, between);
        }
        let distance = self.distance(label) as u32;
        self.push(JMP_JA, 0, 0, distance)
    }

    fn near_return(&mut self, value: u32, between: usize) -> Label {
        let known = self.returns.iter().position(|(v, _)| *v == value);
        if let Some(i) = known
            && self.distance(self.returns[i].1) + between <= REACH
        {
            return self.returns[i].1;
        }
        let label = self.push(RET_K, 0, 0, value);
        match known {
            Some(i) => self.returns[i].1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }
}
