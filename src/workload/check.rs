//! Documents against the tables: unknown fields, wrong types, fields that are not supported. What is right comes back as a
//! JSON value in which every scalar has its one form and only fields with an effect are left.

use serde_json::{Map, Value, json};

use super::annotations::{NETWORK, NETWORKS, PROXY_PROTOCOL, PUBLISH, wrong_networks};
use super::fix;
use super::scalar;
use super::schema::{Class, Row, Schema, Type, last, schema, step};
use crate::config::document::diagnostic::{Diagnostic, Fix, Position};
use crate::config::document::reader::{Fields, Item, join, similar};
use crate::config::document::{Data, Node};

/// Annotations with an effect, and the values that each takes.
const KNOWN: [(&str, &[&str]); 3] =
    [(PROXY_PROTOCOL, &["v2"]), (PUBLISH, &["kernel"]), (NETWORK, &["none", "internal"])];
/// How many fields are named when none is similar.
const MOST_NAMED: usize = 14;

/// Checks the documents of one file.
pub struct Checker<'t> {
    schema: &'static Schema,
    /// The file.
    pub text: &'t str,
    pub problems: Vec<Diagnostic>,
    /// The kind of the document.
    kind: &'static str,
}

impl<'t> Checker<'t> {
    pub fn new(text: &'t str) -> Checker<'t> {
        Checker { schema: schema(), text, problems: Vec::new(), kind: "" }
    }

    /// Adds an error.
    pub fn error(&mut self, place: Position, path: &str, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(Diagnostic { hint, ..Diagnostic::new(place, path, message) });
    }

    /// Checks a document of `kind`, whose root is `node`.
    pub fn document(&mut self, kind: &'static str, node: &Node) -> Value {
        self.kind = kind;
        let item = Item { node, path: String::new() };
        self.structure(kind, &item).map_or(Value::Null, Value::Object)
    }

    fn structure(&mut self, owner: &'static str, item: &Item<'_>) -> Option<Map<String, Value>> {
        let fields = self.mapping(item, None)?;
        let mut object = Map::new();
        for (key, name, value) in fields.all() {
            match self.schema.field(owner, name) {
                None => self.unknown(owner, item, key, name),
                Some(_) if value.node.data == Data::Null => {}
                Some(row) => {
                    if let Some(value) = self.field(row, key, &value, item) {
                        object.insert(name.to_owned(), value);
                    }
                }
            }
        }
        for row in self.schema.fields(owner).iter().filter(|r| r.required) {
            if fields.get(row.field).is_none() {
                let hint = format!("write `{}`", example(row));
                let message = format!("field {:?} is missing", row.field);
                self.error(fields.place, &fields.path, message, Some(hint));
            }
        }
        Some(object)
    }

    /// A field with a value.
    fn field(&mut self, row: &'static Row, key: &Node, item: &Item<'_>, parent: &Item<'_>) -> Option<Value> {
        if row.class == Class::Refused {
            let message = format!("{} is not supported", row.field);
            self.error(key.place, &item.path, message, Some(row.text.to_owned()));
            return None;
        }
        let before = self.problems.len();
        if matches!(row.owner, "Metadata" | "WorkloadMetadata" | "PodMetadata")
            && matches!(row.field, "labels" | "annotations")
        {
            self.labels(item, row.field == "labels");
        }
        let value = self.value(&row.ty, item, Some((row, parent)));
        let wrong = self.problems[before..].iter().any(Diagnostic::is_error);
        match row.class {
            Class::Later if !wrong && !is_default(row, item) => {
                let message = format!("{} is not supported yet", row.field);
                self.error(key.place, &item.path, message, Some(row.text.to_owned()));
                None
            }
            // This word has an effect, unlike an address.
            Class::Warned
                if (row.owner, row.field) == ("ServiceSpec", "clusterIP")
                    && item.node.data.text() == Some("None") =>
            {
                value
            }
            Class::Warned if !wrong && !is_false(item) => {
                let warning = Diagnostic::new(key.place, &item.path, format!("{} has no effect", row.field));
                self.problems.push(warning.hint(row.text).warning());
                None
            }
            Class::Done => value,
            _ => None,
        }
    }

    /// Labels, whose values are short so that they can be selected by, or annotations.
    fn labels(&mut self, item: &Item<'_>, labels: bool) {
        for (key, name, value) in Fields::from_mapping(item).iter().flat_map(Fields::all) {
            let (prefix, last) = name.rsplit_once('/').unwrap_or(("", name));
            let prefixed =
                !name.contains('/') || (prefix.len() <= 253 && prefix.split('.').all(scalar::is_label));
            if !prefixed || last.is_empty() || !scalar::is_label_text(last) {
                let message = format!("invalid label name {name:?}");
                let hint = "names are [DNS-NAME/]NAME, of letters, digits, \"-\", \"_\" and \".\"".to_owned();
                self.error(key.place, &item.path, message, Some(hint));
            }
            if let Data::String(text) = &value.node.data
                && labels
                && !scalar::is_label_text(text)
            {
                let message = format!("{name} must be at most 63 letters, digits, \"-\", \"_\" and \".\"");
                self.error(
                    value.node.place,
                    &value.path,
                    message,
                    Some("annotations take any text".to_owned()),
                );
            }
            let known = KNOWN.iter().find(|(known, _)| !labels && *known == name);
            let is_one = |values: &[&str]| value.node.data.text().is_some_and(|text| values.contains(&text));
            if let Some((_, values)) = known.filter(|(_, values)| !is_one(values)) {
                let message = format!("invalid value of {name}");
                let hint = format!("write {}, or leave it out", values.join(" or "));
                self.error(value.node.place, &value.path, message, Some(hint));
            }
            let networks = value.node.data.text().filter(|_| !labels && name == NETWORKS);
            if let Some(wrong) = networks.and_then(wrong_networks) {
                let hint = format!("write names separated by commas, such as {name}: \"front, back\"");
                self.error(value.node.place, &value.path, wrong, Some(hint));
            }
        }
    }

    fn value(&mut self, ty: &Type, item: &Item<'_>, row: Option<(&'static Row, &Item<'_>)>) -> Option<Value> {
        match ty {
            Type::Any => Some(Value::Null),
            Type::Struct(owner) => {
                self.mapping(item, row)?;
                self.structure(owner, item).map(Value::Object)
            }
            Type::Map(of) => {
                let fields = self.mapping(item, row)?;
                let mut object = Map::new();
                for (_, name, value) in fields.all() {
                    if value.node.data != Data::Null
                        && let Some(value) = self.value(of, &value, None)
                    {
                        object.insert(name.to_owned(), value);
                    }
                }
                Some(Value::Object(object))
            }
            Type::List(of) => {
                let Data::List(list) = &item.node.data else {
                    self.not_a_list(item, of);
                    return None;
                };
                let entry = |(n, node)| Item { node, path: format!("{}[{n}]", item.path) };
                let entries: Vec<Item<'_>> = list.iter().enumerate().map(entry).collect();
                let values: Vec<Option<Value>> = entries.iter().map(|e| self.value(of, e, None)).collect();
                Some(values.into_iter().flatten().collect())
            }
            scalar => match scalar::read(scalar, item) {
                Ok(value) => Some(value),
                Err(problem) => {
                    self.problems.push(*problem);
                    None
                }
            },
        }
    }

    fn mapping<'n>(&mut self, item: &Item<'n>, row: Option<(&'static Row, &Item<'_>)>) -> Option<Fields<'n>> {
        if let Some(fields) = Fields::from_mapping(item) {
            return Some(fields);
        }
        let message = format!("{} must be a mapping, not {}", last(&item.path), item.node.data.noun());
        let mut problem = Diagnostic::new(item.node.place, &item.path, message);
        if let Some((row, _)) = row {
            problem.hint = Some(format!("write `{}`", example(row)));
            if row.owner == "Volume" && row.field == "emptyDir" {
                let mounted =
                    item.node.data.text().and_then(|path| self.mount_of(path, item.node.place.line as usize));
                let mounted = mounted.unwrap_or_else(|| "volumeMounts sets where it is mounted".to_owned());
                problem.hint = Some(format!("write `emptyDir: {{}}`; {mounted}"));
                problem.fix = fix::replace(item.node, "{}");
            }
        } else if matches!(&item.node.data, Data::String(text) if text.contains("={{") || text.contains('='))
        {
            problem.hint = Some("write `name: NAME`, below it `value: VALUE`".to_owned());
        }
        self.problems.push(problem);
        None
    }

    /// Where a volume with the path `path` instead of its source, on `line`, is mounted already.
    fn mount_of(&self, path: &str, line: usize) -> Option<String> {
        if !path.starts_with('/') {
            return None;
        }
        let lines: Vec<&str> = self.text.lines().map(|l| l.trim_start_matches([' ', '-'])).collect();
        let value = |at: usize, key: &str| {
            let value = lines.get(at)?.strip_prefix(key)?.strip_prefix(':')?;
            Some(value.trim().trim_matches(['"', '\'']))
        };
        // The name is written above the source as a rule, and beside the path of the mount.
        let name = (0..line).rev().find_map(|at| value(at, "name"));
        let is_own = |at: usize| [at.wrapping_sub(1), at + 1].iter().any(|n| value(*n, "name") == name);
        let mounts = || (0..lines.len()).filter(|at| value(*at, "mountPath") == Some(path));
        let at = mounts().find(|at| is_own(*at)).or_else(|| mounts().next())? + 1;
        Some(format!("volumeMounts already says where it is mounted (line {at}: {path})"))
    }

    fn not_a_list(&mut self, item: &Item<'_>, of: &Type) {
        let message = format!("{} must be a list, not {}", last(&item.path), item.node.data.noun());
        let hint = match (&item.node.data, of) {
            (Data::Map(_), Type::Struct(owner)) if self.schema.field(owner, "value").is_some() => {
                Some("write a list: `- name: NAME`, below it `value: VALUE`".to_owned())
            }
            (Data::Map(_), Type::Struct(_)) => Some("write `- ` before each entry".to_owned()),
            (Data::Null, _) => None,
            (data, _) => data.text().map(|text| format!("write `[{}]`", scalar::quoted(text))),
        };
        let fix = match (&item.node.data, of) {
            (Data::String(text), Type::String) => {
                fix::replace(item.node, &format!("[{}]", scalar::quoted(text)))
            }
            _ => None,
        };
        self.problems
            .push(Diagnostic { hint, ..Diagnostic::new(item.node.place, &item.path, message) }.fix(fix));
    }

    fn unknown(&mut self, owner: &'static str, parent: &Item<'_>, key: &Node, name: &str) {
        if owner == "Limits" || owner == "Requests" {
            let message = format!("this host has no resource {name:?}");
            let hint = "resources are cpu, memory and pids".to_owned();
            return self.error(key.place, &join(&parent.path, name), message, Some(hint));
        }
        let (hint, fix) = self.advice(owner, parent, key, name);
        let problem = Diagnostic::new(key.place, &parent.path, format!("unknown field {name:?}"));
        self.problems.push(problem.hint(hint).fix(fix));
    }

    /// The hint for a field that `owner` does not have.
    fn advice(
        &self,
        owner: &'static str,
        parent: &Item<'_>,
        key: &Node,
        name: &str,
    ) -> (String, Option<Fix>) {
        let known: Vec<&str> = self.schema.fields(owner).iter().map(|r| r.field).collect();
        if let Some(meant) = similar(name, &known) {
            let taken = Fields::from_mapping(parent).is_some_and(|f| f.get(meant).is_some());
            let fix = if taken { None } else { fix::replace(key, meant) };
            return (format!("did you mean {meant:?}?"), fix);
        }
        let all = self.schema.below(self.kind);
        let here = fix::without_indexes(&parent.path);
        let near = |path: &str| path.split('.').zip(here.split('.')).take_while(|(a, b)| a == b).count();
        let home = all.iter().rev().filter(|(path, row)| row.field == name && *path != here).max_by_key(
            |(path, row)| {
                (near(path), row.class == Class::Done, std::cmp::Reverse(path.matches('.').count()))
            },
        );
        if let Some((path, _)) = home {
            let moved = fix::to_home(self.text, parent.node, key, &here, path);
            return match moved {
                Some((columns, fix)) => (format!("it belongs in {path}, {columns}"), Some(fix)),
                None if path.is_empty() => ("it belongs at the top level".to_owned(), None),
                None => (format!("it belongs in {path}"), None),
            };
        }
        let names: Vec<&str> = all.iter().map(|(_, row)| row.field).collect();
        if let Some(meant) = similar(name, &names)
            && let Some((path, _)) = all.iter().find(|(_, row)| row.field == meant)
        {
            return (format!("did you mean {}?", step(path, meant)), None);
        }
        if let Some(kind) = self.schema.kinds().find(|kind| {
            *kind != self.kind && self.schema.below(kind).iter().any(|(_, row)| row.field == name)
        }) {
            return (format!("it is a field of {kind}"), None);
        }
        let more = if known.len() > MOST_NAMED { ", ..." } else { "" };
        let named: Vec<&str> = known.into_iter().take(MOST_NAMED).collect();
        (format!("the fields here are {}{more}", named.join(", ")), None)
    }
}

/// Whether a flag is given and not set: nobody relies on it.
fn is_false(item: &Item<'_>) -> bool {
    item.node.data.text() == Some("false")
}

/// Whether a value says what holds without it.
fn is_default(row: &Row, item: &Item<'_>) -> bool {
    let empty = matches!(&item.node.data, Data::List(list) if list.is_empty());
    empty || item.node.data.text().is_some_and(|text| row.default == Some(text))
}

/// How a field is written.
fn example(row: &Row) -> String {
    let value = match &row.ty {
        Type::Label | Type::Name if row.field == "name" => "NAME".to_owned(),
        Type::Word(words) => words.first().copied().unwrap_or_default().to_owned(),
        Type::Int { .. } | Type::Count { .. } | Type::IntOrString => "NUMBER".to_owned(),
        Type::List(of) if matches!(**of, Type::String) => "[PROGRAM, ARGUMENT]".to_owned(),
        Type::List(_) => return format!("{}:` and a list below it, `- ...", row.field),
        Type::Struct(_) | Type::Map(_) => match schema_example(&row.ty) {
            Some(inner) => format!("{{{inner}}}"),
            None => "{}".to_owned(),
        },
        _ if row.field == "apiVersion" || row.field == "kind" => {
            row.text.split([':', '.']).next().unwrap_or("").to_owned()
        }
        _ => row.field.to_uppercase(),
    };
    format!("{}: {value}", row.field)
}

fn schema_example(ty: &Type) -> Option<String> {
    let Type::Struct(owner) = ty else { return None };
    let required = schema().fields(owner).iter().find(|r| r.required)?;
    let simple = !matches!(required.ty, Type::Struct(_) | Type::List(_));
    simple.then(|| example(required))
}

/// An empty object where nothing was readable.
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => json!({}).as_object().cloned().unwrap_or_default(),
    }
}
