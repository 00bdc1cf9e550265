//! Filters for processes of this program itself: a list of the system calls that they may make. All others fail with EPERM, and a
//! foreign architecture is killed (seccomp(2)).

use super::asm::{Asm, Test};
use super::{Arch, SockFilter};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// Offsets in `struct seccomp_data`: the number, the architecture, and the low half of the first argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

/// A system call that is allowed with some values of an argument only.
#[derive(Debug, Clone, Copy)]
pub struct Limited {
    pub number: i64,
    /// Its index; the low 32 bits are compared.
    pub argument: u32,
    pub values: Values,
}

/// Values of an argument.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// One of these.
    In(&'static [u32]),
    /// Those without any of these bits.
    Without(u32),
}

/// The program that allows `calls`, the most frequent ones first, and those of `limited`.
pub fn allow(calls: &[i64], limited: &[Limited]) -> Vec<SockFilter> {
    let mut asm = Asm::default();
    let mut next = asm.ret(REFUSE);
    for call in limited.iter().rev() {
        let refuse = asm.ret(REFUSE);
        let check = match call.values {
            Values::In(values) => values.iter().rev().fold(refuse, |next, value| {
                let allow = asm.ret(ALLOW);
                asm.branch(Test::Eq, *value, allow, next)
            }),
            Values::Without(bits) => {
                let allow = asm.ret(ALLOW);
                asm.branch(Test::AnyBit, bits, refuse, allow)
            }
        };
        let check = asm.load(ARGUMENTS + 8 * call.argument, check);
        next = asm.branch(Test::Eq, call.number as u32, check, next);
    }
    for number in calls.iter().rev() {
        let allow = asm.ret(ALLOW);
        next = asm.branch(Test::Eq, *number as u32, allow, next);
    }
    let numbers = asm.load(NUMBER, next);
    let kill = asm.ret(libc::SECCOMP_RET_KILL_PROCESS);
    let entry = asm.branch(Test::Eq, Arch::NATIVE.token(), numbers, kill);
    let entry = asm.load(ARCHITECTURE, entry);
    asm.finish(entry)
}
