//! One service as a workload.

use std::collections::BTreeMap;

use super::build::{self, BUILD, Builds};
use super::load::Loader;
use super::state::{Project, Service, command};
use super::{PROJECT, SERVICE, deploy, health, mounts, network, options, ports, values};
use crate::config::document::Node;
use crate::workload::model::{ApiVersion, Container, EnvVar, Kind, Metadata, PullPolicy, Spec, Workload};
use crate::workload::object::Object;
use crate::workload::pod::PodMetadata;
use crate::workload::{native, scalar};

/// Adds the workload of a service, and the names that it has for others.
pub fn objects<'a>(project: &mut Project<'a, '_>, name: &'a str, node: &'a Node) {
    let label = values::label(name);
    let container = Container { name: label.clone(), ..Container::default() };
    let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
    let mut s = Service { name, node, spec: Spec::default(), container, labels, annotations, build: None };
    labels_of(project, &mut s);
    image(project, &mut s);
    program(project.loader, &mut s);
    environment(project, &mut s);
    ports::read(project.loader, &mut s);
    mounts::read(project, &mut s);
    health::read(project.loader, &mut s);
    options::read(project.loader, &mut s);
    network::read(project.loader, &mut s);
    deploy::read(project.loader, &mut s);
    network::attach(project, &mut s);
    network::names(project, &s);
    let Service { mut spec, container, labels, mut annotations, build, .. } = s;
    spec.containers.push(container);
    spec.pod = Some(PodMetadata { labels: labels.clone(), annotations: annotations.clone() });
    // Of the workload, and not of its pods: how an image is made rolls nothing out.
    let build = build.and_then(|b| serde_json::to_string(&b).ok());
    annotations.extend(build.map(|text| (BUILD.to_owned(), text)));
    let metadata = Metadata { name: label, labels, annotations };
    let workload = Workload { api_version: ApiVersion::V1, kind: Kind::Workload, metadata, spec };
    project.objects.push(Object::Workload { kind: "Workload".to_owned(), workload: Box::new(workload) });
}

/// Those that can be labels are labels, the others annotations.
fn labels_of(project: &mut Project<'_, '_>, s: &mut Service<'_>) {
    let fields = [values::get(s.node, "labels"), values::get(s.node, "annotations")];
    let of_deploy = values::get(s.node, "deploy").and_then(|d| values::get(d, "labels"));
    for (n, field) in fields.into_iter().chain([of_deploy]).enumerate() {
        for (key, value, at) in field.map(|f| values::pairs(f, &['='])).unwrap_or_default() {
            let value = value.unwrap_or_default();
            let (prefix, last) = key.rsplit_once('/').unwrap_or(("", &key));
            let prefixed =
                !key.contains('/') || (prefix.len() <= 253 && prefix.split('.').all(scalar::is_label));
            if !prefixed || last.is_empty() || !scalar::is_label_text(last) {
                let message = format!("label {key:?} has no effect");
                let hint = "names are [DNS-NAME/]NAME, of letters, digits, \"-\", \"_\" and \".\"";
                project.warn(at, &s.path("labels"), message, hint);
            } else if n != 1 && scalar::is_label_text(&value) {
                s.labels.insert(key.into_owned(), value);
            } else {
                s.annotations.insert(key.into_owned(), value);
            }
        }
    }
    s.labels.insert(PROJECT.to_owned(), project.name.clone());
    s.labels.insert(SERVICE.to_owned(), values::label(s.name));
}

fn image(project: &mut Project<'_, '_>, s: &mut Service<'_>) {
    let image = values::text(s.node, "image").map(str::trim).unwrap_or_default();
    let hint = "`orund apply --build` builds it";
    let dir = &project.scope.dir;
    let of = Builds { project: &project.name, service: s.name, image, dir };
    let built = values::get(s.node, "build").map(|node| build::read(project.loader, &of, node));
    match (image.is_empty(), &built) {
        (true, Some(_)) => s.warn(project.loader, "build", "the image exists only after it was built", hint),
        (true, None) => {
            s.error(project.loader, "image", "field \"image\" is missing", Some("write `image: NAME`"));
        }
        (false, Some(_)) => {
            s.warn(project.loader, "build", format!("{image} is pulled, unless it is built"), hint);
        }
        (false, None) => {}
    }
    let own = built.as_ref().map(|b| format!("{}:latest", b.repository)).unwrap_or_default();
    let image = if image.is_empty() { own.as_str() } else { image };
    s.build = built;
    s.container.image = Some(native::image(image, Some(dir)).unwrap_or_else(|| image.to_owned()));
    s.container.engine.image_volumes = true;
    if let Some(bundle) = image.strip_prefix("bundle:").and_then(|d| native::directory(d, Some(dir))) {
        (s.container.image, s.container.bundle) = (None, bundle);
        s.container.engine.image_volumes = false;
    }
    let policy = values::text(s.node, "pull_policy").unwrap_or("missing");
    s.container.image_pull_policy = Some(match policy {
        "always" => PullPolicy::Always,
        "never" => PullPolicy::Never,
        "missing" | "if_not_present" | "build" => PullPolicy::IfNotPresent,
        other if ["daily", "weekly"].contains(&other) || other.starts_with("every_") => {
            s.warn(
                project.loader,
                "pull_policy",
                format!("{other} has no effect"),
                "an image is pulled when it is missing",
            );
            PullPolicy::IfNotPresent
        }
        other => {
            let message = format!("unknown pull_policy {other:?}");
            s.error(project.loader, "pull_policy", message, Some("it is always, missing or never"));
            PullPolicy::IfNotPresent
        }
    });
    if s.container.image.is_none() {
        s.container.image_pull_policy = None;
    }
}

fn program(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let words = |loader: &mut Loader<'_>, field: &str| {
        values::get(s.node, field).map(|node| command(loader, node, &s.path(field)))
    };
    let (entrypoint, args) = (words(loader, "entrypoint"), words(loader, "command"));
    let args = args.filter(|a| !a.is_empty());
    match entrypoint {
        // The image's entrypoint is not used.
        Some(none) if none.is_empty() => s.container.command = args.unwrap_or_default(),
        Some(command) => (s.container.command, s.container.args) = (command, args),
        None => s.container.args = args,
    }
    s.container.tty = values::is_set(s.node, "tty");
    s.container.stdin = values::is_set(s.node, "stdin_open");
    s.container.working_dir = values::text(s.node, "working_dir").map(str::to_owned);
    if let Some(dir) = s.container.working_dir.as_ref().filter(|d| !d.starts_with('/')) {
        s.error(loader, "working_dir", format!("{dir:?} must be an absolute path"), None);
    }
}

/// Variables: those of files first, in their order.
fn environment(project: &mut Project<'_, '_>, s: &mut Service<'_>) {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let files = values::get(s.node, "env_file").map(values::list_or_one).unwrap_or_default();
    for file in files {
        let Some(path) = file.data.text().or_else(|| values::text(file, "path")) else { continue };
        let raw = values::text(file, "format") == Some("raw");
        let before = project.loader.problems.len();
        match project.loader.variables(path.as_ref(), project.scope, raw) {
            Some(variables) => found.extend(variables),
            None if project.loader.problems.len() > before => {}
            None if values::value(file, "required", values::flag) == Some(false) => {}
            None => {
                let hint = "make it, or write `- path: FILE` and `required: false`".to_owned();
                let message = format!("the file {path:?} does not exist");
                project.error(file, &s.path("env_file"), message, Some(hint));
            }
        }
    }
    let pairs = values::get(s.node, "environment").map(|e| values::pairs(e, &['='])).unwrap_or_default();
    for (name, value, at) in pairs {
        let name = name.trim();
        if name.is_empty() || name.contains('\0') {
            let hint = "write NAME=VALUE".to_owned();
            project.error(at, &s.path("environment"), "the name of a variable must not be empty", Some(hint));
            continue;
        }
        match value.or_else(|| project.loader.lookup(project.scope, name)) {
            Some(value) => drop(found.insert(name.to_owned(), value)),
            // A variable that is not set here is not set there.
            None => drop(found.remove(name)),
        }
    }
    let variable =
        |(name, value): (String, String)| EnvVar { name, value: values::literal(&value), value_from: None };
    s.container.env = found.into_iter().map(variable).collect();
}
