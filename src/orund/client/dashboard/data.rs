//! The data of the page, composed from the supervisor's answers.

use hyper::body::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::status::StatusObject;
use crate::api::types::{ContainerObject, KeptAnswer, List, ReplicaObject, StatsObject, WorkloadObject};
use crate::error::Result;
use crate::orund::client::connection::{Call, Client};

/// All pages together ask the supervisor once in this time.
const FRESH: Duration = Duration::from_millis(900);

/// The last answer, for as long as it is fresh.
#[derive(Default)]
pub struct Snapshot(Mutex<Option<(Instant, Bytes)>>);

impl Snapshot {
    /// As JSON.
    ///
    /// # Errors
    /// The supervisor does not answer.
    pub async fn get(&self, client: &Client) -> Result<Bytes> {
        let mut kept = self.0.lock().await;
        if let Some((_, bytes)) = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(bytes.clone());
        }
        let bytes = Bytes::from(compose(client).await?);
        *kept = Some((Instant::now(), bytes.clone()));
        Ok(bytes)
    }
}

async fn compose(client: &Client) -> Result<Vec<u8>> {
    let status: StatusObject = client.fetch(Call::get("/v1/status")).await?;
    let workloads = client.fetch::<List<WorkloadObject>>(Call::get("/v1/workloads")).await?.items;
    let replicas = client.fetch::<List<ReplicaObject>>(Call::get("/v1/replicas")).await?.items;
    let stats = client.fetch::<List<StatsObject>>(Call::get("/v1/stats")).await?.items;
    let services = Call::get("/v1/objects").with("kind", "service");
    let services = client.fetch::<List<KeptAnswer>>(services).await?.items;
    let value = json!({
        "status": status,
        "workloads": workloads.iter().map(|w| workload(w, &services)).collect::<Vec<_>>(),
        "replicas": replicas.iter().map(replica).collect::<Vec<_>>(),
        "stats": stats,
    });
    Ok(serde_json::to_vec(&value).unwrap_or_default())
}

/// Without the specification: variables may hold passwords.
fn workload(w: &WorkloadObject, services: &[KeptAnswer]) -> Value {
    let (spec, status) = (&w.workload.spec, &w.status);
    let images = spec.all_containers().map(|c| c.image.clone().unwrap_or_else(|| c.bundle.clone()));
    json!({
        "name": w.workload.metadata.name,
        "kind": spec.controller.as_ref().map_or("Workload", |c| &c.kind),
        "project": w.workload.metadata.labels.get("com.docker.compose.project"),
        "images": images.collect::<BTreeSet<_>>(),
        "desired": spec.replicas,
        "ports": ports(w, services),
        "status": status,
    })
}

/// Ports of the host that lead to it.
fn ports(w: &WorkloadObject, services: &[KeptAnswer]) -> BTreeSet<String> {
    let spec = &w.workload.spec;
    let declared = spec.all_containers().flat_map(|c| &c.ports);
    let mut ports: BTreeSet<String> =
        declared.filter_map(|p| Some(format!("{}:{}", p.host_port?, p.container_port))).collect();
    let labels = spec.pod.as_ref().map(|p| &p.labels);
    for s in services {
        let field = |name: &str| s.object.fields.get("spec").and_then(|spec| spec.get(name));
        let selector = field("selector").and_then(Value::as_object).filter(|s| !s.is_empty());
        let has = |(k, v): (&String, &Value)| labels.and_then(|l| l.get(k)).map(String::as_str) == v.as_str();
        if !selector.is_some_and(|s| s.iter().all(has)) {
            continue;
        }
        let published = match field("type").and_then(Value::as_str) {
            Some("LoadBalancer") => "port",
            Some("NodePort") => "nodePort",
            _ => continue,
        };
        let list = field("ports").and_then(Value::as_array).into_iter().flatten();
        ports.extend(list.filter_map(|p| Some(format!("{}:{}", p.get(published)?, p.get("port")?))));
    }
    ports
}

fn replica(r: &ReplicaObject) -> Value {
    json!({
        "name": r.name,
        "workload": r.workload,
        "serial": r.serial,
        "state": r.state(),
        "ready": r.ready,
        "available": r.available,
        "revision": r.revision,
        "restarts": r.restarts,
        "created": r.created,
        "stopping": r.stopping,
        "ip": r.pod_ip,
        "containers": r.containers.iter().map(container).collect::<Vec<_>>(),
    })
}

fn container(c: &ContainerObject) -> Value {
    json!({
        "name": c.name,
        "role": c.role,
        "ready": c.ready,
        "restarts": c.restarts,
        "state": c.state,
        "exits": c.exits.iter().map(|e| json!({"time": e.time, "text": e.summary()})).collect::<Vec<_>>(),
        "probes": c.probes.iter().map(|p| json!({"kind": p.kind, "passed": p.passed, "error": p.error})).collect::<Vec<_>>(),
    })
}
