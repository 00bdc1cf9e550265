//! A container that a case has created.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Done, Result, fail, same};
use crate::command::{Cmd, Output, VERB_DEADLINE, poll};
use crate::report::Report;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// A container by id, with the files that its program writes to.
#[derive(Debug)]
pub struct Container<'t> {
    t: &'t T<'t>,
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: Bundle,
    /// Where its standard output goes.
    pub stdout: PathBuf,
    /// Where its standard error goes.
    pub stderr: PathBuf,
}

impl<'t> Container<'t> {
    /// A handle; nothing is created yet.
    pub fn new(t: &'t T<'t>, id: String, bundle: &Bundle) -> Container<'t> {
        let (stdout, stderr) = (t.path("stdout"), t.path("stderr"));
        Container { t, id, bundle: bundle.clone(), stdout, stderr }
    }

    /// `VERB ID`, not started yet.
    pub fn verb(&self, verb: &str) -> Cmd {
        self.t.verb(verb).arg(&self.id)
    }

    /// `VERB OPTIONS ID`, not started yet.
    pub fn verb_with(&self, verb: &str, options: &[&str]) -> Cmd {
        self.t.verb(verb).args(options).arg(&self.id)
    }

    /// Starts the program.
    pub fn start(&self) -> Done {
        self.verb("start").ok().map(drop)
    }

    /// The state as JSON.
    pub fn state(&self) -> Result<Value> {
        let out = self.verb("state").ok()?;
        serde_json::from_str(&out.stdout).context(&out.describe())
    }

    /// `creating`, `created`, `running`, `paused` or `stopped`.
    pub fn status(&self) -> Result<String> {
        Ok(self.state()?["status"].as_str().unwrap_or("").to_owned())
    }

    /// Demands a status.
    pub fn is(&self, status: &str) -> Done {
        same("status", self.status()?, status)
    }

    /// Waits for a status.
    pub fn becomes(&self, status: &str) -> Done {
        poll(&format!("status {status}"), VERB_DEADLINE, || (self.status().ok()? == status).then_some(()))
    }

    /// The pid of its first process, as the harness sees it.
    pub fn pid(&self) -> Result<i32> {
        match self.state()?["pid"].as_i64() {
            Some(pid) if pid > 0 => Ok(pid as i32),
            other => fail(format!("state shows pid {other:?}")),
        }
    }

    /// Sends a signal.
    pub fn kill(&self, signal: &str) -> Done {
        self.verb("kill").arg(signal).ok().map(drop)
    }

    /// Kills the program and waits until it is stopped.
    pub fn stop(&self) -> Done {
        self.kill("KILL")?;
        self.becomes("stopped")
    }

    /// Deletes a stopped container.
    pub fn delete(&self) -> Done {
        self.verb("delete").ok().map(drop)
    }

    /// Deletes a container whatever it is doing.
    pub fn delete_force(&self) -> Done {
        self.verb_with("delete", &["--force"]).ok().map(drop)
    }

    /// Kills, deletes, and demands that nothing is left.
    pub fn end(self) -> Done {
        self.delete_force()?;
        self.t.nothing_left()
    }

    /// `exec ID WORDS`, not started yet.
    pub fn exec_cmd(&self, options: &[&str], words: &[&str]) -> Cmd {
        self.verb_with("exec", options).args(words.iter().copied())
    }

    /// Runs a program in the container, to its end.
    pub fn exec(&self, words: &[&str]) -> Result<Output> {
        self.exec_cmd(&[], words).output()
    }

    /// Runs the probe in the container.
    pub fn exec_report(&self, options: &[&str]) -> Result<Report> {
        let out = self.exec_cmd(options, &["probe", "report"]).ok()?;
        Report::parse(&out.stdout)
    }

    /// What the program has written up to now.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// Waits until the program has written this.
    pub fn await_output(&self, part: &str) -> Done {
        let seen = || self.output().contains(part).then_some(());
        poll(&format!("{part:?} in the output"), VERB_DEADLINE, seen).map(|()| self.t.has_worked()).context(
            &format!(
                "output {:?}, errors {:?}",
                self.output(),
                fs::read_to_string(&self.stderr).unwrap_or_default()
            ),
        )
    }

    /// The report that the program has written, once it is complete.
    pub fn report(&self) -> Result<Report> {
        poll("the probe's report", VERB_DEADLINE, || Report::parse(&self.output()).ok())
            .inspect(|_| self.t.has_worked())
            .context(&format!("output {:?}", self.output()))
    }
}
