//! Names and addresses: `hostname`, `extra_hosts`, `dns`, `networks`, `network_mode`, `links`.

use serde_json::json;
use std::collections::BTreeSet;

use super::load::Loader;
use super::state::{Project, Service};
use super::{ALIASES, PROJECT, SERVICE, joined, values};
use crate::config::document::Node;
use crate::workload::annotations::{DEFAULT_NETWORK, NETWORK, NETWORKS, wrong_networks};
use crate::workload::kept::{KeptKind, KeptObject};
use crate::workload::object::Object;
use crate::workload::pod::{DnsConfig, DnsOption, HostAlias};
use crate::workload::scalar;

/// The name of a pod of the service, and its names for others.
pub fn read(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    hostname(loader, s);
    hosts(loader, s);
    let [nameservers, searches] = ["dns", "dns_search"].map(|name| values::texts(s.node, name));
    let searches: Vec<String> = searches.into_iter().filter(|d| d != "." && !d.is_empty()).collect();
    let option = |text: String| match text.split_once(':') {
        Some((name, value)) => DnsOption { name: name.to_owned(), value: Some(value.to_owned()) },
        None => DnsOption { name: text, value: None },
    };
    let options: Vec<DnsOption> = values::texts(s.node, "dns_opt").into_iter().map(option).collect();
    if let Some(bad) = nameservers.iter().find(|n| n.parse::<core::net::IpAddr>().is_err()) {
        s.error(loader, "dns", format!("{bad:?} is not an address"), None);
    }
    let config = DnsConfig { nameservers, searches, options };
    s.spec.dns_config = (config != DnsConfig::default()).then_some(config);
    mode(loader, s);
}

fn hostname(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let Some(name) = values::text(s.node, "hostname").filter(|n| !n.is_empty()) else { return };
    let (label, domain) = name.split_once('.').map_or((name, None), |(l, d)| (l, Some(d)));
    let plain = values::label(label);
    if !scalar::is_label(&plain) {
        return s.error(loader, "hostname", format!("{name:?} cannot be a host name"), None);
    }
    if domain.is_some() || plain != label {
        let hint = "host names are lower-case letters, digits and \"-\"";
        s.warn(loader, "hostname", format!("the host name is {plain:?}"), hint);
    }
    s.spec.hostname = Some(plain);
}

fn hosts(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let Some(field) = values::get(s.node, "extra_hosts") else { return };
    let lists = values::entries(field).iter().flat_map(|(k, v)| {
        values::list(v)
            .iter()
            .filter_map(|a| Some((k.data.text()?.to_owned(), a.data.text().map(str::to_owned), a)))
    });
    let pairs = values::list(field).iter().filter_map(|n| {
        let text = n.data.text()?;
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
        Some((name.to_owned(), Some(address.to_owned()), n))
    });
    for (name, address, at) in lists.chain(pairs).collect::<Vec<_>>() {
        let address = address.unwrap_or_default();
        let plain = address.trim_start_matches('[').trim_end_matches(']');
        if plain == "host-gateway" {
            let hint = "write the address of the host in place of host-gateway".to_owned();
            loader.warn(
                at.place,
                &s.path("extra_hosts"),
                format!("the name {name} is not there"),
                Some(hint),
            );
            continue;
        }
        if plain.parse::<core::net::IpAddr>().is_err() || name.is_empty() {
            let hint = "write NAME=ADDRESS".to_owned();
            let message = format!("{plain:?} is not an address");
            loader.error(at.place, &s.path("extra_hosts"), message, Some(hint));
            continue;
        }
        s.spec.host_aliases.push(HostAlias { ip: plain.to_owned(), hostnames: vec![name] });
    }
}

fn mode(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let mode = values::text(s.node, "network_mode").unwrap_or_default();
    match mode {
        "" | "bridge" | "default" => {}
        "host" => s.spec.host_network = true,
        "none" => drop(s.annotations.insert(NETWORK.to_owned(), "none".to_owned())),
        _ if joined::target(s.node).is_some() => {}
        other => {
            let hint = "name the network in networks";
            s.warn(loader, "network_mode", format!("the network {other} has no effect"), hint);
        }
    }
    if !mode.is_empty() && values::get(s.node, "networks").is_some() {
        s.error(
            loader,
            "network_mode",
            "network_mode cannot be combined with networks",
            Some("leave one of both out"),
        );
    }
}

/// The networks that pods of a service are in, which say whom they reach. Those of a service all of whose networks are internal
/// have no route to the outside.
pub fn attach(project: &mut Project<'_, '_>, s: &mut Service<'_>) {
    if values::text(s.node, "network_mode").is_some_and(|mode| !mode.is_empty()) {
        return;
    }
    let keys = keys(s.node);
    let is_internal = |key: &&str| {
        project.entry("networks", key).and_then(|n| values::value(n, "internal", values::flag)) == Some(true)
    };
    if keys.iter().all(is_internal) {
        s.annotations.insert(NETWORK.to_owned(), "internal".to_owned());
    }
    let names: BTreeSet<String> = keys.iter().map(|key| full_name(project, key)).collect();
    if names.iter().eq([DEFAULT_NETWORK]) {
        return;
    }
    let list = names.into_iter().collect::<Vec<_>>().join(", ");
    if let Some(wrong) = wrong_networks(&list) {
        let hint = "names of networks are letters, digits, \".\", \"_\" and \"-\"";
        s.error(project.loader, "networks", wrong, Some(hint));
    }
    s.annotations.insert(NETWORKS.to_owned(), list);
}

/// The networks of a service, as the file calls them.
fn keys(service: &Node) -> Vec<&str> {
    let field = values::get(service, "networks");
    let of_map = field.map(values::entries).unwrap_or_default().iter().map(|(key, _)| key);
    let list = field.map(values::list).unwrap_or_default().iter();
    let mut keys: Vec<&str> = list.chain(of_map).filter_map(|n| n.data.text()).collect();
    if keys.is_empty() {
        keys.push(DEFAULT_NETWORK);
    }
    keys
}

/// The name of a network of the project on the host: external networks, and those with a name, may be shared with other
/// projects. The default one is that of all pods.
fn full_name(project: &Project<'_, '_>, key: &str) -> String {
    let network = project.entry("networks", key);
    let external = network.and_then(|n| values::get(n, "external"));
    let name = network.into_iter().chain(external).find_map(|n| values::text(n, "name"));
    let is_external = external.is_some_and(|n| n.data.text() != Some("false"));
    match name.filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None if is_external || key == DEFAULT_NETWORK => key.to_owned(),
        None => format!("{}_{key}", project.name),
    }
}

/// The Service by which others find it: a name with the addresses of its pods.
pub fn names(project: &mut Project<'_, '_>, s: &Service<'_>) {
    // It has no address of its own.
    if joined::target(s.node).is_some() {
        return;
    }
    let label = values::label(s.name);
    let mut aliases: BTreeSet<String> = BTreeSet::new();
    aliases.insert(s.name.to_owned());
    aliases.extend(
        ["container_name", "hostname"].iter().filter_map(|f| values::text(s.node, f)).map(str::to_owned),
    );
    let networks = values::get(s.node, "networks").map(values::entries).unwrap_or_default();
    for (key, network) in networks {
        let name = full_name(project, key.data.text().unwrap_or_default());
        let all = values::texts(network, "aliases").into_iter().filter(|a| !a.contains('@'));
        aliases.extend(all.map(|alias| format!("{alias}@{name}")));
    }
    // A link is a name that only one service has for another; here all have it.
    for (_, node) in &project.services {
        for link in values::texts(node, "links") {
            if let Some((_, alias)) = link.split_once(':').filter(|(name, _)| *name == s.name) {
                aliases.insert(alias.to_owned());
            }
        }
    }
    aliases.remove(&label);
    aliases.retain(|a| !a.is_empty() && !a.contains(','));
    let port = |p: &crate::workload::pod::Port| {
        let protocol = p.protocol.as_deref().unwrap_or("TCP");
        let name = format!("{}-{}", protocol.to_lowercase(), p.container_port);
        json!({"name": name, "port": p.container_port, "protocol": protocol})
    };
    let mut ports: Vec<serde_json::Value> = s.container.ports.iter().map(port).collect();
    ports.sort_by_key(ToString::to_string);
    ports.dedup();
    let selector = json!({PROJECT: project.name, SERVICE: label});
    super::kept::push(
        project,
        KeptKind::Service,
        &label,
        json!({"spec": {"clusterIP": "None", "selector": selector, "ports": ports}}),
    );
    if let Some(Object::Kept(KeptObject { metadata, .. })) = project.objects.last_mut()
        && !aliases.is_empty()
    {
        let list: Vec<String> = aliases.into_iter().collect();
        metadata.annotations.insert(ALIASES.to_owned(), list.join(","));
    }
}
