//! The result as a Markdown table: areas down, runtimes across.

use crate::matrix::Case;
use crate::runner::{Outcome, Verdict};
use crate::runtime::Runtime;
use std::fmt::Write;

/// Numbers of passed, failed and skipped cases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// All as demanded.
    pub passed: usize,
    /// Something else.
    pub failed: usize,
    /// Said nothing.
    pub skipped: usize,
}

/// Counts the outcomes that a condition selects.
pub fn count(outcomes: &[Outcome], select: impl Fn(&Outcome) -> bool) -> Counts {
    let mut counts = Counts::default();
    for outcome in outcomes.iter().filter(|o| select(o)) {
        match outcome.verdict {
            Verdict::Passed => counts.passed += 1,
            Verdict::Failed(_) => counts.failed += 1,
            Verdict::Skipped(_) => counts.skipped += 1,
        }
    }
    counts
}

/// The table, and below it the names of the cases that each runtime fails.
pub fn markdown(runtimes: &[Runtime], cases: &[Case], outcomes: &[Outcome]) -> String {
    let mut text = String::from("| area |");
    for runtime in runtimes {
        let _ = write!(text, " {} |", runtime.version);
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(runtimes.len()));
    text.push('\n');
    let mut areas: Vec<&str> = Vec::new();
    for case in cases {
        if !areas.contains(&case.area()) {
            areas.push(case.area());
        }
    }
    let row = |text: &mut String, name: &str, select: &dyn Fn(&Outcome) -> bool| {
        let _ = write!(text, "| {name} |");
        for index in 0..runtimes.len() {
            let c = count(outcomes, |o| o.runtime == index && select(o));
            let _ = write!(text, " {}/{} |", c.passed, c.passed + c.failed);
        }
        text.push('\n');
    };
    for area in areas {
        row(&mut text, area, &|o| o.case.split('/').next() == Some(area));
    }
    row(&mut text, "**all**", &|_| true);
    for (index, runtime) in runtimes.iter().enumerate() {
        let mut failed: Vec<&str> = outcomes
            .iter()
            .filter(|o| o.runtime == index && matches!(o.verdict, Verdict::Failed(_)))
            .map(|o| o.case.as_str())
            .collect();
        failed.sort_unstable();
        if !failed.is_empty() {
            let names: Vec<_> = failed.iter().map(|n| format!("`{n}`")).collect();
            let _ = write!(text, "\nFailed by {}: {}.\n", runtime.version, names.join(", "));
        }
    }
    text
}
