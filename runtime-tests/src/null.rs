//! Runtimes that run nothing. What one of them passes proves nothing about any runtime.

use crate::check::Result;
use crate::runner::{Outcome, Verdict};
use crate::runtime::Runtime;
use crate::table;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Name and script. Each says that it is orun, so that no case is left out because it is about another runtime.
const RUNTIMES: [(&str, &str); 3] = [
    ("refuses", "echo no >&2\nexit 1\n"),
    ("nothing", "exit 0\n"),
    (
        "json",
        concat!(
            "log=/dev/stderr\n",
            "while [ $# -gt 0 ]; do\n",
            "\tcase $1 in --log) log=$2 ;; --log=*) log=${1#--log=} ;; esac\n",
            "\tshift\n",
            "done\n",
            "printf '{\"level\":\"error\",\"msg\":\"error: no\",\"time\":\"2020-01-01T00:00:00Z\"}\\n' >>\"$log\"\n",
            "echo 'error: no' >&2\n",
            "exit 1\n",
        ),
    ),
];

/// Writes the three into `dir`: one refuses everything with a word, one does nothing and exits with 0, and one refuses
/// with a JSON line where engines expect it.
///
/// # Errors
/// The directory cannot be written to.
pub fn runtimes(dir: &Path) -> Result<Vec<Runtime>> {
    let version = "case $1 in --version|-v) printf 'orun version 0.0.0\\nspec: 1.3.0\\n'; exit 0 ;; esac\n";
    let make = |(name, script): (&str, &str)| {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{version}{script}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Runtime::find(&path.to_string_lossy())
    };
    RUNTIMES.into_iter().map(make).collect()
}

/// The cases that a null runtime has passed, with its name; then one line for each area with what all three did.
pub fn judge(outcomes: &[Outcome]) -> (Vec<String>, Vec<String>) {
    let passed = outcomes.iter().filter(|o| o.verdict == Verdict::Passed);
    let name = |o: &Outcome| RUNTIMES.get(o.runtime).map_or("?", |(name, _)| name);
    let passed = passed.map(|o| format!("{} passes {}", name(o), o.case)).collect();
    let mut areas: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
    for o in outcomes {
        let area = o.case.split('/').next().unwrap_or(&o.case);
        areas.entry(area).or_default().push(o.clone());
    }
    let line = |(area, outcomes): (&str, Vec<Outcome>)| {
        let n = table::count(&outcomes, |_| true);
        format!("{area}: {} passed, {} failed, {} skipped", n.passed, n.failed, n.skipped)
    };
    (passed, areas.into_iter().map(line).collect())
}
