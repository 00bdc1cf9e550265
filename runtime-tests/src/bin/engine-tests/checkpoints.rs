//! Checkpoints of engines, where CRIU works.

use crate::env::Env;
use runtime_tests::check::{Done, same, skip};
use runtime_tests::ensure;

/// A program says who it is: a restarted one would say something else.
const NAMED: &str =
    "sh -c 'me=$(cat /proc/sys/kernel/random/uuid); while :; do echo $me >/me; sleep 0.1; done'";

/// A container is saved by `save`, continues by `restore`, and is saved by `keep` without an end.
pub fn container(e: &Env, engine: &str, save: &str, restore: &str, keep: &str) -> Done {
    let criu = e.sh("command -v criu >/dev/null || { echo there is none >&2; exit 1; }; criu check")?;
    if !criu.status.success() {
        let said = criu.stderr.lines().last().unwrap_or_default();
        return skip(format!("CRIU does not work here: {said}"));
    }
    e.ok(&format!("{engine} run -d --name $N --network none $I {NAMED}"))?;
    let me = e.ok(&format!("until {engine} exec $N grep . /me; do sleep 0.1; done"))?;
    e.ok(save)?;
    e.until(&format!("{engine} inspect -f '{{{{.State.Running}}}}' $N"), "false")?;
    e.ok(restore)?;
    goes_on(e, engine, &me)?;
    e.ok(keep)?;
    goes_on(e, engine, &me)
}

/// The program writes its name again, and it is the same.
fn goes_on(e: &Env, engine: &str, me: &str) -> Done {
    e.ok(&format!("{engine} exec $N rm -f /me"))?;
    let now = e.ok(&format!("until {engine} exec $N grep . /me; do sleep 0.1; done"))?;
    ensure!(me.len() == 36, "the program calls itself {me:?}");
    same("the program", now.as_str(), me)
}
