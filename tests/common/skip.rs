//! How a test reports that it cannot run on this host.

use std::io::Write;

/// Set by `scripts/check`, so that a check as root takes as long as one without.
const WITHOUT_ROOT: &str = "ORUN_TEST_WITHOUT_ROOT";

/// Whether tests that need root may run. Prints the SKIP line if not.
#[allow(dead_code)]
pub fn is_root() -> bool {
    if std::env::var_os(WITHOUT_ROOT).is_some() {
        skip("needs root, and ORUN_TEST_WITHOUT_ROOT is set");
        return false;
    }
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("needs root");
    }
    root
}

/// Prints `SKIP TEST: WHY` on standard error. Unlike `eprintln!`, a write to the handle is not captured by the test
/// harness, so `scripts/test` and `scripts/check` can count the lines.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    // One write, so that lines of parallel tests do not mix. A closed standard error must not fail the test.
    let line = format!("SKIP {}: {why}\n", thread.name().unwrap_or("?"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
