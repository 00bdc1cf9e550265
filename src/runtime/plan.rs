//! `plan`: what creating a container would do, without doing it.

use super::Runtime;
use super::create::{self, CreateOptions};
use crate::error::{Kind, Result};
use crate::log::printable;
use crate::plan::cgroup::systemd::Property;
use crate::plan::compile::Plan;
use crate::plan::explain;
use crate::plan::facts::HostFacts;
use crate::plan::mounts::Prepared;
use crate::plan::op::{MountSource, Op, Point};
use crate::plan::rdt::RdtPlan;
use crate::state::id::ContainerId;
use crate::sys::cred;
use serde::Serialize;
use std::fmt;

/// The planned steps, in order.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The ID of the container.
    pub id: String,
    /// The directory of the bundle.
    pub bundle: String,
    /// The root file system on the host.
    pub rootfs: String,
    /// The steps, in order.
    pub phases: Vec<Phase>,
    /// Settings without effect, or with an unexpected one.
    pub warnings: Vec<String>,
}

/// A stretch of work by one process.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// `orun` or `container`.
    pub by: &'static str,
    /// In relation to the others.
    pub when: &'static str,
    /// In order.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The index that an error of the container process names; absent for steps of orun itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<usize>,
    /// The operation in words.
    pub what: String,
    /// The property of config.json that asks for it; empty for what is always done.
    pub property: String,
}

/// Compiles the bundle and describes the plan.
///
/// # Errors
/// Everything that is wrong with the bundle, at once.
pub fn plan(rt: &Runtime, id: &str, options: &CreateOptions) -> Result<Report> {
    ContainerId::new(id)?;
    // Everybody may look at what root would do; only a bundle with a user namespace is for others.
    let as_root = |facts: &mut HostFacts| (facts.euid, facts.egid, facts.capabilities) = (0, 0, u64::MAX);
    let (_, plan) = match create::compile(rt, id, options, true) {
        Err(e) if cred::geteuid() != 0 && e.kind() == Kind::Config => {
            create::compile_for(rt, id, options, true, as_root)?
        }
        r => r?,
    };
    Ok(Report::from_plan(&plan))
}

impl Report {
    /// The steps of executing `plan`.
    pub fn from_plan(plan: &Plan) -> Report {
        Report {
            id: plan.id.clone(),
            bundle: plan.bundle.display().to_string(),
            rootfs: plan.rootfs.display().to_string(),
            phases: phases(plan),
            warnings: plan.warnings.clone(),
        }
    }
}

/// The text of `orun plan`: a line for each step, with its number and the property that asks for it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "container {:?} from bundle {:?}", self.id, self.bundle)?;
        for phase in &self.phases {
            writeln!(f, "\n{}, {}:", phase.by, phase.when)?;
            for s in &phase.steps {
                let op = s.op.map_or(String::new(), |n| n.to_string());
                let why = if s.property.is_empty() { String::new() } else { format!("  [{}]", s.property) };
                writeln!(f, "{op:>4}  {}{}", printable(&s.what), printable(&why))?;
            }
        }
        self.warnings.iter().try_for_each(|w| writeln!(f, "\nwarning: {}", printable(w)))
    }
}

fn step(what: impl Into<String>, property: impl Into<String>) -> Step {
    Step { op: None, what: what.into(), property: property.into() }
}

fn phases(plan: &Plan) -> Vec<Phase> {
    let mut phases =
        vec![Phase { by: "orun", when: "before the container process exists", steps: before(plan) }];
    let mut current = Phase { by: "container", when: "setting up", steps: Vec::new() };
    for (i, (op, property)) in plan.steps.ops.iter().zip(&plan.steps.properties).enumerate() {
        current.steps.push(Step { op: Some(i), what: explain::words(op), property: property.clone() });
        let Some((answer, next)) = answer(plan, op) else { continue };
        phases
            .push(std::mem::replace(&mut current, Phase { by: "container", when: next, steps: Vec::new() }));
        phases.push(Phase { by: "orun", when: "while the container process waits", steps: answer });
    }
    phases.push(current);
    phases
}

/// The actions of `orun` while the container process waits at this operation, and when the process continues.
fn answer(plan: &Plan, op: &Op) -> Option<(Vec<Step>, &'static str)> {
    if let Op::Mount(m) = op {
        let MountSource::Late { slot } = m.source else { return None };
        return Some((plan.late.get(slot).map(source).into_iter().collect(), "setting up"));
    }
    let Op::Sync(point) = op else { return None };
    Some(match point {
        Point::Namespaces => (namespaces(plan), "setting up"),
        Point::Cgroup => (cgroups(plan), "setting up"),
        Point::RuntimeHooks => (runtime_hooks(plan), "setting up"),
        Point::Ready => (ready(plan), "at \"orun start\""),
    })
}

fn before(plan: &Plan) -> Vec<Step> {
    let mut steps = vec![step("recording the container in the state directory", "")];
    if plan.cgroup.unit.is_none() {
        steps.extend(cgroups(plan));
    }
    steps.extend(plan.rdt.iter().flat_map(resctrl));
    for j in &plan.namespaces.joins {
        steps.push(step(format!("opening the {} namespace {:?}", j.kind.name(), j.path), &j.property));
    }
    steps.extend(plan.prepared.iter().map(source));
    let names = explain::namespace_names(plan.namespaces.clone);
    let what = if names.is_empty() {
        "making the container process".into()
    } else {
        format!("making the container process with new namespaces: {names}")
    };
    steps.push(step(what, "linux.namespaces"));
    steps
}

/// The steps for the cgroups: before the process exists, or around it with systemd.
fn cgroups(plan: &Plan) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(unit) = &plan.cgroup.unit {
        steps.push(step(format!("starting systemd unit {:?}", unit.name), "linux.cgroupsPath"));
        let words = |p: &Property| step(format!("setting {} to {}", p.name, p.value), &p.because);
        steps.extend(unit.properties.iter().map(words));
    }
    for h in &plan.cgroup.hierarchies {
        steps.push(step(format!("making the cgroup {:?}", h.dir), "linux.cgroupsPath"));
        for w in h.before_join.iter().chain(&h.writes) {
            steps.push(step(format!("writing {:?} to {}", w.value, w.file), w.property.as_ref()));
        }
    }
    if let Some(program) = plan.cgroup.device_filter.as_ref().and_then(|f| f.program.as_ref()) {
        let what = format!("attaching a device filter of {} instructions", program.len());
        steps.push(step(what, "linux.resources.devices"));
    }
    steps
}

fn resctrl(rdt: &RdtPlan) -> Vec<Step> {
    let at = |what: String| step(what, "linux.intelRdt");
    let mut steps = vec![at(format!("entering the resctrl class {:?}", rdt.class))];
    if !rdt.schemata.is_empty() {
        steps.push(at(format!("writing {:?} to its schemata", rdt.schemata.join("; "))));
    }
    steps.extend(rdt.monitor.iter().map(|dir| at(format!("making the monitoring group {dir:?}"))));
    steps
}

fn source(p: &Prepared) -> Step {
    let mapped = if p.idmap.is_some() { ", id-mapped" } else { "" };
    let doing = match &p.filesystem {
        Some(fs) => format!("making a file system of type {}", fs.kind.to_string_lossy()),
        None => format!("opening the mount source {:?}", p.source),
    };
    step(format!("{doing}{mapped}"), &p.property)
}

fn namespaces(plan: &Plan) -> Vec<Step> {
    let maps = plan.id_maps.iter().flat_map(|m| {
        let one = |list: &[crate::config::linux::IdMapping], what: &str, property: &str| {
            let text: Vec<_> = list
                .iter()
                .map(|m| format!("{}..+{} = host {}", m.container_id, m.size, m.host_id))
                .collect();
            step(format!("mapping {what}: {}", text.join(", ")), property)
        };
        [one(&m.uids, "user ids", "linux.uidMappings"), one(&m.gids, "group ids", "linux.gidMappings")]
    });
    let offsets = plan.time_offsets.iter().map(|text| {
        let text = text.trim_end().replace('\n', ", ");
        step(format!("setting the time offsets {text:?}"), "linux.timeOffsets")
    });
    let devices = plan.net_devices.iter().map(|d| step(d.words(), &d.property));
    maps.chain(offsets).chain(devices).collect()
}

fn runtime_hooks(plan: &Plan) -> Vec<Step> {
    plan.runtime_hooks
        .iter()
        .map(|(kind, i, h)| {
            step(format!("running the {kind} hook {:?}", h.path), format!("hooks.{kind}[{i}]"))
        })
        .collect()
}

fn ready(plan: &Plan) -> Vec<Step> {
    let mut steps: Vec<_> = plan.limits.iter().map(|l| step(l.words(), l.property.as_str())).collect();
    if let Some(adj) = plan.oom_score_adj {
        steps.push(step(format!("setting oom_score_adj to {adj}"), "process.oomScoreAdj"));
    }
    steps.push(step("recording the container as created", ""));
    steps
}
