//! Services whose names other workloads of the host have: their objects get other names, and what refers to them too.

use std::collections::BTreeMap;

use super::{ALIASES, PROJECT, SERVICE};
use crate::workload::kept::KeptKind;
use crate::workload::object::Object;

/// The project and the service that labels name.
pub fn service_of(labels: &BTreeMap<String, String>) -> Option<(&str, &str)> {
    Some((labels.get(PROJECT)?, labels.get(SERVICE)?))
}

/// The name of a workload that another one of this host would have too.
pub fn qualified(project: &str, name: &str) -> String {
    super::values::label(&format!("{project}-{name}"))
}

/// Gives the workloads and Services of a project these names instead of theirs. The name of before remains an alias.
pub fn rename(objects: &mut [Object], names: &BTreeMap<String, String>) {
    for object in objects {
        match object {
            Object::Workload { workload, .. } => {
                if let Some(new) = names.get(&workload.metadata.name) {
                    workload.metadata.name.clone_from(new);
                }
                for dependency in &mut workload.spec.depends_on {
                    if let Some(new) = names.get(&dependency.workload) {
                        dependency.workload.clone_from(new);
                    }
                }
            }
            Object::Kept(kept) if kept.kind == KeptKind::Service => {
                let Some(new) = names.get(&kept.metadata.name) else { continue };
                let old = std::mem::replace(&mut kept.metadata.name, new.clone());
                let aliases = kept.metadata.annotations.entry(ALIASES.to_owned()).or_default();
                *aliases = if aliases.is_empty() { old } else { format!("{old},{aliases}") };
            }
            Object::Kept(_) | Object::Inert { .. } => {}
        }
    }
}
