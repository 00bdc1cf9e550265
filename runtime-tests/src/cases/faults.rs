//! A fault at every operation of a plan: one clear error, and nothing is left.

use super::samples::{NAMES, Sample};
use crate::case::{T, one_error};
use crate::check::{Context, Done, Result, has};
use crate::command::{Cmd, Output};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::Value;

const SOURCE: &str = "ORUN_TEST_FAULT=N: operation N of the plan fails with EIO";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for name in NAMES {
        m.case(format!("faults/run-{name}"), SOURCE, move |t| run(t, name));
        m.case(format!("faults/create-{name}"), SOURCE, move |t| create(t, name));
    }
}

/// What each operation of the container process is called.
fn operations(t: &T<'_>, sample: &Sample, id: &str) -> Result<Vec<String>> {
    let out = t.verb("plan").args(["--json", "--id", id]).arg(&sample.bundle.dir).ok()?;
    let plan: Value = serde_json::from_str(&out.stdout).context("the plan")?;
    let phases = plan["phases"].as_array().into_iter().flatten();
    let steps = phases.flat_map(|p| p["steps"].as_array().into_iter().flatten());
    let words: Vec<String> =
        steps.filter(|s| s["op"].is_u64()).map(|s| s["what"].as_str().unwrap_or("").to_owned()).collect();
    ensure!(words.len() > 30 && words.iter().all(|w| !w.is_empty()), "the plan has the steps {words:?}");
    Ok(words)
}

/// What the error must say: the operation, or its object where callers look for the words of other runtimes.
fn expected(operation: &str) -> String {
    if operation.starts_with("looking for the program") || operation == "running the program" {
        return "exec".to_owned();
    }
    match operation.strip_prefix("running the ").and_then(|o| o.split_once(" hook #")) {
        Some((kind, rest)) => format!("{kind} hook #{}", rest.split(' ').next().unwrap_or("")),
        None => operation.to_owned(),
    }
}

/// Runs a verb that must fail with status 1 and one error, which is returned.
fn one_failure(t: &T<'_>, verb: impl FnOnce(Cmd) -> Cmd) -> Result<(String, Output)> {
    let log = t.path("log.json");
    let out = verb(t.runtime().arg("--log").arg(&log).args(["--log-format", "json"])).output()?.exits(1)?;
    let error = one_error(&log).context(&out.describe())?;
    Ok((error, out))
}

fn names(error: &str, operation: &str, out: &Output) -> Done {
    has("error", error, &expected(operation)).context(&out.describe())?;
    has("error", error, "input/output error")
}

fn run(t: &mut T<'_>, name: &str) -> Done {
    t.only("orun")?;
    let sample = Sample::make(t, name)?;
    let id = t.id();
    // `run` does not wait for `start`, and need not end before it.
    const OF_CREATE: [&str; 2] = ["waiting for \"orun start\"", "restoring the default action of"];
    let of_run = |o: &String| !OF_CREATE.iter().any(|words| o.starts_with(words));
    let operations = operations(t, &sample, &id)?.into_iter().filter(of_run);
    for (n, operation) in operations.enumerate() {
        let verb = |cmd: Cmd| {
            let cmd = sample.verb(cmd, "run").env("ORUN_TEST_FAULT", n.to_string());
            cmd.args(["--detach", id.as_str()])
        };
        let check = || {
            let (error, out) = one_failure(t, verb)?;
            names(&error, &operation, &out)?;
            t.nothing_left()
        };
        check().context(&format!("operation {n}, {operation}"))?;
    }
    Ok(())
}

fn create(t: &mut T<'_>, name: &str) -> Done {
    t.only("orun")?;
    let sample = Sample::make(t, name)?;
    let id = t.id();
    let operations = operations(t, &sample, &id)?;
    let Some(wait) = operations.iter().position(|o| o.starts_with("waiting for \"orun start\"")) else {
        return crate::check::fail("the container does not wait for start");
    };
    for (n, operation) in operations.iter().enumerate() {
        let verb = |cmd: Cmd| sample.verb(cmd, "create").env("ORUN_TEST_FAULT", n.to_string()).arg(&id);
        let check = || {
            if n < wait {
                let (error, out) = one_failure(t, verb)?;
                names(&error, operation, &out)?;
                return t.nothing_left();
            }
            verb(t.runtime()).ok()?;
            // As with runc, start succeeds for a program that the kernel refuses: the container exits.
            if operation == "running the program" {
                let out = t.runtime().args(["start", id.as_str()]).output()?.exits(0)?;
                has("standard error", &out.stderr, "input/output error")?;
                t.verb("delete").arg("--force").arg(&id).ok()?;
                return t.nothing_left();
            }
            let (error, out) = one_failure(t, |cmd| cmd.args(["start", id.as_str()]))?;
            if n > wait {
                names(&error, operation, &out)?;
            }
            t.verb("delete").arg("--force").arg(&id).ok()?;
            t.nothing_left()
        };
        check().context(&format!("operation {n}, {operation}"))?;
    }
    Ok(())
}
