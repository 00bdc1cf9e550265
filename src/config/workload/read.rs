//! Workload files: YAML or JSON, one or more documents, every error with its place.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::Path;

use super::{
    ApiVersion, Backoff, Container, EnvVar, ExecAction, FailureAction, Handler, Kind, Lifecycle, Limits,
    Metadata, Resources, RestartPolicy, RollingUpdate, Spec, Strategy, StrategyType, Workload, hints,
};
use crate::config::document::diagnostic::Diagnostics;
use crate::config::document::reader::{Fields, Item, Reader, similar};
use crate::config::document::{self, Node};
use crate::config::quantity::{self, Bytes, Factor, IntOrPercent, MilliCpu, Signal};

/// How many replicas a workload may have.
pub const MOST_REPLICAS: u64 = 10_000;
/// How many old revisions may be kept.
const MOST_REVISIONS: u64 = 1000;
/// How many containers a replica may have.
const MOST_CONTAINERS: usize = 64;

pub(super) const SPEC: &[&str] = &[
    "replicas",
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "stopSignal",
    "backoff",
    "strategy",
    "minReadySeconds",
    "progressDeadlineSeconds",
    "failureAction",
    "paused",
    "revisionHistoryLimit",
    "spares",
    "containers",
    "bundle",
    "args",
    "env",
    "resources",
    "lifecycle",
];
pub(super) const CONTAINER: &[&str] = &["name", "bundle", "args", "env", "resources", "lifecycle"];
pub(super) const STRATEGY: &[&str] = &["type", "rollingUpdate"];
pub(super) const ROLLING_UPDATE: &[&str] = &["maxSurge", "maxUnavailable"];
pub(super) const BACKOFF: &[&str] = &["initial", "factor", "max", "reset", "maxRestarts", "window"];

/// Reads the workloads of a file. `file` is its name for the errors; relative bundles are looked for in `base`.
///
/// # Errors
/// All errors of the file at once.
pub fn read(file: &str, text: &str, base: Option<&Path>) -> Result<Vec<Workload>, Box<Diagnostics>> {
    let mut reader = Reader::default();
    let documents = document::parse(text, &mut reader.problems);
    if documents.is_empty() && reader.problems.is_empty() {
        let message = "there is no workload in the file".to_owned();
        reader.push(document::diagnostic::Place::START, "", message, None);
    }
    let mut workloads: Vec<(Workload, &Node)> = Vec::new();
    for node in &documents {
        let Some(workload) = workload(&mut reader, node, base) else { continue };
        let name = &workload.metadata.name;
        if let Some((_, first)) = workloads.iter().find(|(w, _)| w.metadata.name == *name) {
            let message = format!("duplicate workload {name:?}, first defined on line {}", first.place.line);
            reader.push(node.place, "metadata.name", message, None);
        }
        workloads.push((workload, node));
    }
    if reader.problems.is_empty() {
        Ok(workloads.into_iter().map(|(workload, _)| workload).collect())
    } else {
        Err(Box::new(Diagnostics::new(file, text, reader.problems)))
    }
}

fn workload(r: &mut Reader, node: &Node, base: Option<&Path>) -> Option<Workload> {
    let top = r.mapping(&Item { node, path: String::new() })?;
    let version = r.required(&top, "apiVersion", "apiVersion: orun.dev/v1");
    let kind = r.required(&top, "kind", "kind: Workload");
    let kind = match kind {
        Some(item) if item.node.data.text() != Some("Workload") => {
            let given = item.node.data.text().unwrap_or_default();
            let near = || similar(given, &["Workload"]).map(|_| "did you mean \"Workload\"?".to_owned());
            r.wrong(&item, format!("unknown kind {given:?}"), hints::kind(given).or_else(near));
            // Nothing that follows could be understood.
            return None;
        }
        other => other.map(|_| Kind::Workload),
    };
    let version = version.and_then(|v| r.word(&v, &[("orun.dev/v1", ApiVersion::V1)]));
    let item = Item { node, path: String::new() };
    r.fields(&item, &["apiVersion", "kind", "metadata", "spec"], hints::elsewhere)?;
    let metadata = r.required(&top, "metadata", "metadata: {name: NAME}").and_then(|m| metadata(r, &m));
    let spec = r.required(&top, "spec", "spec: {bundle: DIRECTORY}");
    let name = metadata.as_ref().map_or("main", |m| &m.name).to_owned();
    let spec = spec.and_then(|s| spec_of(r, &s, &name, base));
    Some(Workload { api_version: version?, kind: kind?, metadata: metadata?, spec: spec? })
}

fn metadata(r: &mut Reader, item: &Item<'_>) -> Option<Metadata> {
    let fields = r.fields(item, &["name", "labels", "annotations"], hints::elsewhere)?;
    let name = r.required(&fields, "name", "name: NAME").and_then(|name| label(r, &name));
    let labels = fields.get("labels").map_or(Some(BTreeMap::new()), |l| map_of_strings(r, &l, true));
    let annotations =
        fields.get("annotations").map_or(Some(BTreeMap::new()), |a| map_of_strings(r, &a, false));
    Some(Metadata { name: name?, labels: labels?, annotations: annotations? })
}

/// A DNS label (RFC 1123).
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let outer = |b: Option<&u8>| b.is_some_and(|b| inner(*b) && *b != b'-');
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().all(|b| inner(*b)) && outer(bytes.first()) && outer(bytes.last())
}

fn label(r: &mut Reader, item: &Item<'_>) -> Option<String> {
    let name = r.string(item)?;
    if is_label(&name) {
        return Some(name);
    }
    let plain: String = name.to_lowercase().replace(['_', '.', ' '], "-");
    let hint = is_label(&plain).then(|| format!("for example {plain:?}"));
    let message =
        "must be 1 to 63 lower-case letters, digits and \"-\", neither beginning nor ending with \"-\"";
    r.wrong(item, message, hint);
    None
}

/// Labels (whose values are restricted so that they can be selected by) or annotations.
fn map_of_strings(r: &mut Reader, item: &Item<'_>, labels: bool) -> Option<BTreeMap<String, String>> {
    let fields = r.mapping(item)?;
    let mut map = Some(BTreeMap::new());
    for (key, name, value) in fields.all() {
        let (prefix, last) = name.rsplit_once('/').unwrap_or(("", name));
        let prefixed = !name.contains('/') || (prefix.len() <= 253 && prefix.split('.').all(is_label));
        let good_key = prefixed && !last.is_empty() && is_label_text(last);
        if !good_key {
            let message =
                format!("{name:?} is not a valid label key: expected [DNS-NAME/]LETTERS-DIGITS-_-.");
            r.push(key.place, &item.path, message, None);
        }
        let text = r.string(&value);
        let good_value = !labels || text.as_deref().is_none_or(is_label_text);
        if !good_value {
            let message = "must be at most 63 letters, digits, \"-\", \"_\" and \".\"";
            r.wrong(&value, message, Some("annotations take any text".to_owned()));
        }
        match text.filter(|_| good_key && good_value) {
            Some(text) => map.as_mut().map(|map| map.insert(name.to_owned(), text)).map_or((), drop),
            None => map = None,
        }
    }
    map
}

/// A label's value, or its key without the prefix.
fn is_label_text(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= 63 && text.chars().all(inner) && ends(text.chars().next()) && ends(text.chars().next_back())
}

fn spec_of(r: &mut Reader, item: &Item<'_>, name: &str, base: Option<&Path>) -> Option<Spec> {
    let fields = r.fields(item, SPEC, hints::elsewhere)?;
    let default = Spec::default();
    let replicas = optional(&fields, "replicas", 1, |i| r.integer(i, 0, MOST_REPLICAS));
    let policies = [
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("Never", RestartPolicy::Never),
    ];
    let restart_policy = optional(&fields, "restartPolicy", default.restart_policy, |i| r.word(i, &policies));
    let grace = optional(&fields, "terminationGracePeriodSeconds", default.termination_grace_period, |i| {
        duration(r, i)
    });
    let stop_signal = optional(&fields, "stopSignal", None, |i| {
        r.scalar(i, Signal::parse, "the name of a signal such as SIGTERM, SIGQUIT or SIGRTMIN+3").map(Some)
    });
    let backoff = optional(&fields, "backoff", default.backoff, |i| backoff(r, i));
    let rollout = rollout(r, &fields);
    let spares = optional(&fields, "spares", 0, |i| r.integer(i, 0, 1));
    let containers = containers(r, &fields, name, base);
    Some(Spec {
        replicas: u32::try_from(replicas?).ok()?,
        restart_policy: restart_policy?,
        termination_grace_period: grace?,
        stop_signal: stop_signal?,
        backoff: backoff?,
        spares: u32::try_from(spares?).ok()?,
        containers: containers?,
        ..rollout?
    })
}

/// The fields that say how one revision follows the other; the others are the default.
fn rollout(r: &mut Reader, fields: &Fields<'_>) -> Option<Spec> {
    let actions = [
        ("none", FailureAction::None),
        ("pause", FailureAction::Pause),
        ("rollback", FailureAction::Rollback),
    ];
    let strategy = optional(fields, "strategy", Strategy::default(), |i| strategy(r, i));
    let min_ready = optional(fields, "minReadySeconds", None, |i| duration(r, i).map(Some));
    let deadline = optional(fields, "progressDeadlineSeconds", None, |i| duration(r, i).map(Some));
    let failure_action = optional(fields, "failureAction", FailureAction::None, |i| r.word(i, &actions));
    let paused =
        optional(fields, "paused", None, |i| r.word(i, &[("true", true), ("false", false)]).map(Some));
    let limit = optional(fields, "revisionHistoryLimit", None, |i| r.integer(i, 0, MOST_REVISIONS).map(Some));
    let (min_ready, progress_deadline) = (min_ready?, deadline?);
    let least = min_ready.unwrap_or_default();
    if let (Some(deadline), Some(item)) = (progress_deadline, fields.get("progressDeadlineSeconds"))
        && deadline <= least
    {
        r.wrong(&item, "must be greater than minReadySeconds", None);
        return None;
    }
    Some(Spec {
        strategy: strategy?,
        min_ready,
        progress_deadline,
        failure_action: failure_action?,
        paused: paused?,
        revision_history_limit: limit?.and_then(|n| u32::try_from(n).ok()),
        ..Spec::default()
    })
}

fn strategy(r: &mut Reader, item: &Item<'_>) -> Option<Strategy> {
    let fields = r.fields(item, STRATEGY, hints::elsewhere)?;
    let types = [("RollingUpdate", StrategyType::RollingUpdate), ("Recreate", StrategyType::Recreate)];
    let r#type = optional(&fields, "type", StrategyType::default(), |i| r.word(i, &types));
    let rolling_update =
        optional(&fields, "rollingUpdate", RollingUpdate::default(), |i| rolling_update(r, i));
    if let (Some(StrategyType::Recreate), Some(item)) = (r#type, fields.get("rollingUpdate")) {
        let hint = Some("leave it out, or write `type: RollingUpdate`".to_owned());
        r.wrong(&item, "cannot be combined with type Recreate", hint);
        return None;
    }
    Some(Strategy { r#type: r#type?, rolling_update: rolling_update? })
}

fn rolling_update(r: &mut Reader, item: &Item<'_>) -> Option<RollingUpdate> {
    let fields = r.fields(item, ROLLING_UPDATE, hints::elsewhere)?;
    let default = RollingUpdate::default();
    const FORM: &str = "a number of replicas, or a percentage such as 25%";
    let surge = optional(&fields, "maxSurge", default.max_surge, |i| r.scalar(i, IntOrPercent::parse, FORM));
    let at_most_all =
        |text: &str| IntOrPercent::parse(text).filter(|n| !matches!(n, IntOrPercent::Percent(p) if *p > 100));
    let unavailable = optional(&fields, "maxUnavailable", default.max_unavailable, |i| {
        r.scalar(i, at_most_all, "a number of replicas, or a percentage up to 100%")
    });
    let (max_surge, max_unavailable) = (surge?, unavailable?);
    let none = [IntOrPercent::Int(0), IntOrPercent::Percent(0)];
    if none.contains(&max_surge) && none.contains(&max_unavailable) {
        r.wrong(item, "maxSurge and maxUnavailable must not both be 0: nothing could ever be replaced", None);
        return None;
    }
    Some(RollingUpdate { max_surge, max_unavailable })
}

/// The field `name` as `read` reads it, or `default`.
fn optional<T>(
    fields: &Fields<'_>,
    name: &str,
    default: T,
    read: impl FnOnce(&Item<'_>) -> Option<T>,
) -> Option<T> {
    match fields.get(name) {
        Some(item) => read(&item),
        None => Some(default),
    }
}

fn duration(r: &mut Reader, item: &Item<'_>) -> Option<Duration> {
    r.scalar(item, quantity::duration, "seconds, or a duration such as \"500ms\", \"1.5s\" or \"1m30s\"")
}

fn backoff(r: &mut Reader, item: &Item<'_>) -> Option<Backoff> {
    let fields = r.fields(item, BACKOFF, hints::elsewhere)?;
    let default = Backoff::default();
    let initial = optional(&fields, "initial", default.initial, |i| duration(r, i));
    let factor = optional(&fields, "factor", default.factor, |i| {
        r.scalar(i, Factor::parse, "a number from 1 to 1000")
    });
    let max = optional(&fields, "max", None, |i| duration(r, i).map(Some));
    let reset = optional(&fields, "reset", default.reset, |i| duration(r, i));
    let max_restarts =
        optional(&fields, "maxRestarts", None, |i| r.integer(i, 0, u64::from(u32::MAX)).map(Some));
    let window = optional(&fields, "window", None, |i| duration(r, i).map(Some));
    let initial = initial?;
    if let (Some(Some(max)), Some(item)) = (max, fields.get("max"))
        && max < initial
    {
        r.wrong(&item, "must not be less than initial", None);
        return None;
    }
    if let (Some(item), None) = (fields.get("window"), fields.get("maxRestarts")) {
        let hint = Some("write `maxRestarts: N` beside it, or leave it out".to_owned());
        r.wrong(&item, "has no meaning without maxRestarts", hint);
        return None;
    }
    Some(Backoff {
        initial,
        factor: factor?,
        // A long first delay is the longest, too, unless the file says otherwise.
        max: max?.unwrap_or(default.max.max(initial)),
        reset: reset?,
        max_restarts: max_restarts?.and_then(|n| u32::try_from(n).ok()),
        window: window?,
    })
}

fn containers(r: &mut Reader, spec: &Fields<'_>, name: &str, base: Option<&Path>) -> Option<Vec<Container>> {
    const SHORT: [&str; 5] = ["bundle", "args", "env", "resources", "lifecycle"];
    let short: Vec<Item<'_>> = SHORT.iter().filter_map(|field| spec.get(field)).collect();
    match (spec.get("containers"), spec.get("bundle")) {
        (Some(list), None) => {
            for item in &short {
                let hint = Some("move it into an entry of containers".to_owned());
                r.wrong(item, "belongs to spec.bundle, which is not there", hint);
            }
            container_list(r, &list, base).filter(|_| short.is_empty())
        }
        (None, Some(_)) => Some(vec![container(r, spec, Some(name.to_owned()), base)?]),
        (Some(_), Some(bundle)) => {
            let hint = "bundle is the short form of a list with one container: leave one of both out";
            r.wrong(&bundle, "cannot be combined with spec.containers", Some(hint.to_owned()));
            None
        }
        (None, None) => {
            let hint = "write `bundle: DIRECTORY`, or a list of containers".to_owned();
            let message = "neither bundle nor containers says what to run".to_owned();
            r.push(spec.place, &spec.path, message, Some(hint));
            None
        }
    }
}

fn container_list(r: &mut Reader, item: &Item<'_>, base: Option<&Path>) -> Option<Vec<Container>> {
    let entries = r.list(item)?;
    if entries.is_empty() || entries.len() > MOST_CONTAINERS {
        r.wrong(item, format!("must have 1 to {MOST_CONTAINERS} entries"), None);
        return None;
    }
    let mut containers: Vec<Container> = Vec::new();
    let mut complete = true;
    for entry in &entries {
        let fields = r.fields(entry, CONTAINER, hints::elsewhere);
        match fields.and_then(|f| container(r, &f, None, base)) {
            Some(c) if containers.iter().any(|other| other.name == c.name) => {
                r.wrong(entry, format!("the name {:?} is taken by another container", c.name), None);
                complete = false;
            }
            Some(c) => containers.push(c),
            None => complete = false,
        }
    }
    complete.then_some(containers)
}

/// A container from the fields of its entry, or of the spec in the short form, whose `name` is known.
fn container(
    r: &mut Reader,
    fields: &Fields<'_>,
    name: Option<String>,
    base: Option<&Path>,
) -> Option<Container> {
    let name = match name {
        Some(name) => Some(name),
        None => r.required(fields, "name", "name: NAME").and_then(|name| label(r, &name)),
    };
    let bundle = r.required(fields, "bundle", "bundle: DIRECTORY").and_then(|b| bundle(r, &b, base));
    let args = optional(fields, "args", None, |i| r.strings(i).map(Some));
    let env = optional(fields, "env", Vec::new(), |i| env(r, i));
    let resources = optional(fields, "resources", Resources::default(), |i| resources(r, i));
    let lifecycle = optional(fields, "lifecycle", Lifecycle::default(), |i| lifecycle(r, i));
    Some(Container {
        name: name?,
        bundle: bundle?,
        args: args?,
        env: env?,
        resources: resources?,
        lifecycle: lifecycle?,
    })
}

fn bundle(r: &mut Reader, item: &Item<'_>, base: Option<&Path>) -> Option<String> {
    let path = r.string(item)?;
    if path.is_empty() {
        r.wrong(item, "must not be empty", None);
        return None;
    }
    let joined = match base {
        Some(base) => base.join(&path),
        None => Path::new(&path).to_owned(),
    };
    if !joined.is_absolute() {
        r.wrong(item, "must be an absolute path", None);
        return None;
    }
    // Components: `./web` and `web/` name the same directory, and the spec that is compared should say so.
    let clean: std::path::PathBuf = joined.components().collect();
    clean.to_str().map(str::to_owned)
}

fn env(r: &mut Reader, item: &Item<'_>) -> Option<Vec<EnvVar>> {
    if matches!(item.node.data, document::Data::Map(_)) {
        let hint = "write a list: `- name: NAME`, below it `value: VALUE`".to_owned();
        r.wrong(item, "must be a list, not a mapping", Some(hint));
        return None;
    }
    let mut vars: Option<Vec<EnvVar>> = Some(Vec::new());
    for entry in r.list(item)? {
        let fields = r.fields(&entry, &["name", "value"], hints::elsewhere);
        let var = fields.and_then(|f| env_var(r, &f));
        let twice = |var: &EnvVar, vars: &[EnvVar]| vars.iter().any(|other| other.name == var.name);
        match (var, &mut vars) {
            (Some(var), Some(vars)) if twice(&var, vars) => {
                r.wrong(&entry, format!("duplicate variable {:?}", var.name), None);
                return None;
            }
            (Some(var), Some(vars)) => vars.push(var),
            (None, _) => vars = None,
            (Some(_), None) => {}
        }
    }
    vars
}

fn env_var(r: &mut Reader, fields: &Fields<'_>) -> Option<EnvVar> {
    let name_item = r.required(fields, "name", "name: NAME");
    let name = name_item.as_ref().and_then(|name| r.string(name));
    let value = optional(fields, "value", String::new(), |i| r.string(i));
    let (item, name) = (name_item?, name?);
    if name.is_empty() || name.contains('=') {
        r.wrong(&item, "the name of a variable must not be empty nor contain \"=\"", None);
        return None;
    }
    Some(EnvVar { name, value: value? })
}

fn resources(r: &mut Reader, item: &Item<'_>) -> Option<Resources> {
    let fields = r.fields(item, &["limits"], hints::elsewhere)?;
    let limits = optional(&fields, "limits", Limits::default(), |i| limits(r, i))?;
    Some(Resources { limits })
}

fn limits(r: &mut Reader, item: &Item<'_>) -> Option<Limits> {
    let fields = r.fields(item, &["cpu", "memory", "pids"], hints::elsewhere)?;
    let cpu = optional(&fields, "cpu", None, |i| {
        let more_than_none = |text: &str| MilliCpu::parse(text).filter(|cpu| cpu.0 > 0);
        r.scalar(i, more_than_none, "a number of CPUs such as 0.5, 500m or 2").map(Some)
    });
    let memory = optional(&fields, "memory", None, |i| memory(r, i).map(Some));
    let pids = optional(&fields, "pids", None, |i| r.integer(i, 1, 1 << 22).map(Some));
    Some(Limits { cpu: cpu?, memory: memory?, pids: pids? })
}

/// A number of bytes. Slips that would mean something else are errors: `400m` is less than one byte.
fn memory(r: &mut Reader, item: &Item<'_>) -> Option<Bytes> {
    let text = item.node.data.text().unwrap_or_default();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let bytes = Bytes::parse(text).filter(|bytes| bytes.0 > 0 && unit != "m" && unit != "u" && unit != "n");
    if bytes.is_none() {
        let binary = ["K", "M", "G", "T", "P"].into_iter().find(|u| unit.to_uppercase().starts_with(u));
        let hint = binary.filter(|_| !number.is_empty()).map(|u| format!("did you mean {number}{u}i?"));
        r.wrong(item, "must be a number of bytes such as 67108864, 64Mi or 1.5Gi", hint);
    }
    bytes
}

fn lifecycle(r: &mut Reader, item: &Item<'_>) -> Option<Lifecycle> {
    let fields = r.fields(item, &["preStop"], hints::elsewhere)?;
    let pre_stop = optional(&fields, "preStop", None, |i| handler(r, i).map(Some))?;
    Some(Lifecycle { pre_stop })
}

fn handler(r: &mut Reader, item: &Item<'_>) -> Option<Handler> {
    let fields = r.fields(item, &["exec"], hints::elsewhere)?;
    let exec = r.required(&fields, "exec", "exec: {command: [PROGRAM, ARGUMENT]}")?;
    let fields = r.fields(&exec, &["command"], hints::elsewhere)?;
    let item = r.required(&fields, "command", "command: [PROGRAM, ARGUMENT]")?;
    let command = r.strings(&item)?;
    if command.first().is_none_or(String::is_empty) {
        r.wrong(&item, "must begin with a program", None);
        return None;
    }
    Some(Handler::Exec(ExecAction { command }))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
