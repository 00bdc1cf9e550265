//! Trees to values: takes what is right, and collects everything that is wrong.

use super::diagnostic::{Diagnostic, Place};
use super::{Data, Node};

/// Collects the errors of one file.
#[derive(Debug, Default)]
pub struct Reader {
    pub problems: Vec<Diagnostic>,
}

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
    pub place: Place,
    pub path: String,
    entries: &'n [(Node, Node)],
}

impl<'n> Fields<'n> {
    /// Those of a mapping.
    pub fn of(item: &Item<'n>) -> Option<Fields<'n>> {
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

impl Reader {
    /// Adds an error about `item`.
    pub fn wrong(&mut self, item: &Item<'_>, message: impl Into<String>, hint: Option<String>) {
        self.push(item.node.place, &item.path, message.into(), hint);
    }

    /// Adds an error about something at `place`.
    pub fn push(&mut self, place: Place, path: &str, message: String, hint: Option<String>) {
        self.problems.push(Diagnostic { hint, ..Diagnostic::new(place, path, message) });
    }

    /// The fields of a mapping, whatever they are called.
    pub fn mapping<'n>(&mut self, item: &Item<'n>) -> Option<Fields<'n>> {
        match &item.node.data {
            Data::Map(entries) => Some(Fields { place: item.node.place, path: item.path.clone(), entries }),
            other => {
                self.wrong(item, format!("must be a mapping, not {}", other.noun()), None);
                None
            }
        }
    }

    /// The fields of a mapping that has those of `known` and no others; `elsewhere` knows better hints than the
    /// most similar name.
    pub fn fields<'n>(
        &mut self,
        item: &Item<'n>,
        known: &[&str],
        elsewhere: fn(path: &str, name: &str) -> Option<String>,
    ) -> Option<Fields<'n>> {
        let fields = self.mapping(item)?;
        for (key, name, value) in fields.all().filter(|(_, name, _)| !known.contains(name)) {
            let hint = similar(name, known)
                .map(|name| format!("did you mean {name:?}?"))
                .or_else(|| elsewhere(&item.path, name))
                .unwrap_or_else(|| format!("the fields here are {}", known.join(", ")));
            self.push(key.place, &value.path, format!("unknown field {name:?}"), Some(hint));
        }
        Some(fields)
    }

    /// A required field.
    pub fn required<'n>(&mut self, fields: &Fields<'n>, name: &str, example: &str) -> Option<Item<'n>> {
        let found = fields.get(name);
        if found.is_none() {
            let hint = format!("write `{example}`");
            self.push(fields.place, &fields.path, format!("field {name:?} is missing"), Some(hint));
        }
        found
    }

    /// The entries of a list.
    pub fn list<'n>(&mut self, item: &Item<'n>) -> Option<Vec<Item<'n>>> {
        match &item.node.data {
            Data::List(list) => {
                let entry = |(n, node)| Item { node, path: format!("{}[{n}]", item.path) };
                Some(list.iter().enumerate().map(entry).collect())
            }
            other => {
                self.wrong(item, format!("must be a list, not {}", other.noun()), None);
                None
            }
        }
    }

    /// A string. A number or boolean is an error with the hint to quote it: which characters were meant is not
    /// to be guessed.
    pub fn string(&mut self, item: &Item<'_>) -> Option<String> {
        match &item.node.data {
            Data::String(text) if text.contains('\0') => {
                self.wrong(item, "must not contain a NUL character", None);
                None
            }
            Data::String(text) => Some(text.clone()),
            other => {
                let hint = other.text().map(|text| format!("write it in quotes: \"{text}\""));
                self.wrong(item, format!("must be a string, not {}", other.noun()), hint);
                None
            }
        }
    }

    /// A list of strings.
    pub fn strings(&mut self, item: &Item<'_>) -> Option<Vec<String>> {
        let entries = self.list(item)?;
        let strings: Vec<_> = entries.iter().map(|entry| self.string(entry)).collect();
        strings.into_iter().collect()
    }

    /// A whole number from `least` to `most`.
    pub fn integer(&mut self, item: &Item<'_>, least: u64, most: u64) -> Option<u64> {
        let number = match &item.node.data {
            Data::Number(text) => text.parse::<u64>().ok().filter(|n| (least..=most).contains(n)),
            Data::String(text) if text.parse::<u64>().is_ok() => {
                let hint = Some(format!("write it without quotes: {text}"));
                self.wrong(item, "must be a number, not a string", hint);
                return None;
            }
            _ => None,
        };
        if number.is_none() {
            self.wrong(item, format!("must be a whole number from {least} to {most}"), None);
        }
        number
    }

    /// A string or number that `parse` reads.
    pub fn scalar<T>(&mut self, item: &Item<'_>, parse: fn(&str) -> Option<T>, expected: &str) -> Option<T> {
        let value = match &item.node.data {
            Data::String(text) | Data::Number(text) => parse(text),
            _ => None,
        };
        if value.is_none() {
            self.wrong(item, format!("must be {expected}"), None);
        }
        value
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, item: &Item<'_>, words: &[(&str, T)]) -> Option<T> {
        let given = item.node.data.text().unwrap_or_default();
        let found = words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = similar(given, &names).map(|word| format!("did you mean {word:?}?"));
            self.wrong(item, format!("must be one of {}", names.join(", ")), hint);
        }
        found
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
