//! The fields of Kubernetes' files: the table of the product with the tests that each supported field occurs in, as a ledger
//! (`vendor-specs/kubernetes.jsonl`) and as a page of `docs/`.

use crate::check::{Context, Result, fail};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The table.
pub const TABLE: &str = "src/workload/schema/kubernetes.tsv";
/// What is made from it.
pub const LEDGER: &str = "vendor-specs/kubernetes.jsonl";
pub const PAGE: &str = "docs/kubernetes-fields.md";

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub owner: String,
    pub name: String,
    pub class: String,
    pub default: String,
    pub text: String,
    /// Test sources that write it into a file.
    pub tests: Vec<String>,
}

impl Field {
    fn id(&self) -> String {
        format!("{}.{}", self.owner, self.name)
    }
}

/// The sources of tests: path from the top, and text.
fn sources(top: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = ["src", "tests"].map(|dir| top.join(dir)).to_vec();
    while let Some(dir) = todo.pop() {
        for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()) {
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let name = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().into_owned();
            if !name.ends_with(".rs") && !name.starts_with("tests/seed/") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            // Beside the code only what is below its tests counts.
            let whole = name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("/tests.rs");
            let tests =
                if whole { Some(text.as_str()) } else { text.split_once("#[cfg(test)]\nmod ").map(|t| t.1) };
            found.extend(tests.map(|text| (name, text.to_owned())));
        }
    }
    found.sort();
    found
}

/// Whether `text` writes the field: `name:`, or `"name":`, also within a string of the source.
fn writes(text: &str, field: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.match_indices(field).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + field.len()..].trim_start_matches(['\\', '"']);
        before.is_none_or(|c| !word(c)) && after.starts_with(':')
    })
}

/// All fields, in the order of the table.
///
/// # Errors
/// The table cannot be read.
pub fn read(top: &Path) -> Result<Vec<Field>> {
    let text = fs::read_to_string(top.join(TABLE)).context(TABLE)?;
    let sources = sources(top);
    let mut all = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [id, _, class, default, text] = columns[..] else {
            return fail(format!("{TABLE}: not five columns: {line}"));
        };
        let (owner, name) = id.split_once('.').unwrap_or((id, ""));
        let tests =
            sources.iter().filter(|(_, t)| class == "done" && writes(t, name)).map(|(n, _)| n.clone());
        let (owner, name, class) = (owner.to_owned(), name.to_owned(), class.to_owned());
        let (default, text, tests) = (default.to_owned(), text.to_owned(), tests.collect());
        all.push(Field { owner, name, class, default, text, tests });
    }
    Ok(all)
}

/// The ledger.
pub fn ledger(fields: &[Field]) -> String {
    let row = |f: &Field| {
        let mut row = json!({"id": f.id(), "what": f.text, "class": f.class});
        if !f.tests.is_empty() {
            row["tests"] = f.tests.iter().take(3).cloned().collect::<Vec<_>>().into();
        }
        format!("{row}\n")
    };
    fields.iter().map(row).collect()
}

fn words(class: &str) -> &str {
    match class {
        "done" => "supported",
        "warned" => "no effect, with a warning",
        "silent" => "no effect on one host",
        "later" => "not yet",
        _ => "refused",
    }
}

/// The page.
pub fn page(fields: &[Field]) -> String {
    let mut out = String::from(
        "# Every field of Kubernetes' files\n\nWhat `orund` does with each field of the kinds that it reads; `orund explain` prints the same. \
         [Kubernetes files on one host](kubernetes-files.md) explains how. Written by `runtime-tests --write-ledger` from \
         `src/workload/schema/kubernetes.tsv`.\n\n| | fields |\n| --- | ---: |\n",
    );
    for class in ["done", "warned", "silent", "later", "refused"] {
        let count = fields.iter().filter(|f| f.class == class).count();
        let _ = writeln!(out, "| {} | {count} |", words(class));
    }
    let mut owner = "";
    for f in fields {
        if f.owner != owner {
            owner = &f.owner;
            let _ = write!(out, "\n## {owner}\n\n| field | | default | |\n| --- | --- | --- | --- |\n");
        }
        let plain = |s: &str| s.replace('|', "\\|");
        let default = if f.default == "-" { String::new() } else { format!("`{}`", plain(&f.default)) };
        let _ = writeln!(out, "| `{}` | {} | {default} | {} |", f.name, words(&f.class), plain(&f.text));
    }
    out
}

/// Writes both.
///
/// # Errors
/// As for [`read`].
pub fn update(top: &Path) -> Result<()> {
    let fields = read(top)?;
    fs::write(top.join(LEDGER), ledger(&fields))?;
    fs::write(top.join(PAGE), page(&fields))?;
    Ok(())
}
