//! A profile of the configuration, checked and in the kernel's terms.

use super::arch::Arch;
use super::names::{self, Op};
use crate::config::seccomp::{Arg, Rule, Seccomp};
use crate::plan::Violation;
use crate::plan::facts::SeccompFacts;

/// seccomp(2): a system call has six arguments.
const ARGUMENTS: u32 = 6;
/// The default of `errnoRet`, `EPERM` on every architecture.
const EPERM: u32 = 1;

/// A comparison of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub index: u32,
    pub op: Op,
    /// The bits of the argument that are compared.
    pub mask: u64,
    pub value: u64,
}

/// An entry of `syscalls`.
pub(super) struct CheckedRule<'a> {
    /// Position of the entry.
    pub entry: usize,
    pub names: &'a [String],
    /// The filter's return value.
    pub action: u32,
    /// The entry applies when all conditions of one of these hold. Conditions are in the order of their
    /// arguments.
    pub alternatives: Vec<Vec<Condition>>,
}

/// A profile without violations.
pub(super) struct Profile<'a> {
    /// The filter's return value where no rule applies.
    pub default: u32,
    pub rules: Vec<CheckedRule<'a>>,
    /// The architectures to cover, the native one first.
    pub archs: Vec<Arch>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Some rule notifies.
    pub notify: bool,
    pub warnings: Vec<String>,
}

/// Checks every property.
pub(super) fn check<'a>(profile: &'a Seccomp, facts: &SeccompFacts) -> Result<Profile<'a>, Vec<Violation>> {
    let mut v = Vec::new();
    let mut warnings = Vec::new();
    let default = default_action(profile, &mut v);
    let archs = architectures(profile, facts, &mut v);
    let rules: Vec<CheckedRule> =
        profile.syscalls.iter().enumerate().filter_map(|(i, r)| rule(i, r, &mut v)).collect();
    let notify = rules.iter().any(|r| r.action == names::NOTIFY);
    let flags = flags(profile, facts, notify, &mut v, &mut warnings);
    listener(profile, notify, &mut v);
    match default {
        Some(default) if v.is_empty() => Ok(Profile { default, rules, archs, flags, notify, warnings }),
        _ => Err(v),
    }
}

fn default_action(profile: &Seccomp, v: &mut Vec<Violation>) -> Option<u32> {
    let property = "linux.seccomp.defaultAction";
    let errno = "linux.seccomp.defaultErrnoRet";
    let action = action(property, &profile.default_action, errno, profile.default_errno_ret, v)?;
    if action == names::NOTIFY {
        v.push(
            Violation::new(property, "SCMP_ACT_NOTIFY cannot be the default action")
                .hint("the runtime makes system calls under the filter before an agent can answer"),
        );
    }
    Some(action)
}

/// The return value of an action with its `errnoRet`.
fn action(
    property: &str,
    name: &str,
    errno_property: &str,
    errno_ret: Option<u32>,
    v: &mut Vec<Violation>,
) -> Option<u32> {
    let Some(action) = names::value_of(&names::ACTIONS, name) else {
        let message = match name {
            "" => "is required".to_owned(),
            _ => format!("unknown action \"{name}\""),
        };
        v.push(Violation::new(property, message).hint(names::one_of(names::ACTIONS.map(|(n, _)| n))));
        return None;
    };
    let takes_errno = matches!(action, names::ERRNO | names::TRACE);
    match errno_ret {
        None if takes_errno => Some(action | EPERM),
        None => Some(action),
        Some(_) if !takes_errno => {
            v.push(
                Violation::new(errno_property, format!("{name} returns no error number"))
                    .hint("only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do"),
            );
            None
        }
        Some(errno) if errno > 0xffff => {
            v.push(Violation::new(errno_property, format!("{errno} does not fit into 16 bits")));
            None
        }
        Some(errno) => Some(action | errno),
    }
}

fn architectures(profile: &Seccomp, facts: &SeccompFacts, v: &mut Vec<Violation>) -> Vec<Arch> {
    let mut archs = vec![facts.arch];
    for (i, name) in profile.architectures.iter().enumerate() {
        match Arch::from_name(name) {
            // The kernel never reports an architecture whose programs it cannot run.
            Some(arch) if archs.contains(&arch) || !arch.same_kernel(facts.arch) => {}
            Some(arch) => archs.push(arch),
            None => v.push(
                Violation::new(
                    format!("linux.seccomp.architectures[{i}]"),
                    format!("unknown architecture \"{name}\""),
                )
                .hint(names::one_of(Arch::ALL.map(Arch::name))),
            ),
        }
    }
    archs
}

fn flags(
    profile: &Seccomp,
    facts: &SeccompFacts,
    notify: bool,
    v: &mut Vec<Violation>,
    warnings: &mut Vec<String>,
) -> u32 {
    let mut flags = if notify { names::FLAG_NEW_LISTENER } else { 0 };
    let Some(wanted) = &profile.flags else {
        return flags | (names::FLAG_SPEC_ALLOW & facts.flags);
    };
    for (i, name) in wanted.iter().enumerate() {
        let property = || format!("linux.seccomp.flags[{i}]");
        match names::value_of(&names::FLAGS, name) {
            None => v.push(
                Violation::new(property(), format!("unknown flag \"{name}\""))
                    .hint(names::one_of(names::FLAGS.map(|(n, _)| n))),
            ),
            Some(flag) if facts.flags & flag == 0 => {
                v.push(Violation::new(property(), format!("the kernel does not support {name}")));
            }
            // The process that loads the filter has one thread, and the kernel refuses this flag together
            // with a listener.
            Some(names::FLAG_TSYNC) => {}
            Some(names::FLAG_WAIT_KILLABLE_RECV) if !notify => warnings.push(format!(
                "{}: {name} has no effect without a rule whose action is SCMP_ACT_NOTIFY",
                property()
            )),
            Some(flag) => flags |= flag,
        }
    }
    if notify && facts.flags & names::FLAG_NEW_LISTENER == 0 {
        v.push(Violation::new("linux.seccomp.syscalls", "the kernel does not support SCMP_ACT_NOTIFY"));
    }
    flags
}

fn listener(profile: &Seccomp, notify: bool, v: &mut Vec<Violation>) {
    if profile.listener_path.is_empty() {
        if !profile.listener_metadata.is_empty() {
            v.push(Violation::new("linux.seccomp.listenerMetadata", "must not be set without listenerPath"));
        }
        if notify {
            v.push(Violation::new("linux.seccomp.listenerPath", "is required by SCMP_ACT_NOTIFY"));
        }
    }
}

fn rule<'a>(entry: usize, rule: &'a Rule, v: &mut Vec<Violation>) -> Option<CheckedRule<'a>> {
    let path = format!("linux.seccomp.syscalls[{entry}]");
    let action =
        action(&format!("{path}.action"), &rule.action, &format!("{path}.errnoRet"), rule.errno_ret, v);
    if rule.names.is_empty() {
        v.push(Violation::new(format!("{path}.names"), "must have at least one entry"));
    }
    for (i, name) in rule.names.iter().enumerate() {
        if name.is_empty() {
            v.push(Violation::new(format!("{path}.names[{i}]"), "is empty"));
        }
        if name == "write" && action == Some(names::NOTIFY) {
            v.push(
                Violation::new(
                    format!("{path}.names[{i}]"),
                    "SCMP_ACT_NOTIFY cannot be used for the write syscall",
                )
                .hint("the runtime writes under the filter before an agent can answer"),
            );
        }
    }
    let conditions: Vec<Option<Condition>> = rule
        .args
        .iter()
        .enumerate()
        .map(|(i, arg)| condition(&format!("{path}.args[{i}]"), arg, v))
        .collect();
    let mut conditions: Vec<Condition> = conditions.into_iter().collect::<Option<_>>()?;
    conditions.sort_by_key(|c| c.index);
    // Engines have long written "argument 0 is A or B" as two comparisons of one argument in one entry.
    let alternatives = match conditions.windows(2).any(|w| w[0].index == w[1].index) {
        true => conditions.into_iter().map(|c| vec![c]).collect(),
        false => vec![conditions],
    };
    Some(CheckedRule { entry, names: &rule.names, action: action?, alternatives })
}

fn condition(path: &str, arg: &Arg, v: &mut Vec<Violation>) -> Option<Condition> {
    let op = names::value_of(&names::OPERATORS, &arg.op);
    if op.is_none() {
        let message = match arg.op.as_str() {
            "" => "is required".to_owned(),
            op => format!("unknown operator \"{op}\""),
        };
        v.push(
            Violation::new(format!("{path}.op"), message)
                .hint(names::one_of(names::OPERATORS.map(|(n, _)| n))),
        );
    }
    if arg.index >= ARGUMENTS {
        v.push(Violation::new(
            format!("{path}.index"),
            format!("{} is out of range: a system call has {ARGUMENTS} arguments, the first is 0", arg.index),
        ));
        return None;
    }
    Some(match op? {
        Op::MaskedEq => Condition {
            index: arg.index,
            op: Op::MaskedEq,
            mask: arg.value,
            value: arg.value_two & arg.value,
        },
        op => Condition { index: arg.index, op, mask: u64::MAX, value: arg.value },
    })
}
