//! SIGKILL of the runtime at every system call that it makes: `delete --force` leaves nothing, whatever was half
//! done, and nothing hangs.

use super::samples::Sample;
use crate::case::T;
use crate::check::{Context, Done, Result, fail};
use crate::command::{Cmd, VERB_DEADLINE, poll};
use crate::killat::{self, End};
use crate::matrix::Matrix;
use crate::{ensure, proc};
use serde_json::Value;
use std::time::Duration;

const SOURCE: &str = "orun: delete --force cleans up whatever a killed runtime has left half-made";

/// How long the runtime is stopped at a system call before it is killed: not at all, and for as long as its child needs
/// to get as far as it can without its parent.
const PAUSES: [(&str, Duration); 2] = [("at-once", Duration::ZERO), ("late", Duration::from_millis(10))];

/// The fewest system calls that a verb needs; less means that the tracer does not count.
const FEWEST: usize = 30;

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for (when, pause) in PAUSES {
        for name in ["plain", "userns", "hooks-and-terminal", "joined"] {
            m.case(format!("killed/create-{name}-{when}"), SOURCE, move |t| create(t, name, pause));
        }
        m.case(format!("killed/run-{when}"), SOURCE, move |t| run(t, pause));
        m.case(format!("killed/start-{when}"), SOURCE, move |t| start(t, pause));
        m.case(format!("killed/exec-{when}"), SOURCE, move |t| exec(t, pause));
    }
    m.case("killed/delete", SOURCE, |t| delete(t, &[]));
    m.case("killed/delete-of-a-running-container", SOURCE, |t| delete(t, &["--force"]));
}

/// Kills `cmd` at its first system call, then at its second, and so on until it ends by itself with status 0.
/// `after` is called each time, with whether the command has been killed.
fn at_every_call(
    pause: Duration,
    mut cmd: impl FnMut() -> Result<Cmd>,
    mut after: impl FnMut(bool) -> Done,
) -> Done {
    for nth in 1..5000 {
        let place = format!("system call {nth}");
        match killat::run(cmd().context(&place)?, nth, pause).context(&place)? {
            End::Killed => after(true).context(&format!("killed at {place}"))?,
            End::Itself(calls, out) => {
                out.ok()?;
                // The number changes a little from run to run: commands poll.
                ensure!(calls < nth && calls >= FEWEST, "{calls} system calls, to be killed at {nth}");
                return after(false).context("not killed");
            }
        }
    }
    fail("the command does not come to an end")
}

/// No process is stuck on the way into a container. One that waits for `start` is not stuck.
fn nobody_is_stuck(t: &T<'_>, id: &str) -> Done {
    let me = std::process::id() as i32;
    let waits = || {
        let out = t.verb("state").arg(id).output().ok()?;
        let state: Value = serde_json::from_str(&out.stdout).ok()?;
        (state["status"] == "created").then(|| state["pid"].as_i64().unwrap_or(0) as i32)
    };
    let stuck = || {
        let found: Vec<_> =
            proc::descendants(me).into_iter().filter(|p| p.name.starts_with("orun")).collect();
        // The state is only asked for when there is a process that may be in it.
        let waiting = if found.is_empty() { None } else { waits() };
        found.into_iter().filter(|p| Some(p.pid) != waiting).collect::<Vec<_>>()
    };
    let gone = poll("the processes of the killed command to end", Duration::from_secs(5), || {
        stuck().is_empty().then_some(())
    });
    gone.context(&format!("stuck: {:?}", stuck()))
}

/// `delete --force` removes what is left.
fn delete_force(t: &T<'_>, id: &str) -> Done {
    if t.root.exists() {
        t.verb("list").ok()?;
    }
    t.verb("delete").args(["--force", id]).ok()?;
    t.nothing_left()
}

fn create(t: &mut T<'_>, name: &str, pause: Duration) -> Done {
    t.only("orun")?;
    let sample = Sample::make(t, name)?;
    let id = t.id();
    at_every_call(
        pause,
        || Ok(sample.verb(t.runtime(), "create").arg(&id)),
        |_| {
            nobody_is_stuck(t, &id)?;
            delete_force(t, &id)
        },
    )
}

fn run(t: &mut T<'_>, pause: Duration) -> Done {
    t.only("orun")?;
    let sample = Sample::make(t, "plain")?;
    let id = t.id();
    at_every_call(
        pause,
        || Ok(sample.verb(t.runtime(), "run").args(["--detach", id.as_str()])),
        |_| {
            nobody_is_stuck(t, &id)?;
            delete_force(t, &id)
        },
    )
}

fn start(t: &mut T<'_>, pause: Duration) -> Done {
    t.only("orun")?;
    let sample = Sample::make(t, "hooks-and-terminal")?;
    let id = t.id();
    at_every_call(
        pause,
        || {
            sample.verb(t.runtime(), "create").arg(&id).ok()?;
            Ok(t.verb("start").arg(&id))
        },
        |killed| {
            if killed {
                started_or_startable(t, &id)?;
            }
            delete_force(t, &id)
        },
    )
}

/// After a `start` that was killed, the container either waits for another one, or runs and says so.
fn started_or_startable(t: &T<'_>, id: &str) -> Done {
    let again = t.verb("start").arg(id).output()?;
    if !again.status.success() {
        again.exits(1)?.fails_with(&["cannot start an already running container"])?;
    }
    let state: Value = serde_json::from_str(&t.verb("state").arg(id).ok()?.stdout)?;
    ensure!(state["status"] == "running", "the second start left the state {state}");
    Ok(())
}

fn exec(t: &mut T<'_>, pause: Duration) -> Done {
    t.only("orun")?;
    let container = t.sleeper(t.bundle()?)?;
    at_every_call(
        pause,
        || Ok(container.exec_cmd(&[], &["probe", "exit", "0"])),
        |_| {
            nobody_is_stuck(t, &container.id)?;
            let pids = || t.verb("ps").args(["--format", "json", container.id.as_str()]).ok();
            poll("the process of exec to end", VERB_DEADLINE, || {
                let list: Vec<i32> = serde_json::from_str(&pids().ok()?.stdout).ok()?;
                (list.len() == 1).then_some(())
            })
        },
    )?;
    container.is("running")
}

/// `delete` of a stopped container, or `delete --force` of a running one: a second one does the rest.
fn delete(t: &mut T<'_>, options: &[&str]) -> Done {
    t.only("orun")?;
    let sample = Sample::make(t, "hooks-and-terminal")?;
    let id = t.id();
    at_every_call(
        Duration::ZERO,
        || {
            sample.verb(t.runtime(), "run").args(["--detach", id.as_str()]).ok()?;
            if options.is_empty() {
                t.verb("kill").args([id.as_str(), "KILL"]).ok()?;
                poll("the container to stop", VERB_DEADLINE, || {
                    let out = t.verb("state").arg(&id).output().ok()?;
                    out.stdout.contains("stopped").then_some(())
                })?;
            }
            Ok(t.verb("delete").args(options.iter().copied()).arg(&id))
        },
        |_| delete_force(t, &id),
    )
}
