//! A model of the rules, of the program of version 2 and of the lines of version 1, for the tests.

use super::*;

/// Runs a program as the kernel does. Only the instructions that [`program`] uses.
pub(super) fn run(code: &[Instruction], kind: u32, major: u32, minor: u32, access: u8) -> bool {
    let context = [kind | u32::from(access) << 16, major, minor];
    let mut r = [0u64; 11];
    let mut pc = 0;
    for _ in 0..100_000 {
        let i = code[pc];
        let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
        let imm = i64::from(i.immediate) as u64;
        let mut jump = false;
        match i.code {
            0x61 => r[to] = context[(i.offset / 4) as usize].into(),
            0xbf => r[to] = r[from],
            0xb7 => r[to] = imm,
            0x57 => r[to] &= imm,
            0x77 => r[to] >>= imm,
            0x05 => jump = true,
            0x15 => jump = r[to] == imm,
            0x55 => jump = r[to] != imm,
            0x45 => jump = r[to] & imm != 0,
            0x95 => return r[0] == 1,
            c => panic!("instruction {c:#x}"),
        }
        pc += 1;
        if jump {
            assert!(i.offset >= 0, "the program has a loop");
            pc += i.offset as usize;
        }
    }
    panic!("the program does not end");
}

/// The meaning of the rules, in the simplest form.
pub(super) fn model(rules: &[Rule], kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
    let device = Devices { kind, major: Some(major), minor: Some(minor) };
    [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
        let matches = |r: &&Rule| r.devices.is_none_or(|d| d.covers(device)) && r.access & bit != 0;
        rules.iter().rev().find(matches).is_some_and(|r| r.allow)
    })
}

/// A version 1 cgroup after it got these lines (security/device_cgroup.c of the kernel).
pub(super) fn v1(writes: &[Write], kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
    let default = writes[0].file == "devices.allow";
    assert_eq!(writes[0].value, "a");
    let exceptions = writes[1..].iter().map(|w| {
        assert_eq!(w.file == "devices.allow", !default, "an exception of the default's kind does nothing");
        let f: Vec<&str> = w.value.split([' ', ':']).collect();
        let number = |s: &str| (s != "*").then(|| s.parse().unwrap());
        let kind = if f[0] == "c" { DeviceKind::Char } else { DeviceKind::Block };
        let bits = f[3].chars().fold(0, |sum, c| {
            sum | match c {
                'r' => READ,
                'w' => WRITE,
                _ => MKNOD,
            }
        });
        (Devices { kind, major: number(f[1]), minor: number(f[2]) }, bits)
    });
    let device = Devices { kind, major: Some(major), minor: Some(minor) };
    let mut matching = exceptions.filter(|(d, _)| d.covers(device));
    if default {
        !matching.any(|(_, bits)| bits & access != 0)
    } else {
        matching.any(|(_, bits)| access & !bits == 0)
    }
}

/// Rules as JSON: where both versions can say them, what a device may do is what the rules say.
///
/// # Panics
/// It is not.
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Vec<DeviceRule>>(data) else { return };
    let Ok(rules) = rules(&config, &[]) else { return };
    let writes = v1_writes(&rules).ok();
    let Ok(program) = program(&rules) else { return };
    let near = |n: Option<u32>| n.into_iter().flat_map(|n| [n.wrapping_sub(1), n, n.wrapping_add(1)]);
    for devices in rules.iter().rev().take(20).filter_map(|r| r.devices) {
        for (major, minor) in
            near(devices.major.or(Some(0))).flat_map(|a| near(devices.minor.or(Some(0))).map(move |i| (a, i)))
        {
            for access in [MKNOD, READ, WRITE, READ | WRITE] {
                let want = model(&rules, devices.kind, major, minor, access);
                let got = program.as_ref().is_none_or(|p| run(p, devices.kind as u32, major, minor, access));
                assert_eq!(got, want, "{:?} {major}:{minor} {access:03b}", devices.kind);
                // Two partial wildcards that only together allow reading and writing: no line of version 1 says that.
                if let Some(writes) = writes.as_ref().filter(|_| access != READ | WRITE) {
                    assert_eq!(
                        v1(writes, devices.kind, major, minor, access),
                        want,
                        "{writes:?} {major}:{minor} {access:03b}"
                    );
                }
            }
        }
    }
}
