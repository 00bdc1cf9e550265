//! Compose and Swarm files: one project, of one or several files, as workloads and what they need.
//!
//! ```text
//! files ─ parse ─ interpolate ─ check ─ include, extends ─ merge ─► one tree ─► workloads, ConfigMaps, Secrets, claims, Services
//! ```
//! Each service is a workload of its name, whose pods have the labels [`PROJECT`] and [`SERVICE`].

pub mod build;
mod check;
mod deploy;
mod dotenv;
mod health;
mod interpolate;
mod joined;
mod kept;
pub mod load;
mod merge;
mod mounts;
mod network;
mod options;
mod order;
mod outline;
mod ports;
mod project;
pub mod rename;
mod service;
mod state;
mod values;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::object::{Object, Read};
use crate::config::document::diagnostic::{Diagnostic, Diagnostics};
use load::{Host, Loader, Scope, Source};
pub use outline::is_file;

/// The labels of everything that belongs to a project, and to a service of it.
pub const PROJECT: &str = "com.docker.compose.project";
pub const SERVICE: &str = "com.docker.compose.service";
/// Annotation of a Service: more names, separated by commas.
pub const ALIASES: &str = "orun.dev/aliases";

/// Command-line settings of a project.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Its name, instead of that of the files.
    pub project: Option<String>,
    pub profiles: Vec<String>,
    /// Instead of `.env`.
    pub env_files: Vec<PathBuf>,
    /// Where relative paths start: the directory of the first file.
    pub dir: PathBuf,
}

/// The ports of the short form, such as `8080:80/udp` or `8000-8002:80-82`.
///
/// # Errors
/// The mistake, in words.
pub fn short_ports(text: &str) -> Result<Vec<super::pod::Port>, String> {
    ports::short(text).map_err(|(wrong, _)| wrong)
}

/// A project as it was read.
#[derive(Debug)]
pub struct Found {
    /// Of each file that took part, those that were given first: its text, and what was found. The objects are those of the
    /// first one.
    pub files: Vec<(Source, Read)>,
}

/// Reads a project of `files`, later ones over earlier ones.
#[must_use]
pub fn read(files: &[Source], options: &Options, host: &dyn Host) -> Found {
    let mut loader = Loader::new(host);
    let mut scope = Scope { dir: options.dir.clone(), variables: BTreeMap::new() };
    environment(&mut loader, &mut scope, options);
    let name = project::name(&loader, files, options, &scope);
    scope.variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    // The given files come first, whatever they include.
    let mut order = Vec::new();
    let mut whole = None;
    for file in files {
        order.push(loader.sources.len());
        let Some(node) = loader.file(&file.name, &file.text, &scope, 0) else { continue };
        whole = Some(match whole {
            None => node,
            Some(base) => loader.merge(base, node, ""),
        });
    }
    let objects = match &whole {
        Some(root) => project::objects(&mut loader, root, &name, &scope, options),
        None => Vec::new(),
    };
    Found { files: sorted(loader, &order, objects) }
}

/// The findings by file.
fn sorted(loader: Loader<'_>, order: &[usize], mut objects: Vec<Object>) -> Vec<(Source, Read)> {
    let mut by_file: BTreeMap<usize, Vec<Diagnostic>> = BTreeMap::new();
    for problem in loader.problems {
        by_file.entry(usize::from(problem.place.file)).or_default().push(problem);
    }
    let count = loader.sources.len();
    let rest = (0..count).filter(|n| !order.contains(n));
    let numbers: Vec<usize> = order.iter().copied().filter(|n| *n < count).chain(rest).collect();
    let of = |n: usize| {
        let source = loader.sources[n].clone();
        let list = by_file.remove(&n).unwrap_or_default();
        let findings = Diagnostics::new(&source.name, &source.text, list);
        (source, Read { objects: std::mem::take(&mut objects), findings })
    };
    numbers.into_iter().map(of).collect()
}

/// The variables of `.env`, or of the files that take its place.
fn environment(loader: &mut Loader<'_>, scope: &mut Scope, options: &Options) {
    let named = !options.env_files.is_empty();
    let files = if named { options.env_files.clone() } else { vec![options.dir.join(".env")] };
    for file in files {
        match loader.variables(&file, scope, false) {
            Some(found) => scope.variables.extend(found),
            None if named && loader.problems.is_empty() => {
                let message = format!("the file {file:?} does not exist");
                let hint = Some("it was named with --env-file".to_owned());
                loader.error(crate::config::document::diagnostic::Position::START, "", message, hint);
            }
            None => {}
        }
    }
}

/// A file without its surroundings: no other file and no variable.
struct Alone;

impl Host for Alone {
    fn read(&self, _: &Path) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn is_file(&self, _: &Path) -> bool {
        false
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// Reads one file of which nothing else is known.
pub fn read_alone(file: &str, text: &str, base: Option<&Path>) -> Read {
    let options = Options { dir: base.unwrap_or(Path::new("/")).to_owned(), ..Options::default() };
    let source = Source { name: file.to_owned(), text: text.to_owned() };
    let found = read(&[source], &options, &Alone).files.into_iter().next();
    found.map_or_else(
        || Read { objects: Vec::new(), findings: Diagnostics::new(file, text, Vec::new()) },
        |(_, read)| read,
    )
}

#[cfg(test)]
mod tests;
