//! The plainest container, and what every container must be.

use crate::check::{has, same};
use crate::ensure;
use crate::matrix::Matrix;

const SPEC: &str = "runtime.md Lifecycle";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    m.case("basics/run-true", SPEC, |t| {
        let out = t.run(&t.bundle()?.args(&["true"]))?.ok()?;
        same("stdout", out.stdout.as_str(), "")
    });
    m.case("basics/run-exit-code", "cli exit codes: the program's status", |t| {
        t.run(&t.bundle()?.args(&["probe", "exit", "42"]))?.exits(42).map(drop)
    });
    m.case("basics/report", SPEC, |t| {
        let report = t.report(&t.bundle()?)?;
        report.is("/pid", 1)?;
        report.is("/hostname", "container")?;
        report.is("/cwd", "/")
    });
    m.case("basics/stdin-is-inherited", "runc contract: stdio is the caller's", |t| {
        let cmd = t.run_cmd(&t.bundle()?.args(&["probe", "stdin"]))?;
        let out = cmd.stdin("hello").ok()?;
        has("stdout", &out.stdout, "stdin=\"hello\"")
    });
    m.case("basics/create-start-state-kill-delete", SPEC, |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        c.is("created")?;
        ensure!(!c.output().contains("ready"), "the program ran before start");
        c.start()?;
        c.await_output("ready")?;
        c.is("running")?;
        c.kill("TERM")?;
        c.becomes("stopped")?;
        c.delete()?;
        c.verb("state").output()?.fails_with(&["does not exist"])?;
        t.nothing_left()
    });
}
