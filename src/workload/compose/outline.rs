//! Whether a document is a Compose file, and whether its outline is one.

use crate::config::document::diagnostic::{Diagnostic, Fix};
use crate::config::document::{Data, Node};
use crate::workload::{scalar, semantic};

/// Whether a document without `apiVersion` and `kind` is one.
#[must_use]
pub fn is_file(node: &Node) -> bool {
    let Data::Map(entries) = &node.data else { return false };
    let has = |name: &str| entries.iter().any(|(key, _)| key.data.text() == Some(name));
    let includes =
        entries.iter().any(|(k, v)| k.data.text() == Some("include") && matches!(v.data, Data::List(_)));
    !has("apiVersion") && !has("kind") && (has("services") || includes)
}

/// Whether the sections of a file are mappings; errors are reported.
pub fn check(problems: &mut Vec<Diagnostic>, source: &str, node: &Node) -> bool {
    let Data::Map(entries) = &node.data else {
        let message = format!("a Compose file must be a mapping, not {}", node.data.noun());
        problems.push(Diagnostic::new(node.place, "", message).hint("it begins with `services:`".to_owned()));
        return false;
    };
    let before = problems.len();
    for (key, value) in entries {
        let name = key.data.text().unwrap_or_default();
        let data = &value.data;
        if !["services", "networks", "volumes", "configs", "secrets"].contains(&name) || *data == Data::Null {
            continue;
        }
        if !matches!(data, Data::Map(_)) {
            let one = &name[..name.len() - 1];
            let first = match data {
                Data::List(list) => list.first().and_then(|entry| semantic::text(entry, "name")),
                _ => None,
            };
            let hint = match &first {
                Some(first) => format!("write `{first}:` instead of `- name: {first}`"),
                None => format!("write `my-{one}:`"),
            };
            let message = format!("{name} must be a mapping, not {}", data.noun());
            let fix = match data {
                Data::List(list) => keyed(source, list),
                _ => None,
            };
            problems.push(Diagnostic::new(value.place, name, message).hint(hint).fix(fix));
        }
    }
    problems.len() == before
}

/// The lines of a list whose entries all begin with `- name: NAME`, with `NAME:` in its place.
fn keyed(text: &str, list: &[Node]) -> Option<Fix> {
    let lines: Vec<&str> = text.lines().collect();
    let first = list.first()?.place.line;
    let mut last = first;
    let mut new: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
    for entry in list {
        let name = semantic::text(entry, "name")?;
        let at = entry.place.line as usize - 1;
        let line = lines.get(at)?;
        let written = line.trim_start().strip_prefix("- name:")?;
        if written.trim().trim_matches(['"', '\'']) != name || !scalar::is_label(&name) {
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
