//! `GET /metrics`: the text format of Prometheus (version 0.0.4), with the names and labels that dashboards
//! for kube-state-metrics, cAdvisor and kubelet query, and a few of our own.

mod document;
mod facts;
mod ports;
mod state;
mod usage;

use crate::api::types::PortObject;
use crate::network::proxy::Counts;
use document::Document;
pub use facts::Facts;

/// The media type.
pub const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All families. `ports` are those that are published, with what the proxy has counted.
pub fn text(facts: &Facts, ports: &[(PortObject, Counts)]) -> String {
    let mut doc = Document::default();
    state::of_workloads(&mut doc, &facts.workloads);
    state::of_replicas(&mut doc, facts);
    state::of_containers(&mut doc, facts);
    state::of_objects(&mut doc, &facts.objects);
    usage::of_containers(&mut doc, &facts.stats);
    usage::of_pods(&mut doc, &facts.interfaces);
    usage::of_host(&mut doc, facts);
    ports::of_ports(&mut doc, ports);
    doc.family("orun_build_info", "gauge", "The version of the supervisor.");
    doc.sample("orun_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    doc.0
}

#[cfg(test)]
mod tests;
