//! Published ports and the addresses of services: where they are open, and where their connections go.

use crate::api::types::{PortObject, ServiceStatus};
use crate::network::proxy::Counts;
use crate::supervisor::core::endpoints;
use crate::supervisor::core::objects::StoredObject;
use crate::supervisor::core::ports::HostPort;
use crate::supervisor::core::publication::Route;
use crate::supervisor::core::services::ADDRESS;
use crate::supervisor::shell::handle::View;
use crate::supervisor::shell::publish::Publisher;
use crate::workload::KeptKind;

/// All ports, or those of the workload or service called `name`.
pub fn list(view: &View, name: Option<&str>) -> Vec<PortObject> {
    let routes = view.observed.endpoints.map.iter().filter_map(|r| port(view, r));
    let mut list: Vec<PortObject> = routes.collect();
    for (id, w) in &view.desired.workloads {
        for taken in endpoints::taken(view.desired, view.observed, *id) {
            let own = |p: &&mut PortObject| p.workload.as_ref() == Some(&w.name) && p.is(&taken.host);
            match list.iter_mut().find(own) {
                Some(port) => port.problem = Some(taken.error),
                // Another workload has it.
                None => list.push(PortObject {
                    workload: Some(w.name.clone()),
                    problem: Some(taken.error),
                    ..PortObject::at(&taken.host, taken.host.address.clone())
                }),
            }
        }
    }
    let is = |owner: &Option<String>| owner.as_deref() == name;
    list.retain(|p| name.is_none() || is(&p.workload) || is(&p.service));
    list
}

/// Counters of each port.
pub fn counts(view: &View) -> Vec<(PortObject, Counts)> {
    let mut counts = view.publisher.map(Publisher::counts).unwrap_or_default();
    let of = |r: &Route| Some((port(view, r)?, counts.remove(&r.host.to_string()).unwrap_or_default()));
    view.observed.endpoints.map.iter().filter_map(of).collect()
}

/// None: a service without an address, as while pods have none.
fn port(view: &View, route: &Route) -> Option<PortObject> {
    let uid = route.host.address.as_ref().and_then(|a| a.strip_prefix(ADDRESS));
    let address = match uid {
        Some(uid) => Some(view.publisher?.address_of_service(uid.parse().ok()?)?.to_string()),
        None => route.host.address.clone(),
    };
    let owner = view.desired.workloads.get(&route.workload);
    let of_template = owner.and_then(|w| {
        let ports = &w.revisions.get(&w.revision)?.ports;
        ports.iter().find(|p| p.host == route.host).map(|p| p.port)
    });
    let taken = view.observed.endpoints.taken.iter().find(|t| t.host == route.host);
    Some(PortObject {
        workload: owner.map(|w| w.name.clone()).filter(|_| route.service.is_none()),
        service: route.service.clone(),
        cluster: uid.is_some(),
        target_port: of_template.or(route.targets.first().map(|t| t.port)),
        endpoints: route.targets.iter().map(|t| format!("{}:{}", t.address, t.port)).collect(),
        problem: taken.map(|t| t.error.clone()),
        ..PortObject::at(&route.host, address)
    })
}

impl PortObject {
    pub(super) fn at(host: &HostPort, address: Option<String>) -> PortObject {
        let protocol = host.protocol.to_string();
        PortObject { protocol, address, port: host.port, ..PortObject::default() }
    }

    fn is(&self, host: &HostPort) -> bool {
        self.protocol == host.protocol.to_string() && self.port == host.port && self.address == host.address
    }
}

/// The endpoints of a service; None for another object.
pub fn service(view: &View, e: &StoredObject) -> Option<ServiceStatus> {
    let name = &e.object.metadata.name;
    if e.object.kind != KeptKind::Service {
        return None;
    }
    let ports: Vec<PortObject> = list(view, Some(name)).into_iter().filter(|p| p.service.is_some()).collect();
    let mut endpoints: Vec<String> = Vec::new();
    for endpoint in ports.iter().flat_map(|p| &p.endpoints) {
        if !endpoints.contains(endpoint) {
            endpoints.push(endpoint.clone());
        }
    }
    if ports.is_empty() {
        // A headless one has only names.
        let names = view.observed.endpoints.names.iter().filter(|n| n.service == *name);
        endpoints.extend(names.flat_map(|n| &n.pods).map(|p| p.address.clone()));
    }
    let address = view.publisher.and_then(|p| p.address_of_service(e.uid)).map(|a| a.to_string());
    let host_ports = ports.iter().filter(|p| !p.cluster).map(|p| p.port).collect();
    let problem = ports.iter().find_map(|p| {
        let problem = p.problem.as_ref()?;
        Some(format!("port {}/{}: {problem}", p.port, p.protocol))
    });
    Some(ServiceStatus { address, host_ports, endpoints, problem })
}
