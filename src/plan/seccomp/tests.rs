//! Filters of single profiles.

use libseccomp::ScmpSyscall;
use serde_json::{Value, json};

use super::sim::{self, Data};
use super::{Arch, Program, SockFilter, compile, names, oracle, table};
use crate::config::seccomp::Seccomp;
use crate::plan::facts::SeccompFacts;

const ENOSYS: u32 = names::ERRNO | 38;
const EPERM: u32 = names::ERRNO | 1;

fn parse(profile: Value) -> Seccomp {
    serde_json::from_value(profile).unwrap()
}

fn on(arch: Arch, profile: Value) -> Program {
    let facts = SeccompFacts { arch, ..SeccompFacts::default() };
    let program = compile(&parse(profile), &facts).unwrap().unwrap();
    sim::verify(&program.filter);
    program
}

/// The return value of the filter for a system call without arguments.
fn returns(program: &Program, arch: Arch, nr: u32) -> u32 {
    with_args(program, arch, nr, &[])
}

fn with_args(program: &Program, arch: Arch, nr: u32, first: &[u64]) -> u32 {
    let mut args = [0; 6];
    args[..first.len()].copy_from_slice(first);
    sim::run(&program.filter, &Data { nr, arch: arch.token(), args }, arch.big_endian()).0
}

/// Every violation as text.
fn violations(profile: Value) -> Vec<String> {
    violations_with(profile, SeccompFacts { arch: Arch::X86_64, ..SeccompFacts::default() })
}

fn violations_with(profile: Value, facts: SeccompFacts) -> Vec<String> {
    let list = compile(&parse(profile), &facts).unwrap_err();
    list.iter().map(|v| format!("{}: {}", v.property, v.message)).collect()
}

fn allow(names: &[&str]) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ALLOW"})
}

#[test]
fn an_empty_profile_is_a_violation() {
    assert_eq!(violations(json!({})), ["linux.seccomp.defaultAction: is required"]);
}

#[test]
fn a_small_profile_instruction_by_instruction() {
    let program = on(
        Arch::X86_64,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["personality"], "action": "SCMP_ACT_KILL_PROCESS", "args":
                [{"index": 0, "op": "SCMP_CMP_EQ", "value": 0x1_0000_0008_u64}]},
        ]}),
    );
    let i = |code, jt, jf, k| SockFilter { code, jt, jf, k };
    let expected = [
        i(0x20, 0, 0, 4),
        i(0x15, 0, 14, 0xc000_003e),
        i(0x20, 0, 0, 0),
        i(0x35, 9, 0, 136),
        i(0x35, 0, 10, 83),
        i(0x35, 1, 0, 84),
        i(0x06, 0, 0, EPERM),
        i(0x35, 0, 7, 135),
        i(0x20, 0, 0, 20),
        i(0x15, 0, 5, 1),
        i(0x20, 0, 0, 16),
        i(0x15, 0, 3, 8),
        i(0x06, 0, 0, names::KILL_PROCESS),
        i(0x35, 0, 1, 0x4000_0000),
        i(0x35, 0, 1, 0xffff_ffff),
        i(0x06, 0, 0, names::ALLOW),
        i(0x06, 0, 0, names::KILL_THREAD),
    ];
    assert_eq!(program.filter, expected);
}

#[test]
fn system_calls_newer_than_the_profile_return_enosys() {
    let profile = |default| {
        json!({"defaultAction": default, "syscalls": [allow(&["read", "openat2", "clone3"])],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]})
    };
    let program = on(Arch::X86_64, profile("SCMP_ACT_KILL"));
    for (arch, base) in [(Arch::X86_64, 0), (Arch::X86, 0), (Arch::X32, 1 << 30)] {
        assert_eq!(returns(&program, arch, base + 435), names::ALLOW);
        assert_eq!(returns(&program, arch, base + 436), names::KILL_THREAD);
        assert_eq!(returns(&program, arch, base + 437), names::ALLOW);
        assert_eq!(returns(&program, arch, base + 438), ENOSYS);
        assert_eq!(returns(&program, arch, base + 500), ENOSYS);
    }
    // x32's own calls are as old as x32, whatever their numbers.
    assert_eq!(returns(&program, Arch::X32, (1 << 30) + 540), names::KILL_THREAD);
    assert_eq!(returns(&program, Arch::X32, (1 << 30) + 600), ENOSYS);
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_TRAP", "SCMP_ACT_KILL_PROCESS"] {
        assert_eq!(returns(&on(Arch::X86_64, profile(default)), Arch::X86_64, 438), ENOSYS, "{default}");
    }
    for (default, value) in
        [("SCMP_ACT_ALLOW", names::ALLOW), ("SCMP_ACT_LOG", names::LOG), ("SCMP_ACT_TRACE", names::TRACE | 1)]
    {
        assert_eq!(returns(&on(Arch::X86_64, profile(default)), Arch::X86_64, 438), value);
    }
}

#[test]
fn a_skipped_rule_still_tells_how_new_the_profile_is() {
    let program = on(
        Arch::X86_64,
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            allow(&["read"]), {"names": ["openat2"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    assert_eq!(returns(&program, Arch::X86_64, 437), EPERM);
    assert_eq!(returns(&program, Arch::X86_64, 438), ENOSYS);
}

#[test]
fn enosys_is_the_architectures_own() {
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allow(&["openat2", "set_tls"])],
        "architectures": ["SCMP_ARCH_MIPS", "SCMP_ARCH_S390", "SCMP_ARCH_ARM"]});
    let mips = on(Arch::Mips64, profile.clone());
    assert_eq!(returns(&mips, Arch::Mips64, 5437), names::ALLOW);
    assert_eq!(returns(&mips, Arch::Mips64, 5438), names::ERRNO | 89);
    assert_eq!(returns(&mips, Arch::Mips, 4438), names::ERRNO | 89);
    assert_eq!(returns(&mips, Arch::Mips, 438), EPERM);
    let s390x = on(Arch::S390x, profile.clone());
    assert_eq!(returns(&s390x, Arch::S390x, 0), ENOSYS);
    assert_eq!(returns(&s390x, Arch::S390, 0), ENOSYS);
    assert_eq!(returns(&s390x, Arch::S390x, 1), EPERM);
    // ARM's private calls do not make a profile new.
    let arm = on(Arch::Aarch64, profile);
    assert_eq!(returns(&arm, Arch::Arm, 438), ENOSYS);
    assert_eq!(returns(&arm, Arch::Arm, 0xf_0005), names::ALLOW);
    assert_eq!(returns(&arm, Arch::Arm, 0xf_0004), EPERM);
}

#[test]
fn architectures_that_are_not_listed_are_killed() {
    let program = on(Arch::X86_64, json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert_eq!(returns(&program, Arch::X86_64, 0), names::ALLOW);
    assert_eq!(returns(&program, Arch::X86, 0), names::KILL_THREAD);
    assert_eq!(returns(&program, Arch::X32, 1 << 30), names::KILL_THREAD);
    assert_eq!(returns(&program, Arch::X86_64, u32::MAX), names::ALLOW);
}

#[test]
fn architectures_of_other_kernels_add_nothing() {
    let with =
        |archs: &[&str]| on(Arch::X86_64, json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": archs}));
    assert_eq!(
        with(&["SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X", "SCMP_ARCH_PPC64LE"]).filter,
        with(&["SCMP_ARCH_X86_64"]).filter
    );
}

#[test]
fn sockets_are_filtered_through_socketcall_too() {
    let program = on(
        Arch::X86_64,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 40}]},
            {"names": ["send", "semop"], "action": "SCMP_ACT_TRAP"}]}),
    );
    assert_eq!(with_args(&program, Arch::X86_64, 41, &[40]), EPERM);
    assert_eq!(with_args(&program, Arch::X86_64, 41, &[2]), names::ALLOW);
    assert_eq!(with_args(&program, Arch::X86, 359, &[40]), EPERM);
    assert_eq!(with_args(&program, Arch::X86, 102, &[1]), EPERM);
    assert_eq!(with_args(&program, Arch::X86, 102, &[9]), names::TRAP);
    assert_eq!(with_args(&program, Arch::X86, 102, &[2]), names::ALLOW);
    assert_eq!(with_args(&program, Arch::X86, 117, &[1]), names::TRAP);
}

#[test]
fn two_comparisons_of_one_argument_are_alternatives() {
    let arg = |index, value| json!({"index": index, "op": "SCMP_CMP_EQ", "value": value});
    let program = |args: Value| {
        on(
            Arch::X86_64,
            json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args}]}),
        )
    };
    let either = program(json!([arg(0, 3), arg(1, 5), arg(1, 6)]));
    for (args, result) in
        [([3, 0], names::ALLOW), ([0, 5], names::ALLOW), ([0, 6], names::ALLOW), ([0, 7], EPERM)]
    {
        assert_eq!(with_args(&either, Arch::X86_64, 16, &args), result, "{args:?}");
    }
    let both = program(json!([arg(1, 5), arg(0, 3)]));
    for (args, result) in [([3, 5], names::ALLOW), ([3, 6], EPERM), ([0, 5], EPERM)] {
        assert_eq!(with_args(&both, Arch::X86_64, 16, &args), result, "{args:?}");
    }
}

#[test]
fn far_targets_are_reached() {
    let rules: Vec<Value> = (0..400)
        .map(|i| {
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": i % 7 + 10,
            "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 2 * i}]})
        })
        .collect();
    let program = on(Arch::X86_64, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
    for i in 0..400 {
        let (even, odd) = ([0, 2 * i], [0, 2 * i + 1]);
        assert_eq!(with_args(&program, Arch::X86_64, 16, &even), names::ERRNO | (i as u32 % 7 + 10));
        assert_eq!(with_args(&program, Arch::X86_64, 16, &odd), names::ALLOW);
    }
    assert_eq!(returns(&program, Arch::X86_64, 15), names::ALLOW);
}

#[test]
fn a_profile_that_is_too_large_is_a_violation() {
    let rules: Vec<Value> = (0..2000)
        .map(|i| {
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": i}]})
        })
        .collect();
    let text = violations(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
    assert_eq!(text.len(), 1);
    assert!(text[0].contains("instructions, the kernel allows 4096"), "{text:?}");
}

#[test]
fn every_violation_is_told_at_once() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_VAX"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_NOW"],
        "listenerMetadata": "x",
        "syscalls": [
            {"names": [], "action": "SCMP_ACT_ERRNO"},
            {"names": ["read", ""], "action": "SCMP_ACT_DENY"},
            {"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1},
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536},
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [
                {"index": 6, "op": "SCMP_CMP_EQ"}, {"index": 0, "op": "=="}, {"index": 1}]},
        ],
    });
    let expected = [
        "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW returns no error number",
        "linux.seccomp.architectures[1]: unknown architecture \"SCMP_ARCH_VAX\"",
        "linux.seccomp.syscalls[0].names: must have at least one entry",
        "linux.seccomp.syscalls[1].action: unknown action \"SCMP_ACT_DENY\"",
        "linux.seccomp.syscalls[1].names[1]: is empty",
        "linux.seccomp.syscalls[2].errnoRet: SCMP_ACT_KILL returns no error number",
        "linux.seccomp.syscalls[3].errnoRet: 65536 does not fit into 16 bits",
        "linux.seccomp.syscalls[4].args[0].index: 6 is out of range: a system call has 6 arguments, the first is 0",
        "linux.seccomp.syscalls[4].args[1].op: unknown operator \"==\"",
        "linux.seccomp.syscalls[4].args[2].op: is required",
        "linux.seccomp.flags[1]: unknown flag \"SECCOMP_FILTER_FLAG_NOW\"",
        "linux.seccomp.listenerMetadata: must not be set without listenerPath",
    ];
    assert_eq!(violations(profile), expected);
    assert_eq!(
        violations(json!({"syscalls": [allow(&["read"])]})),
        ["linux.seccomp.defaultAction: is required"]
    );
}

#[test]
fn an_unknown_architecture_lists_the_known_ones() {
    let profile = parse(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"]}));
    let hint = compile(&profile, &SeccompFacts::default()).unwrap_err()[0].hint.clone().unwrap();
    assert!(Arch::ALL.iter().all(|a| hint.contains(a.name())), "{hint}");
}

#[test]
fn rules_that_contradict_each_other_are_a_violation() {
    let rule = |action| {
        json!({"names": ["ioctl"], "action": action,
        "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 1}]})
    };
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        rule("SCMP_ACT_ERRNO"), rule("SCMP_ACT_ERRNO"), rule("SCMP_ACT_TRAP")]});
    assert_eq!(
        violations(profile),
        ["linux.seccomp.syscalls[2]: has the conditions of linux.seccomp.syscalls[0] and another action"]
    );
}

#[test]
fn the_error_number_is_eperm_unless_given() {
    let profile = |default: Value, rule: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_TRACE",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO"}]});
        profile["defaultErrnoRet"] = default;
        profile["syscalls"][0]["errnoRet"] = rule;
        on(Arch::X86_64, profile)
    };
    let program = profile(Value::Null, Value::Null);
    assert_eq!(returns(&program, Arch::X86_64, 0), EPERM);
    assert_eq!(returns(&program, Arch::X86_64, 1), names::TRACE | 1);
    let program = profile(json!(7), json!(0));
    assert_eq!(returns(&program, Arch::X86_64, 0), names::ERRNO);
    assert_eq!(returns(&program, Arch::X86_64, 1), names::TRACE | 7);
}

#[test]
fn the_first_rule_without_conditions_decides() {
    let program = on(
        Arch::X86_64,
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_TRAP",
                "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 0}]},
            allow(&["read"]),
            {"names": ["read"], "action": "SCMP_ACT_LOG"}]}),
    );
    assert_eq!(returns(&program, Arch::X86_64, 0), names::ALLOW);
}

#[test]
fn unknown_names_are_skipped_with_one_warning() {
    let program = on(
        Arch::X86_64,
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allow(&["read", "frobnicate", "unread"])]}),
    );
    assert_eq!(
        program.warnings,
        ["linux.seccomp.syscalls: unknown system calls are skipped: frobnicate, unread"]
    );
    assert_eq!(returns(&program, Arch::X86_64, 0), names::ALLOW);
}

#[test]
fn flags_are_passed_on() {
    let flags = |list: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        profile["flags"] = list;
        on(Arch::X86_64, profile).flags
    };
    assert_eq!(flags(Value::Null), names::FLAG_SPEC_ALLOW);
    assert_eq!(flags(json!([])), 0);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC"])), 0);
    let both = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    assert_eq!(flags(both.clone()), names::FLAG_LOG | names::FLAG_SPEC_ALLOW);

    let old = SeccompFacts { arch: Arch::X86_64, flags: names::FLAG_TSYNC | names::FLAG_LOG };
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": both});
    assert_eq!(
        violations_with(profile, old),
        ["linux.seccomp.flags[1]: the kernel does not support SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    );
    let profile = parse(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert_eq!(compile(&profile, &old).unwrap().unwrap().flags, 0);
}

#[test]
fn a_rule_that_notifies_has_a_listener() {
    let profile = |path: &str| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "m",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]})
    };
    let program = on(Arch::X86_64, profile("/run/agent"));
    assert_eq!(returns(&program, Arch::X86_64, 83), names::NOTIFY);
    assert!(program.notify);
    assert_eq!(program.flags, names::FLAG_NEW_LISTENER | names::FLAG_WAIT_KILLABLE_RECV);
    let listener = program.listener.unwrap();
    assert_eq!((listener.path.as_str(), listener.metadata.as_str()), ("/run/agent", "m"));

    assert_eq!(
        violations(profile("")),
        [
            "linux.seccomp.listenerMetadata: must not be set without listenerPath",
            "linux.seccomp.listenerPath: is required by SCMP_ACT_NOTIFY",
        ]
    );
    let old = SeccompFacts { arch: Arch::X86_64, flags: names::FLAG_WAIT_KILLABLE_RECV };
    assert_eq!(
        violations_with(profile("/run/agent"), old),
        ["linux.seccomp.syscalls: the kernel does not support SCMP_ACT_NOTIFY"]
    );
}

#[test]
fn a_listener_is_ignored_where_nothing_notifies() {
    let program = on(
        Arch::X86_64,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
    );
    assert!(!program.notify && program.listener.is_none() && program.flags == 0);
    assert_eq!(program.warnings.len(), 1);
}

#[test]
fn what_the_runtime_needs_itself_cannot_notify() {
    let profile = json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/agent",
        "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}]});
    assert_eq!(
        violations(profile),
        [
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default action",
            "linux.seccomp.syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ]
    );
}

/// System calls that an engine's default profile leaves out for a container without capabilities.
const PRIVILEGED: &str = "
    acct add_key bpf chroot clock_adjtime64 clock_settime clock_settime64 clone clone3 create_module
    delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick get_kernel_syms
    get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
    kexec_file_load kexec_load keyctl lookup_dcookie mbind mount mount_setattr move_mount move_pages
    nfsservctl open_by_handle_at open_tree perf_event_open personality pivot_root process_vm_readv
    process_vm_writev ptrace query_module quotactl quotactl_fd reboot request_key set_mempolicy
    setdomainname sethostname setns settimeofday socket stime swapoff swapon syslog umount umount2
    unshare uselib userfaultfd ustat vhangup vm86 vm86old
";

/// A profile of the size and shape of an engine's default one.
fn like_an_engines() -> Seccomp {
    let allowed = table::TABLE
        .iter()
        .map(|(name, _)| *name)
        .filter(|n| !PRIVILEGED.split_whitespace().any(|p| p == *n));
    // libseccomp 2.5.4 ends with Linux 5.17.
    let allowed: Vec<&str> = allowed.filter(|n| ScmpSyscall::from_name(n).is_ok()).collect();
    let when = |name: &str, op: &str, value: u64| {
        json!({"names": [name], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "op": op, "value": value, "valueTwo": 0}]})
    };
    let mut syscalls = vec![
        json!({"names": allowed, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}),
        when("clone", "SCMP_CMP_MASKED_EQ", 0x7e02_0000),
        when("socket", "SCMP_CMP_LT", 38),
        when("socket", "SCMP_CMP_EQ", 39),
        when("socket", "SCMP_CMP_GT", 40),
    ];
    syscalls.extend([0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff].map(|v| when("personality", "SCMP_CMP_EQ", v)));
    parse(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls}))
}

#[test]
fn an_engines_profile_agrees_and_is_small() {
    let archs = [Arch::X86_64, Arch::X86, Arch::X32];
    let mut profile = like_an_engines();
    let theirs = oracle::libseccomp(&profile, &archs).unwrap();
    profile.architectures = archs.map(|a| a.name().to_owned()).to_vec();
    let facts = SeccompFacts { arch: Arch::X86_64, ..SeccompFacts::default() };
    let ours = compile(&profile, &facts).unwrap().unwrap().filter;
    sim::verify(&ours);
    assert!(ours.len() < 350 && ours.len() * 3 < theirs.len(), "{} of {}", ours.len(), theirs.len());
    let (mut our_steps, mut their_steps) = (0, 0);
    for (arch, base) in [(Arch::X86_64, 0), (Arch::X86, 0), (Arch::X32, 1 << 30)] {
        // 450 is the newest system call that libseccomp 2.5.4 knows.
        for nr in (base..base + 451).chain(base + 512..base + 548) {
            for arg in [0, 1, 8, 37, 38, 39, 40, 41, 0x2_0008, 0x1000_0000, 0xffff_ffff, 1 << 32, u64::MAX] {
                let data = Data { nr, arch: arch.token(), args: [arg; 6] };
                if arch != Arch::X32 && nr > 450 {
                    continue;
                }
                let (ours, theirs) = (sim::run(&ours, &data, false), sim::run(&theirs, &data, false));
                assert_eq!(ours.0, theirs.0, "{data:x?}");
                our_steps += ours.1;
                their_steps += theirs.1;
            }
        }
    }
    // The ways through a tree over ranges are shorter than those through libseccomp's tree over numbers.
    assert!(our_steps * 5 < their_steps * 4, "{our_steps} of {their_steps} steps");
}
