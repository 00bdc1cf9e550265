//! A project as a whole: its name, its active services, and what must fit together.

use std::collections::{BTreeMap, BTreeSet};

use super::load::{Loader, Scope, Source};
use super::state::Project;
use super::{Options, joined, kept, order, service, values};
use crate::config::document::reader::similar;
use crate::config::document::{self, Data, Node};
use crate::workload::object::Object;
use crate::workload::schema::schema;

/// The name of the project: of the command line, the environment, the files, or the directory.
pub fn name(loader: &Loader<'_>, files: &[Source], options: &Options, scope: &Scope) -> String {
    let written = || {
        let of = |file: &Source| {
            let nodes = document::parse_tagged(&file.text, &["!reset", "!override"], &mut Vec::new()).0;
            let name = nodes.iter().rev().find_map(|n| values::text(n, "name"))?.to_owned();
            super::interpolate::replace(&name, &|v| loader.lookup(scope, v)).ok().map(|r| r.text)
        };
        files.iter().rev().find_map(of)
    };
    let given = options.project.clone().or_else(|| loader.lookup(scope, "COMPOSE_PROJECT_NAME"));
    let dir = || scope.dir.file_name().map(|n| n.to_string_lossy().into_owned());
    let name = given.or_else(written).filter(|n| !n.is_empty()).or_else(dir).unwrap_or_default();
    let name: String =
        name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    let name = name.trim_matches(['-', '_']).to_owned();
    if name.is_empty() { "default".to_owned() } else { name.chars().take(63).collect() }
}

/// The objects of a project.
pub fn objects(
    loader: &mut Loader<'_>,
    root: &Node,
    name: &str,
    scope: &Scope,
    options: &Options,
) -> Vec<Object> {
    let named = values::get(root, "services").map(values::entries).unwrap_or_default();
    let given = loader.lookup(scope, "COMPOSE_PROFILES").unwrap_or_default();
    let mut profiles: Vec<&str> = given.split(',').filter(|p| !p.is_empty()).collect();
    profiles.extend(options.profiles.iter().map(String::as_str));
    let active = |node: &Node| {
        let own = values::texts(node, "profiles");
        own.is_empty() || profiles.contains(&"*") || own.iter().any(|p| profiles.contains(&p.as_str()))
    };
    let (mut services, mut absent) = (Vec::new(), BTreeSet::new());
    for (key, node) in named.iter().filter(|(k, _)| !k.data.text().unwrap_or_default().starts_with("x-")) {
        let service = key.data.text().unwrap_or_default();
        if !matches!(node.data, Data::Map(_)) {
            let message = format!("service {service:?} must be a mapping, not {}", node.data.noun());
            let hint = Some("write `image: NAME` below it".to_owned());
            loader.error(key.place, "services", message, hint);
        } else if active(node) {
            services.push((service, node));
        } else {
            absent.insert(service);
        }
    }
    if services.is_empty() && loader.problems.iter().all(|p| !p.is_error()) {
        let hint = match absent.iter().next() {
            Some(_) => "name a profile with --profile",
            None => "write `services:`, below it `NAME:`, below it `image: NAME`",
        };
        loader.error(root.place, "services", "the project has no services", Some(hint.to_owned()));
    }
    let mut project = Project { loader, name: name.to_owned(), scope, root, services, objects: Vec::new() };
    project.names();
    project.dependencies(&absent);
    project.references();
    kept::objects(&mut project);
    for (service, node) in project.services.clone() {
        service::objects(&mut project, service, node);
    }
    let workloads = project.objects.iter_mut().filter_map(|object| match object {
        Object::Workload { workload, .. } => Some(&mut **workload),
        Object::Kept(_) | Object::Inert { .. } => None,
    });
    let (gone, problems) = joined::join(&project.services, &mut workloads.collect::<Vec<_>>());
    let has_gone =
        |o: &Object| matches!(o, Object::Workload { workload, .. } if gone.contains(&workload.metadata.name));
    project.objects.retain(|o| !has_gone(o));
    for joined::Problem { is_error, at, path, message, hint } in problems {
        if is_error {
            project.error(at, &path, message, Some(hint));
        } else {
            project.warn(at, &path, message, &hint);
        }
    }
    if !gone.is_empty() && project.loader.problems.iter().all(|p| !p.is_error()) {
        project.order_of_pods();
    }
    project.ports();
    project.objects
}

impl<'a> Project<'a, '_> {
    /// An entry of a section at the top.
    pub fn entry(&self, section: &str, name: &str) -> Option<&'a Node> {
        let entries = values::entries(values::get(self.root, section)?);
        entries.iter().find(|(k, _)| k.data.text() == Some(name)).map(|(_, v)| v)
    }

    pub fn error(&mut self, node: &Node, path: &str, message: impl Into<String>, hint: Option<String>) {
        self.loader.error(node.place, path, message, hint);
    }

    pub fn warn(&mut self, node: &Node, path: &str, message: impl Into<String>, hint: &str) {
        self.loader.warn(node.place, path, message, Some(hint.to_owned()));
    }

    /// Names of services, which become names of workloads.
    fn names(&mut self) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, node) in self.services.clone() {
            let path = format!("services.{name}");
            let label = values::label(name);
            if label.is_empty() {
                let message = format!("{name:?} cannot be the name of a service");
                self.error(
                    node,
                    &path,
                    message,
                    Some("names are letters, digits, \"-\" and \"_\"".to_owned()),
                );
            } else if let Some(other) = seen.insert(label.clone(), name) {
                let message = format!("services {other:?} and {name:?} both become workload {label:?}");
                self.error(node, &path, message, Some("give one of them another name".to_owned()));
            }
        }
    }

    /// Services that are waited for: they exist, and wait for nobody who waits for them.
    fn dependencies(&mut self, absent: &BTreeSet<&str>) {
        let names: Vec<&str> = self.services.iter().map(|(n, _)| *n).collect();
        let mut graph: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, node) in self.services.clone() {
            for (other, required, at) in order::dependencies(node) {
                let path = format!("services.{name}.depends_on");
                if names.contains(&other.as_str()) {
                    graph.entry(name).or_default().push(other);
                } else if required {
                    let message = format!("{name:?} depends on {other:?}, which is not a service");
                    let hint = match similar(&other, &names) {
                        _ if absent.contains(other.as_str()) => {
                            Some("name its profile with --profile".to_owned())
                        }
                        Some(meant) => Some(format!("did you mean {meant:?}?")),
                        None => None,
                    };
                    self.error(at, &path, message, hint);
                }
            }
        }
        if let Some(way) = cycle(&graph) {
            let at = self
                .services
                .iter()
                .find(|(n, _)| *n == way[0])
                .and_then(|(_, n)| values::get(n, "depends_on"));
            let (at, path) = (at.unwrap_or(self.root), format!("services.{}.depends_on", way[0]));
            let message = format!("services depend on each other: {}", way.join(" -> "));
            self.error(at, &path, message, Some("leave one of these dependencies out".to_owned()));
        }
    }

    /// Pods that wait for each other, as their services did not.
    fn order_of_pods(&mut self) {
        let mut graph: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for object in &self.objects {
            let Object::Workload { workload, .. } = object else { continue };
            let waits = workload.spec.depends_on.iter().map(|d| d.workload.clone());
            graph.insert(&workload.metadata.name, waits.collect());
        }
        if let Some(way) = cycle(&graph) {
            let message = format!(
                "services that share a network are one pod, and pods wait for each other: {}",
                way.join(" -> ")
            );
            self.error(self.root, "services", message, Some("leave one of these depends_on out".to_owned()));
        }
    }

    /// Names of networks, configs and secrets that services use.
    fn references(&mut self) {
        for (name, node) in self.services.clone() {
            for section in ["networks", "configs", "secrets"] {
                let Some(used) = values::get(node, section) else { continue };
                let of_map = values::entries(used).iter().map(|(k, _)| k);
                for entry in values::list(used).iter().chain(of_map) {
                    let Some(other) = entry.data.text().or_else(|| values::text(entry, "source")) else {
                        continue;
                    };
                    if self.entry(section, other).is_some() || (section == "networks" && other == "default") {
                        continue;
                    }
                    self.undefined(entry, name, section, other);
                }
            }
        }
    }

    /// Reports something that the project does not define.
    pub fn undefined(&mut self, at: &Node, service: &str, section: &str, name: &str) {
        let known = values::get(self.root, section).map(values::entries).unwrap_or_default();
        let known: Vec<&str> = known.iter().filter_map(|(k, _)| k.data.text()).collect();
        let one = &section[..section.len() - 1];
        let hint = match similar(name, &known) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("write `{name}:` below `{section}:` at the top level"),
        };
        let message = format!("no {one} has the name {name:?}");
        self.error(at, &format!("services.{service}.{section}"), message, Some(hint));
        debug_assert!(schema().field("Compose", section).is_some());
    }

    /// Ports of the host, which only one service can have.
    fn ports(&mut self) {
        let mut taken: BTreeMap<(u16, bool, String), String> = BTreeMap::new();
        let mut twice = Vec::new();
        for object in &self.objects {
            let Object::Workload { workload, .. } = object else { continue };
            for port in workload.spec.all_containers().flat_map(|c| &c.ports) {
                let Some(host) = port.host_port else { continue };
                let udp = port.protocol.as_deref() == Some("UDP");
                let key = (host, udp, port.host_ip.clone().unwrap_or_default());
                if let Some(other) = taken.insert(key, workload.metadata.name.clone()) {
                    twice.push((host, other, workload.metadata.name.clone()));
                }
            }
        }
        for (port, one, other) in twice {
            let found = self.services.iter().find(|(n, _)| values::label(n) == other);
            let at = found.and_then(|(_, n)| values::get(n, "ports")).unwrap_or(self.root);
            let message = if one == other {
                format!("port {port} of the host is published twice")
            } else {
                format!("port {port} of the host is published by {one:?}, too")
            };
            self.error(
                at,
                &format!("services.{other}.ports"),
                message,
                Some("choose another port".to_owned()),
            );
        }
    }
}

/// Services that wait for each other, the first one again at the end.
fn cycle<'g>(graph: &'g BTreeMap<&'g str, Vec<String>>) -> Option<Vec<&'g str>> {
    // Takes away, again and again, what waits for nobody who is left.
    let mut left: BTreeSet<&str> = graph.keys().copied().collect();
    loop {
        let waits = |n: &&str| graph[*n].iter().any(|d| left.contains(d.as_str()));
        let next: BTreeSet<&str> = left.iter().copied().filter(waits).collect();
        if next.len() == left.len() {
            break;
        }
        left = next;
    }
    let mut way = vec![*left.iter().next()?];
    loop {
        let last = way[way.len() - 1];
        let next = graph[last].iter().map(String::as_str).find(|d| left.contains(d))?;
        if let Some(at) = way.iter().position(|n| *n == next) {
            way.push(next);
            return Some(way.split_off(at));
        }
        way.push(next);
    }
}
