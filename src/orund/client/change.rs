//! `scale`, `restart`, `delete` and `wait`.

use hyper::Method;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::args::{Delete, Goal, Restart, Scale, Wait};
use super::connection::{Call, Client, encoded};
use super::print;
use crate::api::types::{
    Changed, ReplicaObject, RestartRequest, ScalePatch, ScaleSpec, WorkloadObject, WorkloadPhase,
};
use crate::config::quantity;
use crate::error::{Error, Kind, Result};

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub struct Change<T> {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    #[serde(rename = "type")]
    pub kind: String,
    pub object: T,
}

/// `scale`.
pub async fn scale(client: &Client, a: &Scale) -> Result<u8> {
    let deadline = Instant::now() + a.waiting.timeout;
    let mut changed = Vec::new();
    for (name, replicas) in &a.targets {
        let call = Call::new(Method::PATCH, path(name));
        let patch = ScalePatch { spec: ScaleSpec { replicas: *replicas } };
        let done: Changed = client.fetch(call.json(&patch)).await?;
        print(&format!("workload/{name} scaled to {replicas}\n"))?;
        changed.push((name, *replicas, done.generation));
    }
    for (name, replicas, generation) in changed.into_iter().filter(|_| a.waiting.wait) {
        let goal = if replicas == 0 { Goal::Stopped } else { Goal::Ready };
        wait_for(client, name, goal, generation, deadline).await?;
    }
    Ok(0)
}

/// `restart`.
pub async fn restart(client: &Client, a: &Restart) -> Result<u8> {
    let deadline = Instant::now() + a.waiting.timeout;
    let found: Option<WorkloadObject> = client.find(Call::get(path(&a.name))).await?;
    let (workload, slot) = match found {
        Some(_) => (a.name.clone(), None),
        None => {
            let r: ReplicaObject = replica(client, &a.name).await?;
            (r.workload, Some(r.slot))
        }
    };
    let call = Call::new(Method::POST, path(&workload) + "/restart").json(&RestartRequest { slot });
    let done: Changed = client.fetch(call).await?;
    let kind = if slot.is_some() { "replica" } else { "workload" };
    print(&format!("{kind}/{} restarting\n", a.name))?;
    if a.waiting.wait {
        wait_for(client, &workload, Goal::Ready, done.generation, deadline).await?;
    }
    Ok(0)
}

/// The replica of that name.
pub async fn replica(client: &Client, name: &str) -> Result<ReplicaObject> {
    let found = client.find(Call::get(format!("/v1/replicas/{}", encoded(name)))).await?;
    found.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("no workload and no replica is called {name:?}"))
            .hint("`orund get` and `orund get replicas` list them")
    })
}

/// `delete`.
pub async fn delete(client: &Client, a: &Delete) -> Result<u8> {
    let deadline = Instant::now() + a.waiting.timeout;
    let grace = match a.now {
        true => Some("0".to_owned()),
        false => a.grace_period.map(quantity::in_seconds),
    };
    for name in &a.names {
        let call = Call::new(Method::DELETE, path(name)).with_some("gracePeriodSeconds", grace.as_deref());
        client.fetch::<Changed>(call).await.map_err(|e| e.context(format!("workload {name:?}")))?;
        print(&format!("workload/{name} deleting\n"))?;
    }
    for name in a.names.iter().filter(|_| a.waiting.wait) {
        wait_for(client, name, Goal::Delete, 0, deadline).await?;
    }
    Ok(0)
}

/// `wait`.
pub async fn wait(client: &Client, a: &Wait) -> Result<u8> {
    let deadline = Instant::now() + a.timeout;
    for name in &a.names {
        wait_for(client, name, a.goal, 0, deadline).await?;
        print(&format!("workload/{name} {}\n", words(a.goal)))?;
    }
    Ok(0)
}

/// The path of a workload.
pub fn path(name: &str) -> String {
    format!("/v1/workloads/{}", encoded(name))
}

fn words(goal: Goal) -> String {
    match goal {
        Goal::Ready => "ready".to_owned(),
        Goal::Complete => "complete".to_owned(),
        Goal::Stopped => "stopped".to_owned(),
        Goal::Delete => "deleted".to_owned(),
        Goal::Replicas(n) => format!("has {n} replicas ready"),
    }
}

/// Waits until the workload has reached `goal` in `generation` or a later one.
///
/// # Errors
/// [`Kind::Timeout`], with the reason why it has not; it is not there.
pub async fn wait_for(
    client: &Client,
    name: &str,
    goal: Goal,
    generation: u64,
    deadline: Instant,
) -> Result<()> {
    // Before checking whether it exists: if it vanishes in between, the stream reports it.
    let mut lines = client.lines(Call::get(path(name)).flag("watch", true)).await?;
    let Some(mut last) = client.find::<WorkloadObject>(Call::get(path(name))).await? else {
        let missing = || {
            Error::new(Kind::NotFound, format!("no such workload: {name:?}")).hint("`orund get` lists them")
        };
        return if goal == Goal::Delete { Ok(()) } else { Err(missing()) };
    };
    let uid = last.status.uid;
    loop {
        let next = match timeout_at(deadline, lines.object::<Change<WorkloadObject>>()).await {
            Ok(next) => next?,
            Err(_) => return Err(late(name, goal, &last)),
        };
        let Some(change) = next else {
            return Err(Error::new(Kind::System, "the supervisor exited meanwhile"));
        };
        let gone = change.kind == "DELETED" || change.object.status.uid != uid;
        if goal == Goal::Delete && gone {
            return Ok(());
        }
        if gone && change.object.status.uid == uid {
            return Err(Error::new(Kind::NotFound, format!("workload {name:?} was deleted meanwhile")));
        }
        let reached = change.object.status.generation >= generation && is_reached(&change.object, goal);
        if reached {
            return Ok(());
        }
        last = change.object;
    }
}

fn is_reached(w: &WorkloadObject, goal: Goal) -> bool {
    let status = &w.status;
    match goal {
        Goal::Ready => {
            let phase = status.phase;
            let idle = phase == WorkloadPhase::Stopped && w.workload.spec.replicas == 0;
            phase == WorkloadPhase::Ready || phase == WorkloadPhase::Complete || idle
        }
        Goal::Complete => status.phase == WorkloadPhase::Complete,
        Goal::Stopped => status.phase == WorkloadPhase::Stopped,
        Goal::Replicas(n) => status.ready == n && status.replicas == n,
        // Its deletion is the report.
        Goal::Delete => false,
    }
}

fn late(name: &str, goal: Goal, last: &WorkloadObject) -> Error {
    let status = &last.status;
    let why = match &status.message {
        Some(message) => message.clone(),
        None => format!("{} of {} replicas are ready", status.ready, last.workload.spec.replicas),
    };
    let message = format!("workload {name:?} is not {} in time: {:?}, {why}", words(goal), status.phase);
    Error::new(Kind::Timeout, message).hint(format!("`orund describe {name}` shows the details"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::WorkloadStatus;
    use crate::config::workload::{Metadata, Spec, Workload};

    fn object(phase: WorkloadPhase, ready: u32) -> WorkloadObject {
        WorkloadObject {
            workload: Workload {
                api_version: Default::default(),
                kind: Default::default(),
                metadata: Metadata { name: "web".into(), ..Metadata::default() },
                spec: Spec { replicas: 3, ..Spec::default() },
            },
            status: WorkloadStatus { phase, ready, replicas: 3, ..WorkloadStatus::default() },
        }
    }

    #[test]
    fn goals_are_reached_by_what_they_name() {
        assert!(is_reached(&object(WorkloadPhase::Ready, 3), Goal::Ready));
        assert!(is_reached(&object(WorkloadPhase::Complete, 0), Goal::Ready));
        assert!(!is_reached(&object(WorkloadPhase::Progressing, 3), Goal::Ready));
        assert!(!is_reached(&object(WorkloadPhase::Ready, 3), Goal::Complete));
        assert!(is_reached(&object(WorkloadPhase::Progressing, 3), Goal::Replicas(3)));
        assert!(!is_reached(&object(WorkloadPhase::Progressing, 2), Goal::Replicas(3)));
    }

    #[test]
    fn what_came_too_late_says_why() {
        let mut w = object(WorkloadPhase::Degraded, 2);
        w.status.message = Some("web-1: CrashLoopBackOff: exit code 1".to_owned());
        let text = late("web", Goal::Ready, &w).to_string();
        let expected = "workload \"web\" is not ready in time: Degraded, web-1: CrashLoopBackOff: exit code 1; hint: `orund describe web` shows the details";
        assert_eq!(text, expected);
    }

    #[test]
    fn objects_are_read_back_as_they_are_sent() {
        let w = object(WorkloadPhase::Ready, 3);
        let text = serde_json::to_string(&w).unwrap();
        assert_eq!(serde_json::from_str::<WorkloadObject>(&text).unwrap(), w);
    }
}
