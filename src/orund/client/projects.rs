//! Compose projects: what their files may read of this host, and what belongs to them in the supervisor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::Project;
use super::connection::{Call, Client};
use super::manifest::{Content, Manifest};
use crate::api::types::{KeptAnswer, List, WorkloadObject};
use crate::config::document;
use crate::error::{Error, Kind, Result};
use crate::workload::compose::rename::{qualified, rename, service_of};
use crate::workload::compose::{self, Options, PROJECT, load};
use crate::workload::model::Metadata;
use crate::workload::{KeptKind, Object};

/// The files and variables of the caller.
struct Here;

impl load::Host for Here {
    fn read(&self, path: &Path) -> core::result::Result<Option<String>, String> {
        // A pipe or a device could make the reader wait forever.
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

/// Objects in the supervisor, for the names of a project.
pub struct Existing {
    pub workloads: Vec<WorkloadObject>,
    pub kept: Vec<KeptAnswer>,
}

impl Existing {
    /// # Errors
    /// The supervisor does not answer.
    pub async fn fetch(client: &Client) -> Result<Existing> {
        let workloads = client.fetch::<List<WorkloadObject>>(Call::get("/v1/workloads")).await?.items;
        let kept = client.fetch::<List<KeptAnswer>>(Call::get("/v1/objects")).await?.items;
        Ok(Existing { workloads, kept })
    }

    /// The name that the workload of a service has.
    fn workload_name(&self, project: &str, service: &str) -> Option<&str> {
        let own = |w: &&WorkloadObject| service_of(&w.workload.metadata.labels) == Some((project, service));
        self.workloads.iter().find(own).map(|w| w.workload.metadata.name.as_str())
    }

    /// Whether something that is not of the project has this name.
    fn is_taken(&self, name: &str, project: &str) -> bool {
        let other =
            |m: &Metadata| m.name == name && m.labels.get(PROJECT).map(String::as_str) != Some(project);
        let services = self.kept.iter().filter(|k| k.object.kind == KeptKind::Service);
        self.workloads.iter().map(|w| &w.workload.metadata).any(other)
            || services.map(|k| &k.object.metadata).any(other)
    }
}

/// Gives services whose names others have on this host the names that they have already, or `PROJECT-SERVICE`.
///
/// # Errors
/// That name is taken, too.
pub fn assign_names(objects: &mut [Object], existing: &Existing) -> Result<()> {
    let Some(project) = project_of(objects).map(str::to_owned) else { return Ok(()) };
    let mut names = BTreeMap::new();
    for object in objects.iter() {
        let Object::Workload { workload, .. } = object else { continue };
        let Some((_, service)) = service_of(&workload.metadata.labels) else { continue };
        let name = &workload.metadata.name;
        let new = match existing.workload_name(&project, service) {
            Some(own) => own.to_owned(),
            None if existing.is_taken(name, &project) => qualified(&project, name),
            None => continue,
        };
        if new == *name {
            continue;
        }
        let in_file = objects.iter().any(|o| matches!(o, Object::Workload { .. }) && o.name() == new);
        if in_file || existing.is_taken(&new, &project) {
            let what =
                format!("workloads {name:?} and {new:?} exist and do not belong to project {project:?}");
            let hint = format!("give the service {service:?} another name");
            return Err(Error::new(Kind::State, what).hint(hint));
        }
        names.insert(name.clone(), new);
    }
    rename(objects, &names);
    Ok(())
}

/// Reports services that have other names, and what the project has besides.
pub fn report(objects: &[Object], existing: &Existing, project: &str, prune: bool) {
    for object in objects {
        let Object::Workload { workload: w, .. } = object else { continue };
        if let Some((_, service)) = service_of(&w.metadata.labels).filter(|(_, s)| *s != w.metadata.name) {
            let name = &w.metadata.name;
            eprintln!("service {service:?} of project {project:?} is workload {name:?}");
        }
    }
    let ours = |name: &str| objects.iter().any(|o| matches!(o, Object::Workload { .. }) && o.name() == name);
    let all = existing.workloads.iter().map(|w| &w.workload.metadata);
    let all = all.filter(|m| m.labels.get(PROJECT).map(String::as_str) == Some(project));
    let orphans: Vec<&str> = all.map(|m| m.name.as_str()).filter(|name| !ours(name)).collect();
    if !orphans.is_empty() && !prune {
        let list = orphans.join(", ");
        crate::log::warn(format!(
            "project {project:?} also has {list}, which are not in the files; --prune deletes them"
        ));
    }
}
