//! `apply`: creates and updates the objects of files.

use hyper::Method;

use super::args::{Apply, Goal};
use super::connection::{Call, Client};
use super::lookup::path;
use super::wait::Wait;
use super::{build, kept, manifests, print, projects, yaml};
use crate::api::types::{Applied, KeptAnswer, List, Outcome, WorkloadObject};
use crate::error::{Error, Kind, Result};
use crate::workload::{KeptKind, KeptObject, Object};
use serde_json::Value;
use similar::TextDiff;
use std::time::Duration;

/// After this a difference need not be the shortest one.
const DIFF_TIME: Duration = Duration::from_secs(2);

/// `apply`.
pub async fn apply(client: &Client, a: &Apply) -> Result<u8> {
    if a.fix {
        let project = &a.files.project;
        return manifests::correct(&manifests::read(&a.files.files, project)?, project);
    }
    let mut objects = manifests::load_to_run(&a.files.files, &a.files.project)?;
    if !a.building.build {
        build::check(&objects)?;
    }
    let project = projects::project_of(&objects).map(str::to_owned);
    let project = project.as_deref();
    if let Some(project) = project {
        let existing = projects::Existing::fetch(client).await?;
        projects::assign_names(&mut objects, &existing)?;
        projects::report(&objects, &existing, project, a.prune);
    } else if a.prune {
        return Err(Error::new(Kind::Usage, "--prune is only for Compose files"));
    }
    if a.diff {
        return preview(client, &objects).await;
    }
    if a.building.build {
        build::run(&mut objects, &a.building)?;
    }
    let applied = send(client, &objects, a.dry_run, project.filter(|_| a.prune)).await;
    let applied = applied.map_err(|e| match manifests::place_of(&a.files.files, &e.to_string()) {
        Some(place) => e.context(place),
        None => e,
    })?;
    for item in &applied {
        let outcome = match item.outcome {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
            Outcome::Deleted => "deleted",
        };
        let dry = if a.dry_run { " (dry run)" } else { "" };
        print(&format!("{}/{} {outcome}{dry}\n", item.kind, item.name))?;
    }
    if a.waiting.wait && !a.dry_run {
        let deadline = tokio::time::Instant::now() + a.waiting.timeout;
        let workload = |i: &&Applied| KeptKind::from_word(&i.kind).is_none();
        for item in applied.iter().filter(workload) {
            if item.outcome == Outcome::Deleted {
                Wait::for_workload(&item.name, Goal::Delete, deadline).run(client).await?;
                continue;
            }
            let (generation, revision) = (item.generation, item.revision);
            Wait { generation, revision, ..Wait::for_workload(&item.name, Goal::Ready, deadline) }
                .run(client)
                .await?;
        }
    }
    Ok(0)
}

/// One request with everything: all of it is applied, or nothing. `prune`: what else the project has is deleted.
async fn send(
    client: &Client,
    objects: &[Object],
    dry_run: bool,
    prune: Option<&str>,
) -> Result<Vec<Applied>> {
    let document = |o: &Object| match o {
        Object::Workload { workload, .. } => serde_json::to_string(workload),
        Object::Kept(kept) => serde_json::to_string(kept),
        Object::Inert { .. } => Ok(String::new()),
    };
    let body: String =
        objects.iter().map(|o| format!("---\n{}\n", document(o).unwrap_or_default())).collect();
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    let call = Call::new(Method::POST, "/v1/apply").flag("dryRun", dry_run);
    let call = call.with_some("pruneProject", prune).body(body);
    Ok(client.fetch::<List<Applied>>(call).await?.items)
}

/// `apply --diff`: prints what would change, and changes nothing. 1 when something would change, 0 when nothing would.
async fn preview(client: &Client, objects: &[Object]) -> Result<u8> {
    let applied = send(client, objects, true, None).await?;
    let mut changes = false;
    for (object, item) in objects.iter().zip(&applied) {
        if item.outcome == Outcome::Unchanged {
            continue;
        }
        changes = true;
        let name = format!("{}/{}", item.kind, item.name);
        let text = |value: &dyn Fn() -> serde_json::Result<Value>| yaml::text(&value().unwrap_or_default());
        let (old, new) = match object {
            Object::Workload { workload, .. } => {
                let before: Option<WorkloadObject> = client.find(Call::get(path(&item.name))).await?;
                let old = before.map(|b| text(&|| serde_json::to_value(&b.workload)));
                (old, text(&|| serde_json::to_value(workload)))
            }
            Object::Kept(o) => {
                let before: Option<KeptAnswer> =
                    client.find(Call::get(kept::path(o.kind, &item.name))).await?;
                let old = before.map(|b| text(&|| hidden(&b.object)));
                (old, text(&|| hidden(o)))
            }
            Object::Inert { .. } => continue,
        };
        let difference = difference(&name, &old.unwrap_or_default(), &new);
        print(&match difference.is_empty() {
            // Differences that are not in the file: the config.json of a bundle, a stop, the values of a Secret.
            true => format!("{name}: only hidden fields change\n"),
            false => difference,
        })?;
    }
    Ok(changes.into())
}

/// A kept object for people: what a Secret holds is not shown, only its size.
fn hidden(o: &KeptObject) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(o)?;
    if o.kind == KeptKind::Secret
        && let Some(data) = value.get_mut("data").and_then(Value::as_object_mut)
    {
        for (key, bytes) in o.data() {
            data.insert(key, format!("{} bytes", bytes.len()).into());
        }
    }
    Ok(value)
}

/// A unified difference of two texts; empty when there is none.
fn difference(name: &str, old: &str, new: &str) -> String {
    TextDiff::configure()
        .timeout(DIFF_TIME)
        .diff_lines(old, new)
        .unified_diff()
        .header(&format!("{name} (now)"), &format!("{name} (applied)"))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_show_both_sides_in_their_place() {
        let expected =
            "--- workload/web (now)\n+++ workload/web (applied)\n@@ -1,3 +1,4 @@\n a\n-b\n+B\n c\n+d\n";
        assert_eq!(difference("workload/web", "a\nb\nc\n", "a\nB\nc\nd\n"), expected);
        assert_eq!(difference("workload/web", "a\n", "a\n"), "");
        assert!(difference("workload/web", "", "a\n").ends_with("\n+a\n"));
    }

    #[test]
    fn a_long_object_is_shown_in_hunks() {
        let text = |changed: &[usize]| -> String {
            (0..8000).map(|n| format!("name: V{n}\nvalue: {}\n", changed.contains(&n))).collect()
        };
        let shown = difference("workload/web", &text(&[]), &text(&[7, 4000]));
        assert_eq!((shown.matches("@@ -").count(), shown.lines().count()), (2, 2 + 2 * 9), "{shown}");
    }
}
