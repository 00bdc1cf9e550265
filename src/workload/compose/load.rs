//! The files of a project: read, interpolated, checked, and made one tree. Places in it name the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{check, dotenv, interpolate, merge, outline, values};
use crate::config::document::diagnostic::{Diagnostic, Position};
use crate::config::document::{self, Data, Node};

/// The files and variables that a project may read.
pub trait Host {
    /// The text of a file. `None`: it does not exist.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &Path) -> Result<Option<String>, String>;
    /// Whether a path is something else than a directory.
    fn is_file(&self, path: &Path) -> bool;
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// How many files a project may have in all.
const MOST_FILES: usize = 200;
/// How deep files may include and services extend each other.
const DEEPEST: usize = 20;
/// How much text variables may make, bytes.
const MOST_TEXT: usize = 16 << 20;

/// A file as it was read.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Variables of files, and where relative paths start.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    pub dir: PathBuf,
    pub variables: BTreeMap<String, String>,
}

/// Reads the files of one project.
pub struct Loader<'h> {
    pub host: &'h dyn Host,
    pub sources: Vec<Source>,
    pub problems: Vec<Diagnostic>,
    tags: BTreeMap<(u16, u32, u32), &'static str>,
    unset: BTreeSet<String>,
    text: usize,
    /// Files that services of others extend, by path.
    others: BTreeMap<PathBuf, Option<Node>>,
}

impl<'h> Loader<'h> {
    pub fn new(host: &'h dyn Host) -> Loader<'h> {
        Loader {
            host,
            sources: Vec::new(),
            problems: Vec::new(),
            tags: BTreeMap::new(),
            unset: BTreeSet::new(),
            text: 0,
            others: BTreeMap::new(),
        }
    }

    /// Adds an error.
    pub fn error(&mut self, place: Position, path: &str, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(Diagnostic { hint, ..Diagnostic::new(place, path, message) });
    }

    pub fn warn(&mut self, place: Position, path: &str, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(Diagnostic { hint, ..Diagnostic::new(place, path, message) }.warning());
    }

    /// A variable: the environment goes before files.
    pub fn lookup(&self, scope: &Scope, name: &str) -> Option<String> {
        self.host.variable(name).or_else(|| scope.variables.get(name).cloned())
    }

    fn source(&mut self, name: &str, text: &str) -> Option<u16> {
        if self.sources.len() >= MOST_FILES {
            self.error(Position::START, "", format!("the project has more than {MOST_FILES} files"), None);
            return None;
        }
        self.sources.push(Source { name: name.to_owned(), text: text.to_owned() });
        u16::try_from(self.sources.len() - 1).ok()
    }

    /// A file with its own `extends` and `include`, its paths made absolute. None: it has no mapping.
    pub fn file(&mut self, name: &str, text: &str, scope: &Scope, depth: usize) -> Option<Node> {
        let number = self.source(name, text)?;
        let mut found = Vec::new();
        let (nodes, tags) = document::parse_tagged(text, &["!reset", "!override"], &mut found);
        for problem in &mut found {
            problem.place.file = number;
        }
        self.problems.extend(found);
        for ((line, column), tag) in tags {
            let tag = if tag == "!reset" { "!reset" } else { "!override" };
            self.tags.insert((number, line, column), tag);
        }
        let mut whole: Option<Node> = None;
        for mut node in nodes {
            number_places(&mut node, number);
            if !outline::check(&mut self.problems, text, &node) {
                continue;
            }
            self.interpolate(&mut node, scope, "");
            check::file(&node, &mut self.problems);
            absolute(&mut node, scope, &|name| self.lookup(scope, name));
            let node = self.included(node, scope, depth);
            let node = self.extended(node, scope);
            whole = Some(match whole {
                None => node,
                Some(base) => self.merge(base, node, ""),
            });
        }
        whole
    }

    /// `over` over `base`.
    pub fn merge(&self, base: Node, over: Node, path: &str) -> Node {
        let tag = |n: &Node| self.tags.get(&(n.place.file, n.place.line, n.place.column)).copied();
        merge::merge(base, over, path, &tag)
    }

    fn interpolate(&mut self, node: &mut Node, scope: &Scope, path: &str) {
        match &mut node.data {
            Data::Map(entries) => {
                for (key, value) in entries {
                    let name = key.data.text().unwrap_or_default();
                    if !(path.is_empty() && name.starts_with("x-")) {
                        let path = document::reader::join(path, name);
                        self.interpolate(value, scope, &path);
                    }
                }
            }
            Data::List(list) => {
                for (n, value) in list.iter_mut().enumerate() {
                    self.interpolate(value, scope, &format!("{path}[{n}]"));
                }
            }
            Data::String(text) if text.contains('$') => {
                let replaced = interpolate::replace(text, &|name| self.lookup(scope, name));
                match replaced {
                    Ok(replaced) => {
                        self.text += replaced.text.len();
                        for name in replaced.unset {
                            self.not_set(node.place, path, &name);
                        }
                        let fits = self.text <= MOST_TEXT;
                        node.data = Data::String(if fits { replaced.text } else { String::new() });
                    }
                    Err(e) => {
                        self.error(node.place, path, e.message, Some(e.hint));
                        // The rest is read as if it were right.
                        *text = text.replace('$', "");
                    }
                }
            }
            Data::Null | Data::Bool(_) | Data::Number(_) | Data::String(_) => {}
        }
    }

    fn not_set(&mut self, place: Position, path: &str, name: &str) {
        if self.unset.insert(name.to_owned()) {
            let hint = format!("set it in the environment or in .env, or write ${{{name}:-DEFAULT}}");
            self.warn(
                place,
                path,
                format!("variable {name} is not set: it is replaced by nothing"),
                Some(hint),
            );
        }
    }

    /// The variables of a file of them. None: it does not exist, or has errors.
    pub fn variables(&mut self, path: &Path, scope: &Scope, raw: bool) -> Option<Vec<(String, String)>> {
        let text = match self.host.read(path) {
            Ok(text) => text?,
            Err(why) => {
                self.error(Position::START, "", format!("reading {path:?}: {why}"), None);
                return None;
            }
        };
        if raw {
            return Some(dotenv::read_raw(&text));
        }
        match dotenv::read(&text, &|name| self.lookup(scope, name)) {
            Ok(found) => Some(found),
            Err(wrong) => {
                let file = self.source(&path.display().to_string(), &text)?;
                let place = Position { file, ..Position::new(wrong.line, 1, 1) };
                let hint = "write NAME=VALUE; values with quotes or spaces in quotes".to_owned();
                self.error(place, "", wrong.message, Some(hint));
                None
            }
        }
    }

    /// `node` with what it includes.
    fn included(&mut self, mut node: Node, scope: &Scope, depth: usize) -> Node {
        let Data::Map(entries) = &mut node.data else { return node };
        let Some(at) = entries.iter().position(|(k, _)| k.data.text() == Some("include")) else {
            return node;
        };
        let (_, includes) = entries.remove(at);
        for (n, include) in values::list(&includes).iter().enumerate() {
            let path = format!("include[{n}]");
            if depth >= DEEPEST {
                self.error(include.place, &path, format!("files include each other {DEEPEST} deep"), None);
                break;
            }
            if let Some(part) = self.include(include, &path, scope, depth) {
                self.import(&mut node, part);
            }
        }
        node
    }

    fn include(&mut self, include: &Node, path: &str, scope: &Scope, depth: usize) -> Option<Node> {
        let short = include.data.text().map(|text| vec![text.to_owned()]);
        let files = short.unwrap_or_else(|| values::texts(include, "path"));
        let first = inside(&scope.dir, files.first()?);
        let own = values::text(include, "project_directory").map(|dir| inside(&scope.dir, dir));
        let dir = own.unwrap_or_else(|| first.parent().unwrap_or(Path::new("/")).to_owned());
        let mut inner = Scope { dir, variables: scope.variables.clone() };
        let env_files = values::texts(include, "env_file");
        let named = !env_files.is_empty();
        let env_files = if named { env_files } else { vec![".env".to_owned()] };
        for file in env_files {
            let file = inside(if named { &scope.dir } else { &inner.dir }, &file);
            for (name, value) in self.variables(&file, scope, false).unwrap_or_default() {
                inner.variables.entry(name).or_insert(value);
            }
        }
        let mut whole: Option<Node> = None;
        for file in files {
            let file = inside(&scope.dir, &file);
            let Some(text) = self.text(&file, include.place, path) else { continue };
            let node = self.file(&file.display().to_string(), &text, &inner, depth + 1)?;
            whole = Some(match whole {
                None => node,
                Some(base) => self.merge(base, node, ""),
            });
        }
        whole
    }

    /// The text of a file that another one names at `place`.
    fn text(&mut self, file: &Path, place: Position, path: &str) -> Option<String> {
        match self.host.read(file) {
            Ok(Some(text)) => return Some(text),
            Ok(None) => self.error(place, path, format!("the file {file:?} does not exist"), None),
            Err(why) => self.error(place, path, format!("reading {file:?}: {why}"), None),
        }
        None
    }

    /// Adds the services and the like of an included file.
    fn import(&mut self, node: &mut Node, part: Node) {
        let (Data::Map(entries), Data::Map(parts)) = (&mut node.data, part.data) else { return };
        for (section, more) in parts {
            let Data::Map(more) = more.data else { continue };
            if !entries.iter().any(|(k, _)| k.data == section.data) {
                entries.push((section.clone(), Node { place: section.place, data: Data::Map(Vec::new()) }));
            }
            let Some((_, own)) = entries.iter_mut().find(|(k, _)| k.data == section.data) else { continue };
            if own.data == Data::Null {
                own.data = Data::Map(Vec::new());
            }
            let Data::Map(own) = &mut own.data else { continue };
            for (key, value) in more {
                let same = own.iter().find(|(k, _)| k.data == key.data).map(|(k, _)| k.place);
                match (same, section.data.text()) {
                    (None, _) => own.push((key, value)),
                    (Some(place), Some("services")) => {
                        let name = key.data.text().unwrap_or_default();
                        let message = format!("an included file has a service {name:?}, too");
                        let hint = "give one of them another name, or use extends".to_owned();
                        self.problems.push(Diagnostic::new(place, "services", message).hint(hint));
                    }
                    (Some(_), _) => {}
                }
            }
        }
    }

    /// `node` with what its services extend.
    fn extended(&mut self, mut node: Node, scope: &Scope) -> Node {
        let names: Vec<String> = values::get(&node, "services")
            .map(|s| {
                values::entries(s).iter().filter_map(|(k, _)| k.data.text().map(str::to_owned)).collect()
            })
            .unwrap_or_default();
        let original = node.clone();
        for name in names {
            let Some(service) = values::get(&original, "services").and_then(|s| values::get(s, &name)) else {
                continue;
            };
            if values::get(service, "extends").is_none() {
                continue;
            }
            let file = PathBuf::from(&self.sources[usize::from(service.place.file)].name);
            let mut stack = vec![(file, name.clone())];
            let whole = self.with_base(&original, service.clone(), scope, &mut stack);
            if let Data::Map(entries) = &mut node.data
                && let Some((_, services)) =
                    entries.iter_mut().find(|(k, _)| k.data.text() == Some("services"))
                && let Data::Map(services) = &mut services.data
                && let Some((_, own)) = services.iter_mut().find(|(k, _)| k.data.text() == Some(&name))
            {
                *own = whole;
            }
        }
        node
    }

    /// `service`, of `file`, over what it extends.
    fn with_base(
        &mut self,
        file: &Node,
        mut service: Node,
        scope: &Scope,
        stack: &mut Vec<(PathBuf, String)>,
    ) -> Node {
        let Data::Map(entries) = &mut service.data else { return service };
        let Some(at) = entries.iter().position(|(k, _)| k.data.text() == Some("extends")) else {
            return service;
        };
        let (_, extends) = entries.remove(at);
        let path = format!("services.{}.extends", stack.last().map(|(_, n)| n.as_str()).unwrap_or_default());
        let Some(name) = extends.data.text().or_else(|| values::text(&extends, "service")).map(str::to_owned)
        else {
            return service;
        };
        let other = values::text(&extends, "file").map(|f| inside(&scope.dir, f));
        let at = other.clone().or_else(|| stack.last().map(|(f, _)| f.clone())).unwrap_or_default();
        if stack.contains(&(at.clone(), name.clone())) || stack.len() > DEEPEST {
            let way: Vec<&str> = stack.iter().map(|(_, n)| n.as_str()).chain([name.as_str()]).collect();
            self.error(
                extends.place,
                &path,
                format!("services extend each other: {}", way.join(" -> ")),
                None,
            );
            return service;
        }
        let other_scope = Scope {
            dir: other.as_deref().and_then(Path::parent).unwrap_or(&scope.dir).to_owned(),
            variables: scope.variables.clone(),
        };
        let owned = match &other {
            None => None,
            Some(other) => match self.other(other, &other_scope, extends.place, &path) {
                Some(node) => Some(node),
                None => return service,
            },
        };
        let file = owned.as_ref().unwrap_or(file);
        let Some(base) = values::get(file, "services").and_then(|s| values::get(s, &name)).cloned() else {
            let what = other.map_or_else(|| "this file".to_owned(), |o| format!("{o:?}"));
            self.error(extends.place, &path, format!("{what} has no service {name:?}"), None);
            return service;
        };
        stack.push((at, name));
        let base = self.with_base(file, base, &other_scope, stack);
        stack.pop();
        self.merge(base, service, "services.*")
    }

    /// A file that a service extends one of.
    fn other(&mut self, path: &Path, scope: &Scope, place: Position, property: &str) -> Option<Node> {
        if let Some(known) = self.others.get(path) {
            return known.clone();
        }
        // A file that extends itself is seen by the names of its services.
        self.others.insert(path.to_owned(), None);
        let text = self.text(path, place, property)?;
        let number = self.source(&path.display().to_string(), &text)?;
        let mut found = Vec::new();
        let (nodes, _) = document::parse_tagged(&text, &["!reset", "!override"], &mut found);
        found.iter_mut().for_each(|p| p.place.file = number);
        self.problems.extend(found);
        let mut node = nodes.into_iter().next()?;
        number_places(&mut node, number);
        self.interpolate(&mut node, scope, "");
        check::file(&node, &mut self.problems);
        absolute(&mut node, scope, &|name| self.lookup(scope, name));
        self.others.insert(path.to_owned(), Some(node.clone()));
        Some(node)
    }
}

fn number_places(node: &mut Node, file: u16) {
    node.place.file = file;
    match &mut node.data {
        Data::Map(entries) => {
            for (key, value) in entries {
                key.place.file = file;
                number_places(value, file);
            }
        }
        Data::List(list) => list.iter_mut().for_each(|n| number_places(n, file)),
        Data::Null | Data::Bool(_) | Data::Number(_) | Data::String(_) => {}
    }
}

/// `path` from `dir`, without `.` and `..`.
pub fn inside(dir: &Path, path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for part in dir.join(path).components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// Whether the source of a volume is a path of the host.
pub fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~'])
}

/// Makes the paths of a file absolute: it is then like any other of the project.
fn absolute(node: &mut Node, scope: &Scope, lookup: interpolate::Lookup<'_>) {
    let whole = |path: &str| -> String {
        let path = match path.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                format!("{}{rest}", lookup("HOME").unwrap_or_default())
            }
            _ => path.to_owned(),
        };
        inside(&scope.dir, &path).display().to_string()
    };
    let set = |node: &mut Node| {
        if let Some(text) = node.data.text() {
            node.data = Data::String(whole(text));
        }
    };
    let Data::Map(sections) = &mut node.data else { return };
    for (key, section) in sections {
        let Data::Map(entries) = &mut section.data else { continue };
        for (_, entry) in entries {
            let Data::Map(fields) = &mut entry.data else { continue };
            for (name, value) in fields {
                match (key.data.text(), name.data.text()) {
                    (Some("configs" | "secrets"), Some("file")) => set(value),
                    (Some("services"), Some("volumes")) => each(value, |v| mount(v, &whole)),
                    (Some("services"), Some("env_file")) => each(value, |v| match &mut v.data {
                        Data::Map(fields) => {
                            fields
                                .iter_mut()
                                .filter(|(k, _)| k.data.text() == Some("path"))
                                .for_each(|(_, v)| set(v));
                        }
                        _ => set(v),
                    }),
                    _ => {}
                }
            }
        }
    }
}

fn each(node: &mut Node, mut f: impl FnMut(&mut Node)) {
    match &mut node.data {
        Data::List(list) => list.iter_mut().for_each(f),
        _ => f(node),
    }
}

/// The source of a mount that is a path.
fn mount(node: &mut Node, whole: &dyn Fn(&str) -> String) {
    if let Some(short) = node.data.text() {
        if let Some((source, rest)) = short.split_once(':')
            && is_path(source)
        {
            node.data = Data::String(format!("{}:{rest}", whole(source)));
        }
        return;
    }
    let bind = values::text(node, "type") == Some("bind");
    let Data::Map(fields) = &mut node.data else { return };
    for (_, source) in fields.iter_mut().filter(|(k, _)| k.data.text() == Some("source")) {
        if let Some(text) = source.data.text().filter(|_| bind) {
            source.data = Data::String(whole(text));
        }
    }
}
