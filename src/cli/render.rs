//! Tables for people and documents for programs.

use super::columns::Columns;
use super::print;
use crate::error::{Error, Kind, Result};
use crate::log::printable;
use crate::runtime::doctor::{Finding, Verdict};
use crate::runtime::state::State;
use serde::Serialize;

/// Prints a document, indented as runc does.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(json(value, serde_json::to_string_pretty)? + "\n"))
}

pub(super) fn json<T: Serialize>(value: &T, to_text: fn(&T) -> serde_json::Result<String>) -> Result<String> {
    // Paths that are not UTF-8 have no form in JSON.
    to_text(value)
        .map_err(|e| Error::new(Kind::Unsupported, format!("the result cannot be written as JSON: {e}")))
}

/// The table of `list`, with runc's columns and widths.
pub fn table(states: &[State]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec()];
    rows.extend(states.iter().map(|s| {
        vec![
            s.id.clone(),
            s.pid.to_string(),
            s.status.to_string(),
            s.bundle.display().to_string(),
            s.created.clone(),
            s.owner.clone(),
        ]
    }));
    Columns::at_least(9).lines(&rows)
}

/// The findings of `doctor`, one line each, followed by hints.
pub fn findings(found: &[Finding]) -> String {
    let width = found.iter().map(|f| f.subject.len()).max().unwrap_or(0);
    let mut out = String::new();
    for f in found {
        let mark = match f.verdict {
            Verdict::Works => "ok     ",
            Verdict::Limited => "limited",
            Verdict::Broken => "BROKEN ",
        };
        out.push_str(&format!("{mark}  {:width$}  {}\n", f.subject, printable(&f.text)));
        if let Some(advice) = &f.advice {
            out.push_str(&format!("{:9}{:width$}  -> {advice}\n", "", ""));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::lifecycle::Status;
    use std::collections::BTreeMap;

    #[test]
    fn columns_line_up() {
        let state = State {
            oci_version: "1.3.0",
            id: "a-container-with-a-long-name".to_owned(),
            pid: 42,
            status: Status::Running,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-11-23T21:34:57.5Z".to_owned(),
            annotations: BTreeMap::new(),
            owner: "root".to_owned(),
        };
        assert_eq!(
            table(&[state]),
            "ID                             PID         STATUS      BUNDLE      CREATED                  OWNER\n\
             a-container-with-a-long-name   42          running     /b          2026-11-23T21:34:57.5Z   root\n"
        );
        assert_eq!(table(&[]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }
}
