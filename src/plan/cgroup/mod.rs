//! `linux.cgroupsPath` and `linux.resources` become directories to make and files to write (config-linux.md,
//! "Control groups"), in the order the kernel needs, for version 1, version 2 and both (cgroups(7)).

mod check;
mod convert;
mod path;
pub mod systemd;
mod update;
mod v1;
mod v2;
mod write;

pub use write::Write;

#[cfg(test)]
pub(super) mod tests;

pub use update::{Update, compile_update};

use super::Violation;
use super::device_filter::{self, Instruction};
use super::facts::{CgroupFacts, CgroupMode};
use crate::config::resources::Resources;

/// Creator of the control groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manager {
    /// orun, through the cgroup file system.
    #[default]
    Cgroupfs,
    /// systemd, as a unit; orun fills in what systemd has no property for.
    Systemd,
    /// Nobody: the container stays in the cgroup of its creator.
    Disabled,
}

/// Inputs of the compile step besides the configuration of the resources.
#[derive(Debug, Clone, Default)]
pub struct Options<'a> {
    /// Creator of the cgroups.
    pub manager: Manager,
    /// Ignore a missing permission to create a cgroup unless the bundle specifies a path or a limit.
    pub rootless: bool,
    /// orun runs in a user namespace of its own, where device rules cannot be loaded.
    pub in_user_namespace: bool,
    /// The paths of `linux.devices`: one of them replaces the default device of that path, and its access.
    pub device_paths: Vec<&'a str>,
    /// The host user that shall own the cgroup (config-linux.md, "Cgroup ownership"); version 2 only.
    pub owner: Option<u32>,
    /// Keys and values; those of systemd's properties count.
    pub annotations: Vec<(&'a str, &'a str)>,
}

/// Version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller or group of them (cgroups(7)).
    V1,
    /// The unified hierarchy.
    V2,
}

/// Everything about a container's control groups.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CgroupPlan {
    /// Creator of the cgroups.
    pub manager: Manager,
    /// The path below the mount point, as `cgroupsPath` or the default has it.
    pub path: String,
    /// The request to systemd.
    pub unit: Option<systemd::Unit>,
    /// Version 1: every mounted hierarchy. Version 2: one. Hybrid: the version 2 one is the last.
    pub hierarchies: Vec<HierarchyPlan>,
    /// The device filter for version 2; version 1 has writes to `devices.allow` and `devices.deny`.
    pub device_filter: Option<DeviceFilter>,
    /// Refuse a memory limit that is below the current usage.
    pub memory_check: Option<MemoryCheck>,
    /// The user that shall own the version 2 cgroup.
    pub owner: Option<u32>,
    /// Properties that have no effect, with the reason.
    pub notes: Vec<Violation>,
}

/// The directory and the writes of one hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub struct HierarchyPlan {
    /// That of the hierarchy.
    pub version: Version,
    /// Version 1: the controllers (or `name=...`) of the hierarchy. Version 2: empty.
    pub controllers: Vec<String>,
    /// Where it is mounted on the host.
    pub mount_point: String,
    /// The directory of the container's cgroup, at or below `mount_point`.
    pub dir: String,
    /// The directory of orun's own cgroup: where the container stays if it may not have one of its own.
    pub own: String,
    /// Version 2: the controllers to enable in the ancestors, so far as they can be.
    pub enable: Vec<String>,
    /// Whether to ignore a missing permission to create a cgroup as long as nothing has to be written to it.
    pub may_stay: bool,
    /// Required before a process can join.
    pub before_join: Vec<Write>,
    /// The limits, in order.
    pub writes: Vec<Write>,
}

impl CgroupPlan {
    /// Whether a limit of memory is set, by a write or as a property of the unit.
    pub fn limits_memory(&self) -> bool {
        let mut writes = self.hierarchies.iter().flat_map(|h| &h.writes);
        let mut properties = self.unit.iter().flat_map(|u| &u.properties);
        writes.any(|w| w.property == "linux.resources.memory.limit")
            || properties.any(|p| matches!(&*p.name, "MemoryMax" | "MemoryLimit"))
    }
}

impl HierarchyPlan {
    /// The controllers of a version 2 hierarchy that a limit needs, with the property that needs each.
    pub fn required(&self) -> Vec<(&str, &str)> {
        let mut out: Vec<(&str, &str)> = Vec::new();
        for w in self.writes.iter().filter(|_| self.version == Version::V2) {
            if let Some(c) = write::controller(&w.file)
                && !out.iter().any(|(have, _)| *have == c)
            {
                out.push((c, &w.property));
            }
        }
        out
    }
}

/// A `BPF_PROG_TYPE_CGROUP_DEVICE` program.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceFilter {
    /// `None`: every device is allowed, and an existing filter is removed.
    pub program: Option<Vec<Instruction>>,
    /// Ignore a kernel that rejects the program.
    pub best_effort: bool,
}

/// `memory.checkBeforeUpdate` on version 2: the limits that the current usage must be below. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCheck {
    /// The limit in bytes; None: none.
    pub limit: Option<u64>,
    /// Memory plus swap.
    pub swap: Option<u64>,
}

/// Compiles `linux.cgroupsPath` (empty: the default) and `linux.resources` for the container `id`.
///
/// # Errors
/// Every property that is wrong or that this host cannot apply.
pub fn compile(
    id: &str,
    cgroups_path: &str,
    resources: Option<&Resources>,
    facts: &CgroupFacts,
    opts: &Options,
) -> Result<CgroupPlan, Vec<Violation>> {
    let none = Resources::default();
    let r = resources.unwrap_or(&none);
    let mut violations = Vec::new();
    let by_systemd = facts.systemd.as_ref().filter(|_| opts.manager == Manager::Systemd);
    let place = by_systemd.map(|s| systemd::place(id, cgroups_path, opts.rootless, s)).transpose();
    let place = place.unwrap_or_else(|v| {
        violations.push(v);
        None
    });
    let inner = match &place {
        Some(p) => Ok(p.inner.clone()),
        None if opts.manager == Manager::Systemd => Ok(path::Inner::default()),
        None => path::inner(id, cgroups_path),
    };
    let inner = inner.unwrap_or_else(|v| {
        violations.push(v);
        path::Inner::default()
    });
    check::resources(r, &mut violations);
    let cgroupfs = opts.manager != Manager::Systemd;
    let mut plan = CgroupPlan {
        manager: opts.manager,
        path: inner.path.clone(),
        owner: opts.owner,
        notes: if cgroupfs { path::notes(cgroups_path) } else { Vec::new() },
        ..CgroupPlan::default()
    };
    check::notes(r, &mut plan.notes);
    if opts.manager == Manager::Disabled || facts.mode == CgroupMode::None {
        nothing_to_write(r, cgroups_path, opts, &mut violations);
    } else {
        hierarchies(&inner, r, facts, &mut plan, &mut violations);
        for h in &mut plan.hierarchies {
            // Version 1 beside it has the controllers: delegation to users there excludes this one.
            let spare = h.version == Version::V2 && facts.mode != CgroupMode::Unified;
            h.may_stay = cgroupfs && opts.rootless && (cgroups_path.is_empty() || spare);
        }
        let rules = devices(r, facts, opts, &mut plan, &mut violations);
        if let (Some(place), Some(s)) = (&place, by_systemd) {
            systemd::unit(place, id, &mut plan, &rules, opts, s, &mut violations);
        }
    }
    if violations.is_empty() { Ok(plan) } else { Err(violations) }
}

/// Without control groups, a path and a limit are errors, and so are device rules that root asks for.
fn nothing_to_write(r: &Resources, cgroups_path: &str, opts: &Options, out: &mut Vec<Violation>) {
    let (why, hint) = if opts.manager == Manager::Disabled {
        ("control groups are turned off", "leave out --cgroup-manager disabled")
    } else {
        ("no control group file system is mounted", "mount cgroup2 at /sys/fs/cgroup")
    };
    if !cgroups_path.is_empty() && opts.manager != Manager::Disabled {
        out.push(Violation::new("linux.cgroupsPath", why).hint(hint));
    }
    let mut asked = v1::resource_writes(r);
    asked.extend(v2::writes(r, &mut Vec::new()));
    if let Some(w) = asked.first() {
        out.push(Violation::new(w.property.clone(), format!("cannot be applied: {why}")).hint(hint));
    }
    if opts.manager != Manager::Disabled && !opts.rootless && !opts.in_user_namespace {
        let v = Violation::new("linux.resources.devices", format!("cannot be applied: {why}"));
        out.push(v.hint(hint));
    }
}

/// One plan for each mounted hierarchy, with the writes of its controllers.
fn hierarchies(
    inner: &path::Inner,
    r: &Resources,
    facts: &CgroupFacts,
    plan: &mut CgroupPlan,
    out: &mut Vec<Violation>,
) {
    for h in &facts.v1 {
        let mut hp = HierarchyPlan {
            version: Version::V1,
            controllers: h.controllers.clone(),
            mount_point: h.mount_point.clone(),
            dir: path::v1_dir(inner, h),
            own: path::own_dir(&h.mount_point, &h.own_path, &h.mount_root),
            enable: Vec::new(),
            may_stay: false,
            before_join: Vec::new(),
            writes: Vec::new(),
        };
        for c in &h.controllers {
            hp.before_join.extend(v1::before_join(c, r));
            hp.writes.extend(v1::writes(c, r));
        }
        plan.hierarchies.push(hp);
    }
    if let Some(h) = &facts.v2 {
        let mut writes = v2_writes(r, facts, out);
        // Limits of a version 1 controller are written there.
        writes.retain(|w| write::controller(&w.file).is_none_or(|c| !has_v1(facts, c)));
        plan.memory_check = v2::memory_check(r).filter(|_| facts.mode == CgroupMode::Unified);
        let mut hp = HierarchyPlan {
            version: Version::V2,
            controllers: Vec::new(),
            mount_point: h.mount_point.clone(),
            dir: path::v2_dir(inner, h, facts.mode),
            own: path::own_dir(&h.mount_point, &h.own_path, &h.mount_root),
            enable: Vec::new(),
            may_stay: false,
            before_join: Vec::new(),
            writes,
        };
        hp.enable = match facts.mode {
            // Everything there is: for the statistics, and for managers of containers inside the container.
            CgroupMode::Unified => h.controllers.clone(),
            _ => hp.required().into_iter().map(|(c, _)| c.to_owned()).collect(),
        };
        plan.hierarchies.push(hp);
    }
    if facts.mode != CgroupMode::Unified {
        absent_v1(r, facts, out);
    }
}

/// The version 2 writes, with a violation for each that this host has no controller for.
fn v2_writes(r: &Resources, facts: &CgroupFacts, out: &mut Vec<Violation>) -> Vec<Write> {
    let Some(h) = &facts.v2 else { return Vec::new() };
    let mut problems = Vec::new();
    let mut writes = v2::writes(r, &mut problems);
    if facts.mode == CgroupMode::Unified {
        out.append(&mut problems);
        check::unified(&r.unified, &h.controllers, out);
    } else {
        // On a hybrid host the files of `unified` would be split between two worlds; `absent_v1` refuses it.
        writes.retain(|w| !w.property.starts_with("linux.resources.unified"));
    }
    let mut told: Vec<&str> = Vec::new();
    for w in writes.iter().filter(|_| facts.mode == CgroupMode::Unified) {
        let Some(c) = write::controller(&w.file) else { continue };
        let from_unified = w.property.starts_with("linux.resources.unified");
        if !from_unified && !told.contains(&c) && !h.controllers.iter().any(|have| have == c) {
            told.push(c);
            out.push(no_controller(&w.property, c, &h.controllers));
        }
    }
    writes
}

fn no_controller(property: &str, controller: &str, have: &[String]) -> Violation {
    let have = if have.is_empty() { "none".to_owned() } else { have.join(" ") };
    Violation::new(
        property.to_owned(),
        format!("cannot be set: controller \"{controller}\" not available (this host has: {have})"),
    )
    .hint("compile it into the kernel, or take it off the kernel command line's cgroup_disable=")
}

/// Whether the version 1 counterpart of a version 2 controller is mounted.
fn has_v1(facts: &CgroupFacts, v2: &str) -> bool {
    let v1 = if v2 == "io" { "blkio" } else { v2 };
    facts.v1.iter().any(|h| h.controllers.iter().any(|c| c == v1))
}

/// A violation for each limit that version 1 does not have, or whose controller is mounted nowhere.
fn absent_v1(r: &Resources, facts: &CgroupFacts, out: &mut Vec<Violation>) {
    if has_v1(facts, "cpu") {
        v1::check_shares(&r.cpu, out);
    }
    if !r.unified.is_empty() {
        let v = Violation::new(
            "linux.resources.unified",
            "invalid configuration: cannot use unified on cgroup v1",
        );
        out.push(
            v.hint("unified is for hosts with cgroup v2 only; use the other properties of linux.resources"),
        );
    }
    for c in v1::CONTROLLERS {
        let first = v1::before_join(c, r).into_iter().chain(v1::writes(c, r)).next();
        let v2 = if *c == "blkio" { "io" } else { c };
        let in_v2 = facts.v2.as_ref().is_some_and(|h| h.controllers.iter().any(|have| have == v2));
        if let Some(w) = first
            && !has_v1(facts, v2)
            && !in_v2
        {
            let have: Vec<String> = facts.v1.iter().flat_map(|h| h.controllers.clone()).collect();
            out.push(no_controller(&w.property, c, &have));
        }
    }
}

/// Device rules: writes on version 1, a program on version 2. Returns the rules.
fn devices(
    r: &Resources,
    facts: &CgroupFacts,
    opts: &Options,
    plan: &mut CgroupPlan,
    out: &mut Vec<Violation>,
) -> Vec<device_filter::Rule> {
    let rules = match device_filter::rules(&r.devices, &opts.device_paths) {
        Ok(rules) => rules,
        Err(mut v) => {
            out.append(&mut v);
            return Vec::new();
        }
    };
    if facts.mode == CgroupMode::Unified {
        match device_filter::program(&rules) {
            Ok(program) => {
                let best_effort = opts.rootless || opts.in_user_namespace;
                plan.device_filter = Some(DeviceFilter { program, best_effort });
            }
            Err(v) => out.push(v),
        }
        return rules;
    }
    if opts.in_user_namespace {
        // The kernel lets only the initial user namespace change the rules.
        return rules;
    }
    let is_devices = |h: &&mut HierarchyPlan| h.controllers.iter().any(|c| c == "devices");
    match (plan.hierarchies.iter_mut().find(is_devices), device_filter::v1_writes(&rules)) {
        (_, Err(v)) => out.push(v),
        (Some(h), Ok(writes)) => {
            h.writes.extend(writes.into_iter().map(|w| w.best_effort(opts.rootless)));
        }
        (None, Ok(_)) if opts.rootless => {}
        (None, Ok(_)) => out.push(
            Violation::new("linux.resources.devices", "the devices controller is not mounted")
                .hint("without it every device of the host is open to the container; mount it at /sys/fs/cgroup/devices"),
        ),
    }
    rules
}
