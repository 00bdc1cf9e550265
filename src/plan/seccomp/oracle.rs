//! The compiler against libseccomp: both programs must return the same for the same system call.

use std::io::Read;

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use proptest::prelude::*;

use super::sim::{self, Data};
use super::syscalls::Syscall;
use super::{Arch, SockFilter, compile};
use crate::config::seccomp::{Arg, Rule, Seccomp};
use crate::plan::facts::SeccompFacts;

/// libseccomp's program for the profile on these architectures, or nothing where it refuses a rule.
fn libseccomp(profile: &Seccomp, archs: &[Arch]) -> Option<Vec<SockFilter>> {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let mut context = ScmpFilterContext::new(default).unwrap();
    if !archs.contains(&Arch::X86_64) {
        context.remove_arch(ScmpArch::Native).unwrap();
    }
    for arch in archs {
        context.add_arch(arch.name().parse().unwrap()).unwrap();
    }
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        let conditions: Vec<ScmpArgCompare> = rule.args.iter().map(condition).collect();
        let repeated = rule.args.iter().any(|a| rule.args.iter().filter(|b| a.index == b.index).count() > 1);
        for name in &rule.names {
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            match repeated {
                true => conditions
                    .iter()
                    .try_for_each(|c| context.add_rule_conditional(action, call, &[*c]).map(|_| ()))
                    .ok()?,
                false => context.add_rule_conditional(action, call, &conditions).map(|_| ()).ok()?,
            }
        }
    }
    let (mut reader, writer) = std::io::pipe().unwrap();
    context.export_bpf(&writer).unwrap();
    drop(writer);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    // A program for a foreign byte order is written in it.
    let big_endian = archs[0].big_endian();
    let u16_at = |b: &[u8]| match big_endian {
        true => u16::from_be_bytes([b[0], b[1]]),
        false => u16::from_le_bytes([b[0], b[1]]),
    };
    let u32_at = |b: &[u8]| match big_endian {
        true => u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
        false => u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
    };
    let filter = bytes.chunks_exact(8).map(|b| {
        let (code, k) = (u16_at(b), u32_at(&b[4..]));
        // It leaves what the filter returns in the byte order of this machine.
        let k = if code == 0x06 && big_endian { k.swap_bytes() } else { k };
        SockFilter { code, jt: b[2], jf: b[3], k }
    });
    Some(filter.collect())
}

fn action(name: &str, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    match name {
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno as i32),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(errno as u16),
        name => ScmpAction::from_str(name, None).unwrap(),
    }
}

fn condition(arg: &Arg) -> ScmpArgCompare {
    let (op, datum) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, arg.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, arg.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, arg.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, arg.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, arg.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, arg.value),
        "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
        op => panic!("{op}"),
    };
    ScmpArgCompare::new(arg.index, op, datum)
}

/// Names known to libseccomp 2.5.4: plain ones, multiplexed ones, and such as only some architectures have.
const NAMES: &[&str] = &[
    "read",
    "write",
    "open",
    "close",
    "stat",
    "mmap",
    "ioctl",
    "preadv",
    "rt_sigaction",
    "clone",
    "personality",
    "socket",
    "accept",
    "accept4",
    "send",
    "bind",
    "socketcall",
    "semop",
    "shmat",
    "ipc",
    "msgget",
    "statx",
    "mount",
    "umount",
    "_llseek",
    "fcntl64",
    "setuid32",
    "breakpoint",
    "set_tls",
    "openat",
    "dup3",
    "epoll_wait",
    "clock_gettime64",
    "clone3",
    "io_uring_setup",
    "futex_waitv",
    "restart_syscall",
    "exit_group",
];

const VALUES: &[u64] = &[
    0,
    1,
    2,
    5,
    40,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x5_0000_0005,
    0x7e02_0000,
    0x8000_0000,
    0x8000_0000_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

type Words = &'static [&'static str];

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![4 => proptest::sample::select(VALUES), 1 => any::<u64>(), 1 => 0u64..50]
}

fn arg(indices: std::ops::Range<u32>, ops: Words) -> impl Strategy<Value = Arg> {
    (indices, value(), value(), proptest::sample::select(ops)).prop_map(|(index, value, value_two, op)| Arg {
        index,
        value,
        value_two,
        op: op.to_owned(),
    })
}

fn rule(actions: Words, ops: Words) -> impl Strategy<Value = Rule> {
    let args = prop_oneof![
        2 => Just(Vec::new()),
        3 => proptest::collection::vec(arg(0..3, ops), 1..4),
        1 => proptest::collection::vec(arg(0..6, ops), 1..7),
    ];
    let errno = proptest::option::of(0u32..200);
    let names = proptest::collection::vec(proptest::sample::select(NAMES), 1..6);
    (names, proptest::sample::select(actions), errno, args).prop_map(|(names, action, errno, args)| Rule {
        names: names.into_iter().map(str::to_owned).collect(),
        action: action.to_owned(),
        errno_ret: errno.filter(|_| matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE")),
        args,
    })
}

const ALL_ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// A profile; the last rule names a new system call, so that only still newer ones return `ENOSYS`.
fn profile(actions: Words, ops: Words) -> impl Strategy<Value = Seccomp> {
    let defaults = proptest::sample::select(ALL_ACTIONS);
    (defaults, proptest::collection::vec(rule(actions, ops), 0..25)).prop_map(
        |(default_action, mut syscalls)| {
            syscalls.push(Rule {
                names: vec![NEWEST.to_owned()],
                action: "SCMP_ACT_TRAP".to_owned(),
                ..Rule::default()
            });
            Seccomp { default_action: default_action.to_owned(), syscalls, ..Seccomp::default() }
        },
    )
}

/// Number 448 everywhere.
const NEWEST: &str = "process_mrelease";

/// Sets of architectures that one kernel runs, the native one first.
const FAMILIES: &[&[Arch]] = &[
    &[Arch::X86_64],
    &[Arch::X86_64, Arch::X86],
    &[Arch::X86_64, Arch::X32],
    &[Arch::X86_64, Arch::X86, Arch::X32],
    &[Arch::X86],
    &[Arch::X32],
    &[Arch::Aarch64],
    &[Arch::Aarch64, Arch::Arm],
    &[Arch::Riscv64],
    &[Arch::Ppc64le],
    &[Arch::Mipsel64, Arch::Mipsel, Arch::Mipsel64n32],
];

const BIG_ENDIAN: &[&[Arch]] =
    &[&[Arch::S390x, Arch::S390], &[Arch::Ppc64, Arch::Ppc], &[Arch::Mips64, Arch::Mips], &[Arch::Parisc]];

/// System calls to try: those that the rules name, their neighbours, and numbers of no call.
fn numbers(profile: &Seccomp, archs: &[Arch]) -> Vec<u32> {
    let mut numbers = vec![0, 1, 300, 448, 0x3fff_ffff, 0x4000_0000, 0xffff_ffff];
    for arch in archs {
        for name in profile.syscalls.iter().flat_map(|r| &r.names) {
            let Some(row) = Syscall::from_name(name).and_then(|c| c.row(*arch)) else { continue };
            let number = arch.number(row);
            numbers.extend([number.wrapping_sub(1), number, number + 1, number ^ 0x4000_0000]);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The numbers that return `ENOSYS` because the profile is older, which libseccomp knows nothing of.
fn is_newer(archs: &[Arch], data: &Data) -> bool {
    let on = |arch: Arch| archs.contains(&arch) && data.arch == arch.token();
    if on(Arch::X32) && data.nr >= 0x4000_0000 {
        return matches!(data.nr, 0x4000_01c1..0x4000_0200 | 0x4000_0224..0x8000_0000);
    }
    if on(Arch::X86_64) && data.nr >= 0x4000_0000 {
        return false;
    }
    archs.iter().any(|a| match a {
        Arch::X32 => false,
        Arch::Arm => on(*a) && (449..0xf0000).contains(&data.nr),
        a => on(*a) && data.nr > a.base() + 448 || matches!(a, Arch::S390 | Arch::S390x) && data.nr == 0,
    })
}

/// The rules that name a system call with this number, for the message.
fn rules_for(profile: &Seccomp, archs: &[Arch], nr: u32) -> Vec<Rule> {
    let is = |name: &String, arch: &Arch| {
        Syscall::from_name(name).is_some_and(|call| {
            let rows = [call.row(*arch), call.multiplexed(*arch).map(|m| m.0)];
            rows.into_iter().flatten().any(|row| arch.number(row) == nr)
        })
    };
    let names_it = |rule: &&Rule| rule.names.iter().any(|n| archs.iter().any(|a| is(n, a)));
    profile.syscalls.iter().filter(names_it).cloned().collect()
}

fn same_verdicts(profile: &Seccomp, archs: &[Arch], args: &[[u64; 6]]) -> Result<(), TestCaseError> {
    let Some(theirs) = libseccomp(profile, archs) else {
        return Err(TestCaseError::reject("libseccomp refuses a rule"));
    };
    let facts = SeccompFacts { arch: archs[0], ..SeccompFacts::default() };
    let profile =
        Seccomp { architectures: archs.iter().map(|a| a.name().to_owned()).collect(), ..profile.clone() };
    let ours = compile(&profile, &facts).unwrap().unwrap().filter;
    sim::verify(&ours);
    let big_endian = archs[0].big_endian();
    for token in archs.iter().map(|a| a.token()).chain([0xc000_00b7, 0x4000_0003, 0]) {
        for nr in numbers(&profile, archs) {
            for args in args {
                let data = Data { nr, arch: token, args: *args };
                if is_newer(archs, &data) {
                    continue;
                }
                let (ours, theirs) =
                    (sim::run(&ours, &data, big_endian), sim::run(&theirs, &data, big_endian));
                prop_assert_eq!(ours.0, theirs.0, "{:x?}, rules {:x?}", data, rules_for(&profile, archs, nr));
            }
        }
    }
    Ok(())
}

fn arguments() -> impl Strategy<Value = Vec<[u64; 6]>> {
    let near = (value(), -1i64..2).prop_map(|(v, d)| v.wrapping_add_signed(d));
    proptest::collection::vec(proptest::array::uniform6(near), 24)
}

const EQ: Words = &["SCMP_CMP_EQ"];
const EQNE: Words = &["SCMP_CMP_EQ", "SCMP_CMP_NE"];
const EQM: Words = &["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"];
const GT: Words = &["SCMP_CMP_GT", "SCMP_CMP_GE"];
const LT: Words = &["SCMP_CMP_LT", "SCMP_CMP_LE"];
const EQGT: Words = &["SCMP_CMP_GT", "SCMP_CMP_GE", "SCMP_CMP_EQ"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_eq_families(
        profile in profile(&["SCMP_ACT_ALLOW"], EQ),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_eq_big_endian(
        profile in profile(&["SCMP_ACT_ALLOW"], EQ),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_eqne_families(
        profile in profile(&["SCMP_ACT_ALLOW"], EQNE),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_eqne_big_endian(
        profile in profile(&["SCMP_ACT_ALLOW"], EQNE),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_eqm_families(
        profile in profile(&["SCMP_ACT_ALLOW"], EQM),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_eqm_big_endian(
        profile in profile(&["SCMP_ACT_ALLOW"], EQM),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_gt_families(
        profile in profile(&["SCMP_ACT_ALLOW"], GT),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_gt_big_endian(
        profile in profile(&["SCMP_ACT_ALLOW"], GT),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_lt_families(
        profile in profile(&["SCMP_ACT_ALLOW"], LT),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_lt_big_endian(
        profile in profile(&["SCMP_ACT_ALLOW"], LT),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_eqgt_families(
        profile in profile(&["SCMP_ACT_ALLOW"], EQGT),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn one_eqgt_big_endian(
        profile in profile(&["SCMP_ACT_ALLOW"], EQGT),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_eq_families(
        profile in profile(ALL_ACTIONS, EQ),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_eq_big_endian(
        profile in profile(ALL_ACTIONS, EQ),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_eqne_families(
        profile in profile(ALL_ACTIONS, EQNE),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_eqne_big_endian(
        profile in profile(ALL_ACTIONS, EQNE),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_eqm_families(
        profile in profile(ALL_ACTIONS, EQM),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_eqm_big_endian(
        profile in profile(ALL_ACTIONS, EQM),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_gt_families(
        profile in profile(ALL_ACTIONS, GT),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_gt_big_endian(
        profile in profile(ALL_ACTIONS, GT),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_lt_families(
        profile in profile(ALL_ACTIONS, LT),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_lt_big_endian(
        profile in profile(ALL_ACTIONS, LT),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_eqgt_families(
        profile in profile(ALL_ACTIONS, EQGT),
        archs in proptest::sample::select(FAMILIES),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn any_eqgt_big_endian(
        profile in profile(ALL_ACTIONS, EQGT),
        archs in proptest::sample::select(BIG_ENDIAN),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }
}
