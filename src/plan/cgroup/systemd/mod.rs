//! The unit that systemd makes for a container: its name, its place, and the properties that stand for
//! `linux.resources` (org.freedesktop.systemd1(5), systemd.resource-control(5)).
//!
//! The properties are made from the same writes that the cgroup file system gets. Those are done all the same, because
//! systemd knows only some of the files; the properties see to it that systemd does not set the others back.

pub mod annotation;
mod devices;
mod gvariant;
mod limits;
mod value;

#[cfg(test)]
mod tests;

pub use value::Value;

use super::path::Inner;
use super::{CgroupPlan, HierarchyPlan, Options, Version, Violation, Write};
use crate::plan::device_filter::Rule;
use crate::plan::facts::SystemdFacts;

const PATH: &str = "linux.cgroupsPath";
/// The oldest systemd that is known to take all of the properties below.
const OLDEST: u32 = 244;
/// The longest name of a unit (UNIT_NAME_MAX of systemd).
const NAME_MAX: usize = 255;

/// A property of a unit, with the property of config.json that asks for it (empty: every container's unit has it).
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// As in systemd's D-Bus interface: `MemoryMax`.
    pub name: String,
    /// Its value, of the type that systemd expects.
    pub value: Value,
    /// The property of config.json that asks for it.
    pub because: String,
}

impl Property {
    fn new(name: &str, value: Value, because: impl Into<String>) -> Property {
        Property { name: name.to_owned(), value, because: because.into() }
    }
}

/// The unit of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unit {
    /// `prefix-name.scope`, or a slice.
    pub name: String,
    /// In order; each name once.
    pub properties: Vec<Property>,
}

impl Unit {
    /// A scope holds processes; a slice is made without, and they are moved into it.
    pub fn is_scope(&self) -> bool {
        self.name.ends_with(".scope")
    }
}

/// Where the unit is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UnitLocation {
    pub unit: String,
    pub slice: String,
    /// Its cgroup, from the root of the hierarchy.
    pub inner: Inner,
}

/// The place that `cgroups_path` (`slice:prefix:name`, or empty) means.
///
/// # Errors
/// It does not have that form, or a name is not valid for a unit.
pub(super) fn place(
    id: &str,
    cgroups_path: &str,
    rootless: bool,
    facts: &SystemdFacts,
) -> Result<UnitLocation, Violation> {
    let default = if rootless { "user.slice" } else { "system.slice" };
    let parts: Vec<&str> = cgroups_path.split(':').collect();
    let (slice, prefix, name) = match parts.as_slice() {
        _ if cgroups_path.is_empty() => (default, "orun", id),
        ["", prefix, name] => (default, *prefix, *name),
        [slice, prefix, name] => (*slice, *prefix, *name),
        _ => {
            let what = format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {cgroups_path:?} instead"
            );
            let hint = "such as system.slice:orun:web; without --systemd-cgroup it is a path";
            return Err(Violation::new(PATH, what).hint(hint));
        }
    };
    let unit = if name.ends_with(".slice") { name.to_owned() } else { format!("{prefix}-{name}.scope") };
    check_name(&unit, name)?;
    // A slice lies where its own name says.
    let above = if unit.ends_with(".slice") {
        let own = expand_slice(&unit)?;
        own.rfind('/').map_or_else(String::new, |i| own[..i].to_owned())
    } else {
        expand_slice(slice)?
    };
    let top = facts.control_group.trim_end_matches('/');
    let path = format!("{top}{}/{unit}", above.trim_end_matches('/'));
    Ok(UnitLocation { unit, slice: slice.to_owned(), inner: Inner { path, absolute: true } })
}

/// Characters of unit names (systemd.unit(5)).
fn check_name(unit: &str, name: &str) -> Result<(), Violation> {
    let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let why = if name.is_empty() {
        "has no name in its third part"
    } else if unit.len() > NAME_MAX {
        "makes the name of a unit longer than 255 bytes"
    } else if unit.chars().any(|c| !valid(c)) {
        "has a character that no unit may have in its name"
    } else if unit == "-.slice" {
        "is the slice of the whole host"
    } else {
        return Ok(());
    };
    Err(Violation::new(PATH, format!("unit {unit:?} {why}"))
        .hint("letters, digits and -_.\\@ are fine; systemd-escape(1) makes a name of any text"))
}

/// The path of a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
///
/// # Errors
/// It is not a valid name of a slice.
fn expand_slice(slice: &str) -> Result<String, Violation> {
    let bad = || {
        Violation::new(PATH, format!("invalid slice name: {slice:?}"))
            .hint("a slice is called a.slice, or a-b.slice when it lies in a.slice")
    };
    let name = slice.strip_suffix(".slice").ok_or_else(bad)?;
    if name == "-" {
        return Ok("/".into());
    }
    if slice.len() > NAME_MAX || name.contains(['/', '\0', '\n']) || name.split('-').any(str::is_empty) {
        return Err(bad());
    }
    let ends = name.match_indices('-').map(|(i, _)| i).chain([name.len()]);
    Ok(ends.map(|end| format!("/{}.slice", &name[..end])).collect())
}

/// The unit of `plan`, whose hierarchies and device rules are compiled. Also makes what goes to the files fit what
/// systemd can hold.
pub(super) fn unit(
    place: &UnitLocation,
    id: &str,
    plan: &mut CgroupPlan,
    rules: &[Rule],
    opts: &Options,
    facts: &SystemdFacts,
    out: &mut Vec<Violation>,
) {
    if facts.version < OLDEST {
        let what = format!("systemd {} is too old for the systemd cgroup manager", facts.version);
        out.push(
            Violation::new(PATH, what).hint(format!("it takes systemd {OLDEST}; leave out --systemd-cgroup")),
        );
        return;
    }
    let mut unit = Unit { name: place.unit.clone(), properties: Vec::new() };
    let mut add = |p: Property| set(&mut unit.properties, p);
    add(Property::new("Description", Value::text(format!("orun container {id}")), ""));
    if place.unit.ends_with(".slice") {
        add(Property::new("Wants", Value::texts(&[&place.slice]), PATH));
    } else {
        add(Property::new("Slice", Value::text(&place.slice), PATH));
        add(Property::new("Delegate", Value::Bool(true), ""));
    }
    add(Property::new("DefaultDependencies", Value::Bool(false), ""));
    for name in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        add(Property::new(name, Value::Bool(true), ""));
    }
    for h in &mut plan.hierarchies {
        limits::drop_weight_of_idle(&mut h.writes);
        round_quotas(h);
        limits::properties(h.version, &h.writes, facts.version).into_iter().for_each(&mut add);
    }
    // systemd of a user can restrict no devices, and neither can orun then.
    if !opts.rootless {
        devices::properties(rules).into_iter().for_each(&mut add);
    }
    for (key, value) in &opts.annotations {
        match annotation::property(key, value) {
            Ok(p) => p.into_iter().for_each(&mut add),
            Err(v) => out.push(v),
        }
    }
    plan.unit = Some(unit);
}

/// The properties of an update.
pub(super) fn update(version: Version, writes: &mut Vec<Write>, facts: &SystemdFacts) -> Vec<Property> {
    limits::drop_weight_of_idle(writes);
    limits::round_quotas(version, writes);
    limits::properties(version, writes, facts.version)
}

fn round_quotas(h: &mut HierarchyPlan) {
    limits::round_quotas(h.version, &mut h.writes);
}

/// Puts `p` in the place of a property of its name.
fn set(list: &mut Vec<Property>, p: Property) {
    match list.iter_mut().find(|have| have.name == p.name) {
        Some(have) => *have = p,
        None => list.push(p),
    }
}
