//! The outcomes as a Markdown table: features down, runtimes across; and whether all is well.

use crate::run::Outcome;
use runtime_tests::cgroup::Layout;
use runtime_tests::check::Fail;
use std::fmt::Write;

/// The table. A case that a runtime fails is named in it.
pub fn markdown(names: &[&str], versions: &[&str], layout: Layout, outcomes: &[Outcome]) -> String {
    let mut text = format!("cgroup layout: {layout:?}; {}.\n\n| engine | feature |", versions.join(", "));
    for name in names {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(names.len()));
    text.push('\n');
    for case in in_order(outcomes) {
        let (engine, feature) = case.split_once('/').unwrap_or((case, ""));
        let _ = write!(text, "| {engine} | {feature} |");
        for runtime in 0..names.len() {
            let cell = outcomes.iter().find(|o| o.case == case && o.runtime == runtime).map(cell);
            let _ = write!(text, " {} |", cell.unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

fn in_order(outcomes: &[Outcome]) -> Vec<&str> {
    let mut cases: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !cases.contains(&outcome.case.as_str()) {
            cases.push(&outcome.case);
        }
    }
    cases
}

fn cell(outcome: &Outcome) -> String {
    let word = match outcome.result {
        Ok(()) => "yes",
        Err(Fail::Failed(_)) => "**no**",
        Err(Fail::Skipped(_)) => "-",
    };
    if outcome.note.is_empty() { word.to_owned() } else { format!("{word} ({})", outcome.note) }
}

/// Whether every runtime has passed everything, but for what the runtime `reference` fails too: that is the
/// environment's. Prints both kinds of failures.
pub fn verdict(names: &[&str], reference: Option<&str>, outcomes: &[Outcome]) -> bool {
    let failed = |o: &&Outcome| matches!(o.result, Err(Fail::Failed(_)));
    let position = reference.and_then(|r| names.iter().position(|n| *n == r));
    let excused: Vec<&str> = outcomes
        .iter()
        .filter(failed)
        .filter(|o| Some(o.runtime) == position)
        .map(|o| o.case.as_str())
        .collect();
    let mut well = true;
    for outcome in outcomes.iter().filter(failed).filter(|o| Some(o.runtime) != position) {
        let name = names[outcome.runtime];
        if excused.contains(&outcome.case.as_str()) {
            println!("{name} fails {}, as {} does here", outcome.case, reference.unwrap_or(""));
        } else {
            println!("{name} fails {}", outcome.case);
            well = false;
        }
    }
    let passed = outcomes.iter().filter(|o| o.result.is_ok()).count();
    println!("{passed} of {} passed", outcomes.len());
    well
}
