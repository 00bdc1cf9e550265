//! `scale`, `restart`, `delete` and `wait`.

use hyper::Method;
use serde::Deserialize;
use tokio::time::Instant;

use super::args::{self, Delete, Goal, Restart, Scale};
use super::connection::{Call, Client, encoded};
use super::print;
use super::wait::Wait;
use crate::api::types::{Changed, ReplicaObject, RestartRequest, ScalePatch, ScaleSpec, WorkloadObject};
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
        Wait { generation, ..Wait::of(name, goal, deadline) }.run(client).await?;
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
        let (generation, revision) = (done.generation, done.revision);
        Wait { generation, revision, ..Wait::of(&workload, Goal::Ready, deadline) }.run(client).await?;
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
        Wait::of(name, Goal::Delete, deadline).run(client).await?;
    }
    Ok(0)
}

/// `wait`.
pub async fn wait(client: &Client, a: &args::Wait) -> Result<u8> {
    let deadline = Instant::now() + a.timeout;
    for name in &a.names {
        Wait::of(name, a.goal, deadline).run(client).await?;
    }
    Ok(0)
}

/// The path of a workload.
pub fn path(name: &str) -> String {
    format!("/v1/workloads/{}", encoded(name))
}
