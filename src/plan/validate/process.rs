//! `process` (config.md, "Process").

use super::{At, Findings, ProcessUse, Spec, sched};
use crate::config::spec::{Capabilities, Process, Rlimit, User};
use crate::plan::cpu_list;
use crate::plan::facts::HostFacts;
use crate::plan::tables::{capabilities, rlimits};
use crate::plan::user::MAX_ID;

/// Checks `process` of config.json: the container's init is made from it, so it is required at create.
pub fn check_init(spec: &Spec, facts: &HostFacts, f: &mut Findings) {
    let Some(p) = &spec.process else {
        f.hinted("process", "process property must not be empty", "it needs at least args and cwd");
        return;
    };
    check(p, facts, ProcessUse::Create, f);
}

/// Checks a `process` object without looking at the rest of the configuration.
pub fn check(p: &Process, facts: &HostFacts, context: ProcessUse, f: &mut Findings) {
    let at = At(if context == ProcessUse::Create { "process." } else { "" });
    args(p, at, f);
    cwd(p, at, context, f);
    env(&p.env, || at.path_of("env"), f);
    if let Some(c) = &p.capabilities {
        unknown_capabilities(c, at, f);
    }
    rlimit_list(&p.rlimits, at, f);
    user(&p.user, at, f);
    oom_score_adj(p, at, f);
    labels(p, at, facts, f);
    if let Some(s) = &p.scheduler {
        sched::scheduler(s, at, f);
    }
    if let Some(io) = &p.io_priority {
        sched::io_priority(io, at, f);
    }
    cpu_affinity(p, at, f);
}

/// At least one argument, which names a program.
fn args(p: &Process, at: At, f: &mut Findings) {
    match p.args.first() {
        None => f.hinted(at.path_of("args"), "args must not be empty", "the program and its arguments"),
        Some(program) if program.is_empty() => {
            f.violation(at.path_of("args[0]"), "exec: \"\": executable file not found in $PATH")
        }
        Some(_) => {}
    }
    for (i, arg) in p.args.iter().enumerate() {
        f.no_nul(|| at.path_of(&format!("args[{i}]")), arg);
    }
}

/// The working directory is absolute.
fn cwd(p: &Process, at: At, context: ProcessUse, f: &mut Findings) {
    if p.cwd.is_empty() {
        if context == ProcessUse::Create {
            f.violation(at.path_of("cwd"), "Cwd property must not be empty");
        }
    } else if !p.cwd.starts_with('/') {
        f.violation(at.path_of("cwd"), format!("Cwd must be an absolute path, not {:?}", p.cwd));
    }
    f.no_nul(|| at.path_of("cwd"), &p.cwd);
}

/// Entries of an environment have the form of `environ`: a name, `=`, a value.
pub fn env(env: &[String], at: impl Fn() -> String, f: &mut Findings) {
    for (i, var) in env.iter().enumerate() {
        let why = match var.find('=') {
            _ if var.contains('\0') => "contains nul byte (\\x00)",
            None => "missing '='",
            Some(0) => "name cannot be empty",
            Some(_) => continue,
        };
        f.violation(format!("{}[{i}]", at()), format!("invalid environment variable {var:?}: {why}"));
    }
}

/// Capabilities that do not exist are a warning (config.md, "Linux Process"). What of the others cannot be granted
/// is found where the sets are compiled.
fn unknown_capabilities(c: &Capabilities, at: At, f: &mut Findings) {
    let sets = [&c.bounding, &c.effective, &c.inheritable, &c.permitted, &c.ambient];
    let mut unknown: Vec<&str> = sets
        .into_iter()
        .flatten()
        .map(String::as_str)
        .filter(|name| capabilities::number(name).is_none())
        .collect();
    if !unknown.is_empty() {
        unknown.sort_unstable();
        unknown.dedup();
        f.warning(format!(
            "ignoring unknown or unavailable capabilities: [{}] ({})",
            unknown.join(" ").escape_debug(),
            at.path_of("capabilities")
        ));
    }
    // capset(2) takes no effective set that is not part of the permitted one.
    let effective = capabilities::mask(&c.effective) & !capabilities::mask(&c.permitted);
    if effective != 0 {
        let names: Vec<_> =
            (0..64).filter(|n| effective >> n & 1 == 1).filter_map(capabilities::name).collect();
        f.warning(format!(
            "{}: ignoring {}, not among the permitted ones",
            at.path_of("capabilities.effective"),
            names.join(", ")
        ));
    }
}

/// config.md, "POSIX process": types are known and given once; setrlimit(2): soft is at most hard.
fn rlimit_list(limits: &[Rlimit], at: At, f: &mut Findings) {
    for (i, l) in limits.iter().enumerate() {
        if rlimits::number(&l.kind).is_none() {
            f.hinted(
                at.path_of(&format!("rlimits[{i}].type")),
                format!("invalid rlimit type {:?}", l.kind),
                format!("one of {}", rlimits::names().collect::<Vec<_>>().join(", ")),
            );
        } else if limits[..i].iter().any(|m| m.kind == l.kind) {
            f.violation(
                at.path_of(&format!("rlimits[{i}].type")),
                format!("duplicate rlimit type {:?}", l.kind),
            );
        }
        if l.soft > l.hard {
            f.violation(
                at.path_of(&format!("rlimits[{i}].soft")),
                format!("the soft limit {} of {:?} is over the hard limit {}", l.soft, l.kind, l.hard),
            );
        }
    }
}

/// config.md, "POSIX-platform User". -1 is not a valid ID: setresuid(2) and its kin take it as "leave unchanged".
fn user(u: &User, at: At, f: &mut Findings) {
    let mut id = |property: &dyn Fn() -> String, id: u32| {
        if id > MAX_ID {
            f.violation(at.path_of(&property()), format!("{id} is not a valid ID, the highest is {MAX_ID}"));
        }
    };
    id(&|| "user.uid".into(), u.uid);
    id(&|| "user.gid".into(), u.gid);
    for (i, gid) in u.additional_gids.iter().enumerate() {
        id(&|| format!("user.additionalGids[{i}]"), *gid);
    }
    if let Some(umask) = u.umask.filter(|m| *m > 0o777) {
        f.hinted(
            at.path_of("user.umask"),
            format!("{umask} (octal {umask:o}) is over 511 (octal 777)"),
            "JSON numbers are decimal: octal 022 is 18",
        );
    }
}

/// proc_pid_oom_score_adj(5): -1000 to 1000.
fn oom_score_adj(p: &Process, at: At, f: &mut Findings) {
    if let Some(n) = p.oom_score_adj.filter(|n| !(-1000..=1000).contains(n)) {
        f.violation(at.path_of("oomScoreAdj"), format!("{n} is not in the range -1000 to 1000"));
    }
}

/// A label that the kernel cannot apply is an error.
fn labels(p: &Process, at: At, facts: &HostFacts, f: &mut Findings) {
    if !p.apparmor_profile.is_empty() && !facts.apparmor {
        f.hinted(
            at.path_of("apparmorProfile"),
            format!("apparmor: config provided but apparmor not supported, profile {:?}", p.apparmor_profile),
            "remove it, or enable AppArmor on the host",
        );
    }
    if !p.selinux_label.is_empty() && !facts.selinux {
        f.hinted(
            at.path_of("selinuxLabel"),
            "selinux label is specified in config, but selinux is disabled or not supported",
            "remove it, or enable SELinux on the host",
        );
    }
    f.no_nul(|| at.path_of("apparmorProfile"), &p.apparmor_profile);
    f.no_nul(|| at.path_of("selinuxLabel"), &p.selinux_label);
}

/// config.md, "Linux Process", `execCPUAffinity`: lists of CPUs.
fn cpu_affinity(p: &Process, at: At, f: &mut Findings) {
    let Some(a) = &p.exec_cpu_affinity else { return };
    for (name, phrase, list) in [("initial", "Initial", &a.initial), ("final", "Final", &a.r#final)] {
        if let Err(why) = cpu_list::parse(list) {
            f.hinted(
                at.path_of(&format!("execCPUAffinity.{name}")),
                format!("bad CPUAffinity.{phrase}: {why}"),
                "a list like 0-3,7",
            );
        }
    }
}

#[cfg(test)]
mod tests;
