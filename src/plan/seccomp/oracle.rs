//! The compiler against libseccomp: both programs must return the same for the same system call.

use std::io::Read;

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use proptest::prelude::*;

use super::sim::{self, Data};
use super::syscalls::Syscall;
use super::{Arch, SockFilter, compile, names};
use crate::config::seccomp::{Arg, Rule, Seccomp};
use crate::plan::facts::SeccompFacts;

/// libseccomp's program for the profile on these architectures, or nothing where it refuses a rule.
pub(super) fn libseccomp(profile: &Seccomp, archs: &[Arch]) -> Option<Vec<SockFilter>> {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let mut context = ScmpFilterContext::new(default).unwrap();
    if !archs.contains(&Arch::X86_64) {
        context.remove_arch(ScmpArch::Native).unwrap();
    }
    for arch in archs {
        context.add_arch(arch.name().parse().unwrap()).unwrap();
    }
    // Without the tree, libseccomp 2.5.4 forgets to load the number where the first rule is for a system call
    // that the architecture lacks; runc uses the tree for profiles of some size.
    context.set_ctl_optimize(2).unwrap();
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
        // It leaves some of what the filter returns in the byte order of this machine.
        let k = if code == 0x06 && !is_action(k) { k.swap_bytes() } else { k };
        SockFilter { code, jt: b[2], jf: b[3], k }
    });
    Some(filter.collect())
}

fn is_action(value: u32) -> bool {
    let (action, data) = (value & 0xffff_0000, value & 0xffff);
    let takes_data = matches!(action, names::ERRNO | names::TRACE);
    names::ACTIONS.iter().any(|(_, a)| *a == action) && (data == 0 || takes_data)
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

const SMALL_VALUES: &[u64] = &[0, 1, 2, 3, 5, 6, 40, 0x7e02_0000, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

type Words = &'static [&'static str];

/// The form of the rules of a random profile.
#[derive(Debug, Clone, Copy)]
struct Shape {
    actions: Words,
    operators: Words,
    values: &'static [u64],
    conditions: usize,
    /// No system call has more than one rule with conditions.
    once: bool,
    /// Rules with conditions are also for calls that some architectures multiplex, where such rules meet.
    multiplexed: bool,
}

fn arg(shape: Shape) -> impl Strategy<Value = Arg> {
    let value = || proptest::sample::select(shape.values);
    (0u32..6, value(), value(), proptest::sample::select(shape.operators))
        .prop_map(|(index, value, value_two, op)| Arg { index, value, value_two, op: op.to_owned() })
}

fn rule(shape: Shape) -> impl Strategy<Value = Rule> {
    let few = proptest::collection::vec(arg(shape), 1..=shape.conditions);
    // Rules only meet when they look at the same arguments.
    let near = few.prop_map(|mut args| {
        args.iter_mut().for_each(|a| a.index %= 2);
        args
    });
    let many = proptest::collection::vec(arg(shape), 1..=shape.conditions);
    let args = prop_oneof![2 => Just(Vec::new()), 5 => near, 2 => many];
    let errno = proptest::option::of(0u32..200);
    let names = proptest::collection::vec(proptest::sample::select(NAMES), 1..6);
    (names, proptest::sample::select(shape.actions), errno, args).prop_map(|(names, action, errno, args)| {
        Rule {
            names: names.into_iter().map(str::to_owned).collect(),
            action: action.to_owned(),
            errno_ret: errno.filter(|_| matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE")),
            args,
        }
    })
}

const ALL_ACTIONS: Words = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const ALL_OPERATORS: Words = &[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// A profile; the last rule names a new system call, so that only still newer ones return `ENOSYS`.
fn profile(shape: Shape) -> impl Strategy<Value = Seccomp> {
    let defaults = proptest::sample::select(ALL_ACTIONS);
    (defaults, proptest::collection::vec(rule(shape), 0..25)).prop_map(
        move |(default_action, mut syscalls)| {
            if !shape.multiplexed {
                for rule in syscalls.iter_mut().filter(|r| !r.args.is_empty()) {
                    rule.names.retain(|n| !is_multiplexed(n));
                }
                syscalls.retain(|r| !r.names.is_empty());
            }
            if shape.once {
                let mut seen = Vec::new();
                for rule in syscalls.iter_mut().filter(|r| !r.args.is_empty()) {
                    rule.names.retain(|n| !seen.contains(n));
                    rule.names.dedup();
                    seen.append(&mut rule.names.clone());
                    rule.args.sort_by_key(|a| a.index);
                    rule.args.dedup_by_key(|a| a.index);
                }
                syscalls.retain(|r| !r.names.is_empty());
            }
            syscalls.push(Rule {
                names: vec![NEWEST.to_owned()],
                action: if default_action == "SCMP_ACT_TRAP" { "SCMP_ACT_LOG" } else { "SCMP_ACT_TRAP" }
                    .to_owned(),
                ..Rule::default()
            });
            Seccomp { default_action: default_action.to_owned(), syscalls, ..Seccomp::default() }
        },
    )
}

fn is_multiplexed(name: &str) -> bool {
    let call = Syscall::from_name(name).unwrap();
    matches!(name, "socketcall" | "ipc") || call.multiplexed(Arch::X86).is_some()
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

const NARROW: &[&[Arch]] = &[&[Arch::X86], &[Arch::Arm], &[Arch::S390], &[Arch::Ppc]];

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

/// Whether a condition holds for the argument on this architecture.
fn holds(c: &Arg, args: &[u64; 6], wide: bool) -> bool {
    let cut = |v: u64| if wide { v } else { v & 0xffff_ffff };
    let (arg, value) = (cut(args[c.index as usize]), cut(c.value));
    match c.op.as_str() {
        "SCMP_CMP_NE" => arg != value,
        "SCMP_CMP_LT" => arg < value,
        "SCMP_CMP_LE" => arg <= value,
        "SCMP_CMP_EQ" => arg == value,
        "SCMP_CMP_GE" => arg >= value,
        "SCMP_CMP_GT" => arg > value,
        _ => arg & value == c.value_two & value,
    }
}

/// The expected actions for a system call: that of the first unconditional rule, or those of the matching rules, of which
/// one must happen, or the default action.
fn meant(profile: &Seccomp, archs: &[Arch], data: &Data) -> Vec<u32> {
    let value = |name: &str, errno: Option<u32>| match names::value_of(&names::ACTIONS, name).unwrap() {
        action @ (names::ERRNO | names::TRACE) => action | errno.unwrap_or(1),
        action => action,
    };
    let default = value(&profile.default_action, None);
    let mut actions = Vec::new();
    for rule in &profile.syscalls {
        let action = value(&rule.action, rule.errno_ret);
        for (name, arch) in rule.names.iter().flat_map(|n| archs.iter().map(move |a| (n, a))) {
            if arch.token() != data.arch || action == default {
                continue;
            }
            let call = Syscall::from_name(name).unwrap();
            let here = call.row(*arch).is_some_and(|row| arch.number(row) == data.nr);
            let through = call.multiplexed(*arch).filter(|(row, _)| arch.number(*row) == data.nr);
            if !here && through.is_none() {
                continue;
            }
            let repeated =
                rule.args.iter().any(|a| rule.args.iter().filter(|b| a.index == b.index).count() > 1);
            let alternatives: Vec<&[Arg]> =
                if repeated { rule.args.chunks(1).collect() } else { vec![&rule.args] };
            for args in alternatives {
                let cut = |m: u64| if arch.wide() { m } else { m & 0xffff_ffff };
                let looks = |a: &Arg| a.op != "SCMP_CMP_MASKED_EQ" || cut(a.value) != 0;
                let first = |a: &Arg| through.is_none() || a.index != 0;
                let all = args.iter().filter(|a| first(a)).all(|a| holds(a, &data.args, arch.wide()));
                let chosen = through.is_none_or(|(_, n)| {
                    if arch.wide() { data.args[0] == u64::from(n) } else { data.args[0] as u32 == n }
                });
                if through.is_none() && !args.iter().any(looks) {
                    return vec![action];
                }
                if all && chosen {
                    actions.push(action);
                }
            }
        }
    }
    if actions.is_empty() { vec![default] } else { actions }
}

fn rules_hold(profile: &Seccomp, archs: &[Arch], args: &[[u64; 6]]) -> Result<(), TestCaseError> {
    let facts = SeccompFacts { arch: archs[0], ..SeccompFacts::default() };
    let profile =
        Seccomp { architectures: archs.iter().map(|a| a.name().to_owned()).collect(), ..profile.clone() };
    let Ok(program) = compile(&profile, &facts) else {
        return Err(TestCaseError::reject("rules that contradict each other"));
    };
    let filter = program.unwrap().filter;
    sim::verify(&filter);
    for token in archs.iter().map(|a| a.token()) {
        for nr in numbers(&profile, archs) {
            for args in args {
                let data = Data { nr, arch: token, args: *args };
                let foreign = token == Arch::X32.token()
                    && !archs.contains(if nr < 0x4000_0000 { &Arch::X86_64 } else { &Arch::X32 });
                if foreign || is_newer(archs, &data) {
                    continue;
                }
                let (got, _) = sim::run(&filter, &data, archs[0].big_endian());
                let meant = meant(&profile, archs, &data);
                let rules = rules_for(&profile, archs, nr);
                prop_assert!(
                    meant.contains(&got),
                    "{:x} not in {:x?}: {:x?}, {:x?}",
                    got,
                    meant,
                    data,
                    rules
                );
            }
        }
    }
    Ok(())
}

fn arguments() -> impl Strategy<Value = Vec<[u64; 6]>> {
    let value = prop_oneof![5 => proptest::sample::select(VALUES), 1 => any::<u64>(), 1 => 0u64..50];
    let near = (value, -1i64..2).prop_map(|(v, d)| v.wrapping_add_signed(d));
    proptest::collection::vec(proptest::array::uniform6(near), 24)
}

fn archs() -> impl Strategy<Value = &'static [Arch]> {
    prop_oneof![2 => proptest::sample::select(FAMILIES), 1 => proptest::sample::select(BIG_ENDIAN)]
}

const ANY: Shape = Shape {
    actions: ALL_ACTIONS,
    operators: ALL_OPERATORS,
    values: VALUES,
    conditions: 5,
    once: false,
    multiplexed: false,
};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        max_global_rejects: 10_000,
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_rule_for_a_call_agrees(
        profile in profile(Shape { once: true, ..ANY }), archs in archs(), args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    // libseccomp 2.5.4 goes wrong where several rules of one system call have several conditions or upper bounds
    // with different high words, and where 64-bit bounds and inequalities with different actions overlap; it
    // tries a bound and its opposite as one. The next tests leave that out; the last one has it, against the meaning of the rules.
    #[test]
    fn equalities_agree(
        profile in profile(Shape {
            operators: &["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"],
            conditions: 1,
            ..ANY
        }),
        archs in archs(),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn upper_bounds_of_32_bits_agree(
        profile in profile(Shape {
            operators: &["SCMP_CMP_EQ", "SCMP_CMP_LT", "SCMP_CMP_LE"],
            conditions: 1,
            ..ANY
        }),
        archs in proptest::sample::select(NARROW),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn lower_bounds_of_32_bits_agree(
        profile in profile(Shape {
            operators: &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT"],
            conditions: 1,
            ..ANY
        }),
        archs in proptest::sample::select(NARROW),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn inequalities_with_one_action_agree(
        profile in profile(Shape {
            actions: &["SCMP_ACT_ALLOW"],
            operators: &["SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_GE"],
            conditions: 1,
            ..ANY
        }),
        archs in archs(),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn upper_bounds_with_one_action_agree(
        profile in profile(Shape {
            actions: &["SCMP_ACT_LOG"],
            operators: &["SCMP_CMP_EQ", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT"],
            values: SMALL_VALUES,
            conditions: 1,
            ..ANY
        }),
        archs in archs(),
        args in arguments(),
    ) {
        same_verdicts(&profile, archs, &args)?;
    }

    #[test]
    fn the_program_does_what_the_rules_say(
        profile in profile(Shape { multiplexed: true, ..ANY }), archs in archs(), args in arguments(),
    ) {
        rules_hold(&profile, archs, &args)?;
    }
}
