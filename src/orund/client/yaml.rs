//! JSON values as YAML, in the block style that people read and write.

use serde_json::Value;
use std::fmt::Write;

/// The document, with a line feed at its end.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => block(&mut out, value, 0),
        other => {
            scalar(&mut out, other);
            out.push('\n');
        }
    }
    out
}

/// A mapping or list that is not empty, each entry on lines of its own.
fn block(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (n, (key, value)) in map.iter().enumerate() {
                // The first entry of a list's mapping follows its dash.
                if n > 0 || !out.ends_with("- ") {
                    out.push_str(&pad);
                }
                string(out, key);
                out.push(':');
                entry(out, value, indent + 2, indent);
            }
        }
        Value::Array(list) => {
            for value in list {
                if !out.ends_with("- ") {
                    out.push_str(&pad);
                }
                out.push_str("- ");
                if is_block(value) {
                    block(out, value, indent + 2);
                } else {
                    scalar(out, value);
                    out.push('\n');
                }
            }
        }
        _ => {}
    }
}

/// The value of a key: lists at the key's own depth, as kubectl writes them.
fn entry(out: &mut String, value: &Value, map_indent: usize, list_indent: usize) {
    if is_block(value) {
        out.push('\n');
        block(out, value, if value.is_array() { list_indent } else { map_indent });
    } else {
        out.push(' ');
        scalar(out, value);
        out.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => string(out, text),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// A string without quotes where it can only be read as that.
fn string(out: &mut String, text: &str) {
    let plain_char = |c: char| c.is_ascii_alphanumeric() || "_-./+@%^=()<> ,:".contains(c);
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.chars().all(plain_char)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        out.push_str(text);
    } else {
        // A JSON string is a YAML string.
        out.push_str(&Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::{self, Data};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn it_is_what_people_write() {
        let value = json!({"kind": "Workload", "metadata": {"labels": {}, "name": "web"},
            "spec": {"args": ["serve", "80", "true"], "containers": [{"name": "a", "env": [{"name": "X"}]}, [[1]]],
            "replicas": 3, "none": null}});
        let expected = "kind: Workload
metadata:
  labels: {}
  name: web
spec:
  args:
  - serve
  - \"80\"
  - \"true\"
  containers:
  - env:
    - name: X
    name: a
  - - - 1
  none: null
  replicas: 3
";
        assert_eq!(text(&value), expected);
    }

    /// The value that a tree of our reader stands for.
    fn plain(data: &Data) -> Value {
        match data {
            Data::Null => Value::Null,
            Data::Bool(b) => Value::Bool(*b),
            Data::Number(text) => text.parse::<i64>().map(Value::from).unwrap(),
            Data::String(text) => Value::from(text.as_str()),
            Data::List(list) => list.iter().map(|n| plain(&n.data)).collect(),
            Data::Map(entries) => {
                let entries =
                    entries.iter().map(|(k, v)| (k.data.text().unwrap().to_owned(), plain(&v.data)));
                Value::Object(entries.collect())
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-z:# -]{0,8}", "[ -~é\n\t\"\\\\]{0,12}", Just("null".to_owned())];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().filter(|(k, _)| k != "<<").collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn our_reader_reads_what_is_written(value in values()) {
            let text = text(&json!({"value": value}));
            let mut problems = Vec::new();
            let documents = document::parse(&text, &mut problems);
            prop_assert_eq!(&problems, &[], "{}", text);
            prop_assert_eq!(plain(&documents[0].data), json!({"value": value}), "{}", text);
        }
    }
}
