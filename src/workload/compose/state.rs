//! A project and one of its services while they are read.

use std::collections::BTreeMap;

use super::build::Build;
use super::load::{Loader, Scope};
use super::{values, words};
use crate::config::document::Node;
use crate::workload::model::{Container, Spec};
use crate::workload::object::Object;

/// A project whose services are made into workloads.
pub struct Project<'a, 'h> {
    pub loader: &'a mut Loader<'h>,
    pub name: String,
    pub scope: &'a Scope,
    pub root: &'a Node,
    /// The active services, by name.
    pub services: Vec<(&'a str, &'a Node)>,
    pub objects: Vec<Object>,
}

/// A service that is being read.
pub struct Service<'a> {
    pub name: &'a str,
    pub node: &'a Node,
    pub spec: Spec,
    pub container: Container,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub build: Option<Build>,
}

impl<'a> Service<'a> {
    /// The path of a field.
    pub fn path(&self, field: &str) -> String {
        format!("services.{}.{field}", self.name)
    }

    /// The field, or the service itself.
    pub fn at(&self, field: &str) -> &'a Node {
        values::get(self.node, field).unwrap_or(self.node)
    }

    pub fn error(
        &self,
        loader: &mut Loader<'_>,
        field: &str,
        message: impl Into<String>,
        hint: Option<&str>,
    ) {
        loader.error(self.at(field).place, &self.path(field), message, hint.map(str::to_owned));
    }

    pub fn warn(&self, loader: &mut Loader<'_>, field: &str, message: impl Into<String>, hint: &str) {
        loader.warn(self.at(field).place, &self.path(field), message, Some(hint.to_owned()));
    }
}

/// The words of a command.
pub fn command(loader: &mut Loader<'_>, node: &Node, path: &str) -> Vec<String> {
    let words = match node.data.text() {
        Some(line) => words::split(line).unwrap_or_else(|| {
            loader.error(node.place, path, "a quote is not closed", None);
            Vec::new()
        }),
        None => values::list(node).iter().filter_map(|n| n.data.text().map(str::to_owned)).collect(),
    };
    words.iter().map(|w| values::literal(w)).collect()
}
