//! `process`: the steps from a process of the runtime to the container's program, for create, run and exec.

use super::facts::HostFacts;
use super::op::{HookOp, Limit, Op, Point, ProgramOp};
use super::step::Steps;
use super::tables::{capabilities, mempolicy, namespaces, rlimits, sched};
use super::text::cstring;
use super::user;
use crate::config::linux::{MemoryPolicy, Personality};
use crate::config::spec::{Process, Scheduler};
use crate::plan::seccomp::{Program as Filter, names::FLAG_TSYNC};
use crate::sys::exec::StringArray;
use crate::sys::sched::SchedAttr;
use std::collections::{BTreeMap, BTreeSet};

/// Where execvp(3) searches when there is no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// CAP_SETPCAP as a bit: to take capabilities out of the bounding set.
const SETPCAP: u64 = 1 << 8;
/// CAP_SYS_ADMIN, CAP_SYS_NICE and CAP_SYS_RESOURCE as bits.
const SYS_ADMIN: u64 = 1 << 21;
const SYS_NICE: u64 = 1 << 23;
const SYS_RESOURCE: u64 = 1 << 24;
/// SCHED_FLAG_RESET_ON_FORK.
const RESET_ON_FORK: u64 = 1;

/// crun's annotation, which Podman sets for `--group-add keep-groups`: with any value but "0" setgroups(2) is not called,
/// so that a rootless container keeps the access that its user has through groups without an id in the namespace.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Whether [`KEEP_GROUPS`] is set.
pub(super) fn keeps_groups(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(KEEP_GROUPS).is_some_and(|value| value != "0")
}

/// Inputs of the program's steps besides `process`.
pub(super) struct ProcessContext<'a> {
    pub process: &'a Process,
    pub facts: &'a HostFacts,
    /// The container is in another user namespace, where orun has every capability.
    pub other_user: bool,
    /// setgroups(2) is forbidden in the user namespace.
    pub no_setgroups: bool,
    /// The caller's groups stay, whatever `process.user` says: see [`KEEP_GROUPS`].
    pub keep_groups: bool,
    pub filter: Option<Filter>,
    pub personality: Option<&'a Personality>,
    pub memory_policy: Option<&'a MemoryPolicy>,
    /// Descriptors from 3 on that the program gets.
    pub keep: u32,
    /// Variables that are added behind the configuration's.
    /// The program waits for `start`.
    pub wait_for_start: bool,
    /// How the process gets into the container, when it is not there already (exec).
    pub enter: Steps,
    /// Steps after everything of the host is closed.
    pub inside: Steps,
    pub start_hooks: Vec<HookOp>,
}

/// `process.rlimits`.
pub fn limits(p: &Process) -> Vec<Limit> {
    let one = |(i, l): (usize, &crate::config::spec::Rlimit)| {
        let property = format!("process.rlimits[{i}]");
        Some(Limit {
            name: rlimits::name(rlimits::number(&l.kind)?)?,
            resource: rlimits::number(&l.kind)?,
            soft: l.soft,
            hard: l.hard,
            property,
        })
    };
    p.rlimits.iter().enumerate().filter_map(one).collect()
}

/// argv and envp. HOME is missing from the latter when the container's passwd file has to be read.
pub fn strings(p: &Process, extra_env: &[String]) -> (StringArray, StringArray) {
    let user::Environment { vars: mut env, .. } = user::environment(&p.env);
    env.extend(extra_env.iter().cloned());
    let array = |v: Vec<String>| StringArray::new(v.into_iter().map(cstring).collect());
    // HOME comes as the last one, when the container's passwd file has been read.
    (array(p.args.clone()), array(env).with_room())
}

impl ProcessContext<'_> {
    /// Appends the steps; warnings go to `warnings`.
    pub(super) fn compile(mut self, steps: &mut Steps, warnings: &mut Vec<String>) {
        let p = self.process;
        self.labels(steps);
        steps.append(std::mem::take(&mut self.enter));
        steps.push(Op::Program(ProgramOp::CloseDescriptors { keep: self.keep }), "");
        let inside = std::mem::take(&mut self.inside);
        // The processes of the container see the successor from its first instant, and one with CAP_SYS_PTRACE may do in
        // its place what its capabilities allow: what a child inherits is done before.
        let seen = inside.ops.contains(&Op::ContinueInside);
        let (inside, before) = if seen { (inside, Steps::default()) } else { (Steps::default(), inside) };
        steps.append(before);
        if p.no_new_privileges {
            steps.push(Op::Program(ProgramOp::NoNewPrivileges), "process.noNewPrivileges");
        }
        let later = self.scheduling(seen, steps);
        if p.user.uid != 0 && !p.terminal {
            // So that the program can open /dev/stdout, which is another name for what only root might. A filter may
            // forbid the call.
            steps.push(Op::Program(ProgramOp::ChownStdio { uid: p.user.uid }), "process.user.uid");
        }
        let cwd = cstring(if p.cwd.is_empty() { "/" } else { &p.cwd });
        steps
            .push(Op::Program(ProgramOp::WorkingDirectory { path: cwd.clone(), last: false }), "process.cwd");
        // Without no_new_privs only a privileged process may load a filter. One with a listener must be reported
        // to the parent, and hooks of the container run under it; else the fewer calls come after it the better.
        let early = !p.no_new_privileges;
        let notify = self.filter.as_ref().is_some_and(|f| f.notify);
        let last = !early && !notify && self.start_hooks.is_empty();
        let mut filter = self.filter.take();
        let sets = self.capabilities(warnings);
        let needed = later_needs(&later, early && filter.is_some()) & self.grantable();
        if seen {
            self.credentials(sets.with_needed(needed), steps);
        }
        steps.append(inside);
        steps.append(later);
        if early {
            load(&mut filter, steps);
        }
        if !seen {
            self.credentials(sets, steps);
        } else if sets.with_needed(needed) != sets {
            steps.push(sets.op(0), "process.capabilities");
        }
        steps.push(Op::Program(ProgramOp::WorkingDirectory { path: cwd, last: true }), "process.cwd");
        steps.push(Op::Program(ProgramOp::Umask(p.user.umask.unwrap_or(0o022))), "process.user.umask");
        if !user::environment(&p.env).home {
            steps.push(Op::Program(ProgramOp::Home { uid: p.user.uid }), "process.env");
        }
        steps.push(find(p), "process.args");
        if !last {
            load(&mut filter, steps);
        }
        steps.push(Op::Sync(Point::Ready), "");
        if self.wait_for_start {
            steps.push(Op::WaitForStart, "");
        }
        for (i, hook) in self.start_hooks.into_iter().enumerate() {
            steps.push(Op::Hook(Box::new(hook)), format!("hooks.startContainer[{i}]"));
        }
        load(&mut filter, steps);
        steps.push(Op::Program(ProgramOp::Execute), "process.args");
    }

    fn labels(&self, steps: &mut Steps) {
        let p = self.process;
        if !p.apparmor_profile.is_empty() {
            let files = vec![c"self/attr/apparmor/exec".into(), c"self/attr/exec".into()];
            let text = format!("exec {}", p.apparmor_profile).into_bytes();
            steps.push(Op::Program(ProgramOp::Label { files, text }), "process.apparmorProfile");
        }
        if !p.selinux_label.is_empty() {
            let files = vec![c"self/attr/exec".into()];
            let text = p.selinux_label.clone().into_bytes();
            steps.push(Op::Program(ProgramOp::Label { files, text }), "process.selinuxLabel");
        }
    }

    /// Scheduling and limits. Returned is what a process cannot set for its successor, if it is to have one.
    fn scheduling(&self, successor: bool, steps: &mut Steps) -> Steps {
        let p = self.process;
        let mut later = Steps::default();
        if let Some(s) = &p.scheduler {
            let attr = sched_attr(s);
            let inherited = attr.policy != libc::SCHED_DEADLINE as u32 && attr.flags & RESET_ON_FORK == 0;
            let to = if successor && !inherited { &mut later } else { &mut *steps };
            to.push(Op::Program(ProgramOp::Scheduler(attr)), "process.scheduler");
        }
        if let Some(io) = &p.io_priority
            && let Some(value) = sched::io_priority(&io.class, io.priority)
        {
            steps.push(Op::Program(ProgramOp::IoPriority(value.into())), "process.ioPriority");
        }
        if let Some(m) = self.memory_policy
            && let Some((mode, _)) = mempolicy::mode(&m.mode)
        {
            let flags = m.flags.iter().filter_map(|f| mempolicy::flag(f)).fold(0, |a, f| a | f);
            let nodes = super::cpu_list::parse(&m.nodes).unwrap_or_default().words().to_vec();
            let op = Op::Program(ProgramOp::MemoryPolicy { mode: (mode | flags) as i32, nodes });
            steps.push(op, "linux.memoryPolicy");
        }
        if let Some(domain) = self.personality.and_then(|p| namespaces::personality(&p.domain)) {
            steps.push(Op::Program(ProgramOp::Personality(domain as u32)), "linux.personality");
        }
        if !self.other_user {
            // While still root: another user's limits are out of reach, and a filter may forbid prlimit(2).
            for limit in limits(p) {
                let property = limit.property.clone();
                // Two processes for one: the limit would stop the second.
                let to =
                    if successor && limit.resource == libc::RLIMIT_NPROC { &mut later } else { &mut *steps };
                to.push(Op::Program(ProgramOp::Limit(limit)), property);
            }
        }
        later
    }

    fn capabilities(&self, warnings: &mut Vec<String>) -> Sets {
        let p = self.process;
        let grantable = self.grantable();
        let sets = p.capabilities.clone().unwrap_or_default();
        let mut mask = |names: &[String], set: &str| {
            let asked = capabilities::mask(names);
            let granted = asked & grantable;
            if asked != granted {
                let lost: Vec<_> = (0..64)
                    .filter(|n| (asked & !granted) >> n & 1 == 1)
                    .filter_map(capabilities::name)
                    .collect();
                warnings.push(format!(
                    "process.capabilities.{set}: not granted, because orun itself or the kernel lacks them: {}",
                    lost.join(", ")
                ));
            }
            granted
        };
        let bounding = mask(&sets.bounding, "bounding");
        let permitted = mask(&sets.permitted, "permitted");
        let effective = mask(&sets.effective, "effective") & permitted;
        let inheritable = mask(&sets.inheritable, "inheritable");
        let ambient = mask(&sets.ambient, "ambient");
        // The kernel raises no other (capabilities(7)).
        let raised = ambient & permitted & inheritable;
        for name in (0..64).filter(|n| (ambient & !raised) >> n & 1 == 1).filter_map(capabilities::name) {
            let set = if capabilities::mask(&sets.permitted) & capabilities::mask(&[name.to_owned()]) == 0 {
                "permitted"
            } else {
                "inheritable"
            };
            warnings.push(format!("can't raise ambient capability {name}: it is not {set}"));
        }
        Sets { bounding, permitted, effective, inheritable, ambient: raised }
    }

    /// The capabilities that orun has, of those that the kernel has.
    fn grantable(&self) -> u64 {
        known_capabilities(self.facts) & if self.other_user { u64::MAX } else { self.facts.capabilities }
    }

    fn credentials(&self, sets: Sets, steps: &mut Steps) {
        let facts = self.facts;
        if facts.securebits != 0 && !self.other_user {
            steps.push(Op::Program(ProgramOp::DefaultSecurebits), "process.capabilities");
        }
        let mut dropped = known_capabilities(facts) & !sets.bounding;
        if !self.other_user && facts.euid == 0 && facts.capabilities & SETPCAP == 0 {
            // Nothing may be dropped, and what orun lacks is not in its bounding set either: execve(2) gave root all of
            // that.
            dropped &= facts.capabilities;
        }
        if dropped != 0 {
            steps.push(
                Op::Program(ProgramOp::DropBounding { mask: dropped }),
                "process.capabilities.bounding",
            );
        }
        let u = &self.process.user;
        let set_groups = !self.keep_groups && (!self.no_setgroups || !u.additional_gids.is_empty());
        let groups = set_groups.then(|| each_once(&u.additional_gids));
        // The change of user would clear the permitted set, out of which capset(2) also takes what is inheritable.
        let keep_capabilities = u.uid != 0 && sets.permitted | sets.inheritable != 0;
        steps.push(
            Op::Program(ProgramOp::Credentials { uid: u.uid, gid: u.gid, groups, keep_capabilities }),
            "process.user",
        );
        steps.push(sets.op(sets.ambient), "process.capabilities");
    }
}

/// The capability sets of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    bounding: u64,
    permitted: u64,
    effective: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    /// These, and for the steps that remain `needed`.
    fn with_needed(self, needed: u64) -> Sets {
        Sets { permitted: self.permitted | needed, effective: self.effective | needed, ..self }
    }

    fn op(self, ambient: u64) -> Op {
        let Sets { permitted, effective, inheritable, .. } = self;
        Op::Program(ProgramOp::Capabilities { effective, permitted, inheritable, ambient })
    }
}

/// The kernel would list a group as often as it was asked for.
fn each_once(groups: &[u32]) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    groups.iter().copied().filter(|group| seen.insert(*group)).collect()
}

/// All capabilities that the kernel has.
fn known_capabilities(facts: &HostFacts) -> u64 {
    (1u64 << (facts.cap_last + 1)) - 1
}

/// The capabilities that the steps of a successor need: a filter without no_new_privs needs CAP_SYS_ADMIN.
fn later_needs(later: &Steps, filter: bool) -> u64 {
    let has = |wanted: fn(&Op) -> bool, capability| if later.ops.iter().any(wanted) { capability } else { 0 };
    has(|op| matches!(op, Op::Program(ProgramOp::Scheduler(_))), SYS_NICE)
        | has(|op| matches!(op, Op::Program(ProgramOp::Limit(_))), SYS_RESOURCE)
        | if filter { SYS_ADMIN } else { 0 }
}

fn load(filter: &mut Option<Filter>, steps: &mut Steps) {
    if let Some(mut f) = filter.take() {
        // The process has one thread only, so that there is nothing to synchronize; and the kernel refuses the flag
        // beside a listener.
        f.flags &= !FLAG_TSYNC;
        steps.push(
            Op::Program(ProgramOp::Seccomp { filter: f.filter, flags: f.flags, notify: f.notify }),
            "linux.seccomp",
        );
    }
}

fn sched_attr(s: &Scheduler) -> SchedAttr {
    SchedAttr {
        size: 0,
        policy: sched::policy(&s.policy).unwrap_or(0),
        flags: s.flags.iter().filter_map(|f| sched::flag(f)).fold(0, |a, f| a | f),
        nice: s.nice,
        priority: s.priority as u32,
        runtime: s.runtime,
        deadline: s.deadline,
        period: s.period,
    }
}

/// The places where the program may be: itself when it has a slash, else below each directory of PATH.
pub(super) fn find(p: &Process) -> Op {
    let program = p.args.first().map_or("", String::as_str);
    if program.contains('/') {
        return Op::Program(ProgramOp::FindProgram { candidates: vec![cstring(program)], searched: false });
    }
    let path = p.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let candidates = path
        .split(':')
        .map(|dir| if dir.is_empty() { format!("./{program}") } else { format!("{dir}/{program}") })
        .map(cstring)
        .collect();
    Op::Program(ProgramOp::FindProgram { candidates, searched: true })
}
