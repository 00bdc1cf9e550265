//! The fields of every format as data: what type each has, what orund does with it, and what to say about it. The tables
//! are in `schema/`; checking, "did you mean", `--fix`, `explain` and the ledgers are made from them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;

const TABLES: [&str; 4] = [
    include_str!("schema/compose.tsv"),
    include_str!("schema/kubernetes.tsv"),
    include_str!("schema/openshift.tsv"),
    include_str!("schema/orun.tsv"),
];

/// Support of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Done,
    /// An error until it is there.
    Later,
    /// Accepted with one warning.
    Warned,
    /// Accepted: it has no meaning on one host.
    Silent,
    /// An error, with the reason.
    Refused,
}

impl Class {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Class::Done => "supported",
            Class::Later => "not supported yet",
            Class::Warned => "accepted, with a warning",
            Class::Silent => "accepted, without effect on one host",
            Class::Refused => "not supported",
        }
    }
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Not looked into.
    Any,
    Bool,
    Int {
        least: i64,
        most: i64,
    },
    /// As `Int`; also a quantity, which may be in quotes.
    Count {
        least: i64,
        most: i64,
    },
    String,
    /// A DNS label (RFC 1123).
    Label,
    /// The name of an object: labels with dots between them, 63 characters in all.
    Name,
    /// CPUs, bytes, or either.
    Cpu,
    Bytes,
    Quantity,
    /// A number, or a percentage or name.
    IntOrString,
    /// Permission bits, at most these; a leading 0 means octal, as in YAML 1.1.
    Mode(u32),
    Base64,
    Duration,
    Factor,
    Signal,
    Word(Vec<&'static str>),
    List(Box<Type>),
    Map(Box<Type>),
    Struct(&'static str),
    /// Of Compose: any scalar, and Docker's booleans, bytes, CPUs and durations.
    Text,
    Flag,
    Size,
    Cpus,
    Span,
    /// Either of both.
    Or(Box<Type>, Box<Type>),
}

impl Type {
    fn parse(text: &'static str) -> Option<Type> {
        if let Some(of) = text.strip_prefix("entries ") {
            return Some(Type::List(Box::new(Type::parse(of)?)));
        }
        if let Some(of) = text.strip_prefix("each ") {
            return Some(Type::Map(Box::new(Type::parse(of)?)));
        }
        if let Some((one, other)) = text.split_once(" or ") {
            return Some(Type::Or(Box::new(Type::parse(one)?), Box::new(Type::parse(other)?)));
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some(match word {
            "any" => Type::Any,
            "bool" => Type::Bool,
            "string" => Type::String,
            "label" => Type::Label,
            "name" => Type::Name,
            "cpu" => Type::Cpu,
            "bytes" => Type::Bytes,
            "quantity" => Type::Quantity,
            "intstr" => Type::IntOrString,
            "mode" if rest.is_empty() => Type::Mode(0o777),
            "mode" => Type::Mode(u32::from_str_radix(rest, 8).ok()?),
            "base64" => Type::Base64,
            "duration" => Type::Duration,
            "factor" => Type::Factor,
            "signal" => Type::Signal,
            "text" => Type::Text,
            "flag" => Type::Flag,
            "size" => Type::Size,
            "cpus" => Type::Cpus,
            "span" => Type::Span,
            "word" => Type::Word(rest.split('|').collect()),
            "list" => Type::List(Box::new(Type::parse(rest)?)),
            "map" => Type::Map(Box::new(Type::parse(rest)?)),
            "int" | "count" => {
                let (least, most) = rest.split_once("..").unwrap_or_default();
                let bound =
                    |text: &str, none: i64| if text.is_empty() { Some(none) } else { text.parse().ok() };
                let least = bound(least, i64::from(i32::MIN))?;
                let most = bound(most, i64::from(i32::MAX))?;
                if word == "count" { Type::Count { least, most } } else { Type::Int { least, most } }
            }
            name => Type::Struct(name.strip_prefix('@')?),
        })
    }

    /// The name of the type in messages, as in `must be a list`.
    pub fn noun(&self) -> String {
        match self {
            Type::Any => "anything".to_owned(),
            Type::Bool => "true or false".to_owned(),
            Type::Int { least, most } if *least == i64::from(i32::MIN) && *most == i64::from(i32::MAX) => {
                "a whole number".to_owned()
            }
            Type::Int { least, most } if *most == i64::from(i32::MAX) => {
                format!("a whole number, {least} or more")
            }
            Type::Int { least, most } | Type::Count { least, most } => format!("a whole number from {least} to {most}"),
            Type::String => "a string".to_owned(),
            Type::Label => {
                "1 to 63 lower-case letters, digits and \"-\", neither beginning nor ending with \"-\""
                    .to_owned()
            }
            Type::Name => {
                "1 to 63 lower-case letters, digits, \"-\" and \".\", beginning and ending with a letter or digit".to_owned()
            }
            Type::Cpu => "a number of CPUs such as 0.5, 500m or 2".to_owned(),
            Type::Bytes => "a number of bytes such as 67108864, 64Mi or 1.5Gi".to_owned(),
            Type::Quantity => "a quantity such as 500m, 64Mi or 1.5Gi".to_owned(),
            Type::IntOrString => "a number or a string".to_owned(),
            Type::Mode(most) => format!("permission bits from 0 to 0{most:o}"),
            Type::Base64 => "base64".to_owned(),
            Type::Duration => "seconds, or a duration such as \"500ms\", \"1.5s\" or \"1m30s\"".to_owned(),
            Type::Factor => "a number from 1 to 1000".to_owned(),
            Type::Signal => "the name of a signal such as SIGTERM, SIGQUIT or SIGRTMIN+3".to_owned(),
            Type::Word(words) => format!("one of {}", words.join(", ")),
            Type::List(_) => "a list".to_owned(),
            Type::Map(_) | Type::Struct(_) => "a mapping".to_owned(),
            Type::Text => "a string".to_owned(),
            Type::Flag => "true or false".to_owned(),
            Type::Size => "a number of bytes such as 67108864, 64m or 1.5gb".to_owned(),
            Type::Cpus => "a number of CPUs such as 0.5 or 2".to_owned(),
            Type::Span => "a duration with a unit, such as 500ms, 30s or 1m30s".to_owned(),
            Type::Or(one, other) => format!("{} or {}", one.noun(), other.noun()),
        }
    }

    /// The structure that it is made of, and what stands between it and its fields in a path.
    pub fn inside(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Type::Struct(name) => Some((name, "")),
            Type::List(of) => of.inside().map(|(name, _)| (name, "[]")),
            Type::Map(of) => of.inside().map(|(name, _)| (name, ".*")),
            Type::Or(one, other) => one.inside().or_else(|| other.inside()),
            _ => None,
        }
    }
}

/// One field.
#[derive(Debug, Clone)]
pub struct Row {
    /// The structure that has it.
    pub owner: &'static str,
    pub field: &'static str,
    pub ty: Type,
    pub required: bool,
    pub class: Class,
    pub default: Option<&'static str>,
    /// Its purpose, or the reason why it is not supported.
    pub text: &'static str,
}

impl Row {
    fn parse(line: &'static str) -> Option<Row> {
        let columns: Vec<&str> = line.split('\t').collect();
        let &[path, ty, class, default, text] = columns.as_slice() else { return None };
        let (owner, field) = path.split_once('.')?;
        let class = match class {
            "done" => Class::Done,
            "later" => Class::Later,
            "warned" => Class::Warned,
            "silent" => Class::Silent,
            "refused" => Class::Refused,
            _ => return None,
        };
        let plain = ty.strip_suffix('!').unwrap_or(ty);
        Some(Row {
            owner,
            field,
            ty: Type::parse(plain)?,
            required: plain.len() < ty.len(),
            class,
            default: (default != "-").then_some(default),
            text,
        })
    }
}

/// All tables.
#[derive(Debug, Default)]
pub struct Schema {
    rows: BTreeMap<&'static str, Vec<Row>>,
}

/// The tables of this program.
pub fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut rows: BTreeMap<&'static str, Vec<Row>> = BTreeMap::new();
        for line in lines() {
            if let Some(row) = Row::parse(line) {
                rows.entry(row.owner).or_default().push(row);
            }
        }
        Schema { rows: inherited(rows) }
    })
}

/// All lines with rows.
fn lines() -> impl Iterator<Item = &'static str> {
    TABLES.iter().flat_map(|table| table.lines()).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Replaces each row `TYPE.+  @OTHER` by the rows of OTHER that TYPE does not have itself.
fn inherited(mut rows: BTreeMap<&'static str, Vec<Row>>) -> BTreeMap<&'static str, Vec<Row>> {
    let all = rows.clone();
    for (owner, list) in &mut rows {
        let Some(at) = list.iter().position(|r| r.field == "+") else { continue };
        let plus = list.remove(at);
        let Type::Struct(other) = plus.ty else { continue };
        let own: BTreeSet<&str> = list.iter().map(|r| r.field).collect();
        let more = all.get(other).into_iter().flatten().filter(|r| !own.contains(r.field));
        let more: Vec<Row> = more.map(|r| Row { owner, ..r.clone() }).collect();
        list.extend(more);
    }
    rows
}

impl Schema {
    /// The fields of a structure.
    pub fn fields(&self, owner: &str) -> &[Row] {
        self.rows.get(owner).map_or(&[], Vec::as_slice)
    }

    /// One field of a structure.
    pub fn field(&self, owner: &str, name: &str) -> Option<&Row> {
        self.fields(owner).iter().find(|r| r.field == name)
    }

    /// The structures that documents have: those with a kind.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.rows
            .iter()
            .filter(|(_, rows)| rows.iter().any(|r| r.field == "kind"))
            .map(|(kind, _)| *kind)
            .filter(|kind| *kind != "PersistentVolumeClaimTemplate" && *kind != "ImageReference")
    }

    /// Every field below `kind`, nearest first: the path of what has it, as `spec.template.spec`, and the row.
    pub fn below(&'static self, kind: &'static str) -> Vec<(String, &'static Row)> {
        let mut found = Vec::new();
        let mut next = VecDeque::from([(String::new(), kind, 0)]);
        while let Some((path, owner, depth)) = next.pop_front() {
            for row in self.fields(owner) {
                if let Some((inner, suffix)) = row.ty.inside()
                    && depth < 12
                {
                    next.push_back((format!("{}{suffix}", step(&path, row.field)), inner, depth + 1));
                }
                found.push((path.clone(), row));
            }
        }
        found
    }
}

/// The path of field `name` of `path`.
pub fn step(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The last part of a path, as people say it.
pub fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_row_and_every_structure_exists() {
        let mut seen = BTreeSet::new();
        for line in lines() {
            let row = Row::parse(line).unwrap_or_else(|| panic!("not a row: {line:?}"));
            assert!(seen.insert((row.owner, row.field)), "two rows: {line:?}");
            assert!(row.text.ends_with('.') || row.field == "+", "no sentence: {line:?}");
            if let Some((inner, _)) = row.ty.inside() {
                assert!(!schema().fields(inner).is_empty(), "no structure {inner:?}: {line:?}");
            }
        }
    }

    #[test]
    fn every_structure_is_part_of_a_kind() {
        let mut used: BTreeSet<&str> = schema().kinds().chain(["Compose"]).collect();
        for kind in schema().kinds().chain(["Compose"]) {
            used.extend(
                schema().below(kind).iter().filter_map(|(_, row)| row.ty.inside()).map(|(name, _)| name),
            );
        }
        let unused: Vec<_> = schema().rows.keys().filter(|owner| !used.contains(*owner)).collect();
        assert!(unused.is_empty(), "{unused:?}");
    }

    #[test]
    fn fields_are_found_with_their_paths() {
        let found = schema().below("Deployment");
        let path = found.iter().find(|(_, r)| r.field == "terminationGracePeriodSeconds").unwrap();
        assert_eq!(path.0, "spec.template.spec");
        assert!(found.iter().any(|(p, r)| p == "spec.template.spec.containers[]" && r.field == "image"));
    }
}
