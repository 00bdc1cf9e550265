//! `apply`: creates and updates the workloads of files.

use hyper::Method;

use super::args::{Apply, Goal};
use super::change::path;
use super::connection::{Call, Client};
use super::wait::Wait;
use super::{manifests, print, yaml};
use crate::api::types::{Applied, List, Outcome, WorkloadObject};
use crate::error::Result;
use crate::workload::Workload;
use similar::TextDiff;
use std::time::Duration;

/// After this a difference need not be the shortest one.
const DIFF_TIME: Duration = Duration::from_secs(2);

/// `apply`.
pub async fn apply(client: &Client, a: &Apply) -> Result<u8> {
    if a.fix {
        return manifests::correct(&manifests::read(&a.files.files)?);
    }
    let workloads = manifests::load_to_run(&a.files.files)?;
    if a.diff {
        return preview(client, &workloads).await;
    }
    let call = Call::new(Method::POST, "/v1/workloads").flag("dryRun", a.dry_run).body(documents(&workloads));
    let applied: List<Applied> = client.fetch(call).await?;
    for item in &applied.items {
        let outcome = match item.outcome {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
        };
        let dry = if a.dry_run { " (dry run)" } else { "" };
        print(&format!("workload/{} {outcome}{dry}\n", item.name))?;
    }
    if a.waiting.wait && !a.dry_run {
        let deadline = tokio::time::Instant::now() + a.waiting.timeout;
        for item in &applied.items {
            let (generation, revision) = (item.generation, item.revision);
            Wait { generation, revision, ..Wait::of(&item.name, Goal::Ready, deadline) }.run(client).await?;
        }
    }
    Ok(0)
}

/// `apply --diff`: prints what would change, and changes nothing. 1 when something would change, 0 when nothing would.
async fn preview(client: &Client, workloads: &[Workload]) -> Result<u8> {
    let call = Call::new(Method::POST, "/v1/workloads").flag("dryRun", true).body(documents(workloads));
    let applied: List<Applied> = client.fetch(call).await?;
    let mut changes = false;
    for (w, item) in workloads.iter().zip(&applied.items) {
        if item.outcome == Outcome::Unchanged {
            continue;
        }
        changes = true;
        let name = &w.metadata.name;
        let before: Option<WorkloadObject> = client.find(Call::get(path(name))).await?;
        let text = |w: &Workload| yaml::text(&serde_json::to_value(w).unwrap_or_default());
        let old = before.map(|b| text(&b.workload)).unwrap_or_default();
        let difference = difference(name, &old, &text(w));
        print(&match difference.is_empty() {
            // What is not in the file: the config.json of a bundle, or that it was stopped.
            true => format!("workload/{name}: no field changes, and its replicas do\n"),
            false => difference,
        })?;
    }
    Ok(changes.into())
}

fn documents(workloads: &[Workload]) -> String {
    let text = |w: &Workload| format!("---\n{}\n", serde_json::to_string(w).unwrap_or_default());
    workloads.iter().map(text).collect()
}

/// A unified difference of two texts; empty when there is none.
fn difference(name: &str, old: &str, new: &str) -> String {
    TextDiff::configure()
        .timeout(DIFF_TIME)
        .diff_lines(old, new)
        .unified_diff()
        .header(&format!("workload/{name} (now)"), &format!("workload/{name} (applied)"))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_show_both_sides_in_their_place() {
        let expected =
            "--- workload/web (now)\n+++ workload/web (applied)\n@@ -1,3 +1,4 @@\n a\n-b\n+B\n c\n+d\n";
        assert_eq!(difference("web", "a\nb\nc\n", "a\nB\nc\nd\n"), expected);
        assert_eq!(difference("web", "a\n", "a\n"), "");
        assert!(difference("web", "", "a\n").ends_with("\n+a\n"));
    }

    #[test]
    fn a_long_object_is_shown_in_hunks() {
        let text = |changed: &[usize]| -> String {
            (0..8000).map(|n| format!("name: V{n}\nvalue: {}\n", changed.contains(&n))).collect()
        };
        let shown = difference("web", &text(&[]), &text(&[7, 4000]));
        assert_eq!((shown.matches("@@ -").count(), shown.lines().count()), (2, 2 + 2 * 9), "{shown}");
    }
}
