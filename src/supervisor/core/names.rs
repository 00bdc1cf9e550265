//! The names that pods resolve: those of Services, and of the pods behind them.

use super::desired::Desired;
use super::ids::ReplicaKey;
use super::model::{Observed, Replica};
use super::objects::StoredObject;
use super::pass::replicas;
use super::publication::{Name, NamedPod};
use super::services::{self, matches};
use super::spec::PodTemplate;
use crate::workload::annotations::NETWORKS;
use crate::workload::compose::PROJECT;
use crate::workload::kept::KeptKind;
use serde_json::Value;

/// Other names of a Service, with commas between them; `NAME@NETWORK` is one only for pods in that network. Such a Service follows Docker: its names lead to pods that are not ready while none is.
const ALIASES: &str = "orun.dev/aliases";

/// The names of all Services. Each has the addresses of its ready pods; with `publishNotReadyAddresses`, and as in Docker for
/// those with aliases while none is ready, of all that are not about to end.
pub fn compute_names(desired: &Desired, observed: &Observed) -> Vec<Name> {
    let services = desired.objects.iter().filter(|e| e.object.kind == KeptKind::Service);
    let name = |service: &StoredObject| {
        let flag = |name: &str| service.object.fields.get("spec")?.get(name)?.as_bool();
        let list = service.object.metadata.annotations.get(ALIASES);
        let words = list.iter().flat_map(|text| text.split(',')).map(str::trim);
        let aliases: Vec<String> = words.filter(|w| !w.is_empty()).map(str::to_owned).collect();
        let mut pods = match flag("publishNotReadyAddresses") {
            Some(true) => Vec::new(),
            Some(false) | None => pods(desired, observed, service, Replica::is_ready),
        };
        if pods.is_empty() && (list.is_some() || flag("publishNotReadyAddresses") == Some(true)) {
            pods = self::pods(desired, observed, service, |r| r.stop.is_none());
        }
        let address_of = services::has_address(service).then_some(service.uid);
        let project = service.object.metadata.labels.get(PROJECT).cloned();
        Name { service: service.object.metadata.name.clone(), aliases, project, address_of, pods }
    };
    services.map(name).collect()
}

fn pods(
    desired: &Desired,
    observed: &Observed,
    service: &StoredObject,
    included: impl Fn(&Replica) -> bool,
) -> Vec<NamedPod> {
    let mut found = Vec::new();
    // One that shall not run is about to lose its pods.
    let runs = desired.workloads.iter().filter(|(_, w)| w.deletion.is_none() && w.desired_replicas() > 0);
    for (id, workload) in runs {
        let all = observed.workloads.get(id).into_iter().flat_map(replicas);
        for (slot, replica) in all.filter(|(_, r)| included(r)) {
            let template = workload.revisions.get(&replica.revision).filter(|t| matches(service, t));
            let Some((template, address)) = template.zip(replica.address()) else { continue };
            found.push(NamedPod {
                replica: ReplicaKey { workload: *id, slot, serial: replica.serial },
                host: host(template, &workload.name, slot),
                address: address.to_owned(),
                networks: networks(template),
            });
        }
    }
    found
}

/// The networks of pods; none if it is only the default one.
fn networks(template: &PodTemplate) -> Vec<String> {
    let annotations = || template.sandbox.as_ref()?.config.get("metadata")?.get("annotations")?.get(NETWORKS);
    let text = annotations().and_then(Value::as_str);
    let names = text.into_iter().flat_map(|text| text.split(',')).map(|name| name.trim().to_owned());
    names.collect()
}

/// The name of a pod: `hostname`, or its replica name.
fn host(template: &PodTemplate, workload: &str, slot: u32) -> String {
    let config = template.sandbox.as_ref().map(|s| &s.config);
    let own = config.and_then(|c| c.get("hostname")).and_then(Value::as_str);
    own.map_or_else(|| format!("{workload}-{slot}"), str::to_owned)
}
