//! One change of a document, and how a kind of property is changed.

use serde_json::{Value, json};

/// Which document is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Document {
    /// config.json, with `run`.
    Config,
    /// process.json, with `exec --process`.
    Process,
    /// The resources of `update --resources`.
    Update,
}

impl Document {
    /// As it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Document::Config => "config.json",
            Document::Process => "process.json",
            Document::Update => "update",
        }
    }
}

/// One change of a document.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// The document.
    pub document: Document,
    /// The property, as in messages: `process.cwd`.
    pub property: String,
    /// What is done to it: `null`, `relative`.
    pub name: String,
    /// JSON pointers and their new values; no value removes.
    pub changes: Vec<(String, Option<Value>)>,
}

impl Mutation {
    /// `process.cwd` for `/process/cwd`, `mounts[6].type` for `/mounts/6/type`.
    fn property(pointer: &str) -> String {
        let mut text = String::new();
        for part in pointer.split('/').skip(1) {
            match part.parse::<usize>() {
                Ok(index) => text.push_str(&format!("[{index}]")),
                Err(_) if text.is_empty() => text.push_str(part),
                Err(_) => text.push_str(&format!(".{part}")),
            }
        }
        text
    }

    /// A change of several properties, named after the one at `pointer`.
    pub fn of(document: Document, pointer: &str, name: &str, changes: &[(&str, Value)]) -> Mutation {
        let changes = changes.iter().map(|(p, v)| ((*p).to_owned(), Some(v.clone()))).collect();
        Mutation { document, property: Mutation::property(pointer), name: name.to_owned(), changes }
    }

    /// Applies it.
    pub fn apply(&self, document: &mut Value) {
        for (pointer, value) in &self.changes {
            match value {
                Some(value) => *slot(document, pointer) = value.clone(),
                None => remove(document, pointer),
            }
        }
    }
}

fn remove(document: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    match document.pointer_mut(parent) {
        Some(Value::Object(object)) => drop(object.remove(name)),
        Some(Value::Array(list)) => {
            if let Ok(index) = name.parse::<usize>()
                && index < list.len()
            {
                list.remove(index);
            }
        }
        _ => {}
    }
}

/// The place a JSON pointer means; missing objects on the way are made.
fn slot<'a>(document: &'a mut Value, pointer: &str) -> &'a mut Value {
    let mut at = document;
    for part in pointer.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) if at.is_array() => {
                if let Value::Array(list) = at {
                    while list.len() <= index {
                        list.push(json!({}));
                    }
                }
                &mut at[index]
            }
            _ => {
                if !at.is_object() {
                    *at = json!({});
                }
                &mut at[part]
            }
        };
    }
    at
}

/// What a property holds, with a value that is right.
#[derive(Debug, Clone)]
pub enum Kind {
    /// True or false.
    Bool,
    /// A whole number.
    Number(i64),
    /// One of a set of words.
    Word(&'static str),
    /// Any text.
    Text(&'static str),
    /// A path in the container or on the host.
    Path(&'static str),
    /// A list of texts.
    Texts(&'static [&'static str]),
    /// An object or a list of objects.
    Structure,
}

/// The changes of one property of a kind.
pub fn changes(document: Document, pointer: &str, kind: &Kind) -> Vec<Mutation> {
    let mut all: Vec<(&str, Option<Value>)> = vec![("absent", None), ("null", Some(Value::Null))];
    let text = |s: String| Some(Value::String(s));
    match kind {
        Kind::Bool => {
            let values = [
                ("true", json!(true)),
                ("false", json!(false)),
                ("a text", json!("true")),
                ("a number", json!(1)),
            ];
            all.extend(values.map(|(n, v)| (n, Some(v))));
        }
        Kind::Number(good) => {
            let values = [
                ("as it should be", json!(good)),
                ("0", json!(0)),
                ("-1", json!(-1)),
                ("-2", json!(-2)),
                ("a text", json!(good.to_string())),
                ("a fraction", json!(1.5)),
                ("2^31", json!(1_i64 << 31)),
                ("2^32", json!(1_i64 << 32)),
                ("2^63", json!(1_u64 << 63)),
                ("a list", json!([good])),
            ];
            all.extend(values.map(|(n, v)| (n, Some(v))));
        }
        Kind::Word(good) => {
            all.extend([
                ("as it should be", text((*good).into())),
                ("empty", text(String::new())),
                ("unknown", text("moon".into())),
                ("other case", text(swap_case(good))),
                ("a space in front", text(format!(" {good}"))),
                ("a space behind", text(format!("{good} "))),
                ("a number", Some(json!(1))),
            ]);
        }
        Kind::Text(good) => {
            all.extend([
                ("as it should be", text((*good).into())),
                ("empty", text(String::new())),
                ("a space", text(" ".into())),
                ("a newline behind", text(format!("{good}\n"))),
                ("not ASCII", text("m\u{f6}nd".into())),
                ("long", text("x".repeat(5000))),
                ("a number", Some(json!(1))),
            ]);
        }
        Kind::Path(good) => all.extend(paths(good)),
        Kind::Texts(good) => {
            let twice: Vec<&str> = good.iter().chain(*good).copied().collect();
            let values = [
                ("as it should be", json!(good)),
                ("an empty list", json!([])),
                ("a text", json!(good.first().unwrap_or(&""))),
                ("with an empty text", json!([""])),
                ("with null", json!([null])),
                ("with a number", json!([1])),
                ("everything twice", json!(twice)),
            ];
            all.extend(values.map(|(n, v)| (n, Some(v))));
        }
        Kind::Structure => {
            let values = [
                ("an empty object", json!({})),
                ("an empty list", json!([])),
                ("a text", json!("moon")),
                ("a number", json!(1)),
            ];
            all.extend(values.map(|(n, v)| (n, Some(v))));
        }
    }
    let one = |(name, value): (&str, Option<Value>)| Mutation {
        document,
        property: Mutation::property(pointer),
        name: name.to_owned(),
        changes: vec![(pointer.to_owned(), value)],
    };
    all.into_iter().map(one).collect()
}

fn paths(good: &str) -> Vec<(&'static str, Option<Value>)> {
    let relative = good.trim_start_matches('/');
    [
        ("as it should be", good.to_owned()),
        ("empty", String::new()),
        ("relative", relative.to_owned()),
        ("a slash behind", format!("{good}/")),
        ("slashes twice", good.replace('/', "//")),
        ("with a dot", format!("/.{good}/.")),
        ("with dot dot", format!("/proc/..{good}")),
        ("above the root", format!("/../..{good}")),
        ("a space behind", format!("{good} ")),
        ("the root", "/".to_owned()),
        ("that does not exist", "/none/at/all".to_owned()),
    ]
    .map(|(name, path)| (name, Some(Value::String(path))))
    .into()
}

fn swap_case(text: &str) -> String {
    let swap = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    text.chars().map(swap).collect()
}
