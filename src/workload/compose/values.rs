//! Scalars of Compose files, and access to the values of a checked tree. After interpolation everything may be a string, so
//! numbers and booleans are read with and without quotes.

use core::time::Duration;
use std::borrow::Cow;

use crate::config::document::{Data, Node};
use crate::config::quantity;

/// Docker's booleans, and those of YAML 1.1.
#[must_use]
pub fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" => Some(true),
        "false" | "no" | "off" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// CPUs, in thousandths.
#[must_use]
pub fn cpus(text: &str) -> Option<u64> {
    let cpus = text.parse::<f64>().ok()?;
    (0.0..1e6).contains(&cpus).then_some((cpus * 1000.0).ceil() as u64)
}

/// A duration with a unit; `0` needs none.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    let unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    if unit || text == "0" { quantity::duration(text) } else { None }
}

/// A whole number.
#[must_use]
pub fn integer(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// The value of a mapping.
#[must_use]
pub fn get<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    entries(node)
        .iter()
        .find(|(k, _)| k.data.text() == Some(name))
        .map(|(_, v)| v)
        .filter(|v| v.data != Data::Null)
}

/// The entries of a mapping.
#[must_use]
pub fn entries(node: &Node) -> &[(Node, Node)] {
    match &node.data {
        Data::Map(entries) => entries,
        _ => &[],
    }
}

/// The entries of a list, or the value itself as the only one.
#[must_use]
pub fn list(node: &Node) -> &[Node] {
    match &node.data {
        Data::List(list) => list,
        Data::Null | Data::Map(_) => &[],
        _ => std::slice::from_ref(node),
    }
}

/// As [`list`], also for a mapping.
#[must_use]
pub fn list_or_one(node: &Node) -> &[Node] {
    match &node.data {
        Data::List(list) => list,
        Data::Null => &[],
        _ => std::slice::from_ref(node),
    }
}

/// The text of a field.
#[must_use]
pub fn text<'n>(node: &'n Node, name: &str) -> Option<&'n str> {
    get(node, name)?.data.text()
}

/// The texts of a list or of a single value.
#[must_use]
pub fn texts(node: &Node, name: &str) -> Vec<String> {
    let of = |n: &Node| n.data.text().map(str::to_owned);
    get(node, name).map(list).unwrap_or_default().iter().filter_map(of).collect()
}

/// A field that `parse` reads.
#[must_use]
pub fn value<T>(node: &Node, name: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
    text(node, name).and_then(parse)
}

/// Whether a field is true.
#[must_use]
pub fn is_set(node: &Node, name: &str) -> bool {
    value(node, name, flag) == Some(true)
}

/// The pairs of a mapping or of a list of `NAME=VALUE`, with the node of each; `None` is a name without a value. An entry of
/// a list is split at the first of `separators` in it.
#[must_use]
pub fn pairs<'n>(node: &'n Node, separators: &[char]) -> Vec<(Cow<'n, str>, Option<String>, &'n Node)> {
    match &node.data {
        Data::Map(entries) => {
            let pair = |(k, v): &'n (Node, Node)| {
                Some((Cow::from(k.data.text()?), v.data.text().map(str::to_owned), v))
            };
            entries.iter().filter_map(pair).collect()
        }
        _ => {
            let pair = |n: &'n Node| {
                let text = n.data.text()?;
                Some(match text.split_once(separators) {
                    Some((k, v)) => (Cow::from(k), Some(v.to_owned()), n),
                    None => (Cow::from(text), None, n),
                })
            };
            list(node).iter().filter_map(pair).collect()
        }
    }
}

/// A text in which nothing is a variable of a pod.
#[must_use]
pub fn literal(text: &str) -> String {
    if text.contains("$(") || text.contains("$$") { text.replace('$', "$$") } else { text.to_owned() }
}

/// A name like `text` that may be a DNS label: lower-case letters, digits and "-".
#[must_use]
pub fn label(text: &str) -> String {
    let lower = text.to_lowercase();
    let mapped: String =
        lower.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let cut: String = mapped.trim_matches('-').chars().take(63).collect();
    cut.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_as_docker_does() {
        for (text, bytes) in [
            ("64", Some(64)),
            ("64b", Some(64)),
            ("64k", Some(64 << 10)),
            ("64KB", Some(64 << 10)),
            ("1.5g", Some(3 << 29)),
            ("1GiB", Some(1 << 30)),
            ("2 MB", Some(2 << 20)),
            ("m", None),
            ("1x", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(quantity::docker_bytes(text), bytes, "{text}");
        }
        assert_eq!(
            (cpus("0.5"), cpus("2"), cpus("-1"), cpus("x"), cpus("inf")),
            (Some(500), Some(2000), None, None, None)
        );
        assert_eq!(span("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!((span("10"), span("0"), span("")), (None, Some(Duration::ZERO), None));
        assert_eq!((flag("Yes"), flag("OFF"), flag("x")), (Some(true), Some(false), None));
    }

    #[test]
    fn names_become_labels_and_dollars_stay() {
        for (name, expected) in [("web", "web"), ("My_App.1", "my-app-1"), ("_x_", "x"), ("ä", "")] {
            assert_eq!(label(name), expected);
        }
        assert_eq!(label(&"a".repeat(80)).len(), 63);
        for text in ["$HOME", "$(x)", "$$", "a$b", "$$(x) $"] {
            assert_eq!(crate::workload::environment::expand(&literal(text), &Default::default()), text);
        }
    }
}
