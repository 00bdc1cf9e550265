//! One value over another: several files, `extends` and `include`.
//!
//! Mappings are merged, lists are added to each other, scalars are replaced. What both a mapping and a list can say
//! is a mapping first; what is mounted at the same place, or is a command, is replaced.

use crate::config::document::{Data, Node};

use super::values;

/// Effect of `!reset` and `!override` on a node.
pub type Tag<'t> = &'t dyn Fn(&Node) -> Option<&'static str>;

/// How values at a path are merged.
enum Rule {
    Default,
    /// The later one counts.
    Replace,
    /// `NAME=VALUE`.
    Pairs,
    /// A list of names is a mapping of them.
    Names,
    /// A text is the directory to build in.
    Build,
    /// A mapping is a list of `NAME=ADDRESS`.
    Hosts,
    /// Entries with the same key are the same.
    Keyed(fn(&Node) -> Option<String>),
}

fn rule(path: &str) -> Rule {
    match path.strip_prefix("services.*.").unwrap_or(path) {
        "command" | "entrypoint" | "healthcheck.test" => Rule::Replace,
        "environment"
        | "labels"
        | "annotations"
        | "sysctls"
        | "deploy.labels"
        | "build.args"
        | "build.labels"
        | "build.additional_contexts" => Rule::Pairs,
        "build" if path.starts_with("services") => Rule::Build,
        "extra_hosts" | "build.extra_hosts" => Rule::Hosts,
        "networks" | "depends_on" if path.starts_with("services") => Rule::Names,
        "volumes" if path.starts_with("services") => Rule::Keyed(mount_target),
        "configs" | "secrets" if path.starts_with("services") => Rule::Keyed(file_target),
        "devices" => Rule::Keyed(mount_target),
        _ => Rule::Default,
    }
}

/// Where a volume or a device is in the container.
pub fn mount_target(node: &Node) -> Option<String> {
    let text = match node.data.text() {
        None => values::text(node, "target").or_else(|| values::text(node, "source"))?,
        Some(short) => {
            let parts: Vec<&str> = short.split(':').collect();
            match parts[..] {
                [one] => one,
                [_, target, ..] => target,
                [] => return None,
            }
        }
    };
    Some(text.trim_end_matches('/').to_owned())
}

fn file_target(node: &Node) -> Option<String> {
    let long = || values::text(node, "target").or_else(|| values::text(node, "source"));
    node.data.text().or_else(long).map(str::to_owned)
}

/// `over` over `base`, which are at `path`.
pub fn merge(base: Node, over: Node, path: &str, tag: Tag<'_>) -> Node {
    if tag(&over) == Some("!override") || base.data == Data::Null {
        return over;
    }
    if over.data == Data::Null {
        return base;
    }
    match rule(path) {
        Rule::Replace => return over,
        Rule::Pairs => return maps(paired(base), paired(over), path, tag),
        Rule::Names => return maps(list_to_map(base), list_to_map(over), path, tag),
        Rule::Build => return maps(built(base), built(over), path, tag),
        Rule::Hosts => return added(hosts(base), hosts(over)),
        Rule::Keyed(key) => return keyed(base, over, key),
        Rule::Default => {}
    }
    if path.ends_with(".logging") && values::text(&base, "driver") != values::text(&over, "driver") {
        let other = values::text(&over, "driver").is_some();
        if other {
            return over;
        }
    }
    let text = |n: &Node| n.data.text().is_some();
    let lists = |n: &Node| matches!(n.data, Data::List(_));
    match (&base.data, &over.data) {
        (Data::Map(_), Data::Map(_)) => maps(base, over, path, tag),
        _ if lists(&base) && (lists(&over) || text(&over)) || lists(&over) && text(&base) => {
            added(base, over)
        }
        _ => over,
    }
}

fn maps(base: Node, over: Node, path: &str, tag: Tag<'_>) -> Node {
    let (Data::Map(mut entries), Data::Map(more)) = (base.data, over.data) else {
        return Node { place: over.place, data: Data::Null };
    };
    for (key, value) in more {
        let at = entries.iter().position(|(k, _)| k.data == key.data);
        if tag(&value) == Some("!reset") {
            at.map(|at| entries.remove(at));
            continue;
        }
        match at {
            None => entries.push((key, value)),
            Some(at) => {
                let inner = inside(path, key.data.text().unwrap_or_default());
                let (old_key, old) = entries.remove(at);
                let key = if value.data == Data::Null { old_key } else { key };
                entries.insert(at, (key, merge(old, value, &inner, tag)));
            }
        }
    }
    Node { place: over.place, data: Data::Map(entries) }
}

/// The path of `name` in `path`; names of services and the like are `*`.
fn inside(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        "services" | "volumes" | "networks" | "configs" | "secrets" => format!("{path}.*"),
        path => format!("{path}.{name}"),
    }
}

/// All entries of both, each once.
fn added(base: Node, over: Node) -> Node {
    let mut list = values::list(&base).to_vec();
    for node in values::list(&over) {
        if !list.iter().any(|n| n.data == node.data) {
            list.push(node.clone());
        }
    }
    Node { place: over.place, data: Data::List(list) }
}

fn keyed(base: Node, over: Node, key: fn(&Node) -> Option<String>) -> Node {
    let mut list = values::list(&base).to_vec();
    for node in values::list(&over) {
        match list.iter_mut().find(|n| key(n).is_some() && key(n) == key(node)) {
            Some(same) => same.clone_from(node),
            None => list.push(node.clone()),
        }
    }
    Node { place: over.place, data: Data::List(list) }
}

fn paired(node: Node) -> Node {
    let Data::List(list) = &node.data else { return node };
    let mut entries: Vec<(Node, Node)> = Vec::new();
    for entry in list {
        let Some(text) = entry.data.text() else { continue };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Data::String(value.to_owned())),
            None => (text, Data::Null),
        };
        let pair = (
            Node { place: entry.place, data: Data::String(name.to_owned()) },
            Node { place: entry.place, data: value },
        );
        entries.retain(|(k, _)| k.data != pair.0.data);
        entries.push(pair);
    }
    Node { place: node.place, data: Data::Map(entries) }
}

fn built(node: Node) -> Node {
    if node.data.text().is_none() {
        return node;
    }
    let place = node.place;
    let context = (Node { place, data: Data::String("context".to_owned()) }, node);
    Node { place, data: Data::Map(vec![context]) }
}

fn hosts(node: Node) -> Node {
    let Data::Map(entries) = &node.data else { return node };
    let mut list = Vec::new();
    for (name, addresses) in entries {
        for address in values::list_or_one(addresses) {
            let pair = name.data.text().zip(address.data.text()).map(|(n, a)| format!("{n}={a}"));
            list.extend(pair.map(|p| Node { place: address.place, data: Data::String(p) }));
        }
    }
    Node { place: node.place, data: Data::List(list) }
}

fn list_to_map(node: Node) -> Node {
    let Data::List(list) = node.data else { return node };
    let entry = |n: Node| (Node { place: n.place, data: n.data }, Node { place: n.place, data: Data::Null });
    Node { place: node.place, data: Data::Map(list.into_iter().map(entry).collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document;

    fn parse(text: &str) -> (Node, document::Tags) {
        let mut problems = Vec::new();
        let (mut nodes, tags) = document::parse_tagged(text, &["!reset", "!override"], &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        (nodes.remove(0), tags)
    }

    fn show(node: &Node) -> String {
        match &node.data {
            Data::Map(e) => {
                let each = e.iter().map(|(k, v)| format!("{}: {}", k.data.text().unwrap(), show(v)));
                format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
            }
            Data::List(l) => format!("[{}]", l.iter().map(show).collect::<Vec<_>>().join(", ")),
            data => data.text().unwrap_or("~").to_owned(),
        }
    }

    /// Of one file, of the next, and of both.
    const MERGED: &[(&str, &str, &str)] = &[
        ("image: a", "image: b", "image: b"),
        ("image: a", "user: b", "image: a, user: b"),
        ("command: [a, b]", "command: c", "command: c"),
        ("entrypoint: a", "entrypoint: [b]", "entrypoint: [b]"),
        (
            "healthcheck: {test: [a], retries: 3}",
            "healthcheck: {test: [b]}",
            "healthcheck: {test: [b], retries: 3}",
        ),
        ("environment: [A=1, B=2, C]", "environment: {B: 3, D: 4}", "environment: {A: 1, B: 3, C: ~, D: 4}"),
        ("labels: {a: 1}", "labels: [a=2]", "labels: {a: 2}"),
        ("ports: ['80:80']", "ports: ['80:80', '81:81']", "ports: [80:80, 81:81]"),
        ("volumes: ['a:/x', 'b:/y/']", "volumes: ['c:/y:ro']", "volumes: [a:/x, c:/y:ro]"),
        (
            "volumes: ['a:/x']",
            "volumes: [{type: volume, source: b, target: /x}]",
            "volumes: [{type: volume, source: b, target: /x}]",
        ),
        ("dns: 1.1.1.1", "dns: [8.8.8.8]", "dns: [1.1.1.1, 8.8.8.8]"),
        ("networks: [a]", "networks: {b: {aliases: [x]}}", "networks: {a: ~, b: {aliases: [x]}}"),
        ("depends_on: [a]", "depends_on: [b]", "depends_on: {a: ~, b: ~}"),
        ("logging: {driver: a, options: {x: 1}}", "logging: {driver: b}", "logging: {driver: b}"),
        (
            "logging: {driver: a, options: {x: 1}}",
            "logging: {options: {y: 2}}",
            "logging: {driver: a, options: {x: 1, y: 2}}",
        ),
        ("build: .", "build: {dockerfile: D}", "build: {context: ., dockerfile: D}"),
        (
            "build: {context: a, args: [A=1]}",
            "build: {args: {A: 2, B: 3}}",
            "build: {context: a, args: {A: 2, B: 3}}",
        ),
        ("build: {context: a, target: t}", "build: b", "build: {context: b, target: t}"),
        ("extra_hosts: {a: 1.1.1.1}", "extra_hosts: ['b=2.2.2.2']", "extra_hosts: [a=1.1.1.1, b=2.2.2.2]"),
        ("env_file: a", "env_file: [b, a]", "env_file: [a, b]"),
        ("tmpfs: /a", "tmpfs: [/b]", "tmpfs: [/a, /b]"),
        (
            "ulimits: {nofile: 1, nproc: 2}",
            "ulimits: {nofile: {soft: 1, hard: 2}}",
            "ulimits: {nofile: {soft: 1, hard: 2}, nproc: 2}",
        ),
        ("cap_add: [A, B]", "cap_add: [B, C]", "cap_add: [A, B, C]"),
        (
            "depends_on: [a]",
            "depends_on: {a: {condition: service_healthy}}",
            "depends_on: {a: {condition: service_healthy}}",
        ),
        ("devices: ['/dev/a:/dev/x']", "devices: ['/dev/b:/dev/x']", "devices: [/dev/b:/dev/x]"),
        (
            "deploy: {labels: [a=1], replicas: 1}",
            "deploy: {labels: {b: 2}}",
            "deploy: {labels: {a: 1, b: 2}, replicas: 1}",
        ),
        ("secrets: [a]", "secrets: [{source: b, target: a}]", "secrets: [{source: b, target: a}]"),
        ("ports: ['80:80']\n    user: x", "ports: !reset []\n    user: !reset null", ""),
        ("ports: ['80:80']", "ports: !override\n    - '81:81'", "ports: [81:81]"),
        ("image: a", "image:", "image: a"),
    ];

    #[test]
    fn values_are_merged_by_what_they_are() {
        for (base, over, expected) in MERGED {
            let file = |service: &str| format!("services:\n  web:\n    {service}\n");
            let (base, _) = parse(&file(base));
            let (over, tags) = parse(&file(over));
            let tag = |n: &Node| match tags.get(&(n.place.line, n.place.column)).map(String::as_str) {
                Some("!reset") => Some("!reset"),
                Some(_) => Some("!override"),
                None => None,
            };
            assert_eq!(show(&merge(base, over, "", &tag)), format!("{{services: {{web: {{{expected}}}}}}}"));
        }
    }
}
