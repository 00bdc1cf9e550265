//! OpenShift's DeploymentConfig as a Deployment. Images that a trigger fills in come from the ImageStreams of the same
//! file.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

use super::check::Checker;
use super::document::Document;
use super::kubernetes;
use super::object::Object;
use super::semantic;
use crate::config::quantity::IntOrPercent;

/// The image of each `STREAM:TAG`.
pub type Streams = BTreeMap<String, String>;

/// The images of the ImageStreams of a file.
pub fn streams(documents: &[Document<'_>]) -> Streams {
    let mut streams = Streams::new();
    for d in documents.iter().filter(|d| d.kind == "ImageStream") {
        let tags = d.value.get("spec").and_then(|s| s["tags"].as_array());
        for tag in tags.into_iter().flatten() {
            if let (Some(name), Some("DockerImage"), Some(image)) =
                (tag["name"].as_str(), tag["from"]["kind"].as_str(), tag["from"]["name"].as_str())
            {
                streams.insert(format!("{}:{name}", d.name()), image.to_owned());
            }
        }
    }
    streams
}

/// A DeploymentConfig.
pub fn workload(
    checker: &mut Checker<'_>,
    d: &Document<'_>,
    streams: &Streams,
    base: Option<&Path>,
) -> Option<Object> {
    kubernetes::check_name(checker, d);
    let spec = d.value.get("spec")?.as_object()?;
    let mut pod = spec.get("template").and_then(|t| t["spec"].as_object())?.clone();
    triggers(checker, d, spec, streams, &mut pod);
    let mut own = Map::new();
    for name in ["replicas", "minReadySeconds", "paused", "revisionHistoryLimit"] {
        own.extend(spec.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let quarter = IntOrPercent::Percent(25);
    let given = spec.get("strategy").cloned().unwrap_or(Value::Null);
    kubernetes::strategy(checker, d, "spec.strategy", &given, "rollingParams", (quarter, quarter), &mut own);
    kubernetes::build(checker, d, pod, own, "spec.template.spec", base)
}

/// Gives containers the images that their triggers name.
fn triggers(
    checker: &mut Checker<'_>,
    d: &Document<'_>,
    spec: &Map<String, Value>,
    streams: &Streams,
    pod: &mut Map<String, Value>,
) {
    for (n, trigger) in spec.get("triggers").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let change = &trigger["imageChangeParams"];
        let Some(from) = change["from"]["name"].as_str() else { continue };
        let image = match change["from"]["kind"].as_str() {
            Some("DockerImage") => Some(from.to_owned()),
            _ => streams.get(&with_tag(from)).cloned(),
        };
        let names: Vec<&str> =
            change["containerNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for container in pod.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
            if !names.contains(&container["name"].as_str().unwrap_or_default()) {
                continue;
            }
            let empty = container["image"].as_str().is_none_or(|image| image.trim().is_empty());
            match (&image, empty) {
                (Some(image), _) => container["image"] = image.as_str().into(),
                (None, false) => {}
                (None, true) => {
                    let path = format!("spec.triggers[{n}].imageChangeParams.from.name");
                    let message = format!("no ImageStream of this file has {from:?}");
                    let hint = "put the ImageStream into the same file, or write image into the container"
                        .to_owned();
                    checker.error(semantic::place(d.node, &path), &path, message, Some(hint));
                    // One error is enough.
                    container["image"] = from.into();
                }
            }
        }
    }
}

fn with_tag(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}
