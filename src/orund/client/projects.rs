//! Compose projects: what their files may read of this host, and what belongs to them in the supervisor.

use std::path::{Path, PathBuf};

use super::args::Project;
use super::connection::{Call, Client};
use super::manifests::{Content, Manifest};
use crate::api::types::{List, WorkloadObject};
use crate::config::document;
use crate::error::{Error, Kind, Result};
use crate::workload::Object;
use crate::workload::compose::{self, Options, PROJECT, load};

/// The files and variables of the caller.
struct Here;

impl load::Host for Here {
    fn read(&self, path: &Path) -> core::result::Result<Option<String>, String> {
        // A pipe or a device could make the reader wait for ever.
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
            Ok(m) if !m.is_file() => return Err("it is not a file".to_owned()),
            Ok(m) if m.len() > document::LONGEST as u64 => {
                return Err(format!("the file is larger than {} bytes", document::LONGEST));
            }
            Ok(_) => {}
        }
        std::fs::read_to_string(path).map(Some).map_err(|e| e.to_string())
    }

    fn is_file(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| !m.is_dir())
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Whether a file is one of Compose.
pub fn is_compose(content: &Content) -> bool {
    let (nodes, _) = document::parse_tagged(&content.text, &["!reset", "!override"], &mut Vec::new());
    nodes.iter().any(compose::is_file)
}

/// Reads Compose files as one project. The objects are those of the first file.
pub fn read(contents: Vec<Content>, project: &Project) -> Vec<Manifest> {
    let Some(dir) = contents.first().map(|c| c.base.clone()) else { return Vec::new() };
    let here = std::env::current_dir().unwrap_or_default();
    let options = Options {
        project: project.project_name.clone(),
        profiles: project.profiles.clone(),
        env_files: project.env_files.iter().map(|f| here.join(f)).collect(),
        dir: load::inside(&here, &dir.to_string_lossy()),
    };
    let source = |c: &Content| load::Source { name: c.name.clone(), text: c.text.clone() };
    let sources: Vec<load::Source> = contents.iter().map(source).collect();
    let found = compose::read(&sources, &options, &Here);
    let bases: Vec<PathBuf> = contents.into_iter().map(|c| c.base).collect();
    let given = bases.into_iter().map(Some).chain(std::iter::repeat(None));
    let manifest = |((source, read), base): ((load::Source, _), _)| Manifest {
        name: source.name,
        text: source.text,
        read,
        base,
    };
    found.files.into_iter().zip(given).map(manifest).collect()
}

/// The project that objects belong to.
pub fn project_of(objects: &[Object]) -> Option<&str> {
    objects.iter().find_map(|o| match o {
        Object::Workload { workload, .. } => workload.metadata.labels.get(PROJECT).map(String::as_str),
        Object::Kept(_) | Object::Inert { .. } => None,
    })
}

/// Refuses to take a workload of another project, or of none, and reports what the project has besides.
///
/// # Errors
/// The supervisor does not answer; a name is taken.
pub async fn check(client: &Client, objects: &[Object], project: &str, prune: bool) -> Result<()> {
    let existing = client.fetch::<List<WorkloadObject>>(Call::get("/v1/workloads")).await?.items;
    let (mut taken, mut orphans) = (Vec::new(), Vec::new());
    for w in &existing {
        let (name, owner) = (&w.workload.metadata.name, w.workload.metadata.labels.get(PROJECT));
        let ours = objects.iter().any(|o| matches!(o, Object::Workload { .. }) && o.name() == name);
        match (ours, owner.map(String::as_str) == Some(project)) {
            (true, false) => taken.push((name, owner)),
            (false, true) => orphans.push(name.as_str()),
            (true, true) | (false, false) => {}
        }
    }
    if let Some((name, owner)) = taken.first() {
        let owner = owner.map_or_else(|| "no project".to_owned(), |o| format!("project {o:?}"));
        let what = format!("workload {name:?} exists and belongs to {owner}, not to {project:?}");
        let hint =
            "names of services are names of workloads: give the service another name, or use the same -p";
        return Err(Error::new(Kind::State, what).hint(hint));
    }
    if !orphans.is_empty() && !prune {
        let list = orphans.join(", ");
        crate::log::warn(format!(
            "project {project:?} has {list} besides, which the files do not have; --prune deletes them"
        ));
    }
    Ok(())
}
