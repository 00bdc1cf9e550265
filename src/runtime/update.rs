//! `update`: new limits for a container.

use super::Runtime;
use super::container::Container;
use crate::config::parse;
use crate::config::resources::Resources;
use crate::config::spec::Spec;
use crate::error::{Error, Kind, Result};
use crate::kernel::{cgroup, rdt};
use crate::log;
use crate::plan::cgroup::compile_update;
use crate::state::lifecycle::Operation;
use std::borrow::Cow;

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
    rdt::write_schemata(&group.class, lines)
}

/// The lines for the schemata that the flags `--l3-cache-schema` and `--mem-bw-schema` ask for.
///
/// # Errors
/// [`Kind::Usage`]: more than one line, or one about something else.
pub fn schemata(l3: Option<&str>, bandwidth: Option<&str>) -> Result<Vec<String>> {
    let flags = [("--l3-cache-schema", "L3", l3), ("--mem-bw-schema", "MB:", bandwidth)];
    let mut lines = Vec::new();
    for (flag, prefix, line) in flags {
        let Some(line) = line.filter(|l| !l.is_empty()) else { continue };
        if !line.starts_with(prefix) || line.contains('\n') {
            let what = format!("{flag}: {line:?} is not one line that begins with {prefix:?}");
            return Err(Error::new(Kind::Usage, what).hint("for example L3:0=ff;1=ff or MB:0=70;1=20"));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

/// Sets the limits of the container `id` that `new` has; those that it leaves out, or gives as 0, stay. Device rules
/// stay in any case. A `pids.limit` of 0 is a limit where the bundle follows specification 1.3, as in the runc of its
/// time, and stays in older ones.
///
/// # Errors
/// [`Kind::State`], `container not running`; [`Kind::Config`] with all values that are wrong; what the kernel
/// refuses.
pub fn update(runtime: &Runtime, id: &str, new: &Resources) -> Result<()> {
    let mut container = Container::open_locked(runtime, id)?;
    container.check(Operation::Update)?;
    let mut new = new.clone();
    let zero_pids = new.pids.as_ref().is_some_and(|p| p.limit == Some(0));
    let mut current = container.record.resources.take();
    if current.is_none() || zero_pids {
        let spec: Spec = parse::json(&container.entry.config()?, "config.json")?;
        if !spec.zero_pids_is_a_limit() {
            new.pids = new.pids.filter(|_| !zero_pids);
        }
        current = current.or_else(|| spec.resources().map(Cow::into_owned));
    }
    let mut facts = cgroup::probe()?;
    if container.record.cgroup.unit.is_some() {
        facts.systemd = Some(cgroup::systemd::probe()?);
    }
    let update = compile_update(current.as_ref(), &new, &facts).map_err(|violations| {
        let all: Vec<_> = violations.iter().map(ToString::to_string).collect();
        Error::new(Kind::Config, format!("invalid resources: {}", all.join("; ")))
    })?;
    update.warnings.iter().for_each(log::warn);
    container.cgroup()?.update(&update)?;
    container.record.resources = Some(update.resources);
    container.entry.write_record(&container.record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemata_begin_as_they_must() {
        assert_eq!(schemata(Some("L3:0=f"), Some("MB:0=20")).unwrap(), ["L3:0=f", "MB:0=20"]);
        assert_eq!(schemata(Some("L3CODE:0=f"), None).unwrap(), ["L3CODE:0=f"]);
        assert!(schemata(None, Some("")).unwrap().is_empty());
        for (l3, bandwidth) in [
            (Some("MB:0=20"), None),
            (None, Some("L3:0=f")),
            (None, Some("MB:0=2\nL3:0=f")),
            (Some("moon"), None),
        ] {
            let e = schemata(l3, bandwidth).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.to_string().contains("is not one line that begins with"), "{e}");
        }
    }
}
