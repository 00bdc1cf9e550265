//! How a workload or a replica of the daemon is found by the name that was given, and how its changes are read.

use serde::Deserialize;

use super::choose::Name;
use super::connection::{Call, Client, encoded};
use super::kinds::ObjectKind;
use crate::api::types::{ReplicaObject, WorkloadObject};
use crate::error::{Error, Kind, Result};

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub struct Change<T> {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    #[serde(rename = "type")]
    pub kind: String,
    pub object: T,
}

/// The object of a name.
pub enum Target {
    Workload(Box<WorkloadObject>),
    Replica(Box<ReplicaObject>),
}

/// The workload or the replica of that name.
///
/// # Errors
/// There is none; there are both.
pub async fn target(client: &Client, name: &Name) -> Result<Target> {
    let Name { kind, name } = name;
    let found = client.find::<WorkloadObject>(Call::get(path(name))).await?;
    // A Pod of a file is a workload with one replica.
    let workload = found.filter(|w| *kind != Some(ObjectKind::Replicas) || w.kind() == "pod");
    match (workload, kind) {
        (Some(w), None) if name.rsplit_once('-').is_some_and(|(_, n)| n.parse::<u32>().is_ok()) => {
            let call = Call::get(format!("/v1/replicas/{}", encoded(name)));
            match client.find::<ReplicaObject>(call).await? {
                None => Ok(Target::Workload(Box::new(w))),
                Some(r) => {
                    let what = format!("{name:?} is a workload, and a replica of workload {:?}", r.workload);
                    Err(Error::new(Kind::Usage, what)
                        .hint(format!("write workload/{name} or replica/{name}")))
                }
            }
        }
        (Some(w), _) => Ok(Target::Workload(Box::new(w))),
        (None, Some(ObjectKind::Workloads | ObjectKind::Of(_))) => {
            Err(Error::new(Kind::NotFound, format!("no such workload: {name:?}"))
                .hint("`orund get` lists them"))
        }
        (None, _) => Ok(Target::Replica(Box::new(replica(client, name).await?))),
    }
}

/// The replica of that name.
pub async fn replica(client: &Client, name: &str) -> Result<ReplicaObject> {
    let found = client.find(Call::get(format!("/v1/replicas/{}", encoded(name)))).await?;
    found.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("no workload and no replica is called {name:?}"))
            .hint("`orund get` and `orund get replicas` list them")
    })
}

/// The path of a workload.
pub fn path(name: &str) -> String {
    format!("/v1/workloads/{}", encoded(name))
}
