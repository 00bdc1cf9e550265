//! Compose and Swarm files: recognised, and not read yet.

use super::check::Checker;
use crate::config::document::diagnostic::{Diagnostic, Fix};
use crate::config::document::{Data, Node};

/// Whether a document without `apiVersion` and `kind` is one.
pub fn is_file(entries: &[(Node, Node)]) -> bool {
    entries.iter().any(|(key, _)| key.data.text() == Some("services"))
}

/// Says what is wrong with its outline, and that it cannot be applied.
pub fn check(checker: &mut Checker<'_>, node: &Node, entries: &[(Node, Node)]) {
    let message = "Compose and Swarm files are not supported yet";
    let hint = "write a Kubernetes file or a Workload: see `orund explain deployment`";
    checker.problems.push(Diagnostic::new(node.place, "", message).hint(hint));
    for (key, value) in entries {
        let name = key.data.text().unwrap_or_default();
        let data = &value.data;
        if !["services", "networks", "volumes", "configs", "secrets"].contains(&name) || *data == Data::Null {
            continue;
        }
        if !matches!(data, Data::Map(_)) {
            let one = &name[..name.len() - 1];
            let first = match data {
                Data::List(list) => list.first().and_then(|entry| super::semantic::text(entry, "name")),
                _ => None,
            };
            let hint = match &first {
                Some(first) => format!("write `{first}:` instead of `- name: {first}`"),
                None => format!("write `my-{one}:`"),
            };
            let message = format!("{name} must be a mapping, not {}", data.noun());
            let fix = match data {
                Data::List(list) => keyed(checker.text, list),
                _ => None,
            };
            checker.problems.push(Diagnostic::new(value.place, name, message).hint(hint).fix(fix));
        }
    }
}

/// The lines of a list whose entries all begin with `- name: NAME`, with `NAME:` in its place.
fn keyed(text: &str, list: &[Node]) -> Option<Fix> {
    let lines: Vec<&str> = text.lines().collect();
    let first = list.first()?.place.line;
    let mut last = first;
    let mut new: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
    for entry in list {
        let name = super::semantic::text(entry, "name")?;
        let at = entry.place.line as usize - 1;
        let line = lines.get(at)?;
        let written = line.trim_start().strip_prefix("- name:")?;
        if written.trim().trim_matches(['"', '\'']) != name || !super::scalar::is_label(&name) {
            return None;
        }
        let indent = line.len() - line.trim_start().len();
        // The other keys of the entry are indented by two more than its dash.
        new[at] = format!("{}{name}:", " ".repeat(indent));
        last = entry.place.line;
    }
    let to = lines.get(last as usize - 1)?.chars().count() as u32 + 1;
    Some(Fix { from: (first, 1), to: (last, to), text: new[first as usize - 1..last as usize].join("\n") })
}
