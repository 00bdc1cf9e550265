//! `state`: what a container is and does (runtime.md, "State").

use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Runtime;
use super::container::Container;
use crate::config::defaults::OCI_VERSION;
use crate::error::Result;
use crate::state::lifecycle::Status;

/// The state of a container, as `state` and `list` print it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: &'static str,
    pub id: String,
    /// The first process; 0 when the container is stopped or has none yet.
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user that made the container; `state` leaves it empty, as runc does.
    pub owner: String,
}

impl State {
    /// The state of `container`, without its owner.
    pub fn from_container(container: Container) -> State {
        let record = container.record;
        let pid = match container.status {
            Status::Stopped => 0,
            _ => record.init.map_or(0, |init| init.pid),
        };
        State {
            oci_version: OCI_VERSION,
            id: record.id,
            pid,
            status: container.status,
            bundle: record.bundle,
            rootfs: record.rootfs,
            created: record.created,
            annotations: record.annotations,
            owner: String::new(),
        }
    }
}

/// The state of the container `id`.
///
/// # Errors
/// [`Kind::NotFound`](crate::error::Kind::NotFound) when there is none.
pub fn state(runtime: &Runtime, id: &str) -> Result<State> {
    Ok(State::from_container(Container::open(runtime, id)?))
}
