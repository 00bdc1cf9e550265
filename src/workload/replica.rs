//! State that all containers of a pod share, and the name of one replica: the input of its variables, files and
//! configuration.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use super::annotations::{self, NETWORK};
use super::model::{Resources, Spec};
use super::pod::{DnsConfig, HostAlias, PodMetadata, PodSecurity, ResourceRef, Volume};
use crate::config::quantity::{Bytes, MilliCpu};

/// The part of a workload that is the same for all containers of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sandbox {
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub set_hostname_as_fqdn: bool,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub share_process_namespace: bool,
    /// `linux.resources` of all containers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Value>,
    pub host_aliases: Vec<HostAlias>,
    pub dns_policy: Option<String>,
    pub dns_config: Option<DnsConfig>,
    pub security: PodSecurity,
    pub volumes: Vec<Volume>,
    pub metadata: PodMetadata,
    /// Its containers know the number of their replica.
    pub indexed: bool,
    /// A container of it serves at port 53, which the pod's own resolver must leave free.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub serves_names: bool,
    /// Of each container, for variables and files that name them.
    pub resources: BTreeMap<String, Resources>,
}

impl Sandbox {
    /// The sandbox that `spec` needs. `None`: it is one container that is run as its bundle says.
    pub fn sandbox_of(spec: &Spec) -> Option<Sandbox> {
        let refers = spec
            .all_containers()
            .any(|c| !c.env_from.is_empty() || c.env.iter().any(|e| e.value_from.is_some()));
        let with_resources = refers || spec.volumes.iter().any(Volume::is_written);
        let resources = spec.all_containers().filter(|_| with_resources);
        let mut sandbox = Sandbox {
            hostname: spec.hostname.clone(),
            subdomain: spec.subdomain.clone(),
            set_hostname_as_fqdn: spec.set_hostname_as_fqdn,
            host_network: spec.host_network,
            host_pid: spec.host_pid,
            host_ipc: spec.host_ipc,
            share_process_namespace: spec.share_process_namespace && !spec.host_pid,
            limits: None,
            host_aliases: spec.host_aliases.clone(),
            dns_policy: spec.dns_policy.clone(),
            dns_config: spec.dns_config.clone(),
            security: spec.security_context.clone(),
            volumes: spec.volumes.clone(),
            metadata: spec.pod.clone().unwrap_or_default(),
            indexed: spec.controller.as_ref().is_some_and(|c| c.indexed),
            serves_names: false,
            resources: resources.map(|c| (c.name.clone(), c.resources.clone())).collect(),
        };
        // Connections to a published port are led to an address of its own.
        let publishes = spec.all_containers().flat_map(|c| &c.ports).any(|p| p.host_port.is_some());
        let several = spec.all_containers().count() > 1;
        let engine = spec.all_containers().any(|c| !c.engine.is_empty());
        let needed = spec.pod.is_some()
            || !spec.resources.is_empty()
            || engine
            || several
            || publishes
            || sandbox != Sandbox::default();
        let mut ports = spec.all_containers().flat_map(|c| &c.ports);
        sandbox.serves_names = ports.any(|p| p.container_port == 53);
        needed.then_some(sandbox)
    }

    /// Whether it has only its loopback interface.
    pub fn is_isolated(&self) -> bool {
        self.metadata.annotations.get(NETWORK).is_some_and(|v| v == "none")
    }

    /// Whether it has no route to the outside.
    pub fn is_internal(&self) -> bool {
        self.metadata.annotations.get(NETWORK).is_some_and(|v| v == "internal")
    }

    /// It reaches pods that share one of these networks with it.
    pub fn networks(&self) -> BTreeSet<String> {
        annotations::networks(&self.metadata.annotations)
    }

    /// Whether it asks its own resolver for names, if it has a network of its own.
    pub fn asks_own_resolver(&self) -> bool {
        let policy = self.dns_policy.as_deref().unwrap_or("ClusterFirst");
        policy == "ClusterFirst" && !self.host_network && !self.serves_names
    }

    /// The volume `name`.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|v| v.name == name)
    }
}

/// One replica of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    /// `web-0`.
    pub name: String,
    /// The number at its end.
    pub index: u32,
    pub namespace: String,
    pub uid: String,
    /// The name of the host.
    pub node: String,
    pub host_ip: String,
    /// Its address in the network of pods; None when it has only its loopback interface, or the host's network.
    pub pod_ip: Option<String>,
    /// Resources of the host, for limits that are not set.
    pub cpus: MilliCpu,
    pub memory: Bytes,
}

impl Replica {
    /// The short host name and the full one, where there is a domain.
    pub fn names(&self, pod: &Sandbox) -> (String, Option<String>) {
        let short = pod.hostname.clone().unwrap_or_else(|| self.name.clone());
        // The kernel takes 64 bytes (sethostname(2)), and a label has 63.
        let short = short.get(..63).map_or(short.clone(), |cut| cut.trim_end_matches(['-', '.']).to_owned());
        let full = pod.subdomain.as_ref();
        let full = full.map(|sub| format!("{short}.{sub}.{}.svc.cluster.local", self.namespace));
        (short, full)
    }

    /// The value of a field of the pod.
    ///
    /// # Errors
    /// There is no such field here.
    pub fn field(&self, pod: &Sandbox, path: &str) -> Result<String, String> {
        let of = |map: &BTreeMap<String, String>, rest: &str| {
            let key = rest.strip_prefix("['").and_then(|r| r.strip_suffix("']"));
            key.map(|key| map.get(key).cloned().unwrap_or_default())
        };
        let all = |map: &BTreeMap<String, String>| {
            let lines = map.iter().map(|(k, v)| format!("{k}={v:?}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        let found = match path {
            "metadata.annotations['batch.kubernetes.io/job-completion-index']" if pod.indexed => {
                Some(self.index.to_string())
            }
            "metadata.name" => Some(self.name.clone()),
            "metadata.namespace" => Some(self.namespace.clone()),
            "metadata.uid" => Some(self.uid.clone()),
            "metadata.labels" => Some(all(&pod.metadata.labels)),
            "metadata.annotations" => Some(all(&pod.metadata.annotations)),
            "spec.nodeName" => Some(self.node.clone()),
            "spec.serviceAccountName" => Some("default".to_owned()),
            "status.hostIP" | "status.hostIPs" => Some(self.host_ip.clone()),
            "status.podIP" | "status.podIPs" if pod.host_network => Some(self.host_ip.clone()),
            // Without a network between pods, that is what their programs reach themselves by.
            "status.podIP" | "status.podIPs" => {
                Some(self.pod_ip.clone().unwrap_or_else(|| "127.0.0.1".to_owned()))
            }
            _ => match path.split_once('[') {
                Some(("metadata.labels", _)) => of(&pod.metadata.labels, &path["metadata.labels".len()..]),
                Some(("metadata.annotations", _)) => {
                    of(&pod.metadata.annotations, &path["metadata.annotations".len()..])
                }
                _ => None,
            },
        };
        found.ok_or_else(|| format!("pods have no field {path:?}"))
    }

    /// The value of a limit or request, in units of the divisor, rounded up. `own` is the container that asks.
    ///
    /// # Errors
    /// No such container, resource or divisor.
    pub fn resource(&self, pod: &Sandbox, own: &str, r: &ResourceRef) -> Result<String, String> {
        let container = r.container_name.as_deref().unwrap_or(own);
        let found = pod.resources.get(container);
        let resources = found.ok_or_else(|| format!("the pod has no container {container:?}"))?;
        let divisor = r.divisor.as_deref().filter(|d| !matches!(*d, "" | "0" | "1"));
        let bad = || format!("invalid divisor {:?}", divisor.unwrap_or_default());
        let (limits, requests) = (&resources.limits, &resources.requests);
        let (value, unit) = match r.resource.as_str() {
            "limits.cpu" => (limits.cpu.unwrap_or(self.cpus).0, 1000),
            "requests.cpu" => (requests.cpu.or(limits.cpu).map_or(0, |c| c.0), 1000),
            "limits.memory" => (limits.memory.unwrap_or(self.memory).0, 1),
            "requests.memory" => (requests.memory.or(limits.memory).map_or(0, |m| m.0), 1),
            other => return Err(format!("the resource {other:?} is not known here")),
        };
        let unit = match (divisor, unit) {
            (None, unit) => unit,
            (Some(text), 1000) => MilliCpu::parse(text).ok_or_else(bad)?.0,
            (Some(text), _) => Bytes::parse(text).ok_or_else(bad)?.0,
        };
        Ok(value.div_ceil(unit.max(1)).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::model::Limits;

    fn pod() -> Sandbox {
        let limits = Limits { cpu: Some(MilliCpu(1500)), memory: Some(Bytes(64 << 20)), pids: None };
        let app = Resources { limits, requests: Limits::default() };
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        Sandbox {
            subdomain: Some("db".into()),
            metadata: PodMetadata { labels, ..PodMetadata::default() },
            resources: BTreeMap::from([("app".into(), app), ("log".into(), Resources::default())]),
            ..Sandbox::default()
        }
    }

    fn replica() -> Replica {
        let (name, namespace) = ("web-1".into(), "default".into());
        Replica { name, namespace, cpus: MilliCpu(2000), memory: Bytes(8 << 30), ..Replica::default() }
    }

    #[test]
    fn fields_and_resources_have_the_values_of_kubernetes() {
        let (pod, r) = (pod(), replica());
        let field = |path: &str| r.field(&pod, path);
        assert_eq!(field("metadata.name").unwrap(), "web-1");
        assert_eq!(field("metadata.labels['app']").unwrap(), "web");
        assert_eq!(field("metadata.labels").unwrap(), "app=\"web\"");
        assert_eq!(field("metadata.annotations['none']").unwrap(), "");
        assert!(field("spec.containers").is_err() && field("metadata.labelsx['app']").is_err());
        let resource = |container: &str, resource: &str, divisor: Option<&str>| {
            let (resource, divisor) = (resource.to_owned(), divisor.map(str::to_owned));
            r.resource(&pod, container, &ResourceRef { container_name: None, resource, divisor }).unwrap()
        };
        assert_eq!(resource("app", "limits.cpu", None), "2", "rounded up");
        assert_eq!(resource("app", "limits.cpu", Some("1m")), "1500");
        assert_eq!(resource("app", "requests.memory", Some("1Mi")), "64", "a request is the limit");
        assert_eq!(resource("log", "limits.memory", Some("1Gi")), "8", "no limit: all that the host has");
        assert_eq!(resource("log", "requests.cpu", None), "0");
        assert_eq!(r.names(&pod), ("web-1".into(), Some("web-1.db.default.svc.cluster.local".into())));
    }
}
