//! Mutants of orun: builds that are wrong on purpose (`src/mutant.rs`), each for one row of the ledgers. A case of that row has
//! to fail with it, or the case proves nothing.

use crate::check::{Context, Result, fail};
use crate::ledger::{self, LEDGERS};
use crate::matrix::Case;
use crate::runner::{Outcome, Verdict};
use crate::runtime::Runtime;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A row with a mutant.
#[derive(Debug)]
pub struct Mutant {
    /// `ledger: id` of the row.
    pub row: String,
    /// What `$ORUN_MUTANT` is.
    pub name: String,
    /// The cases of the harness that the row names, by position.
    pub cases: Vec<usize>,
}

/// Every `every`th row of the ledgers in `top` that has a mutant.
///
/// # Errors
/// A ledger is invalid; a row has a mutant and names no case.
pub fn read(top: &Path, cases: &[Case], every: usize) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for (ledger, _) in LEDGERS {
        for row in ledger::read(top, ledger)? {
            let Some(name) = row.mutant else { continue };
            let named = row.tests.iter().chain(&row.bad);
            let cases: Vec<_> = named.filter_map(|t| cases.iter().position(|c| c.name == *t)).collect();
            if cases.is_empty() {
                return fail(format!("{ledger}: {}: has a mutant and names no case", row.id));
            }
            mutants.push(Mutant { row: format!("{ledger}: {}", row.id), name, cases });
        }
    }
    Ok(mutants.into_iter().step_by(every.max(1)).collect())
}

/// A script for each mutant that runs `orun` as this mutant, and last one for orun as it is.
///
/// # Errors
/// `orun` is built without its mutants; `dir` cannot be written to.
pub fn runtimes(dir: &Path, orun: &Path, mutants: &[Mutant]) -> Result<Vec<Runtime>> {
    let program = orun.to_string_lossy();
    let make = |(n, name): (usize, &str)| {
        let path = dir.join(format!("mutant{n}"));
        let script = format!("#!/bin/sh\nORUN_MUTANT={} exec {} \"$@\"\n", quoted(name), quoted(&program));
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Runtime { path, name: "orun".into(), version: String::new(), systemd_cgroup: false })
    };
    let names = mutants.iter().map(|m| m.name.as_str()).chain([""]);
    let runtimes = names.enumerate().map(make).collect::<Result<Vec<_>>>()?;
    let nothing = dir.join("nothing");
    fs::write(&nothing, format!("#!/bin/sh\nORUN_MUTANT='verb spec' exec {} \"$@\"\n", quoted(&program)))?;
    let out =
        std::process::Command::new("sh").arg(&nothing).args(["spec", "--bundle", "/nonexistent"]).output();
    match out.context(&program)?.status.success() {
        true => Ok(runtimes),
        false => fail(format!("{program} has no mutants: build it with --features mutants")),
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The pairs of runtime and case to run: orun with all cases, then each mutant with the cases of its row.
pub fn pairs(mutants: &[Mutant]) -> Vec<(usize, usize)> {
    let mutated = mutants.iter().enumerate().flat_map(|(n, m)| m.cases.iter().map(move |case| (n, *case)));
    let mut all: Vec<_> = mutants.iter().flat_map(|m| &m.cases).map(|case| (mutants.len(), *case)).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().chain(mutated).collect()
}

/// Whether a mutant's case still says something: orun passes it, as far as is known, and no other one has noticed the mutant.
pub fn is_open(mutants: &[Mutant], cases: &[Case], pair: (usize, usize), outcomes: &[Outcome]) -> bool {
    let (runtime, case) = pair;
    let sound = |o: &&Outcome| o.runtime == mutants.len();
    let failed = |o: &Outcome| matches!(o.verdict, Verdict::Failed(_));
    let passes =
        |name: &str| outcomes.iter().filter(sound).any(|o| o.case == name && o.verdict == Verdict::Passed);
    runtime == mutants.len()
        || !outcomes.iter().filter(sound).any(|o| o.case == cases[case].name && o.verdict != Verdict::Passed)
            && !outcomes.iter().any(|o| o.runtime == runtime && failed(o) && passes(&o.case))
}

/// The problems: mutants that no case has noticed, and cases that fail without any mutant. The number of mutants that were
/// noticed, and of those whose cases do not run here.
pub fn judge(mutants: &[Mutant], outcomes: &[Outcome]) -> (Vec<String>, usize, usize) {
    let mut of: BTreeMap<usize, Vec<&Outcome>> = BTreeMap::new();
    for o in outcomes {
        of.entry(o.runtime).or_default().push(o);
    }
    let (mut problems, mut noticed, mut skipped) = (Vec::new(), 0, 0);
    let sound = of.remove(&mutants.len()).unwrap_or_default();
    for o in &sound {
        if let Verdict::Failed(why) = &o.verdict {
            problems.push(format!("{} fails without a mutant: {why}", o.case));
        }
    }
    let passes = |case: &str| sound.iter().any(|o| o.case == case && o.verdict == Verdict::Passed);
    for (n, mutant) in mutants.iter().enumerate() {
        let outcomes = of.remove(&n).unwrap_or_default();
        if outcomes.iter().any(|o| matches!(o.verdict, Verdict::Failed(_)) && passes(&o.case)) {
            noticed += 1;
        } else if outcomes.iter().all(|o| !passes(&o.case)) {
            skipped += 1;
        } else {
            let cases: Vec<_> = outcomes.iter().map(|o| o.case.as_str()).collect();
            problems.push(format!("{}: nothing notices {:?}: {}", mutant.row, mutant.name, cases.join(", ")));
        }
    }
    (problems, noticed, skipped)
}
