//! One more process in a container that exists: `exec`.

use super::compile::Plan;
use super::facts::HostFacts;
use super::namespaces::Namespaces;
use super::op::{IsolateOp, Op, Point, RootOp};
use super::seccomp;
use super::step::Steps;
use super::tables::namespaces::NamespaceKind;
use super::text::absolute;
use super::text::cstring;
use super::{Violation, cgroup::CgroupPlan, cpu_list, hooks, process, validate};
use crate::config::spec::{Process, Spec};
use std::path::Path;

/// A process to add to a container.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub id: &'a str,
    pub bundle: &'a Path,
    /// The container's configuration.
    pub spec: &'a Spec,
    pub process: &'a Process,
    /// The container's first process, as orun's pid namespace counts.
    pub init: i32,
    /// The container is in another user namespace than orun: entering one's own is an error (setns(2)).
    pub other_user: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    pub extra_env: &'a [String],
    /// orun moves the process into the cgroup, instead of the process itself.
    pub moved: bool,
}

/// Compiles the steps of the process. The processes of the container see it only when it holds nothing of the host any
/// more, and no capability that they lack as far as that is possible: its pid namespace comes last (CVE-2016-9962).
///
/// # Errors
/// Every rule that the process breaks.
pub fn compile(input: Input, facts: &HostFacts) -> Result<Plan, Vec<Violation>> {
    let (spec, p) = (input.spec, input.process);
    let (mut violations, mut warnings) = validate::validate_process(p, facts, validate::ProcessUse::Exec);
    let filter = match spec.linux.seccomp.as_ref().map(|s| seccomp::compile(s, &facts.seccomp)) {
        Some(Ok(f)) => f,
        Some(Err(mut v)) => {
            violations.append(&mut v);
            None
        }
        None => None,
    };
    if !violations.is_empty() {
        return Err(violations);
    }
    let listener = filter.as_ref().and_then(|f| f.listener.clone());
    let mut steps = Steps::with_room();
    isolate(input, &mut steps);
    process::ProcessContext {
        process: p,
        facts,
        other_user: input.other_user,
        no_setgroups: facts.euid != 0,
        keep_groups: process::keeps_groups(&spec.annotations),
        filter,
        personality: spec.linux.personality.as_ref(),
        memory_policy: spec.linux.memory_policy.as_ref(),
        keep: input.preserve_fds,
        wait_for_start: false,
        start_hooks: Vec::new(),
        enter: enter_steps(input),
        inside: inside(input),
    }
    .compile(&mut steps, &mut warnings);
    let (argv, env) = process::strings(p, input.extra_env);
    let root_path = spec.root.as_ref().map_or("", |r| r.path.as_str());
    Ok(Plan {
        id: input.id.to_owned(),
        bundle: input.bundle.to_owned(),
        rootfs: absolute(input.bundle, root_path),
        namespaces: Namespaces::default(),
        id_maps: None,
        joined_maps: None,
        net_devices: Vec::new(),
        cgroup: CgroupPlan::default(),
        rdt: None,
        prepared: Vec::new(),
        late: Vec::new(),
        steps,
        runtime_hooks: Vec::new(),
        hook_state: hooks::state_document(&spec.annotations, input.id, input.bundle, "running"),
        limits: if input.other_user { process::limits(p) } else { Vec::new() },
        time_offsets: None,
        oom_score_adj: p.oom_score_adj,
        argv,
        env,
        terminal: p.terminal,
        listener,
        warnings,
        exec: true,
    })
}

/// Steps before the process enters the container: no file of the host may be open when it does.
fn isolate(input: Input, steps: &mut Steps) {
    let p = input.process;
    let affinity = p.exec_cpu_affinity.as_ref();
    let initial = affinity.and_then(|a| mask(&a.initial));
    if let Some(mask) = initial {
        steps.push(Op::Isolate(IsolateOp::Affinity { mask }), "process.execCPUAffinity.initial");
    }
    steps.push(if input.moved { Op::Sync(Point::Cgroup) } else { Op::Isolate(IsolateOp::JoinCgroups) }, "");
    match affinity.and_then(|a| mask(&a.r#final)) {
        Some(mask) => steps.push(Op::Isolate(IsolateOp::Affinity { mask }), "process.execCPUAffinity.final"),
        None if affinity.is_none() => {
            steps.push(Op::Isolate(IsolateOp::ResetAffinity { mask: vec![u64::MAX; 128] }), "")
        }
        None => {}
    }
    if !input.no_new_keyring {
        let name = cstring(format!("_ses.{}", input.id));
        let label = p.selinux_label.clone().into_bytes();
        steps.push(Op::Isolate(IsolateOp::SessionKeyring { name, label }), "");
    }
}

fn mask(list: &str) -> Option<Vec<u64>> {
    cpu_list::parse(list).ok().map(|m| m.words().to_vec()).filter(|m| !m.is_empty())
}

/// Into the container.
fn enter_steps(input: Input) -> Steps {
    let mut steps = Steps::default();
    let kinds = entered(input.spec, input.other_user);
    if kinds != 0 {
        steps.push(Op::Isolate(IsolateOp::EnterContainer { kinds: kinds as i32 }), "linux.namespaces");
    }
    if input.other_user {
        steps.push(Op::Isolate(IsolateOp::BecomeRoot), "");
        steps.push(Op::Isolate(IsolateOp::NotDumpable), "");
    }
    if kinds & libc::CLONE_NEWNS as u64 == 0 {
        let path = cstring(format!("/proc/{}/root", input.init));
        steps.push(Op::Root(RootOp::Chroot { path }), "root.path");
    }
    let p = input.process;
    if p.terminal {
        let size = p.console_size.map(|s| (s.height, s.width));
        steps.push(Op::Terminal { uid: p.user.uid, size }, "process.terminal");
    }
    steps
}

/// From where the processes of the container see it.
fn inside(input: Input) -> Steps {
    let mut steps = Steps::default();
    if entered(input.spec, input.other_user) & libc::CLONE_NEWPID as u64 != 0 {
        steps.push(Op::ContinueInside, "linux.namespaces");
    }
    steps.push(Op::Isolate(IsolateOp::NewSession), "");
    if input.process.terminal {
        steps.push(Op::ControllingTerminal, "process.terminal");
    }
    steps
}

/// The namespaces (`CLONE_NEW*`) that the container does not share with orun.
pub fn entered(spec: &Spec, other_user: bool) -> u64 {
    let listed = spec.linux.namespaces.iter().filter_map(|n| NamespaceKind::from_name(&n.kind));
    listed.filter(|k| *k != NamespaceKind::User || other_user).fold(0, |all, k| all | k.clone_flag())
}
