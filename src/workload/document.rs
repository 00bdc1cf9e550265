//! One document of a file, after the check against the table of its kind.

use serde_json::{Map, Value};

use super::model::Metadata;
use crate::config::document::Node;

/// One object of a file.
pub struct Document<'n> {
    pub kind: &'static str,
    pub node: &'n Node,
    /// The valid fields.
    pub value: Map<String, Value>,
}

impl Document<'_> {
    /// The name in its metadata.
    pub fn name(&self) -> &str {
        self.value.get("metadata").and_then(|m| m["name"].as_str()).unwrap_or_default()
    }
}

/// Name, labels and annotations of an object.
pub fn metadata(d: &Document<'_>) -> Metadata {
    let texts = |name: &str| {
        let map = d.value.get("metadata").and_then(|m| m[name].as_object());
        map.into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
            .collect()
    };
    Metadata { name: d.name().to_owned(), labels: texts("labels"), annotations: texts("annotations") }
}
