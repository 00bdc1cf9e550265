//! Objects from the sections at the top: claims for volumes, ConfigMaps for configs, Secrets for secrets.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use super::state::Project;
use super::{PROJECT, values};
use crate::config::document::Node;
use crate::workload::kept::{KeptKind, KeptObject};
use crate::workload::model::Metadata;
use crate::workload::object::Object;
use crate::workload::scalar;

/// Where a volume is.
pub enum VolumeSource {
    Claim(String),
    Host(String),
}

/// A key of a ConfigMap or Secret.
pub struct File {
    pub name: String,
    pub key: String,
}

/// Adds an object of the project.
pub fn push(project: &mut Project<'_, '_>, kind: KeptKind, name: &str, fields: Value) {
    let labels = BTreeMap::from([(PROJECT.to_owned(), project.name.clone())]);
    let metadata = Metadata { name: name.to_owned(), labels, annotations: BTreeMap::new() };
    let fields = match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let object = KeptObject { api_version: "v1".to_owned(), kind, metadata, fields };
    project.objects.push(Object::Kept(object));
}

/// The ConfigMaps and Secrets of the project.
pub fn objects(project: &mut Project<'_, '_>) {
    for section in ["configs", "secrets"] {
        let entries = values::get(project.root, section).map(values::entries).unwrap_or_default();
        for (key, node) in entries {
            let name = key.data.text().unwrap_or_default();
            if !is_used(project, section, name) {
                continue;
            }
            if let Some(data) = content(project, section, name, node) {
                make(project, section, name, &data);
            }
        }
    }
}

fn make(project: &mut Project<'_, '_>, section: &str, name: &str, data: &[u8]) {
    let object = object_name(project, name);
    let encoded = || json!({name: scalar::to_base64(data)});
    let key = |name: &str| crate::workload::files::is_key(name);
    debug_assert!(key(name));
    match (section, std::str::from_utf8(data)) {
        ("secrets", _) => {
            push(project, KeptKind::Secret, &object, json!({"type": "Opaque", "data": encoded()}))
        }
        (_, Ok(text)) => push(project, KeptKind::ConfigMap, &object, json!({"data": {name: text}})),
        (_, Err(_)) => push(project, KeptKind::ConfigMap, &object, json!({"binaryData": encoded()})),
    }
}

fn object_name(project: &Project<'_, '_>, name: &str) -> String {
    values::label(&format!("{}-{name}", project.name))
}

fn is_used(project: &Project<'_, '_>, section: &str, name: &str) -> bool {
    let uses = |(_, node): &(&str, &Node)| {
        let list = values::get(node, section).map(values::list).unwrap_or_default();
        list.iter().any(|e| e.data.text().or_else(|| values::text(e, "source")) == Some(name))
    };
    project.services.iter().any(uses)
}

/// Whether it exists apart from the project.
fn is_external(node: &Node) -> bool {
    let field = values::get(node, "external");
    field.is_some_and(|f| f.data.text().is_none_or(|text| values::flag(text) == Some(true)))
}

fn content(project: &mut Project<'_, '_>, section: &str, name: &str, node: &Node) -> Option<Vec<u8>> {
    let path = format!("{section}.{name}");
    if is_external(node) {
        return None;
    }
    if !crate::workload::files::is_key(name) {
        let hint = Some("names are letters, digits, \"-\", \"_\" and \".\"".to_owned());
        project.error(node, &path, format!("{name:?} cannot be the name of a file"), hint);
        return None;
    }
    if let Some(text) = values::text(node, "content") {
        return Some(text.as_bytes().to_vec());
    }
    if let Some(variable) = values::text(node, "environment") {
        let value = project.loader.lookup(project.scope, variable);
        if value.is_none() {
            let hint = Some("set it in the environment or in .env".to_owned());
            project.error(node, &path, format!("variable {variable} is not set"), hint);
        }
        return value.map(String::into_bytes);
    }
    let Some(file) = values::text(node, "file") else {
        let hint = Some("write `file: PATH`, `environment: NAME` or `content: TEXT`".to_owned());
        project.error(node, &path, format!("{name:?} has no content"), hint);
        return None;
    };
    match project.loader.host.read(file.as_ref()) {
        Ok(Some(text)) => Some(text.into_bytes()),
        Ok(None) => {
            project.error(node, &path, format!("the file {file:?} does not exist"), None);
            None
        }
        Err(why) => {
            project.error(node, &path, format!("reading {file:?}: {why}"), None);
            None
        }
    }
}

/// The mount for an entry of `section`. None: it is not defined, which is an error already.
pub fn file(project: &Project<'_, '_>, section: &str, name: &str) -> Option<File> {
    let node = project.entry(section, name)?;
    let key = name.to_owned();
    if is_external(node) {
        let named =
            values::text(node, "name").or_else(|| values::text(values::get(node, "external")?, "name"));
        return Some(File { name: values::label(named.unwrap_or(name)), key });
    }
    Some(File { name: object_name(project, name), key })
}

/// Where the volume `name` is; its claim is made. None: the project has no such volume.
pub fn volume(project: &mut Project<'_, '_>, name: &str) -> Option<VolumeSource> {
    let node = project.entry("volumes", name)?;
    let path = format!("volumes.{name}");
    let driver = values::text(node, "driver").unwrap_or("local");
    let options = values::get(node, "driver_opts");
    let option = |name: &str| options.and_then(|o| values::text(o, name));
    if driver != "local" {
        let hint = Some("mount it on the host, and write its path in place of the volume".to_owned());
        let at = values::get(node, "driver").unwrap_or(node);
        project.error(
            at,
            &format!("{path}.driver"),
            format!("volumes of driver {driver:?} are not supported"),
            hint,
        );
    }
    match (option("type"), option("device")) {
        (_, Some(device))
            if option("o").unwrap_or_default().split(',').any(|o| o == "bind" || o == "rbind") =>
        {
            return Some(VolumeSource::Host(
                super::load::inside(&project.scope.dir, device).display().to_string(),
            ));
        }
        (Some(kind), Some(_)) if kind != "none" => {
            let hint = Some("mount it on the host, and write its path in place of the volume".to_owned());
            let message = format!("volumes of type {kind:?} are not supported");
            project.error(options.unwrap_or(node), &format!("{path}.driver_opts"), message, hint);
        }
        _ => {}
    }
    let external = values::get(node, "external").and_then(|e| values::text(e, "name"));
    let own = values::text(node, "name").or(external);
    let own = own.or(if is_external(node) { Some(name) } else { None }).map(values::label);
    Some(VolumeSource::Claim(claim(project, name, own)))
}

/// The name of the claim for a volume, which is made once.
pub fn claim(project: &mut Project<'_, '_>, name: &str, own: Option<String>) -> String {
    let claim = own.filter(|n| !n.is_empty()).unwrap_or_else(|| object_name(project, name));
    let same = |o: &Object| matches!(o, Object::Kept(k) if k.kind == KeptKind::PersistentVolumeClaim && k.metadata.name == claim);
    if !project.objects.iter().any(same) {
        push(
            project,
            KeptKind::PersistentVolumeClaim,
            &claim,
            json!({"spec": {"accessModes": ["ReadWriteOnce"]}}),
        );
    }
    claim
}
