//! `rollout`, `stop` and `start`.

use hyper::Method;
use tokio::time::Instant;

use super::args::{Goal, Restart, Rollout, StopOrStart};
use super::change;
use super::choose::Name;
use super::connection::{Call, Client};
use super::kinds::ObjectKind;
use super::lookup::path;
use super::print;
use super::render::{self, Row};
use super::wait::Wait;
use crate::api::types::{Changed, List, RevisionObject, RolloutState, UndoRequest, WorkloadObject};
use crate::error::Result;
use crate::sys::timestamp::Timestamp;

/// `rollout`.
pub async fn rollout(client: &Client, verb: &Rollout) -> Result<u8> {
    match verb {
        Rollout::Status { name, timeout, no_wait } => {
            let deadline = Instant::now() + *timeout;
            let w: WorkloadObject = client.fetch(Call::get(path(name))).await?;
            if *no_wait {
                return status(&w);
            }
            if w.status.rollout.state == RolloutState::Complete {
                print(&format!("{} revision {} complete\n", w.name(), w.status.revision))?;
                return Ok(0);
            }
            let revision = w.status.revision;
            let wait = Wait { revision, steps: true, ..Wait::for_workload(name, Goal::Ready, deadline) };
            wait.run(client).await?;
        }
        Rollout::History { name } => history(client, name).await?,
        Rollout::Undo { name, to_revision, waiting } => {
            let deadline = Instant::now() + waiting.timeout;
            let call = Call::new(Method::POST, path(name) + "/undo");
            let done: Changed = client.fetch(call.json(&UndoRequest { to_revision: *to_revision })).await?;
            print(&format!("{} rolled back, as revision {}\n", done.path(name), done.revision))?;
            if waiting.wait {
                let (generation, revision) = (done.generation, done.revision);
                let wait = Wait { generation, revision, ..Wait::for_workload(name, Goal::Ready, deadline) };
                wait.run(client).await?;
            }
        }
        Rollout::Pause { name } => {
            let done: Changed = client.fetch(Call::new(Method::POST, path(name) + "/pause")).await?;
            print(&format!("{} paused\n", done.path(name)))?;
        }
        Rollout::Resume { name } => {
            let done: Changed = client.fetch(Call::new(Method::POST, path(name) + "/resume")).await?;
            print(&format!("{} resumed\n", done.path(name)))?;
        }
        Rollout::Restart { name, waiting } => {
            let name = Name { kind: Some(ObjectKind::Workloads), name: name.clone() };
            let restart = Restart { name, waiting: waiting.clone() };
            return change::restart(client, &restart).await;
        }
    }
    Ok(0)
}

/// `rollout status --no-wait`: 0 complete, 1 failed, 3 progressing, paused or late.
fn status(w: &WorkloadObject) -> Result<u8> {
    let rollout = &w.status.rollout;
    let message = rollout.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
    print(&format!("{} revision {} {:?}{message}\n", w.name(), w.status.revision, rollout.state))?;
    Ok(match rollout.state {
        RolloutState::Complete => 0,
        RolloutState::Failed => 1,
        RolloutState::Progressing | RolloutState::Paused | RolloutState::DeadlineExceeded => 3,
    })
}

async fn history(client: &Client, name: &str) -> Result<()> {
    let revisions: List<RevisionObject> = client.fetch(Call::get(path(name) + "/revisions")).await?;
    let head = ["REVISION", "AGE", "REPLICAS", "STATE", "CAUSE"];
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    let now = Timestamp::now().seconds;
    for r in &revisions.items {
        let state = match (r.current, r.healthy, &r.failed) {
            (_, _, Some(_)) => "failed",
            (true, _, None) => "current",
            (false, true, None) => "worked",
            (false, false, None) => "never complete",
        };
        let cause = match &r.failed {
            Some(why) => format!("{} ({why})", r.cause),
            None => r.cause.clone(),
        };
        let age = r.time.as_deref().map_or("-".to_owned(), |t| render::since(t, now));
        rows.push(vec![r.revision.to_string(), age, r.replicas.to_string(), state.to_owned(), cause]);
    }
    print(&render::table(&rows))?;
    Ok(())
}

/// `stop` and `start`.
pub async fn stop(client: &Client, a: &StopOrStart, stop: bool) -> Result<u8> {
    let deadline = Instant::now() + a.waiting.timeout;
    let (verb, words) = if stop { ("stop", "stopping") } else { ("start", "starting") };
    let mut generations = Vec::new();
    for name in &a.names {
        let call = Call::new(Method::POST, format!("{}/{verb}", path(name)));
        let done: Changed = client.fetch(call).await.map_err(|e| e.context(format!("workload {name:?}")))?;
        print(&format!("{} {words}\n", done.path(name)))?;
        generations.push(done.generation);
    }
    for (name, generation) in a.names.iter().zip(generations).filter(|_| a.waiting.wait) {
        let goal = if stop { Goal::Stopped } else { Goal::Ready };
        Wait { generation, ..Wait::for_workload(name, goal, deadline) }.run(client).await?;
    }
    Ok(0)
}
