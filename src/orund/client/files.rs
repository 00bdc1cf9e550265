//! `apply`: creates and updates the workloads of files.

use hyper::Method;

use super::args::{Apply, Goal};
use super::connection::{Call, Client, encoded};
use super::wait::Wait;
use super::{manifests, print, yaml};
use crate::api::types::{Applied, List, Outcome, WorkloadObject};
use crate::error::Result;
use crate::workload::Workload;

/// `apply`.
pub async fn apply(client: &Client, a: &Apply) -> Result<u8> {
    if a.fix {
        return manifests::correct(&manifests::read(&a.files.files)?);
    }
    let workloads = manifests::load_to_run(&a.files.files)?;
    if a.diff {
        for w in &workloads {
            show_difference(client, w).await?;
        }
    }
    let documents: String = workloads
        .iter()
        .map(|w| format!("---\n{}\n", serde_json::to_string(w).unwrap_or_default()))
        .collect();
    let call = Call::new(Method::POST, "/v1/workloads").flag("dryRun", a.dry_run).body(documents);
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

/// Prints the lines of the object that would change.
async fn show_difference(client: &Client, w: &Workload) -> Result<()> {
    let path = format!("/v1/workloads/{}", encoded(&w.metadata.name));
    let before: Option<WorkloadObject> = client.find(Call::get(path)).await?;
    let text = |w: &Workload| yaml::text(&serde_json::to_value(w).unwrap_or_default());
    let old = before.map(|b| text(&b.workload)).unwrap_or_default();
    print(&difference(&w.metadata.name, &old, &text(w)))
}

/// A unified difference of two texts; empty when there is none.
fn difference(name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // The length of the longest common subsequence of what is behind each pair of lines.
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] =
                if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut out = format!("--- workload/{name} (now)\n+++ workload/{name} (applied)\n");
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let (sign, line) = if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
            (' ', a[i - 1])
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', a[i - 1])
        } else {
            j += 1;
            ('+', b[j - 1])
        };
        out.push(sign);
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_show_both_sides_in_their_place() {
        let expected = "--- workload/web (now)\n+++ workload/web (applied)\n a\n-b\n+B\n c\n+d\n";
        assert_eq!(difference("web", "a\nb\nc\n", "a\nB\nc\nd\n"), expected);
        assert_eq!(difference("web", "a\n", "a\n"), "");
        assert!(difference("web", "", "a\n").ends_with("\n+a\n"));
    }
}
