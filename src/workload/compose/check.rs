//! A Compose file against its table: unknown fields, wrong types, fields that are not supported.

use crate::config::document::diagnostic::Diagnostic;
use crate::config::document::reader::{Fields, Item, join, similar};
use crate::config::document::{Data, Node};
use crate::config::quantity;
use crate::workload::schema::{Class, Row, Type, last, schema};
use crate::workload::{fix, scalar};

use super::values;

/// Checks the whole of a file whose values have been interpolated.
pub fn file(node: &Node, problems: &mut Vec<Diagnostic>) {
    let mut checker = Checker { problems };
    checker.structure("Compose", &Item { node, path: String::new() });
}

struct Checker<'p> {
    problems: &'p mut Vec<Diagnostic>,
}

/// Whether `item` has the shape of `ty`, as far as it decides between two types.
fn fits(ty: &Type, item: &Item<'_>) -> bool {
    match (ty, &item.node.data) {
        (Type::Any, _) => true,
        (Type::Or(one, other), _) => fits(one, item) || fits(other, item),
        (Type::Map(of), Data::Map(entries)) => {
            // A mapping to texts or one to lists.
            let lists = entries.iter().any(|(_, v)| matches!(v.data, Data::List(_)));
            !lists || matches!(**of, Type::List(_))
        }
        (Type::Struct(_), Data::Map(_)) | (Type::List(_), Data::List(_)) => true,
        (Type::Map(_) | Type::Struct(_) | Type::List(_), _) => false,
        (_, data) => data.text().is_some(),
    }
}

impl Checker<'_> {
    fn structure(&mut self, owner: &'static str, item: &Item<'_>) {
        let Some(fields) = Fields::from_mapping(item) else { return self.shape(&Type::Struct(owner), item) };
        for (key, name, value) in fields.all().filter(|(_, name, _)| !name.starts_with("x-")) {
            match schema().field(owner, name) {
                None => self.unknown(owner, item, key, name),
                Some(_) if value.node.data == Data::Null => {}
                Some(row) => self.field(row, key, &value),
            }
        }
        for row in schema().fields(owner).iter().filter(|r| r.required && fields.get(r.field).is_none()) {
            // An override, or a file that only includes others.
            if owner != "Compose" {
                let message = format!("field {:?} is missing", row.field);
                self.problems.push(Diagnostic::new(fields.place, &fields.path, message));
            }
        }
    }

    fn field(&mut self, row: &'static Row, key: &Node, item: &Item<'_>) {
        let why = row.text.trim_end_matches('.');
        match row.class {
            Class::Refused | Class::Later => {
                let message = format!("{} is not supported", row.field);
                self.problems.push(Diagnostic::new(key.place, &item.path, message).hint(why));
            }
            Class::Done | Class::Warned | Class::Silent => {
                let before = self.problems.len();
                self.value(&row.ty, item);
                let default = item.node.data.text().is_some_and(|text| row.default == Some(text));
                if row.class == Class::Warned && self.problems.len() == before && !default {
                    let message = format!("{} has no effect", row.field);
                    self.problems.push(Diagnostic::new(key.place, &item.path, message).hint(why).warning());
                }
            }
        }
    }

    fn value(&mut self, ty: &Type, item: &Item<'_>) {
        let data = &item.node.data;
        match (ty, data) {
            (Type::Any, _) => {}
            (Type::Or(one, other), _) => {
                let first = fits(one, item) || !fits(other, item);
                match (first, &**other) {
                    (true, _) if !fits(one, item) => self.shape(ty, item),
                    (true, _) => self.value(one, item),
                    (false, other) => self.value(other, item),
                }
            }
            (Type::Struct(owner), _) => self.structure(owner, item),
            (Type::Map(of), Data::Map(_)) => {
                for (_, name, value) in Fields::from_mapping(item).iter().flat_map(Fields::all) {
                    if value.node.data != Data::Null && !name.starts_with("x-") {
                        self.value(of, &value);
                    }
                }
            }
            (Type::List(of), Data::List(list)) => {
                for (n, node) in list.iter().enumerate().filter(|(_, n)| n.data != Data::Null) {
                    self.value(of, &Item { node, path: format!("{}[{n}]", item.path) });
                }
            }
            (Type::Map(_) | Type::List(_), _) => self.shape(ty, item),
            (scalar, data) => match data.text() {
                Some(text) if is_valid(scalar, text, item) => {}
                _ => self.shape(scalar, item),
            },
        }
    }

    fn shape(&mut self, ty: &Type, item: &Item<'_>) {
        let name = last(&item.path);
        let data = &item.node.data;
        let other = if data.text().is_none() { format!(", not {}", data.noun()) } else { String::new() };
        let mut problem =
            Diagnostic::new(item.node.place, &item.path, format!("{name} must be {}{other}", ty.noun()));
        problem.hint = match (ty, data.text()) {
            (Type::Span, Some(text)) if text.parse::<f64>().is_ok() => Some(format!("did you mean {text}s?")),
            (Type::Word(words), Some(text)) => similar(text, words).map(|w| format!("did you mean {w:?}?")),
            _ => None,
        };
        if let (Type::Word(words), Some(text)) = (ty, data.text()) {
            problem.fix = similar(text, words).and_then(|w| fix::replace(item.node, w));
        }
        self.problems.push(problem);
    }

    fn unknown(&mut self, owner: &'static str, parent: &Item<'_>, key: &Node, name: &str) {
        let known: Vec<&str> = schema().fields(owner).iter().map(|r| r.field).collect();
        let mut problem =
            Diagnostic::new(key.place, join(&parent.path, name), format!("unknown field {name:?}"));
        let all = schema().below("Compose");
        let home = all.iter().find(|(_, row)| row.field == name).map(|(path, _)| path.as_str());
        problem = match (similar(name, &known), home) {
            (Some(meant), _) => {
                problem.hint(format!("did you mean {meant:?}?")).fix(fix::replace(key, meant))
            }
            (None, Some("")) => problem.hint("it belongs at the top level"),
            (None, Some(home)) => problem.hint(format!("it belongs in {}", home.replace(".*", ".NAME"))),
            (None, None) if known.len() < 15 => {
                problem.hint(format!("the fields here are {}", known.join(", ")))
            }
            (None, None) => problem.hint("`orund explain services` lists the fields"),
        };
        self.problems.push(problem);
    }
}

fn is_valid(ty: &Type, text: &str, item: &Item<'_>) -> bool {
    match ty {
        Type::String | Type::Text => !text.contains('\0'),
        Type::Flag => values::flag(text).is_some(),
        Type::Size => quantity::docker_bytes(text).is_some(),
        Type::Cpus => values::cpus(text).is_some(),
        Type::Span => values::span(text).is_some(),
        Type::Int { least, most } | Type::Count { least, most } => {
            values::integer(text).is_some_and(|n| (*least..=*most).contains(&n))
        }
        Type::Signal => quantity::Signal::parse(text).is_some(),
        Type::Word(words) => words.contains(&text),
        ty => scalar::read(ty, item).is_ok(),
    }
}
