//! The ledgers in `vendor-specs/`: for every property, rule, flag and line of the contract, where it is implemented and
//! which test proves it; and the tables of docs/ that are made from them.

use crate::check::{Context, Result, fail};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The ledgers: name of the file, heading.
pub const LEDGERS: [(&str, &str); 4] = [
    ("properties", "Properties of config.json"),
    ("rules", "Rules of the runtime specification"),
    ("cli", "Commands and flags"),
    ("contract", "What callers of runc depend on"),
];

/// The path of the long tables, below the top of the project.
pub const PAGE: &str = "docs/conformance-ledger.md";
/// The page with the summary.
pub const SUMMARY: &str = "docs/conformance.md";
const BEGIN: &str = "<!-- ledger: written by runtime-tests --write-ledger -->\n";
const END: &str = "<!-- end of ledger -->\n";

/// One row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The property, rule, flag or line.
    pub id: String,
    /// What it asks for, in our own words.
    pub what: String,
    /// The files that implement it.
    pub code: Vec<String>,
    /// What proves it: a case of the harness (`area/what`), or `file.rs::function`.
    pub tests: Vec<String>,
    /// What proves that bad input is reported; for properties.
    pub bad: Vec<String>,
    /// The feature is missing: a file and the words in it that refuse. The row is valid as long as they exist.
    pub refused: Option<(String, String)>,
    /// The build of orun that is wrong about this row on purpose, and that one of the cases has to notice.
    pub mutant: Option<String>,
}

fn strings(row: &Value, key: &str) -> Vec<String> {
    match &row[key] {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

impl Row {
    fn parse(line: &str) -> Result<Row> {
        let row: Value = serde_json::from_str(line).context(line)?;
        let known = ["id", "what", "code", "tests", "bad", "refused", "mutant"];
        if let Some(key) =
            row.as_object().into_iter().flatten().map(|(k, _)| k).find(|k| !known.contains(&&***k))
        {
            return fail(format!("a ledger has no column {key:?}: {line}"));
        }
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let refused = strings(&row, "refused");
        let row = Row {
            id: text("id"),
            what: text("what"),
            code: strings(&row, "code"),
            tests: strings(&row, "tests"),
            bad: strings(&row, "bad"),
            refused: refused.first().cloned().zip(refused.get(1).cloned()),
            mutant: row["mutant"].as_str().map(str::to_owned),
        };
        if row.id.is_empty() || row.what.is_empty() {
            return fail(format!("a row without id or what: {line}"));
        }
        Ok(row)
    }
}

/// The rows of one ledger.
///
/// # Errors
/// The file does not exist, or a line of it is invalid.
pub fn read(top: &Path, name: &str) -> Result<Vec<Row>> {
    let path = top.join("vendor-specs").join(format!("{name}.jsonl"));
    let text = fs::read_to_string(&path).context(&path.display().to_string())?;
    text.lines().filter(|l| !l.trim().is_empty()).map(Row::parse).collect()
}

/// The page with all rows.
///
/// # Errors
/// As for [`read`].
pub fn page(top: &Path) -> Result<String> {
    let mut out = String::from(
        "# Conformance, row by row\n\nWritten by `runtime-tests --write-ledger` from the ledgers in `vendor-specs/`. A test is a case of \
         the harness (`area/what`) or a unit test (`file::function`). A mutant is a build of orun that is wrong on purpose about the \
         row; one of its cases is seen to fail with it.\n",
    );
    for (name, heading) in LEDGERS {
        let rows = read(top, name)?;
        let _ = write!(out, "\n## {heading}\n\n| | what | where | tests | mutant |\n|---|---|---|---|---|\n");
        for r in rows {
            let plain = |s: &str| s.replace('|', "\\|");
            let code: Vec<_> = r.code.iter().map(|c| format!("[{}](../{c})", short(c))).collect();
            let tests: Vec<_> = r.tests.iter().chain(&r.bad).map(|t| format!("`{}`", short(t))).collect();
            let tests =
                if r.refused.is_some() { "refused, with a clear error".to_owned() } else { tests.join(" ") };
            let mutant = r.mutant.as_ref().map(|m| format!("`{m}`")).unwrap_or_default();
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {tests} | {mutant} |",
                plain(&r.id),
                plain(&r.what),
                code.join(" ")
            );
        }
    }
    Ok(out)
}

fn short(path: &str) -> &str {
    path.strip_prefix("src/").unwrap_or(path)
}

/// The summary for [`SUMMARY`].
///
/// # Errors
/// As for [`read`].
pub fn summary(top: &Path) -> Result<String> {
    let mut out =
        format!("{BEGIN}| ledger | rows | with tests | proved | missing |\n|---|---:|---:|---:|---|\n");
    for (name, heading) in LEDGERS {
        let rows = read(top, name)?;
        let missing: Vec<_> = rows.iter().filter(|r| r.refused.is_some()).collect();
        let mut groups: Vec<String> = missing.iter().map(|r| group(&r.id)).collect();
        groups.dedup();
        let _ = writeln!(
            out,
            "| [{heading}](../vendor-specs/{name}.jsonl) | {} | {} | {} | {} |",
            rows.len(),
            rows.len() - missing.len(),
            rows.iter().filter(|r| r.mutant.is_some()).count(),
            groups.join(", ")
        );
    }
    out.push_str(END);
    Ok(out)
}

/// `checkpoint --image-path` is about `checkpoint`; a global flag and a line of the contract are about themselves.
fn group(id: &str) -> String {
    let verb = id.split(' ').next().filter(|w| *w != "global" && !w.contains('/'));
    format!("`{}`", verb.unwrap_or(id))
}

/// The page with the current summary in it.
///
/// # Errors
/// It has no place for it.
pub fn with_summary(page: &str, summary: &str) -> Result<String> {
    let begin = page.find(BEGIN);
    let end = page.find(END).map(|at| at + END.len());
    match begin.zip(end) {
        Some((begin, end)) if begin < end => Ok([&page[..begin], summary, &page[end..]].concat()),
        _ => fail(format!("{SUMMARY} lacks {BEGIN:?} or {END:?}")),
    }
}

/// Writes the page and the summary.
///
/// # Errors
/// As for [`read`] and [`with_summary`].
pub fn update(top: &Path) -> Result<()> {
    let summarized = top.join(SUMMARY);
    let text = fs::read_to_string(&summarized).context(SUMMARY)?;
    fs::write(top.join(PAGE), page(top)?)?;
    fs::write(summarized, with_summary(&text, &summary(top)?)?)?;
    Ok(())
}
