//! The format `orun.dev/v1`: a pod's fields directly in `spec`, durations, back-off, spares, and a short form for one
//! container.

use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

use super::check::Checker;
use super::document::Document;
use super::model::{ApiVersion, Kind, Spec, Workload};
use super::object::Object;
use super::semantic::{self, Pod};
use crate::config::quantity::IntOrPercent;

/// The fields of the short form.
const SHORT: [&str; 5] = ["bundle", "args", "env", "resources", "lifecycle"];

/// The lists of containers.
pub const LISTS: [&str; 2] = ["initContainers", "containers"];

/// A Workload.
pub fn workload(checker: &mut Checker<'_>, d: &Document<'_>, base: Option<&Path>) -> Option<Object> {
    let mut spec = d.value.get("spec")?.as_object()?.clone();
    if !one_form(checker, d, &spec) {
        return None;
    }
    if spec.contains_key("bundle") {
        let mut container = Map::from_iter([("name".to_owned(), Value::from(d.name()))]);
        for name in SHORT {
            container.extend(spec.remove(name).map(|value| (name.to_owned(), value)));
        }
        spec.insert("containers".to_owned(), Value::Array(vec![Value::Object(container)]));
    }
    let before = checker.problems.len();
    bundles(checker, d, &mut spec, base);
    backoff(checker, d, &mut spec);
    if checker.problems.len() > before {
        return None;
    }
    let spec = self::spec(checker, d, spec)?;
    rollout(checker, d, &spec);
    Pod { checker, root: d.node, path: "spec".to_owned(), native: true }.check(&spec);
    let metadata = serde_json::from_value(d.value.get("metadata")?.clone()).ok()?;
    let workload = Workload { api_version: ApiVersion::V1, kind: Kind::Workload, metadata, spec };
    Some(Object::Workload { kind: d.kind.to_owned(), workload: Box::new(workload) })
}

/// The typed value of checked fields; None when some are missing, which is an error already.
pub fn spec(checker: &mut Checker<'_>, d: &Document<'_>, fields: Map<String, Value>) -> Option<Spec> {
    let mut all = super::check::object(serde_json::to_value(Spec::default()).unwrap_or_default());
    all.extend(fields);
    match serde_json::from_value(Value::Object(all)) {
        Ok(spec) => Some(spec),
        Err(e) => {
            if !checker.problems.iter().any(|p| p.is_error()) {
                checker.error(d.node.place, "spec", format!("spec cannot be used: {e}"), None);
            }
            None
        }
    }
}

/// Numbers with which nothing could be replaced.
pub fn rollout(checker: &mut Checker<'_>, d: &Document<'_>, spec: &Spec) {
    let mut wrong = |path: &str, message: &str| {
        checker.error(semantic::place(d.node, path), path, message, None);
    };
    let none = [IntOrPercent::Int(0), IntOrPercent::Percent(0)];
    let rolling = spec.strategy.rolling_update;
    if none.contains(&rolling.max_surge) && none.contains(&rolling.max_unavailable) {
        let message = "maxSurge and maxUnavailable must not both be 0: nothing could be replaced";
        wrong("spec.strategy.rollingUpdate", message);
    }
    let recreate = spec.strategy.r#type == super::model::StrategyType::Recreate;
    if recreate && semantic::node(d.node, "spec.strategy.rollingUpdate").is_some() {
        wrong("spec.strategy.rollingUpdate", "rollingUpdate cannot be combined with type Recreate");
    }
    if let Some(deadline) = spec.progress_deadline
        && deadline <= spec.min_ready.unwrap_or_default()
    {
        wrong("spec.progressDeadlineSeconds", "progressDeadlineSeconds must be greater than minReadySeconds");
    }
}

/// Either a list of containers or the short form.
fn one_form(checker: &mut Checker<'_>, d: &Document<'_>, spec: &Map<String, Value>) -> bool {
    let mut wrong = |field: &str, message: &str, hint: &str| {
        let path = format!("spec.{field}");
        checker.error(
            semantic::place(d.node, &path),
            path.trim_end_matches('.'),
            message,
            Some(hint.to_owned()),
        );
        false
    };
    let has = |name: &str| semantic::node(d.node, &format!("spec.{name}")).is_some();
    match (has("containers"), has("bundle")) {
        (true, true) => {
            let hint = "bundle is the short form of a list with one container: leave one of both out";
            wrong("bundle", "bundle cannot be combined with containers", hint)
        }
        (false, false) => wrong(
            "",
            "bundle or containers is required",
            "write `bundle: DIRECTORY`, or a list of containers",
        ),
        // These are limits of all containers together then.
        (true, false) => match SHORT.iter().find(|name| **name != "resources" && spec.contains_key(**name)) {
            Some(name) => {
                let message = format!("{name} belongs to the short form with bundle");
                wrong(name, &message, "move it into an entry of containers")
            }
            None => true,
        },
        (false, true) => true,
    }
}

/// Directories of bundles, made absolute.
fn bundles(checker: &mut Checker<'_>, d: &Document<'_>, spec: &mut Map<String, Value>, base: Option<&Path>) {
    let short = semantic::node(d.node, "spec.bundle").is_some();
    let lists = spec.iter_mut().filter(|(name, _)| LISTS.contains(&name.as_str()));
    let entries = lists.filter_map(|(name, list)| Some((name.as_str(), list.as_array_mut()?)));
    for (list, n, container) in
        entries.flat_map(|(name, list)| list.iter_mut().enumerate().map(move |(n, c)| (name, n, c)))
    {
        let one = short && list == "containers";
        let path = if one { "spec".to_owned() } else { format!("spec.{list}[{n}]") };
        let Some(container) = container.as_object_mut() else { continue };
        let given = container.get("bundle").and_then(Value::as_str);
        let (message, hint) = match (given, container.get("image")) {
            (Some(""), _) => ("bundle must not be empty", None),
            (Some(_), Some(_)) => ("bundle cannot be combined with image", None),
            (Some(dir), None) => match directory(dir, base) {
                Some(dir) => {
                    container.insert("bundle".to_owned(), dir.into());
                    continue;
                }
                None => ("bundle must be an absolute path", None),
            },
            (None, Some(image)) => {
                if let Some(image) = image.as_str().and_then(|i| self::image(i, base)) {
                    container.insert("image".to_owned(), image.into());
                }
                continue;
            }
            (None, None) if semantic::node(d.node, &format!("{path}.bundle")).is_some() => continue,
            (None, None) => {
                let place = semantic::place(d.node, &path);
                let hint = Some("write `bundle: DIRECTORY`".to_owned());
                checker.error(place, &path, "field \"bundle\" is missing", hint);
                continue;
            }
        };
        let path = format!("{path}.bundle");
        checker.error(semantic::place(d.node, &path), &path, message, hint);
    }
}

/// The name of an image in a file of this host, with an absolute path. None: it is another name, or has an absolute path.
pub fn image(name: &str, base: Option<&Path>) -> Option<String> {
    let kinds = ["oci:", "oci-archive:", "docker-archive:"];
    let (kind, path) = kinds.iter().find_map(|kind| Some((kind, name.strip_prefix(kind)?)))?;
    Some(format!("{kind}{}", directory(path, base)?))
}

/// The absolute path of a bundle, without `.` and doubled slashes.
pub fn directory(dir: &str, base: Option<&Path>) -> Option<String> {
    let joined = base.map_or_else(|| PathBuf::from(dir), |base| base.join(dir));
    // Components: `./web` and `web/` name the same directory, and the spec that is compared should say so.
    let clean: PathBuf = joined.components().collect();
    (clean.is_absolute() && !dir.is_empty()).then(|| clean.to_str().map(str::to_owned)).flatten()
}

/// Fills in what depends on other fields.
fn backoff(checker: &mut Checker<'_>, d: &Document<'_>, spec: &mut Map<String, Value>) {
    let Some(given) = spec.get("backoff").and_then(Value::as_object) else { return };
    let seconds =
        |value: Option<&Value>| value.and_then(Value::as_str).and_then(crate::config::quantity::duration);
    let mut all =
        super::check::object(serde_json::to_value(super::model::Backoff::default()).unwrap_or_default());
    let default = super::model::Backoff::default();
    let initial = seconds(given.get("initial")).unwrap_or(default.initial);
    let mut wrong = |field: &str, message: &str, hint: Option<&str>| {
        let path = format!("spec.backoff.{field}");
        checker.error(semantic::place(d.node, &path), &path, message, hint.map(str::to_owned));
    };
    match seconds(given.get("max")) {
        Some(max) if max < initial => wrong("max", "max must not be less than initial", None),
        Some(_) => {}
        // A long first delay is the longest, too, unless the file says otherwise.
        None if initial > default.max => {
            all.extend(given.get("initial").map(|initial| ("max".to_owned(), initial.clone())));
        }
        None => {}
    }
    if given.contains_key("window") && !given.contains_key("maxRestarts") {
        wrong(
            "window",
            "window has no effect without maxRestarts",
            Some("add `maxRestarts: N`, or leave it out"),
        );
    }
    all.extend(given.clone());
    spec.insert("backoff".to_owned(), Value::Object(all));
}

#[cfg(test)]
mod tests;
