//! Files with any number of objects of any format.

use std::path::Path;

use super::check::Checker;
use super::document::Document;
use super::kept::KeptObject;
use super::kinds::{self, Verdict};
use super::object::{Object, Read};
use super::{compose, cronjob, kubernetes, native, openshift};
use crate::config::document::diagnostic::{Diagnostic, Diagnostics, Position};
use crate::config::document::reader::similar;
use crate::config::document::{self, Data, Node};

/// Reads a file. `file` is its name for the errors; relative bundles are looked for in `base`.
pub fn read(file: &str, text: &str, base: Option<&Path>) -> Read {
    let mut checker = Checker::new(text);
    let nodes = document::parse(text, &mut checker.problems);
    if let Some(problem) = template(text, &checker.problems) {
        checker.problems = vec![problem];
        return Read { objects: Vec::new(), findings: Diagnostics::new(file, text, checker.problems) };
    }
    if nodes.iter().any(compose::is_file) {
        return compose::read_alone(file, text, base);
    }
    if nodes.is_empty() && checker.problems.is_empty() {
        checker.error(Position::START, "", "the file has no objects", None);
    }
    let mut found = Found { documents: Vec::new(), inert: Vec::new() };
    for node in &nodes {
        found.take(&mut checker, node);
    }
    let mut objects = found.inert;
    let streams = openshift::streams(&found.documents);
    for document in &found.documents {
        let object = match document.kind {
            "Workload" => native::workload(&mut checker, document, base),
            "CronJob" => cronjob::workload(&mut checker, document, base),
            "DeploymentConfig" => openshift::workload(&mut checker, document, &streams, base),
            "ConfigMap" | "Secret" | "PersistentVolumeClaim" | "Service" => {
                kubernetes::check_name(&mut checker, document);
                match document.kind {
                    "Service" => kubernetes::ports(&mut checker, document),
                    "ConfigMap" | "Secret" => kubernetes::keys(&mut checker, document),
                    _ => {}
                }
                KeptObject::new(document).map(Object::Kept)
            }
            _ => kubernetes::workload(&mut checker, document, base),
        };
        let Some(object) = object else { continue };
        if let Some(first) = objects.iter().find(|o| o.is_same(&object)) {
            let message = format!("the name {:?} is used twice; first by a {}", object.name(), first.kind());
            let place = super::semantic::place(document.node, "metadata.name");
            checker.error(place, "metadata.name", message, None);
        }
        objects.push(object);
    }
    Read { objects, findings: Diagnostics::new(file, text, checker.problems) }
}

/// A file that is a template of Helm's, which nobody but Helm can read.
fn template(text: &str, problems: &[Diagnostic]) -> Option<Diagnostic> {
    if problems.is_empty() || text.len() > document::LONGEST {
        return None;
    }
    let has = |line: &str| line.contains("{{") && line.contains("}}");
    let (line, number) = text.lines().zip(1..).find(|(line, _)| has(line))?;
    let column = line.split("{{").next().unwrap_or_default().chars().count() + 1;
    let message = "this is a Helm template, not a manifest";
    let hint = "render it first: `helm template CHART | orund apply -f -`";
    Some(Diagnostic::new(Position::new(number, column, 2), "", message).hint(hint))
}

struct Found<'n> {
    documents: Vec<Document<'n>>,
    inert: Vec<Object>,
}

impl<'n> Found<'n> {
    fn take(&mut self, checker: &mut Checker<'_>, node: &'n Node) {
        let Data::Map(entries) = &node.data else {
            let message = format!("an object must be a mapping, not {}", node.data.noun());
            return checker.error(
                node.place,
                "",
                message,
                Some("it begins with `apiVersion: ...`".to_owned()),
            );
        };
        let get = |name: &str| entries.iter().find(|(k, _)| k.data.text() == Some(name));
        let (version, kind) = (get("apiVersion"), get("kind"));
        let text = |value: Option<&'n (Node, Node)>| value.and_then(|(_, v)| v.data.text());
        if let Some((message, hint)) = source(entries, text(version), text(kind)) {
            return checker.error(node.place, "", message, Some(hint.to_owned()));
        }
        for (name, field, example) in
            [("apiVersion", version, "apiVersion: apps/v1"), ("kind", kind, "kind: Deployment")]
        {
            if field.is_none() {
                let hint = Some(format!("write `{example}`"));
                checker.error(node.place, "", format!("field {name:?} is missing"), hint);
            }
        }
        let (Some((_, version)), Some((_, kind))) = (version, kind) else { return };
        let (group, name) = (version.data.text().unwrap_or_default(), kind.data.text().unwrap_or_default());
        match kinds::verdict(group, name) {
            Verdict::Known("List") => self.list(checker, node),
            Verdict::Known(kind) => {
                let value = super::check::object(checker.document(kind, node));
                self.documents.push(Document { kind, node, value });
            }
            Verdict::Version(right) => {
                let message = format!("apiVersion of a {name} must be {right}");
                let fix = super::fix::replace(version, right);
                let hint = Some(format!("write `apiVersion: {right}`"));
                checker.problems.push(
                    Diagnostic { hint, ..Diagnostic::new(version.place, "apiVersion", message) }.fix(fix),
                );
            }
            Verdict::Inert(reason) => {
                let d = Diagnostic::new(kind.place, "kind", format!("{name} has no effect"));
                checker.problems.push(d.hint(reason).warning());
                let name_of = |n: &Node| super::semantic::text(n, "metadata.name").unwrap_or_default();
                self.inert.push(Object::Inert { kind: name.to_owned(), name: name_of(node) });
            }
            Verdict::Unknown => unknown_kind(checker, kind, name),
        }
    }

    fn list(&mut self, checker: &mut Checker<'_>, node: &'n Node) {
        checker.document("List", node);
        let Some(items) = super::semantic::node(node, "items") else { return };
        if let Data::List(items) = &items.data {
            for item in items {
                self.take(checker, item);
            }
        }
    }
}

/// The message and the hint for a source of Helm or kustomize.
fn source(
    entries: &[(Node, Node)],
    version: Option<&str>,
    kind: Option<&str>,
) -> Option<(&'static str, &'static str)> {
    const KUSTOMIZE: [&str; 6] =
        ["resources", "bases", "components", "patches", "patchesStrategicMerge", "configMapGenerator"];
    let has = |name: &str| entries.iter().any(|(k, _)| k.data.text() == Some(name));
    let kustomization = match version {
        Some(version) => version.starts_with("kustomize.config.k8s.io/"),
        None => kind.is_none() && KUSTOMIZE.iter().any(|name| has(name)),
    };
    if kustomization {
        let hint = "render it first: `kubectl kustomize DIRECTORY | orund apply -f -`";
        return Some(("this is a file of kustomize, not an object", hint));
    }
    let chart = kind.is_none() && matches!(version, Some("v1" | "v2")) && has("name") && has("version");
    chart.then_some((
        "this is the head of a Helm chart, not an object",
        "render it first: `helm template CHART | orund apply -f -`",
    ))
}

/// A kind without a table.
fn unknown_kind(checker: &mut Checker<'_>, kind: &Node, name: &str) {
    let known = kinds::names();
    let meant = similar(name, &known);
    let hint = match meant {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("kinds are {}", known.join(", ")),
    };
    let fix = meant.and_then(|meant| super::fix::replace(kind, meant));
    let d = Diagnostic::new(kind.place, "kind", format!("unknown kind {name:?}"));
    checker.problems.push(d.hint(hint).fix(fix));
}
