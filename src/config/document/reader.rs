//! Trees to values: takes what is right, and collects everything that is wrong.

use super::diagnostic::Position;
use super::{Data, Node};

/// A value and the property that it is of.
#[derive(Debug, Clone)]
pub struct Item<'n> {
    pub node: &'n Node,
    /// As `spec.containers[0]`.
    pub path: String,
}

/// The fields of a mapping.
#[derive(Debug, Clone)]
pub struct Fields<'n> {
    pub place: Position,
    pub path: String,
    entries: &'n [(Node, Node)],
}

impl<'n> Fields<'n> {
    /// Those of a mapping.
    pub fn from_mapping(item: &Item<'n>) -> Option<Fields<'n>> {
        match &item.node.data {
            Data::Map(entries) => Some(Fields { place: item.node.place, path: item.path.clone(), entries }),
            _ => None,
        }
    }

    /// The field `name`; one without a value is as good as absent.
    pub fn get(&self, name: &str) -> Option<Item<'n>> {
        let of_name = |(key, _): &&(Node, Node)| key.data.text() == Some(name);
        let (_, node) = self.entries.iter().find(of_name)?;
        (node.data != Data::Null).then(|| Item { node, path: join(&self.path, name) })
    }

    /// All fields: the key's node, the name and the value.
    pub fn all(&self) -> impl Iterator<Item = (&'n Node, &'n str, Item<'n>)> + '_ {
        self.entries.iter().filter_map(|(key, node)| {
            let name = key.data.text()?;
            Some((key, name, Item { node, path: join(&self.path, name) }))
        })
    }
}

/// The path of field `name` of `path`.
pub fn join(path: &str, name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_<".contains(c));
    match path {
        "" if plain => name.to_owned(),
        path if !plain => format!("{path}[{name:?}]"),
        path => format!("{path}.{name}"),
    }
}

/// The entry of `known` that `name` was probably meant to be: the one with the fewest letters added, left out, replaced
/// or swapped with their neighbour.
pub fn similar<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain =
        |text: &str| text.chars().filter(|c| !"-_".contains(*c)).take(64).collect::<String>().to_lowercase();
    let near = |candidate: &str| strsim::osa_distance(&plain(name), &plain(candidate));
    let best = known.iter().min_by_key(|candidate| near(candidate))?;
    // A third of the letters may differ; short words are too easily alike.
    (near(best) * 3 <= name.len().max(3)).then_some(*best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers_are_recognised_and_other_words_are_not() {
        let known = ["replicas", "restartPolicy", "stopSignal", "bundle", "args", "env"];
        for (slip, meant) in [
            ("replica", "replicas"),
            ("Replicas", "replicas"),
            ("relpicas", "replicas"),
            ("restart_policy", "restartPolicy"),
            ("restartpolicy", "restartPolicy"),
            ("stopsignal", "stopSignal"),
            ("bundel", "bundle"),
            ("arg", "args"),
            ("envs", "env"),
        ] {
            assert_eq!(similar(slip, &known), Some(meant), "{slip}");
        }
        for other in ["image", "ports", "x", "", "selector", "template"] {
            assert_eq!(similar(other, &known), None, "{other}");
        }
    }

    #[test]
    fn paths_name_properties_as_people_do() {
        assert_eq!(join("", "spec"), "spec");
        assert_eq!(join("spec", "replicas"), "spec.replicas");
        assert_eq!(join("metadata.labels", "a.b/c"), "metadata.labels[\"a.b/c\"]");
    }
}
