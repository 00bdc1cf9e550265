//! The one place that orders: a valid configuration becomes the list of operations.

use super::cgroup::{self, CgroupPlan};
use super::facts::HostFacts;
use super::hooks::Moment;
use super::mounts::{self, Prepared};
use super::namespaces::{IdMaps, IntoCgroup, Namespaces};
use super::netdev::NetDevice;
use super::op::{IsolateOp, Limit, MountSource, Op, Point, RootOp};
pub use super::options::Options;
use super::process;
use super::rdt::RdtPlan;
use super::seccomp::{self, Listener};
use super::step::Steps;
use super::tables::namespaces::NamespaceKind;
use super::tables::sysctl;
use super::text::{cstring, in_root};
use super::{Violation, hooks, rootfs, text, validate};
use crate::config::spec::{Hook, Process, Spec};
use crate::sys::exec::StringArray;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A bundle, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The ID of the container.
    pub id: String,
    /// The directory of the bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system on the host, absolute.
    pub rootfs: PathBuf,
    /// Those that are made and those that are entered.
    pub namespaces: Namespaces,
    /// Content for uid_map and gid_map, which the parent writes.
    pub id_maps: Option<IdMaps>,
    /// Network devices that the parent moves.
    pub net_devices: Vec<NetDevice>,
    /// Mappings that the joined user namespace must have, if the configuration lists them.
    pub joined_maps: Option<IdMaps>,
    /// The cgroups and the values for their files.
    pub cgroup: CgroupPlan,
    /// Operations below resctrl.
    pub rdt: Option<RdtPlan>,
    /// Mounts that the parent opens before the clone.
    pub prepared: Vec<Prepared>,
    /// Mounts that it opens when the child asks for them: they may lie on mounts of the child's.
    pub late: Vec<Prepared>,
    /// Operations of the child, in order.
    pub steps: Steps,
    /// `prestart` and `createRuntime` hooks, with their names.
    pub runtime_hooks: Vec<(&'static str, usize, Hook)>,
    /// The state document for them, around the pid.
    pub hook_state: (Vec<u8>, Vec<u8>),
    /// Content for /proc/PID/timens_offsets, which the parent writes.
    pub time_offsets: Option<String>,
    /// Limits that the parent sets: in a user namespace the child may not.
    pub limits: Vec<Limit>,
    /// Content for /proc/PID/oom_score_adj, which the parent writes.
    pub oom_score_adj: Option<i32>,
    /// The program and its arguments, for execve(2).
    pub argv: StringArray,
    /// Its variables, for execve(2).
    pub env: StringArray,
    /// It has a terminal.
    pub terminal: bool,
    /// The seccomp agent that gets the listener.
    pub listener: Option<Listener>,
    /// Settings without effect, or with an unexpected one.
    pub warnings: Vec<String>,
    /// It is for a further process of a container.
    pub exec: bool,
}

impl Plan {
    /// In the hierarchies whose directory for the container is one of `dirs` it stays in orun's own cgroup, because
    /// no other could be made: a mount of type cgroup shows that one.
    pub fn stay_in_own(&mut self, dirs: &[String]) {
        let hierarchies = self.cgroup.hierarchies.iter().filter(|h| dirs.contains(&h.dir));
        let own: Vec<(&str, &str)> = hierarchies.map(|h| (h.dir.as_str(), h.own.as_str())).collect();
        for op in &mut self.steps.ops {
            if let Op::Mount(op) = op
                && let MountSource::Bind { path, .. } = &mut op.source
                && let Some((_, own)) = own.iter().find(|(dir, _)| dir.as_bytes() == path.to_bytes())
            {
                *path = cstring(*own);
            }
        }
    }

    /// Hooks run before the container is created.
    pub fn has_early_hooks(&self) -> bool {
        let in_container = |op: &Op| matches!(op, Op::Hook(h) if h.kind == "createContainer");
        !self.runtime_hooks.is_empty() || self.steps.ops.iter().any(in_container)
    }
}

/// The input of [`compile`].
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The ID of the container.
    pub id: &'a str,
    /// Absolute.
    pub bundle: &'a Path,
    /// config.json.
    pub spec: &'a Spec,
    /// Additions by the command.
    pub options: &'a Options,
}

/// Compiles a bundle.
///
/// # Errors
/// Every rule that the configuration breaks, and everything in it that this host cannot do.
pub fn compile(input: Input, facts: &HostFacts) -> Result<Plan, Vec<Violation>> {
    let spec = input.spec;
    let (mut violations, mut warnings) = validate::validate(spec, facts);
    let namespaces = Namespaces::compile(spec);
    let (cgroup, rdt, filter) = controls(input, facts, &namespaces, &mut violations);
    let Some(process) = &spec.process else {
        violations.push(Violation::new("process", "is required to create a container"));
        return Err(violations);
    };
    if !violations.is_empty() {
        return Err(violations);
    }
    warnings.extend(cgroup.notes.iter().map(ToString::to_string));
    warnings.extend(filter.iter().flat_map(|f| f.warnings.iter().cloned()));
    let root_path = spec.root.as_ref().map_or("", |r| r.path.as_str());
    let rootfs = text::absolute(input.bundle, root_path);
    let mut steps = Steps::with_room();
    let listener = filter.as_ref().and_then(|f| f.listener.clone());
    let (prepared, late) = order(
        input,
        facts,
        &Parts { namespaces: &namespaces, cgroup: &cgroup, rootfs: &rootfs, process },
        filter,
        &mut steps,
        &mut warnings,
    );
    let (argv, env) = process::strings(process, &input.options.extra_env);
    Ok(Plan {
        id: input.id.to_owned(),
        bundle: input.bundle.to_owned(),
        id_maps: IdMaps::compile(spec, &namespaces),
        joined_maps: IdMaps::joined(spec, &namespaces),
        net_devices: NetDevice::compile(&spec.linux),
        hook_state: hooks::state_document(&spec.annotations, input.id, input.bundle, "creating"),
        limits: if namespaces.other_user() { process::limits(process) } else { Vec::new() },
        time_offsets: namespaces.time_offsets(spec),
        oom_score_adj: process.oom_score_adj,
        terminal: process.terminal,
        rootfs,
        namespaces,
        cgroup,
        rdt,
        prepared,
        late,
        steps,
        runtime_hooks: runtime_hooks(spec),
        argv,
        env,
        listener,
        warnings,
        exec: false,
    })
}

/// Parts of the plan that are not operations of the container's process: its cgroup, its resctrl group, its filter.
fn controls(
    input: Input,
    facts: &HostFacts,
    namespaces: &Namespaces,
    violations: &mut Vec<Violation>,
) -> (CgroupPlan, Option<RdtPlan>, Option<seccomp::Program>) {
    let linux = &input.spec.linux;
    let cgroup = compile_cgroup(input, facts, namespaces).unwrap_or_else(|v| {
        // Both look at the values of linux.resources; one violation for each property is enough.
        for v in v {
            if !violations.iter().any(|told| told.property == v.property) {
                violations.push(v);
            }
        }
        CgroupPlan::default()
    });
    let rdt = linux.intel_rdt.as_ref().map(|rdt| RdtPlan::compile(rdt, input.id, facts)).transpose();
    let rdt = rdt.unwrap_or_else(|v| {
        violations.push(v);
        None
    });
    let filter = match linux.seccomp.as_ref().map(|s| seccomp::compile(s, &facts.seccomp)) {
        Some(Ok(f)) => f,
        Some(Err(mut v)) => {
            violations.append(&mut v);
            None
        }
        None => None,
    };
    (cgroup, rdt, filter)
}

/// The hooks that orun runs, with their kind and number.
fn runtime_hooks(spec: &Spec) -> Vec<(&'static str, usize, Hook)> {
    let numbered = |kind, list: &[Hook]| -> Vec<_> {
        list.iter().enumerate().map(|(i, h)| (kind, i, h.clone())).collect()
    };
    let mut all = numbered("prestart", &spec.hooks.prestart);
    all.extend(numbered("createRuntime", &spec.hooks.create_runtime));
    all
}

pub(super) fn compile_cgroup(
    input: Input,
    facts: &HostFacts,
    ns: &Namespaces,
) -> Result<CgroupPlan, Vec<Violation>> {
    let linux = &input.spec.linux;
    let options = cgroup::Options {
        manager: input.options.cgroup_manager,
        rootless: facts.euid != 0 || !facts.initial_userns,
        in_user_namespace: !facts.initial_userns,
        device_paths: linux.devices.iter().map(|d| d.path.as_str()).collect(),
        owner: cgroup_owner(input.spec, ns),
        annotations: input.spec.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
    };
    let resources = input.spec.resources();
    cgroup::compile(input.id, &linux.cgroups_path, resources.as_deref(), &facts.cgroup, &options)
}

/// The user that gets the container's cgroup: where the container has a cgroup namespace of its own and a writable
/// cgroup mount, it may manage what is below (config-linux.md, "Cgroup ownership").
fn cgroup_owner(spec: &Spec, ns: &Namespaces) -> Option<u32> {
    let writable = spec.mounts.iter().any(|m| {
        m.kind.starts_with("cgroup")
            && in_root(&m.destination).as_c_str() == c"sys/fs/cgroup"
            && !m.options.iter().any(|o| o == "ro" || o == "rro")
    });
    if !writable || !ns.is_new(NamespaceKind::Cgroup) {
        return None;
    }
    let uid = spec.process.as_ref().map_or(0, |p| p.user.uid);
    let maps = &spec.linux.uid_mappings;
    if ns.is_new(NamespaceKind::User) { IdMaps::host(maps, uid) } else { Some(uid) }
}

struct Parts<'a> {
    namespaces: &'a Namespaces,
    cgroup: &'a CgroupPlan,
    rootfs: &'a Path,
    process: &'a Process,
}

/// The order of everything that the child does. Returns the mounts that the parent prepares, before and then.
fn order(
    input: Input,
    facts: &HostFacts,
    parts: &Parts,
    filter: Option<seccomp::Program>,
    steps: &mut Steps,
    warnings: &mut Vec<String>,
) -> (Vec<Prepared>, Vec<Prepared>) {
    let (spec, ns, p) = (input.spec, parts.namespaces, parts.process);
    ns.push_enter_steps(steps);
    ns.push_settle_steps(spec, into_cgroup(parts.cgroup), steps);
    isolate(input, facts, ns, p, steps);
    let mut cx = mounts::MountContext {
        spec,
        bundle: input.bundle,
        rootfs: parts.rootfs,
        given: &input.options.given,
        namespaces: ns,
        cgroup: parts.cgroup,
        prepared: Vec::new(),
        late: Vec::new(),
        privileged: facts.euid == 0,
        locked: ns.other_user() || !facts.initial_userns,
        dev_readonly: false,
    };
    // A mount namespace that is entered gets the root all the same: it only holds somebody's mounts.
    let own_mounts = ns.is_new(NamespaceKind::Mount) || ns.joins(NamespaceKind::Mount);
    if own_mounts {
        rootfs::open(&cx, &input.options.rootfs_mountpoint, steps);
        cx.compile(steps);
        rootfs::devices(&cx, steps);
        for_the_program(ns, p, steps);
    }
    before_entering(input, steps);
    if own_mounts {
        rootfs::seal(&cx, steps);
        rootfs::push_enter_root(spec, parts.rootfs, input.options, steps);
    } else {
        let path = cstring(parts.rootfs.as_os_str().as_encoded_bytes());
        steps.push(Op::Root(RootOp::Chroot { path }), "root.path");
        if !spec.mounts.is_empty() {
            warnings
                .push("mounts: none is made, because the container has no mount namespace of its own".into());
        }
    }
    let created = hooks::state_document(&spec.annotations, input.id, input.bundle, "created");
    let start_hooks = hooks::in_container(Moment::BeforeProgram, &spec.hooks.start_container, &created);
    process::ProcessContext {
        process: p,
        facts,
        other_user: ns.other_user(),
        no_setgroups: facts.euid != 0 && ns.is_new(NamespaceKind::User),
        keep_groups: process::keeps_groups(&spec.annotations),
        filter,
        personality: spec.linux.personality.as_ref(),
        memory_policy: spec.linux.memory_policy.as_ref(),
        keep: input.options.preserve_fds,
        wait_for_start: input.options.wait_for_start,
        enter: ns.enter_pid(),
        inside: inside(ns, p),
        start_hooks,
    }
    .compile(steps, warnings);
    (cx.prepared, cx.late)
}

/// Parts of the root besides mounts and devices: the working directory and the terminal.
fn for_the_program(ns: &Namespaces, p: &Process, steps: &mut Steps) {
    let cwd = in_root(&p.cwd);
    if !cwd.is_empty() {
        steps.push(Op::Root(RootOp::Directory { path: cwd }), "process.cwd");
    }
    if p.terminal {
        let size = p.console_size.map(|s| (s.height, s.width));
        steps.push(Op::Console { uid: p.user.uid, size }, "process.terminal");
        if !ns.joins(NamespaceKind::Pid) {
            steps.push(Op::ControllingTerminal, "process.terminal");
        }
    }
}

/// Steps after everything of the host is closed: in a shared pid namespace, the process is visible from here on. State that
/// a child does not inherit is set up again.
fn inside(ns: &Namespaces, p: &Process) -> Steps {
    let mut steps = Steps::default();
    if !ns.joins(NamespaceKind::Pid) {
        return steps;
    }
    steps.push(Op::ContinueInside, "linux.namespaces");
    steps.push(Op::Isolate(IsolateOp::ParentDeathSignal), "");
    steps.push(Op::Isolate(IsolateOp::NewSession), "");
    if p.terminal {
        steps.push(Op::ControllingTerminal, "process.terminal");
    }
    steps
}

fn into_cgroup(plan: &CgroupPlan) -> IntoCgroup {
    match (&plan.unit, plan.hierarchies.is_empty()) {
        (Some(_), _) => IntoCgroup::ByParent,
        (None, false) => IntoCgroup::Itself,
        (None, true) => IntoCgroup::Nothing,
    }
}

/// Steps between the mounts and entering the root: the hooks before that, and the sysctls, whose files are
/// read-only later.
fn before_entering(input: Input, steps: &mut Steps) {
    let spec = input.spec;
    let state = hooks::state_document(&spec.annotations, input.id, input.bundle, "creating");
    if !spec.hooks.prestart.is_empty() || !spec.hooks.create_runtime.is_empty() {
        steps.push(Op::Sync(Point::RuntimeHooks), "hooks");
    }
    let created_hooks = &spec.hooks.create_container;
    for (i, h) in hooks::in_container(Moment::BeforeRoot, created_hooks, &state).into_iter().enumerate() {
        steps.push(Op::Hook(Box::new(h)), format!("hooks.createContainer[{i}]"));
    }
    for (key, value) in &spec.linux.sysctl {
        let Some(path) = sysctl::path(key) else { continue };
        let path = cstring(format!("sys/{path}"));
        steps.push(Op::Sysctl { path, value: value.clone().into_bytes() }, format!("linux.sysctl[{key:?}]"));
    }
}

/// Steps that separate the process from the caller of orun.
fn isolate(input: Input, facts: &HostFacts, ns: &Namespaces, p: &Process, steps: &mut Steps) {
    let spec = input.spec;
    steps.push(Op::Isolate(IsolateOp::ResetAffinity { mask: vec![u64::MAX; 128] }), "");
    steps.push(Op::Isolate(IsolateOp::ParentDeathSignal), "");
    if !ns.joins(NamespaceKind::Pid) {
        steps.push(Op::Isolate(IsolateOp::NewSession), "");
    }
    if input.options.wait_for_start {
        steps.push(Op::Isolate(IsolateOp::ExitOnSignals), "");
    }
    if !input.options.no_new_keyring {
        let name = keyring(input.id);
        let label = if facts.selinux { p.selinux_label.clone().into_bytes() } else { Vec::new() };
        steps.push(Op::Isolate(IsolateOp::SessionKeyring { name, label }), "");
    }
    if ns.is_new(NamespaceKind::Network) {
        steps.push(Op::Isolate(IsolateOp::LoopbackUp), "linux.namespaces");
    }
    if !spec.hostname.is_empty() {
        steps.push(Op::Isolate(IsolateOp::Hostname(spec.hostname.clone().into_bytes())), "hostname");
    }
    if !spec.domainname.is_empty() {
        steps.push(Op::Isolate(IsolateOp::Domainname(spec.domainname.clone().into_bytes())), "domainname");
    }
}

/// The name of the session keyring of container `id`, as every runtime has it.
pub(super) fn keyring(id: &str) -> CString {
    cstring(format!("_ses.{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn owner(change: impl FnOnce(&mut Value)) -> Option<u32> {
        let mut v = crate::config::defaults::spec();
        let namespaces = v["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "cgroup");
        namespaces.extend([json!({"type": "cgroup"}), json!({"type": "user"})]);
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        (v["linux"]["uidMappings"], v["linux"]["gidMappings"]) = (map.clone(), map);
        v["process"]["user"]["uid"] = json!(7);
        for m in v["mounts"].as_array_mut().unwrap() {
            if m["destination"] == "/sys/fs/cgroup" {
                m["options"] = json!(["rw"]);
            }
        }
        change(&mut v);
        let spec: Spec = serde_json::from_value(v).unwrap();
        cgroup_owner(&spec, &Namespaces::compile(&spec))
    }

    fn namespaces(v: &mut Value, without: &str) {
        v["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != without);
    }

    #[test]
    fn the_cgroup_is_given_to_the_user_only_with_a_namespace_and_a_writable_mount() {
        assert_eq!(owner(|_| ()), Some(100_007), "the id on the host of the container's user");
        assert_eq!(owner(|v| namespaces(v, "user")), Some(7));
        assert_eq!(owner(|v| namespaces(v, "cgroup")), None);
        let mounts = |v: &mut Value, change: &dyn Fn(&mut Value)| {
            let all = v["mounts"].as_array_mut().unwrap();
            all.iter_mut().filter(|m| m["destination"] == "/sys/fs/cgroup").for_each(change);
        };
        assert_eq!(owner(|v| mounts(v, &|m| m["options"] = json!(["ro"]))), None);
        assert_eq!(owner(|v| mounts(v, &|m| m["destination"] = json!("/mnt"))), None);
        assert_eq!(owner(|v| v["mounts"] = json!([])), None);
    }
}
