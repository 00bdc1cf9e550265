//! Files of objects, and the verbs that need no supervisor: `validate`, `explain`, `convert`.

use serde_json::{Value, json};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use super::args::{Convert, Format, Project, Validate};
use super::manifest::{Content, Manifest};
use super::{print, projects, yaml};
use crate::config::document::diagnostic::{Diagnostic, Diagnostics};
use crate::config::document::{self, Data, Node};
use crate::error::{Error, Kind, Result};
use crate::workload::{self, Object, Workload, semantic};

/// Reads files, and the files of directories.
///
/// # Errors
/// One cannot be read.
pub fn read(paths: &[PathBuf], project: &Project) -> Result<Vec<Manifest>> {
    let contents: Result<Vec<Content>> = expand(paths)?.iter().map(|path| content(path)).collect();
    Ok(parse(contents?, project))
}

/// Reads what files have in them; Compose files are one project.
fn parse(contents: Vec<Content>, project: &Project) -> Vec<Manifest> {
    let (compose, others): (Vec<Content>, Vec<Content>) =
        contents.into_iter().partition(projects::is_compose);
    let one = |c: Content| {
        let read = workload::read(&c.name, &c.text, Some(&c.base));
        Manifest { name: c.name, text: c.text, read, base: Some(c.base) }
    };
    let mut all = projects::read(compose, project);
    all.extend(others.into_iter().map(one));
    all
}

/// All workloads of files without errors; what was found is reported.
///
/// # Errors
/// There are errors, or two files have a workload of the same name.
#[cfg(test)]
pub fn load(paths: &[PathBuf]) -> Result<Vec<Workload>> {
    load_all(paths, &Project::default()).map(|objects| workloads(&objects))
}

/// All objects of files without errors; what was found is reported.
///
/// # Errors
/// As [`load`].
pub fn load_all(paths: &[PathBuf], project: &Project) -> Result<Vec<Object>> {
    let manifests = read(paths, project)?;
    report(&manifests)?;
    merge(manifests)
}

/// As [`load_all`], for `apply`: what has no effect is reported and left out.
///
/// # Errors
/// As [`load`]; a bundle that does not exist.
pub fn load_to_run(paths: &[PathBuf], project: &Project) -> Result<Vec<Object>> {
    let mut objects = load_all(paths, project)?;
    objects.retain(|o| !matches!(o, Object::Inert { .. }));
    check_bundles(&workloads(&objects))?;
    Ok(objects)
}

fn workloads(objects: &[Object]) -> Vec<Workload> {
    let workload = |o: &Object| match o {
        Object::Workload { workload, .. } => Some((**workload).clone()),
        Object::Kept(_) | Object::Inert { .. } => None,
    };
    objects.iter().filter_map(workload).collect()
}

/// A bundle that is not there, of each container. What the user may not look at is the supervisor's affair.
fn missing_bundles(w: &Workload) -> Vec<Error> {
    let missing = |c: &&workload::model::Container| {
        let found = std::fs::metadata(Path::new(&c.bundle).join("config.json"));
        !c.bundle.is_empty()
            && found.is_err_and(|e| matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)))
    };
    let error = |c: &workload::model::Container| {
        let (name, bundle) = (&w.metadata.name, &c.bundle);
        let what = format!(
            "workload {name:?}, container {:?}: there is no bundle at {bundle:?}: it has no config.json",
            c.name
        );
        Error::new(Kind::Config, what).hint("a relative path is resolved from the directory of the file")
    };
    w.spec.all_containers().filter(missing).map(error).collect()
}

/// Reports all bundles that are missing.
fn check_bundles(workloads: &[Workload]) -> Result<()> {
    let mut missing: Vec<Error> = workloads.iter().flat_map(missing_bundles).collect();
    let last = missing.pop();
    missing.iter().for_each(crate::log::error);
    last.map_or(Ok(()), Err)
}

/// Where the object is that `refusal`, the supervisor's, is about: `web.yaml:4:9`. None: it is about none, or none of a file.
pub fn place_of(paths: &[PathBuf], refusal: &str) -> Option<String> {
    let files = expand(paths).ok()?.into_iter().filter(|p| p.as_path() != Path::new("-"));
    files.filter_map(|p| content(&p).ok()).find_map(|c| {
        let nodes = document::parse(&c.text, &mut Vec::new());
        let lists = nodes.iter().filter_map(|n| match &semantic::node(n, "items")?.data {
            Data::List(items) => Some(items),
            _ => None,
        });
        let is_about = |n: &&Node| {
            let text = |path: &str| semantic::text(n, path).unwrap_or_default();
            let name = text("metadata.name");
            let kinds = ["workload".to_owned(), text("kind")];
            !name.is_empty() && kinds.iter().any(|kind| refusal.contains(&format!("{kind} {name:?}:")))
        };
        let found = nodes.iter().chain(lists.flatten()).find(is_about)?;
        let place = semantic::place(found, "metadata.name");
        Some(format!("{}:{}:{}", c.name, place.line, place.column))
    })
}

/// The objects of all files, none of which is in two.
fn merge(manifests: Vec<Manifest>) -> Result<Vec<Object>> {
    let mut objects: Vec<Object> = Vec::new();
    for manifest in manifests {
        let more = manifest.read.checked().map_err(|d| Error::new(Kind::Config, d.to_string()))?;
        let known = |o: &&Object| objects.iter().any(|k| k.is_same(o));
        if let Some(o) = more.iter().find(known) {
            let (kind, name, file) = (o.word(), o.name(), &manifest.name);
            let what = format!("{kind} {name:?} of {file:?} is also in another file");
            return Err(Error::new(Kind::Config, what));
        }
        objects.extend(more);
    }
    Ok(objects)
}

/// Prints all findings of all files.
///
/// # Errors
/// There are errors among them.
pub fn report(manifests: &[Manifest]) -> Result<()> {
    for m in manifests.iter().filter(|m| !m.read.findings.list.is_empty()) {
        let _ = writeln!(std::io::stderr(), "{}\n", m.read.findings);
    }
    let wrong: Vec<&Diagnostics> =
        manifests.iter().map(|m| &m.read.findings).filter(|d| d.errors() > 0).collect();
    let what = match wrong.iter().map(|d| d.errors()).sum::<usize>() {
        0 => return Ok(()),
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    };
    let files = match wrong[..] {
        [one] => format!("{:?}", one.file),
        _ => format!("{} files", wrong.len()),
    };
    Err(Error::new(Kind::Config, format!("{what} in {files}; nothing was applied")))
}

/// `validate`.
///
/// # Errors
/// There are errors in the files, with `--strict-kinds` also kinds without effect.
pub fn validate(a: &Validate) -> Result<u8> {
    let mut manifests = read(&a.files.files, &a.files.project)?;
    if a.strict_kinds {
        let inert = |d: &&mut Diagnostic| d.property == "kind" || d.property.ends_with(".kind");
        manifests.iter_mut().flat_map(|m| m.read.findings.list.iter_mut()).filter(inert).for_each(|d| {
            d.severity = Default::default();
        });
    }
    if a.fix {
        return correct(&manifests, &a.files.project);
    }
    let failed = manifests.iter().any(|m| m.read.findings.errors() > 0);
    if a.json {
        print(&format!("{}\n", json!({"files": manifests.iter().map(outline).collect::<Vec<_>>()})))?;
        return Ok(failed.into());
    }
    let reported = report(&manifests)
        .map_err(|e| Error::new(Kind::Config, e.to_string().replace("; nothing was applied", "")));
    let valid = manifests.iter().filter(|m| m.read.findings.errors() == 0);
    let workload = |o: &Object| match o {
        Object::Workload { workload, .. } => Some((**workload).clone()),
        _ => None,
    };
    let objects: Vec<&Object> = valid.flat_map(|m| &m.read.objects).collect();
    let whole = |o: &&&Object| workload(o).is_none_or(|w| missing_bundles(&w).is_empty());
    let names: String = objects.iter().filter(whole).map(|o| format!("{} is valid\n", path_of(o))).collect();
    print(&names)?;
    let workloads: Vec<Workload> = objects.iter().filter_map(|o| workload(o)).collect();
    reported.and(check_bundles(&workloads)).map(|()| 0)
}

/// `workload/web`, `deployment/web`.
fn path_of(o: &Object) -> String {
    format!("{}/{}", o.kind().to_lowercase(), o.name())
}

fn outline(m: &Manifest) -> Value {
    let objects: Vec<Value> =
        m.read.objects.iter().map(|o| json!({"kind": o.kind(), "name": o.name()})).collect();
    let d = &m.read.findings;
    json!({"file": m.name, "valid": d.errors() == 0, "objects": objects, "findings": d.list})
}

/// Prints files with all certain corrections; what remains is reported.
///
/// # Errors
/// Errors remain.
pub fn correct(manifests: &[Manifest], project: &Project) -> Result<u8> {
    let mut again = Vec::new();
    let mut out = String::new();
    for m in manifests {
        let Some(base) = m.base.clone() else { continue };
        let (text, count) = workload::corrected(&m.text, &m.read.findings.list);
        let what = if count == 1 { "1 correction".to_owned() } else { format!("{count} corrections") };
        let _ = writeln!(std::io::stderr(), "{}: {what}", m.name);
        if !out.is_empty() && !text.starts_with("---") {
            out.push_str("---\n");
        }
        out.push_str(&text);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        again.push(Content { name: m.name.clone(), text, base });
    }
    print(&out)?;
    report(&parse(again, project)).map(|()| 0)
}

/// `explain`.
///
/// # Errors
/// There is no such field.
pub fn explain(field: &str) -> Result<u8> {
    let text = workload::explain::explain(field)
        .map_err(|hint| Error::new(Kind::NotFound, format!("no field {field:?}")).hint(hint))?;
    print(&text).map(|()| 0)
}

/// `convert`.
///
/// # Errors
/// There are errors in the files.
pub fn convert(a: &Convert) -> Result<u8> {
    let mut out = String::new();
    for object in load_all(&a.files.files, &a.files.project)? {
        let value = match (&object, a.to) {
            (Object::Workload { workload: w, .. }, Format::Orun) => {
                serde_json::to_value(w).unwrap_or_default()
            }
            (Object::Workload { workload: w, .. }, Format::Kubernetes) => {
                let (value, lost) = workload::write::kubernetes(w);
                for what in lost {
                    crate::log::warn(format!("workload {:?}: {what}", w.metadata.name));
                }
                value
            }
            // Both formats have them alike.
            (Object::Kept(kept), _) => serde_json::to_value(kept).unwrap_or_default(),
            (Object::Inert { .. }, _) => continue,
        };
        out.push_str(if out.is_empty() { "" } else { "---\n" });
        out.push_str(&yaml::text(&value));
    }
    print(&out).map(|()| 0)
}

/// Files, and for directories the files in them.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let fail = |e| Error::sys(format!("reading the directory {path:?}"), e);
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(path).map_err(fail)?.flatten().map(|entry| entry.path()).collect();
        found.retain(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"));
        if found.is_empty() {
            let e = Error::new(Kind::NotFound, format!("no .yaml, .yml or .json file in {path:?}"));
            return Err(e);
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Name, text and the directory that relative paths in it are from.
fn content(path: &Path) -> Result<Content> {
    let fail = |e| Error::sys(format!("reading {path:?}"), e);
    let mut bytes = Vec::new();
    let limit = crate::config::document::LONGEST as u64 + 1;
    let here = std::env::current_dir().map_err(|e| Error::sys("finding the current directory", e))?;
    let (name, base) = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(fail)?;
        ("standard input".to_owned(), here)
    } else {
        let file = std::fs::File::open(path).map_err(fail)?;
        file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
        (path.display().to_string(), here.join(path.parent().unwrap_or(Path::new(""))))
    };
    let whole = (bytes.len() as u64) < limit;
    let text = String::from_utf8(bytes).map_err(|e| {
        if !whole {
            return Error::new(Kind::Config, format!("{name}: the file is larger than {} bytes", limit - 1));
        }
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Error::new(Kind::Config, format!("{name}:{line}: the file is not UTF-8"))
    })?;
    Ok(Content { name, text, base })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_their_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yaml", "c.json", "README.md"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> = expand(&[dir.path().to_owned(), "-".into()])
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a.yaml", "b.yml", "c.json", "-"]);
    }

    #[test]
    fn the_error_for_a_large_file_does_not_depend_on_where_it_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.yaml");
        for start in ["# {{ x }}", "# {{ x }} "] {
            std::fs::write(&file, format!("{start}{}", "é".repeat(1 << 19))).unwrap();
            let text = match read(std::slice::from_ref(&file), &Project::default()) {
                Ok(manifests) => manifests[0].read.findings.to_string(),
                Err(e) => e.to_string(),
            };
            assert!(text.contains("the file is larger than 1048576 bytes"), "{text}");
        }
    }

    #[test]
    fn a_refusal_has_the_place_of_its_object() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("all.yaml");
        let text = "kind: ConfigMap\nmetadata:\n  name: web\n---\nkind: List\nitems:\n- kind: Job\n  metadata: {name: sum}\n";
        std::fs::write(&file, text).unwrap();
        let place = |refusal: &str| place_of(&[file.clone(), "-".into()], refusal);
        let at = |place: &str| Some(format!("{}:{place}", file.display()));
        assert_eq!(place("ConfigMap \"web\": data cannot be changed"), at("3:9"));
        assert_eq!(place("workload \"sum\": the template of a Job cannot be changed"), at("8:20"));
        assert_eq!(place("Secret \"web\": x"), None);
        assert_eq!(place("no supervisor answers"), None);
    }

    #[test]
    fn bundles_are_relative_to_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.yaml");
        let text = "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {name: web}\nspec: {bundle: ./b}\n";
        std::fs::write(&file, text).unwrap();
        let workloads = load(std::slice::from_ref(&file)).unwrap();
        assert_eq!(Path::new(&workloads[0].spec.containers[0].bundle), dir.path().join("b"));
        let e = load(&[file.clone(), file]).unwrap_err();
        assert!(e.to_string().contains("is also in another file"), "{e}");
    }
}
