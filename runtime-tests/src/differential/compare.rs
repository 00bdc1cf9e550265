//! Which differences there are, which of them are explained, and the page.

use super::mutations::Document;
use super::run::{Outcome, Results};
use crate::check::{Context, Result, fail};
use crate::runtime::Runtime;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The explanations, below the top of the project.
pub const ROWS: &str = "vendor-specs/differences.jsonl";
/// The page that is made of a whole run.
pub const PAGE: &str = "docs/differential.md";

/// Why a difference is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The document, or `*`.
    pub document: String,
    /// The property; `*` at its beginning or end stands for anything.
    pub property: String,
    /// The change, likewise.
    pub change: String,
    /// The class of outcome of the runtime in question, and of runc.
    pub ours: String,
    /// That of runc.
    pub runc: String,
    /// The reason, with its source.
    pub why: String,
    /// It does not show in every run.
    pub sometimes: bool,
}

/// Reads the explanations of the project in `top`.
///
/// # Errors
/// The file is missing, or a line of it is not a valid row.
pub fn rows(top: &Path) -> Result<Vec<Row>> {
    let path = top.join(ROWS);
    let text = fs::read_to_string(&path).context(&path.display().to_string())?;
    text.lines().filter(|l| !l.trim().is_empty()).map(row).collect()
}

fn row(line: &str) -> Result<Row> {
    let value: Value = serde_json::from_str(line).context(line)?;
    let text = |key: &str| value[key].as_str().unwrap_or("").to_owned();
    let row = Row {
        document: text("document"),
        property: text("property"),
        change: text("change"),
        ours: text("ours"),
        runc: text("runc"),
        why: text("why"),
        sometimes: value["sometimes"].as_bool().unwrap_or(false),
    };
    if [&row.document, &row.property, &row.change, &row.ours, &row.runc, &row.why]
        .iter()
        .any(|t| t.is_empty())
    {
        return fail(format!("a row needs document, property, change, ours, runc, why: {line}"));
    }
    Ok(row)
}

impl Row {
    fn covers(&self, d: &Difference) -> bool {
        is_like(&self.document, d.document.name())
            && is_like(&self.property, &d.property)
            && is_like(&self.change, &d.change)
            && self.ours == d.ours.class()
            && self.runc == d.runc.class()
    }
}

fn is_like(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), _) => text.ends_with(end),
        (_, Some(begin)) => text.starts_with(begin),
        _ => pattern == text,
    }
}

/// One change of which something else comes than with runc.
#[derive(Debug, Clone)]
pub struct Difference {
    document: Document,
    property: String,
    change: String,
    ours: Outcome,
    runc: Outcome,
    crun: Option<Outcome>,
    why: Option<String>,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Compared {
    /// How many changes were made.
    pub changes: usize,
    /// Of which crun makes something else than both others.
    pub crun_alone: usize,
    /// All differences from runc.
    pub differences: Vec<Difference>,
    /// Rows that no difference needs.
    pub unused: Vec<Row>,
}

impl Compared {
    /// Unexplained differences and stale rows, one line each.
    pub fn problems(&self, whole: bool) -> Vec<String> {
        let mut all: Vec<String> =
            self.differences.iter().filter(|d| d.why.is_none()).map(describe).collect();
        if whole {
            let unused =
                |r: &Row| format!("no such difference any more: {} {} {}", r.document, r.property, r.change);
            all.extend(self.unused.iter().map(unused));
        }
        all
    }
}

fn describe(d: &Difference) -> String {
    let crun = d.crun.as_ref().map(|o| format!("; crun {}", short(o, &d.ours))).unwrap_or_default();
    let name = d.document.name();
    let (ours, runc) = (short(&d.ours, &d.runc), short(&d.runc, &d.ours));
    format!("{name} {} [{}]: ours {ours}; runc {runc}{crun}", d.property, d.change)
}

/// In what an outcome differs from another one, in a few words.
fn short(outcome: &Outcome, other: &Outcome) -> String {
    let same = |name: &str, value: &str| match other {
        Outcome::Accepted(facts) => facts.get(name).is_some_and(|v| v == value),
        _ => false,
    };
    match outcome {
        Outcome::Refused(message) => format!("refused: {message}"),
        Outcome::Accepted(facts) if facts.is_empty() => "accepted, nothing changed".into(),
        Outcome::Accepted(facts) => {
            let facts: Vec<_> = facts.iter().filter(|(k, v)| !same(k, v)).collect();
            let list: Vec<String> = facts.iter().take(6).map(|(k, v)| format!("{k}={v}")).collect();
            let more = if facts.len() > 6 { format!(" and {} more", facts.len() - 6) } else { String::new() };
            if facts.is_empty() { "accepted".into() } else { format!("accepted: {}{more}", list.join(" ")) }
        }
        Outcome::Hung => "hung".into(),
    }
}

/// Compares the first runtime with the one called runc.
///
/// # Errors
/// There is no runc among them, or a change has no outcome.
pub fn compare(results: &Results, runtimes: &[Runtime], rows: &[Row]) -> Result<Compared> {
    let (Some(first), Some(runc)) = (runtimes.first(), runtimes.iter().skip(1).find(|r| r.is("runc"))) else {
        return fail("--differential compares the first runtime with runc: name both with --runtime");
    };
    let crun = runtimes.iter().skip(1).find(|r| r.is("crun"));
    let mut compared = Compared { changes: results.len(), ..Compared::default() };
    let mut used = BTreeSet::new();
    for ((document, property, change), outcomes) in results {
        let of = |r: &Runtime| outcomes.get(&r.path).cloned();
        let (Some(ours), Some(theirs)) = (of(first), of(runc)) else {
            return fail(format!("{} {property} [{change}] has no outcome", document.name()));
        };
        let crun = crun.and_then(of);
        if ours.is_like(&theirs) {
            compared.crun_alone += usize::from(crun.is_some_and(|c| !c.is_like(&ours)));
            continue;
        }
        let (property, change) = (property.clone(), change.clone());
        let mut d = Difference { document: *document, property, change, ours, runc: theirs, crun, why: None };
        if let Some((at, row)) = rows.iter().enumerate().find(|(_, r)| r.covers(&d)) {
            used.insert(at);
            d.why = Some(row.why.clone());
        }
        compared.differences.push(d);
    }
    compared.unused = rows
        .iter()
        .enumerate()
        .filter(|(i, row)| !used.contains(i) && !row.sometimes)
        .map(|(_, r)| r.clone())
        .collect();
    Ok(compared)
}

/// The page of a whole run.
pub fn page(compared: &Compared, runtimes: &[Runtime]) -> String {
    let mut text = String::from(
        "# Differences from runc and crun\n\n<!-- written by runtime-tests --differential --write-page -->\n\n",
    );
    let versions: Vec<&str> = runtimes.iter().map(|r| r.version.as_str()).collect();
    let _ = writeln!(
        text,
        "`runtime-tests --differential` makes {} changes of config.json, of process.json and of the resources of `update`, from tables \
         (`runtime-tests/src/differential`), on every runtime, and compares the outcomes: refused, or accepted with the values that the \
         probe then sees in the container. A difference between orun and runc without a reason in `{ROWS}`, and a reason without its \
         difference, fail the run.\n\nThis page is of {} ({}): {} changes have the same outcome on orun and runc, {} of them another one \
         on crun; {} differ, and this is why. Linux {}.\n",
        compared.changes,
        versions.join(", "),
        super::run::machine(),
        compared.changes - compared.differences.len(),
        compared.crun_alone,
        compared.differences.len(),
        nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default(),
    );
    text.push_str(
        "| document | property | change | orun | runc | crun | why |\n|---|---|---|---|---|---|---|\n",
    );
    for d in &compared.differences {
        let cell = |o: &Outcome, other: &Outcome| {
            short(o, other).chars().take(160).collect::<String>().replace('|', "\\|").replace('<', "&lt;")
        };
        let crun = d.crun.as_ref().map(|o| cell(o, &d.ours)).unwrap_or_default();
        let why = d.why.as_deref().unwrap_or("**not explained**");
        let (document, property, change) = (d.document.name(), &d.property, &d.change);
        let _ = writeln!(
            text,
            "| {document} | `{property}` | {change} | {} | {} | {crun} | {why} |",
            cell(&d.ours, &d.runc),
            cell(&d.runc, &d.ours)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn runtime(name: &str) -> Runtime {
        Runtime { path: PathBuf::from(name), name: name.into(), version: name.into(), systemd_cgroup: false }
    }

    fn results(ours: Outcome, runc: Outcome) -> Results {
        let outcomes = [(PathBuf::from("orun"), ours), (PathBuf::from("runc"), runc)];
        [((Document::Config, "process.cwd".to_owned(), "relative".to_owned()), outcomes.into())].into()
    }

    fn refused() -> Outcome {
        Outcome::Refused("no".into())
    }

    fn accepted(value: &str) -> Outcome {
        Outcome::Accepted([("/cwd".to_owned(), value.to_owned())].into())
    }

    #[test]
    fn a_difference_needs_its_row_and_a_row_its_difference() {
        let runtimes = [runtime("orun"), runtime("runc")];
        let why = row(r#"{"document":"config.json","property":"process.*","change":"*","ours":"refused","runc":"accepted","why":"x"}"#).unwrap();
        let problems = |r: &Results, rows: &[Row]| compare(r, &runtimes, rows).unwrap().problems(true).len();
        let different = results(refused(), accepted("/"));
        assert_eq!(problems(&different, &[]), 1);
        assert_eq!(problems(&different, std::slice::from_ref(&why)), 0);
        assert_eq!(problems(&results(refused(), refused()), std::slice::from_ref(&why)), 1, "a stale row");
        assert_eq!(
            problems(&results(accepted("/"), refused()), std::slice::from_ref(&why)),
            2,
            "the other way round"
        );
        assert_eq!(problems(&results(accepted("/"), accepted("/")), &[]), 0);
        assert_eq!(problems(&results(accepted("/a"), accepted("/b")), &[]), 1, "another effect");
        assert_eq!(problems(&results(Outcome::Hung, refused()), &[]), 1);
        let rare = Row { sometimes: true, ..why };
        assert_eq!(problems(&results(refused(), refused()), &[rare]), 0, "not in every run");
    }

    #[test]
    fn a_row_has_all_its_columns() {
        assert!(
            row(r#"{"document":"*","property":"*","change":"*","ours":"refused","runc":"accepted"}"#)
                .is_err()
        );
        assert!(is_like("*", "x") && is_like("a*", "ab") && is_like("*b", "ab") && !is_like("a", "ab"));
    }
}
