//! Classic BPF as seccomp(2) runs it, for the tests.

use super::SockFilter;

/// `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32, big_endian: bool) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                match offset.is_multiple_of(8) == big_endian {
                    true => (arg >> 32) as u32,
                    false => arg as u32,
                }
            }
            _ => panic!("load from offset {offset}"),
        }
    }
}

/// The return value of the filter, and the number of executed instructions.
pub(crate) fn run(filter: &[SockFilter], data: &Data, big_endian: bool) -> (u32, usize) {
    let (mut pc, mut a, mut steps) = (0, 0u32, 0);
    loop {
        let SockFilter { code, jt, jf, k } = filter[pc];
        pc += 1;
        steps += 1;
        let skip = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => a = data.word(k, big_endian),
            0x54 => a &= k,
            0x05 => pc += k as usize,
            0x15 => pc += skip(a == k),
            0x25 => pc += skip(a > k),
            0x35 => pc += skip(a >= k),
            0x45 => pc += skip(a & k != 0),
            0x06 => return (k, steps),
            _ => panic!("operation {code:#x}"),
        }
    }
}

/// The kernel's checks of a program: every jump ends inside of it, and it ends with a return.
pub(crate) fn verify(filter: &[SockFilter]) {
    assert!(!filter.is_empty() && filter.len() <= super::MAX_INSTRUCTIONS);
    assert_eq!(filter.last().unwrap().code, 0x06, "the last instruction is not a return");
    for (i, f) in filter.iter().enumerate() {
        let far = match f.code {
            0x05 => f.k as usize,
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(f.jt.max(f.jf)),
            _ => 0,
        };
        assert!(i + 1 + far < filter.len() || f.code == 0x06, "instruction {i} leaves the program");
    }
}
