//! New limits for a container that has some already (`update`).

use super::systemd::{self, Property};
use super::{MemoryCheck, Version, Violation, Write, check, v1, v2, write};
use crate::config::resources::{Cpu, Memory, Resources, ThrottleDevice, WeightDevice};
use crate::plan::facts::{CgroupFacts, CgroupMode};

/// The changes of an update.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The limits after it, for the container's record.
    pub resources: Resources,
    /// Controller to writes; the version 2 hierarchy is the empty name.
    pub writes: Vec<(String, Vec<Write>)>,
    /// The usage above which the update is refused.
    pub memory_check: Option<MemoryCheck>,
    /// The properties of systemd's unit, where there is one.
    pub properties: Vec<Property>,
    /// New limits without effect.
    pub warnings: Vec<String>,
}

/// Compiles the limits `new` for a container that has `current`. A number of 0 is "not set" for everything but
/// `pids.limit`, `cpu.idle` and `cpu.burst`, because engines send zeros for what they do not change; device rules
/// are left alone. Where `facts` has a systemd, the container has a unit of it.
///
/// # Errors
/// Every property that is wrong or that this host cannot apply.
pub fn compile_update(
    current: Option<&Resources>,
    new: &Resources,
    facts: &CgroupFacts,
) -> Result<Update, Vec<Violation>> {
    let mut merged = current.cloned().unwrap_or_default();
    let mut new = new.clone();
    if facts.systemd.is_some() {
        end_idling(&mut merged, &mut new);
    }
    let new = &new;
    merge(&mut merged, new);
    let mut violations = Vec::new();
    check::resources(&merged, &mut violations);
    let change = with_partners(new, &merged);
    let mut writes: Vec<(String, Vec<Write>)> = Vec::new();
    if facts.mode != CgroupMode::Unified {
        for c in facts.v1.iter().flat_map(|h| &h.controllers) {
            let mut list = v1::before_join(c, &change);
            list.extend(v1::writes(c, &change));
            if facts.systemd.is_some() && !list.is_empty() {
                with_rest(&mut list, v1::writes(c, &merged));
            }
            writes.push((c.clone(), list));
        }
        super::absent_v1(&change, facts, &mut violations);
    }
    let mut list = super::v2_writes(&change, facts, &mut violations);
    list.retain(|w| write::controller(&w.file).is_none_or(|c| !super::has_v1(facts, c)));
    if facts.systemd.is_some() {
        let touched =
            |w: &Write| list.iter().any(|have| write::controller(&have.file) == write::controller(&w.file));
        let rest = v2::writes(&merged, &mut Vec::new()).into_iter().filter(touched).collect();
        with_rest(&mut list, rest);
    }
    writes.push((String::new(), list));
    writes.retain(|(_, list)| !list.is_empty());
    if !violations.is_empty() {
        return Err(violations);
    }
    let memory_check = v2::memory_check(&change).filter(|_| facts.mode == CgroupMode::Unified);
    let mut properties = Vec::new();
    if let Some(facts) = &facts.systemd {
        for (controller, list) in &mut writes {
            let version = if controller.is_empty() { Version::V2 } else { Version::V1 };
            properties.append(&mut systemd::update(version, list, facts));
        }
    }
    let warnings = if idles(new) && has_weight(new) {
        vec![
            "unable to apply both cpu.idle and a weight: an idle cgroup has none until idling ends"
                .to_owned(),
        ]
    } else {
        Vec::new()
    };
    Ok(Update { resources: merged, writes, memory_check, properties, warnings })
}

fn idles(r: &Resources) -> bool {
    r.cpu.idle == Some(1) || r.unified.get("cpu.idle").is_some_and(|v| v.trim() == "1")
}

fn has_weight(r: &Resources) -> bool {
    r.cpu.shares.is_some_and(|s| s != 0) || r.unified.contains_key("cpu.weight")
}

/// A new weight ends idling: systemd has one property for both.
fn end_idling(current: &mut Resources, new: &mut Resources) {
    let silent = new.cpu.idle.is_none() && !new.unified.contains_key("cpu.idle");
    if silent && has_weight(new) && idles(current) {
        current.unified.remove("cpu.idle");
        new.cpu.idle = Some(0);
    }
}

/// systemd writes all files of a controller of which it changes one: those of `rest` that `list` has not got are
/// written again too, before it.
fn with_rest(list: &mut Vec<Write>, mut rest: Vec<Write>) {
    rest.retain(|w| !list.iter().any(|have| have.file == w.file));
    list.splice(0..0, rest);
}

/// The properties of `new`, and those of `all` that the kernel or a conversion needs together with them.
fn with_partners(new: &Resources, all: &Resources) -> Resources {
    let mut r = Resources { devices: Vec::new(), ..new.clone() };
    r.memory.check_before_update = all.memory.check_before_update;
    if is_set(new.memory.limit) || is_set(new.memory.swap) {
        r.memory.limit = all.memory.limit;
        r.memory.swap = all.memory.swap;
    }
    if is_set(new.cpu.quota) || new.cpu.period.is_some_and(|p| p != 0) {
        r.cpu.quota = all.cpu.quota;
        r.cpu.period = all.cpu.period;
    }
    match new.cpu.idle {
        // The kernel forgot the shares while the cgroup was idle.
        Some(0) => r.cpu.shares = all.cpu.shares,
        None if all.cpu.idle == Some(1) => r.cpu.shares = None,
        _ => {}
    }
    r
}

fn is_set(v: Option<i64>) -> bool {
    v.is_some_and(|v| v != 0)
}

fn merge(to: &mut Resources, new: &Resources) {
    merge_memory(&mut to.memory, &new.memory);
    merge_cpu(&mut to.cpu, &new.cpu);
    if let Some(limit) = new.pids.as_ref().and_then(|p| p.limit) {
        to.pids.get_or_insert_default().limit = Some(limit);
    }
    let (b, n) = (&mut to.block_io, &new.block_io);
    replace(&mut b.weight, n.weight.filter(|w| *w != 0));
    replace(&mut b.leaf_weight, n.leaf_weight.filter(|w| *w != 0));
    let weight = |d: &WeightDevice| (d.major, d.minor);
    upsert(&mut b.weight_device, &n.weight_device, weight);
    let throttle = |d: &ThrottleDevice| (d.major, d.minor);
    upsert(&mut b.throttle_read_bps_device, &n.throttle_read_bps_device, throttle);
    upsert(&mut b.throttle_write_bps_device, &n.throttle_write_bps_device, throttle);
    upsert(&mut b.throttle_read_iops_device, &n.throttle_read_iops_device, throttle);
    upsert(&mut b.throttle_write_iops_device, &n.throttle_write_iops_device, throttle);
    upsert(&mut to.hugepage_limits, &new.hugepage_limits, |h| h.page_size.clone());
    replace(&mut to.network.class_id, new.network.class_id.filter(|id| *id != 0));
    upsert(&mut to.network.priorities, &new.network.priorities, |p| p.name.clone());
    to.rdma.extend(new.rdma.clone());
    to.unified.extend(new.unified.clone());
}

fn merge_memory(to: &mut Memory, new: &Memory) {
    replace(&mut to.limit, new.limit.filter(|v| *v != 0));
    // Without a limit on memory the old sum of memory and swap means nothing.
    if new.limit == Some(-1) && !is_set(new.swap) {
        to.swap = None;
    }
    replace(&mut to.swap, new.swap.filter(|v| *v != 0));
    replace(&mut to.reservation, new.reservation.filter(|v| *v != 0));
    replace(&mut to.swappiness, new.swappiness);
    replace(&mut to.disable_oom_killer, new.disable_oom_killer);
    replace(&mut to.use_hierarchy, new.use_hierarchy);
    replace(&mut to.check_before_update, new.check_before_update);
}

fn merge_cpu(to: &mut Cpu, new: &Cpu) {
    replace(&mut to.shares, new.shares.filter(|v| *v != 0));
    replace(&mut to.quota, new.quota.filter(|v| *v != 0));
    replace(&mut to.period, new.period.filter(|v| *v != 0));
    replace(&mut to.burst, new.burst);
    replace(&mut to.realtime_runtime, new.realtime_runtime.filter(|v| *v != 0));
    replace(&mut to.realtime_period, new.realtime_period.filter(|v| *v != 0));
    replace(&mut to.idle, new.idle);
    for (list, n) in [(&mut to.cpus, &new.cpus), (&mut to.mems, &new.mems)] {
        if !n.is_empty() {
            list.clone_from(n);
        }
    }
}

fn replace<T>(to: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *to = new;
    }
}

/// Replaces the entries of `list` that have the key of one in `new`, and adds the others.
fn upsert<T: Clone, K: PartialEq>(list: &mut Vec<T>, new: &[T], key: impl Fn(&T) -> K) {
    for n in new {
        match list.iter_mut().find(|have| key(have) == key(n)) {
            Some(have) => *have = n.clone(),
            None => list.push(n.clone()),
        }
    }
}
