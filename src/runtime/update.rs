//! `update`: new limits for a container.

use super::Runtime;
use super::container::Container;
use crate::config::parse;
use crate::config::resources::Resources;
use crate::config::spec::Spec;
use crate::error::{Error, Kind, Result};
use crate::kernel::{cgroup, rdt};
use crate::plan::cgroup::compile_update;
use crate::state::lifecycle::Operation;

/// Writes new schemata (`L3:...`, `MB:...`) to the resctrl class of the container `id`.
///
/// # Errors
/// The container has none; what resctrl refuses.
pub fn update_schemata(runtime: &Runtime, id: &str, lines: &[String]) -> Result<()> {
    let container = Container::open_locked(runtime, id)?;
    container.check(Operation::Update)?;
    let Some(group) = &container.record.intel_rdt else {
        return Err(Error::new(Kind::Config, "the container was made without linux.intelRdt")
            .hint("only a container with a resctrl class can get other schemata"));
    };
    if let Some(line) = lines.iter().find(|l| l.contains('\n')) {
        return Err(Error::new(Kind::Config, format!("the schema {line:?} is not one line")));
    }
    rdt::write_schemata(&group.class, lines)
}

/// Sets the limits of the container `id` that `new` has; those that it leaves out, or gives as 0, stay. Device rules
/// stay in any case.
///
/// # Errors
/// [`Kind::State`], `container not running`; [`Kind::Config`] with all values that are wrong; what the kernel
/// refuses.
pub fn update(runtime: &Runtime, id: &str, new: &Resources) -> Result<()> {
    let mut container = Container::open_locked(runtime, id)?;
    container.check(Operation::Update)?;
    let current = match container.record.resources.take() {
        Some(resources) => Some(resources),
        None => parse::json::<Spec>(&container.entry.config()?, "config.json")?.linux.resources,
    };
    let mut facts = cgroup::probe()?;
    if container.record.cgroup.unit.is_some() {
        facts.systemd = Some(cgroup::systemd::probe()?);
    }
    let update = compile_update(current.as_ref(), new, &facts).map_err(|violations| {
        let all: Vec<_> = violations.iter().map(ToString::to_string).collect();
        Error::new(Kind::Config, format!("invalid resources: {}", all.join("; ")))
    })?;
    container.cgroup()?.update(&update)?;
    container.record.resources = Some(update.resources);
    container.entry.write_record(&container.record)
}
