//! `scale`, `restart`, `delete` and `wait`.

use hyper::Method;
use tokio::time::Instant;

use super::args::{self, Delete, Goal, Restart, Scale};
use super::choose::{Name, names_of, workload_name};
use super::connection::{Call, Client, encoded};
use super::kinds::ObjectKind;
use super::lookup::{Target, path, target};
use super::wait::Wait;
use super::{kept, manifests, print, projects};
use crate::api::types::{
    Changed, KeptAnswer, KillRequest, List, ReplicaObject, RestartRequest, ScalePatch, ScaleSpec,
    WorkloadObject,
};
use crate::config::quantity;
use crate::error::{Error, Kind, Result};
use crate::workload::Object;

/// `scale`.
pub async fn scale(client: &Client, a: &Scale) -> Result<u8> {
    let deadline = Instant::now() + a.waiting.timeout;
    let mut changed = Vec::new();
    let targets = a.targets().map_err(|what| Error::new(Kind::Usage, what))?;
    for (name, replicas) in &targets {
        let call = Call::new(Method::PATCH, path(name));
        let patch = ScalePatch { spec: ScaleSpec { replicas: *replicas } };
        let done: Changed = client.fetch(call.json(&patch)).await?;
        print(&format!("{} scaled to {replicas}\n", done.path(name)))?;
        changed.push((name, *replicas, done.generation));
    }
    for (name, replicas, generation) in changed.into_iter().filter(|_| a.waiting.wait) {
        let goal = if replicas == 0 { Goal::Stopped } else { Goal::Ready };
        Wait { generation, ..Wait::for_workload(name, goal, deadline) }.run(client).await?;
    }
    Ok(0)
}

/// `restart`.
pub async fn restart(client: &Client, a: &Restart) -> Result<u8> {
    let deadline = Instant::now() + a.waiting.timeout;
    let (workload, slot) = match target(client, &a.name).await? {
        Target::Workload(w) => (w.workload.metadata.name, None),
        Target::Replica(r) => (r.workload, Some(r.slot)),
    };
    let call = Call::new(Method::POST, path(&workload) + "/restart").json(&RestartRequest { slot });
    let done: Changed = client.fetch(call).await?;
    let what = match slot {
        Some(_) => format!("replica/{}", a.name.name),
        None => done.path(&workload),
    };
    print(&format!("{what} restarting\n"))?;
    if a.waiting.wait {
        let (generation, revision) = (done.generation, done.revision);
        Wait { generation, revision, ..Wait::for_workload(&workload, Goal::Ready, deadline) }
            .run(client)
            .await?;
    }
    Ok(0)
}

/// `delete`.
pub async fn delete(client: &Client, a: &Delete) -> Result<u8> {
    let deadline = Instant::now() + a.waiting.timeout;
    let grace = match a.now {
        true => Some("0".to_owned()),
        false => a.grace_period.map(quantity::in_seconds),
    };
    let mut workloads = Vec::new();
    for name in to_delete(client, a).await? {
        let Name { kind, name } = name;
        if let Some(ObjectKind::Kept(kind)) = kind {
            let call = Call::new(Method::DELETE, kept::path(kind, &name));
            client.fetch::<Changed>(call).await?;
            print(&format!("{}/{name} deleted\n", kind.word()))?;
            continue;
        }
        // A Pod of a file is a workload with one replica.
        let pod = async || -> Result<bool> {
            let w = client.find::<WorkloadObject>(Call::get(path(&name))).await?;
            Ok(w.is_some_and(|w| w.kind() == "pod"))
        };
        if kind == Some(ObjectKind::Replicas) && !pod().await? {
            let e = Error::new(
                Kind::Usage,
                format!("replica {name:?}: this command takes a workload, not a replica"),
            );
            return Err(e.hint(format!("`orund restart {name}` replaces it; `orund scale` removes replicas")));
        }
        workloads.push(name);
    }
    let mut kinds = Vec::new();
    for name in &workloads {
        let call = Call::new(Method::DELETE, path(name)).with_some("gracePeriodSeconds", grace.as_deref());
        let done = client.fetch::<Changed>(call).await;
        let done = done.map_err(|e| e.context(format!("workload {name:?}")))?;
        print(&format!("{} deleting\n", done.path(name)))?;
        kinds.push(done.path(name));
    }
    for (name, path) in workloads.iter().zip(&kinds).filter(|_| a.waiting.wait) {
        Wait { path: Some(path), ..Wait::for_workload(name, Goal::Delete, deadline) }.run(client).await?;
    }
    Ok(0)
}

/// The objects to delete. Objects of a file that do not exist are skipped with a warning.
async fn to_delete(client: &Client, a: &Delete) -> Result<Vec<Name>> {
    if a.files.is_empty() && !a.all && a.selector.is_none() {
        return names_of(&a.names).map_err(|what| Error::new(Kind::Usage, what));
    }
    let workload = |name: &str| Name { kind: Some(ObjectKind::Workloads), name: name.to_owned() };
    let all = projects::Existing::fetch(client).await?;
    let projects::Existing { workloads: existing, kept } = &all;
    if a.files.is_empty() {
        let taken =
            |w: &&WorkloadObject| a.selector.as_ref().is_none_or(|s| s.takes(&w.workload.metadata.labels));
        let names = existing.iter().filter(taken).map(|w| workload(&w.workload.metadata.name));
        let names: Vec<Name> = names.collect();
        if names.is_empty() {
            eprintln!("no objects found");
        }
        return Ok(names);
    }
    let mut names = Vec::new();
    let mut objects = manifests::load_all(&a.files, &a.project)?;
    projects::assign_names(&mut objects, &all)?;
    for object in objects {
        let name = object.name();
        let found = match &object {
            Object::Workload { .. } => {
                existing.iter().any(|e| e.workload.metadata.name == name).then(|| workload(name))
            }
            Object::Kept(k) => {
                let same = |e: &KeptAnswer| e.object.kind == k.kind && e.object.metadata.name == name;
                let found = Name { kind: Some(ObjectKind::Kept(k.kind)), name: name.to_owned() };
                kept.iter().any(same).then_some(found)
            }
            Object::Inert { .. } => continue,
        };
        match found {
            Some(name) => names.push(name),
            None => crate::log::warn(format!("{} {name:?} does not exist", object.kind().to_lowercase())),
        }
    }
    Ok(names)
}

/// `kill`.
pub async fn kill(client: &Client, a: &args::Kill) -> Result<u8> {
    for name in &a.names {
        let replicas = match target(client, name).await? {
            Target::Replica(r) => vec![*r],
            Target::Workload(_) => {
                let call = Call::get("/v1/replicas").with("workload", &name.name);
                let mut replicas = client.fetch::<List<ReplicaObject>>(call).await?.items;
                replicas.retain(|r| r.containers.iter().any(|c| c.pid.is_some()));
                replicas
            }
        };
        if replicas.is_empty() {
            return Err(Error::new(Kind::State, format!("no replica of workload {:?} runs", name.name)));
        }
        for replica in replicas {
            let path = format!("/v1/replicas/{}/kill", encoded(&replica.name));
            let request = KillRequest { signal: a.signal.clone(), container: a.container.clone() };
            client.fetch::<serde_json::Value>(Call::new(Method::POST, path).json(&request)).await?;
            print(&format!("replica/{}: {} sent\n", replica.name, a.signal))?;
        }
    }
    Ok(0)
}

/// `wait`.
pub async fn wait(client: &Client, a: &args::Wait) -> Result<u8> {
    let deadline = Instant::now() + a.timeout;
    for name in &a.names {
        Wait::for_workload(name, a.goal, deadline).run(client).await?;
    }
    Ok(0)
}

impl Scale {
    /// Each workload with its number of replicas.
    ///
    /// # Errors
    /// The mistake, in words.
    pub fn targets(&self) -> Result<Vec<(String, u32)>, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number of replicas"));
        let mut list = Vec::new();
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            list.push(match (word.split_once('='), self.replicas) {
                (Some((name, n)), None) => (workload_name(name)?, number(n)?),
                (Some(_), Some(_)) => return Err(format!("{word:?} and --replicas exclude each other")),
                (None, Some(n)) => (workload_name(word)?, n),
                (None, None) => {
                    let n = words.next().ok_or("expected NAME=N or NAME N, such as web=5")?;
                    (workload_name(word)?, number(n)?)
                }
            });
        }
        Ok(list)
    }
}
