//! `apply` and `validate`: workload files.

use hyper::Method;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::args::{Apply, Files, Goal};
use super::connection::{Call, Client, encoded};
use super::wait::Wait;
use super::{print, yaml};
use crate::api::types::{Applied, List, Outcome, WorkloadObject};
use crate::config::document::diagnostic::Diagnostics;
use crate::config::workload::{Workload, read};
use crate::error::{Error, Kind, Result};

/// `validate`.
pub fn validate(files: &Files) -> Result<u8> {
    let workloads = load(&files.files)?;
    let names: String =
        workloads.iter().map(|w| format!("workload/{} is valid\n", w.metadata.name)).collect();
    print(&names)?;
    Ok(0)
}

/// `apply`.
pub async fn apply(client: &Client, a: &Apply) -> Result<u8> {
    let workloads = load(&a.files.files)?;
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

/// All workloads of the files. Every error of every file is printed.
fn load(paths: &[PathBuf]) -> Result<Vec<Workload>> {
    let mut workloads: Vec<Workload> = Vec::new();
    let mut problems: Vec<Box<Diagnostics>> = Vec::new();
    let mut twice = None;
    for path in expand(paths)? {
        let (name, text, base) = content(&path)?;
        match read::read(&name, &text, Some(&base)) {
            Ok(more) => {
                let known = |w: &&Workload| workloads.iter().any(|k| k.metadata.name == w.metadata.name);
                twice = twice.or(more.iter().find(known).map(|w| (w.metadata.name.clone(), name)));
                workloads.extend(more);
            }
            Err(e) => problems.push(e),
        }
    }
    for problem in &problems {
        let _ = writeln!(std::io::stderr(), "{problem}\n");
    }
    if let Some(first) = problems.first() {
        let count = problems.iter().map(|p| p.list.len()).sum::<usize>();
        let what = if count == 1 { "an error".to_owned() } else { format!("{count} errors") };
        let files = match problems.len() {
            1 => format!("{:?}", first.file),
            n => format!("{n} files"),
        };
        return Err(Error::new(Kind::Config, format!("{what} in {files}; nothing was applied")));
    }
    match twice {
        Some((name, file)) => {
            Err(Error::new(Kind::Config, format!("workload {name:?} of {file:?} is in another file, too")))
        }
        None => Ok(workloads),
    }
}

/// Files, and for directories the files in them.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let fail = |e| Error::sys(format!("reading the directory {path:?}"), e);
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(path).map_err(fail)?.flatten().map(|entry| entry.path()).collect();
        found.retain(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"));
        if found.is_empty() {
            let e = Error::new(Kind::NotFound, format!("no .yaml, .yml or .json file in {path:?}"));
            return Err(e);
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Name, text and the directory that relative paths in it are from.
fn content(path: &Path) -> Result<(String, String, PathBuf)> {
    let fail = |e| Error::sys(format!("reading {path:?}"), e);
    let mut bytes = Vec::new();
    let limit = crate::config::document::LONGEST as u64 + 1;
    let here = std::env::current_dir().map_err(|e| Error::sys("finding the current directory", e))?;
    let (name, base) = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(fail)?;
        ("standard input".to_owned(), here)
    } else {
        let file = std::fs::File::open(path).map_err(fail)?;
        file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
        (path.display().to_string(), here.join(path.parent().unwrap_or(Path::new(""))))
    };
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Error::new(Kind::Config, format!("{name}:{line}: the file is not UTF-8"))
    })?;
    Ok((name, text, base))
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

    #[test]
    fn directories_are_their_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yaml", "c.json", "README.md"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> = expand(&[dir.path().to_owned(), "-".into()])
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a.yaml", "b.yml", "c.json", "-"]);
    }

    #[test]
    fn bundles_are_relative_to_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.yaml");
        let text = "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {name: web}\nspec: {bundle: ./b}\n";
        std::fs::write(&file, text).unwrap();
        let workloads = load(std::slice::from_ref(&file)).unwrap();
        assert_eq!(Path::new(&workloads[0].spec.containers[0].bundle), dir.path().join("b"));
        let e = load(&[file.clone(), file]).unwrap_err();
        assert!(e.to_string().contains("is in another file, too"), "{e}");
    }
}
